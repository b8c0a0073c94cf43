//! May this entry be served, and how? Judged at each read; timers and evictions only free memory.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use super::entry::{Entry, Lifetime};
use super::purge::Purged;
use super::time::Timestamp;

/// What may be done with an entry now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Serve it.
    Fresh,
    /// Serve it as fresh, and refresh it behind: if the purge log stays silent, it will soon be `Expired`.
    Due,
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

/// How far a node may trust what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It knows of all purges, or will by the time when that matters.
    Full,
    /// Not much longer, if the log stays silent.
    Ending,
    /// A purge may have been missed.
    Ended,
}

/// How well a node sees the purge log.
#[derive(Clone, Copy, Debug)]
pub struct Sight {
    /// For how long it trusts what it has without hearing of the log.
    pub max_blind: Duration,
    /// From when on it is blind, unless it hears of the log before.
    pub blind_from: Timestamp,
    /// Until when it stays blind although it reads the log again.
    pub blind_until: Timestamp,
    /// A read of the log has failed since. That none has ended for a while may be a crowd's doing.
    pub is_cut_off: bool,
}

impl Sight {
    /// Whether it has not been able to confirm for too long that it knows of all purges, or has been so a moment ago.
    pub fn is_blind(&self, now: Timestamp) -> bool {
        now >= self.blind_from || now < self.blind_until
    }

    /// Whether nothing says that it will be blind within half of `max_blind`.
    pub fn is_clear(&self, now: Timestamp) -> bool {
        !self.is_blind(now) && (!self.is_cut_off || now + self.max_blind / 2 < self.blind_from)
    }

    /// How far an entry may be trusted. A blind node trusts only what the origin told it itself within `max_blind`,
    /// and what is asked for is refreshed before that is over: from a half to three quarters of it on, so that what
    /// was filled together is not refreshed together, and nobody waits.
    pub fn trust(&self, entry: &Entry, now: Timestamp) -> Trust {
        if self.is_clear(now) {
            return Trust::Full;
        }
        let tick = Duration::from_millis(1);
        let recent_until = if entry.is_own { entry.began + self.max_blind + tick } else { Timestamp::default() };
        let ends = if now < self.blind_until && recent_until < self.blind_until {
            recent_until
        } else {
            recent_until.max(self.blind_from)
        };
        if now >= ends {
            Trust::Ended
        } else if now >= ends.before(self.max_blind.mul_f64(0.25 + 0.25 * chance(entry))) {
            Trust::Ending
        } else {
            Trust::Full
        }
    }
}

/// A number from 0 to 1 that is an entry's own.
fn chance(entry: &Entry) -> f64 {
    let mut hasher = DefaultHasher::new();
    (&entry.key, entry.began).hash(&mut hasher);
    let [a, b, ..] = hasher.finish().to_le_bytes();
    f64::from(u16::from_le_bytes([a, b])) / f64::from(u16::MAX)
}

/// Judges an entry. `purged` is what the purge index says of it.
pub fn judge(lifetime: &Lifetime, purged: Purged, trust: Trust, now: Timestamp) -> Verdict {
    match purged {
        Purged::Hard | Purged::Deleted => return Verdict::Expired(ExpiredReason::Purged),
        Purged::Soft { until } if now >= until => return Verdict::Expired(ExpiredReason::Purged),
        Purged::Soft { .. } | Purged::No => {}
    }
    if now >= lifetime.swr_until && now >= lifetime.fresh_until {
        return Verdict::Expired(ExpiredReason::Ttl);
    }
    if trust == Trust::Ended {
        return Verdict::Expired(ExpiredReason::Blind);
    }
    match (purged, trust) {
        (Purged::Soft { .. }, _) => Verdict::Stale(StaleReason::SoftPurge),
        _ if now >= lifetime.fresh_until => Verdict::Stale(StaleReason::Ttl),
        (_, Trust::Ending) => Verdict::Due,
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

/// When a refresh behind an answer may begin: at once, but under a burst of soft purges only
/// once a grace, so that a hot list is not refetched for each purge. It still comes in time, since
/// the purge is younger than the fill.
pub fn refresh_not_before(entry: &Entry, verdict: Verdict, soft_grace: Duration) -> Timestamp {
    match verdict {
        // Half a grace, so that the refresh itself has the other half.
        Verdict::Stale(StaleReason::SoftPurge) => entry.began + soft_grace / 2,
        Verdict::Stale(StaleReason::Ttl) | Verdict::Due | Verdict::Fresh | Verdict::Expired(_) => Timestamp::default(),
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
        let at = |after| judge(&life(), Purged::No, Trust::Full, NOW + seconds(after));
        assert_eq!(at(0), Verdict::Fresh);
        assert_eq!(at(9), Verdict::Fresh);
        assert_eq!(at(10), Verdict::Stale(StaleReason::Ttl));
        assert_eq!(at(20), Verdict::Expired(ExpiredReason::Ttl));
    }

    #[test]
    fn a_purge_is_stronger_than_freshness() {
        let judge = |purged, after| judge(&life(), purged, Trust::Full, NOW + seconds(after));
        assert_eq!(judge(Purged::Hard, 0), Verdict::Expired(ExpiredReason::Purged));
        assert_eq!(judge(Purged::Deleted, 0), Verdict::Expired(ExpiredReason::Purged));
        let soft = Purged::Soft { until: NOW + seconds(2) };
        assert_eq!(judge(soft, 1), Verdict::Stale(StaleReason::SoftPurge));
        assert_eq!(judge(soft, 2), Verdict::Expired(ExpiredReason::Purged));
        let late = Purged::Soft { until: NOW + seconds(99) };
        assert_eq!(judge(late, 25), Verdict::Expired(ExpiredReason::Ttl));
    }

    const MAX_BLIND: Duration = Duration::from_secs(8);

    fn entry(name: &'static str, is_own: bool) -> Entry {
        Entry {
            key: name.as_bytes().into(),
            status: http::StatusCode::OK,
            fields: crate::policy::fields::Fields::default(),
            body: bytes::Bytes::new(),
            tags: Box::default(),
            lifetime: life(),
            as_of: crate::policy::purge::PurgeSeq::ZERO,
            began: NOW,
            is_own,
            has_own_etag: false,
            is_encodable: false,
            seen: crate::policy::entry::Seen::default(),
            forms: crate::policy::forms::Forms::default(),
        }
    }

    /// Trust after so many milliseconds; the log fell silent just when the entry was filled.
    fn silent(entry: &Entry, after: u64) -> Trust {
        let sight = Sight {
            max_blind: MAX_BLIND,
            blind_from: NOW + MAX_BLIND,
            blind_until: Timestamp::default(),
            is_cut_off: true,
        };
        sight.trust(entry, NOW + Duration::from_millis(after))
    }

    #[test]
    fn trust_ends_with_max_blind_and_is_due_from_a_half_to_three_quarters_of_it() {
        let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
        let due = |name| (0..).find(|after| silent(&entry(name, true), *after) != Trust::Full).unwrap();
        let due: Vec<u64> = names.into_iter().map(due).collect();
        assert!(due.iter().all(|due| (4000..=6001).contains(due)), "{due:?}");
        assert!(due.iter().max().unwrap() - due.iter().min().unwrap() > 500, "not all at once: {due:?}");
        assert_eq!(silent(&entry("a", true), 8000), Trust::Ending);
        assert_eq!(silent(&entry("a", true), 8001), Trust::Ended);
        assert_eq!(silent(&entry("a", false), 7999), Trust::Ending);
        assert_eq!(silent(&entry("a", false), 8000), Trust::Ended, "what another node filled began by its clock");
    }

    /// A process that has no time to look has not lost the log.
    #[test]
    fn a_log_that_was_not_read_for_a_while_is_no_lost_log() {
        let blind_from = NOW + MAX_BLIND;
        let sight = Sight { max_blind: MAX_BLIND, blind_from, blind_until: Timestamp::default(), is_cut_off: false };
        assert_eq!(sight.trust(&entry("a", false), NOW + seconds(7)), Trust::Full);
        assert_eq!(sight.trust(&entry("a", false), NOW + seconds(8)), Trust::Ended);
    }

    #[test]
    fn what_a_node_that_is_about_to_see_again_still_trusts_by_then_is_left_alone() {
        let (now, far) = (NOW + seconds(6), NOW + seconds(99));
        let sight = |sees_again| Sight {
            max_blind: MAX_BLIND,
            blind_from: far,
            blind_until: NOW + seconds(sees_again),
            is_cut_off: false,
        };
        assert_eq!(sight(7).trust(&entry("a", true), now), Trust::Full);
        assert_eq!(sight(7).trust(&entry("a", false), now), Trust::Ended);
        assert_eq!(sight(9).trust(&entry("a", true), NOW + Duration::from_millis(6001)), Trust::Ending);
        assert_eq!(sight(10).trust(&entry("a", true), NOW + Duration::from_millis(8001)), Trust::Ended);
        assert!(sight(5).is_clear(now) && !sight(7).is_clear(now));
    }

    #[test]
    fn blindness_is_weaker_than_a_purge_and_stronger_than_freshness() {
        let judge = |purged, trust, after| judge(&life(), purged, trust, NOW + seconds(after));
        assert_eq!(judge(Purged::No, Trust::Ending, 0), Verdict::Due);
        assert_eq!(judge(Purged::No, Trust::Ending, 10), Verdict::Stale(StaleReason::Ttl), "refreshed anyway");
        assert_eq!(judge(Purged::No, Trust::Ended, 0), Verdict::Expired(ExpiredReason::Blind));
        assert_eq!(judge(Purged::No, Trust::Ended, 10), Verdict::Expired(ExpiredReason::Blind));
        assert_eq!(judge(Purged::Hard, Trust::Ended, 0), Verdict::Expired(ExpiredReason::Purged));
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
