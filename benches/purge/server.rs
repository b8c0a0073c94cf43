//! The processes that are measured.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The token of the ops listener.
pub(crate) const TOKEN: &str = "bench";

/// Ends with its owner.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A Redis of our own, on a socket.
pub(crate) struct Redis {
    _process: Process,
    folder: TempDir,
}

impl Redis {
    pub(crate) fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let child = Command::new("redis-server")
            .args(["--port", "0", "--unixsocket", "s", "--save", "", "--appendonly", "no"])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .context("redis-server cannot be started: install it")?;
        let redis = Self { _process: Process(child), folder };
        let began = Instant::now();
        while redis.connect().is_err() {
            if began.elapsed() > PATIENCE {
                bail!("redis-server does not start");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(redis)
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("s")
    }

    pub(crate) fn connect(&self) -> Result<redis::Connection> {
        Ok(redis::Client::open(format!("unix://{}", self.socket().display()))?.get_connection()?)
    }

    pub(crate) fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }
}

/// A node, a process of its own.
pub(crate) struct Node {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    pub(crate) ops: SocketAddr,
    /// Before it was started.
    pub(crate) began: Instant,
}

impl Node {
    /// Starts it on these cores (`taskset -c`), or on any, with these settings in its environment.
    pub(crate) fn start(
        upstream: SocketAddr,
        redis: &Redis,
        cores: Option<&str>,
        settings: &[(&str, &OsStr)],
    ) -> Result<Self> {
        let binary = env!("CARGO_BIN_EXE_endcap");
        let mut command = Command::new(cores.map_or(binary, |_| "taskset"));
        if let Some(cores) = cores {
            command.args(["-c", cores, binary]).env("TOKIO_WORKER_THREADS", "1");
        }
        command.envs(settings.iter().copied());
        let config = redis.folder.path().join("proxy.toml");
        std::fs::write(&config, config_text(upstream, &redis.url()))?;
        let began = Instant::now();
        let mut child = command.args(["serve", "--config"]).arg(&config).stderr(Stdio::piped()).spawn()?;
        let said = child.stderr.take().context("it is piped")?;
        let process = Process(child);
        let mut lines = BufReader::new(said).lines();
        for line in lines.by_ref() {
            let line: serde_json::Value = serde_json::from_str(&line?)?;
            let fields = if line["fields"].is_object() { &line["fields"] } else { &line };
            if let (Some(listen), Some(ops)) = (fields["listen"].as_str(), fields["ops"].as_str()) {
                let (address, ops) = (listen.parse()?, ops.parse()?);
                // A pipe that nobody reads stops the writer.
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(Self { process, address, ops, began });
            }
        }
        bail!("endcap does not start")
    }

    /// Waits until /readyz says so; how long after the start that was.
    pub(crate) fn ready(&self) -> Result<Duration> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            loop {
                let request = http::Request::get(format!("http://{}/readyz", self.ops)).body(bytes::Bytes::new())?;
                let answer = endcap::client::send(request, PATIENCE).await?;
                if answer.status.is_success() {
                    return Ok(self.began.elapsed());
                }
                if self.began.elapsed() > PATIENCE {
                    bail!("not ready within {PATIENCE:?}");
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.0.id()
    }
}

fn config_text(upstream: SocketAddr, redis: &str) -> String {
    format!(
        r#"upstream = "http://{upstream}"
[listen]
address = "127.0.0.1:0"
[ops]
address = "127.0.0.1:0"
token = "{TOKEN}"
[redis]
url = "{redis}"
[log]
format = "json"
requests = "off"
[route.bench]
paths = ["/store/bench/{{size}}"]
ttl = "1h"
tag_prefixes = ["prod_", "variant_", "pcol_"]
[route.bench.query]
region_id = {{ kind = "text" }}
[route.bench.headers]
x-publishable-api-key = {{ kind = "text" }}
"#
    )
}
