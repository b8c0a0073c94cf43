//! The socket of one connection, as hyper sees it.
//!
//! HTTP/1 bytes pass the framing first. A head is handed to hyper only when it is whole and good;
//! in its place hyper gets a stand-in when it is not. So the refusal is an ordinary answer: it
//! comes in order behind those of earlier, pipelined requests, and closes the connection.
//!
//! There is no timer in here. What the connection's timer needs to know is written to the state.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::state::{ConnectionState, Protocol};
use crate::policy::framing::{Fault, Framing, HeadSizes};

/// The method of the stand-in for a refused head. A client that sends it gains nothing: it counts
/// only on a connection on which a head has been refused, and then is refused as well.
pub(super) const REFUSED_METHOD: &str = "REFUSED";
const REFUSED_HEAD: &[u8] = b"REFUSED / HTTP/1.1\r\n\r\n";

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Most bytes in one read.
const READ_BYTES: usize = 16 * 1024;
/// Most bytes that are read and thrown away after we closed our side first.
const LINGER_BYTES_MAX: usize = 256 * 1024;

thread_local! {
    /// What has just been read, until the framing has seen it. A read never spans two polls, so one
    /// for each thread will do, instead of one for each of thousands of connections.
    static SCRATCH: RefCell<[u8; READ_BYTES]> = const { RefCell::new([0; READ_BYTES]) };
}

/// A socket with the framing before it.
pub(super) struct Io {
    stream: TcpStream,
    state: Arc<ConnectionState>,
    /// None in HTTP/2, which frames by itself.
    framing: Option<Framing>,
    /// Bytes that hyper has not got: `given..good` may be given to it, then comes a head in part.
    held: Vec<u8>,
    good: usize,
    given: usize,
    next: Next,
    has_head_begun: bool,
    is_blocked: bool,
    lingered_bytes: usize,
    /// Answers plain requests before hyper sees them.
    ready: Option<Arc<dyn Ready>>,
    /// hyper has nothing of an earlier answer left to write.
    is_flushed: bool,
    /// What the socket has not taken yet of an answer that was ready, or of what goes before one.
    unsent: Unsent,
}

/// Answers plain requests with bytes.
pub(super) trait Ready: Send + Sync {
    /// Writes the head and gives the body of the answer to bytes that are one whole plain head; `None`
    /// leaves them to hyper.
    fn ready(&self, request: &[u8], began: Instant, head: &mut Vec<u8>) -> Option<Bytes>;
}

/// The rest of an answer.
#[derive(Debug, Default)]
struct Unsent {
    head: Vec<u8>,
    sent: usize,
    body: Bytes,
}

impl Unsent {
    fn is_empty(&self) -> bool {
        self.sent == self.head.len() && self.body.is_empty()
    }
}

/// What hyper gets after the held bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// More from the socket.
    Bytes,
    /// The client has closed its side.
    End,
    /// Nothing: the last head was refused.
    Silence,
    /// An error: the body is broken.
    Broken,
}

impl std::fmt::Debug for Io {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Io").field("stream", &self.stream).field("next", &self.next).finish_non_exhaustive()
    }
}

impl Io {
    pub(super) fn new(stream: TcpStream, state: Arc<ConnectionState>) -> Self {
        Self {
            stream,
            state,
            framing: None,
            held: Vec::new(),
            good: 0,
            given: 0,
            next: Next::Bytes,
            has_head_begun: false,
            is_blocked: false,
            lingered_bytes: 0,
            ready: None,
            is_flushed: true,
            unsent: Unsent::default(),
        }
    }

    /// Lets plain requests be answered before hyper sees them.
    pub(super) fn answers(mut self, ready: Arc<dyn Ready>) -> Self {
        self.ready = Some(ready);
        self
    }

    /// Whether an answer may be sent past hyper: nothing of an earlier one is under way, so that the
    /// order of answers stays that of requests.
    fn is_between(&self) -> bool {
        self.ready.is_some()
            && self.is_flushed
            && self.held.is_empty()
            && self.framing.as_ref().is_some_and(Framing::at_head)
            && self.state.is_between()
            && !self.state.is_tunnel()
    }

    /// Answers what has just been read, if it is one plain request whose answer is ready.
    fn answer(&mut self, head: &[u8]) -> bool {
        let Some(ready) = &self.ready else { return false };
        self.unsent = Unsent { head: std::mem::take(&mut self.unsent.head), sent: 0, body: Bytes::new() };
        self.unsent.head.clear();
        let began = Instant::now();
        match ready.ready(head, began, &mut self.unsent.head) {
            Some(body) => {
                self.unsent.body = body;
                self.state.answered_at_once(began);
                true
            }
            None => {
                self.unsent.head.clear();
                false
            }
        }
    }

    /// Takes over what the client is to be told before its answer. Called when hyper has nothing of an earlier
    /// answer left to write, and nothing yet of the next one's.
    fn take_interim(&mut self) {
        if let Some(head) = self.state.line().take() {
            self.unsent = Unsent { head, sent: 0, body: Bytes::new() };
        }
    }

    /// Sends first what goes before hyper's bytes.
    fn poll_before(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_unsent(cx))?;
        if self.is_flushed {
            self.take_interim();
            ready!(self.poll_unsent(cx))?;
            self.is_flushed = false;
        } else {
            // Bytes of two answers may be in one buffer by now: between them there is no place any more.
            drop(self.state.line().take());
        }
        Poll::Ready(Ok(()))
    }

    /// Sends what is left of an answer that was ready.
    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let head = self.unsent.head.get(self.unsent.sent..).unwrap_or_default();
            let slices = [IoSlice::new(head), IoSlice::new(&self.unsent.body)];
            let result = Pin::new(&mut self.stream).poll_write_vectored(cx, &slices);
            let written = ready!(self.note_write(result))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_head = written.min(self.unsent.head.len() - self.unsent.sent);
            self.unsent.sent += of_head;
            bytes::Buf::advance(&mut self.unsent.body, written - of_head);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads just enough to know whether the client speaks HTTP/2. Keeps what it has read.
    pub(super) async fn sniff(&mut self) -> io::Result<Protocol> {
        let mut bytes = [0; PREFACE.len()];
        loop {
            if !PREFACE.starts_with(&self.held) {
                return Ok(Protocol::Http1);
            }
            let Some(rest) = bytes.get_mut(self.held.len()..).filter(|rest| !rest.is_empty()) else {
                return Ok(Protocol::Http2);
            };
            let mut buffer = ReadBuf::new(rest);
            std::future::poll_fn(|cx| Pin::new(&mut self.stream).poll_read(cx, &mut buffer)).await?;
            if buffer.filled().is_empty() {
                return Ok(Protocol::Http1);
            }
            self.held.extend_from_slice(buffer.filled());
        }
    }

    /// Settles the protocol, for the bytes that have been read and all that follow.
    pub(super) fn speak(mut self, protocol: Protocol, sizes: HeadSizes) -> Self {
        self.state.speaks(protocol);
        match protocol {
            Protocol::Http1 => {
                self.framing = Some(Framing::new(sizes));
                self.scan_held();
            }
            Protocol::Http2 => self.good = self.held.len(),
        }
        self
    }

    /// Takes new bytes; gives hyper at once what is good, and holds the rest.
    fn take(&mut self, bytes: &[u8], cursor: &mut ReadBufCursor<'_>) {
        if self.is_between() && self.answer(bytes) {
            // Nothing for hyper: it goes on waiting for its next head.
            return;
        }
        let Some(framing) = self.framing.as_mut().filter(|_| !self.state.is_tunnel()) else {
            return cursor.put_slice(bytes);
        };
        if !self.held.is_empty() {
            self.held.extend_from_slice(bytes);
            return self.scan_held();
        }
        let found = framing.scan(bytes);
        let (good, rest) = bytes.split_at(found.pass);
        cursor.put_slice(good);
        if let Some(fault) = found.fault {
            self.fault(fault);
        } else if !rest.is_empty() {
            self.held.extend_from_slice(rest);
        }
        self.note_head();
    }

    fn scan_held(&mut self) {
        let Some(framing) = &mut self.framing else { return };
        let found = framing.scan(&self.held);
        self.good = found.pass;
        if let Some(fault) = found.fault {
            self.held.truncate(found.pass);
            self.fault(fault);
        }
        self.note_head();
    }

    fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::Head(refusal) => {
                self.state.refuse(refusal);
                self.held.extend_from_slice(REFUSED_HEAD);
                self.good = self.held.len();
                self.next = Next::Silence;
            }
            Fault::Body => self.next = Next::Broken,
        }
    }

    fn note_head(&mut self) {
        let has_begun = self.held.len() > self.good;
        if has_begun != self.has_head_begun {
            self.has_head_begun = has_begun;
            if has_begun { self.state.head_began() } else { self.state.head_ended() }
        }
    }

    /// Gives hyper held bytes; false if there are none that may be given.
    fn give(&mut self, cursor: &mut ReadBufCursor<'_>) -> bool {
        let end = self.good.min(self.given + cursor.remaining());
        let Some(bytes) = self.held.get(self.given..end).filter(|bytes| !bytes.is_empty()) else {
            return false;
        };
        cursor.put_slice(bytes);
        self.given = end;
        if self.given == self.good {
            self.held.drain(..self.good);
            self.good = 0;
            self.given = 0;
            if self.held.is_empty() {
                // Rare: only a head that came in pieces gets here. An idle connection keeps no memory for it.
                self.held = Vec::new();
            }
        }
        true
    }

    fn poll_bytes(&mut self, cx: &mut Context<'_>, cursor: &mut ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let limit = cursor.remaining().min(scratch.len());
            let mut buffer = ReadBuf::new(scratch.get_mut(..limit).unwrap_or_default());
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                self.next = Next::End;
            } else {
                self.take(buffer.filled(), cursor);
            }
            Poll::Ready(Ok(()))
        })
    }

    fn note_write(&mut self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let is_blocked = result.is_pending();
        if is_blocked != self.is_blocked {
            self.is_blocked = is_blocked;
            if is_blocked { self.state.write_blocked() } else { self.state.write_moved() }
        }
        result
    }

    /// Whether the client may still be sending, to somebody who will not listen: a close would then
    /// be a reset, and a reset may overtake our answer.
    fn must_linger(&self) -> bool {
        let is_between = self.framing.as_ref().is_none_or(Framing::at_head) && self.held.is_empty();
        match self.next {
            Next::Bytes => !is_between,
            Next::Silence | Next::Broken => true,
            Next::End => false,
        }
    }
}

impl Read for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, mut cursor: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let io = self.get_mut();
        if io.state.is_tunnel() && io.good < io.held.len() {
            // Sent before our 101 had arrived, and held for a head that it is not.
            io.good = io.held.len();
        }
        let room = cursor.remaining();
        // Nothing read means the end to hyper, so a read that was all held goes round again.
        while cursor.remaining() == room && room > 0 {
            ready!(io.poll_unsent(cx))?;
            if io.give(&mut cursor) {
                break;
            }
            match io.next {
                Next::Bytes => ready!(io.poll_bytes(cx, &mut cursor))?,
                Next::End => break,
                Next::Silence => return Poll::Pending,
                Next::Broken => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Write for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let io = self.get_mut();
        ready!(io.poll_before(cx))?;
        let result = Pin::new(&mut io.stream).poll_write(cx, bytes);
        io.note_write(result)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let io = self.get_mut();
        ready!(io.poll_unsent(cx))?;
        // hyper flushes when its own buffer is empty.
        io.is_flushed = true;
        io.take_interim();
        ready!(io.poll_unsent(cx))?;
        Pin::new(&mut io.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let io = self.get_mut();
        ready!(io.poll_unsent(cx))?;
        if io.lingered_bytes == 0 {
            ready!(Pin::new(&mut io.stream).poll_shutdown(cx))?;
            if !io.must_linger() {
                return Poll::Ready(Ok(()));
            }
            io.state.closed();
        }
        SCRATCH.with_borrow_mut(|scratch| {
            while io.lingered_bytes < LINGER_BYTES_MAX {
                let mut buffer = ReadBuf::new(scratch.as_mut_slice());
                // Counted from one, so that a second poll goes on here.
                io.lingered_bytes = io.lingered_bytes.max(1);
                match ready!(Pin::new(&mut io.stream).poll_read(cx, &mut buffer)) {
                    Ok(()) if !buffer.filled().is_empty() => io.lingered_bytes += buffer.filled().len(),
                    Ok(()) | Err(_) => break,
                }
            }
            Poll::Ready(Ok(()))
        })
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let io = self.get_mut();
        ready!(io.poll_before(cx))?;
        let result = Pin::new(&mut io.stream).poll_write_vectored(cx, slices);
        io.note_write(result)
    }
}
