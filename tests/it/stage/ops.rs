//! The side of operations: purges, webhooks, metrics, status.

use endcap::clock::Clock;
use endcap::policy::webhook::WebhookSecret;
use serde_json::{Value, json};

use super::{Client, Reply, Stage, until};

/// The token of every stage.
pub(crate) const TOKEN: &str = "a token that is long enough";
/// The secret of every stage's webhooks.
pub(crate) const SECRET: &str = "whsec_ZW5kY2FwIGV4YW1wbGUgc2VjcmV0IG9ubHkh";

impl Stage {
    /// A request to a node's ops listener.
    pub(crate) async fn ops(
        &self,
        node: usize,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        Client::connect(self.node(node).ops_address).await.ask(method, target, headers, body).await
    }

    /// Purges by hand through the first node; it must be acknowledged.
    pub(crate) async fn purge(&self, mode: &str, tags: &[&str]) -> Value {
        let reply = self.try_purge(0, mode, tags).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()
    }

    pub(crate) async fn try_purge(&self, node: usize, mode: &str, tags: &[&str]) -> Reply {
        let order = json!({ "tags": tags, "mode": mode }).to_string();
        let bearer = format!("Bearer {TOKEN}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        self.ops(node, "POST", "/purge", &headers, order.as_bytes()).await
    }

    pub(crate) async fn status(&self, node: usize) -> Value {
        self.ops(node, "GET", "/status", &[], b"").await.json()
    }

    /// Waits until a node has applied a position of the log.
    pub(crate) async fn applied(&self, node: usize, seq: &str) {
        until(&format!("node {node} applies {seq}"), async || {
            position(self.status(node).await["purges"]["applied"].as_str().unwrap()) >= position(seq)
        })
        .await;
    }

    pub(crate) async fn metrics(&self, node: usize) -> String {
        self.ops(node, "GET", "/metrics", &[], b"").await.text()
    }

    /// The sum of a metric's series that have all of these labels; 0 where there is none.
    pub(crate) async fn metric(&self, node: usize, name: &str, labels: &[(&str, &str)]) -> f64 {
        let wanted: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        let text = self.metrics(node).await;
        let series = text.lines().filter_map(|line| line.rsplit_once(' ')).filter(|(series, _)| {
            series.split('{').next() == Some(name) && wanted.iter().all(|label| series.contains(label.as_str()))
        });
        series.map(|(_, value)| value.parse::<f64>().unwrap()).sum()
    }

    /// Waits until a metric has at least this value.
    pub(crate) async fn metric_reaches(&self, node: usize, name: &str, labels: &[(&str, &str)], least: f64) {
        until(&format!("{name} {labels:?} reaches {least}"), async || self.metric(node, name, labels).await >= least)
            .await;
    }
}

/// `ms-n`, and `+local` behind it where the node applied purges that the log does not hold.
fn position(seq: &str) -> (u64, u64, u64) {
    let (shared, local) = seq.split_once('+').unwrap_or((seq, "0"));
    let (ms, n) = shared.split_once('-').unwrap();
    (ms.parse().unwrap(), n.parse().unwrap(), local.parse().unwrap())
}

/// A webhook as its sender makes it.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    source: String,
    id: String,
    timestamp: u64,
    signature: String,
    body: String,
}

impl Delivery {
    /// Signed now, with the right secret.
    pub(crate) fn new(stage: &Stage, id: &str, body: &Value) -> Self {
        Self::raw(stage, id, &body.to_string())
    }

    /// The event of one thing.
    pub(crate) fn event(stage: &Stage, id: &str, event: &str, thing: &str) -> Self {
        Self::new(stage, id, &json!({ "type": event, "data": { "id": thing } }))
    }

    pub(crate) fn raw(stage: &Stage, id: &str, body: &str) -> Self {
        let timestamp = stage.clock.now().as_secs();
        let unsigned = Self {
            source: "default".to_owned(),
            id: id.to_owned(),
            timestamp,
            signature: String::new(),
            body: body.to_owned(),
        };
        unsigned.signed_by(SECRET)
    }

    /// Signed again at another time.
    pub(crate) fn at(mut self, timestamp: u64) -> Self {
        self.timestamp = timestamp;
        self.signed_by(SECRET)
    }

    pub(crate) fn signed_by(mut self, secret: &str) -> Self {
        let secret = WebhookSecret::parse(secret).unwrap();
        self.signature = secret.sign(&self.id, self.timestamp, self.body.as_bytes());
        self
    }

    /// Changed after it was signed.
    pub(crate) fn tampered(mut self, from: &str, to: &str) -> Self {
        self.body = self.body.replace(from, to);
        self
    }

    pub(crate) fn at_source(mut self, source: &str) -> Self {
        self.source = source.to_owned();
        self
    }

    pub(crate) async fn send(&self, stage: &Stage) -> Reply {
        self.send_to(stage, 0).await
    }

    pub(crate) async fn send_to(&self, stage: &Stage, node: usize) -> Reply {
        let timestamp = self.timestamp.to_string();
        let headers = [
            ("content-type", "application/json"),
            ("webhook-id", self.id.as_str()),
            ("webhook-timestamp", timestamp.as_str()),
            ("webhook-signature", self.signature.as_str()),
        ];
        stage.ops(node, "POST", &format!("/hooks/{}", self.source), &headers, self.body.as_bytes()).await
    }
}
