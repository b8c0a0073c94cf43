//! May this answer be stored, and shared with those who wait for it?

use http::{HeaderMap, HeaderName, StatusCode, header};

use super::cache_control::CacheControl;
use super::route::{Policy, Rule};
use super::{encoding, exchange, lifetime};

/// Fields that an answer may vary by beside those of the key; beyond it nobody else would ever find it.
const SELECTING_MAX: usize = 8;

/// Why an answer may not be shared: each waiter asks the origin for itself, and a pass marker lets the
/// next ones go side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unshareable {
    /// It sets a cookie.
    SetCookie,
    /// `Cache-Control: private`.
    Private,
    /// `Cache-Control: no-store`.
    NoStore,
    /// `Cache-Control: no-cache`, on a route whose rule decides: it would have to be asked for each time anyway.
    NoCache,
    /// The fill told the origin more of its client than the key holds, and the answer may not be used again.
    NotFresh,
    /// `Vary: *`, or by more fields than variants are kept apart by.
    VaryStar,
    /// It varies by a header that is not in the key.
    Vary,
    /// It answers a request with `Authorization` and does not say that others may have it.
    Authorization,
    /// It came with a `Content-Encoding` that was not asked for.
    Encoding,
    /// It is larger than the largest stored object.
    TooLarge,
    /// Fills hold as many bytes as they may already.
    InFlight,
    /// Its end is that of the connection, so nobody can say whether it is whole.
    Unframed,
}

impl Unshareable {
    /// All reasons, for the metrics.
    pub const ALL: [Self; 12] = [
        Self::SetCookie,
        Self::Private,
        Self::NoStore,
        Self::NoCache,
        Self::NotFresh,
        Self::VaryStar,
        Self::Vary,
        Self::Authorization,
        Self::Encoding,
        Self::TooLarge,
        Self::InFlight,
        Self::Unframed,
    ];

    /// The word for logs, labels and headers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SetCookie => "set_cookie",
            Self::Private => "response_private",
            Self::NoStore => "response_no_store",
            Self::NoCache => "response_no_cache",
            Self::NotFresh => "response_not_fresh",
            Self::VaryStar => "vary_star",
            Self::Vary => "vary",
            Self::Authorization => "authorization",
            Self::Encoding => "content_encoding",
            Self::TooLarge => "too_large",
            Self::InFlight => "in_flight",
            Self::Unframed => "unframed",
        }
    }
}

/// What is to be done with an answer whose head is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Store it, if its lifetime allows.
    Store,
    /// Share it with those who wait now, store it for nobody: errors, and what the route does not expect.
    ShareOnce(ShareOnce),
    /// It belongs to the one who asked.
    Own(Unshareable),
}

/// Why an answer is shared once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareOnce {
    /// A status that is not stored: an error, a redirect that may change, a refusal.
    Status,
    /// A media type that is not the route's.
    ContentType,
    /// The rule or the origin gives it no lifetime.
    NoLifetime,
    /// Its body cannot be read as JSON, so it cannot be known which purges concern it.
    Untaggable,
}

impl ShareOnce {
    /// All reasons, for the metrics.
    pub const ALL: [Self; 4] = [Self::Status, Self::ContentType, Self::NoLifetime, Self::Untaggable];

    /// The word for logs, labels and headers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::ContentType => "content_type",
            Self::NoLifetime => "no_lifetime",
            Self::Untaggable => "untaggable",
        }
    }
}

/// Judges the head of a fill's answer to a request that sent `forwarded` beside its key. Sharing with the
/// waiters is safe by the key, so only an answer that says it is somebody's own keeps them apart.
pub fn admit(
    rule: &Rule,
    forwarded: &HeaderMap,
    status: StatusCode,
    headers: &HeaderMap,
    control: &CacheControl,
) -> Admission {
    let is_by_the_book = rule.policy == Policy::Origin;
    if headers.contains_key(header::SET_COOKIE) && !(is_by_the_book && rule.trust.cookies) {
        return Admission::Own(Unshareable::SetCookie);
    }
    if control.private {
        return Admission::Own(Unshareable::Private);
    }
    // RFC 9111 §5.2.2.3: who understands the status may leave no-store aside, who does not may not store.
    let must_store = is_by_the_book && control.must_understand && is_understood(status);
    if control.no_store && !must_store {
        return Admission::Own(Unshareable::NoStore);
    }
    if control.no_cache && !is_by_the_book {
        return Admission::Own(Unshareable::NoCache);
    }
    if forwarded.contains_key(header::AUTHORIZATION) && !control.allows_authorized() {
        return Admission::Own(Unshareable::Authorization);
    }
    if let Err(reason) = selecting(rule, headers) {
        return Admission::Own(reason);
    }
    if !encoding::is_plain(headers) && !rule.forward.contains(header::ACCEPT_ENCODING.as_str()) {
        return Admission::Own(Unshareable::Encoding);
    }
    let is_stored = match status {
        StatusCode::OK | StatusCode::MOVED_PERMANENTLY | StatusCode::PERMANENT_REDIRECT => true,
        // A part is no answer to another request, and the others are about a request of ours.
        StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED | StatusCode::RANGE_NOT_SATISFIABLE => false,
        StatusCode::NOT_FOUND | StatusCode::GONE => is_by_the_book || !rule.negative_ttl.is_zero(),
        _ if control.must_understand && !is_understood(status) => false,
        status if status.is_success() || status.is_redirection() => is_by_the_book,
        _ => is_by_the_book && rule.trust.errors,
    };
    if !is_stored {
        return Admission::ShareOnce(ShareOnce::Status);
    }
    let expected = rule.content_type.as_deref().is_none_or(|expected| {
        let said = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        said.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case(expected)
    });
    match expected {
        false => Admission::ShareOnce(ShareOnce::ContentType),
        true if is_by_the_book && !has_leave(status, headers, control) => Admission::ShareOnce(ShareOnce::NoLifetime),
        true => Admission::Store,
    }
}

/// Whether an answer may be stored at all (RFC 9111 §3): it says how long it is good, were it not at all, or nobody needs
/// to say so of its status.
fn has_leave(status: StatusCode, headers: &HeaderMap, control: &CacheControl) -> bool {
    let is_explicit = control.max_age.is_some() || control.s_maxage.is_some();
    let expires = !control.is_targeted && headers.contains_key(header::EXPIRES);
    is_explicit || expires || lifetime::may_be_guessed(status, control)
}

/// Why those who waited may not have an answer that is stored or shared all the same: what must be asked about before
/// each use is for nobody but who asked. By the book so is what no later request could be given as it is (RFC 9111 §4),
/// where the fill told the origin more than the key holds: nothing says then that the answer is not by that.
pub fn alone(rule: &Rule, forwarded: &HeaderMap, control: &CacheControl, is_reusable: bool) -> Option<Unshareable> {
    if control.no_cache {
        return Some(Unshareable::NoCache);
    }
    let told_more = rule.policy == Policy::Origin && !forwarded.is_empty();
    (told_more && !is_reusable).then_some(Unshareable::NotFresh)
}

/// The statuses of RFC 9110 §15 whose caching we know: all final ones but 206 and 304.
fn is_understood(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200..=205 | 300..=303 | 305 | 307 | 308 | 400..=417 | 421 | 422 | 426 | 500..=505)
}

/// The request fields that select among an answer's variants: what `Vary` names and the key does not hold.
///
/// # Errors
/// Why no other request may be given the answer: it varies by something that the fill did not send, by too
/// many things, or by what no field tells (`*`).
pub fn selecting(rule: &Rule, headers: &HeaderMap) -> Result<Vec<HeaderName>, Unshareable> {
    let mut names = Vec::new();
    for value in headers.get_all(header::VARY) {
        for name in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            match name {
                b"" => continue,
                b"*" => return Err(Unshareable::VaryStar),
                _ => {}
            }
            let name = HeaderName::from_bytes(name).map_err(|_| Unshareable::Vary)?;
            let is_forwarded = exchange::is_forwarded(rule, &name);
            let is_in_key = rule.headers.iter().any(|header| header.name == name)
                || (name == header::ORIGIN && rule.cors.is_some())
                // Without the client's own word the fill always asks for the plain form.
                || (name == header::ACCEPT_ENCODING && !is_forwarded);
            match (is_in_key, is_forwarded) {
                (true, _) => {}
                (false, true) => names.push(name),
                (false, false) => return Err(Unshareable::Vary),
            }
        }
    }
    names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    names.dedup();
    if names.len() > SELECTING_MAX { Err(Unshareable::VaryStar) } else { Ok(names) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::route::tests::rule;
    use crate::policy::route::{Patterns, Trust};

    fn admit_by(rule: &Rule, sent: &[(&str, &str)], status: u16, pairs: &[(&str, &str)]) -> Admission {
        let map = |pairs: &[(&str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
            }
            headers
        };
        let mut headers = map(pairs);
        headers.entry(header::CONTENT_TYPE).or_insert("application/json; charset=utf-8".parse().unwrap());
        let control = match rule.policy {
            Policy::Origin => CacheControl::effective(&headers),
            Policy::Override | Policy::Pass => CacheControl::strictest(&headers),
        };
        super::admit(rule, &map(sent), StatusCode::from_u16(status).unwrap(), &headers, &control)
    }

    fn admit(status: u16, pairs: &[(&str, &str)]) -> Admission {
        admit_by(&rule(), &[], status, pairs)
    }

    fn by_the_book() -> Rule {
        Rule { policy: Policy::Origin, forward: Patterns::new(["*"]), ..rule() }
    }

    #[test]
    fn what_belongs_to_one_is_not_shared_whatever_its_status() {
        for status in [200, 404, 500] {
            assert_eq!(admit(status, &[("set-cookie", "a=b")]), Admission::Own(Unshareable::SetCookie));
        }
        assert_eq!(admit(200, &[("cache-control", "private")]), Admission::Own(Unshareable::Private));
        assert_eq!(admit(200, &[("cache-control", "max-age=9, no-store")]), Admission::Own(Unshareable::NoStore));
        assert_eq!(admit(200, &[("cache-control", "no-cache")]), Admission::Own(Unshareable::NoCache));
        assert_eq!(admit(200, &[("content-encoding", "gzip")]), Admission::Own(Unshareable::Encoding));
    }

    #[test]
    fn it_may_vary_only_by_what_the_key_holds() {
        assert_eq!(admit(200, &[("vary", "Origin, Accept-Encoding, X-Medusa-Locale")]), Admission::Store);
        assert_eq!(admit(200, &[("vary", "*")]), Admission::Own(Unshareable::VaryStar));
        assert_eq!(admit(200, &[("vary", "Origin, *")]), Admission::Own(Unshareable::VaryStar));
        assert_eq!(admit(200, &[("vary", "Accept-Language")]), Admission::Own(Unshareable::Vary));
        assert_eq!(admit(200, &[("vary", "a b")]), Admission::Own(Unshareable::Vary));
    }

    #[test]
    fn by_the_book_it_may_vary_by_what_the_fill_sent() {
        let selecting = |rule: &Rule, lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::VARY, line.parse().unwrap());
            }
            super::selecting(rule, &headers).map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let rule = by_the_book();
        assert_eq!(selecting(&rule, &["Foo, bar", "BAR,, X-Medusa-Locale"]), Ok(vec!["bar".into(), "foo".into()]));
        assert_eq!(selecting(&rule, &["Accept-Encoding"]), Ok(vec!["accept-encoding".into()]));
        let one = Rule { forward: Patterns::new(["foo"]), ..by_the_book() };
        assert_eq!(selecting(&one, &["foo, accept-encoding"]), Ok(vec!["foo".into()]));
        assert_eq!(selecting(&one, &["foo, bar"]), Err(Unshareable::Vary));
        for star in [&["*"][..], &["*, *"], &["*", "*"], &[", *"], &["", "*"], &["*, Foo"], &["Foo, *"], &["Foo", "*"]]
        {
            assert_eq!(selecting(&rule, star), Err(Unshareable::VaryStar), "{star:?}");
        }
        assert_eq!(selecting(&rule, &["a,b,c,d,e,f,g,h,i"]), Err(Unshareable::VaryStar), "more than eight");
        assert_eq!(selecting(&rule, &["x-forwarded-proto"]), Err(Unshareable::Vary), "a fill never sends it");
        assert_eq!(selecting(&rule, &["a b"]), Err(Unshareable::Vary));
    }

    #[test]
    fn by_the_book_statuses_are_stored_for_as_long_as_they_say() {
        let rule = by_the_book();
        let says = ("cache-control", "max-age=9");
        let trusting = Rule { trust: Trust { errors: true, ..Trust::default() }, ..by_the_book() };
        for status in [200, 203, 204, 299, 301, 302, 303, 307, 308, 404, 410] {
            assert_eq!(admit_by(&rule, &[], status, &[says]), Admission::Store, "{status}");
        }
        for status in [400, 401, 403, 405, 429, 499, 500, 503, 599] {
            assert_eq!(admit_by(&rule, &[], status, &[]), Admission::ShareOnce(ShareOnce::Status), "{status}");
            assert_eq!(admit_by(&trusting, &[], status, &[says]), Admission::Store, "{status}");
        }
        for status in [206, 304, 416] {
            assert_eq!(admit_by(&trusting, &[], status, &[]), Admission::ShareOnce(ShareOnce::Status), "{status}");
        }
    }

    #[test]
    fn by_the_book_a_status_that_must_be_understood_is() {
        let trusting = Rule { trust: Trust { errors: true, ..Trust::default() }, ..by_the_book() };
        let of = |status, control| admit_by(&trusting, &[], status, &[("cache-control", control)]);
        let not_stored = Admission::ShareOnce(ShareOnce::Status);
        assert_eq!(of(200, "must-understand, no-store, max-age=9"), Admission::Store);
        assert_eq!(of(599, "must-understand, max-age=9"), not_stored);
        assert_eq!(of(299, "must-understand, max-age=9"), not_stored);
        assert_eq!(of(599, "must-understand, no-store"), Admission::Own(Unshareable::NoStore));
        // An override never widens.
        let control = [("cache-control", "must-understand, no-store")];
        assert_eq!(admit(200, &control), Admission::Own(Unshareable::NoStore));
    }

    #[test]
    fn by_the_book_no_cache_is_stored_to_be_asked_about() {
        assert_eq!(admit_by(&by_the_book(), &[], 200, &[("cache-control", "no-cache")]), Admission::Store);
    }

    #[test]
    fn a_cookie_is_stored_only_where_the_route_trusts_the_origin() {
        let trusting = Rule { trust: Trust { cookies: true, ..Trust::default() }, ..by_the_book() };
        let cookie = [("set-cookie", "a=b")];
        assert_eq!(admit_by(&by_the_book(), &[], 200, &cookie), Admission::Own(Unshareable::SetCookie));
        assert_eq!(admit_by(&trusting, &[], 200, &cookie), Admission::Store);
        let overriding = Rule { policy: Policy::Override, ..trusting };
        assert_eq!(admit_by(&overriding, &[], 200, &cookie), Admission::Own(Unshareable::SetCookie));
    }

    #[test]
    fn what_was_given_to_one_who_is_known_says_whether_others_may_have_it() {
        let login = [("authorization", "Bearer x")];
        let of = |control| admit_by(&by_the_book(), &login, 200, &[("cache-control", control)]);
        let own = Admission::Own(Unshareable::Authorization);
        for (control, expected) in [
            ("max-age=9", own),
            ("max-age=9, public", Admission::Store),
            ("max-age=9, must-revalidate", Admission::Store),
            ("s-maxage=9", Admission::Store),
            ("s-maxage=9, private", Admission::Own(Unshareable::Private)),
        ] {
            assert_eq!(of(control), expected, "{control}");
        }
    }

    #[test]
    fn the_targeted_field_restricts_too() {
        for (policy, rule) in [("override", rule()), ("origin", by_the_book())] {
            let of = |value| admit_by(&rule, &[], 200, &[("cdn-cache-control", value), ("cache-control", "max-age=9")]);
            assert_eq!(of("no-store"), Admission::Own(Unshareable::NoStore), "{policy}");
            assert_eq!(of("private"), Admission::Own(Unshareable::Private), "{policy}");
        }
        let lax = [("cdn-cache-control", "max-age=9"), ("cache-control", "no-store")];
        assert_eq!(admit_by(&by_the_book(), &[], 200, &lax), Admission::Store);
        assert_eq!(admit(200, &lax), Admission::Own(Unshareable::NoStore));
    }

    #[test]
    fn only_what_the_route_expects_is_stored() {
        assert_eq!(admit(200, &[]), Admission::Store);
        assert_eq!(admit(404, &[]), Admission::Store);
        assert_eq!(admit(200, &[("content-type", "text/html")]), Admission::ShareOnce(ShareOnce::ContentType));
        assert_eq!(admit(404, &[("content-type", "text/html")]), Admission::ShareOnce(ShareOnce::ContentType));
        for status in [201, 204, 302, 400, 401, 403, 429, 500, 503] {
            let public = [("cache-control", "public, max-age=60")];
            assert_eq!(admit(status, &public), Admission::ShareOnce(ShareOnce::Status), "{status}");
        }
    }
}
