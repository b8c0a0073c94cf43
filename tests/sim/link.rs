//! A node's way to the store: every message may be late, lost, or done without an answer.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use endcap::policy::key::KeyHash;
use endcap::policy::purge::{Purge, PurgeSeq};
use endcap::store::{Denial, Edges, Lease, LeaseToken, LogLine, LogState, SharedStore, StoreError, Written};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use crate::ledger::Ledger;
use crate::server::Server;
use crate::weather::Weather;
use crate::world::World;

/// The deadlines of the store in Redis, by default.
const GET_DEADLINE: Duration = Duration::from_millis(20);
const DEADLINE: Duration = Duration::from_secs(2);
const CONNECT: Duration = Duration::from_millis(250);

/// The server, and who waits for it to change.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) world: Arc<World>,
    pub(crate) weather: Arc<Weather>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) server: Mutex<Server>,
    changes: Notify,
    /// When the server was last away or changed behind everybody's back.
    troubled_at: AtomicU64,
    is_calm: AtomicBool,
}

impl Shared {
    pub(crate) fn new(world: &Arc<World>, weather: &Arc<Weather>, ledger: &Arc<Ledger>, epoch: u64) -> Arc<Self> {
        Arc::new(Self {
            world: Arc::clone(world),
            weather: Arc::clone(weather),
            ledger: Arc::clone(ledger),
            server: Mutex::new(Server::new(epoch)),
            changes: Notify::new(),
            troubled_at: AtomicU64::new(0),
            is_calm: false.into(),
        })
    }

    /// Looks at the server, or changes it; whoever blocks on it looks again.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Server, u64) -> T) -> T {
        let result = act(&mut self.server.lock().unwrap(), self.world.now());
        self.changes.notify_waiters();
        result
    }

    /// Something happens to the server itself.
    pub(crate) fn trouble(&self, act: impl FnOnce(&mut Server, u64)) {
        self.with(|server, now| act(server, now));
        self.troubled_at.store(self.world.now(), Ordering::Relaxed);
        self.ledger.look_for_losses(|seq| self.server.lock().unwrap().stands(seq));
    }

    pub(crate) fn calm(&self) {
        self.is_calm.store(true, Ordering::Relaxed);
    }

    fn loses(&self) -> bool {
        !self.is_calm.load(Ordering::Relaxed) && self.world.chance(self.weather.loss)
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Link {
    node: usize,
    shared: Arc<Shared>,
    is_cut: AtomicBool,
    healed: Notify,
    dead: CancellationToken,
    troubled_at: AtomicU64,
    /// As the store in Redis: the log is cut by the server's clock.
    newest_ms: AtomicU64,
    /// The server's generation when the connection was made on which the log is read, where there is one.
    reader: Mutex<Option<u64>>,
}

impl Link {
    pub(crate) fn new(node: usize, shared: &Arc<Shared>, dead: &CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            node,
            shared: Arc::clone(shared),
            is_cut: AtomicBool::new(false),
            healed: Notify::new(),
            dead: dead.clone(),
            troubled_at: AtomicU64::new(shared.world.now()),
            newest_ms: AtomicU64::new(0),
            reader: Mutex::default(),
        })
    }

    pub(crate) fn set_cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::Relaxed);
        if !is_cut {
            self.healed.notify_waiters();
        }
        self.trouble();
    }

    /// Since when nothing has gone wrong between the node and the store; `None` while something does.
    pub(crate) fn sound_since(&self) -> Option<u64> {
        let is_up = self.shared.server.lock().unwrap().is_up;
        let troubled = [&self.troubled_at, &self.shared.troubled_at].map(|at| at.load(Ordering::Relaxed));
        (is_up && !self.is_cut.load(Ordering::Relaxed)).then(|| troubled.into_iter().max().unwrap_or(0))
    }

    fn trouble(&self) {
        self.troubled_at.store(self.shared.world.now(), Ordering::Relaxed);
    }

    /// Takes a message one way; false when it does not arrive.
    async fn carry(&self) -> bool {
        let world = &self.shared.world;
        world.pause(self.shared.weather.latency).await;
        if self.is_cut.load(Ordering::Relaxed) {
            self.trouble();
            if world.chance(500) {
                return false;
            }
            // TCP sends it again when the network is whole: late, but it arrives.
            self.healed.notified().await;
            world.pause(self.shared.weather.latency).await;
            return true;
        }
        if self.shared.loses() {
            self.trouble();
            return false;
        }
        true
    }

    /// A line of ours stands in the log.
    fn appended(&self, purge: &Purge, seq: PurgeSeq) {
        let what = if purge.event_id.is_empty() { &purge.source } else { &purge.event_id };
        self.shared.world.note(format_args!("store: {what} at {seq}, by n{}", self.node));
        let is_newest = self.shared.ledger.appended(&purge.event_id, seq);
        if purge.source == "lost" {
            self.shared.ledger.told(self.node, seq, is_newest);
        }
    }

    /// Whoever reads the log on after its connection broke is told so, once.
    fn read_on(&self) -> Result<u64, StoreError> {
        let generation = self.shared.with(|server, _| server.is_up.then_some(server.generation)).ok_or_else(down)?;
        let made = *self.reader.lock().unwrap().get_or_insert(generation);
        if made == generation { Ok(generation) } else { Err(down()) }
    }

    /// A connection on which something failed is not used again.
    fn reading<T>(&self, asked: Result<T, StoreError>) -> Result<T, StoreError> {
        if asked.is_err() {
            *self.reader.lock().unwrap() = None;
        }
        asked
    }

    /// Asks the server. It may do what it is told although nobody hears of it.
    async fn ask<T: Send + 'static>(
        self: Arc<Self>,
        deadline: Duration,
        act: impl FnOnce(&mut Server, u64) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.converse(deadline, async move |link: Arc<Self>| {
            link.shared.with(|server, now| if server.is_up { act(server, now) } else { Err(down()) })
        })
        .await
    }

    /// Sends a request, has the server work on it, and waits for the answer.
    async fn converse<T, W>(
        self: Arc<Self>,
        deadline: Duration,
        work: impl FnOnce(Arc<Self>) -> W + Send + 'static,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, StoreError>> + Send,
    {
        if self.dead.is_cancelled() {
            // A killed process asks nothing, and hears nothing.
            return std::future::pending().await;
        }
        let (answer, answered) = oneshot::channel();
        let link = Arc::clone(&self);
        self.shared.world.spawn(async move {
            let mut answer = answer;
            if link.carry().await {
                let done = work(Arc::clone(&link)).await;
                if link.carry().await {
                    drop(answer.send(done));
                    return;
                }
            }
            // Lost: the connection breaks, or nothing is heard.
            if link.shared.world.chance(700) {
                answer.closed().await;
            }
        });
        let outcome = match tokio::time::timeout(deadline, answered).await {
            Err(_) => Err(StoreError::Timeout),
            Ok(Err(_)) => Err(StoreError::Connection("broken".into())),
            Ok(Ok(outcome)) => outcome,
        };
        if self.dead.is_cancelled() {
            return std::future::pending().await;
        }
        outcome
    }
}

fn down() -> StoreError {
    StoreError::Connection("refused".into())
}

fn takes(server: &Server) -> Result<(), StoreError> {
    if server.refuses { Err(StoreError::Refused(Denial::Replicas, "it is alone".into())) } else { Ok(()) }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A link as the product holds it.
#[derive(Clone, Debug)]
pub(crate) struct LinkedStore(pub(crate) Arc<Link>);

impl LinkedStore {
    fn link(&self) -> Arc<Link> {
        Arc::clone(&self.0)
    }

    fn saw(&self, seq: PurgeSeq) {
        self.0.newest_ms.fetch_max(seq.logged_at().as_millis(), Ordering::Relaxed);
    }
}

impl SharedStore for LinkedStore {
    fn get(&self, key: KeyHash) -> BoxFuture<'_, Result<Option<Bytes>, StoreError>> {
        self.link().ask(GET_DEADLINE, move |server, now| Ok(server.value(key, now))).boxed()
    }

    fn put(&self, key: KeyHash, value: Bytes, ttl: Duration) -> BoxFuture<'_, Result<(), StoreError>> {
        let ask = self.link().ask(DEADLINE, move |server, now| {
            server.put(key, value, now.saturating_add(millis(ttl)), now);
            Ok(())
        });
        ask.boxed()
    }

    fn remove(&self, key: KeyHash) -> BoxFuture<'_, Result<(), StoreError>> {
        let ask = self.link().ask(GET_DEADLINE, move |server, _| {
            server.remove(key);
            Ok(())
        });
        ask.boxed()
    }

    fn lease(&self, key: KeyHash, token: LeaseToken, ttl: Duration) -> BoxFuture<'_, Result<bool, StoreError>> {
        let ask = move |server: &mut Server, now| Ok(server.lease(key, token, now + millis(ttl), now));
        self.link().ask(GET_DEADLINE, ask).boxed()
    }

    fn leased(&self, key: KeyHash, token: LeaseToken) -> BoxFuture<'_, Result<Lease, StoreError>> {
        self.link().ask(GET_DEADLINE, move |server, now| Ok(server.lease_of(key, token, now))).boxed()
    }

    fn release(
        &self,
        key: KeyHash,
        token: LeaseToken,
        vain: Option<Duration>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let ask = move |server: &mut Server, now| {
            server.release(key, token, vain.map(|vain| now + millis(vain)), now);
            Ok(())
        };
        self.link().ask(GET_DEADLINE, ask).boxed()
    }

    fn note<'s>(&'s self, name: &'s str) -> BoxFuture<'s, Result<Option<Bytes>, StoreError>> {
        let name = name.to_owned();
        self.link().ask(DEADLINE, move |server, _| Ok(server.notes.get(&name).cloned())).boxed()
    }

    fn swap_note<'s>(
        &'s self,
        name: &'s str,
        before: Option<Bytes>,
        after: Bytes,
        _ttl: Duration,
    ) -> BoxFuture<'s, Result<bool, StoreError>> {
        let name = name.to_owned();
        let ask = move |server: &mut Server, _| {
            let is_same = server.notes.get(&name) == before.as_ref();
            if is_same {
                server.notes.insert(name, after);
            }
            Ok(is_same)
        };
        self.link().ask(DEADLINE, ask).boxed()
    }

    fn append<'s>(&'s self, purges: &'s [Purge], keep: Duration) -> BoxFuture<'s, Result<Vec<PurgeSeq>, StoreError>> {
        let (link, purges) = (self.link(), purges.to_vec());
        let oldest = self.0.newest_ms.load(Ordering::Relaxed).saturating_sub(millis(keep));
        async move {
            let ask = self.link().ask(DEADLINE, move |server, now| {
                takes(server)?;
                let append = |purge: &Purge| {
                    let seq = server.append(Some(purge.clone()), now);
                    link.appended(purge, seq);
                    seq
                };
                let seqs: Vec<_> = purges.iter().map(append).collect();
                server.trim(oldest);
                Ok(seqs)
            });
            let seqs = ask.await?;
            for seq in &seqs {
                self.saw(*seq);
            }
            Ok(seqs)
        }
        .boxed()
    }

    fn read_log(
        &self,
        after: PurgeSeq,
        most: usize,
        wait: Duration,
    ) -> BoxFuture<'_, Result<Vec<Written>, StoreError>> {
        let after = after.shared();
        async move {
            let work = async move |link: Arc<Link>| {
                let generation = link.read_on()?;
                let deadline = tokio::time::Instant::now() + wait;
                loop {
                    let changes = link.shared.changes.notified();
                    {
                        let server = link.shared.server.lock().unwrap();
                        if !server.is_up || server.generation != generation {
                            return Err(down());
                        }
                        let lines = server.lines(after, most);
                        if after != PurgeSeq::ZERO && server.held(after) != Some(after) {
                            return Err(StoreError::Gone);
                        }
                        if !lines.is_empty() || tokio::time::Instant::now() >= deadline {
                            return Ok(lines);
                        }
                    }
                    // Either way it looks again.
                    drop(tokio::time::timeout_at(deadline, changes).await);
                }
            };
            let asked_at = self.0.shared.world.now();
            let asked = self.link().converse(wait + CONNECT + DEADLINE, work).await;
            let lines: Vec<LogLine> = self.0.reading(asked)?;
            self.0.shared.ledger.heard(self.0.node, asked_at);
            if let Some(newest) = lines.last() {
                self.saw(newest.seq);
            }
            Ok(lines.into_iter().map(Written::from).collect())
        }
        .boxed()
    }

    fn look_log(&self, from: PurgeSeq, most: usize) -> BoxFuture<'_, Result<Vec<LogLine>, StoreError>> {
        self.link().ask(DEADLINE, move |server, _| Ok(server.lines(from.before(), most))).boxed()
    }

    fn log_state(&self, applied: PurgeSeq) -> BoxFuture<'_, Result<LogState, StoreError>> {
        let applied = applied.shared();
        async move {
            let work = async move |link: Arc<Link>| {
                link.read_on()?;
                Ok(link.shared.with(|server, _| Edges {
                    oldest: server.first(),
                    held: server.held(applied),
                    newest: server.last(),
                    mark: server.mark(),
                }))
            };
            let asked = self.link().converse(DEADLINE, work).await;
            let edges = self.0.reading(asked)?;
            if let Some(newest) = edges.newest {
                self.saw(newest);
            }
            Ok(LogState::of(applied, edges))
        }
        .boxed()
    }

    fn restore<'s>(
        &'s self,
        seq: PurgeSeq,
        purge: &'s Purge,
        _keep: Duration,
    ) -> BoxFuture<'s, Result<bool, StoreError>> {
        let (link, purge) = (self.link(), purge.clone());
        async move {
            let noted = self.link();
            let ask = link.ask(DEADLINE, move |server, now| {
                takes(server)?;
                let is_next = server.append_at(seq, purge.clone(), now);
                if is_next {
                    noted.appended(&purge, seq);
                }
                // Also when it was there already, by this node's own hand: the answer may have been lost.
                Ok(is_next || server.holds_at(seq, &purge))
            });
            ask.await
        }
        .boxed()
    }
}
