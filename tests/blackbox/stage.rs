//! A run: writers, readers and faults on a fleet, and the book that all is judged by.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use endcap::tasks::Tasks;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::book::{Book, Bounds, Finding, Moment, Reading, Violation};
use super::dice::Dice;
use super::faults::{Fault, Plan};
use super::feeds::{self, Feeds};
use super::fleet::{Fleet, NodeSettings};
use super::http::{Answer, Client};
use super::redis::Topology;
use super::report::{Report, Wrong};
use super::shop::{self, Shop};
use super::writer;

/// How long a run is calm before the first fault: what is measured without faults is measured here and between them.
const CALM: Duration = Duration::from_secs(3);
/// How long a node shares one failure of the origin, as configured by default.
const ERROR_TTL: Duration = Duration::from_secs(1);
/// How long a fill may be under way, where nothing hangs: `lease_wait`, as configured by default, and what the shop
/// takes. Others are served what they are served in a failure until it is over.
const FILL_LONGEST: Duration = Duration::from_secs(3);
/// Times are milliseconds on both sides.
const CLOCK_MARGIN: Duration = Duration::from_millis(20);
/// How long a journal may take to come into a log that can be reached again: a connection is made anew and a
/// replay tried again each second, on a machine that is busy with everything else.
const REPLAY: Duration = Duration::from_secs(4);
/// How long a node may read from a master that was replaced and does not know it: who the master is, is asked again
/// every 5 s.
const LOOK: Duration = Duration::from_secs(6);
/// How long a reader thinks, at the most.
const THINK: Duration = Duration::from_millis(6);
const READERS_PER_NODE: usize = 2;
const WRITERS: usize = 4;
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// What is run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) lasts: Duration,
    pub(crate) seed: u64,
    pub(crate) nodes: usize,
    pub(crate) topology: Topology,
    /// What the nodes promise.
    pub(crate) max_blind: Duration,
    /// What they are told, which is the same unless the checker is checked.
    pub(crate) max_blind_told: Duration,
    /// Whether what is changed is told to anybody. If not, the checker pretends.
    pub(crate) delivers: bool,
    pub(crate) faults: Faults,
    /// Whether the first violation ends the run.
    pub(crate) stops_at_violation: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Faults {
    /// All kinds, by seed.
    Planned,
    /// This one, once.
    Only(Fault),
    None,
}

impl Options {
    pub(crate) const fn new(lasts: Duration, seed: u64) -> Self {
        let max_blind = Duration::from_secs(1);
        Self {
            lasts,
            seed,
            nodes: 3,
            topology: Topology::Single,
            max_blind,
            max_blind_told: max_blind,
            delivers: true,
            faults: Faults::Planned,
            stops_at_violation: false,
        }
    }

    fn settings(&self) -> NodeSettings {
        NodeSettings {
            max_blind: self.max_blind_told,
            soft_grace: Duration::from_secs(1),
            ack_timeout: Duration::from_millis(500),
        }
    }

    pub(crate) fn bounds(&self) -> Bounds {
        let settings = self.settings();
        let look = if self.topology == Topology::Sentinel { LOOK } else { Duration::ZERO };
        Bounds {
            soft_grace: settings.soft_grace + CLOCK_MARGIN,
            logged: self.max_blind + CLOCK_MARGIN,
            journaled: self.max_blind + REPLAY + look,
            // Who tries again within so long after it is the sequel of a failure.
            failure: ERROR_TTL * 2 + FILL_LONGEST,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) options: Options,
    pub(crate) shop: Arc<Shop>,
    pub(crate) fleet: Fleet,
    pub(crate) feeds: Feeds,
    pub(crate) began: Instant,
    book: Mutex<Book>,
    report: Mutex<Report>,
    /// The fault that happens now.
    trouble: Mutex<Option<Fault>>,
    /// No more changes.
    is_over: AtomicBool,
}

/// Runs, and says what was found.
pub(crate) async fn run(options: Options, folder: &Path) -> anyhow::Result<Report> {
    let tasks = Tasks::new();
    let mut dice = Dice::new(options.seed);
    let shop = Shop::open(&tasks, dice.split()).await;
    let Options { nodes, topology, .. } = options;
    let fleet = Fleet::start(folder, nodes, topology, shop.address, options.settings(), &tasks).await?;
    let run = Arc::new(Run {
        options,
        shop,
        fleet,
        feeds: Feeds::new(nodes),
        began: Instant::now(),
        book: Mutex::new(Book::new(options.bounds())),
        report: Mutex::new(Report::new(options)),
        trouble: Mutex::default(),
        is_over: AtomicBool::new(false),
    });
    let plan = Plan::new(dice.split(), &options);
    let listeners: Vec<_> =
        (0..nodes).map(|node| tasks.spawn(feeds::listen(Arc::clone(&run), node, tasks.clone()))).collect();
    let mut people = Vec::new();
    for node in 0..options.nodes {
        for _ in 0..READERS_PER_NODE {
            people.push(tasks.spawn(Arc::clone(&run).read(node, dice.split(), Client::new(&tasks))));
        }
    }
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tasks.spawn(writer::write(Arc::clone(&run), writer, dice.split(), tasks.clone())))
        .collect();
    let progress = tasks.spawn(Arc::clone(&run).progress());

    let conducted = run.conduct(plan, dice.split(), &tasks).await;
    run.is_over.store(true, Ordering::SeqCst);
    for writer in writers {
        writer.await?;
    }
    for reader in people {
        reader.await?;
    }
    progress.abort();
    listeners.iter().for_each(JoinHandle::abort);
    conducted?;
    if options.delivers && !run.must_stop() {
        run.quiet(&tasks).await?;
    }
    let reads = run.shop.reads();
    let mut report = run.report.lock().unwrap().clone();
    report.ended(run.now(), reads);
    Ok(report)
}

impl Run {
    pub(crate) fn now(&self) -> Moment {
        self.began.elapsed()
    }

    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap()
    }

    pub(crate) fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.trouble.lock().unwrap().is_none()
    }

    /// Which calm this is: how many faults there have been; `None` in trouble.
    pub(crate) fn calm(&self) -> Option<u64> {
        // Together: a fault begins before it is counted.
        let report = self.report();
        self.is_calm().then(|| report.faults())
    }

    fn trouble(&self) -> &'static str {
        self.trouble.lock().unwrap().map_or("calm", Fault::as_str)
    }

    fn must_stop(&self) -> bool {
        self.options.stops_at_violation && self.report().violations() > 0
    }

    /// Lets faults happen until the time is over.
    async fn conduct(&self, mut plan: Plan, mut dice: Dice, tasks: &Tasks) -> anyhow::Result<()> {
        self.wait(CALM.min(self.options.lasts)).await;
        match self.options.faults {
            Faults::None => {}
            Faults::Only(fault) => self.trouble_with(fault, tasks).await?,
            Faults::Planned => {
                while self.now() < self.options.lasts && !self.must_stop() {
                    self.trouble_with(plan.next(), tasks).await?;
                    self.wait(dice.between(Duration::from_millis(200), Duration::from_millis(1500))).await;
                }
            }
        }
        self.wait(self.options.lasts.saturating_sub(self.now())).await;
        Ok(())
    }

    async fn trouble_with(&self, fault: Fault, tasks: &Tasks) -> anyhow::Result<()> {
        *self.trouble.lock().unwrap() = Some(fault);
        self.report().suffers(fault);
        let master = self.fleet.redis.master().await?;
        self.suffer(fault).await?;
        self.fleet.settled(tasks).await?;
        if self.fleet.redis.master().await? != master {
            self.report().failed_over();
        }
        *self.trouble.lock().unwrap() = None;
        Ok(())
    }

    /// Waits for a while, or for the first violation where that ends the run.
    async fn wait(&self, lasts: Duration) {
        let until = self.now() + lasts;
        while self.now() < until && !self.must_stop() {
            tokio::time::sleep((until - self.now().min(until)).min(Duration::from_millis(100))).await;
        }
    }

    async fn progress(self: Arc<Self>) {
        loop {
            tokio::time::sleep(PROGRESS_EVERY).await;
            let line = self.report().progress(self.now(), self.trouble());
            eprintln!("{line}");
        }
    }

    /// A shopper who always comes to the same node.
    async fn read(self: Arc<Self>, node: usize, mut dice: Dice, mut client: Client) {
        while !self.is_over() {
            let target = shop::any_target(&mut dice);
            let began = self.now();
            let answer = client.get(self.fleet.addresses(node).public, &target).await;
            match answer {
                Ok(answer) => self.judge(node, &target, began, &answer),
                Err(_) => {
                    self.report().unanswered(self.is_calm());
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            tokio::time::sleep(dice.between(Duration::ZERO, THINK)).await;
        }
    }

    fn judge(&self, node: usize, target: &str, began: Moment, answer: &Answer) {
        let trouble = self.trouble();
        let Some(shown) = Shop::shown(target, answer.status, &answer.body) else {
            self.report().failed(trouble);
            return;
        };
        let reading = Reading { node, began, on_error: answer.is_on_error() };
        let book = self.book();
        let judged = shown.iter().map(|(thing, version)| {
            let found = if *version > self.shop.version(thing) {
                Finding::Wrong(Violation::Invented, self.shop.version(thing))
            } else {
                book.judge(thing, *version, reading)
            };
            (found, thing, *version)
        });
        let judged: Vec<_> = judged.collect();
        drop(book);
        let mut report = self.report();
        report.read(answer.detail(), judged.iter().map(|(found, ..)| *found));
        for (found, thing, version) in judged {
            if let Finding::Wrong(violation, overlooked) = found {
                let (thing, detail) = (thing.clone(), answer.detail().to_owned());
                let target = target.to_owned();
                report.wrong(Wrong { violation, began, node, target, thing, version, overlooked, detail, trouble });
            }
        }
    }

    /// When nothing changes and nothing fails any more, every node must say what the shop says.
    async fn quiet(&self, tasks: &Tasks) -> anyhow::Result<()> {
        self.fleet.settled(tasks).await?;
        let bounds = self.options.bounds();
        tokio::time::sleep(bounds.logged.max(bounds.journaled) + bounds.soft_grace).await;
        let mut client = Client::new(tasks);
        for node in 0..self.fleet.nodes() {
            for target in shop::all_targets() {
                let began = self.now();
                let answer = client.get(self.fleet.addresses(node).public, &target).await?;
                let Some(shown) = Shop::shown(&target, answer.status, &answer.body) else {
                    anyhow::bail!("after quiet, {target} on node {node} is {}", answer.status);
                };
                for (thing, version) in shown {
                    let overlooked = self.book().newest(&thing);
                    if version < overlooked {
                        let (violation, detail) = (Violation::Lost, answer.detail().to_owned());
                        let (target, trouble) = (target.clone(), "quiet");
                        self.report().wrong(Wrong {
                            violation,
                            began,
                            node,
                            target,
                            thing,
                            version,
                            overlooked,
                            detail,
                            trouble,
                        });
                    }
                }
            }
        }
        Ok(())
    }
}
