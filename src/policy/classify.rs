//! What is to become of a request: answered from the cache, passed through, or refused.

use std::sync::Arc;

use http::{HeaderMap, Method, header};

use super::key::{Key, KeyTrouble};
use super::once;
use super::position;
use super::query::QueryTrouble;
use super::route::{Policy, Routes, Rule};

/// The decision, with everything the next step needs.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a key in a box would be an allocation at each hit")]
pub enum Plan<R> {
    /// May be answered from the cache under this rule and key.
    Cache(R, Key),
    /// Goes to the origin as it is; its answer is neither stored nor shared.
    Pass(Option<R>, PassReason),
    /// Is answered here with 400.
    Refuse(Option<R>, RefuseReason),
}

impl Plan<&Arc<Rule>> {
    /// The plan with its rule held, for what outlives the routes' loan.
    pub fn owned(self) -> Plan<Arc<Rule>> {
        match self {
            Self::Cache(rule, key) => Plan::Cache(Arc::clone(rule), key),
            Self::Pass(rule, why) => Plan::Pass(rule.cloned(), why),
            Self::Refuse(rule, why) => Plan::Refuse(rule.cloned(), why),
        }
    }
}

impl<R> Plan<R> {
    /// The rule that the request's path matches.
    pub fn rule(&self) -> Option<&R> {
        match self {
            Self::Cache(rule, _) => Some(rule),
            Self::Pass(rule, _) | Self::Refuse(rule, _) => rule.as_ref(),
        }
    }
}

/// Why a request passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassReason {
    /// No route matches the path as it would be forwarded.
    NoRoute,
    /// The route says so.
    Policy,
    /// A method that this route does not answer from the cache.
    Method,
    /// `Authorization` or another credential header.
    Credentials,
    /// A cookie that the rule does not list as harmless.
    Cookie,
    /// A query parameter that the rule does not list.
    UnknownQuery,
    /// A query whose reading by the backend is not certain.
    QueryShape,
    /// A pass marker: the last answer under this key could not be shared.
    Marker,
    /// The answer turned out not to be shareable; this waiter asks for itself.
    Unshareable,
    /// Purges overtook every flight that it joined.
    Overtaken,
    /// The client knows of a purge, and nothing here is known to be from after it.
    Position,
}

impl PassReason {
    /// All reasons, for the metrics.
    pub const ALL: [Self; 11] = [
        Self::NoRoute,
        Self::Policy,
        Self::Method,
        Self::Credentials,
        Self::Cookie,
        Self::UnknownQuery,
        Self::QueryShape,
        Self::Marker,
        Self::Unshareable,
        Self::Overtaken,
        Self::Position,
    ];

    /// The word for logs, labels and headers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoRoute => "no_route",
            Self::Policy => "policy",
            Self::Method => "method",
            Self::Credentials => "credentials",
            Self::Cookie => "cookie",
            Self::UnknownQuery => "unknown_query",
            Self::QueryShape => "query_shape",
            Self::Marker => "marker",
            Self::Unshareable => "unshareable",
            Self::Overtaken => "overtaken",
            Self::Position => "position",
        }
    }
}

/// Why a request is refused by its query or its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefuseReason {
    /// A parameter that is one value was given as several.
    QueryRepeated,
    /// A header of the key was sent more than once.
    HeaderRepeated,
}

impl RefuseReason {
    /// The word for logs and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueryRepeated => "query_repeated",
            Self::HeaderRepeated => "header_repeated",
        }
    }
}

/// Headers that make a request private wherever they stand, beside `Cookie`.
pub(super) const CREDENTIALS: [&str; 6] =
    ["authorization", "proxy-authorization", "x-api-key", "x-auth-token", "x-access-token", "x-medusa-access-token"];

/// Whether a name, in lower case, is one of these.
fn is_credential(name: &str) -> bool {
    CREDENTIALS.contains(&name)
}

/// Classifies a request whose head has been admitted. `host` is its normalised Host.
pub fn classify<'r>(
    routes: &'r Routes,
    method: &Method,
    path: &str,
    query: Option<&str>,
    host: &str,
    headers: &HeaderMap,
) -> Plan<&'r Arc<Rule>> {
    let found = routes.find(path);
    // Before all else: what passes is not looked at again, and a cached request may still come to pass.
    if query.is_some_and(|query| once::is_repeated(query, routes.once())) {
        return Plan::Refuse(found, RefuseReason::QueryRepeated);
    }
    let Some(rule) = found else { return Plan::Pass(None, PassReason::NoRoute) };
    let pass = |reason| Plan::Pass(Some(rule), reason);
    if rule.policy == Policy::Pass {
        return pass(PassReason::Policy);
    }
    if !((*method == Method::GET && rule.get) || (*method == Method::HEAD && rule.head)) {
        return pass(PassReason::Method);
    }
    // The key comes before the credentials: a doubled scalar would hang the backend for a
    // logged-in shopper as well.
    let key = match Key::of_request(rule, path, query, host, headers) {
        Ok(key) => key,
        Err(KeyTrouble::Query(QueryTrouble::Repeated)) => {
            return Plan::Refuse(Some(rule), RefuseReason::QueryRepeated);
        }
        Err(KeyTrouble::HeaderRepeated) => return Plan::Refuse(Some(rule), RefuseReason::HeaderRepeated),
        Err(KeyTrouble::Query(QueryTrouble::Unknown)) => return pass(PassReason::UnknownQuery),
        Err(KeyTrouble::Query(QueryTrouble::Shape)) => return pass(PassReason::QueryShape),
    };
    match private(rule, headers) {
        Some(reason) => pass(reason),
        None => Plan::Cache(rule, key),
    }
}

/// Whether the request carries anything that could make its answer somebody's own.
fn private(rule: &Rule, headers: &HeaderMap) -> Option<PassReason> {
    // One walk over the few that are there is cheaper than a look-up for each that might be.
    let is_trusted = |name: &str| name == "authorization" && rule.trust.authorization;
    if headers.keys().any(|name| is_credential(name.as_str()) && !is_trusted(name.as_str())) {
        return Some(PassReason::Credentials);
    }
    if rule.trust.cookies {
        return None;
    }
    let harmless = |cookie: &str| {
        let name = cookie.split('=').next().unwrap_or("").trim();
        name.is_empty() && !cookie.contains('=') || name == position::COOKIE || rule.harmless_cookies.contains(name)
    };
    let all_harmless = headers
        .get_all(header::COOKIE)
        .iter()
        .all(|value| value.to_str().is_ok_and(|cookies| cookies.split(';').all(harmless)));
    (!all_harmless).then_some(PassReason::Cookie)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::policy::route::Trust;
    use crate::policy::route::tests::rule;

    fn word(method: Method, target: &str, headers: &[(&'static str, &'static str)]) -> String {
        let routes = Routes::new(vec![rule()]).unwrap().with_once(["locale"]);
        let headers: HeaderMap =
            headers.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect();
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        match classify(&routes, &method, path, query, "", &headers) {
            Plan::Cache(..) => "cache".into(),
            Plan::Pass(_, reason) => format!("pass {}", reason.as_str()),
            Plan::Refuse(_, reason) => format!("refuse {}", reason.as_str()),
        }
    }

    #[test]
    fn only_what_is_listed_and_public_is_cached() {
        let get = |target| word(Method::GET, target, &[]);
        assert_eq!(get("/store/products?limit=2"), "cache");
        assert_eq!(word(Method::HEAD, "/store/products", &[]), "cache");
        assert_eq!(word(Method::POST, "/store/products", &[]), "pass method");
        assert_eq!(get("/store/carts/cart_1"), "pass no_route");
        assert_eq!(get("/Store/Products"), "pass no_route");
        assert_eq!(get("/store/products?cart_id=cart_1"), "pass unknown_query");
        assert_eq!(get("/store/products?id[x]=1"), "pass query_shape");
        assert_eq!(get("/store/products?locale=a&locale=b"), "refuse query_repeated");
    }

    #[test]
    fn a_login_passes_whatever_its_form() {
        let with = |name, value| word(Method::GET, "/store/products", &[(name, value)]);
        assert_eq!(with("authorization", "Bearer x"), "pass credentials");
        assert_eq!(with("authorization", ""), "pass credentials");
        assert_eq!(with("x-api-key", "x"), "pass credentials");
        assert_eq!(with("cookie", "connect.sid=s"), "pass cookie");
        assert_eq!(with("cookie", "_ga=1; connect.sid=s"), "pass cookie");
        assert_eq!(with("cookie", "_ga=1;connect.sid"), "pass cookie");
        assert_eq!(with("cookie", "=x"), "pass cookie");
        assert_eq!(with("cookie", "_ga=1, connect.sid=s"), "cache", "one cookie, whose value holds a comma");
        assert_eq!(with("cookie", "_ga=1; _ga_X=2;"), "cache");
        assert_eq!(with("cookie", ""), "cache");
        assert_eq!(with("cookie", "endcap_position=x"), "cache", "ours, right or wrong, and none of the origin's");
        assert_eq!(with("cookie", "endcap_position=x; connect.sid=s"), "pass cookie");
        assert_eq!(with("cookie", "endcap_position_=x"), "pass cookie");
        let two = [("cookie", "_ga=1"), ("cookie", "connect.sid=s")];
        assert_eq!(word(Method::GET, "/store/products", &two), "pass cookie");
    }

    #[test]
    fn what_a_route_trusts_the_origin_with_passes_no_request() {
        let trust = Trust { authorization: true, cookies: true, ..Trust::default() };
        let routes = Routes::new(vec![Rule { policy: Policy::Origin, trust, ..rule() }]).unwrap();
        let is_cached = |name: &'static str| {
            let headers = HeaderMap::from_iter([(name.parse().unwrap(), HeaderValue::from_static("a=b"))]);
            matches!(classify(&routes, &Method::GET, "/store/products", None, "", &headers), Plan::Cache(..))
        };
        assert!(is_cached("authorization") && is_cached("cookie") && !is_cached("x-api-key"));
    }

    #[test]
    fn a_doubled_scalar_is_refused_for_the_logged_in_too() {
        let login = [("authorization", "Bearer x")];
        assert_eq!(word(Method::GET, "/store/products?region_id=a&region_id=b", &login), "refuse query_repeated");
    }

    #[test]
    fn what_the_origin_takes_once_is_refused_twice_on_every_route_and_for_every_method() {
        for target in ["/store/products", "/store/carts/cart_1", "/Store/products", "/admin/orders", "/"] {
            for method in [Method::GET, Method::HEAD, Method::POST, Method::DELETE, Method::OPTIONS] {
                for query in ["locale=a&locale=b", "locale[]=a", "x=1&locale.y=a"] {
                    let target = format!("{target}?{query}");
                    assert_eq!(word(method.clone(), &target, &[]), "refuse query_repeated", "{method} {target}");
                }
            }
        }
        assert_eq!(word(Method::GET, "/store/carts/cart_1?locale=a&q=1&q=2", &[]), "pass no_route");
    }
}
