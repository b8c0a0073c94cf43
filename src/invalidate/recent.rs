//! The last purges, for people: when each came to this node, and when it had applied it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use crate::policy::purge::PurgeSeq;
use crate::policy::time::Timestamp;
use crate::store::line;

/// Purges that are remembered.
const LINES_MAX: usize = 16;
/// Bytes of a name in a line that are shown: anybody may write to Redis.
const NAME_BYTES_MAX: usize = 256;

/// The last purges that this node has applied. Nothing on the way of a request knows it.
#[derive(Debug, Default)]
pub struct Recent {
    lines: Mutex<VecDeque<Line>>,
}

/// One of them.
#[derive(Debug)]
struct Line {
    seq: PurgeSeq,
    source: String,
    event_id: String,
    tags: usize,
    /// This node took the order.
    taken: Option<Timestamp>,
    /// It read the line in the log.
    read: Option<Timestamp>,
    applied: Option<Timestamp>,
}

impl Recent {
    /// Purges were read in the log, in this order, and are about to be applied.
    pub fn read<'a>(&self, purges: impl DoubleEndedIterator<Item = (PurgeSeq, &'a line::Line<'a>)>, at: Timestamp) {
        // Of a long log most would be forgotten at once.
        let last: Vec<_> = purges.rev().take(LINES_MAX).collect();
        for (seq, purge) in last.into_iter().rev() {
            let (source, event_id, tags) = (shown(&purge.source), shown(&purge.event_id), purge.tags().count());
            self.add(Line { seq, source, event_id, tags, taken: None, read: Some(at), applied: None });
        }
    }

    /// A purge that the log does not hold was applied on this node alone.
    pub fn applied_here(
        &self,
        seq: PurgeSeq,
        source: &str,
        event_id: &str,
        tags: usize,
        taken: Timestamp,
        at: Timestamp,
    ) {
        let (source, event_id) = (shown(source), shown(event_id));
        self.add(Line { seq, source, event_id, tags, taken: Some(taken), read: None, applied: Some(at) });
    }

    /// What was read up to a position has been applied.
    pub fn applied_up_to(&self, seq: PurgeSeq, at: Timestamp) {
        for line in self.lines().iter_mut().filter(|line| line.seq <= seq) {
            line.applied.get_or_insert(at);
        }
    }

    /// This node took the order for the purge at a position. One that has been forgotten since is not missed.
    pub fn taken(&self, seq: PurgeSeq, at: Timestamp) {
        if let Some(line) = self.lines().iter_mut().rfind(|line| line.seq == seq) {
            line.taken = Some(at);
        }
    }

    /// The newest first, times in milliseconds since 1970 as in positions, and what is `told` of each downstream.
    pub fn to_json(&self, told: impl Fn(PurgeSeq) -> Value) -> Value {
        let show = |line: &Line| {
            let millis = |at: Option<Timestamp>| at.map(Timestamp::as_millis);
            json!({
                "position": line.seq.to_string(),
                "source": line.source,
                "event_id": line.event_id,
                "tags": line.tags,
                "taken": millis(line.taken),
                "read": millis(line.read),
                "applied": millis(line.applied),
                "told": told(line.seq),
            })
        };
        self.lines().iter().rev().map(show).collect()
    }

    fn add(&self, line: Line) {
        let mut lines = self.lines();
        if lines.len() == LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    fn lines(&self) -> MutexGuard<'_, VecDeque<Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shown(name: &str) -> String {
    name.get(..name.floor_char_boundary(NAME_BYTES_MAX)).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_are_shown_newest_first_and_no_more_than_that() {
        let recent = Recent::default();
        let (seq, at) = (|n| PurgeSeq::new(n, 0).unwrap(), Timestamp::from_millis);
        let id = "\u{e4}".repeat(NAME_BYTES_MAX);
        let text = json!({ "hard": ["a"], "soft": ["b"], "source": "default", "id": id }).to_string();
        let purge = line::decode(text.as_bytes()).unwrap();
        recent.read((1..=18).map(|n| (seq(n), &purge)), at(19));
        recent.applied_up_to(seq(18), at(20));
        recent.read((19..=20).map(|n| (seq(n), &purge)), at(21));
        recent.applied_up_to(seq(19), at(22));
        recent.taken(seq(20), at(18));
        // Long forgotten.
        recent.taken(seq(1), at(1));
        recent.applied_here(seq(20).next_local(), "purge", "msg", 1, at(30), at(31));
        let shown = recent.to_json(|seq| json!({ "edge": seq.n() }));
        assert_eq!(shown.as_array().unwrap().len(), LINES_MAX);
        let expected = json!({
            "position": "20-0+1", "source": "purge", "event_id": "msg", "tags": 1, "taken": 30, "read": null, "applied": 31,
            "told": { "edge": 0 },
        });
        assert_eq!(shown[0], expected);
        let times = |n: usize| ["taken", "read", "applied"].map(|time| shown[n][time].as_u64());
        assert_eq!(times(1), [Some(18), Some(21), None]);
        assert_eq!((times(2), times(3)), ([None, Some(21), Some(22)], [None, Some(19), Some(20)]));
        assert_eq!(shown[1]["event_id"].as_str().unwrap().len(), NAME_BYTES_MAX);
        assert_eq!(shown[LINES_MAX - 1]["position"], "6-0");
    }
}
