//! Cross-origin answers from one stored copy: what `Access-Control-Allow-Origin` would have been.

use http::{HeaderMap, HeaderValue, header};

/// Browser origins that may read answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cors {
    exact: Vec<String>,
    /// `https://*.example.com` as scheme and suffix.
    wildcards: Vec<(String, String)>,
}

impl Cors {
    /// Sorts `https://shop.example.com` and `https://*.example.com` apart; `None` for none at all.
    pub fn new<S: AsRef<str>>(origins: impl IntoIterator<Item = S>) -> Option<Self> {
        let mut cors = Self::default();
        for origin in origins {
            match origin.as_ref().split_once("://*.") {
                Some((scheme, domain)) => cors.wildcards.push((format!("{scheme}://"), format!(".{domain}"))),
                None => cors.exact.push(origin.as_ref().to_owned()),
            }
        }
        (cors != Self::default()).then_some(cors)
    }

    /// Whether a browser at `origin` may read the answer. Origins are compared as they are sent: a
    /// browser sends lower case and no default port (RFC 6454 §6.2).
    pub fn allows(&self, origin: &str) -> bool {
        self.exact.iter().any(|exact| exact == origin)
            || self.wildcards.iter().any(|(scheme, domain)| {
                origin.strip_prefix(scheme.as_str()).and_then(|host| host.strip_suffix(domain.as_str())).is_some_and(
                    |label| {
                        !label.is_empty()
                            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
                    },
                )
            })
    }

    /// Sets the fields that depend on the asking origin; the rest is stored with the answer.
    pub fn apply(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        match origin.filter(|origin| origin.to_str().is_ok_and(|origin| self.allows(origin))) {
            Some(origin) => {
                headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            }
            None => {
                headers.remove(header::ACCESS_CONTROL_ALLOW_ORIGIN);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_origins_are_answered() {
        let cors = Cors::new(["https://shop.example", "https://*.cdn.example"]).unwrap();
        for (origin, allowed) in [
            ("https://shop.example", true),
            ("http://shop.example", false),
            ("https://shop.example.evil", false),
            ("https://a.cdn.example", true),
            ("https://a.b.cdn.example", true),
            ("https://.cdn.example", false),
            ("https://cdn.example", false),
            ("https://evil/.cdn.example", false),
            ("https://evilcdn.example", false),
            ("https://evil:1@a.cdn.example", false),
            ("https://a.cdn.example.evil", false),
            ("null", false),
            ("", false),
        ] {
            assert_eq!(cors.allows(origin), allowed, "{origin}");
        }
        assert_eq!(Cors::new::<&str>([]), None);
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("https://other"));
        cors.apply(None, &mut headers);
        assert!(headers.is_empty());
    }
}
