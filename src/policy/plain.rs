//! The plainest request there is, read from its bytes: a GET with nothing in its head but what a key may
//! hold and what no answer depends on.
//!
//! Most hits are such requests, and reading them here costs a third of what the general way costs. Whatever
//! is not plain says nothing wrong: it goes the general way, which alone judges, refuses and passes.

use std::borrow::Cow;

use memchr::memchr;
use smallvec::SmallVec;

use super::admission::normal_host;
use super::framing::HeadSizes;

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
    /// All fields: names as they were sent, values without the white space around them.
    pub fields: SmallVec<[(&'h [u8], &'h [u8]); 16]>,
}

impl<'h> PlainHead<'h> {
    /// Reads a head that is all there is in `bytes`. What it takes is a strict subset of what the framing
    /// lets pass and hyper understands, so it needs neither of them.
    pub fn parse(bytes: &'h [u8], sizes: HeadSizes) -> Option<Self> {
        if bytes.len() > sizes.head_bytes_max {
            return None;
        }
        let lines = bytes.strip_suffix(b"\r\n\r\n")?;
        let (request_line, mut rest) = split_line(lines)?;
        let target = request_line.strip_prefix(b"GET ")?.strip_suffix(b" HTTP/1.1")?;
        if target.len() > sizes.uri_bytes_max || !target.starts_with(b"/") || !is_target(target) {
            return None;
        }
        let target = std::str::from_utf8(target).ok()?;
        let (path, query) = match memchr(b'?', target.as_bytes()).and_then(|at| target.split_at_checked(at)) {
            Some((path, query)) => (path, query.strip_prefix('?')),
            None => (target, None),
        };
        if memchr(b'%', path.as_bytes()).is_some() {
            return None;
        }
        let mut host = None;
        let mut fields = SmallVec::new();
        let mut line_ends = 1;
        loop {
            let colon = rest.iter().position(|byte| !IS_IN_NAME[usize::from(*byte)]).filter(|at| *at > 0)?;
            let (name, after) = rest.split_at(colon);
            let after = after.strip_prefix(b":")?;
            let line = split_line(after);
            let value = line.map_or(after, |(value, _)| value).trim_ascii();
            match kind(name) {
                Kind::Telling => return None,
                Kind::Connection if !value.eq_ignore_ascii_case(b"keep-alive") => return None,
                Kind::Host if host.is_some() => return None,
                Kind::Host => host = Some(std::str::from_utf8(value).ok()?),
                Kind::Connection | Kind::Dull => {}
            }
            fields.push((name, value));
            match line {
                Some(_) if fields.len() >= FIELDS_MAX.min(sizes.head_fields_max) => return None,
                Some((_, next)) => {
                    line_ends += 1;
                    rest = next;
                }
                None => break,
            }
        }
        // Every control byte belongs to the end of a line: there is none in any value.
        if controls(lines) != 2 * line_ends {
            return None;
        }
        Some(Self { path, query, host: normal_host(host?)?, fields })
    }

    /// Whether a field was sent.
    pub fn has(&self, name: &str) -> bool {
        self.values(name).next().is_some()
    }

    /// The values of a field, a line each.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &'h [u8]> {
        self.fields.iter().filter(move |(sent, _)| sent.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| *value)
    }
}

/// The bytes before the next CR LF, and those after it.
fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (line, end) = bytes.split_at_checked(memchr(b'\r', bytes)?)?;
    Some((line, end.strip_prefix(b"\r\n")?))
}

/// Whether it is made of what targets are made of (RFC 3986 §2): hyper refuses some of the rest, in some places.
/// There is no branch in here, so that the compiler can take many bytes at once.
fn is_target(bytes: &[u8]) -> bool {
    let odd = |byte: u8| matches!(byte, b'"' | b'#' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{'..=b'}');
    bytes.iter().fold(true, |good, byte| good & byte.is_ascii_graphic() & !odd(*byte))
}

/// How many control bytes there are, tabs included. A byte counts a piece: no sum of ours overflows.
fn controls(bytes: &[u8]) -> usize {
    let count = |piece: &[u8]| piece.iter().map(|byte| u8::from(byte.is_ascii_control())).sum::<u8>();
    bytes.chunks(usize::from(u8::MAX)).map(|piece| usize::from(count(piece))).sum()
}

/// What a field's name is made of (RFC 9110 §5.6.2).
const IS_IN_NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128_u8 {
        table[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let marks = b"!#$%&'*+-.^_`|~";
    let mut at = 0;
    while at < marks.len() {
        table[marks[at] as usize] = true;
        at += 1;
    }
    table
};

enum Kind {
    /// Says something that the general way must judge.
    Telling,
    Connection,
    Host,
    Dull,
}

/// Sorts a field by its name, in any case. Its length decides nearly always, so the names stand by length.
fn kind(name: &[u8]) -> Kind {
    let telling: &[&str] = match name.len() {
        2 => &["te"],
        4 if name.eq_ignore_ascii_case(b"host") => return Kind::Host,
        5 => &["range"],
        6 => &["cookie", "expect", "pragma"],
        7 => &["trailer", "upgrade"],
        8 => &["if-match", "if-range"],
        9 => &["x-api-key"],
        10 if name.eq_ignore_ascii_case(b"connection") => return Kind::Connection,
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
    if telling.iter().any(|telling| name.eq_ignore_ascii_case(telling.as_bytes())) { Kind::Telling } else { Kind::Dull }
}

#[cfg(test)]
mod tests;
