//! The black box: real processes, a real Redis, changes, readers and faults; every answer is judged by what was
//! acknowledged before it was asked for. It knows nothing of how endcap works.
//!
//! `cargo test --test blackbox` runs the short form; `tests/blackbox/run` runs any, and `--help` says which.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

mod book;
mod dice;
mod faults;
mod feeds;
mod fleet;
mod http;
mod process;
mod redis;
mod report;
mod shop;
mod stage;
mod writer;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use book::Violation;
use faults::Fault;
use redis::Topology;
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

/// An option of `tests/blackbox/run`, which passes them on.
fn option<T>(name: &str, default: T, parse: impl FnOnce(&str) -> Option<T>) -> T {
    std::env::var(name).map_or(default, |text| parse(&text).unwrap_or_else(|| panic!("{name} cannot be {text:?}")))
}

fn options() -> Options {
    let seconds = option("BLACKBOX_SECONDS", SECONDS, |text| text.parse().ok());
    let options = Options::new(Duration::from_secs(seconds), option("BLACKBOX_SEED", SEED, |text| text.parse().ok()));
    Options {
        nodes: option("BLACKBOX_NODES", options.nodes, |text| text.parse().ok().filter(|nodes| *nodes > 1)),
        topology: option("BLACKBOX_REDIS", options.topology, Topology::parse),
        faults: option("BLACKBOX_FAULTS", options.faults, |text| match text {
            "all" => Some(Faults::Planned),
            "none" => Some(Faults::None),
            _ => None,
        }),
        ..options
    }
}

fn finds_nothing(options: Options) {
    let report = run(options);
    println!("{report}");
    assert_eq!(report.violations(), 0, "{report}");
    assert!(report.changes() > options.lasts.as_secs(), "too few changes to say anything:\n{report}");
    assert!(report.heard() > 0, "no feed said anything:\n{report}");
}

#[test]
fn no_acknowledged_purge_is_overlooked_or_lost() {
    finds_nothing(options());
}

#[test]
fn nor_when_the_master_dies_and_its_replica_takes_over() {
    let dies = Faults::Only(Fault::MasterDies(Duration::from_secs(1)));
    finds_nothing(Options {
        topology: Topology::Sentinel,
        nodes: 5,
        faults: dies,
        ..Options::new(Duration::from_secs(20), SEED)
    });
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
