//! The last purges, for people: when each came to this node, and when it had applied it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use crate::policy::purge::PurgeSeq;
use crate::policy::time::Timestamp;

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
    /// A purge was read in the log, and is about to be applied.
    pub fn read(&self, seq: PurgeSeq, source: String, event_id: String, tags: usize, at: Timestamp) {
        self.add(Line { seq, source, event_id, tags, taken: None, read: Some(at), applied: None });
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
        let (source, event_id) = (source.to_owned(), event_id.to_owned());
        self.add(Line { seq, source, event_id, tags, taken: Some(taken), read: None, applied: Some(at) });
    }

    /// The purge at a position has been applied.
    pub fn applied(&self, seq: PurgeSeq, at: Timestamp) {
        self.change(seq, |line| line.applied = Some(at));
    }

    /// This node took the order for the purge at a position.
    pub fn taken(&self, seq: PurgeSeq, at: Timestamp) {
        self.change(seq, |line| line.taken = Some(at));
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

    fn add(&self, mut line: Line) {
        for name in [&mut line.source, &mut line.event_id] {
            name.truncate(name.floor_char_boundary(NAME_BYTES_MAX));
        }
        let mut lines = self.lines();
        if lines.len() == LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// What has been forgotten since is not missed.
    fn change(&self, seq: PurgeSeq, change: impl FnOnce(&mut Line)) {
        if let Some(line) = self.lines().iter_mut().rfind(|line| line.seq == seq) {
            change(line);
        }
    }

    fn lines(&self) -> MutexGuard<'_, VecDeque<Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_are_shown_newest_first_and_no_more_than_that() {
        let recent = Recent::default();
        let (seq, at) = (|n| PurgeSeq::new(n, 0).unwrap(), Timestamp::from_millis);
        for n in 1..=20 {
            recent.read(seq(n), "default".into(), "\u{e4}".repeat(NAME_BYTES_MAX), 2, at(n + 1));
        }
        recent.applied(seq(20), at(22));
        recent.taken(seq(20), at(19));
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
        assert_eq!((&shown[1]["taken"], &shown[1]["read"], &shown[1]["applied"]), (&json!(19), &json!(21), &json!(22)));
        assert_eq!((&shown[2]["taken"], &shown[2]["applied"]), (&Value::Null, &Value::Null));
        assert_eq!(shown[1]["event_id"].as_str().unwrap().len(), NAME_BYTES_MAX);
        assert_eq!(shown[LINES_MAX - 1]["position"], "6-0");
    }
}
