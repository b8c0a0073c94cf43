//! The preset for Medusa as tables for people, `deploy/medusa.md`: made from what is in force, so it cannot drift.

use std::collections::BTreeMap;
use std::fmt::Display;

use super::medusa::medusa;
use super::{SECRET, load, with_upstream};
use crate::config::Config;
use crate::config::text::Textual;
use crate::policy::route::{Rule, Template};
use crate::policy::webhook::EventRule;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/medusa.md");
/// Writes the file anew.
const WRITE: &str = "ENDCAP_WRITE";

#[test]
fn the_tables_of_the_preset_are_the_committed_ones() {
    let tables = tables(&medusa());
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(FILE, &tables).unwrap();
    }
    let committed = std::fs::read_to_string(FILE).unwrap_or_default();
    let first = tables.lines().zip(committed.lines()).find(|(made, held)| made != held);
    let how = "ENDCAP_WRITE=1 cargo test --lib the_tables_of_the_preset";
    assert!(tables == committed, "deploy/medusa.md is not what the preset says ({first:?}): {how}");
}

/// Whose word an event is.
#[derive(PartialEq)]
enum Source {
    Backend,
    Plugin,
    Request,
}

fn source(name: &str) -> Source {
    match name {
        _ if name.starts_with("endcap.") => Source::Plugin,
        _ if name.starts_with("failed:") || name.contains(":/") => Source::Request,
        _ => Source::Backend,
    }
}

fn tables(config: &Config) -> String {
    let of = |wanted: Source| {
        let events = config.events.iter().map(|(name, rule)| (name.as_str(), rule));
        events.filter(|(name, _)| source(name) == wanted).collect::<Vec<_>>()
    };
    format!(
        "# The preset for Medusa, in tables\n\n\
        Made from [the preset](../src/config/medusa.toml), which has the reasons, by\n\
        `ENDCAP_WRITE=1 cargo test --lib the_tables_of_the_preset`; a test fails where they differ. `endcap config` prints what is\n\
        in force with your own file over it.\n\n\
        ## Settings that differ from the defaults\n\n\
        {settings}\n\
        ## Routes\n\n\
        The key of each is the path, the parameters below, and {headers}. A parameter that is not listed passes uncached.\n\
        *fresh*: `ttl`; *then stale, refreshed behind*: `swr`; *when the backend fails*: `sie`, after `ttl`; *404*: `negative_ttl`.\n\n\
        {routes}\n\
        ### Tags\n\n\
        Each answer also has `all`, `route:NAME`, `path:PATH`, and as tags the ids in its JSON, its path and its query that begin\n\
        with {prefixes}.\n\n\
        {tags}\n\
        ## Events\n\n\
        `{{id}}` and the like stand for fields of the event's data. *hard*: refilled before it is served again. *soft*: served for\n\
        `purge.soft_grace` more, while it is refreshed. *delete*: gone, also when the backend fails. *firm*: stays hard, however\n\
        much it empties (`purge.blast_radius`). The exact name wins, then the longest prefix.\n\n\
        {backend}\n\
        ### What medusa-plugin-endcap says\n\n\
        {plugin}\n\
        ### Admin requests, as medusa-plugin-endcap reports them\n\n\
        `{{id}}` is the first id of the path, `{{named}}` each id in the body; the plugin names them for the requests below that use it. `failed:` is one that may have been undone half-way.\n\n\
        {reports}",
        settings = table(&["setting", "preset", "default"], settings(config)),
        headers = listed(config.routes.rules()[0].headers.iter().map(|header| &header.name)),
        routes = table(
            &["route", "paths", "fresh", "then stale", "on error", "404", "parameters (default)"],
            routes(config)
        ),
        prefixes = listed(most_prefixes(config)),
        tags = table(&["asked with", "tags", "routes"], tags(config)),
        backend = events(&of(Source::Backend)),
        plugin = events(&of(Source::Plugin)),
        reports = events(&of(Source::Request)),
    )
}

/// The settings beside routes and events that the preset changes.
fn settings(config: &Config) -> Vec<Vec<String>> {
    let written = |config: &Config| toml::from_str::<toml::Table>(&config.render()).unwrap();
    let defaults = written(&load(&with_upstream(&format!("webhook_secret = \"{SECRET}\"")), &[]));
    let sections = written(config).into_iter().filter(|(name, _)| !["route", "event"].contains(&name.as_str()));
    let mut rows = Vec::new();
    for (section, values) in sections {
        for (name, value) in values.as_table().into_iter().flatten() {
            let default = defaults.get(&section).and_then(|values| values.get(name));
            if default != Some(value) {
                let cell = |value: Option<&toml::Value>| value.map_or("–".to_owned(), code);
                rows.push(vec![code(format!("[{section}] {name}")), cell(Some(value)), cell(default)]);
            }
        }
    }
    rows
}

fn routes(config: &Config) -> Vec<Vec<String>> {
    let row = |rule: &Rule| {
        let params = rule.query.iter().map(|param| match &param.default {
            Some(default) => format!("`{}` ({default})", param.name),
            None => code(&param.name),
        });
        let times = [rule.ttl, rule.swr, rule.sie, rule.negative_ttl].map(|time| time.to_text());
        let mut row = vec![code(&rule.name), listed(rule.paths.iter().map(|path| path.as_str()))];
        row.extend(times.map(|time| if time == "0s" { "–".to_owned() } else { time }));
        row.push(params.collect::<Vec<_>>().join(" "));
        row
    };
    config.routes.rules().iter().map(|rule| row(rule)).collect()
}

/// Each tag of the rules once, with the routes that have it.
fn tags(config: &Config) -> Vec<Vec<String>> {
    let mut rows: BTreeMap<(String, String), Vec<&str>> = BTreeMap::new();
    for rule in config.routes.rules() {
        let always = rule.tags.iter().map(|tag| ("anything".to_owned(), tag));
        let when = rule.tags_when.iter().flat_map(|when| {
            let what = when.contains.as_ref().map(|word| format!(" that holds `{word}`")).unwrap_or_default();
            when.tags.iter().map(move |tag| (format!("`{}`{what}", when.query), tag))
        });
        for (asked, tag) in always.chain(when) {
            rows.entry((asked, code(tag))).or_default().push(&rule.name);
        }
    }
    let mut merged: BTreeMap<(String, Vec<&str>), Vec<String>> = BTreeMap::new();
    for ((asked, tag), routes) in rows {
        merged.entry((asked, routes)).or_default().push(tag);
    }
    merged.into_iter().map(|((asked, routes), tags)| vec![asked, tags.join(" "), listed(routes)]).collect()
}

/// The prefixes of most routes; one that searches no body has none.
fn most_prefixes(config: &Config) -> Vec<String> {
    config.routes.rules().iter().map(|rule| rule.tag_prefixes.clone()).max_by_key(Vec::len).unwrap_or_default()
}

/// A table of what purges something, and the names of what does not.
fn events(events: &[(&str, &EventRule)]) -> String {
    let (none, some): (Vec<_>, Vec<_>) =
        events.iter().partition(|(_, rule)| [&rule.hard, &rule.soft, &rule.delete].iter().all(|tags| tags.is_empty()));
    let row = |(name, rule): &(&str, &EventRule)| {
        let tags = |tags: &[Template]| listed(tags);
        let firm = if rule.firm { "firm" } else { "" };
        vec![code(name), tags(&rule.hard), tags(&rule.soft), tags(&rule.delete), firm.to_owned()]
    };
    let mut text = table(&["event", "hard", "soft", "delete", ""], some.into_iter().map(row));
    if !none.is_empty() {
        text.push_str(&format!("\nKnown, and purge nothing: {}.\n", listed(none.iter().map(|(name, _)| name))));
    }
    text
}

fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let head = [head.iter().map(ToString::to_string).collect(), vec!["---".to_owned(); head.len()]];
    head.into_iter().chain(rows).map(line).collect()
}

fn code(text: impl Display) -> String {
    format!("`{text}`")
}

fn listed(things: impl IntoIterator<Item = impl Display>) -> String {
    things.into_iter().map(code).collect::<Vec<_>>().join(" ")
}
