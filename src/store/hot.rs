//! What is asked for most just now: a sample of the answers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::l1::{L1, Slot};
use crate::policy::entry::Entry;
use crate::policy::purge::Mode;
use crate::policy::purge::concerns;
use crate::policy::route::Rule;
use crate::policy::tags::TagHash;
use crate::policy::time::Timestamp;

/// One answer in so many is kept. A prime: clients that ask in turns do not always have the same one kept.
const EVERY: u32 = 61;
/// Samples that are kept, at the most: the newest.
const SAMPLES_MAX: usize = 1024;
/// An older one tells nothing of what is asked for now.
const RECENT: Duration = Duration::from_secs(60);
/// With fewer samples no share is told: one of 16 is a sixteenth.
const SAMPLES_MIN: usize = 16;

/// An answer.
#[derive(Debug)]
struct Sample {
    rule: Arc<Rule>,
    key: Arc<[u8]>,
    at: Timestamp,
}

/// An entry that was asked for.
#[derive(Debug)]
pub struct Asked {
    /// Its rule.
    pub rule: Arc<Rule>,
    /// What L1 has of it now.
    pub entry: Arc<Entry>,
    /// Samples of it: about one in 61 answers of the last minute.
    pub samples: usize,
}

/// A sample of the answers: one in 61 of the last minute, at most 1,024. What was a miss counts like a hit: what purges
/// have just emptied is asked for no less than before. A hit pays for a count; no entry is held by it.
#[derive(Debug)]
pub struct Hot {
    l1: L1,
    answers: AtomicU32,
    samples: Mutex<VecDeque<Sample>>,
}

impl Hot {
    /// Of what this tier has.
    pub fn new(l1: L1) -> Arc<Self> {
        Arc::new(Self { l1, answers: AtomicU32::new(0), samples: Mutex::default() })
    }

    /// A request was answered with an entry, from wherever that came.
    pub fn answered(&self, rule: &Arc<Rule>, entry: &Entry, now: Timestamp) {
        // Not one operation: a count that is lost now and then costs less than one that none is lost of.
        let answers = self.answers.load(Ordering::Relaxed).wrapping_add(1);
        self.answers.store(answers, Ordering::Relaxed);
        if !answers.is_multiple_of(EVERY) {
            return;
        }
        // A hit waits for nobody.
        let Ok(mut samples) = self.samples.try_lock() else { return };
        if samples.len() == SAMPLES_MAX {
            samples.pop_front();
        }
        samples.push_back(Sample { rule: Arc::clone(rule), key: Arc::clone(&entry.key), at: now });
    }

    /// What was asked for of late and is in memory, the most asked first.
    pub fn most_asked(&self, now: Timestamp) -> Vec<Asked> {
        let mut asked = self.recent(now, |slot| match slot {
            Slot::Entry(entry) => Some(entry),
            // To be asked for again when the back-off is over, and by who wants it.
            Slot::Failed(_) | Slot::Varies(_) | Slot::PassMarker { .. } => None,
        });
        asked.sort_unstable_by(|a, b| b.samples.cmp(&a.samples).then_with(|| a.entry.key.cmp(&b.entry.key)));
        asked
    }

    /// The share of the recent answers that a purge would empty, of those that are in memory; `None` where there were too
    /// few to tell, or it empties no more than `few` entries: their refills are no storm, however much they are asked for.
    pub fn share(&self, marks: &[(TagHash, Mode)], few: usize, now: Timestamp) -> Option<f64> {
        let asked = self.recent(now, |slot| match slot {
            Slot::Entry(entry) => Some(entry),
            Slot::Failed(failed) => failed.previous.clone(),
            Slot::Varies(_) | Slot::PassMarker { .. } => None,
        });
        let all: usize = asked.iter().map(|asked| asked.samples).sum();
        let emptied: Vec<_> =
            asked.iter().filter(|asked| concerns(marks, &asked.entry.tags)).map(|asked| asked.samples).collect();
        (all >= SAMPLES_MIN && emptied.len() > few).then(|| emptied.iter().sum::<usize>() as f64 / all as f64)
    }

    /// What the recent samples are of, where there is an entry for it.
    fn recent(&self, now: Timestamp, held: impl Fn(Slot) -> Option<Arc<Entry>>) -> Vec<Asked> {
        let mut counts: BTreeMap<Arc<[u8]>, (Arc<Rule>, usize)> = BTreeMap::new();
        {
            let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
            for sample in samples.iter().filter(|sample| now.since(sample.at) < RECENT) {
                counts.entry(Arc::clone(&sample.key)).or_insert_with(|| (Arc::clone(&sample.rule), 0)).1 += 1;
            }
        }
        let asked =
            |(key, (rule, samples)): (Arc<[u8]>, _)| Some(Asked { rule, entry: held(self.l1.get(&key)?)?, samples });
        counts.into_iter().filter_map(asked).collect()
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};

    use super::*;
    use crate::fill::Failure;
    use crate::policy::key::Key;
    use crate::policy::purge::PurgeSeq;
    use crate::policy::route::tests::rule;
    use crate::store::l1::BackOff;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn marks(tag: &str) -> [(TagHash, Mode); 1] {
        [(TagHash::of(tag), Mode::Hard)]
    }

    /// A tier with one entry for each path, tagged with the path.
    fn hot(paths: &[&'static str]) -> (Arc<Hot>, Vec<Arc<Entry>>) {
        let l1 = L1::new(1 << 20);
        let entries = paths.iter().map(|path| {
            let key = Key::of_request(&rule(), path, None, "", &HeaderMap::new()).unwrap();
            let tags = Box::new([TagHash::of(path)]);
            let entry = Arc::new(Entry { tags, ..crate::policy::entry::tests::entry(key.text()) });
            l1.put(&key, Slot::Entry(Arc::clone(&entry)));
            entry
        });
        let entries = entries.collect();
        (Hot::new(l1), entries)
    }

    fn samples(hot: &Hot, entry: &Entry, count: u32, now: Timestamp) {
        let rule = Arc::new(rule());
        (0..count * EVERY).for_each(|_| hot.answered(&rule, entry, now));
    }

    #[test]
    fn the_share_is_that_of_the_answers_and_not_of_the_entries() {
        let (hot, entries) = hot(&["/a", "/b", "/c"]);
        samples(&hot, &entries[0], 12, NOW);
        samples(&hot, &entries[1], 3, NOW);
        assert_eq!(hot.share(&marks("/a"), 0, NOW), None, "of 15 nothing is told");
        samples(&hot, &entries[2], 1, NOW);
        assert_eq!(hot.share(&marks("/a"), 0, NOW), Some(0.75));
        assert_eq!(hot.share(&marks("/a"), 1, NOW), None, "one entry is refilled in a moment");
        assert_eq!((hot.share(&marks("/c"), 0, NOW), hot.share(&marks("/d"), 0, NOW)), (Some(0.0625), None));
        let asked: Vec<_> = hot.most_asked(NOW).into_iter().map(|asked| (asked.entry.tags[0], asked.samples)).collect();
        assert_eq!(asked, [("/a", 12), ("/b", 3), ("/c", 1)].map(|(path, samples)| (TagHash::of(path), samples)));
    }

    #[test]
    fn what_was_asked_for_a_minute_ago_or_has_gone_counts_no_more() {
        let (hot, entries) = hot(&["/a", "/b"]);
        samples(&hot, &entries[0], 16, NOW);
        let later = NOW + RECENT;
        assert_eq!((hot.share(&marks("/a"), 0, later), hot.most_asked(later).len()), (None, 0));
        samples(&hot, &entries[1], 16, later);
        assert_eq!(hot.share(&marks("/b"), 0, later), Some(1.0));
        hot.l1.remove(&Key::from_text(&entries[1].key).unwrap());
        assert_eq!((hot.share(&marks("/b"), 0, later), hot.most_asked(later).len()), (None, 0));
    }

    #[test]
    fn what_is_served_while_the_origin_fails_is_emptied_too_and_what_is_not_kept_is_not() {
        let (hot, entries) = hot(&["/a", "/b", "/c"]);
        samples(&hot, &entries[0], 16, NOW);
        samples(&hot, &entries[1], 4, NOW);
        samples(&hot, &entries[2], 20, NOW);
        let [failing, unkept] = [&entries[1], &entries[2]].map(|entry| Key::from_text(&entry.key).unwrap());
        let failure = Arc::new(Failure {
            status: StatusCode::BAD_GATEWAY,
            reason: "connect_refused",
            origin_status: None,
            answer: None,
            own: None,
        });
        let back_off =
            BackOff::new(NOW, Duration::from_secs(1), PurgeSeq::ZERO, failure, Some(Arc::clone(&entries[1])));
        hot.l1.put(&failing, Slot::Failed(Arc::new(back_off)));
        hot.l1.remove(&unkept);
        assert_eq!(["/b", "/c"].map(|tag| hot.share(&marks(tag), 0, NOW)), [Some(0.2), None]);
        let asked: Vec<_> = hot.most_asked(NOW).iter().map(|asked| asked.samples).collect();
        assert_eq!(asked, [16], "the back-off is not gone round");
    }

    #[test]
    fn the_newest_samples_are_kept_and_no_more_than_so_many() {
        let (hot, entries) = hot(&["/a", "/b"]);
        samples(&hot, &entries[0], 600, NOW);
        samples(&hot, &entries[1], 1024 - 256, NOW);
        assert_eq!(hot.share(&marks("/a"), 0, NOW), Some(0.25));
    }

    /// Clients that ask for two things in turns.
    #[test]
    fn a_pattern_of_the_clients_does_not_hide_anything() {
        let (hot, entries) = hot(&["/a", "/b"]);
        let rule = Arc::new(rule());
        for turn in 0..EVERY as usize * 64 {
            hot.answered(&rule, &entries[turn % 2], NOW);
        }
        assert_eq!(hot.share(&marks("/a"), 0, NOW), Some(0.5));
    }
}
