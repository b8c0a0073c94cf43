//! TLS: to servers that one authority vouches for, with a certificate of our own where they ask for one.

use std::path::Path;

use endcap::store::redis::Topology;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

use crate::promises::settings;
use crate::servers::{Server, keeps_all_promises, on, shares};
use crate::stage::until;

const LIST: &str = "/store/products";

/// An authority, and what it vouches for, as files.
pub(crate) struct Certificates {
    folder: TempDir,
}

impl Certificates {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        // Its name must differ from theirs, else theirs look as if they had signed themselves.
        authority.distinguished_name.push(DnType::CommonName, "an authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
        write("ca.pem", authority.pem());
        for (name, host) in [("server", "127.0.0.1"), ("client", "endcap"), ("stranger", "other.example")] {
            let key = KeyPair::generate().unwrap();
            let certificate =
                CertificateParams::new(vec![host.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
            write(&format!("{name}.pem"), certificate.pem());
            write(&format!("{name}.key"), key.serialize_pem());
        }
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn text(&self, name: &str) -> String {
        std::fs::read_to_string(Path::new(&self.path(name))).unwrap()
    }

    /// A server with the certificate of this name.
    pub(crate) async fn server(&self, name: &str, asks: bool) -> Server {
        let (certificate, key, authority) =
            (self.path(&format!("{name}.pem")), self.path(&format!("{name}.key")), self.path("ca.pem"));
        let asks = if asks { "yes" } else { "no" };
        let files = ["--tls-cert-file", &certificate, "--tls-key-file", &key, "--tls-ca-cert-file", &authority];
        Server::start(&[&files[..], &["--tls-auth-clients", asks]].concat()).await
    }
}

fn url(server: &Server) -> String {
    format!("rediss://127.0.0.1:{}", server.port)
}

#[tokio::test]
async fn what_stores_promise_holds_over_tls() {
    let certificates = Certificates::new();
    let server = certificates.server("server", true).await;
    let settings = |namespace: &str| {
        let mut settings = settings(Topology::Single(server.address()), namespace);
        settings.tls = Some(endcap::store::redis::Tls {
            authorities: Some(certificates.text("ca.pem")),
            identity: Some((certificates.text("client.pem"), certificates.text("client.key"))),
        });
        settings
    };
    keeps_all_promises(settings, || server.order()).await;
}

#[tokio::test]
async fn nodes_share_and_purge_over_tls() {
    let certificates = Certificates::new();
    let server = certificates.server("server", false).await;
    let stage =
        on(&url(&server)).variable("ENDCAP_REDIS__TLS_CA_FILE", &certificates.path("ca.pem")).nodes(2).start().await;
    shares(&stage).await;
    for node in [0, 1] {
        stage.get_from(node, LIST).await;
    }
    stage.origin.publish(2);
    let said = stage.purge("hard", &["list:product"]).await;
    stage.applied(1, said["seq"].as_str().unwrap()).await;
    assert_eq!(stage.get_from(1, LIST).await.version(), 2);
}

/// A node that does not trust the server, or is not trusted by it, serves from memory and is not ready.
#[tokio::test]
async fn without_trust_there_is_no_shared_tier_and_no_readiness() {
    let (certificates, other) = (Certificates::new(), Certificates::new());
    let ours = certificates.server("server", true).await;
    let strange = certificates.server("stranger", false).await;
    // An empty variable is none.
    let identity = |given: bool| {
        ["client.pem", "client.key"].map(|name| if given { certificates.path(name) } else { String::new() })
    };
    for (what, server, authority, [certificate, key]) in [
        ("another authority", &ours, other.path("ca.pem"), identity(true)),
        ("the authorities of the system", &ours, String::new(), identity(true)),
        ("another host's certificate", &strange, certificates.path("ca.pem"), identity(true)),
        ("no certificate of our own", &ours, certificates.path("ca.pem"), identity(false)),
    ] {
        let stage = on(&url(server))
            .variable("ENDCAP_REDIS__TLS_CA_FILE", &authority)
            .variable("ENDCAP_REDIS__TLS_CERTIFICATE_FILE", &certificate)
            .variable("ENDCAP_REDIS__TLS_KEY_FILE", &key)
            .unready()
            .start()
            .await;
        assert_eq!(stage.get(LIST).await.detail(), "miss", "{what}");
        assert_eq!(stage.get(LIST).await.detail(), "hit", "{what}");
        until(what, async || stage.try_purge(0, "hard", &["list:product"]).await.status == 503).await;
        assert_eq!(stage.ops(0, "GET", "/readyz", &[], b"").await.status, 503, "{what}");
    }
}
