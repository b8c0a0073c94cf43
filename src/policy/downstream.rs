//! Purges outward: what a CDN or a storefront is told of the lines of the log, in its own words, and what its answer means.
//!
//! Sources, read in November 2026: Fastly's API reference ("Purging": 256 keys a batch, a purge of everything cannot be
//! soft, a key has at most 1,024 bytes; "Rate limiting": 429 with `Fastly-RateLimit-Reset`), Cloudflare's ("Purge cache": 100 operations a request; requests and bucket by
//! plan), Standard Webhooks, Next.js (`revalidateTag`: at most 256 characters). None says how large a body may be.

mod answer;
mod progress;
mod request;

use std::collections::BTreeMap;
use std::time::Duration;

use http::Uri;

pub use answer::{Verdict, judge};
pub use progress::{Again, HELD_MAX, Held, Progress, Stretch, Told};
pub use request::request;

use super::purge::{Mode, Purge};
use super::surrogate;
use super::tags::{TagHash, coarse_tag, kind_of};
use super::webhook::WebhookSecret;

/// Bytes of tags in one request, at the most, as JSON: with what stands around them less than servers take that were
/// told nothing else (Express: 100 kB).
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Whom to tell, and what it needs to know of us.
#[derive(Clone, Debug)]
pub struct Target {
    /// Which words it understands.
    pub provider: Provider,
    /// Where its API is; requests go below this, or to just this (Next.js, webhooks).
    pub url: Uri,
    /// Purges once more after this time, for what was fetched from a node that was not as far. Zero for never.
    pub second_purge: Duration,
}

/// The kinds of targets. Their secrets are shown by no `Debug`.
#[derive(Clone)]
pub enum Provider {
    /// Fastly's `Surrogate-Key`s.
    Fastly {
        /// The id of the service.
        service: String,
        /// An API token with the scopes `purge_select` and `purge_all`.
        token: String,
    },
    /// Cloudflare's `Cache-Tag`s.
    Cloudflare {
        /// The id of the zone.
        zone: String,
        /// An API token with the permission "Cache Purge".
        token: String,
        /// What the account may ask.
        plan: Plan,
    },
    /// A route of a Next.js storefront that calls `revalidateTag`.
    NextJs {
        /// Signs, by Standard Webhooks.
        secret: WebhookSecret,
    },
    /// Anybody who can verify Standard Webhooks.
    Webhook {
        /// Signs.
        secret: WebhookSecret,
    },
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Provider {
    /// Its word in the configuration.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Fastly { .. } => "fastly",
            Self::Cloudflare { .. } => "cloudflare",
            Self::NextJs { .. } => "nextjs",
            Self::Webhook { .. } => "webhook",
        }
    }

    /// It holds answers under tags as we do, and those with too many under coarse ones.
    const fn has_classes(&self) -> bool {
        !matches!(self, Self::Webhook { .. })
    }

    /// Under which names it holds what has a tag. Fields of answers are short, so a CDN knows tags by their hashes.
    fn names(&self, tag: &str) -> Vec<String> {
        let kind = kind_of(tag);
        if self.is_cdn() {
            return [TagHash::of(tag), coarse_tag(kind), coarse_tag("")].map(surrogate::name).into();
        }
        let classes = [format!("{kind}*"), "*".to_owned()].into_iter().filter(|_| self.has_classes());
        [tag.to_owned()].into_iter().chain(classes).collect()
    }

    /// A CDN is told first: who renders pages fetches through it.
    pub const fn is_cdn(&self) -> bool {
        matches!(self, Self::Fastly { .. } | Self::Cloudflare { .. })
    }

    /// Requests a second that it lets us make, and how many at once.
    pub const fn rate(&self) -> (f64, f64) {
        match self {
            // 100,000 purges an hour.
            Self::Fastly { .. } => (25.0, 50.0),
            Self::Cloudflare { plan: Plan::Free, .. } => (5.0 / 60.0, 25.0),
            Self::Cloudflare { plan: Plan::Pro, .. } => (5.0, 25.0),
            Self::Cloudflare { plan: Plan::Business, .. } => (10.0, 50.0),
            Self::Cloudflare { plan: Plan::Enterprise, .. } => (50.0, 500.0),
            Self::NextJs { .. } | Self::Webhook { .. } => (10.0, 20.0),
        }
    }

    /// Tags in one request, and bytes in one tag, at the most. Of all requests [`BODY_BYTES_MAX`] bounds the bytes.
    const fn bounds(&self) -> (usize, usize) {
        match self {
            Self::Fastly { .. } => (256, 1024),
            Self::Cloudflare { .. } => (100, 1024),
            Self::NextJs { .. } => (100, 256),
            Self::Webhook { .. } => (1000, usize::MAX),
        }
    }
}

/// Cloudflare's plans, which differ in what they let us ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plan {
    /// 5 requests a minute, 25 at once.
    #[default]
    Free,
    /// 5 a second, 25 at once.
    Pro,
    /// 10 a second, 50 at once.
    Business,
    /// 50 a second, 500 at once.
    Enterprise,
}

/// What several lines of the log purge together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Each tag once, with its strongest mode.
    pub tags: BTreeMap<String, Mode>,
    /// All there is.
    pub everything: bool,
}

impl Batch {
    /// All there is: for who can no longer be told what exactly.
    pub fn everything() -> Self {
        Self { tags: BTreeMap::new(), everything: true }
    }

    /// Adds a line; one that cannot be read may have purged anything.
    pub fn add(&mut self, line: Option<&Purge>) {
        let Some(purge) = line else {
            self.everything = true;
            return;
        };
        for (tag, mode) in &purge.tags {
            self.everything |= tag == "all";
            let known = self.tags.entry(tag.clone()).or_insert(*mode);
            *known = (*known).max(*mode);
        }
    }

    /// Nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.tags.is_empty() && !self.everything
    }
}

/// What one request tells a target to forget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// These tags: never none.
    Tags(Vec<(String, Mode)>),
    /// All there is.
    Everything,
}

impl Part {
    /// What may be taken in its place where the target does not take it: halves, everything for one tag alone, and
    /// nothing for everything.
    pub fn instead(self) -> Vec<Self> {
        match self {
            Self::Everything => Vec::new(),
            Self::Tags(tags) if tags.len() < 2 => vec![Self::Everything],
            Self::Tags(mut tags) => {
                let rest = tags.split_off(tags.len() / 2);
                vec![Self::Tags(tags), Self::Tags(rest)]
            }
        }
    }
}

/// What a batch becomes for one target, a request each: bounded, and the same again for the same lines.
///
/// More requests than the target lets us make at once become one that purges everything.
pub fn parts(provider: &Provider, batch: &Batch) -> Vec<Part> {
    let (tags_max, bytes_max) = provider.bounds();
    let mut tags: BTreeMap<String, Mode> = BTreeMap::new();
    for (tag, mode) in &batch.tags {
        for name in provider.names(tag).into_iter().filter(|name| name.len() <= bytes_max) {
            let known = tags.entry(name).or_insert(*mode);
            *known = (*known).max(*mode);
        }
    }
    // Where a request has one mode, soft tags go apart.
    let is_apart = |mode| mode == Mode::Soft && matches!(provider, Provider::Fastly { .. });
    let (soft, rest): (Vec<_>, Vec<_>) = tags.into_iter().partition(|(_, mode)| is_apart(*mode));
    let mut parts = chunks(rest, tags_max);
    parts.extend(chunks(soft, tags_max));
    let (_, most) = provider.rate();
    if batch.everything || parts.len() as f64 > most {
        return vec![Part::Everything];
    }
    parts
}

fn chunks(tags: Vec<(String, Mode)>, most: usize) -> Vec<Part> {
    let (mut chunks, mut bytes) = (Vec::<Vec<_>>::new(), 0);
    for (tag, mode) in tags {
        let more = json_bytes(&tag);
        match chunks.last_mut().filter(|chunk| chunk.len() < most && bytes + more <= BODY_BYTES_MAX) {
            Some(chunk) => {
                bytes += more;
                chunk.push((tag, mode));
            }
            None => {
                bytes = more;
                chunks.push(vec![(tag, mode)]);
            }
        }
    }
    chunks.into_iter().map(Part::Tags).collect()
}

/// What a tag takes in a body, at the most.
fn json_bytes(tag: &str) -> usize {
    /// `{"mode":"delete","tag":""},`
    const AROUND: usize = 28;
    let escaped = |byte: u8| match byte {
        b'"' | b'\\' => 2,
        ..0x20 => 6,
        _ => 1,
    };
    tag.bytes().map(escaped).sum::<usize>() + AROUND
}

#[cfg(test)]
mod tests;
