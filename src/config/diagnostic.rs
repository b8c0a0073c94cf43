//! Problems: what is wrong, where it stands, and what would be right.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};

/// One thing that is wrong with the configuration.
#[derive(Clone, Debug)]
pub struct Problem {
    /// The key, as it would be written with dots; empty where the text is not TOML at all.
    pub key: String,
    /// What is wrong, with the value unless it is secret.
    pub message: String,
    /// What may have been meant.
    pub help: Option<String>,
    /// Where the value came from.
    pub place: Place,
}

/// Where a value came from.
#[derive(Clone, Debug)]
pub enum Place {
    /// A file of the user's.
    File(FilePlace),
    /// An environment variable.
    Variable(String),
    /// A preset, by its name.
    Preset(String),
    /// Nothing was given.
    Nowhere,
}

/// A place in a file.
#[derive(Clone, Debug)]
pub struct FilePlace {
    name: Arc<str>,
    text: Arc<str>,
    span: Range<usize>,
    show: bool,
}

impl FilePlace {
    /// A span of a text. It is moved to the letters it touches; nothing is shown where a secret may stand.
    pub(super) fn new(name: &Arc<str>, text: &Arc<str>, span: Range<usize>, secret: bool) -> Self {
        let start = floor(text, span.start);
        let end = floor(text, span.end.max(start));
        let end_of_line = text.get(end..).and_then(|rest| rest.find('\n')).map_or(text.len(), |length| end + length);
        let lines = text.get(line_start(text, start)..end_of_line).unwrap_or("");
        let show = !secret && !holds_secret(lines);
        Self { name: name.clone(), text: text.clone(), span: start..end, show }
    }

    /// The file's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The line, from 1.
    pub fn line(&self) -> usize {
        1 + self.before().bytes().filter(|byte| *byte == b'\n').count()
    }

    /// The column in characters, from 1.
    pub fn column(&self) -> usize {
        let start = line_start(&self.text, self.span.start);
        1 + self.before().get(start..).unwrap_or("").chars().count()
    }

    fn before(&self) -> &str {
        self.text.get(..self.span.start).unwrap_or("")
    }
}

/// The last position at or before this one where a letter begins.
fn floor(text: &str, position: usize) -> usize {
    let position = position.min(text.len());
    (0..=position).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

fn line_start(text: &str, position: usize) -> usize {
    text.get(..position).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1)
}

/// Whether a line may hold a secret. Terminals and logs keep what an error shows, so in doubt it shows none.
pub(super) fn holds_secret(line: &str) -> bool {
    ["secret", "token", "password", "integrity_key", "whsec_", "redis://"].iter().any(|word| line.contains(word))
}

impl Problem {
    /// `listen.h2c: this is the number 1, not true or false`.
    fn title(&self) -> String {
        match self.key.as_str() {
            "" => self.message.clone(),
            key => format!("{key}: {}", self.message),
        }
    }

    fn render(&self, renderer: &Renderer) -> String {
        let title = Level::ERROR.primary_title(self.title());
        let group = match &self.place {
            Place::File(place) if place.show => {
                let marked = AnnotationKind::Primary.span(place.span.clone());
                title.element(Snippet::source(&*place.text).path(&*place.name).annotation(marked))
            }
            Place::File(place) => {
                let origin = Origin::path(&*place.name).line(place.line()).char_column(place.column());
                title.element(origin)
            }
            Place::Variable(name) => title.element(Level::NOTE.message(format!("from the environment: {name}"))),
            Place::Preset(name) => title.element(Level::NOTE.message(format!("from the preset {name:?}"))),
            Place::Nowhere => title.element(Level::NOTE.message("neither the file nor the environment gives it")),
        };
        let help = self.help.as_ref().map(|help| {
            let plain = help.chars().filter(|letter| !letter.is_control()).collect::<String>();
            Level::HELP.message(plain)
        });
        renderer.render(&[group.elements(help)])
    }
}

/// Everything that was found wrong; never empty.
#[derive(Clone, Debug)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Sorts the problems as a person goes through them: from the top of the file, then what stands elsewhere.
    pub(super) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| match &problem.place {
            Place::File(place) => (0, place.span.start),
            Place::Variable(_) | Place::Preset(_) | Place::Nowhere => (1, 0),
        });
        Self(problems)
    }

    /// The problems, those of the file first and in its order.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    /// All problems for a person to read, with the lines they stand on; with colour for a terminal.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let all: Vec<String> = self.0.iter().map(|problem| problem.render(&renderer)).collect();
        all.join("\n\n")
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str, span: Range<usize>, secret: bool) -> Problem {
        let place = FilePlace::new(&"proxy.toml".into(), &text.into(), span, secret);
        Problem { key: "a.b".into(), message: "no".into(), help: Some("yes".into()), place: Place::File(place) }
    }

    #[test]
    fn a_problem_shows_file_line_column_and_what_would_be_right() {
        let text = "[a]\nä = 1\nb = 'x'\n";
        let start = text.find("'x'").unwrap();
        let shown = Problems::new(vec![problem(text, start..start + 3, false)]).to_string();
        let expected = "error: a.b: no\n --> proxy.toml:3:5\n  |\n3 | b = 'x'\n  |     ^^^\n  |\n  = help: yes";
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_line_that_may_hold_a_secret_is_not_shown() {
        for (text, secret) in [("b = 'hunter2'", true), ("token = 'hunter2'", false), ("x = 'whsec_hunter2", false)] {
            let shown = Problems::new(vec![problem(text, 4..7, secret)]).to_string();
            assert!(!shown.contains("hunter2") && shown.contains("proxy.toml:1:5"), "{shown}");
        }
    }

    #[test]
    fn any_span_of_any_text_can_be_shown() {
        for text in ["", "é", "a\r\nb", "\n\n", "x = \"\u{1b}[31m\""] {
            for start in 0..text.len() + 2 {
                for end in 0..text.len() + 2 {
                    let problems = Problems::new(vec![problem(text, start..end, false)]);
                    assert!(problems.render(true).contains("a.b"));
                }
            }
        }
    }
}
