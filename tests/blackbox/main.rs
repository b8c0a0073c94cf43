//! The black box: real processes, a real Redis, changes, readers and faults; every answer is judged by what was
//! acknowledged before it was asked for. It knows nothing of how endcap works.
//!
//! `cargo test --test blackbox` runs the short form; `tests/blackbox/run SECONDS SEED` runs any.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

mod book;
mod dice;
mod faults;
mod fleet;
mod http;
mod report;
mod shop;
mod stage;
mod writer;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use book::Violation;
use faults::Fault;
use report::Report;
use stage::{Faults, Options};

/// The short form: long enough for most kinds of faults.
const SECONDS: u64 = 25;
const SEED: u64 = 1;

/// Each run wants the machine for itself.
static TURN: Mutex<()> = Mutex::new(());

fn run(options: Options) -> Report {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let report = runtime.block_on(stage::run(options, folder.path()));
    // Its tasks hold the processes.
    drop(runtime);
    match report {
        Ok(report) if report.violations() == 0 => report,
        found => {
            eprintln!("what the nodes said is kept in {}", folder.keep().display());
            found.unwrap()
        }
    }
}

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

#[test]
fn no_acknowledged_purge_is_overlooked_or_lost() {
    let seconds = from_environment("BLACKBOX_SECONDS", SECONDS);
    let report = run(Options::new(Duration::from_secs(seconds), from_environment("BLACKBOX_SEED", SEED)));
    println!("{report}");
    assert_eq!(report.violations(), 0, "{report}");
    assert!(report.changes() > seconds, "too few changes to say anything:\n{report}");
}

#[test]
fn it_bites_when_changes_are_not_told() {
    let options = Options::new(Duration::from_secs(20), SEED);
    let report = run(Options { delivers: false, faults: Faults::None, stops_at_violation: true, ..options });
    assert!(report.violations() > 0, "{report}");
}

#[test]
fn it_bites_when_nodes_trust_for_too_long_what_they_know() {
    let options = Options::new(Duration::from_secs(20), SEED);
    let frozen = Faults::Only(Fault::RedisFrozen(Duration::from_secs(15)));
    let max_blind_told = Duration::from_secs(3600);
    let report = run(Options { max_blind_told, faults: frozen, stops_at_violation: true, ..options });
    assert!(report.count(Violation::AfterBound) + report.count(Violation::AfterGrace) > 0, "{report}");
}
