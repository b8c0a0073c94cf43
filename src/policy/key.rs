//! Keys: everything that tells two cacheable requests apart, and all that the origin is sent.
//!
//! Invariant: the request of a fill is built from the key's text alone ([`Key::view`]). What is not in
//! the key cannot reach the origin, so it cannot poison the entry.

use std::cell::RefCell;
use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

use super::plain::PlainHead;
use super::query::canonical_locale;
use super::route::{HeaderKind, KeyBy, KeyHeader, Rule};
use super::variant::normal_value;

/// 128 bits of blake3 over a key's text: its name in the shared tier and the log. A shopper chooses the query
/// string, so it must resist collisions; yet who finds an entry by it compares the text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyHash(u128);

impl KeyHash {
    /// The hash of a text: of a key's, or of a name that is none.
    pub(crate) fn of(text: &[u8]) -> Self {
        let hash = blake3::hash(text);
        let (first, _) = hash.as_bytes().split_first_chunk::<16>().expect("a blake3 hash has 32 bytes");
        Self(u128::from_be_bytes(*first))
    }

    /// All 128 bits.
    pub const fn as_u128(self) -> u128 {
        self.0
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Places that the variants of one URL have in the shared tier. More than L1 keeps, so that those it keeps seldom meet.
const VARIANT_PLACES: u128 = 256;

/// A key: its text, part by part with lengths in front.
#[derive(Clone)]
pub struct Key {
    text: SmallVec<[u8; 256]>,
}

/// Why a request that matched a rule has no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyTrouble {
    /// See [`super::query::QueryTrouble`].
    Query(super::query::QueryTrouble),
    /// A header of the key was sent more than once.
    HeaderRepeated,
}

/// What a key says, part by part.
#[derive(Debug, PartialEq, Eq)]
pub struct KeyView<'k> {
    /// The route's name.
    pub route: &'k str,
    /// The path as it is forwarded.
    pub path: &'k str,
    /// The canonical query, empty for none.
    pub query: &'k str,
    /// The Host, where the rule makes it part of the key.
    pub host: Option<&'k str>,
    /// The kept headers that were present.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Of a variant's key: the fields that its answer varies by.
    pub selecting: Vec<HeaderName>,
}

impl Key {
    /// Builds the key of a request that `rule` matched. `host` is used where the rule says so.
    ///
    /// # Errors
    /// The query has no canonical form, or a header of the key was sent twice.
    pub fn of_request(
        rule: &Rule,
        path: &str,
        query: Option<&str>,
        host: &str,
        headers: &HeaderMap,
    ) -> Result<Self, KeyTrouble> {
        let value_of = |header: &KeyHeader| header_value(header, headers);
        with_text(rule, path, query, host, value_of, |text| Self { text: SmallVec::from_slice(text) })
    }

    /// The key of the variant that a request selects among the answers to this key, which vary by `names`.
    #[must_use]
    pub fn variant(&self, rule: &Rule, names: &[HeaderName], request: &HeaderMap) -> Self {
        let mut text = self.text.to_vec();
        // No field has an empty name: here the kept headers end.
        push(&mut text, b"");
        for name in names {
            push(&mut text, name.as_str().as_bytes());
            let value = normal_value(rule, name, request).map_or_else(|| "-".to_owned(), |value| format!("+{value}"));
            push(&mut text, value.as_bytes());
        }
        Self { text: SmallVec::from_vec(text) }
    }

    /// Takes up a key's text as it was stored; `None` when it is not one.
    pub fn from_text(text: &[u8]) -> Option<Self> {
        let key = Self { text: SmallVec::from_slice(text) };
        key.view().map(|_| ())?;
        Some(key)
    }

    /// The fields that the answer with this key's text varies by; none for a text that is no key.
    pub fn selecting(text: &[u8]) -> Vec<HeaderName> {
        Self::from_text(text).and_then(|key| key.view().map(|view| view.selecting)).unwrap_or_default()
    }

    /// The name of the entry in the shared tier and in the log. It is worked out anew at each call: no hit
    /// needs it.
    pub fn hash(&self) -> KeyHash {
        KeyHash::of(&self.text)
    }

    /// Where the shared tier keeps the entry. The variants of one URL have so many places between them: there is no
    /// list of them to keep, and nobody fills the tier by asking in ever new ways. Of two that meet in a place the
    /// later stays; who looks for the other finds a stranger's key there.
    pub fn place(&self) -> KeyHash {
        let Some(url) = self.url() else { return self.hash() };
        let place = self.hash().as_u128() % VARIANT_PLACES;
        // Neither a key nor a variant's: behind the empty name comes no whole part.
        let [.., high, low] = place.to_be_bytes();
        KeyHash::of(&[url, &[0; 4], &[high, low]].concat())
    }

    /// The text of the URL's key, if this is a variant's.
    fn url(&self) -> Option<&[u8]> {
        let mut at = 0;
        for part in 0.. {
            let (length, _) = self.text.get(at..)?.split_first_chunk::<4>()?;
            // The kept headers are pairs behind the first four parts; an empty name ends them.
            if part >= 4 && part % 2 == 0 && *length == [0; 4] {
                return self.text.get(..at);
            }
            at += 4 + u32::from_be_bytes(*length) as usize;
        }
        None
    }

    /// The whole key: two requests are one question only if it is the same in both.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// The parts of the key; `None` only for a text that [`Key::of_request`] did not write.
    pub fn view(&self) -> Option<KeyView<'_>> {
        let mut rest = self.text.as_slice();
        let mut next = || {
            let (length, after) = rest.split_first_chunk::<4>()?;
            let (part, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
            rest = after;
            Some(part)
        };
        let mut utf8 = || std::str::from_utf8(next()?).ok();
        let (route, path, query, host) = (utf8()?, utf8()?, utf8()?, utf8()?);
        let (mut headers, mut selecting) = (Vec::new(), Vec::new());
        while let Some(name) = next().filter(|name| !name.is_empty()) {
            headers.push((HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(next()?).ok()?));
        }
        while let Some(name) = next() {
            selecting.push(HeaderName::from_bytes(name).ok()?);
            next()?;
        }
        rest.is_empty().then_some(())?;
        Some(KeyView { route, path, query, host: (!host.is_empty()).then_some(host), headers, selecting })
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("hash", &self.hash()).field("view", &self.view()).finish()
    }
}

/// Shows the text of a plain request's key, the same that [`Key::of_request`] would hold, without a copy.
///
/// # Errors
/// As [`Key::of_request`].
pub fn with_plain<T>(rule: &Rule, head: &PlainHead<'_>, show: impl FnOnce(&[u8]) -> T) -> Result<T, KeyTrouble> {
    let value_of = |header: &KeyHeader| {
        let same = |(name, _): &&(&[u8], &[u8])| name.eq_ignore_ascii_case(header.name.as_str().as_bytes());
        let mut values = head.fields.iter().filter(same).map(|(_, value)| *value);
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(KeyTrouble::HeaderRepeated),
            (value, None) => Ok(value.filter(|value| !value.is_empty())),
        }
    };
    with_text(rule, head.path, head.query, &head.host, value_of, show)
}

/// Writes a key's text, in memory that a thread uses again and again.
fn with_text<'v, T>(
    rule: &Rule,
    path: &str,
    query: Option<&str>,
    host: &str,
    value_of: impl Fn(&KeyHeader) -> Result<Option<&'v [u8]>, KeyTrouble>,
    show: impl FnOnce(&[u8]) -> T,
) -> Result<T, KeyTrouble> {
    thread_local! {
        static TEXT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    TEXT.with_borrow_mut(|text| {
        text.clear();
        push(text, rule.name.as_bytes());
        push(text, path.as_bytes());
        // The length is known when the canonical form is written.
        let at = text.len();
        push(text, b"");
        if let Some(query) = query.filter(|query| !query.is_empty()) {
            match rule.key {
                KeyBy::Listed => super::query::canonicalize(query, rule, text).map_err(KeyTrouble::Query)?,
                KeyBy::Url => text.extend_from_slice(query.as_bytes()),
            }
            let length = u32::try_from(text.len() - at - 4).expect("a request head is far below 4 GiB");
            text[at..at + 4].copy_from_slice(&length.to_be_bytes());
        }
        push(text, if rule.host_in_key { host.as_bytes() } else { b"" });
        let answered_here = |header: &&KeyHeader| header.kind == HeaderKind::Origin && rule.cors.is_some();
        for header in rule.headers.iter().filter(|header| !answered_here(header)) {
            if let Some(value) = value_of(header)? {
                push(text, header.name.as_str().as_bytes());
                let locale = (header.kind == HeaderKind::Locale).then(|| std::str::from_utf8(value).ok()).flatten();
                match locale {
                    Some(locale) => push(text, canonical_locale(locale).as_bytes()),
                    None => push(text, value),
                }
            }
        }
        Ok(show(text))
    })
}

/// The one value of a kept header, white space around it dropped; an empty one equals an absent one.
fn header_value<'h>(header: &KeyHeader, headers: &'h HeaderMap) -> Result<Option<&'h [u8]>, KeyTrouble> {
    let mut values = headers.get_all(&header.name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(KeyTrouble::HeaderRepeated);
    }
    let value = value.as_bytes().trim_ascii();
    Ok((!value.is_empty()).then_some(value))
}

fn push(text: &mut Vec<u8>, part: &[u8]) {
    let length = u32::try_from(part.len()).expect("a request head is far below 4 GiB");
    text.extend_from_slice(&length.to_be_bytes());
    text.extend_from_slice(part);
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::slice::from_ref;

    use proptest::prelude::*;

    use super::*;
    use crate::policy::route::tests::rule;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    fn key(path: &str, query: Option<&str>, pairs: &[(&str, &str)]) -> Key {
        Key::of_request(&rule(), path, query, "shop.example", &headers(pairs)).unwrap()
    }

    #[test]
    fn what_changes_the_answer_changes_the_key() {
        let base = key("/store/products", None, &[]);
        assert_eq!(base.hash(), key("/store/products", Some(""), &[]).hash());
        assert_eq!(base.hash(), key("/store/products", Some("limit=50&utm_source=x"), &[]).hash());
        assert_eq!(base.hash(), key("/store/products", None, &[("x-medusa-locale", " "), ("accept", "a/b")]).hash());
        assert_eq!(
            key("/store/products", None, &[("x-medusa-locale", "FR-fr")]).hash(),
            key("/store/products", None, &[("X-Medusa-Locale", "fr-FR ")]).hash()
        );
        for other in [
            key("/store/products/a", None, &[]),
            key("/store/products", Some("limit=2"), &[]),
            key("/store/products", None, &[("x-publishable-api-key", "pk")]),
            key("/store/products", None, &[("x-medusa-locale", "pk")]),
            key("/store/products", None, &[("origin", "http://a")]),
        ] {
            assert_ne!(base.hash(), other.hash(), "{other:?}");
        }
    }

    #[test]
    fn the_host_counts_only_where_the_rule_says_so() {
        let mut rule = rule();
        let of = |rule: &Rule, host| Key::of_request(rule, "/a", None, host, &HeaderMap::new()).unwrap();
        assert_eq!(of(&rule, "a").hash(), of(&rule, "b").hash());
        rule.host_in_key = true;
        assert_ne!(of(&rule, "a").hash(), of(&rule, "b").hash());
        assert_eq!(of(&rule, "a").view().unwrap().host, Some("a"));
    }

    #[test]
    fn a_key_by_url_takes_the_query_as_it_is() {
        let rule = Rule { key: KeyBy::Url, ..rule() };
        let of = |query| Key::of_request(&rule, "/a", Some(query), "", &HeaderMap::new()).unwrap();
        assert_eq!(of("b=1&a=%41&a=2&utm_source=x").view().unwrap().query, "b=1&a=%41&a=2&utm_source=x");
        assert_ne!(of("a=%41").hash(), of("a=A").hash());
    }

    #[test]
    fn a_variant_is_told_by_the_names_and_the_values() {
        let base = key("/store/products", None, &[("x-publishable-api-key", "pk")]);
        let (foo, bar) = (HeaderName::from_static("foo"), HeaderName::from_static("bar"));
        let of = |names: &[HeaderName], pairs: &[(&str, &str)]| base.variant(&rule(), names, &headers(pairs)).hash();
        let one = of(from_ref(&foo), &[("foo", "1"), ("bar", "2")]);
        assert_eq!(one, of(from_ref(&foo), &[("foo", "1"), ("bar", "3")]), "bar does not select");
        let others = [
            base.hash(),
            of(from_ref(&foo), &[("foo", "2")]),
            of(from_ref(&foo), &[("foo", "")]),
            of(from_ref(&foo), &[]),
            of(&[foo.clone(), bar.clone()], &[("foo", "1")]),
            of(from_ref(&bar), &[("bar", "1")]),
        ];
        for (at, other) in others.iter().enumerate() {
            assert!(*other != one && !others[..at].contains(other), "{at}");
        }
        let variant = base.variant(&rule(), from_ref(&foo), &headers(&[("foo", "1")]));
        let view = variant.view().unwrap();
        assert_eq!((view.path, view.headers.len(), view.selecting), ("/store/products", 1, vec![foo]));
        assert_eq!(Key::from_text(variant.text()).unwrap().hash(), variant.hash());
    }

    #[test]
    fn the_variants_of_one_url_share_its_places_and_no_others() {
        let foo = HeaderName::from_static("foo");
        let places = |path: &str| {
            let base = key(path, Some("limit=2"), &[("x-publishable-api-key", "pk"), ("x-medusa-locale", "de")]);
            assert_eq!(base.place(), base.hash());
            let of = |value: usize| base.variant(&rule(), from_ref(&foo), &headers(&[("foo", &value.to_string())]));
            let places: HashSet<u128> = (0..4000).map(|value| of(value).place().as_u128()).collect();
            assert!(!places.contains(&base.hash().as_u128()));
            assert_eq!(of(1).place(), of(1).place());
            places
        };
        let (one, other) = (places("/store/products"), places("/store/regions"));
        assert_eq!((one.len(), other.len()), (256, 256));
        assert!(one.is_disjoint(&other));
    }

    #[test]
    fn a_header_of_the_key_sent_twice_has_no_key() {
        let twice = headers(&[("x-publishable-api-key", "a"), ("x-publishable-api-key", "b")]);
        let trouble = Key::of_request(&rule(), "/store/products", None, "", &twice).unwrap_err();
        assert_eq!(trouble, KeyTrouble::HeaderRepeated);
    }

    #[test]
    fn the_view_gives_back_what_went_in() {
        let key = key("/store/products", Some("q=a&limit=2"), &[("x-publishable-api-key", "pk"), ("cookie", "x")]);
        let view = key.view().unwrap();
        assert_eq!(
            (view.route, view.path, view.query, view.host),
            ("products", "/store/products", "limit=2&q=a", None)
        );
        assert_eq!(view.headers, [("x-publishable-api-key".parse().unwrap(), HeaderValue::from_static("pk"))]);
        assert_eq!(Key::from_text(key.text()).unwrap().hash(), key.hash());
    }

    proptest! {
        /// Parts cannot be shifted into one another.
        #[test]
        fn different_requests_have_different_texts(
            a in ("/[a-z]{0,4}", "[a-z=]{0,4}", "[a-z]{0,4}"), b in ("/[a-z]{0,4}", "[a-z=]{0,4}", "[a-z]{0,4}"),
        ) {
            let mut rule = rule();
            rule.query = vec![crate::policy::route::QueryParam {
                name: "q".into(), kind: crate::policy::route::QueryKind::Text, default: None }];
            let text = |(path, q, pk): &(String, String, String)| {
                let headers = headers(&[("x-publishable-api-key", pk)]);
                let q = format!("q={}", q.replace('=', "%3D"));
                Key::of_request(&rule, path, Some(&q), "", &headers).unwrap().text().to_vec()
            };
            prop_assert_eq!(text(&a) == text(&b), a == b);
        }

        #[test]
        fn foreign_text_never_panics(text in proptest::collection::vec(any::<u8>(), 0..64)) {
            drop(Key::from_text(&text));
        }
    }
}
