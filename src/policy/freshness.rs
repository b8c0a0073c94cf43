//! May this entry be served, and how? Judged at each read; timers and evictions only free memory.

use std::time::Duration;

use super::entry::{Entry, Lifetime};
use super::purge::Purged;
use super::time::Timestamp;

/// What may be done with an entry now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Serve it.
    Fresh,
    /// Serve it, and refresh it behind.
    Stale(StaleReason),
    /// It must be refilled before it is served again; it may still serve when the origin fails.
    Expired(ExpiredReason),
}

/// Why an entry is stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StaleReason {
    /// Its time is over, its stale-while-revalidate window is not.
    Ttl,
    /// A soft purge hit it, less than the grace ago.
    SoftPurge,
}

/// Why an entry must be refilled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpiredReason {
    /// Its time and its window are over.
    Ttl,
    /// It was purged.
    Purged,
    /// It may have been: the node is cut off from the purge log.
    Blind,
}

/// Judges an entry. `purged` is what the purge index says of it.
pub fn judge(lifetime: &Lifetime, purged: Purged, now: Timestamp) -> Verdict {
    match purged {
        Purged::Hard | Purged::Deleted => return Verdict::Expired(ExpiredReason::Purged),
        Purged::Soft { until } if now >= until => return Verdict::Expired(ExpiredReason::Purged),
        Purged::Soft { .. } | Purged::No => {}
    }
    if now >= lifetime.swr_until && now >= lifetime.fresh_until {
        return Verdict::Expired(ExpiredReason::Ttl);
    }
    match purged {
        Purged::Soft { .. } => Verdict::Stale(StaleReason::SoftPurge),
        _ if now >= lifetime.fresh_until => Verdict::Stale(StaleReason::Ttl),
        _ => Verdict::Fresh,
    }
}

/// Whether an entry may be served because the origin failed (RFC 5861 §4). A deleted one never is.
pub fn usable_on_error(lifetime: &Lifetime, purged: Purged, now: Timestamp) -> bool {
    match purged {
        Purged::Deleted => false,
        Purged::No => now < lifetime.ends(),
        // What was purged serves by the stale-if-error window alone: without one it is gone.
        Purged::Soft { .. } | Purged::Hard => lifetime.sie_until > lifetime.fresh_until && now < lifetime.sie_until,
    }
}

/// When a refresh behind a stale answer may begin: at once, but under a burst of soft purges only
/// once a grace, so that a hot list is not refetched for each purge. It still comes in time, since
/// the purge is younger than the fill.
pub fn refresh_not_before(entry: &Entry, why: StaleReason, soft_grace: Duration) -> Timestamp {
    match why {
        StaleReason::Ttl => Timestamp::default(),
        // Half a grace, so that the refresh itself has the other half.
        StaleReason::SoftPurge => entry.began + soft_grace / 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn life() -> Lifetime {
        Lifetime {
            born: NOW,
            fresh_until: NOW + seconds(10),
            swr_until: NOW + seconds(20),
            sie_until: NOW + seconds(30),
        }
    }

    #[test]
    fn an_entry_goes_from_fresh_to_stale_to_expired() {
        let at = |after| judge(&life(), Purged::No, NOW + seconds(after));
        assert_eq!(at(0), Verdict::Fresh);
        assert_eq!(at(9), Verdict::Fresh);
        assert_eq!(at(10), Verdict::Stale(StaleReason::Ttl));
        assert_eq!(at(20), Verdict::Expired(ExpiredReason::Ttl));
    }

    #[test]
    fn a_purge_is_stronger_than_freshness() {
        let judge = |purged, after| judge(&life(), purged, NOW + seconds(after));
        assert_eq!(judge(Purged::Hard, 0), Verdict::Expired(ExpiredReason::Purged));
        assert_eq!(judge(Purged::Deleted, 0), Verdict::Expired(ExpiredReason::Purged));
        let soft = Purged::Soft { until: NOW + seconds(2) };
        assert_eq!(judge(soft, 1), Verdict::Stale(StaleReason::SoftPurge));
        assert_eq!(judge(soft, 2), Verdict::Expired(ExpiredReason::Purged));
        let late = Purged::Soft { until: NOW + seconds(99) };
        assert_eq!(judge(late, 25), Verdict::Expired(ExpiredReason::Ttl));
    }

    #[test]
    fn when_the_origin_fails_all_but_the_deleted_may_serve_within_the_window() {
        let usable = |purged, after| usable_on_error(&life(), purged, NOW + seconds(after));
        assert!(usable(Purged::No, 29) && usable(Purged::Hard, 29) && !usable(Purged::No, 30));
        assert!(!usable(Purged::Deleted, 0));
        let without = Lifetime { sie_until: life().fresh_until, ..life() };
        assert!(!usable_on_error(&without, Purged::Hard, NOW) && usable_on_error(&without, Purged::No, NOW));
    }
}
