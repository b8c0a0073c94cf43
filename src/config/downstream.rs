//! Who is told of purges: CDNs and storefronts.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Uri;

use super::Downstream;
use super::check::{Checker, Given};
use super::raw;
use super::secret::{self, Secret};
use super::shape::Path;
use super::text::Textual;
use crate::policy::downstream::Plan;
use crate::policy::surrogate::TagField;

/// The longest delay of a second purge.
const SECOND_PURGE_MAX: Duration = Duration::from_secs(60);

/// The kinds of targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DownstreamKind {
    /// Fastly.
    Fastly,
    /// Cloudflare.
    Cloudflare,
    /// A Next.js storefront.
    NextJs,
    /// Anybody else, by Standard Webhooks.
    Webhook,
}

impl DownstreamKind {
    /// Where its API is, where that is the same for all.
    const fn url(self) -> Option<&'static str> {
        match self {
            Self::Fastly => Some("https://api.fastly.com"),
            Self::Cloudflare => Some("https://api.cloudflare.com"),
            Self::NextJs | Self::Webhook => None,
        }
    }

    /// The field in which it is told the tags of what it stores.
    pub const fn tag_field(self) -> Option<TagField> {
        match self {
            Self::Fastly => Some(TagField::SurrogateKey),
            Self::Cloudflare => Some(TagField::CacheTag),
            Self::NextJs | Self::Webhook => None,
        }
    }

    /// It is told with a signature, of which its token is the secret.
    const fn is_signed(self) -> bool {
        matches!(self, Self::NextJs | Self::Webhook)
    }

    /// What its `id` is the id of.
    const fn id(self) -> Option<&'static str> {
        match self {
            Self::Fastly => Some("service"),
            Self::Cloudflare => Some("zone"),
            Self::NextJs | Self::Webhook => None,
        }
    }
}

/// The address of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TargetUrl(pub(super) Uri);

impl Textual for TargetUrl {
    fn from_text(text: &str) -> Result<Self, String> {
        let right = "write \"https://host\" and maybe a path";
        let uri: Uri = text.parse().map_err(|_| format!("{text:?} is no address: {right}"))?;
        let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
        match uri.authority() {
            Some(authority) if is_http && !authority.as_str().contains('@') => Ok(Self(uri)),
            _ => Err(format!("{text:?} is no address of a server: {right}, without credentials")),
        }
    }

    fn to_text(&self) -> String {
        self.0.to_string()
    }
}

/// The targets; one with a mistake is left out.
pub(super) fn downstream(
    raw: BTreeMap<String, raw::Downstream>,
    check: &mut Checker<'_, '_>,
) -> BTreeMap<String, Downstream> {
    let mut targets = BTreeMap::new();
    for (name, raw) in raw {
        let at = &Path::of(&["downstream", &name]);
        check.name(at, "downstream target", &name);
        let token = check.secret(at, "token", Given { value: raw.token, file: raw.token_file });
        let second_purge = raw.second_purge.map(|text| text.0);
        let second_purge =
            check.within(at, "second_purge", second_purge, Duration::ZERO, Duration::ZERO, SECOND_PURGE_MAX);
        let Some(kind) = raw.kind.map(|text| text.0) else {
            check.problem(at, "a target needs its `kind`: \"fastly\", \"cloudflare\", \"nextjs\" or \"webhook\"");
            continue;
        };
        let url = raw.url.map(|text| text.0.0).or_else(|| kind.url().and_then(|url| url.parse().ok()));
        if url.is_none() {
            check.problem(at, "this kind of target needs its `url`");
        }
        let is_word = |id: &String| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        match (kind.id(), &raw.id) {
            (Some(_), Some(id)) if is_word(id) => {}
            (Some(what), None) => check.problem(at, format!("this kind of target needs the `id` of its {what}")),
            (Some(what), Some(id)) => check.problem(&at.key("id"), format!("{id:?} is no id of a {what}")),
            (None, Some(_)) => check.problem(&at.key("id"), "this kind of target has no id: leave it out"),
            (None, None) => {}
        }
        if let (Some(plan), true) = (&raw.plan, kind != DownstreamKind::Cloudflare) {
            check.problem(&at.key("plan"), format!("{:?} is a plan of Cloudflare's: leave it out", plan.0.to_text()));
        }
        match token.as_ref().map(Secret::expose) {
            None => check.problem(at, "a target needs a `token` or a `token_file`"),
            Some(token) if kind.is_signed() => {
                if let Err(message) = secret::check_webhook(token) {
                    check.problem(&at.key("token"), message);
                }
            }
            Some(token) if !token.bytes().all(|byte| byte.is_ascii_graphic()) => {
                check.problem(&at.key("token"), "a token is made of letters, digits and signs, without white space");
            }
            Some(_) => {}
        }
        if let (Some(url), Some(token)) = (url, token) {
            let (id, plan) = (raw.id.unwrap_or_default(), raw.plan.map_or(Plan::default(), |text| text.0));
            targets.insert(name, Downstream { kind, url, id, token, plan, second_purge });
        }
    }
    targets
}
