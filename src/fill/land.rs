//! What a flight does, from take-off to landing.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::lease::Turn;
use super::reading::{Read, for_one, read};
use super::unstored::{ORIGIN_STATUS, Own};
use super::wanted::Job;
use super::{Fill, Landed, Source};
use crate::body::Body;
use crate::origin::{Framing, OriginBody, Purpose};
use crate::policy::cache_control::CacheControl;
use crate::policy::entry::Entry;
use crate::policy::forms::Forms;
use crate::policy::freshness::Verdict;
use crate::policy::hop_by_hop;
use crate::policy::key::{Key, KeyHash};
use crate::policy::lifetime::{self, Exchanged};
use crate::policy::purge::{PurgeSeq, Purged};
use crate::policy::route::{Policy, Rule};
use crate::policy::storable::{self, Admission, ShareOnce, Unshareable};
use crate::policy::tags::{TAGS_MAX, Tags};
use crate::policy::time::Timestamp;
use crate::policy::{etag, exchange, surrogate};
use crate::store::l1::Slot;
use crate::store::{LeaseToken, StoreError};
use crate::tasks::Tasks;

/// What is known of a fill from its beginning.
#[derive(Clone, Copy, Debug)]
struct Began {
    /// The newest purge applied before the origin was asked: what it answers is no older.
    as_of: PurgeSeq,
    at: Timestamp,
}

impl Fill {
    /// Looks where another flight or another node may have been faster, then asks the origin. Says also
    /// which lease it has taken for that.
    pub(super) async fn fly(&self, job: &mut Job, own: Own) -> (Landed, Option<(KeyHash, LeaseToken)>) {
        // Between the look-up that missed and this flight another one may have landed.
        if let Some(Slot::Entry(entry)) = self.l1.get(job.key.text()) {
            if self.answers(job, &entry) {
                return (Landed::Entry { entry, source: Source::L1, stored: true, own: None }, None);
            }
            job.know(entry);
        }
        let served = |entry| (Landed::Entry { entry, source: Source::L2, stored: true, own: None }, None);
        let flight = job.key.hash();
        let asks_for_lease = match self.ask_shared(job).await {
            Ok(Some(entry)) => return served(entry),
            Ok(None) => true,
            // One request is not kept waiting by a tier that is late. A crowd may be why it is, on all nodes.
            Err(why) => why == StoreError::Timeout.reason() && self.flights.is_followed(flight),
        };
        // The shared tier may have told that the answers vary: the lease is the variant's then.
        let leased = job.key.hash();
        // Who could not trust for long what another node fills does not wait for it.
        let turn = if asks_for_lease && self.purges.is_clear(self.clock.now()) {
            self.take_turn(job).await
        } else {
            Turn::Alone
        };
        match turn {
            Turn::Served(entry) => served(entry),
            Turn::Leads(token) => (self.ask_origin(job, own).await, Some((leased, token))),
            Turn::Alone => (self.ask_origin(job, own).await, None),
        }
    }

    /// Whether an entry that is found on the way makes the flight unnecessary.
    fn answers(&self, job: &Job, entry: &Entry) -> bool {
        entry.began >= job.not_before && self.judge(entry, self.clock.now()) == Verdict::Fresh
    }

    async fn ask_origin(&self, job: &Job, own: Own) -> Landed {
        let about = job.previous.as_deref();
        let (began, answer) = match self.send(job, about).await {
            Ok(answered) => answered,
            Err(landed) => return landed,
        };
        let is_about = |previous| exchange::confirms(&job.rule, previous, answer.headers());
        if answer.status() != StatusCode::NOT_MODIFIED || about.is_none_or(is_about) {
            return self.judge_answer(job, about, began, answer, own).await;
        }
        // It renews nothing that is stored here: what it is about is asked for whole.
        match self.send(job, None).await {
            Ok((began, answer)) => self.judge_answer(job, None, began, answer, own).await,
            Err(landed) => landed,
        }
    }

    /// Asks the origin once: whether it still says what is known, or for the whole.
    ///
    /// # Errors
    /// There is no answer; that is what the flight lands.
    async fn send(&self, job: &Job, about: Option<&Entry>) -> Result<(Began, Response<OriginBody>), Landed> {
        // Before the origin is asked: a purge from here on may be missing in its answer.
        let began = Began { as_of: self.purges.applied(), at: self.clock.now() };
        let view = job.key.view().expect("a key that a request was given can be read");
        let Some(mut request) = exchange::fill_request(&view, &job.forwarded, about) else {
            return Err(self.failed(job, began.as_of, StatusCode::BAD_GATEWAY, "fill_request", None, None));
        };
        request.extensions_mut().insert(job.interim.clone());
        let outcome = self.origin.send(request.map(|()| Body::Empty), Purpose::Fill).await;
        self.metrics.origin_answered(&job.rule, began.at, self.clock.now(), outcome.as_ref().map(Response::status));
        match outcome {
            Ok(answer) => Ok((began, answer)),
            Err(error) => Err(self.origin_failed(job, began.as_of, &error)),
        }
    }

    async fn judge_answer(
        &self,
        job: &Job,
        about: Option<&Entry>,
        began: Began,
        answer: Response<OriginBody>,
        own: Own,
    ) -> Landed {
        let (mut head, body) = answer.into_parts();
        hop_by_hop::strip_response(&mut head.headers, false);
        match (head.status, about) {
            (StatusCode::NOT_MODIFIED, Some(previous)) => return self.renew(job, began, previous, head),
            // Nobody asked for these.
            (StatusCode::NOT_MODIFIED | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE, _) => {
                return self.failed(job, began.as_of, StatusCode::BAD_GATEWAY, "upstream_status", None, None);
            }
            _ => {}
        }
        let control = control(&job.rule, &head.headers);
        let admission = storable::admit(&job.rule, &job.forwarded, head.status, &head.headers, &control);
        let now = self.clock.now();
        let exchanged = Exchanged { asked: began.at, answered: now };
        let stretch = self.stretch(&job.key, began);
        let lifetime = lifetime::lifetime(&job.rule, head.status, &head.headers, &control, exchanged, stretch);
        // By the book an error is an answer like any, unless something stored before can still serve.
        let is_answer = job.rule.trust.errors && !self.has_better(job, now);
        // Told to slow down is no answer either, what is stored is better; but by the book only a 5xx is that
        // (RFC 9111 §4.3.3, RFC 5861 §4).
        let slows_down = head.status == StatusCode::TOO_MANY_REQUESTS && job.rule.policy != Policy::Origin;
        let is_failure = (head.status.is_server_error() || slows_down)
            && !(is_answer && admission == Admission::Store && lifetime.is_useful(now));
        let is_own = !is_answer && matches!(admission, Admission::Own(_));
        if is_failure && (is_own || !self.fits(body.framing())) {
            // Error pages are marked `no-store`, or given a balancer's cookie, more often than not. What
            // they say is nobody else's, but that the origin failed is everybody's.
            return self.failed(job, began.as_of, head.status, ORIGIN_STATUS, None, None);
        }
        let mut once = match admission {
            Admission::Own(why) => {
                return self.unshareable(job, began.as_of, why, head, for_one(body), own);
            }
            Admission::ShareOnce(why) => Some(why),
            Admission::Store => None,
        };
        match body.framing() {
            Framing::UntilClose => {
                return self.unshareable(job, began.as_of, Unshareable::Unframed, head, for_one(body), own);
            }
            Framing::ContentLength(length) if length > self.settings.object_max as u64 => {
                return self.unshareable(job, began.as_of, Unshareable::TooLarge, head, for_one(body), own);
            }
            _ => {}
        }
        // The share of the budget is held until the answer has landed.
        let (body, _share) = match read(body, self.settings.object_max, &self.budget).await {
            Ok(Read::Whole(body, share)) => (body, share),
            Ok(Read::Streams(..)) if is_failure => {
                return self.failed(job, began.as_of, head.status, ORIGIN_STATUS, None, None);
            }
            Ok(Read::Streams(why, body)) => return self.unshareable(job, began.as_of, why, head, body, own),
            Err(error) => return self.origin_failed(job, began.as_of, &error),
        };
        if !control.no_cache_fields.is_empty() {
            // Who asked gets these fields; nobody after it may have them unasked (RFC 9111 §5.2.2.4).
            if let Some(own) = own {
                let mut answer = Response::new(Body::from(body.clone()));
                *answer.status_mut() = head.status;
                answer.headers_mut().clone_from(&head.headers);
                drop(own.send((answer, Unshareable::NoCache)));
            }
            for name in &control.no_cache_fields {
                head.headers.remove(name);
            }
        }
        let examined = examine(job, head.status, &head.headers, &body, once.is_none()).await;
        if !examined.is_readable {
            // What it shows cannot be known, so no purge could find it.
            once.get_or_insert(ShareOnce::Untaggable);
        }
        let tag_fields = surrogate::fields(&job.rule, &examined.tags, examined.is_readable);
        let (tags, collapsed) = examined.tags.finish(TAGS_MAX);
        self.metrics.tags_collapsed(&job.rule, collapsed);
        let seen = self.purges.judge(&tags, began.as_of);
        let key = job.stored_under(&head.headers);
        let has_validator = [header::ETAG, header::LAST_MODIFIED].iter().any(|name| head.headers.contains_key(name));
        let is_worth_asking_about = job.rule.policy == Policy::Origin && has_validator;
        if !lifetime.is_useful(now) && !is_worth_asking_about {
            once.get_or_insert(ShareOnce::NoLifetime);
        }
        let lasts = once.is_none() && !is_failure;
        let compression = self.encoder.compression();
        let is_encodable = lasts && compression.suits(&job.rule, head.status, &head.headers, &control, body.len());
        let own_etag = examined.own_etag.filter(|_| lasts);
        let has_own_etag = own_etag.is_some();
        head.headers.extend(own_etag.map(|etag| (header::ETAG, etag)));
        let length = exchange::content_length(head.status, &body);
        let entry = Arc::new(Entry {
            key: key.text().into(),
            status: head.status,
            fields: exchange::stored_fields(&job.rule, head.headers, length, tag_fields, now, lasts, is_encodable),
            body,
            tags,
            lifetime,
            as_of: began.as_of,
            began: began.at,
            is_own: true,
            has_own_etag,
            is_encodable,
            seen,
            forms: examined.same.filter(|_| is_encodable).map(|same| same.forms.carried()).unwrap_or_default(),
        });
        if is_failure {
            let own = storable::alone(&job.rule, &job.forwarded, &control, false);
            return self.failed(job, began.as_of, head.status, ORIGIN_STATUS, Some(entry), own);
        }
        match once {
            Some(why) => self.share_once(job, entry, head.status, why, &control),
            None => self.store(job, entry, head.status, &control),
        }
    }

    /// A 304: the body stands, as of when it was asked about, not later. What is judged is the head that the update
    /// makes of both (RFC 9111 §3.2): the 304's alone lacks what was stored, and says of its own body what is left out.
    fn renew(&self, job: &Job, began: Began, previous: &Entry, head: http::response::Parts) -> Landed {
        let now = self.clock.now();
        let fresh = &head.headers;
        let stored = previous.fields.to_map();
        let tag_fields = surrogate::kept(&job.rule, &stored);
        let mut headers = exchange::renewed_headers(&job.rule, &stored, fresh);
        let words = exchange::origin_words(&job.rule, &headers, fresh);
        let control = control(&job.rule, &words);
        let status = previous.status;
        // What a 304 leaves out stands as it was stored: the origin's old word may be gone, but the times that
        // followed from it are known.
        let is_word_gone = job.rule.policy == Policy::Origin && job.rule.cache_control.is_some();
        let stands = is_word_gone && !exchange::tells_lifetime(&words, fresh);
        let once = match storable::admit(&job.rule, &job.forwarded, status, &headers, &control) {
            Admission::ShareOnce(ShareOnce::NoLifetime) if stands => None,
            // What was for all has become somebody's own. A 304 has no body to give: each asks for itself.
            Admission::Own(why) => return self.unshareable(job, began.as_of, why, head, None, None),
            Admission::ShareOnce(why) => Some(why),
            Admission::Store => None,
        };
        for name in &control.no_cache_fields {
            headers.remove(name);
        }
        let suits = |length| self.encoder.compression().suits(&job.rule, status, &headers, &control, length);
        let is_encodable = previous.is_encodable && suits(previous.body.len());
        let length = exchange::content_length(status, &previous.body);
        let exchanged = Exchanged { asked: began.at, answered: now };
        let lifetime = if stands {
            previous.lifetime.renewed(now.before(lifetime::corrected_age(&words, exchanged)))
        } else {
            let stretch = self.stretch(&job.key, began);
            lifetime::lifetime(&job.rule, status, &words, &control, exchanged, stretch)
        };
        let entry = Arc::new(Entry {
            key: job.stored_under(&headers).text().into(),
            status,
            lifetime,
            fields: exchange::stored_fields(&job.rule, headers, length, tag_fields, now, once.is_none(), is_encodable),
            body: previous.body.clone(),
            tags: previous.tags.clone(),
            as_of: began.as_of,
            began: began.at,
            is_own: true,
            has_own_etag: previous.has_own_etag,
            is_encodable,
            seen: self.purges.judge(&previous.tags, began.as_of),
            forms: if is_encodable { previous.forms.carried() } else { Forms::default() },
        });
        match once {
            Some(why) => self.share_once(job, entry, StatusCode::NOT_MODIFIED, why, &control),
            None => self.store(job, entry, StatusCode::NOT_MODIFIED, &control),
        }
    }

    /// Gives an answer to those who wait for it, and to nobody after them.
    fn share_once(
        &self,
        job: &Job,
        entry: Arc<Entry>,
        fill_status: StatusCode,
        why: ShareOnce,
        control: &CacheControl,
    ) -> Landed {
        self.metrics.not_stored(why.as_str());
        // What was stored before is no longer what the origin says.
        self.remove(&job.key);
        let own = storable::alone(&job.rule, &job.forwarded, control, false);
        Landed::Entry { entry, source: Source::Origin(fill_status), stored: false, own }
    }

    /// Stores an answer. One that a purge overtook is stored as what it is: stale, or good only for
    /// when the origin fails; never as fresh.
    fn store(&self, job: &Job, entry: Arc<Entry>, fill_status: StatusCode, control: &CacheControl) -> Landed {
        let source = Source::Origin(fill_status);
        let is_reusable = entry.lifetime.needs_no_word(self.clock.now());
        let own = storable::alone(&job.rule, &job.forwarded, control, is_reusable);
        if self.purges.check(&entry) == Purged::Deleted {
            self.remove(&job.key);
            return Landed::Entry { entry, source, stored: false, own };
        }
        self.keep(job, &entry);
        Landed::Entry { entry, source, stored: true, own }
    }

    /// Puts an entry where the next request that selects it finds it.
    pub(super) fn keep(&self, job: &Job, entry: &Arc<Entry>) {
        let slot = Slot::Entry(Arc::clone(entry));
        let names = Key::selecting(&entry.key);
        if names.is_empty() {
            self.l1.put(&job.primary, slot);
        } else {
            self.l1.put_variant(&job.primary, &names, &entry.key, slot);
        }
    }

    /// Whether something stored before may serve in place of an error.
    fn has_better(&self, job: &Job, now: Timestamp) -> bool {
        job.previous.as_ref().is_some_and(|previous| self.usable_on_error(previous, now))
    }

    /// What a TTL is multiplied by: told by the key and the moment, so that what nodes fill together
    /// does not expire together.
    fn stretch(&self, key: &Key, began: Began) -> f64 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&key.hash().as_u128().to_be_bytes());
        hasher.update(&began.at.as_millis().to_be_bytes());
        let hash = hasher.finalize();
        let [a, b, ..] = hash.as_bytes();
        let spread = f64::from(u16::from_be_bytes([*a, *b])) / f64::from(u16::MAX) * 2.0 - 1.0;
        1.0 + self.settings.jitter * spread
    }

    /// Whether a body with this end may be stored, as far as its head tells.
    fn fits(&self, framing: Framing) -> bool {
        match framing {
            Framing::UntilClose => false,
            Framing::ContentLength(length) => length <= self.settings.object_max as u64,
            Framing::None | Framing::Chunked => true,
        }
    }
}

/// What an answer says of its storing, as far as the rule lets it.
fn control(rule: &Rule, headers: &HeaderMap) -> CacheControl {
    match rule.policy {
        Policy::Origin => CacheControl::effective(headers),
        Policy::Override | Policy::Pass => CacheControl::strictest(headers),
    }
}

/// What a body was found to be.
struct Examined {
    tags: Tags,
    /// Whether it could be searched for tags.
    is_readable: bool,
    /// A tag of our own, for what the origin gave none.
    own_etag: Option<HeaderValue>,
    /// The entry before it, where its bytes are the same: what was made of them stands.
    same: Option<Arc<Entry>>,
}

/// Looks through an answer. Where it is not to be stored its body is not looked at.
async fn examine(job: &Job, status: StatusCode, headers: &HeaderMap, body: &Bytes, is_searched: bool) -> Examined {
    let view = job.key.view().expect("a key that a request was given can be read");
    let mut tags = Tags::new();
    tags.add_request(&job.rule, &view);
    tags.add_headers(&job.rule, headers);
    if !is_searched {
        return Examined { tags, is_readable: true, own_etag: None, same: None };
    }
    // What conditions are for (RFC 9110 §13.2.1).
    let is_tagged = status == StatusCode::OK && !headers.contains_key(header::ETAG);
    let (rule, body, previous) = (Arc::clone(&job.rule), body.clone(), job.previous.clone());
    Tasks::compute(body.len(), move || Examined {
        is_readable: tags.add_body(&rule, &body).is_ok(),
        tags,
        own_etag: is_tagged.then(|| etag::of_body(&body)),
        same: previous.filter(|previous| previous.body == body),
    })
    .await
}
