//! A closed loop over kept connections: each has one request out, and asks again when the answer is
//! complete. Every answer's status and length are checked, and every byte of some.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use memchr::memmem::Finder;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::wanted::Wanted;

/// An answer's head is no longer.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// An answer that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(5);

/// When to stop asking.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    Requests(u64),
    Elapsed(Duration),
}

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) requests: u64,
    pub(crate) elapsed: Duration,
    /// Sorted, in nanoseconds.
    latencies: Vec<u64>,
}

impl Outcome {
    pub(crate) fn rate(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64()
    }

    /// The time within which so many of a hundred answers came, in microseconds.
    pub(crate) fn percentile_us(&self, percent: f64) -> f64 {
        let last = self.latencies.len() - 1;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a position within the list")]
        let at = (last as f64 * percent / 100.0).round() as usize;
        self.latencies[at] as f64 / 1e3
    }
}

struct Connection {
    stream: TcpStream,
    input: Box<[u8]>,
    filled: usize,
    /// The whole answer's length, once its head is there.
    expected: Option<usize>,
    asked: Instant,
}

pub(crate) struct Load {
    poll: Poll,
    connections: Vec<Connection>,
    request: Vec<u8>,
    body: Vec<u8>,
    head_end: Finder<'static>,
    /// Of so many answers, one is compared in full.
    compare_every: u64,
}

impl Load {
    /// Opens the connections; nothing is asked yet.
    pub(crate) fn connect(
        address: SocketAddr,
        wanted: &Wanted,
        connections: usize,
        compare_every: u64,
    ) -> Result<Self> {
        let poll = Poll::new()?;
        let connections = (0..connections)
            .map(|index| {
                let stream = std::net::TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                let mut stream = TcpStream::from_std(stream);
                poll.registry().register(&mut stream, Token(index), Interest::READABLE)?;
                let input = vec![0; HEAD_BYTES_MAX + wanted.body.len()].into_boxed_slice();
                Ok(Connection { stream, input, filled: 0, expected: None, asked: now() })
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            poll,
            connections,
            request: wanted.request.clone(),
            body: wanted.body.clone(),
            head_end: Finder::new(b"\r\n\r\n"),
            compare_every,
        })
    }

    /// Asks on all connections until it is time, and waits for the last answers.
    pub(crate) fn run(&mut self, until: Until) -> Result<Outcome> {
        let began = now();
        let enough = |asked: u64, now: Instant| match until {
            Until::Requests(requests) => asked >= requests,
            Until::Elapsed(elapsed) => now - began >= elapsed,
        };
        let mut latencies = Vec::with_capacity(1 << 19);
        let (mut asked, mut open) = (0, 0);
        for connection in &mut self.connections {
            if enough(asked, began) {
                break;
            }
            connection.ask(&self.request)?;
            asked += 1;
            open += 1;
        }
        let mut events = Events::with_capacity(256);
        while open > 0 {
            match self.poll.poll(&mut events, Some(PATIENCE)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            ensure!(!events.is_empty(), "no answer in {PATIENCE:?}");
            for event in &events {
                let connection = &mut self.connections[event.token().0];
                let compare = (latencies.len() as u64).is_multiple_of(self.compare_every);
                if !connection.read(&self.head_end, &self.body, compare)? {
                    continue;
                }
                let now = now();
                latencies.push(u64::try_from((now - connection.asked).as_nanos())?);
                if enough(asked, now) {
                    open -= 1;
                } else {
                    connection.ask(&self.request)?;
                    asked += 1;
                }
            }
        }
        let elapsed = began.elapsed();
        latencies.sort_unstable();
        Ok(Outcome { requests: latencies.len() as u64, elapsed, latencies })
    }
}

impl Connection {
    fn ask(&mut self, request: &[u8]) -> Result<()> {
        self.asked = now();
        let written = self.stream.write(request).context("send a request")?;
        ensure!(written == request.len(), "a request went out in part");
        Ok(())
    }

    /// Reads what is there: once, since there is always more room than the answer needs, and what
    /// comes later is another edge. True when the answer is complete and right.
    fn read(&mut self, head_end: &Finder, body: &[u8], compare: bool) -> Result<bool> {
        match self.stream.read(&mut self.input[self.filled..]) {
            Ok(0) => bail!("the server closed a kept connection"),
            Ok(read) => self.filled += read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error).context("read an answer"),
        }
        let expected = match self.expected {
            Some(expected) => expected,
            None => {
                let Some(end) = head_end.find(&self.input[..self.filled]) else {
                    ensure!(self.filled < HEAD_BYTES_MAX, "a head is longer than {HEAD_BYTES_MAX} bytes");
                    return Ok(false);
                };
                check(&self.input[..end], body.len())?;
                end + 4 + body.len()
            }
        };
        if self.filled < expected {
            self.expected = Some(expected);
            return Ok(false);
        }
        ensure!(self.filled == expected, "{} bytes follow an answer", self.filled - expected);
        ensure!(!compare || self.input[expected - body.len()..expected] == *body, "an answer's body differs");
        self.filled = 0;
        self.expected = None;
        Ok(true)
    }
}

/// Status and length must be right.
fn check(head: &[u8], length: usize) -> Result<()> {
    ensure!(head.starts_with(b"HTTP/1.1 200 "), "the answer is {:?}", String::from_utf8_lossy(head));
    let name = b"content-length:";
    for line in head.split(|&byte| byte == b'\n') {
        if line.len() > name.len() && line[..name.len()].eq_ignore_ascii_case(name) {
            let value = str::from_utf8(line[name.len()..].trim_ascii())?;
            ensure!(value.parse() == Ok(length), "the answer's length is {value}, not {length}");
            return Ok(());
        }
    }
    bail!("the answer has no length: {:?}", String::from_utf8_lossy(head))
}

/// Benches measure time itself; there is nothing to simulate.
pub(crate) fn now() -> Instant {
    Instant::now()
}
