//! How an entry is written into the shared store. What comes out of it is untrusted input.
//!
//! ```text
//! "endcap" version:u8 flags:u8 mac:32 │ length key rule times as_of status tags fields │ body
//!                                          └───── the MAC covers all of this, and what is before it
//! ```
//! Under a key whose answers vary stands what they vary by, flagged as such: key, rule and names, no more.
//! Numbers are big-endian. A value of another version, a damaged or a foreign one is a miss with a
//! reason. To add a field: append it behind the last one, raise `VERSION`, and read both for one release.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::policy::entry::{Entry, Lifetime};
use crate::policy::fields::Fields;
use crate::policy::forms::Forms;
use crate::policy::purge::PurgeSeq;
use crate::policy::tags::{TAGS_MAX, TagHash};
use crate::policy::time::Timestamp;
use crate::purges::Purges;

const MAGIC: &[u8; 6] = b"endcap";
const VERSION: u8 = 3;
const ZSTD: u8 = 1;
/// No entry, but the names of the fields that select one.
const VARIES: u8 = 2;
/// The entity tag is none of the origin's.
const OWN_ETAG: u8 = 4;
/// The body may be sent in encodings of ours; each node makes its own.
const ENCODABLE: u8 = 8;
const MAC_AT: usize = 8;
const BODY_AT: usize = MAC_AT + 32;
/// How long an entry with a validator is kept after its time.
const REVALIDATED: Duration = Duration::from_secs(300);
/// Fields of an answer, at the most; the origin's head is bounded before.
const FIELDS_MAX: usize = 1024;

/// Why stored bytes are no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Not ours, cut off, or the checksum is wrong.
    #[error("not ours, cut off or damaged")]
    Corrupt,
    /// Another version's.
    #[error("written by another version")]
    Version,
    /// Another key's: a collision, or somebody moved it.
    #[error("belongs to another key")]
    Foreign,
    /// Its tags were found by other rules than this node's.
    #[error("its tags were found by other rules")]
    Rule,
    /// Larger than what this node stores.
    #[error("larger than what this node stores")]
    TooLarge,
}

impl WireError {
    /// The word for logs and labels.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Corrupt => "l2_corrupt",
            Self::Version => "l2_version",
            Self::Foreign => "l2_foreign",
            Self::Rule => "l2_rule",
            Self::TooLarge => "l2_size",
        }
    }
}

/// What stands under a key of the shared store.
#[derive(Debug)]
pub enum Stored {
    /// An entry.
    Entry(Box<Entry>),
    /// The answers vary by these fields: each stands under a key of its own.
    Varies(Vec<HeaderName>),
}

/// What stands before a value proper.
struct Envelope {
    flags: u8,
    /// Bytes of the body when it is unpacked: no more than the largest object.
    length: usize,
}

/// Writes and reads entries; holds the key of the checksum.
#[derive(Clone)]
pub struct Codec {
    mac_key: [u8; 32],
    compress_min: usize,
    object_max: usize,
}

impl std::fmt::Debug for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Codec").field("compress_min", &self.compress_min).finish_non_exhaustive()
    }
}

impl Codec {
    /// Derives the checksum's key: with a secret nobody without it can forge an entry, without one the
    /// checksum finds damage alone. Bodies above `compress_min` are compressed.
    pub fn new(integrity_key: Option<&str>, compress_min: usize, object_max: usize) -> Self {
        let mac_key =
            blake3::derive_key("endcap 2026-11 shared entry integrity", integrity_key.unwrap_or("").as_bytes());
        Self { mac_key, compress_min, object_max }
    }

    /// Writes an entry. Its position is written as other nodes may know it. `fingerprint` tells the rules
    /// by which its tags were found.
    pub fn encode(&self, fingerprint: u64, entry: &Entry) -> Bytes {
        let packed = (entry.body.len() > self.compress_min)
            .then(|| zstd::bulk::compress(&entry.body, 1).ok())
            .flatten()
            .filter(|packed| packed.len() < entry.body.len());
        let body = packed.as_deref().unwrap_or(&entry.body);
        let mut out = BytesMut::with_capacity(body.len() + entry.key.len() + 8 * entry.tags.len() + 1024);
        out.put_slice(MAGIC);
        out.put_u8(VERSION);
        let flags = [(packed.is_some(), ZSTD), (entry.has_own_etag, OWN_ETAG), (entry.is_encodable, ENCODABLE)];
        out.put_u8(flags.iter().filter(|(is_so, _)| *is_so).map(|(_, flag)| flag).sum());
        out.put_bytes(0, 32);
        out.put_u64(entry.body.len() as u64);
        put_bytes(&mut out, &entry.key);
        out.put_u64(fingerprint);
        let Lifetime { born, fresh_until, swr_until, sie_until } = entry.lifetime;
        for time in [born, fresh_until, swr_until, sie_until, entry.began] {
            out.put_u64(time.as_millis());
        }
        out.put_u128(entry.as_of.shared().to_bits());
        out.put_u16(entry.status.as_u16());
        out.put_u32(u32::try_from(entry.tags.len()).expect("an entry has at most TAGS_MAX tags"));
        for tag in &entry.tags {
            out.put_u64(tag.to_bits());
        }
        out.put_u32(u32::try_from(entry.fields.iter().count()).expect("an answer's head is bounded"));
        for (name, value) in entry.fields.iter() {
            put_bytes(&mut out, name);
            put_bytes(&mut out, value);
        }
        out.put_slice(body);
        let mac = self.mac(&out);
        out[MAC_AT..BODY_AT].copy_from_slice(mac.as_bytes());
        out.freeze()
    }

    /// Reads an entry for a key and judges it against the purge index.
    ///
    /// # Errors
    /// See [`WireError`]; whatever the bytes are, this neither panics nor takes more memory than the
    /// largest object.
    pub fn decode(
        &self,
        fingerprint: u64,
        key: &[u8],
        bytes: &Bytes,
        purges: &Purges,
        now: Timestamp,
    ) -> Result<Stored, WireError> {
        let (Envelope { flags, length }, mut rest) = self.open(fingerprint, key, bytes)?;
        if flags & VARIES == 0 {
            return Self::entry(key, flags, length, rest, purges, now).map(|entry| Stored::Entry(Box::new(entry)));
        }
        let count = take_count(&mut rest, FIELDS_MAX)?;
        let name = |_| HeaderName::from_bytes(&take_bytes(&mut rest)?).map_err(|_| WireError::Corrupt);
        (0..count).map(name).collect::<Result<_, _>>().map(Stored::Varies)
    }

    /// Bytes that reading a value takes beside the value itself, at the most: known before it is checked.
    pub fn unpacked(&self, bytes: &Bytes) -> usize {
        let length = bytes.get(BODY_AT..).and_then(|rest| rest.first_chunk()).map(|length| u64::from_be_bytes(*length));
        let is_packed = bytes.get(MAGIC.len() + 1).is_some_and(|flags| flags & ZSTD != 0);
        let length = length.filter(|_| is_packed).and_then(|length| usize::try_from(length).ok());
        length.filter(|length| *length <= self.object_max).unwrap_or(0)
    }

    /// Writes what the answers to a key vary by.
    pub fn encode_names(&self, fingerprint: u64, key: &[u8], names: &[HeaderName]) -> Bytes {
        let mut out = BytesMut::with_capacity(key.len() + 256);
        out.put_slice(MAGIC);
        out.put_slice(&[VERSION, VARIES]);
        out.put_bytes(0, 32);
        out.put_u64(0);
        put_bytes(&mut out, key);
        out.put_u64(fingerprint);
        out.put_u32(u32::try_from(names.len()).expect("a few names"));
        for name in names {
            put_bytes(&mut out, name.as_str().as_bytes());
        }
        let mac = self.mac(&out);
        out[MAC_AT..BODY_AT].copy_from_slice(mac.as_bytes());
        out.freeze()
    }

    /// Checks what stands before the value proper, and gives that and the value.
    fn open(&self, fingerprint: u64, key: &[u8], bytes: &Bytes) -> Result<(Envelope, Bytes), WireError> {
        if bytes.len() > value_max(self.object_max) {
            return Err(WireError::TooLarge);
        }
        if bytes.len() < BODY_AT || &bytes[..MAGIC.len()] != MAGIC {
            return Err(WireError::Corrupt);
        }
        if bytes[MAGIC.len()] != VERSION {
            return Err(WireError::Version);
        }
        let flags = bytes[MAGIC.len() + 1];
        if flags & !(ZSTD | VARIES | OWN_ETAG | ENCODABLE) != 0 {
            return Err(WireError::Version);
        }
        // blake3's hashes compare in constant time.
        let (said, _) = bytes[MAC_AT..].split_first_chunk::<32>().ok_or(WireError::Corrupt)?;
        if self.mac(bytes) != *said {
            return Err(WireError::Corrupt);
        }
        let mut rest = bytes.slice(BODY_AT..);
        let length = rest.try_get_u64().map_err(|_| WireError::Corrupt)?;
        let length =
            usize::try_from(length).ok().filter(|length| *length <= self.object_max).ok_or(WireError::TooLarge)?;
        let stored_key = take_bytes(&mut rest)?;
        if stored_key != key {
            return Err(WireError::Foreign);
        }
        if rest.try_get_u64().map_err(|_| WireError::Corrupt)? != fingerprint {
            return Err(WireError::Rule);
        }
        Ok((Envelope { flags, length }, rest))
    }

    fn entry(
        key: &[u8],
        flags: u8,
        length: usize,
        mut rest: Bytes,
        purges: &Purges,
        now: Timestamp,
    ) -> Result<Entry, WireError> {
        let mut time = || rest.try_get_u64().map(Timestamp::from_millis).map_err(|_| WireError::Corrupt);
        let times = [time()?, time()?, time()?, time()?, time()?];
        // A fill that has not begun yet was written by a node whose clock is ahead.
        let ahead = times[4].since(now);
        let [born, fresh_until, swr_until, sie_until, began] = times.map(|time| time.before(ahead));
        let as_of = PurgeSeq::from_bits(rest.try_get_u128().map_err(|_| WireError::Corrupt)?);
        let status = rest.try_get_u16().map_err(|_| WireError::Corrupt)?;
        let status = StatusCode::from_u16(status).map_err(|_| WireError::Corrupt)?;
        let count = take_count(&mut rest, TAGS_MAX)?;
        let mut tags = Vec::with_capacity(count);
        for _ in 0..count {
            tags.push(TagHash::from_bits(rest.try_get_u64().map_err(|_| WireError::Corrupt)?));
        }
        if !tags.is_sorted() {
            return Err(WireError::Corrupt);
        }
        let count = take_count(&mut rest, FIELDS_MAX)?;
        let mut headers = HeaderMap::with_capacity(count);
        for _ in 0..count {
            let name = HeaderName::from_bytes(&take_bytes(&mut rest)?).map_err(|_| WireError::Corrupt)?;
            let value = HeaderValue::from_maybe_shared(take_bytes(&mut rest)?).map_err(|_| WireError::Corrupt)?;
            headers.append(name, value);
        }
        let body = if flags & ZSTD == 0 {
            rest
        } else {
            zstd::bulk::decompress(&rest, length).map(Bytes::from).map_err(|_| WireError::Corrupt)?
        };
        if body.len() != length {
            return Err(WireError::Corrupt);
        }
        let tags = tags.into_boxed_slice();
        let (as_of, seen) = purges.judge_foreign(&tags, as_of);
        let lifetime = Lifetime { born, fresh_until, swr_until, sie_until };
        // Copies: a slice would hold the whole stored value, compressed body and all, beside the body.
        Ok(Entry {
            key: key.into(),
            status,
            fields: Fields::from(&headers),
            body,
            tags,
            lifetime,
            as_of,
            began,
            is_own: false,
            has_own_etag: flags & OWN_ETAG != 0,
            is_encodable: flags & ENCODABLE != 0,
            seen,
            forms: Forms::default(),
        })
    }

    /// Over everything but the MAC itself.
    fn mac(&self, bytes: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.mac_key);
        hasher.update(&bytes[..MAC_AT]);
        hasher.update(&bytes[BODY_AT..]);
        hasher.finalize()
    }
}

/// Bytes of an entry as it is written, at the most: the largest body, and what is bounded far below a mebibyte.
pub const fn value_max(object_max: usize) -> usize {
    object_max.saturating_add(1 << 20)
}

/// How long an entry is worth keeping: what has a validator, for a while after it may be served, because
/// asking whether it still holds is cheaper than asking for it anew.
pub fn time_to_live(entry: &Entry, now: Timestamp) -> Duration {
    let asked_about = if entry.has_validator() { REVALIDATED } else { Duration::ZERO };
    entry.lifetime.ends().since(now) + asked_about
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32(u32::try_from(bytes.len()).expect("keys and fields are bounded far below 4 GiB"));
    out.put_slice(bytes);
}

fn take_bytes(rest: &mut Bytes) -> Result<Bytes, WireError> {
    let length = rest.try_get_u32().map_err(|_| WireError::Corrupt)? as usize;
    if length > rest.len() {
        return Err(WireError::Corrupt);
    }
    Ok(rest.split_to(length))
}

fn take_count(rest: &mut Bytes, most: usize) -> Result<usize, WireError> {
    let count = rest.try_get_u32().map_err(|_| WireError::Corrupt)? as usize;
    // A collapsed set may hold a few coarse tags beyond the bound.
    if count > most + 64 { Err(WireError::Corrupt) } else { Ok(count) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::purge::{Marked, Mode, Purge, PurgeIndex, Purged};

    const RULES: u64 = 7;
    const NOW: Timestamp = Timestamp::from_millis(100);

    fn purges() -> Purges {
        Purges::new(PurgeIndex::new(Duration::from_secs(2), 100, Duration::from_secs(100)), None)
    }

    fn entry(body: &[u8]) -> Entry {
        let at = Timestamp::from_millis;
        let mut headers = HeaderMap::new();
        headers.append("content-type", HeaderValue::from_static("application/json"));
        headers.append("link", HeaderValue::from_static("<a>"));
        headers.append("link", HeaderValue::from_bytes(b"<b>\xe9").unwrap());
        let mut tags = vec![TagHash::of("a"), TagHash::of("b")];
        tags.sort_unstable();
        Entry {
            key: b"the key"[..].into(),
            status: StatusCode::OK,
            fields: Fields::from(&headers),
            body: Bytes::copy_from_slice(body),
            tags: tags.into(),
            lifetime: Lifetime { born: at(1), fresh_until: at(2), swr_until: at(3), sie_until: at(4) },
            as_of: PurgeSeq::new(7, 8).unwrap().next_local(),
            began: at(5),
            is_own: true,
            has_own_etag: false,
            is_encodable: true,
            seen: crate::policy::entry::Seen::default(),
            forms: Forms::default(),
        }
    }

    fn codec() -> Codec {
        Codec::new(Some("secret"), 64, 1 << 20)
    }

    fn read(bytes: &Bytes, purges: &Purges, now: Timestamp) -> Entry {
        match codec().decode(RULES, b"the key", bytes, purges, now).unwrap() {
            Stored::Entry(entry) => *entry,
            Stored::Varies(names) => panic!("{names:?}"),
        }
    }

    #[test]
    fn what_answers_vary_by_comes_back_and_is_as_well_guarded() {
        let names = vec![HeaderName::from_static("accept-language"), HeaderName::from_static("foo")];
        let bytes = codec().encode_names(RULES, b"the key", &names);
        let read = |key: &[u8], bytes: &Bytes| codec().decode(RULES, key, bytes, &purges(), NOW);
        assert!(matches!(read(b"the key", &bytes), Ok(Stored::Varies(read)) if read == names));
        assert!(matches!(read(b"other", &bytes), Err(WireError::Foreign)));
        for at in 8..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1;
            assert!(matches!(read(b"the key", &damaged.into()), Err(WireError::Corrupt)), "byte {at}");
        }
    }

    #[test]
    fn an_entry_comes_back_as_it_went_in() {
        for (has_own_etag, body) in [(false, &b""[..]), (true, b"small"), (true, &[b'x'; 5000])] {
            let written = Entry { has_own_etag, is_encodable: !has_own_etag, ..entry(body) };
            let bytes = codec().encode(RULES, &written);
            assert!(body.len() < 64 || bytes.len() < body.len(), "compressed");
            let purges = purges();
            purges.apply(PurgeSeq::new(8, 0).unwrap(), Marked::default(), Timestamp::default());
            let read = read(&bytes, &purges, NOW);
            assert_eq!(read.body, written.body);
            assert_eq!(read.fields, written.fields);
            assert_eq!((read.status, read.lifetime, read.began), (written.status, written.lifetime, written.began));
            assert_eq!(read.tags, written.tags);
            assert_eq!((read.has_own_etag, read.is_encodable), (has_own_etag, !has_own_etag));
            assert_eq!(read.as_of, written.as_of.shared(), "what only one node knows stays there");
        }
    }

    /// Whoever can write into the store can write this, where entries have no secret.
    #[test]
    fn a_small_value_does_not_unpack_to_a_large_one() {
        let huge = vec![0; 8 << 20];
        let writer = Codec::new(Some("secret"), 64, 16 << 20);
        let bytes = writer.encode(RULES, &entry(&huge));
        assert!(bytes.len() < 4096 && writer.unpacked(&bytes) == huge.len());
        let read = |bytes: &Bytes| codec().decode(RULES, b"the key", bytes, &purges(), NOW).map(drop);
        assert_eq!((codec().unpacked(&bytes), read(&bytes)), (0, Err(WireError::TooLarge)));
        for claimed in [0_u64, 100, 1 << 20] {
            let mut forged = bytes.to_vec();
            forged[BODY_AT..BODY_AT + 8].copy_from_slice(&claimed.to_be_bytes());
            let mac = codec().mac(&forged);
            forged[MAC_AT..BODY_AT].copy_from_slice(mac.as_bytes());
            let forged = Bytes::from(forged);
            assert_eq!(codec().unpacked(&forged) as u64, claimed, "room for as much is taken");
            assert_eq!(read(&forged), Err(WireError::Corrupt), "and no more is unpacked");
        }
    }

    #[test]
    fn a_clock_that_is_ahead_makes_nothing_younger() {
        let at = Timestamp::from_millis;
        let bytes = codec().encode(RULES, &entry(b"x"));
        let read = read(&bytes, &purges(), at(3));
        let lifetime = Lifetime { born: at(0), fresh_until: at(0), swr_until: at(1), sie_until: at(2) };
        assert_eq!((read.began, read.lifetime), (at(3), lifetime), "it began now, at the latest");
    }

    #[test]
    fn what_comes_in_is_judged_against_the_index() {
        let purges = purges();
        let bytes = codec().encode(RULES, &entry(b"x"));
        let purge = |tag: &str| Purge { tags: vec![(tag.to_owned(), Mode::Hard)], ..Purge::default() };
        let read = || read(&bytes, &purges, NOW);
        assert_eq!(read().as_of, PurgeSeq::ZERO, "what we have not applied may concern it");
        purges.apply(PurgeSeq::new(9, 0).unwrap(), purge("a").into(), Timestamp::default());
        assert_eq!(purges.check(&read()), Purged::Hard);
    }

    /// After a fail-over the log may go on behind what another node has read of it.
    #[test]
    fn what_comes_next_here_concerns_an_entry_of_a_node_that_was_further() {
        let purges = purges();
        let apply = |ms, purge: Purge| purges.apply(PurgeSeq::new(ms, 0).unwrap(), purge.into(), NOW);
        apply(5, Purge::default());
        let read = read(&codec().encode(RULES, &entry(b"x")), &purges, NOW);
        assert_eq!((read.as_of, purges.check(&read)), (PurgeSeq::new(5, 0).unwrap(), Purged::No));
        apply(6, Purge { tags: vec![("a".into(), Mode::Hard)], ..Purge::default() });
        assert_eq!(purges.check(&read), Purged::Hard);
    }

    #[test]
    fn foreign_damaged_and_newer_values_are_told_apart() {
        let bytes = codec().encode(RULES, &entry(&[b'x'; 500]));
        let decode = |codec: &Codec, key: &[u8], bytes: &[u8]| {
            codec.decode(RULES, key, &Bytes::copy_from_slice(bytes), &purges(), NOW).map(|_| ()).unwrap_err()
        };
        assert_eq!(decode(&codec(), b"other", &bytes), WireError::Foreign);
        let other_rules = codec().decode(RULES + 1, b"the key", &bytes, &purges(), NOW).map(|_| ()).unwrap_err();
        assert_eq!(other_rules, WireError::Rule);
        assert_eq!(decode(&Codec::new(None, 64, 1 << 20), b"the key", &bytes), WireError::Corrupt);
        assert_eq!(decode(&Codec::new(Some("secret"), 64, 100), b"the key", &bytes), WireError::TooLarge);
        let mut newer = bytes.to_vec();
        newer[6] = VERSION + 1;
        assert_eq!(decode(&codec(), b"the key", &newer), WireError::Version);
        let foreign = vec![b'x'; value_max(1 << 20) + 1];
        assert_eq!(decode(&codec(), b"the key", &foreign), WireError::TooLarge, "not looked at");
        for garbage in [&b""[..], b"endcap", b"hello world, this is somebody else's value", &bytes[..bytes.len() - 1]] {
            assert_eq!(decode(&codec(), b"the key", garbage), WireError::Corrupt);
        }
        for at in 8..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1;
            assert_eq!(decode(&codec(), b"the key", &damaged), WireError::Corrupt, "byte {at}");
        }
    }

    proptest! {
        /// Even with a right checksum: whoever has the secret may still be another version.
        #[test]
        fn no_signed_bytes_panic(flags in 0_u8..4, tail in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = b"endcap\x01".to_vec();
            bytes.push(flags);
            bytes.extend([0; 32]);
            bytes.extend(&tail);
            let mac = codec().mac(&bytes);
            bytes[MAC_AT..BODY_AT].copy_from_slice(mac.as_bytes());
            drop(codec().decode(RULES, b"", &bytes.into(), &purges(), NOW));
        }
    }
}
