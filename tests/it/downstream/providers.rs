//! Fastly and Cloudflare as they document themselves: whom they let in, what a request may hold, how many may be made.
//!
//! Sources, read in November 2026: Fastly's API reference ("Authentication": `Fastly-Key`, else 401; "Purge multiple surrogate
//! key tags": 256 keys; "Rate limiting": 429 with `Fastly-RateLimit-Reset`, in seconds since 1970), Cloudflare's "Purge
//! cache" (100 operations a request; a bucket of 25 that gains 5 a minute on the free plan) and its API's errors (403 with
//! code 10000; 429 with `Retry-After`).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use endcap::clock::{Clock, ManualClock, Timestamp};
use endcap::policy::surrogate;
use endcap::policy::tags::TagHash;
use serde_json::{Value, json};

use super::{ALL, body, settled, told};
use crate::stage::{Answer, FakeOrigin, Seen, Stage, until};

const FASTLY: &str = "/service/SU1/purge";
const CLOUDFLARE: &str = "/client/v4/zones/zone1/purge_cache";

/// What an account may still do, and what it has done.
struct Account {
    token: String,
    /// Requests that it may make now, at the most, and how many it gains a second.
    left: f64,
    most: f64,
    rate: f64,
    at: Timestamp,
    purged: BTreeSet<String>,
    everything: usize,
    /// The statuses of what was refused.
    refused: Vec<u16>,
}

impl Account {
    /// Takes a request out of the bucket, or says for how long there is none.
    fn take(&mut self, now: Timestamp) -> Result<(), Duration> {
        self.left = (self.left + now.since(self.at).as_secs_f64() * self.rate).min(self.most);
        self.at = now;
        if self.left < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - self.left) / self.rate));
        }
        self.left -= 1.0;
        Ok(())
    }

    /// The names of a list that is none too long, of names that are none too long.
    fn names(list: &Value, most: usize) -> Option<BTreeSet<String>> {
        let names = list.as_array().filter(|names| (1..=most).contains(&names.len()))?.iter();
        let fits = |name: &&str| (1..=1024).contains(&name.len()) && !name.contains([' ', ',']);
        names.map(|name| name.as_str().filter(fits).map(str::to_owned)).collect()
    }

    fn fastly(&mut self, seen: &Seen, now: Timestamp) -> Answer {
        if seen.field("fastly-key") != self.token {
            return Answer::status(401);
        }
        if let Err(wait) = self.take(now) {
            let reset = (now + wait).as_millis().div_ceil(1000);
            let answer = Answer::status(429).header("fastly-ratelimit-remaining", "0");
            return answer.header("fastly-ratelimit-reset", &reset.to_string());
        }
        let is_soft = seen.field("fastly-soft-purge") == "1";
        if seen.path() != FASTLY {
            self.everything += 1;
            return Answer::status(if is_soft { 400 } else { 200 });
        }
        match Self::names(&body(seen)["surrogate_keys"], 256) {
            Some(keys) => self.purged.extend(keys),
            None => return Answer::status(400),
        }
        Answer::json("{}")
    }

    fn cloudflare(&mut self, seen: &Seen, now: Timestamp) -> Answer {
        let error = |status, code| {
            let body = json!({ "success": false, "errors": [{ "code": code }], "result": null });
            Answer::json(body.to_string()).with_status(status)
        };
        if seen.field("authorization") != format!("Bearer {}", self.token) {
            return error(403, 10000);
        }
        if let Err(wait) = self.take(now) {
            let seconds = wait.as_millis().div_ceil(1000);
            return error(429, 10429).header("retry-after", &seconds.to_string());
        }
        let asked = body(seen);
        match (asked["purge_everything"] == true, Self::names(&asked["tags"], 100)) {
            (true, None) => self.everything += 1,
            (false, Some(tags)) => self.purged.extend(tags),
            _ => return error(400, 1012),
        }
        Answer::json(json!({ "success": true, "errors": [], "result": { "id": "zone1" } }).to_string())
    }
}

type Purge = fn(&mut Account, &Seen, Timestamp) -> Answer;

/// A provider's side of the story.
#[derive(Clone)]
struct Book(Arc<Mutex<Account>>);

impl Book {
    fn open(provider: &FakeOrigin, clock: &Arc<ManualClock>, paths: &[&str], account: Account, purge: Purge) -> Self {
        let book = Self(Arc::new(Mutex::new(account)));
        for path in paths {
            let (book, clock) = (book.clone(), Arc::clone(clock));
            provider.respond(path, move |seen| {
                let mut account = book.account();
                let answer = purge(&mut account, seen, clock.now());
                if answer.code() >= 400 {
                    account.refused.push(answer.code());
                }
                answer
            });
        }
        book
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.0.lock().unwrap()
    }

    /// Whether it has purged, by their names, these and what stands for their kind and for all.
    fn has_purged(&self, tags: &[String]) -> bool {
        let account = self.account();
        let mut names =
            tags.iter().map(String::as_str).chain(["prod_*", "*"]).map(|tag| surrogate::name(TagHash::of(tag)));
        names.all(|name| account.purged.contains(&name))
    }
}

/// A node whose targets have had their first purge of everything, by providers that are strict from then on.
async fn strict() -> (FakeOrigin, Stage, Book, Book) {
    let (provider, builder) = told(ALL).await;
    let stage = builder.start().await;
    for name in ["edge", "flare", "shop"] {
        settled(&stage, 0, name).await;
    }
    let account = |token: &str, most: f64, rate: f64| Account {
        token: token.to_owned(),
        left: most,
        most,
        rate,
        at: stage.clock.now(),
        purged: BTreeSet::new(),
        everything: 0,
        refused: Vec::new(),
    };
    // 100,000 an hour.
    let fastly = account("fastly-token", 100_000.0, 100_000.0 / 3600.0);
    let cloudflare = account("cloudflare-token", 25.0, 5.0 / 60.0);
    let all = format!("{FASTLY}_all");
    let fastly = Book::open(&provider, &stage.clock, &[FASTLY, &all], fastly, Account::fastly);
    let cloudflare = Book::open(&provider, &stage.clock, &[CLOUDFLARE], cloudflare, Account::cloudflare);
    (provider, stage, fastly, cloudflare)
}

fn products(from: usize, count: usize) -> Vec<String> {
    (from..from + count).map(|n| format!("prod_{n}")).collect()
}

async fn purge(stage: &Stage, mode: &str, tags: &[String]) {
    stage.purge(mode, &tags.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

async fn state(stage: &Stage, name: &str) -> Value {
    stage.status(0).await["downstream"][name].clone()
}

#[tokio::test]
async fn every_request_of_a_large_purge_is_one_that_the_provider_takes() {
    let (_provider, stage, fastly, cloudflare) = strict().await;
    for (from, mode) in [(0, "hard"), (1000, "soft")] {
        let tags = products(from, 1000);
        purge(&stage, mode, &tags).await;
        for (book, name) in [(&fastly, "edge"), (&cloudflare, "flare")] {
            settled(&stage, 0, name).await;
            assert!(book.has_purged(&tags), "{name} {mode}");
        }
    }
    // More than the free plan takes at once, or Fastly's keys in as many requests as we make at once.
    purge(&stage, "soft", &products(0, 13_000)).await;
    for (book, name) in [(&fastly, "edge"), (&cloudflare, "flare")] {
        settled(&stage, 0, name).await;
        let account = book.account();
        assert_eq!((account.everything, &account.refused), (1, &vec![]), "{name}");
    }
}

#[tokio::test]
async fn a_plans_bucket_is_never_overdrawn() {
    let (provider, stage, _, cloudflare) = strict().await;
    // The first purge of everything was made before the book was opened: 24 are left.
    cloudflare.account().left = 24.0;
    let tags = products(0, 2300);
    purge(&stage, "hard", &tags).await;
    settled(&stage, 0, "flare").await;
    assert_eq!((provider.count(CLOUDFLARE), cloudflare.account().left), (1 + 24, 0.0));
    let more = products(2300, 150);
    purge(&stage, "hard", &more).await;
    let behind = async || state(&stage, "flare").await["behind"] == true;
    assert!(behind().await);
    // 5 a minute.
    for asked in [1, 2] {
        assert!(behind().await);
        stage.advance_secs(12);
        until("one more may be asked", async || provider.count(CLOUDFLARE) == 25 + asked).await;
    }
    settled(&stage, 0, "flare").await;
    let has_all = [&tags, &more].iter().all(|tags| cloudflare.has_purged(tags));
    assert_eq!((has_all, &cloudflare.account().refused), (true, &vec![]));
}

#[tokio::test]
async fn an_account_that_others_use_too_is_left_alone_for_as_long_as_it_says() {
    let (_provider, stage, fastly, cloudflare) = strict().await;
    let tags = products(0, 600);
    for book in [&fastly, &cloudflare] {
        let mut account = book.account();
        // Two of several requests; the next is gained after ten minutes.
        (account.left, account.most, account.rate) = (2.0, 1000.0, 1.0 / 600.0);
    }
    purge(&stage, "hard", &tags).await;
    for name in ["edge", "flare"] {
        until("it asks for time", async || state(&stage, name).await["failures"] == 1).await;
        let wait = state(&stage, name).await["next_try_seconds"].as_f64().unwrap();
        assert!((600.0..=601.0).contains(&wait), "{name}: {wait}");
    }
    for book in [&fastly, &cloudflare] {
        // Who counts by the hour has all of it again.
        book.account().rate = 1.0;
    }
    stage.advance_secs(601);
    for (book, name) in [(&fastly, "edge"), (&cloudflare, "flare")] {
        settled(&stage, 0, name).await;
        assert!(book.has_purged(&tags), "{name}");
        assert_eq!(book.account().refused, [429], "{name} was asked once too often, and not before its time");
    }
}

#[tokio::test]
async fn a_token_that_is_not_taken_is_named_until_it_is() {
    let (_provider, stage, fastly, cloudflare) = strict().await;
    let mine = [&fastly, &cloudflare].map(|book| std::mem::replace(&mut book.account().token, "another".to_owned()));
    let tags = products(0, 3);
    purge(&stage, "hard", &tags).await;
    for (name, error) in [
        ("edge", "401: give downstream.edge.token the scopes purge_select and purge_all"),
        ("flare", "403: give downstream.flare.token the permission \"Cache Purge\" for the zone"),
    ] {
        until("it refuses", async || state(&stage, name).await["error"] == error).await;
    }
    for (book, token) in [&fastly, &cloudflare].into_iter().zip(mine) {
        book.account().token = token;
    }
    stage.advance_secs(300);
    for (book, name) in [(&fastly, "edge"), (&cloudflare, "flare")] {
        settled(&stage, 0, name).await;
        assert!(book.has_purged(&tags), "{name}");
    }
}
