//! Every metric, declared once: name, help, unit, labels. Labels come from closed sets (routes of the
//! configuration, words of our enums), so an attacker's bytes never become one.
//!
//! What happens is counted in `requests`, `fills` and `purges`, each with the calls that count it; what is, is read when
//! it is asked for (`readings`).

mod fills;
mod purges;
mod readings;
mod registry;
mod requests;

use std::sync::Arc;

use prometheus::Registry;

use crate::policy::route::Rule;
use fills::Fills;
use purges::{Outward, Purges};
use readings::Gauges;
pub use readings::Readings;
use requests::Requests;

/// The label of requests that no route matched.
const NO_ROUTE: &str = "none";

/// All metrics of a node. Passed in, never global, so that two nodes fit in one test.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    pub(crate) requests: Requests,
    pub(crate) fills: Fills,
    pub(crate) purges: Purges,
    pub(crate) outward: Outward,
    gauges: Gauges,
}

impl Metrics {
    /// Declares all metrics for the routes of a configuration.
    pub fn new(rules: &[Arc<Rule>]) -> Arc<Self> {
        let registry = Registry::new();
        let routes: Vec<&str> = rules.iter().map(|rule| &*rule.name).chain([NO_ROUTE]).collect();
        let build = "Always 1; the version is the label.";
        let build = registry::gauges(&registry, "endcap_build_info", build, &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Arc::new(Self {
            requests: Requests::new(&registry, &routes),
            fills: Fills::new(&registry, &routes),
            purges: Purges::new(&registry),
            outward: Outward::new(&registry),
            gauges: Gauges::new(&registry),
            registry,
        })
    }

    /// The text format of Prometheus (version 0.0.4).
    pub fn render(&self, readings: &Readings) -> String {
        self.gauges.set(readings);
        let mut text = String::new();
        prometheus::TextEncoder::new()
            .encode_utf8(&self.registry.gather(), &mut text)
            .expect("metrics of this module render");
        text
    }
}
