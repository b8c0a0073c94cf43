//! Rounds over the contenders, one after the other and again from the start, so that what happens to
//! the machine happens to all of them; ratios are taken within a round.

use std::io::Read;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use crate::cpu;
use crate::load::{Load, Outcome, Until, now};
use crate::wanted::Wanted;

/// One answer in so many is compared byte by byte while the clock runs; all of them when it does not.
const COMPARE_EVERY: u64 = 64;
/// A contender that has just been started may take so long until its first right answer.
const START: Duration = Duration::from_secs(10);
/// Answers compared in full before the first round.
const VERIFIED: u64 = 2_000;
/// Time for perf to attach to a process.
const ATTACH: Duration = Duration::from_millis(300);

/// A running server.
#[derive(Clone, Debug)]
pub(crate) struct Contender {
    name: String,
    pid: u32,
    address: SocketAddr,
}

impl Contender {
    fn wanted(&self, plan: &Plan) -> Result<Wanted> {
        Wanted::new(self.address, plan.size, self.name.split_once('+').map(|(_, encoding)| encoding))
    }
}

impl FromStr for Contender {
    type Err = anyhow::Error;

    /// `name=pid=address`; a name that ends in `+br` asks for that encoding.
    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('=').collect();
        let &[name, pid, address] = parts.as_slice() else { return Err(anyhow!("not name=pid=address: {text}")) };
        Ok(Self { name: name.to_owned(), pid: pid.parse()?, address: address.parse()? })
    }
}

/// How to measure.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Plan {
    /// Length of the list that is asked for.
    #[arg(long)]
    size: usize,
    #[arg(long, default_value_t = 32)]
    connections: usize,
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Length of one contender's turn in a round; a fifth of it goes before, unmeasured.
    #[arg(long, default_value_t = 1.2)]
    seconds: f64,
    /// A perf event to count a request, as `instructions:u`; left out where perf cannot.
    #[arg(long)]
    event: Option<String>,
    /// The servers; the first is the one that the others are compared to.
    #[arg(required = true, value_name = "NAME=PID=ADDRESS")]
    contenders: Vec<Contender>,
}

/// One turn of one contender.
struct Turn {
    cpu_us: f64,
    busy: f64,
    queued: f64,
    outcome: Outcome,
}

/// The column heads of the rows that [`run`] prints.
pub(crate) fn heads() -> String {
    format!(
        "{:<14} {:>7}  {:>22}  {:>20}  {:>8}  {:>5}  {:>5}  {:>7}  {:>7}  {:>9}",
        "contender",
        "bytes",
        "CPU us/req [min-max]",
        "x limit [min-max]",
        "req/s",
        "busy",
        "queue",
        "p50 us",
        "p99 us",
        "event/req"
    )
}

/// Verifies, measures and prints a row for each contender.
pub(crate) fn run(plan: &Plan) -> Result<()> {
    for contender in &plan.contenders {
        verify(contender, plan).with_context(|| format!("{} at {} bytes", contender.name, plan.size))?;
    }
    let count = plan.contenders.len();
    let mut turns: Vec<Vec<Turn>> = (0..count).map(|_| Vec::new()).collect();
    for round in 0..plan.rounds {
        // Nobody always follows the same one.
        for index in (0..count).map(|index| (index + round) % count) {
            let contender = &plan.contenders[index];
            turns[index].push(turn(contender, plan).with_context(|| contender.name.clone())?);
        }
    }
    for (index, contender) in plan.contenders.iter().enumerate() {
        let events = plan.event.as_ref().and_then(|event| events(contender, plan, event));
        crate::say(&row(contender, plan.size, &turns[index], &turns[0], events));
    }
    Ok(())
}

/// Waits for the first right answer, then compares some more in full: now it is in the cache.
fn verify(contender: &Contender, plan: &Plan) -> Result<()> {
    let deadline = now() + START;
    let wanted = loop {
        let first = contender.wanted(plan).and_then(|wanted| {
            Load::connect(contender.address, &wanted, 1, 1)?.run(Until::Requests(2))?;
            Ok(wanted)
        });
        match first {
            Ok(wanted) => break wanted,
            Err(error) if now() > deadline => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    };
    Load::connect(contender.address, &wanted, plan.connections, 1)?.run(Until::Requests(VERIFIED))?;
    Ok(())
}

fn turn(contender: &Contender, plan: &Plan) -> Result<Turn> {
    let mut load = Load::connect(contender.address, &contender.wanted(plan)?, plan.connections, COMPARE_EVERY)?;
    load.run(Until::Elapsed(Duration::from_secs_f64(plan.seconds / 5.0)))?;
    let before = cpu::account(contender.pid)?;
    let outcome = load.run(Until::Elapsed(Duration::from_secs_f64(plan.seconds)))?;
    let used = cpu::account(contender.pid)?.since(&before);
    let (ran, queued) = (used.ran.as_secs_f64(), used.queued.as_secs_f64());
    ensure!(ran > 0.0, "the server has used no CPU: is this its process, and does the kernel keep schedstat?");
    let elapsed = outcome.elapsed.as_secs_f64();
    let cpu_us = ran * 1e6 / outcome.requests as f64;
    Ok(Turn { cpu_us, busy: ran / elapsed, queued: queued / elapsed, outcome })
}

/// A perf event for each request, where perf can count it.
fn events(contender: &Contender, plan: &Plan, event: &str) -> Option<f64> {
    let pids: Vec<String> = cpu::tree(contender.pid).ok()?.iter().map(u32::to_string).collect();
    let wanted = contender.wanted(plan).ok()?;
    let mut load = Load::connect(contender.address, &wanted, plan.connections, COMPARE_EVERY).ok()?;
    load.run(Until::Requests(VERIFIED)).ok()?;
    let mut perf = Command::new("perf")
        .args(["stat", "-x", ",", "-e", event, "-p", &pids.join(",")])
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    std::thread::sleep(ATTACH);
    let outcome = load.run(Until::Requests(10 * VERIFIED));
    // Perf prints what it has when it is interrupted; if it never came up, this finds nobody.
    Command::new("kill").args(["-INT", &perf.id().to_string()]).status().ok()?;
    let mut report = String::new();
    perf.stderr.take()?.read_to_string(&mut report).ok()?;
    perf.wait().ok()?;
    let line = report.lines().find(|line| line.contains(event))?;
    let count: f64 = line.split(',').next()?.parse().ok()?;
    Some(count / outcome.ok()?.requests as f64)
}

fn row(contender: &Contender, size: usize, turns: &[Turn], limit: &[Turn], events: Option<f64>) -> String {
    let cpu = Spread::of(turns.iter().map(|turn| turn.cpu_us));
    let ratio = Spread::of(turns.iter().zip(limit).map(|(turn, limit)| turn.cpu_us / limit.cpu_us));
    let rate = Spread::of(turns.iter().map(|turn| turn.outcome.rate()));
    let busy = Spread::of(turns.iter().map(|turn| turn.busy * 100.0));
    let queued = Spread::of(turns.iter().map(|turn| turn.queued * 100.0));
    let p50 = Spread::of(turns.iter().map(|turn| turn.outcome.percentile_us(50.0)));
    let p99 = Spread::of(turns.iter().map(|turn| turn.outcome.percentile_us(99.0)));
    format!(
        "{:<14} {:>7}  {:>22}  {:>20}  {:>8.0}  {:>4.0}%  {:>4.0}%  {:>7.0}  {:>7.0}  {:>9}",
        contender.name,
        size,
        cpu.text(),
        ratio.text(),
        rate.median,
        busy.median,
        queued.median,
        p50.median,
        p99.median,
        events.map_or("-".to_owned(), |events| format!("{events:.1}")),
    )
}

/// Median and extremes.
struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_unstable_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = if values.len().is_multiple_of(2) {
            f64::midpoint(values[middle - 1], values[middle])
        } else {
            values[middle]
        };
        Self { min: values[0], median, max: values[values.len() - 1] }
    }

    fn text(&self) -> String {
        format!("{:.2} [{:.2}-{:.2}]", self.median, self.min, self.max)
    }
}
