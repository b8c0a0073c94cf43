//! Figures that are read when they are asked for.

use std::time::Duration;

use prometheus::{IntGauge, IntGaugeVec, Registry};

use super::registry::{float, gauge, gauges};

/// What they are now.
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

/// How they are shown.
#[derive(Debug)]
pub(super) struct Gauges {
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
    log_silence: prometheus::Gauge,
    uptime: prometheus::Gauge,
}

impl Gauges {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            ready: gauge(
                registry,
                "endcap_ready",
                "1 when this node has caught up with the purge log, until it begins to stop.",
            ),
            l1_entries: gauge(registry, "endcap_l1_entries", "Keys known to L1."),
            l1_bytes: gauge(registry, "endcap_l1_bytes", "Bytes that L1 holds, bookkeeping included."),
            bytes_in_flight: gauge(
                registry,
                "endcap_in_flight_bytes",
                "Bytes of bodies that fills hold and have not stored yet; memory.in_flight bounds them.",
            ),
            flights: gauge(registry, "endcap_flights", "Fills under way."),
            followers: gauge(registry, "endcap_followers", "Requests that wait for another request's fill."),
            purge_marks: gauge(registry, "endcap_purge_marks", "Purged tags that are remembered one by one."),
            journaled: gauge(registry, "endcap_journaled_purges", "Purges in the journal that wait for the log."),
            blind: gauge(
                registry,
                "endcap_blind",
                "1 while this node has not confirmed for max_blind that it knows of all purges.",
            ),
            log_evictable: gauge(
                registry,
                "endcap_log_evictable",
                "1 while Redis has a maxmemory-policy that could evict the purge log.",
            ),
            origin_connections: gauges(
                registry,
                "endcap_origin_connections",
                "Connections to the origin that are open or idle, and requests waiting for one.",
                &["state"],
            ),
            log_silence: float(
                registry,
                "endcap_log_silence_seconds",
                "Time since the follower of the purge log last had an answer.",
            ),
            uptime: float(registry, "endcap_uptime_seconds", "Time since start."),
        }
    }

    pub(super) fn set(&self, readings: &Readings) {
        let number = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        self.ready.set(i64::from(readings.ready));
        self.l1_entries.set(i64::try_from(readings.l1_entries).unwrap_or(i64::MAX));
        self.l1_bytes.set(i64::try_from(readings.l1_bytes).unwrap_or(i64::MAX));
        self.bytes_in_flight.set(number(readings.bytes_in_flight));
        self.flights.set(number(readings.flights));
        self.followers.set(number(readings.followers));
        self.purge_marks.set(number(readings.purge_marks));
        self.journaled.set(i64::try_from(readings.journaled).unwrap_or(i64::MAX));
        self.blind.set(readings.is_blind.into());
        self.log_evictable.set(readings.log_evictable.into());
        for (state, value) in ["open", "idle", "waiting"].iter().zip(readings.origin) {
            self.origin_connections.with_label_values(&[state]).set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        self.log_silence.set(readings.log_silence.as_secs_f64());
        self.uptime.set(readings.uptime.as_secs_f64());
    }
}
