//! What is not stored: an answer that is one client's own, and none at all.

use std::sync::Arc;

use http::{Response, StatusCode};
use tokio::sync::oneshot;

use super::wanted::Job;
use super::{Failure, Fill, Landed};
use crate::body::Body;
use crate::origin::OriginError;
use crate::policy::entry::Entry;
use crate::policy::freshness::Verdict;
use crate::policy::purge::PurgeSeq;
use crate::policy::storable::Unshareable;
use crate::store::l1::{BackOff, Slot};

/// The origin answered, with an error.
pub(super) const ORIGIN_STATUS: &str = "origin_status";

/// Where the leader's own answer goes when nobody else may have it.
pub(super) type Own = Option<oneshot::Sender<(Response<Body>, Unshareable)>>;

impl Fill {
    /// The answer is one client's own. The next requests go by side by side for a while.
    pub(super) fn unshareable(
        &self,
        job: &Job,
        as_of: PurgeSeq,
        why: Unshareable,
        head: http::response::Parts,
        body: Option<Body>,
        own: Own,
    ) -> Landed {
        self.metrics.not_stored(why.as_str());
        tracing::debug!(route = %job.rule.name, key = %job.key.hash(), reason = why.as_str(), "not shared");
        let now = self.clock.now();
        let slot = match &job.previous {
            // A refresh that brings nothing for all takes nothing away: stale stays usable in its window.
            Some(previous) if !matches!(self.judge(previous, now), Verdict::Expired(_)) => {
                let (status, reason) = (StatusCode::BAD_GATEWAY, why.as_str());
                let failure = Arc::new(Failure { status, reason, origin_status: None, answer: None, own: None });
                let previous = Some(Arc::clone(previous));
                Slot::Failed(Arc::new(BackOff::new(now, self.settings.error_ttl, as_of, failure, previous)))
            }
            // There may be room again in a moment.
            _ if why == Unshareable::InFlight => Slot::PassMarker { until: now + self.settings.error_ttl, why },
            _ => Slot::PassMarker { until: now + self.settings.pass_marker_ttl, why },
        };
        self.l1.put(&job.key, slot);
        match why {
            // The fill did not send what the answer varies by: the leader asks again, as itself.
            Unshareable::Vary => {}
            Unshareable::VaryStar | Unshareable::Encoding if !job.rule.forward.is_all() => {}
            Unshareable::VaryStar
            | Unshareable::Encoding
            | Unshareable::Authorization
            | Unshareable::SetCookie
            | Unshareable::Private
            | Unshareable::NoStore
            | Unshareable::NoCache
            | Unshareable::NotFresh
            | Unshareable::TooLarge
            | Unshareable::InFlight
            | Unshareable::Unframed => {
                // Without a place for a slow reader the leader asks again and waits for one.
                if let (Some(own), Some(body)) = (own, body) {
                    // The client may have left; then nobody gets it, and the body's connection is closed.
                    drop(own.send((Response::from_parts(head, body), why)));
                }
            }
        }
        Landed::Unshareable(why)
    }

    pub(super) fn origin_failed(&self, job: &Job, as_of: PurgeSeq, error: &OriginError) -> Landed {
        tracing::debug!(route = %job.rule.name, key = %job.key.hash(), error = error as &dyn std::error::Error, "fill failed");
        self.failed(job, as_of, error.status(), error.reason(), None, None)
    }

    /// No answer, or the origin's own error. It is remembered for a moment, so that a dead origin is
    /// not asked for each request; a previous entry stays beside it for stale-if-error. `own` says why nobody but
    /// who asked may have the `answer`.
    pub(super) fn failed(
        &self,
        job: &Job,
        as_of: PurgeSeq,
        status: StatusCode,
        reason: &'static str,
        answer: Option<Arc<Entry>>,
        own: Option<Unshareable>,
    ) -> Landed {
        let origin_status = (reason == ORIGIN_STATUS).then_some(status);
        // What the origin's own word decides is shared with those who wait, and with nobody after them.
        let is_by_the_book = job.rule.trust.errors && answer.is_some();
        let failure = Arc::new(Failure { status, reason, origin_status, answer, own });
        if is_by_the_book {
            return Landed::Failed { failure, previous: job.previous.clone() };
        }
        let (now, previous) = (self.clock.now(), job.previous.clone());
        let back_off = BackOff::new(now, self.settings.error_ttl, as_of, failure.for_others(), previous.clone());
        self.l1.put(&job.key, Slot::Failed(Arc::new(back_off)));
        Landed::Failed { failure, previous }
    }
}
