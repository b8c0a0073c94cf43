//! How that backend reads a request: two requests with the same reading have the same answer.
//!
//! Written from what was measured on it, and not from the proxy's own normalisation, so that each checks the other:
//! where the proxy took two questions for one, it would be sent the other one's answer.

use std::collections::{BTreeMap, BTreeSet};

/// All that tells answers apart, as one text.
pub(crate) fn read(method: &str, target: &str, headers: &[(String, String)]) -> String {
    let header = |wanted: &str| -> String {
        let values = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        values.map(|(_, value)| value.trim()).collect::<Vec<_>>().join(",")
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut params = params(query);
    // The query's locale wins over the header's; its case means nothing.
    let locale = params.remove("locale").map_or_else(|| header("x-medusa-locale"), |values| format!("{values:?}"));
    let locale = locale.trim_matches(|letter: char| "[(\", )]".contains(letter)).to_ascii_lowercase();
    let query: Vec<String> = params.iter().filter_map(|(name, values)| param(path, name, values)).collect();
    let secure = header("x-forwarded-proto") == "https";
    format!(
        "{method} {path} ?{} key={} locale={locale} login={:?} cookie={:?} origin={:?} https={secure}",
        query.join("&"),
        header("x-publishable-api-key"),
        header("authorization"),
        header("cookie"),
        header("origin"),
    )
}

type Values = Vec<(String, String)>;

/// The parameters by name; each value with what stands in brackets behind the name.
fn params(query: &str) -> BTreeMap<String, Values> {
    let mut params: BTreeMap<String, Values> = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decode(name), decode(value));
        let (base, suffix) = name.split_at(name.find('[').unwrap_or(name.len()));
        params.entry(base.to_owned()).or_default().push((suffix.to_owned(), value));
    }
    params
}

/// One parameter; nothing for a default.
fn param(path: &str, name: &str, values: &Values) -> Option<String> {
    let [(suffix, value)] = &values[..] else { return Some(format!("{name}={:?}", list(values))) };
    match name {
        _ if !suffix.is_empty() => Some(format!("{name}={:?}", list(values))),
        "fields" => Some(format!("fields={}", fields(value))),
        "limit" | "offset" => {
            let default = if name == "offset" { "0" } else { limit(path) };
            let digits: String = value.chars().take_while(char::is_ascii_digit).collect();
            let digits = if digits.len() > 1 { digits.trim_start_matches('0').to_owned() } else { digits };
            match digits.as_str() {
                "" => Some(format!("{name}={value:?}")),
                digits if digits == default => None,
                digits => Some(format!("{name}={digits}")),
            }
        }
        _ => Some(format!("{name}={value}")),
    }
}

/// The default `limit` of a list.
fn limit(path: &str) -> &'static str {
    match path.strip_prefix("/store/").unwrap_or("").split('/').next().unwrap() {
        "product-variants" | "return-reasons" | "payment-providers" => "20",
        "collections" => "10",
        _ => "50",
    }
}

/// A list in its order, however it is written; what is nested stays as it was sent.
fn list(values: &Values) -> Vec<String> {
    let index = |suffix: &str| suffix.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')?.parse::<usize>().ok());
    let mut values = values.clone();
    if values.iter().all(|(suffix, _)| index(suffix).is_some()) {
        values.sort_by_key(|(suffix, _)| index(suffix));
    } else if !values.iter().all(|(suffix, _)| suffix.is_empty() || suffix == "[]") {
        return values.into_iter().map(|(suffix, value)| format!("{suffix}={value}")).collect();
    }
    match &values[..] {
        [(_, value)] => value.split(',').map(str::to_owned).collect(),
        _ => values.into_iter().map(|(_, value)| value).collect(),
    }
}

/// A set; a removal acts on what stands before it; one plain name replaces the defaults.
fn fields(value: &str) -> String {
    let items: Vec<&str> = value.split(',').filter(|item| !item.is_empty()).collect();
    if items.iter().any(|item| item.starts_with('-')) {
        return format!("{items:?}");
    }
    let plain = |item: &&str| !item.starts_with(['+', ' ', '*']) && !item.ends_with(".*");
    let replaces = items.is_empty() || items.iter().any(plain);
    let set: BTreeSet<String> = items
        .iter()
        .map(|item| item.trim_start_matches(['+', ' ']))
        .map(|item| item.strip_suffix(".*").map_or_else(|| item.to_owned(), |name| format!("*{name}")))
        .collect();
    format!("{} {set:?}", if replaces { "only" } else { "also" })
}

fn decode(text: &str) -> String {
    percent_encoding::percent_decode_str(&text.replace('+', " ")).decode_utf8().unwrap().into_owned()
}
