use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};

use super::progress::AGAIN_MAX;
use super::*;
use crate::policy::purge::PurgeSeq;
use crate::policy::time::Timestamp;

fn target(provider: Provider) -> Target {
    Target { provider, url: "https://api.example".parse().unwrap(), second_purge: Duration::ZERO }
}

fn fastly() -> Target {
    target(Provider::Fastly { service: "SU1".into(), token: "secret".into() })
}

fn cloudflare(plan: Plan) -> Target {
    target(Provider::Cloudflare { zone: "z1".into(), token: "secret".into(), plan })
}

fn batch(tags: &[(&str, Mode)]) -> Batch {
    let mut batch = Batch::default();
    let tags = tags.iter().map(|(tag, mode)| ((*tag).to_owned(), *mode)).collect();
    batch.add(Some(&Purge { tags, ..Purge::default() }));
    batch
}

/// How a CDN knows tags: in the fields of the answers that it holds.
fn held(tags: &[&str]) -> Vec<String> {
    let mut names: Vec<_> = tags.iter().map(|tag| surrogate::name(TagHash::of(tag))).collect();
    names.sort_unstable();
    names
}

fn secret() -> WebhookSecret {
    WebhookSecret::parse("whsec_ZW5kY2FwIGV4YW1wbGUgc2VjcmV0IG9ubHkh").unwrap()
}

/// At the time of `sent`.
fn is_signed(headers: &HeaderMap, body: &Value) -> bool {
    let (body, now) = (body.to_string(), Timestamp::from_millis(5000));
    crate::policy::webhook::verify(headers, body.as_bytes(), &[secret()], Duration::from_secs(1), now).is_ok()
}

fn stretch(to: u64) -> Stretch {
    Stretch { to: PurgeSeq::new(to, 0).unwrap(), is_second: false, is_empty: false }
}

fn sent(target: &Target, batch: &Batch) -> Vec<(String, Value, HeaderMap)> {
    let told = |part: &Part| told(target, part, &stretch(7), 5);
    parts(&target.provider, batch).iter().map(told).collect()
}

/// What a part becomes at a time.
fn told(target: &Target, part: &Part, stretch: &Stretch, at_secs: u64) -> (String, Value, HeaderMap) {
    let request = request(target, "cdn", part, stretch, Timestamp::from_millis(at_secs * 1000));
    let body = serde_json::from_slice(request.body()).unwrap_or(Value::Null);
    (request.uri().to_string(), body, request.headers().clone())
}

#[test]
fn fastly_is_told_keys_and_classes_and_soft_ones_apart() {
    let sent_ = sent(&fastly(), &batch(&[("prod_1", Mode::Hard), ("list:product", Mode::Soft), ("a b", Mode::Hard)]));
    let keys: Vec<_> =
        sent_.iter().map(|(_, body, headers)| (body, headers.contains_key("fastly-soft-purge"))).collect();
    let hard = json!({ "surrogate_keys": held(&["*", "prod_*", "prod_1", "a b"]) });
    let soft = json!({ "surrogate_keys": held(&["list:*", "list:product"]) });
    assert_eq!(keys, [(&hard, false), (&soft, true)]);
    assert_eq!(sent_[0].0, "https://api.example/service/SU1/purge");
    assert_eq!(sent_[0].2["fastly-key"], "secret");
    let all = sent(&fastly(), &batch(&[("all", Mode::Soft), ("prod_1", Mode::Hard)]));
    assert_eq!((all.len(), all[0].0.as_str()), (1, "https://api.example/service/SU1/purge_all"));
    assert!(!all[0].2.contains_key("fastly-soft-purge"), "everything cannot be purged softly");
    let many: Vec<String> = (0..600).map(|n| format!("prod_{n}")).collect();
    let many: Vec<_> = many.iter().map(|tag| (tag.as_str(), Mode::Hard)).collect();
    let sizes: Vec<_> = sent(&fastly(), &batch(&many))
        .iter()
        .map(|(_, body, _)| body["surrogate_keys"].as_array().unwrap().len())
        .collect();
    assert_eq!(sizes, [256, 256, 90], "600, their class, and what stands for all");
}

#[test]
fn cloudflare_is_told_a_hundred_tags_at_a_time_and_everything_beyond_the_bucket() {
    let many: Vec<String> = (0..2600).map(|n| format!("prod_{n}")).collect();
    let of = |count: usize| many[..count].iter().map(|tag| (tag.as_str(), Mode::Hard)).collect::<Vec<_>>();
    let sent_ = sent(&cloudflare(Plan::Free), &batch(&of(150)));
    assert_eq!(sent_.iter().map(|(_, body, _)| body["tags"].as_array().unwrap().len()).collect::<Vec<_>>(), [100, 52]);
    assert_eq!(sent_[0].0, "https://api.example/client/v4/zones/z1/purge_cache");
    assert_eq!(sent_[0].2[header::AUTHORIZATION], "Bearer secret");
    let all = sent(&cloudflare(Plan::Free), &batch(&of(2600)));
    assert_eq!((all.len(), &all[0].1), (1, &json!({ "purge_everything": true })));
    assert_eq!(sent(&cloudflare(Plan::Enterprise), &batch(&of(2600))).len(), 27);
}

fn hook() -> Target {
    target(Provider::Webhook { secret: secret() })
}

#[test]
fn what_is_told_at_once_is_bounded_in_bytes_and_parted_where_it_is_refused() {
    let hook = hook();
    let many: Vec<String> = (0..40).map(|n| format!("path:/{n:04}{}", "\"".repeat(4000))).collect();
    let many: Vec<_> = many.iter().map(|tag| (tag.as_str(), Mode::Hard)).collect();
    let (_, most) = hook.provider.rate();
    let sizes: Vec<_> = sent(&hook, &batch(&many)).iter().map(|(_, body, _)| body.to_string().len()).collect();
    assert!(sizes.len() as f64 <= most && sizes.iter().all(|size| *size < BODY_BYTES_MAX + 200), "{sizes:?}");
    let Part::Tags(all) = parts(&hook.provider, &batch(&many[..8])).remove(0) else { panic!() };
    let mut halves = Part::Tags(all.clone()).instead();
    let (Part::Tags(two), Part::Tags(one)) = (halves.remove(1), halves.remove(0)) else { panic!() };
    assert_eq!((one.len(), [one.clone(), two].concat()), (4, all));
    assert_eq!(Part::Tags(one[..1].to_vec()).instead(), [Part::Everything], "one tag can be no smaller");
    assert_eq!(Part::Everything.instead(), []);
}

#[test]
fn a_delivery_keeps_its_id_and_no_other_has_it() {
    let hook = hook();
    let [one, two] = ["a", "b"].map(|tag| Part::Tags(vec![(tag.to_owned(), Mode::Hard)]));
    let id = |part: &Part, stretch: Stretch, at| {
        told(&hook, part, &stretch, at).2["webhook-id"].to_str().unwrap().to_owned()
    };
    let second = Stretch { is_second: true, ..stretch(7) };
    assert_eq!(id(&one, stretch(7), 5), id(&one, stretch(7), 500), "tried again");
    assert_eq!(id(&Part::Everything, second, 5), id(&Part::Everything, second, 500));
    let mut ids = Vec::new();
    for part in [&one, &two, &Part::Everything] {
        ids.extend([id(part, stretch(7), 5), id(part, second, 5), id(part, stretch(8), 5)]);
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 9, "{ids:?}");
}

#[test]
fn a_webhook_is_signed() {
    let hook = hook();
    let (uri, body, headers) = sent(&hook, &batch(&[("a b", Mode::Delete)])).remove(0);
    let tags = json!([{ "tag": "a b", "mode": "delete" }]);
    let data = json!({ "tags": tags, "everything": false, "again": false, "seq": "7-0" });
    assert_eq!((uri.as_str(), &body["data"]), ("https://api.example/", &data));
    assert!(is_signed(&headers, &body));
}

#[test]
fn a_storefront_is_told_tags_that_it_can_hold_and_their_classes_and_that_it_is_us() {
    let next = target(Provider::NextJs { secret: secret() });
    let long = "x".repeat(257);
    let sent_ = sent(&next, &batch(&[("prod_1", Mode::Hard), (&long, Mode::Hard)]));
    assert_eq!(sent_[0].1, json!({ "tags": ["*", "prod_*", "prod_1"], "everything": false, "again": false }));
    assert!(is_signed(&sent_[0].2, &sent_[0].1));
    assert_eq!(sent(&next, &Batch::everything())[0].1["everything"], true);
}

#[test]
fn what_cannot_be_read_may_have_purged_anything() {
    let mut both = batch(&[("a", Mode::Soft)]);
    both.add(Some(&Purge { tags: vec![("a".into(), Mode::Hard), ("a".into(), Mode::Soft)], ..Purge::default() }));
    assert_eq!(both.tags["a"], Mode::Hard);
    both.add(None);
    assert!(both.everything && !both.is_empty() && Batch::default().is_empty());
}

#[test]
fn an_answer_says_done_later_or_who_must_act() {
    let check = |target: &Target, status: u16, retry: &str, body: &str| {
        let mut headers = HeaderMap::new();
        if !retry.is_empty() {
            headers.insert(header::RETRY_AFTER, retry.parse().unwrap());
        }
        let now = Timestamp::from_millis(1_000_000);
        judge(&target.provider, "cdn", StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes(), now)
    };
    let (fastly, cloudflare) = (fastly(), cloudflare(Plan::Free));
    assert_eq!(check(&fastly, 200, "", "{}"), Verdict::Done);
    assert_eq!(check(&cloudflare, 200, "", r#"{"success":true}"#), Verdict::Done);
    assert!(matches!(check(&cloudflare, 200, "", r#"{"success":false}"#), Verdict::Later { after: None, .. }));
    for (status, retry, after) in
        [(429, "7", Some(7)), (503, "", None), (500, "soon", None), (429, "999999", Some(3600)), (408, "", None)]
    {
        let Verdict::Later { after: found, .. } = check(&fastly, status, retry, "") else { panic!("{status}") };
        assert_eq!(found, after.map(Duration::from_secs), "{status}");
    }
    for (status, words) in [
        (401, "downstream.cdn.token"),
        (403, "purge_select"),
        (404, "downstream.cdn.id"),
        (301, "downstream.cdn.url"),
        (405, "downstream.cdn.id"),
    ] {
        let Verdict::Refused { remedy } = check(&fastly, status, "", "") else { panic!("{status}") };
        assert!(remedy.contains(words), "{remedy}");
    }
    for status in [400, 413, 414, 422] {
        let Verdict::Unfit { why } = check(&fastly, status, "", "") else { panic!("{status}") };
        assert!(why.contains(&status.to_string()), "{why}");
    }
}

#[test]
fn requests_keep_to_the_limits_of_the_plan() {
    let Target { provider, .. } = cloudflare(Plan::Free);
    let at = |secs: u64| Timestamp::from_millis(1_000_000 + secs * 1000);
    let mut progress = Progress::default();
    let all = |progress: &mut Progress, now| (0..25).all(|_| progress.permit(&provider, now).is_ok());
    assert!(all(&mut progress, at(0)), "the bucket is full at first");
    let wait = progress.permit(&provider, at(0)).unwrap_err();
    assert_eq!((wait.as_secs(), progress.pause("a", &provider, at(0)).as_secs()), (12, 12), "five a minute");
    assert_eq!(progress.pause("a", &provider, at(13)), Duration::ZERO);
    assert!(progress.permit(&provider, at(13)).is_ok() && progress.permit(&provider, at(13)).is_err());
    assert!(all(&mut progress, at(100_000)) && progress.permit(&provider, at(100_000)).is_err());
}

#[test]
fn who_is_at_it_keeps_the_others_away_for_a_while() {
    let Target { provider, .. } = fastly();
    let at = |secs: u64| Timestamp::from_millis(1_000_000 + secs * 1000);
    let mut progress = Progress::default();
    progress.hold("a", at(0));
    assert_eq!(progress.pause("a", &provider, at(1)), Duration::ZERO);
    assert_eq!(progress.pause("b", &provider, at(1)), HELD_MAX - Duration::from_secs(1));
    progress.hold("a", at(10));
    assert_eq!(progress.pause("b", &provider, at(20)), Duration::from_secs(5), "it has said more");
    assert_eq!(progress.pause("b", &provider, at(25)), Duration::ZERO);
}

#[test]
fn what_no_node_has_written_is_not_read() {
    let now = Timestamp::from_millis(1_000_000_000);
    let late = (now + Duration::from_secs(100_000)).as_millis();
    let read = |text: &str| Progress::read(text.as_bytes(), now);
    let mut ours = Progress::default();
    ours.acknowledged(stretch(7), Duration::from_secs(2), now);
    ours.hold("a", now);
    ours.failed(&Verdict::Later { why: "x".repeat(5000), after: Some(Duration::from_secs(3600)) }, now);
    assert_eq!(read(&serde_json::to_string(&ours).unwrap()), Some(ours.clone()));
    assert_eq!(read(r#"{"cursor":""}"#), Some(Progress::default()), "an older version's");
    for text in [
        "".to_owned(),
        "17".to_owned(),
        r#"{"cursor":"x"}"#.to_owned(),
        format!(r#"{{"cursor":"{late}-0"}}"#),
        format!(r#"{{"cursor":"7-0","not_before":{late}}}"#),
        format!(r#"{{"cursor":"7-0","held":{{"by":"a","until":{late}}}}}"#),
        format!(r#"{{"cursor":"7-0","permits":[1.0,{late}]}}"#),
        format!(r#"{{"cursor":"7-0","again":[{{"from":"1-0","to":"2-0","due":{late}}}]}}"#),
        r#"{"cursor":"7-0","again":[{"from":"","to":"2-0","due":1}]}"#.to_owned(),
        r#"{"cursor":"7-0","told":[{"from":"x","to":"2-0","at":1}]}"#.to_owned(),
        format!(r#"{{"cursor":"7-0","told":[{{"from":"1-0","to":"2-0","at":{late}}}]}}"#),
    ] {
        assert_eq!(read(&text), None, "{text}");
    }
}

#[test]
fn failures_pause_longer_each_time_and_a_retry_after_is_kept() {
    let now = Timestamp::from_millis(1_000_000);
    let later = |secs: Option<u64>| Verdict::Later { why: "x".into(), after: secs.map(Duration::from_secs) };
    let mut progress = Progress::default();
    let mut pauses = Vec::new();
    for _ in 0..9 {
        progress.failed(&later(None), now);
        pauses.push(progress.not_before - now.as_millis());
    }
    assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
    progress.failed(&later(Some(900)), now);
    assert_eq!(progress.not_before - now.as_millis(), 900_000);
    progress.failed(&Verdict::Refused { remedy: "r".into() }, now);
    assert_eq!((progress.not_before - now.as_millis(), progress.error.as_deref()), (300_000, Some("r")));
    progress.acknowledged(stretch(7), Duration::ZERO, now);
    assert_eq!((progress.failures, progress.error, progress.not_before, progress.cursor.as_str()), (0, None, 0, "7-0"));
}

#[test]
fn what_is_given_up_is_passed_and_remembered() {
    let now = Timestamp::from_millis(1_000_000);
    let unfit = Verdict::Unfit { why: "no".into() };
    let mut progress = Progress { cursor: "3-0".into(), ..Progress::default() };
    progress.gave_up(stretch(7), &unfit, now);
    assert_eq!((progress.cursor.as_str(), progress.given_up_at.as_deref()), ("7-0", Some("7-0")));
    assert_eq!((progress.given_up, progress.failures, progress.error.as_deref()), (1, 1, Some("no")));
    assert_eq!((progress.purged_at, progress.not_before - now.as_millis()), (0, 500));
    progress.acknowledged(stretch(8), Duration::ZERO, now);
    assert_eq!((progress.given_up, progress.failures, progress.error), (1, 0, None), "it is not forgotten");
}

#[test]
fn it_is_remembered_when_the_last_purges_were_told() {
    let at = |n: u64| Timestamp::from_millis(1_000_000 + n);
    let mut progress = Progress::default();
    let told = |progress: &Progress, ms: u64| progress.told_at(PurgeSeq::new(ms, 0).unwrap());
    progress.acknowledged(stretch(10), Duration::from_secs(2), at(1));
    progress.acknowledged(Stretch { is_empty: true, ..stretch(20) }, Duration::ZERO, at(2));
    progress.acknowledged(stretch(30), Duration::ZERO, at(3));
    // Again, which is no news, and what it would not take.
    progress.acknowledged(Stretch { is_second: true, ..stretch(10) }, Duration::ZERO, at(4));
    progress.gave_up(stretch(40), &Verdict::Unfit { why: "no".into() }, at(5));
    progress.acknowledged(stretch(50), Duration::ZERO, at(6));
    let found =
        [1, 10, 11, 21, 30, 31, 40, 41, 50, 51].map(|ms| told(&progress, ms).map(|at| at.as_millis() - 1_000_000));
    assert_eq!(found, [Some(1), Some(1), None, Some(3), Some(3), None, None, Some(6), Some(6), None]);
    for n in 0..20 {
        progress.acknowledged(stretch(60 + n), Duration::ZERO, at(10 + n));
    }
    assert_eq!((progress.told.len(), told(&progress, 60), told(&progress, 79)), (16, None, Some(at(29))));
    assert_eq!(Progress::read(&serde_json::to_vec(&progress).unwrap(), at(100)), Some(progress));
}

#[test]
fn second_purges_are_remembered_up_to_a_bound_and_none_is_left_out() {
    let mut progress = Progress::default();
    let now = Timestamp::from_millis(1000);
    for n in 1..=40 {
        progress.acknowledged(stretch(n), Duration::from_secs(2), now);
    }
    assert_eq!(progress.again.len(), AGAIN_MAX);
    let ends: Vec<_> = progress.again.iter().map(|again| (again.from.as_str(), again.to.as_str())).collect();
    assert!(ends.windows(2).all(|pair| pair[0].1 == pair[1].0), "{ends:?}");
    assert_eq!((ends[0].0, ends[AGAIN_MAX - 1].1), ("0-0", "40-0"));
    let second = |progress: &mut Progress, to| {
        progress.acknowledged(Stretch { is_second: true, ..stretch(to) }, Duration::from_secs(2), now);
    };
    second(&mut progress, 1);
    assert_eq!((progress.again.len(), progress.cursor.as_str()), (AGAIN_MAX - 1, "40-0"));
    // The last holds more than one batch.
    (2..AGAIN_MAX as u64).for_each(|to| second(&mut progress, to));
    second(&mut progress, 30);
    assert_eq!((progress.again[0].from.as_str(), progress.again[0].to.as_str()), ("30-0", "40-0"));
}

#[test]
fn only_fastly_says_by_a_word_of_its_own_when_to_ask_again() {
    let headers = HeaderMap::from_iter([("fastly-ratelimit-reset".parse().unwrap(), "1030".parse().unwrap())]);
    let after = |target: Target| {
        let now = Timestamp::from_millis(1_000_000);
        match judge(&target.provider, "cdn", StatusCode::TOO_MANY_REQUESTS, &headers, b"", now) {
            Verdict::Later { after, .. } => after,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((after(fastly()), after(cloudflare(Plan::Free))), (Some(Duration::from_secs(30)), None));
}
