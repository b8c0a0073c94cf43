//! Admission: what must be true of a request before anything looks at it.
//!
//! Everything that can be told from the head is told here, for HTTP/1.1 and HTTP/2 alike. What
//! only the raw bytes show (line ends, a length that hyper has dropped) is `framing`'s. After
//! `Admitted::apply` there is one form left: a path as the target, one `Host` in normal form, at
//! most one `Cookie`.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Uri};
use http::{Method, Version};
use memchr::memchr;

use super::framing::{self, HeadSizes};
pub use super::refusal::Refusal;

/// Longest host with its port; longer is no name that DNS could hold.
const HOST_BYTES_MAX: usize = 255 + ":65535".len();

/// Methods that mean something to some cache, or give a request back to whoever asks; in any case.
const METHODS_REFUSED: [&str; 5] = ["PURGE", "BAN", "REFRESH", "TRACE", "TRACK"];

/// What is offered in `Allow` with a 405.
pub const METHODS_ALLOWED: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// Fields that `Connection` may not name, whatever the routes say: it would have us drop them on
/// the way to the origin, and the origin would take the request for another one.
static FIELDS_KEPT: [HeaderName; 12] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::AUTHORIZATION,
    header::COOKIE,
    header::CACHE_CONTROL,
    header::ORIGIN,
    header::FORWARDED,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
];

/// Fields that exist between two neighbours only. HTTP/2 has none of them (RFC 9113 §8.2.2).
static CONNECTION_FIELDS: [HeaderName; 5] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// What is taken, and for whom.
#[derive(Clone, Debug)]
pub struct HeadLimits {
    /// Sizes and counts.
    pub sizes: HeadSizes,
    /// Hosts that are served, in normal form (lower case, no port 80 or 443); empty serves any.
    pub hosts: Vec<String>,
    /// Fields that are part of some route's key.
    pub key_fields: Vec<HeaderName>,
}

/// A request that may be served, and what is left to do to bring it into normal form.
#[derive(Debug, Default)]
#[must_use = "a request is in normal form only after `apply`"]
pub struct Admitted {
    /// The `Host` in normal form, where the request says it otherwise.
    host: Option<HeaderValue>,
    /// The target names a host, which has become `Host`.
    names_host: bool,
    has_cookies: bool,
}

/// Judges a head. `has_body` says whether a body follows it, even an empty one of unknown length.
///
/// Allocates nothing for a request that is in normal form already.
pub fn admit(parts: &Parts, has_body: bool, limits: &HeadLimits) -> Result<Admitted, Refusal> {
    sizes(parts, limits.sizes)?;
    let is_get = parts.method == Method::GET || parts.method == Method::HEAD;
    if !is_get {
        method(&parts.method)?;
    }
    let authority = target(parts)?;
    lengths(parts)?;
    if is_get && has_body {
        return Err(Refusal::BodyOnGet);
    }
    connection(parts, &limits.key_fields)?;
    Ok(Admitted {
        host: host(parts, authority, &limits.hosts)?,
        names_host: authority.is_some(),
        has_cookies: parts.headers.get_all(header::COOKIE).iter().nth(1).is_some(),
    })
}

impl Admitted {
    /// Brings the request into normal form.
    pub fn apply(self, parts: &mut Parts) {
        if let Some(host) = self.host {
            parts.headers.insert(header::HOST, host);
        }
        if self.names_host {
            parts.uri = origin_form(&parts.uri);
        }
        if self.has_cookies {
            join_cookies(&mut parts.headers);
        }
    }
}

/// Joins several `Cookie` fields by `; ` (RFC 9113 §8.2.3), so that nobody reads only the first.
pub fn join_cookies(headers: &mut HeaderMap) {
    let fields: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if fields.len() > 1 {
        // The parts are valid values, and so is the joint.
        let joined = HeaderValue::from_maybe_shared(bytes::Bytes::from(fields.join(&b"; "[..])));
        headers.insert(header::COOKIE, joined.expect("values joined by a value are a value"));
    }
}

/// Brings `name`, `name:port` or `[address]:port` into normal form: lower case, no default port,
/// addresses in their short form. Nothing if it is none of these.
///
/// Only letters, digits, `-`, `_` and `.` make a name. The grammar of URIs allows far more; no
/// host that can be reached has it, and each byte of it is another way to be read differently.
pub fn normal_host(text: &str) -> Option<Cow<'_, str>> {
    if text.len() > HOST_BYTES_MAX {
        return None;
    }
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            let short = format!("[{}]", address.parse::<Ipv6Addr>().ok()?);
            (Cow::Owned(short), port)
        }
        None => {
            let (name, port) = text.split_at(memchr(b':', text.as_bytes()).unwrap_or(text.len()));
            (Cow::Borrowed(is_name(name).then_some(name)?), port)
        }
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => "",
        // "host:" is allowed and means the default (RFC 3986 §3.2.3).
        Some("") => "",
        Some(digits) => {
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
            // Whoever ends TLS before us passes on what the browser sent: both ports are defaults.
            match digits.parse::<u16>().ok().filter(|_| plain)? {
                80 | 443 => "",
                _ => port,
            }
        }
        None => return None,
    };
    let is_lower = !name.bytes().any(|byte| byte.is_ascii_uppercase());
    Some(match name {
        Cow::Borrowed(name) if is_lower && name.len() + port.len() == text.len() => Cow::Borrowed(text),
        Cow::Borrowed(name) if is_lower && port.is_empty() => Cow::Borrowed(name),
        name => Cow::Owned(name.to_ascii_lowercase() + port),
    })
}

/// Labels with dots between them, and one behind them at most.
fn is_name(name: &str) -> bool {
    let mut previous = b'.';
    !name.is_empty()
        && name.bytes().all(|byte| {
            let before = std::mem::replace(&mut previous, byte);
            match byte {
                b'.' => before != b'.',
                b'-' | b'_' => true,
                _ => byte.is_ascii_alphanumeric(),
            }
        })
}

fn sizes(parts: &Parts, sizes: HeadSizes) -> Result<(), Refusal> {
    let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len())
        + parts.uri.authority().map_or(0, |authority| authority.as_str().len());
    if target > sizes.uri_bytes_max {
        return Err(Refusal::UriSize);
    }
    if parts.headers.len() > sizes.head_fields_max {
        return Err(Refusal::HeadCount);
    }
    let fields: usize = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if target + fields > sizes.head_bytes_max {
        return Err(Refusal::HeadSize);
    }
    Ok(())
}

fn method(method: &Method) -> Result<(), Refusal> {
    if *method == Method::CONNECT {
        return Err(Refusal::Target);
    }
    if METHODS_REFUSED.iter().any(|refused| method.as_str().eq_ignore_ascii_case(refused)) {
        return Err(Refusal::Method);
    }
    Ok(())
}

/// The authority that the target names, if any. In HTTP/2 it is `:authority`.
fn target(parts: &Parts) -> Result<Option<&Authority>, Refusal> {
    let uri = &parts.uri;
    let names_host = match (uri.scheme_str(), uri.authority()) {
        (Some("http" | "https"), Some(authority)) => Some(authority),
        (None, None) => None,
        (Some("http" | "https"), None) if parts.version == Version::HTTP_2 => None,
        _ => return Err(Refusal::Target),
    };
    // An absolute target may have no path; it then means "/".
    let path = uri.path();
    if !path.starts_with('/') && (names_host.is_none() || !path.is_empty()) {
        return Err(Refusal::Target);
    }
    let encodes_nul = path.as_bytes().windows(3).any(|bytes| bytes == b"%00");
    if encodes_nul || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Refusal::Path);
    }
    Ok(names_host)
}

/// Exactly one way to tell where the body ends. hyper has judged some of it before, but not all.
fn lengths(parts: &Parts) -> Result<(), Refusal> {
    let mut codings = parts.headers.get_all(header::TRANSFER_ENCODING).iter();
    let mut lengths = parts.headers.get_all(header::CONTENT_LENGTH).iter();
    match (codings.next(), lengths.next()) {
        (None, None) => Ok(()),
        (None, Some(length)) if lengths.next().is_none() => framing::content_length(length.as_bytes()).map(|_| ()),
        (Some(coding), None) if codings.next().is_none() => match parts.version {
            Version::HTTP_11 => framing::transfer_encoding(coding.as_bytes()),
            _ => Err(Refusal::Framing),
        },
        _ => Err(Refusal::Framing),
    }
}

fn connection(parts: &Parts, key_fields: &[HeaderName]) -> Result<(), Refusal> {
    if parts.version == Version::HTTP_2 {
        let found = CONNECTION_FIELDS.iter().any(|name| parts.headers.contains_key(name));
        return if found { Err(Refusal::ConnectionHeader) } else { Ok(()) };
    }
    for value in parts.headers.get_all(header::CONNECTION) {
        if value.as_bytes().eq_ignore_ascii_case(b"keep-alive") {
            continue;
        }
        for name in value.as_bytes().split(|byte| *byte == b',') {
            let name = name.trim_ascii();
            let mut kept = FIELDS_KEPT.iter().chain(key_fields);
            if kept.any(|kept| kept.as_str().as_bytes().eq_ignore_ascii_case(name)) {
                return Err(Refusal::ConnectionHeader);
            }
        }
    }
    Ok(())
}

/// The host to write into `Host`, where it is not there in normal form already.
fn host(parts: &Parts, authority: Option<&Authority>, served: &[String]) -> Result<Option<HeaderValue>, Refusal> {
    let mut fields = parts.headers.get_all(header::HOST).iter();
    let field = fields.next();
    if fields.next().is_some() {
        return Err(Refusal::Host);
    }
    let field_text = field.map(|field| field.to_str().map_err(|_| Refusal::Host)).transpose()?;
    let field_host = field_text.map(|text| normal_host(text).ok_or(Refusal::Host)).transpose()?;
    let named_host = authority.map(|named| normal_host(named.as_str()).ok_or(Refusal::Host)).transpose()?;
    let host = match (named_host, field_host) {
        // HTTP/1 wants the field beside an absolute target too, and then ignores it (RFC 9112 §3.2.2).
        (Some(named), Some(field)) if parts.version != Version::HTTP_2 || named == field => named,
        (Some(named), None) if parts.version == Version::HTTP_2 => named,
        (None, Some(field)) => field,
        _ => return Err(Refusal::Host),
    };
    if !served.is_empty() && !served.iter().any(|served| *served == *host) {
        return Err(Refusal::UnknownHost);
    }
    if field_text == Some(&host) {
        return Ok(None);
    }
    HeaderValue::from_str(&host).map(Some).map_err(|_| Refusal::Host)
}

/// The path and query alone.
fn origin_form(uri: &Uri) -> Uri {
    let target = match uri.path_and_query() {
        Some(target) if target.as_str().starts_with('/') => target.clone(),
        // "http://host?query" has a query and no path.
        Some(target) => {
            PathAndQuery::try_from(format!("/{}", target.as_str())).expect("a query stays one behind a slash")
        }
        None => PathAndQuery::from_static("/"),
    };
    Uri::from(target)
}

#[cfg(test)]
mod tests;
