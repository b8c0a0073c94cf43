//! `Cache-Control` of an answer (RFC 9111 §5.2.2), read strictly where it restricts.

use std::time::Duration;

use http::{HeaderMap, header};

/// The largest delta-seconds that is believed (RFC 9111 §1.2.2).
const SECONDS_MAX: u64 = 1 << 31;

/// The directives that concern a shared cache. Several fields are one list; what is not understood
/// never widens what may be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheControl {
    /// `no-store`.
    pub no_store: bool,
    /// `private`, with or without field names.
    pub private: bool,
    /// `no-cache`, with or without field names.
    pub no_cache: bool,
    /// `must-revalidate` or `proxy-revalidate`: never stale.
    pub must_revalidate: bool,
    /// `public`.
    pub public: bool,
    /// `max-age`; a value that cannot be read is zero.
    pub max_age: Option<Duration>,
    /// `s-maxage`; likewise.
    pub s_maxage: Option<Duration>,
    /// `stale-while-revalidate` (RFC 5861 §3).
    pub stale_while_revalidate: Option<Duration>,
    /// `stale-if-error` (RFC 5861 §4).
    pub stale_if_error: Option<Duration>,
}

impl CacheControl {
    /// Reads all `Cache-Control` fields.
    pub fn parse(headers: &HeaderMap) -> Self {
        let mut control = Self::default();
        for value in headers.get_all(header::CACHE_CONTROL) {
            for (name, argument) in directives(value.as_bytes()) {
                control.apply(&name, argument.as_deref());
            }
        }
        control
    }

    fn apply(&mut self, name: &str, argument: Option<&str>) {
        // Of a directive given twice the shorter lifetime counts (RFC 9111 §4.2.1 leaves the choice).
        let shorter = |held: Option<Duration>, seconds: Duration| Some(held.map_or(seconds, |held| held.min(seconds)));
        match name {
            "no-store" => self.no_store = true,
            "private" => self.private = true,
            "no-cache" => self.no_cache = true,
            "must-revalidate" | "proxy-revalidate" => self.must_revalidate = true,
            "public" => self.public = true,
            "max-age" => self.max_age = shorter(self.max_age, delta_seconds(argument)),
            "s-maxage" => self.s_maxage = shorter(self.s_maxage, delta_seconds(argument)),
            "stale-while-revalidate" => {
                self.stale_while_revalidate = shorter(self.stale_while_revalidate, delta_seconds(argument));
            }
            "stale-if-error" => self.stale_if_error = shorter(self.stale_if_error, delta_seconds(argument)),
            _ => {}
        }
    }
}

/// Digits only; too large is the largest; anything else is zero, which is never too long.
fn delta_seconds(argument: Option<&str>) -> Duration {
    let digits = argument.unwrap_or("");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Duration::ZERO;
    }
    Duration::from_secs(digits.parse::<u64>().unwrap_or(SECONDS_MAX).min(SECONDS_MAX))
}

/// Splits a list of directives at commas outside quoted strings. Names come in lower case, quotes are taken off.
fn directives(value: &[u8]) -> Vec<(String, Option<String>)> {
    let text = String::from_utf8_lossy(value);
    let mut found = Vec::new();
    let mut name = String::new();
    let mut argument: Option<String> = None;
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match char {
            ',' => {
                finish(&mut found, &mut name, &mut argument);
            }
            '=' if argument.is_none() => argument = Some(String::new()),
            '"' => {
                let quoted = argument.get_or_insert_default();
                while let Some(inner) = chars.next() {
                    match inner {
                        '"' => break,
                        '\\' => quoted.extend(chars.next()),
                        _ => quoted.push(inner),
                    }
                }
            }
            _ => argument.as_mut().unwrap_or(&mut name).push(char),
        }
    }
    finish(&mut found, &mut name, &mut argument);
    found
}

fn finish(found: &mut Vec<(String, Option<String>)>, name: &mut String, argument: &mut Option<String>) {
    let directive = std::mem::take(name).trim().to_ascii_lowercase();
    let argument = argument.take().map(|argument| argument.trim().to_owned());
    if !directive.is_empty() {
        found.push((directive, argument));
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn parse(lines: &[&str]) -> CacheControl {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::CACHE_CONTROL, HeaderValue::from_str(line).unwrap());
        }
        CacheControl::parse(&headers)
    }

    #[test]
    fn lifetimes_are_read_whatever_the_form() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(parse(&["S-MaxAge=300, Max-Age=60"]).max_age, seconds(60));
        assert_eq!(parse(&["s-maxage=300", "max-age=60"]).s_maxage, seconds(300));
        assert_eq!(parse(&["max-age=\"60\""]).max_age, seconds(60));
        assert_eq!(parse(&["max-age=99999999999999999999"]).max_age, seconds(1 << 31));
        for odd in
            ["max-age", "max-age=", "max-age=-1", "max-age=1.5", "max-age=x", "max-age='60'", "max-age=60,max-age=0"]
        {
            assert_eq!(parse(&[odd]).max_age, seconds(0), "{odd}");
        }
        assert_eq!(parse(&["stale-while-revalidate=5, stale-if-error=6"]).stale_if_error, seconds(6));
    }

    #[test]
    fn restrictions_are_found_wherever_they_stand() {
        assert!(parse(&["max-age=60", "PRIVATE"]).private);
        assert!(parse(&["private=\"set-cookie, x-a\", max-age=60"]).private);
        assert!(parse(&["no-cache=\"a\""]).no_cache);
        assert!(parse(&["x=\"no-store\""]) == CacheControl::default(), "quoted is no directive");
        assert!(parse(&[", ,no-store ,"]).no_store);
        assert!(parse(&["proxy-revalidate"]).must_revalidate);
        assert!(parse(&["a=\"unclosed, no-store"]) == CacheControl::default());
    }

    proptest! {
        #[test]
        fn no_value_panics(value in "[ -~]{0,40}") {
            parse(&[&value]);
        }
    }
}
