//! What comes in from the backend: webhooks with their secrets, and events with what they purge.

use std::collections::BTreeMap;

use super::check::{Checker, Given, HOUR, plain};
use super::raw;
use super::secret::{self, Secret};
use super::shape::Path;
use super::text::Text;
use super::{EventRule, Hook};
use crate::policy::route::Template;

/// The sources of webhooks; `first` is what `webhook_secret` and its file say.
pub(super) fn hooks(
    raw: BTreeMap<String, raw::Hook>,
    first: Given<Text<Secret>>,
    check: &mut Checker<'_, '_>,
) -> BTreeMap<String, Hook> {
    let root = &Path::default();
    let has_first = first.value.is_some() || first.file.is_some();
    let mut raw = raw;
    // webhook_secret is the short form of a hook named "default", whose other keys may still be given.
    if has_first {
        let hook = raw.entry("default".to_owned()).or_default();
        if hook.secrets.is_some() || hook.secrets_file.is_some() {
            let at = Path::of(&["hooks", "default"]);
            check.problem(&at, "webhook_secret makes this hook and gives its secret: leave one of them out");
        }
    }
    let mut first = Some(first);
    let mut hooks = BTreeMap::new();
    for (name, hook) in raw {
        let at = &Path::of(&["hooks", &name]);
        check.name(at, "hook", &name);
        let secrets = match first.take_if(|_| has_first && name == "default") {
            Some(Given { value, file }) => {
                webhook_secrets(root, "webhook_secret", value.map(|secret| vec![secret]), file, check)
            }
            None => {
                if hook.secrets.as_ref().is_none_or(Vec::is_empty) && hook.secrets_file.is_none() {
                    check.problem(at, "a hook needs `secrets` or `secrets_file`: what is not signed is not believed");
                }
                webhook_secrets(at, "secrets", hook.secrets, hook.secrets_file, check)
            }
        };
        let default = Hook::with(secrets);
        let hook = Hook {
            tolerance: check.duration(at, "tolerance", hook.tolerance, default.tolerance, 24 * HOUR),
            body_max: check.bytes(at, "body_max", hook.body_max, default.body_max, 1 << 10, 16 << 20),
            secrets: default.secrets,
        };
        hooks.insert(name, hook);
    }
    hooks
}

/// The secrets of a hook, each of the right form.
fn webhook_secrets(
    at: &Path,
    key: &str,
    value: Option<Vec<Text<Secret>>>,
    file: Option<String>,
    check: &mut Checker<'_, '_>,
) -> Vec<Secret> {
    if let Some(text) = check.file(at, key, value.is_some(), file) {
        let path = at.key(&format!("{key}_file"));
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        return lines
            .enumerate()
            .map(|(index, line)| {
                if let Err(message) = secret::check_webhook(line) {
                    check.problem(&path, format!("secret {} of the file: {message}", index + 1));
                }
                Secret::new(line)
            })
            .collect();
    }
    let is_list = key == "secrets";
    let secrets = value.unwrap_or_default().into_iter().enumerate().map(|(index, Text(secret))| {
        if let Err(message) = secret::check_webhook(secret.expose()) {
            let path = if is_list { at.key(key).index(index) } else { at.key(key) };
            check.problem(&path, message);
        }
        secret
    });
    secrets.collect()
}

/// What events purge.
pub(super) fn events(raw: BTreeMap<String, raw::Event>, check: &mut Checker<'_, '_>) -> BTreeMap<String, EventRule> {
    let mut events = BTreeMap::new();
    for (name, event) in raw {
        let at = &Path::of(&["event", &name]);
        let start = name.strip_suffix('*').unwrap_or(&name);
        if name.is_empty() || name.len() > 256 || start.contains('*') || start.chars().any(char::is_whitespace) {
            check.key_problem(at, format!("{name:?} is no name of events: write \"product.updated\" or \"product.*\""));
        }
        let mut templates = |key: &str, list: Option<Vec<Text<Template>>>| {
            let templates = plain(list, |template| template);
            for (index, template) in templates.iter().enumerate() {
                if let Some(name) = template.names().find(|name| !is_field(name)) {
                    let path = at.key(key).index(index);
                    check.problem(
                        &path,
                        format!("`{{{name}}}` is no field of an event: write `{{id}}` or another name in its data"),
                    );
                }
            }
            templates
        };
        let rule = EventRule {
            hard: templates("hard", event.hard),
            soft: templates("soft", event.soft),
            delete: templates("delete", event.delete),
            firm: event.firm.unwrap_or_default(),
        };
        events.insert(name, rule);
    }
    events
}

fn is_field(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
}
