//! Requests at once for one key that nobody has: how often the origin is asked.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Barrier;

use crate::server::{Node, Redis};
use crate::{origin, sample, say};

const SIZES: [usize; 2] = [1024, 16 * 1024];
const RUNS: usize = 3;
/// What the origin takes for an answer.
const SLOW: Duration = Duration::from_millis(100);
/// Connections that are opened at a time: a listener's queue is short.
const OPENED: usize = 100;

pub(crate) fn run(requests: usize, nodes: usize) -> Result<()> {
    let backend = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let upstream = backend.local_addr()?;
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in backend.incoming().flatten() {
            let counter = Arc::clone(&counter);
            std::thread::spawn(move || converse(stream, &counter));
        }
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    for size in SIZES {
        for run in 0..RUNS {
            let redis = Redis::start()?;
            let nodes: Vec<Node> =
                (0..nodes).map(|_| Node::start(upstream, &redis, None, &[])).collect::<Result<_>>()?;
            for node in &nodes {
                node.ready()?;
            }
            asked.store(0, Ordering::SeqCst);
            let addresses: Vec<_> = nodes.iter().map(|node| node.address).collect();
            let elapsed = runtime.block_on(crowd(&addresses, requests, size))?;
            let turns = runtime.block_on(turns(&nodes))?;
            say(&format!(
                "{requests} requests at once on {} nodes, {size} B, run {}: {} origin reads, all answered right in {elapsed:.2?}; {turns}",
                nodes.len(),
                run + 1,
                asked.load(Ordering::SeqCst)
            ));
        }
    }
    Ok(())
}

/// How the nodes came to their answers: what they count of the shared tier and of leases.
async fn turns(nodes: &[Node]) -> Result<String> {
    let mut all = Vec::new();
    for node in nodes {
        let request = http::Request::get(format!("http://{}/metrics", node.ops)).body(bytes::Bytes::new())?;
        let answer = endcap::client::send(request, Duration::from_secs(10)).await?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let counted = text.lines().filter(|line| !line.ends_with(" 0")).filter_map(|line| {
            let label = ["endcap_l2_reads_total{result=", "endcap_leases_total{turn="]
                .iter()
                .find_map(|name| line.strip_prefix(name))?;
            Some(label.replace(['"', '}'], ""))
        });
        all.push(counted.collect::<Vec<_>>().join(", "));
    }
    Ok(all.join(" | "))
}

/// Everybody asks when all are connected; how long until all have the right answer.
async fn crowd(nodes: &[SocketAddr], requests: usize, size: usize) -> Result<Duration> {
    let barrier = Arc::new(Barrier::new(requests + 1));
    let request = Arc::new(sample::request("shop.example", size, "identity"));
    let body = Arc::new(sample::body(size));
    let mut people = Vec::with_capacity(requests);
    for number in 0..requests {
        let stream = TcpStream::connect(nodes[number % nodes.len()]).await.context("connect")?;
        let (barrier, request, body) = (Arc::clone(&barrier), Arc::clone(&request), Arc::clone(&body));
        people.push(tokio::spawn(async move {
            let mut stream = stream;
            barrier.wait().await;
            stream.write_all(&request).await?;
            let mut answer = Vec::with_capacity(body.len() + 1024);
            while !answer.ends_with(&body) {
                ensure!(stream.read_buf(&mut answer).await? > 0, "{}", String::from_utf8_lossy(&answer));
            }
            ensure!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
            Ok(())
        }));
        if number % OPENED == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    barrier.wait().await;
    let began = Instant::now();
    for one in people {
        one.await??;
    }
    Ok(began.elapsed())
}

/// The origin's end of a connection: a slow answer to each request.
fn converse(mut stream: std::net::TcpStream, asked: &AtomicUsize) -> std::io::Result<()> {
    let mut head = vec![0; 8 * 1024];
    loop {
        let read = stream.read(&mut head)?;
        if read == 0 {
            return Ok(());
        }
        asked.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(SLOW);
        let line = String::from_utf8_lossy(&head[..read]);
        let size = line.split(['?', ' ']).nth(1).and_then(|path| path.rsplit('/').next()?.parse().ok());
        stream.write_all(&origin::answer(size.unwrap_or(1024), ""))?;
    }
}
