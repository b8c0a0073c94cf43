//! What the feed of each node says: when the node has applied which line of the log. A node that is asked for it again and
//! again has less time for applying it, and on two cores so has every other.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use endcap::policy::notice::EventId;
use endcap::policy::purge::PurgeSeq;
use endcap::tasks::Tasks;
use http::header::AUTHORIZATION;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use tokio::sync::watch;
use tokio::time::timeout;

use super::book::Moment;
use super::fleet::FEED_TOKEN;
use super::http::Client;
use super::process::POLL;
use super::stage::Run;

/// Lines that are remembered of a node: more than any writer waits for.
const LINES_MAX: usize = 1024;
/// A feed that is open shows a sign of life each 15 s.
const SILENCE: Duration = Duration::from_secs(20);

/// What was heard of a node on the connection that is open.
#[derive(Debug, Default)]
struct Heard {
    /// All after this is told, and when it was told is known; `None` while nobody listens.
    after: Option<PurgeSeq>,
    lines: VecDeque<(PurgeSeq, Moment)>,
}

impl Heard {
    fn told(&mut self, seq: PurgeSeq, now: Moment) {
        if self.after.is_none() {
            self.after = Some(seq);
        } else if self.lines.back().is_none_or(|(last, _)| *last < seq) {
            self.lines.push_back((seq, now));
        }
        if self.lines.len() > LINES_MAX {
            self.after = self.lines.pop_front().map(|(seq, _)| seq);
        }
    }

    /// When the node had applied a line; `None` if it has not yet.
    fn applied(&self, seq: PurgeSeq) -> Option<Moment> {
        self.lines.iter().find(|(applied, _)| *applied >= seq).map(|(_, at)| *at)
    }

    fn is_listening_for(&self, seq: PurgeSeq) -> bool {
        self.after.is_some_and(|after| after < seq)
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Feeds {
    nodes: Vec<watch::Sender<Heard>>,
}

impl Feeds {
    pub(crate) fn new(nodes: usize) -> Self {
        Self { nodes: (0..nodes).map(|_| watch::Sender::default()).collect() }
    }

    /// When a node has applied a line of the log; `None` where nobody was listening.
    pub(crate) async fn applied(&self, node: usize, seq: PurgeSeq) -> Option<Moment> {
        let mut heard = self.nodes[node].subscribe();
        let is_told = |heard: &Heard| heard.applied(seq).is_some() || !heard.is_listening_for(seq);
        let heard = heard.wait_for(is_told).await.ok()?;
        heard.applied(seq).filter(|_| heard.is_listening_for(seq))
    }

    fn told(&self, node: usize, seq: PurgeSeq, now: Moment) {
        self.nodes[node].send_modify(|heard| heard.told(seq, now));
    }

    fn broken(&self, node: usize) {
        self.nodes[node].send_replace(Heard::default());
    }
}

/// Listens to a node, and again when it has died.
pub(crate) async fn listen(run: Arc<Run>, node: usize, tasks: Tasks) {
    loop {
        // A node that dies or is not ready is no news here.
        drop(hear(&run, node, &mut Client::new(&tasks), run.fleet.addresses(node).ops).await);
        run.feeds.broken(node);
        tokio::time::sleep(POLL).await;
    }
}

/// Until the connection ends.
async fn hear(run: &Run, node: usize, client: &mut Client, address: SocketAddr) -> anyhow::Result<()> {
    let request = Request::get("/events").header(AUTHORIZATION, format!("Bearer {FEED_TOKEN}"));
    let response = timeout(SILENCE, client.open(address, request.body(Default::default())?)).await??;
    anyhow::ensure!(response.status() == StatusCode::OK, "{}", response.status());
    let (mut body, mut text) = (response.into_body(), String::new());
    while let Some(frame) = timeout(SILENCE, body.frame()).await? {
        let now = run.now();
        let frame = frame?;
        text.push_str(std::str::from_utf8(frame.data_ref().map_or(&[], |data| data))?);
        while let Some((line, rest)) = text.split_once('\n') {
            if let Some(id) = line.strip_prefix("id: ").and_then(EventId::parse) {
                run.feeds.told(node, id.seq, now);
            }
            text = rest.to_owned();
        }
    }
    Ok(())
}
