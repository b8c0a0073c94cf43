//! How targets are reached: by HTTP/1.1, with TLS where their address says so.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::Request;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use crate::client::{self, Answer};

/// An answer must be whole within this time.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Sends requests to targets, each on a connection of its own: a purge is rare, and its target's idle times are unknown.
pub struct Sender {
    tls: TlsConnector,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sender")
    }
}

impl Sender {
    /// Trusts whom the system trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` say otherwise).
    pub fn new() -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Self::trusting(roots)
    }

    /// Trusts these.
    pub fn trusting(roots: RootCertStore) -> Self {
        let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has the protocols of its library")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { tls: TlsConnector::from(Arc::new(config)) }
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    /// Nobody answers there, nobody whom we trust, or not in time.
    pub async fn send(&self, request: Request<Bytes>) -> anyhow::Result<Answer> {
        let exchange = async {
            let (request, stream) = client::connect(request).await?;
            if request.is_secure {
                let name = ServerName::try_from(request.host.clone()).context("the address' host")?;
                let stream = self.tls.connect(name, stream).await.context("TLS")?;
                client::exchange(request.request, stream).await
            } else {
                client::exchange(request.request, stream).await
            }
        };
        tokio::time::timeout(TIMEOUT, exchange).await.with_context(|| format!("no answer within {TIMEOUT:?}"))?
    }
}

impl Default for Sender {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::ServerConfig;

    use super::*;

    /// A server that answers 204 by TLS, as "localhost".
    async fn server() -> (u16, RootCertStore) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let key = made.signing_key.serialize_der().try_into().unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        #[expect(clippy::disallowed_methods, reason = "it ends with the test")]
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = TlsAcceptor::from(Arc::new(config.clone())).accept(stream).await else { continue };
                let mut head = [0; 4096];
                let read = stream.read(&mut head).await.unwrap();
                assert!(head[..read].starts_with(b"POST /a HTTP/1.1\r\n"));
                stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            }
        });
        (port, roots)
    }

    #[tokio::test]
    async fn a_target_by_tls_is_told_only_where_it_is_trusted() {
        let (port, roots) = server().await;
        let request = |host: &str| Request::post(format!("https://{host}:{port}/a")).body(Bytes::new()).unwrap();
        let trusting = Sender::trusting(roots);
        assert_eq!(trusting.send(request("localhost")).await.unwrap().status, 204);
        assert!(trusting.send(request("127.0.0.1")).await.is_err(), "it is not the name in the certificate");
        assert!(Sender::trusting(RootCertStore::empty()).send(request("localhost")).await.is_err());
    }
}
