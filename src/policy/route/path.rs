//! Paths of routes.

/// A path of a route: literal segments, `{name}` for one segment, and a last `{name*}` for all that follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    text: String,
    segments: Vec<Segment>,
    /// Bytes of `text` before its first parameter: most paths differ in these already.
    literal: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Parameter,
    /// Whatever follows, nothing included.
    Rest,
}

impl PathPattern {
    /// Parses `/store/products/{id}`.
    ///
    /// # Errors
    /// Says what is wrong: no leading slash, an empty segment, a byte that a plain path cannot hold.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err(format!("a path begins with `/`, {text:?} does not"));
        };
        let mut segments = Vec::new();
        if !rest.is_empty() {
            for segment in rest.split('/') {
                if segments.last() == Some(&Segment::Rest) {
                    return Err(format!("`{{…*}}` stands for all that follows, so it comes last in {text:?}"));
                }
                let parameter = segment.strip_prefix('{').and_then(|inner| inner.strip_suffix('}'));
                let (parameter, kind) = match parameter.and_then(|name| name.strip_suffix('*')) {
                    Some(name) => (Some(name), Segment::Rest),
                    None => (parameter, Segment::Parameter),
                };
                segments.push(match parameter {
                    Some(name) if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') => {
                        kind
                    }
                    Some(name) => return Err(format!("`{{{name}}}` is no parameter name in {text:?}")),
                    None if is_plain_segment(segment.as_bytes()) => Segment::Literal(segment.to_owned()),
                    None => {
                        return Err(format!(
                            "the segment {segment:?} of {text:?} is not plain: letters, digits, `-`, `_`, `.` and `~`, not empty, not dots alone"
                        ));
                    }
                });
            }
        }
        let literal = text.find('{').unwrap_or(text.len());
        Ok(Self { text: text.to_owned(), segments, literal })
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it matches all paths below some point, whatever bytes they hold.
    pub fn is_open(&self) -> bool {
        self.segments.last() == Some(&Segment::Rest)
    }

    /// Whether the path, as it would be forwarded, matches. A parameter matches one plain segment.
    pub fn matches(&self, path: &str) -> bool {
        let Some(rest) = path.as_bytes().strip_prefix(&self.text.as_bytes()[..self.literal]) else { return false };
        if self.literal == self.text.len() {
            return rest.is_empty();
        }
        // The first parameter begins where the literal bytes end.
        let mut pieces = rest.split(|byte| *byte == b'/');
        for segment in self.segments.iter().skip_while(|segment| matches!(segment, Segment::Literal(_))) {
            match (segment, pieces.next()) {
                (Segment::Literal(literal), Some(piece)) if piece == literal.as_bytes() => {}
                (Segment::Parameter, Some(piece)) if is_plain_segment(piece) => {}
                (Segment::Rest, Some(_)) => return true,
                _ => return false,
            }
        }
        pieces.next().is_none()
    }

    /// Whether some path matches both patterns and neither is the more special one.
    pub fn conflicts_with(&self, other: &Self) -> bool {
        self.rank() == other.rank()
            && self.segments.len() == other.segments.len()
            && self.segments.iter().zip(&other.segments).all(|pair| match pair {
                (Segment::Literal(a), Segment::Literal(b)) => a == b,
                _ => true,
            })
    }

    /// Sorts the more special pattern first: a literal segment before a parameter, from the left.
    pub(super) fn rank(&self) -> Vec<u8> {
        let rank = |segment: &Segment| match segment {
            Segment::Literal(_) => 0,
            Segment::Parameter => 1,
            Segment::Rest => 2,
        };
        self.segments.iter().map(rank).collect()
    }
}

/// A segment that no server reads in two ways: unreserved characters (RFC 3986 §2.3), not empty, not `.` or `..`.
fn is_plain_segment(segment: &[u8]) -> bool {
    segment.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~'))
        && segment.iter().any(|byte| *byte != b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        PathPattern::parse(pattern).unwrap().matches(path)
    }

    #[test]
    fn a_path_matches_only_as_it_is_forwarded() {
        assert!(matches("/store/products", "/store/products"));
        assert!(matches("/store/products/{id}", "/store/products/prod_01A"));
        assert!(matches("/", "/"));
        for path in [
            "/store/products/",
            "/Store/products",
            "//store/products",
            "/store/./products",
            "/store/%70roducts",
            "/store/products/..",
            "/store",
            "/store/products/a/b",
            "",
            "store/products",
        ] {
            assert!(!matches("/store/products", path), "{path}");
        }
        for id in ["", ".", "..", "a%2fb", "a%5Fb", "a;b", "a\\b", "a b", "é"] {
            assert!(!matches("/store/products/{id}", &format!("/store/products/{id}")), "{id}");
        }
    }

    #[test]
    fn an_open_pattern_matches_all_that_follows() {
        for path in ["/files/", "/files/a", "/files/a/b%20c", "/files//a/../b"] {
            assert!(matches("/files/{path*}", path), "{path}");
        }
        for path in ["/files", "/file/a", "files/a", ""] {
            assert!(!matches("/files/{path*}", path), "{path}");
        }
        assert!(matches("/{path*}", "/") && matches("/{path*}", "/a/b"));
    }

    #[test]
    fn a_pattern_says_what_is_wrong_with_it() {
        for text in ["", "store", "/a//b", "/a/{}", "/a/{b", "/a/../b", "/a/%20", "/{*}", "/{a*}/b", "/a{b*}"] {
            assert!(PathPattern::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn two_patterns_conflict_only_when_neither_is_more_special() {
        let pattern = |text| PathPattern::parse(text).unwrap();
        assert!(pattern("/a/{b}").conflicts_with(&pattern("/a/{c}")));
        assert!(!pattern("/a/{b}").conflicts_with(&pattern("/a/b")));
        assert!(!pattern("/a/{b}").conflicts_with(&pattern("/b/{b}")));
        assert!(!pattern("/{a}/b").conflicts_with(&pattern("/a/{b}")));
    }
}
