//! The socket below hyper: counts what hyper does not tell, and counts itself.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::OriginError;
use super::pool::{Permit, PoolStats};

/// A peer that is gone without a word is noticed after about this long, also in a silent tunnel.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);

/// What went over a connection, seen from outside of hyper.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    received: AtomicU64,
    sent: AtomicU64,
    /// The next read asks the kernel itself what is there.
    is_suspect: AtomicBool,
    /// A tunnel outlives its answer's body; its permit stays with the socket.
    tunnel: OnceLock<Permit>,
}

impl Traffic {
    /// Bytes that came from the origin.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Acquire)
    }

    /// Bytes that went to the origin.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Acquire)
    }

    /// Has a kept connection looked at once more before it is written to.
    ///
    /// The runtime learns that a socket can be read when it next polls; until then hyper would
    /// write to a connection that the origin has closed, or take bytes that are there already for
    /// the answer to what it is about to ask. hyper reads before it writes: that read looks.
    pub(super) fn suspect(&self) {
        self.is_suspect.store(true, Ordering::Release);
    }

    /// Keeps a permit for as long as the socket lives. A connection becomes a tunnel once.
    pub(super) fn keep(&self, permit: Permit) {
        let first = self.tunnel.set(permit).is_ok();
        debug_assert!(first, "a connection becomes a tunnel once");
    }
}

/// A connected socket. It counts as open until it is dropped, wherever that happens.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    traffic: Arc<Traffic>,
    stats: Arc<PoolStats>,
}

impl Wire {
    pub(super) fn new(stream: TcpStream, stats: Arc<PoolStats>) -> Self {
        stats.connected();
        Self { stream, traffic: Arc::default(), stats }
    }

    pub(super) fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stats.disconnected();
    }
}

/// Connects to the first address of `host` that takes the connection, all within `limit`.
pub(super) async fn dial(host: &str, port: u16, limit: Duration) -> Result<TcpStream, OriginError> {
    let deadline = Instant::now() + limit;
    let addresses: Vec<SocketAddr> = match timeout(limit, tokio::net::lookup_host((host, port))).await {
        Ok(found) => found.map_err(OriginError::from_connect)?.collect(),
        Err(_elapsed) => return Err(OriginError::ConnectTimeout),
    };
    let mut failure = OriginError::from_connect(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    for (tried, address) in (0u32..).zip(&addresses) {
        // An address that swallows packets must leave the others their share of the time.
        let left = u32::try_from(addresses.len()).unwrap_or(u32::MAX).saturating_sub(tried).max(1);
        let share = deadline.saturating_duration_since(Instant::now()) / left;
        failure = match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => match prepare(&stream) {
                Ok(()) => return Ok(stream),
                Err(error) => OriginError::from_connect(error),
            },
            Ok(Err(error)) => OriginError::from_connect(error),
            Err(_elapsed) => OriginError::ConnectTimeout,
        };
    }
    Err(failure)
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_AFTER / 3);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.traffic.is_suspect.swap(false, Ordering::AcqRel) {
            match SockRef::from(&self.stream).peek(&mut [MaybeUninit::uninit()]) {
                Ok(0) => return Poll::Ready(Ok(())),
                Ok(_) => return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "an answer to nothing"))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        let read = buf.filled().len() - before;
        self.traffic.received.fetch_add(read as u64, Ordering::AcqRel);
        polled
    }
}

impl Wire {
    fn count(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(written)) = &polled {
            self.traffic.sent.fetch_add(*written as u64, Ordering::AcqRel);
        }
        polled
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.count(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.count(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
