//! What the origin is allowed: connections, places in the queue, time and bytes.

use std::time::Duration;

use http::HeaderValue;
use http::header::InvalidHeaderValue;
use http::uri::Authority;

/// The address and the limits of an origin. All are bounds; each error names the one it met.
#[derive(Clone, Debug)]
pub struct OriginSettings {
    /// Name or address that is connected to, IPv6 without brackets.
    pub host: String,
    /// Port that is connected to.
    pub port: u16,
    /// `Host` of requests that bring none.
    pub host_header: HeaderValue,
    /// Connections at once, tunnels included; further requests queue.
    pub connections_max: usize,
    /// Fills among them; further ones queue.
    pub fills_max: usize,
    /// Requests in the queue, at most three quarters of them of one kind; further ones are `queue_full`.
    pub queue_max: usize,
    /// Time in the queue, else `queue_timeout`.
    pub queue_timeout: Duration,
    /// Time to resolve the name and to connect to one of its addresses, else `connect_timeout`.
    pub connect_timeout: Duration,
    /// From a fill's request to the end of its answer's head, else `first_byte_timeout`.
    pub first_byte_timeout: Duration,
    /// Stillness of a fill's body while it is waited for, else `between_bytes_timeout`.
    pub between_bytes_timeout: Duration,
    /// A fill in total, its time in the queue included, else `total_timeout`.
    pub total_timeout: Duration,
    /// As `first_byte_timeout`, for what is passed; a request body that moves holds it off.
    pub pass_first_byte_timeout: Duration,
    /// As `between_bytes_timeout`, for what is passed.
    pub pass_idle_timeout: Duration,
    /// An idle connection is closed after this time; a `Keep-Alive` of the origin may shorten it.
    pub idle_timeout: Duration,
    /// Bytes of an answer's head, and of its trailers; beyond it the answer is `head_size`.
    pub head_bytes_max: usize,
}

impl OriginSettings {
    /// The limits that `proxy.toml` shows, for an origin at `authority` (port 80 if it names none).
    pub fn new(authority: &Authority) -> Result<Self, InvalidHeaderValue> {
        // Credentials in the address are for nobody; they must not end up in a `Host`.
        let host_header = authority.as_str().rsplit('@').next().unwrap_or_default();
        Ok(Self {
            host: authority.host().trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: authority.port_u16().unwrap_or(80),
            host_header: HeaderValue::from_str(host_header)?,
            connections_max: 64,
            fills_max: 64,
            queue_max: 1024,
            queue_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(1),
            first_byte_timeout: Duration::from_secs(10),
            between_bytes_timeout: Duration::from_secs(10),
            total_timeout: Duration::from_secs(30),
            pass_first_byte_timeout: Duration::from_secs(60),
            pass_idle_timeout: Duration::from_secs(300),
            idle_timeout: Duration::from_secs(4),
            head_bytes_max: 64 * 1024,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_and_the_host_come_from_the_authority() {
        let check = |authority: &str, host: &str, port: u16, host_header: &str| {
            let settings = OriginSettings::new(&authority.parse().unwrap()).unwrap();
            assert_eq!((settings.host.as_str(), settings.port), (host, port), "{authority}");
            assert_eq!(settings.host_header, host_header, "{authority}");
        };
        check("127.0.0.1:9000", "127.0.0.1", 9000, "127.0.0.1:9000");
        check("shop.example.com", "shop.example.com", 80, "shop.example.com");
        check("[::1]:9000", "::1", 9000, "[::1]:9000");
        check("user:word@shop:81", "shop", 81, "shop:81");
    }
}
