//! What an answer says about its storing: `Cache-Control` (RFC 9111 §5.2.2, RFC 5861) and the field that
//! speaks to caches like this one before it, `CDN-Cache-Control` (RFC 9213). Read strictly where it
//! restricts: what is not understood never widens what may be done.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use sfv::{BareItem, Dictionary, ListEntry, Parser};

/// The largest delta-seconds that is believed (RFC 9111 §1.2.2).
pub(super) const SECONDS_MAX: u64 = 1 << 31;
/// The one target of RFC 9213 that means us.
pub const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

/// Fields that say what an answer is, whose it is and how long: no answer is stored without one that it has. Where
/// `no-cache` names one of them it restricts the whole answer, as it may (RFC 9111 §5.2.2.4).
static GONE_BY: [HeaderName; 14] = [
    header::AGE,
    header::CACHE_CONTROL,
    CDN_CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_LOCATION,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::DATE,
    header::ETAG,
    header::EXPIRES,
    header::LAST_MODIFIED,
    header::LOCATION,
    header::VARY,
];

/// The directives that concern a shared cache. Several fields are one list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheControl {
    /// `no-store`, or a field whose quotes do not end: who can say what it holds?
    pub no_store: bool,
    /// `private`, with or without field names.
    pub private: bool,
    /// `no-cache` without field names, or with one that we go by ourselves: an answer without it would be another.
    pub no_cache: bool,
    /// The fields that `no-cache` names: they may not be stored (RFC 9111 §5.2.2.4).
    pub no_cache_fields: Vec<HeaderName>,
    /// `must-revalidate` or `proxy-revalidate`: never stale.
    pub must_revalidate: bool,
    /// `must-understand`: stored only with a status that is understood, and then whatever `no-store` says.
    pub must_understand: bool,
    /// `no-transform`: the body is sent as it came.
    pub no_transform: bool,
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
    /// It was read from `CDN-Cache-Control`, so `Expires` says nothing either (RFC 9213 §2.2).
    pub is_targeted: bool,
}

impl CacheControl {
    /// Reads all `Cache-Control` fields.
    pub fn parse(headers: &HeaderMap) -> Self {
        let mut control = Self::default();
        for value in headers.get_all(header::CACHE_CONTROL) {
            let whole = directives(value.as_bytes(), |name, argument| control.apply(name, argument));
            control.no_store |= !whole;
        }
        control
    }

    /// Reads `CDN-Cache-Control`: a dictionary of RFC 9651. `None` where it is absent, empty or no dictionary,
    /// and then `Cache-Control` counts (RFC 9213 §2.1).
    pub fn parse_targeted(headers: &HeaderMap) -> Option<Self> {
        let mut lines = headers.get_all(CDN_CACHE_CONTROL).iter();
        let mut text = lines.next()?.as_bytes().to_vec();
        for line in lines {
            text.extend_from_slice(b", ");
            text.extend_from_slice(line.as_bytes());
        }
        let members: Dictionary = Parser::new(&text).parse().ok().filter(|members: &Dictionary| !members.is_empty())?;
        let mut control = Self { is_targeted: true, ..Self::default() };
        for (name, member) in &members {
            let bare = match member {
                ListEntry::Item(item) => Some(&item.bare_item),
                ListEntry::InnerList(_) => None,
            };
            // Only an integer is a time; of any other type it is a time that cannot be read.
            match bare {
                Some(BareItem::Integer(seconds)) => {
                    control.apply(name.as_str(), Some(&i64::from(*seconds).to_string()))
                }
                Some(_) | None => control.apply(name.as_str(), None),
            }
        }
        Some(control)
    }

    /// What counts for this cache: the targeted field alone where there is one.
    pub fn effective(headers: &HeaderMap) -> Self {
        Self::parse_targeted(headers).unwrap_or_else(|| Self::parse(headers))
    }

    /// What counts where a rule of ours overrides lifetimes: every restriction of both fields.
    pub fn strictest(headers: &HeaderMap) -> Self {
        let mut control = Self::parse(headers);
        if let Some(targeted) = Self::parse_targeted(headers) {
            control.no_store |= targeted.no_store;
            control.private |= targeted.private;
            control.no_cache |= targeted.no_cache;
            control.no_transform |= targeted.no_transform;
        }
        control
    }

    /// Whether it says how long an answer is fresh.
    pub fn has_lifetime(&self) -> bool {
        self.s_maxage.is_some() || self.max_age.is_some()
    }

    /// Whether an answer may be stored that was given to a request with `Authorization` (RFC 9111 §3.5).
    pub fn allows_authorized(&self) -> bool {
        self.public || self.must_revalidate || self.s_maxage.is_some()
    }

    /// Whether it may never be served stale unless a window is given in so many words (RFC 9111 §4.2.4):
    /// `s-maxage` carries `proxy-revalidate` (§5.2.2.10).
    pub fn forbids_stale(&self) -> bool {
        self.must_revalidate || self.no_cache || self.s_maxage.is_some()
    }

    fn apply(&mut self, name: &str, argument: Option<&str>) {
        // Of a directive given twice the shorter lifetime counts (RFC 9111 §4.2.1 leaves the choice).
        let shorter = |held: Option<Duration>, seconds: Duration| Some(held.map_or(seconds, |held| held.min(seconds)));
        match name {
            "no-store" => self.no_store = true,
            "private" => self.private = true,
            "no-cache" => match argument.map(field_names) {
                Some(Some(names)) if !names.iter().any(|name| GONE_BY.contains(name)) => {
                    self.no_cache_fields.extend(names);
                }
                Some(_) | None => self.no_cache = true,
            },
            "must-revalidate" | "proxy-revalidate" => self.must_revalidate = true,
            "must-understand" => self.must_understand = true,
            "no-transform" => self.no_transform = true,
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

/// What restricts an answer whatever its lifetime (RFC 9111 §5.2.2); `must-understand` lifts a `no-store`, and is none.
const RESTRICTIONS: [&str; 6] =
    ["no-cache", "no-store", "no-transform", "private", "must-revalidate", "proxy-revalidate"];

/// `control` (directives parted by commas), with every restriction of these fields that it lacks. One that names fields
/// is taken for the whole answer, which restricts more, so nothing but our own words is in it.
pub fn restricted<'v>(control: &'static str, fields: impl Iterator<Item = &'v HeaderValue>) -> HeaderValue {
    let mut said: Vec<&str> = control.split(", ").collect();
    for field in fields {
        let mut add = |name: &str| {
            let restriction = RESTRICTIONS.into_iter().find(|restriction| *restriction == name);
            said.extend(restriction.filter(|restriction| !said.contains(restriction)));
        };
        // Quotes that do not end may hide anything.
        if !directives(field.as_bytes(), |name, _| add(name)) {
            add("no-store");
        }
    }
    HeaderValue::from_str(&said.join(", ")).expect("names of directives")
}

/// The field names of `no-cache="a, b"`; `None` where one is no name, or there is none.
fn field_names(argument: &str) -> Option<Vec<HeaderName>> {
    let names: Option<Vec<HeaderName>> = argument.split(',').map(|name| name.trim().parse().ok()).collect();
    names.filter(|names| !names.is_empty())
}

/// Digits only; too large is the largest; anything else is zero, which is never too long.
fn delta_seconds(argument: Option<&str>) -> Duration {
    let digits = argument.unwrap_or("");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Duration::ZERO;
    }
    Duration::from_secs(digits.parse::<u64>().unwrap_or(SECONDS_MAX).min(SECONDS_MAX))
}

/// Splits a list of directives at commas outside quoted strings, and says whether all quotes end. Names
/// come in lower case, quotes are taken off.
fn directives(value: &[u8], mut found: impl FnMut(&str, Option<&str>)) -> bool {
    let text = String::from_utf8_lossy(value);
    let mut finish = |name: &mut String, argument: &mut Option<String>| {
        let directive = std::mem::take(name).trim().to_ascii_lowercase();
        let argument = argument.take();
        if !directive.is_empty() {
            found(&directive, argument.as_deref().map(str::trim));
        }
    };
    let mut name = String::new();
    let mut argument: Option<String> = None;
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match char {
            ',' => finish(&mut name, &mut argument),
            '=' if argument.is_none() => argument = Some(String::new()),
            '"' => {
                let quoted = argument.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('"') => break,
                        Some('\\') => quoted.extend(chars.next()),
                        Some(inner) => quoted.push(inner),
                        None => return false,
                    }
                }
            }
            _ => argument.as_mut().unwrap_or(&mut name).push(char),
        }
    }
    finish(&mut name, &mut argument);
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(lines: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, line) in lines {
            headers.append(name.clone(), HeaderValue::from_str(line).unwrap());
        }
        headers
    }

    fn parse(lines: &[&str]) -> CacheControl {
        let lines: Vec<_> = lines.iter().map(|line| (header::CACHE_CONTROL, *line)).collect();
        CacheControl::parse(&map(&lines))
    }

    fn targeted(lines: &[&str]) -> Option<CacheControl> {
        let lines: Vec<_> = lines.iter().map(|line| (CDN_CACHE_CONTROL, *line)).collect();
        CacheControl::parse_targeted(&map(&lines))
    }

    fn seconds(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    #[test]
    fn lifetimes_are_read_whatever_the_form() {
        for (lines, s_maxage, max_age) in [
            // Names are compared without case (RFC 9111 §5.2).
            (&["S-MaxAge=300, Max-Age=60"][..], seconds(300), seconds(60)),
            // Several lines are one list (RFC 9110 §5.3).
            (&["s-maxage=300", "max-age=60"], seconds(300), seconds(60)),
            // Both forms of an argument are read (§5.2).
            (&["max-age=\"60\""], None, seconds(60)),
            (&["max-age=0060"], None, seconds(60)),
            // Too large is the largest (§1.2.2).
            (&["max-age=2147483648"], None, seconds(1 << 31)),
            (&["max-age=2147483649"], None, seconds(1 << 31)),
            (&["max-age=99999999999999999999"], None, seconds(1 << 31)),
            // Of two the shorter (§4.2.1: the first, or stale).
            (&["max-age=60,max-age=0"], None, seconds(0)),
            (&["max-age=0", "max-age=60"], None, seconds(0)),
            // What is no number of seconds is stale (§4.2.1: "consider invalid freshness information stale").
            (&["max-age"], None, seconds(0)),
            (&["max-age="], None, seconds(0)),
            (&["max-age=-1"], None, seconds(0)),
            (&["max-age=1.5"], None, seconds(0)),
            (&["max-age=a100"], None, seconds(0)),
            (&["max-age=100a"], None, seconds(0)),
            (&["max-age='60'"], None, seconds(0)),
            (&["max-age=60 s-maxage=9"], None, seconds(0)),
            // Spaces around `=` are no part of the grammar; the number is beyond doubt.
            (&["max-age =60"], None, seconds(60)),
            (&["max-age= 60"], None, seconds(60)),
            // A directive inside quotes is none.
            (&["a=\"max-age=60\""], None, None),
            (&["a=\"b\\\", max-age=9\", max-age=60"], None, seconds(60)),
            // Unknown ones are ignored (§5.2.3).
            (&["foobar, max-age=60;x, baz=1"], None, seconds(0)),
            (&["foobar=\"a, b\", max-age=60, baz"], None, seconds(60)),
            (&[""], None, None),
        ] {
            let control = parse(lines);
            assert_eq!((control.s_maxage, control.max_age), (s_maxage, max_age), "{lines:?}");
        }
        assert_eq!(parse(&["stale-while-revalidate=5, stale-if-error=6"]).stale_if_error, seconds(6));
        assert_eq!(parse(&["stale-while-revalidate=x"]).stale_while_revalidate, seconds(0));
    }

    #[test]
    fn restrictions_are_found_wherever_they_stand() {
        assert!(parse(&["max-age=60", "PRIVATE"]).private);
        assert!(parse(&["private=\"set-cookie, x-a\", max-age=60"]).private);
        assert!(parse(&[", ,no-store ,"]).no_store);
        assert!(parse(&["no-store=1"]).no_store);
        assert!(parse(&["proxy-revalidate"]).must_revalidate);
        assert!(parse(&["must-understand"]).must_understand);
        assert!(parse(&["x=\"no-store\""]) == CacheControl::default(), "quoted is no directive");
        // Quotes that do not end may hide anything.
        assert!(parse(&["a=\"unclosed, max-age=60"]).no_store);
        assert!(parse(&["max-age=60, a=\"\\"]).no_store);
    }

    #[test]
    fn no_cache_may_name_fields() {
        let names = |line: &str| {
            let control = parse(&[line]);
            (control.no_cache, control.no_cache_fields.iter().map(HeaderName::to_string).collect::<Vec<_>>())
        };
        let (none, whole) = (Vec::<String>::new(), true);
        assert_eq!(names("no-cache"), (whole, none.clone()));
        assert_eq!(names("no-cache=\"A, b\""), (false, vec!["a".into(), "b".into()]));
        assert_eq!(names("no-cache=a"), (false, vec!["a".into()]));
        // What names no field restricts the whole answer.
        for odd in ["no-cache=", "no-cache=\"\"", "no-cache=\"a b\"", "no-cache=\"a,,b\""] {
            assert_eq!(names(odd), (whole, none.clone()), "{odd}");
        }
        assert_eq!(names("no-cache, no-cache=\"a\""), (whole, vec!["a".into()]));
    }

    #[test]
    fn a_targeted_field_is_a_dictionary_or_nothing() {
        let max_age = |lines: &[&str]| targeted(lines).map(|control| control.max_age);
        assert_eq!(max_age(&["max-age=60"]), Some(seconds(60)));
        assert_eq!(max_age(&["max-age=99999999999"]), Some(seconds(1 << 31)));
        assert_eq!(max_age(&["foobar, max-age=60;x=1"]), Some(seconds(60)), "parameters are ignored");
        assert_eq!(max_age(&["max-age=60", "no-store"]), Some(seconds(60)), "lines are one dictionary");
        // The last of two members of one name counts (RFC 9651 §3.2).
        assert_eq!(max_age(&["max-age=60, max-age=9"]), Some(seconds(9)));
        // Of another type it is a time that cannot be read.
        for wrong in ["max-age=\"60\"", "max-age=6.5", "max-age", "max-age=?0", "max-age=(60)", "max-age=-1"] {
            assert_eq!(max_age(&[wrong]), Some(seconds(0)), "{wrong}");
        }
        // No dictionary: as if it were not there (RFC 9213 §2.1).
        for odd in
            ["", " ", "max-age=60, &&", "MaX-Age=60", "max-age =60", "max-age= 60", "max-age=60,", "no-store\u{e9}"]
        {
            assert_eq!(max_age(&[odd]), None, "{odd}");
        }
        assert!(targeted(&["no-store"]).unwrap().no_store && targeted(&["private"]).unwrap().private);
        assert!(targeted(&["no-cache"]).unwrap().no_cache && targeted(&["no-cache=\"a\""]).unwrap().no_cache);
        assert_eq!(targeted(&[]), None);
    }

    #[test]
    fn the_targeted_field_counts_alone_but_an_override_takes_every_restriction() {
        let both = |cdn, plain| map(&[(CDN_CACHE_CONTROL, cdn), (header::CACHE_CONTROL, plain)]);
        let headers = both("max-age=60", "no-store");
        assert_eq!(CacheControl::effective(&headers).max_age, seconds(60));
        assert!(!CacheControl::effective(&headers).no_store && CacheControl::strictest(&headers).no_store);
        assert!(CacheControl::strictest(&both("no-store", "max-age=60")).no_store);
        assert!(CacheControl::strictest(&both("private", "max-age=60")).private);
        assert!(CacheControl::effective(&both("&&", "no-store")).no_store);
    }

    #[test]
    fn what_restricts_stays_when_the_lifetime_goes() {
        let of = |control, lines: &[&str]| {
            let lines: Vec<_> = lines.iter().map(|line| HeaderValue::from_str(line).unwrap()).collect();
            restricted(control, lines.iter()).to_str().unwrap().to_owned()
        };
        let stale = "max-age=0, must-revalidate";
        for (lines, expected) in [
            (&[][..], "max-age=0, must-revalidate"),
            (&["public, max-age=60, s-maxage=9, immutable, stale-if-error=5"], "max-age=0, must-revalidate"),
            (&["max-age=60, No-Transform"], "max-age=0, must-revalidate, no-transform"),
            (&["private, max-age=60", "proxy-revalidate"], "max-age=0, must-revalidate, private, proxy-revalidate"),
            (&["must-revalidate, no-transform", "no-transform"], "max-age=0, must-revalidate, no-transform"),
            (&["private=\"x-a, x-b\", no-cache=x-c"], "max-age=0, must-revalidate, private, no-cache"),
            (&["must-understand, no-store"], "max-age=0, must-revalidate, no-store"),
            (&["x=\"private\""], "max-age=0, must-revalidate"),
            (&["x=\"unclosed, private"], "max-age=0, must-revalidate, no-store"),
        ] {
            assert_eq!(of(stale, lines), expected, "{lines:?}");
        }
        assert_eq!(of("no-store", &["no-store, private", "no-transform"]), "no-store, private, no-transform");
    }

    proptest! {
        #[test]
        fn no_value_panics(value in "[ -~]{0,40}") {
            parse(&[&value]);
            targeted(&[&value]);
        }

        /// What is written plainly is read back, beside whatever stands there.
        #[test]
        fn a_plain_directive_is_always_found(noise in "[a-z]{1,8}(=[a-z0-9]{1,8})?", age in 0_u64..1 << 31) {
            prop_assume!(!noise.starts_with("max-age"));
            prop_assert_eq!(parse(&[&format!("{noise}, max-age={age}")]).max_age, seconds(age));
        }
    }
}
