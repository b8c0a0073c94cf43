//! Memory that the process has more than before, as the system counts it.

use std::fs;

use anyhow::{Context, Result};
use endcap::policy::purge::{Marked, Mode, Purge, PurgeIndex, PurgeSeq};
use endcap::policy::time::Timestamp;

use crate::say;
use crate::shelf::{Shelf, empty_index};

fn index_of(tags: usize) -> PurgeIndex {
    let mut index = empty_index();
    for number in 0..tags {
        let purge = Purge { tags: vec![(format!("prod_{number:026}"), Mode::Hard)], ..Purge::default() };
        let seq = PurgeSeq::new(number as u64 + 1, 0).expect("it is small");
        index.apply(seq, Marked::from(purge), Timestamp::from_millis(number as u64));
    }
    index
}

/// Purges so many tags, each once.
pub(crate) fn index(tags: usize) -> Result<()> {
    // The allocator's own.
    drop(index_of(10_000));
    let before = resident()?;
    let index = index_of(tags);
    let bytes = resident()?.saturating_sub(before);
    say(&format!(
        "purge index after {tags} tags, {} of them remembered: {:.1} MiB, {:.0} B a tag",
        index.marks(),
        bytes as f64 / f64::from(1 << 20),
        bytes as f64 / index.marks() as f64
    ));
    Ok(())
}

/// Fills so many entries of three tags and more.
pub(crate) fn entries(entries: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let shelf = Shelf::new()?;
    runtime.block_on(async {
        for number in 0..10_000 {
            shelf.put(number).await?;
        }
        shelf.tidy();
        let (mut content, mut keys, mut tags) = (0, 0, 0);
        let mut held = Vec::with_capacity(entries);
        let before = resident()?;
        for number in 10_000..10_000 + entries {
            let entry = shelf.put(number).await?;
            content += entry.body.len();
            content += entry.fields.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
            keys += entry.key.len();
            tags += entry.tags.len();
            held.push(entry);
            if number % 1_000 == 0 {
                shelf.tidy();
            }
        }
        shelf.tidy();
        let bytes = resident()?.saturating_sub(before) - size_of_val(held.as_slice());
        let each = |bytes: usize| bytes as f64 / entries as f64;
        say(&format!(
            "{entries} entries: {:.0} B each; body and headers {:.0}, key {:.0}, {:.1} tags of 8 B; beside these {:.0} B",
            each(bytes),
            each(content),
            each(keys),
            each(tags),
            each(bytes) - each(content) - each(keys) - 8.0 * each(tags)
        ));
        anyhow::Ok(())
    })
}

/// Bytes of memory that this process occupies.
fn resident() -> Result<usize> {
    let status = fs::read_to_string("/proc/self/status").context("memory is read from /proc")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<usize>()? * 1024)
}
