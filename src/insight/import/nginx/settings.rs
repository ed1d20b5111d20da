//! Single directives of nginx as keys of a cluster, of a route, or of the whole file: time limits, bodies, header fields,
//! compression, cache, limits of clients.

use std::collections::HashMap;
use std::path::Path;

use super::super::directive::Directive;
use super::super::header_fields::FieldScope;
use super::super::model::{ImportedMatch, KeySet};
use super::super::report::ImportReport;
use super::super::scalar;
use super::headers;

/// The zones of `limit_req` and `limit_conn`: their rate in requests a second, if they count addresses.
#[derive(Debug, Default)]
pub(super) struct Zones {
    rates: HashMap<String, Option<u64>>,
    addresses: HashMap<String, bool>,
}

impl Zones {
    pub fn read(http: &[&Directive], report: &mut ImportReport) -> Self {
        let mut zones = Self::default();
        for d in http {
            let by_address = matches!(d.arg(0), "$binary_remote_addr" | "$remote_addr");
            let named = |key: &str| d.args.iter().find_map(|arg| arg.strip_prefix(key));
            let Some(zone) = named("zone=").map(|zone| zone.split(':').next().unwrap_or(zone).to_owned())
            else {
                continue;
            };
            match &*d.name {
                "limit_req_zone" => {
                    let rate = named("rate=").and_then(per_second).filter(|_| by_address);
                    zones.rates.insert(zone, rate);
                    report.part_of_another(d);
                }
                "limit_conn_zone" => {
                    zones.addresses.insert(zone, by_address);
                    report.part_of_another(d);
                }
                _ => {}
            }
        }
        zones
    }
}

/// `10r/s` or `600r/m`, if there is at least one a second.
fn per_second(rate: &str) -> Option<u64> {
    let number = |text: &str| text.parse::<u64>().ok().filter(|n| *n > 0);
    match rate.split_once("r/") {
        Some((n, "s")) => number(n),
        Some((n, "m")) => number(n).filter(|n| n.is_multiple_of(60)).map(|n| n / 60),
        _ => None,
    }
}

/// What is known in a location besides its directives.
#[derive(Clone, Copy, Debug)]
pub(super) struct RouteScope<'a> {
    pub condition: &'a ImportedMatch,
}

/// Where the keys of a directive go.
#[derive(Debug)]
pub(super) struct Scope<'a> {
    pub keys: &'a mut KeySet,
    pub global: &'a mut KeySet,
    /// In a location that is a route.
    pub route: Option<RouteScope<'a>>,
    pub zones: &'a Zones,
    pub root: &'a Path,
}

impl Scope<'_> {
    /// Sets a key of the cluster, or its counterpart in a route.
    pub fn set(&mut self, d: &Directive, path: &[&str], value: String, report: &mut ImportReport) {
        let path = match (self.route.is_some(), path) {
            (true, ["failover", key @ ("response_timeout" | "body_timeout")]) => &[*key][..],
            (true, _) => {
                let why = format!("a route has no {}: it holds for the whole cluster", path.join("."));
                return report.cannot(d, &why, "write it in the cluster if it suits all paths");
            }
            (false, path) => path,
        };
        set_in(self.keys, d, path, value, report);
    }

    /// Sets a key that holds for all clusters.
    pub fn set_global(&mut self, d: &Directive, path: &[&str], value: String, report: &mut ImportReport) {
        set_in(self.global, d, path, value, report);
    }

    fn time(&mut self, d: &Directive, path: &[&str], report: &mut ImportReport) {
        match scalar::nginx_millis(d.arg(0)).filter(|ms| *ms > 0) {
            Some(ms) => self.set(d, path, scalar::duration(ms), report),
            None => report.cannot(d, "it is no time that icm can write", "write the key yourself"),
        }
    }
}

fn set_in(keys: &mut KeySet, d: &Directive, path: &[&str], value: String, report: &mut ImportReport) {
    let shown = path.join(".");
    match keys.set(path, value, &d.at) {
        Ok(()) => report.taken(d, &shown),
        Err(other) => report.cannot(d, &format!("{shown} has one value, {other}"), "choose one value"),
    }
}

/// Translates a directive. False if it is none of these.
pub(super) fn apply(d: &Directive, scope: &mut Scope<'_>, report: &mut ImportReport) -> bool {
    match &*d.name {
        "client_max_body_size" => match scalar::bytes(d.arg(0)) {
            Some(bytes) => scope.set(d, &["limits", "request_body"], scalar::size(bytes), report),
            None => report.cannot(d, "it is no size", "write limits.request_body"),
        },
        "proxy_connect_timeout" => scope.time(d, &["failover", "connect_timeout"], report),
        "proxy_read_timeout" => {
            scope.time(d, &["failover", "response_timeout"], report);
            scope.time(d, &["failover", "body_timeout"], report);
        }
        "proxy_next_upstream" | "proxy_next_upstream_tries" | "proxy_next_upstream_timeout" => {
            next_upstream(d, scope, report);
        }
        "client_header_timeout" => global_time(d, scope, &["limits", "header_timeout"], report),
        "keepalive_timeout" => global_time(d, scope, &["limits", "idle_timeout"], report),
        "large_client_header_buffers" => {
            let count = d.arg(0).parse::<u64>().ok();
            let Some((count, each)) = count.zip(scalar::bytes(d.arg(1))) else { return true };
            let all = count.saturating_mul(each).min(960 << 10);
            scope.set_global(d, &["limits", "header_bytes"], scalar::size(all), report);
            scope.set_global(d, &["limits", "uri_bytes"], scalar::size(each.min(64 << 10)), report);
        }
        "limit_req" | "limit_conn" => limit(d, scope, report),
        "gzip" | "gzip_types" | "gzip_min_length" | "brotli" | "zstd" => compression(d, scope, report),
        "proxy_cache" => cache(d, scope, report),
        "proxy_ssl_verify" | "proxy_ssl_trusted_certificate" => upstream_tls(d, scope, report),
        "access_log" => access_log(d, scope, report),
        "proxy_set_header" | "add_header" | "more_set_headers" | "proxy_hide_header"
        | "more_clear_headers" | "proxy_pass_header" | "expires" => {
            let is_route = scope.route.is_some();
            headers::apply(d, &mut FieldScope { keys: &mut *scope.keys, is_route }, report);
        }
        _ => return false,
    }
    true
}

fn global_time(d: &Directive, scope: &mut Scope<'_>, path: &[&str], report: &mut ImportReport) {
    match scalar::nginx_millis(d.arg(0)) {
        Some(ms) if ms > 0 => scope.set_global(d, path, scalar::duration(ms), report),
        _ => report.cannot(d, "icm always has this limit", &format!("write {}", path.join("."))),
    }
}

fn next_upstream(d: &Directive, scope: &mut Scope<'_>, report: &mut ImportReport) {
    match &*d.name {
        "proxy_next_upstream_timeout" => return scope.time(d, &["failover", "deadline"], report),
        "proxy_next_upstream_tries" => {
            return match d.arg(0).parse::<u32>() {
                Ok(n) if n > 0 => scope.set(d, &["failover", "attempts"], n.min(32).to_string(), report),
                _ => report.cannot(d, "icm always limits attempts", "write failover.attempts"),
            };
        }
        _ => {}
    }
    if d.args.iter().any(|arg| arg == "off") {
        return scope.set(d, &["failover", "attempts"], "1".to_owned(), report);
    }
    let mut statuses: Vec<u16> =
        d.args.iter().filter_map(|arg| arg.strip_prefix("http_")?.parse().ok()).collect();
    statuses.sort_unstable();
    statuses.dedup();
    if d.args.iter().any(|arg| arg == "non_idempotent") {
        let why = "a request that a server may have executed is never sent again";
        report.cannot(d, why, "see failover.retry_methods and unsafe_commands");
    }
    let retried: Vec<String> = statuses.iter().filter(|s| **s >= 500).map(u16::to_string).collect();
    if retried.len() < statuses.len() {
        report.cannot(
            d,
            "only 5xx answers are tried elsewhere",
            "for 404 the directory knows who has the database",
        );
    }
    if retried.is_empty() {
        report.taken(d, "failover (errors and timeouts always)");
    } else {
        scope.set(d, &["failover", "retry_statuses"], format!("[{}]", retried.join(", ")), report);
    }
}

fn limit(d: &Directive, scope: &mut Scope<'_>, report: &mut ImportReport) {
    if scope.route.is_some() {
        let why = "icm limits clients for all paths together";
        return report.cannot(d, why, "limits.per_client, and limits.logins for attempts to log in");
    }
    if d.name == "limit_req" {
        let zone = d.args.iter().find_map(|arg| arg.strip_prefix("zone=")).unwrap_or_default();
        return match scope.zones.rates.get(zone).copied().flatten() {
            Some(rate) => {
                let path = ["limits", "per_client", "requests_per_second"];
                scope.set_global(d, &path, rate.to_string(), report);
            }
            None => report.cannot(
                d,
                "icm limits the requests of an address in a second, at least one",
                "limits.per_client.requests_per_second",
            ),
        };
    }
    match (scope.zones.addresses.get(d.arg(0)), scalar::number(d.arg(1))) {
        // nginx counts connections that have a request.
        (Some(true), Some(count)) => {
            scope.set_global(d, &["limits", "per_client", "requests_in_flight"], count, report);
        }
        _ => report.cannot(
            d,
            "icm counts the requests of an address",
            "limits.per_client or limits.connections",
        ),
    }
}

fn compression(d: &Directive, scope: &mut Scope<'_>, report: &mut ImportReport) {
    if scope.route.is_some() {
        return report.cannot(d, "compression is a matter of the whole cluster", "compression.types");
    }
    match (&*d.name, d.arg(0)) {
        ("gzip_types", types) => {
            let types: Vec<String> = if types == "*" { vec!["text/*".to_owned()] } else { d.args.clone() };
            if d.arg(0) == "*" {
                report.cannot(d, "`*` for all types is not possible", "list the types in compression.types");
            }
            // nginx compresses HTML in any case.
            let html = "text/html".to_owned();
            let all: Vec<String> =
                std::iter::once(html).chain(types.into_iter().filter(|t| t != "text/html")).collect();
            scope.keys.push(&["compression", "types"], &all, &d.at);
            report.taken(d, "compression.types");
        }
        ("gzip_min_length", size) => match scalar::bytes(size) {
            Some(bytes) => scope.set(d, &["compression", "min_size"], scalar::size(bytes), report),
            None => report.cannot(d, "it is no size", "compression.min_size"),
        },
        (_, "off") => report.not_needed(d, "nothing is compressed unless `compression` says so"),
        (name, _) => {
            let algorithm = if name == "brotli" { "br" } else { name };
            scope.keys.push(&["compression", "algorithms"], &[algorithm.to_owned()], &d.at);
            report.taken(d, "compression");
        }
    }
}

/// Paths that are cached. What is for one user only must not be, so a cache for all paths is not taken over.
fn cache(d: &Directive, scope: &mut Scope<'_>, report: &mut ImportReport) {
    if d.arg(0) == "off" {
        return report.not_needed(d, "only listed paths are cached");
    }
    let condition = scope.route.map(|route| route.condition);
    let paths: Option<Vec<String>> = condition.and_then(|condition| {
        let path = condition.get("path").map(<[String]>::to_vec);
        let prefixes = condition.get("path_prefix");
        path.or_else(|| prefixes.map(|all| all.iter().map(|prefix| format!("{prefix}/*")).collect()))
    });
    let Some(paths) = paths else {
        let why = "pages of Domino are for one user, so icm caches listed paths only";
        return report.cannot(d, why, "cache.paths (docs/compression-and-cache.md)");
    };
    scope.global.push(&["cache", "paths"], &paths, &d.at);
    report.taken(d, "cache.paths");
}

fn upstream_tls(d: &Directive, scope: &mut Scope<'_>, report: &mut ImportReport) {
    if d.name == "proxy_ssl_verify" {
        let verify = d.arg(0) == "on";
        return scope.set(d, &["upstream_tls", "verify"], verify.to_string(), report);
    }
    let file = super::super::files::absolute(scope.root, d.arg(0));
    scope.set(d, &["upstream_tls", "ca_file"], scalar::scalar(&file), report);
}

fn access_log(d: &Directive, scope: &mut Scope<'_>, report: &mut ImportReport) {
    if scope.route.is_some() {
        return report.not_needed(d, "all requests are logged alike");
    }
    if d.arg(0) == "off" {
        return scope.set_global(d, &["access_log", "format"], scalar::scalar("off"), report);
    }
    let why = "icm writes its access log to standard output, in the combined format";
    report.cannot(d, why, "access_log.path (a file that icm may write) and format: json");
}
