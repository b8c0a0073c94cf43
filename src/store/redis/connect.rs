//! The one place where connections are made.

use std::fmt;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    RedisConnectionInfo, RedisError, TlsCertificates,
};

use super::error::store_error;
use super::topology::Address;
use crate::store::StoreError;

/// A peer that vanished without a word is given up after this time, not after TCP's minutes.
const PEER_SILENT: Duration = Duration::from_secs(2);

/// A name and a password.
#[derive(Clone, Default)]
pub struct Credentials {
    /// The user; without one it is Redis' `default`.
    pub username: Option<String>,
    /// The password, where there is one.
    pub password: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the password.
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// What TLS needs to know, each a text in PEM.
#[derive(Clone, Default)]
pub struct Tls {
    /// Who may vouch for the server; `None` for those the system trusts.
    pub authorities: Option<String>,
    /// Our own certificate with its chain, and its key, where the server asks for one.
    pub identity: Option<(String, String)>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the key.
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// How connections are made to servers of one kind.
#[derive(Clone)]
pub(super) struct Connector {
    tls: Option<Tls>,
    redis: RedisConnectionInfo,
    timeout: Duration,
}

impl Connector {
    pub(super) fn new(tls: Option<Tls>, credentials: &Credentials, database: i64, timeout: Duration) -> Self {
        // The library's name and version would need a right of their own.
        let mut redis = RedisConnectionInfo::default().set_skip_set_lib_name().set_db(database);
        if let Some(username) = &credentials.username {
            redis = redis.set_username(username);
        }
        if let Some(password) = &credentials.password {
            redis = redis.set_password(password);
        }
        Self { tls, redis, timeout }
    }

    /// Connects, within the time to connect. `patience` bounds each answer; `None` for whoever blocks.
    pub(super) async fn connect(
        &self,
        to: &Address,
        patience: Option<Duration>,
    ) -> Result<MultiplexedConnection, StoreError> {
        let client = self.client(to).map_err(|error| store_error(&error))?;
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(patience);
        let connecting = client.get_multiplexed_async_connection_with_config(&config);
        match tokio::time::timeout(self.timeout, connecting).await {
            Err(_) => Err(StoreError::Connection(format!("{to} does not let us in within {:?}", self.timeout))),
            Ok(connected) => connected.map_err(|error| match store_error(&error) {
                StoreError::Connection(text) => StoreError::Connection(format!("{to}: {text}")),
                other => other,
            }),
        }
    }

    /// What connects to a server; an error is one of the certificates.
    pub(super) fn client(&self, to: &Address) -> Result<Client, RedisError> {
        let address = match (to, &self.tls) {
            (Address::Unix(path), _) => ConnectionAddr::Unix(path.clone()),
            (Address::Tcp(host, port), None) => ConnectionAddr::Tcp(host.clone(), *port),
            (Address::Tcp(host, port), Some(_)) => {
                ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure: false, tls_params: None }
            }
        };
        let is_tcp = matches!(to, Address::Tcp(..));
        let mut info: ConnectionInfo = address.into_connection_info()?.set_redis_settings(self.redis.clone());
        if is_tcp {
            let tcp = redis::io::tcp::TcpSettings::default().set_nodelay(true);
            #[cfg(target_os = "linux")]
            let tcp = tcp.set_user_timeout(PEER_SILENT);
            info = info.set_tcp_settings(tcp);
        }
        let Some(tls) = self.tls.as_ref().filter(|_| is_tcp) else { return Client::open(info) };
        let bytes = |text: &String| text.clone().into_bytes();
        let certificates = TlsCertificates {
            client_tls: tls
                .identity
                .as_ref()
                .map(|(certificate, key)| ClientTlsConfig { client_cert: bytes(certificate), client_key: bytes(key) }),
            root_cert: tls.authorities.as_ref().map(bytes),
        };
        Client::build_with_tls(info, certificates)
    }
}
