//! The plainest request there is, read from its bytes: a GET with nothing in its head but what a key may
//! hold and what no answer depends on.
//!
//! Most hits are such requests, and reading them here costs a third of what the general way costs. Whatever
//! is not plain says nothing wrong: it goes the general way, which alone judges, refuses and passes.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::admission::normal_host;

/// Fields that are looked at; a head with more goes the general way.
const FIELDS_MAX: usize = 40;

/// A plain head.
#[derive(Debug)]
pub struct PlainHead<'h> {
    /// The path as it was sent.
    pub path: &'h str,
    /// The query as it was sent, without `?`.
    pub query: Option<&'h str>,
    /// The Host in normal form.
    pub host: Cow<'h, str>,
    /// All fields, names as they were sent.
    pub fields: SmallVec<[(&'h str, &'h [u8]); 16]>,
}

impl<'h> PlainHead<'h> {
    /// Reads a head that the framing has let pass, and that is all there is in `bytes`.
    pub fn parse(bytes: &'h [u8]) -> Option<Self> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(bytes) {
            Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
            Ok(_) | Err(_) => return None,
        }
        if request.method != Some("GET") || request.version != Some(1) {
            return None;
        }
        let target = request.path.filter(|target| target.starts_with('/'))?;
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let odd = |byte: u8| !byte.is_ascii_graphic() || byte == b'%' || byte == b'#';
        if path.bytes().any(odd)
            || query.is_some_and(|query| query.bytes().any(|byte| !byte.is_ascii_graphic() || byte == b'#'))
        {
            return None;
        }
        let mut host = None;
        let mut kept = SmallVec::new();
        for field in request.headers {
            match kind(field.name) {
                Kind::Telling => return None,
                Kind::Connection if !field.value.eq_ignore_ascii_case(b"keep-alive") => return None,
                Kind::Host if host.is_some() => return None,
                Kind::Host => host = Some(std::str::from_utf8(field.value).ok()?),
                Kind::Connection | Kind::Dull => {}
            }
            kept.push((field.name, field.value));
        }
        Some(Self { path, query, host: normal_host(host?)?, fields: kept })
    }

    /// Whether a field was sent.
    pub fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(sent, _)| sent.eq_ignore_ascii_case(name))
    }
}

enum Kind {
    /// Says something that the general way must judge.
    Telling,
    Connection,
    Host,
    Dull,
}

/// Sorts a field by its name, in any case. Its length decides nearly always, so the names stand by length.
fn kind(name: &str) -> Kind {
    let telling: &[&str] = match name.len() {
        2 => &["te"],
        4 if name.eq_ignore_ascii_case("host") => return Kind::Host,
        5 => &["range"],
        6 => &["cookie", "expect", "pragma"],
        7 => &["trailer", "upgrade"],
        8 => &["if-match", "if-range"],
        9 => &["x-api-key"],
        10 if name.eq_ignore_ascii_case("connection") => return Kind::Connection,
        10 => &["keep-alive"],
        12 => &["x-auth-token"],
        13 => &["authorization", "cache-control", "if-none-match"],
        14 => &["content-length", "http2-settings", "x-access-token"],
        16 => &["proxy-connection"],
        17 => &["if-modified-since", "transfer-encoding"],
        19 => &["if-unmodified-since", "proxy-authorization"],
        21 => &["x-medusa-access-token"],
        _ => &[],
    };
    if telling.iter().any(|telling| name.eq_ignore_ascii_case(telling)) { Kind::Telling } else { Kind::Dull }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(lines: &str) -> bool {
        PlainHead::parse(format!("GET /store/products?limit=2 HTTP/1.1\r\nhost: shop\r\n{lines}\r\n").as_bytes())
            .is_some()
    }

    #[test]
    fn every_name_stands_at_its_length_and_every_credential_tells() {
        let general =
            ["te", "range", "cookie", "expect", "pragma", "trailer", "upgrade", "if-match", "if-range", "keep-alive"];
        let rest = ["cache-control", "if-none-match", "content-length", "http2-settings", "proxy-connection"];
        let last = ["if-modified-since", "transfer-encoding", "if-unmodified-since"];
        for name in general.iter().chain(&rest).chain(&last).chain(&crate::policy::classify::CREDENTIALS) {
            assert!(matches!(kind(&name.to_uppercase()), Kind::Telling), "{name}");
        }
    }

    #[test]
    fn only_what_no_answer_depends_on_is_plain() {
        for lines in ["", "Accept: */*\r\n", "Connection: Keep-Alive\r\n", "x-medusa-locale:\r\n", "user-agent: x\r\n"]
        {
            assert!(plain(lines), "{lines}");
        }
        for lines in [
            "Authorization: x\r\n",
            "COOKIE: a=b\r\n",
            "X-Api-Key: x\r\n",
            "connection: close\r\n",
            "host: b\r\n",
            "content-length: 0\r\n",
            "transfer-encoding: chunked\r\n",
            "if-none-match: *\r\n",
            "range: bytes=0-1\r\n",
            "upgrade: websocket\r\n",
            "connection: keep-alive, upgrade\r\n",
            "x-medusa-access-token: x\r\n",
        ] {
            assert!(!plain(lines), "{lines}");
        }
        for head in [
            "HEAD / HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.0\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET /%00 HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a b\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\n\r\nGET",
            "GET / HTTP/1.1\r\nhost: a\r\n",
        ] {
            assert!(PlainHead::parse(head.as_bytes()).is_none(), "{head}");
        }
    }
}
