//! From the file's routes to the rules of `policy`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::check::{Checker, plain};
use super::raw::{self, Method, Trusted};
use super::shape::Path;
use super::text::{Text, Textual};
use crate::policy::route::{
    HeaderKind, KeyBy, KeyHeader, PathPattern, Patterns, Policy, QueryKind, QueryParam, Routes, Rule, TagPath,
    TagsWhen, Template, Trust, UnknownQuery,
};

/// No answer is kept longer: beyond a year it is a slip, and the purge log would have to reach as far back.
const LIFETIME_MAX: Duration = Duration::from_secs(365 * 86_400);

/// Headers that make no key: they are private, belong to one connection or one message, or are ours to answer.
const NO_KEY_HEADERS: [&str; 24] = [
    "authorization",
    "proxy-authorization",
    "proxy-authenticate",
    "proxy-connection",
    "cookie",
    "set-cookie",
    "host",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "content-encoding",
    "expect",
    "range",
    "if-range",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "accept-encoding",
    "cache-control",
];

/// Builds the rules, in the order of their names. Each route already lies over what all routes share.
pub(super) fn routes(
    raw: BTreeMap<String, raw::Route>,
    defaults: raw::Route,
    tracking: &Arc<Patterns>,
    once: &[String],
    check: &mut Checker<'_, '_>,
) -> Routes {
    let shared = Path::of(&["route_defaults"]);
    if defaults.paths.is_some() {
        check.problem(&shared.key("paths"), "paths belong to one route: write them in its section, [route.NAME]");
    }
    // What all routes share is checked by itself too: without routes nothing else would.
    let own_check = Route { name: "", check, once, raw: raw::Route { paths: None, ..defaults } };
    own_check.rule(tracking);
    let rules = raw.into_iter().map(|(name, raw)| {
        let at = Path::of(&["route", &name]);
        check.name(&at, "route", &name);
        if raw.paths.as_ref().is_none_or(Vec::is_empty) {
            check.problem(&at, "a route needs paths: write paths = [\"/store/products\"]");
        }
        Route { name: &name, check, once, raw }.rule(tracking)
    });
    let rules: Vec<Rule> = rules.collect();
    let all: Vec<(Arc<str>, Vec<PathPattern>)> =
        rules.iter().map(|rule| (rule.name.clone(), rule.paths.clone())).collect();
    match Routes::new(rules) {
        Ok(routes) => routes.with_once(once),
        Err((first, second, path)) => {
            conflict(&all, &first, &second, &path, check);
            Routes::default()
        }
    }
}

/// Reports two paths of which neither is the more special one, at the one that the user wrote.
fn conflict(all: &[(Arc<str>, Vec<PathPattern>)], first: &str, second: &str, path: &str, check: &mut Checker<'_, '_>) {
    let paths = |name: &str| all.iter().find(|(known, _)| **known == *name).map_or(&[][..], |(_, paths)| paths);
    let pair = paths(first).iter().enumerate().find_map(|(at_first, one)| {
        let at_second = paths(second).iter().position(|other| other.as_str() == path && other.conflicts_with(one))?;
        Some(((first, at_first, one), (second, at_second, &paths(second)[at_second])))
    });
    let Some((one, other)) = pair.filter(|_| first != second) else {
        let message = format!("{path:?} matches what another path of the same route matches");
        return check.problem(&Path::of(&["route", second, "paths"]), message);
    };
    let place = |(name, index, _): &(&str, usize, &PathPattern)| Path::of(&["route", name, "paths"]).index(*index);
    // The preset's routes are no mistake: what was written over them is.
    let (wrong, right) = match check.layers.is_own(&place(&other)) {
        true => (other, one),
        false => (one, other),
    };
    let message = format!(
        "{:?} matches what {:?} of the route {:?} matches, and neither is the more special one",
        wrong.2.as_str(),
        right.2.as_str(),
        right.0
    );
    check.problem(&place(&wrong), message);
}

/// A route on its way to a rule.
struct Route<'r, 'c, 'l, 't> {
    /// Empty for what all routes share.
    name: &'r str,
    check: &'c mut Checker<'l, 't>,
    /// Parameters that no request may give as a list.
    once: &'r [String],
    raw: raw::Route,
}

impl Route<'_, '_, '_, '_> {
    /// Where a value of the route stands: in its own section, else in that of all routes.
    fn path(&self, steps: impl Fn(Path) -> Path) -> Path {
        let shared = steps(Path::of(&["route_defaults"]));
        if self.name.is_empty() {
            return shared;
        }
        let own = steps(Path::of(&["route", self.name]));
        if self.check.layers.has(&own) || !self.check.layers.has(&shared) { own } else { shared }
    }

    /// Reports a problem once: what all routes share is not reported again for each.
    fn problem(&mut self, steps: impl Fn(Path) -> Path, message: impl Into<String>) {
        let path = self.path(steps);
        if self.name.is_empty() || !Path::of(&["route_defaults"]).holds(&path) {
            self.check.problem(&path, message);
        }
    }

    fn rule(mut self, tracking: &Arc<Patterns>) -> Rule {
        let policy = self.raw.policy.take().map_or(Policy::Override, |text| text.0);
        let ttl = self.raw.ttl.take();
        let ttl = self.lifetime("ttl", ttl, Duration::from_secs(60));
        let swr = self.raw.swr.take();
        let swr = self.window("swr", swr, policy);
        let sie = self.raw.sie.take();
        let sie = self.window("sie", sie, policy);
        let negative_ttl = self.raw.negative_ttl.take();
        let negative_ttl = self.lifetime("negative_ttl", negative_ttl, Duration::ZERO);
        let (get, head) = self.methods();
        let upgrade = self.upgrade(policy);
        let normalize_languages = self.normalize_languages(policy);
        let trust = self.trust(policy);
        let query = self.query(tracking);
        let headers = self.headers();
        let key = self.raw.key.take().map_or(KeyBy::Listed, |text| text.0);
        let paths = self.paths(policy, key);
        let tags = plain(self.raw.tags.take(), |template| template);
        for (index, template) in tags.iter().enumerate() {
            self.template(template, &query, &headers, |at| at.key("tags").index(index));
        }
        let tags_when = self.tags_when(&query, &headers);
        Rule {
            name: self.name.into(),
            index: 0,
            paths,
            policy,
            get,
            head,
            ttl,
            swr,
            sie,
            negative_ttl,
            content_type: self.content_type(),
            key,
            host_in_key: self.raw.host_in_key.unwrap_or(false),
            unknown_query: self.raw.unknown_query.take().map_or(UnknownQuery::Pass, |text| text.0),
            query,
            tracking: tracking.clone(),
            headers,
            forward: Patterns::new(plain(self.raw.forward.take(), |name| name.0.to_ascii_lowercase())),
            normalize_languages,
            trust,
            harmless_cookies: Patterns::new(plain(self.raw.harmless_cookies.take(), |name| name.0)),
            upgrade,
            tags,
            tags_when,
            tag_prefixes: self.tag_prefixes(),
            tag_paths: self.tag_paths(),
            tag_headers: match self.raw.tag_headers.take() {
                None => ["surrogate-key", "cache-tag", "xkey"].map(HeaderName::from_static).into(),
                given => plain(given, |name| name),
            },
            tag_fields: Vec::new(),
            cache_control: self.cache_control(),
            cors: None,
        }
    }

    /// An origin may read two paths as one, so what is cached under listed parameters is listed as well.
    fn paths(&mut self, policy: Policy, key: KeyBy) -> Vec<PathPattern> {
        let paths = plain(self.raw.paths.take(), |path| path);
        if policy != Policy::Pass && key == KeyBy::Listed {
            for (index, path) in paths.iter().enumerate().filter(|(_, path)| path.is_open()) {
                let message =
                    format!("{:?} matches any path: that needs key = \"url\" or policy = \"pass\"", path.as_str());
                self.problem(|at| at.key("paths").index(index), message);
            }
        }
        paths
    }

    fn lifetime(&mut self, key: &str, value: Option<Text<Duration>>, default: Duration) -> Duration {
        let value = value.map_or(default, |text| text.0);
        if value > LIFETIME_MAX {
            let message = format!("{} is too much: at most {}", value.to_text(), LIFETIME_MAX.to_text());
            self.problem(|at| at.key(key), message);
        }
        value
    }

    /// A window after the TTL. A route that passes has none: written there it is a mistake, inherited it is not meant.
    fn window(&mut self, key: &str, value: Option<Text<Duration>>, policy: Policy) -> Duration {
        let window = self.lifetime(key, value, Duration::ZERO);
        match policy {
            Policy::Override | Policy::Origin => window,
            Policy::Pass => {
                if !self.name.is_empty() && !window.is_zero() && self.is_own(key) {
                    self.problem(
                        |at| at.key(key),
                        "a route with policy = \"pass\" stores nothing, so nothing gets stale: leave it out",
                    );
                }
                Duration::ZERO
            }
        }
    }

    /// Whether the user wrote the key in this route.
    fn is_own(&self, key: &str) -> bool {
        self.check.layers.is_own(&Path::of(&["route", self.name, key]))
    }

    fn methods(&mut self) -> (bool, bool) {
        let methods = match self.raw.methods.take() {
            None => return (true, true),
            given => plain(given, |method| method),
        };
        if methods.is_empty() {
            self.problem(|at| at.key("methods"), "without a method nothing is cached: write policy = \"pass\" instead");
        }
        (methods.contains(&Method::Get), methods.contains(&Method::Head))
    }

    fn upgrade(&mut self, policy: Policy) -> bool {
        let message = "only a route with policy = \"pass\" can let Upgrade through";
        self.switch("upgrade", self.raw.upgrade, policy == Policy::Pass, message)
    }

    fn normalize_languages(&mut self, policy: Policy) -> bool {
        let message = "only a route with policy = \"origin\" can say what the origin makes of languages";
        self.switch("normalize_languages", self.raw.normalize_languages, policy == Policy::Origin, message)
    }

    /// A switch that only some policies have. Where all routes share it, it is not meant for the others.
    fn switch(&mut self, key: &'static str, given: Option<bool>, has_it: bool, message: &str) -> bool {
        let is_on = given.unwrap_or(false);
        if is_on && !has_it && !self.name.is_empty() && self.is_own(key) {
            self.problem(|at| at.key(key), message);
        }
        is_on && has_it
    }

    /// An override decides by itself: what all routes trust the origin with is not meant for it.
    fn trust(&mut self, policy: Policy) -> Trust {
        let trusted = plain(self.raw.trust.take(), |what| what);
        if policy != Policy::Origin {
            if !trusted.is_empty() && !self.name.is_empty() && self.is_own("trust") {
                let message = "only a route with policy = \"origin\" leaves anything to the origin's word";
                self.problem(|at| at.key("trust"), message);
            }
            return Trust::default();
        }
        Trust {
            authorization: trusted.contains(&Trusted::Authorization),
            cookies: trusted.contains(&Trusted::Cookies),
            errors: trusted.contains(&Trusted::Errors),
            heuristics: trusted.contains(&Trusted::Heuristics),
        }
    }

    fn query(&mut self, tracking: &Patterns) -> Vec<QueryParam> {
        let mut params = Vec::new();
        for (name, raw) in self.raw.query.take().unwrap_or_default() {
            let at = |route: Path| route.key("query").key(&name);
            if name.is_empty() || name.contains(['[', ']', '&', '=']) || name.chars().any(char::is_control) {
                self.problem(at, format!("{name:?} is no name of a parameter: write it decoded and without brackets"));
            }
            if tracking.contains(&name) {
                let message =
                    format!("{name:?} is in cache.tracking, whose parameters reach no key: take it out of one of them");
                self.problem(at, message);
            }
            let Some(Text(kind)) = raw.kind else {
                self.problem(at, "the kind is missing: write { kind = \"text\" }");
                continue;
            };
            if matches!(kind, QueryKind::List | QueryKind::Nested) && self.once.contains(&name) {
                let message = format!("{name:?} is in origin.query_once, so no list or tree of it gets here");
                self.problem(|route| at(route).key("kind"), message);
            }
            let default_at = |route: Path| at(route).key("default");
            match (kind, &raw.default) {
                (QueryKind::Integer, Some(number)) if number.parse::<i64>().is_err() => {
                    self.problem(default_at, format!("{number:?} is no number, but the kind is \"integer\""));
                }
                (QueryKind::Nested, Some(_)) => {
                    self.problem(default_at, "a parameter of kind \"nested\" is a tree and has no default");
                }
                _ => {}
            }
            params.push(QueryParam { name, kind, default: raw.default });
        }
        params
    }

    fn headers(&mut self) -> Vec<KeyHeader> {
        let mut headers: Vec<KeyHeader> = Vec::new();
        for (name, raw) in self.raw.headers.take().unwrap_or_default() {
            let at = |route: Path| route.key("headers").key(&name);
            let header = match HeaderName::from_text(&name) {
                Ok(header) => header,
                Err(message) => {
                    self.problem(at, message);
                    continue;
                }
            };
            if NO_KEY_HEADERS.contains(&header.as_str()) {
                let message = match header.as_str() {
                    "host" => "Host is no header of the key here: write host_in_key = true".to_owned(),
                    "authorization" | "cookie" => {
                        format!("{header} makes a request private: its answer is never shared")
                    }
                    _ => format!("{header} belongs to one message or connection and can be in no key"),
                };
                self.problem(at, message);
            }
            if headers.iter().any(|known| known.name == header) {
                self.problem(at, format!("{header} is listed twice: case makes no difference"));
            }
            let Some(Text(kind)) = raw.kind else {
                self.problem(at, "the kind is missing: write { kind = \"text\" }");
                continue;
            };
            if (kind == HeaderKind::Origin) != (header == http::header::ORIGIN) {
                self.problem(at, "the kind \"origin\" is for the header `origin`, and for that one alone");
            }
            headers.push(KeyHeader { name: header, kind });
        }
        // An answer for one browser origin must be right for another and for none, on every route.
        if !headers.iter().any(|header| header.name == http::header::ORIGIN) {
            headers.push(KeyHeader { name: http::header::ORIGIN, kind: HeaderKind::Origin });
        }
        headers
    }

    /// A tag of a request may only stand on what is in its key, else two requests would share what tells them apart.
    fn template(
        &mut self,
        template: &Template,
        query: &[QueryParam],
        headers: &[KeyHeader],
        at: impl Fn(Path) -> Path,
    ) {
        for name in template.names() {
            let known = match name.split_once(':') {
                Some(("header", header)) => {
                    headers.iter().any(|known| known.name.as_str().eq_ignore_ascii_case(header))
                }
                Some(("query", param)) => query.iter().any(|known| known.name == param),
                _ => {
                    self.problem(&at, format!("`{{{name}}}` is unknown: write {{header:NAME}} or {{query:NAME}}"));
                    continue;
                }
            };
            if known {
                continue;
            }
            // What all routes share may stand on what only the routes list, so it is checked in each of them.
            if !self.name.is_empty() {
                let path = self.path(&at);
                let route = self.name;
                self.check.problem(
                    &path,
                    format!("`{{{name}}}` is not in the key of the route {route:?}: list it in its query or headers"),
                );
            }
        }
    }

    fn tags_when(&mut self, query: &[QueryParam], headers: &[KeyHeader]) -> Vec<TagsWhen> {
        let mut all = Vec::new();
        for (index, raw) in self.raw.tags_when.take().unwrap_or_default().into_iter().enumerate() {
            let at = |route: Path| route.key("tags_when").index(index);
            let tags = plain(raw.tags, |template| template);
            let Some(param) = raw.query else {
                self.problem(at, "the parameter is missing: write query = \"fields\"");
                continue;
            };
            if tags.is_empty() {
                self.problem(at, "the tags are missing: write tags = [\"list:product\"]");
            }
            if raw.contains.as_deref() == Some("") {
                self.problem(
                    |route| at(route).key("contains"),
                    "every value contains nothing: leave it out to mean any value",
                );
            }
            if !self.name.is_empty() && !query.iter().any(|known| known.name == param) {
                let path = self.path(|route| at(route).key("query"));
                let route = self.name;
                self.check.problem(
                    &path,
                    format!("{param:?} is not in the key of the route {route:?}: list it in its query"),
                );
            }
            for (position, template) in tags.iter().enumerate() {
                self.template(template, query, headers, |route| at(route).key("tags").index(position));
            }
            all.push(TagsWhen { query: param, contains: raw.contains, tags });
        }
        all
    }

    fn tag_prefixes(&mut self) -> Vec<String> {
        let prefixes = self.raw.tag_prefixes.take().unwrap_or_default();
        for (index, prefix) in prefixes.iter().enumerate() {
            if prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',') {
                let message = format!("{prefix:?} is no beginning of an id: write one such as \"prod_\"");
                self.problem(|at| at.key("tag_prefixes").index(index), message);
            }
        }
        prefixes
    }

    fn tag_paths(&mut self) -> Vec<TagPath> {
        let mut paths = Vec::new();
        for (path, kind) in self.raw.tag_paths.take().unwrap_or_default() {
            let at = |route: Path| route.key("tag_paths").key(&path);
            let steps: Vec<String> = path.split('/').skip(1).map(str::to_owned).collect();
            if !path.starts_with('/') || steps.iter().any(String::is_empty) {
                self.problem(at, format!("{path:?} is no path in a document: write one such as \"/products/*/id\""));
            }
            if kind.is_empty() || !kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            {
                self.problem(at, format!("{kind:?} is no kind of tag: write letters, digits, `-` or `_`"));
            }
            paths.push(TagPath { steps, kind });
        }
        paths
    }

    fn content_type(&mut self) -> Option<String> {
        let media = self.raw.content_type.take().unwrap_or_else(|| "application/json".to_owned()).to_ascii_lowercase();
        if media == "*" {
            return None;
        }
        let token = |part: &str| {
            let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&byte);
            !part.is_empty() && part.bytes().all(letter)
        };
        if !media.split_once('/').is_some_and(|(main, sub)| token(main) && token(sub)) {
            let message =
                format!("{media:?} is no media type: write one such as \"application/json\", or \"*\" for any");
            self.problem(|at| at.key("content_type"), message);
        }
        Some(media)
    }

    fn cache_control(&mut self) -> Option<HeaderValue> {
        let text = self.raw.cache_control.take().filter(|text| !text.is_empty())?;
        let value = HeaderValue::from_str(&text).ok();
        if value.is_none() {
            self.problem(|at| at.key("cache_control"), "this is no value of a header");
        }
        value
    }
}
