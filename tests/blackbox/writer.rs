//! A writer: commits a change, then tells some node of it until one has acknowledged it, as a backend does.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use endcap::clock::{Clock, SystemClock};
use endcap::policy::purge::PurgeSeq;
use endcap::policy::webhook::WebhookSecret;
use endcap::tasks::Tasks;
use futures_util::future::join_all;
use http::Request;
use serde_json::{Value, json};

use super::book::{Ack, Moment};
use super::dice::Dice;
use super::fleet::SECRET;
use super::http::Client;
use super::shop::Change;
use super::stage::Run;

/// How long a writer does something else between two changes, at the most.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a sender waits before it tries again.
const RETRY: Duration = Duration::from_millis(100);
/// A purge that a node has not applied by then counts as this long.
const FOLLOWED_MAX: Duration = Duration::from_secs(10);

pub(crate) async fn write(run: Arc<Run>, writer: usize, mut dice: Dice, tasks: Tasks) {
    let mut client = Client::new(&tasks);
    let mut count = 0_u64;
    while !run.is_over() {
        tokio::time::sleep(dice.between(Duration::ZERO, PAUSE)).await;
        count += 1;
        let change = run.shop.change(&mut dice);
        let calm = run.calm();
        let told = if run.options.delivers {
            deliver(&run, &mut client, &mut dice, &change, &format!("msg_{writer}_{count}")).await
        } else {
            Told { node: dice.below(run.fleet.nodes()), at: run.now(), journaled: false, seq: None }
        };
        {
            let mut book = run.book();
            for (thing, version, mode) in &change.purged {
                let (version, mode) = (*version, *mode);
                book.acknowledged(
                    thing,
                    Ack { version, mode, node: told.node, at: told.at, journaled: told.journaled },
                );
            }
        }
        run.report().changed(told.journaled);
        if let Some(seq) = told.seq.filter(|_| calm.is_some()) {
            let applied = followed(&run, &told, seq, calm).await;
            if run.calm() == calm {
                run.report().applied(applied);
            }
        }
    }
}

/// An acknowledgement.
struct Told {
    node: usize,
    at: Moment,
    journaled: bool,
    /// Where it stands in the log.
    seq: Option<PurgeSeq>,
}

/// Posts the webhook to nodes at random until one has taken it.
async fn deliver(run: &Run, client: &mut Client, dice: &mut Dice, change: &Change, id: &str) -> Told {
    let secret = WebhookSecret::parse(SECRET).expect("the run's own secret");
    let body = json!({ "type": change.event, "data": { "id": change.id } }).to_string();
    loop {
        let node = dice.below(run.fleet.nodes());
        // Each attempt is signed anew, under the same id.
        let timestamp = SystemClock::new().now().as_secs();
        let request = Request::post("/hooks/default")
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp.to_string())
            .header("webhook-signature", secret.sign(id, timestamp, body.as_bytes()))
            .body(Bytes::from(body.clone()))
            .expect("the parts are well formed");
        if let Ok(answer) = client.send(run.fleet.addresses(node).ops, request).await
            && answer.status.is_success()
        {
            let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            // A retry that the node knows already does not say where the purge is.
            let journaled = said["durable"] != "log";
            return Told { node, at: run.now(), journaled, seq: said["seq"].as_str().and_then(PurgeSeq::parse) };
        }
        run.report().refused(run.is_calm());
        tokio::time::sleep(RETRY).await;
    }
}

/// How long after the acknowledgement the last of the other nodes told that it had applied a purge; `None` where
/// nobody was listening to one. What it takes to tell is in it.
async fn applied(run: &Run, told: &Told, seq: PurgeSeq) -> Option<Duration> {
    let others = (0..run.fleet.nodes()).filter(|node| *node != told.node);
    let applied = join_all(others.map(|node| run.feeds.applied(node, seq))).await;
    let last = applied.into_iter().collect::<Option<Vec<_>>>()?.into_iter().max()?;
    Some(last.saturating_sub(told.at))
}

/// The same, for as long as the calm lasts.
async fn followed(run: &Run, told: &Told, seq: PurgeSeq, calm: Option<u64>) -> Option<Duration> {
    let mut applied = pin!(applied(run, told, seq));
    while run.calm() == calm && run.now().saturating_sub(told.at) < FOLLOWED_MAX {
        if let Ok(applied) = tokio::time::timeout(RETRY, &mut applied).await {
            return applied;
        }
    }
    Some(FOLLOWED_MAX)
}
