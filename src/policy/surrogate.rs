//! Tags outward: under which names a CDN holds an answer, so that it can be told to forget it.
//!
//! The name of a tag is its hash (see [`TagHash`]) in base64url: eleven characters whatever the tag, so that a list of
//! a hundred products still names each of its variants. Where a field would grow too long, the largest kinds of tags
//! collapse into the coarse tag of their kind, and at last all into `*`; each purge names those as well.
//!
//! Sources, read in November 2026: Fastly ("Surrogate-Key": 16,384 bytes, keys parted by spaces), Cloudflare
//! ("Cache-Tag": 16 KB, about 1,000 tags, parted by commas).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::route::Rule;
use super::tags::{TagHash, Tags, coarse_tag};

/// Tags in one field, at the most: twelve bytes each.
const TAGS_MAX: usize = 1000;

/// A field in which a CDN is told tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TagField {
    /// Fastly's.
    SurrogateKey,
    /// Cloudflare's.
    CacheTag,
}

impl TagField {
    /// Its name.
    pub const fn name(self) -> HeaderName {
        match self {
            Self::SurrogateKey => HeaderName::from_static("surrogate-key"),
            Self::CacheTag => HeaderName::from_static("cache-tag"),
        }
    }

    const fn separator(self) -> &'static str {
        match self {
            Self::SurrogateKey => " ",
            Self::CacheTag => ",",
        }
    }

    fn value(self, tags: &[TagHash]) -> HeaderValue {
        let names: Vec<String> = tags.iter().copied().map(name).collect();
        HeaderValue::from_str(&names.join(self.separator())).expect("base64 is a value")
    }
}

/// The name under which a CDN holds what has a tag.
pub fn name(tag: TagHash) -> String {
    URL_SAFE_NO_PAD.encode(tag.to_bits().to_be_bytes())
}

/// The fields that tell the tags of an answer; none where the rule has no such fields. What shows nobody knows what is
/// forgotten with every purge.
pub fn fields(rule: &Rule, tags: &Tags, is_readable: bool) -> HeaderMap {
    if rule.tag_fields.is_empty() {
        return HeaderMap::new();
    }
    let tags = if is_readable { tags.clone().finish(TAGS_MAX).0 } else { [coarse_tag("")].into() };
    rule.tag_fields.iter().map(|field| (field.name(), field.value(&tags))).collect()
}

/// Those of a stored answer, for the one that renews it.
pub fn kept(rule: &Rule, stored: &HeaderMap) -> HeaderMap {
    let names = rule.tag_fields.iter().map(|field| field.name());
    names.filter_map(|name| Some((name.clone(), stored.get(name)?.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::route::tests::rule;

    fn tags(count: usize) -> Tags {
        let mut tags = Tags::new();
        tags.add("list:product");
        (0..count).for_each(|n| tags.add(&format!("prod_{n}")));
        tags
    }

    fn told(fields: &[TagField], tags: &Tags, is_readable: bool) -> Vec<(String, Vec<String>)> {
        let rule = Rule { tag_fields: fields.to_vec(), ..rule() };
        let told = super::fields(&rule, tags, is_readable);
        let words = |value: &HeaderValue| value.to_str().unwrap().split([' ', ',']).map(str::to_owned).collect();
        told.iter().map(|(name, value)| (name.to_string(), words(value))).collect()
    }

    #[test]
    fn each_cdn_is_told_in_its_own_field() {
        let (both, tags) = ([TagField::SurrogateKey, TagField::CacheTag], tags(1));
        let mut names = [name(TagHash::of("prod_0")), name(TagHash::of("list:product"))];
        let told = told(&both, &tags, true);
        names.sort_by_key(|name| told[0].1.iter().position(|told| told == name));
        assert_eq!(told, [("surrogate-key".to_owned(), names.to_vec()), ("cache-tag".to_owned(), names.to_vec())]);
        assert!(super::fields(&rule(), &tags, true).is_empty());
        let value = TagField::CacheTag.value(&[TagHash::of("a"), TagHash::of("b")]);
        assert_eq!(value.to_str().unwrap().len(), 11 + 1 + 11);
    }

    #[test]
    fn what_is_too_much_for_a_field_goes_by_its_kind() {
        let field = [TagField::SurrogateKey];
        assert_eq!(told(&field, &tags(999), true)[0].1.len(), 1000);
        let mut coarse = [name(coarse_tag("prod_")), name(TagHash::of("list:product"))];
        let mut told_coarse = told(&field, &tags(1000), true)[0].1.clone();
        coarse.sort();
        told_coarse.sort();
        assert_eq!(told_coarse, coarse);
        assert_eq!(told(&field, &tags(1), false)[0].1, [name(coarse_tag(""))]);
    }
}
