//! A writer: commits a change, then tells some node of it until one has acknowledged it, as a backend does.

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
/// How often a change is followed to every node, in a hundred.
const FOLLOWED: usize = 25;

pub(crate) async fn write(run: Arc<Run>, writer: usize, mut dice: Dice, tasks: Tasks) {
    let mut client = Client::new(&tasks);
    let mut probes: Vec<Client> = (0..run.fleet.nodes()).map(|_| Client::new(&tasks)).collect();
    let mut count = 0_u64;
    while !run.is_over() {
        tokio::time::sleep(dice.between(Duration::ZERO, PAUSE)).await;
        count += 1;
        let change = run.shop.change(&mut dice);
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
        let was_calm = run.is_calm();
        run.report().changed(told.journaled);
        if let Some(seq) = told.seq.filter(|_| was_calm && dice.percent(FOLLOWED)) {
            let applied = applied(&run, &mut probes, &told, seq).await;
            if run.is_calm() {
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

/// How long after the acknowledgement each other node said that it had applied a purge. A node is asked again
/// and again, so this is late by up to one exchange.
async fn applied(run: &Run, probes: &mut [Client], told: &Told, seq: PurgeSeq) -> Option<Duration> {
    let asked = probes.iter_mut().enumerate().filter(|(node, _)| *node != told.node).map(|(node, probe)| async move {
        while run.is_calm() {
            let status = run.fleet.status(probe, node).await.ok()?;
            // What a node has applied behind the log's line does not matter here.
            let applied = status["purges"]["applied"].as_str()?.split('+').next().and_then(PurgeSeq::parse)?;
            if applied >= seq {
                return Some(run.now().saturating_sub(told.at));
            }
        }
        None
    });
    join_all(asked).await.into_iter().collect::<Option<Vec<_>>>()?.into_iter().max()
}
