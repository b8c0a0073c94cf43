//! Events outward: what admin clients are told, and where each stands, so that they can go on from there.

use std::collections::HashSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::purge::PurgeSeq;
use super::webhook::Event;

/// An event as a line of the log carries it, with the least that a client needs to look for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Notice {
    /// Its name: `order.updated`.
    pub event: String,
    /// What it is about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
    /// It is about more than these: see [`Notice::bounded`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

/// Bytes of the name and the ids of an event, at the most: as JSON, where a byte may take six, still less than what
/// a client's connection takes as one message.
const BYTES_MAX: usize = 64 * 1024;
/// Bytes of a name, at the most.
const NAME_BYTES_MAX: usize = 1024;
/// What an id takes beside its own bytes.
const ID_BYTES: usize = 4;

impl Notice {
    /// What is told of the events of a delivery, in their order. Where a sender says `"notice": {"event": …, "id": …}` (or
    /// `ids`, a list) of an event, that is told in its place, once for all of which it says the same; and nothing where
    /// it says `"notice": null`. What is neither counts as not said.
    pub fn all(events: &[Event]) -> Vec<Self> {
        let mut said = HashSet::new();
        let told = |event| match InPlace::of(event) {
            InPlace::Unsaid => Some(Self::of(event)),
            InPlace::Nothing => None,
            InPlace::This(notice) => said.insert(notice.clone()).then_some(notice),
        };
        events.iter().filter_map(told).collect()
    }

    /// The name and the ids of an event; nothing else of its data leaves.
    fn of(event: &Event) -> Self {
        let id = |thing: &serde_json::Map<String, Value>| Id::deserialize(thing.get("id")?).ok();
        let ids = event.data.iter().filter_map(id).map(|Id(id)| id).collect();
        Self { event: event.name.clone(), ids, truncated: false }.bounded()
    }

    /// Cuts it to 64 KiB of name and ids, and says so: its client must then look at all there is of that kind. A name
    /// has at most 1 KiB.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        if self.event.len() > NAME_BYTES_MAX {
            self.event.truncate(self.event.floor_char_boundary(NAME_BYTES_MAX));
            self.truncated = true;
        }
        let mut room = BYTES_MAX - self.event.len();
        let fits = |id: &&String| {
            let left = room.checked_sub(id.len() + ID_BYTES);
            room = left.unwrap_or(0);
            left.is_some()
        };
        let count = self.ids.iter().take_while(fits).count();
        self.truncated |= count < self.ids.len();
        self.ids.truncate(count);
        self
    }

    /// What was done: the last word of the name.
    pub fn action(&self) -> &str {
        self.event.rsplit('.').next().unwrap_or_default()
    }

    /// What a client is sent. `truncated` stands there only where it is true.
    pub fn to_json(&self, id: EventId) -> String {
        let mut told = json!({ "id": id.to_string(), "event": self.event, "ids": self.ids, "action": self.action() });
        if self.truncated {
            told["truncated"] = Value::Bool(true);
        }
        told.to_string()
    }

    /// What a client is sent first: from where on it is told.
    pub fn hello() -> Self {
        Self { event: "hello".to_owned(), ..Self::default() }
    }

    /// What a client is sent that may have missed events: it must look at everything again.
    pub fn reset() -> Self {
        Self { event: "reset".to_owned(), ..Self::default() }
    }
}

/// What a sender wants to be told in the place of an event.
enum InPlace {
    Unsaid,
    Nothing,
    This(Notice),
}

impl InPlace {
    fn of(event: &Event) -> Self {
        // A list would be taken for the fields in order.
        let said = event.notice.as_ref().filter(|said| matches!(said, Value::Object(_) | Value::Null));
        match said.map(Option::<Said>::deserialize) {
            None | Some(Err(_)) => Self::Unsaid,
            Some(Ok(None)) => Self::Nothing,
            Some(Ok(Some(Said { event: Name(event), id, ids }))) => {
                let ids = id.into_iter().chain(ids).map(|Id(id)| id).collect();
                Self::This(Notice { event, ids, truncated: false }.bounded())
            }
        }
    }
}

#[derive(Deserialize)]
struct Said {
    event: Name,
    #[serde(default)]
    id: Option<Id>,
    #[serde(default)]
    ids: Vec<Id>,
}

/// A name that is one.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Name(String);

impl TryFrom<String> for Name {
    type Error = &'static str;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        if name.is_empty() { Err("an event has a name") } else { Ok(Self(name)) }
    }
}

/// A text or a number.
#[derive(Deserialize)]
#[serde(try_from = "Value")]
struct Id(String);

impl TryFrom<Value> for Id {
    type Error = &'static str;

    fn try_from(value: Value) -> Result<Self, Self::Error> {
        match value {
            Value::String(id) => Ok(Self(id)),
            Value::Number(id) => Ok(Self(id.to_string())),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => Err("an id is a text or a number"),
        }
    }
}

/// Where an event stands: a line of the log, and the count in it; after the last one, the line alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventId {
    /// The line.
    pub seq: PurgeSeq,
    n: u32,
}

impl EventId {
    /// The event of this count in a line.
    pub fn new(seq: PurgeSeq, n: usize) -> Self {
        Self { seq: seq.shared(), n: u32::try_from(n).unwrap_or(u32::MAX) }
    }

    /// After all events of a line.
    pub fn end_of(seq: PurgeSeq) -> Self {
        Self { seq: seq.shared(), n: u32::MAX }
    }

    /// Parses what [`fmt::Display`] writes, and nothing else.
    pub fn parse(text: &str) -> Option<Self> {
        let id = match text.split_once('.') {
            Some((seq, n)) => Self { seq: PurgeSeq::parse(seq)?, n: n.parse().ok()? },
            None => Self::end_of(PurgeSeq::parse(text)?),
        };
        (id.to_string() == text).then_some(id)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.n {
            u32::MAX => write!(f, "{}", self.seq),
            n => write!(f, "{}.{n}", self.seq),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::webhook;

    #[test]
    fn a_notice_tells_name_ids_and_action_and_nothing_else() {
        let body = br#"{"type":"order.updated","data":[{"id":"order_1","email":"a@b.c"},{"id":7},{"no":"id"}]}"#;
        let notice = Notice::of(&webhook::events(body).unwrap()[0]);
        let id = EventId::parse("12-3.0").unwrap();
        let expected = r#"{"action":"updated","event":"order.updated","id":"12-3.0","ids":["order_1","7"]}"#;
        assert_eq!(notice.to_json(id), expected);
        assert_eq!(Notice { event: "ping".into(), ..Notice::default() }.action(), "ping");
    }

    #[test]
    fn a_sender_says_what_is_told_in_the_place_of_an_event_or_that_nothing_is() {
        let told = |notice: &str| {
            let body = format!(r#"{{"type":"endcap.stock","data":[{{"id":"variant_1"}}]{notice}}}"#);
            let told = Notice::all(&webhook::events(body.as_bytes()).unwrap());
            let notice = told.first()?;
            Some(format!("{} {}", notice.event, notice.ids.join("+")))
        };
        let check = |notice: &str, expected: Option<&str>| {
            assert_eq!(told(&format!(r#","notice":{notice}"#)).as_deref(), expected, "{notice}");
        };
        let own = Some("endcap.stock variant_1");
        assert_eq!(told("").as_deref(), own);
        check("null", None);
        check(r#"{"event":"inventory-level.updated","id":"ilev_1"}"#, Some("inventory-level.updated ilev_1"));
        check(r#"{"event":"a.b","ids":["1",2],"more":{}}"#, Some("a.b 1+2"));
        check(r#"{"event":"a.b","id":7,"ids":[]}"#, Some("a.b 7"));
        check(r#"{"event":"a.b"}"#, Some("a.b "));
        for odd in [
            "1",
            "true",
            "[]",
            "{}",
            r#""a.b""#,
            r#"{"id":"1"}"#,
            r#"{"event":""}"#,
            r#"{"event":1,"id":"1"}"#,
            r#"{"event":null}"#,
            r#"{"event":"a.b","id":{}}"#,
            r#"{"event":"a.b","ids":"1"}"#,
            r#"{"event":"a.b","ids":[null]}"#,
        ] {
            check(odd, own);
        }
        let long = format!(r#"{{"event":"{}","ids":["{}"]}}"#, "x".repeat(2000), "y".repeat(BYTES_MAX));
        let told = told(&format!(r#","notice":{long}"#)).unwrap();
        assert_eq!(told.trim_end().len(), NAME_BYTES_MAX, "as bounded as any");
    }

    #[test]
    fn what_is_said_in_the_place_of_several_events_is_told_once() {
        let body = br#"[{"type":"endcap.price-set","data":"pset_1","notice":{"event":"a.b","id":"1"}},
            {"type":"endcap.price-set","data":"pset_2","notice":{"event":"a.b","id":"1"}},{"type":"c.d","data":"1"},
            {"type":"c.d","data":"1"},{"type":"e","notice":null},{"type":"odd","data":"1","notice":1},
            {"type":"odd","data":"2","notice":1},{"type":"f","notice":{"event":"a.b","id":"2"}}]"#;
        let told = Notice::all(&webhook::events(body).unwrap());
        let told: Vec<_> = told.iter().map(|notice| (notice.event.as_str(), notice.ids.concat())).collect();
        let expected = ["a.b 1", "c.d 1", "c.d 1", "odd 1", "odd 2", "a.b 2"].map(|told| told.split_once(' ').unwrap());
        assert_eq!(told, expected.map(|(name, id)| (name, id.to_owned())));
    }

    #[test]
    fn a_long_notice_is_cut_and_says_so() {
        let of = |name: &str, ids: &[&str]| {
            let ids = ids.iter().map(|id| (*id).to_owned()).collect();
            Notice { event: name.to_owned(), ids, truncated: false }.bounded()
        };
        let kib = "\u{1}".repeat(1024 - ID_BYTES);
        let most = of(&kib, &vec![kib.as_str(); 63]);
        assert_eq!((most.ids.len(), most.truncated), (63, false));
        let cut = of(&kib, &vec![kib.as_str(); 64]);
        assert_eq!((cut.ids.len(), cut.truncated), (63, true));
        let json = cut.to_json(EventId::default());
        assert!(json.len() < 512 * 1024 && json.ends_with(r#""truncated":true}"#), "{}", json.len());
        // What comes behind an id that is too long is left out too: an order with holes would be worth less.
        let long = "x".repeat(BYTES_MAX);
        assert_eq!(of("a.b", &["1", &long, "2"]).ids, ["1"]);
        let name = of(&"\u{e4}".repeat(NAME_BYTES_MAX), &["1"]);
        assert_eq!((name.event.len(), name.truncated, name.ids.len()), (NAME_BYTES_MAX, true, 1));
        assert_eq!(most.clone().bounded(), most, "once is enough");
    }

    #[test]
    fn an_id_is_read_written_and_ordered() {
        let parse = |text| EventId::parse(text).unwrap();
        for text in ["12-3", "12-3.0", "12-3.41"] {
            assert_eq!(parse(text).to_string(), text);
        }
        assert!(
            parse("12-3.0") < parse("12-3.1") && parse("12-3.9") < parse("12-3") && parse("12-3") < parse("12-4.0")
        );
        for text in ["", "12", "12-3.", "12-3.-1", "12-3.01", "+1-2", "12-3.4294967295", "a-b.c", "12-3.0.1"] {
            assert_eq!(EventId::parse(text), None, "{text}");
        }
    }
}
