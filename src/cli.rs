//! The commands.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::{Parser, Subcommand, ValueEnum};
use http::{Method, Request, StatusCode, header};

use crate::client;
use crate::config::{self, Config, Loaded};
use crate::demo::tour::Demo;
use crate::demo::{Shop, ShopSettings, WebhookTarget};
use crate::node::Node;
use crate::signals::Signals;
use crate::tasks::Tasks;
use crate::telemetry;

/// How long our own commands wait for a node.
const PATIENCE: Duration = Duration::from_secs(10);
/// The exit code for a wrong configuration, as sysexits' EX_CONFIG.
const EXIT_CONFIG: u8 = 78;

/// A caching reverse-proxy sidecar for commerce backends.
///
/// Stands between the CDN and the backend, answers public reads from memory and Redis, and forgets
/// exactly what an admin changed when the backend's signed webhook says so.
#[derive(Debug, Parser)]
#[command(
    version,
    max_term_width = 100,
    after_help = "First steps:  endcap demo\nThen:         endcap serve --config proxy.toml"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve: proxy, caches, webhooks, metrics
    #[command(
        after_help = "A minimal proxy.toml:\n  upstream = \"http://127.0.0.1:9000\"\n  preset = \"medusa\"\n  webhook_secret = \"whsec_…\"\n\nStops on SIGTERM or Ctrl-C: requests under way finish first. With listen.lame_duck it serves on for that\nlong before, and says at /readyz that it will go; a second signal ends that wait."
    )]
    Serve(ConfigArgs),
    /// Check a configuration, and say what is wrong with it
    Check(ConfigArgs),
    /// Print the effective configuration: defaults, preset, file and environment together
    Config(ConfigArgs),
    /// Purge tags on all nodes
    #[command(
        after_help = "Examples:\n  endcap purge prod_01ABC\n  endcap purge --mode soft list:product\n  endcap purge all"
    )]
    Purge(PurgeArgs),
    /// Show it: a sample shop, endcap in front of it, and a guided tour; no other program needed
    Demo(DemoArgs),
    /// Run the sample shop alone: a backend to try a deployment with
    #[command(
        after_help = "The shop speaks Medusa's store API on made-up products. POST /admin/products/{id} with the\nbearer token \"demo-admin\" changes one and posts the signed webhook."
    )]
    Shop(ShopArgs),
    /// Ask a node whether it is ready; for health checks of containers
    Health(NodeArgs),
}

#[derive(Debug, clap::Args)]
struct ConfigArgs {
    /// The configuration file; without one, the environment alone (ENDCAP_UPSTREAM, …)
    #[arg(short, long, env = "ENDCAP_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct NodeArgs {
    /// The ops address of a node
    #[arg(long, env = "ENDCAP_OPS__ADDRESS", default_value = "127.0.0.1:8081", value_name = "HOST:PORT")]
    ops: String,
}

#[derive(Debug, clap::Args)]
struct PurgeArgs {
    /// The tags: an id (prod_01ABC), list:product, route:NAME, path:/store/…, or all
    #[arg(required = true, value_name = "TAG")]
    tags: Vec<String>,
    /// How strongly to forget
    #[arg(long, value_enum)]
    mode: Option<ModeArg>,
    #[command(flatten)]
    node: NodeArgs,
    /// The token of the section \[ops\]
    #[arg(long, env = "ENDCAP_OPS__TOKEN", hide_env_values = true)]
    token: String,
}

#[derive(Debug, clap::Args)]
struct DemoArgs {
    /// Where endcap listens; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "HOST:PORT")]
    listen: SocketAddr,
    /// Where its ops listener is
    #[arg(long, default_value = "127.0.0.1:8081", value_name = "HOST:PORT")]
    ops: SocketAddr,
    /// Products in the shop
    #[arg(long, default_value_t = 3000, value_parser = clap::value_parser!(u32).range(50..=100_000))]
    products: u32,
    /// Stop after the tour
    #[arg(long)]
    once: bool,
}

#[derive(Debug, clap::Args)]
struct ShopArgs {
    /// Where the shop listens
    #[arg(long, env = "ENDCAP_SHOP_LISTEN", default_value = "127.0.0.1:9000", value_name = "HOST:PORT")]
    listen: SocketAddr,
    /// Products in the shop
    #[arg(long, default_value_t = 3000, value_parser = clap::value_parser!(u32).range(50..=100_000))]
    products: u32,
    /// Where changes are posted: http://HOST:PORT/hooks/default
    #[arg(long, env = "ENDCAP_SHOP_WEBHOOK", value_name = "URL", requires = "secret")]
    webhook: Option<String>,
    /// Signs the webhooks: whsec_ and base64
    #[arg(long, env = "ENDCAP_SHOP_SECRET", hide_env_values = true, value_name = "SECRET")]
    secret: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModeArg {
    /// Refilled before it is served again
    Hard,
    /// Served stale for a moment while it is refreshed
    Soft,
    /// Gone, not even served when the backend fails
    Delete,
}

/// Runs the command line's command.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Serve(args) => return serve(&args),
        Command::Check(args) => return check(&args),
        Command::Config(args) => return print_config(&args),
        Command::Purge(args) => block_on(purge(args)),
        Command::Health(args) => block_on(health(args)),
        Command::Demo(args) => run_multi(demo(args)),
        Command::Shop(args) => run_multi(shop(args)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("{error:#}")),
    }
}

fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("the runtime")?.block_on(work)
}

fn run_multi(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("the runtime")?.block_on(work)
}

async fn demo(args: DemoArgs) -> anyhow::Result<()> {
    telemetry::start(telemetry::Format::Text, tracing::Level::WARN);
    let mut signals = Signals::listen().context("signals")?;
    let demo = Demo::start(args.listen, args.ops, args.products as usize, (40, 120))?;
    say(&format!(
        "endcap {}: a shop with {} products whose reads take 40 to 120 ms, and endcap in front of it.\n\n{}",
        env!("CARGO_PKG_VERSION"),
        args.products,
        demo.addresses()
    ));
    let mut number = 0;
    let tour = demo.tour(|step| {
        number += 1;
        say(&format!("{number}. {}", step.title));
        for line in &step.lines {
            say(&format!("     {line}"));
        }
        say("");
    });
    let toured = signals.during(tour).await;
    if let Some(Err(error)) = &toured {
        say_error(&format!("error: the tour stopped: {error:#}"));
    }
    if let (Some(Ok(())), false) = (&toured, args.once) {
        say(&demo.hints());
        say("Serving until Ctrl-C.");
        signals.next().await;
    }
    demo.stop().await;
    match toured {
        Some(Err(_)) => bail!("the demonstration did not see what it must"),
        Some(Ok(())) | None => Ok(()),
    }
}

async fn shop(args: ShopArgs) -> anyhow::Result<()> {
    telemetry::start(telemetry::Format::Text, tracing::Level::INFO);
    let mut signals = Signals::listen().context("signals")?;
    let webhook = match (&args.webhook, &args.secret) {
        (Some(url), Some(secret)) => Some(WebhookTarget::new(url, secret).context("--webhook and --secret")?),
        _ => None,
    };
    let tasks = Tasks::new();
    let settings =
        ShopSettings { listen: args.listen, products: args.products as usize, webhook, ..ShopSettings::default() };
    let shop = Shop::start(settings, &tasks).with_context(|| format!("--listen {}", args.listen))?;
    say(&format!("sample shop at http://{}, x-publishable-api-key: {}", shop.addr, shop.publishable_key()));
    signals.next().await;
    tasks.stop().await;
    Ok(())
}

fn load(args: &ConfigArgs) -> Result<Loaded, ExitCode> {
    Config::load(args.config.as_deref(), std::env::vars()).map_err(|problems| {
        say_error(&problems.to_string());
        ExitCode::from(EXIT_CONFIG)
    })
}

fn serve(args: &ConfigArgs) -> ExitCode {
    let loaded = match load(args) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let config = &loaded.config;
    telemetry::start(
        match config.log.format {
            config::LogFormat::Text => telemetry::Format::Text,
            config::LogFormat::Json => telemetry::Format::Json,
        },
        match config.log.level {
            config::LogLevel::Error => tracing::Level::ERROR,
            config::LogLevel::Warn => tracing::Level::WARN,
            config::LogLevel::Info => tracing::Level::INFO,
            config::LogLevel::Debug => tracing::Level::DEBUG,
            config::LogLevel::Trace => tracing::Level::TRACE,
        },
    );
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("the runtime could not start: {error}")),
    };
    runtime.block_on(async {
        let mut signals = match Signals::listen() {
            Ok(signals) => signals,
            Err(error) => return fail(&format!("signals cannot be heard: {error}")),
        };
        let node = match Node::start(config) {
            Ok(node) => node,
            Err(error) => return fail(&error.to_string()),
        };
        tracing::info!(
            listen = %node.address,
            ops = %node.ops_address,
            upstream = %config.upstream,
            preset = config.preset.as_deref().unwrap_or("none"),
            redis = config.redis.is_some(),
            "serving"
        );
        signals.next().await;
        node.retire();
        let lame_duck = config.listen.lame_duck;
        if !lame_duck.is_zero() {
            tracing::info!(?lame_duck, "about to stop: serving on, not ready");
            signals.during(tokio::time::sleep(lame_duck)).await;
        }
        tracing::info!("stopping: requests under way may finish");
        node.stop().await;
        tracing::info!("stopped");
        ExitCode::SUCCESS
    })
}

fn check(args: &ConfigArgs) -> ExitCode {
    match load(args) {
        Ok(loaded) => {
            for warning in loaded.config.warnings() {
                say_error(&format!("warning: {warning}"));
            }
            say(&format!(
                "ok: {} routes, {} events, {} webhook sources, {}",
                loaded.config.routes.rules().len(),
                loaded.config.events.len(),
                loaded.config.hooks.len(),
                if loaded.config.redis.is_some() { "memory and Redis" } else { "memory alone" }
            ));
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

fn print_config(args: &ConfigArgs) -> ExitCode {
    match load(args) {
        Ok(loaded) => {
            say(loaded.config.render().trim_end());
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

async fn purge(args: PurgeArgs) -> anyhow::Result<()> {
    let mode = args.mode.map(|mode| match mode {
        ModeArg::Hard => "hard",
        ModeArg::Soft => "soft",
        ModeArg::Delete => "delete",
    });
    // Without a mode the node's own word counts: hard, unless that empties too much.
    let body = serde_json::json!({ "tags": args.tags, "mode": mode }).to_string();
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://{}/purge", args.node.ops))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::AUTHORIZATION, format!("Bearer {}", args.token))
        .body(Bytes::from(body))
        .context("--ops is HOST:PORT, --token is printable")?;
    let answer = client::send(request, PATIENCE).await?;
    let text = String::from_utf8_lossy(&answer.body);
    match answer.status {
        StatusCode::OK => say(text.trim()),
        // Safe on that node's disk and applied there.
        StatusCode::ACCEPTED => {
            say(&format!("{}\njournaled: the other nodes forget when the log is back", text.trim()))
        }
        status => bail!("{} said {status}: {}", args.node.ops, text.trim()),
    }
    Ok(())
}

async fn health(args: NodeArgs) -> anyhow::Result<()> {
    let request = Request::get(format!("http://{}/readyz", reachable(&args.ops)))
        .body(Bytes::new())
        .context("--ops is HOST:PORT")?;
    let answer = client::send(request, PATIENCE).await?;
    if answer.status != StatusCode::OK {
        bail!("{}", String::from_utf8_lossy(&answer.body).trim());
    }
    Ok(())
}

/// A node that is bound to every address is reached at the loopback.
fn reachable(address: &str) -> String {
    match address.parse::<SocketAddr>() {
        Ok(SocketAddr::V4(bound)) if bound.ip().is_unspecified() => format!("127.0.0.1:{}", bound.port()),
        Ok(SocketAddr::V6(bound)) if bound.ip().is_unspecified() => format!("[::1]:{}", bound.port()),
        _ => address.to_owned(),
    }
}

#[expect(clippy::print_stdout, reason = "the result of a command")]
fn say(text: &str) {
    println!("{text}");
}

fn say_error(text: &str) {
    eprintln!("{text}");
}

fn fail(text: &str) -> ExitCode {
    say_error(&format!("error: {text}"));
    ExitCode::FAILURE
}
