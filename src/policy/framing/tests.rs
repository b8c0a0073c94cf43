use super::*;
use proptest::prelude::*;

const SIZES: HeadSizes = HeadSizes { uri_bytes_max: 64, head_bytes_max: 512, head_fields_max: 5 };

fn scan(bytes: &[u8]) -> Scan {
    Framing::new(SIZES).scan(bytes)
}

fn check(head: &str, expected: Result<(), Refusal>) {
    let found = scan(head.as_bytes());
    match expected {
        Ok(()) => assert_eq!(found, Scan { pass: head.len(), fault: None }, "{head:?}"),
        Err(refusal) => assert_eq!(found, Scan { pass: 0, fault: Some(Fault::Head(refusal)) }, "{head:?}"),
    }
}

#[test]
fn heads_are_judged() {
    use Refusal::*;
    let long = "a".repeat(200);
    for (lines, expected) in [
        ("GET / HTTP/1.1\r\nHost: a", Ok(())),
        ("GET / HTTP/1.0\r\nHost: a\r\nContent-Length: 0", Ok(())),
        ("\r\n\r\nGET / HTTP/1.1", Ok(())),
        ("GET / HTTP/1.1\r\nX:\ta\tb", Ok(())),
        ("GET / HTTP/1.1\r\nX: caf\u{e9}", Ok(())),
        ("GET / HTTP/1.1\nHost: a", Err(MalformedHead)),
        ("GET / HTTP/1.1\r\nHost: a\nX: y", Err(MalformedHead)),
        ("GET / HTTP/1.1\r\nHost: a\rX: y", Err(MalformedHead)),
        ("GET / HTTP/1.1\r\nHost: a\r\n X: y", Err(MalformedHead)),
        ("GET / HTTP/1.1\r\n Host: a", Err(MalformedHead)),
        ("GET / HTTP/1.1\r\nX: a\0b", Err(HeaderValue)),
        ("GET / HTTP/1.1\r\nX: a\x07b", Err(HeaderValue)),
        ("GET / HTTP/1.1\r\nX\0: b", Err(MalformedHead)),
        ("GET / HTTP/1.1\r\nno colon", Err(MalformedHead)),
        ("GET / HTTP/1.1\r\n: v", Err(MalformedHead)),
        ("GET / HTTP/1.1\r\nTransfer-Encoding : chunked", Err(MalformedHead)),
        ("GET /", Err(MalformedHead)),
        ("GET  / HTTP/1.1", Err(MalformedHead)),
        ("GET /a b HTTP/1.1", Err(MalformedHead)),
        ("GET\t/ HTTP/1.1", Err(MalformedHead)),
        ("GET / HTTP/2.0", Err(MalformedHead)),
        ("GET / http/1.1", Err(MalformedHead)),
        ("GET /a#b HTTP/1.1", Err(Target)),
        ("GET /\u{e9} HTTP/1.1", Err(Path)),
        ("POST / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 0", Err(Framing)),
        ("POST / HTTP/1.1\r\nContent-Length: 0\r\ncontent-LENGTH: 1", Err(Framing)),
        ("POST / HTTP/1.1\r\nContent-Length: +5", Err(Framing)),
        ("POST / HTTP/1.1\r\nContent-Length: 5,5", Err(Framing)),
        ("POST / HTTP/1.1\r\nContent-Length: 5 5", Err(Framing)),
        ("POST / HTTP/1.1\r\nContent-Length:", Err(Framing)),
        ("POST / HTTP/1.1\r\nContent-Length: 0x5", Err(Framing)),
        ("POST / HTTP/1.1\r\nContent-Length: 9999999999999999999", Err(Framing)),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5", Err(Framing)),
        ("POST / HTTP/1.1\r\nContent-Length: 0\r\nTransfer-Encoding: chunked", Err(Framing)),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked", Err(Framing)),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked", Err(Framing)),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked, chunked", Err(Framing)),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked", Err(Framing)),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: , chunked", Err(Framing)),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: \"chunked\"", Err(Framing)),
        ("POST / HTTP/1.1\r\nTransfer-Encoding:\x0bchunked", Err(HeaderValue)),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: cow", Err(UnknownCoding)),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked", Err(Framing)),
        ("GET / HTTP/1.1\r\nA: 1\r\nB: 1\r\nC: 1\r\nD: 1\r\nE: 1", Ok(())),
        ("GET / HTTP/1.1\r\nA: 1\r\nB: 1\r\nC: 1\r\nD: 1\r\nE: 1\r\nF: 1", Err(HeadCount)),
        (&format!("GET /{} HTTP/1.1", "a".repeat(64)), Err(UriSize)),
        (&format!("GET /{} HTTP/1.1", "a".repeat(63)), Ok(())),
        (&format!("GET / HTTP/1.1\r\nA: {long}\r\nB: {long}\r\nC: {long}"), Err(HeadSize)),
    ] {
        check(&format!("{lines}\r\n\r\n"), expected);
    }
}

#[test]
fn a_size_is_refused_before_the_head_is_whole() {
    let long = "a".repeat(600);
    let fault = |text: &str| scan(text.as_bytes()).fault;
    assert_eq!(fault(&format!("GET /{long}")), Some(Fault::Head(Refusal::UriSize)));
    assert_eq!(fault(&format!("GET / HTTP/1.1\r\nX: {long}")), Some(Fault::Head(Refusal::HeadSize)));
    assert_eq!(fault(&"\r\n".repeat(300)), Some(Fault::Head(Refusal::HeadSize)));
    assert_eq!(fault("GET / HTTP/1.1\r"), None);
}

#[test]
fn bodies_are_stepped_over() {
    let good = [
        "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n\n\0\r\nGET / HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: CHUNKED\r\n\r\n4\r\n\n\0\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nxx\r\n000\r\nT: v\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    ];
    for bytes in good {
        assert_eq!(scan(bytes.as_bytes()), Scan { pass: bytes.len(), fault: None }, "{bytes:?}");
    }
}

#[test]
fn a_broken_chunk_stops_at_its_byte() {
    let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let extension = format!("1;{}", "x".repeat(9000));
    for (body, good) in [
        ("2\nxx", 1),
        ("2\r\nxxx", 5),
        ("2\r\nxx\n", 5),
        ("\r\n", 0),
        ("g", 0),
        ("-2", 0),
        ("2 \r\n", 1),
        ("2;a\nb", 3),
        ("1000000000000000", 15),
        ("0\r\n\n", 3),
        ("0\r\n x", 3),
        ("0\r\nT: a\nb", 7),
        (extension.as_str(), 2 + 8192),
    ] {
        let bytes = format!("{head}{body}");
        assert_eq!(scan(bytes.as_bytes()), Scan { pass: head.len() + good, fault: Some(Fault::Body) }, "{body:?}");
    }
}

/// Feeds bytes in pieces, as a connection does: what did not pass is shown again.
fn in_pieces(bytes: &[u8], cuts: &[usize]) -> Scan {
    let mut framing = Framing::new(SIZES);
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).chain([bytes.len()]).collect();
    cuts.sort_unstable();
    let mut pass = 0;
    for end in cuts {
        let found = framing.scan(&bytes[pass..end]);
        pass += found.pass;
        if found.fault.is_some() {
            return Scan { pass, fault: found.fault };
        }
    }
    Scan { pass, fault: None }
}

proptest! {
    #[test]
    fn pieces_do_not_matter(
        parts in proptest::collection::vec(proptest::sample::select(vec![
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "\r\n", "\n", "GET ", "X: y\r\n", "\r", "5", "Content-Length: 1\r\n", ":", "\u{e9}",
        ]), 1..8),
        cuts in proptest::collection::vec(any::<usize>(), 0..12),
    ) {
        let bytes = parts.concat().into_bytes();
        prop_assert_eq!(in_pieces(&bytes, &cuts), scan(&bytes));
    }

    #[test]
    fn no_bytes_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..600), cuts in proptest::collection::vec(any::<usize>(), 0..6)) {
        let found = in_pieces(&bytes, &cuts);
        prop_assert!(found.pass <= bytes.len());
    }
}
