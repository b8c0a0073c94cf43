//! Allocations per hit, counted in the server's whole process: the client is another one.
//!
//! `cargo bench --bench alloc` prints a line for each contender and size.

#![expect(clippy::disallowed_methods, reason = "bare hyper has no drain")]
#![expect(clippy::print_stdout, reason = "a command line program")]

#[path = "hit/bare_hyper.rs"]
mod bare_hyper;
#[path = "hit/origin.rs"]
mod origin;
#[path = "hit/sample.rs"]
mod sample;

use std::alloc::System;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use stats_alloc::{INSTRUMENTED_SYSTEM, Stats, StatsAlloc};

/// Counts all threads' allocations. The number does not depend on which allocator is behind it.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const SIZES: [usize; 2] = [1024, 16 * 1024];
/// Before counting: the fill, the connection's buffers, the first purge check and so on.
const WARM_UP: u64 = 2_000;
const COUNTED: u64 = 20_000;
/// The word by which this program, started again, knows that it is the client.
const CLIENT: &str = "client";

/// A server in this process, for as long as the process lives.
struct Contender {
    name: &'static str,
    /// Starts it on a thread of its own, for lists of a size, and tells its address.
    start: fn(usize) -> Result<SocketAddr>,
}

const CONTENDERS: &[Contender] = &[
    Contender { name: "bare hyper", start: contender_bare_hyper },
    Contender { name: "endcap", start: contender_endcap },
];

/// A node with an origin behind it, which serves every size.
fn contender_endcap(_size: usize) -> Result<SocketAddr> {
    let backend = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let upstream = backend.local_addr()?;
    std::thread::spawn(move || origin::serve(&backend));
    let text = format!(
        "upstream = \"http://{upstream}\"\n[listen]\naddress = \"127.0.0.1:0\"\n[ops]\naddress = \"127.0.0.1:0\"\n\
         [log]\nrequests = \"off\"\n[route.bench]\npaths = [\"/store/bench/{{size}}\"]\nttl = \"1h\"\n\
         tag_prefixes = [\"prod_\"]\n[route.bench.query]\nregion_id = {{ kind = \"text\" }}\n\
         [route.bench.headers]\nx-publishable-api-key = {{ kind = \"text\" }}\n"
    );
    let loaded = endcap::config::Config::from_toml("bench.toml", &text, std::iter::empty())
        .map_err(|problems| anyhow::anyhow!("{problems}"))?;
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let node = endcap::node::Node::start(&loaded.config).expect("the node starts");
            node.ready().await;
            tell.send(node.address).expect("somebody asked");
            std::future::pending::<()>().await;
        });
    });
    Ok(told.recv()?)
}

fn contender_bare_hyper(size: usize) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || bare_hyper::serve(listener, size).expect("bare hyper serves"));
    Ok(address)
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [role, address, size] = args.as_slice()
        && role == CLIENT
    {
        return client(address, size.parse()?);
    }
    println!("allocations per hit, keep-alive, one connection, {COUNTED} hits counted after {WARM_UP}");
    println!(
        "{:<12} {:>7}  {:>8}  {:>8}  {:>8}  {:>10}",
        "contender", "bytes", "allocs", "reallocs", "frees", "bytes/hit"
    );
    for contender in CONTENDERS {
        for size in SIZES {
            let stats = count(contender, size).with_context(|| format!("{} at {size} bytes", contender.name))?;
            println!(
                "{:<12} {size:>7}  {:>8.3}  {:>8.3}  {:>8.3}  {:>10.1}",
                contender.name,
                per_hit(stats.allocations),
                per_hit(stats.reallocations),
                per_hit(stats.deallocations),
                per_hit(stats.bytes_allocated),
            );
        }
    }
    Ok(())
}

fn per_hit(count: usize) -> f64 {
    count as f64 / COUNTED as f64
}

/// What this process allocates while it answers. The few allocations of this function, for the
/// client's reports, are below the last digit that is shown.
fn count(contender: &Contender, size: usize) -> Result<Stats> {
    let mut client = Client::start((contender.start)(size)?, size)?;
    client.ask(WARM_UP)?;
    let before = ALLOCATOR.stats();
    client.ask(COUNTED)?;
    Ok(ALLOCATOR.stats() - before)
}

/// The other process. It asks as often as it is told on standard input, and reports when it is done.
struct Client {
    process: Child,
    orders: ChildStdin,
    reports: BufReader<ChildStdout>,
}

impl Client {
    fn start(address: SocketAddr, size: usize) -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .args([CLIENT, &address.to_string(), &size.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = process.stdin.take().context("standard input is piped")?;
        let reports = BufReader::new(process.stdout.take().context("standard output is piped")?);
        Ok(Self { process, orders, reports })
    }

    fn ask(&mut self, requests: u64) -> Result<()> {
        writeln!(self.orders, "{requests}")?;
        let mut report = String::new();
        self.reports.read_line(&mut report)?;
        ensure!(report == "done\n", "the client failed");
        Ok(())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// The client's side: one kept connection, one request at a time, every body compared.
fn client(address: &str, size: usize) -> Result<()> {
    let request = sample::request(address, size, "identity");
    let body = sample::body(size);
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut answer = vec![0; size];
    for order in std::io::stdin().lines() {
        for _ in 0..order?.parse::<u64>()? {
            stream.write_all(&request)?;
            let mut line = String::new();
            reader.read_line(&mut line)?;
            ensure!(line.starts_with("HTTP/1.1 200 "), "the answer is {line:?}");
            while line != "\r\n" {
                line.clear();
                ensure!(reader.read_line(&mut line)? > 0, "the server closed a kept connection");
            }
            reader.read_exact(&mut answer)?;
            ensure!(answer == body, "an answer's body differs");
        }
        println!("done");
    }
    Ok(())
}
