//! Laws for any text, value and environment.

use proptest::prelude::*;

use super::{env, uncommented, with_upstream};
use crate::config::Config;

/// Values at the edges of what keys can hold.
const VALUES: [&str; 20] = [
    "\"\"",
    "\"0s\"",
    "\"365d\"",
    "\"584942417355y\"",
    "\"0B\"",
    "\"99999PiB\"",
    "0",
    "-1",
    "9223372036854775807",
    "nan",
    "-inf",
    "true",
    "[]",
    "[[]]",
    "[\"\"]",
    "{}",
    "{ kind = \"text\" }",
    "1979-05-27",
    "\"é{\"",
    "\"{header:x}\"",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_edit_of_the_file_makes_a_panic(edits in prop::collection::vec((0usize..20_000, 0usize..40, ".{0,12}"), 1..6), preset in any::<bool>()) {
        let mut text: Vec<char> = with_upstream(&uncommented()).replace("/run/", "/nowhere/").chars().collect();
        for (at, length, new) in edits {
            let start = at % text.len().max(1);
            let end = (start + length).min(text.len());
            text.splice(start..end, new.chars());
        }
        let text: String = text.into_iter().collect();
        let variables = if preset { &[("ENDCAP_PRESET", "medusa")][..] } else { &[] };
        match Config::from_toml("proxy.toml", &text, env(variables)) {
            Ok(loaded) => { loaded.config.render(); loaded.config.warnings(); }
            Err(problems) => { problems.render(true); }
        }
    }

    #[test]
    fn no_value_of_any_key_makes_a_panic(edits in prop::collection::vec((0usize..10_000, 0usize..VALUES.len()), 1..8)) {
        let text = with_upstream(&uncommented()).replace("/run/", "/nowhere/");
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        for (at, value) in edits {
            let at = at % lines.len();
            lines[at] = match lines[at].split_once(" = ") {
                Some((key, _)) => format!("{key} = {}", VALUES[value]),
                None if lines[at].starts_with('[') => lines[at].replace("route", "hooks"),
                None => String::new(),
            };
        }
        match Config::from_toml("proxy.toml", &lines.join("\n"), env(&[])) {
            Ok(loaded) => { loaded.config.render(); }
            Err(problems) => { problems.render(true); }
        }
    }

    #[test]
    fn no_environment_makes_a_panic(name in "[A-Z_]{0,24}", value in ".{0,24}") {
        let variables = [("ENDCAP_UPSTREAM", "http://a".to_owned()), (&*format!("ENDCAP_{name}"), value)];
        let variables = variables.map(|(name, value)| (name.to_owned(), value));
        if let Err(problems) = Config::load(None, variables.into_iter()) {
            problems.render(false);
        }
    }
}
