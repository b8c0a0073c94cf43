//! Processes of a run.

use std::process::{Child, Command};
use std::time::Duration;

/// What a process gets to start, to answer and to recover: a sentinel takes ten seconds to be sure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const POLL: Duration = Duration::from_millis(20);

/// A process that ends with its owner.
#[derive(Debug)]
pub(crate) struct Process(pub(crate) Child);

impl Process {
    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.0.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill {signal} failed");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGKILL: nothing is flushed, nobody is told.
        self.0.kill().expect("it is ours");
        self.0.wait().expect("it is ours");
    }
}
