//! What the policy makes of a request, without a node: the key's hash, or why there is none.

use endcap::config::Config;
use endcap::policy::classify::{Plan, classify};
use http::{HeaderMap, HeaderName, Method};

use crate::stage::Ask;

/// `products 1f3a…`, `pass cookie`, `refuse query_repeated`.
pub(crate) fn plan(config: &Config, ask: &Ask) -> String {
    let method = Method::from_bytes(ask.method.as_bytes()).unwrap();
    let mut headers = HeaderMap::new();
    for (name, value) in &ask.headers {
        headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    let (path, query) = ask.target.split_once('?').map_or((&*ask.target, None), |(path, query)| (path, Some(query)));
    match classify(&config.routes, &method, path, query, "shop.example", &headers) {
        Plan::Cache(rule, key) => format!("{} {}", rule.name, key.hash()),
        Plan::Pass(_, why) => format!("pass {}", why.as_str()),
        Plan::Refuse(_, why) => format!("refuse {}", why.as_str()),
    }
}

/// The route under which a request may be answered from the cache.
pub(crate) fn route(config: &Config, ask: &Ask) -> Option<String> {
    let plan = plan(config, ask);
    let (route, _) = plan.split_once(' ').unwrap();
    (!["pass", "refuse"].contains(&route)).then(|| route.to_owned())
}
