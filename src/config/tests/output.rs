//! What is rendered, and what is warned of.

use serde::Deserialize;
use toml::Value;

use super::{SECRET, load, with_upstream};
use crate::config::Config;
use crate::config::raw::Raw;

#[test]
fn what_is_rendered_loads_as_the_same() {
    let full = "preset = \"medusa\"\n[redis]\nurl = \"redis://us%40er@cache:1/2\"\n[listen]\nhosts = [\"a.example\"]\ntrusted_proxies = [\"10.0.0.0/8\"]\n\
         [origin]\nhost = \"shop.example\"\nquery_once = [\"lang\"]\n[cors]\nallow_origins = [\"https://*.example.com\"]\n[route.x]\npaths = [\"/x\"]\npolicy = \"pass\"\nupgrade = true\n\
         [route.y]\npaths = [\"/y\"]\ncontent_type = \"*\"\ncache_control = \"max-age=5\"\n\
         [route.z]\npaths = [\"/z/{rest*}\"]\npolicy = \"origin\"\nkey = \"url\"\nforward = [\"*\"]\ntrust = [\"errors\", \"cookies\"]\n";
    let sentinel = "[redis]\nurl = \"rediss+sentinel://a,[::1]:5/m/3\"\nsentinel_username = \"x\"\nwait_replicas = 2";
    let cluster = "[redis]\nurl = \"redis+cluster://a,b:7\"\nwait_timeout = \"1s\"";
    for text in ["", full, sentinel, cluster] {
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
    let shelf = |lines: &str| warned(&format!("[route.shelf]\npaths = [\"/shelf\"]\n{lines}"));
    for media in ["*", "text/html"] {
        let media = format!("content_type = \"{media}\"\n");
        assert!(shelf(&format!("{media}tag_prefixes = [\"prod_\"]")).contains("route.shelf has content_type"));
        assert!(shelf(&format!("{media}[route.shelf.tag_paths]\n\"/id\" = \"x\"")).contains("tag_prefixes = []"));
        assert_eq!(shelf(&media), "");
        assert_eq!(shelf(&format!("{media}policy = \"pass\"\ntag_prefixes = [\"prod_\"]")), "");
    }
    assert_eq!(shelf("content_type = \"application/problem+json\"\ntag_prefixes = [\"prod_\"]"), "");
}
