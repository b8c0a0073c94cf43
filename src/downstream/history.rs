//! What the log says of a stretch that a target lacks: read in portions, and put together where no hit waits for it.

use super::{Downstream, Memory, Work};
use crate::policy::downstream::{Batch, Part, Stretch, parts};
use crate::policy::purge::PurgeSeq;
use crate::store::{LogLine, Portion, StoreError};
use crate::tasks::Tasks;

/// Lines of the first read, and what one brings, at the most.
const FIRST: usize = 16;
const PORTION: Portion = Portion { lines: 1000, bytes: 1 << 20 };
/// Lines and bytes that a target is told in one go, about: with more it is told again.
const LINES_MAX: usize = 1000;
const BYTES_MAX: usize = 2 << 20;

impl Downstream {
    /// What the lines after `from` purge, up to `to` or to where it is enough for one go.
    pub(super) async fn read(
        &self,
        memory: &mut Memory,
        from: PurgeSeq,
        to: PurgeSeq,
        is_second: bool,
    ) -> Result<Work, StoreError> {
        if from == PurgeSeq::ZERO {
            return Ok(self.everything(memory, from, to, is_second));
        }
        let (mut batch, mut end) = (Batch::default(), from);
        let (mut count, mut bytes, mut most) = (0, 0, FIRST);
        while end < to && count < LINES_MAX && bytes < BYTES_MAX {
            // The line where it stands, and so many behind it.
            let lines = self.store.look_log(end, most + 1).await?;
            if lines.first().is_none_or(|line| line.seq != end) {
                // The line where it stands is gone, and who knows what after it.
                return Ok(self.everything(memory, from, to, is_second));
            }
            let is_end = lines.len() <= most;
            most = PORTION.after(lines.iter().map(LogLine::bytes), most);
            let news = lines.into_iter().filter(|line| line.seq > end && line.seq <= to).collect::<Vec<_>>();
            end = news.last().map_or(end, |line| line.seq);
            let size: usize = news.iter().map(LogLine::bytes).sum();
            (count, bytes) = (count + news.len(), bytes + size);
            batch = Tasks::compute(size, || with(batch, news)).await;
            if is_end {
                // Between the last line and `to` there is none.
                end = to;
            }
        }
        let stretch = Stretch { to: end, is_second, is_empty: batch.is_empty() };
        let provider = self.target.provider.clone();
        let parts = Tasks::compute(bytes, move || parts(&provider, &batch)).await;
        Ok(Work { parts, stretch, is_lost: false })
    }

    /// What it lacks is not known: it is new here, forgotten with Redis, or the log was cut.
    fn everything(&self, memory: &mut Memory, from: PurgeSeq, to: PurgeSeq, is_second: bool) -> Work {
        if from != PurgeSeq::ZERO && memory.said_lost.replace(from) != Some(from) {
            tracing::warn!(target_name = self.name, %from, "the purge log no longer tells what a downstream target lacks: it purges everything");
        }
        let stretch = Stretch { to, is_second, is_empty: false };
        Work { parts: vec![Part::Everything], stretch, is_lost: true }
    }
}

fn with(mut batch: Batch, lines: Vec<LogLine>) -> Batch {
    for line in lines {
        batch.add(line.purge.as_ref());
    }
    batch
}
