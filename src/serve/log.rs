//! One line a request: off, sampled, or on. Server errors are always written.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Method, StatusCode};

use super::respond::Said;
use crate::policy::outcome::Outcome;
use crate::policy::route::Rule;

/// Which requests are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// Server errors alone.
    Off,
    /// One in so many, and server errors.
    Sampled(u64),
    /// All.
    On,
}

/// Longest piece of a request that is written.
const PIECE_MAX: usize = 256;

/// Writes request lines. Never a token, a cookie or a body; of the target the path alone.
#[derive(Debug)]
pub struct RequestLog {
    lines: Lines,
    count: AtomicU64,
}

/// What is kept of a request until its line is written.
#[derive(Debug)]
pub struct Noted {
    method: Method,
    path: String,
}

impl RequestLog {
    /// Writes these lines.
    pub fn new(lines: Lines) -> Self {
        Self { lines, count: AtomicU64::new(0) }
    }

    /// Notes what a line would say, where one may be written: off costs nothing.
    pub fn note(&self, method: &Method, path: &str) -> Option<Noted> {
        let sampled = match self.lines {
            Lines::Off => false,
            Lines::On => true,
            Lines::Sampled(every) => self.count.fetch_add(1, Ordering::Relaxed).is_multiple_of(every.max(1)),
        };
        sampled.then(|| Noted {
            method: method.clone(),
            path: { path.get(..path.floor_char_boundary(PIECE_MAX)).unwrap_or("").to_owned() },
        })
    }

    /// Writes the line of a request that ended before its answer began.
    pub fn write_unanswered(noted: Option<Noted>, rule: Option<&Rule>, took: Duration) {
        if let Some(Noted { method, path }) = noted {
            let route = rule.map_or("none", |rule| &rule.name);
            let (outcome, elapsed_ms) = (Outcome::Unanswered.as_str(), took.as_secs_f64() * 1000.0);
            tracing::info!(%method, path, route, outcome, elapsed_ms, "request");
        }
    }

    /// Writes the line.
    pub fn write(&self, noted: Option<Noted>, rule: Option<&Rule>, said: &Said, status: StatusCode, took: Duration) {
        let route = rule.map_or("none", |rule| &rule.name);
        let elapsed_ms = took.as_secs_f64() * 1000.0;
        let (outcome, reason) = (said.outcome.as_str(), said.reason.unwrap_or(""));
        let origin_status = said.origin_status.map(|status| status.as_u16());
        match noted {
            Some(Noted { method, path }) => tracing::info!(
                %method, path, route, status = status.as_u16(), outcome, reason, origin_status, elapsed_ms, "request"
            ),
            _ if status.is_server_error() => {
                tracing::warn!(
                    route,
                    status = status.as_u16(),
                    outcome,
                    reason,
                    origin_status,
                    elapsed_ms,
                    "request failed"
                );
            }
            _ => {}
        }
    }
}
