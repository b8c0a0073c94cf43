//! The stage of a test: a scripted backend, nodes in this process, a clock moved by hand, and a Redis.
//!
//! Order comes from holding and releasing, time from the clock, and waiting is for a condition with a
//! deadline. Nothing here sleeps to win a race.

mod client;
mod log;
mod ops;
mod origin;
mod redis_server;

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use endcap::clock::{Clock, ManualClock, SystemClock};
use endcap::config::Config;
use endcap::node::Node;
use endcap::tasks::Tasks;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

pub(crate) use self::client::{Client, Reply, get_h2};
pub(crate) use self::log::LogLines;
pub(crate) use self::ops::{Delivery, SECRET, TOKEN};
pub(crate) use self::origin::{Answer, FakeOrigin, Seen};
pub(crate) use self::redis_server::RedisServer;

/// What a test may wait for one thing before it counts as hung: far more than two busy cores need.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// The preset for Medusa, as most users have it.
pub(crate) const MEDUSA: &str = "preset = \"medusa\"\n";

/// Runs a step that must come to an end.
pub(crate) async fn within<F: Future>(step: F) -> F::Output {
    tokio::time::timeout(DEADLINE, step).await.expect("the step hangs")
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(DEADLINE, async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    assert!(waited.await.is_ok(), "this did not happen: {what}");
}

/// A stage before the curtain.
pub(crate) struct Builder {
    config: String,
    nodes: usize,
    redis: Option<RedisServer>,
    environment: Vec<(String, String)>,
    journals: Option<TempDir>,
    waits: bool,
    slept: Duration,
}

impl Builder {
    /// The configuration file; by default the preset for Medusa and nothing else.
    pub(crate) fn config(mut self, toml: &str) -> Self {
        self.config = toml.to_owned();
        self
    }

    /// Further lines of the configuration file.
    pub(crate) fn also(mut self, toml: &str) -> Self {
        self.config.push_str(toml);
        self
    }

    /// Nodes that share what there is to share.
    pub(crate) fn nodes(mut self, count: usize) -> Self {
        self.nodes = count;
        self
    }

    /// A Redis, its log and its second tier.
    pub(crate) async fn redis(mut self) -> Self {
        self.redis = Some(RedisServer::start().await);
        self
    }

    /// A Redis that is configured and not there. The nodes are not waited for: they cannot be ready.
    pub(crate) fn redis_absent(mut self) -> Self {
        self.redis = Some(RedisServer::absent());
        self.unready()
    }

    /// The nodes are not waited for: they cannot be ready.
    pub(crate) fn unready(mut self) -> Self {
        self.waits = false;
        self
    }

    /// Each node has a journal.
    pub(crate) fn journals(mut self) -> Self {
        self.journals = Some(tempfile::tempdir().unwrap());
        self
    }

    /// Sets a variable of the environment over what the stage sets; empty takes it away.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The machine slept for so long since the process started: only the clock on its wall is right.
    pub(crate) fn slept(mut self, span: Duration) -> Self {
        self.slept = span;
        self
    }

    pub(crate) async fn start(self) -> Stage {
        let tasks = Tasks::new();
        let origin = FakeOrigin::start(&tasks).await;
        let mut environment = vec![
            ("ENDCAP_UPSTREAM".to_owned(), format!("http://{}", origin.address)),
            ("ENDCAP_LISTEN__ADDRESS".to_owned(), "127.0.0.1:0".to_owned()),
            ("ENDCAP_OPS__ADDRESS".to_owned(), "127.0.0.1:0".to_owned()),
            ("ENDCAP_OPS__TOKEN".to_owned(), TOKEN.to_owned()),
            ("ENDCAP_WEBHOOK_SECRET".to_owned(), ops::SECRET.to_owned()),
            // Lifetimes are to the millisecond what the test says.
            ("ENDCAP_CACHE__JITTER".to_owned(), "0.0".to_owned()),
            // Origin reads are counted, and the clock leaps: who tests the echo, the canary or blindness sets them.
            ("ENDCAP_PURGE__ECHO".to_owned(), "0s".to_owned()),
            ("ENDCAP_PURGE__CANARY".to_owned(), "0s".to_owned()),
            ("ENDCAP_PURGE__MAX_BLIND".to_owned(), "1h".to_owned()),
        ];
        if let Some(redis) = &self.redis {
            environment.push(("ENDCAP_REDIS__URL".to_owned(), redis.url()));
            // A busy machine is no slow Redis; who tests a slow one sets the deadline of a node in service.
            environment.push(("ENDCAP_REDIS__DEADLINE".to_owned(), "2s".to_owned()));
            environment.push(("ENDCAP_REDIS__CONNECT_TIMEOUT".to_owned(), "2s".to_owned()));
        }
        environment.retain(|(name, _)| !self.environment.iter().any(|(own, _)| own == name));
        environment.extend(self.environment);
        // The day is right, so that Redis' own times and ours are of one kind; it moves by hand alone.
        let clock = Arc::new(ManualClock::at(SystemClock::new().now().before(self.slept)));
        clock.sleep(self.slept);
        let mut stage = Stage {
            origin,
            clock,
            redis: self.redis,
            nodes: Vec::new(),
            tasks,
            config: self.config,
            environment,
            journals: self.journals,
        };
        for _ in 0..self.nodes {
            stage.add_node();
        }
        if self.waits {
            for node in &stage.nodes {
                within(node.ready()).await;
            }
        }
        stage
    }
}

/// See the module.
pub(crate) struct Stage {
    pub(crate) origin: FakeOrigin,
    pub(crate) clock: Arc<ManualClock>,
    redis: Option<RedisServer>,
    nodes: Vec<Node>,
    tasks: Tasks,
    config: String,
    environment: Vec<(String, String)>,
    journals: Option<TempDir>,
}

impl Stage {
    /// One node with the preset for Medusa, without Redis, unless the builder is told otherwise.
    #[expect(clippy::new_ret_no_self, reason = "a stage is built, then started")]
    pub(crate) fn new() -> Builder {
        Builder {
            config: MEDUSA.to_owned(),
            nodes: 1,
            redis: None,
            environment: Vec::new(),
            journals: None,
            waits: true,
            slept: Duration::ZERO,
        }
    }

    /// Starts one more node and says which it is.
    pub(crate) fn add_node(&mut self) -> usize {
        self.nodes.push(self.start_node(self.nodes.len()));
        self.nodes.len() - 1
    }

    /// Starts one more node on a thread of its own, and says which it is: [`Stage::kill`] ends it.
    pub(crate) fn add_mortal_node(&mut self) -> (usize, Runtime) {
        let life = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let _entered = life.enter();
        (self.add_node(), life)
    }

    /// Ends a node as SIGKILL does: all that it was doing is gone where it stood, and its connections with it.
    pub(crate) fn kill(life: Runtime) {
        // A runtime waits for its own end only outside of another.
        std::thread::spawn(|| life.shutdown_timeout(DEADLINE)).join().unwrap();
    }

    /// Stops a node and starts it again: what it had in memory is gone.
    pub(crate) async fn restart(&mut self, node: usize) {
        within(self.nodes[node].stop()).await;
        self.nodes[node] = self.start_node(node);
    }

    /// Starts a node with this number's own things.
    pub(crate) fn start_node(&self, number: usize) -> Node {
        let journal = self.journal(number).map(|path| ("ENDCAP_PURGE__JOURNAL".to_owned(), path.display().to_string()));
        let environment = self.environment.iter().cloned().chain(journal);
        let loaded = Config::from_toml("stage.toml", &self.config, environment)
            .unwrap_or_else(|problems| panic!("the configuration of this test is wrong:\n{problems}"));
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as Arc<dyn Clock>;
        Node::start_with_clock(&loaded.config, clock).unwrap()
    }

    /// The file of a node's journal, where it has one.
    pub(crate) fn journal(&self, node: usize) -> Option<PathBuf> {
        self.journals.as_ref().map(|folder| folder.path().join(node.to_string()))
    }

    pub(crate) fn node(&self, node: usize) -> &Node {
        &self.nodes[node]
    }

    pub(crate) fn address(&self, node: usize) -> SocketAddr {
        self.nodes[node].address
    }

    pub(crate) fn redis(&mut self) -> &mut RedisServer {
        self.redis.as_mut().expect("this stage has a Redis")
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    pub(crate) fn advance_secs(&self, seconds: u64) {
        self.advance(Duration::from_secs(seconds));
    }

    /// A connection to a node.
    pub(crate) async fn client(&self, node: usize) -> Client {
        Client::connect(self.address(node)).await
    }

    /// A GET to the first node on a connection of its own.
    pub(crate) async fn get(&self, target: &str) -> Reply {
        self.get_from(0, target).await
    }

    pub(crate) async fn get_from(&self, node: usize, target: &str) -> Reply {
        self.client(node).await.get(target).await
    }

    pub(crate) async fn get_with(&self, target: &str, headers: &[(&str, &str)]) -> Reply {
        self.ask("GET", target, headers, b"").await
    }

    pub(crate) async fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        self.client(0).await.ask(method, target, headers, body).await
    }

    /// Begins a GET whose answer is looked at later.
    pub(crate) fn begin(&self, target: &str) -> JoinHandle<Reply> {
        self.begin_on(0, target)
    }

    pub(crate) fn begin_on(&self, node: usize, target: &str) -> JoinHandle<Reply> {
        let (address, target) = (self.address(node), target.to_owned());
        self.run(async move { Client::connect(address).await.get(&target).await })
    }

    /// Runs a task beside the test.
    pub(crate) fn run<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.tasks.spawn(task)
    }

    /// Waits until no fill is under way on a node.
    pub(crate) async fn settled(&self, node: usize) {
        until("all fills have landed", async || self.status(node).await["fills"]["under_way"] == 0).await;
    }

    /// Waits until so many requests wait for another's fill.
    pub(crate) async fn followers(&self, count: usize) {
        until(&format!("{count} followers"), async || self.status(0).await["fills"]["followers"] == count).await;
    }
}
