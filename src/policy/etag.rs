//! Entity tags: our own where the origin has none, and one for each form of a body (RFC 9110 §8.8.3).

use http::{HeaderMap, HeaderValue, header};

use super::encoding::Coding;

/// Stands between an origin's strong tag and the name of the coding that we made of its body.
const MARK: u8 = b'~';

/// Our own tag of a plain body: strong, and the same for the same bytes, whoever filled them and whenever. So
/// what a purge did not change is not sent again. 128 bits of blake3: the origin chooses the body.
///
/// It is never weak: it changes whenever a byte does, which is what strong means (RFC 9110 §8.8.1), and a weak one
/// could ask for no part (§13.1.5). An encoded form is other bytes, so it has a tag of its own, [`of_form`], and no two
/// representations share a strong one (§8.8.3.3).
pub fn of_body(body: &[u8]) -> HeaderValue {
    let hash = blake3::hash(body).to_hex();
    let tag = format!("\"{}\"", hash.split_at(32).0);
    HeaderValue::from_str(&tag).expect("hexadecimal digits in quotes")
}

/// The tag of a body's form in a coding. A strong tag names bytes, so each form has one of its own (RFC 9110
/// §8.8.3.3); a weak one names what they mean, and all forms share it.
pub fn of_form(etag: &HeaderValue, coding: Coding) -> HeaderValue {
    let Some(inner) = strong(etag.as_bytes()) else { return etag.clone() };
    let tag = [b"\"", inner, &[MARK], coding.as_str().as_bytes(), b"\""].concat();
    HeaderValue::from_bytes(&tag).expect("an entity tag and a name")
}

/// Puts `If-Match` and `If-None-Match` as the origin would have them said, which knows its own bodies alone: each
/// field's lines are one list (RFC 9110 §5.3), and in it stand the origin's tags for those of our forms of its bodies.
/// Where it names none of ours, a field stays as it is.
///
/// In `If-None-Match` of a safe request our tags are left out instead: a 304 with the origin's tag would not be about
/// what the client holds (RFC 9111 §4.3.4), so it is sent the whole.
pub fn without_forms(headers: &mut HeaderMap, is_safe: bool) {
    for name in [header::IF_MATCH, header::IF_NONE_MATCH] {
        let tags = headers.get_all(&name).iter().flat_map(|line| members(line.as_bytes()));
        let tags: Vec<(&[u8], Option<Vec<u8>>)> = tags.map(|tag| (tag, plain(tag))).collect();
        if tags.iter().all(|(_, plain)| plain.is_none()) {
            continue;
        }
        let leaves_out = is_safe && name == header::IF_NONE_MATCH;
        let said = tags.into_iter().filter(|(_, plain)| !(leaves_out && plain.is_some()));
        let said: Vec<Vec<u8>> = said.map(|(tag, plain)| plain.unwrap_or_else(|| tag.to_vec())).collect();
        match HeaderValue::from_bytes(&said.join(&b", "[..])) {
            Ok(list) if !list.is_empty() => drop(headers.insert(name, list)),
            _ => drop(headers.remove(name)),
        }
    }
}

/// The origin's own tag, of the tag of a form that we made of its body; weak where it was weakened on the way.
fn plain(tag: &[u8]) -> Option<Vec<u8>> {
    let quoted = tag.strip_suffix(b"\"")?;
    let of = |coding: &Coding| quoted.strip_suffix(coding.as_str().as_bytes())?.strip_suffix(&[MARK]);
    strong(opaque(tag)).and(Coding::ALL.iter().find_map(of)).map(|inner| [inner, b"\""].concat())
}

/// Whether `tag`, as a client sends it, is that of a form of the body with this tag, by weak comparison (RFC
/// 9110 §8.8.3.2). What has no quotes is no entity tag, but two that are the same bytes are the same.
pub fn is_of_form(tag: &[u8], etag: &[u8], form: Option<Coding>) -> bool {
    let tag = opaque(tag);
    match (form, strong(etag)) {
        (Some(coding), Some(inner)) => {
            let name = strong(tag).and_then(|tag| tag.strip_prefix(inner)?.strip_prefix(&[MARK]));
            name == Some(coding.as_str().as_bytes())
        }
        (Some(_) | None, _) => tag == opaque(etag),
    }
}

/// Whether a tag can stand for bytes, part by part.
pub fn is_strong(etag: &[u8]) -> bool {
    etag.starts_with(b"\"")
}

/// The entity tag of an answer: on one line one tag, in quotes and weak or not (RFC 9110 §8.8.3).
pub fn only(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut lines = headers.get_all(header::ETAG).iter();
    let (tag, None) = (lines.next()?, lines.next()) else { return None };
    let is_etagc = |byte: &u8| matches!(byte, 0x21 | 0x23..=0x7e | 0x80..);
    strong(opaque(tag.as_bytes())).filter(|inner| inner.iter().all(is_etagc)).map(|_| tag)
}

/// What stands in the quotes of a strong tag.
fn strong(etag: &[u8]) -> Option<&[u8]> {
    etag.strip_prefix(b"\"")?.strip_suffix(b"\"")
}

/// An entity tag without its mark of weakness.
fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// The members of a list of entity tags. A comma may stand inside a tag's quotes.
pub fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    value
        .split(move |byte| {
            quoted ^= *byte == b'"';
            *byte == b',' && !quoted
        })
        .map(<[u8]>::trim_ascii)
        .filter(|tag| !tag.is_empty())
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    #[test]
    fn our_own_tag_is_that_of_the_bytes() {
        assert_eq!(of_body(b"{}"), of_body(b"{}"));
        assert_ne!(of_body(b"{}"), of_body(b"[]"));
        let tag = of_body(b"");
        assert_eq!(tag, "\"af1349b9f5f9a1a6a0404dea36dcc949\"");
        // Strong in all forms, and one each.
        let mut forms: Vec<HeaderValue> = Coding::ALL.iter().map(|coding| of_form(&tag, *coding)).collect();
        forms.push(tag);
        assert!(forms.iter().all(|tag| is_strong(tag.as_bytes())));
        assert_eq!(forms.iter().collect::<std::collections::HashSet<_>>().len(), Coding::ALL.len() + 1);
    }

    #[test]
    fn each_form_has_a_strong_tag_of_its_own_and_all_share_a_weak_one() {
        for (etag, br) in [
            ("\"a\"", "\"a~br\""),
            ("\"\"", "\"~br\""),
            ("\"a,b\"", "\"a,b~br\""),
            ("W/\"a\"", "W/\"a\""),
            ("a", "a"),
            ("\"a", "\"a"),
        ] {
            let etag = HeaderValue::from_static(etag);
            let form = of_form(&etag, Coding::Br);
            assert_eq!(form, br);
            assert!(is_of_form(form.as_bytes(), etag.as_bytes(), Some(Coding::Br)), "{br}");
            let is_shared = form == etag;
            for other in [None, Some(Coding::Gzip)] {
                assert_eq!(is_of_form(form.as_bytes(), etag.as_bytes(), other), is_shared, "{br} {other:?}");
            }
        }
    }

    #[test]
    fn the_origin_is_told_of_its_own_tags_alone_whatever_the_lines() {
        let check = |name: &str, is_safe, sent: &[&str], told: &[&str]| {
            let name: HeaderName = name.parse().unwrap();
            let mut headers = HeaderMap::new();
            for line in sent {
                headers.append(&name, line.parse().unwrap());
            }
            without_forms(&mut headers, is_safe);
            let found: Vec<_> = headers.get_all(&name).iter().map(|line| line.to_str().unwrap()).collect();
            assert_eq!(found, told, "{name} {is_safe} {sent:?}");
        };
        for is_safe in [false, true] {
            let check = |sent, told| check("if-match", is_safe, sent, told);
            check(&["\"a~br\""], &["\"a\""]);
            check(&["\"a,b~gzip\" , W/\"c~br\",\"d\""], &["\"a,b\", W/\"c\", \"d\""]);
            check(&["\"d\"", "\"a~br\"", "\"b~zstd\", *"], &["\"d\", \"a\", \"b\", *"]);
            check(&["\"a\", \"b~brotli\", *", "\"c\""], &["\"a\", \"b~brotli\", *", "\"c\""]);
            check(&["\"a~br"], &["\"a~br"]);
        }
        let check = |is_safe, sent, told| check("if-none-match", is_safe, sent, told);
        check(false, &["\"d\"", "\"a~br\""], &["\"d\", \"a\""]);
        check(true, &["\"d\"", "W/\"a~br\"", "\"b~gzip\""], &["\"d\""]);
        check(true, &["\"a~br\"", "\"b~gzip\""], &[]);
        check(true, &["\"a\"", "\"b\""], &["\"a\"", "\"b\""]);
    }

    #[test]
    fn a_form_is_known_again_when_its_tag_was_weakened_on_the_way() {
        for (tag, etag, form, same) in [
            ("W/\"a~br\"", "\"a\"", Some(Coding::Br), true),
            ("W/\"a\"", "\"a\"", None, true),
            ("\"a\"", "W/\"a\"", Some(Coding::Br), true),
            ("\"a~br\"", "W/\"a\"", Some(Coding::Br), false),
            ("\"a~brotli\"", "\"a\"", Some(Coding::Br), false),
            ("\"ab~br\"", "\"a\"", Some(Coding::Br), false),
            ("\"a\"", "\"a\"", Some(Coding::Br), false),
            ("w/\"a\"", "\"a\"", None, false),
            ("a", "\"a\"", None, false),
            ("a", "a", None, true),
        ] {
            assert_eq!(is_of_form(tag.as_bytes(), etag.as_bytes(), form), same, "{tag} {etag} {form:?}");
        }
    }
}
