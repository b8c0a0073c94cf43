//! How long an answer is good (RFC 9111 §4.2), told once, when it is stored.

use std::time::Duration;

use http::{HeaderMap, HeaderName, StatusCode, header};

use super::cache_control::{CacheControl, SECONDS_MAX};
use super::entry::Lifetime;
use super::route::{Policy, Rule};
use super::time::Timestamp;

/// The longest lifetime that is guessed.
const HEURISTIC_MAX: Duration = Duration::from_secs(86_400);

/// When the request of an answer was sent, and when the answer came.
#[derive(Clone, Copy, Debug)]
pub struct Exchanged {
    /// The request was sent.
    pub asked: Timestamp,
    /// The answer came.
    pub answered: Timestamp,
}

/// The lifetime of an answer. A rule's TTL is multiplied by `stretch`, its jitter. It may be no time at all:
/// see [`Lifetime::is_useful`].
pub fn lifetime(
    rule: &Rule,
    status: StatusCode,
    headers: &HeaderMap,
    control: &CacheControl,
    at: Exchanged,
    stretch: f64,
) -> Lifetime {
    let now = at.answered;
    let stretched = |ttl: Duration| ttl.mul_f64(stretch.clamp(0.0, 2.0));
    let negative = matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE);
    let age = corrected_age(headers, at);
    let (ttl, swr, sie, age) = match rule.policy {
        // Our own clock: the rule counts from the moment the answer was made for us.
        Policy::Override if negative => (stretched(rule.negative_ttl), Duration::ZERO, Duration::ZERO, Duration::ZERO),
        Policy::Override => (stretched(rule.ttl), rule.swr, rule.sie, Duration::ZERO),
        Policy::Origin => {
            let ttl = explicit(headers, control, now).or_else(|| heuristic(rule, status, headers, control, now));
            let ttl = if control.no_cache { Duration::ZERO } else { ttl.unwrap_or_default() };
            let window = |own: Option<Duration>| own.filter(|_| !control.must_revalidate && !control.no_cache);
            // An answer that has a lifetime may be served for a while when the origin cannot be reached (§4.2.4).
            let unasked = if control.forbids_stale() || ttl.is_zero() { Duration::ZERO } else { rule.sie };
            let swr = window(control.stale_while_revalidate).unwrap_or_default();
            (ttl, swr, window(control.stale_if_error).unwrap_or(unasked), age)
        }
        Policy::Pass => (Duration::ZERO, Duration::ZERO, Duration::ZERO, age),
    };
    let fresh = ttl.saturating_sub(age);
    // Windows count from the end of freshness, also where that lies in the past.
    let over = age.saturating_sub(ttl);
    let born = Timestamp::from_millis(now.as_millis().saturating_sub(millis(age)));
    let fresh_until = now + fresh;
    Lifetime {
        born,
        fresh_until,
        swr_until: fresh_until + swr.saturating_sub(over),
        sie_until: fresh_until + sie.saturating_sub(over),
    }
}

/// Whether the origin itself says how long the answer is fresh.
pub fn is_explicit(headers: &HeaderMap, control: &CacheControl) -> bool {
    control.has_lifetime() || (!control.is_targeted && headers.contains_key(header::EXPIRES))
}

/// `s-maxage`, `max-age`, or `Expires` minus `Date` (RFC 9111 §4.2.1).
fn explicit(headers: &HeaderMap, control: &CacheControl, now: Timestamp) -> Option<Duration> {
    control.s_maxage.or(control.max_age).or_else(|| if control.is_targeted { None } else { expires(headers, now) })
}

/// A tenth of the time since it last changed, where the rule lets us guess (RFC 9111 §4.2.2).
fn heuristic(
    rule: &Rule,
    status: StatusCode,
    headers: &HeaderMap,
    control: &CacheControl,
    now: Timestamp,
) -> Option<Duration> {
    if !rule.trust.heuristics || !may_be_guessed(status, control) {
        return None;
    }
    let made = date(headers, header::DATE).unwrap_or(now);
    let unchanged = made.since(date(headers, header::LAST_MODIFIED)?);
    Some((unchanged / 10).min(HEURISTIC_MAX))
}

/// Whether an answer may have a lifetime that nobody has said: heuristically cacheable (RFC 9110 §15.1, but for 206, which
/// is never stored), or `public`.
pub fn may_be_guessed(status: StatusCode, control: &CacheControl) -> bool {
    control.public || matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// How old an answer was when it came: the larger of the apparent age and the corrected age value (RFC 9111 §4.2.3).
pub fn corrected_age(headers: &HeaderMap, at: Exchanged) -> Duration {
    let apparent = date(headers, header::DATE).map_or(Duration::ZERO, |made| at.answered.since(made));
    // A Date has whole seconds: what is below one is no age.
    let apparent = if apparent < Duration::from_secs(1) { Duration::ZERO } else { apparent };
    // It may have been made as soon as it was asked for, whether it says an age or none.
    apparent.max(age(headers) + at.answered.since(at.asked))
}

/// `Age`: of a list the first member counts, and what is no number is ignored (RFC 9111 §5.1). The number
/// before a parameter is taken: it can only make the answer older.
fn age(headers: &HeaderMap) -> Duration {
    let text = headers.get(header::AGE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let digits = text.split(',').next().unwrap_or("").split(';').next().unwrap_or("").trim();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Duration::ZERO;
    }
    Duration::from_secs(digits.parse::<u64>().unwrap_or(SECONDS_MAX).min(SECONDS_MAX))
}

/// `Expires` minus `Date` (RFC 9111 §4.2.1); a date that cannot be read, or two, is in the past (§5.3).
fn expires(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    if !headers.contains_key(header::EXPIRES) {
        return None;
    }
    let made = date(headers, header::DATE).unwrap_or(now);
    Some(date(headers, header::EXPIRES).map_or(Duration::ZERO, |expires| expires.since(made)))
}

/// A field's date in any of the three forms (RFC 9110 §5.6.7); `None` where it is no date or is given twice.
pub(super) fn date(headers: &HeaderMap, name: HeaderName) -> Option<Timestamp> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    super::date::parse(value.as_bytes())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::route::Trust;
    use crate::policy::route::tests::rule;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A date so many seconds from now.
    fn at(offset: i64) -> String {
        let millis = i64::try_from(NOW.as_millis()).unwrap() + offset * 1000;
        httpdate::fmt_http_date(Timestamp::from_millis(millis.unsigned_abs()).to_system_time())
    }

    fn map(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        headers
    }

    fn whole(rule: &Rule, status: u16, pairs: &[(&str, &str)], stretch: f64) -> Lifetime {
        let headers = map(pairs);
        let control = CacheControl::effective(&headers);
        let status = StatusCode::from_u16(status).unwrap();
        lifetime(rule, status, &headers, &control, Exchanged { asked: NOW, answered: NOW }, stretch)
    }

    /// Seconds of freshness from now, and of both windows after it.
    fn times(life: Lifetime) -> (u64, u64, u64) {
        (
            life.fresh_until.since(NOW).as_secs(),
            life.swr_until.since(life.fresh_until).as_secs(),
            life.sie_until.since(life.fresh_until).as_secs(),
        )
    }

    fn origin_rule() -> Rule {
        Rule { policy: Policy::Origin, sie: Duration::ZERO, ..rule() }
    }

    #[test]
    fn a_rule_overrides_with_jitter() {
        let of = |status, pairs: &[(&str, &str)], stretch| times(whole(&rule(), status, pairs, stretch));
        assert_eq!(of(200, &[("cache-control", "max-age=1")], 1.0), (120, 600, 3600));
        assert_eq!(of(200, &[], 1.1), (132, 600, 3600));
        assert_eq!(of(200, &[("age", "50")], 0.9), (108, 600, 3600));
        assert_eq!(of(404, &[], 1.0), (10, 0, 0));
    }

    #[test]
    fn the_origin_decides_where_the_rule_lets_it() {
        let of = |pairs: &[(&str, &str)]| times(whole(&origin_rule(), 200, pairs, 1.1));
        let none = (0, 0, 0);
        assert_eq!(of(&[]), none);
        assert_eq!(of(&[("cache-control", "s-maxage=9, max-age=5")]), (9, 0, 0));
        assert_eq!(of(&[("cache-control", "max-age=10"), ("age", "4")]), (6, 0, 0));
        assert_eq!(of(&[("cache-control", "max-age=10, no-cache")]), none);
        assert_eq!(of(&[("cache-control", "max-age=10, no-cache=\"a\"")]), (10, 0, 0));
        // A targeted lifetime counts alone (RFC 9213 §2.2): neither Cache-Control nor Expires beside it.
        assert_eq!(of(&[("cdn-cache-control", "max-age=9"), ("cache-control", "max-age=1")]), (9, 0, 0));
        assert_eq!(of(&[("cdn-cache-control", "foo"), ("expires", &at(9)), ("cache-control", "max-age=9")]), none);
        assert_eq!(of(&[("cdn-cache-control", "&"), ("cache-control", "max-age=1")]), (1, 0, 0));
    }

    #[test]
    fn windows_count_from_the_end_of_freshness() {
        let of = |control: &str, age: &str, sie| {
            let rule = Rule { sie: seconds(sie), ..origin_rule() };
            times(whole(&rule, 200, &[("cache-control", control), ("age", age)], 1.0))
        };
        assert_eq!(of("max-age=10, stale-while-revalidate=5", "12", 0), (0, 3, 0));
        assert_eq!(of("max-age=10, stale-if-error=5", "0", 99), (10, 0, 5), "the origin's own window wins");
        assert_eq!(of("max-age=10", "0", 99), (10, 0, 99));
        // §4.2.4: never, where the origin forbids it …
        assert_eq!(of("max-age=5, stale-if-error=7, must-revalidate", "0", 99), (5, 0, 0));
        assert_eq!(of("max-age=5, stale-while-revalidate=7, proxy-revalidate", "0", 99), (5, 0, 0));
        assert_eq!(of("max-age=5, stale-if-error=7, no-cache", "0", 99), (0, 0, 0));
        assert_eq!(of("s-maxage=5", "0", 99), (5, 0, 0));
        // … but a window in so many words beside s-maxage is its own wish.
        assert_eq!(of("s-maxage=5, stale-if-error=7", "0", 99), (5, 0, 7));
    }

    #[test]
    fn expires_counts_from_date() {
        let of = |pairs: &[(&str, &str)]| whole(&origin_rule(), 200, pairs, 1.0).fresh_until.since(NOW).as_secs();
        assert_eq!(of(&[("date", &at(0)), ("expires", &at(30))]), 30);
        assert_eq!(of(&[("expires", &at(30))]), 30);
        assert_eq!(of(&[("date", &at(-10)), ("expires", &at(30))]), 30, "40 s, of which 10 are over");
        assert_eq!(of(&[("date", &at(10)), ("expires", &at(5))]), 0, "both ahead: no time between them");
        assert_eq!(of(&[("date", "gestern"), ("expires", &at(30))]), 30);
        assert_eq!(of(&[("expires", &at(30)), ("expires", &at(30))]), 0, "two are none");
        assert_eq!(of(&[("expires", &at(30)), ("cache-control", "max-age=0")]), 0);
        assert_eq!(of(&[("expires", "0"), ("cache-control", "max-age=9")]), 9);
        // The obsolete forms are read (RFC 9110 §5.6.7), …
        assert_eq!(of(&[("expires", "Friday, 15-Jan-27 08:00:30 GMT")]), 30);
        assert_eq!(of(&[("expires", "Fri Jan 15 08:00:30 2027")]), 30);
        // … and nothing else is (§5.3).
        for odd in [
            "0",
            "-1",
            "",
            "now",
            "Fri, 15 Jan 2027 08:00:30 UTC",
            "Fri, 15 Jan 2027 08:00:30 +0100",
            "Fri 15 Jan 2027 08:00:30 GMT",
            "Fri, 15  Jan  2027 08:00:30 GMT",
            "Fri, 15-Jan-2027 08:00:30 GMT",
            "Fri, 15 Jan 27 08:00:30 GMT",
            "Fri, 15 Jan 2027 8:00:30 GMT",
            "Fri, 15 Jan 2027 08.00.30 GMT",
            "Fri, 99 Jan 2027 08:00:30 GMT",
            "Fri, 15 Jan 99999 08:00:30 GMT",
        ] {
            assert_eq!(of(&[("expires", odd)]), 0, "{odd}");
        }
        // The name of the day and the case of letters do not matter (§4.2).
        assert_eq!(of(&[("expires", "sun, 15 JAN 2027 08:00:30 gmt")]), 30);
        assert!(of(&[("expires", "Sun, 21 Nov 2286 04:46:39 GMT")]) > 1 << 32);
    }

    #[test]
    fn an_answer_is_as_old_as_it_says_or_as_its_date() {
        let age = |pairs: &[(&str, &str)]| NOW.since(whole(&origin_rule(), 200, pairs, 1.0).born).as_secs();
        for (said, expected) in [
            ("0", 0),
            ("7200", 7200),
            ("007200", 7200),
            (" 7200 ", 7200),
            // Too large is the largest (§1.2.2), here older than time itself.
            ("2147483649", NOW.as_secs()),
            ("99999999999999999999", NOW.as_secs()),
            // The first of a list (§5.1).
            ("7200, 0", 7200),
            ("0, 7200", 0),
            // What is no number is ignored (§5.1); the number before a parameter can only make it older.
            ("abc", 0),
            ("-7200", 0),
            ("7200.0", 0),
            ("", 0),
            ("7200;foo=bar", 7200),
            ("1e3", 0),
        ] {
            assert_eq!(age(&[("age", said)]), expected, "{said}");
        }
        assert_eq!(age(&[("age", "0"), ("age", "7200")]), 0);
        assert_eq!(age(&[("date", &at(-50))]), 50, "the apparent age (§4.2.3)");
        assert_eq!(age(&[("date", &at(-50)), ("age", "9")]), 50);
        assert_eq!(age(&[("date", &at(50)), ("age", "9")]), 9);
        assert_eq!(age(&[("date", "x"), ("age", "9")]), 9);
    }

    #[test]
    fn the_way_here_counts_as_age() {
        let at = Exchanged { asked: NOW, answered: NOW + seconds(3) };
        for (age, left) in [(Some("5"), 52), (Some("0"), 57), (Some("x"), 57), (None, 57)] {
            let mut headers = map(&[("cache-control", "max-age=60")]);
            headers.extend(age.map(|age| (header::AGE, age.parse().unwrap())));
            let control = CacheControl::effective(&headers);
            let life = lifetime(&origin_rule(), StatusCode::OK, &headers, &control, at, 1.0);
            assert_eq!(life.fresh_until.since(at.answered), seconds(left), "{age:?}");
        }
    }

    #[test]
    fn a_lifetime_is_guessed_only_where_the_rule_lets_us() {
        let trusting = Rule { trust: Trust { heuristics: true, ..Trust::default() }, ..origin_rule() };
        let of = |rule: &Rule, status, pairs: &[(&str, &str)]| {
            whole(rule, status, pairs, 1.0).fresh_until.since(NOW).as_secs()
        };
        let modified = at(-1000);
        let modified = ("last-modified", modified.as_str());
        assert_eq!(of(&origin_rule(), 200, &[modified]), 0);
        assert_eq!(of(&trusting, 200, &[modified]), 100);
        assert_eq!(of(&trusting, 200, &[]), 0);
        assert_eq!(of(&trusting, 200, &[modified, ("cache-control", "max-age=5")]), 5);
        assert_eq!(of(&trusting, 200, &[("last-modified", &at(-100_000_000))]), 86_400, "a day at the most");
        assert_eq!(of(&trusting, 200, &[("last-modified", &at(9))]), 0, "it has not changed yet");
        // Only the statuses of RFC 9110 §15.1, or an answer that says it is public.
        for status in [201, 202, 302, 403, 500, 502, 503, 504, 599] {
            assert_eq!(of(&trusting, status, &[modified]), 0, "{status}");
        }
        for status in [203, 204, 301, 404, 405, 410, 414, 501] {
            assert_eq!(of(&trusting, status, &[modified]), 100, "{status}");
        }
        assert_eq!(of(&trusting, 599, &[modified, ("cache-control", "public")]), 100);
    }

    proptest! {
        /// The older an answer says it is, the shorter it is fresh.
        #[test]
        fn freshness_falls_as_age_rises(max_age in 0_u64..10_000, age in 0_u64..10_000, more in 1_u64..1000) {
            let of = |age: u64| {
                let control = format!("max-age={max_age}");
                whole(&origin_rule(), 200, &[("cache-control", &control), ("age", &age.to_string())], 1.0).fresh_until
            };
            prop_assert!(of(age) >= of(age + more));
            prop_assert_eq!(of(age).since(NOW).as_secs(), max_age.saturating_sub(age));
        }

        #[test]
        fn no_field_panics(age in "[ -~]{0,20}", date in "[ -~]{0,32}", expires in "[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT") {
            whole(&origin_rule(), 200, &[("age", &age), ("date", &date), ("expires", &expires)], 1.0);
            whole(&origin_rule(), 200, &[("date", &expires), ("expires", &date)], 1.0);
        }
    }
}
