//! The resolved tree of dependencies against `deny.toml`: licences, sources, bans.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

fn tree() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--all-features"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    metadata["packages"].as_array().expect("a list of packages").clone()
}

fn rules() -> toml::Table {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deny.toml")).expect("deny.toml is there");
    text.parse().expect("deny.toml is TOML")
}

/// Whether an SPDX expression can be met with the allowed licences: any side of OR, all sides of AND.
fn allowed(expression: &str, allow: &BTreeSet<&str>) -> bool {
    let expression = expression.replace('/', " OR ");
    // Parentheses are only ever around a list of alternatives: "(MIT OR Apache-2.0) AND Unicode-3.0".
    let mut rest = expression.as_str();
    let mut flat = String::new();
    while let Some((before, after)) = rest.split_once('(') {
        let (inner, after) = after.split_once(')').expect("parentheses match");
        flat.push_str(before);
        flat.push_str(&inner.replace(" OR ", "|"));
        rest = after;
    }
    flat.push_str(rest);
    let one = |licence: &str| {
        licence.split('|').any(|licence| {
            let licence = licence.split(" WITH ").next().unwrap_or("").trim();
            allow.contains(licence)
        })
    };
    flat.split(" OR ").any(|side| side.split(" AND ").all(one))
}

#[test]
fn every_licence_is_allowed() {
    let rules = rules();
    let allow = rules["licenses"]["allow"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let refused: Vec<String> = tree()
        .iter()
        .filter(|package| !allowed(package["license"].as_str().unwrap_or("none"), &allow))
        .map(|package| format!("{} {}: {}", package["name"], package["version"], package["license"]))
        .collect();
    assert!(refused.is_empty(), "not in deny.toml's list: {refused:#?}");
    assert!(!allowed("GPL-3.0-only", &allow) && !allowed("MIT AND GPL-3.0-only", &allow));
    assert!(allowed("(GPL-3.0-only OR MIT) AND ISC", &allow) && allowed("MIT/GPL-3.0-only", &allow));
}

#[test]
fn every_source_is_the_registry() {
    let elsewhere: Vec<String> = tree()
        .iter()
        .filter(|package| package["name"] != "endcap")
        .filter(|package| !package["source"].as_str().is_some_and(|source| source.starts_with("registry+")))
        .map(|package| package["name"].to_string())
        .collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
}

#[test]
fn nothing_banned_is_in_the_tree() {
    let rules = rules();
    let tree = tree();
    for ban in rules["bans"]["deny"].as_array().unwrap() {
        let name = ban["name"].as_str().unwrap();
        let wrappers: Vec<&str> = ban
            .get("wrappers")
            .and_then(|list| list.as_array())
            .map(|list| list.iter().filter_map(|wrapper| wrapper.as_str()).collect())
            .unwrap_or_default();
        let users: Vec<&str> = tree
            .iter()
            .filter(|package| {
                package["dependencies"].as_array().unwrap().iter().any(|dependency| {
                    dependency["name"] == name && dependency["optional"] == false && dependency["kind"].is_null()
                })
            })
            .filter_map(|package| package["name"].as_str())
            .filter(|user| !wrappers.contains(user))
            .collect();
        assert!(users.is_empty(), "{name} is banned ({}), but used by {users:?}", ban["reason"]);
    }
}
