//! Where Redis is, and which of its servers has a key. Pure: what the servers say of it is read here.

use std::fmt;
use std::path::PathBuf;

use redis::Value;

use crate::store::{Denial, StoreError};

/// Hash slots of a cluster (Redis Cluster Specification, "Key distribution model").
const SLOTS: u16 = 16384;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A host (IPv6 without brackets) and a port.
    Tcp(String, u16),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// How servers stand to one another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topology {
    /// One server has all keys.
    Single(Address),
    /// One server has all keys, and sentinels know which.
    Sentinel {
        /// Where they listen.
        sentinels: Vec<Address>,
        /// What they call the master.
        master: String,
    },
    /// Each server has some slots. These are asked first who has which.
    Cluster(Vec<Address>),
}

/// Who has which slots, as it was last heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout(Vec<(u16, u16, Address)>);

impl Layout {
    /// One server has all.
    pub(super) fn all_at(address: Address) -> Self {
        Self(vec![(0, SLOTS - 1, address)])
    }

    /// Who has a slot.
    pub(super) fn owner(&self, slot: u16) -> Result<&Address, StoreError> {
        let found = self.0.iter().find(|(first, last, _)| (*first..=*last).contains(&slot));
        found
            .map(|(_, _, address)| address)
            .ok_or_else(|| StoreError::Refused(Denial::Moved, format!("no server of the cluster has slot {slot}")))
    }

    /// All who have any.
    pub(super) fn servers(&self) -> impl Iterator<Item = &Address> {
        self.0.iter().map(|(_, _, address)| address)
    }

    /// Reads the answer to `CLUSTER SLOTS`: `[[first, last, [host, port, …] of the master, …], …]`. A server
    /// that does not know its own name is the one that was asked.
    pub(super) fn read(answer: Value, asked: &Address) -> Result<Self, StoreError> {
        let odd = || StoreError::Server("an odd answer to CLUSTER SLOTS".into());
        let Value::Array(ranges) = answer else { return Err(odd()) };
        let range = |range: Value| {
            let Value::Array(range) = range else { return None };
            let mut range = range.into_iter();
            let (first, last) = (number(range.next()?)?, number(range.next()?)?);
            let Value::Array(master) = range.next()? else { return None };
            let mut master = master.into_iter();
            let host: Option<String> = redis::from_redis_value(master.next()?).ok()?;
            let address = at(host.as_deref().unwrap_or(""), number(master.next()?)?, asked)?;
            (first <= last && last < SLOTS).then_some((first, last, address))
        };
        let ranges = ranges.into_iter().map(|found| range(found).ok_or_else(odd)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self(ranges))
    }
}

/// A slot or a port. The client itself would cut larger numbers off.
fn number(value: Value) -> Option<u16> {
    redis::from_redis_value::<i64>(value).ok()?.try_into().ok()
}

fn at(host: &str, port: u16, asked: &Address) -> Option<Address> {
    let host = match (host, asked) {
        ("" | "?", Address::Tcp(host, _)) => host.clone(),
        ("" | "?", Address::Unix(_)) => return None,
        (host, _) => host.to_owned(),
    };
    Some(Address::Tcp(host, port))
}

/// Where a command has to go instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Redirect {
    pub(super) to: Address,
    /// The slot is on its way there: this command alone goes after it, and says so.
    pub(super) asking: bool,
}

impl Redirect {
    /// Reads `MOVED slot host:port` and `ASK slot host:port`.
    pub(super) fn read(code: &str, detail: &str, asked: &Address) -> Option<Self> {
        let asking = match code {
            "MOVED" => false,
            "ASK" => true,
            _ => return None,
        };
        let (host, port) = detail.split_ascii_whitespace().nth(1)?.rsplit_once(':')?;
        Some(Self { to: at(host, port.parse().ok()?, asked)?, asking })
    }
}

/// The slot of a key: of what stands between its first braces, where anything does, else of all of it.
pub(super) fn slot(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    crc16(tag.filter(|tag| !tag.is_empty()).unwrap_or(key).as_bytes()) % SLOTS
}

/// CRC-16/XMODEM: polynomial 0x1021, from zero.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(
            crc ^ (u16::from(*byte) << 8),
            |crc, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp(host.to_owned(), port)
    }

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(slot("foo"), 12182, "as CLUSTER KEYSLOT says");
        assert_eq!(slot("endcap:e:{ab12}"), slot("endcap:l:{ab12}"));
        assert_eq!(slot("{user1000}.following"), slot("user1000"));
        assert_eq!(slot("foo{}{bar}"), crc16(b"foo{}{bar}") % SLOTS, "empty braces are part of the name");
        assert_eq!(slot("foo{{bar}}zap"), slot("{bar"));
        assert_eq!(slot("foo{bar"), crc16(b"foo{bar") % SLOTS);
    }

    #[test]
    fn the_answer_to_cluster_slots_says_who_has_what() {
        let server = |host: Value, port| Value::Array(vec![host, Value::Int(port), text("id"), Value::Array(vec![])]);
        let range = |first, last, host, port| {
            Value::Array(vec![Value::Int(first), Value::Int(last), server(host, port), server(text("replica"), 1)])
        };
        let answer = Value::Array(vec![range(0, 99, text("a"), 7000), range(100, 16383, Value::Nil, 7001)]);
        let layout = Layout::read(answer, &tcp("seed", 1)).unwrap();
        assert_eq!(layout.owner(99), Ok(&tcp("a", 7000)));
        assert_eq!(layout.owner(100), Ok(&tcp("seed", 7001)), "it does not know its own name");
        assert_eq!(layout.servers().count(), 2);
        let gap = Layout::read(Value::Array(vec![range(0, 99, text("a"), 7000)]), &tcp("seed", 1)).unwrap();
        assert_eq!(gap.owner(100).unwrap_err().reason(), "l2_moved");
        for odd in [
            Value::Nil,
            Value::Array(vec![Value::Int(1)]),
            Value::Array(vec![range(0, 16384, text("a"), 1)]),
            Value::Array(vec![range(9, 8, text("a"), 1)]),
            Value::Array(vec![range(0, 1, text("a"), 70_000)]),
            Value::Array(vec![range(-1, 1, text("a"), 1)]),
        ] {
            assert!(Layout::read(odd.clone(), &tcp("seed", 1)).is_err(), "{odd:?}");
        }
        let alone = Layout::all_at(Address::Unix("/s".into()));
        assert_eq!(alone.owner(0), alone.owner(SLOTS - 1));
    }

    #[test]
    fn a_redirection_names_a_server() {
        let read = |code, detail| Redirect::read(code, detail, &tcp("asked", 1));
        assert_eq!(read("MOVED", "3999 127.0.0.1:6381"), Some(Redirect { to: tcp("127.0.0.1", 6381), asking: false }));
        assert_eq!(read("ASK", "3999 ::1:6381"), Some(Redirect { to: tcp("::1", 6381), asking: true }));
        assert_eq!(read("MOVED", "3999 :6381").unwrap().to, tcp("asked", 6381));
        for (code, detail) in [("MOVED", "3999"), ("MOVED", ""), ("ASK", "1 a:70000"), ("ERR", "1 a:1"), ("ASK", "1 a")]
        {
            assert_eq!(read(code, detail), None, "{code} {detail}");
        }
    }
}
