//! How a metric is declared.

use prometheus::core::Collector;
use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// From 10 µs (a hit) to 30 s (a fill's deadline), in seconds.
pub(super) const BUCKETS: [f64; 20] = [
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
    0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

pub(super) fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    register(registry, IntCounter::new(name, help))
}

pub(super) fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(registry, IntCounterVec::new(Opts::new(name, help), labels))
}

pub(super) fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    register(registry, IntGauge::new(name, help))
}

pub(super) fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    register(registry, IntGaugeVec::new(Opts::new(name, help), labels))
}

/// A figure that is no whole number.
pub(super) fn float(registry: &Registry, name: &str, help: &str) -> prometheus::Gauge {
    register(registry, prometheus::Gauge::new(name, help))
}

/// Durations in these buckets, by the values of a label.
pub(super) fn durations(registry: &Registry, name: &str, help: &str, buckets: &[f64], label: &str) -> HistogramVec {
    let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    register(registry, HistogramVec::new(options, &[label]))
}

/// Makes every label's counter, so that the first event is an increase from zero and no new series.
pub(super) fn declare<'l>(counters: &IntCounterVec, labels: impl IntoIterator<Item = &'l str>) {
    for label in labels {
        counters.with_label_values(&[label]);
    }
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, metric: prometheus::Result<C>) -> C {
    let metric = metric.expect("names and labels are constants of this module");
    registry.register(Box::new(metric.clone())).expect("each name is declared once, in this module");
    metric
}
