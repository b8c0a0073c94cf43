//! What is logged.

use std::sync::{Arc, LazyLock, Mutex};

use endcap::telemetry::{self, Format};
use serde_json::Value;
use tracing_subscriber::prelude::*;

/// What is logged on the test's own thread, which runs all of its nodes, in both formats.
#[derive(Clone, Default)]
pub(crate) struct LogLines {
    json: Written,
    text: Written,
}

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

/// Follows nothing. With a single follower in the process tracing asks the thread that comes first to a line whether
/// anybody wants it, and another test's thread says no for all.
static SECOND: LazyLock<tracing::Dispatch> = LazyLock::new(|| tracing::Dispatch::new(tracing_subscriber::registry()));

impl LogLines {
    /// What comes from now on, until the guard is dropped.
    pub(crate) fn follow() -> (Self, tracing::subscriber::DefaultGuard) {
        LazyLock::force(&SECOND);
        let lines = Self::default();
        let (json, text) = (lines.json.clone(), lines.text.clone());
        let registry = tracing_subscriber::registry()
            .with(telemetry::layer(Format::Json, false, move || json.clone()))
            .with(telemetry::layer(Format::Text, false, move || text.clone()));
        (lines, tracing::subscriber::set_default(registry))
    }

    /// The lines with this message.
    pub(crate) fn with(&self, message: &str) -> Vec<Value> {
        let text = String::from_utf8(self.json.bytes()).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.filter(|line: &Value| line["message"] == message).collect()
    }

    /// All that was written, by format.
    pub(crate) fn written(&self) -> [Vec<u8>; 2] {
        [self.json.bytes(), self.text.bytes()]
    }
}

impl Written {
    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

impl std::io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
