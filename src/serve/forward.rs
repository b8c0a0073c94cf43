//! What is not cacheable passes through, streaming in both directions.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, Version, header};
use ipnet::IpNet;

use super::accept::Peer;
use super::body::RequestBody;
use crate::body::Body;
use crate::origin::{Origin, OriginError, Purpose, splice};
use crate::policy::etag;
use crate::policy::hop_by_hop;
use crate::policy::route::Rule;
use crate::tasks::Tasks;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The way to the origin for what passes.
#[derive(Debug)]
pub struct Forward {
    /// The origin.
    pub origin: Arc<dyn Origin>,
    /// The Host that the origin is sent; the client's stands in `X-Forwarded-Host`.
    pub host: HeaderValue,
    /// Networks of proxies whose `X-Forwarded-*` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// How long a tunnel may be silent.
    pub tunnel_idle: Duration,
    /// Runs tunnels.
    pub tasks: Tasks,
}

impl Forward {
    /// Sends a request as it is, but for what concerns one hop alone.
    ///
    /// # Errors
    /// The origin failed, or the client's own body did.
    pub async fn send(
        &self,
        rule: Option<&Rule>,
        request: Request<RequestBody>,
        peer: Peer,
    ) -> Result<Response<Body>, OriginError> {
        let upgrade = rule.is_some_and(|rule| rule.upgrade)
            && request.version() == Version::HTTP_11
            && request.headers().contains_key(header::UPGRADE);
        let mut request = request;
        let client = upgrade.then(|| hyper::upgrade::on(&mut request));
        let (mut head, body) = request.into_parts();
        head.uri = origin_form(&head.uri);
        hop_by_hop::strip_request(&mut head.headers, upgrade);
        self.forwarded(&mut head.headers, peer.address.ip());
        etag::without_forms(&mut head.headers, head.method.is_safe());
        append(&mut head.headers, header::VIA, via(head.version));
        head.version = Version::HTTP_11;
        head.extensions.insert(peer.interim);
        let body = if http_body::Body::is_end_stream(&body) { Body::Empty } else { Body::stream(body) };
        let purpose = if upgrade { Purpose::Upgrade } else { Purpose::Pass };
        let mut answer = self.origin.send(Request::from_parts(head, body), purpose).await?;
        let switched = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
        hop_by_hop::strip_response(answer.headers_mut(), switched);
        sign(&mut answer);
        if let (true, Some(client)) = (switched, client) {
            self.tunnel(client, hyper::upgrade::on(&mut answer));
            return Ok(answer.map(|_| Body::Empty));
        }
        Ok(answer.map(Body::stream))
    }

    /// Says where the request came from. What a stranger says of it is dropped.
    fn forwarded(&self, headers: &mut HeaderMap, peer: IpAddr) {
        let trusted = self.trusted_proxies.iter().any(|network| network.contains(&peer.to_canonical()));
        if !trusted {
            for name in [X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO] {
                headers.remove(name);
            }
            headers.remove(header::FORWARDED);
            headers.remove("x-real-ip");
            headers.remove("x-forwarded-port");
            headers.remove("x-forwarded-prefix");
        }
        append(headers, X_FORWARDED_FOR, &peer.to_canonical().to_string());
        let client_host = headers.insert(header::HOST, self.host.clone());
        if let (false, Some(host)) = (headers.contains_key(X_FORWARDED_HOST), client_host) {
            headers.insert(X_FORWARDED_HOST, host);
        }
        if !headers.contains_key(X_FORWARDED_PROTO) {
            headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
        }
    }

    fn tunnel(&self, client: hyper::upgrade::OnUpgrade, origin: hyper::upgrade::OnUpgrade) {
        let (idle, stopping) = (self.tunnel_idle, self.tasks.stopping().clone());
        self.tasks.spawn(async move {
            let joined = async {
                let (client, origin) = (client.await?, origin.await?);
                splice(client, origin, idle).await?;
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
            };
            tokio::select! {
                biased;
                () = stopping.cancelled() => {}
                ended = joined => if let Err(error) = ended {
                    tracing::debug!(%error, "tunnel ended");
                },
            }
        });
    }
}

/// Says in an answer that is handed on that it came through us, and in which version.
pub fn sign<B>(answer: &mut Response<B>) {
    let received = via(answer.version());
    append(answer.headers_mut(), header::VIA, received);
    // The client is answered in our version, not in the origin's (RFC 9110 §6.2).
    *answer.version_mut() = Version::HTTP_11;
}

/// Our member of `Via`: the version in which we received the message (RFC 9110 §7.6.3).
fn via(received: Version) -> &'static str {
    match received {
        Version::HTTP_10 => "1.0 endcap",
        Version::HTTP_2 => "2 endcap",
        // There is no other that we speak.
        _ => "1.1 endcap",
    }
}

/// Adds a member to a list field, on one line with those that are there.
fn append(headers: &mut HeaderMap, name: HeaderName, member: &str) {
    let mut list: Vec<u8> = Vec::new();
    for value in headers.get_all(&name) {
        list.extend_from_slice(value.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(member.as_bytes());
    let value = HeaderValue::from_bytes(&list).expect("a join of valid values is valid");
    headers.insert(name, value);
}

/// Path and query alone: nothing in a request chooses an address.
fn origin_form(uri: &Uri) -> Uri {
    uri.path_and_query().map_or_else(|| Uri::from_static("/"), |target| Uri::from(target.clone()))
}
