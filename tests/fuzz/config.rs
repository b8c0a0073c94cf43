//! Configurations: what loads is rendered so that it loads as the same.

use endcap::config::Config;

use crate::Target;

const WORDS: &[&str] = &[
    "\n",
    " = ",
    "\"",
    "[",
    "]",
    "{",
    "}",
    "[route.a]\n",
    "paths = [\"/a\"]\n",
    "ttl = \"30s\"\n",
    "[origin]\n",
    "query_once = [\"a\"]\n",
    "[redis]\nurl = \"redis://a\"\n",
    "preset = \"medusa\"\n",
    "content_type = \"*\"\n",
    "kind = \"list\"",
    "-1",
    "1e400",
    "\"584942417355y\"",
    "\u{0}",
    "'''",
    "\"\"\"",
    "#",
    "\\u",
    "0x",
    "nan",
    "1979-05-27",
    ".",
    "\u{e9}",
    "[[route]]\n",
    "[event.\"*\"]\n",
    "tags = [\"{id}\"]\n",
];

fn check(text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    match Config::from_toml("fuzz.toml", &text, std::iter::empty()) {
        Ok(loaded) => {
            loaded.config.warnings();
            let rendered = loaded.config.render();
            // Secrets are left out, and hooks need theirs.
            if loaded.config.hooks.is_empty() {
                let again = Config::from_toml("again.toml", &rendered, std::iter::empty());
                assert_eq!(again.unwrap_or_else(|problems| panic!("{problems}")).config.render(), unnamed(&rendered));
            }
        }
        Err(problems) => drop(problems.render(true)),
    }
}

/// A rendering names the preset that it has written out; loaded, there is none.
fn unnamed(rendered: &str) -> String {
    rendered.lines().filter(|line| !line.starts_with("# The preset")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn what_loads_is_rendered_as_the_same() {
    let _alone = crate::alone();
    Target {
        name: "config",
        corpus: include_str!("corpus/config.txt"),
        seeds: vec![include_bytes!("../../deploy/proxy.medusa.toml").to_vec()],
        words: WORDS,
        tries: 1000,
        memory: (16 << 20, 16 << 10),
        check: &|text, _| check(text),
    }
    .run();
}
