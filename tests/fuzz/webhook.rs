//! Deliveries: headers up to an empty line, then the body. Nothing is believed but what was signed.

use std::time::Duration;

use endcap::policy::time::Timestamp;
use endcap::policy::webhook::{WebhookSecret, events, expand, find_rule, verify};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{Target, medusa};

const SECRET: &str = "whsec_ZW5kY2FwIGV4YW1wbGUgc2VjcmV0IG9ubHkh";
const NOW: u64 = 1_700_000_000;

const WORDS: &[&str] = &[
    "webhook-id: msg_1\n",
    "webhook-timestamp: 1700000000\n",
    "webhook-signature: v1,",
    "v1,",
    " ",
    "\n\n",
    "=",
    "==",
    "+1",
    "99999999999999999999",
    "{\"type\":\"product.updated\",\"data\":{\"id\":\"prod_1\"}}",
    "[",
    "]",
    "{",
    "}",
    "null",
    "1e999",
    "\"data\":",
    "\"events\":",
    "\"type\":",
    "\\ud800",
    "\"product.deleted\"",
    "[{},\"x\",3]",
    ",",
    "[[[[[[[[[[[[[[[[",
    "\u{e9}",
];

/// The parts of a delivery.
fn parts(input: &[u8]) -> (HeaderMap, &[u8]) {
    let end = input.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = end.map_or((input, &b""[..]), |end| (&input[..end], &input[end + 2..]));
    let mut headers = HeaderMap::new();
    for line in head.split(|byte| *byte == b'\n') {
        let at = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = (&line[..at], line.get(at + 1..).unwrap_or_default().trim_ascii());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    (headers, body)
}

fn signed(body: &str) -> Vec<u8> {
    let signature = WebhookSecret::parse(SECRET).unwrap().sign("msg_1", NOW, body.as_bytes());
    format!("webhook-id: msg_1\nwebhook-timestamp: {NOW}\nwebhook-signature: {signature}\n\n{body}").into_bytes()
}

const BODIES: [&str; 3] = [
    r#"{"type":"product.updated","data":{"id":"prod_1"}}"#,
    r#"{"events":[{"event":"region.updated","data":["reg_1",{"id":2}]},{"name":"x","data":null}]}"#,
    r#"[{"type":"hero-banner.created","data":{"id":"b","deep":{"id":[1]}}}]"#,
];

#[test]
fn only_what_was_signed_is_believed_and_no_body_breaks_the_reader() {
    let _alone = crate::alone();
    let secrets = [WebhookSecret::parse(SECRET).unwrap()];
    let check = |input: &[u8]| {
        let (headers, body) = parts(input);
        if let Ok(verified) =
            verify(&headers, body, &secrets, Duration::from_secs(300), Timestamp::from_millis(NOW * 1000))
        {
            assert_eq!((verified.id.as_str(), verified.timestamp), ("msg_1", NOW));
            assert!(BODIES.iter().any(|known| known.as_bytes() == body), "forged");
        }
        for event in events(body).unwrap_or_default() {
            if let Some(rule) = find_rule(&medusa().events, &event.name) {
                let (tags, lacking) = expand(rule, &event);
                let templates = rule.hard.len() + rule.soft.len() + rule.delete.len();
                assert!(tags.len() + lacking.len() <= templates * event.data.len().max(1));
            }
        }
    };
    Target {
        name: "webhook",
        corpus: include_str!("corpus/webhook.txt"),
        seeds: BODIES.map(signed).to_vec(),
        words: WORDS,
        tries: 20_000,
        memory: (64 << 10, 1024),
        check: &|input, _| check(input),
    }
    .run();
}
