//! Query strings in their one form.
//!
//! What two clients spell differently and the backend reads alike becomes one key; what the backend
//! might read differently stays apart. The rules are those of `qs` as Express uses it, measured on
//! Medusa v2. In doubt the request passes uncached: a wrong merge would answer one question with
//! another's answer.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use smallvec::SmallVec;

use super::route::{QueryKind, QueryParam, Rule, UnknownQuery};

/// Everything but unreserved characters (RFC 3986 §2.3) is escaped in a value.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// In a name the brackets of `id[]` and the `$` of `created_at[$gt]` stay readable.
const NAME: &AsciiSet = &VALUE.remove(b'[').remove(b']').remove(b'$');
/// `qs` turns longer arrays into objects, in some versions.
const LIST_MAX: usize = 20;

/// Why a query string has no canonical form under a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryTrouble {
    /// A parameter that the rule does not list, and the rule lets such requests by.
    Unknown,
    /// A form whose reading by the backend is not certain: the request passes uncached.
    Shape,
    /// A parameter that is one value was given as several: refused, because it can hang a backend.
    Repeated,
}

type Values<'q> = SmallVec<[(usize, Cow<'q, str>, Cow<'q, str>); 8]>;

/// Appends the canonical form of `query` (without `?`) to `out`, whatever stands there already.
///
/// # Errors
/// See [`QueryTrouble`]; `out` then holds nothing of use. `Repeated` wins over the others, so that no
/// odd parameter beside it smuggles a doubled scalar to the backend.
pub fn canonicalize(query: &str, rule: &Rule, out: &mut Vec<u8>) -> Result<(), QueryTrouble> {
    if is_canonical(query, rule) {
        out.extend_from_slice(query.as_bytes());
        return Ok(());
    }
    rewrite(query, rule, out)
}

fn rewrite(query: &str, rule: &Rule, out: &mut Vec<u8>) -> Result<(), QueryTrouble> {
    let begin = out.len();
    let mut values: Values<'_> = SmallVec::new();
    let mut trouble = None;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (Some(name), Some(value)) = (decode(name), decode(value)) else {
            trouble = trouble.or(Some(QueryTrouble::Shape));
            continue;
        };
        let (base, suffix) = match name.find('[') {
            Some(at) if at > 0 => {
                let (base, suffix) = name.split_at(at);
                (Cow::Owned(base.to_owned()), Cow::Owned(suffix.to_owned()))
            }
            _ => (name, Cow::Borrowed("")),
        };
        match rule.query.binary_search_by(|param| param.name.as_str().cmp(&base)) {
            Ok(index) => values.push((index, suffix, value)),
            Err(_) if rule.tracking.contains(&base) => {}
            Err(_) => match rule.unknown_query {
                UnknownQuery::Drop => {}
                UnknownQuery::Pass => trouble = trouble.or(Some(QueryTrouble::Unknown)),
            },
        }
    }
    // Stable: the values of one parameter keep their order.
    values.sort_by_key(|(index, ..)| *index);
    let mut rest = values.as_slice();
    while let Some((index, ..)) = rest.first() {
        let same = rest.iter().take_while(|(other, ..)| other == index).count();
        let (group, after) = rest.split_at(same);
        rest = after;
        match write_param(&rule.query[*index], group, begin, out) {
            Err(QueryTrouble::Repeated) => return Err(QueryTrouble::Repeated),
            Err(other) => trouble = trouble.or(Some(other)),
            Ok(()) => {}
        }
    }
    trouble.map_or(Ok(()), Err)
}

/// Whether a query is its own canonical form, as far as one look can tell: nothing is escaped, or would have
/// to be, and single values stand in the order of their names. Most of a shop's own requests are like that.
fn is_canonical(query: &str, rule: &Rule) -> bool {
    let mut params = rule.query.iter();
    query.as_bytes().split(|byte| *byte == b'&').all(|pair| {
        let Some(at) = pair.iter().position(|byte| !IS_UNRESERVED[usize::from(*byte)]) else { return false };
        let (name, value) = pair.split_at(at);
        let Some(value) = value.strip_prefix(b"=") else { return false };
        // A name that stands before the last one, or again, is not found any more.
        let Some(param) = params.find(|param| param.name.as_bytes() == name) else { return false };
        value.iter().all(|byte| IS_UNRESERVED[usize::from(*byte)])
            && param.default.as_deref().is_none_or(|default| default.as_bytes() != value)
            && match param.kind {
                QueryKind::Text | QueryKind::List | QueryKind::Fields | QueryKind::Nested => true,
                QueryKind::Integer | QueryKind::Locale => match std::str::from_utf8(value) {
                    Ok(value) if param.kind == QueryKind::Integer => canonical_integer(value) == value,
                    Ok(value) => canonical_locale(value) == value,
                    Err(_) => false,
                },
            }
    })
}

/// RFC 3986 §2.3.
const IS_UNRESERVED: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
        byte += 1;
    }
    table
};

fn write_param(
    param: &QueryParam,
    group: &[(usize, Cow<'_, str>, Cow<'_, str>)],
    begin: usize,
    out: &mut Vec<u8>,
) -> Result<(), QueryTrouble> {
    match param.kind {
        QueryKind::List => return write_list(param, group, begin, out),
        QueryKind::Nested => {
            for (_, suffix, value) in group {
                write_pair(&param.name, suffix, value, begin, out);
            }
            return Ok(());
        }
        QueryKind::Text | QueryKind::Integer | QueryKind::Fields | QueryKind::Locale => {}
    }
    let [(_, suffix, value)] = group else { return Err(QueryTrouble::Repeated) };
    if !suffix.is_empty() {
        return Err(QueryTrouble::Repeated);
    }
    let value = match param.kind {
        QueryKind::Integer => canonical_integer(value),
        QueryKind::Fields => canonical_fields(value),
        QueryKind::Locale => canonical_locale(value),
        QueryKind::Text | QueryKind::List | QueryKind::Nested => Cow::Borrowed(value.as_ref()),
    };
    if param.default.as_deref() != Some(value.as_ref()) {
        write_pair(&param.name, "", &value, begin, out);
    }
    Ok(())
}

/// `a=1&a=2` ≡ `a[]=1&a[]=2` ≡ `a[0]=1&a[1]=2` ≡ `a[]=1,2`; but `a=1,2` is one value with a comma.
fn write_list(
    param: &QueryParam,
    group: &[(usize, Cow<'_, str>, Cow<'_, str>)],
    begin: usize,
    out: &mut Vec<u8>,
) -> Result<(), QueryTrouble> {
    if group.len() > LIST_MAX {
        return Err(QueryTrouble::Shape);
    }
    if let [(_, suffix, value)] = group
        && suffix.is_empty()
    {
        write_pair(&param.name, "", value, begin, out);
        return Ok(());
    }
    let plain = group.iter().all(|(_, suffix, _)| suffix.is_empty());
    let pushed = group.iter().all(|(_, suffix, _)| suffix == "[]");
    let indexed = group.iter().enumerate().all(|(at, (_, suffix, _))| {
        suffix.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).is_some_and(|index| index == at.to_string())
    });
    if !(plain || pushed || indexed) {
        return Err(QueryTrouble::Shape);
    }
    if let [(_, _, value)] = group {
        let pieces = value.split(',').count();
        if pieces > LIST_MAX {
            return Err(QueryTrouble::Shape);
        }
        if value.split(',').all(|piece| !piece.is_empty()) {
            for piece in value.split(',') {
                write_pair(&param.name, "[]", piece, begin, out);
            }
            return Ok(());
        }
    }
    for (_, _, value) in group {
        write_pair(&param.name, "[]", value, begin, out);
    }
    Ok(())
}

fn write_pair(name: &str, suffix: &str, value: &str, begin: usize, out: &mut Vec<u8>) {
    if out.len() > begin {
        out.push(b'&');
    }
    for part in [name, suffix] {
        utf8_percent_encode(part, NAME).for_each(|piece| out.extend_from_slice(piece.as_bytes()));
    }
    out.push(b'=');
    utf8_percent_encode(value, VALUE).for_each(|piece| out.extend_from_slice(piece.as_bytes()));
}

/// One decoding, never two. `None` for a broken escape or what is not UTF-8.
pub(crate) fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.bytes().any(|byte| byte == b'%' || byte == b'+') {
        return Some(Cow::Borrowed(text));
    }
    let broken =
        text.bytes().enumerate().filter(|(_, byte)| *byte == b'%').any(|(at, _)| {
            !text.as_bytes().get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
        });
    if broken {
        return None;
    }
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().ok().map(|decoded| Cow::Owned(decoded.into_owned()))
}

/// Leading zeros mean nothing; whatever is no plain number is left to the backend.
fn canonical_integer(value: &str) -> Cow<'_, str> {
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Cow::Borrowed(value);
    }
    let trimmed = value.trim_start_matches('0');
    Cow::Borrowed(if trimmed.is_empty() { "0" } else { trimmed })
}

/// BCP 47 case: `FR-fr` is `fr-FR`, `zh-hans` is `zh-Hans`, `RU-cYrl-By` is `ru-Cyrl-BY`.
pub(crate) fn canonical_locale(value: &str) -> Cow<'_, str> {
    let segments: SmallVec<[&str; 4]> = value.split('-').collect();
    let plain =
        segments.iter().all(|segment| !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    if !plain || segments.len() > 3 {
        return Cow::Borrowed(value);
    }
    let mut canonical = segments[0].to_ascii_lowercase();
    for (at, segment) in segments.iter().enumerate().skip(1) {
        canonical.push('-');
        let script = segment.len() == 4 && segment.bytes().all(|byte| byte.is_ascii_alphabetic());
        if (at == 1 && segments.len() == 3) || (segments.len() == 2 && script) {
            let (first, rest) = segment.split_at(1);
            canonical.push_str(&first.to_ascii_uppercase());
            canonical.push_str(&rest.to_ascii_lowercase());
        } else {
            canonical.push_str(&segment.to_ascii_uppercase());
        }
    }
    if canonical == value { Cow::Borrowed(value) } else { Cow::Owned(canonical) }
}

/// A field selection as a sorted set, where that is certainly the same question.
///
/// Left as it is: a selection that removes (`-x`), because a removal acts on what stands before it;
/// and one with any character or modifier that is not of the plain forms.
fn canonical_fields(value: &str) -> Cow<'_, str> {
    let mut items: SmallVec<[Cow<'_, str>; 12]> = SmallVec::new();
    let mut replaces = false;
    for item in value.split(',').filter(|item| !item.is_empty()) {
        let Some((form, name)) = plain_field(item) else { return Cow::Borrowed(value) };
        replaces |= form == FieldForm::Bare;
        items.push(match form {
            FieldForm::Star => Cow::Owned(format!("*{name}")),
            FieldForm::Bare | FieldForm::Added => Cow::Borrowed(name),
        });
    }
    if items.is_empty() {
        return Cow::Borrowed(value);
    }
    items.sort_unstable();
    items.dedup();
    let mut canonical = String::with_capacity(value.len() + items.len());
    for item in &items {
        if !canonical.is_empty() {
            canonical.push(',');
        }
        // One bare item makes the whole list replace the defaults; else each name is an addition.
        if !replaces && !item.starts_with('*') {
            canonical.push('+');
        }
        canonical.push_str(item);
    }
    Cow::Owned(canonical)
}

#[derive(PartialEq, Eq)]
enum FieldForm {
    Bare,
    Added,
    Star,
}

/// `x`, `+x`, ` x`, `*x`, `x.*`, and the last two behind a `+` or a space.
fn plain_field(item: &str) -> Option<(FieldForm, &str)> {
    let (added, rest) = match item.strip_prefix(['+', ' ']) {
        Some(rest) => (true, rest),
        None => (false, item),
    };
    let (star, name) = match (rest.strip_prefix('*'), rest.strip_suffix(".*")) {
        (Some(name), None) | (None, Some(name)) => (true, name),
        (None, None) => (false, rest),
        (Some(_), Some(_)) => return None,
    };
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'))
        && name.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
        && !name.ends_with('.');
    plain.then_some(())?;
    Some((
        match (star, added) {
            (true, _) => FieldForm::Star,
            (false, true) => FieldForm::Added,
            (false, false) => FieldForm::Bare,
        },
        name,
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::route::tests::rule;

    fn canonical(query: &str) -> Result<String, QueryTrouble> {
        let mut out = Vec::new();
        canonicalize(query, &rule(), &mut out).map(|()| String::from_utf8(out).unwrap())
    }

    fn check(query: &str, expected: &str) {
        assert_eq!(canonical(query).as_deref(), Ok(expected), "{query}");
    }

    fn trouble(query: &str, expected: QueryTrouble) {
        assert_eq!(canonical(query), Err(expected), "{query}");
    }

    #[test]
    fn order_escapes_and_defaults_do_not_matter() {
        check("", "");
        check("&&", "");
        check("q=jean&limit=2", "limit=2&q=jean");
        check("limit=2&q=%6Aean", "limit=2&q=jean");
        check("q=a+b", "q=a%20b");
        check("q=a%2Bb", "q=a%2Bb");
        check("limit=50&offset=0", "");
        check("limit=050&offset=00", "");
        check("limit=2abc", "limit=2abc");
        check("limit=-1", "limit=-1");
        check("q", "q=");
        check("utm_source=x&gclid=1&q=a", "q=a");
        check("q=a;b=c", "q=a%3Bb%3Dc");
    }

    #[test]
    fn lists_have_one_form_where_the_backend_reads_them_alike() {
        for same in ["id=a&id=b", "id[]=a&id[]=b", "id[0]=a&id[1]=b", "id[]=a,b", "id%5B0%5D=a&id%5B1%5D=b"] {
            check(same, "id[]=a&id[]=b");
        }
        check("id=a,b", "id=a%2Cb");
        check("id[]=a", "id[]=a");
        check("id=a", "id=a");
        check("id=b&id=a", "id[]=b&id[]=a");
        check("id[]=a,", "id[]=a%2C");
        check("id[]=a,b&id[]=c", "id[]=a%2Cb&id[]=c");
        trouble("id=a&id[]=b", QueryTrouble::Shape);
        trouble("id[1]=a&id[0]=b", QueryTrouble::Shape);
        trouble("id[5]=a&id[6]=b", QueryTrouble::Shape);
        trouble("id[a]=1", QueryTrouble::Shape);
        trouble(&"id[]=x&".repeat(21), QueryTrouble::Shape);
    }

    #[test]
    fn fields_are_a_set() {
        check("fields=id,handle,title", "fields=handle%2Cid%2Ctitle");
        check("fields=title, handle,id,id", "fields=handle%2Cid%2Ctitle");
        for same in ["fields=%2Ba,*b", "fields=*b,+a", "fields=b.*, a,", "fields=+a,%20*b", "fields=,*b,+a,*b"] {
            check(same, "fields=%2Ab%2C%2Ba");
        }
        check("fields=", "fields=");
        // A removal acts on what stands before it, so its place matters.
        check("fields=-a,%2Bb", "fields=-a%2C%2Bb");
        check("fields=%2Bb,-a", "fields=%2Bb%2C-a");
        // One bare name makes the list replace the defaults, which is another question.
        assert_ne!(canonical("fields=a,+b"), canonical("fields=+a,+b"));
        check("fields=a,+b", "fields=a%2Cb");
        check("fields=a%09", "fields=a%09");
        check("fields=*a.*", "fields=%2Aa.%2A");
    }

    #[test]
    fn a_scalar_given_twice_is_refused_whatever_stands_beside_it() {
        trouble("locale=a&locale=b", QueryTrouble::Repeated);
        trouble("locale[]=a", QueryTrouble::Repeated);
        trouble("limit=1&limit=2", QueryTrouble::Repeated);
        trouble("nope=1&%6Cocale=a&locale=b", QueryTrouble::Repeated);
        trouble("id[x]=1&locale=a&locale=b", QueryTrouble::Repeated);
    }

    #[test]
    fn what_is_not_listed_passes() {
        trouble("nope=1", QueryTrouble::Unknown);
        trouble("Limit=1", QueryTrouble::Unknown);
        trouble("cart_id=cart_1", QueryTrouble::Unknown);
        trouble("a.b=1", QueryTrouble::Unknown);
        trouble("[]=1", QueryTrouble::Unknown);
        trouble("q=%zz", QueryTrouble::Shape);
        trouble("q=%ff", QueryTrouble::Shape);
        let mut dropping = rule();
        dropping.unknown_query = UnknownQuery::Drop;
        let mut out = Vec::new();
        canonicalize("nope=1&q=a", &dropping, &mut out).unwrap();
        assert_eq!(out, b"q=a");
    }

    #[test]
    fn what_needs_no_rewriting_is_known_at_one_look() {
        for query in ["limit=2&q=jean", "region_id=reg_01JAV7Z9", "id=a&locale=fr-FR", "q="] {
            assert!(is_canonical(query, &rule()), "{query}");
        }
        for query in ["", "q=a&limit=2", "q=a+b", "limit=50", "limit=02", "q=a&q=b", "q", "id[]=a", "utm_x=a", "q=a&"] {
            assert!(!is_canonical(query, &rule()), "{query}");
        }
    }

    #[test]
    fn nested_parameters_stay_as_they_were_sent() {
        check("created_at[$gt]=1&created_at[$lt]=2", "created_at[$gt]=1&created_at[$lt]=2");
        assert_ne!(canonical("created_at[a]=1&created_at[b]=2"), canonical("created_at[b]=2&created_at[a]=1"));
    }

    #[test]
    fn locales_have_the_case_of_bcp_47() {
        check("locale=FR-fr", "locale=fr-FR");
        check("locale=EN", "locale=en");
        check("locale=zh-hans", "locale=zh-Hans");
        check("locale=RU-cYrl-By", "locale=ru-Cyrl-BY");
        check("locale=fr_FR", "locale=fr_FR");
        check("locale=", "locale=");
    }

    proptest! {
        /// The origin is sent the canonical form, so it must read as what it was made from.
        #[test]
        fn canonical_form_is_a_fixed_point(query in "([a-z_]{1,6}(\\[\\])?=[ -~]{0,6}&?){0,5}|(id(\\[\\])?=[a-c,]{0,3}&|fields=[a-c*+ .,-]{0,8}&|q=[%0-9a-f+]{0,5}&|limit=[0-9a]{0,4}&){0,4}") {
            if let Ok(once) = canonical(&query) {
                prop_assert_eq!(canonical(&once), Ok(once.clone()));
            }
        }

        /// What is left as it is would be written as it is.
        #[test]
        fn a_canonical_query_is_rewritten_to_itself(
            query in "((created_at|fields|id|limit|locale|offset|q|region_id|utm_x)(\\[\\])?=(0{0,2}[0-9]{0,2}|[a-z]{2}(-[A-Za-z]{2,4})?|[a-zA-Z0-9._~*,+% -]{0,4})&?){0,4}"
        ) {
            if is_canonical(&query, &rule()) {
                let mut out = Vec::new();
                prop_assert_eq!(rewrite(&query, &rule(), &mut out), Ok(()));
                prop_assert_eq!(String::from_utf8(out).unwrap(), query);
            }
        }

        /// Two different texts never become one.
        #[test]
        fn text_values_stay_apart(a in "\\PC{0,12}", b in "\\PC{0,12}") {
            let encode = |text: &str| canonical(&format!("q={}", utf8_percent_encode(text, VALUE))).unwrap();
            prop_assert_eq!(encode(&a) == encode(&b), a == b);
        }

        #[test]
        fn no_query_panics(query in "\\PC{0,64}") {
            drop(canonical(&query));
        }
    }
}
