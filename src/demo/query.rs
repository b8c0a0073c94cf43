//! Query parameters as the backend reads them: `qs` for arrays, a closed list of names a route, `fields` as a set.

use serde::Serialize;
use serde::ser::SerializeMap;
use serde_json::Value;

use super::reply::ApiError;

/// The parameters of one request, all of them known to the route.
#[derive(Debug, Default)]
pub(super) struct Params {
    pairs: Vec<Pair>,
}

#[derive(Debug)]
struct Pair {
    /// The name up to its first bracket.
    name: String,
    /// Whether there was a bracket: `id[]`, `id[0]`, `created_at[$gt]`.
    bracketed: bool,
    value: String,
}

/// Parameters that every route takes.
const EVERYWHERE: [&str; 6] = ["fields", "limit", "offset", "order", "with_deleted", "locale"];

impl Params {
    /// Reads a query string; a name that is neither in `known` nor taken everywhere is an error.
    pub(super) fn parse(query: &str, known: &[&str]) -> Result<Self, ApiError> {
        let pairs: Vec<Pair> = query.split('&').filter(|pair| !pair.is_empty()).map(Pair::parse).collect();
        let mut foreign: Vec<&str> = Vec::new();
        for pair in &pairs {
            let name = pair.name.as_str();
            if !EVERYWHERE.contains(&name) && !known.contains(&name) && !foreign.contains(&name) {
                foreign.push(name);
            }
        }
        if !foreign.is_empty() {
            return Err(ApiError::invalid(format!("Invalid request: Unrecognized fields: '{}'", foreign.join(", "))));
        }
        Ok(Self { pairs })
    }

    /// The value of a parameter that is given once; absent and empty are the same.
    pub(super) fn one(&self, name: &str) -> Option<&str> {
        self.values(name).next().filter(|value| !value.is_empty())
    }

    /// Whether a parameter is there, be it empty.
    fn given(&self, name: &str) -> Option<&str> {
        self.values(name).next()
    }

    /// Whether a row passes a filter: the parameter is absent or names the row's value.
    pub(super) fn admits(&self, name: &str, value: &str) -> bool {
        let values = self.many(name);
        values.is_empty() || values.contains(&value)
    }

    /// All values of a parameter that may be given several times.
    pub(super) fn many(&self, name: &str) -> Vec<&str> {
        let mut pairs = self.pairs.iter().filter(|pair| pair.name == name);
        match (pairs.next(), pairs.next()) {
            // An array of one is split at commas, a plain value is not.
            (Some(only), None) if only.bracketed => only.value.split(',').filter(|value| !value.is_empty()).collect(),
            _ => self.values(name).filter(|value| !value.is_empty()).collect(),
        }
    }

    /// How many rows are asked for.
    pub(super) fn limit(&self, default: usize) -> Result<usize, ApiError> {
        self.count("limit", default)
    }

    /// How many rows to leave out before that.
    pub(super) fn offset(&self) -> Result<usize, ApiError> {
        self.count("offset", 0)
    }

    /// What the `fields` parameter chooses.
    pub(super) fn fields(&self) -> Fields {
        self.given("fields").map_or_else(Fields::default, Fields::parse)
    }

    fn values<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |pair| pair.name == name).map(|pair| pair.value.as_str())
    }

    /// A number as JavaScript's `parseInt` reads it: `2abc` is 2.
    fn count(&self, name: &str, default: usize) -> Result<usize, ApiError> {
        let wrong = |got: &str| {
            ApiError::invalid(format!("Invalid request: Expected type: 'number' for field '{name}', got: {got}"))
        };
        if self.values(name).nth(1).is_some() {
            return Err(wrong("'object'"));
        }
        let Some(text) = self.one(name) else { return Ok(default) };
        if text.starts_with('-') {
            // The real one hands it to the database, which refuses.
            return Err(ApiError::Internal);
        }
        let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
        if digits.is_empty() {
            return Err(wrong(&format!("'{text}'")));
        }
        Ok(digits.parse().unwrap_or(usize::MAX))
    }
}

impl Pair {
    fn parse(text: &str) -> Self {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        let (name, value) = (decode(name), decode(value));
        match name.split_once('[') {
            Some((base, _)) => Self { name: base.to_owned(), bracketed: true, value },
            None => Self { name, bracketed: false, value },
        }
    }
}

fn decode(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

/// What a `fields` parameter chooses: items that add to the default or, if one comes without `*`, `+` or `-`,
/// items that take its place.
#[derive(Debug, Default)]
pub(super) struct Fields {
    /// Paths that are asked for, without their modifier.
    asked: Vec<String>,
    dropped: Vec<String>,
    /// Whether the default is replaced.
    replaces: bool,
}

impl Fields {
    fn parse(text: &str) -> Self {
        let mut fields = Self::default();
        let mut items = 0;
        for item in text.split(',') {
            // A raw `+` has become a space; one before `*` or a name may be either.
            let added = item.starts_with([' ', '+']);
            let item = item.trim_matches([' ', '+']);
            if item.is_empty() {
                continue;
            }
            items += 1;
            if let Some(path) = item.strip_prefix('-') {
                fields.dropped.push(path.to_owned());
            } else if let Some(path) = item.strip_prefix('*') {
                fields.asked.push(path.to_owned());
            } else {
                let (path, starred) = item.strip_suffix(".*").map_or((item, false), |path| (path, true));
                fields.replaces |= !added && !starred;
                fields.asked.push(path.to_owned());
            }
        }
        // `fields=` means only the id.
        fields.replaces |= items == 0;
        fields
    }

    /// Whether a path, or something below it, is asked for.
    pub(super) fn asks(&self, path: &str) -> bool {
        let below =
            |item: &String| item.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        self.asked.iter().any(below) && !self.dropped.iter().any(|dropped| dropped == path)
    }

    /// Cuts a row down to what was chosen, if it was. Only top-level keys are chosen; a nested one brings its
    /// whole parent.
    pub(super) fn project<R: Serialize>(&self, row: R, keep: &[&str]) -> serde_json::Result<Row<R>> {
        if !self.replaces && self.dropped.is_empty() {
            return Ok(Row::Whole(row));
        }
        let Value::Object(mut map) = serde_json::to_value(row)? else { return Ok(Row::Chosen(Vec::new())) };
        let mut chosen: Vec<(String, Value)> = Vec::new();
        if self.replaces {
            let heads = self.asked.iter().map(|path| path.split('.').next().unwrap_or_default());
            for key in ["id", "code"].into_iter().chain(heads).chain(keep.iter().copied()) {
                if let Some(value) = map.remove(key) {
                    chosen.push((key.to_owned(), value));
                }
            }
        } else {
            chosen.extend(map);
        }
        chosen.retain(|(key, _)| !self.dropped.contains(key));
        Ok(Row::Chosen(chosen))
    }
}

/// A row as it is written.
#[derive(Debug)]
pub(super) enum Row<R> {
    Whole(R),
    /// Keys in the order in which they were asked for.
    Chosen(Vec<(String, Value)>),
}

impl<R: Serialize> Serialize for Row<R> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Whole(row) => row.serialize(serializer),
            Self::Chosen(keys) => {
                let mut map = serializer.serialize_map(Some(keys.len()))?;
                for (key, value) in keys {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(query: &str) -> Params {
        Params::parse(query, &["id", "q"]).unwrap()
    }

    #[test]
    fn arrays_are_read_as_qs_reads_them() {
        let check = |query, expected: &[&str]| assert_eq!(params(query).many("id"), expected, "{query}");
        check("id=a&id=b", &["a", "b"]);
        check("id[]=a&id[]=b", &["a", "b"]);
        check("id%5B0%5D=a&id%5B1%5D=b", &["a", "b"]);
        check("id[]=a,b", &["a", "b"]);
        check("id=a,b", &["a,b"]);
        check("id=", &[]);
        check("", &[]);
    }

    #[test]
    fn numbers_are_read_as_parse_int_reads_them() {
        let limit = |query| params(query).limit(50).ok();
        assert_eq!(limit(""), Some(50));
        assert_eq!(limit("limit=12"), Some(12));
        assert_eq!(limit("limit=2abc"), Some(2));
        assert_eq!(limit("limit=0"), Some(0));
        assert_eq!(limit("limit=abc"), None);
        assert_eq!(limit("limit=1&limit=2"), None);
        assert_eq!(limit("limit=-1"), None);
    }

    #[test]
    fn fields_add_unless_one_comes_bare() {
        let project = |fields: &str| {
            let row = serde_json::json!({ "id": 1, "title": 2, "handle": 3, "tags": [4] });
            let query = format!("fields={fields}");
            serde_json::to_string(&params(&query).fields().project(row, &[]).unwrap()).unwrap()
        };
        let whole = r#"{"handle":3,"id":1,"tags":[4],"title":2}"#;
        assert_eq!(project("*variants.calculated_price,+metadata,"), whole);
        assert_eq!(project("variants.*"), whole);
        assert_eq!(project("handle,%20title"), r#"{"id":1,"handle":3,"title":2}"#);
        assert_eq!(project("title,handle"), r#"{"id":1,"title":2,"handle":3}"#);
        assert_eq!(project("handle,tags.value"), r#"{"id":1,"handle":3,"tags":[4]}"#);
        assert_eq!(project("-tags"), r#"{"handle":3,"id":1,"title":2}"#);
        assert_eq!(project(""), r#"{"id":1}"#);
        assert_eq!(project("unknown"), r#"{"id":1}"#);
    }

    #[test]
    fn what_is_asked_for_is_known_by_its_path() {
        let fields = params("fields=*variants.calculated_price,%2Bvariants.inventory_quantity,-metadata").fields();
        assert!(fields.asks("variants.calculated_price"));
        assert!(fields.asks("variants.inventory_quantity"));
        assert!(fields.asks("variants"));
        assert!(!fields.asks("variants.images"));
        assert!(!fields.asks("metadata"));
    }
}
