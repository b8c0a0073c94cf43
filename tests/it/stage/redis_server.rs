//! A `redis-server` of the test's own, on a socket in a temporary folder.

use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::{until, within};

/// Gone with the test.
pub(crate) struct RedisServer {
    folder: TempDir,
    child: Option<Child>,
}

impl RedisServer {
    /// The place alone; nobody listens there yet.
    pub(crate) fn absent() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), child: None }
    }

    pub(crate) async fn start() -> Self {
        let mut server = Self::absent();
        server.run().await;
        server
    }

    /// Starts it, empty, and waits until it answers.
    pub(crate) async fn run(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let started = Command::new("redis-server")
            .args(["--port", "0", "--unixsocket", &self.socket(), "--save", "", "--appendonly", "no", "--dir"])
            .arg(self.folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(started.unwrap_or_else(|error| {
            panic!(
                "redis-server cannot be started ({error}); these tests need it: \
                 `apt-get install redis-server`, `brew install redis`, or https://redis.io/docs/install"
            )
        }));
        until("redis-server answers", async || self.try_command(&["PING"]).await.is_ok()).await;
    }

    fn socket(&self) -> String {
        self.folder.path().join("s").to_str().unwrap().to_owned()
    }

    /// The address for a configuration.
    pub(crate) fn url(&self) -> String {
        format!("redis+unix://{}", self.socket())
    }

    pub(crate) fn address(&self) -> endcap::store::redis::Address {
        endcap::store::redis::Address::Unix(self.socket().into())
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

    /// Sends a command of the test's own.
    pub(crate) async fn command(&self, words: &[&str]) -> redis::Value {
        within(self.try_command(words)).await.unwrap()
    }

    /// Remembers each command from now on.
    pub(crate) async fn record(&self) {
        for (key, value) in [("slowlog-max-len", "10000"), ("slowlog-log-slower-than", "0")] {
            self.command(&["CONFIG", "SET", key, value]).await;
        }
    }

    /// How many lines each read of the log's history asked for, of what was recorded.
    pub(crate) async fn history_reads(&self) -> Vec<usize> {
        let commands = self.recorded().await.into_iter();
        // The follower looks where the log begins, and for the line that it read last.
        let reads = commands.filter(|words| words[0] == "XRANGE" && words[2] != "-" && words[3] == "+");
        reads.map(|words| words.last().unwrap().parse().unwrap()).collect()
    }

    /// How often a key was read, of what was recorded.
    pub(crate) async fn reads_of(&self, key: &str) -> usize {
        self.recorded().await.iter().filter(|words| words[0].starts_with("GET") && words[1] == key).count()
    }

    async fn recorded(&self) -> Vec<Vec<String>> {
        type Entry = (u64, u64, u64, Vec<String>, redis::Value, redis::Value);
        let entries: Vec<Entry> = redis::from_redis_value(self.command(&["SLOWLOG", "GET", "-1"]).await).unwrap();
        entries.into_iter().map(|(_, _, _, words, ..)| words).collect()
    }

    async fn try_command(&self, words: &[&str]) -> redis::RedisResult<redis::Value> {
        let client = redis::Client::open(format!("unix://{}", self.socket()))?;
        // Whoever asks has a deadline.
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        let mut command = redis::cmd(words[0]);
        for word in &words[1..] {
            command.arg(*word);
        }
        command.query_async(&mut connection).await
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}
