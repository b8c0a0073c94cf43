//! One request of the shop, step by step.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use super::admin::{self, ADMIN_TOKEN, ChangeRequest};
use super::carts::{CartRequest, Carts, LineRequest};
use super::catalogue::Catalogue;
use super::database::Database;
use super::price::VIP_TOKEN;
use super::read::Ask;
use super::reply::{self, ApiError, Reply};
use super::route::{self, Kind, Route};
use super::webhook::{self, WebhookTarget};
use crate::body::Body;
use crate::clock::Clock;

/// The longest request body; beyond it the answer is 400.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// How long a request body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

const KEY_HEADER: &str = "x-publishable-api-key";

/// The shop behind its listener.
#[derive(Debug)]
pub(super) struct Service {
    /// Held while a body is built or a product changed, never over an await.
    pub(super) catalogue: RwLock<Catalogue>,
    pub(super) carts: Carts,
    pub(super) database: Database,
    pub(super) webhook: RwLock<Option<WebhookTarget>>,
    pub(super) publishable_key: String,
    pub(super) clock: Box<dyn Clock>,
    pub(super) events: AtomicU64,
}

impl Service {
    /// Answers a request.
    pub(super) async fn handle(self: &Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        if head.method == Method::OPTIONS {
            return reply::preflight(&head.headers);
        }
        let Some(route) = route::find(&head.method, head.uri.path()) else {
            return Reply::no_route(&head.method, head.uri.path()).respond(&head.method, &head.headers);
        };
        let reply = self.answer(route, &head, body).await.unwrap_or_else(Reply::from);
        reply.respond(&head.method, &head.headers)
    }

    async fn answer(self: &Arc<Self>, route: Route, head: &Parts, body: Incoming) -> Result<Reply, ApiError> {
        let ok = |body| Reply::json(StatusCode::OK, body);
        match route {
            Route::Health => Ok(Reply::text("OK")),
            Route::Stats => Ok(ok(serde_json::to_vec(&self.database.stats())?)),
            Route::AdminProduct(id) => {
                if bearer(&head.headers) != Some(ADMIN_TOKEN) {
                    return Err(ApiError::Unauthorized);
                }
                self.change(id, read_json(body).await?).await.map(ok)
            }
            Route::List(kind) => {
                self.check_key(&head.headers)?;
                self.read(kind, None, head).await
            }
            Route::One(kind, id) => {
                self.check_key(&head.headers)?;
                self.read(kind, Some(id), head).await
            }
            Route::Login => {
                self.check_key(&head.headers)?;
                Err(ApiError::Unauthorized)
            }
            Route::Cart(id) => {
                self.check_key(&head.headers)?;
                let service = Arc::clone(self);
                let cart = move || service.carts.show(&service.catalogue(), &id).map(ok);
                self.database.read(head.uri.path(), cart).await
            }
            Route::CartNew => {
                self.check_key(&head.headers)?;
                let (service, request) = (Arc::clone(self), read_json::<CartRequest>(body).await?);
                let cart = move || service.carts.create(&service.catalogue(), &request, service.clock.now()).map(ok);
                self.database.write(cart).await
            }
            Route::CartItem(id) => {
                self.check_key(&head.headers)?;
                let (service, request) = (Arc::clone(self), read_json::<LineRequest>(body).await?);
                let cart = move || service.carts.add(&service.catalogue(), &id, &request, service.clock.now()).map(ok);
                self.database.write(cart).await
            }
        }
    }

    /// A read of the catalogue: of rows of a kind, or of the one with an id.
    async fn read(self: &Arc<Self>, kind: Kind, id: Option<String>, head: &Parts) -> Result<Reply, ApiError> {
        let (service, uri) = (Arc::clone(self), head.uri.clone());
        let vip = bearer(&head.headers) == Some(VIP_TOKEN);
        let query = move || {
            let catalogue = service.catalogue();
            let ask = Ask::parse(&catalogue, (kind, id.as_deref()), uri.query().unwrap_or_default(), vip)?;
            let cart_region = ask.cart_id().map(|cart| service.carts.region(cart)).transpose()?;
            Ok(Reply::json(StatusCode::OK, ask.answer(cart_region)?))
        };
        self.database.read(head.uri.path(), query).await
    }

    /// Changes a product, tells of it, and reports both. The change stands even if nobody could be told.
    async fn change(self: &Arc<Self>, id: String, request: ChangeRequest) -> Result<Vec<u8>, ApiError> {
        let (service, now) = (Arc::clone(self), self.clock.now());
        let change = move || {
            let mut catalogue = service.catalogue.write().unwrap_or_else(PoisonError::into_inner);
            let index = catalogue.product(&id).ok_or_else(|| ApiError::not_found("Product", &id))?;
            let change = request.resolve(&catalogue)?;
            Ok((catalogue.products[index].id, admin::apply(&mut catalogue, index, change, now)?))
        };
        let (product_id, product) = self.database.write(change).await?;
        let target = self.webhook.read().unwrap_or_else(PoisonError::into_inner).clone();
        let delivery = match target {
            None => None,
            Some(target) => {
                let (event_id, body) = admin::event(product_id, self.events.fetch_add(1, Ordering::Relaxed), now)?;
                Some(webhook::deliver(&target, &event_id, body, &*self.clock).await)
            }
        };
        Ok(admin::answer(&product, delivery))
    }

    pub(super) fn catalogue(&self) -> RwLockReadGuard<'_, Catalogue> {
        self.catalogue.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_key(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let mut keys = headers.get_all(KEY_HEADER).iter();
        match (keys.next(), keys.next()) {
            (None, _) => Err(ApiError::KeyMissing),
            (Some(key), None) if key.to_str().is_ok_and(|key| key.trim() == self.publishable_key) => Ok(()),
            // Twice is one long key to the real backend, and nobody has that one.
            (Some(_), _) => Err(ApiError::KeyUnknown),
        }
    }
}

/// Reads a JSON body; none at all is `{}`.
async fn read_json<T: DeserializeOwned>(body: Incoming) -> Result<T, ApiError> {
    let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, BODY_BYTES_MAX).collect()).await;
    let bytes: Bytes = match collected {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(_)) | Err(_) => return Err(ApiError::invalid("The body is too long, too slow or broken")),
    };
    let bytes = if bytes.is_empty() { Bytes::from_static(b"{}") } else { bytes };
    serde_json::from_slice(&bytes).map_err(|error| ApiError::invalid(format!("Invalid request: {error}")))
}

/// The token of an `Authorization: Bearer` header.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
