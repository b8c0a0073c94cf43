//! What a run has found, as text.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::time::Duration;

use super::book::{Excuse, Finding, Moment, Violation};
use super::faults::Fault;
use super::stage::Options;

/// Violations that are told in full.
const TOLD: usize = 20;

#[derive(Clone, Debug)]
pub(crate) struct Wrong {
    pub(crate) violation: Violation,
    pub(crate) began: Moment,
    pub(crate) node: usize,
    pub(crate) target: String,
    pub(crate) thing: String,
    pub(crate) version: u64,
    /// The version whose purge was overlooked.
    pub(crate) overlooked: u64,
    /// What the node said of its answer.
    pub(crate) detail: String,
    pub(crate) trouble: &'static str,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { violation, began, node, target, thing, version, overlooked, detail, trouble } = self;
        let violation = violation.as_str();
        write!(
            f,
            "at {began:.3?}, {trouble}: node {node} says {detail} to {target}: {thing} is at version {version}, "
        )?;
        write!(f, "not {overlooked}: {violation}")
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Report {
    options: Options,
    lasted: Duration,
    answers: BTreeMap<String, u64>,
    excused: BTreeMap<Excuse, u64>,
    violations: BTreeMap<Violation, u64>,
    told: Vec<Wrong>,
    faults: BTreeMap<&'static str, u64>,
    /// Faults after which another Redis was the master.
    fail_overs: u64,
    /// Answers without content, by trouble.
    failed: BTreeMap<&'static str, u64>,
    /// No answer at all: in calm, and not.
    unanswered: [u64; 2],
    /// Webhooks that were not acknowledged: in calm, and not.
    refused: [u64; 2],
    changes: u64,
    journaled: u64,
    applied: Vec<Duration>,
    /// Purges of which the feed of a node said nothing, because it had ended.
    unheard: u64,
    origin_reads: (u64, u64),
}

impl Report {
    pub(crate) fn new(options: Options) -> Self {
        Self {
            options,
            lasted: Duration::ZERO,
            answers: BTreeMap::new(),
            excused: BTreeMap::new(),
            violations: BTreeMap::new(),
            told: Vec::new(),
            faults: BTreeMap::new(),
            fail_overs: 0,
            failed: BTreeMap::new(),
            unanswered: [0; 2],
            refused: [0; 2],
            changes: 0,
            journaled: 0,
            applied: Vec::new(),
            unheard: 0,
            origin_reads: (0, 0),
        }
    }

    /// An answer, with what is found of each thing that it shows.
    pub(crate) fn read(&mut self, detail: &str, found: impl Iterator<Item = Finding>) {
        match self.answers.get_mut(detail) {
            Some(count) => *count += 1,
            None => drop(self.answers.insert(detail.to_owned(), 1)),
        }
        let excuse =
            found.filter_map(|found| if let Finding::Excused(excuse) = found { Some(excuse) } else { None }).max();
        if let Some(excuse) = excuse {
            *self.excused.entry(excuse).or_default() += 1;
        }
    }

    pub(crate) fn wrong(&mut self, wrong: Wrong) {
        *self.violations.entry(wrong.violation).or_default() += 1;
        if self.told.len() < TOLD {
            eprintln!("{wrong}");
            self.told.push(wrong);
        }
    }

    pub(crate) fn suffers(&mut self, fault: Fault) {
        *self.faults.entry(fault.as_str()).or_default() += 1;
    }

    pub(crate) fn failed_over(&mut self) {
        self.fail_overs += 1;
    }

    pub(crate) fn failed(&mut self, trouble: &'static str) {
        *self.failed.entry(trouble).or_default() += 1;
    }

    pub(crate) fn unanswered(&mut self, is_calm: bool) {
        self.unanswered[usize::from(!is_calm)] += 1;
    }

    pub(crate) fn refused(&mut self, is_calm: bool) {
        self.refused[usize::from(!is_calm)] += 1;
    }

    pub(crate) fn changed(&mut self, journaled: bool) {
        self.changes += 1;
        self.journaled += u64::from(journaled);
    }

    pub(crate) fn applied(&mut self, after: Option<Duration>) {
        self.unheard += u64::from(after.is_none());
        self.applied.extend(after);
    }

    pub(crate) fn ended(&mut self, lasted: Duration, origin_reads: (u64, u64)) {
        (self.lasted, self.origin_reads) = (lasted, origin_reads);
        self.applied.sort_unstable();
    }

    pub(crate) fn violations(&self) -> u64 {
        self.violations.values().sum()
    }

    pub(crate) fn count(&self, violation: Violation) -> u64 {
        self.violations.get(&violation).copied().unwrap_or_default()
    }

    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// Purges that all other nodes were heard to have applied.
    pub(crate) fn heard(&self) -> usize {
        self.applied.len()
    }

    pub(crate) fn progress(&self, now: Moment, trouble: &str) -> String {
        let answers: u64 = self.answers.values().sum();
        let excused: u64 = self.excused.values().sum();
        format!(
            "{:>5} s  {trouble:<36} {answers:>9} answers, {excused} of them stale with reason; {} changes; {} violations",
            now.as_secs(),
            self.changes,
            self.violations()
        )
    }

    /// How long it took until every node had applied a purge, for a share of all in a thousand.
    fn applied_within(&self, share: usize) -> Duration {
        let last = self.applied.len().saturating_sub(1);
        self.applied.get(last * share / 1000).copied().unwrap_or_default()
    }

    pub(crate) fn faults(&self) -> u64 {
        self.faults.values().sum()
    }

    fn write(&self, to: &mut String) -> fmt::Result {
        let Options { seed, nodes, topology, .. } = self.options;
        let bounds = self.options.bounds();
        writeln!(to, "{:.0?}, seed {seed}, {nodes} nodes, {}", self.lasted, topology.as_str())?;
        writeln!(
            to,
            "bounds after an acknowledgement: none on its node, soft {:?}; elsewhere {:?} by the log, {:?} by a journal",
            bounds.soft_grace, bounds.logged, bounds.journaled
        )?;
        writeln!(to, "\nviolations                {:>9}", self.violations())?;
        for violation in Violation::ALL {
            writeln!(to, "  {:<62} {:>9}", violation.as_str(), self.count(violation))?;
        }
        for wrong in &self.told {
            writeln!(to, "    {wrong}")?;
        }
        writeln!(to, "\nanswers                   {:>9}", self.answers.values().sum::<u64>())?;
        for (detail, count) in &self.answers {
            writeln!(to, "  {detail:<62} {count:>9}")?;
        }
        writeln!(to, "stale, as they may be     {:>9}", self.excused.values().sum::<u64>())?;
        for excuse in Excuse::ALL {
            let count = self.excused.get(&excuse).copied().unwrap_or_default();
            writeln!(to, "  {:<62} {count:>9}", excuse.as_str())?;
        }
        let [calm, troubled] = self.unanswered;
        writeln!(to, "requests without an answer: {calm} in calm, {troubled} in trouble")?;
        writeln!(to, "answers without content: {:?}", self.failed)?;
        let [calm, troubled] = self.refused;
        writeln!(to, "\nchanges                   {:>9}, {} of them by a journal", self.changes, self.journaled)?;
        writeln!(to, "webhooks that had to be sent again: {calm} in calm, {troubled} in trouble")?;
        let (reads, unchanged) = self.origin_reads;
        let per_change = reads as f64 / self.changes.max(1) as f64;
        writeln!(to, "origin reads              {reads:>9}, {unchanged} of them 304; {per_change:.1} a change")?;
        writeln!(
            to,
            "acknowledged, then heard to be applied on all other nodes, without faults: p50 {:.2?}, p99 {:.2?}, max {:.2?} of {}, \
             and {} unheard",
            self.applied_within(500),
            self.applied_within(990),
            self.applied_within(1000),
            self.applied.len(),
            self.unheard
        )?;
        let faults = self.faults();
        writeln!(
            to,
            "\nfaults                    {faults:>9}, another Redis was the master after {}",
            self.fail_overs
        )?;
        for (fault, count) in &self.faults {
            writeln!(to, "  {fault:<62} {count:>9}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.write(&mut text)?;
        f.write_str(&text)
    }
}
