//! What fills do: at the origin, in the shared tier, and with bodies.

use http::StatusCode;
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, Registry};

use super::Metrics;
use super::registry::{BUCKETS, counter, counters, declare, durations, gauge};
use crate::origin::OriginError;
use crate::policy::canary::{Look, Missed};
use crate::policy::encoding::{Coding, Encoded};
use crate::policy::route::Rule;
use crate::policy::storable::{ShareOnce, Unshareable};
use crate::policy::time::Timestamp;
use crate::store::StoreError;

/// See the module. What is by route has the routes' order.
#[derive(Debug)]
pub(crate) struct Fills {
    origin_seconds: Vec<Histogram>,
    origin_answers: IntCounterVec,
    not_stored: IntCounterVec,
    l2_reads: IntCounterVec,
    l2_writes: IntCounterVec,
    pub(crate) l2_read_bytes: IntCounter,
    pub(crate) l2_written_bytes: IntCounter,
    pub(crate) l2_writes_under_way: IntGauge,
    pub(crate) leases: IntCounterVec,
    tags_collapsed: Vec<IntCounter>,
    /// By route and kind.
    pub(crate) stale_found: Vec<[IntCounter; Missed::ALL.len()]>,
    pub(crate) looks: [IntCounter; Look::ALL.len()],
    pub(crate) canary_skipped: IntCounter,
    encodings: IntCounterVec,
    /// By coding.
    bytes_saved: [IntCounter; Coding::ALL.len()],
    pub(crate) overtaken: IntCounter,
    pub(crate) refreshes: IntCounter,
    pub(crate) echoes: IntCounter,
    pub(crate) echoes_skipped: IntCounter,
    pub(crate) hot_refills: IntCounter,
    pub(crate) put_off: IntCounter,
    refilled: IntCounterVec,
}

impl Fills {
    pub(super) fn new(registry: &Registry, routes: &[&str]) -> Self {
        let origin_seconds = durations(
            registry,
            "endcap_origin_duration_seconds",
            "From a fill's request to the head of the origin's answer, by route.",
            &BUCKETS[6..],
            "route",
        );
        let tags_collapsed = counters(
            registry,
            "endcap_tags_collapsed_total",
            "Tags beyond an entry's bound that were replaced by the coarse tag of their kind, by route.",
            &["route"],
        );
        let stale_found = counters(
            registry,
            "endcap_stale_found_total",
            "Answers that had changed at the origin though no purge said so, by route: no_event, or after_purge where they \
             were filled soon after one.",
            &["route", "missed"],
        );
        let looks = counters(
            registry,
            "endcap_canary_looks_total",
            "Answers that the origin was asked for again to find changes that nobody announced (purge.canary): after_purge \
             where they were filled soon after one, or at_random among what is asked for most.",
            &["look"],
        );
        let bytes_saved = counters(
            registry,
            "endcap_bytes_saved_total",
            "Bytes of bodies that were not sent because the client took them encoded, by encoding.",
            &["encoding"],
        );
        let fills = Self {
            origin_seconds: routes.iter().map(|route| origin_seconds.with_label_values(&[*route])).collect(),
            origin_answers: counters(
                registry,
                "endcap_origin_answers_total",
                "Answers of the origin to fills: the status class, or the reason why there was none.",
                &["answer"],
            ),
            not_stored: counters(
                registry,
                "endcap_not_stored_total",
                "Answers to fills that were not stored, by reason.",
                &["reason"],
            ),
            l2_reads: counters(
                registry,
                "endcap_l2_reads_total",
                "Reads of the shared tier: hit, or the reason why it was a miss.",
                &["result"],
            ),
            l2_writes: counters(
                registry,
                "endcap_l2_writes_total",
                "Writes to the shared tier: ok, or the reason why it failed.",
                &["result"],
            ),
            l2_read_bytes: counter(
                registry,
                "endcap_l2_read_bytes_total",
                "Bytes that this node has read from the shared tier, as they are kept there.",
            ),
            l2_written_bytes: counter(
                registry,
                "endcap_l2_written_bytes_total",
                "Bytes that this node has written to the shared tier. How many are there Redis alone knows (INFO memory).",
            ),
            l2_writes_under_way: gauge(
                registry,
                "endcap_l2_writes_under_way",
                "Entries that were answered with and are still on their way to the shared tier.",
            ),
            leases: counters(
                registry,
                "endcap_leases_total",
                "Fills by how they came to the origin: leads for all nodes, served by another node, or alone \
             (in vain, after a timeout or an error of the shared tier).",
                &["turn"],
            ),
            stale_found: routes
                .iter()
                .map(|route| Missed::ALL.map(|kind| stale_found.with_label_values(&[*route, kind.as_str()])))
                .collect(),
            looks: Look::ALL.map(|look| looks.with_label_values(&[look.as_str()])),
            canary_skipped: counter(
                registry,
                "endcap_canary_skipped_total",
                "Answers that were not looked at again after a purge, and changes that were found and not judged, because 32 \
                 of their kind were under way.",
            ),
            tags_collapsed: routes.iter().map(|route| tags_collapsed.with_label_values(&[*route])).collect(),
            encodings: counters(
                registry,
                "endcap_encodings_total",
                "Bodies that were to be encoded: made, vain (hardly smaller), dropped (too many waited), gone \
                 (replaced or evicted meanwhile) or failed.",
                &["encoding", "result"],
            ),
            bytes_saved: Coding::ALL.map(|coding| bytes_saved.with_label_values(&[coding.as_str()])),
            overtaken: counter(
                registry,
                "endcap_flights_overtaken_total",
                "Waits for another's fill whose result a purge had overtaken; the request joined again.",
            ),
            hot_refills: counter(
                registry,
                "endcap_hot_refills_total",
                "Refills of what is asked for most, begun after a purge before anybody asked (purge.hot_refill).",
            ),
            put_off: counter(
                registry,
                "endcap_refreshes_put_off_total",
                "Times that a refresh was left to the next request because too many were under way.",
            ),
            refilled: counters(
                registry,
                "endcap_refilled_after_purge_total",
                "Purged answers that the origin was asked for again, by whether they had changed: same or changed.",
                &["answer"],
            ),
            refreshes: counter(registry, "endcap_refreshes_total", "Refreshes behind a stale answer that began."),
            echoes: counter(
                registry,
                "endcap_echoes_total",
                "Entries asked for once more because they had been filled soon after a purge of theirs.",
            ),
            echoes_skipped: counter(
                registry,
                "endcap_echoes_skipped_total",
                "Entries that should have been asked for once more and were not, because 4096 others waited for that.",
            ),
        };
        fills.declare();
        fills
    }

    fn declare(&self) {
        let unshareable = Unshareable::ALL.map(Unshareable::as_str).into_iter();
        declare(&self.not_stored, unshareable.chain(ShareOnce::ALL.map(ShareOnce::as_str)));
        declare(&self.origin_answers, ["2xx", "3xx", "4xx", "5xx"].into_iter().chain(OriginError::REASONS));
        let found = [
            "hit",
            "l2_absent",
            "l2_corrupt",
            "l2_version",
            "l2_foreign",
            "l2_size",
            "l2_rule",
            "l2_unready",
            "l2_in_flight",
        ];
        declare(&self.l2_reads, found.into_iter().chain(StoreError::REASONS));
        declare(&self.l2_writes, ["ok"].into_iter().chain(StoreError::REASONS));
        declare(&self.refilled, ["same", "changed"]);
        declare(&self.leases, ["leads", "served", "vain", "foreign", "timeout", "error"]);
        for coding in Coding::ALL {
            for result in Encoded::ALL {
                self.encodings.with_label_values(&[coding.as_str(), result.as_str()]);
            }
        }
    }
}

impl Metrics {
    /// A fill's request was answered, or not.
    pub(crate) fn origin_answered(
        &self,
        rule: &Rule,
        began: Timestamp,
        now: Timestamp,
        answer: Result<StatusCode, &OriginError>,
    ) {
        self.fills.origin_seconds[rule.index].observe(now.since(began).as_secs_f64());
        let word = match answer {
            Ok(status) => match status.as_u16() / 100 {
                2 => "2xx",
                3 => "3xx",
                4 => "4xx",
                _ => "5xx",
            },
            Err(error) => error.reason(),
        };
        self.fills.origin_answers.with_label_values(&[word]).inc();
    }

    /// A fill's answer was not stored.
    pub(crate) fn not_stored(&self, reason: &'static str) {
        self.fills.not_stored.with_label_values(&[reason]).inc();
    }

    /// The shared tier was read.
    pub(crate) fn l2_read(&self, trouble: Option<&'static str>) {
        self.fills.l2_reads.with_label_values(&[trouble.unwrap_or("hit")]).inc();
    }

    /// A fill took its turn among the nodes.
    pub(crate) fn leased(&self, turn: &'static str) {
        self.fills.leases.with_label_values(&[turn]).inc();
    }

    /// The shared tier was written.
    pub(crate) fn l2_write(&self, trouble: Option<&'static str>) {
        self.fills.l2_writes.with_label_values(&[trouble.unwrap_or("ok")]).inc();
    }

    /// A body was to be encoded.
    pub(crate) fn encoded(&self, coding: Coding, became: Encoded) {
        self.fills.encodings.with_label_values(&[coding.as_str(), became.as_str()]).inc();
    }

    /// An encoded body was sent in place of a plain one that is so much larger.
    pub(crate) fn saved(&self, coding: Coding, bytes: usize) {
        self.fills.bytes_saved[coding.index()].inc_by(bytes as u64);
    }

    /// A purged answer was asked for again.
    pub(crate) fn refilled_after_purge(&self, has_changed: bool) {
        self.fills.refilled.with_label_values(&[if has_changed { "changed" } else { "same" }]).inc();
    }

    /// An answer had changed without a purge.
    pub(crate) fn stale_found(&self, rule: &Rule, missed: Missed) {
        self.fills.stale_found[rule.index][missed as usize].inc();
    }

    /// An answer is looked at again.
    pub(crate) fn canary_looked(&self, look: Look) {
        self.fills.looks[look as usize].inc();
    }

    pub(crate) fn tags_collapsed(&self, rule: &Rule, count: usize) {
        self.fills.tags_collapsed[rule.index].inc_by(count as u64);
    }
}
