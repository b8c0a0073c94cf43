//! `redis-server` processes on ports of 127.0.0.1: alone, as replicas, as sentinels, as a cluster.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use endcap::store::redis::{Address, RedisSettings};
use tempfile::TempDir;

use crate::promises::{Order, World};
use crate::stage::{Builder, Stage, until, within};

/// A server; gone with the test.
pub(crate) struct Server {
    folder: TempDir,
    pub(crate) port: u16,
    arguments: Vec<String>,
    child: Option<Child>,
    /// What the test itself says to be let in.
    password: Option<String>,
}

impl Server {
    /// Starts one with these arguments besides its own, and waits until it answers.
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        Self::start_with(tempfile::tempdir().unwrap(), arguments, None).await
    }

    /// Starts one that asks for a password.
    pub(crate) async fn with_password(password: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::start_with(folder, &["--requirepass", password], Some(password.to_owned())).await
    }

    /// Starts one that works in a folder.
    pub(crate) async fn start_with(folder: TempDir, arguments: &[&str], password: Option<String>) -> Self {
        let arguments = arguments.iter().map(|word| (*word).to_owned()).collect();
        let mut server = Self { folder, port: 0, arguments, child: None, password };
        // Somebody else may take the port before the server does.
        for _ in 0..5 {
            server.port = free_port();
            server.run();
            if server.answers().await {
                return server;
            }
        }
        panic!("redis-server ends at once with {:?}", server.arguments);
    }

    fn run(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let folder = self.folder.path();
        let mut command = Command::new("redis-server");
        // The sentinel's file comes first.
        let (files, arguments): (Vec<_>, Vec<_>) = self.arguments.iter().partition(|word| word.ends_with(".conf"));
        command.args(files).arg("--port").arg(self.port.to_string());
        command.args(["--bind", "127.0.0.1", "--dir"]).arg(folder).arg("--unixsocket").arg(folder.join("s"));
        if !arguments.iter().any(|word| *word == "--sentinel") {
            command.args(["--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"]);
        }
        // TLS takes the port, then.
        if arguments.iter().any(|word| *word == "--tls-cert-file") {
            command.args(["--port", "0", "--tls-port"]).arg(self.port.to_string());
        }
        let started = command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.child = Some(started.unwrap_or_else(|error| {
            panic!(
                "redis-server cannot be started ({error}); these tests need it: \
                 `apt-get install redis-server`, `brew install redis`, or https://redis.io/docs/install"
            )
        }));
    }

    /// Whether it comes to answer, and does not end instead.
    async fn answers(&mut self) -> bool {
        let mut has_ended = false;
        until("redis-server answers or ends", async || {
            has_ended = self.child.as_mut().unwrap().try_wait().unwrap().is_some();
            has_ended || self.try_command(&["PING"]).await.is_ok()
        })
        .await;
        if has_ended {
            self.child = None;
        }
        !has_ended
    }

    pub(crate) fn address(&self) -> Address {
        Address::Tcp("127.0.0.1".to_owned(), self.port)
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// It takes connections and says nothing more.
    pub(crate) fn pause(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.child.as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    /// It is gone from one moment to the next, with all it held.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Sends a command of the test's own. A server that changes its role hangs up on all, then it is sent again.
    pub(crate) async fn command(&self, words: &[&str]) -> redis::Value {
        within(async {
            loop {
                match self.try_command(words).await {
                    Err(error) if error.is_io_error() || error.is_connection_dropped() => {}
                    answered => return answered.unwrap(),
                }
            }
        })
        .await
    }

    pub(crate) async fn text(&self, words: &[&str]) -> String {
        format!("{:?}", self.command(words).await)
    }

    pub(crate) async fn try_command(&self, words: &[&str]) -> redis::RedisResult<redis::Value> {
        let place =
            Place { socket: self.folder.path().join("s").display().to_string(), password: self.password.clone() };
        place.try_command(words.iter().map(|word| (*word).to_owned()).collect()).await
    }

    /// Sends the commands of a contract.
    pub(crate) fn order(&self) -> Order {
        let socket = self.folder.path().join("s").display().to_string();
        let password = self.password.clone();
        Box::new(move |words| {
            let place = Place { socket: socket.clone(), password: password.clone() };
            let words = words.iter().map(|word| (*word).to_owned()).collect();
            futures_util::FutureExt::boxed(async move { place.try_command(words).await.unwrap() })
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}

struct Place {
    socket: String,
    password: Option<String>,
}

impl Place {
    async fn try_command(self, words: Vec<String>) -> redis::RedisResult<redis::Value> {
        let client = redis::Client::open(format!("unix://{}", self.socket))?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        if let Some(password) = self.password {
            redis::cmd("AUTH").arg(password).exec_async(&mut connection).await?;
        }
        let mut command = redis::cmd(&words[0]);
        command.arg(&words[1..]).query_async(&mut connection).await
    }
}

/// A port that nobody has now, and whose cluster bus (10000 above it) nobody has either.
fn free_port() -> u16 {
    for _ in 0..1000 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        if port < 55_000 && TcpListener::bind(("127.0.0.1", port + 10_000)).is_ok() {
            return port;
        }
    }
    panic!("there is no free port");
}

/// A stage whose nodes use the Redis at a URL. A busy machine is no slow Redis.
pub(crate) fn on(url: &str) -> Builder {
    Stage::new()
        .variable("ENDCAP_REDIS__URL", url)
        .variable("ENDCAP_REDIS__DEADLINE", "2s")
        .variable("ENDCAP_REDIS__CONNECT_TIMEOUT", "2s")
}

/// Holds a Redis to all that shared stores promise, one promise after the other, each with keys of its own.
pub(crate) async fn keeps_all_promises(settings: impl Fn(&str) -> RedisSettings, order: impl Fn() -> Order) {
    macro_rules! all {
        ($($promise:ident)*) => {$(
            let world = World::redis(&settings(stringify!($promise)), order());
            crate::promises::$promise(world).await;
        )*};
    }
    crate::promises::promises!(all);
}

/// Waits until what one node fills is found by the other in Redis. The breaker, if it is open, gets its time.
pub(crate) async fn shares(stage: &Stage) {
    let mut n = 0;
    until("what one node fills is shared", async || {
        stage.advance_secs(1);
        n += 1;
        let target = format!("/store/collections/pcol_{n}");
        stage.get_from(0, &target).await;
        stage.settled(0).await;
        stage.get_from(1, &target).await.detail() == "hit_l2"
    })
    .await;
}

/// Whether the breaker has ever spared a node a read.
pub(crate) async fn has_opened(stage: &Stage) -> bool {
    stage.metric(0, "endcap_l2_reads_total", &[("result", "l2_open")]).await > 0.0
}
