//! `upstream` of nginx, and hosts in `proxy_pass`, as the servers of a cluster or a pool.

use super::super::address::{host_of, with_port};
use super::super::directive::Directive;
use super::super::model::{ImportedCluster, ImportedPool, ImportedServer, KeySet, plain_name};
use super::super::report::ImportReport;
use super::super::scalar;
use super::Context;
use super::block::ProxyTarget;

/// The servers behind a target, with the keys that hold for all of them.
pub(super) struct NginxServers {
    pub name: String,
    pub servers: Vec<ImportedServer>,
    pub keys: KeySet,
}

/// The cluster to which a block leads.
pub(super) fn cluster(target: &ProxyTarget<'_>, context: &mut Context<'_>) -> ImportedCluster {
    let found = servers(target, context);
    let mut cluster = ImportedCluster::new(&found.name, &target.d.at);
    cluster.scheme = if target.is_https { "https" } else { "http" };
    cluster.servers = found.servers;
    cluster.keys = found.keys;
    cluster
}

/// The pool to which a location leads.
pub(super) fn pool(target: &ProxyTarget<'_>, context: &mut Context<'_>) -> ImportedPool {
    let found = servers(target, context);
    let scheme = if target.is_https { "https" } else { "http" };
    ImportedPool {
        name: found.name,
        at: target.d.at.clone(),
        scheme,
        servers: found.servers,
        keys: found.keys,
    }
}

/// nginx verifies the certificates of servers only on request; the file says so, and the report.
pub(super) fn unverified(target: &ProxyTarget<'_>, keys: &mut KeySet, context: &mut Context<'_>) {
    if keys.0.iter().any(|(path, _)| path.first().is_some_and(|key| key == "upstream_tls")) {
        return;
    }
    let _ = keys.set(&["upstream_tls", "verify"], "false", &target.d.at);
    context.report.cannot(
        target.d,
        "nginx does not verify the certificates of servers without proxy_ssl_verify; `verify: false` keeps it so",
        "upstream_tls: { ca_file: FILE } in place of it",
    );
}

pub(super) fn servers(target: &ProxyTarget<'_>, context: &mut Context<'_>) -> NginxServers {
    let mut found = NginxServers { name: String::new(), servers: Vec::new(), keys: KeySet::default() };
    let known = context.upstreams.iter().find(|(name, _)| name.eq_ignore_ascii_case(&target.authority));
    if let Some(upstream) = known.map(|(_, d)| *d) {
        found.name = plain_name(upstream.arg(0), "Domino");
        context.report.taken(upstream, "servers.list");
        for d in upstream.body() {
            of_upstream(d, &mut found, context.report);
        }
    } else {
        found.name = "Domino".to_owned();
        let port = if target.is_https { 443 } else { 80 };
        let name = plain_name(host_of(&target.authority), "server");
        let address = with_port(&target.authority, port);
        found.servers.push(ImportedServer {
            name,
            address,
            at: target.d.at.clone(),
            keys: KeySet::default(),
        });
    }
    if found.servers.is_empty() {
        context.report.cannot(target.d, "its servers could not be taken over", "list them in `servers`");
    }
    found
}

fn of_upstream(d: &Directive, found: &mut NginxServers, report: &mut ImportReport) {
    match &*d.name {
        "server" => server(d, found, report),
        "ip_hash" | "hash" | "sticky" | "sticky_cookie_insert" => {
            report.taken(d, "affinity (a signed cookie, on by default)");
        }
        "least_conn" | "random" | "least_time" | "fair" => {
            report.not_needed(d, "of two servers icm takes the one with fewer requests in flight");
        }
        "keepalive" => {
            report.not_needed(d, "icm keeps connections; pingora.upstream_keepalive_pool_size limits them")
        }
        "zone" | "keepalive_timeout" | "keepalive_requests" | "keepalive_time" | "state" | "resolver" => {
            report.not_needed(d, "icm does it without a setting");
        }
        "health_check" => health_check(d, found, report),
        "queue" => report.cannot(d, "a queue needs max_conns", "write limits.queue_timeout"),
        _ => {}
    }
}

/// `health_check` of nginx Plus.
fn health_check(d: &Directive, found: &mut NginxServers, report: &mut ImportReport) {
    report.taken(d, "probe");
    for argument in &d.args {
        let Some((key, value)) = argument.split_once('=') else { continue };
        let (path, value): (&[&str], _) = match key {
            "interval" => (&["probe", "interval"], scalar::nginx_millis(value).map(scalar::duration)),
            "uri" => (&["probe", "path"], Some(scalar::scalar(value))),
            "passes" => (&["probe", "healthy_after"], scalar::number(value)),
            "fails" => (&["probe", "unreachable_after"], scalar::number(value)),
            _ => continue,
        };
        if let Some(value) = value {
            for_all(d, found, path, &value, report);
        }
    }
}

/// The keys for all servers whose values nginx has for each of them.
fn for_all(d: &Directive, found: &mut NginxServers, path: &[&str], value: &str, report: &mut ImportReport) {
    if let Err(other) = found.keys.set(path, value, &d.at) {
        let why = format!("{} is one value for all servers, {other}", path.join("."));
        report.cannot(d, &why, "choose one value");
    }
}

fn server(d: &Directive, found: &mut NginxServers, report: &mut ImportReport) {
    let address = d.arg(0);
    if address.starts_with("unix:") || address.contains('$') || address.is_empty() {
        return report.cannot(
            d,
            "icm connects to a host and a port",
            "write `http: HOST:PORT` of the server",
        );
    }
    let address = with_port(address, 80);
    let host = host_of(&address);
    let mut name = plain_name(host, "server");
    if found.servers.iter().any(|other| other.name == name) {
        name = format!("{name}-{}", address.rsplit(':').next().unwrap_or_default());
    }
    let mut keys = KeySet::default();
    for argument in d.args_from(1) {
        let (key, value) = argument.split_once('=').unwrap_or((argument, ""));
        let number = scalar::number(value);
        let of_server = match (key, &number) {
            ("weight", Some(weight)) => Some(("weight", weight.clone())),
            ("backup", _) => Some(("server_availability_threshold", "100".to_owned())),
            ("down" | "drain", _) => Some(("server_restricted", "1".to_owned())),
            _ => None,
        };
        if let Some((path, value)) = of_server {
            // A repeated parameter is an error of nginx, so the first value stays.
            let _ = keys.set(&[path], value, &d.at);
            continue;
        }
        match (key, &number) {
            ("max_fails", Some(n)) => for_all(d, found, &["failover", "passive_failures"], n, report),
            ("max_conns", Some(n)) => {
                for_all(d, found, &["limits", "max_requests_in_flight_per_server"], n, report);
            }
            ("slow_start", _) => {
                if let Some(time) = scalar::nginx_millis(value).map(scalar::duration) {
                    for_all(d, found, &["failover", "slow_start"], &time, report);
                }
            }
            // A probe brings the server back, and names are resolved for each connection.
            ("fail_timeout" | "resolve" | "route", _) => {}
            _ => report.cannot(d, &format!("`{argument}` has no counterpart"), ""),
        }
    }
    report.taken(d, "servers.list[]");
    found.servers.push(ImportedServer { name, address, at: d.at.clone(), keys });
}
