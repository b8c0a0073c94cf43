//! The encoded forms of one body: made after its entry was stored, and gone with it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};

use super::encoding::{Accepted, Coding};
use super::etag;
use super::fields::Fields;

/// A body in one of our codings.
#[derive(Debug)]
pub struct Form {
    /// The coding.
    pub coding: Coding,
    /// The encoded bytes.
    pub body: Bytes,
    /// Its fields, made at the first plain hit.
    fields: OnceLock<Fields>,
}

impl Form {
    /// Its fields: the entry's, but for those that say what the bytes are.
    pub fn fields(&self, plain: &Fields) -> &Fields {
        self.fields.get_or_init(|| {
            let mut fields = plain.to_map();
            self.describe(&mut fields);
            Fields::from(&fields)
        })
    }

    /// Makes the fields of the plain form its own.
    pub fn describe(&self, fields: &mut HeaderMap) {
        fields.insert(header::CONTENT_ENCODING, HeaderValue::from_static(self.coding.as_str()));
        fields.insert(header::CONTENT_LENGTH, HeaderValue::from(self.body.len()));
        if let Some(etag) = fields.get(header::ETAG).map(|etag| etag::of_form(etag, self.coding)) {
            fields.insert(header::ETAG, etag);
        }
    }
}

/// The forms of one body. Most entries never have any: until the first is asked for it holds one pointer.
#[derive(Debug, Default)]
pub struct Forms(OnceLock<Box<Made>>);

#[derive(Debug, Default)]
struct Made {
    forms: [OnceLock<Form>; Coding::ALL.len()],
    /// One is being made, or waits for it.
    is_claimed: AtomicBool,
    /// A bit for each coding that saves too little.
    vain: AtomicU8,
}

/// What of the forms a request gets.
#[derive(Debug)]
pub struct Choice<'f> {
    /// The form that it wants most of those that are ready; else the plain one.
    pub form: Option<&'f Form>,
    /// The coding that it would rather have, and which is worth making.
    pub missing: Option<Coding>,
}

impl Choice<'_> {
    /// The coding of what is sent.
    pub fn coding(&self) -> Option<Coding> {
        self.form.map(|form| form.coding)
    }
}

impl Forms {
    /// A form that is ready.
    pub fn get(&self, coding: Coding) -> Option<&Form> {
        self.0.get()?.forms[coding.index()].get()
    }

    /// Chooses what a client is sent.
    pub fn choose(&self, accepted: &Accepted) -> Choice<'_> {
        let mut missing = None;
        for coding in accepted.ranked().filter(|coding| !self.is_vain(*coding)) {
            if let Some(form) = self.get(coding) {
                return Choice { form: Some(form), missing };
            }
            missing = missing.or(Some(coding));
        }
        Choice { form: None, missing }
    }

    /// Takes the right to make a form; there is one at a time for all codings of a body.
    pub fn claim(&self) -> bool {
        !self.made().is_claimed.swap(true, Ordering::AcqRel)
    }

    /// Gives that right back.
    pub fn release(&self) {
        self.made().is_claimed.store(false, Ordering::Release);
    }

    /// Adds a form that was made.
    pub fn keep(&self, coding: Coding, body: Bytes) {
        self.made().forms[coding.index()].get_or_init(|| Form { coding, body, fields: OnceLock::new() });
    }

    /// Notes that a coding saves too little of this body.
    pub fn give_up(&self, coding: Coding) {
        self.made().vain.fetch_or(1 << coding.index(), Ordering::Relaxed);
    }

    /// The forms of the same body under other fields.
    #[must_use]
    pub fn carried(&self) -> Self {
        let carried = Self::default();
        if let Some(made) = self.0.get() {
            for form in made.forms.iter().filter_map(OnceLock::get) {
                carried.keep(form.coding, form.body.clone());
            }
            carried.made().vain.store(made.vain.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        carried
    }

    /// Memory that they hold beside the entry itself, in bytes. `fields` is what the entry's take.
    pub fn weight(&self, fields: usize) -> usize {
        self.0.get().map_or(0, |made| {
            let forms = made.forms.iter().filter_map(OnceLock::get);
            size_of::<Made>() + forms.map(|form| form.body.len() + fields).sum::<usize>()
        })
    }

    fn is_vain(&self, coding: Coding) -> bool {
        self.0.get().is_some_and(|made| made.vain.load(Ordering::Relaxed) & (1 << coding.index()) != 0)
    }

    fn made(&self) -> &Made {
        self.0.get_or_init(Box::default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(forms: &Forms, takes: &str) -> (Option<Coding>, Option<Coding>) {
        let choice = forms.choose(&Accepted::parse([takes.as_bytes()]));
        (choice.coding(), choice.missing)
    }

    #[test]
    fn a_client_gets_the_best_that_is_ready_and_what_it_lacks_is_wanted() {
        let forms = Forms::default();
        let (br, gzip) = (Some(Coding::Br), Some(Coding::Gzip));
        assert_eq!(chosen(&forms, ""), (None, None));
        assert_eq!(chosen(&forms, "gzip, br"), (None, br));
        forms.keep(Coding::Gzip, Bytes::from_static(b"gz"));
        assert_eq!(chosen(&forms, "gzip, br"), (gzip, br));
        forms.keep(Coding::Br, Bytes::from_static(b"b"));
        assert_eq!(chosen(&forms, "gzip, br"), (br, None));
        assert_eq!(chosen(&forms, "gzip"), (gzip, None));
        forms.give_up(Coding::Zstd);
        assert_eq!(chosen(&forms, "zstd"), (None, None));
        assert_eq!(chosen(&forms, "zstd, gzip;q=0.5"), (gzip, None));
        assert_eq!(chosen(&forms, "identity, gzip;q=0.5"), (None, None));
        assert_eq!(forms.weight(10), size_of::<Made>() + 3 + 20);
        assert_eq!(chosen(&forms.carried(), "zstd, gzip, br"), (br, None));
        assert_eq!(Forms::default().carried().weight(10), 0);
    }

    #[test]
    fn a_form_has_fields_of_its_own_for_what_its_bytes_are() {
        let map = |pairs: &[(&'static str, &'static str)]| {
            let pair = |(name, value): &(&'static str, &'static str)| {
                (name.parse::<header::HeaderName>().unwrap(), HeaderValue::from_static(value))
            };
            pairs.iter().map(pair).collect::<HeaderMap>()
        };
        let forms = Forms::default();
        forms.keep(Coding::Br, Bytes::from_static(b"b"));
        let plain = Fields::from(&map(&[("vary", "x"), ("content-length", "2"), ("etag", "\"a\"")]));
        let br = [("vary", "x"), ("content-length", "1"), ("etag", "\"a~br\""), ("content-encoding", "br")];
        assert_eq!(forms.get(Coding::Br).unwrap().fields(&plain).to_map(), map(&br));
    }

    #[test]
    fn one_form_is_made_at_a_time() {
        let forms = Forms::default();
        assert!(forms.claim() && !forms.claim());
        forms.release();
        assert!(forms.claim());
    }
}
