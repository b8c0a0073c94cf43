//! How the end of an answer is known, and whether it can be known at all.
//!
//! hyper takes more than may be forwarded or stored: a `Content-Length` beside a
//! `Transfer-Encoding`, codings it does not know (`cow, chunked`), a coding without `chunked` at
//! its end. Two readers of such an answer may see different ends, so here it is an error
//! (RFC 9112 §6.3).

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::OriginError;

/// How the end of an answer's body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body: an answer to HEAD, a 204, a 304 or a 101.
    None,
    /// After so many bytes.
    ContentLength(u64),
    /// After the last chunk.
    Chunked,
    /// With the connection: nobody can tell such a body from one that was cut off, so it must not
    /// be stored.
    UntilClose,
}

impl Framing {
    /// Judges the head of an answer to a request with `method`.
    pub(super) fn of(method: &Method, status: StatusCode, headers: &HeaderMap) -> Result<Self, OriginError> {
        let coding = single(headers, &TRANSFER_ENCODING)
            .map_err(|Repeated| OriginError::malformed("more than one Transfer-Encoding"))?;
        let length = single(headers, &CONTENT_LENGTH)
            .map_err(|Repeated| OriginError::malformed("more than one Content-Length"))?;
        let framing = match (coding, length) {
            (Some(_), Some(_)) => return Err(OriginError::malformed("both Content-Length and Transfer-Encoding")),
            (Some(coding), None) if coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") => Self::Chunked,
            (Some(_), None) => return Err(OriginError::malformed("a Transfer-Encoding other than chunked")),
            (None, Some(length)) => {
                Self::ContentLength(digits(length).ok_or_else(|| OriginError::malformed("a bad Content-Length"))?)
            }
            (None, None) => Self::UntilClose,
        };
        if method == Method::HEAD || has_no_body(status) { Ok(Self::None) } else { Ok(framing) }
    }
}

/// Whether the bytes after this head belong to nobody for sure. A 204 or 304 that announces a body
/// may be followed by one, late enough to be taken for the answer to the next request.
pub(super) fn may_trail(status: StatusCode, headers: &HeaderMap) -> bool {
    let announced = match status {
        // A 304 may repeat the length that the 200 would have.
        StatusCode::NOT_MODIFIED => false,
        _ => headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0"),
    };
    has_no_body(status) && (announced || headers.contains_key(TRANSFER_ENCODING))
}

fn has_no_body(status: StatusCode) -> bool {
    matches!(status, StatusCode::SWITCHING_PROTOCOLS | StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

struct Repeated;

fn single<'h>(headers: &'h HeaderMap, name: &http::HeaderName) -> Result<Option<&'h HeaderValue>, Repeated> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() { Err(Repeated) } else { Ok(first) }
}

/// A number as RFC 9110 has it: digits only. `u64::from_str` would take a sign.
pub(super) fn digits(value: &HeaderValue) -> Option<u64> {
    let text = value.to_str().ok()?.trim();
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn an_answer_has_one_end_or_is_refused() {
        use Framing::{Chunked, ContentLength, None as Empty, UntilClose};
        const CL: &str = "content-length";
        const TE: &str = "transfer-encoding";
        let check = |method: Method, status: u16, lines: &[(&'static str, &'static str)], expected: Option<Framing>| {
            let status = StatusCode::from_u16(status).unwrap();
            let framing = Framing::of(&method, status, &headers(lines));
            assert_eq!(framing.as_ref().ok().copied(), expected, "{method} {status} {lines:?}");
            if let Err(error) = framing {
                assert_eq!(error.reason(), "framing");
            }
        };
        check(Method::GET, 200, &[(CL, "0")], Some(ContentLength(0)));
        check(Method::GET, 200, &[(CL, "12")], Some(ContentLength(12)));
        check(Method::GET, 200, &[(TE, "chunked")], Some(Chunked));
        check(Method::GET, 200, &[(TE, "Chunked")], Some(Chunked));
        check(Method::GET, 200, &[], Some(UntilClose));
        check(Method::HEAD, 200, &[(CL, "12")], Some(Empty));
        check(Method::HEAD, 200, &[(TE, "chunked")], Some(Empty));
        check(Method::GET, 204, &[], Some(Empty));
        check(Method::GET, 304, &[(CL, "12")], Some(Empty));

        check(Method::GET, 200, &[(CL, "5"), (CL, "6")], None);
        check(Method::GET, 200, &[(CL, "5"), (CL, "5")], None);
        check(Method::GET, 200, &[(CL, "5, 5")], None);
        check(Method::GET, 200, &[(CL, "+5")], None);
        check(Method::GET, 200, &[(CL, "")], None);
        check(Method::GET, 200, &[(CL, "99999999999999999999")], None);
        check(Method::GET, 200, &[(CL, "5"), (TE, "chunked")], None);
        check(Method::GET, 200, &[(TE, "gzip")], None);
        check(Method::GET, 200, &[(TE, "gzip, chunked")], None);
        check(Method::GET, 200, &[(TE, "cow, chunked")], None);
        check(Method::GET, 200, &[(TE, "chunked, chunked")], None);
        check(Method::GET, 200, &[(TE, "chunked"), (TE, "chunked")], None);
        check(Method::GET, 200, &[(TE, "")], None);
        check(Method::HEAD, 200, &[(CL, "5"), (TE, "chunked")], None);
    }

    #[test]
    fn a_bodiless_answer_that_announces_a_body_is_not_trusted() {
        let check = |status: u16, lines: &[(&'static str, &'static str)], expected: bool| {
            assert_eq!(may_trail(StatusCode::from_u16(status).unwrap(), &headers(lines)), expected, "{status}");
        };
        check(204, &[], false);
        check(204, &[("content-length", "0")], false);
        check(204, &[("content-length", "5")], true);
        check(204, &[("transfer-encoding", "chunked")], true);
        check(304, &[("content-length", "5")], false);
        check(304, &[("transfer-encoding", "chunked")], true);
        check(200, &[("content-length", "5")], false);
    }
}
