//! Every metric, declared once: name, help, unit, labels. Labels come from closed sets (routes of the
//! configuration, words of our enums), so an attacker's bytes never become one.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use crate::origin::OriginError;
use crate::policy::classify::PassReason;
use crate::policy::encoding::{Coding, Encoded};
use crate::policy::outcome::Outcome;
use crate::policy::purge::Mode;
use crate::policy::refusal::Refusal;
use crate::policy::route::Rule;
use crate::policy::storable::{ShareOnce, Unshareable};
use crate::policy::time::Timestamp;
use crate::store::StoreError;

/// From 10 µs (a hit) to 30 s (a fill's deadline), in seconds.
const BUCKETS: [f64; 20] = [
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
    0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];
/// The label of requests that no route matched.
const NO_ROUTE: &str = "none";

/// All metrics of a node. Passed in, never global, so that two nodes fit in one test.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// By route (the last is "none"), then by outcome.
    requests: Vec<[IntCounter; Outcome::ALL.len()]>,
    durations: [Histogram; Outcome::ALL.len()],
    bypass: [IntCounter; PassReason::ALL.len()],
    rejected: IntCounterVec,
    origin_seconds: Vec<Histogram>,
    origin_answers: IntCounterVec,
    not_stored: IntCounterVec,
    l2_reads: IntCounterVec,
    l2_writes: IntCounterVec,
    pub(crate) l2_writes_under_way: IntGauge,
    tags_collapsed: Vec<IntCounter>,
    encodings: IntCounterVec,
    /// By coding.
    bytes_saved: [IntCounter; Coding::ALL.len()],
    purges: IntCounterVec,
    webhooks: IntCounterVec,
    connection_ends: IntCounterVec,
    purge_orders: IntCounterVec,
    pub(crate) overtaken: IntCounter,
    pub(crate) refreshes: IntCounter,
    pub(crate) log_garbage: IntCounter,
    pub(crate) log_lost: IntCounter,
    pub(crate) journal_replayed: IntCounter,
    pub(crate) echoes: IntCounter,
    leases: IntCounterVec,
    pub(crate) connections: IntGauge,
    pub(crate) connections_total: IntCounter,
    pub(crate) log_connected: IntGauge,
    downstream_requests: IntCounterVec,
    downstream_everything: IntCounterVec,
    downstream_failures: IntGaugeVec,
    pub(crate) feed_clients: IntGauge,
    pub(crate) feed_events: IntCounter,
    pub(crate) feed_dropped: IntCounter,
    gauges: Gauges,
}

/// Figures that are read when they are asked for.
#[derive(Debug)]
struct Gauges {
    ready: IntGauge,
    l1_entries: IntGauge,
    l1_bytes: IntGauge,
    bytes_in_flight: IntGauge,
    flights: IntGauge,
    followers: IntGauge,
    purge_marks: IntGauge,
    journaled: IntGauge,
    blind: IntGauge,
    log_evictable: IntGauge,
    origin_connections: IntGaugeVec,
    log_lag_ms: prometheus::Gauge,
    uptime: prometheus::Gauge,
}

/// The figures that are read when they are asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Readings {
    /// Whether the node may be sent requests.
    pub ready: bool,
    /// Entries in L1.
    pub l1_entries: u64,
    /// Bytes in L1.
    pub l1_bytes: u64,
    /// Bytes of bodies that fills hold and have not stored yet.
    pub bytes_in_flight: usize,
    /// Fills under way.
    pub flights: usize,
    /// Requests waiting for another's fill.
    pub followers: usize,
    /// Purged tags remembered.
    pub purge_marks: usize,
    /// Purges that stand in the journal alone.
    pub journaled: u64,
    /// The node is cut off from the purge log for too long.
    pub is_blind: bool,
    /// Redis could evict the purge log.
    pub log_evictable: bool,
    /// Connections to the origin: open, idle, and requests waiting for one.
    pub origin: [u64; 3],
    /// Since the follower last heard from the log.
    pub log_silence: Duration,
    /// Since start.
    pub uptime: Duration,
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    register(registry, IntCounter::new(name, help))
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(registry, IntCounterVec::new(Opts::new(name, help), labels))
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    register(registry, IntGauge::new(name, help))
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, metric: prometheus::Result<C>) -> C {
    let metric = metric.expect("names and labels are constants of this file");
    registry.register(Box::new(metric.clone())).expect("each name is declared once, in this file");
    metric
}

impl Metrics {
    /// Declares all metrics for the routes of a configuration.
    pub fn new(rules: &[Arc<Rule>]) -> Arc<Self> {
        let registry = Registry::new();
        let routes: Vec<&str> = rules.iter().map(|rule| &*rule.name).chain([NO_ROUTE]).collect();
        let requests = counters(
            &registry,
            "endcap_requests_total",
            "Requests, by route and by what became of them.",
            &["route", "outcome"],
        );
        let durations = register(
            &registry,
            HistogramVec::new(
                HistogramOpts::new(
                    "endcap_request_duration_seconds",
                    "From the head of a request to the head of its answer, or to its end without one, by what became of it.",
                )
                .buckets(BUCKETS.to_vec()),
                &["outcome"],
            ),
        );
        let bypass = counters(
            &registry,
            "endcap_bypass_total",
            "Requests passed through to the origin, by the reason why they were not answered from the cache.",
            &["reason"],
        );
        let origin_seconds = register(
            &registry,
            HistogramVec::new(
                HistogramOpts::new(
                    "endcap_origin_duration_seconds",
                    "From a fill's request to the head of the origin's answer, by route.",
                )
                .buckets(BUCKETS[6..].to_vec()),
                &["route"],
            ),
        );
        let tags_collapsed = counters(
            &registry,
            "endcap_tags_collapsed_total",
            "Tags beyond an entry's bound that were replaced by the coarse tag of their kind, by route.",
            &["route"],
        );
        let bytes_saved = counters(
            &registry,
            "endcap_bytes_saved_total",
            "Bytes of bodies that were not sent because the client took them encoded, by encoding.",
            &["encoding"],
        );
        let leases = counters(
            &registry,
            "endcap_leases_total",
            "Fills by how they came to the origin: leads for all nodes, served by another node, or alone \
             (in vain, after a timeout or an error of the shared tier).",
            &["turn"],
        );
        let build = register(
            &registry,
            IntGaugeVec::new(Opts::new("endcap_build_info", "Always 1; the version is the label."), &["version"]),
        );
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let by_outcome =
            |route: &str| Outcome::ALL.map(|outcome| requests.with_label_values(&[route, outcome.as_str()]));
        let metrics = Self {
            requests: routes.iter().map(|route| by_outcome(route)).collect(),
            durations: Outcome::ALL.map(|outcome| durations.with_label_values(&[outcome.as_str()])),
            bypass: PassReason::ALL.map(|reason| bypass.with_label_values(&[reason.as_str()])),
            origin_seconds: routes.iter().map(|route| origin_seconds.with_label_values(&[route])).collect(),
            tags_collapsed: routes.iter().map(|route| tags_collapsed.with_label_values(&[route])).collect(),
            bytes_saved: Coding::ALL.map(|coding| bytes_saved.with_label_values(&[coding.as_str()])),
            encodings: counters(
                &registry,
                "endcap_encodings_total",
                "Bodies that were to be encoded: made, vain (hardly smaller), dropped (too many waited), gone \
                 (replaced or evicted meanwhile) or failed.",
                &["encoding", "result"],
            ),
            rejected: counters(
                &registry,
                "endcap_rejected_requests_total",
                "Requests refused before they were looked at further, by reason.",
                &["reason"],
            ),
            origin_answers: counters(
                &registry,
                "endcap_origin_answers_total",
                "Answers of the origin to fills: the status class, or the reason why there was none.",
                &["answer"],
            ),
            not_stored: counters(
                &registry,
                "endcap_not_stored_total",
                "Answers to fills that were not stored, by reason.",
                &["reason"],
            ),
            l2_reads: counters(
                &registry,
                "endcap_l2_reads_total",
                "Reads of the shared tier: hit, or the reason why it was a miss.",
                &["result"],
            ),
            l2_writes: counters(
                &registry,
                "endcap_l2_writes_total",
                "Writes to the shared tier: ok, or the reason why it failed.",
                &["result"],
            ),
            l2_writes_under_way: gauge(
                &registry,
                "endcap_l2_writes_under_way",
                "Entries that were answered with and are still on their way to the shared tier.",
            ),
            purges: counters(
                &registry,
                "endcap_purged_tags_total",
                "Tags purged by this node's follower of the log, by mode.",
                &["mode"],
            ),
            webhooks: counters(
                &registry,
                "endcap_webhooks_total",
                "Webhook deliveries: accepted, duplicate, unknown_event, or the reason of their rejection.",
                &["result"],
            ),
            connection_ends: counters(
                &registry,
                "endcap_connection_ends_total",
                "Client connections that ended, by what ended them.",
                &["end"],
            ),
            purge_orders: counters(
                &registry,
                "endcap_purge_orders_total",
                "Orders to purge, from webhooks and operators: acknowledged, or why not.",
                &["result"],
            ),
            overtaken: counter(
                &registry,
                "endcap_flights_overtaken_total",
                "Waits for another's fill whose result a purge had overtaken; the request joined again.",
            ),
            refreshes: counter(&registry, "endcap_refreshes_total", "Refreshes behind a stale answer that began."),
            log_garbage: counter(
                &registry,
                "endcap_log_unreadable_total",
                "Lines of the purge log that could not be read and were skipped.",
            ),
            log_lost: counter(
                &registry,
                "endcap_log_lost_total",
                "Times the purge log was found to have lost lines; all nodes then refill what is older.",
            ),
            journal_replayed: counter(
                &registry,
                "endcap_journal_replayed_total",
                "Purges that went from the journal into the purge log.",
            ),
            echoes: counter(
                &registry,
                "endcap_echoes_total",
                "Entries asked for once more because they had been filled soon after a purge of theirs.",
            ),
            leases,
            connections: gauge(&registry, "endcap_connections", "Client connections open now."),
            connections_total: counter(&registry, "endcap_connections_total", "Client connections accepted."),
            log_connected: gauge(&registry, "endcap_log_connected", "1 while this node follows the purge log."),
            downstream_requests: counters(
                &registry,
                "endcap_downstream_requests_total",
                "Requests of this node to those who are told of purges: done, to be made again later, or refused.",
                &["target", "result"],
            ),
            downstream_everything: counters(
                &registry,
                "endcap_downstream_everything_total",
                "Times that a target had to purge everything, because it was new or the log lacked what it missed.",
                &["target"],
            ),
            downstream_failures: register(
                &registry,
                IntGaugeVec::new(
                    Opts::new(
                        "endcap_downstream_failures",
                        "Failures in a row of a target, as of when this node last told it of purges.",
                    ),
                    &["target"],
                ),
            ),
            feed_clients: gauge(&registry, "endcap_feed_clients", "Clients of /events connected now."),
            feed_events: counter(
                &registry,
                "endcap_feed_events_total",
                "Events of the purge log that this node has handed on to its clients of /events.",
            ),
            feed_dropped: counter(
                &registry,
                "endcap_feed_dropped_total",
                "Clients of /events that were let go because they did not keep up.",
            ),
            gauges: Gauges {
                ready: gauge(
                    &registry,
                    "endcap_ready",
                    "1 when this node has caught up with the purge log, until it begins to stop.",
                ),
                l1_entries: gauge(&registry, "endcap_l1_entries", "Keys known to L1."),
                l1_bytes: gauge(&registry, "endcap_l1_bytes", "Bytes that L1 holds, bookkeeping included."),
                bytes_in_flight: gauge(
                    &registry,
                    "endcap_in_flight_bytes",
                    "Bytes of bodies that fills hold and have not stored yet; memory.in_flight bounds them.",
                ),
                flights: gauge(&registry, "endcap_flights", "Fills under way."),
                followers: gauge(&registry, "endcap_followers", "Requests that wait for another request's fill."),
                purge_marks: gauge(&registry, "endcap_purge_marks", "Purged tags that are remembered one by one."),
                journaled: gauge(&registry, "endcap_journaled_purges", "Purges in the journal that wait for the log."),
                blind: gauge(
                    &registry,
                    "endcap_blind",
                    "1 while this node has not confirmed for max_blind that it knows of all purges.",
                ),
                log_evictable: gauge(
                    &registry,
                    "endcap_log_evictable",
                    "1 while Redis has a maxmemory-policy that could evict the purge log.",
                ),
                origin_connections: register(
                    &registry,
                    IntGaugeVec::new(
                        Opts::new(
                            "endcap_origin_connections",
                            "Connections to the origin that are open or idle, and requests waiting for one.",
                        ),
                        &["state"],
                    ),
                ),
                log_lag_ms: register(
                    &registry,
                    prometheus::Gauge::new(
                        "endcap_log_silence_seconds",
                        "Time since the follower of the purge log last had an answer.",
                    ),
                ),
                uptime: register(&registry, prometheus::Gauge::new("endcap_uptime_seconds", "Time since start.")),
            },
            registry,
        };
        metrics.declare();
        Arc::new(metrics)
    }

    /// Makes every label's counter, so that the first event is an increase from zero and no new series.
    fn declare(&self) {
        let refusals = Refusal::ALL.map(Refusal::reason);
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
        for reason in refusals.into_iter().chain(others) {
            self.rejected.with_label_values(&[reason]);
        }
        for why in Unshareable::ALL.map(Unshareable::as_str).into_iter().chain(ShareOnce::ALL.map(ShareOnce::as_str)) {
            self.not_stored.with_label_values(&[why]);
        }
        for answer in ["2xx", "3xx", "4xx", "5xx"].into_iter().chain(OriginError::REASONS) {
            self.origin_answers.with_label_values(&[answer]);
        }
        let failures = StoreError::REASONS;
        for result in [
            "hit",
            "l2_absent",
            "l2_corrupt",
            "l2_version",
            "l2_foreign",
            "l2_size",
            "l2_rule",
            "l2_unready",
            "l2_in_flight",
        ]
        .into_iter()
        .chain(failures)
        {
            self.l2_reads.with_label_values(&[result]);
        }
        for result in ["ok"].into_iter().chain(failures) {
            self.l2_writes.with_label_values(&[result]);
        }
        for coding in Coding::ALL {
            for result in Encoded::ALL {
                self.encodings.with_label_values(&[coding.as_str(), result.as_str()]);
            }
        }
        for turn in ["leads", "served", "vain", "timeout", "error"] {
            self.leases.with_label_values(&[turn]);
        }
        for mode in Mode::ALL {
            self.purges.with_label_values(&[mode.as_str()]);
        }
        for result in [
            "accepted",
            "duplicate",
            "replayed",
            "unknown_event",
            "unknown_source",
            "forged_header",
            "forged_signature",
            "forged_timestamp",
            "too_large",
            "malformed",
            "incomplete",
            "invalid",
            "not_durable",
        ] {
            self.webhooks.with_label_values(&[result]);
        }
        for result in ["acknowledged", "journaled", "invalid", "not_logged", "not_journaled", "not_applied"] {
            self.purge_orders.with_label_values(&[result]);
        }
    }

    fn route(&self, rule: Option<&Rule>) -> usize {
        rule.map_or(self.requests.len() - 1, |rule| rule.index)
    }

    /// A request was answered, or ended without an answer.
    pub fn answered(&self, rule: Option<&Rule>, outcome: Outcome, took: Duration) {
        self.requests[self.route(rule)][outcome.index()].inc();
        self.durations[outcome.index()].observe(took.as_secs_f64());
    }

    /// A request passes to the origin.
    pub fn bypassed(&self, reason: PassReason) {
        if let Some(at) = PassReason::ALL.iter().position(|known| *known == reason) {
            self.bypass[at].inc();
        }
    }

    /// A request was refused; `reason` is a word of a closed enum.
    pub fn rejected(&self, reason: &'static str) {
        self.rejected.with_label_values(&[reason]).inc();
    }

    /// Makes the counters of what may end a connection.
    pub(crate) fn declare_ends(&self, ends: impl IntoIterator<Item = &'static str>) {
        for end in ends {
            self.connection_ends.with_label_values(&[end]);
        }
    }

    /// A client connection ended.
    pub(crate) fn connection_ended(&self, end: &'static str) {
        self.connection_ends.with_label_values(&[end]).inc();
    }

    /// A fill's request was answered, or not.
    pub(crate) fn origin_answered(
        &self,
        rule: &Rule,
        began: Timestamp,
        now: Timestamp,
        answer: Result<StatusCode, &OriginError>,
    ) {
        self.origin_seconds[rule.index].observe(now.since(began).as_secs_f64());
        let word = match answer {
            Ok(status) => match status.as_u16() / 100 {
                2 => "2xx",
                3 => "3xx",
                4 => "4xx",
                _ => "5xx",
            },
            Err(error) => error.reason(),
        };
        self.origin_answers.with_label_values(&[word]).inc();
    }

    /// A fill's answer was not stored.
    pub(crate) fn not_stored(&self, reason: &'static str) {
        self.not_stored.with_label_values(&[reason]).inc();
    }

    /// The shared tier was read.
    pub(crate) fn l2_read(&self, trouble: Option<&'static str>) {
        self.l2_reads.with_label_values(&[trouble.unwrap_or("hit")]).inc();
    }

    /// A fill took its turn among the nodes.
    pub(crate) fn leased(&self, turn: &'static str) {
        self.leases.with_label_values(&[turn]).inc();
    }

    /// The shared tier was written.
    pub(crate) fn l2_write(&self, trouble: Option<&'static str>) {
        self.l2_writes.with_label_values(&[trouble.unwrap_or("ok")]).inc();
    }

    /// A body was to be encoded.
    pub(crate) fn encoded(&self, coding: Coding, became: Encoded) {
        self.encodings.with_label_values(&[coding.as_str(), became.as_str()]).inc();
    }

    /// An encoded body was sent in place of a plain one that is so much larger.
    pub(crate) fn saved(&self, coding: Coding, bytes: usize) {
        self.bytes_saved[coding.index()].inc_by(bytes as u64);
    }

    pub(crate) fn tags_collapsed(&self, rule: &Rule, count: usize) {
        self.tags_collapsed[rule.index].inc_by(count as u64);
    }

    /// Tags were purged here.
    pub(crate) fn purged(&self, mode: Mode, tags: usize) {
        self.purges.with_label_values(&[mode.as_str()]).inc_by(tags as u64);
    }

    /// A purge was ordered.
    pub(crate) fn purge_ordered(&self, result: &'static str) {
        self.purge_orders.with_label_values(&[result]).inc();
    }

    /// A webhook was delivered.
    pub(crate) fn webhook(&self, result: &'static str) {
        self.webhooks.with_label_values(&[result]).inc();
    }

    /// A target, by its name in the configuration, was told of purges.
    pub(crate) fn downstream_told(&self, target: &str, result: &'static str) {
        self.downstream_requests.with_label_values(&[target, result]).inc();
    }

    /// A target must purge everything.
    pub(crate) fn downstream_everything(&self, target: &str) {
        self.downstream_everything.with_label_values(&[target]).inc();
    }

    /// A target has failed so often in a row.
    pub(crate) fn downstream_failures(&self, target: &str, failures: u32) {
        self.downstream_failures.with_label_values(&[target]).set(failures.into());
    }

    /// Makes the series of a target.
    pub(crate) fn declare_downstream(&self, target: &str) {
        for result in ["done", "later", "refused"] {
            self.downstream_requests.with_label_values(&[target, result]);
        }
        self.downstream_everything.with_label_values(&[target]);
        self.downstream_failures(target, 0);
    }

    /// Requests so far, by outcome, over all routes.
    pub fn totals(&self) -> [(Outcome, u64); Outcome::ALL.len()] {
        Outcome::ALL.map(|outcome| (outcome, self.requests.iter().map(|route| route[outcome.index()].get()).sum()))
    }

    /// The text format of Prometheus (version 0.0.4).
    pub fn render(&self, readings: &Readings) -> String {
        let number = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        let gauges = &self.gauges;
        gauges.ready.set(i64::from(readings.ready));
        gauges.l1_entries.set(i64::try_from(readings.l1_entries).unwrap_or(i64::MAX));
        gauges.l1_bytes.set(i64::try_from(readings.l1_bytes).unwrap_or(i64::MAX));
        gauges.bytes_in_flight.set(number(readings.bytes_in_flight));
        gauges.flights.set(number(readings.flights));
        gauges.followers.set(number(readings.followers));
        gauges.purge_marks.set(number(readings.purge_marks));
        gauges.journaled.set(i64::try_from(readings.journaled).unwrap_or(i64::MAX));
        gauges.blind.set(readings.is_blind.into());
        gauges.log_evictable.set(readings.log_evictable.into());
        for (state, value) in ["open", "idle", "waiting"].iter().zip(readings.origin) {
            gauges.origin_connections.with_label_values(&[state]).set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        gauges.log_lag_ms.set(readings.log_silence.as_secs_f64());
        gauges.uptime.set(readings.uptime.as_secs_f64());
        let mut text = String::new();
        prometheus::TextEncoder::new()
            .encode_utf8(&self.registry.gather(), &mut text)
            .expect("metrics of this file render");
        text
    }
}
