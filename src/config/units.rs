//! Durations, sizes, addresses and names: how they are written.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytesize::ByteSize;
use http::HeaderName;
use ipnet::IpNet;

use super::secret::Secret;
use super::text::Textual;
use crate::policy::route::{PathPattern, Template};

impl Textual for Duration {
    fn from_text(text: &str) -> Result<Self, String> {
        if is_number(text) {
            return Err(format!("the duration {text} has no unit: write \"{text}s\" or \"{text}ms\""));
        }
        let advice = format!("{text:?} is no duration: write \"150ms\", \"30s\", \"5m\", \"1h\" or \"7d\"");
        // A capital is a trap: humantime takes "5M" for five months.
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(advice);
        }
        humantime::parse_duration(text).map_err(|_| advice)
    }

    fn to_text(&self) -> String {
        let (secs, nanos) = (self.as_secs(), self.subsec_nanos());
        match nanos {
            0 if secs == 0 => "0s".to_owned(),
            0 if secs % 86_400 == 0 => format!("{}d", secs / 86_400),
            0 if secs % 3_600 == 0 => format!("{}h", secs / 3_600),
            0 if secs % 60 == 0 => format!("{}m", secs / 60),
            0 => format!("{secs}s"),
            _ if nanos % 1_000_000 == 0 => format!("{}ms", self.as_millis()),
            _ => format!("{}ns", self.as_nanos()),
        }
    }
}

/// A size in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Size(pub(super) u64);

impl Size {
    /// As a length in memory.
    pub(super) fn len(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl Textual for Size {
    fn from_text(text: &str) -> Result<Self, String> {
        if is_number(text) {
            return Err(format!("the size {text} has no unit: write \"{text}KiB\" or \"{text}B\""));
        }
        let size = text.parse::<ByteSize>();
        let advice = |_| format!("{text:?} is no size: write \"16KiB\", \"64MiB\" or \"1GiB\"");
        size.map(|size| Self(size.as_u64())).map_err(advice)
    }

    fn to_text(&self) -> String {
        let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        match units.iter().find(|(_, bytes)| self.0 > 0 && self.0.is_multiple_of(*bytes)) {
            Some((unit, bytes)) => format!("{}{unit}", self.0 / bytes),
            None => format!("{}B", self.0),
        }
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'+' | b'_'))
}

impl Textual for SocketAddr {
    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| {
            format!(
                "{text:?} is no address: write an IP address and a port, such as \"127.0.0.1:8080\" or \"[::]:8080\""
            )
        })
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl Textual for IpNet {
    fn from_text(text: &str) -> Result<Self, String> {
        let address = text.parse::<IpAddr>().map(Self::from);
        address.or_else(|_| text.parse()).map_err(|_| {
            format!("{text:?} is no network: write \"10.0.0.0/8\", \"fd00::/8\" or one address such as \"10.0.0.1\"")
        })
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl Textual for Secret {
    const SECRET: bool = true;

    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("a secret may not be empty: leave the key out instead".into()),
            text => Ok(Self::new(text)),
        }
    }

    /// Not the secret: what is rendered is for reading.
    fn to_text(&self) -> String {
        "…".to_owned()
    }
}

impl Textual for Template {
    fn from_text(text: &str) -> Result<Self, String> {
        // Tags leave in headers, where white space and commas part them.
        if text.chars().any(|letter| letter.is_whitespace() || letter.is_control() || letter == ',') {
            return Err(format!("the tag {text:?} holds white space or a comma: tags are words"));
        }
        Self::parse(text)
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl Textual for PathPattern {
    fn from_text(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }

    fn to_text(&self) -> String {
        self.as_str().to_owned()
    }
}

impl Textual for HeaderName {
    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("{text:?} is no header name: write one such as \"surrogate-key\""))
    }

    fn to_text(&self) -> String {
        self.as_str().to_owned()
    }
}

/// A name in which a last `*` ends a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wildcard(pub(super) String);

impl Textual for Wildcard {
    fn from_text(text: &str) -> Result<Self, String> {
        match text.strip_suffix('*').unwrap_or(text) {
            "" if text.is_empty() => Err("a name may not be empty".into()),
            start if start.contains('*') => Err(format!("{text:?} has a `*` that is not its end: write \"utm_*\"")),
            _ => Ok(Self(text.to_owned())),
        }
    }

    fn to_text(&self) -> String {
        self.0.clone()
    }
}

/// The name of a query parameter, without what nests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ParamName(pub(super) String);

impl Textual for ParamName {
    fn from_text(text: &str) -> Result<Self, String> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'$');
        match !text.is_empty() && text.bytes().all(plain) {
            true => Ok(Self(text.to_owned())),
            false => Err(format!("{text:?} is no name of a parameter: write letters, digits, `_`, `-` or `$`")),
        }
    }

    fn to_text(&self) -> String {
        self.0.clone()
    }
}

/// The namespace of keys in Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Namespace(pub(super) String);

impl Textual for Namespace {
    fn from_text(text: &str) -> Result<Self, String> {
        // No braces: in a Redis cluster they would choose the slot of every key.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':' | b'-');
        match (1..=64).contains(&text.len()) && text.bytes().all(plain) {
            true => Ok(Self(text.to_owned())),
            false => Err(format!("{text:?} is no namespace: write 1 to 64 letters, digits, `_`, `.`, `:` or `-`")),
        }
    }

    fn to_text(&self) -> String {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_come_back_the_same() {
        for (text, expected) in
            [("150ms", 150), ("30s", 30_000), ("5m", 300_000), ("1h", 3_600_000), ("7d", 604_800_000), ("0s", 0)]
        {
            let duration = Duration::from_text(text).unwrap();
            assert_eq!(duration, Duration::from_millis(expected), "{text}");
            assert_eq!(duration.to_text(), text);
        }
        assert_eq!(Duration::from_text("90s").unwrap().to_text(), "90s");
        assert_eq!(Duration::from_text("1500us").unwrap().to_text(), "1500000ns");
        assert!(Duration::from_text("30").unwrap_err().contains("write \"30s\""));
        for text in ["", "s", "5M", "-1s", "1 parsec", "99999999999999999999d", "é"] {
            assert!(Duration::from_text(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_have_units_and_come_back_the_same() {
        for (text, expected) in
            [("16KiB", 16 << 10), ("64MiB", 64 << 20), ("1GiB", 1 << 30), ("1000B", 1000), ("0B", 0)]
        {
            let size = Size::from_text(text).unwrap();
            assert_eq!(size.0, expected, "{text}");
            assert_eq!(size.to_text(), text);
        }
        assert_eq!(Size::from_text("1MB").unwrap().0, 1_000_000);
        assert!(Size::from_text("64").unwrap_err().contains("write \"64KiB\""));
        for text in ["", "KiB", "1 mile", "-1KiB", "é"] {
            assert!(Size::from_text(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_are_checked_where_they_stand() {
        assert_eq!(IpNet::from_text("10.0.0.1").unwrap().to_text(), "10.0.0.1/32");
        assert!(IpNet::from_text("10.0.0.0/33").is_err());
        assert!(SocketAddr::from_text("localhost:80").is_err() && SocketAddr::from_text("[::1]:80").is_ok());
        assert!(Wildcard::from_text("utm_*").is_ok() && Wildcard::from_text("*").is_ok());
        assert!(Wildcard::from_text("a*b").is_err() && Wildcard::from_text("").is_err());
        assert!(Namespace::from_text("shop:eu-1").is_ok());
        for text in ["", "{a}", "a b", &"x".repeat(65)] {
            assert!(Namespace::from_text(text).is_err(), "{text}");
        }
        assert!(ParamName::from_text("locale").is_ok() && ParamName::from_text("$or").is_ok());
        for text in ["", "id[]", "a.b", "a b", "l%6Fcale"] {
            assert!(ParamName::from_text(text).is_err(), "{text}");
        }
        assert!(Template::from_text("a,b").is_err() && Template::from_text("list:{x}").is_ok());
    }
}
