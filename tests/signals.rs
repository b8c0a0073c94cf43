//! The process and its signals.

#![cfg(unix)]

use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use endcap::client;
use http::Request;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

const PATIENCE: Duration = Duration::from_secs(20);

/// `endcap serve` with these variables, once it serves.
struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
    listen: String,
    ops: String,
}

impl Process {
    async fn serve(variables: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_endcap"))
            .arg("serve")
            .env("ENDCAP_UPSTREAM", "http://127.0.0.1:9")
            .env("ENDCAP_LISTEN__ADDRESS", "127.0.0.1:0")
            .env("ENDCAP_OPS__ADDRESS", "127.0.0.1:0")
            .env("ENDCAP_LOG__FORMAT", "json")
            .envs(variables.iter().copied())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary runs");
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let mut process = Self { child, lines, listen: String::new(), ops: String::new() };
        let line = process.says("serving").await;
        let address = |name: &str| line[name].as_str().expect("an address").to_owned();
        (process.listen, process.ops) = (address("listen"), address("ops"));
        process
    }

    /// Reads the log up to a message.
    async fn says(&mut self, message: &str) -> serde_json::Value {
        loop {
            let line = within(self.lines.next_line()).await.expect("a line").expect("the log goes on");
            let line: serde_json::Value = serde_json::from_str(&line).expect("lines are JSON");
            if line["message"] == message {
                return line;
            }
        }
    }

    async fn signal(&self, name: &str) {
        let id = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().await.expect("kill is there");
        assert!(sent.success());
    }

    async fn status(&self, address: &str, path: &str) -> u16 {
        let request = Request::get(format!("http://{address}{path}")).body(Bytes::new()).expect("a request");
        client::send(request, PATIENCE).await.expect("an answer").status.as_u16()
    }

    async fn ends(mut self) -> Option<i32> {
        within(self.child.wait()).await.expect("it ends").code()
    }
}

async fn within<F: Future>(work: F) -> F::Output {
    tokio::time::timeout(PATIENCE, work).await.expect("in time")
}

#[tokio::test]
async fn a_lame_duck_serves_on_unready_and_a_second_signal_ends_the_wait() {
    for second in ["TERM", "INT"] {
        let mut process = Process::serve(&[("ENDCAP_LISTEN__LAME_DUCK", "1h")]).await;
        assert_eq!(process.status(&process.ops, "/livez").await, 200);
        process.signal("TERM").await;
        process.says("about to stop: serving on, not ready").await;
        assert_eq!(process.status(&process.ops, "/readyz").await, 503);
        // There is no backend, and endcap says so.
        assert_eq!(process.status(&process.listen, "/x").await, 502);
        process.signal(second).await;
        process.says("stopping: requests under way may finish").await;
        assert_eq!(process.ends().await, Some(0));
    }
}

#[tokio::test]
async fn without_it_the_first_signal_stops() {
    let mut process = Process::serve(&[]).await;
    process.signal("INT").await;
    process.says("stopped").await;
    assert_eq!(process.ends().await, Some(0));
}
