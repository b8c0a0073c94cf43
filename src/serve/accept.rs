//! The listener: accepts, caps, and lets go again at the end of the process.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::body::RequestBody;
use super::connection;
use super::seats::{Seat, Seats};
use crate::body::Body;
use crate::interim::Interim;
use crate::policy::admission::{HeadLimits, Refusal};
use crate::policy::plain::PlainHead;
use crate::tasks::Tasks;

/// Connections that the kernel holds until we take them.
const BACKLOG: i32 = 1024;
/// The wait after a failed accept (no file descriptors, no memory), doubled up to the second.
const ACCEPT_DELAY_MIN: Duration = Duration::from_millis(10);
const ACCEPT_DELAY_MAX: Duration = Duration::from_secs(1);

/// What one listener takes from its clients.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    /// Connections open at once. For one more the one that has been idle longest is closed; where none is idle, the new
    /// one is, and counted as `connections`.
    pub connections_max: u32,
    /// A head must be whole within this time from its first byte, the first one from the connect.
    pub head_timeout: Duration,
    /// A connection may be silent this long between two requests.
    pub idle_timeout: Duration,
    /// A client must send some of its request body within this time. Waits of more than this together must have brought
    /// 1 KiB a second.
    pub body_timeout: Duration,
    /// A client must take some of its answer within this time.
    pub write_timeout: Duration,
    /// Requests under way get this long to finish when the process stops.
    pub drain_timeout: Duration,
    /// HTTP/2 with prior knowledge is spoken too, told apart by the connection's first bytes.
    pub h2c: bool,
    /// What a request's head may be.
    pub head: HeadLimits,
}

/// Answers requests that have been admitted.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. Its target is a path, its `Host` is there once and in normal form, and
    /// its framing is beyond doubt.
    ///
    /// What can be answered at once is: such an answer waits for nothing, and the request's memory is
    /// free again before the connection reads on. The future of a later answer is dropped when the
    /// client leaves: what must outlive it belongs in a task.
    fn handle(
        self: &Arc<Self>,
        request: Request<RequestBody>,
        peer: Peer,
    ) -> Answer<impl Future<Output = Response<Body>> + Send + use<Self>>;

    /// Hears of a request that is refused by its head; where that could not be read, the method is a stand-in and the path
    /// empty. `ConnectionObserver::refused` is told as well.
    fn refused(&self, _method: &Method, _path: &str, _refusal: Refusal) {}

    /// Answers a plain request with bytes, where the answer is ready: writes its head into `head` and
    /// gives its body. `began` is when it was read. `None` sends the request the general way; nothing has happened then.
    fn ready(&self, _request: &PlainHead<'_>, _began: Instant, _head: &mut Vec<u8>) -> Option<Bytes> {
        None
    }
}

/// An answer, or the promise of one.
#[derive(Debug)]
pub enum Answer<F> {
    /// It is here.
    Now(Response<Body>),
    /// It comes.
    Later(F),
}

/// Who is at the other end.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address: a client's, or that of the proxy before us.
    pub address: SocketAddr,
    /// Takes to it what is said before the answer.
    pub interim: Interim,
}

/// Sees connections come and go, and counts.
pub trait ConnectionObserver: Send + Sync + 'static {
    /// A connection was taken.
    fn opened(&self);
    /// A connection that was taken has ended.
    fn closed(&self, end: ConnectionEnd);
    /// A request was refused by its head, with `Refusal::reason`, or a connection by the cap, with
    /// `connections`. A closed list: fit for a label.
    fn refused(&self, reason: &'static str);
    /// The system refused us a connection. Accepting goes on after a pause.
    fn accept_failed(&self, error: &io::Error);
}

/// What ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectionEnd {
    /// It was closed in good order, by either side.
    Finished,
    /// The client left in the middle, the network failed, or what came was not HTTP.
    Broken,
    /// No whole head within `head_timeout`.
    HeadTimeout,
    /// No request within `idle_timeout`.
    IdleTimeout,
    /// The client took nothing of its answer for `write_timeout`.
    WriteTimeout,
    /// It was idle, and a new one needed its place.
    Displaced,
    /// The client reset too many streams of HTTP/2.
    Resets,
    /// A request was still under way after `drain_timeout`.
    Cut,
    /// Its task did not come to an end: a panic, or the runtime is gone.
    Aborted,
}

impl ConnectionEnd {
    /// All of them, for tables of metrics.
    pub const ALL: [Self; 9] = [
        Self::Finished,
        Self::Broken,
        Self::HeadTimeout,
        Self::IdleTimeout,
        Self::WriteTimeout,
        Self::Displaced,
        Self::Resets,
        Self::Cut,
        Self::Aborted,
    ];

    /// The word for it in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Broken => "broken",
            Self::HeadTimeout => "timeout_head",
            Self::IdleTimeout => "timeout_idle",
            Self::WriteTimeout => "timeout_write",
            Self::Displaced => "displaced",
            Self::Resets => "resets",
            Self::Cut => "cut",
            Self::Aborted => "aborted",
        }
    }
}

/// A socket that is bound and listens; nobody is served yet.
#[derive(Debug)]
pub struct Listener(TcpListener);

impl Listener {
    /// Binds an address. Port 0 takes any free one.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        // A restart need not wait for connections of the last run to be forgotten.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into()).map(Self)
    }

    /// The address that it is bound to.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Serves a listener until the process begins to stop, and then until its connections have ended,
/// at most `drain_timeout` longer.
pub async fn serve<H: Handler>(
    listener: Listener,
    limits: ConnectionLimits,
    handler: Arc<H>,
    observer: Arc<dyn ConnectionObserver>,
    tasks: &Tasks,
) {
    let seats = Seats::new(limits.connections_max);
    let shared = Arc::new(Shared { limits, handler, observer, tasks: tasks.clone(), drain: Drain::default() });
    let mut delay = ACCEPT_DELAY_MIN;
    loop {
        let accepted = tokio::select! {
            // First, so that a flood of connections cannot keep us from stopping.
            biased;
            () = tasks.stopping().cancelled() => break,
            accepted = listener.0.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                delay = ACCEPT_DELAY_MIN;
                let Some(seat) = seats.take().await else {
                    shared.observer.refused("connections");
                    continue;
                };
                let shared = Arc::clone(&shared);
                drop(tasks.spawn(async move {
                    let mut open = Open::new(Arc::clone(&shared.observer));
                    open.end = take(shared, stream, address, &seat).await;
                    drop(open);
                    drop(seat);
                }));
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                shared.observer.accept_failed(&error);
                tokio::select! {
                    biased;
                    () = tasks.stopping().cancelled() => break,
                    () = sleep(delay) => delay = (delay * 2).min(ACCEPT_DELAY_MAX),
                }
            }
        }
    }
    drop(listener);
    shared.drain.begin();
    // Each connection has its own deadline, so this ends.
    seats.left().await;
}

async fn take<H: Handler>(
    shared: Arc<Shared<H>>,
    stream: TcpStream,
    address: SocketAddr,
    seat: &Seat,
) -> ConnectionEnd {
    // Without it an answer's last small piece waits for the client's acknowledgement of the others.
    if stream.set_nodelay(true).is_err() {
        return ConnectionEnd::Broken;
    }
    connection::serve(shared, stream, address, Arc::clone(seat.state())).await
}

/// The client was gone before we took its connection; the listener is as good as before.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// What all connections of a listener share.
pub(super) struct Shared<H> {
    pub(super) limits: ConnectionLimits,
    pub(super) handler: Arc<H>,
    pub(super) observer: Arc<dyn ConnectionObserver>,
    pub(super) tasks: Tasks,
    pub(super) drain: Drain,
}

impl<H> fmt::Debug for Shared<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("limits", &self.limits).field("drain", &self.drain).finish_non_exhaustive()
    }
}

/// The order to end, for all connections of a listener.
#[derive(Debug, Default)]
pub(super) struct Drain {
    /// Wakes each of them once.
    pub(super) begun: CancellationToken,
    flag: AtomicBool,
}

impl Drain {
    fn begin(&self) {
        // The flag first: whoever is woken reads it.
        self.flag.store(true, Ordering::Release);
        self.begun.cancel();
    }

    pub(super) fn has_begun(&self) -> bool {
        self.flag.load(Ordering::Acquire)
    }
}

/// Tells the observer about the end of a connection, even if that is a panic.
struct Open {
    observer: Arc<dyn ConnectionObserver>,
    end: ConnectionEnd,
}

impl Open {
    fn new(observer: Arc<dyn ConnectionObserver>) -> Self {
        observer.opened();
        Self { observer, end: ConnectionEnd::Aborted }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.observer.closed(self.end);
    }
}
