//! What an entry costs in memory, beside its body. Alone in its process, because it measures all of it.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

#[allow(dead_code, unused_imports, reason = "one test needs little of the stage that many share")]
#[path = "it/stage/mod.rs"]
mod stage;

use stage::{Answer, Stage};

const THINGS: &str = "[route.things]\npaths = [\"/things\", \"/things/{id}\"]\nttl = \"1h\"\n";

fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// A value of hyper's is a slice of the buffer that its connection reads into.
#[tokio::test]
async fn a_stored_head_does_not_hold_the_buffer_that_it_came_in() {
    const COUNT: usize = 4000;
    let stage = Stage::new().config(THINGS).start().await;
    let large = format!("\"{}\"", "x".repeat(400_000));
    stage.origin.respond("/things", move |_| Answer::json(large.clone()).etag("\"abc\""));
    // Makes the connection's buffer as large as it gets.
    stage.get("/things").await;
    let mut client = stage.client(0).await;
    let before = resident_kib();
    for id in 0..COUNT {
        client.get(&format!("/things/{id}")).await;
    }
    let each = (resident_kib() - before) * 1024 / COUNT;
    assert!(each < 2500, "{each} bytes for each entry with a small body");
}
