//! What a request looks for, and what a flight is to fill.

use std::borrow::Cow;
use std::sync::Arc;

use http::HeaderMap;

use crate::interim::Interim;
use crate::policy::entry::Entry;
use crate::policy::key::{Key, KeyHash};
use crate::policy::route::Rule;
use crate::policy::time::Timestamp;
use crate::policy::{exchange, storable};

/// What a request looks for.
#[derive(Clone, Debug)]
pub struct Wanted<'r> {
    pub(super) rule: &'r Arc<Rule>,
    pub(super) client: &'r HeaderMap,
    pub(super) primary: &'r Key,
    pub(super) key: Cow<'r, Key>,
}

impl Wanted<'_> {
    /// The key that the request's answer is looked for under.
    pub fn hash(&self) -> KeyHash {
        self.key.hash()
    }

    /// Whether one of several variants is looked for.
    pub fn is_variant(&self) -> bool {
        matches!(self.key, Cow::Owned(_))
    }

    /// Whether an answer to this URL is the one that this request selects; else it turns to the key that is.
    pub(super) fn is_answered_by(&mut self, entry: &Entry) -> bool {
        if *entry.key == *self.key.text() {
            return true;
        }
        let names = Key::selecting(&entry.key);
        if names.is_empty() {
            return true;
        }
        self.key = Cow::Owned(self.primary.variant(self.rule, &names, self.client));
        *entry.key == *self.key.text()
    }

    /// A flight's job.
    pub(super) fn job(&self, previous: Option<Arc<Entry>>) -> Job {
        Job {
            rule: Arc::clone(self.rule),
            primary: self.primary.clone(),
            key: self.key.clone().into_owned(),
            forwarded: Arc::new(exchange::forwarded(self.rule, self.client)),
            previous,
            not_before: Timestamp::default(),
            interim: Interim::nowhere(),
        }
    }
}

/// What a flight is to fill.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) rule: Arc<Rule>,
    /// The key of the URL.
    pub(crate) primary: Key,
    /// The key of what is looked for: the variant's, where the answers are known to vary.
    pub(crate) key: Key,
    /// What the rule forwards of the client's fields.
    pub(crate) forwarded: Arc<HeaderMap>,
    /// What is known already: its validator saves a body, and it may serve if the origin fails.
    pub(crate) previous: Option<Arc<Entry>>,
    /// An entry whose fill began before this is not new enough.
    pub(crate) not_before: Timestamp,
    /// Told what the origin says before its answer: the client that leads, if there is one.
    pub(crate) interim: Interim,
}

impl Job {
    /// To ask again for an entry that no client asks for just now; `None` where the origin is sent what only a client
    /// knows.
    pub(super) fn again(rule: &Arc<Rule>, entry: Arc<Entry>) -> Option<Self> {
        let is_of_key = rule.forward.is_empty() && Key::selecting(&entry.key).is_empty();
        let key = Key::from_text(&entry.key).filter(|_| is_of_key)?;
        Some(Self {
            rule: Arc::clone(rule),
            primary: key.clone(),
            key,
            forwarded: Arc::new(HeaderMap::new()),
            previous: Some(entry),
            not_before: Timestamp::default(),
            interim: Interim::nowhere(),
        })
    }

    /// Learns of an entry: the newest known is the one to ask about.
    pub(super) fn know(&mut self, entry: Arc<Entry>) {
        if self.previous.as_ref().is_none_or(|known| entry.began > known.began) {
            self.previous = Some(entry);
        }
    }

    /// The key of an answer with these fields: its URL's, or its variant's.
    pub(super) fn stored_under(&self, headers: &http::HeaderMap) -> Key {
        match storable::selecting(&self.rule, headers) {
            Ok(names) if !names.is_empty() => self.primary.variant(&self.rule, &names, &self.forwarded),
            Ok(_) | Err(_) => self.primary.clone(),
        }
    }
}
