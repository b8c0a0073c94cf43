//! One run: what a seed does, step by step, and what must hold at its end.

use std::ops::AddAssign;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use endcap::policy::purge::{Mode, Purge};

use crate::ledger::{self, Ledger, Standing};
use crate::link::Shared;
use crate::node::{EPOCH, Node};
use crate::origin::SimOrigin;
use crate::shop::{PRODUCTS, Page};
use crate::weather::{Trouble, Weather};
use crate::world::World;

/// A broken rule, and how it came to that.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) what: String,
    pub(crate) trace: Vec<String>,
}

/// What a run did, added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) answers: u64,
    pub(crate) purges: u64,
    /// Answers of which nobody could say what they must know: a purge was lost with all who knew of it.
    pub(crate) unjudged: u64,
    /// So it was in the end, and what was stored then was not looked at.
    pub(crate) lossy: u64,
}

impl AddAssign for Figures {
    fn add_assign(&mut self, one: Self) {
        self.answers += one.answers;
        self.purges += one.purges;
        self.unjudged += one.unjudged;
        self.lossy += one.lossy;
    }
}

/// Takes the course of a seed. The same seed takes the same course.
pub(crate) fn run(seed: u64) -> (Result<Figures, Failure>, Vec<String>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    let world = runtime.block_on(async { World::new(seed) });
    let stage = runtime.block_on(async { Stage::set(&world) });
    runtime.block_on(Arc::clone(&stage).play());
    let trace = world.trace();
    let result = match world.first_broken() {
        Some(what) => Err(Failure { what, trace: trace.clone() }),
        None => Ok(*stage.figures.lock().unwrap()),
    };
    (result, trace)
}

struct Stage {
    world: Arc<World>,
    weather: Arc<Weather>,
    ledger: Arc<Ledger>,
    shared: Arc<Shared>,
    origin: Arc<SimOrigin>,
    nodes: Mutex<Vec<Arc<Node>>>,
    figures: Mutex<Figures>,
    /// Troubles that last.
    troubles: AtomicUsize,
    /// Holds the journals.
    _disk: tempfile::TempDir,
}

impl Stage {
    fn set(world: &Arc<World>) -> Arc<Self> {
        let weather = Arc::new(Weather::of(world));
        world.note(format_args!(
            "{} nodes, latency {}, loss {}, origin {} ms, {} of 1000 fail, pauses {}, grace {:?}, {:?}",
            weather.nodes,
            weather.latency,
            weather.loss,
            weather.origin_delay,
            weather.origin_failures,
            weather.pause,
            weather.config.purge.soft_grace,
            weather.troubles
        ));
        let ledger = Ledger::new(world, weather.config.purge.max_blind, weather.lagging());
        let shared = Shared::new(world, &weather, &ledger, EPOCH);
        let origin = SimOrigin::new(world, &weather);
        let disk = disk();
        let start = |index: usize| {
            let journal = weather.journal.then(|| disk.path().join(index.to_string()));
            Node::start(index, &shared, &origin, clock(world, &weather), journal)
        };
        let nodes = (0..weather.nodes).map(start).collect();
        Arc::new(Self {
            world: Arc::clone(world),
            weather,
            ledger,
            shared,
            origin,
            nodes: Mutex::new(nodes),
            figures: Mutex::default(),
            troubles: AtomicUsize::new(0),
            _disk: disk,
        })
    }

    async fn play(self: Arc<Self>) {
        // What came before a node has begun to read has no echo.
        let settled = if self.weather.replica_lag > 0 { 1000 } else { self.world.below(100) };
        tokio::time::sleep(Duration::from_millis(settled)).await;
        for _ in 0..self.weather.steps {
            if self.world.first_broken().is_some() {
                return;
            }
            self.step().await;
            if self.world.chance(600) {
                self.world.pause(self.weather.pause).await;
            }
        }
        self.rest().await;
    }

    fn node(&self, index: usize) -> Arc<Node> {
        Arc::clone(&self.nodes.lock().unwrap()[index])
    }

    fn all_sound_since(&self) -> Option<u64> {
        let nodes = self.nodes.lock().unwrap();
        nodes.iter().map(|node| node.link.sound_since()).try_fold(0, |latest, since| Some(latest.max(since?)))
    }

    fn any_node(&self) -> Arc<Node> {
        self.node(self.world.index(self.weather.nodes))
    }

    async fn step(self: &Arc<Self>) {
        match self.world.below(100) {
            0..55 => {
                let (node, page) = (self.any_node(), self.world.pick(&Page::EACH));
                for _ in 0..self.world.pick(&[1, 1, 2, 4]) {
                    self.read(&node, page);
                }
            }
            55..75 => self.change(),
            75..80 => self.purge_by_hand(),
            _ => {
                if !self.weather.troubles.is_empty() {
                    self.make(self.world.pick(&self.weather.troubles)).await;
                }
            }
        }
    }

    /// A reader asks a node, and what it gets is judged by what the node must know when it asks.
    fn read(self: &Arc<Self>, node: &Arc<Node>, page: Page) {
        let (stage, node) = (Arc::clone(self), Arc::clone(node));
        let is_plain = self.world.chance(500);
        let patience = if self.world.chance(50) { self.world.below(100) } else { 120_000 };
        let duties = self.ledger.duties(Standing { all_sound_since: self.all_sound_since(), ..node.standing() });
        self.world.spawn(async move {
            let got = tokio::time::timeout(Duration::from_millis(patience), node.get(page, is_plain)).await;
            let answer = match got {
                Ok(Some(answer)) => answer,
                Ok(None) => return,
                Err(_) if patience == 120_000 => {
                    stage.world.broken(format_args!("n{} does not answer a request for {page:?}", node.index));
                    return;
                }
                Err(_) => return,
            };
            {
                let mut figures = stage.figures.lock().unwrap();
                figures.answers += 1;
                figures.unjudged += u64::from(stage.ledger.is_torn());
            }
            let revision = answer.content.as_ref().map(|content| content.revision);
            stage
                .world
                .note(format_args!("n{}: {page:?} {} r{revision:?} of {}", node.index, answer.outcome, answer.asked));
            let grace = u64::try_from(stage.weather.config.purge.soft_grace.as_millis()).unwrap();
            if let Some(wrong) = ledger::judge(&answer, &duties, grace, stage.origin.has_failed()) {
                stage.world.broken(format_args!("n{}: {page:?} {} {wrong}", node.index, answer.outcome));
            }
        });
    }

    /// A reader who comes when all is quiet: what it gets is what the database holds.
    fn read_last(self: &Arc<Self>, node: &Arc<Node>, page: Page) {
        self.read(node, page);
        if self.ledger.has_lost() {
            // Nobody can know of what is lost before its time to live ends.
            self.figures.lock().unwrap().lossy = 1;
            return;
        }
        let (stage, node) = (Arc::clone(self), Arc::clone(node));
        self.world.spawn(async move {
            let content = node.get(page, true).await.and_then(|answer| answer.content);
            let current = stage.origin.database(|database| database.read(page));
            if content.as_ref() != Some(&current) {
                stage.world.broken(format_args!("n{}: {page:?} is {content:?}, not {current:?}", node.index));
            }
        });
    }

    /// Something changes, and the backend announces it until it is acknowledged.
    fn change(self: &Arc<Self>) {
        let (product, variant) = (self.world.index(PRODUCTS), self.world.below(12));
        let (change, commit) = self.origin.database(|database| {
            let change = database.possible(product, variant);
            (change, database.commit(change, self.world.now()))
        });
        let id = self.ledger.committed(change, commit);
        self.world.note(format_args!("shop: r{commit} {change:?}, {id}"));
        let stage = Arc::clone(self);
        self.world.spawn(async move {
            stage.world.pause(20).await;
            let body = change.event();
            loop {
                let node = stage.any_node();
                let delivery = tokio::time::timeout(Duration::from_secs(10), node.deliver(&id, &body));
                let status = delivery.await.ok().flatten();
                stage.world.note(format_args!("n{}: {id} {status:?}", node.index));
                if status.is_some_and(|status| (200..300).contains(&status)) {
                    let is_held = |seq| stage.shared.with(|server, _| server.stands(seq));
                    stage.ledger.acknowledged(&id, node.index, status == Some(202), is_held);
                    stage.figures.lock().unwrap().purges += 1;
                    // The answer may be lost; then it is sent again.
                    if !stage.world.chance(50) {
                        return;
                    }
                }
                tokio::time::sleep(Duration::from_millis(1000 + stage.world.below(1000))).await;
            }
        });
    }

    /// Somebody purges although nothing changed.
    fn purge_by_hand(self: &Arc<Self>) {
        let tag = match self.world.below(4) {
            0 => "all".to_owned(),
            1 => "list:product".to_owned(),
            _ => format!("prod_{}", self.world.below(4)),
        };
        let mode = self.world.pick(&[Mode::Soft, Mode::Soft, Mode::Hard, Mode::Delete]);
        let node = self.any_node();
        self.world.note(format_args!("n{}: purge {tag} {mode:?}", node.index));
        let purge = Purge { tags: vec![(tag, mode)], source: "purge".into(), ..Purge::default() };
        self.world.spawn(async move { node.purge(purge).await });
    }

    async fn make(self: &Arc<Self>, trouble: Trouble) {
        let node = self.any_node();
        let whom = match trouble {
            Trouble::Partition | Trouble::Crash | Trouble::Jump => Some(node.index),
            _ => None,
        };
        self.world.note(format_args!("trouble: {trouble:?} {whom:?}"));
        match trouble {
            Trouble::Partition => {
                node.link.set_cut(true);
                self.later(6000, move |_| node.link.set_cut(false));
            }
            Trouble::Restart => self.restart(|_, _| {}),
            Trouble::FailOver => {
                let lag = self.world.pick(&[0, 3, 50, 1000]);
                let clock = self.world.pick(&[EPOCH, EPOCH - 7_000, EPOCH + 7_000, EPOCH + 7_200_000]);
                self.restart(move |server, now| {
                    server.lose_since(now.saturating_sub(lag));
                    server.epoch = clock;
                });
            }
            Trouble::Emptied => self.restart(|server, _| server.empty()),
            Trouble::Eviction => {
                let at = self.world.index(Page::EACH.len());
                self.shared.with(|server, _| server.drop_value(at));
            }
            Trouble::LogEviction => {
                let is_begun_anew = self.world.chance(500);
                self.lose(|server, now| if is_begun_anew { server.begin_log_anew(now) } else { server.drop_log() });
                self.ledger.appended("", self.shared.with(|server, _| server.last()).unwrap_or_default());
            }
            Trouble::Trim => self.shared.with(|server, now| server.trim_older(now, 20_000)),
            Trouble::Refusal => {
                self.shared.trouble(|server, _| server.refuses = true);
                self.later(4000, |stage| stage.shared.trouble(|server, _| server.refuses = false));
            }
            Trouble::Garbage => {
                let seq = self.shared.with(|server, now| server.append(None, now));
                self.ledger.appended("", seq);
                self.world.note(format_args!("store: garbage at {seq}"));
            }
            Trouble::Crash => {
                node.kill();
                self.ledger.killed(node.index);
                let (clock, journal) = (clock(&self.world, &self.weather), node.left_behind());
                let started = Node::start(node.index, &self.shared, &self.origin, clock, journal);
                self.nodes.lock().unwrap()[node.index] = started;
            }
            Trouble::Jump => node.jump(self.world.pick(&[700, 5_000, 200_000])),
            Trouble::Outage => {
                self.origin.set_out(true);
                self.later(5000, |stage| stage.origin.set_out(false));
            }
            // What was stored ages.
            Trouble::Calm => {
                tokio::time::sleep(Duration::from_millis(self.world.pick(&[3_000, 3_000, 12_000, 25_000]))).await
            }
        }
    }

    /// Something happens to the server by which its log may end earlier than before.
    fn lose(&self, change: impl FnOnce(&mut crate::server::Server, u64)) {
        let standings: Vec<_> = self.nodes.lock().unwrap().iter().map(|node| node.standing()).collect();
        standings.iter().for_each(|standing| self.ledger.observe(*standing));
        let drops = self.shared.with(|server, _| server.drops);
        self.ledger.lost();
        self.shared.trouble(change);
        if self.shared.with(|server, _| server.drops) != drops {
            return self.ledger.dropped();
        }
        let last = self.shared.with(|server, _| server.last()).unwrap_or_default();
        self.ledger.fell_back(last, standings.iter().map(|standing| (standing.node, standing.applied)));
    }

    /// The store is away for a while; what it lost meanwhile is told.
    fn restart(self: &Arc<Self>, change: impl FnOnce(&mut crate::server::Server, u64) + Send + 'static) {
        self.lose(|server, now| {
            server.is_up = false;
            server.break_connections();
            change(server, now);
        });
        self.later(3000, |stage| {
            stage.shared.trouble(|server, _| server.is_up = true);
            stage.world.note("trouble: the store is back");
        });
    }

    fn later(self: &Arc<Self>, most: u64, act: impl FnOnce(&Self) + Send + 'static) {
        let stage = Arc::clone(self);
        self.troubles.fetch_add(1, Ordering::Relaxed);
        self.world.spawn(async move {
            stage.world.pause(most).await;
            act(&stage);
            stage.troubles.fetch_sub(1, Ordering::Relaxed);
        });
    }

    /// All trouble ends; then everybody must agree, and nothing may be left.
    async fn rest(self: &Arc<Self>) {
        self.world.note("rest");
        self.origin.calm();
        self.shared.calm();
        while self.troubles.load(Ordering::Relaxed) > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for waited in 0.. {
            if self.ledger.unacknowledged() == 0 {
                break;
            }
            if waited > 120 {
                return self.world.broken("a purge is never acknowledged");
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(
            ledger::RECOVERS_AFTER + ledger::REACHES_AFTER + self.weather.lagging(),
        ))
        .await;
        // A flight at its longest.
        let flight = Duration::from_millis(self.weather.flight());
        // The first to come may find that the origin failed when it was last asked.
        for is_last in [false, true] {
            for index in 0..self.weather.nodes {
                for page in Page::EACH {
                    if is_last {
                        self.read_last(&self.node(index), page);
                    } else {
                        self.read(&self.node(index), page);
                    }
                }
            }
            tokio::time::sleep(flight + Duration::from_millis(self.weather.lagging())).await;
        }
        // Who finds that purges overtook a flight joins two more.
        tokio::time::sleep(flight * 2).await;
        for index in 0..self.weather.nodes {
            let node = self.node(index);
            let (flights, following) = (node.flights(), node.following());
            if flights != (0, 0) {
                self.world.broken(format_args!("n{index}: flights and followers {flights:?} are left"));
            }
            if !following.connected || !following.caught_up {
                self.world.broken(format_args!("n{index}: does not follow the log: {following:?}"));
            }
            let held = self.shared.with(|server, now| server.leases_held(now));
            if held > 0 && self.weather.gives_leases_back() {
                self.world.broken(format_args!("{held} leases are left"));
            }
            if !node.stop().await {
                self.world.broken(format_args!("n{index}: does not stop"));
            }
        }
    }
}

/// A folder in memory, where there is one: no machine fails here, only processes.
fn disk() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// What a process finds on the clock when it starts, set by hand or by a bad time server.
fn clock(world: &World, weather: &Weather) -> u64 {
    EPOCH + world.below(weather.skew + 1) - weather.skew / 2
}
