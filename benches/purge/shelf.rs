//! Entries in memory as a node has them: filled by its own code, from an origin in this process.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use bytes::Bytes;
use endcap::body::Body;
use endcap::clock::{Clock, SystemClock};
use endcap::config::Config;
use endcap::fill::{Fill, FillSettings, Filled, Landed};
use endcap::interim::Interim;
use endcap::metrics::Metrics;
use endcap::origin::{Origin, OriginBody, OriginError, Purpose};
use endcap::policy::encoding::Compression;
use endcap::policy::entry::Entry;
use endcap::policy::freshness::Verdict;
use endcap::policy::key::Key;
use endcap::policy::purge::{Marked, Mode, Purge, PurgeIndex, PurgeSeq};
use endcap::policy::route::Rule;
use endcap::policy::time::Timestamp;
use endcap::purges::Purges;
use endcap::store::l1::L1;
use endcap::store::wire::Codec;
use endcap::tasks::Tasks;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, Response, header};

/// The product that every entry shows.
pub(crate) const SHARED: &str = "prod_01JAV7ZC4R8N5X2KQW7Y3HSHARED";

/// Says for each path a product of that name, and the one that all show.
#[derive(Debug)]
struct Says;

impl Origin for Says {
    fn send(&self, request: Request<Body>, _: Purpose) -> BoxFuture<'_, Result<Response<OriginBody>, OriginError>> {
        let id = request.uri().path().rsplit('/').next().unwrap_or_default();
        let body = Bytes::from(format!(r#"{{"product":{{"id":"{id}","related":["{SHARED}"]}}}}"#));
        let mut answer = Response::new(OriginBody::from(body));
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
        headers.insert(header::ETAG, HeaderValue::from_static("W/\"400-Zm9yIHRoZSBlbmQgY2Fw\""));
        headers.insert(header::VARY, HeaderValue::from_static("Origin"));
        std::future::ready(Ok(answer)).boxed()
    }
}

/// A node's memory, and what writes and reads it.
pub(crate) struct Shelf {
    fill: Arc<Fill>,
    rule: Arc<Rule>,
    clock: Arc<dyn Clock>,
    pub(crate) purges: Arc<Purges>,
    applied: u64,
}

impl Shelf {
    pub(crate) fn new() -> Result<Self> {
        let text = "upstream = \"http://127.0.0.1:9\"\npreset = \"medusa\"\n[route.product]\nttl = \"1d\"\n";
        let config = Config::from_toml("bench.toml", text, std::iter::empty())
            .map_err(|problems| anyhow::anyhow!("{problems}"))?
            .config;
        let rules = config.routes.rules();
        let Some(rule) = rules.iter().find(|rule| &*rule.name == "product") else {
            bail!("the preset has no products")
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let purges = Arc::new(Purges::new(empty_index(), None));
        let fill = Fill::new(
            Arc::new(Says),
            // Not far more than is used: the tier keeps count of what it may come to hold.
            L1::new(4 << 30),
            None,
            Codec::new(None, usize::MAX, 1 << 20),
            Arc::clone(&purges),
            Arc::clone(&clock),
            Metrics::new(rules),
            Tasks::new(),
            FillSettings {
                seed: 1,
                compression: Compression::default(),
                in_flight: 8 << 20,
                object_max: 1 << 20,
                pass_marker_ttl: Duration::from_secs(1),
                error_ttl: Duration::from_secs(1),
                jitter: 0.1,
                shared_max: Duration::from_secs(9999),
                soft_grace: Duration::from_secs(2),
                echo: Duration::ZERO,
                canary: Duration::ZERO,
                hot_refill: 0,
                refreshes_max: 32,
                lease_ttl: Duration::from_secs(10),
                lease_wait: Duration::from_secs(2),
            },
        );
        Ok(Self { fill, rule: Arc::clone(rule), clock, purges, applied: 0 })
    }

    /// Fills one more entry.
    pub(crate) async fn put(&self, number: usize) -> Result<Arc<Entry>> {
        let path = format!("/store/products/prod_01JAV7ZC4R8N5X2KQW7Y{number:010}");
        let key = Key::of_request(&self.rule, &path, None, "", &HeaderMap::new())
            .map_err(|trouble| anyhow::anyhow!("no key: {trouble:?}"))?;
        let headers = HeaderMap::new();
        let (wanted, _) = self.fill.find(&self.rule, &key, &headers);
        match self.fill.once(wanted, None, &Interim::nowhere()).await {
            Filled::Landed { landed: Landed::Entry { entry, stored: true, .. }, .. } => Ok(entry),
            other => bail!("not stored: {other:?}"),
        }
    }

    /// What may be done with an entry now.
    #[allow(dead_code, reason = "one of the benches asks")]
    pub(crate) fn judge(&self, entry: &Entry, now: Timestamp) -> Verdict {
        self.fill.judge(entry, now)
    }

    /// The rule of all entries.
    #[allow(dead_code, reason = "likewise")]
    pub(crate) fn rule(&self) -> &Rule {
        &self.rule
    }

    /// Applies a purge as the follower does that has read its line.
    pub(crate) fn purge(&mut self, tag: &str) {
        self.applied += 1;
        let purge = Purge { tags: vec![(tag.to_owned(), Mode::Hard)], source: "bench".into(), ..Purge::default() };
        let seq = PurgeSeq::new(self.applied, 0).expect("it is small");
        self.purges.apply(seq, Marked::from(purge), self.clock.now());
    }

    /// Housekeeping that is not done yet, so that it is not measured.
    pub(crate) fn tidy(&self) {
        self.fill.l1().tidy();
    }
}

/// An index as it is by default, but for the time that it looks back.
pub(crate) fn empty_index() -> PurgeIndex {
    PurgeIndex::new(Duration::from_secs(2), 1_000_000, Duration::from_secs(1 << 20))
}
