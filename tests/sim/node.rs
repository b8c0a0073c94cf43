//! A node: all parts of the product behind the three seams, and how it is asked and killed.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use endcap::clock::{Clock, Timestamp};
use endcap::interim::Interim;
use endcap::invalidate::Durable;
use endcap::invalidate::follow::Following;
use endcap::invalidate::journal::Journal;
use endcap::node::{Parts, Seams};
use endcap::ops::Ops;
use endcap::policy::framing::HeadSizes;
use endcap::policy::plain::PlainHead;
use endcap::policy::purge::Purge;
use endcap::policy::webhook::WebhookSecret;
use endcap::serve::accept::{Answer as Handled, Handler, Peer};
use endcap::serve::body::RequestBody;
use endcap::serve::handle::Server;
use endcap::tasks::Tasks;
use http::{HeaderMap, HeaderValue, Request, header};
use http_body_util::BodyExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::ledger::{Answer, Standing};
use crate::link::{Link, LinkedStore, Shared};
use crate::origin::{Line, SimOrigin};
use crate::shop::{Content, Page};
use crate::weather::SECRET;
use crate::world::World;

/// The wall clock when a run begins, in milliseconds since the Unix epoch.
pub(crate) const EPOCH: u64 = 1_800_000_000_000;

/// Bytes of a journal: a dozen purges, so that it is full now and then.
const JOURNAL_MAX: u64 = 4096;

/// The run's time on a clock of its own.
#[derive(Debug)]
struct SimClock {
    world: Arc<World>,
    began: AtomicU64,
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.began.load(Ordering::Relaxed) + self.world.now())
    }
}

/// One process.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) index: usize,
    pub(crate) link: Arc<Link>,
    pub(crate) dead: CancellationToken,
    world: Arc<World>,
    clock: Arc<SimClock>,
    server: Arc<Server>,
    ops: Arc<Ops>,
    following: watch::Receiver<Following>,
    public: Tasks,
    tasks: Tasks,
    /// The journal's file, where it has one.
    journal: Option<PathBuf>,
}

impl Node {
    /// Starts a process whose clock is set to this time. `journal` is what an earlier one has left.
    pub(crate) fn start(
        index: usize,
        shared: &Arc<Shared>,
        origin: &Arc<SimOrigin>,
        epoch: u64,
        journal: Option<PathBuf>,
    ) -> Arc<Self> {
        let world = Arc::clone(&shared.world);
        let dead = CancellationToken::new();
        let link = Link::new(index, shared, &dead);
        let clock = Arc::new(SimClock { world: Arc::clone(&world), began: AtomicU64::new(epoch) });
        let store = Arc::new(LinkedStore(Arc::clone(&link)));
        let seams = Seams {
            clock: Arc::<SimClock>::clone(&clock),
            log: Arc::<LinkedStore>::clone(&store),
            shared: Some(store),
            durable: Durable::Log,
            eviction: None,
            journal: journal.as_deref().map(|path| Journal::open(path, JOURNAL_MAX).unwrap().0),
            origin: Arc::new(Line { origin: Arc::clone(origin), dead: dead.clone() }),
            pool: Arc::default(),
            host: HeaderValue::from_static("origin.example"),
            seed: world.below(u64::MAX),
        };
        let tasks = Tasks::new();
        let parts = Parts::assemble(&shared.weather.config, seams, &tasks).unwrap();
        let Parts { server, ops, following, public, metrics: _, retiring: _ } = parts;
        let (server, ops) = (Arc::new(server), Arc::new(ops));
        Arc::new(Self { index, link, dead, world, clock, server, ops, following, public, tasks, journal })
    }

    /// Kills the process: from here on it hears nothing and is heard by nobody. What it sent before goes on.
    pub(crate) fn kill(&self) {
        self.dead.cancel();
        self.link.set_cut(false);
    }

    /// What the journal's file holds at this moment, in a file of its own: the killed process still has the other.
    pub(crate) fn left_behind(&self) -> Option<PathBuf> {
        let path = self.journal.as_ref()?;
        let left = path.with_extension(self.world.below(u64::MAX).to_string());
        std::fs::copy(path, &left).unwrap();
        Some(left)
    }

    pub(crate) fn jump(&self, millis: u64) {
        self.clock.began.fetch_add(millis, Ordering::Relaxed);
    }

    pub(crate) fn standing(&self) -> Standing {
        let applied = self.server.fill.purges().applied().shared();
        Standing { node: self.index, applied, sound_since: self.link.sound_since(), all_sound_since: None }
    }

    pub(crate) fn flights(&self) -> (usize, usize) {
        self.server.fill.flights()
    }

    pub(crate) fn following(&self) -> Following {
        *self.following.borrow()
    }

    /// Asks for a page; `None` when the process is killed meanwhile.
    pub(crate) async fn get(&self, page: Page, is_plain: bool) -> Option<Answer> {
        tokio::select! {
            biased;
            () = self.dead.cancelled() => None,
            answer = self.answer(page, is_plain) => Some(answer),
        }
    }

    async fn answer(&self, page: Page, is_plain: bool) -> Answer {
        let (asked, target) = (self.world.now(), page.target());
        let head = format!("GET {target} HTTP/1.1\r\nhost: shop.example\r\n\r\n");
        let sizes = HeadSizes { uri_bytes_max: 8192, head_bytes_max: 8192, head_fields_max: 100 };
        let plain = PlainHead::parse(head.as_bytes(), sizes).filter(|_| is_plain);
        let mut ready = Vec::new();
        if let Some(body) = plain.and_then(|plain| self.server.ready(&plain, tokio::time::Instant::now(), &mut ready)) {
            let head = String::from_utf8(ready).unwrap();
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            return Answer { page, asked, outcome: "ready".into(), content: Content::parse(status, &body) };
        }
        let request = Request::get(&target).header(header::HOST, "shop.example").body(RequestBody::none()).unwrap();
        let peer = Peer { address: SocketAddr::from((Ipv4Addr::LOCALHOST, 9)), interim: Interim::nowhere() };
        let response = match self.server.handle(request, peer) {
            Handled::Now(response) => response,
            Handled::Later(later) => later.await,
        };
        let (head, body) = response.into_parts();
        let said = head.headers.get("cache-status").and_then(|value| value.to_str().ok()).unwrap_or("");
        let outcome = said.rsplit_once("detail=").map_or("", |(_, outcome)| outcome).to_owned();
        // A body that is cut off is no answer.
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        Answer { page, asked, outcome, content: Content::parse(head.status.as_u16(), &body) }
    }

    /// Delivers a webhook, signed anew, by a sender whose clock is right to this node; the status, or `None` when the process is killed meanwhile.
    pub(crate) async fn deliver(&self, id: &str, body: &str) -> Option<u16> {
        let signed_at = self.clock.now().as_secs();
        let secret = WebhookSecret::parse(SECRET).unwrap();
        let signature = secret.sign(id, signed_at, body.as_bytes());
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("webhook-id", id), ("webhook-timestamp", &signed_at.to_string()), ("webhook-signature", &signature)]
        {
            headers.insert(name, HeaderValue::from_str(value).unwrap());
        }
        tokio::select! {
            biased;
            () = self.dead.cancelled() => None,
            reply = self.ops.webhooks.receive("default", &headers, body.as_bytes()) => Some(reply.status.as_u16()),
        }
    }

    /// Purges by hand.
    pub(crate) async fn purge(&self, purge: Purge) {
        tokio::select! {
            biased;
            () = self.dead.cancelled() => {}
            outcome = self.ops.invalidator.purge(purge) => self.world.note(format_args!("n{}: {outcome:?}", self.index)),
        }
    }

    /// Stops in good order; false when something goes on for ever.
    pub(crate) async fn stop(&self) -> bool {
        let stop = async {
            self.public.stop().await;
            self.tasks.stop().await;
        };
        tokio::time::timeout(Duration::from_secs(120), stop).await.is_ok()
    }
}
