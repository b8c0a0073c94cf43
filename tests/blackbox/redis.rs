//! The Redis of a run: one server, or a pair of which a sentinel makes one the master.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};

use super::process::{PATIENCE, POLL, Process};

/// By this name the sentinel knows the pair.
const MASTER: &str = "shop";
/// How long the sentinel waits for a silent master before it makes the other one the master.
const DOWN_AFTER: Duration = Duration::from_millis(1500);

/// Which servers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topology {
    /// One, at a socket.
    Single,
    /// A pair and a sentinel. The nodes acknowledge what both servers have.
    Sentinel,
}

impl Topology {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Single => "one Redis",
            Self::Sentinel => "two Redis and a sentinel",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "single" => Some(Self::Single),
            "sentinel" => Some(Self::Sentinel),
            _ => None,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Redis {
    topology: Topology,
    servers: Vec<Server>,
    /// The server that a fault is about: whoever was the master when it began.
    struck: AtomicUsize,
}

impl Redis {
    /// Starts the servers, and waits until they answer and follow one another.
    pub(crate) async fn start(folder: &Path, topology: Topology) -> anyhow::Result<Self> {
        let mut servers = Vec::new();
        let count = if topology == Topology::Single { 1 } else { 2 };
        for n in 0..count {
            let mut settings = "save \"\"\nrepl-diskless-sync-delay 0\n".to_owned();
            // A command is on the disk before it is answered, so that what is killed comes back whole.
            settings += "appendonly yes\nappendfsync always\n";
            if let Some(Server { port, .. }) = servers.first() {
                settings += &format!("replicaof 127.0.0.1 {port}\n");
            }
            let server = Server::new(folder.join(format!("redis{n}")), &settings)?;
            server.start(&[]).await?;
            servers.push(server);
        }
        if topology == Topology::Sentinel {
            let settings = format!(
                "sentinel monitor {MASTER} 127.0.0.1 {port} 1\n\
                 sentinel down-after-milliseconds {MASTER} {down_after}\n\
                 sentinel failover-timeout {MASTER} 3000\n",
                port = servers[0].port,
                down_after = DOWN_AFTER.as_millis(),
            );
            let sentinel = Server::new(folder.join("sentinel"), &settings)?;
            sentinel.start(&["--sentinel"]).await?;
            servers.push(sentinel);
        }
        let redis = Self { topology, servers, struck: AtomicUsize::new(0) };
        redis.settled().await?;
        Ok(redis)
    }

    /// What a node's `[redis]` says of it.
    pub(crate) fn node_config(&self) -> String {
        match self.topology {
            Topology::Single => format!("url = \"redis+unix://{}\"", self.servers[0].socket().display()),
            Topology::Sentinel => format!(
                "url = \"redis+sentinel://127.0.0.1:{}/{MASTER}\"\nwait_replicas = 1\nwait_timeout = \"200ms\"",
                self.sentinel().port
            ),
        }
    }

    fn sentinel(&self) -> &Server {
        self.servers.last().expect("it was started")
    }

    /// The number of the server that is the master.
    pub(crate) async fn master(&self) -> anyhow::Result<usize> {
        if self.topology == Topology::Single {
            return Ok(0);
        }
        let (_, port): (String, u16) = self.sentinel().ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER]).await?;
        self.servers.iter().position(|server| server.port == port).context("the sentinel names another's server")
    }

    /// The next fault is about whoever is the master at this moment.
    pub(crate) async fn strike(&self) -> anyhow::Result<()> {
        self.struck.store(self.master().await?, Ordering::SeqCst);
        Ok(())
    }

    fn struck(&self) -> &Server {
        &self.servers[self.struck.load(Ordering::SeqCst)]
    }

    /// It takes connections and says nothing more.
    pub(crate) fn freeze(&self) {
        self.struck().signal("-STOP");
    }

    pub(crate) fn thaw(&self) {
        self.struck().signal("-CONT");
    }

    /// It is gone from one moment to the next, and its data too when it is to lose it.
    pub(crate) fn kill(&self, loses_data: bool) -> anyhow::Result<()> {
        let server = self.struck();
        *server.process.lock().unwrap() = None;
        if loses_data {
            std::fs::remove_dir_all(server.folder.join("appendonlydir"))?;
        }
        Ok(())
    }

    /// Starts again what was killed. It believes to be what it was: the sentinel tells it otherwise.
    pub(crate) async fn start_again(&self) -> anyhow::Result<()> {
        self.struck().start(&[]).await
    }

    /// Has the sentinel make the other server the master while this one lives.
    pub(crate) async fn replace_master(&self) -> anyhow::Result<()> {
        // It may not have heard of the replica for a while, or count a moment ago as its last try.
        let begun = async || self.sentinel().ask::<String>(&["SENTINEL", "FAILOVER", MASTER]).await.map(|_| true);
        until("the sentinel begins a fail-over", begun).await?;
        self.replaced().await
    }

    /// Waits until another server is the master.
    pub(crate) async fn replaced(&self) -> anyhow::Result<()> {
        let struck = self.struck.load(Ordering::SeqCst);
        until("another server is the master", async || Ok(self.master().await? != struck)).await
    }

    /// Waits until every server is what the sentinel says, and the replica has all that its master has.
    pub(crate) async fn settled(&self) -> anyhow::Result<()> {
        if self.topology == Topology::Single {
            return Ok(());
        }
        until("the pair is whole, and the sentinel knows it", async || {
            let master = self.master().await?;
            let said: String = self.servers[master].ask(&["INFO", "replication"]).await?;
            let is_followed = said.contains("role:master") && said.contains("state=online");
            let replica: String = self.servers[1 - master].ask(&["INFO", "replication"]).await?;
            let follows = replica.contains("role:slave") && replica.contains("master_link_status:up");
            let known: Vec<Vec<String>> = self.sentinel().ask(&["SENTINEL", "REPLICAS", MASTER]).await?;
            let is_known = known.iter().any(|fields| {
                let says = |name: &str, value: &str| fields.chunks(2).any(|pair| pair[0] == name && pair[1] == value);
                says("flags", "slave") && says("master-link-status", "ok")
            });
            Ok(is_followed && follows && is_known)
        })
        .await
    }
}

/// A server: of data, or a sentinel.
#[derive(Debug)]
struct Server {
    folder: PathBuf,
    port: u16,
    process: Mutex<Option<Process>>,
}

impl Server {
    fn new(folder: PathBuf, settings: &str) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        let port = free_port()?;
        // The file is theirs: they keep in it what they have become.
        let own = format!("port {port}\nbind 127.0.0.1\nunixsocket s\ndir {}\n", folder.display());
        std::fs::write(folder.join("redis.conf"), own + settings)?;
        Ok(Self { folder, port, process: Mutex::default() })
    }

    async fn start(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let log = File::options().create(true).append(true).open(self.folder.join("log"))?;
        let child = Command::new("redis-server")
            .arg(self.folder.join("redis.conf"))
            .args(arguments)
            .current_dir(&self.folder)
            .stdout(log)
            .stderr(Stdio::null())
            .spawn()
            .context("redis-server cannot be started: apt-get install redis-server, or brew install redis")?;
        *self.process.lock().unwrap() = Some(Process(child));
        until("redis-server answers", async || self.ask::<String>(&["PING"]).await.map(|_| true)).await
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("s")
    }

    fn signal(&self, signal: &str) {
        self.process.lock().unwrap().as_ref().expect("it runs").signal(signal);
    }

    async fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> anyhow::Result<T> {
        let client = redis::Client::open(format!("unix://{}", self.socket().display()))?;
        let asked = async {
            let mut connection = client.get_multiplexed_async_connection().await?;
            redis::cmd(words[0]).arg(&words[1..]).query_async(&mut connection).await
        };
        Ok(tokio::time::timeout(PATIENCE, asked).await.context("redis-server is silent")??)
    }
}

/// Waits for something. That it cannot be found out is no reason to give up.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let found = is_so().await;
        if matches!(found, Ok(true)) {
            return Ok(());
        }
        if tokio::time::Instant::now() > deadline {
            bail!("it does not come to this: {what} ({found:?})");
        }
        tokio::time::sleep(POLL).await;
    }
}

/// A port that nobody has, and that is given to no outgoing connection while its server is dead.
fn free_port() -> anyhow::Result<u16> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    for _ in 0..1000 {
        let n = NEXT.fetch_add(1, Ordering::SeqCst) + std::process::id() as usize * 31;
        let port = 20_000 + u16::try_from(n % 12_000)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("there is no free port")
}
