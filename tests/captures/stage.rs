//! A node with three lines of configuration in front of the replaying origin.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use endcap::client::{self, Answer};
use endcap::clock::{Clock, SystemClock};
use endcap::config::Config;
use endcap::node::Node;
use endcap::policy::webhook::WebhookSecret;
use http::{HeaderMap, Request};
use serde_json::{Value, json};

use crate::fixture::{Capture, captures};
use crate::replay::{Derived, Replay};

/// Long enough for a busy machine; nothing waits for it when all is well.
const DEADLINE: Duration = Duration::from_secs(20);
const SECRET: &str = "whsec_ZW5kY2FwIGV4YW1wbGUgc2VjcmV0IG9ubHkh";
const TOKEN: &str = "operations-of-the-captures";

/// A request to come.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Ask {
    /// The request as it was recorded.
    pub(crate) fn of(capture: &Capture) -> Self {
        Self { method: capture.method.clone(), target: capture.target.clone(), headers: capture.request.clone() }
    }

    /// The same to another target.
    pub(crate) fn to(mut self, target: &str) -> Self {
        target.clone_into(&mut self.target);
        self
    }

    /// With one more header, whether it is there already or not.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Without a header.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(held, _)| held != name);
        self
    }
}

/// The node and its origin.
pub(crate) struct Stage {
    pub(crate) replay: Replay,
    node: Node,
}

/// The three lines, and what a test adds.
pub(crate) fn config(upstream: &str, more: &str) -> Config {
    let three = format!("upstream = \"{upstream}\"\npreset = \"medusa\"\nwebhook_secret = \"{SECRET}\"\n");
    // Answers are held against what was recorded, to the byte: encodings have tests of their own.
    let text = format!("{three}{more}\n[compression]\nencodings = []\n");
    // Where it listens is the test's own affair.
    let environment = [
        ("ENDCAP_LISTEN__ADDRESS", "127.0.0.1:0"),
        // Origin reads are counted.
        ("ENDCAP_PURGE__CANARY", "0s"),
        ("ENDCAP_OPS__ADDRESS", "127.0.0.1:0"),
        ("ENDCAP_OPS__TOKEN", TOKEN),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Config::from_toml("proxy.toml", &text, environment.into_iter()).unwrap_or_else(|error| panic!("{error}")).config
}

impl Stage {
    /// Three lines of configuration and the captures.
    pub(crate) async fn new() -> Self {
        Self::with("", &[]).await
    }

    /// With more configuration, and with answers to what was not recorded as such.
    pub(crate) async fn with(more: &str, derived: &[Derived<'_>]) -> Self {
        let replay = Replay::start(derived).await;
        let node = Node::start(&config(&format!("http://{}", replay.address), more)).unwrap();
        node.ready().await;
        Self { replay, node }
    }

    /// Asks the node.
    pub(crate) async fn ask(&self, ask: &Ask) -> Answer {
        let mut request =
            Request::builder().method(ask.method.as_str()).uri(format!("http://{}{}", self.node.address, ask.target));
        for (name, value) in &ask.headers {
            request = request.header(name, value);
        }
        client::send(request.body(Bytes::new()).unwrap(), DEADLINE).await.unwrap()
    }

    /// Purges by hand.
    pub(crate) async fn purge<S: AsRef<str>>(&self, tags: impl IntoIterator<Item = S>) {
        let tags: Vec<Value> = tags.into_iter().map(|tag| json!(tag.as_ref())).collect();
        let headers = [("authorization", format!("Bearer {TOKEN}"))];
        self.operate("/purge", &headers, json!({ "tags": tags }).to_string()).await;
    }

    /// Posts a signed event about one row, as the backend would.
    pub(crate) async fn webhook(&self, event: &str, row: &str) {
        self.tell(event, json!({ "id": row })).await;
    }

    /// Posts a signed event with its data.
    pub(crate) async fn tell(&self, event: &str, data: Value) {
        let id = format!("{event}/{}", data["id"]);
        let body = json!({ "type": event, "data": data }).to_string();
        let now = SystemClock::new().now().as_secs();
        let signature = WebhookSecret::parse(SECRET).unwrap().sign(&id, now, body.as_bytes());
        let headers = [("webhook-id", id), ("webhook-timestamp", now.to_string()), ("webhook-signature", signature)];
        self.operate("/hooks/default", &headers, body).await;
    }

    async fn operate(&self, path: &str, headers: &[(&str, String)], body: String) {
        let mut request = Request::post(format!("http://{}{path}", self.node.ops_address));
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request.header("content-type", "application/json").body(body.into()).unwrap();
        let answer = client::send(request, DEADLINE).await.unwrap();
        let said: Value = serde_json::from_slice(&answer.body).unwrap();
        assert!(answer.status == 200 && said["purged"].as_u64() > Some(0), "{path}: {} {said}", answer.status);
    }
}

/// What became of a request: `hit`, `miss`, `pass.cookie`.
pub(crate) fn outcome(answer: &Answer) -> &str {
    answer.field("cache-status").split("detail=").nth(1).unwrap_or("")
}

/// Asserts that an answer is the recorded one: status, body, and all end-to-end fields. The node adds `Cache-Status`,
/// and `Age` to what it stored or `Via` to what it passed.
#[track_caller]
pub(crate) fn assert_recorded(answer: &Answer, capture: &Capture) {
    let name = &capture.name;
    assert_eq!(answer.status.as_u16(), capture.status, "{name}");
    assert!(answer.body == capture.body, "{name}: another body: {:?}", answer.body.get(..300));
    assert_eq!(end_to_end(answer), recorded(capture), "{name}");
}

/// The fields of an answer but for what the node says of its own part.
pub(crate) fn end_to_end(answer: &Answer) -> HeaderMap {
    let mut fields = answer.headers.clone();
    for name in ["cache-status", "age", "via"] {
        fields.remove(name);
    }
    fields
}

/// The recorded fields but for what was between the backend and its neighbour. A 204 has no length (RFC 9110 §8.6),
/// although Express gives it one.
pub(crate) fn recorded(capture: &Capture) -> HeaderMap {
    // Of captures that are one question the first is replayed; they differ in their date alone.
    let alike = |it: &&Capture| it.status == capture.status && it.question == capture.question;
    let first = captures().iter().find(alike).unwrap();
    let between =
        |name: &str| name == "Connection" || name == "Keep-Alive" || (name == "Content-Length" && first.status == 204);
    let mut fields = HeaderMap::new();
    for (name, value) in first.fields.iter().filter(|(name, _)| !between(name)) {
        fields.append(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    fields
}

/// The three lines as the node reads them, for what needs no node.
pub(crate) fn medusa() -> Arc<Config> {
    static CONFIG: std::sync::LazyLock<Arc<Config>> =
        std::sync::LazyLock::new(|| Arc::new(config("http://127.0.0.1:9000", "")));
    Arc::clone(&CONFIG)
}
