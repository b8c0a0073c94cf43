//! The work of a purge, and of the next look at an entry.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use endcap::policy::entry::Entry;

use crate::shelf::{SHARED, Shelf};
use crate::{median, say};

const HELD: [usize; 3] = [1, 1_000, 1_000_000];
const MISSED: [usize; 5] = [0, 1, 10, 100, 1_000];
/// Entries that are looked at.
const LOOKED: usize = 200;
const BATCHES: usize = 400;
const BATCH: usize = 100;

pub(crate) fn run() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for held in HELD {
        let mut shelf = Shelf::new()?;
        let entries = runtime.block_on(async {
            let mut entries = Vec::new();
            for number in 0..held {
                let entry = shelf.put(number).await?;
                if number % held.div_ceil(LOOKED) == 0 {
                    entries.push(entry);
                }
            }
            shelf.tidy();
            anyhow::Ok(entries)
        })?;
        let line = MISSED.map(|missed| format!("{missed}: {:.0} ns", look(&mut shelf, &entries, missed))).join(", ");
        let purge = purge(&mut shelf);
        say(&format!(
            "tag held by {held:>9} entries: purge {purge:.2} us; next look at one, by purges of others since: {line}"
        ));
    }
    Ok(())
}

/// Microseconds for a purge of what all entries show: median of batches.
fn purge(shelf: &mut Shelf) -> f64 {
    let mut batches: Vec<f64> = (0..BATCHES)
        .map(|_| {
            let began = Instant::now();
            for _ in 0..BATCH {
                shelf.purge(SHARED);
            }
            began.elapsed().as_secs_f64() * 1e6 / BATCH as f64
        })
        .collect();
    median(&mut batches)
}

/// Nanoseconds for a look at an entry that none of the missed purges concerns: median of rounds.
fn look(shelf: &mut Shelf, entries: &[Arc<Entry>], missed: usize) -> f64 {
    let mut other = 0;
    let mut rounds: Vec<f64> = (0..BATCHES)
        .map(|_| {
            for _ in 0..missed {
                other += 1;
                shelf.purge(&format!("variant_{other}"));
            }
            let began = Instant::now();
            for entry in entries {
                black_box(shelf.purges.check(black_box(entry)));
            }
            began.elapsed().as_secs_f64() * 1e9 / entries.len() as f64
        })
        .collect();
    median(&mut rounds)
}
