//! The origin: a shop whose every row has a version. It reads its rows at some moment between a request and
//! its answer, as a backend does whose database is behind a queue and before a template.

use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use endcap::policy::purge::Mode;
use endcap::tasks::Tasks;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::dice::Dice;

const PRODUCTS: usize = 300;
const PAGE: usize = 15;
/// Products that half of all readers ask for.
const HOT: usize = 12;

/// The name under which the book keeps which products the lists show.
const MEMBERSHIP: &str = "list:product";

/// The longest that the shop waits before it reads its rows, and once more before it answers.
const SLEEP: Duration = Duration::from_millis(15);
const SLEEP_SLOW: Duration = Duration::from_millis(300);

#[derive(Debug)]
pub(crate) struct Shop {
    pub(crate) address: SocketAddr,
    rows: Mutex<Rows>,
    dice: Mutex<Dice>,
    is_slow: AtomicBool,
    fails: AtomicBool,
    reads: AtomicU64,
    unchanged: AtomicU64,
}

#[derive(Debug)]
struct Rows {
    products: Vec<Row>,
    /// How often a product has come or gone.
    membership: u64,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    version: u64,
    is_there: bool,
}

/// What was committed: the event to be sent, and what it purges by the map of events.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) event: &'static str,
    pub(crate) id: String,
    /// Things with their new versions, and how answers that show older ones are purged.
    pub(crate) purged: Vec<(String, u64, Mode)>,
}

/// The event that this run adds to the preset's: a detail, and lists that show it, are purged softly.
pub(crate) const TOUCHED: &str = r#""product.touched" = { soft = ["{id}", "path:/store/products/{id}"] }"#;

/// The name under which the book keeps a product as lists show it: an event may purge its detail alone.
fn listed(id: &str) -> String {
    format!("{id} in lists")
}

fn id(product: usize) -> String {
    format!("prod_{product:04}")
}

/// What shoppers ask for: details, most of a few products, and pages of the list.
pub(crate) fn any_target(dice: &mut Dice) -> String {
    match dice.below(100) {
        0..30 => format!("/store/products/{}", id(dice.below(HOT))),
        30..70 => format!("/store/products/{}", id(dice.below(PRODUCTS))),
        _ => page(dice.below(PRODUCTS / PAGE)),
    }
}

/// Everything there is to ask for.
pub(crate) fn all_targets() -> impl Iterator<Item = String> {
    let details = (0..PRODUCTS).map(|product| format!("/store/products/{}", id(product)));
    details.chain((0..PRODUCTS / PAGE).map(page))
}

fn page(page: usize) -> String {
    format!("/store/products?limit={PAGE}&offset={}", page * PAGE)
}

impl Shop {
    pub(crate) async fn open(tasks: &Tasks, mut dice: Dice) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let row = Row { version: 1, is_there: true };
        let shop = Arc::new(Self {
            address: listener.local_addr().unwrap(),
            rows: Mutex::new(Rows { products: vec![row; PRODUCTS], membership: 1 }),
            dice: Mutex::new(dice.split()),
            is_slow: AtomicBool::new(false),
            fails: AtomicBool::new(false),
            reads: AtomicU64::new(0),
            unchanged: AtomicU64::new(0),
        });
        let (served, inner) = (Arc::clone(&shop), tasks.clone());
        tasks.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let shop = Arc::clone(&served);
                let service = service_fn(move |request| Arc::clone(&shop).answer(request));
                let connection =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                inner.spawn(async move {
                    // A node that died, or an answer that was meant to break.
                    drop(connection.await);
                });
            }
        });
        shop
    }

    pub(crate) fn set_slow(&self, is_slow: bool) {
        self.is_slow.store(is_slow, Ordering::SeqCst);
    }

    pub(crate) fn set_failing(&self, fails: bool) {
        self.fails.store(fails, Ordering::SeqCst);
    }

    /// Requests that read rows, and those of them that were answered with 304.
    pub(crate) fn reads(&self) -> (u64, u64) {
        (self.reads.load(Ordering::SeqCst), self.unchanged.load(Ordering::SeqCst))
    }

    /// Commits a change of some product.
    pub(crate) fn change(&self, dice: &mut Dice) -> Change {
        let product = if dice.percent(30) { dice.below(HOT) } else { dice.below(PRODUCTS) };
        let mut rows = self.rows();
        let row = &mut rows.products[product];
        row.version += 1;
        let (version, was_there) = (row.version, row.is_there);
        let event = match dice.below(100) {
            _ if !was_there => "product.created",
            0..60 => "product.updated",
            60..85 => "product.touched",
            _ => "product.deleted",
        };
        row.is_there = event != "product.deleted";
        let came_or_went = row.is_there != was_there;
        rows.membership += u64::from(came_or_went);
        let id = id(product);
        let mut purged = match event {
            "product.updated" => vec![(id.clone(), version, Mode::Hard), (listed(&id), version, Mode::Hard)],
            "product.touched" => vec![(id.clone(), version, Mode::Soft), (listed(&id), version, Mode::Soft)],
            "product.deleted" => vec![(id.clone(), version, Mode::Delete), (listed(&id), version, Mode::Hard)],
            // Lists do not show it yet.
            _ => vec![(id.clone(), version, Mode::Hard)],
        };
        if came_or_went {
            purged.push((MEMBERSHIP.to_owned(), rows.membership, Mode::Soft));
        }
        Change { event, id, purged }
    }

    /// The version of a thing that is committed.
    pub(crate) fn version(&self, thing: &str) -> u64 {
        let rows = self.rows();
        if thing == MEMBERSHIP {
            return rows.membership;
        }
        let product = product(thing.split(' ').next().unwrap_or_default());
        product.map_or(0, |product| rows.products[product].version)
    }

    /// The things an answer shows, with their versions.
    pub(crate) fn shown(target: &str, status: StatusCode, body: &[u8]) -> Option<Vec<(String, u64)>> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let thing = |row: &Value| Some((row["id"].as_str()?.to_owned(), row["version"].as_u64()?));
        match (target.split_once('?'), status) {
            (Some(_), StatusCode::OK) => {
                let rows = body["products"].as_array()?.iter();
                let mut shown: Vec<_> =
                    rows.map(|row| thing(row).map(|(id, version)| (listed(&id), version))).collect::<Option<_>>()?;
                shown.push((MEMBERSHIP.to_owned(), body["membership"].as_u64()?));
                Some(shown)
            }
            (None, StatusCode::OK) => Some(vec![thing(&body["product"])?]),
            (None, StatusCode::NOT_FOUND) => {
                Some(vec![(target.rsplit('/').next()?.to_owned(), body["version"].as_u64()?)])
            }
            _ => None,
        }
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let longest = if self.is_slow.load(Ordering::SeqCst) { SLEEP_SLOW } else { SLEEP };
        let sleep = || self.dice.lock().unwrap().between(Duration::ZERO, longest);
        let (before, after) = (sleep(), sleep());
        tokio::time::sleep(before).await;
        let (status, body) = self.read(request.uri().path(), request.uri().query().unwrap_or_default());
        tokio::time::sleep(after).await;
        Ok(self.reply(&request, status, &body))
    }

    fn reply(&self, request: &Request<Incoming>, status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::default());
        if self.fails.load(Ordering::SeqCst) {
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            return response;
        }
        let body = body.to_string();
        let mut hasher = DefaultHasher::new();
        body.hash(&mut hasher);
        let etag = HeaderValue::try_from(format!("\"{:016x}\"", hasher.finish())).expect("hexadecimal digits");
        *response.status_mut() = status;
        if status == StatusCode::OK && request.headers().get(header::IF_NONE_MATCH) == Some(&etag) {
            self.unchanged.fetch_add(1, Ordering::SeqCst);
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        } else {
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            *response.body_mut() = Full::from(body);
        }
        response.headers_mut().insert(header::ETAG, etag);
        response
    }

    /// Reads rows: all that an answer shows, at one moment.
    fn read(&self, path: &str, query: &str) -> (StatusCode, Value) {
        let rows = self.rows();
        let row = |product: usize| json!({ "id": id(product), "version": rows.products[product].version });
        if let Some(product) = path.strip_prefix("/store/products/").and_then(product) {
            return match rows.products[product] {
                Row { is_there: true, .. } => (StatusCode::OK, json!({ "product": row(product) })),
                Row { version, .. } => (StatusCode::NOT_FOUND, json!({ "type": "not_found", "version": version })),
            };
        }
        let offset = query.split('&').find_map(|part| part.strip_prefix("offset=")?.parse().ok()).unwrap_or(0);
        let shown =
            (offset..offset + PAGE).filter(|product| rows.products.get(*product).is_some_and(|row| row.is_there));
        let products: Vec<Value> = shown.map(row).collect();
        (StatusCode::OK, json!({ "products": products, "membership": rows.membership, "count": PRODUCTS }))
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap()
    }
}

fn product(id: &str) -> Option<usize> {
    id.strip_prefix("prod_")?.parse().ok().filter(|product| *product < PRODUCTS)
}
