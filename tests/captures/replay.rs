//! An origin that answers as it was recorded, to the letter, and counts what it is asked.
//!
//! It writes bytes rather than using an HTTP library: names keep their case and order, and a 204 its odd length of 0.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use endcap::tasks::Tasks;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::fixture::{Capture, captures};
use crate::reading::read;

/// The replaying origin.
pub(crate) struct Replay {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    answers: HashMap<String, Recorded>,
    asked: Mutex<HashMap<String, usize>>,
    strangers: Mutex<Vec<String>>,
    /// Validators are ignored, as if each answer had changed.
    whole: AtomicBool,
}

#[derive(Clone, Debug, PartialEq)]
struct Recorded {
    status: u16,
    fields: Vec<(String, String)>,
    body: Bytes,
}

/// A request that was not recorded as such, and what answers it.
pub(crate) struct Derived<'c> {
    pub(crate) target: &'c str,
    pub(crate) like: &'c Capture,
    /// Another body than the capture's.
    pub(crate) body: Option<Bytes>,
}

impl Replay {
    /// Serves all captures.
    pub(crate) async fn start(derived: &[Derived<'_>]) -> Self {
        let mut answers: HashMap<String, Recorded> = HashMap::new();
        // A 304 is worked out from the answer that it stands for.
        for capture in captures().iter().filter(|capture| capture.status != 304) {
            let recorded = Recorded::of(capture, None);
            let held = answers.entry(capture.question.clone()).or_insert_with(|| recorded.clone());
            assert!(held.is_same(&recorded), "two answers to one question: {}", capture.question);
        }
        for derived in derived {
            let recorded = Recorded::of(derived.like, derived.body.clone());
            let question = read("GET", derived.target, &derived.like.request);
            assert!(answers.insert(question, recorded).is_none(), "{} was recorded", derived.target);
        }
        let shared = Arc::new(Shared {
            answers,
            asked: Mutex::default(),
            strangers: Mutex::default(),
            whole: AtomicBool::new(false),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, served) = (listener.local_addr().unwrap(), Arc::clone(&shared));
        let tasks = Tasks::new();
        tasks.clone().spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tasks.spawn(connection(stream, Arc::clone(&served)));
            }
        });
        Self { address, shared }
    }

    /// How often that capture's question was asked.
    pub(crate) fn asked(&self, capture: &Capture) -> usize {
        self.shared.asked.lock().unwrap().get(&capture.question).copied().unwrap_or(0)
    }

    /// How many requests came in all.
    pub(crate) fn requests(&self) -> usize {
        self.shared.asked.lock().unwrap().values().sum()
    }

    /// Answers whole from now on, also to who knows the validator; or not.
    pub(crate) fn answer_whole(&self, whole: bool) {
        self.shared.whole.store(whole, Ordering::SeqCst);
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        let strangers = self.shared.strangers.lock().unwrap();
        assert!(std::thread::panicking() || strangers.is_empty(), "nobody recorded these: {strangers:#?}");
    }
}

impl Recorded {
    fn of(capture: &Capture, body: Option<Bytes>) -> Self {
        let body = body.unwrap_or_else(|| capture.body.clone());
        let mut fields = capture.fields.clone();
        for (name, value) in &mut fields {
            // The answer to HEAD has the length of the body that it does not bring.
            if name == "Content-Length" && capture.method != "HEAD" {
                *value = body.len().to_string();
            }
        }
        Self { status: capture.status, fields, body }
    }

    /// Equal but for the moment at which it was made.
    fn is_same(&self, other: &Self) -> bool {
        let undated = |recorded: &Self| {
            let fields = recorded.fields.iter().filter(|(name, _)| name != "Date");
            (recorded.status, recorded.body.clone(), fields.cloned().collect::<Vec<_>>())
        };
        undated(self) == undated(other)
    }

    fn etag(&self) -> Option<&str> {
        self.fields.iter().find(|(name, _)| name == "ETag").map(|(_, value)| value.as_str())
    }

    /// What Express makes of it for who has it already.
    fn not_modified(&self) -> Self {
        let described = |(name, _): &&(String, String)| name != "Content-Type" && name != "Content-Length";
        Self { status: 304, fields: self.fields.iter().filter(described).cloned().collect(), body: Bytes::new() }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} Recorded\r\n", self.status);
        for (name, value) in &self.fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        [head.as_bytes(), &self.body].concat()
    }
}

async fn connection(mut stream: TcpStream, shared: Arc<Shared>) {
    stream.set_nodelay(true).unwrap();
    let mut unread = Vec::new();
    while let Some((head, body_length)) = head(&mut stream, &mut unread).await {
        assert!(unread.len() >= body_length, "no capture has a request body");
        unread.drain(..body_length);
        let (line, fields) = head.split_first().unwrap();
        let [method, target, _] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let fields: Vec<(String, String)> = fields
            .iter()
            .map(|field| field.split_once(':').unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let answer = shared.answer(method, target, &fields);
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

impl Shared {
    fn answer(&self, method: &str, target: &str, fields: &[(String, String)]) -> Vec<u8> {
        let question = read(method, target, fields);
        *self.asked.lock().unwrap().entry(question.clone()).or_default() += 1;
        let Some(recorded) = self.answers.get(&question) else {
            let body = Bytes::from_static(b"{\"type\":\"not_recorded\"}");
            self.strangers.lock().unwrap().push(format!("{target} as {question}"));
            let fields = [("Content-Type", "application/json"), ("Content-Length", "23")];
            let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
            return Recorded { status: 404, fields, body }.bytes();
        };
        let sent = |wanted: &str| fields.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        let knows = sent("if-none-match").is_some_and(|known| recorded.etag() == Some(known));
        let unchanged = knows && sent("cache-control") != Some("no-cache") && !self.whole.load(Ordering::SeqCst);
        if unchanged { recorded.not_modified().bytes() } else { recorded.bytes() }
    }
}

/// The lines of a head, and the length of the body behind it; nothing when the client has left.
async fn head(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Option<(Vec<String>, usize)> {
    let end = loop {
        if let Some(at) = unread.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(unread).await.unwrap_or(0) == 0 {
            return None;
        }
    };
    let head = String::from_utf8(unread.drain(..end + 4).collect()).unwrap();
    let lines: Vec<String> = head.trim_end().split("\r\n").map(str::to_owned).collect();
    let length =
        lines.iter().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    Some((lines, length.unwrap_or(0)))
}

#[tokio::test]
async fn it_answers_as_recorded_to_the_letter() {
    let replay = Replay::start(&[]).await;
    for name in ["region", "if-none-match", "options-preflight", "head", "locales", "auth-session", "no-key"] {
        let capture = crate::fixture::capture(name);
        let mut stream = TcpStream::connect(replay.address).await.unwrap();
        let mut head = format!("{} {} HTTP/1.1\r\n", capture.method, capture.target);
        for (name, value) in &capture.request {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let mut expected = Recorded::of(capture, None);
        if name == "if-none-match" {
            // Made a moment later than the answer that it stands for.
            expected.fields = Recorded::of(crate::fixture::capture("regions"), None).not_modified().fields;
            assert!(expected.is_same(&Recorded::of(capture, None)));
        }
        assert_eq!(String::from_utf8(answer), String::from_utf8(expected.bytes()), "{name}");
    }
}
