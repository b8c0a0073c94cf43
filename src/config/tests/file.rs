//! `proxy.toml` documents what there is.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use toml::Value;

use super::{FILE, SECRET, key_comment, load, uncommented, with_upstream};
use crate::config::raw::Raw;
use crate::config::shape::{Shape, Shaped};

#[test]
fn proxy_toml_as_it_stands_is_the_defaults() {
    let from_file = load(&with_upstream(FILE), &[]);
    let from_nothing = load(&with_upstream(""), &[]);
    assert_eq!(format!("{from_file:?}"), format!("{from_nothing:?}"));
    assert_eq!(from_file.render(), from_nothing.render());
}

/// Whether two values are the same, in whatever unit they are written.
fn same(documented: Option<&Value>, rendered: &Value) -> bool {
    let duration = |value: &Value| value.as_str().and_then(|text| humantime::parse_duration(text).ok());
    documented
        .is_some_and(|value| value == rendered || duration(value).is_some_and(|it| Some(it) == duration(rendered)))
}

#[test]
fn proxy_toml_gives_the_defaults_of_what_has_none_of_its_own() {
    // Redis, hooks and routes stand commented out, because there is none unless one is named.
    let redis = "[redis]\nurl = \"redis://127.0.0.1:6379/0\"\n";
    let documented: toml::Table = toml::from_str(&uncommented()).unwrap();
    let section = |path: &[&str]| {
        let value = path.iter().fold(Value::Table(documented.clone()), |value, key| value[*key].clone());
        value.as_table().unwrap().clone()
    };
    let rendered: toml::Table = toml::from_str(
        &load(
            &with_upstream(&format!("{redis}[hooks.erp]\nsecrets = [\"{SECRET}\"]\n[route.x]\npaths = [\"/x\"]")),
            &[],
        )
        .render(),
    )
    .unwrap();
    for (path, own) in [(&["redis"][..], &["url"][..]), (&["hooks", "erp"], &["secrets", "secrets_file"])] {
        let rendered = path.iter().fold(Value::Table(rendered.clone()), |value, key| value[*key].clone());
        let documented = section(path);
        for (key, value) in rendered.as_table().unwrap() {
            assert!(own.contains(&key.as_str()) || same(documented.get(key), value), "{path:?}.{key}: {value}");
        }
    }
    let (shared, route) = (section(&["route_defaults"]), rendered["route"]["x"].as_table().unwrap());
    for (key, value) in route {
        let own = ["paths", "query", "headers", "tag_paths", "tags_when"].contains(&key.as_str());
        assert!(own || same(shared.get(key), value), "{key}: {value}");
    }
}

/// The keys of each kind of section that occur in a value, by the keys that it may have.
fn seen(shape: &Shape, value: &Value, found: &mut BTreeMap<Vec<&'static str>, BTreeSet<String>>) {
    match (shape, value) {
        (Shape::Table(fields), Value::Table(table)) => {
            let section = fields.iter().map(|(name, _)| *name).collect();
            found.entry(section).or_default().extend(table.keys().cloned());
            for (name, below) in *fields {
                if let Some(value) = table.get(*name) {
                    seen(below, value, found);
                }
            }
        }
        (Shape::Map(below), Value::Table(table)) => table.values().for_each(|value| seen(below, value, found)),
        (Shape::List(below), Value::Array(list)) => list.iter().for_each(|value| seen(below, value, found)),
        _ => {}
    }
}

#[test]
fn proxy_toml_shows_every_key_there_is() {
    let text = uncommented();
    let value = Value::Table(toml::from_str(&text).unwrap());
    Raw::deserialize(value.clone()).unwrap();
    let mut found = BTreeMap::new();
    seen(&Raw::SHAPE, &value, &mut found);
    assert!(found.len() > 15, "every kind of section occurs");
    for (section, keys) in found {
        let missing: Vec<_> = section.iter().filter(|key| !keys.contains(**key)).collect();
        assert!(missing.is_empty(), "{missing:?} of {section:?}");
    }
}

#[test]
fn proxy_toml_helps_with_every_key() {
    let mut before = "";
    for line in FILE.lines() {
        let bare = key_comment(line).unwrap_or(line);
        // What the user names stands under a section that explains it.
        let is_example = bare.starts_with('"');
        if bare.contains(" = ") && !line.starts_with("# ") && !is_example {
            assert!(before.starts_with("# "), "no help before {line:?}");
        }
        before = line;
    }
}
