//! Presets: configurations for a backend, in the same form as the user's file and laid under it.

use toml::Table;

/// Above this a Node server answers 431 itself (`--max-http-header-size`).
pub(super) const NODE_HEAD_BYTES_MAX: usize = 16 << 10;

const PRESETS: [(&str, &str); 1] = [("medusa", include_str!("medusa.toml"))];

/// The names of all presets.
pub(super) fn names() -> Vec<&'static str> {
    PRESETS.iter().map(|(name, _)| *name).collect()
}

/// The layer of a preset; `None` when there is none of that name.
pub(super) fn find(name: &str) -> Option<(&'static str, Table)> {
    let (name, text) = PRESETS.iter().find(|(known, _)| *known == name)?;
    let table = toml::from_str(text).expect("presets are part of the program, and a test parses each");
    Some((name, table))
}
