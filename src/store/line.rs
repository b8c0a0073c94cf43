//! How a purge is written, in the log and in the journal: JSON, readable for an operator with XRANGE.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::policy::notice::Notice;
use crate::policy::purge::{Mode, Purge};

/// A purge as it is written. It borrows from the text that it is read from: of a long log most is hashed and then of no
/// more use.
#[derive(Debug, Serialize, Deserialize)]
pub struct Line<'a> {
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    soft: Vec<Text<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    hard: Vec<Text<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    delete: Vec<Text<'a>>,
    /// See [`Purge::source`].
    #[serde(borrow, default)]
    pub source: Cow<'a, str>,
    /// See [`Purge::event_id`].
    #[serde(borrow, default, rename = "id", skip_serializing_if = "str::is_empty")]
    pub event_id: Cow<'a, str>,
    /// See [`Purge::notices`].
    #[serde(default, rename = "events", skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<Notice>,
}

/// A tag. In a list it has to be said of each that it borrows.
#[derive(Debug, Serialize, Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The field under which the log holds what [`encode`] writes: its version. A line without it is not read.
pub const FIELD: &str = "v1";

impl Line<'_> {
    /// The tags and their modes.
    pub fn tags(&self) -> impl Iterator<Item = (&str, Mode)> {
        self.tags_of(Mode::Soft).chain(self.tags_of(Mode::Hard)).chain(self.tags_of(Mode::Delete))
    }

    /// The tags of one mode.
    pub fn tags_of(&self, mode: Mode) -> impl ExactSizeIterator<Item = (&str, Mode)> {
        let tags = match mode {
            Mode::Soft => &self.soft,
            Mode::Hard => &self.hard,
            Mode::Delete => &self.delete,
        };
        tags.iter().map(move |tag| (&*tag.0, mode))
    }
}

impl From<Line<'_>> for Purge {
    fn from(line: Line<'_>) -> Self {
        let tags = line.tags().map(|(tag, mode)| (tag.to_owned(), mode)).collect();
        Self { tags, source: line.source.into_owned(), event_id: line.event_id.into_owned(), notices: line.notices }
    }
}

/// Writes a purge.
pub fn encode(purge: &Purge) -> String {
    let of = |mode| {
        let tags = purge.tags.iter().filter(move |(_, with)| *with == mode);
        tags.map(|(tag, _)| Text(Cow::Borrowed(tag))).collect()
    };
    let line = Line {
        soft: of(Mode::Soft),
        hard: of(Mode::Hard),
        delete: of(Mode::Delete),
        source: Cow::Borrowed(&purge.source),
        event_id: Cow::Borrowed(&purge.event_id),
        notices: purge.notices.clone(),
    };
    serde_json::to_string(&line).expect("strings are JSON")
}

/// Reads a purge; `None` for what [`encode`] did not write, as far as can be told. A field that is not known is passed
/// over: a later version may have added it.
pub fn decode(bytes: &[u8]) -> Option<Line<'_>> {
    // A list would be taken for the fields in order.
    let mut line: Line<'_> = serde_json::from_slice(Some(bytes).filter(|text| text.starts_with(b"{"))?).ok()?;
    if line.tags().next().is_none() && line.notices.is_empty() && line.source.is_empty() {
        return None;
    }
    // Anybody may have written it.
    line.notices = line.notices.into_iter().map(Notice::bounded).collect();
    Some(line)
}
