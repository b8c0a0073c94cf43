//! What a request with an unsafe method makes the cache forget (RFC 9111 §4.4).

use http::{HeaderMap, Method, StatusCode, header};

/// Whether an answer to this method may have changed what the origin would say. A method that nobody knows
/// may do anything.
pub fn is_unsafe(method: &Method) -> bool {
    ![Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE].contains(method)
}

/// The paths whose answers an unsafe request has made doubtful: its own, and those in `Location` and
/// `Content-Location` if they are of the same host, by one of its names. An error has changed nothing.
pub fn invalidated(path: &str, hosts: &[&str], status: StatusCode, answer: &HeaderMap) -> Vec<String> {
    if !(status.is_success() || status.is_redirection()) {
        return Vec::new();
    }
    let mut paths = vec![path.to_owned()];
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        let references = answer.get_all(name).iter().filter_map(|value| value.to_str().ok());
        paths.extend(references.filter_map(|reference| resolved(reference, path, hosts)));
    }
    paths.sort_unstable();
    paths.dedup();
    paths
}

/// The path that a reference means beside `base` (RFC 3986 §5.2); `None` for another host's.
fn resolved(reference: &str, base: &str, hosts: &[&str]) -> Option<String> {
    let reference = reference.split(['?', '#']).next().unwrap_or("").trim();
    let rest = ["http://", "https://", "//"].iter().find_map(|start| {
        let head = reference.get(..start.len())?;
        head.eq_ignore_ascii_case(start).then(|| reference.get(start.len()..))?
    });
    let path = match rest {
        Some(rest) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let plain = |authority: &str| {
                let lower = authority.to_ascii_lowercase();
                lower.strip_suffix(":80").or_else(|| lower.strip_suffix(":443")).unwrap_or(&lower).to_owned()
            };
            if !hosts.iter().any(|host| plain(authority) == plain(host)) {
                return None;
            }
            if path.is_empty() { "/".to_owned() } else { path.to_owned() }
        }
        None if reference.is_empty() => base.to_owned(),
        None if reference.starts_with('/') => reference.to_owned(),
        // Another scheme's (`mailto:`), or a segment with a colon, which no relative reference begins with.
        None if reference.split('/').next().is_some_and(|first| first.contains(':')) => return None,
        None => format!("{}{reference}", base.get(..=base.rfind('/')?)?),
    };
    Some(without_dots(&path))
}

/// Takes `.` and `..` out of a path (RFC 3986 §5.2.4).
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if is_last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(status: u16, pairs: &[(header::HeaderName, &str)]) -> Vec<String> {
        let headers = pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        invalidated("/a/b", &["shop.example", "backend:9000"], StatusCode::from_u16(status).unwrap(), &headers)
    }

    #[test]
    fn only_success_makes_anything_doubtful() {
        for status in [200, 201, 204, 303, 307] {
            assert_eq!(of(status, &[]), ["/a/b"], "{status}");
        }
        for status in [400, 404, 409, 500, 503] {
            assert!(of(status, &[(header::LOCATION, "/c")]).is_empty(), "{status}");
        }
    }

    #[test]
    fn safe_methods_change_nothing_and_unknown_ones_may() {
        let is = |method: &str| is_unsafe(&Method::from_bytes(method.as_bytes()).unwrap());
        assert!(is("POST") && is("PUT") && is("DELETE") && is("PATCH") && is("M-SEARCH") && is("get"));
        assert!(!is("GET") && !is("HEAD") && !is("OPTIONS") && !is("TRACE"));
    }

    #[test]
    fn references_are_resolved_and_other_hosts_left_alone() {
        for (reference, expected) in [
            ("/c/d?x=1#y", Some("/c/d")),
            ("c", Some("/a/c")),
            ("", Some("/a/b")),
            ("?page=2", Some("/a/b")),
            ("../c", Some("/c")),
            ("../../../c", Some("/c")),
            ("./", Some("/a/")),
            ("/c/./d/..", Some("/c/")),
            ("http://shop.example/c", Some("/c")),
            ("HTTPS://Shop.Example:443/c", Some("/c")),
            ("//shop.example/c", Some("/c")),
            ("http://shop.example", Some("/")),
            ("http://backend:9000/c", Some("/c")),
            ("http://backend/c", None),
            ("http://shop.example.evil/c", None),
            ("http://other/c", None),
            ("http://user@shop.example/c", None),
            ("mailto:a@b", None),
        ] {
            let mut due: Vec<String> = expected.into_iter().chain(["/a/b"]).map(str::to_owned).collect();
            due.sort_unstable();
            due.dedup();
            assert_eq!(of(201, &[(header::LOCATION, reference)]), due, "{reference}");
            assert_eq!(of(201, &[(header::CONTENT_LOCATION, reference)]), due, "{reference}");
        }
    }

    proptest! {
        #[test]
        fn no_reference_panics(reference in "\\PC{0,24}|[./:?#a]{0,12}|https?://[./:@a]{0,12}") {
            if let Some(path) = resolved(&reference, "/a/b", &["a"]) {
                prop_assert!(path.starts_with('/'));
            }
        }
    }
}
