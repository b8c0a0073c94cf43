//! The effective configuration as TOML: presets expanded, defaults written out, secrets left out.

use std::collections::BTreeMap;

use super::downstream::{DownstreamKind, TargetUrl};
use super::endpoint::{BrowserOrigin, HostName};
use super::raw::{self, Method, Raw, Trusted};
use super::text::Text;
use super::units::{ParamName, Size, Wildcard};
use super::{Config, Downstream, EventRule, Hook, Redis, Secret};
use crate::policy::route::{Patterns, Rule, TagsWhen, Template};

impl Config {
    /// The effective configuration as a file. A secret that is set stands there as a comment, so the text can be
    /// shown to anyone, and is complete again once the secrets are given from elsewhere.
    pub fn render(&self) -> String {
        let text = match toml::to_string(&self.to_raw()) {
            Ok(text) => text,
            // The mirror holds nothing but texts, numbers, lists and tables.
            Err(error) => return format!("# the configuration cannot be written: {error}\n"),
        };
        let hide = |line: &str| {
            let is_secret = line.split_once(" = ").is_some_and(|(_, value)| value.contains('…') && is_hidden(value));
            if is_secret { format!("# {line}\n") } else { format!("{line}\n") }
        };
        let preset = self.preset.as_ref().map(|name| format!("# The preset {name:?} is written out below.\n"));
        preset.into_iter().chain(text.lines().map(hide)).collect()
    }

    fn to_raw(&self) -> Raw {
        let Self {
            upstream,
            preset: _,
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
        } = self;
        Raw {
            upstream: some(upstream.clone()),
            // What it brings is written out below.
            preset: None,
            webhook_secret: None,
            webhook_secret_file: None,
            listen: Some(raw::Listen {
                address: some(listen.address),
                h2c: Some(listen.h2c),
                hosts: list(listen.hosts.iter().cloned().map(HostName)),
                trusted_proxies: list(listen.trusted_proxies.iter().copied()),
                connections_max: Some(listen.connections_max),
                uri_bytes_max: size(listen.uri_bytes_max),
                head_bytes_max: size(listen.head_bytes_max),
                head_fields_max: Some(listen.head_fields_max),
                head_timeout: some(listen.head_timeout),
                idle_timeout: some(listen.idle_timeout),
                body_timeout: some(listen.body_timeout),
                write_timeout: some(listen.write_timeout),
                lame_duck: some(listen.lame_duck),
                drain_timeout: some(listen.drain_timeout),
            }),
            ops: Some(raw::Ops { address: some(ops.address), token: secret(&ops.token), token_file: None }),
            feed: Some(raw::Feed {
                token: secret(&feed.token),
                token_file: None,
                ticket_ttl: some(feed.ticket_ttl),
                clients_max: Some(feed.clients_max),
                heartbeat: some(feed.heartbeat),
                allow_origins: list(feed.allow_origins.iter().cloned().map(BrowserOrigin)),
            }),
            origin: Some(raw::Origin {
                host: origin.host.clone().map(|host| Text(HostName(host))),
                connections_max: Some(origin.connections_max),
                fills_max: Some(origin.fills_max),
                queue_max: Some(origin.queue_max),
                queue_timeout: some(origin.queue_timeout),
                connect_timeout: some(origin.connect_timeout),
                first_byte_timeout: some(origin.first_byte_timeout),
                between_bytes_timeout: some(origin.between_bytes_timeout),
                total_timeout: some(origin.total_timeout),
                pass_first_byte_timeout: some(origin.pass_first_byte_timeout),
                pass_idle_timeout: some(origin.pass_idle_timeout),
                idle_timeout: some(origin.idle_timeout),
                head_bytes_max: size(origin.head_bytes_max),
                query_once: list(origin.query_once.iter().cloned().map(ParamName)),
            }),
            cache: Some(raw::Cache {
                jitter: Some(cache.jitter),
                pass_marker_ttl: some(cache.pass_marker_ttl),
                error_ttl: some(cache.error_ttl),
                tracking: wildcards(&cache.tracking),
            }),
            memory: Some(raw::Memory {
                capacity: some(Size(memory.capacity)),
                object_max: size(memory.object_max),
                in_flight: size(memory.in_flight),
            }),
            compression: Some(raw::Compression {
                encodings: list(compression.encodings.iter().copied()),
                size_min: size(compression.size_min),
                types: wildcards(&compression.types),
            }),
            redis: redis.as_ref().map(Redis::to_raw),
            purge: Some(raw::Purge {
                soft_grace: some(purge.soft_grace),
                ack_timeout: some(purge.ack_timeout),
                max_blind: some(purge.max_blind),
                echo: some(purge.echo),
                canary: some(purge.canary),
                hot_refill: Some(purge.hot_refill),
                blast_radius: purge.blast_radius,
                journal: purge.journal.as_ref().map(|path| path.display().to_string()),
                journal_max: size(purge.journal_max),
                tags_max: Some(purge.tags_max),
                marks_max: Some(purge.marks_max),
            }),
            log: Some(raw::Log {
                format: some(log.format),
                level: some(log.level),
                requests: some(log.requests),
                sample: Some(log.sample),
            }),
            cors: Some(raw::Cors { allow_origins: list(cors.allow_origins.iter().cloned().map(BrowserOrigin)) }),
            hooks: Some(hooks.iter().map(|(name, hook)| (name.clone(), to_hook(hook))).collect()).filter(filled),
            event: Some(events.iter().map(|(name, event)| (name.clone(), to_event(event))).collect()).filter(filled),
            downstream: Some(downstream.iter().map(|(name, target)| (name.clone(), to_downstream(target))).collect())
                .filter(filled),
            // Every route is written out whole.
            route_defaults: None,
            route: Some(routes.rules().iter().map(|rule| (rule.name.to_string(), to_route(rule))).collect()),
        }
    }
}

/// Whether a value is a hidden secret, or a list of them.
fn is_hidden(value: &str) -> bool {
    value.chars().all(|letter| matches!(letter, '…' | '"' | '[' | ']' | ',' | ' '))
}

fn filled<T>(section: &BTreeMap<String, T>) -> bool {
    !section.is_empty()
}

fn some<T>(value: T) -> Option<Text<T>> {
    Some(Text(value))
}

fn list<T>(values: impl Iterator<Item = T>) -> Option<Vec<Text<T>>> {
    Some(values.map(Text).collect())
}

fn size(bytes: usize) -> Option<Text<Size>> {
    some(Size(bytes as u64))
}

fn secret(secret: &Option<Secret>) -> Option<Text<Secret>> {
    secret.clone().map(Text)
}

fn wildcards(patterns: &Patterns) -> Option<Vec<Text<Wildcard>>> {
    list(patterns.names().map(Wildcard))
}

fn templates(templates: &[Template]) -> Option<Vec<Text<Template>>> {
    list(templates.iter().cloned())
}

fn to_hook(hook: &Hook) -> raw::Hook {
    raw::Hook {
        secrets: list(hook.secrets.iter().cloned()),
        secrets_file: None,
        tolerance: some(hook.tolerance),
        body_max: size(hook.body_max),
    }
}

fn to_event(event: &EventRule) -> raw::Event {
    let some = |list: &[Template]| templates(list).filter(|list| !list.is_empty());
    raw::Event {
        hard: some(&event.hard),
        soft: some(&event.soft),
        delete: some(&event.delete),
        firm: event.firm.then_some(true),
    }
}

fn to_downstream(target: &Downstream) -> raw::Downstream {
    raw::Downstream {
        kind: some(target.kind),
        url: some(TargetUrl(target.url.clone())),
        id: Some(target.id.clone()).filter(|id| !id.is_empty()),
        token: some(target.token.clone()),
        token_file: None,
        plan: some(target.plan).filter(|_| target.kind == DownstreamKind::Cloudflare),
        second_purge: some(target.second_purge),
    }
}

fn to_route(rule: &Rule) -> raw::Route {
    let methods = [(rule.get, Method::Get), (rule.head, Method::Head)];
    let trust = [
        (rule.trust.authorization, Trusted::Authorization),
        (rule.trust.cookies, Trusted::Cookies),
        (rule.trust.errors, Trusted::Errors),
        (rule.trust.heuristics, Trusted::Heuristics),
    ];
    let query = rule
        .query
        .iter()
        .map(|param| (param.name.clone(), raw::Query { kind: some(param.kind), default: param.default.clone() }));
    let headers =
        rule.headers.iter().map(|header| (header.name.as_str().to_owned(), raw::Header { kind: some(header.kind) }));
    let tag_paths = rule.tag_paths.iter().map(|path| (format!("/{}", path.steps.join("/")), path.kind.clone()));
    let tags_when = |when: &TagsWhen| raw::TagsWhen {
        query: Some(when.query.clone()),
        contains: when.contains.clone(),
        tags: templates(&when.tags),
    };
    raw::Route {
        paths: list(rule.paths.iter().cloned()),
        policy: some(rule.policy),
        methods: list(methods.into_iter().filter_map(|(on, method)| on.then_some(method))),
        ttl: some(rule.ttl),
        swr: some(rule.swr),
        sie: some(rule.sie),
        negative_ttl: some(rule.negative_ttl),
        content_type: Some(rule.content_type.clone().unwrap_or_else(|| "*".to_owned())),
        key: some(rule.key),
        host_in_key: Some(rule.host_in_key),
        unknown_query: some(rule.unknown_query),
        forward: wildcards(&rule.forward),
        normalize_languages: Some(rule.normalize_languages),
        trust: list(trust.into_iter().filter_map(|(on, what)| on.then_some(what))),
        harmless_cookies: wildcards(&rule.harmless_cookies),
        upgrade: Some(rule.upgrade),
        tags: templates(&rule.tags),
        tag_prefixes: Some(rule.tag_prefixes.clone()),
        tag_headers: list(rule.tag_headers.iter().cloned()),
        // Every value came from a text of the file.
        cache_control: rule.cache_control.as_ref().and_then(|value| value.to_str().ok()).map(str::to_owned),
        query: Some(BTreeMap::from_iter(query)),
        headers: Some(BTreeMap::from_iter(headers)),
        tag_paths: Some(BTreeMap::from_iter(tag_paths)),
        tags_when: Some(rule.tags_when.iter().map(tags_when).collect()),
    }
}
