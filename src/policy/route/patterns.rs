//! Lists of names with prefixes.

/// A list of names in which a last `*` ends a prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patterns {
    exact: Vec<String>,
    prefixes: Vec<String>,
}

impl Patterns {
    /// Sorts the names into exact ones and prefixes.
    pub fn new<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Self {
        let mut patterns = Self::default();
        for name in names {
            match name.as_ref().strip_suffix('*') {
                Some(prefix) => patterns.prefixes.push(prefix.to_owned()),
                None => patterns.exact.push(name.as_ref().to_owned()),
            }
        }
        patterns.exact.sort_unstable();
        patterns
    }

    /// The names as they were given, the exact ones first.
    pub fn names(&self) -> impl Iterator<Item = String> {
        let prefixes = self.prefixes.iter().map(|prefix| format!("{prefix}*"));
        self.exact.iter().cloned().chain(prefixes)
    }

    /// Whether no name is in the list.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.prefixes.is_empty()
    }

    /// Whether every name is in the list.
    pub fn is_all(&self) -> bool {
        self.prefixes.iter().any(String::is_empty)
    }

    /// Whether a name is in the list.
    pub fn contains(&self, name: &str) -> bool {
        self.exact.binary_search_by(|exact| exact.as_str().cmp(name)).is_ok()
            || self.prefixes.iter().any(|prefix| name.starts_with(prefix.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_know_prefixes() {
        let patterns = Patterns::new(["utm_*", "gclid"]);
        assert!(patterns.contains("utm_source") && patterns.contains("gclid") && patterns.contains("utm_"));
        assert!(!patterns.contains("gclid2") && !patterns.contains("utm"));
    }
}
