//! Tickets: what a browser shows in place of a token that it must not have.
//!
//! A WebSocket or an `EventSource` cannot send `Authorization`, so what lets it in stands in its address, where logs
//! and histories keep it. A ticket is good for one purpose and a minute at the most, and any node that knows the
//! token can check it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::time::Timestamp;

/// How long a ticket is good, at the most.
pub const LIFETIME_MAX: Duration = Duration::from_secs(60);

/// A ticket that opens the stream of events from now for `lifetime`, signed with the token.
pub fn issue(token: &str, now: Timestamp, lifetime: Duration) -> String {
    let until = (now + lifetime.min(LIFETIME_MAX)).as_millis();
    format!("{until}.{}", URL_SAFE_NO_PAD.encode(mac(token, until).finalize().into_bytes()))
}

/// Whether a ticket is good now. Compares in constant time.
pub fn is_good(token: &str, ticket: &str, now: Timestamp) -> bool {
    let Some((until, signature)) = ticket.split_once('.') else { return false };
    let (Ok(until), Ok(signature)) = (until.parse::<u64>(), URL_SAFE_NO_PAD.decode(signature)) else { return false };
    // One from a clock far ahead would be good for too long.
    let latest = (now + LIFETIME_MAX).as_millis();
    mac(token, until).verify_slice(&signature).is_ok() && now.as_millis() < until && until <= latest
}

fn mac(token: &str, until: u64) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(token.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(b"endcap ticket for /events until ");
    mac.update(until.to_string().as_bytes());
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_good_for_its_time_and_its_token_alone() {
        let at = |secs: u64| Timestamp::from_millis(secs * 1000);
        let ticket = issue("token", at(100), Duration::from_secs(30));
        for (token, ticket, now, is) in [
            ("token", ticket.as_str(), at(100), true),
            ("token", &ticket, at(129), true),
            ("token", &ticket, at(130), false),
            ("other", &ticket, at(100), false),
            ("token", &ticket.replacen("130", "190", 1), at(140), false),
            ("token", &issue("token", at(200), Duration::from_secs(30)), at(100), false),
            ("token", &issue("token", at(0), Duration::from_secs(3600)), at(61), false),
            ("token", "", at(100), false),
            ("token", "130000.", at(100), false),
            ("token", "token", at(100), false),
        ] {
            assert_eq!(is_good(token, ticket, now), is, "{token} {ticket} {now:?}");
        }
    }
}
