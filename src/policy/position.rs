//! Positions: "I have seen the answer to this purge", as a client says it in a later request.
//!
//! A purge that is in the log has a position there, and its acknowledgement gives it away signed. A request that carries
//! it, in a field or in a cookie, is never answered from before it, on any node: one that is not as far waits a moment, and then asks the origin.
//! Only what a node has signed is believed, for anybody could make every node wait with a position of tomorrow.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderName, header};
use subtle::ConstantTimeEq;

use super::purge::PurgeSeq;

/// The request field that carries a position.
pub const FIELD: HeaderName = HeaderName::from_static("endcap-position");
/// The cookie that carries one: what a browser sends by itself. It makes no request private.
pub const COOKIE: &str = "endcap_position";

/// Bytes of a signature: what is gained by forging one is a little load.
const SIGNATURE: usize = 16;
/// Longest position that is looked at, in bytes.
const BYTES_MAX: usize = 80;
/// Positions of one request that are looked at, those of the field first: each costs a hash or two.
const LOOKED_AT: usize = 4;

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

    /// The position that a request carries in its field or its cookie, if it is one of ours; the latest of several.
    pub fn of(&self, headers: &HeaderMap) -> Option<PurgeSeq> {
        let values = |name| headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        let cookies = values(header::COOKIE).flat_map(|cookies| cookies.split(';'));
        let cookies = cookies.filter_map(|cookie| cookie.split_once('=').filter(|(name, _)| name.trim() == COOKIE));
        let sent = values(FIELD).chain(cookies.map(|(_, value)| value));
        sent.take(LOOKED_AT).filter_map(|text| self.read(text)).max()
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
        let fields: Vec<_> = values.iter().map(|value| (FIELD, *value)).collect();
        of(positions, &fields)
    }

    fn of(positions: &Positions, fields: &[(HeaderName, &str)]) -> Option<PurgeSeq> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, value.parse().unwrap());
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
            assert_eq!(of(&nodes, &[(header::COOKIE, &format!("{COOKIE}={forged}"))]), None, "{forged}");
        }
        assert_eq!((Positions::default().issue(seq), carried(&Positions::default(), &[&position])), (None, None));
    }

    #[test]
    fn the_latest_of_field_and_cookies_counts() {
        let nodes = Positions::new(["secret"]);
        let seqs = [1, 2].map(|n| PurgeSeq::new(7, n).unwrap());
        let [early, late] = seqs.map(|seq| nodes.issue(seq).unwrap());
        let cookie = |position: &str| format!("_ga=1; {COOKIE}={position}; other=2");
        let both = |field, in_cookie| of(&nodes, &[(FIELD, field), (header::COOKIE, &cookie(in_cookie))]);
        assert_eq!([both(&early, &late), both(&late, &early)], [Some(seqs[1]); 2]);
        assert_eq!([both("x", &early), both(&early, "x")], [Some(seqs[0]); 2], "one that is wrong is none");
        let cookies = |lines: &[&str]| {
            let fields: Vec<_> = lines.iter().map(|line| (header::COOKIE, *line)).collect();
            of(&nodes, &fields)
        };
        assert_eq!(cookies(&["_ga=1", &cookie(&early), &cookie(&late)]), Some(seqs[1]), "a line each, as in HTTP/2");
        assert_eq!(cookies(&[&format!("{COOKIE}={early};{COOKIE}={late}")]), Some(seqs[1]));
        assert_eq!(cookies(&[&format!("not_{COOKIE}={late}; {COOKIE}_={late}; {late}")]), None);
        // Who sends a thousand has four of them looked at.
        let many = format!("{COOKIE}=x; ").repeat(LOOKED_AT - 1);
        assert_eq!(cookies(&[&format!("{many}{COOKIE}={late}")]), Some(seqs[1]));
        assert_eq!(cookies(&[&format!("{many}{COOKIE}=x; {COOKIE}={late}")]), None);
    }
}
