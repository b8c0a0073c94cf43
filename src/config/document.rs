//! The user's file: its text, and where in it each value stands.

use std::ops::Range;
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::diagnostic::{FilePlace, Place, Problem};
use super::shape::{Path, Step};

/// Most mistakes of syntax that are reported: one slip makes many.
const SYNTAX_PROBLEMS_MAX: usize = 5;

/// A file that is TOML.
#[derive(Debug)]
pub(super) struct Document<'t> {
    name: Arc<str>,
    text: Arc<str>,
    spans: Spanned<DeTable<'t>>,
}

impl<'t> Document<'t> {
    /// Parses a text into its values and their places.
    pub(super) fn parse(name: &str, text: &'t str) -> Result<(Self, toml::Table), Vec<Problem>> {
        let (spans, errors) = DeTable::parse_recoverable(text);
        let document = Self { name: name.into(), text: text.into(), spans };
        if !errors.is_empty() {
            return Err(errors.iter().take(SYNTAX_PROBLEMS_MAX).map(|error| document.syntax(error)).collect());
        }
        match toml::Table::deserialize(Deserializer::from(document.spans.clone())) {
            Ok(table) => Ok((document, table)),
            // A number that is too large is syntax to TOML and an error only to its reader.
            Err(error) => Err(vec![document.syntax(&error)]),
        }
    }

    fn syntax(&self, error: &toml::de::Error) -> Problem {
        let span = error.span().unwrap_or(0..0);
        let message = error.message().lines().collect::<Vec<_>>().join("; ");
        Problem { key: String::new(), message, help: None, place: self.place(span, false) }
    }

    /// Where the key of a path, or its value, stands; `None` when the file does not have it.
    pub(super) fn find(&self, path: &Path, at_key: bool, secret: bool) -> Option<Place> {
        let (key, value) = self.spans(path)?;
        let span = match key {
            Some(key) if at_key => key,
            _ => value,
        };
        Some(self.place(span, secret))
    }

    /// The nearest thing above a path that the file has.
    pub(super) fn above(&self, path: &Path) -> Option<Place> {
        let parent = path.parent()?;
        self.find(&parent, true, false).or_else(|| self.above(&parent))
    }

    /// The spans of key and value; an element of a list has no key.
    fn spans(&self, path: &Path) -> Option<(Option<Range<usize>>, Range<usize>)> {
        let (first, rest) = path.steps().split_first()?;
        let Step::Key(first) = first else { return None };
        let (mut key, mut value) = entry(self.spans.get_ref(), first)?;
        for step in rest {
            (key, value) = match (step, value.get_ref()) {
                (Step::Key(name), DeValue::Table(table)) => entry(table, name)?,
                (Step::Index(index), DeValue::Array(list)) => (None, list.get(*index)?),
                _ => return None,
            };
        }
        Some((key, value.span()))
    }

    fn place(&self, span: Range<usize>, secret: bool) -> Place {
        Place::File(FilePlace::new(&self.name, &self.text, span, secret))
    }
}

type Entry<'d, 't> = (Option<Range<usize>>, &'d Spanned<DeValue<'t>>);

fn entry<'d, 't>(table: &'d DeTable<'t>, name: &str) -> Option<Entry<'d, 't>> {
    let (key, value) = table.iter().find(|(key, _)| key.get_ref().as_ref() == name)?;
    Some((Some(key.span()), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_its_place() {
        let text = "a = 1\n[b.\"c d\"]\ne = ['x', 'yy']\n[[f]]\ng = 2\n[[f]]\ng = 3\n";
        let (document, _) = Document::parse("f", text).unwrap();
        let check = |path: Path, at_key: bool, line: usize, column: usize| {
            let Some(Place::File(place)) = document.find(&path, at_key, false) else { panic!("{path}") };
            assert_eq!((place.line(), place.column()), (line, column), "{path}");
        };
        check(Path::of(&["a"]), false, 1, 5);
        check(Path::of(&["a"]), true, 1, 1);
        check(Path::of(&["b", "c d", "e"]).index(1), false, 3, 11);
        check(Path::of(&["f"]).index(1).key("g"), false, 7, 5);
        assert!(document.find(&Path::of(&["a", "b"]), false, false).is_none());
        assert!(document.above(&Path::of(&["b", "c d", "x", "y"])).is_some());
        assert!(document.above(&Path::of(&["x"])).is_none());
    }

    #[test]
    fn mistakes_of_syntax_have_places_too() {
        for text in ["a = ", "a = 1\na = 2", "a = 99999999999999999999", "[a\n", "\u{0}", "a = \"x\nb = 1"] {
            let problems = Document::parse("f", text).unwrap_err();
            assert!(!problems.is_empty() && problems.len() <= SYNTAX_PROBLEMS_MAX, "{text:?}");
            assert!(problems.iter().all(|problem| matches!(problem.place, Place::File(_))), "{text:?}");
        }
    }
}
