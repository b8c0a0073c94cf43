//! Starts the shop on a socket and hands out what a demonstration needs to know of it.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::carts::Carts;
use super::catalogue::{PRODUCT_COUNT, Showcase};
use super::database::{Database, ShopStats};
use super::generate;
use super::serve::Service;
use super::webhook::WebhookTarget;
use crate::clock::SystemClock;
use crate::tasks::Tasks;

/// The publishable key of the sample shop unless another is set.
pub const PUBLISHABLE_KEY: &str = "pk_demo0000000000000000000000000000000000000000000000000000000000";

/// How many products a shop has at most; more are an error at the start.
pub const PRODUCTS_MAX: usize = 100_000;

/// Connections at a time; further ones wait in the listen queue.
const CONNECTIONS_MAX: usize = 1_024;

/// The listen queue.
const BACKLOG: u32 = 1_024;

/// How long a connection may be idle, or take to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a stopping shop waits for answers under way.
const DRAIN: Duration = Duration::from_secs(2);

/// How the shop is set up.
#[derive(Clone, Debug)]
pub struct ShopSettings {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// How many products it has, from 1 to [`PRODUCTS_MAX`].
    pub products: usize,
    /// How long a read takes, which stands for the database; zero to zero for none.
    pub latency: RangeInclusive<Duration>,
    /// Who is told of changes.
    pub webhook: Option<WebhookTarget>,
    /// The key that a storefront must send.
    pub publishable_key: String,
}

impl Default for ShopSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            products: 3_000,
            latency: Duration::from_millis(40)..=Duration::from_millis(120),
            webhook: None,
            publishable_key: PUBLISHABLE_KEY.to_owned(),
        }
    }
}

/// The sample shop.
#[derive(Debug)]
pub struct Shop;

impl Shop {
    /// Makes up the catalogue, binds the port and serves until `tasks` stop. To be called within a runtime.
    pub fn start(settings: ShopSettings, tasks: &Tasks) -> io::Result<ShopHandle> {
        if !PRODUCT_COUNT.contains(&settings.products) {
            let what = format!("a shop has 1 to {PRODUCTS_MAX} products, not {}", settings.products);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let listener = listen(settings.listen)?;
        let addr = listener.local_addr()?;
        let service = Arc::new(Service {
            catalogue: RwLock::new(generate::catalogue(settings.products)),
            carts: Carts::default(),
            database: Database::new(settings.latency),
            webhook: RwLock::new(settings.webhook),
            publishable_key: settings.publishable_key,
            clock: Box::new(SystemClock::new()),
            events: AtomicU64::new(0),
        });
        tasks.spawn(accept(listener, Arc::clone(&service), tasks.clone()));
        Ok(ShopHandle { addr, service })
    }
}

/// A shop that is open.
#[derive(Clone, Debug)]
pub struct ShopHandle {
    /// Where it listens.
    pub addr: SocketAddr,
    service: Arc<Service>,
}

impl ShopHandle {
    /// How many reads the shop has had: what a cache in front of it did not answer.
    pub fn reads(&self) -> u64 {
        self.service.database.reads()
    }

    /// Reads by path; the same as `GET /__shop/stats`.
    pub fn stats(&self) -> ShopStats {
        self.service.database.stats()
    }

    /// Sets who is told of changes from now on.
    pub fn set_webhook(&self, target: Option<WebhookTarget>) {
        *self.service.webhook.write().unwrap_or_else(PoisonError::into_inner) = target;
    }

    /// Some ids and handles by which a tour can find its way.
    pub fn catalogue(&self) -> Showcase {
        self.service.catalogue().showcase()
    }

    /// The key that a storefront must send as `x-publishable-api-key`.
    pub fn publishable_key(&self) -> &str {
        &self.service.publishable_key
    }
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

async fn accept(listener: TcpListener, service: Arc<Service>, tasks: Tasks) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // A slot before a connection, so that what is accepted is also served. Stopping goes first: under load there
        // is always another connection.
        let next = async {
            let slot = Arc::clone(&slots).acquire_owned().await.expect("the slots are never closed");
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            biased;
            () = tasks.stopping().cancelled() => return,
            next = next => next,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = serve(stream, Arc::clone(&service), tasks.stopping().clone());
                tasks.spawn(async move {
                    connection.await;
                    drop(slot);
                });
            }
            Err(error) => {
                // Mostly no descriptor is left; at once again would spin.
                warn!(error = %error, "shop cannot accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, service: Arc<Service>, stopping: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(error = %error, "shop cannot set nodelay");
    }
    let answer = service_fn(move |request| {
        let service = Arc::clone(&service);
        async move { Ok::<_, Infallible>(service.handle(request).await) }
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), answer)
    );
    // The connection goes first: an answer that is ready when the stop comes is still sent.
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(DRAIN, connection).await {
                Ok(ended) => ended,
                Err(_) => return debug!("shop closes a connection with an answer under way"),
            }
        }
    };
    if let Err(error) = ended {
        // A client that hangs up is no trouble of the shop's.
        debug!(error = %error, "shop connection ended");
    }
}
