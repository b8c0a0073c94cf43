//! Purges and their log, the orders they come from, and whom they are told.

use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use super::Metrics;
use super::registry::{counter, counters, declare, float, gauge, gauges};
use crate::policy::downstream::Verdict;
use crate::policy::purge::Mode;

/// Purges as they come in and are applied.
#[derive(Debug)]
pub(crate) struct Purges {
    tags: IntCounterVec,
    webhooks: IntCounterVec,
    orders: IntCounterVec,
    pub(crate) softened: IntCounter,
    pub(crate) log_connected: IntGauge,
    /// Seconds.
    pub(crate) log_lag: Gauge,
    pub(crate) log_garbage: IntCounter,
    pub(crate) log_lost: IntCounter,
    pub(crate) went_blind: IntCounter,
    pub(crate) journal_replayed: IntCounter,
    pub(crate) journal_damaged: IntCounter,
}

impl Purges {
    pub(super) fn new(registry: &Registry) -> Self {
        let purges = Self {
            tags: counters(
                registry,
                "endcap_purged_tags_total",
                "Tags purged by this node's follower of the log, by mode.",
                &["mode"],
            ),
            webhooks: counters(
                registry,
                "endcap_webhooks_total",
                "Webhook deliveries: accepted, duplicate, unknown_event, or the reason of their rejection.",
                &["result"],
            ),
            orders: counters(
                registry,
                "endcap_purge_orders_total",
                "Orders to purge, from webhooks and operators: acknowledged, or why not.",
                &["result"],
            ),
            softened: counter(
                registry,
                "endcap_purges_softened_total",
                "Hard purges that this node made soft because they would have emptied more than purge.blast_radius of its \
                 recent answers.",
            ),
            log_connected: gauge(registry, "endcap_log_connected", "1 while this node follows the purge log."),
            log_lag: float(
                registry,
                "endcap_log_lag_seconds",
                "Age of the last line of the purge log when this node had applied it: how far it was behind.",
            ),
            log_garbage: counter(
                registry,
                "endcap_log_unreadable_total",
                "Lines of the purge log that could not be read and were skipped.",
            ),
            went_blind: counter(
                registry,
                "endcap_went_blind_total",
                "Times that this node had not confirmed for max_blind that it knows of all purges, and so went blind.",
            ),
            log_lost: counter(
                registry,
                "endcap_log_lost_total",
                "Times the purge log was found without lines that this node had read or should have; what is older is refilled.",
            ),
            journal_replayed: counter(
                registry,
                "endcap_journal_replayed_total",
                "Purges that went from the journal into the purge log.",
            ),
            journal_damaged: counter(
                registry,
                "endcap_journal_damaged_total",
                "Records of the journal that were damaged, or torn off at its end, when this node started; for each of \
                 them everything is purged.",
            ),
        };
        declare(&purges.tags, Mode::ALL.map(Mode::as_str));
        let webhooks = [
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
        ];
        declare(&purges.webhooks, webhooks);
        let orders = ["acknowledged", "journaled", "invalid", "not_logged", "not_journaled", "not_applied"];
        declare(&purges.orders, orders);
        purges
    }
}

/// Who is told of them: targets downstream, and clients of `/events`.
#[derive(Debug)]
pub(crate) struct Outward {
    requests: IntCounterVec,
    everything: IntCounterVec,
    given_up: IntCounterVec,
    failures: IntGaugeVec,
    history_failures: IntCounterVec,
    pub(crate) feed_clients: IntGauge,
    pub(crate) feed_events: IntCounter,
    pub(crate) feed_dropped: IntCounter,
}

impl Outward {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            requests: counters(
                registry,
                "endcap_downstream_requests_total",
                "Requests of this node to those who are told of purges: done, to be made again later, refused until a \
                 person acts, or unfit (parted, and at last a purge of everything).",
                &["target", "result"],
            ),
            everything: counters(
                registry,
                "endcap_downstream_everything_total",
                "Times that a target had to purge everything: it was new, the log lacked what it missed, or it took \
                 nothing less.",
                &["target"],
            ),
            given_up: counters(
                registry,
                "endcap_downstream_given_up_total",
                "Times that a target would not even purge everything, and keeps what was purged up to then.",
                &["target"],
            ),
            failures: gauges(
                registry,
                "endcap_downstream_failures",
                "Failures in a row of a target, whichever node told it, as of when this one last looked.",
                &["target"],
            ),
            history_failures: counters(
                registry,
                "endcap_history_failures_total",
                "Failed reads of the purge log beside the follower's, or of where a target stands in it, by reader: \
                 downstream, or feed (clients of /events that come back).",
                &["reader"],
            ),
            feed_clients: gauge(registry, "endcap_feed_clients", "Clients of /events connected now."),
            feed_events: counter(
                registry,
                "endcap_feed_events_total",
                "Events of the purge log that this node has handed on to its clients of /events.",
            ),
            feed_dropped: counter(
                registry,
                "endcap_feed_dropped_total",
                "Clients of /events that were let go because they did not keep up.",
            ),
        }
    }
}

impl Metrics {
    /// Tags were purged here.
    pub(crate) fn purged(&self, mode: Mode, tags: usize) {
        self.purges.tags.with_label_values(&[mode.as_str()]).inc_by(tags as u64);
    }

    /// A purge was ordered.
    pub(crate) fn purge_ordered(&self, result: &'static str) {
        self.purges.orders.with_label_values(&[result]).inc();
    }

    /// A webhook was delivered.
    pub(crate) fn webhook(&self, result: &'static str) {
        self.purges.webhooks.with_label_values(&[result]).inc();
    }

    /// Makes the series of a target.
    pub(crate) fn declare_downstream(&self, target: &str) {
        for result in Verdict::WORDS {
            self.outward.requests.with_label_values(&[target, result]);
        }
        self.outward.everything.with_label_values(&[target]);
        self.outward.given_up.with_label_values(&[target]);
        self.downstream_failures(target, 0);
    }

    /// A target, by its name in the configuration, was told of purges.
    pub(crate) fn downstream_told(&self, target: &str, result: &'static str) {
        self.outward.requests.with_label_values(&[target, result]).inc();
    }

    /// A target must purge everything.
    pub(crate) fn downstream_everything(&self, target: &str) {
        self.outward.everything.with_label_values(&[target]).inc();
    }

    /// A target was given up once.
    pub(crate) fn downstream_given_up(&self, target: &str) {
        self.outward.given_up.with_label_values(&[target]).inc();
    }

    /// A target has failed so often in a row.
    pub(crate) fn downstream_failures(&self, target: &str, failures: u32) {
        self.outward.failures.with_label_values(&[target]).set(failures.into());
    }

    /// Counts what a reader of the log's history could not read.
    pub(crate) fn history_failures(&self, reader: &'static str) -> IntCounter {
        self.outward.history_failures.with_label_values(&[reader])
    }
}
