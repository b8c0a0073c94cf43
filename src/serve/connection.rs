//! One connection: from its first byte to whatever ends it.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use super::accept::{ConnectionEnd, ConnectionLimits, Handler, Shared};
use super::io::{Io, Ready};
use super::service::Service;
use super::state::{ConnectionState, Protocol};
use crate::policy::admission::Refusal;
use crate::tasks::Tasks;

/// hyper's read buffer, and how much of an answer it collects before it waits for the socket.
const BUFFER_BYTES: usize = 64 * 1024;
/// hyper's own limit of fields costs nothing up to here; the framing has counted them before.
const FIELDS_FREE: usize = 100;

/// The timer looks at least so rarely, whatever the timeouts.
const LOOK_AGAIN_MIN: Duration = Duration::from_millis(10);

const HTTP_2_STREAMS_MAX: u32 = 100;
const HTTP_2_STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const HTTP_2_CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
const HTTP_2_SEND_BUFFER_BYTES: usize = 64 * 1024;
/// Streams that were reset before we have looked at them; more ends the connection.
const HTTP_2_PENDING_RESETS_MAX: usize = 20;
/// Streams that we had to reset for errors of the client; more ends the connection (CVE-2025-8671).
const HTTP_2_ERROR_RESETS_MAX: usize = 1024;
const HTTP_2_PING_INTERVAL: Duration = Duration::from_secs(30);
const HTTP_2_PING_TIMEOUT: Duration = Duration::from_secs(15);

/// Serves one connection until it ends, and says why it did.
pub(super) async fn serve<H: Handler>(
    shared: Arc<Shared<H>>,
    stream: TcpStream,
    address: SocketAddr,
    state: Arc<ConnectionState>,
) -> ConnectionEnd {
    let mut io = Io::new(stream, Arc::clone(&state));
    let limits = &shared.limits;
    let protocol = if limits.h2c {
        let deadline = state.started() + limits.head_timeout;
        let sniffed = tokio::select! {
            // A byte that is there is worth more than the wish to stop.
            biased;
            sniffed = timeout_at(deadline, io.sniff()) => sniffed,
            () = shared.drain.begun.cancelled() => return ConnectionEnd::Finished,
            () = poll_fn(|cx| state.poll_displaced(cx)) => return ConnectionEnd::Displaced,
        };
        match sniffed {
            Ok(Ok(protocol)) => protocol,
            Ok(Err(_)) => return ConnectionEnd::Broken,
            Err(_) => return ConnectionEnd::HeadTimeout,
        }
    } else {
        Protocol::Http1
    };
    let service = Arc::new(Service::new(Arc::clone(&shared), Arc::clone(&state), address));
    let ready: Arc<dyn Ready> = Arc::clone(&service) as Arc<dyn Ready>;
    let io = io.speak(protocol, limits.head.sizes).answers(ready);
    let service = service_fn(move |request| service.call(request));
    let result = match protocol {
        Protocol::Http1 => {
            let connection = http_1(limits).serve_connection(io, service).with_upgrades();
            drive(connection, http1::UpgradeableConnection::graceful_shutdown, &state, &shared).await
        }
        Protocol::Http2 => {
            let connection = http_2(limits, &shared.tasks).serve_connection(io, service);
            drive(connection, http2::Connection::graceful_shutdown, &state, &shared).await
        }
    };
    match result {
        Ok(Ok(())) => ConnectionEnd::Finished,
        Ok(Err(error)) => {
            tracing::debug!(%error, peer = %address, "connection failed");
            if error.is_parse() {
                // What the framing lets through and hyper does not: an odd method, name or target.
                // hyper has answered it already, without our fields; it is counted as refused, and is no request of a log.
                let refusal = if error.is_parse_too_large() { Refusal::HeadSize } else { Refusal::MalformedHead };
                shared.observer.refused(refusal.reason());
            }
            ConnectionEnd::Broken
        }
        Err(end) => end,
    }
}

/// Polls a connection beside its deadlines and the wish to stop.
async fn drive<C, H>(
    connection: C,
    mut finish: impl FnMut(Pin<&mut C>),
    state: &ConnectionState,
    shared: &Shared<H>,
) -> Result<C::Output, ConnectionEnd>
where
    C: Future,
{
    let limits = &shared.limits;
    let mut connection = pin!(connection);
    let mut drain_begun = pin!(shared.drain.begun.cancelled());
    let mut timer = pin!(sleep_until(state.started() + limits.head_timeout));
    let mut is_first = true;
    let mut cut_at = None;
    let mut is_finishing = false;
    poll_fn(|cx| {
        // Order: what the connection can do comes first, so that a request which is there is served
        // before a deadline or the end of the process is looked at.
        if let Poll::Ready(result) = connection.as_mut().poll(cx) {
            return Poll::Ready(Ok(result));
        }
        let is_first = std::mem::replace(&mut is_first, false);
        if is_first {
            // Leaves our waker there. Later a flag is read instead: the token's own look takes a lock
            // that all connections share.
            let _registered = drain_begun.as_mut().poll(cx);
            state.wakes(cx);
        }
        if shared.drain.has_begun() && !is_finishing {
            cut_at.get_or_insert_with(|| Instant::now() + limits.drain_timeout);
            // A head that is halfway in is still waited for; its answer will say `Connection: close`.
            if state.may_finish() {
                is_finishing = true;
                finish(connection.as_mut());
                if let Poll::Ready(result) = connection.as_mut().poll(cx) {
                    return Poll::Ready(Ok(result));
                }
            }
        }
        // After the connection: a request that is there is under way by here.
        if state.makes_room() {
            return Poll::Ready(Err(ConnectionEnd::Displaced));
        }
        if state.has_reset_too_often() {
            return Poll::Ready(Err(ConnectionEnd::Resets));
        }
        let cut = cut_at.map(|at| (ConnectionEnd::Cut, at));
        let due = [state.due(limits), cut].into_iter().flatten().min_by_key(|(_, at)| *at);
        match poll_due(due, timer.as_mut(), is_first, limits, cx) {
            Poll::Ready(end) => Poll::Ready(Err(end)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Keeps the timer at or before the deadline, and tells when that has passed.
///
/// The timer is always set, and at most one of the timeouts away: an event that nobody noted when
/// it happened (a stream of HTTP/2 ends in a task of its own) is found then.
fn poll_due(
    due: Option<(ConnectionEnd, Instant)>,
    mut timer: Pin<&mut Sleep>,
    is_first: bool,
    limits: &ConnectionLimits,
    cx: &mut Context<'_>,
) -> Poll<ConnectionEnd> {
    let is_early = due.is_some_and(|(_, at)| at < timer.deadline());
    if let (true, Some((_, at))) = (is_early, due) {
        timer.as_mut().reset(at);
    }
    // Once polled, the timer wakes us; asking again before it has fired would only cost.
    let mut has_fired = if is_first || is_early { timer.as_mut().poll(cx).is_ready() } else { timer.is_elapsed() };
    while has_fired {
        let now = Instant::now();
        let look_again = now + limits.idle_timeout.min(limits.write_timeout).max(LOOK_AGAIN_MIN);
        let next = match due {
            Some((end, at)) if at <= now => return Poll::Ready(end),
            Some((_, at)) => at.min(look_again),
            None => look_again,
        };
        timer.as_mut().reset(next);
        has_fired = timer.as_mut().poll(cx).is_ready();
    }
    Poll::Pending
}

fn http_1(limits: &ConnectionLimits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .half_close(false)
        .max_buf_size(BUFFER_BYTES.max(limits.head.sizes.head_bytes_max * 2))
        // Ours, without a timer for each request; see `ConnectionState::due`.
        .header_read_timeout(None)
        // Not `pipeline_flush`: it copies every body into one buffer, and that buffer then has no
        // bound when the client does not read.
        .pipeline_flush(false)
        .writev(true);
    if limits.head.sizes.head_fields_max > FIELDS_FREE {
        builder.max_headers(limits.head.sizes.head_fields_max);
    }
    builder
}

fn http_2(limits: &ConnectionLimits, tasks: &Tasks) -> http2::Builder<Spawner> {
    let mut builder = http2::Builder::new(Spawner(tasks.clone()));
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP_2_STREAMS_MAX)
        .max_header_list_size(u32::try_from(limits.head.sizes.head_bytes_max).unwrap_or(u32::MAX))
        .initial_stream_window_size(HTTP_2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(HTTP_2_CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(HTTP_2_SEND_BUFFER_BYTES)
        .max_pending_accept_reset_streams(HTTP_2_PENDING_RESETS_MAX)
        .max_local_error_reset_streams(HTTP_2_ERROR_RESETS_MAX)
        .keep_alive_interval(HTTP_2_PING_INTERVAL)
        .keep_alive_timeout(HTTP_2_PING_TIMEOUT);
    builder
}

/// Starts the streams of HTTP/2 where a drain can wait for them.
#[derive(Clone, Debug)]
struct Spawner(Tasks);

impl<F> hyper::rt::Executor<F> for Spawner
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        drop(self.0.spawn(stream));
    }
}
