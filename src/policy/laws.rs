//! Laws of caching, held against answers and requests of all kinds. The oracle in here is RFC 9111 said once more,
//! as plainly as it can be, of facts that have not been through any header.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use proptest::option::of;
use proptest::prelude::*;

use super::cache_control::CacheControl;
use super::conditional::{self, Forms, Stored};
use super::entry::Lifetime;
use super::freshness::{self, Trust, Verdict};
use super::key::Key;
use super::lifetime::{self, Exchanged};
use super::purge::Purged;
use super::route::tests::rule;
use super::route::{Patterns, Policy, Rule};
use super::storable::{self, Admission};
use super::time::Timestamp;
use super::{exchange, invalidation, variant};

mod selection;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
/// What the rule lets be served when the origin fails, where the origin says nothing of it.
const UNASKED_SECS: u64 = 20;

fn by_the_book() -> Rule {
    let sie = Duration::from_secs(UNASKED_SECS);
    Rule { policy: Policy::Origin, forward: Patterns::new(["*"]), content_type: None, sie, ..rule() }
}

/// What an answer says, as facts.
#[derive(Clone, Debug)]
struct Says {
    status: u16,
    s_maxage: Option<u64>,
    max_age: Option<u64>,
    /// Seconds after its Date.
    expires: Option<u64>,
    age: u64,
    /// Seconds that the answer was on its way.
    delay: u64,
    swr: Option<u64>,
    sie: Option<u64>,
    no_store: bool,
    private: bool,
    no_cache: bool,
    public: bool,
    must_revalidate: bool,
    must_understand: bool,
    /// The request had a login.
    authorized: bool,
}

fn says() -> impl Strategy<Value = Says> {
    let seconds = || of(0_u64..60);
    let rarely = || proptest::bool::weighted(0.15);
    (
        (prop::sample::select(vec![200, 204, 299, 404, 500, 599]), 0_u64..40, 0_u64..5),
        (seconds(), seconds(), seconds(), of(0_u64..30), of(0_u64..30)),
        (rarely(), rarely(), rarely(), any::<bool>(), rarely(), rarely(), rarely()),
    )
        .prop_map(|((status, said_age, delay), (s_maxage, max_age, expires, swr, sie), flags)| {
            let (no_store, private, no_cache, public, must_revalidate, must_understand, authorized) = flags;
            Says {
                status,
                s_maxage,
                max_age,
                expires,
                age: said_age,
                delay,
                swr,
                sie,
                no_store,
                private,
                no_cache,
                public,
                must_revalidate,
                must_understand,
                authorized,
            }
        })
}

impl Says {
    /// The same in words, from the `turn`th directive on.
    fn headers(&self, turn: usize) -> HeaderMap {
        let flag = |name: &str, is_said: bool| is_said.then(|| name.to_owned());
        let time = |name: &str, seconds: Option<u64>| seconds.map(|seconds| format!("{name}={seconds}"));
        let mut directives: Vec<String> = [
            flag("no-store", self.no_store),
            time("s-maxage", self.s_maxage),
            flag("Private", self.private),
            time("Max-Age", self.max_age),
            flag("no-cache", self.no_cache),
            time("stale-while-revalidate", self.swr),
            flag("public", self.public),
            time("stale-if-error", self.sie),
            flag("must-revalidate", self.must_revalidate),
            flag("must-understand", self.must_understand),
        ]
        .into_iter()
        .flatten()
        .collect();
        let turn = turn % directives.len().max(1);
        directives.rotate_left(turn);
        let date = |at: Timestamp| httpdate::fmt_http_date(at.to_system_time()).parse::<HeaderValue>().unwrap();
        let mut headers = HeaderMap::from_iter([(header::DATE, date(NOW)), (header::AGE, self.age.into())]);
        if let Some(after) = self.expires {
            headers.insert(header::EXPIRES, date(NOW + Duration::from_secs(after)));
        }
        // In two lines: they are one list.
        let (first, second) = directives.split_at(directives.len() / 2);
        for line in [first, second] {
            headers.append(header::CACHE_CONTROL, line.join(", ").parse().unwrap());
        }
        headers
    }

    /// RFC 9111 §3, for a shared cache that stores errors for nobody and understands what has a name.
    fn may_be_stored(&self) -> bool {
        let is_understood = ![299, 599].contains(&self.status);
        let says_how_long = [self.s_maxage, self.max_age, self.expires].iter().any(Option::is_some);
        // Of these statuses those of RFC 9110 §15.1.
        let has_leave = says_how_long || self.public || [200, 204, 404].contains(&self.status);
        let may_see_login = self.public || self.must_revalidate || self.s_maxage.is_some();
        self.status < 500
            && has_leave
            && !self.private
            && (!self.must_understand || is_understood)
            && (!self.no_store || self.must_understand)
            && (!self.authorized || may_see_login)
    }

    /// §4.2.1.
    fn lifetime(&self) -> u64 {
        self.s_maxage.or(self.max_age).or(self.expires).unwrap_or(0)
    }

    /// §4.2.3, of an answer whose Date is when it came.
    fn came_aged(&self) -> u64 {
        self.age + self.delay
    }

    /// §4.2, §5.2.2.4: so many seconds after it came.
    fn is_fresh(&self, after: u64) -> bool {
        !self.no_cache && self.lifetime() > self.came_aged() + after
    }

    /// Whether it may be served stale within a window (RFC 5861, RFC 9111 §4.2.4).
    fn is_within(&self, window: u64, after: u64) -> bool {
        let lifetime = if self.no_cache { 0 } else { self.lifetime() };
        !self.must_revalidate && !self.no_cache && lifetime + window > self.came_aged() + after
    }

    fn may_serve_error(&self, after: u64) -> bool {
        let unasked = if self.s_maxage.is_some() || self.lifetime() == 0 { 0 } else { UNASKED_SECS };
        self.is_fresh(after)
            || self.swr.is_some_and(|window| self.is_within(window, after))
            || self.is_within(self.sie.unwrap_or(unasked), after)
    }

    /// What we make of the words.
    fn judged(&self, turn: usize) -> (bool, Lifetime) {
        let (rule, headers) = (by_the_book(), self.headers(turn));
        let control = CacheControl::effective(&headers);
        let status = StatusCode::from_u16(self.status).unwrap();
        let mut sent = HeaderMap::new();
        if self.authorized {
            sent.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer x"));
        }
        let at = Exchanged { asked: NOW.before(Duration::from_secs(self.delay)), answered: NOW };
        let is_stored = storable::admit(&rule, &sent, status, &headers, &control) == Admission::Store;
        (is_stored, lifetime::lifetime(&rule, status, &headers, &control, at, 1.0))
    }
}

/// The words of a Cache-Control.
fn print(control: &CacheControl) -> String {
    let flags = [
        ("no-store", control.no_store),
        ("private", control.private),
        ("no-cache", control.no_cache),
        ("must-revalidate", control.must_revalidate),
        ("must-understand", control.must_understand),
        ("no-transform", control.no_transform),
        ("public", control.public),
    ];
    let times = [
        ("max-age", control.max_age),
        ("s-maxage", control.s_maxage),
        ("stale-while-revalidate", control.stale_while_revalidate),
        ("stale-if-error", control.stale_if_error),
    ];
    let flags = flags.into_iter().filter(|(_, is_said)| *is_said).map(|(name, _)| name.to_owned());
    let times = times.into_iter().filter_map(|(name, time)| Some(format!("{name}={}", time?.as_secs())));
    let names: Vec<&str> = control.no_cache_fields.iter().map(HeaderName::as_str).collect();
    let fields = (!names.is_empty()).then(|| format!("no-cache=\"{}\"", names.join(", ")));
    flags.chain(times).chain(fields).collect::<Vec<_>>().join(", ")
}

fn control() -> impl Strategy<Value = CacheControl> {
    let time = || of((0_u64..=1 << 31).prop_map(Duration::from_secs));
    let fields = proptest::collection::vec("x-[a-z]{1,4}".prop_map(|name| name.parse().unwrap()), 0..3);
    (any::<[bool; 7]>(), (time(), time(), time(), time()), fields).prop_map(|(flags, times, no_cache_fields)| {
        let [no_store, private, no_cache, must_revalidate, must_understand, no_transform, public] = flags;
        let (max_age, s_maxage, stale_while_revalidate, stale_if_error) = times;
        CacheControl {
            no_store,
            private,
            no_cache,
            no_cache_fields,
            must_revalidate,
            must_understand,
            no_transform,
            public,
            max_age,
            s_maxage,
            stale_while_revalidate,
            stale_if_error,
            is_targeted: false,
        }
    })
}

/// Better is less.
fn rank(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Fresh | Verdict::Due => 0,
        Verdict::Stale(_) => 1,
        Verdict::Expired(_) => 2,
    }
}

fn judge(life: &Lifetime, after: u64) -> Verdict {
    freshness::judge(life, Purged::No, Trust::Full, NOW + Duration::from_secs(after))
}

/// What is wanted, and how much, in thousandths.
type Wish = (String, u16);
type Wishes = Vec<Wish>;

fn wishes() -> impl Strategy<Value = Wishes> {
    proptest::collection::vec(("[a-c*]", prop::sample::select(vec![0, 1, 9, 10, 100, 900, 1000])), 0..4)
}

fn say(wishes: &Wishes) -> String {
    let say = |(name, weight): &Wish| match weight {
        1000 => name.clone(),
        weight => format!("{name};q=0.{weight:03}"),
    };
    wishes.iter().map(say).collect::<Vec<_>>().join(", ")
}

/// Whether two requests with these values of two fields select the same variant.
fn is_shared(
    rule: &Rule,
    names: &[HeaderName; 2],
    a: &(Option<String>, Option<String>),
    b: &(Option<String>, Option<String>),
) -> bool {
    let request = |(first, second): &(Option<String>, Option<String>)| -> HeaderMap {
        let sent = names.iter().cloned().zip([first, second]);
        sent.filter_map(|(name, value)| Some((name, value.as_ref()?.parse().unwrap()))).collect()
    };
    let key = Key::of_request(rule, "/store/products", None, "", &HeaderMap::new()).unwrap();
    key.variant(rule, names, &request(a)).text() == key.variant(rule, names, &request(b)).text()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// What is stored and served is what the RFC allows, no more and no less, in whatever order it is said.
    #[test]
    fn what_is_served_is_what_the_rfc_allows(says in says(), turn in 0_usize..10, after in 0_u64..90) {
        let (is_stored, life) = says.judged(turn);
        prop_assert_eq!(is_stored, says.may_be_stored());
        let now = NOW + Duration::from_secs(after);
        let expected = if says.is_fresh(after) {
            0
        } else if says.swr.is_some_and(|window| says.is_within(window, after)) {
            1
        } else {
            2
        };
        prop_assert_eq!(rank(judge(&life, after)), expected);
        prop_assert_eq!(freshness::usable_on_error(&life, Purged::No, now), says.may_serve_error(after));
    }

    /// An answer only ever gets worse: with time, and with the age that it came with.
    #[test]
    fn nothing_grows_fresher(says in says(), after in 0_u64..90, more in 0_u64..90) {
        let (_, life) = says.judged(0);
        let (_, older) = Says { age: says.age + more, ..says }.judged(0);
        let now = rank(judge(&life, after));
        prop_assert!(rank(judge(&life, after + more)) >= now);
        prop_assert!(rank(judge(&older, after)) >= now);
        prop_assert!(older.born <= life.born && older.ends() <= life.ends());
    }

    #[test]
    fn what_is_printed_is_read(control in control()) {
        let headers = HeaderMap::from_iter([(header::CACHE_CONTROL, print(&control).parse().unwrap())]);
        prop_assert_eq!(CacheControl::parse(&headers), control);
    }

    /// Two requests share a variant only if they said the same in every field that selects.
    #[test]
    fn different_requests_never_share_a_variant(
        a in (of("[ab, ]{0,5}"), of("[ab, ]{0,5}")), b in (of("[ab, ]{0,5}"), of("[ab, ]{0,5}")),
    ) {
        let names = [HeaderName::from_static("bar"), HeaderName::from_static("foo")];
        let members = |value: &Option<String>| -> Option<Vec<String>> {
            value.as_ref().map(|value| value.split(',').map(|member| member.trim().to_owned()).collect())
        };
        let is_same = members(&a.0) == members(&b.0) && members(&a.1) == members(&b.1);
        prop_assert_eq!(is_shared(&rule(), &names, &a, &b), is_same);
    }

    /// Of languages and codings too: each wanted as much by both. In what order they said it is all that may differ,
    /// and of languages not even that, where they are wanted alike and the rule does not say so.
    #[test]
    fn different_wishes_never_share_a_variant(
        a in (of(wishes()), of(wishes())), b in (of(wishes()), of(wishes())), normalize_languages in any::<bool>(),
    ) {
        let names = [header::ACCEPT_ENCODING, header::ACCEPT_LANGUAGE];
        let said = |(coding, language): &(Option<Wishes>, Option<Wishes>)| (coding.as_ref().map(say), language.as_ref().map(say));
        let as_much = |wishes: &Option<Wishes>| -> Option<BTreeSet<Wish>> {
            wishes.as_ref().map(|wishes| wishes.iter().cloned().collect())
        };
        // For each weight the names in the order in which each was said first.
        let in_order = |wishes: &Option<Wishes>| -> BTreeMap<u16, Vec<String>> {
            let mut order: BTreeMap<u16, Vec<String>> = BTreeMap::new();
            for (name, weight) in wishes.iter().flatten() {
                let names = order.entry(*weight).or_default();
                if !names.contains(name) {
                    names.push(name.clone());
                }
            }
            order
        };
        let is_same = as_much(&a.0) == as_much(&b.0)
            && as_much(&a.1) == as_much(&b.1)
            && (normalize_languages || in_order(&a.1) == in_order(&b.1));
        let rule = Rule { normalize_languages, ..rule() };
        prop_assert_eq!(is_shared(&rule, &names, &said(&a), &said(&b)), is_same, "{:?} {:?}", said(&a), said(&b));
    }

    /// No bytes in any field panic, in whatever decides about an answer or a request.
    #[test]
    fn no_bytes_panic(
        values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 16),
        status in 200_u16..600,
    ) {
        let names = [
            "cache-control", "cdn-cache-control", "age", "date", "expires", "last-modified", "etag", "vary", "location",
            "if-none-match", "if-modified-since", "if-range", "range", "accept-language", "accept-encoding", "connection",
        ];
        let mut headers = HeaderMap::new();
        for (name, value) in names.into_iter().zip(&values) {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                headers.append(name, value);
            }
        }
        let (rule, status) = (by_the_book(), StatusCode::from_u16(status).unwrap());
        for control in [CacheControl::effective(&headers), CacheControl::strictest(&headers)] {
            storable::admit(&rule, &headers, status, &headers, &control);
            let life = lifetime::lifetime(&rule, status, &headers, &control, Exchanged { asked: NOW, answered: NOW }, 1.1);
            prop_assert!(life.swr_until >= life.fresh_until && life.sie_until >= life.fresh_until);
        }
        let stored = Stored { status: StatusCode::OK, headers: &headers, length: 10 };
        conditional::select(&headers, true, stored, Forms::PLAIN);
        invalidation::invalidated("/a", &["shop.example"], StatusCode::OK, &headers);
        exchange::renewed_headers(&rule, &headers, &headers);
        exchange::forwarded(&rule, &headers);
        for name in headers.keys() {
            variant::normal_value(&rule, name, &headers);
        }
        if let Ok(names) = storable::selecting(&rule, &headers) {
            prop_assert!(names.len() <= 8);
        }
    }
}
