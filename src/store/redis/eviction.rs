//! Whether Redis could evict the purge log. It says so in `INFO memory`, which is allowed where `CONFIG` is not.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::sync::watch;

use super::links::one;

/// Whether the log could be evicted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Eviction {
    /// The server did not say.
    #[default]
    Unknown,
    /// It could not, or is the last key to go.
    Safe,
    /// It could, by this policy.
    Possible(String),
}

impl Eviction {
    /// What makes it safe.
    pub const REMEDY: &str = "set maxmemory-policy to volatile-ttl or noeviction";

    /// Reads the answer to `INFO memory`.
    fn read(info: &str) -> Self {
        let value = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let (Some(max), Some(policy)) = (value("maxmemory"), value("maxmemory_policy")) else { return Self::Unknown };
        match (max.trim(), policy.trim()) {
            // No bound; nothing goes; and what lives longest goes last, which is the log.
            ("0", _) | (_, "noeviction" | "volatile-ttl") => Self::Safe,
            (_, policy) => Self::Possible(policy.chars().filter(char::is_ascii_graphic).take(40).collect()),
        }
    }
}

/// Asks the server, and warns when it has become so that the log could be evicted.
pub(super) async fn look(connection: &mut MultiplexedConnection, patience: Duration, found: &watch::Sender<Eviction>) {
    let mut command = redis::cmd("INFO");
    command.arg("memory");
    let answer = tokio::time::timeout(patience, one(connection, &command)).await;
    let info = answer.ok().and_then(Result::ok).and_then(|info| redis::from_redis_value::<String>(info).ok());
    let eviction = info.map_or(Eviction::Unknown, |info| Eviction::read(&info));
    if found.send_replace(eviction.clone()) == eviction {
        return;
    }
    match eviction {
        Eviction::Possible(policy) => {
            tracing::warn!(policy, remedy = Eviction::REMEDY, "Redis could evict the purge log");
        }
        Eviction::Unknown => tracing::debug!("Redis does not say whether it could evict the purge log"),
        Eviction::Safe => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_evict_the_log_is_read_from_the_servers_own_words() {
        let of = |max: &str, policy: &str| {
            let info = format!(
                "# Memory\r\nused_memory:1\r\nmaxmemory:{max}\r\nmaxmemory_human:0B\r\nmaxmemory_policy:{policy}\r\n"
            );
            Eviction::read(&info)
        };
        for policy in ["noeviction", "volatile-ttl"] {
            assert_eq!(of("1000", policy), Eviction::Safe);
        }
        for policy in
            ["allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-lru", "volatile-lfu", "volatile-random"]
        {
            assert_eq!(of("1000", policy), Eviction::Possible(policy.to_owned()));
            assert_eq!(of("0", policy), Eviction::Safe, "without a bound nothing is evicted");
        }
        assert_eq!(Eviction::read(""), Eviction::Unknown);
        assert_eq!(Eviction::read("maxmemory:1000\r\n"), Eviction::Unknown);
        assert_eq!(of("1", "odd\u{7} words é"), Eviction::Possible("oddwords".to_owned()));
    }
}
