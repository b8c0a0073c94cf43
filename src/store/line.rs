//! How a purge is written, in the log and in the journal: JSON, readable for an operator with XRANGE.

use serde::{Deserialize, Serialize};

use crate::policy::notice::Notice;
use crate::policy::purge::{Mode, Purge};

#[derive(Debug, Default, Serialize, Deserialize)]
struct Line {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    soft: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    hard: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    delete: Vec<String>,
    #[serde(default)]
    source: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    id: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    events: Vec<Notice>,
}

/// The field under which the log holds what [`encode`] writes: its version. A line without it is not read.
pub const FIELD: &str = "v1";

/// Writes a purge.
pub fn encode(purge: &Purge) -> String {
    let of = |mode| purge.tags.iter().filter(move |(_, with)| *with == mode).map(|(tag, _)| tag.clone()).collect();
    let line = Line {
        soft: of(Mode::Soft),
        hard: of(Mode::Hard),
        delete: of(Mode::Delete),
        source: purge.source.clone(),
        id: purge.event_id.clone(),
        events: purge.notices.clone(),
    };
    serde_json::to_string(&line).expect("strings are JSON")
}

/// Reads a purge; `None` for what [`encode`] did not write, as far as can be told. A field that is not known is passed
/// over: a later version may have added it.
pub fn decode(bytes: &[u8]) -> Option<Purge> {
    // A list would be taken for the fields in order.
    let line: Line = serde_json::from_slice(Some(bytes).filter(|text| text.starts_with(b"{"))?).ok()?;
    let says_nothing = line.soft.is_empty() && line.hard.is_empty() && line.delete.is_empty() && line.events.is_empty();
    if says_nothing && line.source.is_empty() {
        return None;
    }
    let with = |mode| move |tag| (tag, mode);
    let tags = line.soft.into_iter().map(with(Mode::Soft));
    let tags = tags.chain(line.hard.into_iter().map(with(Mode::Hard)));
    let tags = tags.chain(line.delete.into_iter().map(with(Mode::Delete))).collect();
    // Anybody may have written it.
    let notices = line.events.into_iter().map(Notice::bounded).collect();
    Some(Purge { tags, source: line.source, event_id: line.id, notices })
}
