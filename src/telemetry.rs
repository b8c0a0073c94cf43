//! Where log lines go: standard error, as text for people or JSON for machines.

use std::io::IsTerminal;

use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line; control bytes are escaped.
    Json,
}

/// Starts logging for the process. A second call changes nothing, so that tests may each call it.
pub fn start(format: Format, level: Level) {
    // Libraries speak only when something is wrong.
    let filter = Targets::new().with_default(level.min(Level::WARN)).with_target("endcap", level);
    let registry = tracing_subscriber::registry().with(filter);
    let started = match format {
        Format::Text => {
            let ansi = std::io::stderr().is_terminal();
            registry.with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(ansi)).try_init()
        }
        Format::Json => registry
            .with(tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(std::io::stderr))
            .try_init(),
    };
    // Somebody was first: their lines are as good.
    drop(started);
}
