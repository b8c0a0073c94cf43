//! Life of a request, from top to bottom.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use tokio::time::Instant;

use super::accept::{Answer, Handler, Peer};
use super::body::RequestBody;
use super::forward::{self, Forward};
use super::log::{Noted, RequestLog};
use super::respond::{self, Asks, Fwd, Said};
use crate::body::Body;
use crate::clock::Clock;
use crate::fill::{Failure, Fill, Filled, Landed, Source};
use crate::invalidate::Invalidator;
use crate::metrics::Metrics;
use crate::origin::OriginError;
use crate::policy::classify::{self, PassReason, Plan};
use crate::policy::encoding::Accepted;
use crate::policy::entry::Entry;
use crate::policy::forms::{Choice, Form};
use crate::policy::freshness::{ExpiredReason, StaleReason, Verdict};
use crate::policy::invalidation;
use crate::policy::key::{self, Key, KeyHash};
use crate::policy::outcome::Outcome;
use crate::policy::plain::PlainHead;
use crate::policy::position;
use crate::policy::purge::{Mode, Purge, PurgeSeq};
use crate::policy::refusal::Refusal;
use crate::policy::route::{Policy, Routes, Rule};
use crate::store::l1::{BackOff, Slot};
use crate::tasks::Tasks;

/// How long a request waits for this node to come as far as its client: a purge reaches every node in milliseconds.
const POSITION_WAIT: Duration = Duration::from_millis(250);

/// Answers the requests of one listener.
#[derive(Debug)]
pub struct Server {
    /// The routes.
    pub routes: Routes,
    /// Fills, and what was filled.
    pub fill: Arc<Fill>,
    /// Orders the purges of unsafe requests.
    pub invalidator: Arc<Invalidator>,
    /// The way to the origin for what passes.
    pub forward: Forward,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// One line a request, or a sample.
    pub log: RequestLog,
}

impl Handler for Server {
    /// Answers one request whose head has been admitted. A fresh entry in L1 is the answer at once.
    fn handle(
        self: &Arc<Self>,
        request: Request<RequestBody>,
        peer: Peer,
    ) -> Answer<impl Future<Output = Response<Body>> + Send + use<>> {
        let began = Instant::now();
        let noted = self.log.note(request.method(), request.uri().path());
        let plan = {
            let (uri, headers) = (request.uri(), request.headers());
            let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
            classify::classify(&self.routes, request.method(), uri.path(), uri.query(), host, headers)
        };
        let position = self.invalidator.positions.of(request.headers());
        if let Plan::Cache(rule, key) = &plan
            && position.is_none_or(|seq| self.fill.has_applied(seq))
            && let Some((said, response)) = self.hit(rule, &Asks::of(rule, &request), key)
        {
            return Answer::Now(self.finish(Some(rule), &said, response, noted, began));
        }
        let plan = plan.owned();
        let waits = Waits { server: Arc::clone(self), rule: plan.rule().cloned(), noted, began, is_answered: false };
        Answer::Later(async move {
            let server = &waits.server;
            let (said, response) = match plan {
                Plan::Cache(rule, key) if position.is_none() => server.cached(&rule, &key, request, peer).await,
                Plan::Cache(rule, key) => server.no_older(&rule, &key, position, request, peer).await,
                Plan::Pass(rule, why) => server.pass(rule.as_ref(), request, peer, why).await,
                Plan::Refuse(_, why) => {
                    server.metrics.rejected(why.as_str());
                    let said = Said::new(Outcome::Refused).because(why.as_str());
                    (said, respond::plain(StatusCode::BAD_REQUEST, respond::refusal_text(why)))
                }
            };
            waits.answered(&said, response)
        })
    }

    /// Counts and logs a request that was refused before it came here.
    fn refused(&self, method: &Method, path: &str, refusal: Refusal) {
        // That took no time to speak of.
        let took = Duration::ZERO;
        let said = Said::new(Outcome::Refused).because(refusal.reason());
        self.metrics.answered(None, said.outcome, took);
        self.log.write(self.log.note(method, path), None, &said, refusal.status(), took);
    }

    /// The same as `hit`, in bytes: what is not a fresh entry for a plain request goes the
    /// general way.
    fn ready(&self, request: &PlainHead<'_>, began: Instant, head: &mut Vec<u8>) -> Option<Bytes> {
        let rule = self.routes.find(request.path).filter(|rule| rule.get && rule.policy != Policy::Pass)?;
        if (rule.cors.is_some() && request.has("origin")) || request.has(position::FIELD.as_str()) {
            return None;
        }
        let found = key::with_plain(rule, request, |key| self.fill.look_up(key)).ok()?;
        let Some(Slot::Entry(entry)) = found else { return None };
        let now = self.clock.at(began.into_std());
        if self.fill.judge(&entry, now) != Verdict::Fresh {
            return None;
        }
        let accepted = self.fill.encoder().accepted(&entry, || Accepted::parse(request.values("accept-encoding")));
        self.fill.hot().answered(rule, &entry, now);
        let form = self.choose(&entry, &accepted, Outcome::Hit).form;
        let said = Said::new(Outcome::Hit).with_entry(&entry, now);
        respond::head(&entry, form, &said, now, head);
        let took = began.elapsed();
        self.metrics.answered(Some(rule), said.outcome, took);
        let noted = self.log.note(&Method::GET, request.path);
        self.log.write(noted, Some(rule), &said, entry.status, took);
        self.count_saved(&entry, form);
        Some(form.map_or(&entry.body, |form| &form.body).clone())
    }
}

impl Server {
    /// Counts and logs an answer, and says in it what became of the request.
    fn finish(
        &self,
        rule: Option<&Rule>,
        said: &Said,
        response: Response<Body>,
        noted: Option<Noted>,
        began: Instant,
    ) -> Response<Body> {
        let took = began.elapsed();
        self.metrics.answered(rule, said.outcome, took);
        let response = respond::finish(response, said);
        self.log.write(noted, rule, said, response.status(), took);
        response
    }

    /// The common case: no I/O, no wait, no copy of the body.
    fn hit(&self, rule: &Arc<Rule>, asks: &Asks<'_>, key: &Key) -> Option<(Said, Response<Body>)> {
        let (_, Some(Slot::Entry(entry))) = self.fill.find(rule, key, asks.headers) else { return None };
        let fresh = self.fill.judge(&entry, self.clock.now()) == Verdict::Fresh;
        fresh.then(|| self.serve(asks, &entry, Said::new(Outcome::Hit)))
    }

    /// A request that may be answered from the cache.
    async fn cached(
        self: &Arc<Self>,
        rule: &Arc<Rule>,
        key: &Key,
        request: Request<RequestBody>,
        peer: Peer,
    ) -> (Said, Response<Body>) {
        let now = self.clock.now();
        let asks = Asks::of(rule, &request);
        let mut expired = None;
        let (wanted, slot) = self.fill.find(rule, key, asks.headers);
        let previous = match slot {
            Some(Slot::Entry(entry)) => match self.fill.judge(&entry, now) {
                Verdict::Fresh => return self.serve(&asks, &entry, Said::new(Outcome::Hit)),
                verdict @ Verdict::Due => {
                    self.fill.refresh_behind(&wanted, &entry, verdict);
                    return self.serve(&asks, &entry, Said::new(Outcome::Hit));
                }
                verdict @ Verdict::Stale(_) => {
                    self.fill.refresh_behind(&wanted, &entry, verdict);
                    return self.serve(&asks, &entry, Said::new(Outcome::Stale));
                }
                Verdict::Expired(why) => {
                    expired = Some(why);
                    Some(entry)
                }
            },
            // The origin failed a moment ago: what was stored before serves as long as it may.
            Some(Slot::Failed(failed)) => {
                let BackOff { until, as_of, ref failure, ref previous, .. } = *failed;
                // A purge after the origin was asked: nobody can say that it still fails for that.
                let is_answered = !previous.as_ref().is_some_and(|entry| self.fill.purged_since(entry, as_of));
                let backs_off = is_answered && now < until;
                // When the back-off is over one request tries again, and may wait long for a dead origin;
                // the others need not wait with it for what they would be served in the end.
                let tries_again =
                    is_answered && !backs_off && failed.is_retried_at_once(now) && self.fill.is_flying(&wanted);
                let verdict = previous.as_ref().map(|entry| (entry, self.fill.judge(entry, now)));
                match verdict {
                    Some((entry, Verdict::Fresh | Verdict::Due | Verdict::Stale(_))) => {
                        if !backs_off {
                            self.fill.refresh_behind(&wanted, entry, Verdict::Stale(StaleReason::Ttl));
                        }
                        return self.serve(&asks, entry, Said::new(Outcome::Stale).failed(failure));
                    }
                    Some((entry, Verdict::Expired(_)))
                        if (backs_off || tries_again) && self.fill.usable_on_error(entry, now) =>
                    {
                        return self.serve(&asks, entry, Said::new(Outcome::StaleError).failed(failure));
                    }
                    _ if backs_off => return self.failed(&asks, failure, None),
                    _ => previous.clone(),
                }
            }
            Some(Slot::PassMarker { until, .. }) if now < until => {
                return self.pass(Some(rule), request, peer, PassReason::Marker).await;
            }
            Some(Slot::PassMarker { .. } | Slot::Varies(_)) | None => None,
        };
        let fwd = match (&previous, wanted.is_variant()) {
            (Some(_), _) => Fwd::Stale,
            (None, true) => Fwd::VaryMiss,
            (None, false) => Fwd::UriMiss,
        };
        let hash = wanted.hash();
        match self.fill.once(wanted.clone(), previous, &peer.interim).await {
            Filled::Landed { landed: Landed::Entry { entry, source, stored, .. }, collapsed } => {
                let said = Said::filled(source, fwd, stored, collapsed).with_key(KeyHash::of(&entry.key));
                let verdict = self.fill.judge(&entry, self.clock.now());
                let said = if self.fill.is_purged(&entry) { said.overtaken() } else { said };
                let said = if expired == Some(ExpiredReason::Blind) { said.because("blind") } else { said };
                if let (Source::L2, Verdict::Stale(_)) = (source, verdict) {
                    self.fill.refresh_behind(&wanted, &entry, verdict);
                    return self.serve(&asks, &entry, Said::new(Outcome::Stale));
                }
                self.serve(&asks, &entry, said)
            }
            Filled::Landed { landed: Landed::Failed { failure, previous }, .. } => match &previous {
                Some(entry) if self.fill.usable_on_error(entry, self.clock.now()) => {
                    let said = Said::new(Outcome::StaleError).forwarded(Fwd::Stale).with_key(hash);
                    self.serve(&asks, entry, said.failed(&failure))
                }
                _ => self.failed(&asks, &failure, Some((fwd, hash))),
            },
            Filled::Landed { landed: Landed::Unshareable(_), .. } => {
                self.pass(Some(rule), request, peer, PassReason::Unshareable).await
            }
            Filled::Own(mut response, why) => {
                forward::sign(&mut response);
                // The fill did not send `Origin` where we answer it, so the origin could not.
                if let Some(cors) = &rule.cors {
                    cors.apply(request.headers().get(header::ORIGIN), response.headers_mut());
                }
                let said = Said::new(Outcome::Miss)
                    .because(why.as_str())
                    .forwarded(fwd)
                    .with_status(response.status())
                    .with_key(hash);
                (said, if asks.head { respond::without_body(response) } else { response })
            }
            Filled::Overtaken => self.pass(Some(rule), request, peer, PassReason::Overtaken).await,
        }
    }

    /// A request of a client that knows of a purge: a fresh answer that has survived it, else what the origin says.
    async fn no_older(
        self: &Arc<Self>,
        rule: &Arc<Rule>,
        key: &Key,
        position: Option<PurgeSeq>,
        request: Request<RequestBody>,
        peer: Peer,
    ) -> (Said, Response<Body>) {
        if let Some(seq) = position
            && self.fill.wait_for(seq, POSITION_WAIT).await
            && let Some(hit) = self.hit(rule, &Asks::of(rule, &request), key)
        {
            return hit;
        }
        self.pass(Some(rule), request, peer, PassReason::Position).await
    }

    fn serve(&self, asks: &Asks<'_>, entry: &Arc<Entry>, said: Said) -> (Said, Response<Body>) {
        let now = self.clock.now();
        let said = said.with_entry(entry, now);
        self.fill.hot().answered(asks.rule, entry, now);
        let accepted = self.fill.encoder().accepted(entry, || Accepted::of(asks.headers));
        let choice = self.choose(entry, &accepted, said.outcome);
        let response = respond::entry(asks, entry, &accepted, &choice, &said, now);
        if response.status() == StatusCode::OK && !asks.head {
            self.count_saved(entry, choice.form);
        }
        (said, response)
    }

    /// Chooses the form of an entry. What a hit lacks is made for the next one.
    fn choose<'e>(&self, entry: &'e Arc<Entry>, accepted: &Accepted, outcome: Outcome) -> Choice<'e> {
        let choice = entry.forms.choose(accepted);
        if let (Outcome::Hit, Some(coding)) = (outcome, choice.missing) {
            self.fill.encoder().want(entry, coding);
        }
        choice
    }

    fn count_saved(&self, entry: &Entry, form: Option<&Form>) {
        if let Some(form) = form {
            self.metrics.saved(form.coding, entry.body.len().saturating_sub(form.body.len()));
        }
    }

    /// No answer. `asked` says why the origin was asked, and for which key; in the back-off it was not.
    fn failed(&self, asks: &Asks<'_>, failure: &Failure, asked: Option<(Fwd, KeyHash)>) -> (Said, Response<Body>) {
        let said = Said::new(Outcome::Failed).failed(failure);
        let said = asked.map_or(said, |(fwd, key)| said.forwarded(fwd).with_key(key));
        match &failure.answer {
            Some(answer) => {
                let (_, response) = self.serve(asks, answer, said);
                (said, response)
            }
            None => (said, respond::plain(failure.status, respond::failure_text(failure.status))),
        }
    }

    async fn pass(
        self: &Arc<Self>,
        rule: Option<&Arc<Rule>>,
        request: Request<RequestBody>,
        peer: Peer,
        why: PassReason,
    ) -> (Said, Response<Body>) {
        self.metrics.bypassed(why);
        let fwd = if why == PassReason::Method { Fwd::Method } else { Fwd::Bypass };
        let said = Said::new(Outcome::Pass).because(why.as_str()).forwarded(fwd);
        let sent = if invalidation::is_unsafe(request.method()) {
            self.change(rule.cloned(), request, peer).await
        } else {
            self.forward.send(rule.map(|rule| &**rule), request, peer).await
        };
        match sent {
            Ok(response) => (said.with_status(response.status()), response),
            Err(error) => {
                let said = Said::new(Outcome::Failed).because(error.reason()).forwarded(fwd);
                if error.is_client_fault() {
                    self.metrics.rejected(error.reason());
                }
                (said, respond::plain(error.status(), respond::failure_text(error.status())))
            }
        }
    }
}

/// A request that waits for its answer. Dropped before, it is counted and logged all the same: a client
/// that leaves takes the request's future with it.
struct Waits {
    server: Arc<Server>,
    rule: Option<Arc<Rule>>,
    noted: Option<Noted>,
    began: Instant,
    is_answered: bool,
}

impl Waits {
    fn answered(mut self, said: &Said, response: Response<Body>) -> Response<Body> {
        self.is_answered = true;
        self.server.finish(self.rule.as_deref(), said, response, self.noted.take(), self.began)
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        if !self.is_answered {
            let took = self.began.elapsed();
            self.server.metrics.answered(self.rule.as_deref(), Outcome::Unanswered, took);
            RequestLog::write_unanswered(self.noted.take(), self.rule.as_deref(), took);
        }
    }
}

impl Server {
    /// Sends a request that may change what the origin would say. It goes on when its client leaves: the origin may
    /// have done by then what was asked, and only its answer tells what to forget. Its time is bounded by the
    /// origin's limits, its number by the places there.
    async fn change(
        self: &Arc<Self>,
        rule: Option<Arc<Rule>>,
        request: Request<RequestBody>,
        peer: Peer,
    ) -> Result<Response<Body>, OriginError> {
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
        let (path, host) = (request.uri().path().to_owned(), host.to_owned());
        let server = Arc::clone(self);
        let changed = async move {
            let response = server.forward.send(rule.as_deref(), request, peer).await?;
            // The origin writes the name that it was asked for, which is not the client's.
            let own = server.forward.host.to_str().unwrap_or("");
            let paths = invalidation::invalidated(&path, &[&host, own], response.status(), response.headers());
            server.invalidate(paths).await;
            Ok(response)
        };
        let tasks = &self.forward.tasks;
        let stopping = tasks.stopping().clone();
        let task = tasks.spawn(async move {
            tokio::select! {
                // What is done counts, however late.
                biased;
                changed = changed => changed,
                () = stopping.cancelled() => Err(OriginError::TotalTimeout),
            }
        });
        Tasks::outcome(task).await
    }

    /// Forgets what an unsafe request may have changed, here and, through the log, in every node. The client
    /// has its answer when that is done, so that what it reads next is no older.
    async fn invalidate(&self, paths: Vec<String>) {
        let is_cached = |path: &String| self.routes.find(path).is_some_and(|rule| rule.policy != Policy::Pass);
        let tags: Vec<_> = paths.iter().filter(|path| is_cached(path)).map(|path| format!("path:{path}")).collect();
        if tags.is_empty() {
            return;
        }
        let tags = tags.into_iter().map(|tag| (tag, Mode::Hard)).collect();
        let purge = Purge { tags, source: "unsafe_method".into(), ..Purge::default() };
        if let Err(error) = self.invalidator.purge(purge).await {
            tracing::warn!(%error, "an unsafe request's purge is not acknowledged");
        }
    }
}
