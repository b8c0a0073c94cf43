//! Checking: problems are collected with their places, so that one run finds all of them.

use std::time::Duration;

use super::diagnostic::Problem;
use super::load::Layers;
use super::secret::{self, Secret};
use super::shape::Path;
use super::text::{Text, Textual};
use super::units::Size;

/// A bound of time-outs.
pub(super) const HOUR: Duration = Duration::from_secs(3600);
const MILLISECOND: Duration = Duration::from_millis(1);

/// Collects problems with their places.
#[derive(Debug)]
pub(super) struct Checker<'l, 't> {
    pub(super) layers: &'l Layers<'t>,
    pub(super) problems: Vec<Problem>,
}

impl Checker<'_, '_> {
    /// Reports what is wrong with a value, unless the same place was reported before.
    pub(super) fn problem(&mut self, path: &Path, message: impl Into<String>) {
        if !self.layers.is_spoiled(path) {
            let place = self.layers.place(path, false);
            self.problems.push(Problem { key: path.to_string(), message: message.into(), help: None, place });
        }
    }

    /// Reports what is wrong with a key, not its value.
    pub(super) fn key_problem(&mut self, path: &Path, message: impl Into<String>) {
        if !self.layers.is_spoiled(path) {
            let place = self.layers.place(path, true);
            self.problems.push(Problem { key: path.to_string(), message: message.into(), help: None, place });
        }
    }

    /// The value, or its default, which must lie within bounds.
    pub(super) fn within<T: Bounded>(
        &mut self,
        at: &Path,
        key: &str,
        value: Option<T>,
        default: T,
        low: T,
        high: T,
    ) -> T {
        let value = value.unwrap_or(default);
        let (shown, low_shown, high_shown) = (value.shown(), low.shown(), high.shown());
        if value < low {
            self.problem(&at.key(key), format!("{shown} is too little: at least {low_shown}"));
        } else if value > high {
            self.problem(&at.key(key), format!("{shown} is too much: at most {high_shown}"));
        }
        value
    }

    pub(super) fn duration(
        &mut self,
        at: &Path,
        key: &str,
        value: Option<Text<Duration>>,
        default: Duration,
        high: Duration,
    ) -> Duration {
        self.within(at, key, value.map(|text| text.0), default, MILLISECOND, high)
    }

    pub(super) fn bytes(
        &mut self,
        at: &Path,
        key: &str,
        value: Option<Text<Size>>,
        default: usize,
        low: u64,
        high: u64,
    ) -> usize {
        let default = Size(default as u64);
        self.within(at, key, value.map(|text| text.0), default, Size(low), Size(high)).len()
    }

    /// A secret, given as it is or in a file.
    pub(super) fn secret(&mut self, at: &Path, key: &str, given: Given<Text<Secret>>) -> Option<Secret> {
        let Given { value, file } = given;
        let file = self.file(at, key, value.is_some(), file);
        value.map(|text| text.0).or(file.map(Secret::new))
    }

    /// The text of the file of a secret; giving both the secret and its file is a mistake.
    pub(super) fn file(&mut self, at: &Path, key: &str, is_given: bool, file: Option<String>) -> Option<String> {
        let file = file?;
        let path = at.key(&format!("{key}_file"));
        if is_given {
            self.problem(&path, format!("`{key}` is given as well: leave one of them out"));
            return None;
        }
        match secret::read_file(&file) {
            Ok(text) => Some(text),
            Err(message) => {
                self.problem(&path, message);
                None
            }
        }
    }

    /// A name that stands in paths of URLs, in labels and in tags.
    pub(super) fn name(&mut self, at: &Path, what: &str, name: &str) {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if !(1..=64).contains(&name.len()) || !name.bytes().all(plain) {
            self.key_problem(at, format!("{name:?} is no name of a {what}: 1 to 64 letters, digits, `-`, `_` or `.`"));
        }
    }
}

/// A value that may also stand in a file of its own.
pub(super) struct Given<T> {
    pub(super) value: Option<T>,
    pub(super) file: Option<String>,
}

/// A value with an order that can be shown.
pub(super) trait Bounded: Copy + PartialOrd {
    fn shown(self) -> String;
}

macro_rules! bounded {
    ($($type:ty: $shown:expr,)*) => {$(
        impl Bounded for $type {
            fn shown(self) -> String {
                $shown(&self)
            }
        }
    )*};
}
bounded! {
    Duration: Textual::to_text,
    Size: Textual::to_text,
    usize: ToString::to_string,
    u32: ToString::to_string,
    f64: ToString::to_string,
}

/// The values of a list without their text form.
pub(super) fn plain<T, V>(list: Option<Vec<Text<T>>>, value: impl Fn(T) -> V) -> Vec<V> {
    list.unwrap_or_default().into_iter().map(|text| value(text.0)).collect()
}
