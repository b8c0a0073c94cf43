//! Private never enters: neither requests that name somebody, nor answers that are somebody's own.

use std::collections::HashSet;

use futures_util::future::join_all;

use crate::stage::{Answer, Client, Stage, within};

/// A backend that gives a logged-in customer a better price on the same public URL, and says so nowhere.
fn vip_prices(stage: &Stage) {
    stage.origin.respond("/store/products", |seen| {
        let vip = seen.field("authorization") == "Bearer vip" || seen.field("cookie").contains("connect.sid=vip");
        Answer::json(format!(r#"{{"price":{}}}"#, if vip { 1 } else { 100 }))
    });
}

#[tokio::test]
async fn the_price_of_a_vip_is_the_vips_alone() {
    let stage = Stage::new().start().await;
    vip_prices(&stage);
    let logins = [
        ("authorization", "Bearer vip", "pass.credentials"),
        ("cookie", "connect.sid=vip", "pass.cookie"),
        ("cookie", "_ga=GA1.1; connect.sid=vip", "pass.cookie"),
    ];
    for (name, value, detail) in logins {
        let vip = stage.get_with("/store/products", &[(name, value)]).await;
        assert_eq!((vip.text().as_str(), vip.detail().as_str()), (r#"{"price":1}"#, detail));
    }
    assert_eq!(stage.get("/store/products").await.text(), r#"{"price":100}"#);
    for (name, value, detail) in logins {
        let vip = stage.get_with("/store/products", &[(name, value)]).await;
        assert_eq!((vip.text().as_str(), vip.detail().as_str()), (r#"{"price":1}"#, detail), "beside a stored answer");
    }
    let anonymous = stage.get_with("/store/products", &[("cookie", "_ga=GA1.1; _medusa_cache_id=x")]).await;
    assert_eq!((anonymous.text().as_str(), anonymous.detail().as_str()), (r#"{"price":100}"#, "hit"));
}

#[tokio::test]
async fn a_login_waits_for_nobodys_fill_and_nobody_for_its() {
    let stage = Stage::new().start().await;
    vip_prices(&stage);
    let hold = stage.origin.hold("/store/products");
    let address = stage.address(0);
    let vip = |token: &'static str| {
        stage.run(async move {
            Client::connect(address).await.ask("GET", "/store/products", &[("authorization", token)], b"").await
        })
    };
    let (one, two) = (vip("Bearer vip"), vip("Bearer vip"));
    let public = stage.begin("/store/products");
    hold.arrived(3).await;
    hold.release();
    for (reader, price) in [(one, 1), (two, 1), (public, 100)] {
        assert_eq!(within(reader).await.unwrap().json()["price"], price);
    }
    assert_eq!(stage.get("/store/products").await.json()["price"], 100);
}

#[tokio::test]
async fn a_credential_of_another_form_is_one_too() {
    let stage = Stage::new().start().await;
    stage.get("/store/products").await;
    for name in ["proxy-authorization", "x-api-key", "x-auth-token", "x-access-token", "x-medusa-access-token"] {
        let reply = stage.get_with("/store/products", &[(name, "x")]).await;
        assert_eq!(reply.detail(), "pass.credentials", "{name}");
    }
    assert_eq!(stage.get_with("/store/products", &[("authorization", "")]).await.detail(), "pass.credentials");
}

/// Answers that each belong to one reader: the reader's number is in the body.
async fn nobody_sees_anothers(name: &'static str, value: &'static str) {
    let stage = Stage::new().start().await;
    let counter = std::sync::atomic::AtomicUsize::new(0);
    stage.origin.respond("/store/products", move |_| {
        let n = counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Answer::json(format!(r#"{{"reader":{n}}}"#)).header(name, value)
    });
    let hold = stage.origin.hold("/store/products");
    let readers: Vec<_> = (0..5).map(|_| stage.begin("/store/products")).collect();
    hold.arrived(1).await;
    stage.followers(4).await;
    // What the followers ask for themselves waits for the others here: they go side by side.
    let again = stage.origin.hold("/store/products");
    hold.release();
    again.arrived(4).await;
    again.release();
    let replies: Vec<_> = join_all(readers).await.into_iter().map(Result::unwrap).collect();
    let bodies: HashSet<_> = replies.iter().map(|reply| reply.body.clone()).collect();
    assert_eq!(bodies.len(), 5, "{name}: {value}: {bodies:?}");
    assert!(replies.iter().all(|reply| reply.status == 200 && reply.field(name) == value), "{replies:?}");
    assert_eq!(stage.origin.total(), 5);
    assert_eq!(stage.metric(0, "endcap_not_stored_total", &[]).await, 1.0);
}

#[tokio::test]
async fn an_answer_that_sets_a_cookie_is_shared_with_nobody_who_waited() {
    nobody_sees_anothers("set-cookie", "sid=1").await;
}

#[tokio::test]
async fn a_private_answer_is_shared_with_nobody_who_waited() {
    nobody_sees_anothers("cache-control", "private").await;
}

#[tokio::test]
async fn an_answer_not_to_be_stored_is_shared_with_nobody_who_waited() {
    nobody_sees_anothers("cache-control", "max-age=60, no-store").await;
}

#[tokio::test]
async fn an_answer_that_varies_by_everything_is_shared_with_nobody_who_waited() {
    // The leader's own fill is thrown away: it did not send what the answer varies by. So one more request.
    let stage = Stage::new().start().await;
    stage.origin.answer("/store/products", Answer::json("{}").header("vary", "*"));
    for detail in ["pass.unshareable", "pass.marker"] {
        assert_eq!(stage.get_with("/store/products", &[("accept-language", "de")]).await.detail(), detail);
        assert_eq!(stage.origin.last().field("accept-language"), "de");
    }
    assert_eq!(stage.origin.total(), 3);
}

#[tokio::test]
async fn a_pass_marker_lets_the_next_ones_go_side_by_side_until_it_ends() {
    let stage = Stage::new().start().await;
    stage.origin.answer("/store/products", Answer::json("{}").header("set-cookie", "a=b"));
    let first = stage.get("/store/products").await;
    assert_eq!((first.detail(), first.field("set-cookie")), ("miss.set_cookie".to_owned(), "a=b".to_owned()));
    let hold = stage.origin.hold("/store/products");
    let readers = [stage.begin("/store/products"), stage.begin("/store/products"), stage.begin("/store/products")];
    hold.arrived(3).await;
    hold.release();
    for reader in readers {
        assert_eq!(within(reader).await.unwrap().detail(), "pass.marker");
    }
    stage.origin.answer("/store/products", Answer::json("{}"));
    assert_eq!(stage.get("/store/products").await.detail(), "pass.marker", "for as long as it lasts");
    stage.advance_secs(10);
    assert_eq!(stage.get("/store/products").await.detail(), "miss");
    assert_eq!(stage.get("/store/products").await.detail(), "hit");
}

#[tokio::test]
async fn a_refresh_that_turns_private_takes_nothing_away_and_spreads_to_nobody() {
    let stage = Stage::new().start().await;
    stage.get("/store/products").await;
    stage.advance_secs(121);
    stage.origin.answer("/store/products", Answer::json(r#"{"secret":1}"#).header("cache-control", "private"));
    let stale = stage.get("/store/products").await;
    assert_eq!((stale.detail(), stale.version()), ("stale".to_owned(), 1));
    stage.origin.asked(2).await;
    stage.settled(0).await;
    let stale = stage.get("/store/products").await;
    assert_eq!((stale.detail(), stale.version()), ("stale.response_private".to_owned(), 1));
    assert_eq!(stage.origin.total(), 2, "not asked again at once");
}

#[tokio::test]
async fn a_304_that_sets_a_cookie_renews_nothing_for_all() {
    let stage = Stage::new().start().await;
    stage.origin.answer("/store/regions", Answer::json("{}").etag("\"1\""));
    stage.get("/store/regions").await;
    stage.purge("hard", &["list:region"]).await;
    stage.origin.answer("/store/regions", Answer::json("{}").etag("\"1\"").header("set-cookie", "sid=1"));
    for detail in ["pass.unshareable", "pass.marker"] {
        let reply = stage.get("/store/regions").await;
        assert_eq!((reply.detail().as_str(), reply.field("set-cookie").as_str()), (detail, "sid=1"), "one's own");
    }
    assert_eq!(stage.origin.total(), 4);
}

#[tokio::test]
async fn a_304_that_says_private_is_not_stored() {
    let stage = Stage::new().start().await;
    stage.origin.answer("/store/regions", Answer::json("{}").etag("\"a\""));
    stage.get("/store/regions").await;
    stage.purge("hard", &["list:region"]).await;
    let renewed = "HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\ncache-control: private\r\n\r\n";
    stage.origin.answer("/store/regions", Answer::raw(renewed));
    stage.get("/store/regions").await;
    stage.origin.answer("/store/regions", Answer::json(r#"{"version":2}"#).etag("\"b\""));
    assert_eq!(stage.get("/store/regions").await.version(), 2);
}

/// A route that sends its client's fields to the origin, and leaves it to that what becomes of the answers.
const BY_THE_BOOK: &str = "[route.rfc]\npaths = [\"/{path*}\"]\npolicy = \"origin\"\nkey = \"url\"\nforward = [\"*\"]\n\
    content_type = \"*\"\n";

/// Asks as two readers at once, the second behind the first, and says what each was given.
async fn two_at_once(stage: &Stage, path: &'static str) -> [(u16, String, String); 2] {
    let address = stage.address(0);
    let ask = |reader: &'static str| {
        stage.run(async move {
            let cookie = [("cookie", reader)];
            let reply = Client::connect(address).await.ask("GET", path, &cookie, b"").await;
            (reply.status, reply.text(), reply.detail())
        })
    };
    let hold = stage.origin.hold(path);
    let first = ask("reader=1");
    hold.arrived(1).await;
    let second = ask("reader=2");
    stage.followers(1).await;
    hold.release();
    [within(first).await.unwrap(), within(second).await.unwrap()]
}

/// The origin says who asked.
fn by_reader(stage: &Stage, path: &str, status: u16, fields: &'static [(&str, &str)]) {
    stage.origin.respond(path, move |seen| {
        let answer = Answer::json(format!("{:?}", seen.field("cookie"))).with_status(status);
        fields.iter().fold(answer, |answer, (name, value)| answer.header(name, value))
    });
}

#[tokio::test]
async fn by_the_book_what_may_not_be_used_again_is_given_to_nobody_who_waited() {
    let config = format!("{BY_THE_BOOK}trust = [\"cookies\"]\n");
    let stage = Stage::new().config(&config).start().await;
    const CC: &str = "cache-control";
    for (path, status, fields, is_shared) in [
        ("/silent", 200, &[][..], false),
        ("/over", 200, &[(CC, "max-age=0"), ("etag", "\"1\"")], false),
        ("/aged", 200, &[(CC, "max-age=9"), ("age", "9"), ("etag", "\"1\"")], false),
        ("/unasked", 200, &[(CC, "no-cache")], false),
        ("/error", 403, &[], false),
        ("/slow", 429, &[], false),
        ("/fresh", 200, &[(CC, "max-age=9")], true),
        ("/window", 200, &[(CC, "max-age=0, stale-while-revalidate=9")], true),
    ] {
        by_reader(&stage, path, status, fields);
        let [first, second] = two_at_once(&stage, path).await;
        assert_eq!(first.1, "\"reader=1\"", "{path}");
        assert_eq!(second.1, if is_shared { "\"reader=1\"" } else { "\"reader=2\"" }, "{path}: {second:?}");
        assert_eq!(first.0, second.0, "{path}");
    }
}

#[tokio::test]
async fn by_the_book_what_an_error_says_is_for_who_asked() {
    let config = format!("{BY_THE_BOOK}trust = [\"cookies\"]\n");
    let stage = Stage::new().config(&config).start().await;
    by_reader(&stage, "/a", 500, &[]);
    let [first, second] = two_at_once(&stage, "/a").await;
    assert_eq!(first, (500, "\"reader=1\"".into(), "failed.origin_status".into()));
    let later = stage.get_with("/a", &[("cookie", "reader=3")]).await;
    for (status, text, detail) in [second, (later.status, later.text(), later.detail())] {
        assert_eq!((status, detail.as_str()), (500, "failed.origin_status"), "that it failed is everybody's");
        assert!(!text.contains("reader"), "{text}");
    }
    assert_eq!(stage.origin.total(), 1, "nor is a dead origin asked for each");
}

#[tokio::test]
async fn by_the_book_an_error_that_is_an_answer_is_asked_for_by_each() {
    let config = format!("{BY_THE_BOOK}trust = [\"cookies\", \"errors\"]\n");
    let stage = Stage::new().config(&config).start().await;
    by_reader(&stage, "/a", 500, &[]);
    let [first, second] = two_at_once(&stage, "/a").await;
    assert_eq!((first.0, first.1), (500, "\"reader=1\"".into()));
    assert_eq!(second, (500, "\"reader=2\"".into(), "pass.unshareable".into()));
}
