//! Other hosts: the backend, browser origins and host names.

use std::fmt;
use std::net::Ipv6Addr;

use super::text::Textual;

/// The backend: the one origin of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// A name or an IP address (IPv6 without brackets), to connect to.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Host and port as a Host header has them: the port only where it is not 80.
    pub authority: String,
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority)
    }
}

impl Textual for Upstream {
    fn from_text(text: &str) -> Result<Self, String> {
        const RIGHT: &str = "write \"http://host:port\"";
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!("{text:?} has no scheme: {RIGHT}"));
        };
        if scheme.eq_ignore_ascii_case("https") {
            return Err(
                "TLS to the origin is not there yet: write \"http://…\" and reach it over a private network".into()
            );
        }
        if !scheme.eq_ignore_ascii_case("http") {
            return Err(format!("the scheme {scheme:?} is not spoken here: {RIGHT}"));
        }
        if rest.contains('@') {
            return Err(format!("an upstream takes no credentials: {RIGHT}"));
        }
        let place = rest.strip_suffix('/').unwrap_or(rest);
        if place.contains(['/', '?', '#', '\\']) {
            return Err(format!("{text:?} has a path, but requests keep their own: {RIGHT}"));
        }
        let (host, port) = host_and_port(place).map_err(|wrong| format!("{wrong}: {RIGHT}"))?;
        let port = port.unwrap_or(80);
        let shown = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let authority = if port == 80 { shown } else { format!("{shown}:{port}") };
        Ok(Self { host, port, authority })
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

/// A browser origin that may read answers; the first label of its host may be `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BrowserOrigin(pub(super) String);

impl Textual for BrowserOrigin {
    fn from_text(text: &str) -> Result<Self, String> {
        const RIGHT: &str = "write \"https://shop.example.com\" or \"https://*.example.com\"";
        if text == "*" {
            return Err(format!("any origin with credentials is refused by browsers: {RIGHT}"));
        }
        let lower = text.to_ascii_lowercase();
        let Some(place) = lower.strip_prefix("https://").or_else(|| lower.strip_prefix("http://")) else {
            return Err(format!("{text:?} is no origin: {RIGHT}"));
        };
        match host_and_port(place.strip_prefix("*.").unwrap_or(place)) {
            Ok(_) => Ok(Self(lower)),
            Err(wrong) => Err(format!("{wrong}: {RIGHT}")),
        }
    }

    fn to_text(&self) -> String {
        self.0.clone()
    }
}

/// A Host header: a name or an address, and maybe a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostName(pub(super) String);

impl Textual for HostName {
    fn from_text(text: &str) -> Result<Self, String> {
        match host_and_port(text) {
            Ok(_) => Ok(Self(text.to_ascii_lowercase())),
            Err(wrong) => Err(format!("{wrong}: write \"shop.example.com\" or \"shop.example.com:8080\"")),
        }
    }

    fn to_text(&self) -> String {
        self.0.clone()
    }
}

/// Parts `host[:port]`: the host in lower case and without brackets, the port where there is one.
pub(super) fn host_and_port(text: &str) -> Result<(String, Option<u16>), String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((address, after)) = rest.split_once(']') else {
                return Err(format!("{text:?} has `[` without `]`"));
            };
            let address = address.parse::<Ipv6Addr>().map_err(|_| format!("{address:?} is no IPv6 address"))?;
            match after.strip_prefix(':') {
                None if !after.is_empty() => return Err(format!("{after:?} after `]` is no port")),
                port => (address.to_string(), port),
            }
        }
        None => {
            let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            if host.is_empty() || host.len() > 253 || !host.bytes().all(plain) {
                return Err(format!("{host:?} is no host name"));
            }
            (host.to_ascii_lowercase(), port)
        }
    };
    let port = match port {
        None => None,
        Some(digits) => match digits.parse::<u16>() {
            Ok(port) if port > 0 && !digits.starts_with('+') => Some(port),
            _ => return Err(format!("{digits:?} is no port from 1 to 65535")),
        },
    };
    Ok((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_is_a_host_and_a_port() {
        let check = |text: &str, host: &str, port: u16, authority: &str| {
            let upstream = Upstream::from_text(text).unwrap();
            assert_eq!((upstream.host.as_str(), upstream.port, upstream.authority.as_str()), (host, port, authority));
            assert_eq!(Upstream::from_text(&upstream.to_text()).unwrap(), upstream);
        };
        check("http://127.0.0.1:9000", "127.0.0.1", 9000, "127.0.0.1:9000");
        check("http://Medusa/", "medusa", 80, "medusa");
        check("HTTP://a_b.svc:80", "a_b.svc", 80, "a_b.svc");
        check("http://[::1]:9000/", "::1", 9000, "[::1]:9000");
        check("http://[FD00::1]", "fd00::1", 80, "[fd00::1]");
    }

    #[test]
    fn an_upstream_says_what_is_wrong_with_it() {
        for (text, words) in [
            ("127.0.0.1:9000", "no scheme"),
            ("https://shop", "TLS to the origin is not there yet"),
            ("ftp://shop", "not spoken here"),
            ("http://shop/store", "has a path"),
            ("http://shop/?a", "has a path"),
            ("http://u:p@shop", "no credentials"),
            ("http://", "no host name"),
            ("http://a b", "no host name"),
            ("http://shop:0", "no port"),
            ("http://shop:70000", "no port"),
            ("http://shop:", "no port"),
            ("http://::1", "no host name"),
            ("http://[::1", "without `]`"),
            ("http://[::1]9", "no port"),
            ("http://[x]", "no IPv6"),
        ] {
            let message = Upstream::from_text(text).unwrap_err();
            assert!(message.contains(words), "{text}: {message}");
        }
    }

    #[test]
    fn browser_origins_and_hosts_are_lower_case() {
        assert_eq!(BrowserOrigin::from_text("https://*.Example.com:8443").unwrap().0, "https://*.example.com:8443");
        for text in ["*", "example.com", "https://", "https://a/b", "https://a.*.b", "null"] {
            assert!(BrowserOrigin::from_text(text).is_err(), "{text}");
        }
        assert_eq!(HostName::from_text("Shop.Example.com:8080").unwrap().0, "shop.example.com:8080");
        assert!(HostName::from_text("http://shop").is_err());
    }
}
