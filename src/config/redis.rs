//! Redis: its URL, and the section that needs it.

use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::check::{Checker, Given, HOUR};
use super::endpoint::host_and_port;
use super::raw;
use super::secret::Secret;
use super::shape::Path;
use super::text::{Text, Textual};
use super::units::{Namespace, Size};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
/// Ports where the URL names none.
const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// The shared tier.
#[derive(Clone, Debug)]
pub struct Redis {
    /// Where it is.
    pub server: RedisServer,
    /// How TLS is spoken with all of its servers; `None` for not at all.
    pub tls: Option<RedisTls>,
    /// The number of the database.
    pub database: u32,
    /// The user, where there is one.
    pub username: Option<String>,
    /// The password, from the URL or a file.
    pub password: Option<Secret>,
    /// The user at the sentinels, where there is one.
    pub sentinel_username: Option<String>,
    /// The password of the sentinels, where there is one.
    pub sentinel_password: Option<Secret>,
    /// Stands before every key of ours.
    pub namespace: String,
    /// Connections to each server that share the commands for entries.
    pub connections: usize,
    /// Time to connect.
    pub connect_timeout: Duration,
    /// An entry must come within this time, else it is a miss.
    pub deadline: Duration,
    /// Replicas that must have a purge before it is acknowledged.
    pub wait_replicas: u32,
    /// How long they may take; less than the time the log has to take a purge.
    pub wait_timeout: Duration,
    /// Failures in a row that open the breaker.
    pub breaker_failures: u32,
    /// How long the open breaker spares requests the wait.
    pub breaker_open: Duration,
    /// Keys the checksum of entries.
    pub integrity_key: Option<Secret>,
    /// Stored bodies above so many bytes are compressed.
    pub compress_min: usize,
    /// One node asks the origin for all: for this time at the most.
    pub lease_ttl: Duration,
    /// How long the others wait for it.
    pub lease_wait: Duration,
}

/// Where Redis is. Hosts are names or addresses, IPv6 without brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisServer {
    /// A host and a port.
    Tcp(String, u16),
    /// A socket in the file system.
    Unix(PathBuf),
    /// Whoever the sentinels say is the master.
    Sentinel {
        /// The sentinels.
        sentinels: Vec<(String, u16)>,
        /// What they call the master.
        master: String,
    },
    /// The cluster that these belong to.
    Cluster(Vec<(String, u16)>),
}

/// What TLS with Redis needs.
#[derive(Clone, Debug)]
pub struct RedisTls {
    /// Who may vouch for the servers, in PEM; `None` for those the system trusts.
    pub authorities: Option<String>,
    /// Our own certificate with its chain, and its key, in PEM.
    pub identity: Option<(String, Secret)>,
}

impl Redis {
    /// The defaults, for a server.
    pub fn at(server: RedisServer) -> Self {
        Self {
            server,
            tls: None,
            database: 0,
            username: None,
            password: None,
            sentinel_username: None,
            sentinel_password: None,
            namespace: "endcap".to_owned(),
            connections: 2,
            connect_timeout: Duration::from_millis(250),
            deadline: Duration::from_millis(20),
            wait_replicas: 0,
            wait_timeout: Duration::from_millis(500),
            breaker_failures: 5,
            breaker_open: SECOND,
            integrity_key: None,
            compress_min: 2 << 10,
            lease_ttl: Duration::from_secs(10),
            lease_wait: Duration::from_secs(2),
        }
    }

    /// As it is written. What came from files is not.
    pub(super) fn to_raw(&self) -> raw::Redis {
        fn some<T>(value: T) -> Option<Text<T>> {
            Some(Text(value))
        }
        let url = RedisUrl {
            server: self.server.clone(),
            is_tls: self.tls.is_some(),
            database: self.database,
            username: self.username.clone(),
            password: self.password.clone(),
        };
        raw::Redis {
            url: some(url),
            password_file: None,
            sentinel_username: self.sentinel_username.clone(),
            sentinel_password: self.sentinel_password.clone().map(Text),
            sentinel_password_file: None,
            tls_ca_file: None,
            tls_certificate_file: None,
            tls_key_file: None,
            namespace: some(Namespace(self.namespace.clone())),
            connections: Some(self.connections),
            connect_timeout: some(self.connect_timeout),
            deadline: some(self.deadline),
            wait_replicas: Some(self.wait_replicas),
            wait_timeout: some(self.wait_timeout),
            breaker_failures: Some(self.breaker_failures),
            breaker_open: some(self.breaker_open),
            integrity_key: self.integrity_key.clone().map(Text),
            integrity_key_file: None,
            compress_min: some(Size(self.compress_min as u64)),
            lease_ttl: some(self.lease_ttl),
            lease_wait: some(self.lease_wait),
        }
    }
}

/// What the URL says.
#[derive(Clone, Debug)]
pub(super) struct RedisUrl {
    server: RedisServer,
    is_tls: bool,
    database: u32,
    username: Option<String>,
    password: Option<Secret>,
}

impl Textual for RedisUrl {
    /// The password may be in it.
    const SECRET: bool = true;

    fn from_text(text: &str) -> Result<Self, String> {
        const RIGHT: &str = "write \"redis://host:port/0\", \"redis+sentinel://host,host/master\", \
                             \"redis+cluster://host,host\" or \"redis+unix:///path\"; with TLS \"rediss…\"";
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!("the URL has no scheme: {RIGHT}"));
        };
        if let "redis+unix" | "unix" = scheme {
            if !rest.starts_with('/') || rest.contains(['?', '#']) {
                return Err(format!("a socket has an absolute path and nothing else: {RIGHT}"));
            }
            let server = RedisServer::Unix(PathBuf::from(rest));
            return Ok(Self { server, is_tls: false, database: 0, username: None, password: None });
        }
        let (plain, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        let is_tls = match plain {
            "redis" => false,
            "rediss" => true,
            _ => return Err(format!("the scheme is not one of Redis: {RIGHT}")),
        };
        let (credentials, rest) = match rest.rsplit_once('@') {
            Some((credentials, rest)) => (Some(credentials), rest),
            None => (None, rest),
        };
        let (places, path) = rest.split_once('/').unwrap_or((rest, ""));
        let hosts = |port: u16| {
            let host = |place: &str| {
                let (host, given) = host_and_port(place).map_err(|_| format!("a host is none: {RIGHT}"))?;
                Ok((host, given.unwrap_or(port)))
            };
            places.split(',').map(host).collect::<Result<Vec<_>, String>>()
        };
        let (server, database) = match kind {
            "" => match <[_; 1]>::try_from(hosts(PORT)?) {
                Ok([(host, port)]) => (RedisServer::Tcp(host, port), path),
                Err(_) => return Err(format!("several hosts are sentinels or a cluster: {RIGHT}")),
            },
            "sentinel" => {
                let (master, database) = path.split_once('/').unwrap_or((path, ""));
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
                if master.is_empty() || !master.bytes().all(plain) {
                    return Err(format!("the path is no name of a master: {RIGHT}"));
                }
                let sentinels = hosts(SENTINEL_PORT)?;
                (RedisServer::Sentinel { sentinels, master: master.to_owned() }, database)
            }
            "cluster" if path.is_empty() || path == "0" => (RedisServer::Cluster(hosts(PORT)?), ""),
            "cluster" => return Err(format!("a cluster has the database 0 and no other: {RIGHT}")),
            _ => return Err(format!("the scheme is not one of Redis: {RIGHT}")),
        };
        let database = match database {
            "" => 0,
            number => number.parse().map_err(|_| format!("the database is a number: {RIGHT}"))?,
        };
        let (username, password) = match credentials {
            Some(credentials) => {
                let (name, password) = credentials.split_once(':').unwrap_or((credentials, ""));
                (decoded(name)?, decoded(password)?.map(Secret::new))
            }
            None => (None, None),
        };
        Ok(Self { server, is_tls, database, username, password })
    }

    /// Without the password.
    fn to_text(&self) -> String {
        let database = self.database;
        let list = |hosts: &[(String, u16)]| hosts.iter().map(shown).collect::<Vec<_>>().join(",");
        let (kind, rest) = match &self.server {
            RedisServer::Unix(path) => return format!("redis+unix://{}", path.display()),
            RedisServer::Tcp(host, port) => ("", format!("{}/{database}", shown(&(host.clone(), *port)))),
            RedisServer::Sentinel { sentinels, master } => {
                ("+sentinel", format!("{}/{master}/{database}", list(sentinels)))
            }
            RedisServer::Cluster(servers) => ("+cluster", list(servers)),
        };
        let name = self.username.as_ref().map(|name| {
            format!("{}@", percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC))
        });
        format!("redis{}{kind}://{}{rest}", if self.is_tls { "s" } else { "" }, name.unwrap_or_default())
    }
}

fn shown((host, port): &(String, u16)) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// A percent-encoded piece of a URL; `None` when empty. The message does not show it.
fn decoded(text: &str) -> Result<Option<String>, String> {
    let text = percent_decode_str(text).decode_utf8().map_err(|_| "the credentials are not UTF-8".to_owned())?;
    Ok((!text.is_empty()).then(|| text.into_owned()))
}

/// Checks the section.
pub(super) fn redis(raw: raw::Redis, check: &mut Checker<'_, '_>) -> Option<Redis> {
    let at = &Path::of(&["redis"]);
    let url = raw.url.map(|text| text.0);
    let in_url = url.as_ref().is_some_and(|url| url.password.is_some());
    if in_url && raw.password_file.is_some() {
        check.problem(&at.key("password_file"), "`url` has a password as well: leave one of them out");
    }
    let password_file = raw.password_file.filter(|_| !in_url);
    let password = check.file(at, "password", false, password_file).map(Secret::new);
    let sentinel_password = {
        let given = Given { value: raw.sentinel_password, file: raw.sentinel_password_file };
        check.secret(at, "sentinel_password", given)
    };
    let files = [raw.tls_ca_file, raw.tls_certificate_file, raw.tls_key_file];
    let Some(url) = url else {
        check.problem(&at.key("url"), "the section needs it: write url = \"redis://127.0.0.1:6379/0\"");
        return None;
    };
    if !matches!(url.server, RedisServer::Sentinel { .. })
        && (raw.sentinel_username.is_some() || sentinel_password.is_some())
    {
        let key = if raw.sentinel_username.is_some() { "sentinel_username" } else { "sentinel_password" };
        check.problem(&at.key(key), "`url` names no sentinels: write \"redis+sentinel://host,host/master\"");
    }
    let tls = tls(at, url.is_tls, files, check);
    let default = Redis::at(url.server);
    let wait_timeout = check.duration(at, "wait_timeout", raw.wait_timeout, default.wait_timeout, MINUTE);
    Some(Redis {
        tls,
        database: url.database,
        username: url.username,
        password: url.password.or(password),
        sentinel_username: raw.sentinel_username,
        sentinel_password,
        namespace: raw.namespace.map_or(default.namespace, |text| text.0.0),
        connections: check.within(at, "connections", raw.connections, default.connections, 1, 64),
        connect_timeout: check.duration(at, "connect_timeout", raw.connect_timeout, default.connect_timeout, MINUTE),
        deadline: check.duration(at, "deadline", raw.deadline, default.deadline, 10 * SECOND),
        wait_replicas: check.within(at, "wait_replicas", raw.wait_replicas, default.wait_replicas, 0, 100),
        wait_timeout,
        breaker_failures: check.within(at, "breaker_failures", raw.breaker_failures, default.breaker_failures, 1, 1000),
        breaker_open: check.duration(at, "breaker_open", raw.breaker_open, default.breaker_open, HOUR),
        integrity_key: {
            let given = Given { value: raw.integrity_key, file: raw.integrity_key_file };
            check.secret(at, "integrity_key", given)
        },
        compress_min: check.bytes(at, "compress_min", raw.compress_min, default.compress_min, 0, 1 << 30),
        lease_ttl: check.duration(at, "lease_ttl", raw.lease_ttl, default.lease_ttl, 10 * MINUTE),
        lease_wait: check.duration(at, "lease_wait", raw.lease_wait, default.lease_wait, MINUTE),
        server: default.server,
    })
}

/// The replicas' time lies within that of the whole order.
pub(super) fn check_waits(redis: Option<&Redis>, ack_timeout: Duration, check: &mut Checker<'_, '_>) {
    if let Some(redis) = redis.filter(|redis| redis.wait_replicas > 0 && redis.wait_timeout >= ack_timeout) {
        let (wait, ack) = (redis.wait_timeout.to_text(), ack_timeout.to_text());
        let message = format!("{wait} is too much: less than purge.ack_timeout ({ack}), in which it lies");
        check.problem(&Path::of(&["redis", "wait_timeout"]), message);
    }
}

/// What TLS needs, each file read and looked at.
fn tls(at: &Path, is_tls: bool, files: [Option<String>; 3], check: &mut Checker<'_, '_>) -> Option<RedisTls> {
    const KEYS: [&str; 3] = ["tls_ca", "tls_certificate", "tls_key"];
    if !is_tls {
        if let Some(given) = files.iter().position(Option::is_some) {
            let message = "`url` does not ask for TLS: write \"rediss://…\"";
            check.problem(&at.key(&format!("{}_file", KEYS[given])), message);
        }
        return None;
    }
    let [authorities, certificate, key] = files;
    let (certificate, key) = match (certificate, key) {
        (Some(_), None) => {
            check.problem(&at.key("tls_certificate_file"), "it is of no use without tls_key_file");
            (None, None)
        }
        (None, Some(_)) => {
            check.problem(&at.key("tls_key_file"), "it is of no use without tls_certificate_file");
            (None, None)
        }
        pair => pair,
    };
    let holds_certificates = |text: &str| matches!(CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>(), Ok(found) if !found.is_empty());
    let holds_key = |text: &str| PrivateKeyDer::from_pem_slice(text.as_bytes()).is_ok();
    let mut read = |key: &str, file: Option<String>, is_right: &dyn Fn(&str) -> bool, what: &str| {
        let text = check.file(at, key, false, file)?;
        if !is_right(&text) {
            check.problem(&at.key(&format!("{key}_file")), format!("there is no {what} in PEM in this file"));
        }
        Some(text)
    };
    let authorities = read(KEYS[0], authorities, &holds_certificates, "certificate");
    let certificate = read(KEYS[1], certificate, &holds_certificates, "certificate");
    let key = read(KEYS[2], key, &holds_key, "key");
    Some(RedisTls { authorities, identity: certificate.zip(key.map(Secret::new)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(hosts: &[(&str, u16)]) -> Vec<(String, u16)> {
        hosts.iter().map(|(host, port)| ((*host).to_owned(), *port)).collect()
    }

    #[test]
    fn a_url_is_taken_apart_and_written_without_its_password() {
        let url = RedisUrl::from_text("redis://us%40er:p%3Aw@cache:6380/3").unwrap();
        assert_eq!(url.server, RedisServer::Tcp("cache".into(), 6380));
        assert_eq!((url.database, url.username.as_deref()), (3, Some("us@er")));
        assert_eq!(url.password.as_ref().unwrap().expose(), "p:w");
        assert_eq!(url.to_text(), "redis://us%40er@cache:6380/3");
        assert_eq!(RedisUrl::from_text("redis://:pw@[::1]").unwrap().to_text(), "redis://[::1]:6379/0");
        let socket = RedisUrl::from_text("redis+unix:///run/redis.sock").unwrap();
        assert_eq!(socket.to_text(), "redis+unix:///run/redis.sock");
        for text in [
            "",
            "cache:6379",
            "redis://",
            "redis://cache/x",
            "redis://a,b",
            "unix://relative",
            "rediss+unix:///path",
            "http://x",
            "redis+ring://a",
            "redis+sentinel://a",
            "redis+sentinel://a/",
            "redis+sentinel://a/my master",
            "redis+sentinel://a/master/x",
            "redis+sentinel:///master",
            "redis+cluster://a/1",
            "redis+cluster://a,,b",
            "redis+cluster://",
            "redis://a:hunter2@b:x",
        ] {
            assert!(!RedisUrl::from_text(text).unwrap_err().contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn a_url_names_sentinels_or_a_cluster_and_asks_for_tls() {
        let check = |text: &str, server: RedisServer, is_tls: bool, shown: &str| {
            let url = RedisUrl::from_text(text).unwrap();
            assert_eq!((&url.server, url.is_tls, url.to_text().as_str()), (&server, is_tls, shown));
        };
        check("rediss://cache", RedisServer::Tcp("cache".into(), 6379), true, "rediss://cache:6379/0");
        let sentinels = |master: &str| RedisServer::Sentinel {
            sentinels: hosts(&[("a", 26379), ("::1", 5000)]),
            master: master.into(),
        };
        check("redis+sentinel://a,[::1]:5000/m", sentinels("m"), false, "redis+sentinel://a:26379,[::1]:5000/m/0");
        let shown = "rediss+sentinel://u@a:26379,[::1]:5000/my-m.1/2";
        check("rediss+sentinel://u:p@a,[::1]:5000/my-m.1/2", sentinels("my-m.1"), true, shown);
        let cluster = RedisServer::Cluster(hosts(&[("a", 6379), ("b", 7000)]));
        check("redis+cluster://A,b:7000", cluster.clone(), false, "redis+cluster://a:6379,b:7000");
        check("rediss+cluster://:p@a,b:7000/0", cluster, true, "rediss+cluster://a:6379,b:7000");
    }
}
