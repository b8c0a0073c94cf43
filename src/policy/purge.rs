//! Purges: orders to forget, in the order of one log.
//!
//! A purge is one line in a log and costs the same for one entry and for a million: no index from tags
//! to entries exists. Each entry carries its tags and the position of the log when its fill *began*
//! (`as_of`); it catches up with the log when it is next looked at.
//!
//! Invariant: an entry is valid when `as_of ≥ floor` and none of its tags was purged after `as_of`.

mod index;
mod marks;
mod radius;
mod seq;

pub use index::{PurgeIndex, concerns};
pub use radius::{soften, softens};
pub use seq::PurgeSeq;

use super::notice::Notice;
use super::tags::{TagHash, coarse_tag, kind_of};
use super::time::Timestamp;

/// How strongly a purge forgets. The later variant is the stronger one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// May be served stale while it is refreshed, for the grace; then as `Hard`.
    Soft,
    /// Must be refilled before it is served again; the body is kept for stale-if-error.
    Hard,
    /// Gone, not even served when the origin fails.
    Delete,
}

impl Mode {
    /// All modes, for the metrics.
    pub const ALL: [Self; 3] = [Self::Soft, Self::Hard, Self::Delete];

    /// The word for logs, labels and requests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Soft => "soft",
            Self::Hard => "hard",
            Self::Delete => "delete",
        }
    }

    /// The mode of a purge that is read so late that nobody knows how much is left of a grace.
    #[must_use]
    pub const fn without_grace(self) -> Self {
        match self {
            Self::Soft | Self::Hard => Self::Hard,
            Self::Delete => Self::Delete,
        }
    }

    /// The mode of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == word)
    }
}

/// One line of the log: what to forget and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Purge {
    /// The tags and their modes.
    pub tags: Vec<(String, Mode)>,
    /// Who ordered it: the webhook source, `operator`, `unsafe_method`.
    pub source: String,
    /// The sender's id for it, empty for none.
    pub event_id: String,
    /// What admin clients are told of it. A line may have nothing else.
    pub notices: Vec<Notice>,
}

impl Purge {
    /// Bytes of its tags and notices, about: what hashing it costs, and what a batch of such lines takes.
    pub fn bytes(&self) -> usize {
        let tags: usize = self.tags.iter().map(|(tag, _)| tag.len() + 16).sum();
        let ids =
            self.notices.iter().flat_map(|notice| notice.ids.iter().chain([&notice.event])).map(|id| id.len() + 16);
        tags + ids.sum::<usize>()
    }

    /// See [`Mode::without_grace`].
    #[must_use]
    pub fn without_grace(mut self) -> Self {
        self.tags.iter_mut().for_each(|(_, mode)| *mode = mode.without_grace());
        self
    }
}

/// A purge as the index takes it: hashed once, before the index is locked.
#[derive(Clone, Debug, Default)]
pub struct Marked {
    /// Each tag once with its strongest mode, sorted, and with each tag the coarse ones that entries with too many
    /// tags carry in its place.
    pub marks: Box<[(TagHash, Mode)]>,
    /// The tags of its deletions: they can be told by name to others who have lost them.
    pub deleted: Box<[String]>,
}

impl Marked {
    /// Hashes tags.
    pub fn of<'a>(tags: impl Iterator<Item = (&'a str, Mode)>) -> Self {
        let mut marks = Vec::with_capacity(2 * tags.size_hint().0 + 1);
        let (mut strongest, mut deleted) = (None, Vec::new());
        for (tag, mode) in tags {
            marks.extend([(TagHash::of(tag), mode), (coarse_tag(kind_of(tag)), mode)]);
            strongest = strongest.max(Some(mode));
            if mode == Mode::Delete {
                deleted.push(tag.to_owned());
            }
        }
        marks.extend(strongest.map(|mode| (coarse_tag(""), mode)));
        marks.sort_unstable_by(|a, b| (a.0, b.1).cmp(&(b.0, a.1)));
        marks.dedup_by_key(|(tag, _)| *tag);
        Self { marks: marks.into_boxed_slice(), deleted: deleted.into_boxed_slice() }
    }
}

impl From<Purge> for Marked {
    fn from(purge: Purge) -> Self {
        Self::of(purge.tags.iter().map(|(tag, mode)| (tag.as_str(), *mode)))
    }
}

/// What the index says of an entry. The later variant is the worse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purged {
    /// Nothing after its fill began.
    No,
    /// Softly: it may be served stale before this time.
    Soft {
        /// The end of the grace.
        until: Timestamp,
    },
    /// It must be refilled.
    Hard,
    /// It must not be served at all.
    Deleted,
}

impl Purged {
    /// The worse of two findings; of two soft ones the earlier end.
    #[must_use]
    pub fn or_worse(self, other: Self) -> Self {
        match (self, other) {
            (Self::Deleted, _) | (_, Self::Deleted) => Self::Deleted,
            (Self::Hard, _) | (_, Self::Hard) => Self::Hard,
            (Self::Soft { until: a }, Self::Soft { until: b }) => Self::Soft { until: a.min(b) },
            (soft @ Self::Soft { .. }, Self::No) | (Self::No, soft @ Self::Soft { .. }) => soft,
            (Self::No, Self::No) => Self::No,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tag_and_each_kind_is_marked_once_with_the_strongest_mode() {
        let tag = |tag: &str, mode| (tag.to_owned(), mode);
        let tags = vec![
            tag("prod_1", Mode::Soft),
            tag("prod_2", Mode::Hard),
            tag("prod_1", Mode::Hard),
            tag("list:a", Mode::Soft),
            tag("all", Mode::Soft),
        ];
        let marks = Marked::from(Purge { tags, ..Purge::default() }).marks;
        let named = [("prod_1", Mode::Hard), ("prod_2", Mode::Hard), ("list:a", Mode::Soft), ("all", Mode::Soft)];
        let coarse = [("prod_*", Mode::Hard), ("list:*", Mode::Soft), ("*", Mode::Hard)];
        let mut expected: Vec<_> =
            named.into_iter().chain(coarse).map(|(tag, mode)| (TagHash::of(tag), mode)).collect();
        expected.sort_unstable();
        assert_eq!(*marks, *expected);
        assert!(Marked::from(Purge::default()).marks.is_empty());
    }
}
