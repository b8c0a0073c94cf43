//! The fields of a stored answer.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use memchr::memchr;

/// The fields of a stored answer as HTTP/1.1 writes them, `name: value` in lines, in one piece of memory that
/// is theirs alone. A map of seven fields takes more than a kilobyte beside their text, and values as they were
/// received are slices of the buffer that they came in and would hold all of it, unseen by the tier's count.
///
/// `Age` is never among them: each answer says it anew. A `Cache-Status` is that of a cache behind us, and ours
/// comes after it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Fields(Bytes);

/// What stands between a name and its value, and behind a value. Neither can be in a name or a value.
const COLON: &[u8] = b": ";
const END: &[u8] = b"\r\n";

impl Fields {
    /// The lines, each with its end: what a head on the wire has between its first line and its empty one.
    pub fn lines(&self) -> &[u8] {
        &self.0
    }

    /// The fields in order, the values of one name side by side.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.spans().map(|(start, colon, end)| (&self.0[start..colon], &self.0[colon + COLON.len()..end]))
    }

    /// Whether there is a field of this name.
    pub fn contains(&self, name: &HeaderName) -> bool {
        self.iter().any(|(held, _)| held == name.as_str().as_bytes())
    }

    /// The fields as a map. The values are slices of this memory, and there is room for a few more fields.
    pub fn to_map(&self) -> HeaderMap {
        /// What an answer says anew: its age, what became of the request, for which origin it is, a part's place.
        const ROOM: usize = 5;
        let mut map = HeaderMap::with_capacity(self.spans().count() + ROOM);
        for (start, colon, end) in self.spans() {
            let name = HeaderName::from_bytes(&self.0[start..colon]).expect("it was a name when it was written");
            let value = HeaderValue::from_maybe_shared(self.0.slice(colon + COLON.len()..end))
                .expect("it was a value when it was written");
            map.append(name, value);
        }
        map
    }

    /// Where each line begins, where its colon stands, and where its value ends.
    fn spans(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        let mut start = 0;
        std::iter::from_fn(move || {
            let line = &self.0[start..];
            let colon = memchr(b':', line)?;
            let end = memchr(b'\r', line)?;
            let span = (start, start + colon, start + end);
            start += end + END.len();
            Some(span)
        })
    }
}

impl From<&HeaderMap> for Fields {
    fn from(map: &HeaderMap) -> Self {
        let kept = || map.iter().filter(|(name, _)| **name != header::AGE);
        let bytes = kept().map(|(name, value)| name.as_str().len() + COLON.len() + value.len() + END.len()).sum();
        let mut lines = Vec::with_capacity(bytes);
        for (name, value) in kept() {
            for part in [name.as_str().as_bytes(), COLON, value.as_bytes(), END] {
                lines.extend_from_slice(part);
            }
        }
        Self(lines.into())
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy;
        f.debug_map().entries(self.iter().map(|(name, value)| (text(name), text(value)))).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(pairs: &[(&str, &[u8])]) -> HeaderMap {
        let pair = |(name, value): &(&str, &[u8])| (name.parse().unwrap(), HeaderValue::from_bytes(value).unwrap());
        let mut map = HeaderMap::new();
        for (name, value) in pairs.iter().map(pair) {
            map.append::<HeaderName>(name, value);
        }
        map
    }

    #[test]
    fn fields_are_the_lines_of_a_head() {
        let map =
            map(&[("etag", b"\"a\""), ("x-a", b" b: c "), ("link", b"<a>"), ("link", b"<b>\xe9"), ("empty", b"")]);
        let fields = Fields::from(&map);
        assert_eq!(fields.lines(), b"etag: \"a\"\r\nx-a:  b: c \r\nlink: <a>\r\nlink: <b>\xe9\r\nempty: \r\n");
        assert_eq!(fields.to_map(), map);
        assert_eq!(fields.iter().nth(1), Some((&b"x-a"[..], &b" b: c "[..])));
        assert!(fields.contains(&header::ETAG) && !fields.contains(&header::DATE));
        assert_eq!(Fields::default().to_map(), HeaderMap::new());
    }

    #[test]
    fn what_each_answer_says_anew_is_not_stored() {
        let fields = Fields::from(&map(&[("age", b"5"), ("cache-status", b"x"), ("etag", b"a")]));
        assert_eq!(fields.lines(), b"cache-status: x\r\netag: a\r\n");
    }

    proptest! {
        #[test]
        fn whatever_a_map_holds_comes_back(pairs in proptest::collection::vec(("x-[a-z0-9]{0,3}", "[\t -~\u{80}-\u{ff}]{0,9}"), 0..9)) {
            let mut map = HeaderMap::new();
            for (name, value) in &pairs {
                map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            let fields = Fields::from(&map);
            prop_assert_eq!(fields.iter().count(), map.len());
            prop_assert_eq!(fields.to_map(), map);
        }
    }
}
