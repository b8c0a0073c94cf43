//! CPU for each hit while purges of other things come in from the log, as on a node whose neighbours take webhooks.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::load::{Load, Until};
use crate::server::{Node, Redis};
use crate::wanted::Wanted;
use crate::{cpu, median, origin, say, start};

/// The log that the node reads.
const LOG: &str = "endcap:purges";
/// One that it does not read: what the writer and Redis take from the machine, and from those who ask for hits, is there.
const ELSEWHERE: &str = "elsewhere:purges";

/// Purges a second, and the log that they come into. The first is what the others are compared to, and comes twice: the
/// noise of the run.
const TURNS: [(u32, &str); 5] = [(0, LOG), (0, LOG), (10, LOG), (1_000, ELSEWHERE), (1_000, LOG)];
const SIZE: usize = 1024;
const CONNECTIONS: usize = 32;
/// The node's core; the load and Redis have the other.
const CORE: &str = "0";

pub(crate) fn run(rounds: usize, seconds: f64) -> Result<()> {
    let backend = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let upstream = backend.local_addr()?;
    std::thread::spawn(move || origin::serve(&backend));
    let redis = Redis::start()?;
    let node = Node::start(upstream, &redis, Some(CORE), &[])?;
    node.ready()?;
    let mut load = Load::connect(node.address, &Wanted::new(node.address, SIZE, None)?, CONNECTIONS, 64)?;
    load.run(Until::Requests(20_000))?;
    let mut costs = vec![Vec::new(); TURNS.len()];
    let mut hits = vec![Vec::new(); TURNS.len()];
    // Many short turns, each time another one first: what others do on the machine comes and goes within seconds.
    for round in 0..rounds {
        for turn in 0..TURNS.len() {
            let at = (round + turn) % TURNS.len();
            let (rate, log) = TURNS[at];
            let purger = Purger::start(&redis, rate, log)?;
            load.run(Until::Elapsed(Duration::from_secs_f64(seconds / 5.0)))?;
            let before = cpu::account(node.id())?;
            let outcome = load.run(Until::Elapsed(Duration::from_secs_f64(seconds)))?;
            let used = cpu::account(node.id())?.since(&before).ran;
            drop(purger);
            costs[at].push(used.as_secs_f64() * 1e6 / outcome.requests as f64);
            hits[at].push(outcome.rate());
        }
    }
    let ratio = |at: usize, base: usize| {
        let mut ratios: Vec<f64> = costs[at].iter().zip(&costs[base]).map(|(cost, base)| cost / base).collect();
        let ratio = median(&mut ratios);
        format!("x {ratio:.3} [{:.2}-{:.2}]", ratios[ratios.len() / 4], ratios[ratios.len() * 3 / 4])
    };
    for (at, (rate, log)) in TURNS.into_iter().enumerate() {
        let which = match (at, log) {
            (1, _) => "again",
            (_, ELSEWHERE) => "elsewhere",
            _ => "",
        };
        say(&format!(
            "hits at {rate:>4} purges/s {which:<9}: {:6.2} us CPU each, {}, {:.0} hits/s",
            median(&mut costs[at].clone()),
            ratio(at, 0),
            median(&mut hits[at])
        ));
    }
    say(&format!("hits at 1000 purges/s, compared to as many elsewhere: {}", ratio(4, 3)));
    Ok(())
}

/// Appends purges to a log at a rate until it is dropped.
struct Purger {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<Result<()>>>,
}

impl Purger {
    fn start(redis: &Redis, rate: u32, log: &'static str) -> Result<Self> {
        let mut connection = redis.connect()?;
        let stop = Arc::new(AtomicBool::new(rate == 0));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (began, mut count) = (Instant::now(), 0);
            while !stopped.load(Ordering::Relaxed) {
                let mut pipeline = redis::pipe();
                start::append(&mut pipeline, log, usize::try_from(count)?);
                pipeline.query::<()>(&mut connection)?;
                count += 1;
                std::thread::sleep((Duration::from_secs(1) * count / rate).saturating_sub(began.elapsed()));
            }
            Ok(())
        });
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Purger {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().context("it runs").map(std::thread::JoinHandle::join);
        assert!(matches!(ended, Ok(Ok(Ok(())))), "the purger failed: {ended:?}");
    }
}
