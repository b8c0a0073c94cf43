//! What is in the key, what is not, and that nothing else reaches the origin.

use crate::stage::{Answer, Stage};

/// What published attacks on caches put beside the key, and a few that an origin of ours might read.
const UNKEYED: [(&str, &str); 41] = [
    ("x-forwarded-host", "evil.example"),
    ("x-forwarded-server", "evil.example"),
    ("x-forwarded-scheme", "http"),
    ("x-forwarded-proto", "nothttps"),
    ("x-forwarded-port", "1337"),
    ("x-forwarded-prefix", "/evil"),
    ("x-forwarded-path", "/evil"),
    ("x-forwarded-for", "127.0.0.1"),
    ("x-forwarded", "for=127.0.0.1"),
    ("forwarded", "for=127.0.0.1;host=evil.example;proto=http"),
    ("x-host", "evil.example"),
    ("x-http-host-override", "evil.example"),
    ("x-original-host", "evil.example"),
    ("x-backend-host", "evil.example"),
    ("x-original-url", "/admin"),
    ("x-rewrite-url", "/admin"),
    ("x-original-uri", "/admin"),
    ("x-accel-redirect", "/admin"),
    ("x-http-method-override", "POST"),
    ("x-http-method", "DELETE"),
    ("x-method-override", "PUT"),
    ("x-real-ip", "127.0.0.1"),
    ("x-client-ip", "127.0.0.1"),
    ("x-remote-ip", "127.0.0.1"),
    ("x-originating-ip", "127.0.0.1"),
    ("true-client-ip", "127.0.0.1"),
    ("cf-connecting-ip", "127.0.0.1"),
    ("x-wap-profile", "http://evil.example/wap.xml"),
    ("x-middleware-prefetch", "1"),
    ("x-middleware-subrequest", "middleware"),
    ("x-nextjs-data", "1"),
    ("rsc", "1"),
    ("x-amz-website-redirect-location", "http://evil.example"),
    ("x-oversized-header", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"),
    ("accept", "text/evil"),
    ("accept-language", "xx"),
    ("accept-encoding", "evil"),
    ("user-agent", "evil"),
    ("referer", "http://evil.example"),
    ("max-forwards", "0"),
    ("expect", "nothing-we-know"),
];

#[tokio::test]
async fn a_header_outside_the_key_neither_reaches_the_origin_nor_changes_a_later_answer() {
    let stage = Stage::new().start().await;
    // An origin that falls for all of them: it writes what it is sent into its answer.
    stage.origin.respond("/store/regions", |seen| {
        let names: Vec<String> = seen.headers.iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
        Answer::json(serde_json::to_string(&names).unwrap())
    });
    let clean = stage.get("/store/regions?limit=1000").await.text();
    for (n, (name, value)) in UNKEYED.iter().enumerate() {
        let target = format!("/store/regions?limit={n}");
        let attacked = stage.get_with(&target, &[(name, value)]).await;
        assert_eq!((attacked.status, attacked.detail()), (200, "miss".to_owned()), "{name}");
        assert_eq!(attacked.text(), clean, "{name} reached the origin");
        let later = stage.get(&target).await;
        assert_eq!((later.detail(), later.text()), ("hit".to_owned(), clean.clone()), "{name}");
    }
}

#[tokio::test]
async fn another_host_gets_the_same_answer_and_the_origin_sees_its_own() {
    let stage = Stage::new().start().await;
    let first = stage.get_with("/store/regions", &[("host", "evil.example")]).await;
    let second = stage.get_with("/store/regions", &[("host", "shop.example")]).await;
    assert_eq!((first.detail(), second.detail()), ("miss".to_owned(), "hit".to_owned()));
    assert_eq!(stage.origin.last().field("host"), stage.origin.address.to_string());
}

#[tokio::test]
async fn a_host_in_the_key_is_sent_to_the_origin_and_keeps_answers_apart() {
    let stage = Stage::new().also("[route.regions]\nhost_in_key = true\n").start().await;
    for host in ["a.example", "b.example", "A.example:80"] {
        stage.get_with("/store/regions", &[("host", host)]).await;
    }
    let hosts: Vec<String> = stage.origin.seen().iter().map(|seen| seen.field("host").to_owned()).collect();
    assert_eq!(hosts, ["a.example", "b.example"]);
}

#[tokio::test]
async fn an_unknown_parameter_passes_and_is_not_stored() {
    let stage = Stage::new().start().await;
    for round in 1..=2 {
        let reply = stage.get("/store/products?limit=2&color=red").await;
        assert_eq!(reply.detail(), "pass.unknown_query");
        assert_eq!(stage.origin.total(), round);
    }
    assert_eq!(stage.origin.last().target, "/store/products?limit=2&color=red", "as it was sent");
    assert_eq!(stage.metric(0, "endcap_bypass_total", &[("reason", "unknown_query")]).await, 2.0);
    assert_eq!(stage.get("/store/products?limit=2").await.detail(), "miss");
}

#[tokio::test]
async fn tracking_parameters_reach_neither_key_nor_origin() {
    let stage = Stage::new().start().await;
    stage.get("/store/products?utm_source=mail&limit=2&gclid=x&fbclid=y").await;
    assert_eq!(stage.origin.last().target, "/store/products?limit=2");
    assert_eq!(stage.get("/store/products?limit=2&utm_campaign=z").await.detail(), "hit");
}

#[tokio::test]
async fn what_reads_alike_is_one_key_and_what_may_not_is_another() {
    let stage = Stage::new().start().await;
    let first = "/store/products?id=prod_b&id=prod_a&limit=02&fields=title,id";
    stage.get(first).await;
    for same in [
        "/store/products?limit=2&id[]=prod_b&id[]=prod_a&fields=id,title",
        "/store/products?fields=title%2Cid&id[0]=prod_b&id[1]=prod_a&limit=2",
        "/store/products?id=prod_b&id=prod_a&limit=2&fields=id,title&offset=0",
    ] {
        assert_eq!(stage.get(same).await.detail(), "hit", "{same}");
    }
    let other = "/store/products?id=prod_a&id=prod_b&limit=2&fields=id,title";
    assert_eq!(stage.get(other).await.detail(), "miss", "the order of a list may matter");
    assert_eq!(stage.origin.total(), 2);
}

#[tokio::test]
async fn a_doubled_scalar_is_refused_and_the_origin_sees_nothing() {
    let stage = Stage::new().start().await;
    for target in [
        "/store/products?locale=de&locale=fr",
        "/store/products?locale[]=de",
        "/store/products?locale=de&loc%61le=fr",
        "/store/products?locale=de&locale=fr&unknown=1",
    ] {
        for headers in [&[][..], &[("authorization", "Bearer vip")]] {
            let reply = stage.get_with(target, headers).await;
            assert_eq!((reply.status, reply.detail()), (400, "refused.query_repeated".to_owned()), "{target}");
            assert_eq!(reply.field("cache-control"), "no-store");
        }
    }
    let twice = [("x-publishable-api-key", "pk_1"), ("x-publishable-api-key", "pk_2")];
    assert_eq!(stage.get_with("/store/products", &twice).await.detail(), "refused.header_repeated");
    assert_eq!(stage.origin.total(), 0);
    assert_eq!(stage.metric(0, "endcap_rejected_requests_total", &[("reason", "query_repeated")]).await, 8.0);
}

/// One such request would hold a connection to the backend for as long as what passes may take.
#[tokio::test]
async fn what_the_backend_hangs_on_reaches_it_on_no_route() {
    let stage =
        Stage::new().also("[route.shelf]\npaths = [\"/store/shelf\"]\nunknown_query = \"drop\"\n").start().await;
    for path in ["/store/carts/cart_1", "/store/shelf", "/Store/Products", "/admin/products", "/"] {
        for query in ["locale=a&locale=b", "locale%5B%5D=a", "locale.x=a", "[locale]=a&l%6Fcale=b", "locale[%ff]=a"] {
            for method in ["GET", "HEAD", "POST", "DELETE"] {
                let reply = stage.ask(method, &format!("{path}?{query}"), &[], b"").await;
                assert_eq!(reply.status, 400, "{method} {path}?{query}");
            }
        }
    }
    assert_eq!(stage.origin.total(), 0);
    assert_eq!(stage.get("/store/carts/cart_1?locale=a&q=1&q=2").await.status, 200);
}

#[tokio::test]
async fn each_publishable_key_and_locale_has_its_own_answer() {
    let stage = Stage::new().start().await;
    stage.origin.respond("/store/products", |seen| {
        Answer::json(format!(r#"["{}","{}"]"#, seen.field("x-publishable-api-key"), seen.field("x-medusa-locale")))
    });
    for (key, locale) in [("pk_1", "de-DE"), ("pk_2", "de-DE"), ("pk_1", "fr-FR")] {
        let headers = [("x-publishable-api-key", key), ("x-medusa-locale", locale)];
        for expected in ["miss", "hit"] {
            let reply = stage.get_with("/store/products", &headers).await;
            assert_eq!((reply.detail(), reply.text()), (expected.to_owned(), format!(r#"["{key}","{locale}"]"#)));
        }
    }
    let respelt = [("x-publishable-api-key", " pk_1 "), ("x-medusa-locale", "FR-fr")];
    assert_eq!(stage.get_with("/store/products", &respelt).await.detail(), "hit");
}

#[tokio::test]
async fn a_path_that_is_not_plainly_a_route_is_never_answered_from_the_cache() {
    let stage = Stage::new().start().await;
    stage.get("/store/regions").await;
    for target in [
        "/store/regions/",
        "/Store/regions",
        "//store/regions",
        "/store/%72egions",
        "/store/regions;v=1",
        "/store/./regions",
    ] {
        for _ in 0..2 {
            let reply = stage.get(target).await;
            assert!(["pass.no_route", ""].contains(&reply.detail().as_str()), "{target}: {}", reply.detail());
        }
    }
}
