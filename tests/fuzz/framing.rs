//! The bytes of a connection: cut into any pieces they are the same requests, and nothing is held without a bound.

use endcap::policy::framing::{Framing, HeadSizes, Scan};

use crate::Target;
use crate::mutate::Random;

const SIZES: HeadSizes = HeadSizes { uri_bytes_max: 256, head_bytes_max: 1024, head_fields_max: 12 };

const WORDS: &[&str] = &[
    "\r\n",
    "\n",
    "\r",
    "\r\n\r\n",
    "GET / HTTP/1.1\r\n",
    "POST / HTTP/1.0\r\n",
    "Content-Length: 5\r\n",
    "Host: a\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding:",
    "Content-Length:",
    "chunked",
    "0\r\n\r\n",
    "5\r\nabcde\r\n",
    "ffffffffffffffff",
    "18446744073709551615",
    ";a=b",
    " ",
    "\t",
    ":",
    ",",
    "+",
    "-1",
    "0x",
    "HTTP/2.0",
    "PRI * HTTP/2.0",
];

/// Shows what did not pass again, with what came after it, as a connection does.
fn in_pieces(bytes: &[u8], random: &mut Random) -> Scan {
    let mut framing = Framing::new(SIZES);
    let (mut pass, mut end) = (0, 0);
    while end < bytes.len() {
        end += 1 + random.below((bytes.len() - end).min(64));
        let found = framing.scan(&bytes[pass..end]);
        pass += found.pass;
        if found.fault.is_some() {
            return Scan { pass, fault: found.fault };
        }
        assert!(end - pass <= SIZES.head_bytes_max, "{} bytes are held", end - pass);
    }
    Scan { pass, fault: None }
}

#[test]
fn framing_is_the_same_in_any_pieces() {
    let _alone = crate::alone();
    let check = |bytes: &[u8], random: &mut Random| {
        let whole = Framing::new(SIZES).scan(bytes);
        assert!(whole.pass <= bytes.len());
        for _ in 0..3 {
            assert_eq!(in_pieces(bytes, random), whole);
        }
    };
    Target {
        name: "framing",
        corpus: include_str!("corpus/framing.txt"),
        seeds: Vec::new(),
        words: WORDS,
        tries: 20_000,
        memory: (16 << 10, 64),
        check: &check,
    }
    .run();
}
