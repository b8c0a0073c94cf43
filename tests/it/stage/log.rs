//! What is logged.

use std::sync::{Arc, Mutex};

use serde_json::Value;
use tracing_subscriber::prelude::*;

/// What is logged on the test's own thread, which runs all of its nodes.
#[derive(Clone, Default)]
pub(crate) struct LogLines(Arc<Mutex<Vec<u8>>>);

impl LogLines {
    /// What comes from now on, until the guard is dropped.
    pub(crate) fn follow() -> (Self, tracing::subscriber::DefaultGuard) {
        let lines = Self::default();
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(move || writer.clone());
        (lines, tracing::subscriber::set_default(tracing_subscriber::registry().with(layer)))
    }

    /// The lines with this message.
    pub(crate) fn with(&self, message: &str) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.filter(|line: &Value| line["message"] == message).collect()
    }
}

impl std::io::Write for LogLines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
