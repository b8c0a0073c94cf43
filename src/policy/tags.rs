//! Tags: what an answer shows and what it depends on, so that a purge finds it.
//!
//! A list by category carries no category id and a product not yet in a list leaves no trace in it, so
//! tags come from the body, from the request, from response headers and from the rule.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

use http::HeaderMap;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use smallvec::SmallVec;

use super::key::KeyView;
use super::route::{Rule, TagPath};

/// Most tags of one entry; beyond it the largest kinds collapse into their coarse tag.
pub const TAGS_MAX: usize = 2048;
/// Longest tag, in bytes, of an answer and of a purge alike: the longest request target fits behind `path:`.
pub const TAG_BYTES_MAX: usize = 8 * 1024 + 64;
/// Longest kind whose coarse tag is kept.
const KIND_BYTES_MAX: usize = 256;

/// 64 bits of blake3 over a tag: the same on every node. Two tags that collide purge one another,
/// which costs a fill and never serves anything stale.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagHash(u64);

impl TagHash {
    /// Hashes a tag.
    pub fn of(tag: &str) -> Self {
        let hash = blake3::hash(tag.as_bytes());
        let (first, _) = hash.as_bytes().split_first_chunk::<8>().expect("a blake3 hash has 32 bytes");
        Self(u64::from_be_bytes(*first))
    }

    /// The 64 bits, for the wire.
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// From the wire.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

impl fmt::Debug for TagHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The kind of a tag, up to and with its first `_` or `:`: `prod_01AB` → `prod_`, `product:17` →
/// `product:`; empty where there is none.
pub fn kind_of(tag: &str) -> &str {
    tag.find(['_', ':']).and_then(|end| tag.get(..=end)).unwrap_or("")
}

/// The coarse tag that stands for all tags of a kind: `prod_*`. That of no kind, `*`, stands for every tag.
pub fn coarse_tag(kind: &str) -> TagHash {
    /// Kinds whose hashes a thread keeps: a shop has a few dozen, and each tag of each answer and purge asks for one.
    const KEPT_MAX: usize = 256;
    thread_local!(static KEPT: RefCell<HashMap<Box<str>, TagHash>> = RefCell::default());
    // Each purge asks for it. To look it up takes longer than any other: an empty name is nowhere in memory, and the C
    // library's comparison is slow there.
    static NO_KIND: LazyLock<TagHash> = LazyLock::new(|| TagHash::of("*"));
    if kind.is_empty() {
        return *NO_KIND;
    }
    KEPT.with_borrow_mut(|kept| {
        if let Some(hash) = kept.get(kind) {
            return *hash;
        }
        let hash = TagHash::of(&format!("{kind}*"));
        if kept.len() == KEPT_MAX {
            kept.clear();
        }
        if kind.len() <= KIND_BYTES_MAX {
            kept.insert(kind.into(), hash);
        }
        hash
    })
}

/// The tags of one answer as they are found.
#[derive(Clone, Debug, Default)]
pub struct Tags {
    /// Each tag behind the coarse tag of its kind.
    found: Vec<(TagHash, TagHash)>,
}

impl Tags {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tag. One that is too long for a purge to name is none.
    pub fn add(&mut self, tag: &str) {
        if tag.len() > TAG_BYTES_MAX {
            return;
        }
        self.found.push((coarse_tag(kind_of(tag)), TagHash::of(tag)));
    }

    /// Adds what depends on the request alone: the route, the path, the rule's own tags, and the ids
    /// that stand in path and query (a list by category shows no category).
    pub fn add_request(&mut self, rule: &Rule, key: &KeyView<'_>) {
        self.add("all");
        self.add(&format!("route:{}", rule.name));
        self.add(&format!("path:{}", key.path));
        for segment in key.path.split('/') {
            self.add_ids(&rule.tag_prefixes, segment);
        }
        let query: SmallVec<[(Cow<'_, str>, Cow<'_, str>); 8]> = key
            .query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .filter_map(|(name, value)| Some((super::query::decode(name)?, super::query::decode(value)?)))
            .collect();
        for (_, value) in &query {
            self.add_ids(&rule.tag_prefixes, value);
        }
        let base = |name: &'_ str| name.split('[').next().unwrap_or("").to_owned();
        let nth_value_of = |wanted: &str, n: usize| -> Option<Cow<'_, str>> {
            if let Some(name) = wanted.strip_prefix("header:") {
                let (_, value) = key.headers.iter().find(|(header, _)| header.as_str() == name)?;
                return Some(Cow::Owned(value.to_str().ok()?.to_owned()));
            }
            let name = wanted.strip_prefix("query:")?;
            query.iter().filter(|(param, _)| base(param) == name).nth(n).map(|(_, value)| Cow::Owned(value.to_string()))
        };
        let conditional = rule
            .tags_when
            .iter()
            .filter(|when| {
                let holds = |value: &str| when.contains.as_ref().is_none_or(|word| value.contains(word.as_str()));
                query.iter().any(|(param, value)| base(param) == when.query && holds(value))
            })
            .flat_map(|when| &when.tags);
        for template in rule.tags.iter().chain(conditional) {
            // A list in the query gives a tag for each of its values.
            let asked = template.names().filter_map(|name| name.strip_prefix("query:"));
            let counts = asked.map(|name| query.iter().filter(|(param, _)| base(param) == name).count());
            for n in 0..counts.max().unwrap_or(1) {
                if let Some(tag) = template.expand(|wanted| nth_value_of(wanted, n)) {
                    self.add(&tag);
                }
            }
        }
    }

    /// Adds the words of the response headers that the rule names. One that is no UTF-8 may be any: every purge finds it.
    pub fn add_headers(&mut self, rule: &Rule, headers: &HeaderMap) {
        for name in &rule.tag_headers {
            for value in headers.get_all(name) {
                let words = value.as_bytes().split(|byte| matches!(byte, b',' | b' ' | b'\t'));
                for word in words.filter(|word| !word.is_empty()) {
                    self.add(std::str::from_utf8(word).unwrap_or("*"));
                }
            }
        }
    }

    /// Adds the ids in a JSON body, in one pass over it.
    ///
    /// # Errors
    /// The body is not JSON, or nested deeper than 128: what it shows cannot be known.
    pub fn add_body(&mut self, rule: &Rule, body: &[u8]) -> Result<(), serde_json::Error> {
        if rule.tag_prefixes.is_empty() && rule.tag_paths.is_empty() {
            return Ok(());
        }
        // Checked as UTF-8 once, so that the parser need not check each string.
        let text = std::str::from_utf8(body).map_err(serde::de::Error::custom)?;
        let mut parser = serde_json::Deserializer::from_str(text);
        let live = rule.tag_paths.iter().map(|path| (path, 0)).collect();
        Walk { tags: self, prefixes: &rule.tag_prefixes, live }.deserialize(&mut parser)?;
        parser.end()
    }

    /// Adds a string that begins as an id of one of the kinds does, whatever it holds; of ids that are joined by dots
    /// (`mpath`) each.
    fn add_ids(&mut self, prefixes: &[String], value: &str) {
        let is_id = |text: &str| {
            let rest = |prefix: &String| text.strip_prefix(prefix.as_str()).is_some_and(|rest| !rest.is_empty());
            prefixes.iter().any(rest)
        };
        if is_id(value) {
            if value.split('.').all(is_id) {
                value.split('.').for_each(|piece| self.add(piece));
            } else {
                self.add(value);
            }
        }
    }

    /// Whether a purge of any of them finds an answer with these (sorted) tags: each is there, or the coarse tag that it
    /// collapsed into.
    pub fn are_among(&self, finished: &[TagHash]) -> bool {
        let has = |tag: &TagHash| finished.binary_search(tag).is_ok();
        let any = coarse_tag("");
        self.found.iter().all(|(coarse, tag)| has(tag) || has(coarse) || has(&any))
    }

    /// The sorted hashes, each once and at most `most`, and how many tags collapsed into coarse ones.
    pub fn finish(self, most: usize) -> (Box<[TagHash]>, usize) {
        let mut found = self.found;
        found.sort_unstable();
        found.dedup();
        let total = found.len();
        let mut kinds: Vec<&[(TagHash, TagHash)]> = found.chunk_by(|a, b| a.0 == b.0).collect();
        // The largest kinds collapse first; of equal ones the lower hash, so that all nodes agree.
        kinds.sort_by_key(|kind| (std::cmp::Reverse(kind.len()), kind.first().map(|(coarse, _)| *coarse)));
        let excess = |collapsed: usize, coarse: usize| (total - collapsed + coarse).saturating_sub(most);
        let (mut collapsed, mut coarse) = (0, 0);
        while excess(collapsed, coarse) > 0 && kinds.get(coarse).is_some_and(|kind| kind.len() > 1) {
            collapsed += kinds[coarse].len();
            coarse += 1;
        }
        if excess(collapsed, coarse) > 0 {
            // As many kinds as tags: the one that stands for all of them is left.
            return ([coarse_tag("")].into(), total);
        }
        let (coarse, fine) = kinds.split_at(coarse);
        let coarse = coarse.iter().filter_map(|kind| kind.first()).map(|(coarse, _)| *coarse);
        let mut tags: Vec<TagHash> = coarse.chain(fine.iter().copied().flatten().map(|(_, tag)| *tag)).collect();
        tags.sort_unstable();
        tags.dedup();
        (tags.into_boxed_slice(), collapsed)
    }
}

/// Walks a JSON value and takes the ids out of its strings.
struct Walk<'w> {
    tags: &'w mut Tags,
    prefixes: &'w [String],
    /// The paths that still match here, and how many of their steps are behind us.
    live: SmallVec<[(&'w TagPath, usize); 4]>,
}

impl Walk<'_> {
    fn step(&mut self, name: Option<&str>) -> Walk<'_> {
        let live = self
            .live
            .iter()
            .filter(|(path, done)| path.steps.get(*done).is_some_and(|step| step == "*" || Some(step.as_str()) == name))
            .map(|(path, done)| (*path, done + 1))
            .collect();
        Walk { tags: self.tags, prefixes: self.prefixes, live }
    }

    fn scalar(&mut self, value: &str) {
        self.tags.add_ids(self.prefixes, value);
        for (path, done) in &self.live {
            if *done == path.steps.len() && !value.is_empty() {
                self.tags.add(&format!("{}:{value}", path.kind));
            }
        }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E>(mut self, value: &str) -> Result<(), E> {
        self.scalar(value);
        Ok(())
    }

    fn visit_u64<E>(mut self, value: u64) -> Result<(), E> {
        if !self.live.is_empty() {
            self.scalar(&value.to_string());
        }
        Ok(())
    }

    fn visit_i64<E>(mut self, value: i64) -> Result<(), E> {
        if !self.live.is_empty() {
            self.scalar(&value.to_string());
        }
        Ok(())
    }

    fn visit_f64<E>(mut self, _: f64) -> Result<(), E> {
        // As an id it has lost digits, so it may be any of its kind.
        if !self.live.is_empty() {
            self.scalar("*");
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(self.step(None))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        if self.live.is_empty() {
            while map.next_key::<IgnoredAny>()?.is_some() {
                map.next_value_seed(self.step(None))?;
            }
        } else {
            while let Some(name) = map.next_key::<String>()? {
                map.next_value_seed(self.step(Some(&name)))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::key::Key;
    use crate::policy::route::tests::rule;
    use crate::policy::route::{TagsWhen, Template};

    fn of_body(rule: &Rule, body: &str) -> Vec<TagHash> {
        let mut tags = Tags::new();
        tags.add_body(rule, body.as_bytes()).unwrap();
        tags.finish(TAGS_MAX).0.into_vec()
    }

    fn hashes(names: &[&str]) -> Vec<TagHash> {
        let mut hashes: Vec<_> = names.iter().map(|name| TagHash::of(name)).collect();
        hashes.sort_unstable();
        hashes
    }

    #[test]
    fn ids_are_found_wherever_they_stand_and_nothing_else() {
        let body = r#"{"products":[{"id":"prod_1","title":"a prod_9 b","variants":[{"id":"variant_1"},"variant_2"]},
            {"id":"prod_1"},{"mpath":"pcat_1.pcat_2"},{"prod_5":1},{"x":"prod_"},{"x":"prod_a b"},{"x":"product_1"},
            null,true,1.5,-3,"prod_\u0031x","variant_é.1"]}"#;
        let odd = ["prod_a b", "variant_é.1"];
        let expected = [&["prod_1", "variant_1", "variant_2", "pcat_1", "pcat_2", "prod_1x"], &odd[..]].concat();
        assert_eq!(of_body(&rule(), body), hashes(&expected));
    }

    #[test]
    fn what_a_purge_would_find_is_among_the_tags_of_an_answer() {
        let of = |names: &[&str]| {
            let mut tags = Tags::new();
            names.iter().for_each(|name| tags.add(name));
            tags
        };
        let check = |asked: &[&str], finished: &[TagHash]| of(asked).are_among(finished);
        let stored = hashes(&["prod_1", "prod_2", "list:a"]);
        assert!(check(&[], &stored) && check(&["prod_2", "list:a"], &stored) && !check(&["prod_2", "list:b"], &stored));
        let coarse = of(&["prod_1", "prod_2", "list:a"]).finish(2).0;
        assert!(check(&["prod_9"], &coarse) && !check(&["list:b"], &coarse), "the kind collapsed");
        let any = of(&["prod_1", "list:a", "b"]).finish(1).0;
        assert!(check(&["prod_9", "list:b", "x"], &any), "all collapsed");
    }

    #[test]
    fn bare_ids_become_tags_by_their_path() {
        let mut rule = rule();
        let steps = |path: &str| path.split('/').skip(1).map(str::to_owned).collect();
        rule.tag_paths = vec![
            TagPath { steps: steps("/products/*/id"), kind: "product".into() },
            TagPath { steps: steps("/page/slug"), kind: "page".into() },
        ];
        let body = r#"{"products":[{"id":17,"brand":{"id":4}},{"id":"x"}],"page":{"slug":"home","id":9},"id":1}"#;
        assert_eq!(of_body(&rule, body), hashes(&["product:17", "product:x", "page:home"]));
        let body = r#"{"products":[{"id":36893488147419103232}],"page":{"slug":true,"id":1.5}}"#;
        assert_eq!(of_body(&rule, body), hashes(&["product:*"]), "a number that is not kept may be any");
    }

    #[test]
    fn what_cannot_be_read_says_so() {
        for body in ["", "{", "{\"a\":1}x", "[\"\u{0}\"", &"[".repeat(200)] {
            assert!(Tags::new().add_body(&rule(), body.as_bytes()).is_err(), "{body}");
        }
        assert!(Tags::new().add_body(&rule(), b"\"\xff\"").is_err());
    }

    #[test]
    fn the_request_gives_what_the_body_does_not_show() {
        let mut rule = rule();
        rule.tags_when = vec![TagsWhen {
            query: "fields".into(),
            contains: Some("categories".into()),
            tags: vec![Template::parse("list:category").unwrap()],
        }];
        let headers = [("x-publishable-api-key".parse().unwrap(), "pk_1".parse().unwrap())].into_iter().collect();
        let query = "category_id[]=pcat_1&region_id=reg_1&fields=*categories&q=jeans";
        let key = Key::of_request(&rule, "/store/products/prod_7", Some(query), "", &headers).unwrap();
        let mut tags = Tags::new();
        tags.add_request(&rule, &key.view().unwrap());
        let expected = [
            "all",
            "route:products",
            "path:/store/products/prod_7",
            "prod_7",
            "pcat_1",
            "reg_1",
            "list:product",
            "key:pk_1",
            "list:category",
        ];
        assert_eq!(tags.finish(TAGS_MAX).0.into_vec(), hashes(&expected));
    }

    #[test]
    fn each_value_of_a_list_gives_a_tag() {
        let mut rule = rule();
        let tags = ["asked:{query:id}", "list:product"].map(|tag| Template::parse(tag).unwrap()).into();
        rule.tags_when = vec![TagsWhen { query: "id".into(), contains: None, tags }];
        rule.tags = vec![Template::parse("q:{query:q}").unwrap()];
        let headers = HeaderMap::new();
        for (query, expected) in [
            ("id[]=a&id[]=b&q=x", &["asked:a", "asked:b", "list:product", "q:x"][..]),
            ("id=a", &["asked:a", "list:product"]),
            ("", &[]),
        ] {
            let key = Key::of_request(&rule, "/p", Some(query), "", &headers).unwrap();
            let mut tags = Tags::new();
            tags.add_request(&rule, &key.view().unwrap());
            let always = ["all", "route:products", "path:/p"];
            assert_eq!(tags.finish(TAGS_MAX).0.into_vec(), hashes(&[&always, expected].concat()), "{query}");
        }
    }

    #[test]
    fn headers_give_their_words() {
        let mut headers = HeaderMap::new();
        headers.append("surrogate-key", "a b,c".parse().unwrap());
        headers.append("surrogate-key", "d".parse().unwrap());
        let of = |headers: &HeaderMap| {
            let mut tags = Tags::new();
            tags.add_headers(&rule(), headers);
            tags.finish(TAGS_MAX).0.into_vec()
        };
        assert_eq!(of(&headers), hashes(&["a", "b", "c", "d"]));
        let long = ["x".repeat(TAG_BYTES_MAX), "y".repeat(TAG_BYTES_MAX + 1)];
        for (value, expected) in [
            ("a é".as_bytes(), &["a", "é"][..]),
            (b"a \xe9", &["a", "*"]),
            (long.join(" ").as_bytes(), &[long[0].as_str()]),
        ] {
            let value = http::HeaderValue::from_bytes(value).unwrap();
            assert_eq!(of(&HeaderMap::from_iter([("surrogate-key".parse().unwrap(), value)])), hashes(expected));
        }
    }

    #[test]
    fn too_many_tags_collapse_by_kind_and_are_counted() {
        let mut tags = Tags::new();
        (0..20).for_each(|n| tags.add(&format!("prod_{n}")));
        (0..5).for_each(|n| tags.add(&format!("pcat_{n}")));
        tags.add("all");
        let (tags, collapsed) = tags.finish(10);
        assert_eq!(collapsed, 20);
        assert_eq!(tags.into_vec(), hashes(&["prod_*", "pcat_0", "pcat_1", "pcat_2", "pcat_3", "pcat_4", "all"]));
    }
}
