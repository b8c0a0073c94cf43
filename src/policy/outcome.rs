//! What became of a request: one word for the log, the metric and the `Cache-Status` field alike.

/// The outcomes, each with its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Fresh from L1.
    Hit,
    /// Fresh from L2: another node had filled it.
    HitL2,
    /// Stale, and refreshed behind.
    Stale,
    /// Stale, because the origin failed.
    StaleError,
    /// Filled from the origin.
    Miss,
    /// The origin confirmed what was stored (304).
    Renewed,
    /// Another request's fill answered this one too.
    Collapsed,
    /// The origin failed and nothing could serve instead.
    Failed,
    /// Passed through.
    Pass,
    /// Refused here.
    Refused,
    /// It ended before its answer began: the client left, or its connection was cut.
    Unanswered,
}

impl Outcome {
    /// All outcomes, for the metrics.
    pub const ALL: [Self; 11] = [
        Self::Hit,
        Self::HitL2,
        Self::Stale,
        Self::StaleError,
        Self::Miss,
        Self::Renewed,
        Self::Collapsed,
        Self::Failed,
        Self::Pass,
        Self::Refused,
        Self::Unanswered,
    ];

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::HitL2 => "hit_l2",
            Self::Stale => "stale",
            Self::StaleError => "stale_error",
            Self::Miss => "miss",
            Self::Renewed => "renewed",
            Self::Collapsed => "collapsed",
            Self::Failed => "failed",
            Self::Pass => "pass",
            Self::Refused => "refused",
            Self::Unanswered => "unanswered",
        }
    }

    /// The place in arrays of metric handles.
    pub const fn index(self) -> usize {
        self as usize
    }
}
