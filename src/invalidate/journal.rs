//! The journal: where an acknowledged purge is safe while the log cannot be reached.
//!
//! ```text
//! "endcap journal 1" │ "\xECjnl" length:u32 blake3:16 purge │ "\xECjnl" …
//! ```
//! A file that grows by one record a purge, each on the disk before it is acknowledged, and is emptied when
//! the log has taken them all. What is damaged is skipped and reported, and the reader goes on at the next record that is
//! whole. An end that a crash has torn off was never acknowledged, but a last record whose length is damaged looks the
//! same: so a purge of everything stands in for that too.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::policy::purge::{Mode, Purge};
use crate::store::{Portion, line};

const HEADER: &[u8; 16] = b"endcap journal 1";
const MARK: &[u8; 4] = b"\xECjnl";
const SUM: usize = 16;
/// Mark, length and checksum before each purge.
const RECORD_HEAD: usize = MARK.len() + 4 + SUM;

/// Why a journal did not take a purge.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It holds as much as it may.
    #[error("the journal {path:?} is full: {bytes_max} bytes of purges wait for the log")]
    Full {
        /// The file.
        path: PathBuf,
        /// Its bound.
        bytes_max: u64,
    },
    /// The file could not be written.
    #[error("the journal {path:?} cannot be written: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// What was found in a journal when it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Purges that wait for the log, with one of everything in the place of what is damaged.
    pub purges: usize,
    /// Records that are damaged, or torn off at the end.
    pub damaged: usize,
}

/// An open journal. Its calls block on the disk.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    /// Where the next record begins.
    end: u64,
    bytes_max: u64,
    /// Something may stand behind `end`.
    is_torn: bool,
    /// Records that were found damaged when it was opened.
    damaged: usize,
    /// What the file holds and the log may lack, oldest first.
    pending: VecDeque<Purge>,
    /// The log has taken so many of them.
    replayed: usize,
}

impl Journal {
    /// Opens a journal, or makes an empty one, and reads what it holds. It grows to `bytes_max`.
    ///
    /// # Errors
    /// The file cannot be opened, is another process' journal, or no journal at all.
    pub fn open(path: &Path, bytes_max: u64) -> io::Result<(Self, Found)> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path)?;
        file.try_lock().map_err(|error| match error {
            std::fs::TryLockError::WouldBlock => io::Error::other("another process has it: each needs its own"),
            std::fs::TryLockError::Error(error) => error,
        })?;
        // One record more may stand in it than fits: the bound may have been lowered.
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let torn_header = HEADER.starts_with(&bytes);
        let records = bytes.get(HEADER.len()..).unwrap_or_default();
        let (pending, mut damaged, whole) = read_records(records);
        if !torn_header && !bytes.starts_with(HEADER) {
            // Where something stands that only a journal says, its header is what is damaged.
            if pending.len() == damaged {
                return Err(io::Error::other("it is no journal of endcap's: name another file"));
            }
            damaged += 1;
            file.rewind()?;
            file.write_all(HEADER)?;
        }
        let end = if torn_header { 0 } else { (HEADER.len() + whole) as u64 };
        let is_torn = whole < records.len();
        let found = Found { purges: pending.len() + usize::from(is_torn), damaged: damaged + usize::from(is_torn) };
        let mut journal = Self {
            path: path.to_owned(),
            file,
            end,
            bytes_max,
            is_torn: true,
            damaged: found.damaged,
            pending,
            replayed: 0,
        };
        journal.cut_off()?;
        if journal.end == 0 {
            journal.file.write_all(HEADER)?;
            journal.end = HEADER.len() as u64;
            journal.file.sync_all()?;
            sync_folder(path)?;
        }
        if is_torn {
            journal.add(&everything(), &record(&everything()))?;
        }
        Ok((journal, found))
    }

    /// Appends a purge; it is on the disk when this returns.
    ///
    /// # Errors
    /// See [`JournalError`]; the journal holds what it held before.
    pub fn append(&mut self, purge: &Purge) -> Result<(), JournalError> {
        let record = record(purge);
        if self.end + record.len() as u64 > self.bytes_max {
            return Err(JournalError::Full { path: self.path.clone(), bytes_max: self.bytes_max });
        }
        self.add(purge, &record).map_err(|error| JournalError::Io { path: self.path.clone(), error })
    }

    fn add(&mut self, purge: &Purge, record: &[u8]) -> io::Result<()> {
        // From here on half a record may stand there, or one that is not on the disk.
        if let Err(error) = self.write(record) {
            self.is_torn = true;
            // Its sender is refused, and nobody must take it for an acknowledged one. What cannot be cut off now is before
            // the next.
            drop(self.cut_off());
            return Err(error);
        }
        self.end += record.len() as u64;
        self.pending.push_back(purge.clone());
        Ok(())
    }

    /// Records that were found damaged, or torn off, when it was opened.
    pub fn damaged(&self) -> usize {
        self.damaged
    }

    /// Purges that are not known to be in the log.
    pub fn waiting(&self) -> usize {
        self.pending.len() - self.replayed
    }

    /// The oldest purges that are not known to be in the log but for the first `skip`, at most so many: one in any
    /// case, however long.
    pub fn next(&self, skip: usize, most: Portion) -> Vec<Purge> {
        let mut bytes = 0;
        let fits = |purge: &&Purge| {
            let is_first = bytes == 0;
            bytes += purge.bytes();
            is_first || bytes <= most.bytes
        };
        self.pending.iter().skip(self.replayed + skip).take(most.lines).take_while(fits).cloned().collect()
    }

    /// The log has the oldest so many. The file is emptied when it has all.
    ///
    /// # Errors
    /// The file could not be emptied: its purges may be replayed once more, which does no harm.
    pub fn replayed(&mut self, count: usize) -> io::Result<()> {
        self.replayed = (self.replayed + count).min(self.pending.len());
        if self.replayed < self.pending.len() {
            return Ok(());
        }
        self.pending.clear();
        self.replayed = 0;
        self.end = HEADER.len() as u64;
        self.cut_off()
    }

    fn write(&mut self, record: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.cut_off()?;
        }
        self.file.write_all(record)?;
        self.file.sync_data()
    }

    /// Cuts off what stands behind the last whole record.
    fn cut_off(&mut self) -> io::Result<()> {
        self.is_torn = true;
        self.file.set_len(self.end)?;
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.sync_data()?;
        self.is_torn = false;
        Ok(())
    }
}

/// The name of a new file is on the disk only when its folder is.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

fn record(purge: &Purge) -> Vec<u8> {
    let text = line::encode(purge);
    let mut record = Vec::with_capacity(RECORD_HEAD + text.len());
    record.extend_from_slice(MARK);
    record.extend_from_slice(&u32::try_from(text.len()).expect("a purge is bounded far below").to_be_bytes());
    record.extend_from_slice(&sum(text.as_bytes()));
    record.extend_from_slice(text.as_bytes());
    record
}

fn sum(text: &[u8]) -> [u8; SUM] {
    let hash = blake3::hash(text);
    *hash.as_bytes().first_chunk().expect("a hash has 32 bytes")
}

/// The purges of all records, how many of these are damaged, and where the last one ends. What a damaged
/// one said was acknowledged: everything is deleted in its place, as it may have been a deletion.
fn read_records(bytes: &[u8]) -> (VecDeque<Purge>, usize, usize) {
    let (mut found, mut damaged, mut at, mut end) = (VecDeque::new(), 0, 0, 0);
    while let Some(next) = bytes.get(at..).and_then(|rest| memchr::memmem::find(rest, MARK)) {
        at += next;
        let Some((purge, length)) = bytes.get(at..).and_then(read_record) else {
            at += 1;
            continue;
        };
        damaged += usize::from(at > end);
        found.extend((at > end).then(everything));
        damaged += usize::from(purge.is_none());
        found.push_back(purge.unwrap_or_else(everything));
        at += length;
        end = at;
    }
    (found, damaged, end)
}

fn everything() -> Purge {
    Purge { tags: vec![("all".to_owned(), Mode::Delete)], source: "damaged".to_owned(), ..Purge::default() }
}

/// The purge of a record and the record's length. A record that is all there and not as it was written has
/// no purge. It was acknowledged by a process that is gone, nobody knows when: its graces are over.
fn read_record(bytes: &[u8]) -> Option<(Option<Purge>, usize)> {
    let (length, rest) = bytes.get(MARK.len()..)?.split_first_chunk::<4>()?;
    let (said, rest) = rest.split_first_chunk::<SUM>()?;
    let text = rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    let purge = (sum(text) == *said).then(|| line::decode(text)).flatten();
    let purge = purge.map(|line| Purge::from(line).without_grace());
    Some((purge, RECORD_HEAD + text.len()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn purge(tag: &str) -> Purge {
        let tags = vec![(tag.to_owned(), Mode::Hard), ("list:a".to_owned(), Mode::Soft)];
        Purge { tags, source: "test".into(), event_id: "1".into(), ..Purge::default() }
    }

    fn tags(journal: &Journal) -> Vec<String> {
        let name = |purge: &Purge| purge.tags.iter().find(|(tag, _)| tag != "list:a").unwrap().0.clone();
        journal.pending.iter().skip(journal.replayed).map(name).collect()
    }

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        (folder, path)
    }

    fn open(path: &Path) -> (Journal, Found) {
        Journal::open(path, 1 << 20).unwrap()
    }

    fn with(path: &Path, tags: &[&str]) -> Vec<u8> {
        let (mut journal, _) = open(path);
        for tag in tags {
            journal.append(&purge(tag)).unwrap();
        }
        fs::read(path).unwrap()
    }

    #[test]
    fn of_long_purges_few_are_taken_at_a_time_and_one_in_any_case() {
        let (_folder, path) = folder();
        with(&path, &["a", "b", "c", "d"]);
        let (journal, _) = open(&path);
        let next = |skip, lines, bytes| journal.next(skip, Portion { lines, bytes }).len();
        let one = purge("a").bytes();
        assert_eq!((next(0, 9, 1), next(0, 9, 3 * one - 1), next(0, 9, 3 * one)), (1, 2, 3));
        assert_eq!((next(0, 9, 9 * one), next(3, 9, 1), next(4, 9, 1), next(0, 3, 9 * one)), (4, 1, 0, 3));
    }

    #[test]
    fn what_was_appended_is_there_after_a_crash_until_the_log_has_it() {
        let (_folder, path) = folder();
        with(&path, &["a", "b"]);
        let (mut journal, found) = open(&path);
        assert_eq!((found, tags(&journal)), (Found { purges: 2, ..Found::default() }, vec!["a".into(), "b".into()]));
        let first = &journal.next(0, Portion { lines: 1, bytes: 1 << 20 })[0];
        assert_eq!(first.event_id, "1");
        assert!(first.tags.iter().all(|(_, mode)| *mode == Mode::Hard), "its grace began long ago: {first:?}");
        journal.replayed(1).unwrap();
        assert_eq!((journal.waiting(), tags(&journal)), (1, vec!["b".to_owned()]));
        drop(journal);
        let (mut journal, _) = open(&path);
        assert_eq!(tags(&journal), ["a", "b"], "a crash in a replay begins it again");
        for _ in 0..2 {
            journal.replayed(1).unwrap();
        }
        journal.append(&purge("c")).unwrap();
        drop(journal);
        assert_eq!(tags(&open(&path).0), ["c"]);
    }

    #[test]
    fn a_full_journal_takes_nothing_and_loses_nothing() {
        let (_folder, path) = folder();
        let size = HEADER.len() + record(&purge("a")).len();
        let (mut journal, _) = Journal::open(&path, size as u64).unwrap();
        journal.append(&purge("a")).unwrap();
        assert!(matches!(journal.append(&purge("b")), Err(JournalError::Full { .. })));
        assert_eq!(tags(&journal), ["a"]);
        journal.replayed(1).unwrap();
        journal.append(&purge("b")).unwrap();
    }

    #[test]
    fn two_processes_cannot_share_one_and_other_files_are_left_alone() {
        let (_folder, path) = folder();
        let (_journal, _) = open(&path);
        assert!(Journal::open(&path, 99).unwrap_err().to_string().contains("another process"));
        let other = path.with_file_name("other");
        fs::write(&other, "my diary, very dear to me").unwrap();
        assert!(Journal::open(&other, 99).unwrap_err().to_string().contains("no journal"));
        assert_eq!(fs::read_to_string(&other).unwrap(), "my diary, very dear to me");
    }

    #[test]
    fn a_journal_is_known_by_its_records_where_its_header_is_damaged() {
        let (_folder, path) = folder();
        let whole = with(&path, &["first", "second"]);
        for at in 0..HEADER.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&path, &bytes).unwrap();
            let (journal, found) = open(&path);
            assert_eq!(
                (found, tags(&journal)),
                (Found { purges: 2, damaged: 1 }, vec!["first".into(), "second".into()])
            );
            drop(journal);
            assert_eq!(fs::read(&path).unwrap(), whole, "and mended");
        }
    }

    #[test]
    fn everything_is_deleted_in_the_place_of_a_damaged_record() {
        let (_folder, path) = folder();
        let whole = with(&path, &["first", "second", "third"]);
        let length = record(&purge("first")).len();
        // In its text, in its mark.
        for at in [memchr::memmem::find(&whole, b"second").unwrap(), HEADER.len() + length] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&path, &bytes).unwrap();
            let (journal, found) = open(&path);
            assert_eq!(found, Found { purges: 3, damaged: 1 });
            assert_eq!(tags(&journal), ["first", "all", "third"]);
            assert_eq!(journal.pending[1].tags[0].1, Mode::Delete, "it may have been a deletion");
        }
    }

    /// In its mark, in its length, in its checksum, in its text.
    #[test]
    fn the_last_record_may_be_the_damaged_one() {
        let (_folder, path) = folder();
        let whole = with(&path, &["first", "second"]);
        let last = HEADER.len() + record(&purge("first")).len();
        for (at, bit) in [(0, 1), (4, 128), (7, 1), (9, 1), (RECORD_HEAD + 4, 1)] {
            let mut bytes = whole.clone();
            bytes[last + at] ^= bit;
            fs::write(&path, &bytes).unwrap();
            for times in 0..2 {
                let (journal, found) = open(&path);
                assert_eq!((found.purges >= 2, found.damaged > 0 || times > 0), (true, true), "byte {at}");
                assert_eq!(tags(&journal)[..2], ["first", "all"], "byte {at}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// A crash in the middle of a write.
        #[test]
        fn everything_is_purged_in_the_place_of_a_torn_end(cut in 0_usize..400) {
            let (_folder, path) = folder();
            let bytes = with(&path, &["a", "b", "c"]);
            let length = record(&purge("a")).len();
            let cut = cut.min(bytes.len());
            fs::write(&path, &bytes[..cut]).unwrap();
            let (mut journal, found) = open(&path);
            let records = cut.saturating_sub(HEADER.len());
            let torn = usize::from(records % length > 0);
            prop_assert_eq!(found, Found { purges: records / length + torn, damaged: torn });
            journal.append(&purge("after")).unwrap();
            drop(journal);
            let (journal, again) = open(&path);
            prop_assert_eq!(again, Found { purges: found.purges + 1, damaged: 0 });
            let tags = tags(&journal);
            prop_assert_eq!(tags.last().unwrap(), "after");
            prop_assert_eq!(tags.contains(&"all".to_owned()), torn == 1);
        }

        /// Whatever the bytes are, they are read or refused.
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), header in any::<bool>()) {
            let (_folder, path) = folder();
            let mut all = if header { HEADER.to_vec() } else { Vec::new() };
            all.extend(bytes);
            fs::write(&path, all).unwrap();
            if let Ok((mut journal, _)) = Journal::open(&path, 1 << 20) {
                journal.append(&purge("a")).unwrap();
            }
        }
    }
}
