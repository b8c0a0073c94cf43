//! May this answer be stored, and shared with those who wait for it?

use http::{HeaderMap, HeaderName, StatusCode, header};

use super::cache_control::CacheControl;
use super::route::{Policy, Rule};

/// Why an answer may not be shared: each waiter asks the origin for itself, and a pass marker lets the
/// next ones go side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unshareable {
    /// It sets a cookie.
    SetCookie,
    /// `Cache-Control: private`.
    Private,
    /// `Cache-Control: no-store`.
    NoStore,
    /// `Cache-Control: no-cache`: it would have to be asked for each time anyway.
    NoCache,
    /// `Vary: *`.
    VaryStar,
    /// It varies by a header that is not in the key.
    Vary,
    /// It came with a `Content-Encoding` that was not asked for.
    Encoding,
    /// It is larger than the largest stored object.
    TooLarge,
    /// Its end is that of the connection, so nobody can say whether it is whole.
    Unframed,
}

impl Unshareable {
    /// All reasons, for the metrics.
    pub const ALL: [Self; 9] = [
        Self::SetCookie,
        Self::Private,
        Self::NoStore,
        Self::NoCache,
        Self::VaryStar,
        Self::Vary,
        Self::Encoding,
        Self::TooLarge,
        Self::Unframed,
    ];

    /// The word for logs, labels and headers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SetCookie => "set_cookie",
            Self::Private => "response_private",
            Self::NoStore => "response_no_store",
            Self::NoCache => "response_no_cache",
            Self::VaryStar => "vary_star",
            Self::Vary => "vary",
            Self::Encoding => "content_encoding",
            Self::TooLarge => "too_large",
            Self::Unframed => "unframed",
        }
    }
}

/// What is to be done with an answer whose head is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Store it, if its lifetime allows.
    Store,
    /// Share it with those who wait now, store it for nobody: errors, and what the route does not expect.
    ShareOnce(ShareOnce),
    /// It belongs to the one who asked.
    Own(Unshareable),
}

/// Why an answer is shared once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareOnce {
    /// A status that is not stored: an error, a redirect that may change, a refusal.
    Status,
    /// A media type that is not the route's.
    ContentType,
    /// The rule or the origin gives it no lifetime.
    NoLifetime,
    /// Its body cannot be read as JSON, so it cannot be known which purges concern it.
    Untaggable,
}

impl ShareOnce {
    /// All reasons, for the metrics.
    pub const ALL: [Self; 4] = [Self::Status, Self::ContentType, Self::NoLifetime, Self::Untaggable];

    /// The word for logs, labels and headers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::ContentType => "content_type",
            Self::NoLifetime => "no_lifetime",
            Self::Untaggable => "untaggable",
        }
    }
}

/// Judges the head of a fill's answer. Sharing with the waiters is safe by the key (the fill sent
/// nothing else), so only an answer that says it is somebody's own keeps them apart.
pub fn admit(rule: &Rule, status: StatusCode, headers: &HeaderMap, control: &CacheControl) -> Admission {
    if headers.contains_key(header::SET_COOKIE) {
        return Admission::Own(Unshareable::SetCookie);
    }
    if control.private {
        return Admission::Own(Unshareable::Private);
    }
    if control.no_store {
        return Admission::Own(Unshareable::NoStore);
    }
    if control.no_cache {
        return Admission::Own(Unshareable::NoCache);
    }
    if let Some(reason) = vary(rule, headers) {
        return Admission::Own(reason);
    }
    if headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Admission::Own(Unshareable::Encoding);
    }
    let stored = match status {
        StatusCode::OK | StatusCode::MOVED_PERMANENTLY | StatusCode::PERMANENT_REDIRECT => true,
        StatusCode::NOT_FOUND | StatusCode::GONE => rule.policy == Policy::Origin || !rule.negative_ttl.is_zero(),
        _ => false,
    };
    if !stored {
        return Admission::ShareOnce(ShareOnce::Status);
    }
    let expected = rule.content_type.as_deref().is_none_or(|expected| {
        let said = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        said.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case(expected)
    });
    if expected { Admission::Store } else { Admission::ShareOnce(ShareOnce::ContentType) }
}

/// A field that the key holds, or that the fill always sends alike, tells no two requests apart.
fn vary(rule: &Rule, headers: &HeaderMap) -> Option<Unshareable> {
    for value in headers.get_all(header::VARY) {
        let Ok(text) = value.to_str() else { return Some(Unshareable::Vary) };
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            if name == "*" {
                return Some(Unshareable::VaryStar);
            }
            let Ok(name) = name.parse::<HeaderName>() else { return Some(Unshareable::Vary) };
            let covered = name == header::ACCEPT_ENCODING
                || (name == header::ORIGIN && rule.cors.is_some())
                || rule.headers.iter().any(|header| header.name == name);
            if !covered {
                return Some(Unshareable::Vary);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::route::tests::rule;

    fn admit(status: u16, pairs: &[(&str, &str)]) -> Admission {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, "application/json; charset=utf-8".parse().unwrap());
        for (name, value) in pairs {
            headers.insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        let control = CacheControl::parse(&headers);
        super::admit(&rule(), StatusCode::from_u16(status).unwrap(), &headers, &control)
    }

    #[test]
    fn what_belongs_to_one_is_not_shared_whatever_its_status() {
        for status in [200, 404, 500] {
            assert_eq!(admit(status, &[("set-cookie", "a=b")]), Admission::Own(Unshareable::SetCookie));
        }
        assert_eq!(admit(200, &[("cache-control", "private")]), Admission::Own(Unshareable::Private));
        assert_eq!(admit(200, &[("cache-control", "max-age=9, no-store")]), Admission::Own(Unshareable::NoStore));
        assert_eq!(admit(200, &[("cache-control", "no-cache")]), Admission::Own(Unshareable::NoCache));
        assert_eq!(admit(200, &[("content-encoding", "gzip")]), Admission::Own(Unshareable::Encoding));
    }

    #[test]
    fn it_may_vary_only_by_what_the_key_holds() {
        assert_eq!(admit(200, &[("vary", "Origin, Accept-Encoding, X-Medusa-Locale")]), Admission::Store);
        assert_eq!(admit(200, &[("vary", "*")]), Admission::Own(Unshareable::VaryStar));
        assert_eq!(admit(200, &[("vary", "Origin, *")]), Admission::Own(Unshareable::VaryStar));
        assert_eq!(admit(200, &[("vary", "Accept-Language")]), Admission::Own(Unshareable::Vary));
        assert_eq!(admit(200, &[("vary", "a b")]), Admission::Own(Unshareable::Vary));
    }

    #[test]
    fn only_what_the_route_expects_is_stored() {
        assert_eq!(admit(200, &[]), Admission::Store);
        assert_eq!(admit(404, &[]), Admission::Store);
        assert_eq!(admit(200, &[("content-type", "text/html")]), Admission::ShareOnce(ShareOnce::ContentType));
        assert_eq!(admit(404, &[("content-type", "text/html")]), Admission::ShareOnce(ShareOnce::ContentType));
        for status in [201, 204, 302, 400, 401, 403, 429, 500, 503] {
            let public = [("cache-control", "public, max-age=60")];
            assert_eq!(admit(status, &public), Admission::ShareOnce(ShareOnce::Status), "{status}");
        }
    }
}
