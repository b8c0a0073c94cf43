//! May this entry be served, and how? Judged at each read; timers and evictions only free memory.

use std::time::Duration;

use super::cache_control::CacheControl;
use super::entry::{Entry, Lifetime};
use super::purge::Purged;
use super::route::{Policy, Rule};
use super::time::Timestamp;
use http::{HeaderMap, StatusCode, header};

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

/// The lifetime of an answer that arrived `now` to a request sent at `asked`. A rule's TTL is multiplied
/// by `stretch`, its jitter. `None` when the rule gives it no time at all.
pub fn lifetime(
    rule: &Rule,
    status: StatusCode,
    headers: &HeaderMap,
    control: &CacheControl,
    asked: Timestamp,
    now: Timestamp,
    stretch: f64,
) -> Option<Lifetime> {
    let age = corrected_age(headers, asked, now);
    let negative = matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE);
    let (ttl, swr, sie, age) = match rule.policy {
        Policy::Pass => return None,
        // Our own clock: the rule counts from the moment the answer was made for us.
        Policy::Override if negative => (rule.negative_ttl, Duration::ZERO, Duration::ZERO, Duration::ZERO),
        Policy::Override => (rule.ttl, rule.swr, rule.sie, Duration::ZERO),
        Policy::Origin => {
            let ttl = control.s_maxage.or(control.max_age).or_else(|| expires(headers, now))?;
            // s-maxage carries proxy-revalidate, but an explicit window beside it is the origin's own wish.
            let window = |own: Option<Duration>| if control.must_revalidate { None } else { own };
            let swr = window(control.stale_while_revalidate).unwrap_or_default();
            let sie = window(control.stale_if_error).unwrap_or_default();
            (ttl, swr, sie, age)
        }
    };
    let ttl = if rule.policy == Policy::Override { ttl.mul_f64(stretch.clamp(0.0, 2.0)) } else { ttl };
    let fresh = ttl.saturating_sub(age);
    if fresh.is_zero() && swr.is_zero() && sie.is_zero() {
        return None;
    }
    // Windows count from the end of freshness, also where that lies in the past.
    let over = age.saturating_sub(ttl);
    let born = Timestamp::from_millis(now.as_millis().saturating_sub(millis(age)));
    let fresh_until = now + fresh;
    Some(Lifetime {
        born,
        fresh_until,
        swr_until: fresh_until + swr.saturating_sub(over),
        sie_until: fresh_until + sie.saturating_sub(over),
    })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// RFC 9111 §4.2.3: the larger of the apparent age and the corrected age value.
fn corrected_age(headers: &HeaderMap, asked: Timestamp, now: Timestamp) -> Duration {
    let apparent = date(headers, header::DATE).map_or(Duration::ZERO, |made| now.since(made));
    let said = headers
        .get(header::AGE)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.split(',').next()?.trim().parse::<u32>().ok())
        .map_or(Duration::ZERO, |seconds| Duration::from_secs(seconds.into()));
    // A Date has whole seconds: what is below one is no age.
    let apparent = if apparent < Duration::from_secs(1) { Duration::ZERO } else { apparent };
    apparent.max(said + if said.is_zero() { Duration::ZERO } else { now.since(asked) })
}

/// `Expires` minus `Date` (RFC 9111 §4.2.1); a date that cannot be read is in the past (§5.3).
fn expires(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    if !headers.contains_key(header::EXPIRES) {
        return None;
    }
    let made = date(headers, header::DATE).unwrap_or(now);
    Some(date(headers, header::EXPIRES).map_or(Duration::ZERO, |expires| expires.since(made)))
}

fn date(headers: &HeaderMap, name: http::HeaderName) -> Option<Timestamp> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    let parsed = httpdate::parse_http_date(value.to_str().ok()?).ok()?;
    let since = parsed.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Timestamp::from_millis(millis(since)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::route::tests::rule;

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

    fn lifetime_of(policy: Policy, status: u16, pairs: &[(&str, &str)], stretch: f64) -> Option<(u64, u64, u64)> {
        let mut rule = rule();
        rule.policy = policy;
        let headers: HeaderMap = pairs
            .iter()
            .map(|(name, value)| (name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap()))
            .collect();
        let control = CacheControl::parse(&headers);
        let status = StatusCode::from_u16(status).unwrap();
        lifetime(&rule, status, &headers, &control, NOW, NOW, stretch).map(|life| {
            (
                life.fresh_until.since(NOW).as_secs(),
                life.swr_until.since(life.fresh_until).as_secs(),
                life.sie_until.since(life.fresh_until).as_secs(),
            )
        })
    }

    #[test]
    fn a_rule_overrides_with_jitter() {
        assert_eq!(lifetime_of(Policy::Override, 200, &[("cache-control", "max-age=1")], 1.0), Some((120, 600, 3600)));
        assert_eq!(lifetime_of(Policy::Override, 200, &[], 1.1), Some((132, 600, 3600)));
        assert_eq!(lifetime_of(Policy::Override, 200, &[], 0.9), Some((108, 600, 3600)));
        assert_eq!(lifetime_of(Policy::Override, 404, &[], 1.0), Some((10, 0, 0)));
    }

    #[test]
    fn the_origin_decides_where_the_rule_lets_it() {
        let of = |pairs: &[(&str, &str)]| lifetime_of(Policy::Origin, 200, pairs, 1.0);
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("cache-control", "s-maxage=9, max-age=5")]), Some((9, 0, 0)));
        assert_eq!(of(&[("cache-control", "max-age=10"), ("age", "4")]), Some((6, 0, 0)));
        assert_eq!(of(&[("cache-control", "max-age=10, stale-while-revalidate=5"), ("age", "12")]), Some((0, 3, 0)));
        assert_eq!(of(&[("cache-control", "max-age=5, stale-if-error=7, must-revalidate")]), Some((5, 0, 0)));
        assert_eq!(of(&[("expires", "0")]), None);
        let date = |secs| httpdate::fmt_http_date((NOW + seconds(secs)).to_system_time());
        assert_eq!(of(&[("date", &date(0)), ("expires", &date(30))]), Some((30, 0, 0)));
    }
}
