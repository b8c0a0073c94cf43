//! Defaults, preset, file and environment lie over one another.

use std::time::Duration;

use super::{SECRET, check, env, load, problems, with_upstream};
use crate::config::{Config, RedisServer};

#[test]
fn each_layer_lies_over_the_one_below_key_by_key() {
    let text = with_upstream(
        "preset = \"medusa\"\n[route.products]\nttl = \"60s\"\n[route.products.query]\nmine = { kind = \"text\" }",
    );
    let config = load(&text, &[("ENDCAP_ROUTE__PRODUCTS__SIE", "5m"), ("ENDCAP_UPSTREAM", "http://other")]);
    let products = config.routes.find("/store/products").unwrap();
    assert_eq!(products.ttl, Duration::from_secs(60), "from the file");
    assert_eq!(products.sie, Duration::from_secs(300), "from the environment");
    assert_eq!(products.swr, Duration::from_secs(160), "from the preset");
    assert_eq!(products.tag_headers.len(), 3, "from the defaults");
    assert!(products.query.iter().any(|param| param.name == "mine"));
    assert!(products.query.iter().any(|param| param.name == "region_id"));
    assert_eq!(config.upstream.host, "other");
}

#[test]
fn the_environment_alone_is_enough() {
    let variables = [
        ("ENDCAP_UPSTREAM", "http://shop"),
        ("ENDCAP_PRESET", "medusa"),
        ("ENDCAP_REDIS__URL", "redis://:pw@cache"),
        ("ENDCAP_WEBHOOK_SECRET", SECRET),
        ("ENDCAP_SERVICE_HOST", "10.0.0.1"),
    ];
    let loaded = Config::load(None, env(&variables)).unwrap();
    let redis = loaded.config.redis.unwrap();
    assert_eq!((redis.server, redis.password.unwrap().expose()), (RedisServer::Tcp("cache".into(), 6379), "pw"));
    assert_eq!(loaded.config.hooks["default"].secrets[0].expose(), SECRET);
    assert_eq!(loaded.variables, ["ENDCAP_PRESET", "ENDCAP_REDIS__URL", "ENDCAP_UPSTREAM", "ENDCAP_WEBHOOK_SECRET"]);
    assert_eq!(loaded.file, None);
}

#[test]
fn a_problem_names_the_layer_it_came_from() {
    let shown = problems(&with_upstream(""), &[("ENDCAP_CACHE__JITTER", "0.6")]).to_string();
    assert!(
        shown.contains("cache.jitter: 0.6 is too much: at most 0.5")
            && shown.contains("from the environment: ENDCAP_CACHE__JITTER"),
        "{shown}"
    );
    let text = "preset = \"medusa\"\n[route.mine]\npaths = [\"/store/regions\"]";
    check(text, &["route.mine.paths[0]: \"/store/regions\" matches what", "the route \"regions\"", "proxy.toml:4:10"]);
    let text = "preset = \"medusa\"\n[route.payment-providers.query]\noffset = { default = \"x\" }\n[route.product-tags]\ntags_when = []";
    check(text, &["route.payment-providers.query.offset.default"]);
    let text = "preset = \"medusa\"\n[cache]\ntracking = [\"limit\"]\n[route.regions]";
    let found = problems(&with_upstream(text), &[]).to_string();
    assert!(found.contains("route.regions.query.limit") && found.contains("from the preset \"medusa\""), "{found}");
    let shown = problems("", &[]).to_string();
    assert!(shown.contains("upstream: the backend is missing") && shown.contains("neither the file"), "{shown}");
}

#[test]
fn a_wrong_value_is_reported_once_and_what_follows_from_it_is_not() {
    for (text, variables) in [
        ("upstream = 5", &[][..]),
        ("", &[("ENDCAP_UPSTREAM", "https://shop")]),
        ("upstream = \"http://a\"\n[redis]\nurl = \"x\"", &[]),
    ] {
        assert_eq!(problems(text, variables).iter().count(), 1);
    }
}

#[test]
fn secrets_come_from_files_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secrets");
    let path = path.to_str().unwrap();
    std::fs::write(path, format!("{SECRET}\n\n  {SECRET}\n")).unwrap();
    let config = load(&with_upstream(&format!("webhook_secret_file = {path:?}\n[ops]\ntoken_file = {path:?}")), &[]);
    assert_eq!(config.hooks["default"].secrets.len(), 2);
    assert!(config.ops.token.unwrap().expose().starts_with("whsec_"));
    check(
        &format!("webhook_secret_file = {path:?}\nwebhook_secret = \"{SECRET}\""),
        &["webhook_secret_file:", "leave one of them out"],
    );
    std::fs::write(path, format!("{SECRET}\nwhsec_!\n")).unwrap();
    check(&format!("webhook_secret_file = {path:?}"), &["secret 2 of the file", "base64"]);
    check("[redis]\nurl = \"redis://cache\"\npassword_file = \"/nowhere\"", &["redis.password_file", "cannot be read"]);
}
