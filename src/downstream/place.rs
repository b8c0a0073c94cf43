//! A target's place in the log, as all nodes share it.

use std::time::Duration;

use bytes::Bytes;

use super::{Downstream, LOOK_AGAIN, Memory};
use crate::policy::downstream::Progress;
use crate::policy::time::Timestamp;
use crate::store::{SharedStore, StoreError};

/// How long a place is remembered that nobody writes.
const PLACE_TTL: Duration = Duration::from_secs(30 * 24 * 3600);

/// A place, and how it stands in the store.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) progress: Progress,
    note: Option<Bytes>,
}

/// The name of a target's place in the shared store.
fn note_of(name: &str) -> String {
    format!("downstream:{name}")
}

/// How far a target is. What cannot be read is as good as none.
pub(super) async fn progress_of(
    store: &dyn SharedStore,
    name: &str,
    now: Timestamp,
) -> Result<Option<Progress>, StoreError> {
    let note = store.note(&note_of(name)).await?;
    Ok(note.and_then(|note| Progress::read(&note, now)))
}

impl Downstream {
    /// Looks where the target is.
    pub(super) async fn place(&self, memory: &mut Memory) -> Result<Place, StoreError> {
        let note = self.store.note(&note_of(&self.name)).await?;
        let progress = note.as_ref().map(|note| Progress::read(note, self.clock.wall()));
        let is_garbage = matches!(progress, Some(None));
        if is_garbage && !memory.said_garbage {
            tracing::warn!(
                target_name = self.name,
                "the place of a downstream target cannot be read: it purges everything"
            );
        }
        memory.said_garbage = is_garbage;
        let progress = progress.flatten().unwrap_or_default();
        self.metrics.downstream_failures(&self.name, progress.failures);
        Ok(Place { progress, note })
    }

    /// Says that this node is at it. False where another was faster.
    pub(super) async fn hold(&self, place: &mut Place) -> Result<bool, StoreError> {
        place.progress.hold(&self.node, self.clock.wall());
        self.write(place).await
    }

    /// Waits for the permit to make a request, and writes it down together with a new hold before it is made. False
    /// where another node is at it.
    pub(super) async fn take_turn(&self, place: &mut Place) -> Result<bool, StoreError> {
        loop {
            let permit = place.progress.permit(&self.target.provider, self.clock.wall());
            if !self.hold(place).await? {
                return Ok(false);
            }
            match permit {
                Ok(()) => return Ok(true),
                Err(wait) => tokio::time::sleep(wait.min(LOOK_AGAIN)).await,
            }
        }
    }

    /// Writes a place where nobody else has since it was read.
    pub(super) async fn write(&self, place: &mut Place) -> Result<bool, StoreError> {
        let note = Bytes::from(serde_json::to_vec(&place.progress).expect("texts and numbers are JSON"));
        let before = place.note.replace(note.clone());
        self.store.swap_note(&note_of(&self.name), before, note, PLACE_TTL).await
    }

    /// This node goes: another may work at once.
    pub(super) async fn give_back(&self) {
        let given = async {
            let mut place = self.place(&mut Memory::default()).await?;
            if place.progress.held.take().is_some_and(|held| held.by == self.node) {
                self.write(&mut place).await?;
            }
            Ok::<_, StoreError>(())
        };
        if let Err(error) = given.await {
            // It ends by its own time.
            tracing::debug!(target_name = self.name, %error, "could not give a downstream target back");
        }
    }
}
