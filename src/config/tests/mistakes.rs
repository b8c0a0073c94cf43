//! What is wrong is said with its place and what would be right.

use std::time::Duration;

use super::{SECRET, check, env, load, problems, with_upstream};
use crate::config::Config;
use crate::policy::route::Policy;

#[test]
fn an_error_shows_the_line_and_what_would_be_right() {
    let text = "upstream = \"http://shop\"\n\n[route.products]\npaths = [\"/store/products\"]\ntll = \"30\"\n";
    let expected = "error: route.products.tll: there is no such key\n --> proxy.toml:5:1\n  |\n5 | tll = \"30\"\n  | ^^^\n  |\n  = help: did you mean `ttl`?";
    assert_eq!(problems(text, &[]).to_string(), expected);
}

#[test]
fn all_problems_are_found_at_once() {
    let text = "upstream = \"https://shop\"\npreset = \"medusae\"\n[listen]\nhead_timeout = \"30\"\nconnections_max = 0\n[cache]\njitter = 0.6\n[route.a]\npaths = [\"a\"]\n";
    let found = problems(text, &[("ENDCAP_OPS_TOKEN", "x")]);
    let keys: Vec<_> = found.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(
        keys,
        ["upstream", "preset", "listen.head_timeout", "listen.connections_max", "cache.jitter", "route.a.paths[0]", ""]
    );
}

#[test]
fn values_have_units_and_bounds() {
    check(
        "[listen]\nhead_timeout = 30",
        &["listen.head_timeout: the duration 30 has no unit", "write \"30s\"", "proxy.toml:3:16"],
    );
    check("[memory]\ncapacity = \"1000KiB\"\nobject_max = \"1KiB\"", &["1000KiB is too little: at least 1MiB"]);
    check(
        "[memory]\ncapacity = \"8MiB\"\nobject_max = \"4MiB\"",
        &["4MiB is more than a quarter of memory.capacity (8MiB): at most 2MiB"],
    );
    check("[listen]\nconnections_max = 0", &["0 is too little: at least 1"]);
    check("[listen]\naddress = \"0.0.0.0:99999\"", &["is no address"]);
    check("[route.a]\npaths = [\"/a\"]\nttl = \"366d\"", &["366d is too much: at most 365d"]);
    check("[purge]\nblast_radius = 0.0", &["purge.blast_radius: 0 is too little: at least 0.01"]);
    check("[purge]\nblast_radius = 30", &["purge.blast_radius: 30 is too much: at most 0.99"]);
    check("[redis]\nurl = \"redis://a\"\nnamespace = \"a{b}\"", &["is no namespace"]);
    check("[log]\nlevel = \"wran\"", &["did you mean \"warn\"?"]);
    check("[origin]\ntotal_timeout = \"1s\"", &["1s is less than first_byte_timeout (10s)"]);
    check("[cors]\nallow_origins = [\"*\"]", &["cors.allow_origins[0]", "https://*.example.com"]);
    check("[origin]\nquery_once = [\"id[]\"]", &["origin.query_once[0]", "is no name of a parameter"]);
}

#[test]
fn a_small_memory_shrinks_what_was_not_said() {
    let memory = |text: &str| load(&with_upstream(&format!("[memory]\n{text}")), &[]).memory;
    assert_eq!(memory("capacity = \"8MiB\"").object_max, 2 << 20);
    // No memory at all leaves the size of what is stored in Redis as it is.
    assert_eq!(memory("capacity = \"0B\"").object_max, 16 << 20);
    assert_eq!(memory("capacity = \"0B\"\nobject_max = \"32MiB\"").object_max, 32 << 20);
}

#[test]
fn keys_are_checked_against_one_another() {
    check("[ops]\naddress = \"127.0.0.1:8080\"", &["ops.address", "listen.address already"]);
    check("[redis]\nconnections = 2", &["redis.url: the section needs it"]);
    check("[redis]\nurl = \"redis://:a@b\"\npassword_file = \"/x\"", &["redis.password_file: `url` has a password"]);
    let redis = |url: &str, rest: &str| format!("[redis]\nurl = \"{url}\"\n{rest}");
    check(&redis("redis://a", "tls_ca_file = \"/x\""), &["redis.tls_ca_file: `url` does not ask for TLS"]);
    check(&redis("redis+unix:///s", "tls_key_file = \"/x\""), &["redis.tls_key_file: `url` does not ask for TLS"]);
    check(&redis("rediss://a", "tls_key_file = \"/x\""), &["redis.tls_key_file", "without tls_certificate_file"]);
    check(&redis("rediss://a", "tls_ca_file = \"/nowhere\""), &["redis.tls_ca_file", "cannot be read"]);
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let no_certificate = format!("tls_ca_file = \"{manifest}\"");
    check(&redis("rediss+cluster://a", &no_certificate), &["redis.tls_ca_file", "no certificate in PEM"]);
    check(&redis("redis://a", "sentinel_username = \"x\""), &["redis.sentinel_username: `url` names no sentinels"]);
    check(&redis("redis+cluster://a", "sentinel_password = \"x\""), &["redis.sentinel_password: `url` names no"]);
    let waits = "wait_replicas = 1\nwait_timeout = \"2s\"";
    check(&redis("redis://a", waits), &["redis.wait_timeout: 2s is too much", "purge.ack_timeout (2s)"]);
    check("[hooks.erp]\ntolerance = \"1m\"", &["hooks.erp: a hook needs `secrets`"]);
    check(
        &format!("webhook_secret = \"{SECRET}\"\n[hooks.default]\nsecrets = [\"{SECRET}\"]"),
        &["hooks.default", "leave one of them out"],
    );
    check(&format!("[hooks.'a/b']\nsecrets = [\"{SECRET}\"]"), &["hooks.\"a/b\"", "is no name of a hook"]);
    check(
        "[route.a]\npaths = [\"/a/{x}\"]\n[route.b]\npaths = [\"/b\", \"/a/{y}\"]",
        &["route.b.paths[1]: \"/a/{y}\"", "route \"a\""],
    );
    check("[route.a]\npaths = [\"/a\", \"/a\"]", &["another path of the same route"]);
    check(
        "[origin]\nquery_once = [\"id\"]\n[route.a]\npaths = [\"/a\"]\n[route.a.query]\nid = { kind = \"list\" }",
        &["route.a.query.id.kind: \"id\" is in origin.query_once"],
    );
    check("[route.a]\nttl = \"1s\"", &["route.a: a route needs paths"]);
    check("[route_defaults]\npaths = [\"/a\"]", &["route_defaults.paths: paths belong to one route"]);
    check("[route.'a b']\npaths = [\"/a\"]", &["is no name of a route"]);
}

#[test]
fn a_route_says_what_it_cannot_do() {
    check(
        "[route.b]\npaths = [\"/b\", \"/b/{rest*}\"]",
        &["route.b.paths[1]", "that needs key = \"url\" or policy = \"pass\""],
    );
    let check = |rest: &str, words: &[&str]| check(&format!("[route.a]\npaths = [\"/a\"]\n{rest}"), words);
    check("trust = [\"errors\"]", &["route.a.trust", "only a route with policy = \"origin\""]);
    check("policy = \"pass\"\nswr = \"1s\"", &["route.a.swr", "stores nothing"]);
    check("policy = \"pass\"\nsie = \"1s\"", &["route.a.sie"]);
    check("normalize_languages = true", &["route.a.normalize_languages"]);
    check("upgrade = true", &["route.a.upgrade", "only a route with policy = \"pass\""]);
    check("methods = [\"GET\", \"POST\"]", &["route.a.methods[1]", "only GET and HEAD"]);
    check("methods = []", &["write policy = \"pass\""]);
    check("content_type = \"json\"", &["is no media type"]);
    check("cache_control = \"a\\nb\"", &["no value of a header"]);
    check("tag_prefixes = [\"\"]", &["route.a.tag_prefixes[0]"]);
    check("tags = [\"{id}\"]", &["route.a.tags[0]: `{id}` is unknown: write {header:NAME} or {query:NAME}"]);
    check("tags = [\"{header:x}\"]", &["`{header:x}` is not in the key of the route \"a\""]);
    check("tags = [\"{query:x}\"]", &["`{query:x}` is not in the key"]);
    check("tags = [\"a\", \"{\"]", &["route.a.tags[1]", "without `}`"]);
    check("tags_when = [{ query = \"x\", tags = [\"t\"] }]", &["route.a.tags_when[0].query: \"x\" is not in the key"]);
    check("tags_when = [{ tags = [\"t\"] }]", &["the parameter is missing"]);
    check(
        "[route.a.query]\nn = { kind = \"integer\", default = \"x\" }",
        &["route.a.query.n.default: \"x\" is no number"],
    );
    check("[route.a.query]\nn = { kind = \"int\" }", &["is none of the words here"]);
    check("[route.a.query]\nn = {}", &["the kind is missing"]);
    check("[route.a.query]\n'n[]' = { kind = \"list\" }", &["without brackets"]);
    check("[route.a.query]\nutm_x = { kind = \"text\" }", &["cache.tracking"]);
    check("[route.a.headers]\nx = { kind = \"origin\" }", &["the kind \"origin\""]);
    check("[route.a.headers]\n'x y' = { kind = \"text\" }", &["is no header name"]);
    check("[route.a.headers]\nHost = { kind = \"text\" }", &["host_in_key = true"]);
    check("[route.a.tag_paths]\n\"items\" = \"x\"", &["is no path in a document"]);
    for header in [
        "authorization",
        "Cookie",
        "set-cookie",
        "connection",
        "content-length",
        "transfer-encoding",
        "accept-encoding",
    ] {
        check(&format!("[route.a.headers]\n{header} = {{ kind = \"text\" }}"), &[&format!("route.a.headers.{header}")]);
    }
}

#[test]
fn events_are_checked_too() {
    check("[event.'']\nhard = []", &["is no name of events"]);
    check("[event.'a*b']\nhard = []", &["is no name of events"]);
    check("[event.a]\nhard = [\"x\", \"{a b}\"]", &["event.a.hard[1]", "white space"]);
    check("[event.a]\nsoft = [\"{header:x}\"]", &["is no field of an event"]);
    check("[event.a]\ndelete = [\"{\"]", &["without `}`"]);
}

#[test]
fn what_all_routes_share_is_reported_once() {
    let routes = "[route.a]\npaths = [\"/a\"]\n[route.b]\npaths = [\"/b\"]";
    check(&format!("[route_defaults]\nttl = \"400d\"\n{routes}"), &["route_defaults.ttl"]);
    check(&format!("[route_defaults]\ntags = [\"{{x}}\"]\n{routes}"), &["route_defaults.tags[0]"]);
    check("[route_defaults.headers]\ncookie = { kind = \"text\" }", &["route_defaults.headers.cookie"]);
}

#[test]
fn a_preset_route_can_be_switched_off() {
    let config = load(&with_upstream("preset = \"medusa\"\n[route.products]\npolicy = \"pass\""), &[]);
    let products = config.routes.find("/store/products").unwrap();
    assert_eq!((products.policy, products.swr, products.sie), (Policy::Pass, Duration::ZERO, Duration::ZERO));
}

#[test]
fn an_unknown_preset_lists_the_known() {
    check("preset = \"shopify\"", &["there is no preset \"shopify\"", "the presets are: medusa", "proxy.toml:2:10"]);
    check("preset = \"medsua\"", &["did you mean \"medusa\"?"]);
}

#[test]
fn no_error_shows_a_secret() {
    for text in [
        "webhook_secret = \"hunter2\"",
        "webhook_secret = \"whsec_hunter2",
        "webhok_secret = \"hunter2\"",
        "[hooks.a]\nsecrets = [\n  \"hunter2\",\n]",
        "[hooks.a]\nsecrets = \"hunter2\"",
        "[redis]\nurl = \"redis://a:hunter2@b:x\"",
        "[redis]\nurl = \"hunter2\"",
        "[ops]\ntoken = [\"hunter2\"]",
        "[ops]\ntokne = \"hunter2\"",
        "[redis]\nurl = \"redis://:hunter2@a\"\npassword_file = \"/x\"",
    ] {
        let shown = problems(&with_upstream(text), &[]).render(true);
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    let shown = problems("", &[("ENDCAP_WEBHOOK_SECRET", "hunter2"), ("ENDCAP_HOOKS", "{ a = hunter2")]).to_string();
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn a_file_that_is_not_there_is_a_problem() {
    let problems = Config::load(Some(std::path::Path::new("/nowhere.toml")), env(&[])).unwrap_err();
    assert!(problems.to_string().contains("/nowhere.toml cannot be read"));
}

#[test]
fn a_downstream_target_says_what_it_lacks_and_what_is_not_its_own() {
    let token = format!("token = \"{SECRET}\"");
    for (text, words) in [
        ("url = \"https://a\"\ntoken = \"x\"", &["downstream.a", "needs its `kind`"][..]),
        ("kind = \"fastyl\"", &["did you mean \"fastly\"?"]),
        ("kind = \"fastly\"\ntoken = \"x\"", &["needs the `id` of its service"]),
        ("kind = \"fastly\"\ntoken = \"x\"\nid = \"../x\"", &["downstream.a.id", "no id of a service"]),
        ("kind = \"fastly\"\nid = \"SU1\"", &["needs a `token`"]),
        ("kind = \"fastly\"\nid = \"SU1\"\ntoken = \"x\"\nplan = \"pro\"", &["downstream.a.plan", "leave it out"]),
        ("kind = \"nextjs\"\ntoken = \"x\"", &["needs its `url`"]),
        ("kind = \"nextjs\"\ntoken = \"x\"\nurl = \"https://a\"\nid = \"b\"", &["downstream.a.id", "leave it out"]),
        ("kind = \"nextjs\"\ntoken = \"x\"\nurl = \"ftp://a\"", &["downstream.a.url", "write \"https://host\""]),
        ("kind = \"nextjs\"\ntoken = \"x\"\nurl = \"https://u:p@a\"", &["without credentials"]),
        ("kind = \"fastly\"\ntoken = \"a b\"\nid = \"SU1\"", &["downstream.a.token", "white space"]),
        ("kind = \"nextjs\"\ntoken = \"x\"\nurl = \"https://a\"", &["downstream.a.token", "whsec_"]),
        ("kind = \"webhook\"\ntoken = \"x\"\nurl = \"https://a\"", &["downstream.a.token", "whsec_"]),
    ] {
        let found = problems(&with_upstream(&format!("[downstream.a]\n{text}")), &[]).to_string();
        assert!(words.iter().all(|word| found.contains(word)), "{text}: {found}");
    }
    let text = format!("[downstream.a]\nkind = \"webhook\"\nurl = \"https://a/b\"\n{token}\nsecond_purge = \"2s\"\n");
    let config = load(&with_upstream(&text), &[]);
    assert_eq!(config.downstream["a"].url, "https://a/b");
    let shown = config.render();
    assert!(shown.contains("[downstream.a]") && shown.contains("second_purge = \"2s\"") && !shown.contains(SECRET));
}
