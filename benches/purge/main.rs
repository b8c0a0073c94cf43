//! What purges cost: their own work, the next look at an entry, hits beside them, memory, the start behind a long
//! log; and what 10,000 shoppers at once cost the origin.
//!
//! `benches/purge/run.sh` runs all roles and writes the report. Each role is a process of its own, so that one's
//! memory is not another's.

#![expect(clippy::disallowed_methods, reason = "a bench measures real time, and its threads end with it")]
#![expect(clippy::print_stdout, reason = "a command line program")]

mod cold;
#[path = "../hit/cpu.rs"]
mod cpu;
mod hits;
#[path = "../hit/load.rs"]
#[expect(dead_code, reason = "the hit bench asks for latencies too")]
mod load;
mod memory;
#[path = "../hit/origin.rs"]
mod origin;
#[path = "../hit/program.rs"]
mod program;
mod replay;
#[path = "../hit/sample.rs"]
mod sample;
mod server;
mod shelf;
mod start;
#[path = "../hit/wanted.rs"]
mod wanted;
mod work;

use anyhow::Result;
use clap::Subcommand;

use crate::program::say;

#[derive(Subcommand)]
enum Role {
    /// A purge, and the next look at an entry, with a million entries and with one.
    Work,
    /// Bytes for each tag that the index remembers.
    Index {
        #[arg(long, default_value_t = 990_000)]
        tags: usize,
    },
    /// Bytes for each entry beside its body and headers.
    Entries {
        #[arg(long, default_value_t = 1_000_000)]
        entries: usize,
    },
    /// From the start of a process to /readyz, behind a log.
    Start {
        #[arg(long, default_value_t = 1_000_000)]
        purges: usize,
    },
    /// A full journal, until the log has all of it.
    Replay {
        #[arg(long, default_value_t = 16 << 20)]
        bytes: u64,
    },
    /// CPU for each hit over sockets while purges come in.
    Hits {
        #[arg(long, default_value_t = 61)]
        rounds: usize,
        #[arg(long, default_value_t = 0.3)]
        seconds: f64,
    },
    /// Requests at once for one key that nobody has, over nodes that share a Redis.
    Cold {
        #[arg(long, default_value_t = 10_000)]
        requests: usize,
        #[arg(long, default_value_t = 3)]
        nodes: usize,
    },
}

fn main() -> Result<()> {
    match program::role() {
        None => say("started by `benches/purge/run.sh`; see there, or --help"),
        Some(Role::Work) => work::run()?,
        Some(Role::Index { tags }) => memory::index(tags)?,
        Some(Role::Entries { entries }) => memory::entries(entries)?,
        Some(Role::Start { purges }) => start::run(purges)?,
        Some(Role::Replay { bytes }) => replay::run(bytes)?,
        Some(Role::Hits { rounds, seconds }) => hits::run(rounds, seconds)?,
        Some(Role::Cold { requests, nodes }) => cold::run(requests, nodes)?,
    }
    Ok(())
}

/// The middle of some numbers.
fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}
