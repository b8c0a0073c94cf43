use endcap::serve::accept::{ConnectionEnd, ConnectionLimits};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::stage::{DEADLINE, SHORT, Stage, limits};

#[tokio::test]
async fn a_silent_client_is_closed() {
    for h2c in [false, true] {
        let stage = Stage::new(ConnectionLimits { head_timeout: SHORT, h2c, ..limits() });
        let mut client = stage.connect().await;
        client.ended().await;
        assert_eq!(stage.ends(1).await, [ConnectionEnd::HeadTimeout]);
    }
}

#[tokio::test]
async fn a_head_must_be_whole_in_time_however_it_drips() {
    let stage = Stage::new(ConnectionLimits { head_timeout: SHORT, ..limits() });
    for start in ["G", "GET / HTTP/1.1\r\nHost: a\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r"] {
        let mut client = stage.connect().await;
        client.send(start).await;
        client.ended().await;
    }
    assert_eq!(stage.ends(3).await, [ConnectionEnd::HeadTimeout; 3]);
    assert_eq!(stage.calls(), 0);
}

#[tokio::test]
async fn a_head_whose_bytes_keep_coming_gets_no_more_time() {
    let mut limits = ConnectionLimits { head_timeout: SHORT, ..limits() };
    // No size ends it before its time does.
    limits.head.sizes.head_bytes_max = 1 << 30;
    let stage = Stage::new(limits);
    let mut client = stage.connect().await;
    client.send("GET / HTTP/1.1\r\nx: ").await;
    let (mut reader, mut writer) = client.stream.split();
    let drip = async { while writer.write_all(b"x").await.is_ok() {} };
    let gone = async { while reader.read(&mut [0; 1024]).await.is_ok_and(|length| length > 0) {} };
    timeout(DEADLINE, async { tokio::join!(drip, gone) }).await.expect("a close");
    assert_eq!(stage.ends(1).await, [ConnectionEnd::HeadTimeout]);
    assert_eq!(stage.calls(), 0);
}

#[tokio::test]
async fn a_second_head_has_its_own_deadline() {
    // Short for heads, long for idling: the one must not end the other.
    let stage = Stage::new(ConnectionLimits { head_timeout: SHORT, ..limits() });
    let mut client = stage.connect().await;
    for _ in 0..3 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        client.answer().await;
        stage.outlast(2).await;
    }
    client.send("GET / HTTP/1.1\r\n").await;
    client.ended().await;
    assert_eq!(stage.ends(7).await, [ConnectionEnd::HeadTimeout; 7]);
}

#[tokio::test]
async fn an_idle_connection_is_closed_but_not_a_busy_one() {
    let stage = Stage::new(ConnectionLimits { idle_timeout: SHORT, head_timeout: SHORT, ..limits() });
    let mut client = stage.connect().await;
    client.send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n").await;
    stage.until(|| stage.calls() == 1).await;
    // The handler takes its time, longer than any timeout of a silent client.
    stage.outlast(3).await;
    stage.seen.gate.add_permits(1);
    assert_eq!(client.answer().await.body, "released");
    client.ended().await;
    assert_eq!(stage.ends(4).await[3], ConnectionEnd::IdleTimeout);
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_closed() {
    for path in ["/large", "/endless"] {
        let stage = Stage::new(ConnectionLimits { write_timeout: SHORT, ..limits() });
        let mut client = stage.connect().await;
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        assert_eq!(stage.ends(1).await, [ConnectionEnd::WriteTimeout], "{path}");
    }
}

#[tokio::test]
async fn a_slow_client_that_takes_something_goes_on() {
    let stage = Stage::new(ConnectionLimits { write_timeout: SHORT, idle_timeout: SHORT, ..limits() });
    let mut client = stage.connect().await;
    client.send("GET /endless HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut piece = vec![0; 64 << 10];
    for stalled in 1..=2 {
        let mut other = stage.connect().await;
        other.send("GET /endless HTTP/1.1\r\nHost: a\r\n\r\n").await;
        // Longer than it takes to end one that takes nothing, with something taken in between.
        let is_over = || stage.seen.closed.lock().unwrap().len() == stalled;
        timeout(DEADLINE, async {
            while !is_over() {
                client.stream.read_exact(&mut piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("the other is ended");
    }
    client.stream.read_exact(&mut piece).await.unwrap();
    assert_eq!(stage.ends(2).await, [ConnectionEnd::WriteTimeout; 2]);
}
