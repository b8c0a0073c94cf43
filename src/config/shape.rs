//! The shape of the file: which keys there are and what each may hold.
//!
//! The shape is derived from the structs of `raw.rs`, so it cannot drift from them. It serves three
//! ends that serde alone does not: all mistakes are found at once, each with its path; a suggestion
//! can name the key that was meant; and a text from the environment knows its type.

use std::collections::BTreeMap;
use std::fmt;

use toml::Value;

/// What a place in the file may hold.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    /// One value.
    Leaf(Leaf),
    /// A table with these keys and no others.
    Table(&'static [(&'static str, Shape)]),
    /// A table with names of the user's choice.
    Map(&'static Shape),
    /// A list.
    List(&'static Shape),
}

/// One value: how it is read from the environment, and how it is checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaf {
    /// The TOML type that a text from the environment becomes.
    pub(super) kind: Kind,
    /// Never shown.
    pub(super) secret: bool,
    /// Says what is wrong with a value.
    pub(super) check: fn(&Value) -> Result<(), String>,
}

/// The TOML types of leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Integer,
    Float,
    Boolean,
}

/// A type that a place in the file can hold.
pub(super) trait Shaped {
    /// Its shape.
    const SHAPE: Shape;
}

impl<T: Shaped> Shaped for Vec<T> {
    const SHAPE: Shape = Shape::List(&T::SHAPE);
}

impl<T: Shaped> Shaped for BTreeMap<String, T> {
    const SHAPE: Shape = Shape::Map(&T::SHAPE);
}

impl Shaped for String {
    const SHAPE: Shape = Shape::Leaf(Leaf {
        kind: Kind::Text,
        secret: false,
        check: |value| match value {
            Value::String(_) => Ok(()),
            other => Err(mismatch(other, "a text in quotes")),
        },
    });
}

impl Shaped for bool {
    const SHAPE: Shape = Shape::Leaf(Leaf {
        kind: Kind::Boolean,
        secret: false,
        check: |value| match value {
            Value::Boolean(_) => Ok(()),
            other => Err(mismatch(other, "true or false")),
        },
    });
}

impl Shaped for f64 {
    const SHAPE: Shape = Shape::Leaf(Leaf {
        kind: Kind::Float,
        secret: false,
        check: |value| match value {
            Value::Integer(_) => Ok(()),
            Value::Float(number) if number.is_finite() => Ok(()),
            other => Err(mismatch(other, "a number such as 0.1")),
        },
    });
}

macro_rules! whole_numbers {
    ($($type:ty)*) => {$(
        impl Shaped for $type {
            const SHAPE: Shape = Shape::Leaf(Leaf {
                kind: Kind::Integer,
                secret: false,
                check: |value| match value {
                    Value::Integer(number) if <$type>::try_from(*number).is_ok() => Ok(()),
                    other => Err(mismatch(other, "a whole number from 0")),
                },
            });
        }
    )*};
}
whole_numbers!(u32 usize);

/// Declares structs whose fields are all optional, with their serde form and their shape.
macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident { $($key:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, serde::Deserialize, serde::Serialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct $name {
            $(#[serde(skip_serializing_if = "Option::is_none")] pub(super) $key: Option<$type>,)*
        }

        impl Shaped for $name {
            const SHAPE: Shape =
                Shape::Table(&[$((stringify!($key), <$type as Shaped>::SHAPE)),*]);
        }
    )*};
}
pub(super) use tables;

/// Where a value stands in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Path(Vec<Step>);

/// One step of a [`Path`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

impl Path {
    /// The path of these keys.
    pub(super) fn of(keys: &[&str]) -> Self {
        Self(keys.iter().map(|key| Step::Key((*key).to_owned())).collect())
    }

    /// The path of a key in the table at this path.
    pub(super) fn key(&self, key: &str) -> Self {
        let mut path = self.clone();
        path.0.push(Step::Key(key.to_owned()));
        path
    }

    /// The path of an element of the list at this path.
    pub(super) fn index(&self, index: usize) -> Self {
        let mut path = self.clone();
        path.0.push(Step::Index(index));
        path
    }

    /// The steps from the root.
    pub(super) fn steps(&self) -> &[Step] {
        &self.0
    }

    /// The path of the table or list that holds this; `None` at the root.
    pub(super) fn parent(&self) -> Option<Self> {
        let (_, above) = self.0.split_last()?;
        Some(Self(above.to_vec()))
    }

    /// Whether `other` is this path or lies below it.
    pub(super) fn holds(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }

    /// Whether the path is the dotted `pattern`, in which `*` is any one key.
    fn is(&self, pattern: &str) -> bool {
        let mut words = pattern.split('.');
        let same = self.0.iter().all(|step| match (step, words.next()) {
            (Step::Key(_), Some("*")) => true,
            (Step::Key(key), Some(word)) => key == word,
            _ => false,
        });
        same && words.next().is_none()
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => {
                    if position > 0 {
                        f.write_str(".")?;
                    }
                    let bare = !key.is_empty()
                        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
                    if bare { f.write_str(key)? } else { write!(f, "{key:?}")? }
                }
            }
        }
        Ok(())
    }
}

/// A mistake at a place.
#[derive(Clone, Debug)]
pub(super) struct Flaw {
    /// Where.
    pub(super) path: Path,
    /// The key itself is wrong, not its value.
    pub(super) at_key: bool,
    /// What is wrong.
    pub(super) message: String,
    /// What may have been meant.
    pub(super) help: Option<String>,
}

/// Keys that had another name once: `(old path, new path)`; `*` stands for a name of the user's.
/// An old key stays an error that names the new one, for as long as files with it may be around.
pub(super) type Tombstones = [(&'static str, &'static str)];

/// There are none yet: no version was released with another name.
pub(super) const TOMBSTONES: &Tombstones = &[];

impl Shape {
    /// Keeps what fits and reports the rest, so that one run finds every mistake.
    pub(super) fn sift(
        &self,
        value: Value,
        path: &Path,
        tombstones: &Tombstones,
        flaws: &mut Vec<Flaw>,
    ) -> Option<Value> {
        let mut flaw = |message: String| flaws.push(Flaw { path: path.clone(), at_key: false, message, help: None });
        match (self, value) {
            (Self::Leaf(leaf), value) => match (leaf.check)(&value) {
                Ok(()) => Some(value),
                Err(message) => {
                    flaw(message);
                    None
                }
            },
            (Self::Table(fields), Value::Table(table)) => {
                let mut kept = toml::Table::new();
                for (key, value) in table {
                    let at = path.key(&key);
                    match fields.iter().find(|(name, _)| *name == key) {
                        Some((_, shape)) => {
                            kept.extend(shape.sift(value, &at, tombstones, flaws).map(|value| (key, value)));
                        }
                        None => flaws.push(unknown(at, &key, fields, tombstones)),
                    }
                }
                Some(Value::Table(kept))
            }
            (Self::Map(shape), Value::Table(table)) => {
                let mut kept = toml::Table::new();
                for (key, value) in table {
                    let sifted = shape.sift(value, &path.key(&key), tombstones, flaws);
                    kept.extend(sifted.map(|value| (key, value)));
                }
                Some(Value::Table(kept))
            }
            (Self::List(shape), Value::Array(list)) => {
                let sift = |(index, value)| shape.sift(value, &path.index(index), tombstones, flaws);
                Some(Value::Array(list.into_iter().enumerate().filter_map(sift).collect()))
            }
            (Self::Table(_) | Self::Map(_), other) => {
                flaw(mismatch(&other, "a section"));
                None
            }
            (Self::List(_), other) => {
                let example = match &other {
                    Value::String(text) if !self.is_secret() => format!("a list such as [{text:?}]"),
                    _ => "a list in brackets".to_owned(),
                };
                flaw(mismatch(&other, &example));
                None
            }
        }
    }

    /// Whether values of this shape are never shown.
    pub(super) fn is_secret(&self) -> bool {
        match self {
            Self::Leaf(leaf) => leaf.secret,
            Self::List(shape) => shape.is_secret(),
            Self::Table(_) | Self::Map(_) => false,
        }
    }

    /// The shape at a path below this one.
    pub(super) fn at(&self, path: &Path) -> Option<&Self> {
        path.steps().iter().try_fold(self, |shape, step| match (shape, step) {
            (Self::Table(fields), Step::Key(key)) => {
                fields.iter().find(|(name, _)| name == key).map(|(_, shape)| shape)
            }
            (Self::Map(shape), Step::Key(_)) | (Self::List(shape), Step::Index(_)) => Some(*shape),
            _ => None,
        })
    }
}

/// The flaw of a key that is not there: it was renamed, or another was meant.
fn unknown(path: Path, key: &str, fields: &[(&'static str, Shape)], tombstones: &Tombstones) -> Flaw {
    if let Some((_, new)) = tombstones.iter().find(|(old, _)| path.is(old)) {
        let help = Some(format!("write `{new}`"));
        return Flaw { path, at_key: true, message: "this key has a new name".into(), help };
    }
    let names = fields.iter().map(|(name, _)| *name);
    let help = match nearest(key, names.clone()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("the keys here are {}", names.collect::<Vec<_>>().join(", ")),
    };
    Flaw { path, at_key: true, message: "there is no such key".into(), help: Some(help) }
}

/// The name that was probably meant: at most a third of its letters differ.
pub(super) fn nearest<'n>(word: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    // The distance is quadratic; no key of ours is near so long a word.
    if word.len() > 100 {
        return None;
    }
    names
        .map(|name| (strsim::damerau_levenshtein(word, name), name))
        .filter(|(distance, name)| *distance <= 1.max(name.len() / 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Says which type was found where another was expected.
pub(super) fn mismatch(found: &Value, expected: &str) -> String {
    let found = match found {
        Value::String(_) => "a text".to_owned(),
        Value::Integer(number) => format!("the number {number}"),
        Value::Float(number) => format!("the number {number}"),
        Value::Boolean(truth) => truth.to_string(),
        Value::Datetime(_) => "a date".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Table(_) => "a section".to_owned(),
    };
    format!("this is {found}, not {expected}")
}

#[cfg(test)]
mod tests {
    use super::*;

    tables! {
        Inner { ttl: String, jitter: f64, }
        Outer { inner: Inner, route: BTreeMap<String, Inner>, counts: Vec<u32>, on: bool, }
    }

    fn flaws(text: &str, tombstones: &Tombstones) -> Vec<String> {
        let mut flaws = Vec::new();
        let value = Value::Table(toml::from_str(text).unwrap());
        let kept = Outer::SHAPE.sift(value, &Path::default(), tombstones, &mut flaws).unwrap();
        kept.try_into::<Outer>().expect("what is kept fits the struct");
        flaws
            .into_iter()
            .map(|flaw| format!("{}: {} {}", flaw.path, flaw.message, flaw.help.unwrap_or_default()))
            .collect()
    }

    #[test]
    fn every_mistake_is_found_at_once_and_what_is_kept_fits() {
        let text = "on = 1\ncounts = [1, -2, 'x']\nottl = 1\n[inner]\ntll = 'a'\njitter = 1\n[route.'a b']\nttl = 5\n[route.c]\nwhatever = 1";
        let found = flaws(text, &[]);
        let expected = [
            "counts[1]: this is the number -2, not a whole number from 0 ",
            "counts[2]: this is a text, not a whole number from 0 ",
            "inner.tll: there is no such key did you mean `ttl`?",
            "on: this is the number 1, not true or false ",
            "ottl: there is no such key the keys here are inner, route, counts, on",
            "route.\"a b\".ttl: this is the number 5, not a text in quotes ",
            "route.c.whatever: there is no such key the keys here are ttl, jitter",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_renamed_key_points_to_its_new_name() {
        let tombstones: &Tombstones = &[("route.*.max_age", "route.NAME.ttl"), ("off", "on")];
        let found = flaws("off = true\n[route.x]\nmax_age = 5", tombstones);
        let expected = [
            "off: this key has a new name write `on`",
            "route.x.max_age: this key has a new name write `route.NAME.ttl`",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_section_and_a_value_are_not_taken_for_each_other() {
        assert_eq!(flaws("inner = 3", &[]), ["inner: this is the number 3, not a section "]);
        assert_eq!(flaws("counts = 'a'", &[]), ["counts: this is a text, not a list such as [\"a\"] "]);
        assert_eq!(flaws("[on]", &[]), ["on: this is a section, not true or false "]);
    }
}
