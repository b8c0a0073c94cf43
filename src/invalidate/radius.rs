//! Purges that would empty too much at once: see [`crate::policy::purge::soften`].

use std::collections::HashSet;
use std::sync::Arc;

use super::{Acknowledged, Invalidator, PurgeError};
use crate::policy::purge::{Marked, Purge, soften, softens};
use crate::tasks::Tasks;

impl Invalidator {
    /// Orders a purge that becomes soft where it would empty more than `purge.blast_radius` of this node's recent
    /// answers, and more entries than are refilled in a moment, but for what is `firm`. The mode is decided here and
    /// stands in the log, so all nodes apply the same.
    ///
    /// # Errors
    /// See [`Invalidator::purge`].
    pub async fn purge_within(
        self: &Arc<Self>,
        mut purge: Purge,
        firm: &HashSet<String>,
    ) -> Result<Acknowledged, PurgeError> {
        let share = self.share(&purge, firm).await;
        let softened = share.filter(|share| self.blast_radius.is_some_and(|radius| *share > radius));
        if let Some(share) = softened {
            soften(&mut purge, firm);
            let (source, event_id) = (&purge.source, &purge.event_id);
            tracing::warn!(
                source,
                event_id,
                share,
                tags = purge.tags.len(),
                "a purge of too many answers becomes soft"
            );
        }
        let acknowledged = self.purge(purge).await?;
        self.metrics.purges.softened.inc_by(softened.is_some().into());
        Ok(Acknowledged { softened, ..acknowledged })
    }

    /// The share of the recent answers that a purge would empty, to the thousandth; `None` where nobody asks or knows.
    async fn share(&self, purge: &Purge, firm: &HashSet<String>) -> Option<f64> {
        self.blast_radius?;
        self.check(purge).ok()?;
        let softens = softens(purge, firm)?;
        let (hot, few, now) = (Arc::clone(&self.hot), self.few, self.clock.now());
        // A thousand entries with as many tags each.
        let share = Tasks::block(move || hot.share(&Marked::from(softens).marks, few, now)).await?;
        Some((share * 1000.0).round() / 1000.0)
    }
}
