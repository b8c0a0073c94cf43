//! Loading: layers are laid over one another, lowest first: defaults, preset, file, environment.

use std::path::Path as FilePath;

use serde::Deserialize;
use toml::{Table, Value};

use super::Config;
use super::diagnostic::{Place, Problem, Problems, holds_secret};
use super::document::Document;
use super::environment::{self, Variable};
use super::preset;
use super::raw::Raw;
use super::resolve;
use super::shape::{Path, Shape, Shaped, Step, TOMBSTONES, nearest};

/// A configuration, and where it came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The file that was read, where there was one.
    pub file: Option<String>,
    /// The environment variables that were taken, sorted.
    pub variables: Vec<String>,
}

impl Config {
    /// Loads the file, if one is given, with the environment over it.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first thing.
    pub fn load(path: Option<&FilePath>, env: impl Iterator<Item = (String, String)>) -> Result<Loaded, Problems> {
        let Some(path) = path else { return assemble(None, env) };
        let name = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::from_toml(&name, &text, env),
            Err(error) => {
                let message = format!("{name} cannot be read: {error}");
                let place = Place::Nowhere;
                Err(Problems::new(vec![Problem { key: String::new(), message, help: None, place }]))
            }
        }
    }

    /// Loads a text, named for messages, with the environment over it.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_toml(name: &str, text: &str, env: impl Iterator<Item = (String, String)>) -> Result<Loaded, Problems> {
        match Document::parse(name, text) {
            Ok(parsed) => {
                let loaded = assemble(Some(parsed), env)?;
                Ok(Loaded { file: Some(name.to_owned()), ..loaded })
            }
            Err(problems) => Err(Problems::new(problems)),
        }
    }
}

fn assemble(
    parsed: Option<(Document<'_>, Table)>,
    env: impl Iterator<Item = (String, String)>,
) -> Result<Loaded, Problems> {
    let variables = environment::ours(env);
    let mut problems = Vec::new();
    let (document, own) = match parsed {
        Some((document, table)) => (Some(document), table),
        None => (None, Table::new()),
    };
    let mut layers = Layers { document, ..Layers::default() };
    let own = layers.sift(own, &mut problems);

    // The preset lies lowest, but its name may come from any layer above.
    let from_env = variables.iter().find(|(name, _)| name == "ENDCAP_PRESET").map(|(_, value)| value.as_str());
    let name = from_env.or_else(|| own.get("preset").and_then(Value::as_str));
    let mut table = Table::new();
    match name.map(|name| (name, preset::find(name))) {
        None => {}
        Some((_, Some((name, preset)))) => {
            layers.preset = Some((name, preset.clone()));
            table = preset;
        }
        Some((name, None)) => {
            let known = preset::names();
            let advice = match nearest(name, known.iter().copied()) {
                Some(meant) => format!("did you mean {meant:?}?"),
                None => format!("the presets are: {}", known.join(", ")),
            };
            let place = match from_env {
                Some(_) => Place::Variable("ENDCAP_PRESET".to_owned()),
                None => layers.place(&Path::of(&["preset"]), false),
            };
            let message = format!("there is no preset {name:?}");
            problems.push(Problem { key: "preset".to_owned(), message, help: Some(advice), place });
        }
    }
    merge(&mut table, own);
    let overlaid = environment::overlay(variables, &mut table, &mut problems);
    layers.variables = overlaid.taken;
    layers.spoiled.extend(overlaid.spoiled);
    inherit(&mut table);

    let raw = match Raw::deserialize(Value::Table(table)) {
        Ok(raw) => raw,
        // Each layer was sifted by the shape of `Raw`, so this speaks of a mistake of ours; it is still no panic.
        Err(error) => {
            let message = error.message().to_owned();
            problems.push(Problem { key: String::new(), message, help: None, place: Place::Nowhere });
            return Err(Problems::new(problems));
        }
    };
    let variables = layers.variables.iter().map(|variable| variable.name.clone()).collect();
    match resolve::config(raw, &layers, problems) {
        Ok(config) => Ok(Loaded { config, file: None, variables }),
        Err(problems) => Err(Problems::new(problems)),
    }
}

/// Lays a table over another: sections merge key by key, all else replaces.
pub(super) fn merge(below: &mut Table, over: Table) {
    for (key, value) in over {
        match (below.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
}

/// Lays every route over what all routes share.
fn inherit(table: &mut Table) {
    let Some(Value::Table(defaults)) = table.get("route_defaults").cloned() else { return };
    let Some(Value::Table(routes)) = table.get_mut("route") else { return };
    for (_, route) in routes.iter_mut() {
        if let Value::Table(own) = route {
            let own = std::mem::replace(own, defaults.clone());
            if let Value::Table(whole) = route {
                merge(whole, own);
            }
        }
    }
}

/// The layers, to tell where a value came from.
#[derive(Debug, Default)]
pub(super) struct Layers<'t> {
    document: Option<Document<'t>>,
    preset: Option<(&'static str, Table)>,
    variables: Vec<Variable>,
    /// What was given and taken out because it was wrong: nothing more is said about it.
    spoiled: Vec<Path>,
}

impl Layers<'_> {
    /// Takes out of the user's table what does not fit.
    fn sift(&mut self, table: Table, problems: &mut Vec<Problem>) -> Table {
        let mut flaws = Vec::new();
        let kept = Raw::SHAPE.sift(Value::Table(table), &Path::default(), TOMBSTONES, &mut flaws);
        for flaw in flaws {
            let secret = is_secret(&flaw.path) || flaw.help.as_deref().is_some_and(holds_secret);
            let found = self.document.as_ref().and_then(|document| document.find(&flaw.path, flaw.at_key, secret));
            let place = found.unwrap_or(Place::Nowhere);
            let key = flaw.path.to_string();
            problems.push(Problem { key, message: flaw.message, help: flaw.help, place });
            self.spoiled.push(flaw.path);
        }
        match kept {
            Some(Value::Table(table)) => table,
            _ => Table::new(),
        }
    }

    /// Where the value at a path came from, or its key.
    pub(super) fn place(&self, path: &Path, at_key: bool) -> Place {
        if let Some(variable) = self.variables.iter().find(|variable| variable.path.holds(path)) {
            return Place::Variable(variable.name.clone());
        }
        let document = self.document.as_ref();
        if let Some(place) = document.and_then(|document| document.find(path, at_key, is_secret(path))) {
            return place;
        }
        if let Some((name, table)) = &self.preset
            && lookup(table, path)
        {
            return Place::Preset((*name).to_owned());
        }
        document.and_then(|document| document.above(path)).unwrap_or(Place::Nowhere)
    }

    /// Whether the user, in file or environment, gave the value at a path.
    pub(super) fn is_own(&self, path: &Path) -> bool {
        self.variables.iter().any(|variable| variable.path.holds(path) || path.holds(&variable.path))
            || self.document.as_ref().is_some_and(|document| document.find(path, false, false).is_some())
    }

    /// Whether any layer gives the value at a path.
    pub(super) fn has(&self, path: &Path) -> bool {
        self.is_own(path) || self.preset.as_ref().is_some_and(|(_, table)| lookup(table, path))
    }

    /// Whether something at, above or below a path was already reported.
    pub(super) fn is_spoiled(&self, path: &Path) -> bool {
        self.spoiled.iter().any(|spoiled| spoiled.holds(path) || path.holds(spoiled))
    }
}

fn is_secret(path: &Path) -> bool {
    Raw::SHAPE.at(path).is_some_and(Shape::is_secret)
}

fn lookup(table: &Table, path: &Path) -> bool {
    let Some((Step::Key(first), rest)) = path.steps().split_first() else { return true };
    let found = rest.iter().try_fold(table.get(first), |value, step| match step {
        Step::Key(key) => Some(value?.as_table()?.get(key)),
        Step::Index(index) => Some(value?.as_array()?.get(*index)),
    });
    found.flatten().is_some()
}
