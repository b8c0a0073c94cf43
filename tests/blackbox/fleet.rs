//! The processes: nodes as users run them, and their Redis.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, bail};
use endcap::tasks::Tasks;
use serde_json::Value;

use super::http::Client;
use super::process::{PATIENCE, POLL, Process};
use super::redis::{Redis, Topology};
use super::shop::TOUCHED;

/// Signs the webhooks of the run.
pub(crate) const SECRET: &str = "whsec_YmxhY2sgYm94IGJsYWNrIGJveCBibGFjayBib3g=";

/// Opens their feeds.
pub(crate) const FEED_TOKEN: &str = "black box, black box, black box";

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

#[derive(Debug)]
pub(crate) struct Fleet {
    folder: PathBuf,
    config: PathBuf,
    nodes: Vec<Mutex<Node>>,
    pub(crate) redis: Redis,
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
        topology: Topology,
        origin: SocketAddr,
        settings: NodeSettings,
        tasks: &Tasks,
    ) -> anyhow::Result<Self> {
        let redis = Redis::start(folder, topology).await?;
        let config = folder.join("proxy.toml");
        std::fs::write(&config, node_config(&redis, origin, settings))?;
        let nowhere = Addresses { public: origin, ops: origin };
        let node = || Mutex::new(Node { process: None, addresses: nowhere, starts: 0 });
        let nodes = (0..nodes).map(|_| node()).collect();
        let fleet = Self { folder: folder.to_owned(), config, nodes, redis };
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

    pub(crate) fn signal_node(&self, node: usize, signal: &str) {
        self.nodes[node].lock().unwrap().process.as_ref().expect("it runs").signal(signal);
    }

    /// What a node says of itself.
    pub(crate) async fn status(&self, client: &mut Client, node: usize) -> anyhow::Result<Value> {
        let answer = client.get(self.addresses(node).ops, "/status").await?;
        Ok(serde_json::from_slice(&answer.body)?)
    }

    /// Waits until Redis is whole, and all nodes follow the log, trust it, and have nothing in their journals.
    pub(crate) async fn settled(&self, tasks: &Tasks) -> anyhow::Result<()> {
        self.redis.settled().await?;
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
}

/// The addresses in a line of a node's log, which is JSON.
fn addresses(line: &str) -> Option<Addresses> {
    let line: Value = serde_json::from_str(line).ok()?;
    let field = |name: &str| line["fields"][name].as_str().or(line[name].as_str())?.parse().ok();
    Some(Addresses { public: field("listen")?, ops: field("ops")? })
}

fn node_config(redis: &Redis, origin: SocketAddr, settings: NodeSettings) -> String {
    let NodeSettings { max_blind, soft_grace, ack_timeout } = settings;
    format!(
        r#"upstream = "http://{origin}"
preset = "medusa"
webhook_secret = "{SECRET}"
[listen]
address = "127.0.0.1:0"
[ops]
address = "127.0.0.1:0"
# A busy machine is no dead origin: the origin fails when the run says so.
[origin]
connect_timeout = "10s"
[redis]
{redis}
[purge]
max_blind = "{max_blind:?}"
soft_grace = "{soft_grace:?}"
ack_timeout = "{ack_timeout:?}"
[feed]
token = "{FEED_TOKEN}"
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
        redis = redis.node_config(),
    )
}
