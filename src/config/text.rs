//! Values that are written as a text: one type that reads and writes them, and says what is wrong.

use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::{Serialize, Serializer};
use toml::Value;

use super::shape::{Kind, Leaf, Shape, Shaped, mismatch};

/// A type that has a form as a text of the file.
pub(super) trait Textual: Sized {
    /// Messages and renderings do not show the value.
    const SECRET: bool = false;

    /// Reads the text; the error says what is wrong and what would be right.
    fn from_text(text: &str) -> Result<Self, String>;

    /// Writes it so that `from_text` gives the same again.
    fn to_text(&self) -> String;
}

/// A value in its text form.
#[derive(Clone, Debug)]
pub(super) struct Text<T>(pub(super) T);

impl<T: Textual> Text<T> {
    fn from_value(value: &Value) -> Result<Self, String> {
        match value {
            Value::String(text) => T::from_text(text).map(Self),
            // A number without quotes meets the same advice as one in quotes: its unit.
            Value::Integer(number) => {
                let advice = "this is a number: write it in quotes".to_owned();
                Err(T::from_text(&number.to_string()).err().unwrap_or(advice))
            }
            other => Err(mismatch(other, "a text in quotes")),
        }
    }
}

impl<T: Textual> Shaped for Text<T> {
    const SHAPE: Shape =
        Shape::Leaf(Leaf { kind: Kind::Text, secret: T::SECRET, check: |value| Self::from_value(value).map(drop) });
}

impl<'de, T: Textual> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_value(&Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl<T: Textual> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_text())
    }
}

/// Gives an enum its words in the file.
macro_rules! words {
    ($($type:ty { $($word:literal = $variant:path,)* })*) => {$(
        impl $crate::config::text::Textual for $type {
            fn from_text(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok($variant),)*
                    other => {
                        let words = [$($word),*];
                        let meant = $crate::config::shape::nearest(other, words.into_iter());
                        Err(match meant {
                            Some(word) => format!("{other:?} is none of the words here: did you mean {word:?}?"),
                            None => format!("{other:?} is none of the words here: {}", words.join(", ")),
                        })
                    }
                }
            }

            fn to_text(&self) -> String {
                match self {
                    $($variant => $word,)*
                }
                .to_owned()
            }
        }
    )*};
}
pub(super) use words;
