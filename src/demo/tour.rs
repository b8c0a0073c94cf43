//! `endcap demo`: the sample shop, a node in front of it, and a short tour that really runs.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::{Method, Request, header};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{ADMIN_TOKEN, Shop, ShopHandle, ShopSettings, WebhookTarget};
use crate::client::{self, Answer};
use crate::config::Config;
use crate::node::Node;
use crate::tasks::Tasks;

/// The demo's webhook secret: for this process alone, on loopback.
const SECRET: &str = "whsec_ZW5kY2FwIGRlbW8gd2ViaG9vayBzZWNyZXQgIQ==";
/// The demo's ops token, likewise.
const TOKEN: &str = "demo-operator-token";
/// Requests of the stampede.
const STAMPEDE: usize = 500;
const PATIENCE: Duration = Duration::from_secs(30);

/// A running demonstration.
#[derive(Debug)]
pub struct Demo {
    shop: ShopHandle,
    node: Node,
    tasks: Tasks,
}

/// What a step of the tour saw.
#[derive(Clone, Debug)]
pub struct Step {
    /// What was done.
    pub title: String,
    /// What was seen, a line each.
    pub lines: Vec<String>,
}

impl Demo {
    /// Starts the shop and a node in front of it. Port 0 takes free ports.
    ///
    /// # Errors
    /// An address is taken.
    pub fn start(listen: SocketAddr, ops: SocketAddr, products: usize, latency_ms: (u64, u64)) -> anyhow::Result<Self> {
        let tasks = Tasks::new();
        let latency = Duration::from_millis(latency_ms.0)..=Duration::from_millis(latency_ms.1);
        let shop = Shop::start(ShopSettings { products, latency, ..ShopSettings::default() }, &tasks)
            .context("the sample shop")?;
        // The three lines that a shop writes, and addresses.
        let text = format!(
            "upstream = \"http://{}\"\npreset = \"medusa\"\nwebhook_secret = \"{SECRET}\"\n\
             [listen]\naddress = \"{listen}\"\n[ops]\naddress = \"{ops}\"\ntoken = \"{TOKEN}\"\n\
             [log]\nrequests = \"off\"\n",
            shop.addr
        );
        let loaded = Config::from_toml("demo.toml", &text, std::iter::empty())
            .map_err(|problems| anyhow::anyhow!("{problems}"))?;
        let node = Node::start(&loaded.config).map_err(|error| match error {
            crate::node::StartError::Bind { .. } => {
                anyhow::anyhow!("{error}; choose other addresses with --listen and --ops (port 0 takes a free one)")
            }
            crate::node::StartError::Config { .. } => error.into(),
        })?;
        let hook = format!("http://{}/hooks/default", node.ops_address);
        shop.set_webhook(Some(WebhookTarget::new(&hook, SECRET)?));
        Ok(Self { shop, node, tasks })
    }

    /// Where everything is.
    pub fn addresses(&self) -> String {
        let mut text = String::new();
        let lines = [
            ("shop, uncached", format!("http://{}/store/products?limit=12", self.shop.addr)),
            ("endcap", format!("http://{}/store/products?limit=12", self.node.address)),
            ("metrics", format!("http://{}/metrics", self.node.ops_address)),
            ("status", format!("http://{}/status", self.node.ops_address)),
        ];
        for (name, address) in lines {
            writeln!(text, "  {name:<16}{address}").expect("a string takes all text");
        }
        text
    }

    /// What to try by hand while it serves.
    pub fn hints(&self) -> String {
        let product = &self.shop.catalogue().products[0].id;
        let (listen, shop, ops) = (self.node.address, self.shop.addr, self.node.ops_address);
        let key = self.shop.publishable_key();
        format!(
            "Try it yourself:\n\
             \x20 curl -i http://{listen}/store/products/{product} -H 'x-publishable-api-key: {key}'\n\
             \x20 curl -X POST http://{shop}/admin/products/{product} -H 'authorization: Bearer {ADMIN_TOKEN}' \\\n\
             \x20      -H 'content-type: application/json' -d '{{\"title\": \"Renamed\"}}'\n\
             \x20 endcap purge --ops {ops} --token {TOKEN} all\n"
        )
    }

    /// Runs the tour, handing over each step as it is done.
    ///
    /// # Errors
    /// A step did not see what it must see: then something is wrong with endcap.
    pub async fn tour(&self, mut show: impl FnMut(&Step)) -> anyhow::Result<()> {
        self.node.ready().await;
        show(&self.cold_and_hot().await?);
        show(&self.stampede().await?);
        show(&self.price_change().await?);
        show(&self.cart().await?);
        show(&self.login().await?);
        Ok(())
    }

    /// Stops both.
    pub async fn stop(&self) {
        self.node.stop().await;
        self.tasks.stop().await;
    }

    async fn cold_and_hot(&self) -> anyhow::Result<Step> {
        let path = "/store/products?limit=12";
        let (cold, cold_line) = self.read(path, &[]).await?;
        let (hot, hot_line) = self.read(path, &[]).await?;
        ensure!(hot.field("cache-status").contains("hit"), "the second read was no hit");
        ensure!(cold.body == hot.body, "the hit is not what the shop answered");
        let size = format!("{} products of the list, {} KiB of JSON", 12, cold.body.len() / 1024);
        Ok(Step { title: "A cold read, and the next one".into(), lines: vec![size, cold_line, hot_line] })
    }

    async fn stampede(&self) -> anyhow::Result<Step> {
        let path = format!("/store/products?limit=12&offset=12&region_id={}", self.shop.catalogue().regions[0].id);
        let before = self.shop.reads();
        let began = Instant::now();
        let mut readers = JoinSet::new();
        for _ in 0..STAMPEDE {
            let request = self.request(Method::GET, &path, &[], Bytes::new())?;
            readers.spawn(client::send(request, PATIENCE));
        }
        let mut bodies = std::collections::HashSet::new();
        let (mut leader, mut follower) = (None, None);
        let mut collapsed = 0;
        while let Some(answer) = readers.join_next().await {
            let answer = answer??;
            ensure!(answer.status.is_success(), "one of the stampede got {}", answer.status);
            let said = answer.field("cache-status").to_owned();
            if said.contains("; collapsed") {
                collapsed += 1;
                follower = Some(said);
            } else if said.contains("; stored") {
                leader = Some(said);
            }
            bodies.insert(answer.body);
        }
        let (took, reads) = (began.elapsed(), self.shop.reads() - before);
        ensure!(reads == 1 && bodies.len() == 1, "{reads} reads of the shop, {} different answers", bodies.len());
        Ok(Step {
            title: format!("A stampede: {STAMPEDE} shoppers at once on a cold page"),
            lines: vec![
                format!("the first:  {}", leader.context("nobody's read filled the page")?),
                format!("one behind: {}", follower.as_deref().unwrap_or("none: all others came later and hit")),
                format!("{STAMPEDE} answers in {}, {collapsed} of them collapsed into the first", millis(took)),
                format!("reads of the shop: {reads}"),
            ],
        })
    }

    async fn price_change(&self) -> anyhow::Result<Step> {
        let catalogue = self.shop.catalogue();
        let product = &catalogue.products[0];
        let path = format!("/store/products/{}?region_id={}", product.id, catalogue.regions[0].id);
        let (before, line_before) = self.read(&path, &[]).await?;
        let (_, hit) = self.read(&path, &[]).await?;
        let other = format!("/store/products/{}?region_id={}", catalogue.products[1].id, catalogue.regions[0].id);
        self.read(&other, &[]).await?;
        let change = serde_json::json!({ "price": { "region": "eu", "amount": 12.34 } }).to_string();
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://{}/admin/products/{}", self.shop.addr, product.id))
            .header(header::AUTHORIZATION, format!("Bearer {ADMIN_TOKEN}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Bytes::from(change))?;
        let answer = client::send(request, PATIENCE).await?;
        let report: serde_json::Value = serde_json::from_slice(&answer.body)?;
        ensure!(report["webhook"]["status"] == 200, "the webhook was not acknowledged: {}", report["webhook"]);
        let (after, line_after) = self.read(&path, &[]).await?;
        ensure!(after.body != before.body, "the price did not change");
        ensure!(String::from_utf8_lossy(&after.body).contains("12.34"), "the new price is not in the next answer");
        let (kept, line_kept) = self.read(&other, &[]).await?;
        ensure!(kept.field("cache-status").contains("; hit"), "another product was forgotten too: {line_kept}");
        Ok(Step {
            title: "An admin changes a price".into(),
            lines: vec![
                line_before,
                hit,
                format!("the shop posts product.updated, signed; acknowledged in {} ms", report["webhook"]["ms"]),
                line_after,
                "the next read has the new price; another product is still a hit:".into(),
                line_kept,
            ],
        })
    }

    async fn cart(&self) -> anyhow::Result<Step> {
        let region = self.shop.catalogue().regions[0].id.clone();
        let body = serde_json::json!({ "region_id": region }).to_string();
        let json = (header::CONTENT_TYPE.as_str(), "application/json");
        let request = self.request(Method::POST, "/store/carts", &[json], Bytes::from(body))?;
        let created = client::send(request, PATIENCE).await?;
        ensure!(created.status.is_success(), "the cart was not created: {}", created.status);
        let cart: serde_json::Value = serde_json::from_slice(&created.body)?;
        let id = cart["cart"]["id"].as_str().context("the cart has an id")?;
        let (first, line) = self.read(&format!("/store/carts/{id}"), &[]).await?;
        let (second, again) = self.read(&format!("/store/carts/{id}"), &[]).await?;
        for answer in [&first, &second] {
            ensure!(answer.field("cache-status").contains("fwd=bypass"), "a cart was answered from the cache");
        }
        Ok(Step { title: "A cart passes through, each time".into(), lines: vec![line, again] })
    }

    async fn login(&self) -> anyhow::Result<Step> {
        let catalogue = self.shop.catalogue();
        let path = format!("/store/products/{}?region_id={}", catalogue.products[0].id, catalogue.regions[0].id);
        let bearer = format!("Bearer {}", super::VIP_TOKEN);
        let (vip, vip_line) = self.read(&path, &[(header::AUTHORIZATION.as_str(), &bearer)]).await?;
        let (guest, guest_line) = self.read(&path, &[]).await?;
        ensure!(vip.body != guest.body, "the customer's own price was given to a guest, or not to the customer");
        ensure!(vip.field("cache-status").contains("fwd=bypass"), "a customer's answer came from the cache");
        Ok(Step {
            title: "The same page with a customer's login: own prices, never cached".into(),
            lines: vec![format!("customer: {vip_line}"), format!("guest:    {guest_line}")],
        })
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        fields: &[(&str, &str)],
        body: Bytes,
    ) -> anyhow::Result<Request<Bytes>> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.node.address))
            .header("x-publishable-api-key", self.shop.publishable_key());
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        Ok(request.body(body)?)
    }

    /// Reads a path through the node; the line says how that went.
    async fn read(&self, path: &str, fields: &[(&str, &str)]) -> anyhow::Result<(Answer, String)> {
        let began = Instant::now();
        let answer = client::send(self.request(Method::GET, path, fields, Bytes::new())?, PATIENCE).await?;
        let took = began.elapsed();
        ensure!(answer.status.is_success(), "GET {path} got {}", answer.status);
        let line = format!("{:>10}  {}", millis(took), answer.field("cache-status"));
        Ok((answer, line))
    }
}

fn millis(took: Duration) -> String {
    format!("{:.2} ms", took.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_tour_runs_and_sees_what_it_must() {
        let free: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let demo = Demo::start(free, free, 60, (0, 0)).unwrap();
        let mut titles = Vec::new();
        demo.tour(|step| titles.push(step.title.clone())).await.unwrap();
        assert_eq!(titles.len(), 5);
        assert!(demo.addresses().contains("/metrics") && demo.hints().contains("curl"));
        demo.stop().await;
    }
}
