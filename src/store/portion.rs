//! How much of the log is read at a time.

use super::LogLine;

/// What one read of the log brings, at the most. Redis counts lines alone, so the bytes are held by asking for few lines
/// where they are long: a read asks for twice as many as the one before it, as long as that many of the longest line in
/// that one have no more than so many bytes. Where the first reads of a reader are short, so is what long lines make of them.
#[derive(Clone, Copy, Debug)]
pub struct Portion {
    /// Lines.
    pub lines: usize,
    /// Bytes, as [`LogLine::bytes`] counts them.
    pub bytes: usize,
}

impl Portion {
    /// How many lines to ask for after a read that asked for `most` and brought these.
    pub fn after(self, lines: &[LogLine], most: usize) -> usize {
        let longest = lines.iter().map(LogLine::bytes).max().unwrap_or(0);
        (self.bytes / longest.max(1)).clamp(1, (most * 2).min(self.lines))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::purge::{Mode, Purge, PurgeSeq};

    #[test]
    fn of_long_lines_few_are_asked_for() {
        let lines = |count: usize, bytes: usize| {
            let purge = Purge { tags: vec![("x".repeat(bytes - 16), Mode::Hard)], ..Purge::default() };
            vec![LogLine { seq: PurgeSeq::ZERO, purge: Some(purge) }; count]
        };
        let portion = Portion { lines: 1000, bytes: 1 << 20 };
        assert_eq!(portion.after(&lines(3, 50), 128), 256);
        assert_eq!(portion.after(&lines(3, 50), 1000), 1000);
        assert_eq!(portion.after(&[lines(3, 50), lines(1, 1 << 17)].concat(), 1000), 7);
        assert_eq!(portion.after(&lines(1, 2 << 20), 8), 1);
        assert_eq!((portion.after(&lines(1, 50), 1), portion.after(&[], 1)), (2, 2));
    }
}
