//! The processes: nodes as users run them, and their Redis.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, bail};
use endcap::tasks::Tasks;
use serde_json::Value;

use super::http::Client;
use super::shop::TOUCHED;

/// Signs the webhooks of the run.
pub(crate) const SECRET: &str = "whsec_YmxhY2sgYm94IGJsYWNrIGJveCBibGFjayBib3g=";
/// What a process gets to start and to answer.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// What the nodes are told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeSettings {
    pub(crate) max_blind: Duration,
    pub(crate) soft_grace: Duration,
    /// How long the log may take before a purge goes to the journal.
    pub(crate) ack_timeout: Duration,
}

/// Where a node listens now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub(crate) public: SocketAddr,
    pub(crate) ops: SocketAddr,
}

/// A process that ends with its owner.
#[derive(Debug)]
struct Process(Child);

impl Process {
    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.0.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill {signal} failed");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGKILL: nothing is flushed, nobody is told.
        self.0.kill().expect("it is ours");
        self.0.wait().expect("it is ours");
    }
}

#[derive(Debug)]
pub(crate) struct Fleet {
    folder: PathBuf,
    config: PathBuf,
    nodes: Vec<Mutex<Node>>,
    redis: Mutex<Option<Process>>,
}

#[derive(Debug)]
struct Node {
    process: Option<Process>,
    addresses: Addresses,
    starts: usize,
}

impl Fleet {
    /// Starts Redis and the nodes, and waits until they are ready.
    pub(crate) async fn start(
        folder: &Path,
        nodes: usize,
        origin: SocketAddr,
        settings: NodeSettings,
        tasks: &Tasks,
    ) -> anyhow::Result<Self> {
        let config = folder.join("proxy.toml");
        std::fs::write(&config, node_config(folder, origin, settings))?;
        let nowhere = Addresses { public: origin, ops: origin };
        let node = || Mutex::new(Node { process: None, addresses: nowhere, starts: 0 });
        let nodes = (0..nodes).map(|_| node()).collect();
        let fleet = Self { folder: folder.to_owned(), config, nodes, redis: Mutex::default() };
        fleet.start_redis().await?;
        for node in 0..fleet.nodes() {
            fleet.start_node(node).await?;
        }
        fleet.settled(tasks).await?;
        Ok(fleet)
    }

    pub(crate) fn nodes(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn addresses(&self, node: usize) -> Addresses {
        self.nodes[node].lock().unwrap().addresses
    }

    pub(crate) async fn start_node(&self, node: usize) -> anyhow::Result<()> {
        let starts = {
            let mut node = self.nodes[node].lock().unwrap();
            node.starts += 1;
            node.starts
        };
        let log = self.folder.join(format!("node{node}.{starts}.log"));
        let child = Command::new(env!("CARGO_BIN_EXE_endcap"))
            .args(["serve", "--config"])
            .arg(&self.config)
            .env_clear()
            .env("ENDCAP_PURGE__JOURNAL", self.folder.join(format!("node{node}.journal")))
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()
            .context("endcap cannot be started")?;
        let mut process = Process(child);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let addresses = loop {
            let said = std::fs::read_to_string(&log)?;
            if let Some(addresses) = said.lines().find_map(addresses) {
                break addresses;
            }
            if process.0.try_wait()?.is_some() || tokio::time::Instant::now() > deadline {
                bail!("node {node} does not start: {said}");
            }
            tokio::time::sleep(POLL).await;
        };
        let mut node = self.nodes[node].lock().unwrap();
        *node = Node { process: Some(process), addresses, starts };
        Ok(())
    }

    pub(crate) fn kill_node(&self, node: usize) {
        self.nodes[node].lock().unwrap().process = None;
    }

    /// What a node says of itself.
    pub(crate) async fn status(&self, client: &mut Client, node: usize) -> anyhow::Result<Value> {
        let answer = client.get(self.addresses(node).ops, "/status").await?;
        Ok(serde_json::from_slice(&answer.body)?)
    }

    /// Waits until all nodes follow the log, trust it, and have nothing in their journals.
    pub(crate) async fn settled(&self, tasks: &Tasks) -> anyhow::Result<()> {
        let mut client = Client::new(tasks);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        for node in 0..self.nodes() {
            loop {
                let status = self.status(&mut client, node).await?;
                let purges = &status["purges"];
                if status["ready"] == true
                    && purges["connected"] == true
                    && purges["blind"] == false
                    && purges["journaled"] == 0
                {
                    break;
                }
                if tokio::time::Instant::now() > deadline {
                    bail!("node {node} does not recover: {status}");
                }
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(())
    }

    pub(crate) async fn start_redis(&self) -> anyhow::Result<()> {
        let folder = self.folder.join("redis");
        std::fs::create_dir_all(&folder)?;
        let child = Command::new("redis-server")
            .args(["--port", "0", "--unixsocket", "s", "--save", ""])
            // A command is on the disk before it is answered, so that what is killed comes back whole.
            .args(["--appendonly", "yes", "--appendfsync", "always", "--dir"])
            .arg(&folder)
            .current_dir(&folder)
            .stdout(File::create(self.folder.join("redis.log"))?)
            .stderr(Stdio::null())
            .spawn()
            .context("redis-server cannot be started: apt-get install redis-server, or brew install redis")?;
        let process = Process(child);
        let client = redis::Client::open(format!("unix://{}", self.redis_socket().display()))?;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let answers = async {
                let mut connection = client.get_multiplexed_async_connection().await?;
                redis::cmd("PING").query_async::<String>(&mut connection).await
            };
            match answers.await {
                Ok(_) => break,
                Err(error) if tokio::time::Instant::now() > deadline => return Err(error).context("redis-server"),
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
        *self.redis.lock().unwrap() = Some(process);
        Ok(())
    }

    /// It takes connections and says nothing more.
    pub(crate) fn freeze_redis(&self) {
        self.redis.lock().unwrap().as_ref().expect("it runs").signal("-STOP");
    }

    pub(crate) fn thaw_redis(&self) {
        self.redis.lock().unwrap().as_ref().expect("it runs").signal("-CONT");
    }

    /// It is gone from one moment to the next, and its data too when it is to lose it.
    pub(crate) fn kill_redis(&self, loses_data: bool) -> anyhow::Result<()> {
        *self.redis.lock().unwrap() = None;
        if loses_data {
            std::fs::remove_dir_all(self.folder.join("redis"))?;
        }
        Ok(())
    }

    fn redis_socket(&self) -> PathBuf {
        redis_socket(&self.folder)
    }
}

fn redis_socket(folder: &Path) -> PathBuf {
    folder.join("redis").join("s")
}

/// The addresses in a line of a node's log, which is JSON.
fn addresses(line: &str) -> Option<Addresses> {
    let line: Value = serde_json::from_str(line).ok()?;
    let field = |name: &str| line["fields"][name].as_str().or(line[name].as_str())?.parse().ok();
    Some(Addresses { public: field("listen")?, ops: field("ops")? })
}

fn node_config(folder: &Path, origin: SocketAddr, settings: NodeSettings) -> String {
    let NodeSettings { max_blind, soft_grace, ack_timeout } = settings;
    format!(
        r#"upstream = "http://{origin}"
preset = "medusa"
webhook_secret = "{SECRET}"
[listen]
address = "127.0.0.1:0"
[ops]
address = "127.0.0.1:0"
[redis]
url = "redis+unix://{socket}"
[purge]
max_blind = "{max_blind:?}"
soft_grace = "{soft_grace:?}"
ack_timeout = "{ack_timeout:?}"
[log]
format = "json"
requests = "off"
[event]
{TOUCHED}
# No lifetime ends in a run: what is stale, a purge has made so.
[route.products]
ttl = "1d"
[route.product]
ttl = "1d"
negative_ttl = "1d"
"#,
        socket = redis_socket(folder).display(),
    )
}
