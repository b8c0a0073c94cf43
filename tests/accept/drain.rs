use std::sync::atomic::Ordering;

use endcap::serve::accept::{ConnectionEnd, ConnectionLimits};
use tokio::net::TcpStream;

use super::stage::{SHORT, Stage, limits};

#[tokio::test]
async fn one_connection_too_many_is_closed_and_counted() {
    let stage = Stage::new(ConnectionLimits { connections_max: 1, ..limits() });
    let mut first = stage.connect().await;
    first.send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n").await;
    stage.until(|| stage.calls() == 1).await;
    let mut second = stage.connect().await;
    second.gone().await;
    assert_eq!(stage.refused(), ["connections"]);
    drop(first);
    stage.ends(1).await;
    // The slot is given back just after the end is told.
    loop {
        let mut third = stage.connect().await;
        third.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let mut byte = [0];
        if matches!(tokio::io::AsyncReadExt::read(&mut third.stream, &mut byte).await, Ok(1)) {
            break;
        }
    }
}

#[tokio::test]
async fn at_the_cap_the_idlest_connection_makes_room_and_none_with_a_request() {
    let stage = Stage::new(ConnectionLimits { connections_max: 3, ..limits() });
    let ask = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let [mut busy, mut idle, mut longer] = [stage.connect().await, stage.connect().await, stage.connect().await];
    busy.send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n").await;
    stage.until(|| stage.calls() == 1).await;
    for client in [&mut longer, &mut idle] {
        client.send(ask).await;
        client.answer().await;
    }
    let mut new = stage.connect().await;
    longer.ended().await;
    for client in [&mut new, &mut idle] {
        client.send(ask).await;
        assert_eq!(client.answer().await.status, 200);
    }
    // A head that has begun is a request.
    idle.send("GET / HTTP/1.1\r\n").await;
    new.send("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /hold HTTP/1.1\r\nHost: a\r\n\r\n").await;
    new.answer().await;
    stage.until(|| stage.calls() == 7).await;
    let mut refused = stage.connect().await;
    refused.gone().await;
    assert_eq!((stage.refused(), stage.ends(1).await), (vec!["connections"], vec![ConnectionEnd::Displaced]));
    stage.seen.gate.add_permits(2);
    for client in [&mut busy, &mut new] {
        assert_eq!(client.answer().await.body, "released");
    }
    idle.send("Host: a\r\n\r\n").await;
    assert_eq!(idle.answer().await.status, 200);
}

#[tokio::test]
async fn a_connection_that_never_asked_makes_room() {
    for h2c in [false, true] {
        let stage = Stage::new(ConnectionLimits { connections_max: 1, h2c, ..limits() });
        let mut silent = stage.connect().await;
        stage.until(|| stage.seen.opened.load(Ordering::SeqCst) == 1).await;
        let mut new = stage.connect().await;
        silent.ended().await;
        new.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(new.answer().await.status, 200);
        assert_eq!((stage.refused(), stage.ends(1).await), (vec![], vec![ConnectionEnd::Displaced]));
    }
}

#[tokio::test]
async fn a_drain_finishes_what_is_under_way_and_takes_nothing_new() {
    for h2c in [false, true] {
        let stage = Stage::new(ConnectionLimits { h2c, ..limits() });
        let mut held = stage.connect().await;
        held.send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let mut half = stage.connect().await;
        half.send("GET / HTTP/1.1\r\n").await;
        let mut idle = stage.connect().await;
        idle.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(!idle.answer().await.closes());
        let mut fresh = stage.connect().await;
        stage.until(|| stage.calls() == 2 && stage.seen.opened.load(Ordering::SeqCst) == 4).await;

        let tasks = stage.tasks.clone();
        let stopping = async { tasks.stop().await };
        let rest = async {
            idle.ended().await;
            fresh.ended().await;
            assert!(TcpStream::connect(stage.address).await.is_err());
            half.send("Host: a\r\n\r\n").await;
            let answer = half.answer().await;
            assert_eq!((answer.status, answer.closes()), (200, true));
            half.ended().await;
            stage.seen.gate.add_permits(1);
            let answer = held.answer().await;
            assert_eq!((answer.body.as_str(), answer.closes()), ("released", true));
            held.ended().await;
        };
        tokio::join!(stopping, rest);
        assert_eq!(stage.ends(4).await, [ConnectionEnd::Finished; 4]);
    }
}

#[tokio::test]
async fn what_does_not_finish_is_cut() {
    let stage = Stage::new(ConnectionLimits { drain_timeout: SHORT, ..limits() });
    let mut client = stage.connect().await;
    client.send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n").await;
    stage.until(|| stage.calls() == 1).await;
    stage.tasks.stop().await;
    client.gone().await;
    assert_eq!(stage.ends(1).await, [ConnectionEnd::Cut]);
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_request() {
    let stage = Stage::new(limits());
    let mut client = stage.connect().await;
    client.send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n").await;
    stage.until(|| stage.calls() == 1).await;
    drop(client);
    assert_eq!(stage.ends(1).await, [ConnectionEnd::Broken]);
    stage.until(|| stage.seen.left.load(Ordering::SeqCst) == 1).await;
}
