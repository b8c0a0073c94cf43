//! The recorded exchanges, and the ids in them as a plain scan finds them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::LazyLock;

use bytes::Bytes;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::reading::read;

/// One recorded exchange.
#[derive(Debug)]
pub(crate) struct Capture {
    pub(crate) name: String,
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) request: Vec<(String, String)>,
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Bytes,
    /// What the backend is asked, see [`read`].
    pub(crate) question: String,
}

impl Capture {
    /// A request header as it was recorded.
    pub(crate) fn sent(&self, name: &str) -> Option<&str> {
        self.request.iter().find(|(sent, _)| sent.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The path without its query.
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    /// The ids that the answer shows and those that the request names.
    pub(crate) fn ids(&self) -> BTreeSet<String> {
        let mut found = ids(std::str::from_utf8(&self.body).unwrap());
        found.extend(ids(&self.target));
        found
    }
}

/// Recorded without its body, because that is above 1 MB.
pub(crate) const WITHOUT_BODY: &str = "products-100";

/// All exchanges whose body was kept, in the order in which they were made.
pub(crate) fn captures() -> &'static [Capture] {
    static ALL: LazyLock<Vec<Capture>> =
        LazyLock::new(|| names().iter().filter(|name| *name != WITHOUT_BODY).map(|name| load(name)).collect());
    &ALL
}

/// The exchange of that name.
pub(crate) fn capture(name: &str) -> &'static Capture {
    captures().iter().find(|capture| capture.name == name).unwrap_or_else(|| panic!("no capture {name:?}"))
}

/// The names of all recorded exchanges.
pub(crate) fn names() -> Vec<String> {
    #[derive(Deserialize)]
    struct Line {
        name: String,
    }
    let lines: Vec<Line> = serde_json::from_str(&text("http/index.json")).unwrap();
    lines.into_iter().map(|line| line.name).collect()
}

/// A fixture as text.
pub(crate) fn text(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/captures").join(name)
}

fn load(name: &str) -> Capture {
    #[derive(Deserialize)]
    struct Meta {
        request: Sent,
        status: u16,
        response_headers: Vec<(String, String)>,
        body_sha256: String,
        body_file: Option<String>,
    }
    #[derive(Deserialize)]
    struct Sent {
        method: String,
        path: String,
        headers: serde_json::Map<String, serde_json::Value>,
    }
    let meta: Meta = serde_json::from_str(&text(&format!("http/{name}.meta.json"))).unwrap();
    let body = meta.body_file.map_or_else(Vec::new, |file| std::fs::read(path(&format!("http/{file}"))).unwrap());
    let hash: String = Sha256::digest(&body).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hash, meta.body_sha256, "{name}: the body is not the one that was recorded");
    let request = meta.request.headers.into_iter().map(|(name, value)| (name, value.as_str().unwrap().to_owned()));
    let request: Vec<_> = request.collect();
    let question = read(&meta.request.method, &meta.request.path, &request);
    Capture {
        name: name.to_owned(),
        method: meta.request.method,
        target: meta.request.path,
        request,
        status: meta.status,
        fields: meta.response_headers,
        body: body.into(),
        question,
    }
}

/// The kinds of rows that a public answer shows.
pub(crate) const KINDS: [&str; 15] = [
    "prod", "variant", "opt", "optval", "img", "pcol", "pcat", "ptyp", "ptag", "pset", "price", "plist", "reg", "rr",
    "sc",
];

/// The kind of an id.
pub(crate) fn kind(id: &str) -> &str {
    id.split('_').next().unwrap()
}

/// `[a-z]+_[0-9A-HJKMNP-TV-Z]{26}` of the [`KINDS`], wherever it stands in the text.
pub(crate) fn ids(text: &str) -> BTreeSet<String> {
    let bytes = text.as_bytes();
    let crockford = |byte: &u8| byte.is_ascii_digit() || (byte.is_ascii_uppercase() && !b"ILOU".contains(byte));
    let mut found = BTreeSet::new();
    for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'_') {
        let Some(row) = bytes.get(at + 1..at + 27).filter(|row| row.iter().all(crockford)) else { continue };
        let letters = bytes[..at].iter().rev().take_while(|byte| byte.is_ascii_lowercase()).count();
        let kind = std::str::from_utf8(&bytes[at - letters..at]).unwrap();
        if KINDS.contains(&kind) {
            found.insert(format!("{kind}_{}", std::str::from_utf8(row).unwrap()));
        }
    }
    found
}

#[test]
fn the_scan_finds_ids_wherever_they_stand() {
    let row = "01M7Y0CMCHBA2JSW6ET1YACVNX";
    let text = format!("\"prod_{row}\" pcat_{row}.pcat_{row}x of cart_{row}, variant_{}", &row.replace('M', "U"));
    assert_eq!(ids(&text), BTreeSet::from([format!("prod_{row}"), format!("pcat_{row}")]));
}
