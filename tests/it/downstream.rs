//! Purges outward, to fakes that speak the providers' protocols: each purge arrives, in order, by one node, whatever dies.

mod place;
mod providers;
mod recent;
mod refill;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use endcap::clock::Clock;
use endcap::policy::downstream::HELD_MAX;
use endcap::policy::surrogate;
use endcap::policy::tags::TagHash;
use endcap::policy::webhook::{WebhookSecret, verify};
use endcap::tasks::Tasks;
use serde_json::{Value, json};

use crate::stage::{Answer, Builder, FakeOrigin, LogLines, Seen, Stage, until, within};

const SECRET: &str = "whsec_ZW5kY2FwIGV4YW1wbGUgc2VjcmV0IG9ubHkh";

/// A provider, and a stage whose nodes tell it of purges by these targets; `URL` is its address.
async fn told(targets: &str) -> (FakeOrigin, Builder) {
    let provider = FakeOrigin::start(&Tasks::new()).await;
    let targets = targets.replace("URL", &format!("http://{}", provider.address));
    (provider, Stage::new().also(&targets))
}

async fn webhook() -> (FakeOrigin, Builder) {
    told(&format!("[downstream.hook]\nkind = \"webhook\"\nurl = \"URL/hook\"\ntoken = \"{SECRET}\"\n")).await
}

/// A stage whose target has been told what it is told first: everything.
async fn begun(builder: Builder) -> Stage {
    let stage = builder.start().await;
    settled(&stage, 0, "hook").await;
    stage
}

fn body(seen: &Seen) -> Value {
    serde_json::from_slice(&seen.body).unwrap_or(Value::Null)
}

fn is_signed(stage: &Stage, seen: &Seen) -> bool {
    let secret = WebhookSecret::parse(SECRET).unwrap();
    verify(&seen.headers, &seen.body, &[secret], Duration::from_secs(60), stage.clock.now()).is_ok()
}

/// The tags that a webhook was told of.
fn tags(seen: &Seen) -> Vec<String> {
    let body = body(seen);
    if body["data"]["everything"] == true {
        return vec!["everything".to_owned()];
    }
    let tags = body["data"]["tags"].as_array().unwrap().iter();
    tags.map(|tag| tag["tag"].as_str().unwrap().to_owned()).collect()
}

fn all_tags(provider: &FakeOrigin) -> Vec<Vec<String>> {
    provider.seen().iter().map(tags).collect()
}

/// Waits until a target has all there is.
async fn settled(stage: &Stage, node: usize, name: &str) {
    until(&format!("{name} has all"), async || {
        let status = stage.status(node).await["downstream"][name].clone();
        status["behind"] == false && status["second_purges"] == 0 && status["failures"] == 0
    })
    .await;
}

#[tokio::test]
async fn a_purge_is_told_signed_after_everything_was_purged_once() {
    let (provider, builder) = webhook().await;
    let stage = begun(builder).await;
    stage.purge("soft", &["prod_1", "list:product"]).await;
    provider.asked(2).await;
    settled(&stage, 0, "hook").await;
    assert_eq!(all_tags(&provider), [vec!["everything"], vec!["list:product", "prod_1"]]);
    let last = provider.last();
    assert_eq!((last.method.as_str(), last.target.as_str()), ("POST", "/hook"));
    assert_eq!(body(&last)["data"]["tags"][0]["mode"], "soft");
    assert!(is_signed(&stage, &last));
    assert_eq!(
        stage.metric(0, "endcap_downstream_requests_total", &[("target", "hook"), ("result", "done")]).await,
        2.0
    );
}

#[tokio::test]
async fn purges_that_come_while_a_target_is_busy_go_together() {
    let (provider, builder) = webhook().await;
    let stage = begun(builder).await;
    let hold = provider.hold("/hook");
    stage.purge("hard", &["prod_1"]).await;
    hold.arrived(1).await;
    for tag in ["prod_2", "prod_3", "prod_2"] {
        stage.purge("hard", &[tag]).await;
    }
    hold.release();
    settled(&stage, 0, "hook").await;
    assert_eq!(all_tags(&provider)[1..], [vec!["prod_1"], vec!["prod_2", "prod_3"]]);
}

const ALL: &str = r#"
[downstream.edge]
kind = "fastly"
url = "URL"
id = "SU1"
token = "fastly-token"
[downstream.flare]
kind = "cloudflare"
url = "URL"
id = "zone1"
token = "cloudflare-token"
[downstream.shop]
kind = "nextjs"
url = "URL/api/revalidate"
token = "whsec_ZW5kY2FwIGV4YW1wbGUgc2VjcmV0IG9ubHkh"
"#;

#[tokio::test]
async fn each_provider_is_told_in_its_own_words() {
    let (provider, builder) = told(ALL).await;
    provider.answer("/client/v4/zones/zone1/purge_cache", Answer::json(r#"{"success":true}"#));
    let stage = builder.start().await;
    for name in ["edge", "flare", "shop"] {
        settled(&stage, 0, name).await;
    }
    assert_eq!(provider.count("/service/SU1/purge_all"), 1);
    stage.purge("hard", &["prod_1"]).await;
    for name in ["edge", "flare", "shop"] {
        settled(&stage, 0, name).await;
    }
    let last = |path: &str| provider.seen().into_iter().rfind(|seen| seen.path() == path).unwrap();
    let fastly = last("/service/SU1/purge");
    assert_eq!((fastly.method.as_str(), fastly.field("fastly-key")), ("POST", "fastly-token"));
    let held = ["*", "prod_*", "prod_1"].map(|tag| surrogate::name(TagHash::of(tag)));
    let held: BTreeSet<_> = held.iter().map(String::as_str).collect();
    assert_eq!(body(&fastly), json!({ "surrogate_keys": held }));
    let flare = last("/client/v4/zones/zone1/purge_cache");
    assert_eq!(flare.field("authorization"), "Bearer cloudflare-token");
    assert_eq!(body(&flare), json!({ "tags": held }));
    let shop = last("/api/revalidate");
    assert!(is_signed(&stage, &shop));
    assert_eq!(body(&shop)["tags"], json!(["*", "prod_*", "prod_1"]));
}

#[tokio::test]
async fn an_answer_tells_a_cdn_the_tags_that_its_purges_will_name() {
    let (provider, builder) = told(ALL).await;
    provider.answer("/client/v4/zones/zone1/purge_cache", Answer::json(r#"{"success":true}"#));
    let stage = builder.start().await;
    for name in ["edge", "flare", "shop"] {
        settled(&stage, 0, name).await;
    }
    let list = |title: &str| {
        Answer::json(format!(r#"{{"products":[{{"id":"prod_1","title":"{title}"}}]}}"#))
            .etag(&format!("\"{title}\""))
            .header("surrogate-key", "of-the-origin")
    };
    stage.origin.answer("/store/products", list("a"));
    let mut told = Vec::new();
    // A miss, a hit, and what a 304 renewed.
    for _ in 0..3 {
        let reply = stage.get("/store/products").await;
        told.push((reply.field("surrogate-key"), reply.field("cache-tag")));
        if told.len() == 2 {
            stage.origin.answer("/store/products", Answer::status(304).header("surrogate-key", "of-the-origin"));
            stage.purge("hard", &["list:product"]).await;
        }
    }
    assert_eq!((&told[0], &told[0]), (&told[1], &told[2]));
    assert_eq!(told[0].0.replace(' ', ","), told[0].1);
    stage.purge("hard", &["prod_1"]).await;
    settled(&stage, 0, "edge").await;
    let purged = body(&provider.seen().into_iter().rfind(|seen| seen.path() == "/service/SU1/purge").unwrap());
    let purged: BTreeSet<_> = purged["surrogate_keys"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let of_answer: BTreeSet<_> = told[0].0.split(' ').collect();
    let prod_1 = surrogate::name(TagHash::of("prod_1"));
    assert!(purged.contains(prod_1.as_str()) && of_answer.contains(prod_1.as_str()), "{purged:?} {of_answer:?}");
}

/// A storefront that notes whether it was told before it might be.
fn watched(provider: &FakeOrigin) -> (Arc<AtomicBool>, Arc<AtomicBool>) {
    let (is_open, was_early) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (open, early) = (Arc::clone(&is_open), Arc::clone(&was_early));
    provider.respond("/api/revalidate", move |_| {
        early.fetch_or(!open.load(Ordering::SeqCst), Ordering::SeqCst);
        Answer::json("{}")
    });
    (is_open, was_early)
}

#[tokio::test]
async fn a_storefront_waits_for_its_cdns_from_the_first_start_on() {
    let (provider, builder) = told(ALL).await;
    let (is_open, was_early) = watched(&provider);
    let hold = provider.hold("/service/SU1/purge_all");
    let stage = builder.start().await;
    for first in [true, false] {
        let hold = if first { &hold } else { &provider.hold("/service/SU1/purge") };
        if !first {
            is_open.store(false, Ordering::SeqCst);
            stage.purge("hard", &["prod_1"]).await;
        }
        hold.arrived(1).await;
        // The other CDN has been told: the storefront has had its turn as well.
        settled(&stage, 0, "flare").await;
        is_open.store(true, Ordering::SeqCst);
        hold.open();
        settled(&stage, 0, "shop").await;
        assert!(!was_early.load(Ordering::SeqCst), "{first}");
    }
}

#[tokio::test]
async fn a_storefront_does_not_wait_for_its_cdns_for_ever() {
    let (provider, builder) = told(ALL).await;
    let stage = builder.start().await;
    settled(&stage, 0, "shop").await;
    let _hold = provider.hold("/service/SU1/purge");
    let before = provider.count("/api/revalidate");
    stage.purge("hard", &["prod_1"]).await;
    until("the storefront is told all the same", async || {
        stage.advance_secs(1);
        provider.count("/api/revalidate") > before
    })
    .await;
}

#[tokio::test]
async fn each_purge_is_told_once_by_two_nodes() {
    let (provider, builder) = webhook().await;
    let stage = begun(builder.redis().await.nodes(2)).await;
    for n in 0..6 {
        let reply = stage.try_purge(n % 2, "hard", &[&format!("prod_{n}")]).await;
        assert_eq!(reply.status, 200);
        provider.asked(n + 2).await;
        for node in [0, 1] {
            settled(&stage, node, "hook").await;
        }
    }
    let expected: Vec<Vec<String>> = (0..6).map(|n| vec![format!("prod_{n}")]).collect();
    assert_eq!(all_tags(&provider)[1..], expected);
}

#[tokio::test]
async fn what_a_node_could_not_finish_the_other_does() {
    let (provider, builder) = webhook().await;
    let mut stage = begun(builder.redis().await).await;
    let hold = provider.hold("/hook");
    stage.purge("hard", &["prod_1"]).await;
    hold.arrived(1).await;
    let other = stage.add_node();
    within(stage.node(other).ready()).await;
    within(stage.node(0).stop()).await;
    hold.release();
    settled(&stage, other, "hook").await;
    assert_eq!(all_tags(&provider)[1..], [vec!["prod_1"], vec!["prod_1"]], "nobody acknowledged the first");
    stage.try_purge(other, "hard", &["prod_2"]).await;
    settled(&stage, other, "hook").await;
    assert_eq!(tags(&provider.last()), ["prod_2"]);
}

#[tokio::test]
async fn what_a_killed_node_held_another_does_when_its_time_is_over() {
    let (provider, builder) = webhook().await;
    let mut stage = builder.redis().await.nodes(0).start().await;
    let (killed, life) = stage.add_mortal_node();
    within(stage.node(killed).ready()).await;
    settled(&stage, killed, "hook").await;
    let hold = provider.hold("/hook");
    stage.purge("hard", &["prod_1"]).await;
    hold.arrived(1).await;
    Stage::kill(life);
    hold.release();
    let other = stage.add_node();
    within(stage.node(other).ready()).await;
    stage.advance(HELD_MAX - Duration::from_millis(1));
    stage.redis().record().await;
    until("the other has looked", async || stage.redis().reads_of("endcap:downstream:hook").await >= 2).await;
    assert_eq!(stage.status(other).await["downstream"]["hook"]["behind"], true);
    assert_eq!(provider.total(), 2, "who holds it may still be at it");
    stage.advance(Duration::from_millis(1));
    settled(&stage, other, "hook").await;
    assert_eq!(all_tags(&provider)[1..], [vec!["prod_1"], vec!["prod_1"]], "nobody acknowledged the first");
}

#[tokio::test]
async fn a_target_that_is_down_for_an_hour_is_told_all_it_missed() {
    let (provider, builder) = webhook().await;
    let stage = begun(builder.redis().await).await;
    provider.answer("/hook", Answer::reset());
    stage.purge("hard", &["prod_1"]).await;
    let failures = async || stage.status(0).await["downstream"]["hook"]["failures"].as_u64().unwrap();
    until("it fails", async || failures().await >= 1).await;
    stage.purge("hard", &["prod_2"]).await;
    stage.advance_secs(3600);
    until("it fails again", async || failures().await >= 2).await;
    provider.answer("/hook", Answer::json("{}"));
    stage.advance_secs(61);
    settled(&stage, 0, "hook").await;
    assert_eq!(tags(&provider.last()), ["prod_1", "prod_2"]);
}

#[tokio::test]
async fn a_target_that_asks_for_time_gets_it() {
    let (provider, builder) = webhook().await;
    let stage = begun(builder.redis().await).await;
    provider.answer("/hook", Answer::status(429).header("retry-after", "900"));
    stage.purge("hard", &["prod_1"]).await;
    let state = async || stage.status(0).await["downstream"]["hook"].clone();
    until("it asks for time", async || state().await["failures"] == 1).await;
    assert_eq!(state().await["next_try_seconds"], 900.0);
    let id = |seen: &Seen| seen.field("webhook-id").to_owned();
    let first = id(&provider.last());
    provider.answer("/hook", Answer::json("{}"));
    stage.advance_secs(899);
    assert_eq!((state().await["next_try_seconds"].as_f64(), provider.total()), (Some(1.0), 2));
    stage.advance_secs(1);
    settled(&stage, 0, "hook").await;
    assert_eq!(tags(&provider.last()), ["prod_1"]);
    assert_eq!(id(&provider.last()), first, "who took it although it said otherwise takes it once");
}

#[tokio::test]
async fn a_refusal_names_the_key_and_the_remedy() {
    let (provider, builder) = webhook().await;
    provider.answer("/hook", Answer::status(403));
    let stage = builder.start().await;
    let state = async || stage.status(0).await["downstream"]["hook"].clone();
    until("it refuses", async || state().await["failures"] == 1).await;
    assert_eq!(state().await["error"], "403: downstream.hook.token is not the receiver's");
    assert_eq!(
        (state().await["next_try_seconds"].as_f64(), state().await["behind"].as_bool()),
        (Some(300.0), Some(true))
    );
    assert_eq!(stage.metric(0, "endcap_downstream_failures", &[("target", "hook")]).await, 1.0);
    provider.answer("/hook", Answer::json("{}"));
    stage.advance_secs(300);
    settled(&stage, 0, "hook").await;
    assert_eq!(state().await["error"], Value::Null);
}

#[tokio::test]
async fn a_second_purge_follows_where_it_is_asked_for() {
    let (provider, builder) = webhook().await;
    let stage = builder.also("second_purge = \"2s\"\n").start().await;
    let owed = async || stage.status(0).await["downstream"]["hook"]["second_purges"] == 1;
    until("everything is due again", owed).await;
    stage.advance_secs(2);
    settled(&stage, 0, "hook").await;
    stage.purge("hard", &["prod_1"]).await;
    until("the purge is due again", owed).await;
    stage.advance_secs(2);
    settled(&stage, 0, "hook").await;
    assert_eq!(all_tags(&provider)[2..], [vec!["prod_1"], vec!["prod_1"]]);
    let ids: HashSet<String> = provider.seen().iter().map(|seen| seen.field("webhook-id").to_owned()).collect();
    assert_eq!(ids.len(), 4, "who remembers ids would pass over the second of two: {ids:?}");
}

#[tokio::test]
async fn a_log_that_lost_what_a_target_lacks_has_it_purge_everything() {
    let (provider, builder) = webhook().await;
    let mut stage = begun(builder.redis().await).await;
    let hold = provider.hold("/hook");
    stage.purge("hard", &["prod_1"]).await;
    hold.arrived(1).await;
    stage.purge("hard", &["prod_2"]).await;
    stage.redis().command(&["DEL", "endcap:purges"]).await;
    stage.metric_reaches(0, "endcap_log_lost_total", &[], 1.0).await;
    hold.release();
    settled(&stage, 0, "hook").await;
    assert_eq!(tags(&provider.last()), ["everything"]);
}

#[tokio::test]
async fn what_is_refused_is_told_in_parts_then_as_everything_and_at_last_given_up() {
    let (log, _followed) = LogLines::follow();
    let (provider, builder) = webhook().await;
    let stage = begun(builder).await;
    provider.respond("/hook", |seen| Answer::status(if tags(seen).len() > 2 { 413 } else { 200 }));
    stage.purge("hard", &["a", "b", "c", "d", "e"]).await;
    settled(&stage, 0, "hook").await;
    let told = |provider: &FakeOrigin, from: usize| {
        all_tags(provider)[from..].iter().map(|tags| tags.concat()).collect::<Vec<_>>()
    };
    assert_eq!(told(&provider, 1), ["abcde", "ab", "cde", "c", "de"]);

    provider.respond("/hook", |seen| Answer::status(if tags(seen).contains(&"x".to_owned()) { 400 } else { 200 }));
    let before = provider.total();
    stage.purge("hard", &["a", "b", "x", "y"]).await;
    settled(&stage, 0, "hook").await;
    assert_eq!(told(&provider, before), ["abxy", "ab", "xy", "x", "everything"]);
    let metric = async |name: &str| stage.metric(0, name, &[("target", "hook")]).await;
    assert_eq!(metric("endcap_downstream_everything_total").await, 2.0);

    provider.answer("/hook", Answer::status(400));
    let seq = stage.purge("hard", &["z"]).await["seq"].clone();
    let state = async || stage.status(0).await["downstream"]["hook"].clone();
    until("it is given up", async || state().await["given_up"] == 1).await;
    assert_eq!((&state().await["given_up_at"], &state().await["behind"]), (&seq, &json!(false)));
    assert_eq!(metric("endcap_downstream_given_up_total").await, 1.0);
    assert_eq!(metric("endcap_downstream_failures").await, 1.0);
    let said = log.with("a downstream target does not even purge everything: it keeps what was purged up to here");
    assert_eq!((said.len(), &said[0]["level"], &said[0]["purge_seq"]), (1, &json!("ERROR"), &seq));

    provider.answer("/hook", Answer::json("{}"));
    stage.purge("hard", &["b"]).await;
    stage.advance_secs(1);
    settled(&stage, 0, "hook").await;
    assert_eq!(tags(&provider.last()), ["b"], "it goes on");
}
