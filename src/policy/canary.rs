//! What a refill tells of the answer before it: whether something changed that nobody announced.
//!
//! Each refill of a known answer is a sample. Where the origin says something else although no purge concerns what was
//! stored, an event is missing: the backend emits none for that change, no rule maps it to this answer's tags, or it was
//! lost on its way. It names what differs, so that the rule can be mended.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::entry::Entry;

/// Ids that are named, at the most.
const IDS_MAX: usize = 5;

/// What kind of change was missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    /// The answer was filled soon after a purge of it, and was old all the same.
    AfterPurge,
    /// Nothing announced the change.
    NoEvent,
}

impl Missed {
    /// All kinds, for the metrics.
    pub const ALL: [Self; 2] = [Self::AfterPurge, Self::NoEvent];

    /// The word for labels and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AfterPurge => "after_purge",
            Self::NoEvent => "no_event",
        }
    }
}

/// Why an answer is compared that nobody asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// It was filled soon after a purge of it.
    AfterPurge,
    /// Chance chose it among what is asked for most.
    AtRandom,
}

impl Look {
    /// All kinds, for the metrics.
    pub const ALL: [Self; 2] = [Self::AfterPurge, Self::AtRandom];

    /// The word for labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AfterPurge => "after_purge",
            Self::AtRandom => "at_random",
        }
    }
}

/// How long after its fill an answer to the first request after a purge is looked at: 1 s, 10 s and 60 s where an event may
/// be under way for 10 s.
pub fn looks(canary: Duration) -> [Duration; 3] {
    [canary / 10, canary, canary * 6]
}

/// Whether an answer and the one that took its place say different things.
pub fn differ(old: &Entry, new: &Entry) -> bool {
    old.status != new.status || old.body != new.body
}

/// The ids of the things in two JSON documents that are not the same in both: those of an `id` member, the innermost
/// where one lies in another. `None` where they differ in nothing but the order of lists: a database that is asked for none gives
/// now this one, now that.
pub fn differing_ids(old: &[u8], new: &[u8]) -> Option<Vec<String>> {
    /// What would take long to read is not read for a line of the log.
    const BYTES_MAX: usize = 1 << 20;
    let read = |body: &[u8]| {
        let value = (body.len() <= BYTES_MAX).then(|| serde_json::from_slice::<Value>(body))?.ok()?;
        Some(in_order(value))
    };
    let (old, new) = (read(old), read(new));
    if old.is_some() && old == new {
        return None;
    }
    let things = |value: Option<Value>| {
        let mut things = BTreeMap::new();
        collect(&value.unwrap_or_default(), &mut things);
        things
    };
    let (old, new) = (things(old), things(new));
    let changed = old.iter().filter(|(id, thing)| new.get(*id) != Some(thing)).map(|(id, _)| id);
    let added = new.keys().filter(|id| !old.contains_key(*id));
    let mut ids: Vec<String> = changed.chain(added).cloned().collect();
    ids.sort_unstable();
    ids.truncate(IDS_MAX);
    Some(ids)
}

/// The same with its lists in one order.
fn in_order(value: Value) -> Value {
    match value {
        Value::Array(items) => {
            let mut items: Vec<_> = items.into_iter().map(in_order).collect();
            items.sort_by_cached_key(Value::to_string);
            Value::Array(items)
        }
        Value::Object(members) => members.into_iter().map(|(name, member)| (name, in_order(member))).collect(),
        other => other,
    }
}

/// Takes apart what has an id: each by what it says of itself, without what lies in it and has an id of its own.
fn collect(value: &Value, things: &mut BTreeMap<String, Value>) -> Value {
    match value {
        Value::Array(items) => items.iter().map(|item| collect(item, things)).collect(),
        Value::Object(members) => {
            let own = members.iter().map(|(name, member)| (name.clone(), collect(member, things))).collect();
            match members.get("id") {
                Some(Value::String(id)) => {
                    things.insert(id.clone(), own);
                    Value::String(id.clone())
                }
                _ => own,
            }
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named_by_its_own_id() {
        let of = |old: &str, new: &str| differing_ids(old.as_bytes(), new.as_bytes()).unwrap();
        let list =
            |inner: &str| format!(r#"{{"products":[{{"id":"prod_1","variants":[{inner}]}},{{"id":"prod_2"}}]}}"#);
        let variant = |price: u32| list(&format!(r#"{{"id":"variant_1","price":{price}}}"#));
        assert_eq!(of(&variant(1), &variant(2)), ["variant_1"]);
        assert_eq!(of(&variant(1), &list("")), ["prod_1", "variant_1"], "a variant has gone");
        assert_eq!(of(&list(""), &variant(1)), ["prod_1", "variant_1"], "and come");
        assert_eq!(of(r#"{"count":1}"#, r#"{"count":2}"#), Vec::<String>::new());
        assert_eq!(of("no JSON", r#"{"id":"a"}"#), ["a"]);
        let many = |n: u32| {
            format!("[{}]", (0..9).map(|id| format!(r#"{{"id":"{id}","n":{n}}}"#)).collect::<Vec<_>>().join(","))
        };
        assert_eq!(of(&many(1), &many(2)), ["0", "1", "2", "3", "4"]);
    }
    #[test]
    fn the_order_of_a_list_is_no_difference() {
        let of = |old: &str, new: &str| differing_ids(old.as_bytes(), new.as_bytes());
        let [a, b] = [r#"{"id":"a","tags":[2,1]}"#, r#"{"id":"b"}"#];
        assert_eq!(of(&format!("[{a},{b}]"), &format!(r#"[{b},{{"id":"a","tags":[1,2]}}]"#)), None);
        assert_eq!(of(&format!("[{a},{b}]"), &format!("[{b},{b}]")), Some(vec!["a".to_owned()]));
        assert_eq!(of("[1,1,2]", "[1,2,2]"), Some(Vec::new()), "something changed that has no id");
        assert_eq!(of("no JSON", "nor this"), Some(Vec::new()));
    }
}
