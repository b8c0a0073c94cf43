//! Parsers against bytes that nobody meant: a corpus, and mutations of it that a seed determines.
//!
//! `cargo test` replays the corpus and tries a fixed number of mutations, the same each time. For longer:
//!
//! ```sh
//! ENDCAP_FUZZ_SECONDS=600 ENDCAP_FUZZ_SEED=7 cargo test --release --locked --test fuzz
//! ```
//!
//! What fails is printed as a line for `tests/fuzz/corpus/NAME.txt`: put there, it is tried first from then on.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

mod config;
mod framing;
mod mutate;
mod request;
mod selection;
mod webhook;
mod wire;

use std::alloc::System;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use endcap::clock::{Clock, SystemClock};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use crate::mutate::{Random, mutate, unescape};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Allocations are counted for the whole process, so each test begins by waiting for the others.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A parser, and what is known of it.
struct Target<'t> {
    /// Its file in the corpus.
    name: &'static str,
    /// Lines of escaped bytes; a `#` begins a comment.
    corpus: &'static str,
    /// Further inputs to begin with.
    seeds: Vec<Vec<u8>>,
    /// Pieces that mutations put in.
    words: &'static [&'static str],
    /// Mutations that are tried where no time is given.
    tries: u64,
    /// Bytes that one input may have allocated in all: so many, and so many for each of its bytes.
    memory: (usize, usize),
    /// Panics where a law is broken.
    check: &'t dyn Fn(&[u8], &mut Random),
}

impl Target<'_> {
    fn run(self) {
        // Loaded before anything is counted.
        medusa();
        let lines = self.corpus.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let corpus: Vec<Vec<u8>> = lines.map(unescape).chain(self.seeds.iter().cloned()).collect();
        assert!(!corpus.is_empty());
        let first = variable("ENDCAP_FUZZ_SEED").unwrap_or(1);
        for input in &corpus {
            self.attempt(input, first);
        }
        let clock = SystemClock::new();
        let until = variable("ENDCAP_FUZZ_SECONDS").map(|seconds| clock.now() + Duration::from_secs(seconds));
        let goes_on = |tried: u64| until.map_or(tried < self.tries, |until| clock.now() < until);
        let mut tried = 0;
        while goes_on(tried) {
            let seed = first.wrapping_add(tried);
            let mut random = Random::new(seed);
            let input = mutate(&corpus, self.words, &mut random);
            self.attempt(&input, seed);
            tried += 1;
        }
    }

    fn attempt(&self, input: &[u8], seed: u64) {
        let mut random = Random::new(seed);
        let region = Region::new(ALLOCATOR);
        let outcome = catch_unwind(AssertUnwindSafe(|| (self.check)(input, &mut random)));
        let allocated = region.change().bytes_allocated;
        let show = || eprintln!("{}, seed {seed}:\n{}", self.name, input.escape_ascii());
        if let Err(panic) = outcome {
            show();
            resume_unwind(panic);
        }
        let most = self.memory.0 + self.memory.1 * input.len();
        if allocated > most {
            show();
            panic!("{allocated} bytes were allocated, at most {most} may be");
        }
    }
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

/// A Medusa node's configuration: its routes, keys and events.
fn medusa() -> &'static endcap::config::Config {
    static CONFIG: std::sync::LazyLock<endcap::config::Config> = std::sync::LazyLock::new(|| {
        let text = "upstream = \"http://shop\"\npreset = \"medusa\"\n\
            [route.shelf]\npaths = [\"/shelf\"]\nunknown_query = \"drop\"\nhost_in_key = true\n";
        endcap::config::Config::from_toml("fuzz.toml", text, std::iter::empty()).unwrap().config
    });
    &CONFIG
}
