//! From the file to the configuration: defaults, bounds, and what one key says about another.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::check::{Checker, Given, HOUR, plain};
use super::diagnostic::Problem;
use super::downstream;
use super::hooks;
use super::load::Layers;
use super::raw::{self, Raw};
use super::redis;
use super::routes;
use super::shape::Path;
use super::text::{Text, Textual};
use super::units::Size;
use super::{Cache, Compression, Config, Cors, Feed, Listen, Log, Memory, Ops, Origin, Purge};
use crate::policy::route::Patterns;
use crate::policy::ticket;

const MINUTE: Duration = Duration::from_secs(60);

/// Builds the configuration, or says everything that is wrong, together with what was wrong already.
pub(super) fn config(raw: Raw, layers: &Layers<'_>, problems: Vec<Problem>) -> Result<Config, Vec<Problem>> {
    let mut check = Checker { layers, problems };
    let listen = listen(raw.listen.unwrap_or_default(), &mut check);
    let ops = ops(raw.ops.unwrap_or_default(), &mut check);
    // Port 0 is another port each time.
    if listen.address == ops.address && ops.address.port() != 0 {
        let message = format!("{} is listen.address already: operations are never on the public address", ops.address);
        check.problem(&Path::of(&["ops", "address"]), message);
    }
    let feed = feed(raw.feed.unwrap_or_default(), &mut check);
    let origin = origin(raw.origin.unwrap_or_default(), &mut check);
    let cache = cache(raw.cache.unwrap_or_default(), &mut check);
    let memory = memory(raw.memory.unwrap_or_default(), &mut check);
    let compression = compression(raw.compression.unwrap_or_default(), &mut check);
    let redis = raw.redis.and_then(|raw| redis::redis(raw, &mut check));
    let purge = purge(raw.purge.unwrap_or_default(), &mut check);
    redis::check_waits(redis.as_ref(), purge.ack_timeout, &mut check);
    let log = log(raw.log.unwrap_or_default(), &mut check);
    let cors = Cors { allow_origins: plain(raw.cors.unwrap_or_default().allow_origins, |origin| origin.0) };
    let first = Given { value: raw.webhook_secret, file: raw.webhook_secret_file };
    let hooks = hooks::hooks(raw.hooks.unwrap_or_default(), first, &mut check);
    let events = hooks::events(raw.event.unwrap_or_default(), &mut check);
    let downstream = downstream::downstream(raw.downstream.unwrap_or_default(), &mut check);
    let routes = routes::routes(
        raw.route.unwrap_or_default(),
        raw.route_defaults.unwrap_or_default(),
        &cache.tracking,
        &origin.query_once,
        &mut check,
    );
    let upstream = raw.upstream.map(|text| text.0);
    if upstream.is_none() {
        check.problem(&Path::of(&["upstream"]), "the backend is missing: write upstream = \"http://127.0.0.1:9000\"");
    }
    match (upstream, check.problems) {
        (Some(upstream), problems) if problems.is_empty() => Ok(Config {
            upstream,
            preset: raw.preset,
            listen,
            ops,
            feed,
            origin,
            cache,
            memory,
            compression,
            redis,
            purge,
            log,
            cors,
            hooks,
            events,
            downstream,
            routes,
        }),
        (_, problems) => Err(problems),
    }
}

fn listen(raw: raw::Listen, check: &mut Checker<'_, '_>) -> Listen {
    let at = &Path::of(&["listen"]);
    let default = Listen::default();
    let lame_duck = raw.lame_duck.map(|text| text.0);
    Listen {
        address: raw.address.map_or(default.address, |text| text.0),
        h2c: raw.h2c.unwrap_or(default.h2c),
        hosts: plain(raw.hosts, |host| host.0),
        trusted_proxies: match raw.trusted_proxies {
            None => Listen::default().trusted_proxies,
            given => plain(given, |network| network),
        },
        connections_max: check.within(
            at,
            "connections_max",
            raw.connections_max,
            default.connections_max,
            1,
            10_000_000,
        ),
        uri_bytes_max: check.bytes(at, "uri_bytes_max", raw.uri_bytes_max, default.uri_bytes_max, 256, 64 << 10),
        head_bytes_max: check.bytes(at, "head_bytes_max", raw.head_bytes_max, default.head_bytes_max, 8 << 10, 1 << 20),
        head_fields_max: check.within(at, "head_fields_max", raw.head_fields_max, default.head_fields_max, 8, 1000),
        head_timeout: check.duration(at, "head_timeout", raw.head_timeout, default.head_timeout, HOUR),
        idle_timeout: check.duration(at, "idle_timeout", raw.idle_timeout, default.idle_timeout, HOUR),
        body_timeout: check.duration(at, "body_timeout", raw.body_timeout, default.body_timeout, HOUR),
        write_timeout: check.duration(at, "write_timeout", raw.write_timeout, default.write_timeout, HOUR),
        lame_duck: check.within(at, "lame_duck", lame_duck, default.lame_duck, Duration::ZERO, HOUR),
        drain_timeout: check.duration(at, "drain_timeout", raw.drain_timeout, default.drain_timeout, HOUR),
    }
}

fn ops(raw: raw::Ops, check: &mut Checker<'_, '_>) -> Ops {
    let at = &Path::of(&["ops"]);
    Ops {
        address: raw.address.map_or(Ops::default().address, |text| text.0),
        token: check.secret(at, "token", Given { value: raw.token, file: raw.token_file }),
    }
}

fn feed(raw: raw::Feed, check: &mut Checker<'_, '_>) -> Feed {
    let at = &Path::of(&["feed"]);
    let default = Feed::default();
    Feed {
        token: check.secret(at, "token", Given { value: raw.token, file: raw.token_file }),
        ticket_ttl: check.duration(at, "ticket_ttl", raw.ticket_ttl, default.ticket_ttl, ticket::LIFETIME_MAX),
        clients_max: check.within(at, "clients_max", raw.clients_max, default.clients_max, 1, 100_000),
        heartbeat: check.duration(at, "heartbeat", raw.heartbeat, default.heartbeat, HOUR),
        allow_origins: plain(raw.allow_origins, |origin| origin.0),
    }
}

fn origin(raw: raw::Origin, check: &mut Checker<'_, '_>) -> Origin {
    let at = &Path::of(&["origin"]);
    let default = Origin::default();
    let mut time = |key, value, default| check.duration(at, key, value, default, HOUR);
    let queue_timeout = time("queue_timeout", raw.queue_timeout, default.queue_timeout);
    let connect_timeout = time("connect_timeout", raw.connect_timeout, default.connect_timeout);
    let first_byte_timeout = time("first_byte_timeout", raw.first_byte_timeout, default.first_byte_timeout);
    let between_bytes_timeout = time("between_bytes_timeout", raw.between_bytes_timeout, default.between_bytes_timeout);
    let total_timeout = time("total_timeout", raw.total_timeout, default.total_timeout);
    let pass_first_byte_timeout =
        time("pass_first_byte_timeout", raw.pass_first_byte_timeout, default.pass_first_byte_timeout);
    let pass_idle_timeout = time("pass_idle_timeout", raw.pass_idle_timeout, default.pass_idle_timeout);
    let idle_timeout = time("idle_timeout", raw.idle_timeout, default.idle_timeout);
    if total_timeout < first_byte_timeout {
        let (first, total) = (first_byte_timeout.to_text(), total_timeout.to_text());
        let message = format!("{total} is less than first_byte_timeout ({first}), which lies within it");
        check.problem(&at.key("total_timeout"), message);
    }
    let connections_max = check.within(at, "connections_max", raw.connections_max, default.connections_max, 1, 65_535);
    // Over few connections that a file gives, a preset's fills have as many.
    let fills_max = check.within(at, "fills_max", raw.fills_max, connections_max, 1, 65_535).min(connections_max);
    Origin {
        host: raw.host.map(|text| text.0.0),
        connections_max,
        fills_max,
        queue_max: check.within(at, "queue_max", raw.queue_max, default.queue_max, 0, 1_000_000),
        queue_timeout,
        connect_timeout,
        first_byte_timeout,
        between_bytes_timeout,
        total_timeout,
        pass_first_byte_timeout,
        pass_idle_timeout,
        idle_timeout,
        head_bytes_max: check.bytes(at, "head_bytes_max", raw.head_bytes_max, default.head_bytes_max, 8 << 10, 1 << 20),
        query_once: plain(raw.query_once, |name| name.0),
    }
}

fn cache(raw: raw::Cache, check: &mut Checker<'_, '_>) -> Cache {
    let at = &Path::of(&["cache"]);
    let default = Cache::default();
    Cache {
        jitter: check.within(at, "jitter", raw.jitter, default.jitter, 0.0, 0.5),
        pass_marker_ttl: check.duration(at, "pass_marker_ttl", raw.pass_marker_ttl, default.pass_marker_ttl, HOUR),
        error_ttl: check.duration(at, "error_ttl", raw.error_ttl, default.error_ttl, MINUTE),
        tracking: match raw.tracking {
            Some(names) => Arc::new(Patterns::new(names.into_iter().map(|name| name.0.0))),
            None => default.tracking,
        },
    }
}

fn memory(raw: raw::Memory, check: &mut Checker<'_, '_>) -> Memory {
    let at = &Path::of(&["memory"]);
    let default = Memory::default();
    // None at all is a choice (every answer from the shared tier); very little is a slip.
    if let Some(Text(Size(0))) = raw.capacity {
        let object_max = raw.object_max.map(|text| text.0);
        let default = Size(default.object_max as u64);
        let object_max = check.within(at, "object_max", object_max, default, Size(1), Size(1 << 30));
        return Memory {
            capacity: 0,
            object_max: object_max.len(),
            in_flight: in_flight(raw.in_flight, object_max, check),
        };
    }
    let capacity = raw.capacity.map(|text| text.0);
    let capacity = check.within(at, "capacity", capacity, Size(default.capacity), Size(1 << 20), Size(1 << 50));
    // One answer must not push out all others. The default gives way to a small capacity; a given value does not.
    let quarter = Size(capacity.0 / 4);
    let object_max = match raw.object_max {
        Some(Text(given)) if given > quarter => {
            let message = format!(
                "{} is more than a quarter of memory.capacity ({}): at most {}",
                given.to_text(),
                capacity.to_text(),
                quarter.to_text()
            );
            check.problem(&at.key("object_max"), message);
            given
        }
        Some(Text(given)) => check.within(at, "object_max", Some(given), given, Size(1), quarter),
        None => Size(default.object_max as u64).min(quarter),
    };
    Memory {
        capacity: capacity.0,
        object_max: object_max.len(),
        in_flight: in_flight(raw.in_flight, object_max, check),
    }
}

/// The default gives way to a large object; a given value must have room for one.
fn in_flight(given: Option<Text<Size>>, object_max: Size, check: &mut Checker<'_, '_>) -> usize {
    let default = Size(Memory::default().in_flight as u64).max(object_max);
    let given = given.map(|text| text.0);
    check.within(&Path::of(&["memory"]), "in_flight", given, default, object_max, Size(1 << 50)).len()
}

fn compression(raw: raw::Compression, check: &mut Checker<'_, '_>) -> Compression {
    let at = &Path::of(&["compression"]);
    let default = Compression::default();
    Compression {
        encodings: raw.encodings.map_or(default.encodings, |codings| plain(Some(codings), |coding| coding)),
        // A body of less takes one packet either way.
        size_min: check.bytes(at, "size_min", raw.size_min, default.size_min, 1, 1 << 30),
        types: match raw.types {
            Some(types) => Arc::new(Patterns::new(types.into_iter().map(|media| media.0.0.to_ascii_lowercase()))),
            None => default.types,
        },
    }
}

fn purge(raw: raw::Purge, check: &mut Checker<'_, '_>) -> Purge {
    let at = &Path::of(&["purge"]);
    let default = Purge::default();
    let soft_grace = raw.soft_grace.map(|text| text.0);
    let max_blind = raw.max_blind.map(|text| text.0);
    let echo = raw.echo.map(|text| text.0);
    let canary = raw.canary.map(|text| text.0);
    let journal = raw.journal.map(PathBuf::from);
    if journal.as_ref().is_some_and(|path| path.file_name().is_none()) {
        check.problem(&at.key("journal"), "this is no file: name one, such as \"/var/lib/endcap/journal\"");
    }
    Purge {
        // Zero makes every soft purge a hard one.
        soft_grace: check.within(at, "soft_grace", soft_grace, default.soft_grace, Duration::ZERO, HOUR),
        ack_timeout: check.duration(at, "ack_timeout", raw.ack_timeout, default.ack_timeout, MINUTE),
        // A read of the log waits for a quarter of it.
        max_blind: check.within(at, "max_blind", max_blind, default.max_blind, Duration::from_millis(100), HOUR),
        // Zero asks nothing again.
        echo: check.within(at, "echo", echo, default.echo, Duration::ZERO, MINUTE),
        canary: check.within(at, "canary", canary, default.canary, Duration::ZERO, HOUR),
        hot_refill: check.within(at, "hot_refill", raw.hot_refill, default.hot_refill, 0, 1000),
        // One would soften nothing, zero everything.
        blast_radius: raw.blast_radius.map(|share| check.within(at, "blast_radius", Some(share), share, 0.01, 0.99)),
        journal,
        journal_max: check.bytes(at, "journal_max", raw.journal_max, default.journal_max, 4096, 1 << 30),
        tags_max: check.within(at, "tags_max", raw.tags_max, default.tags_max, 1, 1_000_000),
        marks_max: check.within(at, "marks_max", raw.marks_max, default.marks_max, 1000, 100_000_000),
    }
}

fn log(raw: raw::Log, check: &mut Checker<'_, '_>) -> Log {
    let default = Log::default();
    Log {
        format: raw.format.map_or(default.format, |text| text.0),
        level: raw.level.map_or(default.level, |text| text.0),
        requests: raw.requests.map_or(default.requests, |text| text.0),
        sample: check.within(&Path::of(&["log"]), "sample", raw.sample, default.sample, 1, u32::MAX),
    }
}
