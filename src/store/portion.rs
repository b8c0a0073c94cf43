//! How much of the log is read at a time.

/// What one read of the log brings, at the most. Redis counts lines alone, so the bytes are held by asking for few lines
/// where they are long: a read asks for twice as many as the one before it, as long as that many of the longest line in
/// that one have no more than so many bytes. Where the first reads of a reader are short, so is what long lines make of them.
#[derive(Clone, Copy, Debug)]
pub struct Portion {
    /// Lines.
    pub lines: usize,
    /// Bytes, as [`super::LogLine::bytes`] or [`super::Written::bytes`] counts them.
    pub bytes: usize,
}

impl Portion {
    /// How many lines to ask for after a read that asked for `most` and brought lines of so many bytes.
    pub fn after(self, bytes: impl Iterator<Item = usize>, most: usize) -> usize {
        let longest = bytes.max().unwrap_or(0);
        (self.bytes / longest.max(1)).clamp(1, (most * 2).min(self.lines))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_long_lines_few_are_asked_for() {
        let portion = Portion { lines: 1000, bytes: 1 << 20 };
        let after = |bytes: &[usize], most| portion.after(bytes.iter().copied(), most);
        assert_eq!(after(&[50; 3], 128), 256);
        assert_eq!(after(&[50; 3], 1000), 1000);
        assert_eq!(after(&[50, 50, 1 << 17], 1000), 8);
        assert_eq!(after(&[2 << 20], 8), 1);
        assert_eq!((after(&[50], 1), after(&[], 1)), (2, 2));
    }
}
