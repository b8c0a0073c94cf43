//! The origin: it reads its database at some moment between a request and the answer, it may be slow, and
//! it may fail in each way in which one fails.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use endcap::body::Body;
use endcap::origin::{Framing, Origin, OriginBody, OriginError, Purpose};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::StreamBody;

use crate::shop::{Database, Page};
use crate::weather::Weather;
use crate::world::World;

/// See the module.
#[derive(Debug)]
pub(crate) struct SimOrigin {
    world: Arc<World>,
    weather: Arc<Weather>,
    database: Mutex<Database>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    is_out: bool,
    is_calm: bool,
    failed: bool,
}

impl SimOrigin {
    pub(crate) fn new(world: &Arc<World>, weather: &Arc<Weather>) -> Arc<Self> {
        let (world, weather) = (Arc::clone(world), Arc::clone(weather));
        Arc::new(Self { world, weather, database: Mutex::new(Database::new()), state: Mutex::default() })
    }

    pub(crate) fn database<T>(&self, look: impl FnOnce(&mut Database) -> T) -> T {
        look(&mut self.database.lock().unwrap())
    }

    pub(crate) fn set_out(&self, is_out: bool) {
        let mut state = self.state.lock().unwrap();
        state.is_out = is_out && !state.is_calm;
    }

    /// From here on nothing fails.
    pub(crate) fn calm(&self) {
        let mut state = self.state.lock().unwrap();
        (state.is_calm, state.is_out) = (true, false);
    }

    /// Whether anything has failed yet: only then an answer may be stale because of an error.
    pub(crate) fn has_failed(&self) -> bool {
        self.state.lock().unwrap().failed
    }

    async fn answer(&self, request: Request<Body>) -> Result<Response<OriginBody>, OriginError> {
        let target = request.uri().path_and_query().map_or("", |target| target.as_str()).to_owned();
        let page = Page::of_target(&target).unwrap_or_else(|| panic!("nobody asked for {target}"));
        self.world.pause(self.weather.origin_delay).await;
        let (is_out, is_calm) = {
            let state = self.state.lock().unwrap();
            (state.is_out, state.is_calm)
        };
        let trouble = is_out || (!is_calm && self.world.chance(self.weather.origin_failures));
        let as_of = self.world.now().saturating_sub(self.weather.replica_lag);
        let content = self.database(|database| database.read_at(page, as_of));
        self.world.pause(self.weather.origin_delay).await;
        if trouble {
            self.state.lock().unwrap().failed = true;
            return self.fail(page, &content.body());
        }
        let etag = HeaderValue::from_str(&format!("\"{}\"", content.revision)).unwrap();
        let is_known = content.is_found && request.headers().get(header::IF_NONE_MATCH) == Some(&etag);
        let is_private = !is_calm && self.world.chance(self.weather.private);
        // What is one client's own is as good as no answer to all others.
        self.state.lock().unwrap().failed |= is_private;
        self.world.note(format_args!(
            "origin: {page:?} r{}{}{}",
            content.revision,
            if is_known { " not modified" } else { "" },
            if is_private { " private" } else { "" }
        ));
        let body = if is_known { OriginBody::empty() } else { OriginBody::from(Bytes::from(content.body())) };
        let mut answer = Response::new(body);
        *answer.status_mut() = match (is_known, content.is_found) {
            (true, _) => StatusCode::NOT_MODIFIED,
            (false, true) => StatusCode::OK,
            (false, false) => StatusCode::NOT_FOUND,
        };
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.weather.etags && content.is_found {
            answer.headers_mut().insert(header::ETAG, etag);
        }
        if is_private {
            answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("private"));
        }
        Ok(answer)
    }

    fn fail(&self, page: Page, body: &str) -> Result<Response<OriginBody>, OriginError> {
        let how = self.world.below(4);
        self.world.note(format_args!("origin: {page:?} fails, {how}"));
        let mut answer = match how {
            0 => return Err(OriginError::ConnectTimeout),
            1 => return Err(OriginError::FirstByteTimeout),
            2 => {
                let mut answer = Response::new(OriginBody::from(Bytes::from_static(b"{\"error\":true}")));
                *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                answer
            }
            _ => {
                let half = Bytes::copy_from_slice(&body.as_bytes()[..body.len() / 2]);
                let frames = stream::iter([Ok(Frame::data(half)), Err(OriginError::BetweenBytesTimeout)]);
                Response::new(OriginBody::local(Framing::Chunked, StreamBody::new(frames)))
            }
        };
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(answer)
    }
}

/// What one node holds of the origin: a killed one hears nothing of it any more.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) origin: Arc<SimOrigin>,
    pub(crate) dead: tokio_util::sync::CancellationToken,
}

impl Origin for Line {
    fn send(&self, request: Request<Body>, _: Purpose) -> BoxFuture<'_, Result<Response<OriginBody>, OriginError>> {
        async move {
            let answer = self.origin.answer(request).await;
            if self.dead.is_cancelled() {
                return std::future::pending().await;
            }
            answer
        }
        .boxed()
    }
}
