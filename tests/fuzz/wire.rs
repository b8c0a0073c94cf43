//! Entries as they come out of Redis. The mutated bytes get a right checksum again, else nothing behind it is reached.

use std::sync::LazyLock;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use endcap::clock::Timestamp;
use endcap::policy::purge::PurgeIndex;
use endcap::purges::Purges;
use endcap::store::wire::{Codec, Stored, WireError};
use http::HeaderName;
use http::header::ACCEPT_LANGUAGE;

use crate::Target;

const OBJECT_MAX: usize = 64 << 10;
const MAC_AT: usize = 8;
const BODY_AT: usize = MAC_AT + 32;
const KEY: &[u8] = b"\0\0\0\x01k";
const FINGERPRINT: u64 = 7;
/// Later than the seeds' fills, sooner than others: a node whose clock is ahead.
const NOW: Timestamp = Timestamp::from_millis(1 << 40);

const WORDS: &[&str] = &[
    "\0\0\0\0",
    "\0\0\0\x01",
    "\u{7f}",
    "\0\0\0\0\0\0\0\x02",
    "content-type",
    "application/json",
    "endcap",
    "\r\n",
    "\0\x01\0\0",
];

/// A value as `src/store/wire.rs` describes it, but for its checksum.
fn value(version: u8, flags: u8, tags: &[u64], fields: &[(&str, &str)], length: u64, body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    let part = |out: &mut BytesMut, part: &[u8]| {
        out.put_u32(u32::try_from(part.len()).unwrap());
        out.put_slice(part);
    };
    out.put_slice(b"endcap");
    out.put_slice(&[version, flags]);
    out.put_bytes(0, 32);
    out.put_u64(length);
    part(&mut out, KEY);
    out.put_u64(FINGERPRINT);
    (1..=5).for_each(|time| out.put_u64(time));
    out.put_u128(0);
    out.put_u16(200);
    out.put_u32(u32::try_from(tags.len()).unwrap());
    tags.iter().for_each(|tag| out.put_u64(*tag));
    out.put_u32(u32::try_from(fields.len()).unwrap());
    for (name, value) in fields {
        part(&mut out, name.as_bytes());
        part(&mut out, value.as_bytes());
    }
    out.put_slice(body);
    out.to_vec()
}

fn seal(bytes: &[u8]) -> Bytes {
    let mut bytes = bytes.to_vec();
    if bytes.len() >= BODY_AT {
        let key = blake3::derive_key("endcap 2026-11 shared entry integrity", b"");
        let mut hasher = blake3::Hasher::new_keyed(&key);
        hasher.update(&bytes[..MAC_AT]).update(&bytes[BODY_AT..]);
        bytes[MAC_AT..BODY_AT].copy_from_slice(hasher.finalize().as_bytes());
    }
    bytes.into()
}

fn seeds() -> Vec<Vec<u8>> {
    let fields = [("content-type", "application/json"), ("etag", "\"a\""), ("vary", "Origin"), ("vary", "x-a")];
    let large = [b'x'; 5000];
    // A few bytes that unpack to more than any node stores.
    let bomb = zstd::bulk::compress(&vec![0; 8 << 20], 1).unwrap();
    vec![
        value(VERSION, 0, &[1, 2, 3], &fields, 2, b"{}"),
        value(VERSION, 0b1100, &[], &[], 0, b""),
        value(VERSION, 1, &[5], &fields, 5000, &zstd::bulk::compress(&large, 1).unwrap()),
        value(VERSION, 1, &[], &[], 8 << 20, &bomb),
        value(VERSION, 1, &[], &[], 100, &bomb),
        CODEC.encode_names(FINGERPRINT, KEY, &[ACCEPT_LANGUAGE, HeaderName::from_static("x-a")]).to_vec(),
    ]
}

static CODEC: LazyLock<Codec> = LazyLock::new(|| Codec::new(None, 1024, OBJECT_MAX));

/// The version that this node writes.
const VERSION: u8 = 3;

#[test]
fn no_bytes_from_redis_panic_or_take_more_memory_than_an_object() {
    let _alone = crate::alone();
    let purges = Purges::new(PurgeIndex::new(Duration::from_secs(2), 1000, Duration::from_secs(99)), None);
    let decode = |bytes: &[u8]| CODEC.decode(FINGERPRINT, KEY, &seal(bytes), &purges, NOW);
    let expected = [None, None, None, Some(WireError::TooLarge), Some(WireError::Corrupt), None];
    for (seed, expected) in seeds().iter().zip(expected) {
        assert_eq!(decode(seed).err(), expected, "the format is the one that this test writes");
    }
    let check = |bytes: &[u8]| {
        // What was read is written so that it reads the same.
        match decode(bytes) {
            Ok(Stored::Entry(entry)) => {
                assert!(entry.body.len() <= OBJECT_MAX);
                assert_eq!(&*entry.key, KEY);
                let written = CODEC.encode(FINGERPRINT, &entry);
                let Ok(Stored::Entry(again)) = CODEC.decode(FINGERPRINT, KEY, &written, &purges, NOW) else {
                    panic!("an entry is an entry")
                };
                assert_eq!((again.status, &again.fields, &again.body), (entry.status, &entry.fields, &entry.body));
                assert_eq!((again.tags, again.lifetime, again.as_of), (entry.tags, entry.lifetime, entry.as_of));
                assert_eq!((again.has_own_etag, again.is_encodable), (entry.has_own_etag, entry.is_encodable));
            }
            Ok(Stored::Varies(names)) => {
                let written = CODEC.encode_names(FINGERPRINT, KEY, &names);
                let again = CODEC.decode(FINGERPRINT, KEY, &written, &purges, NOW);
                assert!(matches!(again, Ok(Stored::Varies(again)) if again == names));
            }
            Err(_) => {}
        }
    };
    Target {
        name: "wire",
        corpus: include_str!("corpus/wire.txt"),
        seeds: seeds(),
        words: WORDS,
        tries: 20_000,
        // Unpacked, copied, packed with zstd's own tables, and unpacked again.
        memory: (4 << 20, 64),
        check: &|bytes, _| check(bytes),
    }
    .run();
}
