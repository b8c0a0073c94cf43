//! Framing: where one HTTP/1 request ends and the next one begins, read from the raw bytes.
//!
//! hyper frames requests too, and better in all that is grammar. But it is lenient where a proxy
//! must not be, and says nothing about it: of `Content-Length` and `Transfer-Encoding` together it
//! drops the length, of two equal lengths one, and a bare LF ends a line. None of that can be seen
//! in the request that it hands out. So the bytes pass through here first. What is let through is a
//! strict subset of what hyper understands, hence both agree on every boundary.

use super::refusal::Refusal;

/// Most digits of a `Content-Length`: below 10^18, so that no sum of ours overflows.
const LENGTH_DIGITS_MAX: usize = 18;
/// Most hex digits of a chunk's size: below 2^60.
const CHUNK_DIGITS_MAX: u32 = 15;
/// Most bytes of extensions and trailers in one body, all chunks together. hyper's limit is 16 KiB.
const CHUNK_EXTRA_BYTES_MAX: u32 = 8 * 1024;
/// What a request line may have beside its target: method, spaces and version.
const REQUEST_LINE_EXTRA_BYTES: usize = 64;

/// How much of a head is taken.
#[derive(Clone, Copy, Debug)]
pub struct HeadSizes {
    /// Longest request target; longer is `uri_size`.
    pub uri_bytes_max: usize,
    /// Largest head, request line and empty line included; larger is `head_size`.
    pub head_bytes_max: usize,
    /// Most fields; more is `head_count`.
    pub head_fields_max: usize,
}

/// Follows the requests of one connection through its bytes.
#[derive(Debug)]
pub struct Framing {
    sizes: HeadSizes,
    place: Place,
}

/// What a look at some bytes found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan {
    /// So many bytes from the start are good: whole heads, and pieces of bodies. The rest begins
    /// with a head that is not whole yet (or is at fault).
    pub pass: usize,
    /// What is wrong with the bytes after those. Nothing after it may be read as HTTP.
    pub fault: Option<Fault>,
}

/// What is wrong with the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A head; it was not passed on, not even in part.
    Head(Refusal),
    /// A chunked body, whose head has been passed on already.
    Body,
}

#[derive(Debug)]
enum Place {
    Head(Head),
    Body(u64),
    Chunks(Chunks),
}

impl Framing {
    /// At the start of a connection.
    pub fn new(sizes: HeadSizes) -> Self {
        Self { sizes, place: Place::Head(Head::default()) }
    }

    /// Whether the next byte begins a request or goes on with a head: no body is under way.
    pub fn at_head(&self) -> bool {
        matches!(self.place, Place::Head(_))
    }

    /// Looks at bytes. They must begin with those that the last call did not pass.
    pub fn scan(&mut self, bytes: &[u8]) -> Scan {
        let mut pass = 0;
        while let Some(rest) = bytes.get(pass..).filter(|rest| !rest.is_empty()) {
            match &mut self.place {
                Place::Head(head) => match head.scan(rest, self.sizes) {
                    Ok(Some(length)) => {
                        pass += length;
                        self.place = head.body();
                    }
                    Ok(None) => break,
                    Err(refusal) => return Scan { pass, fault: Some(Fault::Head(refusal)) },
                },
                Place::Body(left) => {
                    let length = rest.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    pass += length;
                    *left -= length as u64;
                    if *left == 0 {
                        self.place = Place::Head(Head::default());
                    }
                }
                Place::Chunks(chunks) => {
                    let (length, step) = chunks.scan(rest);
                    pass += length;
                    match step {
                        Step::More => {}
                        Step::Done => self.place = Place::Head(Head::default()),
                        Step::Broken => return Scan { pass, fault: Some(Fault::Body) },
                    }
                }
            }
        }
        Scan { pass, fault: None }
    }
}

/// Reads a `Content-Length`: digits and nothing else.
pub fn content_length(value: &[u8]) -> Result<u64, Refusal> {
    if value.is_empty() || value.len() > LENGTH_DIGITS_MAX || !value.iter().all(u8::is_ascii_digit) {
        return Err(Refusal::Framing);
    }
    Ok(value.iter().fold(0, |length, digit| length * 10 + u64::from(digit - b'0')))
}

/// Accepts `chunked`, alone and once. A single coding that nobody knows is told apart (501) from
/// the games that are played with known ones (400).
pub fn transfer_encoding(value: &[u8]) -> Result<(), Refusal> {
    const KNOWN: [&[u8]; 7] = [b"identity", b"gzip", b"x-gzip", b"deflate", b"compress", b"x-compress", b"trailers"];
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let one_token = !value.is_empty() && value.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
    if one_token && !KNOWN.iter().any(|known| value.eq_ignore_ascii_case(known)) {
        return Err(Refusal::UnknownCoding);
    }
    Err(Refusal::Framing)
}

/// Where the first control byte is. Nearly always it is a line's end, found at memory speed; the look at
/// what is before it has no branch, so that the compiler can take many bytes at once.
fn first_control(bytes: &[u8]) -> Option<usize> {
    let end = memchr::memchr2(b'\r', b'\n', bytes);
    let before = &bytes[..end.unwrap_or(bytes.len())];
    if before.iter().fold(false, |found, byte| found | byte.is_ascii_control()) {
        return before.iter().position(u8::is_ascii_control);
    }
    end
}

/// A head that is being read. Offsets count from its first byte.
#[derive(Debug, Default)]
struct Head {
    /// Where the line under way begins.
    line: usize,
    /// How far that line has been looked at, so that a head in drops is not read again and again.
    seen: usize,
    fields: usize,
    has_request_line: bool,
    is_http_10: bool,
    length: Option<u64>,
    is_chunked: bool,
}

impl Head {
    /// Reads lines. Gives the head's length once it is whole.
    fn scan(&mut self, bytes: &[u8], sizes: HeadSizes) -> Result<Option<usize>, Refusal> {
        loop {
            let Some(offset) = bytes.get(self.seen..).and_then(first_control) else {
                self.seen = bytes.len();
                self.fits(bytes.len(), sizes)?;
                return Ok(None);
            };
            let at = self.seen + offset;
            self.fits(at + 1, sizes)?;
            let line = bytes.get(self.line..at).unwrap_or_default();
            match (bytes.get(at), bytes.get(at + 1)) {
                (Some(b'\t'), _) if self.has_request_line => self.seen = at + 1,
                (Some(b'\r'), None) => {
                    self.seen = at;
                    return Ok(None);
                }
                (Some(b'\r'), Some(b'\n')) => {
                    self.line = at + 2;
                    self.seen = self.line;
                    if self.line(line, sizes)? {
                        return Ok(Some(self.line));
                    }
                }
                (Some(b'\r' | b'\n'), _) => return Err(Refusal::MalformedHead),
                _ if self.has_request_line && line.contains(&b':') => return Err(Refusal::HeaderValue),
                _ => return Err(Refusal::MalformedHead),
            }
        }
    }

    /// What follows the head.
    fn body(&self) -> Place {
        match self.length {
            _ if self.is_chunked => Place::Chunks(Chunks::default()),
            Some(length) if length > 0 => Place::Body(length),
            _ => Place::Head(Self::default()),
        }
    }

    fn fits(&self, length: usize, sizes: HeadSizes) -> Result<(), Refusal> {
        if !self.has_request_line && length - self.line > sizes.uri_bytes_max + REQUEST_LINE_EXTRA_BYTES {
            return Err(Refusal::UriSize);
        }
        if length > sizes.head_bytes_max {
            return Err(Refusal::HeadSize);
        }
        Ok(())
    }

    /// Reads one line; true when it ends the head.
    fn line(&mut self, line: &[u8], sizes: HeadSizes) -> Result<bool, Refusal> {
        match (self.has_request_line, line.is_empty()) {
            // Empty lines before a request are old clients' ends of bodies (RFC 9112 §2.2).
            (false, true) => Ok(false),
            (false, false) => self.request_line(line, sizes).map(|()| false),
            (true, true) if self.is_chunked && self.length.is_some() => Err(Refusal::Framing),
            (true, true) => Ok(true),
            (true, false) => self.field(line, sizes).map(|()| false),
        }
    }

    fn request_line(&mut self, line: &[u8], sizes: HeadSizes) -> Result<(), Refusal> {
        let mut words = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(Refusal::MalformedHead);
        };
        self.is_http_10 = match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            _ => return Err(Refusal::MalformedHead),
        };
        if method.is_empty() || target.is_empty() {
            return Err(Refusal::MalformedHead);
        }
        if target.len() > sizes.uri_bytes_max {
            return Err(Refusal::UriSize);
        }
        if target.contains(&b'#') {
            return Err(Refusal::Target);
        }
        if !target.is_ascii() {
            return Err(Refusal::Path);
        }
        self.has_request_line = true;
        Ok(())
    }

    fn field(&mut self, line: &[u8], sizes: HeadSizes) -> Result<(), Refusal> {
        self.fields += 1;
        if self.fields > sizes.head_fields_max {
            return Err(Refusal::HeadCount);
        }
        // A line that begins with a space goes on with the one before: obsolete, and read in two ways.
        let colon = line.iter().position(|byte| *byte == b':').filter(|at| *at > 0).ok_or(Refusal::MalformedHead)?;
        let (name, value) = (line.get(..colon).unwrap_or_default(), line.get(colon + 1..).unwrap_or_default());
        if matches!(name.first(), Some(b' ' | b'\t')) || matches!(name.last(), Some(b' ' | b'\t')) {
            return Err(Refusal::MalformedHead);
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = content_length(value.trim_ascii())?;
            if self.length.replace(length).is_some() {
                return Err(Refusal::Framing);
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            transfer_encoding(value.trim_ascii())?;
            if std::mem::replace(&mut self.is_chunked, true) || self.is_http_10 {
                return Err(Refusal::Framing);
            }
        }
        Ok(())
    }
}

/// A chunked body that is being read.
#[derive(Debug, Default)]
struct Chunks {
    part: Part,
    size: u64,
    digits: u32,
    extra_bytes: u32,
}

#[derive(Clone, Copy, Debug, Default)]
enum Part {
    #[default]
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    Trailer,
    TrailerLf,
    EndLf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    More,
    Done,
    Broken,
}

impl Chunks {
    /// Reads on; gives how many bytes were good, and whether the body has ended.
    fn scan(&mut self, bytes: &[u8]) -> (usize, Step) {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            if let Part::Data = self.part {
                let length = (bytes.len() - at).min(usize::try_from(self.size).unwrap_or(usize::MAX));
                at += length;
                self.size -= length as u64;
                if self.size == 0 {
                    self.part = Part::DataCr;
                }
                continue;
            }
            match self.step(*byte) {
                Step::More => at += 1,
                Step::Done => return (at + 1, Step::Done),
                Step::Broken => return (at, Step::Broken),
            }
        }
        (at, Step::More)
    }

    /// One byte that is not data.
    fn step(&mut self, byte: u8) -> Step {
        self.part = match (self.part, byte) {
            (Part::Size, _) if byte.is_ascii_hexdigit() && self.digits < CHUNK_DIGITS_MAX => {
                let digit = (byte as char).to_digit(16).unwrap_or_default();
                self.size = self.size * 16 + u64::from(digit);
                self.digits += 1;
                Part::Size
            }
            (Part::Size, b'\r') if self.digits > 0 => Part::SizeLf,
            (Part::Size, b';') if self.digits > 0 => Part::Extension,
            (Part::Extension, b'\r') => Part::SizeLf,
            (Part::SizeLf, b'\n') => {
                self.digits = 0;
                if self.size == 0 { Part::TrailerStart } else { Part::Data }
            }
            (Part::DataCr, b'\r') => Part::DataLf,
            (Part::DataLf, b'\n') => Part::Size,
            (Part::TrailerStart, b'\r') => Part::EndLf,
            (Part::EndLf, b'\n') => return Step::Done,
            (Part::Trailer, b'\r') => Part::TrailerLf,
            (Part::TrailerLf, b'\n') => Part::TrailerStart,
            (Part::TrailerStart, b' ' | b'\t') => return Step::Broken,
            (part @ (Part::Extension | Part::TrailerStart | Part::Trailer), _)
                if byte == b'\t' || !byte.is_ascii_control() =>
            {
                self.extra_bytes += 1;
                if self.extra_bytes > CHUNK_EXTRA_BYTES_MAX {
                    return Step::Broken;
                }
                if let Part::Extension = part { part } else { Part::Trailer }
            }
            _ => return Step::Broken,
        };
        Step::More
    }
}

#[cfg(test)]
mod tests;
