//! The file, the presets and the layers as a whole.

mod file;
mod laws;
mod layers;
mod medusa;
mod mistakes;
mod output;
mod table;

use super::{Config, Problems};

const FILE: &str = include_str!("../../../proxy.toml");
const SECRET: &str = "whsec_ZW5kY2FwIGV4YW1wbGUgc2VjcmV0IG9ubHkh";

fn env(variables: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>().into_iter()
}

#[track_caller]
fn load(text: &str, variables: &[(&str, &str)]) -> Config {
    match Config::from_toml("proxy.toml", text, env(variables)) {
        Ok(loaded) => loaded.config,
        Err(problems) => panic!("{problems}"),
    }
}

/// A text with an upstream before it.
fn with_upstream(text: &str) -> String {
    format!("upstream = \"http://shop:9000\"\n{text}")
}

#[track_caller]
fn problems(text: &str, variables: &[(&str, &str)]) -> Problems {
    Config::from_toml("proxy.toml", text, env(variables)).expect_err("the text has problems")
}

/// One problem, whose rendering holds all the words.
#[track_caller]
fn check(text: &str, words: &[&str]) {
    let found = problems(&with_upstream(text), &[]);
    let shown = found.to_string();
    assert_eq!(found.iter().count(), 1, "{shown}");
    for word in words {
        assert!(shown.contains(word), "{word:?} is not in:\n{shown}");
    }
}

/// `proxy.toml` with the keys that stand commented out.
fn uncommented() -> String {
    FILE.lines().map(|line| key_comment(line).unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

/// The key or section that stands commented out; a `#` with a space begins help.
fn key_comment(line: &str) -> Option<&str> {
    line.strip_prefix('#').filter(|rest| !rest.starts_with(' '))
}
