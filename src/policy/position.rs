//! Positions: "I have seen the answer to this purge", as a client says it in a later request.
//!
//! A purge that is in the log has a position there, and its acknowledgement gives it away signed. A request that carries
//! it is never answered from before it, on any node: one that is not as far waits a moment, and then asks the origin.
//! Only what a node has signed is believed, for anybody could make every node wait with a position of tomorrow.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderName};
use subtle::ConstantTimeEq;

use super::purge::PurgeSeq;

/// The request field that carries a position.
pub const FIELD: HeaderName = HeaderName::from_static("endcap-position");

/// Bytes of a signature: what is gained by forging one is a little load.
const SIGNATURE: usize = 16;
/// Longest position that is looked at, in bytes.
const BYTES_MAX: usize = 80;

/// Signs positions and reads them. All nodes have the same secrets, so each reads what another has signed.
#[derive(Default)]
pub struct Positions {
    keys: Vec<[u8; blake3::KEY_LEN]>,
}

impl std::fmt::Debug for Positions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Positions({} keys)", self.keys.len())
    }
}

impl Positions {
    /// Signs with the first secret and reads by each; without any there are no positions.
    pub fn new<'s>(secrets: impl IntoIterator<Item = &'s str>) -> Self {
        let key = |secret: &str| blake3::derive_key("endcap 2026 position in the purge log", secret.as_bytes());
        Self { keys: secrets.into_iter().map(key).collect() }
    }

    /// A position for a client to keep; `None` where nothing signs it.
    pub fn issue(&self, seq: PurgeSeq) -> Option<String> {
        let seq = seq.to_string();
        Some(format!("{seq}.{}", signature(self.keys.first()?, &seq)))
    }

    /// The position that a request carries, if it is one of ours; the last of several.
    pub fn of(&self, headers: &HeaderMap) -> Option<PurgeSeq> {
        headers.get_all(FIELD).iter().filter_map(|value| self.read(value.to_str().ok()?)).max()
    }

    fn read(&self, text: &str) -> Option<PurgeSeq> {
        let (seq, signed) = text.trim().split_once('.').filter(|_| text.len() <= BYTES_MAX)?;
        let is_ours = |key| bool::from(signature(key, seq).as_bytes().ct_eq(signed.as_bytes()));
        self.keys.iter().any(is_ours).then(|| PurgeSeq::parse(seq))?
    }
}

fn signature(key: &[u8; blake3::KEY_LEN], seq: &str) -> String {
    let hash = blake3::keyed_hash(key, seq.as_bytes());
    URL_SAFE_NO_PAD.encode(&hash.as_bytes()[..SIGNATURE])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carried(positions: &Positions, values: &[&str]) -> Option<PurgeSeq> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(FIELD, value.parse().unwrap());
        }
        positions.of(&headers)
    }

    #[test]
    fn what_a_node_signed_is_read_and_nothing_else() {
        let (seq, later) = (PurgeSeq::new(7, 1).unwrap(), PurgeSeq::new(7, 2).unwrap());
        let nodes = Positions::new(["new", "old"]);
        let position = nodes.issue(seq).unwrap();
        assert_eq!(carried(&nodes, &[&position]), Some(seq));
        assert_eq!(carried(&nodes, &[&Positions::new(["old"]).issue(seq).unwrap()]), Some(seq), "secrets rotate");
        assert_eq!(carried(&nodes, &[&position, "x", &nodes.issue(later).unwrap()]), Some(later));
        for forged in [
            &position.replacen("7-1", "9-1", 1),
            &Positions::new(["other"]).issue(seq).unwrap(),
            &format!("{position}x"),
            position.split_at(position.len() - 1).0,
            "7-1.",
            "7-1",
            "",
            &format!("{}{position}", " ".repeat(80)),
        ] {
            assert_eq!(carried(&nodes, &[forged]), None, "{forged}");
        }
        assert_eq!((Positions::default().issue(seq), carried(&Positions::default(), &[&position])), (None, None));
    }
}
