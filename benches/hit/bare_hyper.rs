//! Bare hyper: what its HTTP/1 server costs with nothing behind it.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use crate::sample;

/// Answers every request with the list of `size` bytes, for ever, on a runtime of one thread: this one.
pub(crate) fn serve(listener: TcpListener, size: usize) -> io::Result<()> {
    let body = Bytes::from(sample::body(size));
    let headers = headers(size);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let (body, headers) = (body.clone(), headers.clone());
            tokio::spawn(async move {
                let service = service_fn(move |_: Request<Incoming>| {
                    let mut answer = Response::new(Full::new(body.clone()));
                    answer.headers_mut().clone_from(&headers);
                    std::future::ready(Ok::<_, Infallible>(answer))
                });
                // An error is a client that went away.
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
            });
        }
    })
}

fn headers(size: usize) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in sample::headers(size) {
        let value = HeaderValue::try_from(value).expect("our own headers are valid");
        headers.insert(HeaderName::from_static(name), value);
    }
    headers
}
