//! What it costs to judge an entry: nanoseconds and allocations, in one thread.
//!
//! `cargo bench --bench judge` prints a line for each case.

#![expect(clippy::disallowed_methods, reason = "wall time is what is measured")]
#![expect(clippy::print_stdout, reason = "a command line program")]

#[allow(dead_code, reason = "shared with a bench that needs more of it")]
#[path = "purge/shelf.rs"]
mod shelf;

use std::alloc::System;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use endcap::policy::cache_control::CacheControl;
use endcap::policy::entry::Entry;
use endcap::policy::lifetime::{self, Exchanged};
use endcap::policy::storable;
use endcap::policy::time::Timestamp;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use shelf::Shelf;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

/// Counts all allocations of the process.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// More than a core's caches hold, and as many as fit into them.
const ENTRIES: [usize; 2] = [100_000, 100];
const ROUNDS: usize = 31;
/// Judged between two looks at the clock: short enough that others seldom get the core in between.
const BATCH: usize = 500;

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    println!("judging an entry of 6 tags, in one thread; median of batches of {BATCH}, {ROUNDS} times all entries");
    for count in ENTRIES {
        let mut shelf = Shelf::new()?;
        let entries = runtime.block_on(async {
            let mut entries = Vec::with_capacity(count);
            for number in 0..count {
                entries.push(shelf.put(number).await?);
            }
            anyhow::Ok(entries)
        })?;
        let now = entries[0].began + Duration::from_secs(1);
        say(count, "fresh, nothing purged since the last look", &rounds(&mut shelf, &entries, now, |_, _| ()))?;
        let purge_another = |shelf: &mut Shelf, round: usize| shelf.purge(&format!("variant_{round}"));
        say(count, "fresh, another thing purged since", &rounds(&mut shelf, &entries, now, purge_another))?;
        let later = now + Duration::from_secs(1 << 20);
        say(count, "its time is over", &rounds(&mut shelf, &entries, later, |_, _| ()))?;
    }
    // Told once, when an answer is stored.
    let shelf = Shelf::new()?;
    say(1, "the head of an answer, when it is stored", &heads(&shelf))
}

/// One case: the median's nanoseconds, and allocations, each for one judgement.
struct Cost {
    nanos: f64,
    allocations: f64,
}

fn say(count: usize, case: &str, cost: &Cost) -> Result<()> {
    println!("{count:>7} entries: {:>6.1} ns, {:.3} allocations: {case}", cost.nanos, cost.allocations);
    ensure!(count == 1 || cost.allocations == 0.0, "a judgement allocates nothing");
    Ok(())
}

/// Judges all entries in each round, after something that is not measured.
fn rounds(
    shelf: &mut Shelf,
    entries: &[Arc<Entry>],
    now: Timestamp,
    mut before: impl FnMut(&mut Shelf, usize),
) -> Cost {
    let (mut allocations, mut nanos) = (0, Vec::new());
    for round in 0..ROUNDS {
        before(shelf, round);
        for batch in entries.chunks(BATCH) {
            let (held, began) = (ALLOCATOR.stats(), Instant::now());
            for entry in batch {
                black_box(shelf.judge(black_box(entry), now));
            }
            let took = began.elapsed();
            allocations += (ALLOCATOR.stats() - held).allocations;
            nanos.push(took.as_secs_f64() * 1e9 / batch.len() as f64);
        }
    }
    Cost { nanos: median(nanos), allocations: allocations as f64 / (ROUNDS * entries.len()) as f64 }
}

fn median(mut nanos: Vec<f64>) -> f64 {
    nanos.sort_by(f64::total_cmp);
    nanos[nanos.len() / 2]
}

/// Says of the head of an answer whether it may be stored, and for how long.
fn heads(shelf: &Shelf) -> Cost {
    const TIMES: usize = 10_000;
    let rule = shelf.rule();
    let headers = HeaderMap::from_iter([
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=60, stale-while-revalidate=30")),
        (header::DATE, HeaderValue::from_static("Fri, 15 Jan 2027 08:00:00 GMT")),
        (header::AGE, HeaderValue::from_static("5")),
        (header::VARY, HeaderValue::from_static("Origin")),
    ]);
    let (sent, now) = (HeaderMap::new(), Timestamp::from_millis(1_800_000_000_000));
    let held = ALLOCATOR.stats();
    let batches = (0..TIMES / BATCH).map(|_| {
        let began = Instant::now();
        for _ in 0..BATCH {
            let headers = black_box(&headers);
            let control = CacheControl::strictest(headers);
            black_box(storable::admit(rule, &sent, StatusCode::OK, headers, &control));
            let at = Exchanged { asked: now, answered: now };
            black_box(lifetime::lifetime(rule, StatusCode::OK, headers, &control, at, 1.0));
        }
        began.elapsed().as_secs_f64() * 1e9 / BATCH as f64
    });
    let nanos = median(batches.collect());
    Cost { nanos, allocations: (ALLOCATOR.stats() - held).allocations as f64 / TIMES as f64 }
}
