//! The commands, as they are typed.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use endcap::config::Config;
use endcap::node::Node;
use tempfile::TempDir;
use tokio::process::Command;

const TOKEN: &str = "a token that is long enough";
/// What sysexits calls EX_CONFIG.
const EXIT_CONFIG: i32 = 78;

/// What a command came to.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

async fn endcap(arguments: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_endcap"));
    command.args(arguments).env_clear().kill_on_drop(true);
    let output = tokio::time::timeout(std::time::Duration::from_secs(20), command.output());
    let output = output.await.expect("the command ends").expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it speaks UTF-8");
    Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn file(folder: &TempDir, text: &str) -> PathBuf {
    let path = folder.path().join("proxy.toml");
    std::fs::write(&path, text).expect("a file");
    path
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A node in this process, with these lines of its own.
fn node(lines: &str) -> Node {
    let text = format!(
        "upstream = \"http://127.0.0.1:9\"\npreset = \"medusa\"\n[listen]\naddress = \"127.0.0.1:0\"\n\
         [ops]\naddress = \"127.0.0.1:0\"\ntoken = \"{TOKEN}\"\n{lines}"
    );
    let loaded = Config::from_toml("cli.toml", &text, std::iter::empty()).expect("a right file");
    Node::start(&loaded.config).expect("a node")
}

#[tokio::test]
async fn check_says_where_a_file_is_wrong_and_what_would_be_right_and_binds_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    // Taken all the time: a command that binds it would fail by that.
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let listen = format!("[listen]\naddress = \"{}\"\n", taken.local_addr().expect("an address"));
    let right = format!("upstream = \"http://127.0.0.1:9000\"\npreset = \"medusa\"\n{listen}");
    let config = file(&folder, &right);
    let ended = endcap(&["check", "--config", path(&config)]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.out.starts_with("ok: 15 routes, "), "{ended:?}");

    let wrong = file(&folder, &format!("{right}[route.products]\ntll = \"30s\"\n"));
    for command in ["check", "config", "serve"] {
        let ended = endcap(&[command, "--config", path(&wrong)]).await;
        assert_eq!((ended.code, ended.out.as_str()), (Some(EXIT_CONFIG), ""), "{command}: {ended:?}");
        for word in ["route.products.tll", path(&wrong), "proxy.toml:6:1", "did you mean `ttl`?"] {
            assert!(ended.err.contains(word), "{command}: {word} in {ended:?}");
        }
    }
    let absent = endcap(&["check", "--config", path(&folder.path().join("absent.toml"))]).await;
    assert!(absent.code == Some(EXIT_CONFIG) && absent.err.contains("absent.toml cannot be read"), "{absent:?}");
}

#[tokio::test]
async fn config_prints_what_is_in_force_and_no_secret() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "upstream = \"http://127.0.0.1:9000\"\npreset = \"medusa\"\n[ops]\ntoken = \"not to be shown at all\"\n\
                [route.products]\nttl = \"30s\"\n";
    let ended = endcap(&["config", "--config", path(&file(&folder, text))]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!ended.out.contains("not to be shown"), "{ended:?}");
    let shown: toml::Table = ended.out.parse().expect("it is TOML");
    let ttl = |route: &str| shown["route"][route]["ttl"].as_str().expect("a lifetime").to_owned();
    assert_eq!([ttl("products"), ttl("product")], ["30s", "2m"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_and_purge_ask_a_running_node() {
    let node = node("");
    node.ready().await;
    let ops = node.ops_address.to_string();
    assert_eq!(endcap(&["health", "--ops", &ops]).await.code, Some(0));
    let purge = |token| {
        let ops = ops.clone();
        async move { endcap(&["purge", "--ops", &ops, "--token", token, "prod_1", "list:product"]).await }
    };
    let purged = purge(TOKEN).await;
    assert!(purged.code == Some(0) && purged.out.contains("\"purged\":2"), "{purged:?}");
    assert!(!purged.out.contains("journaled"), "{purged:?}");
    let refused = purge("another").await;
    assert!(refused.code == Some(1) && refused.err.contains("401"), "{refused:?}");

    node.retire();
    let leaving = endcap(&["health", "--ops", &ops]).await;
    assert!(leaving.code == Some(1) && leaving.err.contains("stopping"), "{leaving:?}");
    node.stop().await;
    assert_eq!(endcap(&["health", "--ops", &ops]).await.code, Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_that_is_journaled_is_done_and_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = folder.path().join("journal");
    // Nobody is there.
    let redis = TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("a port");
    let node = node(&format!("[redis]\nurl = \"redis://{redis}\"\n[purge]\njournal = \"{}\"\n", path(&journal)));
    let ended = endcap(&["purge", "--ops", &node.ops_address.to_string(), "--token", TOKEN, "all"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.out.contains("\njournaled: "), "{ended:?}");
    node.stop().await;
}

#[tokio::test]
async fn a_wrong_value_is_told_before_an_address_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let text = "upstream = \"http://127.0.0.1:9\"\n[ops]\naddress = \"127.0.0.1:0\"\n";
    let mut config = Config::from_toml("cli.toml", text, std::iter::empty()).expect("a right file").config;
    config.listen.address = taken.local_addr().expect("an address");
    let key = |config: &Config| match Node::start(config).expect_err("it cannot start") {
        endcap::node::StartError::Bind { key, .. } | endcap::node::StartError::Config { key, .. } => key,
    };
    assert_eq!(key(&config), "listen.address");
    // What the loader lets through, another part may still refuse.
    config.origin.host = Some("a\nb".to_owned());
    assert_eq!(key(&config), "origin.host");
}
