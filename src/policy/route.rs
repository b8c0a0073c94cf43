//! Routes: which requests may be answered from the cache, and by which rule.
//!
//! The cacheable set is an allow-list of exact paths *as they are forwarded*. An origin may fold
//! case, decode escapes or merge slashes; a list of what must not be cached could never be complete.

mod path;
mod patterns;
mod template;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::cors::Cors;
use super::surrogate::TagField;
pub use path::PathPattern;
pub use patterns::Patterns;
pub use template::Template;

/// How the lifetime of a route's answers is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// `ttl`, `swr` and `sie` of the rule; the origin's `private` and `no-store` still win.
    Override,
    /// The answer's own headers, as a shared cache (RFC 9111, RFC 5861).
    Origin,
    /// Never stored.
    Pass,
}

/// What of a URL tells two requests apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyBy {
    /// The path and the listed query parameters, in their one form.
    Listed,
    /// The path and the query, byte for byte.
    Url,
}

/// What else a route with `policy = "origin"` leaves to the origin's word, as RFC 9111 does. Each needs an
/// origin that marks its answers right, so each is off until it is switched on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Answers to requests with `Authorization` are stored and shared where the answer says so (§3.5).
    pub authorization: bool,
    /// `Cookie` makes no request private, and an answer that sets one is stored like any.
    pub cookies: bool,
    /// Errors are stored for as long as they say (§3).
    pub errors: bool,
    /// An answer without a lifetime gets a tenth of the time since it last changed (§4.2.2).
    pub heuristics: bool,
}

/// What happens to a request with a query parameter that its rule does not list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownQuery {
    /// It goes to the origin as it is, uncached, and is counted.
    Pass,
    /// The parameter is removed: it reaches neither key nor origin.
    Drop,
}

/// How a query parameter's value is brought into its one form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryKind {
    /// One value; given twice it is refused.
    Text,
    /// One value; leading zeros of a decimal number are dropped.
    Integer,
    /// A list: `a=1&a=2`, `a[]=1&a[]=2`, `a[0]=1&a[1]=2` and `a[]=1,2` are one.
    List,
    /// A field selection: order, duplicates and the spelling of modifiers do not matter.
    Fields,
    /// A language tag: `FR-fr` is `fr-FR`.
    Locale,
    /// A tree such as `created_at[$gt]=…`: kept as it was sent.
    Nested,
}

/// A query parameter that is part of the key.
#[derive(Clone, Debug)]
pub struct QueryParam {
    /// The name, decoded, without brackets.
    pub name: String,
    /// How values are normalised.
    pub kind: QueryKind,
    /// A value that means the same as leaving the parameter out.
    pub default: Option<String>,
}

/// How a request header's value is brought into its one form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderKind {
    /// White space around the value is dropped; an empty value equals an absent one; twice is refused.
    Text,
    /// As `Text`, and `FR-fr` is `fr-FR`.
    Locale,
    /// The browser's `Origin`; left out of the key where `cors.allow_origins` lets us answer it.
    Origin,
}

/// A request header that is part of the key.
#[derive(Clone, Debug)]
pub struct KeyHeader {
    /// The field's name.
    pub name: HeaderName,
    /// How its value is normalised.
    pub kind: HeaderKind,
}

/// Tags that are added when a query parameter is there, or when it holds a word.
#[derive(Clone, Debug)]
pub struct TagsWhen {
    /// The parameter's name.
    pub query: String,
    /// The word that its value contains; `None` for any value: the parameter is there.
    pub contains: Option<String>,
    /// The tags.
    pub tags: Vec<Template>,
}

/// A path of a JSON document whose values become tags: `/products/*/id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagPath {
    /// Object keys from the root; `*` is any element of an array or any key.
    pub steps: Vec<String>,
    /// The kind in front of the value: `product` gives `product:17`.
    pub kind: String,
}

/// Everything a route says about the requests that match it.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The route's name: the label of its metrics and the `route:NAME` tag.
    pub name: Arc<str>,
    /// Where the route stands among all, for arrays of metric handles.
    pub index: usize,
    /// The paths that match.
    pub paths: Vec<PathPattern>,
    /// How lifetimes are decided.
    pub policy: Policy,
    /// GET is answered from the cache.
    pub get: bool,
    /// HEAD is answered from the cache (from the stored GET).
    pub head: bool,
    /// How long an answer is fresh.
    pub ttl: Duration,
    /// Stale-while-revalidate: the window after `ttl` (RFC 5861 §3).
    pub swr: Duration,
    /// Stale-if-error: the window after `ttl` (RFC 5861 §4).
    pub sie: Duration,
    /// How long 404 and 410 are remembered; zero for not at all.
    pub negative_ttl: Duration,
    /// The media type that may be stored; `None` for any.
    pub content_type: Option<String>,
    /// What of the URL is in the key.
    pub key: KeyBy,
    /// The Host is part of the key.
    pub host_in_key: bool,
    /// What a parameter that is not listed does.
    pub unknown_query: UnknownQuery,
    /// The parameters of the key, sorted by name.
    pub query: Vec<QueryParam>,
    /// Parameters that are dropped: they reach neither key nor origin.
    pub tracking: Arc<Patterns>,
    /// The request headers of the key, in the order in which they are written into it.
    pub headers: Vec<KeyHeader>,
    /// Request headers that a fill sends beside those of the key, as the client sent them. The answer
    /// must name in `Vary` what it depends on.
    pub forward: Patterns,
    /// Requests that want the same languages as much share an answer in whatever order they say them.
    pub normalize_languages: bool,
    /// What else is left to the origin's word.
    pub trust: Trust,
    /// Cookies that change no answer.
    pub harmless_cookies: Patterns,
    /// Upgrade is let through (pass routes only).
    pub upgrade: bool,
    /// Tags of every answer.
    pub tags: Vec<Template>,
    /// Tags that depend on the query.
    pub tags_when: Vec<TagsWhen>,
    /// Beginnings of ids in JSON strings.
    pub tag_prefixes: Vec<String>,
    /// Paths of JSON values.
    pub tag_paths: Vec<TagPath>,
    /// Response headers whose words are tags.
    pub tag_headers: Vec<HeaderName>,
    /// Fields in which a CDN is told the tags of an answer.
    pub tag_fields: Vec<TagField>,
    /// `Cache-Control` for the client; `None` sends the origin's own.
    pub cache_control: Option<HeaderValue>,
    /// Who may read answers from a browser; where this is set, `Origin` is in no key.
    pub cors: Option<Arc<Cors>>,
}

impl Rule {
    /// Tells the settings by which tags are found from others: an entry that was filled under others may
    /// lack the tag that a purge names.
    pub fn tag_fingerprint(&self) -> u64 {
        let found = (&self.tags, &self.tags_when, &self.tag_prefixes, &self.tag_paths, &self.tag_headers);
        let settings = (found, &self.tag_fields);
        let hash = blake3::hash(format!("{settings:?}").as_bytes());
        let (first, _) = hash.as_bytes().split_first_chunk().expect("a blake3 hash has 32 bytes");
        u64::from_be_bytes(*first)
    }
}

/// All routes, the most special path first.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    rules: Vec<Arc<Rule>>,
    order: Vec<(PathPattern, usize)>,
    once: Vec<String>,
}

impl Routes {
    /// Orders the rules' paths: a literal segment wins over a parameter, whatever the order in the file.
    ///
    /// # Errors
    /// Two routes that would match the same path equally well: `(first route, second route, path)`.
    pub fn new(rules: Vec<Rule>) -> Result<Self, (Arc<str>, Arc<str>, String)> {
        let rules: Vec<Arc<Rule>> =
            rules.into_iter().enumerate().map(|(index, rule)| Arc::new(Rule { index, ..rule })).collect();
        let mut order: Vec<(PathPattern, usize)> = Vec::new();
        for rule in &rules {
            for path in &rule.paths {
                if let Some((_, other)) = order.iter().find(|(pattern, _)| pattern.conflicts_with(path)) {
                    return Err((rules[*other].name.clone(), rule.name.clone(), path.as_str().to_owned()));
                }
                order.push((path.clone(), rule.index));
            }
        }
        order.sort_by_key(|(pattern, _)| pattern.rank());
        Ok(Self { rules, order, once: Vec::new() })
    }

    /// The rule for a path as it would be forwarded.
    pub fn find(&self, path: &str) -> Option<&Arc<Rule>> {
        self.order.iter().find(|(pattern, _)| pattern.matches(path)).map(|(_, rule)| &self.rules[*rule])
    }

    /// Refuses requests that give one of these query parameters more than once, whatever their path.
    #[must_use]
    pub fn with_once<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.once = names.into_iter().map(Into::into).collect();
        self
    }

    /// Query parameters that the origin is given once.
    pub fn once(&self) -> &[String] {
        &self.once
    }

    /// Answers cross-origin requests ourselves, on every route.
    #[must_use]
    pub fn with_cors(mut self, cors: Option<Cors>) -> Self {
        let cors = cors.map(Arc::new);
        self.rules = self.rules.iter().map(|rule| Arc::new(Rule { cors: cors.clone(), ..Rule::clone(rule) })).collect();
        self
    }

    /// Tells CDNs the tags of every answer, on every route.
    #[must_use]
    pub fn with_tag_fields(mut self, fields: &[TagField]) -> Self {
        let with = |rule: &Rule| Arc::new(Rule { tag_fields: fields.to_vec(), ..rule.clone() });
        self.rules = self.rules.iter().map(|rule| with(rule)).collect();
        self
    }

    /// All rules, in the order of their `index`.
    pub fn rules(&self) -> &[Arc<Rule>] {
        &self.rules
    }

    /// The longest time for which any entry can be of use: the log must reach back at least so far.
    pub fn lifetime_max(&self) -> Duration {
        self.rules.iter().map(|rule| rule.ttl + rule.swr.max(rule.sie)).max().unwrap_or_default()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A rule in the manner of Medusa's products, for the tests of this module's neighbours.
    pub(crate) fn rule() -> Rule {
        let param = |name: &str, kind, default: Option<&str>| QueryParam {
            name: name.to_owned(),
            kind,
            default: default.map(str::to_owned),
        };
        let tags = |texts: &[&str]| texts.iter().map(|text| Template::parse(text).unwrap()).collect::<Vec<_>>();
        let mut query = vec![
            param("created_at", QueryKind::Nested, None),
            param("fields", QueryKind::Fields, None),
            param("id", QueryKind::List, None),
            param("category_id", QueryKind::List, None),
            param("limit", QueryKind::Integer, Some("50")),
            param("locale", QueryKind::Locale, None),
            param("offset", QueryKind::Integer, Some("0")),
            param("q", QueryKind::Text, None),
            param("region_id", QueryKind::Text, None),
        ];
        query.sort_by(|a, b| a.name.cmp(&b.name));
        Rule {
            name: "products".into(),
            index: 0,
            paths: vec![
                PathPattern::parse("/store/products").unwrap(),
                PathPattern::parse("/store/products/{id}").unwrap(),
            ],
            policy: Policy::Override,
            get: true,
            head: true,
            ttl: Duration::from_secs(120),
            swr: Duration::from_secs(600),
            sie: Duration::from_secs(3600),
            negative_ttl: Duration::from_secs(10),
            content_type: Some("application/json".into()),
            key: KeyBy::Listed,
            host_in_key: false,
            unknown_query: UnknownQuery::Pass,
            query,
            tracking: Arc::new(Patterns::new(["utm_*", "gclid"])),
            headers: vec![
                KeyHeader { name: HeaderName::from_static("x-publishable-api-key"), kind: HeaderKind::Text },
                KeyHeader { name: HeaderName::from_static("x-medusa-locale"), kind: HeaderKind::Locale },
                KeyHeader { name: HeaderName::from_static("origin"), kind: HeaderKind::Origin },
            ],
            forward: Patterns::default(),
            normalize_languages: false,
            trust: Trust::default(),
            harmless_cookies: Patterns::new(["_ga*"]),
            upgrade: false,
            tags: tags(&["list:product", "key:{header:x-publishable-api-key}"]),
            tags_when: Vec::new(),
            tag_prefixes: ["prod_", "variant_", "pcat_", "reg_"].map(str::to_owned).to_vec(),
            tag_paths: Vec::new(),
            tag_headers: vec![HeaderName::from_static("surrogate-key")],
            tag_fields: Vec::new(),
            cache_control: None,
            cors: None,
        }
    }

    #[test]
    fn the_most_special_path_is_found() {
        let routes = ["/{a*}", "/x/{a}", "/x/{a*}", "/x/y"];
        let rule = |path: &str| Rule { name: path.into(), paths: vec![PathPattern::parse(path).unwrap()], ..rule() };
        let routes = Routes::new(routes.map(rule).to_vec()).unwrap();
        for (path, expected) in [("/x/y", "/x/y"), ("/x/z", "/x/{a}"), ("/x/y/z", "/x/{a*}"), ("/y", "/{a*}")] {
            assert_eq!(&*routes.find(path).unwrap().name, expected);
        }
    }
}
