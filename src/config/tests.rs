//! The file, the presets and the layers as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use serde::Deserialize;
use toml::Value;

use super::raw::Raw;
use super::shape::{Shape, Shaped};
use super::*;
use crate::policy::route::Policy;

const FILE: &str = include_str!("../../proxy.toml");
const SECRET: &str = "whsec_ZW5kY2FwIGV4YW1wbGUgc2VjcmV0IG9ubHkh";

fn env(variables: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>().into_iter()
}

#[track_caller]
fn load(text: &str, variables: &[(&str, &str)]) -> Config {
    match Config::from_toml("proxy.toml", text, env(variables)) {
        Ok(loaded) => loaded.config,
        Err(problems) => panic!("{problems}"),
    }
}

/// A text with an upstream before it.
fn with_upstream(text: &str) -> String {
    format!("upstream = \"http://shop:9000\"\n{text}")
}

#[track_caller]
fn problems(text: &str, variables: &[(&str, &str)]) -> Problems {
    Config::from_toml("proxy.toml", text, env(variables)).expect_err("the text has problems")
}

/// One problem, whose rendering holds all the words.
#[track_caller]
fn check(text: &str, words: &[&str]) {
    let found = problems(&with_upstream(text), &[]);
    let shown = found.to_string();
    assert_eq!(found.iter().count(), 1, "{shown}");
    for word in words {
        assert!(shown.contains(word), "{word:?} is not in:\n{shown}");
    }
}

/// `proxy.toml` with the keys that stand commented out.
fn uncommented() -> String {
    FILE.lines().map(|line| key_comment(line).unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

/// The key or section that stands commented out; a `#` with a space begins help.
fn key_comment(line: &str) -> Option<&str> {
    line.strip_prefix('#').filter(|rest| !rest.starts_with(' '))
}

mod file {
    use super::*;

    #[test]
    fn proxy_toml_as_it_stands_is_the_defaults() {
        let from_file = load(&with_upstream(FILE), &[]);
        let from_nothing = load(&with_upstream(""), &[]);
        assert_eq!(format!("{from_file:?}"), format!("{from_nothing:?}"));
        assert_eq!(from_file.render(), from_nothing.render());
    }

    /// Whether two values are the same, in whatever unit they are written.
    fn same(documented: Option<&Value>, rendered: &Value) -> bool {
        let duration = |value: &Value| value.as_str().and_then(|text| humantime::parse_duration(text).ok());
        documented
            .is_some_and(|value| value == rendered || duration(value).is_some_and(|it| Some(it) == duration(rendered)))
    }

    #[test]
    fn proxy_toml_gives_the_defaults_of_what_has_none_of_its_own() {
        // Redis, hooks and routes stand commented out, because there is none unless one is named.
        let redis = "[redis]\nurl = \"redis://127.0.0.1:6379/0\"\n";
        let documented: toml::Table = toml::from_str(&uncommented()).unwrap();
        let section = |path: &[&str]| {
            let value = path.iter().fold(Value::Table(documented.clone()), |value, key| value[*key].clone());
            value.as_table().unwrap().clone()
        };
        let rendered: toml::Table = toml::from_str(
            &load(
                &with_upstream(&format!("{redis}[hooks.erp]\nsecrets = [\"{SECRET}\"]\n[route.x]\npaths = [\"/x\"]")),
                &[],
            )
            .render(),
        )
        .unwrap();
        for (path, own) in [
            (&["redis"][..], &["url", "password_file", "integrity_key", "integrity_key_file"][..]),
            (&["hooks", "erp"], &["secrets", "secrets_file"]),
        ] {
            let rendered = path.iter().fold(Value::Table(rendered.clone()), |value, key| value[*key].clone());
            let documented = section(path);
            for (key, value) in rendered.as_table().unwrap() {
                assert!(own.contains(&key.as_str()) || same(documented.get(key), value), "{path:?}.{key}: {value}");
            }
        }
        let (shared, route) = (section(&["route_defaults"]), rendered["route"]["x"].as_table().unwrap());
        for (key, value) in route {
            let own = ["paths", "query", "headers", "tag_paths", "tags_when"].contains(&key.as_str());
            assert!(own || same(shared.get(key), value), "{key}: {value}");
        }
    }

    /// The keys of each kind of section that occur in a value, by the keys that it may have.
    fn seen(shape: &Shape, value: &Value, found: &mut BTreeMap<Vec<&'static str>, BTreeSet<String>>) {
        match (shape, value) {
            (Shape::Table(fields), Value::Table(table)) => {
                let section = fields.iter().map(|(name, _)| *name).collect();
                found.entry(section).or_default().extend(table.keys().cloned());
                for (name, below) in *fields {
                    if let Some(value) = table.get(*name) {
                        seen(below, value, found);
                    }
                }
            }
            (Shape::Map(below), Value::Table(table)) => table.values().for_each(|value| seen(below, value, found)),
            (Shape::List(below), Value::Array(list)) => list.iter().for_each(|value| seen(below, value, found)),
            _ => {}
        }
    }

    #[test]
    fn proxy_toml_shows_every_key_there_is() {
        let text = uncommented();
        let value = Value::Table(toml::from_str(&text).unwrap());
        Raw::deserialize(value.clone()).unwrap();
        let mut found = BTreeMap::new();
        seen(&Raw::SHAPE, &value, &mut found);
        assert!(found.len() > 15, "every kind of section occurs");
        for (section, keys) in found {
            let missing: Vec<_> = section.iter().filter(|key| !keys.contains(**key)).collect();
            assert!(missing.is_empty(), "{missing:?} of {section:?}");
        }
    }

    #[test]
    fn proxy_toml_helps_with_every_key() {
        let mut before = "";
        for line in FILE.lines() {
            let bare = key_comment(line).unwrap_or(line);
            // What the user names stands under a section that explains it.
            let is_example = bare.starts_with('"');
            if bare.contains(" = ") && !line.starts_with("# ") && !is_example {
                assert!(before.starts_with("# "), "no help before {line:?}");
            }
            before = line;
        }
    }
}

mod layers {
    use super::*;

    #[test]
    fn each_layer_lies_over_the_one_below_key_by_key() {
        let text = with_upstream(
            "preset = \"medusa\"\n[route.products]\nttl = \"60s\"\n[route.products.query]\nmine = { kind = \"text\" }",
        );
        let config = load(&text, &[("ENDCAP_ROUTE__PRODUCTS__SIE", "5m"), ("ENDCAP_UPSTREAM", "http://other")]);
        let products = config.routes.find("/store/products").unwrap();
        assert_eq!(products.ttl, Duration::from_secs(60), "from the file");
        assert_eq!(products.sie, Duration::from_secs(300), "from the environment");
        assert_eq!(products.swr, Duration::from_secs(600), "from the preset");
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
        assert_eq!(
            loaded.variables,
            ["ENDCAP_PRESET", "ENDCAP_REDIS__URL", "ENDCAP_UPSTREAM", "ENDCAP_WEBHOOK_SECRET"]
        );
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
        check(
            text,
            &["route.mine.paths[0]: \"/store/regions\" matches what", "the route \"regions\"", "proxy.toml:4:10"],
        );
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
        let config =
            load(&with_upstream(&format!("webhook_secret_file = {path:?}\n[ops]\ntoken_file = {path:?}")), &[]);
        assert_eq!(config.hooks["default"].secrets.len(), 2);
        assert!(config.ops.token.unwrap().expose().starts_with("whsec_"));
        check(
            &format!("webhook_secret_file = {path:?}\nwebhook_secret = \"{SECRET}\""),
            &["webhook_secret_file:", "leave one of them out"],
        );
        std::fs::write(path, format!("{SECRET}\nwhsec_!\n")).unwrap();
        check(&format!("webhook_secret_file = {path:?}"), &["secret 2 of the file", "base64"]);
        check(
            "[redis]\nurl = \"redis://cache\"\npassword_file = \"/nowhere\"",
            &["redis.password_file", "cannot be read"],
        );
    }
}

mod mistakes {
    use super::*;

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
            [
                "upstream",
                "preset",
                "listen.head_timeout",
                "listen.connections_max",
                "cache.jitter",
                "route.a.paths[0]",
                ""
            ]
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
        check("[redis]\nurl = \"redis://a\"\nnamespace = \"a{b}\"", &["is no namespace"]);
        check("[log]\nlevel = \"wran\"", &["did you mean \"warn\"?"]);
        check("[origin]\ntotal_timeout = \"1s\"", &["1s is less than first_byte_timeout (10s)"]);
        check("[cors]\nallow_origins = [\"*\"]", &["cors.allow_origins[0]", "https://*.example.com"]);
        check("[origin]\nquery_once = [\"id[]\"]", &["origin.query_once[0]", "is no name of a parameter"]);
    }

    #[test]
    fn a_small_memory_shrinks_what_was_not_said() {
        let config = load(&with_upstream("[memory]\ncapacity = \"8MiB\""), &[]);
        assert_eq!(config.memory.object_max, 2 << 20);
    }

    #[test]
    fn keys_are_checked_against_one_another() {
        check("[ops]\naddress = \"127.0.0.1:8080\"", &["ops.address", "listen.address already"]);
        check("[redis]\nconnections = 2", &["redis.url: the section needs it"]);
        check(
            "[redis]\nurl = \"redis://:a@b\"\npassword_file = \"/x\"",
            &["redis.password_file: `url` has a password"],
        );
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
        let check = |rest: &str, words: &[&str]| check(&format!("[route.a]\npaths = [\"/a\"]\n{rest}"), words);
        check("policy = \"pass\"\nswr = \"1s\"", &["route.a.swr", "stores nothing"]);
        check("policy = \"pass\"\nsie = \"1s\"", &["route.a.sie"]);
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
        check(
            "tags_when = [{ query = \"x\", tags = [\"t\"] }]",
            &["route.a.tags_when[0].query: \"x\" is not in the key"],
        );
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
            check(
                &format!("[route.a.headers]\n{header} = {{ kind = \"text\" }}"),
                &[&format!("route.a.headers.{header}")],
            );
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
        check(
            "preset = \"shopify\"",
            &["there is no preset \"shopify\"", "the presets are: medusa", "proxy.toml:2:10"],
        );
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
        let shown =
            problems("", &[("ENDCAP_WEBHOOK_SECRET", "hunter2"), ("ENDCAP_HOOKS", "{ a = hunter2")]).to_string();
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn a_file_that_is_not_there_is_a_problem() {
        let problems = Config::load(Some(std::path::Path::new("/nowhere.toml")), env(&[])).unwrap_err();
        assert!(problems.to_string().contains("/nowhere.toml cannot be read"));
    }
}

mod medusa {
    use super::*;

    fn medusa() -> Config {
        load(&format!("upstream = \"http://127.0.0.1:9000\"\npreset = \"medusa\"\nwebhook_secret = \"{SECRET}\""), &[])
    }

    #[test]
    fn three_lines_are_enough() {
        let config = medusa();
        assert_eq!(config.warnings(), Vec::<String>::new());
        assert_eq!(config.routes.once(), ["locale"]);
        assert!(config.routes.rules().iter().all(|rule| rule.headers.len() == 3 && rule.policy == Policy::Override));
    }

    #[test]
    fn what_is_private_is_on_no_route() {
        let config = medusa();
        for path in [
            "/store/carts/cart_1",
            "/store/orders/order_1",
            "/store/orders",
            "/store/customers/me",
            "/store/shipping-options",
            "/store/payment-collections/x",
            "/auth/customer/emailpass",
            "/admin/products",
            "/store",
            "/health",
            "/Store/products",
            "/store/products/",
            "/store/search",
        ] {
            assert!(config.routes.find(path).is_none(), "{path}");
        }
        for rule in config.routes.rules() {
            assert!(!rule.query.iter().any(|param| param.name == "cart_id"));
            for cookie in ["connect.sid", "_medusa_jwt", "_medusa_cart_id", "_medusa_admin"] {
                assert!(!rule.harmless_cookies.contains(cookie), "{cookie}");
            }
        }
    }

    #[test]
    fn every_observed_event_is_known() {
        let config = medusa();
        for name in include_str!("../../tests/fixtures/medusa-event-names.txt").lines() {
            assert!(config.event(name).is_some(), "{name}");
        }
    }

    /// The tags that an answer of the capture carries: prefixes of the ids it shows, and what its route adds.
    fn carried(answer: &str) -> (&'static str, &'static str) {
        match answer {
            "list all" => ("prod variant opt optval img pcol ptyp ptag", "list:product any:product"),
            "list by category" => {
                ("prod variant opt optval img pcol ptyp ptag", "list:product any:product list:category")
            }
            "list by collection" => {
                ("prod variant opt optval img pcol ptyp ptag", "list:product any:product list:collection")
            }
            "product EU" | "product US" => {
                ("prod variant opt optval img pcol ptyp ptag pcat", "any:product priced stock list:category")
            }
            "product DE tax" => ("prod variant opt optval img pcol ptyp ptag", "any:product priced"),
            "product plain" => ("prod variant opt optval img pcol ptyp ptag", "any:product"),
            "variant" => ("variant prod opt optval ptyp img", "any:product priced stock"),
            "collections" => ("pcol", "list:collection"),
            "collections+products" => ("pcol prod ptyp", "list:collection list:product any:product"),
            "categories" | "category" => ("pcat", "list:category"),
            "category+products" => ("pcat prod pcol ptyp", "list:category list:product any:product"),
            "tags" => ("ptag", "list:tag list:product any:product"),
            "tag+products" => ("ptag prod pcol ptyp", "list:tag list:product any:product"),
            "types" => ("ptyp", "list:type list:product any:product"),
            "type+products" => ("ptyp prod pcol", "list:type list:product any:product"),
            "options" => ("opt optval", "list:option"),
            "regions" | "region" => ("reg", "list:region"),
            "payment-providers" => ("", "list:payment-provider"),
            "return-reasons" => ("rr", "list:return-reason"),
            other => panic!("the capture has no answer {other:?}"),
        }
    }

    #[test]
    fn every_observed_change_with_an_event_purges_every_answer_that_changed() {
        let config = medusa();
        let mut without_event = BTreeSet::new();
        for line in include_str!("../../tests/fixtures/medusa-mutations.txt").lines().skip(1) {
            let parts: Vec<&str> = line.split(" | ").collect();
            let [mutation, events, answers] = parts[..] else { panic!("{line}") };
            if events.is_empty() {
                without_event.insert(mutation);
                continue;
            }
            let mut purged = BTreeSet::new();
            for (name, prefix) in events.split(", ").map(|event| event.split_once('=').unwrap()) {
                let rule = config.event(name).unwrap();
                let tags = rule.hard.iter().chain(&rule.soft).chain(&rule.delete);
                purged.extend(tags.map(|tag| tag.to_string().replace("{id}", prefix)));
            }
            for answer in answers.split(", ") {
                let (ids, tags) = carried(answer);
                let all = format!("{ids} {tags} all");
                assert!(all.split(' ').any(|tag| purged.contains(tag)), "{mutation}: {answer} keeps what changed");
            }
        }
        let gaps = [
            "category: add products back",
            "category: remove products",
            "image: variants",
            "price list: end date in the past",
            "price list: end date off",
            "price list: to active",
            "price list: to draft",
            "variant: images",
        ];
        assert_eq!(without_event, BTreeSet::from(gaps), "these the preset leaves to the TTL, and says so");
    }

    #[test]
    fn an_exact_event_wins_and_then_the_longest_prefix() {
        let config = medusa();
        let hard = |name: &str| {
            let rule = config.event(name).expect(name);
            rule.hard.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(hard("product.updated"), ["{id}", "path:/store/products/{id}"]);
        assert_eq!(hard("product.something-new.updated"), ["{id}"]);
        assert_eq!(hard("order.return-reason.created"), ["{id}", "list:return-reason"]);
        assert_eq!(hard("order.placed"), Vec::<String>::new());
        assert_eq!(hard("store.store-locale.created"), ["list:locale"]);
        assert!(config.event("unheard.of").is_none() && config.event("").is_none());
    }

    #[test]
    fn every_tag_of_an_event_is_carried_by_some_route() {
        let config = medusa();
        let mut carried = BTreeSet::from(["all".to_owned(), "{id}".to_owned(), "hero-banner:{id}".to_owned()]);
        for rule in config.routes.rules() {
            let when = rule.tags_when.iter().flat_map(|when| &when.tags);
            carried.extend(rule.tags.iter().chain(when).map(ToString::to_string));
            carried.extend(rule.paths.iter().map(|path| format!("path:{}", path.as_str())));
        }
        for (name, event) in &config.events {
            for tag in event.hard.iter().chain(&event.soft).chain(&event.delete) {
                assert!(carried.contains(&tag.to_string()), "{name}: {tag}");
            }
        }
    }
}

mod output {
    use super::*;

    #[test]
    fn what_is_rendered_loads_as_the_same() {
        let full = "preset = \"medusa\"\n[redis]\nurl = \"redis://us%40er@cache:1/2\"\n[listen]\nhosts = [\"a.example\"]\ntrusted_proxies = [\"10.0.0.0/8\"]\n\
             [origin]\nhost = \"shop.example\"\nquery_once = [\"lang\"]\n[cors]\nallow_origins = [\"https://*.example.com\"]\n[route.x]\npaths = [\"/x\"]\npolicy = \"pass\"\nupgrade = true\n\
             [route.y]\npaths = [\"/y\"]\ncontent_type = \"*\"\ncache_control = \"max-age=5\"\n";
        for text in ["", full] {
            let config = load(&with_upstream(text), &[]);
            let again = Config { preset: config.preset.clone(), ..load(&config.render(), &[]) };
            assert_eq!(format!("{config:?}"), format!("{again:?}"));
        }
    }

    #[test]
    fn what_is_rendered_holds_no_secret_and_fits_the_schema() {
        let config = load(
            &format!(
                "upstream = \"http://a\"\nwebhook_secret = \"{SECRET}\"\n[ops]\ntoken = \"hunter2\"\n[redis]\nurl = \"redis://u:hunter2@b\"\nintegrity_key = \"hunter2\""
            ),
            &[],
        );
        let text = config.render();
        assert!(!text.contains("hunter2") && !text.contains("whsec_"), "{text}");
        assert!(
            text.contains("# token = \"…\"") && text.contains("# integrity_key = ") && text.contains("# secrets = "),
            "{text}"
        );
        Raw::deserialize(Value::Table(toml::from_str(&text).unwrap())).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn warnings_tell_what_is_seldom_meant() {
        let warned = |text: &str| load(&with_upstream(text), &[]).warnings().join("\n");
        assert_eq!(warned(""), "");
        assert!(warned("preset = \"medusa\"").contains("without webhook_secret"));
        assert!(warned("[ops]\naddress = \"0.0.0.0:8081\"").contains("without ops.token"));
        assert!(warned("[ops]\ntoken = \"short\"").contains("guessed"));
        assert!(warned("preset = \"medusa\"\n[listen]\nhead_bytes_max = \"17KiB\"").contains("Node answers 431"));
        assert!(warned("[listen]\ntrusted_proxies = [\"0.0.0.0/0\"]").contains("every address"));
    }
}

/// Values at the edges of what keys can hold.
const VALUES: [&str; 20] = [
    "\"\"",
    "\"0s\"",
    "\"365d\"",
    "\"584942417355y\"",
    "\"0B\"",
    "\"99999PiB\"",
    "0",
    "-1",
    "9223372036854775807",
    "nan",
    "-inf",
    "true",
    "[]",
    "[[]]",
    "[\"\"]",
    "{}",
    "{ kind = \"text\" }",
    "1979-05-27",
    "\"é{\"",
    "\"{header:x}\"",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_edit_of_the_file_makes_a_panic(edits in prop::collection::vec((0usize..20_000, 0usize..40, ".{0,12}"), 1..6), preset in any::<bool>()) {
        let mut text: Vec<char> = with_upstream(&uncommented()).replace("/run/", "/nowhere/").chars().collect();
        for (at, length, new) in edits {
            let start = at % text.len().max(1);
            let end = (start + length).min(text.len());
            text.splice(start..end, new.chars());
        }
        let text: String = text.into_iter().collect();
        let variables = if preset { &[("ENDCAP_PRESET", "medusa")][..] } else { &[] };
        match Config::from_toml("proxy.toml", &text, env(variables)) {
            Ok(loaded) => { loaded.config.render(); loaded.config.warnings(); }
            Err(problems) => { problems.render(true); }
        }
    }

    #[test]
    fn no_value_of_any_key_makes_a_panic(edits in prop::collection::vec((0usize..10_000, 0usize..VALUES.len()), 1..8)) {
        let text = with_upstream(&uncommented()).replace("/run/", "/nowhere/");
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        for (at, value) in edits {
            let at = at % lines.len();
            lines[at] = match lines[at].split_once(" = ") {
                Some((key, _)) => format!("{key} = {}", VALUES[value]),
                None if lines[at].starts_with('[') => lines[at].replace("route", "hooks"),
                None => String::new(),
            };
        }
        match Config::from_toml("proxy.toml", &lines.join("\n"), env(&[])) {
            Ok(loaded) => { loaded.config.render(); }
            Err(problems) => { problems.render(true); }
        }
    }

    #[test]
    fn no_environment_makes_a_panic(name in "[A-Z_]{0,24}", value in ".{0,24}") {
        let variables = [("ENDCAP_UPSTREAM", "http://a".to_owned()), (&*format!("ENDCAP_{name}"), value)];
        let variables = variables.map(|(name, value)| (name.to_owned(), value));
        if let Err(problems) = Config::load(None, variables.into_iter()) {
            problems.render(false);
        }
    }
}
