//! Purges, fills and trouble over several nodes, by seed: the product's own parts behind a clock, a store
//! and an origin that are models.
//!
//! A seed decides everything: the weather (how many nodes, how late and how lossy the network is, which
//! kinds of trouble there are), what happens, and every delay. Time is the run's own and costs nothing.
//!
//! ```text
//! cargo test --test sim                            two thousand seeds
//! tests/sim/run [SEEDS [FROM]]                     as many as you like, with optimisation
//! ENDCAP_SIM_SEED=42 cargo test --test sim one_seed -- --nocapture      one seed, with its trace
//! tests/bite                                       shows that each rule is needed
//! ```
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

mod ledger;
mod link;
mod node;
mod origin;
mod run;
mod server;
mod shop;
mod weather;
mod world;

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once};
use std::time::Duration;

use run::{Failure, Figures, run};

/// A fifth of the time.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Seeds that every run of the tests takes.
const SEEDS: u64 = 2000;
/// After so many twentieths of a second a line says how far a run is.
const PROGRESS: u64 = 200;

thread_local! {
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Runs a seed. A task of the product that panics ends alone, and nobody would hear of it: the hook does.
fn take(seed: u64) -> (Result<Figures, Failure>, Vec<String>) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.with_borrow_mut(|panics| panics.push(panic.to_string()));
            before(panic);
        }));
    });
    PANICS.take();
    let ran = std::panic::catch_unwind(|| run(seed));
    let panics = PANICS.take();
    match ran {
        Ok((Ok(_), trace)) if !panics.is_empty() => {
            (Err(Failure { what: panics.join("; "), trace: trace.clone() }), trace)
        }
        Ok(ran) => ran,
        Err(_) => (Err(Failure { what: panics.join("; "), trace: Vec::new() }), Vec::new()),
    }
}

fn report(seed: u64, failure: &Failure) -> String {
    format!(
        "{}\n\nseed {seed}: {}\nagain: ENDCAP_SIM_SEED={seed} cargo test --test sim one_seed -- --nocapture",
        failure.trace.join("\n"),
        failure.what
    )
}

/// Runs seeds on all cores, says how far it is, and stops at the first that fails.
fn take_all(first: u64, count: u64) {
    let (next, done) = (AtomicU64::new(first), AtomicU64::new(0));
    let (total, failed) = (Mutex::new(Figures::default()), Mutex::new(None));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count || failed.lock().unwrap().is_some() {
                        return;
                    }
                    match take(seed).0 {
                        Ok(figures) => *total.lock().unwrap() += figures,
                        Err(failure) => *failed.lock().unwrap() = Some((seed, failure)),
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        scope.spawn(|| {
            for tick in 1_u64.. {
                std::thread::sleep(Duration::from_millis(50));
                let done = done.load(Ordering::Relaxed);
                if done >= count || failed.lock().unwrap().is_some() {
                    return;
                }
                if tick.is_multiple_of(PROGRESS) {
                    eprintln!("{done} of {count} seeds");
                }
            }
        });
    });
    if let Some((seed, failure)) = failed.into_inner().unwrap() {
        eprintln!("{}", report(seed, &failure));
        panic!("seed {seed} failed");
    }
    let Figures { answers, purges, unjudged, lossy } = total.into_inner().unwrap();
    eprintln!(
        "{count} seeds from {first}: {answers} answers, {purges} acknowledged purges, nothing broken; \
         {unjudged} answers unjudged, and the end of {lossy} seeds, for purges that are lost to everybody"
    );
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

#[test]
fn no_answer_is_older_than_a_purge_that_its_node_must_know() {
    take_all(number("ENDCAP_SIM_FROM").unwrap_or(1), number("ENDCAP_SIM_SEEDS").unwrap_or(SEEDS));
}

#[test]
fn one_seed() {
    let Some(seed) = number("ENDCAP_SIM_SEED") else { return };
    // What the product says goes between the lines of the trace.
    let log = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).without_time().with_ansi(false);
    log.with_writer(std::io::stderr).init();
    match take(seed).0 {
        Ok(figures) => eprintln!("seed {seed}: {figures:?}"),
        Err(failure) => panic!("seed {seed}: {}", failure.what),
    }
}

#[test]
fn the_same_seed_takes_the_same_course() {
    for seed in 1..50 {
        let (one, other) = (take(seed).1, take(seed).1);
        assert!(!one.is_empty());
        assert_eq!(one, other, "seed {seed}");
    }
}

#[test]
#[should_panic(expected = "something goes round in circles at 0 ms")]
fn what_goes_round_in_circles_is_stopped() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let world = world::World::new(1);
        loop {
            world.now();
            tokio::task::yield_now().await;
        }
    });
}
