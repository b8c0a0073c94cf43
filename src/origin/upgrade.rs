//! Tunnels: after a 101 the two sides speak past us.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio::time::sleep;

/// Copies both ways until both sides have ended; tells the bytes to the origin and to the client.
///
/// A tunnel that is silent both ways for `idle` (and for at most twice that) is closed: `TimedOut`.
/// Dropping the future closes both sides, so that a drain can end it.
pub async fn splice(client: Upgraded, origin: Upgraded, idle: Duration) -> io::Result<(u64, u64)> {
    let moved = Arc::new(AtomicU64::new(0));
    let mut client = Watched { io: TokioIo::new(client), moved: Arc::clone(&moved) };
    let mut origin = Watched { io: TokioIo::new(origin), moved: Arc::clone(&moved) };
    // What there is to copy is copied before anyone asks whether it is too late.
    tokio::select! {
        biased;
        copied = copy_bidirectional(&mut client, &mut origin) => copied,
        () = silence(&moved, idle) => Err(io::Error::new(io::ErrorKind::TimedOut, "the tunnel was silent for too long")),
    }
}

async fn silence(moved: &AtomicU64, idle: Duration) {
    let mut before = moved.load(Ordering::Acquire);
    loop {
        sleep(idle).await;
        let now = moved.load(Ordering::Acquire);
        if now == before {
            return;
        }
        before = now;
    }
}

/// One side; counts what is read from it. What is read on one side is what moves.
struct Watched {
    io: TokioIo<Upgraded>,
    moved: Arc<AtomicU64>,
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        let read = buf.filled().len() - before;
        self.moved.fetch_add(read as u64, Ordering::AcqRel);
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
