use super::progress::AGAIN_MAX;
use super::*;

fn target(provider: Provider) -> Target {
    Target { provider, url: "https://api.example".parse().unwrap(), second_purge: Duration::ZERO }
}

fn fastly() -> Target {
    target(Provider::Fastly { service: "SU1".into(), token: "secret".into() })
}

fn cloudflare(plan: Plan) -> Target {
    target(Provider::Cloudflare { zone: "z1".into(), token: "secret".into(), plan })
}

fn secret() -> WebhookSecret {
    WebhookSecret::parse("whsec_ZW5kY2FwIGV4YW1wbGUgc2VjcmV0IG9ubHkh").unwrap()
}

/// At the time of `sent`.
fn is_signed(headers: &HeaderMap, body: &Value) -> bool {
    let (body, now) = (body.to_string(), Timestamp::from_millis(5000));
    crate::policy::webhook::verify(headers, body.as_bytes(), &[secret()], Duration::from_secs(1), now).is_ok()
}

fn batch(tags: &[(&str, Mode)]) -> Batch {
    let mut batch = Batch::default();
    let tags = tags.iter().map(|(tag, mode)| ((*tag).to_owned(), *mode)).collect();
    batch.add(Some(&Purge { tags, ..Purge::default() }));
    batch
}

fn sent(target: &Target, batch: &Batch) -> Vec<(String, Value, HeaderMap)> {
    let at = Timestamp::from_millis(5000);
    let requests = requests(target, "cdn", batch, PurgeSeq::new(7, 0).unwrap(), at);
    let body = |body: &Bytes| serde_json::from_slice(body).unwrap_or(Value::Null);
    requests
        .iter()
        .map(|request| (request.uri().to_string(), body(request.body()), request.headers().clone()))
        .collect()
}

#[test]
fn fastly_is_told_keys_and_classes_and_soft_ones_apart() {
    let sent_ = sent(&fastly(), &batch(&[("prod_1", Mode::Hard), ("list:product", Mode::Soft), ("a b", Mode::Hard)]));
    let keys: Vec<_> =
        sent_.iter().map(|(_, body, headers)| (body, headers.contains_key("fastly-soft-purge"))).collect();
    let hard = json!({ "surrogate_keys": ["*", "prod_*", "prod_1"] });
    let soft = json!({ "surrogate_keys": ["list:*", "list:product"] });
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

#[test]
fn a_webhook_is_signed_and_the_same_purge_has_the_same_id() {
    let hook = target(Provider::Webhook { secret: secret() });
    let (uri, body, headers) = sent(&hook, &batch(&[("a b", Mode::Delete)])).remove(0);
    let data = json!({ "tags": [{ "tag": "a b", "mode": "delete" }], "everything": false, "seq": "7-0" });
    assert_eq!((uri.as_str(), &body["data"]), ("https://api.example/", &data));
    assert_eq!(headers["webhook-id"], "cdn_7-0_0");
    assert!(is_signed(&headers, &body));
}

#[test]
fn a_storefront_is_told_tags_that_it_can_hold_and_their_classes_and_that_it_is_us() {
    let next = target(Provider::NextJs { secret: secret() });
    let long = "x".repeat(257);
    let sent_ = sent(&next, &batch(&[("prod_1", Mode::Hard), (&long, Mode::Hard)]));
    assert_eq!(sent_[0].1, json!({ "tags": ["*", "prod_*", "prod_1"], "everything": false }));
    assert!(is_signed(&sent_[0].2, &sent_[0].1));
    assert_eq!(sent(&next, &Batch::everything())[0].1, json!({ "tags": [], "everything": true }));
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
        judge(&target.provider, "cdn", StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes())
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
        (400, "400"),
    ] {
        let Verdict::Refused { remedy } = check(&fastly, status, "", "") else { panic!("{status}") };
        assert!(remedy.contains(words), "{remedy}");
    }
}

#[test]
fn requests_keep_to_the_limits_of_the_plan() {
    let Target { provider, .. } = cloudflare(Plan::Free);
    let at = |secs: u64| Timestamp::from_millis(1_000_000 + secs * 1000);
    let mut progress = Progress::default();
    assert_eq!(progress.permit(&provider, 25, at(0)), Ok(()), "the bucket is full at first");
    let wait = progress.permit(&provider, 1, at(0)).unwrap_err();
    assert_eq!(wait.as_secs(), 12, "five a minute");
    assert!(progress.permit(&provider, 1, at(13)).is_ok() && progress.permit(&provider, 1, at(13)).is_err());
    assert!(progress.permit(&provider, 25, at(100_000)).is_ok() && progress.permit(&provider, 1, at(100_000)).is_err());
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
    progress.acknowledged(&batch(&[("a", Mode::Hard)]), PurgeSeq::new(7, 0).unwrap(), Duration::ZERO, false, now);
    assert_eq!((progress.failures, progress.error, progress.not_before, progress.cursor.as_str()), (0, None, 0, "7-0"));
}

#[test]
fn second_purges_are_remembered_up_to_a_bound_and_none_is_left_out() {
    let mut progress = Progress { cursor: "0-0".into(), ..Progress::default() };
    let now = Timestamp::from_millis(1000);
    for n in 1..=40 {
        let to = PurgeSeq::new(n, 0).unwrap();
        progress.acknowledged(&batch(&[("a", Mode::Hard)]), to, Duration::from_secs(2), false, now);
    }
    assert_eq!(progress.again.len(), AGAIN_MAX);
    let ends: Vec<_> = progress.again.iter().map(|again| (again.from.as_str(), again.to.as_str())).collect();
    assert!(ends.windows(2).all(|pair| pair[0].1 == pair[1].0), "{ends:?}");
    assert_eq!((ends[0].0, ends[AGAIN_MAX - 1].1), ("0-0", "40-0"));
    let second = |progress: &mut Progress, to| {
        progress.acknowledged(&Batch::default(), PurgeSeq::new(to, 0).unwrap(), Duration::from_secs(2), true, now);
    };
    second(&mut progress, 1);
    assert_eq!((progress.again.len(), progress.cursor.as_str()), (AGAIN_MAX - 1, "40-0"));
    // The last holds more than one batch.
    (2..AGAIN_MAX as u64).for_each(|to| second(&mut progress, to));
    second(&mut progress, 30);
    assert_eq!((progress.again[0].from.as_str(), progress.again[0].to.as_str()), ("30-0", "40-0"));
}
