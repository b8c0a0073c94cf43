//! What a target's answer means.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use serde_json::Value;

use super::Provider;
use crate::policy::time::Timestamp;

/// What an answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has purged.
    Done,
    /// Again, after this time where it says so.
    Later {
        /// For a person.
        why: String,
        /// `Retry-After`, or Fastly's word for it.
        after: Option<Duration>,
    },
    /// A person must act.
    Refused {
        /// What, and where.
        remedy: String,
    },
    /// It will never take this request: something smaller, or something else, it may.
    Unfit {
        /// For a person.
        why: String,
    },
}

impl Verdict {
    /// All words of [`Verdict::as_str`], for the metrics.
    pub const WORDS: [&str; 4] = ["done", "later", "refused", "unfit"];

    /// The word for labels.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Later { .. } => "later",
            Self::Refused { .. } => "refused",
            Self::Unfit { .. } => "unfit",
        }
    }
}

/// When Fastly may be asked again, in seconds since 1970: it says so in the place of `Retry-After`.
const FASTLY_RESET: &str = "fastly-ratelimit-reset";
/// The longest wait that a target may ask for.
pub(super) const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// Judges an answer.
pub fn judge(
    provider: &Provider,
    name: &str,
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    now: Timestamp,
) -> Verdict {
    let key = |key: &str| format!("downstream.{name}.{key}");
    let refused = |remedy: String| Verdict::Refused { remedy: format!("{}: {remedy}", status.as_u16()) };
    match status.as_u16() {
        200..=299 => {
            let says_no = matches!(provider, Provider::Cloudflare { .. })
                && serde_json::from_slice::<Value>(body).is_ok_and(|answer| answer["success"] == false);
            match says_no {
                true => Verdict::Later { why: "it says that it did not succeed".to_owned(), after: None },
                false => Verdict::Done,
            }
        }
        401 | 403 => refused(match provider {
            Provider::Fastly { .. } => format!("give {} the scopes purge_select and purge_all", key("token")),
            Provider::Cloudflare { .. } => format!("give {} the permission \"Cache Purge\" for the zone", key("token")),
            Provider::NextJs { .. } | Provider::Webhook { .. } => format!("{} is not the receiver's", key("token")),
        }),
        404 | 405 | 410 => refused(match provider {
            Provider::Fastly { .. } => format!("{} names no service of this token", key("id")),
            Provider::Cloudflare { .. } => format!("{} names no zone of this token", key("id")),
            Provider::NextJs { .. } | Provider::Webhook { .. } => format!("nobody is at {}", key("url")),
        }),
        300..=399 => refused(format!("it has moved: give its new address as {}", key("url"))),
        408 | 425 | 429 | 500.. => {
            let seconds = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
            let is_fastly = matches!(provider, Provider::Fastly { .. });
            let reset = || seconds(FASTLY_RESET).filter(|_| is_fastly).map(|at| at.saturating_sub(now.as_secs()));
            let after = seconds(header::RETRY_AFTER.as_str()).or_else(reset);
            let after = after.map(|seconds| Duration::from_secs(seconds).min(RETRY_AFTER_MAX));
            Verdict::Later { why: format!("it answered {status}"), after }
        }
        _ => Verdict::Unfit { why: format!("it does not take what it was told: {status}") },
    }
}
