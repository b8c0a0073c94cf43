//! Encodings of a body: which one a client is sent (RFC 9110 §12.5.3), and which bodies have any.

use std::cmp::Reverse;
use std::sync::Arc;

use http::{HeaderMap, StatusCode, header};

use super::cache_control::CacheControl;
use super::exchange;
use super::route::{Patterns, Rule};

/// Least that an encoding must save of a body, or it is not kept: one part of so many.
const GAIN: usize = 10;

/// A content coding that we make (RFC 9110 §8.4.1). Bodies come from the origin as they are: `identity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// RFC 7932: the smallest.
    Br,
    /// RFC 8878: nearly as small, and the cheapest to read.
    Zstd,
    /// RFC 1952: what everybody reads.
    Gzip,
}

impl Coding {
    /// All of them. What a client wants alike it is sent in this order: by bytes on the wire.
    pub const ALL: [Self; 3] = [Self::Br, Self::Zstd, Self::Gzip];

    /// Its name in `Content-Encoding` and in labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Br => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// Its place in [`Coding::ALL`].
    pub const fn index(self) -> usize {
        match self {
            Self::Br => 0,
            Self::Zstd => 1,
            Self::Gzip => 2,
        }
    }
}

/// What a client wants, by its `Accept-Encoding`: weights in thousandths, zero for what it does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    codings: [u16; Coding::ALL.len()],
    identity: u16,
}

impl Accepted {
    /// The plain form alone: what there is of a body without encodings, and what a client without the field gets.
    pub const PLAIN: Self = Self { codings: [0; Coding::ALL.len()], identity: 1000 };

    /// Reads a request's field.
    pub fn of(request: &HeaderMap) -> Self {
        Self::parse(request.get_all(header::ACCEPT_ENCODING).iter().map(http::HeaderValue::as_bytes))
    }

    /// Reads the lines of the field. A member that is not of its grammar counts as not sent, and of a coding that
    /// is given twice the lower weight counts: in doubt a client is sent what everybody reads.
    pub fn parse<'v>(lines: impl IntoIterator<Item = &'v [u8]>) -> Self {
        const IDENTITY: usize = Coding::ALL.len();
        const ANY: usize = IDENTITY + 1;
        let mut said = [None::<u16>; ANY + 1];
        let mut is_sent = false;
        for line in lines {
            is_sent = true;
            for member in line.split(|byte| *byte == b',') {
                let (name, parameter) = match member.iter().position(|byte| *byte == b';') {
                    Some(at) => (&member[..at], Some(&member[at + 1..])),
                    None => (member, None),
                };
                let slot = match name.trim_ascii() {
                    b"*" => ANY,
                    name if name.eq_ignore_ascii_case(b"identity") => IDENTITY,
                    // RFC 9110 §8.4.1.3: the same coding under an old name.
                    name if name.eq_ignore_ascii_case(b"x-gzip") => Coding::Gzip.index(),
                    name => {
                        match Coding::ALL.iter().find(|coding| name.eq_ignore_ascii_case(coding.as_str().as_bytes())) {
                            Some(coding) => coding.index(),
                            None => continue,
                        }
                    }
                };
                if let Some(weight) = parameter.map_or(Some(1000), weight) {
                    said[slot] = Some(said[slot].map_or(weight, |held| held.min(weight)));
                }
            }
        }
        if !is_sent {
            return Self::PLAIN;
        }
        let any = said[ANY];
        Self {
            codings: Coding::ALL.map(|coding| said[coding.index()].or(any).unwrap_or(0)),
            // Taken unless it is refused, and with nothing said of it the least wanted.
            identity: said[IDENTITY].or(any).unwrap_or(1),
        }
    }

    /// The codings that the client wants at least as much as the plain form, the most wanted first.
    pub fn ranked(&self) -> impl Iterator<Item = Coding> + use<> {
        let Self { codings, identity } = *self;
        let mut ranked = Coding::ALL;
        // Stable: what is wanted alike stays in our order.
        ranked.sort_by_key(|coding| Reverse(codings[coding.index()]));
        ranked.into_iter().filter(move |coding| codings[coding.index()] >= identity.max(1))
    }

    /// Whether the client takes a form; `None` is the plain one.
    pub fn takes(&self, form: Option<Coding>) -> bool {
        form.map_or(self.identity, |coding| self.codings[coding.index()]) > 0
    }
}

/// The weight that a member's parameter gives (RFC 9110 §12.4.2), in thousandths; `None` for what is no weight.
fn weight(parameter: &[u8]) -> Option<u16> {
    let value = match parameter.trim_ascii() {
        [b'q' | b'Q', b'=', value @ ..] => value,
        _ => return None,
    };
    let (whole, fraction) = match value {
        [b'0', fraction @ ..] => (0, fraction),
        [b'1', fraction @ ..] => (1000, fraction),
        _ => return None,
    };
    let digits = match fraction {
        [] => return Some(whole),
        [b'.', digits @ ..] if digits.len() <= 3 && digits.iter().all(u8::is_ascii_digit) => digits,
        _ => return None,
    };
    let thousandths =
        [100, 10, 1].iter().zip(digits).map(|(place, digit)| place * u16::from(digit - b'0')).sum::<u16>();
    Some(whole + thousandths).filter(|weight| *weight <= 1000)
}

/// Whether a body stands as it is: what its `Content-Encoding` lists, on all lines, is `identity` or nothing (RFC 9110
/// §5.3, §5.6.1.2, §8.4.1: codings have no case).
pub fn is_plain(headers: &HeaderMap) -> bool {
    let mut codings =
        headers.get_all(header::CONTENT_ENCODING).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    codings.all(|coding| coding.trim_ascii().is_empty() || coding.trim_ascii().eq_ignore_ascii_case(b"identity"))
}

/// Which bodies have encodings; by default none has.
#[derive(Clone, Debug, Default)]
pub struct Compression {
    /// The codings that are made; none leaves all bodies as they are.
    pub codings: Vec<Coding>,
    /// Bytes of the smallest body that is encoded: below it the head is most of the answer.
    pub size_min: usize,
    /// The media types that shrink, in lower case.
    pub types: Arc<Patterns>,
}

/// Fields that say what the very bytes of a body are.
const DIGESTS: [&str; 4] = ["content-digest", "repr-digest", "digest", "content-md5"];

impl Compression {
    /// Whether the body of an answer, as it came, may be sent in our encodings. `control` is what the origin says.
    pub fn suits(
        &self,
        rule: &Rule,
        status: StatusCode,
        origin: &HeaderMap,
        control: &CacheControl,
        length: usize,
    ) -> bool {
        !self.codings.is_empty()
            && status == StatusCode::OK
            && length >= self.size_min
            && is_plain(origin)
            // What is said of the bytes is said of the plain ones (RFC 9530).
            && !DIGESTS.iter().any(|name| origin.contains_key(*name))
            // RFC 9111 §5.2.2.6.
            && !control.no_transform
            // Where the origin hears the client's own word, it is the one to choose.
            && !exchange::is_forwarded(rule, &header::ACCEPT_ENCODING)
            && self.is_type(origin)
    }

    fn is_type(&self, headers: &HeaderMap) -> bool {
        let said = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        self.types.contains(&said.split(';').next().unwrap_or("").trim().to_ascii_lowercase())
    }

    /// What a client takes of the codings that are made here.
    #[must_use]
    pub fn offered(&self, mut accepted: Accepted) -> Accepted {
        for coding in Coding::ALL.iter().filter(|coding| !self.codings.contains(coding)) {
            accepted.codings[coding.index()] = 0;
        }
        accepted
    }

    /// Bytes that an encoded body may have to be worth its memory.
    pub fn most(plain: usize) -> usize {
        plain - plain / GAIN
    }
}

/// What became of a body that was to be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoded {
    /// It is kept beside the plain one.
    Made,
    /// It is hardly smaller than the plain one: never tried again.
    Vain,
    /// Too many wait already: the next hit asks again.
    Dropped,
    /// The entry was replaced or evicted meanwhile.
    Gone,
    /// The encoder failed: a bug, and never tried again.
    Failed,
}

impl Encoded {
    /// All of them, for the metrics.
    pub const ALL: [Self; 5] = [Self::Made, Self::Vain, Self::Dropped, Self::Gone, Self::Failed];

    /// The word for labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Made => "made",
            Self::Vain => "vain",
            Self::Dropped => "dropped",
            Self::Gone => "gone",
            Self::Failed => "failed",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::route::tests::rule;

    fn accepted(lines: &[&str]) -> Accepted {
        Accepted::parse(lines.iter().map(|line| line.as_bytes()))
    }

    /// The codings in order, then whether the plain form is taken.
    fn ranked(lines: &[&str]) -> String {
        let accepted = accepted(lines);
        let mut words: Vec<&str> = accepted.ranked().map(Coding::as_str).collect();
        words.push(if accepted.takes(None) { "plain" } else { "-" });
        words.join(" ")
    }

    #[test]
    fn the_most_wanted_coding_comes_first() {
        for (lines, expected) in [
            (&[][..], "plain"),
            (&[""], "plain"),
            (&["gzip, deflate, br, zstd"], "br zstd gzip plain"),
            (&["gzip", "br"], "br gzip plain"),
            (&["GZIP;Q=1.0 ,\tBr ; q=1"], "br gzip plain"),
            (&["x-gzip"], "gzip plain"),
            (&["br;q=0.8, gzip;q=0.9, zstd;q=0.85"], "gzip zstd br plain"),
            (&["br;q=0.001"], "br plain"),
            (&["br;q=0"], "plain"),
            (&["br;q=0.0, gzip;q=0.000"], "plain"),
            (&["*"], "br zstd gzip plain"),
            (&["*;q=0.5, br;q=0.1"], "zstd gzip plain"),
            (&["br, *;q=0"], "br -"),
            (&["identity;q=0, gzip"], "gzip -"),
            (&["*;q=0"], "-"),
            (&["*;q=0, identity"], "plain"),
            (&["identity, gzip;q=0.9"], "plain"),
            (&["identity;q=0.5, gzip;q=0.5, br;q=0.4"], "gzip plain"),
            (&["deflate, compress, brotli, b r"], "plain"),
            (&[",,gzip,"], "gzip plain"),
            // Given twice: the lower weight.
            (&["br, br;q=0"], "plain"),
            (&["gzip;q=0.2, br;q=0.1, x-gzip;q=0.05"], "br gzip plain"),
        ] {
            assert_eq!(ranked(lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_member_whose_weight_cannot_be_read_was_not_sent() {
        for weight in [
            "",
            "q",
            "q=",
            "q=.5",
            "q=2",
            "q=1.001",
            "q=1.5",
            "q=0.1234",
            "q=-1",
            "q=+0.5",
            "q=0.5.5",
            "q=0 .5",
            "q = 0.5",
            "q=\"0.5\"",
            "q=0x1",
            "q=1e0",
            "q=00",
            "q=01",
            "q=NaN",
            "q=0.5;q=1",
            "q=0.5;a=b",
            "level=5",
            "level=5;q=1",
            "x",
            "\u{bd}",
        ] {
            assert_eq!(ranked(&[&format!("gzip;{weight}")]), "plain", "{weight:?}");
            // What is unreadable refuses nothing either.
            assert_eq!(ranked(&[&format!("identity;{weight}, gzip")]), "gzip plain", "{weight:?}");
            assert_eq!(ranked(&[&format!("gzip, *;{weight}")]), "gzip plain", "{weight:?}");
        }
        for weight in ["q=1", "q=1.", "q=1.000", "q=0.001", "q=0.9", "Q=0.99", " q=0.5 ", "\tq=1"] {
            assert_eq!(ranked(&[&format!("gzip;{weight}")]), "gzip plain", "{weight:?}");
        }
        assert_eq!(ranked(&["gzip;q=0."]), "plain");
    }

    #[test]
    fn some_bodies_have_encodings() {
        let settings = Compression {
            codings: vec![Coding::Br],
            size_min: 10,
            types: Arc::new(Patterns::new(["application/json", "text/*"])),
        };
        let suits = |settings: &Compression, rule: &Rule, status: u16, pairs: &[(&str, &str)], length| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(name.parse::<header::HeaderName>().unwrap(), value.parse().unwrap());
            }
            let control = CacheControl::strictest(&headers);
            settings.suits(rule, StatusCode::from_u16(status).unwrap(), &headers, &control, length)
        };
        let of = |status, pairs: &[_], length| suits(&settings, &rule(), status, pairs, length);
        let json = ("content-type", "application/json; charset=utf-8");
        assert!(of(200, &[json], 10));
        assert!(of(200, &[("content-type", "Text/HTML")], 10));
        assert!(of(200, &[json, ("content-encoding", "identity")], 10));
        assert!(!of(200, &[json], 9));
        assert!(!of(404, &[json], 10));
        assert!(!of(200, &[("content-type", "image/png")], 10));
        assert!(!of(200, &[], 10));
        assert!(!of(200, &[json, ("content-encoding", "gzip")], 10));
        assert!(!of(200, &[json, ("repr-digest", "sha-256=:AA==:")], 10));
        assert!(!of(200, &[json, ("cache-control", "max-age=9, No-Transform")], 10));
        assert!(!of(200, &[json, ("cdn-cache-control", "no-transform")], 10));
        let none = Compression { codings: vec![], ..settings.clone() };
        assert!(!suits(&none, &rule(), 200, &[json], 10));
        let forwards = Rule { forward: Patterns::new(["accept-encoding"]), ..rule() };
        assert!(!suits(&settings, &forwards, 200, &[json], 10));
        let offered = |field: &str| settings.offered(accepted(&[field])).ranked().collect::<Vec<_>>();
        assert_eq!(offered("gzip, br"), [Coding::Br]);
        assert_eq!(offered("gzip"), []);
        assert_eq!(Compression::most(100), 90);
    }

    proptest! {
        /// What is ranked is taken, and never wanted less than what comes after it.
        #[test]
        fn no_field_panics(line in "[a-z*;=,. qQ0-9]{0,40}|((br|gzip|zstd|identity|\\*)(;q=[01](\\.[0-9]{0,3})?)?,){0,5}") {
            let accepted = accepted(&[&line]);
            let ranked: Vec<_> = accepted.ranked().collect();
            prop_assert!(ranked.iter().all(|coding| accepted.takes(Some(*coding))));
            prop_assert!(ranked.is_sorted_by_key(|coding| Reverse(accepted.codings[coding.index()])));
        }
    }
}
