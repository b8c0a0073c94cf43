//! The feed as WebSocket (RFC 6455): one text message an event, nothing is expected from the client but pongs.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message, Utf8Bytes};

use super::events::Events;
use super::refuse;
use crate::body::Body;
use crate::feed::{Reader, Step};
use crate::policy::notice::Notice;
use crate::serve::body::RequestBody;

/// Bytes of a message that a client may send.
const MESSAGE_BYTES_MAX: usize = 1024;
/// A client that has been silent for so many heartbeats has gone: each has asked it for a pong.
const SILENT_MAX: u32 = 3;

/// Answers the handshake (§4.2), and serves the client in a task of its own.
pub(super) fn accept(request: &mut Request<RequestBody>, reader: Reader, events: &Events) -> Response<Body> {
    let Some(key) = key(request.headers()) else {
        let mut response = refuse(StatusCode::UPGRADE_REQUIRED, "this is no WebSocket handshake of version 13");
        response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return response;
    };
    let accepted = HeaderValue::from_str(&derive_accept_key(&key)).expect("base64 is a value");
    let upgrade = hyper::upgrade::on(request);
    let (heartbeat, write_timeout) = (events.heartbeat, events.write_timeout);
    let stop = events.tasks.stopping().clone();
    events.tasks.spawn(async move {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            served = serve(upgrade, reader, heartbeat, write_timeout) => if let Err(error) = served {
                tracing::debug!(%error, "a WebSocket of /events ended");
            },
        }
    });
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accepted);
    response
}

/// The key of a handshake that is one.
fn key(headers: &HeaderMap) -> Option<Vec<u8>> {
    let one = |name| {
        let mut values = headers.get_all(name).iter();
        values.next().filter(|_| values.next().is_none())?.to_str().ok()
    };
    let has = |name, word: &str| {
        let lists = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        lists.flat_map(|list| list.split(',')).any(|member| member.trim().eq_ignore_ascii_case(word))
    };
    let key = one(header::SEC_WEBSOCKET_KEY)?;
    let is_handshake = has(header::CONNECTION, "upgrade")
        && has(header::UPGRADE, "websocket")
        && one(header::SEC_WEBSOCKET_VERSION)? == "13"
        && STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16);
    is_handshake.then(|| key.as_bytes().to_vec())
}

async fn serve(
    upgrade: OnUpgrade,
    mut reader: Reader,
    heartbeat: Duration,
    write_timeout: Duration,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let limits = WebSocketConfig::default()
        .read_buffer_size(4096)
        .write_buffer_size(16 << 10)
        .max_write_buffer_size(1 << 20)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let stream = TokioIo::new(upgrade.await?);
    let (mut sink, mut messages) = WebSocketStream::from_raw_socket(stream, Role::Server, Some(limits)).await.split();
    // Bounds a client that takes nothing: the others' writes are bounded by the listener.
    let in_time = async |sending: &mut (dyn Future<Output = Result<(), Error>> + Send + Unpin)| {
        tokio::time::timeout(write_timeout, sending).await.unwrap_or(Err(Error::ConnectionClosed))
    };
    let hello = Notice::hello().to_json(reader.position());
    in_time(&mut sink.send(Message::Text(hello.into()))).await?;
    let mut silent = 0;
    loop {
        tokio::select! {
            biased;
            message = messages.next() => match message {
                Some(Ok(Message::Close(_))) | None => return Ok(()),
                Some(Ok(_)) => silent = 0,
                Some(Err(error)) => return Err(error.into()),
            },
            step = reader.next(heartbeat) => match step {
                Step::Events(events) => {
                    for told in events {
                        in_time(&mut sink.feed(Message::Text(told.json.as_str().into()))).await?;
                    }
                    in_time(&mut sink.flush()).await?;
                }
                Step::Quiet(_) if silent >= SILENT_MAX => return Ok(()),
                Step::Quiet(_) => {
                    silent += 1;
                    in_time(&mut sink.send(Message::Ping(Bytes::new()))).await?;
                }
                Step::Behind => {
                    let reason = Utf8Bytes::from_static("too slow: come back with the last id");
                    let close = CloseFrame { code: CloseCode::Again, reason };
                    in_time(&mut sink.send(Message::Close(Some(close)))).await?;
                    return Ok(());
                }
            },
        }
    }
}
