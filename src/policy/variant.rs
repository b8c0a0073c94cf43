//! Variants: which of the stored answers of one URL a request selects (RFC 9111 §4.1).
//!
//! Invariant: a variant's key holds the names that its answer varies by and the values of the request that
//! it was given to, in normal form. Two requests share it only if they agree in all of them.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::HashSet;

use http::{HeaderMap, HeaderName, header};

use super::hop_by_hop;
use super::route::Rule;

/// A request's value of a selecting field in its normal form; `None` for an absent one. Several lines are one
/// list, and white space around commas means nothing; languages and codings are put in order, with their weights.
pub fn normal_value(rule: &Rule, name: &HeaderName, request: &HeaderMap) -> Option<String> {
    if !request.contains_key(name) {
        return None;
    }
    // Who may drop a field on the way to the origin may not select by it here.
    if !hop_by_hop::is_end_to_end(name) && hop_by_hop::named_by_connection(request).any(|named| named == *name) {
        return None;
    }
    let lines: Vec<Cow<'_, str>> =
        request.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    let joined = lines.join(",");
    let members = members(&joined);
    let is_language = *name == header::ACCEPT_LANGUAGE;
    let is_ranked = is_language || *name == header::ACCEPT_ENCODING;
    let keeps_order = is_language && !rule.normalize_languages;
    if let Some(ranked) = is_ranked.then(|| by_preference(&members, keeps_order)).flatten() {
        return Some(ranked);
    }
    // Lossy texts of different bytes are alike, so what is no UTF-8 stays apart byte for byte.
    Some(if joined.contains('\u{fffd}') { hex(request, name) } else { members.join(",") })
}

/// The members of a list, without the white space around them. Commas in quotes part nothing.
fn members(list: &str) -> Vec<&str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let members = list.split(|char| {
        let parts = char == ',' && !is_quoted;
        match char {
            '"' if !is_escaped => is_quoted = !is_quoted,
            _ => {}
        }
        is_escaped = is_quoted && char == '\\' && !is_escaped;
        parts
    });
    members.map(str::trim).collect()
}

/// Codings or languages from the most wanted to the unwanted, each with its weight, in lower case. Those wanted alike
/// stand in the order of the alphabet, unless the one in which they were said is kept: an origin may take that of
/// languages for their priority (RFC 9110 §12.5.4). `None` where one of them is not a name and at most a weight: what
/// the origin makes of that nobody can say.
fn by_preference(members: &[&str], keeps_order: bool) -> Option<String> {
    let wish = |member: &&str| {
        let (name, weight) = match member.split_once(';') {
            None => (*member, 1000),
            Some((name, weight)) => (name.trim_end(), thousandths(weight.trim_start())?),
        };
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-*_.+".contains(&byte));
        is_name.then(|| (weight, name.to_ascii_lowercase()))
    };
    let mut wishes: Vec<(u16, String)> =
        members.iter().filter(|member| !member.is_empty()).map(wish).collect::<Option<_>>()?;
    if !keeps_order {
        wishes.sort_by(|a, b| a.1.cmp(&b.1));
    }
    // A stable sort: those of one weight stay as they stand.
    wishes.sort_by_key(|(weight, _)| Reverse(*weight));
    let mut said = HashSet::new();
    wishes.retain(|wish| said.insert(wish.clone()));
    let say = |(weight, name): &(u16, String)| match weight {
        1000 => name.clone(),
        // A form that reads as itself: nothing that cannot be read is written so.
        weight => format!("{name};q=0.{weight:03}"),
    };
    Some(wishes.iter().map(say).collect::<Vec<_>>().join(","))
}

/// A weight in thousandths; `None` for what is none (RFC 9110 §12.4.2).
fn thousandths(parameter: &str) -> Option<u16> {
    let weight = parameter.strip_prefix(['q', 'Q'])?.strip_prefix('=')?;
    let (whole, fraction) = weight.split_once('.').unwrap_or((weight, ""));
    if !matches!(whole, "0" | "1") || fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let thousandths = whole.parse::<u16>().ok()? * 1000 + format!("{fraction:0<3}").parse::<u16>().ok()?;
    (thousandths <= 1000).then_some(thousandths)
}

fn hex(request: &HeaderMap, name: &HeaderName) -> String {
    let lines = request
        .get_all(name)
        .iter()
        .map(|value| value.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    format!("\u{fffd}{}", lines.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;
    use crate::policy::route::tests::rule;

    fn value(name: &str, lines: &[&str]) -> Option<String> {
        value_by(&rule(), name, lines)
    }

    fn value_by(rule: &Rule, name: &str, lines: &[&str]) -> Option<String> {
        let name: HeaderName = name.parse().unwrap();
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name.clone(), HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        normal_value(rule, &name, &headers)
    }

    #[test]
    fn spelling_does_not_matter_but_order_does() {
        for same in [&["1,2"][..], &["1, 2"], &[" 1 ,\t2 "], &["1", "2"]] {
            assert_eq!(value("foo", same).as_deref(), Some("1,2"), "{same:?}");
        }
        assert_ne!(value("foo", &["1,2"]), value("foo", &["2,1"]));
        assert_ne!(value("foo", &["a"]), value("foo", &["A"]));
        assert_ne!(value("foo", &["\"1, 2\""]), value("foo", &["\"1,2\""]), "in quotes a space is a space");
        assert_ne!(value("foo", &["\"\\\", 2\""]), value("foo", &["\"\\\",2\""]));
        assert_eq!(value("foo", &[]), None);
        assert_ne!(value("foo", &[""]), None);
    }

    #[test]
    fn languages_and_codings_stand_by_preference() {
        for (name, lines, expected) in [
            ("accept-language", &["en, de"][..], "en,de"),
            ("accept-language", &["de", "EN"], "de,en"),
            ("accept-language", &["fr;q=0.5, en, de;q=0.5, de, EN"], "en,de,fr;q=0.500,de;q=0.500"),
            ("accept-language", &["fr;q=0.5, de;q=1.0"], "de,fr;q=0.500"),
            ("accept-language", &["de, fr;q=0.9, *;q=0"], "de,fr;q=0.900,*;q=0.000"),
            ("accept-encoding", &["gzip, deflate, br"], "br,deflate,gzip"),
            ("accept-encoding", &["gzip;q=0.1, br"], "br,gzip;q=0.100"),
            ("accept-encoding", &["gzip;q=0.001"], "gzip;q=0.001"),
            ("accept-encoding", &["gzip ; Q=0.20, br;q=0.3"], "br;q=0.300,gzip;q=0.200"),
            ("accept-encoding", &["gzip,,gzip"], "gzip"),
            ("accept-encoding", &[""], ""),
            // What cannot be read stays as it was said.
            ("accept-encoding", &["gzip;q=x, br"], "gzip;q=x,br"),
            ("accept-language", &["en, de;q=1.5"], "en,de;q=1.5"),
            ("accept-language", &["DE;q=0.5;x=1"], "DE;q=0.5;x=1"),
        ] {
            assert_eq!(value(name, lines).as_deref(), Some(expected), "{lines:?}");
        }
        // How much a second wish counts is the origin's to weigh.
        assert_ne!(value("accept-language", &["fr, en;q=0.9"]), value("accept-language", &["fr, en;q=0.1"]));
    }

    #[test]
    fn languages_wanted_alike_stay_as_they_were_said_unless_the_rule_says_otherwise() {
        let [one, other] = [&["fr, de, en;q=0.5"], &["de, fr, en;q=0.5"]];
        assert_ne!(value("accept-language", one), value("accept-language", other));
        let any_order = Rule { normalize_languages: true, ..rule() };
        for said in [one, other] {
            assert_eq!(value_by(&any_order, "accept-language", said).as_deref(), Some("de,fr,en;q=0.500"));
        }
        let weighed = value_by(&any_order, "accept-language", &["fr, de;q=0.9"]);
        assert_ne!(weighed, value_by(&any_order, "accept-language", &["de, fr;q=0.9"]));
    }

    #[test]
    fn a_field_that_ends_at_this_hop_selects_nothing() {
        let headers = HeaderMap::from_iter([
            (header::CONNECTION, HeaderValue::from_static("foo, accept-language")),
            (HeaderName::from_static("foo"), HeaderValue::from_static("1")),
            (header::ACCEPT_LANGUAGE, HeaderValue::from_static("de")),
        ]);
        assert_eq!(normal_value(&rule(), &HeaderName::from_static("foo"), &headers), None);
        assert_eq!(normal_value(&rule(), &header::ACCEPT_LANGUAGE, &headers).as_deref(), Some("de"));
    }

    proptest! {
        /// Two values that differ in more than white space select different variants.
        #[test]
        fn different_values_stay_apart(a in "[a-c\",\\\\]{0,6}", b in "[a-c\",\\\\]{0,6}") {
            prop_assert_eq!(value("foo", &[&a]) == value("foo", &[&b]), a == b);
        }

        #[test]
        fn no_value_panics(bytes in proptest::collection::vec(0x20_u8.., 0..24)) {
            let Ok(sent) = HeaderValue::from_bytes(&bytes) else { return Ok(()) };
            for name in [header::ACCEPT_LANGUAGE, header::ACCEPT_ENCODING, header::ACCEPT] {
                normal_value(&rule(), &name, &HeaderMap::from_iter([(name.clone(), sent.clone())]));
            }
        }
    }
}
