//! What becomes of requests and of the connections they come by.

use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, Registry};

use super::Metrics;
use super::registry::{BUCKETS, counter, counters, declare, durations, gauge};
use crate::policy::classify::PassReason;
use crate::policy::outcome::Outcome;
use crate::policy::refusal::Refusal;
use crate::policy::route::Rule;

/// See the module.
#[derive(Debug)]
pub(crate) struct Requests {
    /// By route (the last is for none), then by outcome.
    by_route: Vec<[IntCounter; Outcome::ALL.len()]>,
    durations: [Histogram; Outcome::ALL.len()],
    bypass: [IntCounter; PassReason::ALL.len()],
    rejected: IntCounterVec,
    connection_ends: IntCounterVec,
    pub(crate) connections: IntGauge,
    pub(crate) connections_total: IntCounter,
}

impl Requests {
    pub(super) fn new(registry: &Registry, routes: &[&str]) -> Self {
        let requests = counters(
            registry,
            "endcap_requests_total",
            "Requests, by route and by what became of them.",
            &["route", "outcome"],
        );
        let durations = durations(
            registry,
            "endcap_request_duration_seconds",
            "From the head of a request to the head of its answer, or to its end without one, by what became of it.",
            &BUCKETS,
            "outcome",
        );
        let bypass = counters(
            registry,
            "endcap_bypass_total",
            "Requests passed through to the origin, by the reason why they were not answered from the cache.",
            &["reason"],
        );
        let rejected = counters(
            registry,
            "endcap_rejected_requests_total",
            "Requests refused before they were looked at further, by reason.",
            &["reason"],
        );
        let others = [
            "query_repeated",
            "header_repeated",
            "ops_token",
            "feed_token",
            "feed_origin",
            "feed_full",
            "connections",
            "client_body",
        ];
        declare(&rejected, Refusal::ALL.map(Refusal::reason).into_iter().chain(others));
        let by_outcome =
            |route: &&str| Outcome::ALL.map(|outcome| requests.with_label_values(&[*route, outcome.as_str()]));
        Self {
            by_route: routes.iter().map(by_outcome).collect(),
            durations: Outcome::ALL.map(|outcome| durations.with_label_values(&[outcome.as_str()])),
            bypass: PassReason::ALL.map(|reason| bypass.with_label_values(&[reason.as_str()])),
            rejected,
            connection_ends: counters(
                registry,
                "endcap_connection_ends_total",
                "Client connections that ended, by what ended them.",
                &["end"],
            ),
            connections: gauge(registry, "endcap_connections", "Client connections open now."),
            connections_total: counter(registry, "endcap_connections_total", "Client connections accepted."),
        }
    }
}

impl Metrics {
    /// A request was answered, or ended without an answer.
    pub fn answered(&self, rule: Option<&Rule>, outcome: Outcome, took: Duration) {
        let Requests { by_route, durations, .. } = &self.requests;
        let route = rule.map_or(by_route.len() - 1, |rule| rule.index);
        by_route[route][outcome.index()].inc();
        durations[outcome.index()].observe(took.as_secs_f64());
    }

    /// A request passes to the origin.
    pub fn bypassed(&self, reason: PassReason) {
        if let Some(at) = PassReason::ALL.iter().position(|known| *known == reason) {
            self.requests.bypass[at].inc();
        }
    }

    /// A request was refused; `reason` is a word of a closed enum.
    pub fn rejected(&self, reason: &'static str) {
        self.requests.rejected.with_label_values(&[reason]).inc();
    }

    /// Makes the counters of what may end a connection.
    pub(crate) fn declare_ends(&self, ends: impl IntoIterator<Item = &'static str>) {
        declare(&self.requests.connection_ends, ends);
    }

    /// A client connection ended.
    pub(crate) fn connection_ended(&self, end: &'static str) {
        self.requests.connection_ends.with_label_values(&[end]).inc();
    }

    /// Requests so far, by outcome, over all routes.
    pub fn totals(&self) -> [(Outcome, u64); Outcome::ALL.len()] {
        let routes = &self.requests.by_route;
        Outcome::ALL.map(|outcome| (outcome, routes.iter().map(|route| route[outcome.index()].get()).sum()))
    }
}
