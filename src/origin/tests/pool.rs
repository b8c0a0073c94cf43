//! Connections: how many there are, which is used, and what happens when one dies.

use std::pin::pin;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::BodyExt;
use tokio::join;
use tokio::net::TcpListener;

use super::fake::{Fake, fill, found, get, ok, post, until, whole, within};
use crate::body::Body;
use crate::origin::{HttpOrigin, Origin, OriginError, OriginSettings, Purpose};
use crate::tasks::Tasks;

#[tokio::test]
async fn an_address_where_nobody_listens_is_connect_refused() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let settings = OriginSettings::new(&free.to_string().parse().unwrap()).unwrap();
    let client = HttpOrigin::new(settings, &Tasks::new());
    assert_eq!(fill(&client, get("/")).await, Err("connect_refused"));
    assert_eq!(client.stats().open(), 0);
}

#[tokio::test]
async fn a_name_without_an_address_is_connect_failed() {
    // RFC 6761: never resolves. Without any resolver the lookup fails as well, or takes its time.
    let settings = OriginSettings::new(&"nowhere.invalid:80".parse().unwrap()).unwrap();
    let client = HttpOrigin::new(settings, &Tasks::new());
    let outcome = fill(&client, get("/")).await;
    assert!(matches!(outcome, Err("connect_failed" | "connect_timeout")), "{outcome:?}");
}

/// A listener whose queue is full: the kernel drops what comes, as a dead host does.
#[tokio::test]
async fn a_host_that_does_not_answer_is_connect_timeout() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut waiting = Vec::new();
    for _ in 0..4 {
        let filler = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        filler.set_nonblocking(true).unwrap();
        let _in_progress = filler.connect(&address.into());
        waiting.push(filler);
    }
    let mut settings = OriginSettings::new(&address.to_string().parse().unwrap()).unwrap();
    settings.connect_timeout = Duration::from_millis(50);
    let client = HttpOrigin::new(settings, &Tasks::new());
    assert_eq!(fill(&client, get("/")).await, Err("connect_timeout"));
}

#[tokio::test]
async fn a_connection_serves_one_request_after_the_other() {
    let fake = Fake::bind().await;
    let client = fake.client(|_| {});
    let serve = async {
        let mut peer = fake.accept().await;
        peer.answer("one").await;
        peer.request().await;
        peer.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n").await;
        peer.request().await;
        peer.say("HTTP/1.1 204 No Content\r\n\r\n").await;
        peer.answer("four").await;
        peer
    };
    let ask = async {
        assert_eq!(fill(&client, get("/1")).await, found("one"));
        assert_eq!(fill(&client, get("/2")).await, found("two"));
        assert_eq!(fill(&client, get("/3")).await, Ok((204, Bytes::new())));
        assert_eq!(fill(&client, post(Body::from(Bytes::from_static(b"")))).await, found("four"));
    };
    let ((), _peer) = join!(ask, serve);
    let stats = client.stats();
    assert_eq!((stats.connects_total(), stats.open(), stats.idle(), stats.replays_total()), (1, 1, 1, 0));
}

#[tokio::test]
async fn a_connection_that_the_origin_will_close_is_not_kept() {
    for head in [
        "HTTP/1.1 200 OK\r\nConnection: close\r\n",
        "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1\r\n",
        "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n",
        "HTTP/1.1 204 No Content\r\nX-Comment: what follows would be read as the next answer\r\n",
    ] {
        let fake = Fake::bind().await;
        let client = fake.client(|_| {});
        let serve = async {
            let mut peer = fake.asked().await;
            peer.say(format!("{head}Content-Length: 2\r\n\r\n")).await;
            if head.contains("200") {
                peer.say("hi").await;
            }
            peer.closed().await;
        };
        let (answer, ()) = join!(fill(&client, get("/")), serve);
        assert!(answer.is_ok(), "{head}: {answer:?}");
        until("the socket's end", || client.stats().open() == 0).await;
        assert_eq!(client.stats().idle(), 0, "{head}");
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_time_without_being_asked() {
    let fake = Fake::bind().await;
    let client = fake.client(|settings| settings.idle_timeout = Duration::from_millis(40));
    let serve = async {
        let mut peer = fake.accept().await;
        peer.answer("hi").await;
        peer.closed().await;
    };
    let (answer, ()) = join!(fill(&client, get("/")), serve);
    assert_eq!(answer, found("hi"));
    until("the sweep", || client.stats().idle() == 0 && client.stats().open() == 0).await;
}

/// The race with an origin that closes what is idle, lost before a byte of the request is written:
/// nothing here yields between the origin's close and the next request, so the client learns of it
/// only when it tries.
#[tokio::test]
async fn a_request_that_meets_a_closed_connection_goes_to_a_fresh_one() {
    for method in [Method::GET, Method::POST] {
        let fake = Fake::bind().await;
        let client = fake.client(|settings| settings.connections_max = 1);
        let (answer, peer) = join!(fill(&client, get("/1")), async {
            let mut peer = fake.accept().await;
            peer.answer("one").await;
            peer
        });
        assert_eq!(answer, found("one"));
        until("the connection's return", || client.stats().idle() == 1).await;
        drop(peer);
        let body = if method == Method::POST { Body::from(Bytes::from_static(b"x")) } else { Body::Empty };
        let request = Request::builder().method(&method).uri("/2").body(body).unwrap();
        let (answer, _peer) = join!(fill(&client, request), async {
            let mut peer = fake.accept().await;
            peer.answer("two").await;
            peer
        });
        assert_eq!(answer, found("two"), "{method}");
        assert_eq!((client.stats().connects_total(), client.stats().replays_total()), (2, 1));
    }
}

/// The same race, lost after the request was written: the origin has read it and says nothing.
#[tokio::test]
async fn a_get_whose_kept_connection_dies_silently_is_replayed_once() {
    for is_reset in [false, true] {
        let fake = Fake::bind().await;
        let client = fake.client(|settings| settings.connections_max = 1);
        let serve = async {
            let mut peer = fake.accept().await;
            peer.answer("one").await;
            let first = peer.request().await;
            if is_reset {
                peer.reset()
            } else {
                drop(peer)
            }
            let mut fresh = fake.accept().await;
            assert_eq!(fresh.request().await, first);
            fresh.say(ok("two")).await;
            fresh
        };
        let ask = async {
            assert_eq!(fill(&client, get("/1")).await, found("one"));
            fill(&client, Request::get("/2?a=b").header("x-key", "1").body(Body::Empty).unwrap()).await
        };
        let (answer, _fresh) = join!(ask, serve);
        assert_eq!(answer, found("two"));
        assert_eq!(client.stats().replays_total(), 1);
    }
}

#[tokio::test]
async fn a_replay_that_fails_is_not_replayed() {
    let fake = Fake::bind().await;
    let client = fake.client(|settings| settings.connections_max = 1);
    let serve = async {
        let mut peer = fake.accept().await;
        peer.answer("one").await;
        peer.request().await;
        drop(peer);
        drop(fake.asked().await);
    };
    let ask = async {
        assert_eq!(fill(&client, get("/1")).await, found("one"));
        fill(&client, get("/2")).await
    };
    let (answer, ()) = join!(ask, serve);
    assert_eq!(answer, Err("reset"));
    assert_eq!((client.stats().replays_total(), client.stats().connects_total()), (1, 2));
}

#[tokio::test]
async fn what_may_have_been_carried_out_is_not_sent_twice() {
    let answered = "HTTP/1.1 200 OK\r\nContent-";
    for (request, said) in [(post(Body::Empty), ""), (get("/"), answered)] {
        let fake = Fake::bind().await;
        let client = fake.client(|settings| settings.connections_max = 1);
        let serve = async {
            let mut peer = fake.accept().await;
            peer.answer("one").await;
            peer.request().await;
            peer.say(said).await;
        };
        let ask = async {
            assert_eq!(fill(&client, get("/1")).await, found("one"));
            fill(&client, request).await
        };
        let (answer, ()) = join!(ask, serve);
        assert_eq!(answer, Err(if said.is_empty() { "reset" } else { "truncated" }));
        assert_eq!((client.stats().replays_total(), client.stats().connects_total()), (0, 1));
    }
}

/// Bytes after an answer would be taken for the next answer: a shopper would get another's cart.
#[tokio::test]
async fn bytes_after_an_answer_are_nobodys_answer() {
    let evil = ok("evil");
    for is_late in [false, true] {
        let fake = Fake::bind().await;
        let client = fake.client(|settings| settings.connections_max = 1);
        let serve = async {
            let mut peer = fake.asked().await;
            peer.say(if is_late { ok("one") } else { format!("{}{evil}", ok("one")) }).await;
            peer
        };
        let (answer, mut peer) = join!(fill(&client, get("/1")), serve);
        assert_eq!(answer, found("one"));
        if is_late {
            // Nothing yields after the connection's return: the client finds the bytes when it asks.
            until("the connection's return", || client.stats().idle() == 1).await;
            peer.say(&evil).await;
        }
        let (answer, ()) = join!(fill(&client, get("/2")), async { fake.accept().await.answer("two").await });
        assert_eq!(answer, found("two"));
        assert_eq!(client.stats().connects_total(), 2);
    }
}

#[tokio::test]
async fn an_answer_before_its_request_is_whole_ends_the_connection() {
    let fake = Fake::bind().await;
    let client = fake.client(|_| {});
    let endless = futures_util::stream::pending::<Result<http_body::Frame<Bytes>, std::convert::Infallible>>();
    let request = post(Body::stream(http_body_util::StreamBody::new(endless)));
    let serve = async {
        let mut peer = fake.asked().await;
        peer.say("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno").await;
        peer.closed().await;
    };
    let (answer, ()) = join!(fill(&client, request), serve);
    assert_eq!(answer, Ok((413, Bytes::from_static(b"no"))));
    assert_eq!(client.stats().idle(), 0);
}

#[tokio::test]
async fn who_finds_no_connection_waits_in_a_bounded_queue() {
    let fake = Fake::bind().await;
    let client = fake.client(|settings| {
        settings.connections_max = 1;
        settings.queue_max = 1;
    });
    let (held, mut peer) = join!(client.send(get("/1"), Purpose::Fill), async {
        let mut peer = fake.asked().await;
        peer.say("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n").await;
        peer
    });
    let mut waiting = pin!(fill(&client, get("/2")));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    assert_eq!(client.stats().waiting(), 1);
    assert_eq!(fill(&client, get("/3")).await, Err("queue_full"));

    // The first answer ends; the one who waits gets its connection.
    let (answer, ()) = join!(whole(held), peer.say("one"));
    assert_eq!(answer, found("one"));
    let (answer, ()) = join!(waiting, peer.answer("two"));
    assert_eq!(answer, found("two"));
    assert_eq!((client.stats().waiting(), client.stats().connects_total()), (0, 1));
}

/// Three of four places in the queue are for one kind, at the most.
#[tokio::test]
async fn neither_fills_nor_passes_take_the_whole_queue() {
    let is_full = |answer| matches!(answer, Err(OriginError::QueueFull));
    for [one, other] in [[Purpose::Fill, Purpose::Pass], [Purpose::Pass, Purpose::Fill]] {
        let fake = Fake::bind().await;
        let client = fake.client(|settings| {
            settings.connections_max = 1;
            settings.queue_max = 4;
        });
        let (_held, _peer) = join!(client.send(get("/"), one), async {
            let mut peer = fake.asked().await;
            peer.say("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n").await;
            peer
        });
        let mut waiting = Vec::new();
        for purpose in [one, one, one, other] {
            let mut waits = Box::pin(client.send(get("/"), purpose));
            assert!(futures_util::poll!(&mut waits).is_pending());
            waiting.push(waits);
            assert_eq!(client.stats().waiting(), waiting.len() as u64);
            if waiting.len() >= 3 {
                assert!(is_full(client.send(get("/"), one).await));
            }
        }
        assert!(is_full(client.send(get("/"), other).await));
    }
}

#[tokio::test]
async fn who_waits_too_long_is_queue_timeout_and_leaves_the_queue() {
    let fake = Fake::bind().await;
    let client = fake.client(|settings| {
        settings.connections_max = 1;
        settings.queue_timeout = Duration::from_millis(30);
    });
    let (_held, _peer) = join!(client.send(get("/1"), Purpose::Pass), async {
        let mut peer = fake.asked().await;
        peer.say("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n").await;
        peer
    });
    assert_eq!(fill(&client, get("/2")).await, Err("queue_timeout"));
    assert_eq!(client.stats().waiting(), 0);
}

#[tokio::test]
async fn fills_beyond_their_number_wait_while_there_are_connections_for_what_passes() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
    let fake = Fake::bind().await;
    let client = fake.client(|settings| settings.fills_max = 1);
    let mut second = pin!(fill(&client, get("/2")));
    let (first, (passed, _peers)) = join!(client.send(get("/1"), Purpose::Fill), async {
        let mut peer = fake.asked().await;
        assert!(futures_util::poll!(&mut second).is_pending());
        assert_eq!(client.stats().waiting(), 1);
        let (passed, other) = join!(client.send(get("/3"), Purpose::Pass), async {
            let mut other = fake.asked().await;
            other.say(HEAD).await;
            other
        });
        peer.say(HEAD).await;
        (passed, (peer, other))
    });
    assert!(passed.is_ok() && futures_util::poll!(&mut second).is_pending());
    // One that is handed through takes a place of the passes, and gives back its own.
    let kept = first.unwrap().into_body().into_pass();
    assert!(kept.is_some());
    let (answer, ()) = join!(second, async { fake.accept().await.answer("two").await });
    assert_eq!(answer, found("two"));
    assert_eq!(client.stats().waiting(), 0);
}

#[tokio::test]
async fn a_fill_that_one_reader_keeps_takes_a_place_of_the_passes() {
    let fake = Fake::bind().await;
    // Three of the four may pass.
    let client = fake.client(|settings| settings.connections_max = 4);
    let mut kept = Vec::new();
    for n in 0..4 {
        let (answer, mut peer) = join!(client.send(get("/"), Purpose::Fill), async {
            let mut peer = fake.asked().await;
            peer.say("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n").await;
            peer
        });
        match answer.unwrap().into_body().into_pass() {
            Some(body) => kept.push((body, peer)),
            None => {
                assert_eq!(n, 3);
                peer.closed().await;
            }
        }
    }
    // The place that is left is for fills; what passes waits until one of the three has ended.
    let (answer, ()) = join!(fill(&client, get("/")), async { fake.accept().await.answer("one").await });
    assert_eq!(answer, found("one"));
    let mut waiting = pin!(client.send(get("/"), Purpose::Pass));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    assert_eq!(client.stats().waiting(), 1);
    drop(kept.pop());
    assert!(futures_util::poll!(&mut waiting).is_pending());
    assert_eq!(client.stats().waiting(), 0);
}

#[tokio::test]
async fn a_stop_closes_what_is_idle_and_waits_for_what_is_in_use() {
    let fake = Fake::bind().await;
    let client = fake.client(|_| {});
    let (answer, mut idle) = join!(fill(&client, get("/1")), async {
        let mut peer = fake.accept().await;
        peer.answer("one").await;
        peer
    });
    assert_eq!(answer, found("one"));
    let tasks = fake.tasks.clone();
    join!(tasks.stop(), idle.closed());
    // What still comes is served, and nothing is kept.
    let (answer, ()) = join!(fill(&client, get("/2")), async { fake.accept().await.answer("two").await });
    assert_eq!(answer, found("two"));
    assert_eq!(client.stats().idle(), 0);
}

#[tokio::test]
async fn an_origin_that_is_replaced_leaves_no_connection() {
    let fake = Fake::bind().await;
    let client = fake.client(|_| {});
    let (answer, mut peer) = join!(fill(&client, get("/1")), async {
        let mut peer = fake.accept().await;
        peer.answer("one").await;
        peer
    });
    assert_eq!(answer, found("one"));
    drop(client);
    peer.closed().await;
}

/// An origin that closes every connection after a few answers, unannounced, under load from many
/// sides: a GET never fails, and there are never more connections than may be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_that_closes_when_it_likes_is_never_seen_by_a_get() {
    let fake = std::sync::Arc::new(Fake::bind().await);
    let client = std::sync::Arc::new(fake.client(|settings| settings.connections_max = 4));
    let (seen, served) = mpsc::channel();
    let tasks = Tasks::new();
    let origin = tasks.spawn({
        let (fake, tasks) = (fake.clone(), tasks.clone());
        async move {
            for answers in (1..4).cycle() {
                let mut peer = fake.accept().await;
                let seen = seen.clone();
                tasks.spawn(async move {
                    for _ in 0..answers {
                        peer.request().await;
                        seen.send(()).unwrap();
                        peer.say(ok("hi")).await;
                    }
                });
            }
        }
    });
    let askers: Vec<_> = (0..8)
        .map(|_| {
            let client = client.clone();
            tasks.spawn(async move {
                for _ in 0..50 {
                    assert_eq!(fill(&client, get("/")).await, found("hi"));
                    assert!(client.stats().idle() <= 4);
                }
            })
        })
        .collect();
    for asker in askers {
        within(asker).await.unwrap();
    }
    origin.abort();
    assert_eq!(served.try_iter().count(), 400);
}

#[tokio::test]
async fn a_local_body_needs_no_socket() {
    let body = crate::origin::OriginBody::from(Bytes::from_static(b"hello"));
    assert_eq!(body.framing(), crate::origin::Framing::ContentLength(5));
    assert_eq!(body.collect().await.unwrap().to_bytes(), "hello");
    assert!(crate::origin::OriginBody::empty().collect().await.unwrap().to_bytes().is_empty());
}
