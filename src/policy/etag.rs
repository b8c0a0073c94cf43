//! Entity tags: our own where the origin has none, and one for each form of a body (RFC 9110 §8.8.3).

use http::HeaderValue;

use super::encoding::Coding;

/// Stands between an origin's strong tag and the name of the coding that we made of its body.
const MARK: u8 = b'~';

/// Our own tag of a body: strong, and the same for the same bytes, whoever filled them and whenever. So
/// what a purge did not change is not sent again. 128 bits of blake3: the origin chooses the body.
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

/// `If-Match` as the origin would have it said: the tags of its own bodies for those of our forms of them. Nothing
/// where it names none of ours.
pub fn without_forms(if_match: &HeaderValue) -> Option<HeaderValue> {
    let plain = |tag: &[u8]| {
        let inner = strong(tag)?;
        let of = |coding: &Coding| inner.strip_suffix(coding.as_str().as_bytes())?.strip_suffix(&[MARK]);
        Coding::ALL.iter().find_map(of).map(|inner| [b"\"", inner, b"\""].concat())
    };
    let tags: Vec<_> = members(if_match.as_bytes()).map(|tag| (tag, plain(tag))).collect();
    tags.iter().find(|(_, plain)| plain.is_some())?;
    let said: Vec<Vec<u8>> = tags.into_iter().map(|(tag, plain)| plain.unwrap_or_else(|| tag.to_vec())).collect();
    HeaderValue::from_bytes(&said.join(&b", "[..])).ok()
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
    use super::*;

    #[test]
    fn our_own_tag_is_that_of_the_bytes() {
        assert_eq!(of_body(b"{}"), of_body(b"{}"));
        assert_ne!(of_body(b"{}"), of_body(b"[]"));
        let tag = of_body(b"");
        assert_eq!(tag, "\"af1349b9f5f9a1a6a0404dea36dcc949\"");
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
    fn the_origin_is_told_of_its_own_tags_alone() {
        for (sent, told) in [
            ("\"a~br\"", Some("\"a\"")),
            ("\"a,b~gzip\" , W/\"c~br\",\"d\"", Some("\"a,b\", W/\"c~br\", \"d\"")),
            ("\"a\", \"b~brotli\", *", None),
            ("\"a~br", None),
        ] {
            assert_eq!(
                without_forms(&HeaderValue::from_static(sent)).as_ref().map(HeaderValue::as_bytes),
                told.map(str::as_bytes)
            );
        }
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
