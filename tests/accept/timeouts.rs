use endcap::serve::accept::{ConnectionEnd, ConnectionLimits};

use super::stage::{DEADLINE, SHORT, Stage, limits};
use tokio::io::AsyncReadExt;

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
    // Bytes that keep coming do not help.
    let mut client = stage.connect().await;
    client.send("GET / HTTP/1.1\r\nx: ").await;
    let (mut reader, mut writer) = client.stream.split();
    let drip = async {
        while tokio::io::AsyncWriteExt::write_all(&mut writer, b"x").await.is_ok() {
            tokio::time::sleep(SHORT / 10).await;
        }
    };
    let mut sink = Vec::new();
    tokio::select! {
        _ = reader.read_buf(&mut sink) => {}
        () = drip => {}
        () = tokio::time::sleep(DEADLINE) => panic!("still open"),
    }
    assert_eq!(stage.ends(4).await, [ConnectionEnd::HeadTimeout; 4]);
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
        tokio::time::sleep(SHORT * 2).await;
    }
    client.send("GET / HTTP/1.1\r\n").await;
    client.ended().await;
    assert_eq!(stage.ends(1).await, [ConnectionEnd::HeadTimeout]);
}

#[tokio::test]
async fn an_idle_connection_is_closed_but_not_a_busy_one() {
    let stage = Stage::new(ConnectionLimits { idle_timeout: SHORT, head_timeout: SHORT, ..limits() });
    let mut client = stage.connect().await;
    client.send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n").await;
    // The handler takes its time, longer than any timeout of a silent client.
    tokio::time::sleep(SHORT * 4).await;
    stage.seen.gate.add_permits(1);
    assert_eq!(client.answer().await.body, "released");
    client.ended().await;
    assert_eq!(stage.ends(1).await, [ConnectionEnd::IdleTimeout]);
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
    let stage = Stage::new(ConnectionLimits { write_timeout: SHORT * 3, idle_timeout: SHORT, ..limits() });
    let mut client = stage.connect().await;
    client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut piece = vec![0; 4 << 20];
    // Longer in all than either timeout, with something taken in between.
    for _ in 0..7 {
        client.stream.read_exact(&mut piece).await.unwrap();
        tokio::time::sleep(SHORT).await;
    }
    let mut rest = Vec::new();
    client.stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.len() >= 4 << 20);
    assert_eq!(stage.ends(1).await, [ConnectionEnd::IdleTimeout]);
}
