//! What every shared store promises. The store in memory stands for Redis in the simulation and in a node
//! without Redis; if the two differed, the simulation would prove nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use endcap::clock::{Clock, ManualClock, SystemClock};
use endcap::jitter::Jitter;
use endcap::policy::key::{Key, KeyHash};
use endcap::policy::notice::Notice;
use endcap::policy::purge::{Mode, Purge, PurgeSeq};
use endcap::store::memory::MemoryStore;
use endcap::store::redis::{Credentials, RedisSettings, RedisStore, Topology};
use endcap::store::{Lease, LeaseToken, LogState, NOTE_BYTES_MAX, SharedStore, StoreError};
use endcap::tasks::Tasks;
use futures_util::future::BoxFuture;

use crate::stage::{until, within};

pub(crate) const KEEP: Duration = Duration::from_secs(3600);
pub(crate) const NO_WAIT: Duration = Duration::ZERO;
pub(crate) const MINUTE: Duration = Duration::from_secs(60);

/// Sends a command to the server behind a store.
pub(crate) type Order = Box<dyn Fn(&[&str]) -> BoxFuture<'static, redis::Value> + Send + Sync>;

/// A store, and what a test does to it from outside.
pub(crate) struct World {
    pub(crate) store: Arc<dyn SharedStore>,
    clock: Arc<ManualClock>,
    namespace: String,
    /// `None` for the store in memory.
    order: Option<Order>,
}

impl World {
    pub(crate) fn memory() -> Self {
        let clock = Arc::new(ManualClock::at(SystemClock::new().now()));
        let store = Arc::new(MemoryStore::new(Arc::clone(&clock) as Arc<dyn Clock>));
        Self { store, clock, namespace: String::new(), order: None }
    }

    pub(crate) fn redis(settings: &RedisSettings, order: Order) -> Self {
        let clock = Arc::new(ManualClock::at(SystemClock::new().now()));
        let store = store(settings, &clock);
        Self { store: Arc::new(store), clock, namespace: settings.namespace.clone(), order: Some(order) }
    }

    /// Sends a command that is about our stream.
    pub(crate) async fn order(&self, command: &str, words: &[&str]) {
        if let Some(order) = &self.order {
            let stream = format!("{}:purges", self.namespace);
            within(order(&[&[command, &stream], words].concat())).await;
        }
    }

    pub(crate) async fn append(&self, tag: &str) -> PurgeSeq {
        self.store.append(&[purge(tag)], KEEP).await.unwrap()[0]
    }

    /// The tags of the lines after a position; those that cannot be read as `?`.
    pub(crate) async fn read(&self, after: PurgeSeq, most: usize) -> Vec<String> {
        let lines = self.store.read_log(after, most, NO_WAIT).await.unwrap();
        assert!(lines.is_sorted_by(|a, b| a.seq < b.seq) && lines.iter().all(|line| line.seq > after), "{lines:?}");
        let word = |purge: &Purge| purge.tags.iter().map(|(tag, _)| tag.as_str()).collect::<Vec<_>>().join(" ");
        lines.iter().map(|line| line.read().purge.as_ref().map_or("?".to_owned(), word)).collect()
    }

    /// Waits until a time has passed, on the clock that the store's values live by.
    async fn outlive(&self, ttl: Duration, key: KeyHash) {
        self.clock.advance(ttl);
        until("the value has gone", async || self.store.get(key).await.unwrap().is_none()).await;
    }

    /// Appends a line and has all before it cut off.
    async fn append_and_cut(&self, tag: &str) -> PurgeSeq {
        // Lines of one millisecond are kept together.
        self.clock.advance(MINUTE);
        let seq = self.append(tag).await;
        // What is too old is told by the line before.
        self.store.append(&[purge("after")], Duration::ZERO).await.unwrap();
        self.order("XTRIM", &["MINID", &seq.to_string()]).await;
        seq
    }
}

/// A Redis store on a clock of the test's.
pub(crate) fn store(settings: &RedisSettings, clock: &Arc<ManualClock>) -> RedisStore {
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    RedisStore::new(settings, clock, Jitter::new(Jitter::seed()), Tasks::new()).unwrap()
}

/// Patient ones: a busy machine is no slow Redis.
pub(crate) fn settings(topology: Topology, namespace: &str) -> RedisSettings {
    RedisSettings {
        topology,
        tls: None,
        credentials: Credentials::default(),
        sentinel_credentials: Credentials::default(),
        database: 0,
        namespace: namespace.to_owned(),
        connections: 2,
        value_max: 1 << 24,
        connect_timeout: Duration::from_secs(5),
        deadline: Duration::from_secs(5),
        lease_deadline: Duration::from_secs(5),
        append_deadline: Duration::from_secs(5),
        wait_replicas: 0,
        wait_timeout: Duration::from_secs(1),
        breaker_failures: 5,
        breaker_open: Duration::from_secs(1),
    }
}

pub(crate) fn purge(tag: &str) -> Purge {
    Purge { tags: vec![(tag.to_owned(), Mode::Hard)], source: "test".to_owned(), ..Purge::default() }
}

/// The hash of the key whose path this is.
pub(crate) fn key(path: &str) -> KeyHash {
    let mut text = Vec::new();
    for part in ["products", path, "", ""] {
        text.extend_from_slice(&u32::try_from(part.len()).unwrap().to_be_bytes());
        text.extend_from_slice(part.as_bytes());
    }
    Key::from_text(&text).unwrap().hash()
}

/// A position that no log reaches today.
fn far() -> PurgeSeq {
    PurgeSeq::new(99_999_999_999_999, 7).unwrap()
}

pub(crate) async fn what_was_put_is_got(world: World) {
    let store = &world.store;
    assert_eq!(store.get(key("/a")).await.unwrap(), None);
    for value in [&b"one"[..], b"", &[0, 255, 13, 10], &[7; 1 << 20]] {
        store.put(key("/a"), Bytes::copy_from_slice(value), MINUTE).await.unwrap();
        let found = store.get(key("/a")).await.unwrap();
        assert_eq!(found.as_deref(), Some(value).filter(|value| !value.is_empty()), "no bytes are none");
    }
    assert_eq!(store.get(key("/b")).await.unwrap(), None);
}

pub(crate) async fn a_value_ends_with_its_time(world: World) {
    let ttl = Duration::from_millis(50);
    world.store.put(key("/a"), Bytes::from_static(b"short"), ttl).await.unwrap();
    world.store.put(key("/b"), Bytes::from_static(b"long"), KEEP).await.unwrap();
    world.outlive(ttl, key("/a")).await;
    assert!(world.store.get(key("/b")).await.unwrap().is_some());
    // A new value has a new time.
    world.store.put(key("/a"), Bytes::from_static(b"again"), KEEP).await.unwrap();
    assert!(world.store.get(key("/a")).await.unwrap().is_some());
}

pub(crate) async fn lines_stand_in_the_order_of_their_appends(world: World) {
    let mut last = PurgeSeq::ZERO;
    for n in 0..50 {
        let seq = world.append(&n.to_string()).await;
        assert!(seq > last && seq == seq.shared());
        last = seq;
    }
    let expected: Vec<String> = (0..50).map(|n| n.to_string()).collect();
    assert_eq!(world.read(PurgeSeq::ZERO, 100).await, expected);
}

pub(crate) async fn a_line_comes_back_as_it_was_appended(world: World) {
    let sent = Purge {
        tags: vec![("s".into(), Mode::Soft), ("h ä\"\n".into(), Mode::Hard), ("d".into(), Mode::Delete)],
        source: "default".into(),
        event_id: "msg_1".into(),
        notices: vec![Notice { event: "a.b".into(), ids: vec!["1".into()], truncated: true }, Notice::reset()],
    };
    let seq = world.store.append(std::slice::from_ref(&sent), KEEP).await.unwrap()[0];
    let lines = world.store.read_log(PurgeSeq::ZERO, 10, NO_WAIT).await.unwrap();
    assert_eq!((lines.len(), lines[0].seq, lines[0].read().purge), (1, seq, Some(sent)));
}

pub(crate) async fn a_reader_goes_on_where_it_was_in_batches(world: World) {
    let first = world.append("a").await;
    for tag in ["b", "c", "d"] {
        world.append(tag).await;
    }
    assert_eq!(world.read(first, 2).await, ["b", "c"]);
    assert_eq!(world.read(first.next_local().shared(), 100).await, ["b", "c", "d"]);
    let elsewhere = world.store.read_log(far(), 10, NO_WAIT).await;
    assert_eq!(elsewhere, Err(StoreError::Gone), "what came behind it is unknown");
}

pub(crate) async fn a_waiting_reader_wakes_for_a_line(world: World) {
    let before = world.append("before").await;
    let waiting = world.store.read_log(before, 10, MINUTE);
    let append = async {
        // The reader has asked by now, or will find the line at once: both are right.
        tokio::task::yield_now().await;
        world.append("after").await
    };
    let (lines, seq) = within(async { tokio::join!(waiting, append) }).await;
    let lines = lines.unwrap();
    assert_eq!((lines.len(), lines[0].seq), (1, seq));
}

pub(crate) async fn a_wait_without_a_line_ends(world: World) {
    let lines = within(world.store.read_log(PurgeSeq::ZERO, 10, Duration::from_millis(20))).await.unwrap();
    assert_eq!(lines, []);
}

pub(crate) async fn history_is_read_from_a_line_on_that_line_included(world: World) {
    let look = async |from, most| {
        let lines = world.store.look_log(from, most).await.unwrap();
        lines.iter().map(|line| line.seq).collect::<Vec<_>>()
    };
    assert_eq!(look(PurgeSeq::ZERO, 10).await, []);
    let (a, b, c) = (world.append("a").await, world.append("b").await, world.append("c").await);
    assert_eq!(look(b, 10).await, [b, c]);
    assert_eq!(look(b.next_local(), 1).await, [b]);
    assert_eq!(look(PurgeSeq::ZERO, 2).await, [a, b]);
    assert_eq!(look(c.next_shared(), 10).await, []);
}

pub(crate) async fn a_reader_that_gives_up_does_not_harm_the_next(world: World) {
    drop(tokio::time::timeout(Duration::from_millis(20), world.store.read_log(PurgeSeq::ZERO, 10, MINUTE)).await);
    world.append("a").await;
    assert_eq!(world.read(PurgeSeq::ZERO, 10).await, ["a"]);
}

pub(crate) async fn a_log_continues_for_who_has_seen_its_beginning(world: World) {
    assert_eq!(
        world.store.log_state(PurgeSeq::ZERO).await.unwrap(),
        LogState::Continues,
        "empty, and nothing was read"
    );
    let first = world.append("a").await;
    let second = world.append("b").await;
    for applied in [first, second, second.next_local()] {
        assert_eq!(world.store.log_state(applied).await.unwrap(), LogState::Continues, "{applied}");
    }
    // A reader that is new cannot know what stood before the first line.
    assert_eq!(world.store.log_state(PurgeSeq::ZERO).await.unwrap(), LogState::Trimmed(first));
}

pub(crate) async fn a_cut_log_says_where_it_begins(world: World) {
    let first = world.append("a").await;
    world.append("b").await;
    let cut = world.append_and_cut("c").await;
    assert_eq!(world.store.log_state(first).await.unwrap(), LogState::Trimmed(cut));
    assert_eq!(world.store.log_state(cut).await.unwrap(), LogState::Continues);
    assert_eq!(world.store.log_state(PurgeSeq::ZERO).await.unwrap(), LogState::Trimmed(cut), "a reader that is new");
    assert_eq!(world.store.read_log(first, 10, NO_WAIT).await, Err(StoreError::Gone));
    assert_eq!(world.read(PurgeSeq::ZERO, 10).await, ["c", "after"]);
}

pub(crate) async fn a_log_that_ends_before_the_reader_is_lost_until_it_is_put_back(world: World) {
    let state = async |applied| world.store.log_state(applied).await.unwrap();
    assert_eq!(state(far()).await, LogState::Lost(PurgeSeq::ZERO), "an empty one");
    let newest = world.append("a").await;
    assert_eq!(state(far()).await, LogState::Lost(newest));
    let restore = async |seq: PurgeSeq, tag: &str| {
        let mut line = purge(tag);
        line.tags.insert(0, ("deleted".to_owned(), Mode::Delete));
        world.store.restore(seq, &line, KEEP).await.unwrap()
    };
    assert!(restore(far(), "lost").await);
    assert_eq!(state(far().next_local()).await, LogState::Continues);
    assert!(restore(far(), "lost").await, "another node was faster");
    assert!(!restore(far(), "another").await, "and said this");
    assert!(!restore(PurgeSeq::new(5, 0).unwrap(), "older").await, "the log has gone on without it");
    let seq = world.append("b").await;
    assert!(seq > far(), "{seq}");
    assert_eq!(world.read(far(), 10).await, ["b"]);
}

/// After a fail-over that lost the end of the log others may have appended before we look.
pub(crate) async fn a_line_that_is_gone_from_the_middle_is_lost_until_it_is_put_back(world: World) {
    let at = |n| PurgeSeq::new(99_999_999_999_999, n).unwrap();
    for (n, tag) in [(1, "a"), (3, "b")] {
        assert!(world.store.restore(at(n), &purge(tag), KEEP).await.unwrap());
    }
    assert_eq!(world.store.log_state(at(2)).await.unwrap(), LogState::Lost(at(1)), "it was read, and is not there");
    assert!(!world.store.restore(at(2), &purge("lost"), KEEP).await.unwrap(), "the log has gone on without it");
    assert_eq!(world.store.log_state(at(3)).await.unwrap(), LogState::Continues);
}

pub(crate) async fn a_forgotten_value_is_gone(world: World) {
    world.store.put(key("/a"), Bytes::from_static(b"x"), MINUTE).await.unwrap();
    world.store.remove(key("/a")).await.unwrap();
    world.store.remove(key("/a")).await.unwrap();
    assert_eq!(world.store.get(key("/a")).await.unwrap(), None);
}

pub(crate) async fn a_note_is_written_by_who_knows_what_stood_there(world: World) {
    let store = &world.store;
    let text = |text: &'static str| Bytes::from_static(text.as_bytes());
    let swap = async |before: Option<&'static str>, after| {
        store.swap_note("downstream:a", before.map(text), text(after), MINUTE).await.unwrap()
    };
    assert_eq!(store.note("downstream:a").await.unwrap(), None);
    assert!(!swap(Some("x"), "1").await);
    assert!(swap(None, "1").await);
    assert!(!swap(None, "2").await && !swap(Some("2"), "2").await);
    assert!(swap(Some("1"), "2").await);
    assert_eq!(store.note("downstream:a").await.unwrap(), Some(text("2")));
    assert_eq!(store.note("downstream:b").await.unwrap(), None, "each name has its own");
    let short = Duration::from_millis(50);
    assert!(store.swap_note("downstream:a", Some(text("2")), text("3"), short).await.unwrap());
    world.clock.advance(short);
    until("the note has gone", async || store.note("downstream:a").await.unwrap().is_none()).await;
    // Whoever can write to Redis may put anything there.
    let long = Bytes::from(vec![b'x'; 2 * NOTE_BYTES_MAX]);
    assert!(store.swap_note("downstream:a", None, long, MINUTE).await.unwrap());
    let read = store.note("downstream:a").await.unwrap().unwrap();
    assert_eq!(read.len(), NOTE_BYTES_MAX + 1);
    assert!(store.swap_note("downstream:a", Some(read), text("4"), MINUTE).await.unwrap(), "it can be mended");
}

pub(crate) async fn a_lease_has_one_holder_who_alone_gives_it_back(world: World) {
    let store = &world.store;
    let (one, two) = (LeaseToken(1), LeaseToken(2));
    let seen_by = async |token| store.leased(key("/a"), token).await.unwrap();
    let leased = async || seen_by(LeaseToken(3)).await;
    assert_eq!(leased().await, Lease::Free);
    assert!(store.lease(key("/a"), one, MINUTE).await.unwrap());
    assert!(!store.lease(key("/a"), two, MINUTE).await.unwrap());
    assert!(store.lease(key("/b"), two, MINUTE).await.unwrap(), "each key has its own");
    assert_eq!((seen_by(one).await, seen_by(two).await), (Lease::Ours, Lease::Held));
    store.release(key("/a"), two, None).await.unwrap();
    assert_eq!(leased().await, Lease::Held, "it is not two's to give back");
    store.release(key("/a"), one, None).await.unwrap();
    assert_eq!(leased().await, Lease::Free);
    assert!(store.lease(key("/a"), two, MINUTE).await.unwrap());
}

pub(crate) async fn a_lease_given_up_tells_all_not_to_wait_for_a_while(world: World) {
    let store = &world.store;
    let look = async || store.leased(key("/a"), LeaseToken(3)).await.unwrap();
    assert!(store.lease(key("/a"), LeaseToken(1), MINUTE).await.unwrap());
    store.release(key("/a"), LeaseToken(1), Some(Duration::from_millis(50))).await.unwrap();
    // On a slow machine the while may be over.
    assert!(matches!(look().await, Lease::Vain | Lease::Free));
    world.clock.advance(Duration::from_millis(50));
    until("the while is over", async || look().await == Lease::Free).await;
}

pub(crate) async fn a_lease_ends_with_its_time(world: World) {
    let ttl = Duration::from_millis(50);
    assert!(world.store.lease(key("/a"), LeaseToken(1), ttl).await.unwrap());
    world.clock.advance(ttl);
    until("it is free", async || world.store.leased(key("/a"), LeaseToken(3)).await.unwrap() == Lease::Free).await;
    assert!(world.store.lease(key("/a"), LeaseToken(2), MINUTE).await.unwrap());
    world.store.release(key("/a"), LeaseToken(1), None).await.unwrap();
    assert_eq!(world.store.leased(key("/a"), LeaseToken(3)).await.unwrap(), Lease::Held, "the next holder keeps it");
}

/// Hands all promises to a macro.
macro_rules! promises {
    ($run:ident) => {
        $run! {
            what_was_put_is_got
            a_value_ends_with_its_time
            lines_stand_in_the_order_of_their_appends
            a_line_comes_back_as_it_was_appended
            a_reader_goes_on_where_it_was_in_batches
            a_waiting_reader_wakes_for_a_line
            a_wait_without_a_line_ends
            history_is_read_from_a_line_on_that_line_included
            a_reader_that_gives_up_does_not_harm_the_next
            a_log_continues_for_who_has_seen_its_beginning
            a_cut_log_says_where_it_begins
            a_log_that_ends_before_the_reader_is_lost_until_it_is_put_back
            a_line_that_is_gone_from_the_middle_is_lost_until_it_is_put_back
            a_forgotten_value_is_gone
            a_note_is_written_by_who_knows_what_stood_there
            a_lease_has_one_holder_who_alone_gives_it_back
            a_lease_given_up_tells_all_not_to_wait_for_a_while
            a_lease_ends_with_its_time
        }
    };
}
pub(crate) use promises;
