//! A scripted backend: it answers what a test says, when the test says so, and remembers what it was asked.

mod wire;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use endcap::tasks::Tasks;
use http::HeaderMap;
use tokio::io::BufReader;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{DEADLINE, until};

/// See the module.
pub(crate) struct FakeOrigin {
    pub(crate) address: SocketAddr,
    script: Arc<Script>,
    closing: CancellationToken,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    /// A field's value; empty where there is none.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// What a path is answered.
#[derive(Clone)]
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    form: Form,
    /// Heads of interim answers, written at once: also while the answer is held.
    interim: String,
}

#[derive(Clone)]
enum Form {
    Whole(Bytes),
    Chunked(Bytes),
    UntilClose(Bytes),
    /// These bytes, then the end of the connection.
    Raw(Bytes),
    Reset,
    Silence,
    Pieces(Arc<tokio::sync::Mutex<mpsc::Receiver<Bytes>>>),
}

impl Answer {
    pub(crate) fn json(body: impl Into<String>) -> Self {
        Self::of(Form::Whole(body.into().into())).header("content-type", "application/json")
    }

    pub(crate) fn status(status: u16) -> Self {
        Self { status, ..Self::json(format!(r#"{{"status":{status}}}"#)) }
    }

    /// Exactly these bytes, and the end of the connection.
    pub(crate) fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self::of(Form::Raw(bytes.into().into()))
    }

    /// The connection breaks.
    pub(crate) fn reset() -> Self {
        Self::of(Form::Reset)
    }

    /// Nothing, for as long as the caller waits.
    pub(crate) fn silence() -> Self {
        Self::of(Form::Silence)
    }

    /// A body whose pieces the test sends one by one; it ends when the sender is dropped.
    pub(crate) fn pieces(content_type: &str) -> (mpsc::Sender<Bytes>, Self) {
        let (sender, pieces) = mpsc::channel(16);
        let form = Form::Pieces(Arc::new(tokio::sync::Mutex::new(pieces)));
        (sender, Self::of(form).header("content-type", content_type))
    }

    fn of(form: Form) -> Self {
        Self { status: 200, headers: Vec::new(), form, interim: String::new() }
    }

    /// First an interim answer with these fields, each with its line's end.
    #[must_use]
    pub(crate) fn after(mut self, status: u16, fields: &str) -> Self {
        self.interim.push_str(&format!("HTTP/1.1 {status} Early\r\n{fields}\r\n"));
        self
    }

    #[must_use]
    pub(crate) fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    pub(crate) fn code(&self) -> u16 {
        self.status
    }

    #[must_use]
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    #[must_use]
    pub(crate) fn etag(self, etag: &str) -> Self {
        self.header("etag", etag)
    }

    #[must_use]
    pub(crate) fn chunked(mut self) -> Self {
        if let Form::Whole(body) = self.form {
            self.form = Form::Chunked(body);
        }
        self
    }

    /// Without a length: the end of the connection is the end of the body.
    #[must_use]
    pub(crate) fn until_close(mut self) -> Self {
        if let Form::Whole(body) = self.form {
            self.form = Form::UntilClose(body);
        }
        self
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

type Responder = Arc<dyn Fn(&Seen) -> Answer + Send + Sync>;

#[derive(Default)]
struct State {
    version: u64,
    seen: Vec<Seen>,
    answers: HashMap<String, Responder>,
    gates: HashMap<String, Arc<Gate>>,
}

#[derive(Default)]
struct Script {
    state: Mutex<State>,
    /// Bytes of request bodies that have arrived.
    received: watch::Sender<usize>,
    /// Connections that callers have ended.
    closed: watch::Sender<usize>,
}

impl Script {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

/// Requests of one path wait here.
#[derive(Default)]
struct Gate {
    arrived: watch::Sender<usize>,
    open: watch::Sender<bool>,
}

/// Holds the requests of a path until it is released or dropped. What they are answered was settled
/// when they arrived, as with a backend that has read its database and is slow to write.
pub(crate) struct Hold(Arc<Gate>);

impl Hold {
    /// Waits until this many requests have arrived at the hold.
    pub(crate) async fn arrived(&self, count: usize) {
        let mut arrived = self.0.arrived.subscribe();
        let waited = tokio::time::timeout(DEADLINE, arrived.wait_for(|arrived| *arrived >= count)).await;
        assert!(waited.is_ok(), "{count} requests did not arrive, but {}", *self.0.arrived.borrow());
    }

    pub(crate) fn release(self) {}

    /// As [`Hold::release`], of one that is lent.
    pub(crate) fn open(&self) {
        self.0.open.send_replace(true);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.open();
    }
}

impl FakeOrigin {
    pub(crate) async fn start(tasks: &Tasks) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (script, closing) = (Arc::new(Script::default()), CancellationToken::new());
        script.state().version = 1;
        let origin = Self { address, script: Arc::clone(&script), closing: closing.clone() };
        let inner = tasks.clone();
        tasks.spawn(async move {
            let accept = async {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    stream.set_nodelay(true).unwrap();
                    let (script, closing) = (Arc::clone(&script), closing.clone());
                    inner.spawn(async move {
                        tokio::select! {
                            biased;
                            () = closing.cancelled() => {}
                            ended = wire::serve(BufReader::new(stream), &script) => {
                                // A caller that leaves in the middle is no failure of this origin.
                                drop(ended);
                                script.closed.send_modify(|closed| *closed += 1);
                            }
                        }
                    });
                }
            };
            tokio::select! {
                biased;
                () = closing.cancelled() => {}
                () = accept => {}
            }
        });
        origin
    }

    /// What a path is answered from now on, whatever the query.
    pub(crate) fn answer(&self, path: &str, answer: Answer) {
        self.respond(path, move |_| answer.clone());
    }

    /// As [`FakeOrigin::answer`], told by the request.
    pub(crate) fn respond(&self, path: &str, responder: impl Fn(&Seen) -> Answer + Send + Sync + 'static) {
        self.script.state().answers.insert(path.to_owned(), Arc::new(responder));
    }

    /// The version that answers carry where the test has not said otherwise:
    /// `{"target":"/a?b","version":1}`.
    pub(crate) fn publish(&self, version: u64) {
        self.script.state().version = version;
    }

    /// Holds what is asked for this path from now on.
    pub(crate) fn hold(&self, path: &str) -> Hold {
        let gate = Arc::new(Gate::default());
        self.script.state().gates.insert(path.to_owned(), Arc::clone(&gate));
        Hold(gate)
    }

    /// All requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.script.state().seen.clone()
    }

    /// How often a path was asked for.
    pub(crate) fn count(&self, path: &str) -> usize {
        self.script.state().seen.iter().filter(|seen| seen.path() == path).count()
    }

    /// How many requests came in all.
    pub(crate) fn total(&self) -> usize {
        self.script.state().seen.len()
    }

    /// The last request.
    pub(crate) fn last(&self) -> Seen {
        self.script.state().seen.last().cloned().expect("the origin was asked")
    }

    /// Waits until so many requests have come.
    pub(crate) async fn asked(&self, count: usize) {
        until(&format!("request {count} at the origin"), async || self.total() >= count).await;
    }

    /// Waits until so many bytes of request bodies have come.
    pub(crate) async fn received(&self, bytes: usize) {
        let mut received = self.script.received.subscribe();
        let waited = tokio::time::timeout(DEADLINE, received.wait_for(|received| *received >= bytes)).await;
        assert!(waited.is_ok(), "{bytes} bytes of bodies did not arrive, but {}", *self.script.received.borrow());
    }

    /// Connections that have ended, by whichever side.
    pub(crate) fn ended(&self) -> usize {
        *self.script.closed.borrow()
    }

    /// Closes the port and all connections: from now on nobody answers there.
    pub(crate) fn close(&self) {
        self.closing.cancel();
    }
}
