//! What the canary looks at, when, and what it counts.

use prometheus::IntCounter;
use tokio::time::Instant;

use super::*;
use crate::policy::route::Policy;

const LIST: &str = "/store/products";
/// An event may be under way for so long.
const CANARY: Duration = Duration::from_secs(10);
/// Hits of which two are kept.
const HITS: usize = 2 * 61;

/// A node whose two clocks go together.
struct Yard {
    nodes: Nodes,
    fill: Arc<Fill>,
    began: Instant,
}

impl Yard {
    fn new() -> Self {
        Self::with(None)
    }

    fn with(max_blind: Option<Duration>) -> Self {
        let nodes = Nodes::new();
        let fill = nodes.start_as(max_blind, FillSettings { canary: CANARY, ..settings() });
        let yard = Self { nodes, fill, began: Instant::now() };
        yard.says("1");
        yard
    }

    fn says(&self, body: &'static str) {
        *self.nodes.origin.said.lock().unwrap() = Some(body);
    }

    async fn get(&self, path: &str) {
        let (rule, key, client) = (Arc::new(rule()), key(path), HeaderMap::new());
        let (wanted, _) = self.fill.find(&rule, &key, &client);
        let previous = self.held(path);
        assert!(matches!(self.fill.once(wanted, previous, &Interim::nowhere()).await, Filled::Landed { .. }));
    }

    fn held(&self, path: &str) -> Option<Arc<Entry>> {
        match self.fill.l1.get(key(path).text()) {
            Some(Slot::Entry(entry)) => Some(entry),
            _ => None,
        }
    }

    fn hits(&self, rule: Rule, path: &str) {
        let (rule, entry) = (Arc::new(rule), self.held(path).unwrap());
        (0..HITS).for_each(|_| self.fill.hot.answered(&rule, &entry, self.nodes.clock.now()));
    }

    fn purge(&self, tag: &str) {
        let purge = Purge { tags: vec![(tag.into(), Mode::Hard)], ..Purge::default() };
        self.fill.purges.apply_here(purge.into(), self.nodes.clock.now());
    }

    /// Time passes until so many milliseconds after the beginning.
    async fn at(&self, millis: u64) {
        const STEP: Duration = Duration::from_millis(100);
        while self.began.elapsed() < Duration::from_millis(millis) {
            self.nodes.clock.advance(STEP);
            tokio::time::sleep(STEP).await;
        }
        // What is due just now is done.
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
    }

    /// When the origin was asked for a path, in milliseconds from the beginning.
    fn asked(&self, path: &str) -> Vec<u128> {
        let asked = self.nodes.origin.asked.lock().unwrap();
        let asked = asked.iter().filter(|(asked, _)| asked == path);
        asked.map(|(_, at)| at.duration_since(self.began).as_millis()).collect()
    }

    /// What was found after a purge, and without an event.
    fn found(&self) -> [u64; 2] {
        self.fill.metrics.fills.stale_found[0].each_ref().map(IntCounter::get)
    }

    /// Looks after purges, those at random, and what was skipped.
    fn looks(&self) -> [u64; 3] {
        let [after, random] = self.fill.metrics.fills.looks.each_ref().map(IntCounter::get);
        [after, random, self.fill.metrics.fills.canary_skipped.get()]
    }
}

fn key(path: &str) -> Key {
    Key::of_request(&rule(), path, None, "", &HeaderMap::new()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_is_filled_after_a_purge_is_looked_at_1_10_and_60_seconds_later() {
    let yard = Yard::new();
    yard.get("/store/products/early").await;
    yard.purge("list:product");
    yard.get(LIST).await;
    yard.at(10_000).await;
    yard.get("/store/products/late").await;
    yard.at(100_000).await;
    assert_eq!(yard.asked(LIST), [0, 1000, 10_000, 60_000]);
    assert_eq!(yard.asked("/store/products/early"), [0], "nobody asks for what was purged");
    assert_eq!(yard.asked("/store/products/late"), [10_000], "what was filled that late is as it is");
    assert_eq!((yard.looks(), yard.found()), ([3, 0, 0], [0, 0]));
}

#[tokio::test(start_paused = true)]
async fn the_last_look_finds_what_the_others_came_too_early_for() {
    let yard = Yard::new();
    yard.purge("list:product");
    yard.get(LIST).await;
    yard.at(11_000).await;
    yard.says("2");
    // An event for it has time to come.
    yard.at(69_900).await;
    assert_eq!((yard.held(LIST).unwrap().body.as_ref(), yard.found()), (&b"2"[..], [0, 0]));
    yard.at(70_000).await;
    assert_eq!(yard.found(), [1, 0]);
}

#[tokio::test(start_paused = true)]
async fn what_is_purged_again_is_looked_at_anew() {
    let yard = Yard::new();
    yard.purge("list:product");
    yard.get(LIST).await;
    yard.at(5000).await;
    yard.purge("list:product");
    yard.at(20_000).await;
    assert_eq!(yard.asked(LIST), [0, 1000], "nobody asks for it");
    yard.purge("list:product");
    yard.get(LIST).await;
    yard.at(31_000).await;
    assert_eq!(yard.asked(LIST), [0, 1000, 20_000, 21_000, 30_000]);
}

#[tokio::test(start_paused = true)]
async fn no_more_than_32_answers_are_looked_at_at_once_and_what_they_find_is_counted_all_the_same() {
    let yard = Yard::new();
    yard.purge("list:product");
    let path = |n: usize| format!("/store/products/{n}");
    for n in 0..33 {
        yard.get(&path(n)).await;
    }
    yard.says("2");
    yard.at(11_500).await;
    assert_eq!((yard.looks(), yard.found()), ([64, 0, 1], [32, 0]));
    assert_eq!(yard.asked(&path(32)), [0]);
}

#[tokio::test(start_paused = true)]
async fn no_more_than_32_findings_wait_for_their_events() {
    let yard = Yard::new();
    for body in ["1", "2"] {
        yard.says(body);
        for n in 0..33 {
            yard.get(&format!("/store/products/{n}")).await;
        }
        // None is good for so long.
        yard.nodes.clock.advance(Duration::from_secs(9999));
    }
    yard.at(10_000).await;
    assert_eq!((yard.looks(), yard.found()), ([0, 0, 1], [0, 32]));
}

#[tokio::test(start_paused = true)]
async fn a_change_counts_as_one_without_an_event_when_that_has_had_its_time() {
    for (event, found) in [(Some(15_000), 0), (Some(19_900), 0), (Some(20_100), 1), (None, 1)] {
        let yard = Yard::new();
        yard.get(LIST).await;
        yard.hits(rule(), LIST);
        yard.fill.tasks.spawn(Arc::clone(&yard.fill).sample_hot());
        yard.at(5000).await;
        yard.says("2");
        // Found at 10 s.
        yard.at(event.unwrap_or(15_000)).await;
        assert_eq!(yard.held(LIST).unwrap().body.as_ref(), b"2", "what is found is stored");
        if event.is_some() {
            yard.purge("list:product");
        }
        yard.at(25_000).await;
        assert_eq!((event, yard.found()), (event, [0, found]));
        yard.fill.tasks.stop().await;
    }
}

/// The event may be in the log.
#[tokio::test(start_paused = true)]
async fn a_node_that_does_not_hear_of_the_log_finds_no_event_missing() {
    for (hears, found) in [(true, 1), (false, 0)] {
        let yard = Yard::with(Some(Duration::from_secs(5)));
        let confirmed = || yard.fill.purges.confirmed(yard.nodes.clock.now());
        confirmed();
        yard.get(LIST).await;
        yard.nodes.clock.advance(Duration::from_secs(9999));
        confirmed();
        yard.says("2");
        yard.get(LIST).await;
        yard.at(9000).await;
        if hears {
            confirmed();
        }
        yard.at(11_000).await;
        assert_eq!(yard.found(), [0, found]);
    }
}

#[tokio::test(start_paused = true)]
async fn one_of_those_that_are_asked_for_most_is_compared_at_a_time() {
    let yard = Yard::new();
    let path = |name: &str| format!("/store/products/{name}");
    let hot = ["a", "b", "c"].map(path);
    let [seldom, purged, by_the_book, other] = ["seldom", "purged", "by_the_book", "other"].map(path);
    for path in hot.iter().chain([&seldom, &by_the_book, &purged, &other]) {
        yard.get(path).await;
    }
    // Another node filled it.
    let foreign = Entry { is_own: false, ..crate::policy::entry::tests::entry(key(&other).text()) };
    yard.fill.l1.put(&key(&other), Slot::Entry(Arc::new(foreign)));
    yard.purge(&format!("path:{purged}"));
    assert!(yard.fill.is_purged(&yard.held(&purged).unwrap()));
    yard.fill.tasks.spawn(Arc::clone(&yard.fill).sample_hot());
    for period in 0..30 {
        for path in hot.iter().chain([&hot[0]; 3]) {
            yard.hits(rule(), path);
        }
        yard.hits(Rule { policy: Policy::Origin, ..rule() }, &by_the_book);
        yard.hits(rule(), &other);
        yard.hits(rule(), &purged);
        yard.at(10_000 * (period + 1)).await;
    }
    let times = |path: &String| yard.asked(path).len() - 1;
    assert_eq!((hot.iter().map(times).sum::<usize>(), yard.looks()), (30, [0, 30, 0]));
    let [most, second, third] = hot.each_ref().map(times);
    assert!(
        most > second + third && second > 0 && third > 0,
        "by how often they are asked for: {most} {second} {third}"
    );
    assert_eq!([seldom, purged, by_the_book, other].each_ref().map(times), [0; 4]);
}

#[tokio::test(start_paused = true)]
async fn looks_have_their_part_of_the_origin_and_no_more() {
    let yard = Yard::new();
    yard.get(LIST).await;
    yard.hits(rule(), LIST);
    yard.fill.tasks.spawn(Arc::clone(&yard.fill).sample_hot());
    let all = u32::try_from(yard.fill.settings.refreshes_max).unwrap();
    let refreshes = Arc::clone(&yard.fill.refreshes).try_acquire_many_owned(all).unwrap();
    yard.at(30_000).await;
    assert_eq!(yard.asked(LIST), [0]);
    drop(refreshes);
    yard.at(35_000).await;
    assert_eq!(yard.asked(LIST), [0, 30_000]);
}
