//! Text with names to fill in.

use std::borrow::Cow;
use std::fmt;

/// Text with `{names}` to fill in: `list:product`, `key:{header:x-publishable-api-key}`, `{id}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<TemplatePart>,
}

/// A piece of a [`Template`].
#[derive(Clone, Debug, PartialEq, Eq)]
enum TemplatePart {
    /// As it stands.
    Text(String),
    /// The name between braces.
    Name(String),
}

impl Template {
    /// Parses `text{name}text`.
    ///
    /// # Errors
    /// Says what is wrong: an empty text, a brace that is not closed or not opened, an empty name.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("a tag may not be empty".into());
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            match rest.split_once('{') {
                None if rest.contains('}') => return Err(format!("`}}` without `{{` in {text:?}")),
                None => {
                    parts.push(TemplatePart::Text(rest.to_owned()));
                    break;
                }
                Some((before, after)) => {
                    if before.contains('}') {
                        return Err(format!("`}}` without `{{` in {text:?}"));
                    }
                    if !before.is_empty() {
                        parts.push(TemplatePart::Text(before.to_owned()));
                    }
                    let Some((name, after)) = after.split_once('}') else {
                        return Err(format!("`{{` without `}}` in {text:?}"));
                    };
                    if name.is_empty() || name.contains('{') {
                        return Err(format!("`{{{name}}}` is no name in {text:?}"));
                    }
                    parts.push(TemplatePart::Name(name.to_owned()));
                    rest = after;
                }
            }
        }
        Ok(Self { parts })
    }

    /// The names to fill in, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            TemplatePart::Name(name) => Some(name.as_str()),
            TemplatePart::Text(_) => None,
        })
    }

    /// Fills in the names; `None` when one of them has no value.
    pub fn expand<'v>(&self, mut value: impl FnMut(&str) -> Option<Cow<'v, str>>) -> Option<String> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                TemplatePart::Text(literal) => text.push_str(literal),
                TemplatePart::Name(name) => text.push_str(&value(name)?),
            }
        }
        Some(text)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            match part {
                TemplatePart::Text(literal) => f.write_str(literal)?,
                TemplatePart::Name(name) => write!(f, "{{{name}}}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_expand_or_say_why_not() {
        let template = Template::parse("key:{header:x}-{b}").unwrap();
        assert_eq!(template.expand(|name| Some(name.to_uppercase().into())).unwrap(), "key:HEADER:X-B");
        assert_eq!(template.expand(|_| None), None);
        assert_eq!(template.to_string(), "key:{header:x}-{b}");
        for text in ["", "{", "}", "{}", "a{b", "a}b{c}", "{a{b}}"] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }
}
