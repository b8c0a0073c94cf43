//! Variants: which of the stored answers of one URL a request selects (RFC 9111 §4.1).
//!
//! Invariant: a variant's key holds the names that its answer varies by and the values of the request that
//! it was given to, in normal form. Two requests share it only if they agree in all of them.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, header};

use super::hop_by_hop;

/// A request's value of a selecting field in its normal form; `None` for an absent one. Several lines are one
/// list, and white space around commas means nothing; the fields whose order and case mean nothing are put in order.
pub fn normal_value(name: &HeaderName, request: &HeaderMap) -> Option<String> {
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
    if *name == header::ACCEPT_ENCODING || *name == header::ACCEPT_LANGUAGE {
        Some(by_preference(&members))
    } else {
        // Lossy texts of different bytes are alike, so what is no UTF-8 stays apart byte for byte.
        Some(if joined.contains('\u{fffd}') { hex(request, name) } else { members.join(",") })
    }
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

/// Codings or languages from the most wanted to the unwanted: those wanted alike stand in the order of the
/// alphabet, in lower case. A weight that cannot be read is 1 (RFC 9110 §12.4.2 has no such), in thousandths.
fn by_preference(members: &[&str]) -> String {
    let mut wanted: Vec<(u32, String)> = members
        .iter()
        .filter(|member| !member.is_empty())
        .map(|member| {
            let (name, parameters) = member.split_once(';').unwrap_or((member, ""));
            let weight = parameters
                .split(';')
                .find_map(|parameter| parameter.trim().strip_prefix(['q', 'Q'])?.strip_prefix('='));
            (weight.map_or(1000, thousandths), name.trim().to_ascii_lowercase())
        })
        .collect();
    wanted.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    wanted.dedup();
    let mut text = String::new();
    let mut last = None;
    for (weight, name) in wanted {
        match last {
            None => {}
            Some(last) if last == weight => text.push(','),
            Some(_) => text.push('>'),
        }
        // Refused is told from wanted least.
        text.push_str(if weight == 0 { "!" } else { "" });
        text.push_str(&name);
        last = Some(weight);
    }
    text
}

fn thousandths(weight: &str) -> u32 {
    let (whole, fraction) = weight.trim().split_once('.').unwrap_or((weight.trim(), ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !matches!(whole, "0" | "1") || fraction.len() > 3 || !digits(fraction) {
        return 1000;
    }
    let fraction: u32 = format!("{fraction:0<3}").parse().unwrap_or(0);
    (whole.parse::<u32>().unwrap_or(1) * 1000 + fraction).min(1000)
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

    fn value(name: &str, lines: &[&str]) -> Option<String> {
        let name: HeaderName = name.parse().unwrap();
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name.clone(), HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        normal_value(&name, &headers)
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
            ("accept-language", &["en, de"][..], "de,en"),
            ("accept-language", &["de", "EN"], "de,en"),
            ("accept-language", &["fr;q=0.5, de;q=1.0"], "de>fr"),
            ("accept-language", &["de, fr;q=0.9, *;q=0"], "de>fr>!*"),
            ("accept-encoding", &["gzip, deflate, br"], "br,deflate,gzip"),
            ("accept-encoding", &["gzip;q=0.1, br"], "br>gzip"),
            ("accept-encoding", &["gzip;q=0"], "!gzip"),
            ("accept-encoding", &["gzip;q=0.001"], "gzip"),
            ("accept-encoding", &["gzip;Q=0.2;x=1, br ; q=0.3"], "br>gzip"),
            ("accept-encoding", &["gzip,,gzip"], "gzip"),
            ("accept-encoding", &[""], ""),
            // A weight that cannot be read is none.
            ("accept-encoding", &["gzip;q=x, br;q=2, zstd;q=0.0001"], "br,gzip,zstd"),
        ] {
            assert_eq!(value(name, lines).as_deref(), Some(expected), "{lines:?}");
        }
    }

    #[test]
    fn a_field_that_ends_at_this_hop_selects_nothing() {
        let headers = HeaderMap::from_iter([
            (header::CONNECTION, HeaderValue::from_static("foo, accept-language")),
            (HeaderName::from_static("foo"), HeaderValue::from_static("1")),
            (header::ACCEPT_LANGUAGE, HeaderValue::from_static("de")),
        ]);
        assert_eq!(normal_value(&HeaderName::from_static("foo"), &headers), None);
        assert_eq!(normal_value(&header::ACCEPT_LANGUAGE, &headers).as_deref(), Some("de"));
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
                normal_value(&name, &HeaderMap::from_iter([(name.clone(), sent.clone())]));
            }
        }
    }
}
