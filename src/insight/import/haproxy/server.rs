//! `server` lines of HAProxy, with `default-server`, checks and agents, as the servers of a cluster or a pool.

use super::super::address::with_port;
use super::super::directive::Directive;
use super::super::files::absolute;
use super::super::model::{ImportedServer, KeySet, plain_name};
use super::super::report::ImportReport;
use super::super::scalar;
use super::{Context, ProxySection};

/// The servers of a backend, with the keys that hold for all of them.
pub(super) struct HaproxyServers {
    pub servers: Vec<ImportedServer>,
    pub scheme: &'static str,
    pub keys: KeySet,
}

/// Parameters with a value that `icm` does not need.
const VALUES_NOT_NEEDED: [&str; 27] = [
    "cookie",
    "id",
    "fastinter",
    "downinter",
    "port",
    "addr",
    "sni",
    "check-sni",
    "check-alpn",
    "alpn",
    "observe",
    "on-error",
    "on-marked-down",
    "on-marked-up",
    "error-limit",
    "resolvers",
    "resolve-prefer",
    "resolve-opts",
    "init-addr",
    "track",
    "agent-inter",
    "minconn",
    "maxqueue",
    "pool-max-conn",
    "pool-purge-delay",
    "pool-low-conn",
    "max-reuse",
];
const WORDS_NOT_NEEDED: [&str; 13] = [
    "check",
    "no-check",
    "check-ssl",
    "no-check-ssl",
    "no-backup",
    "enabled",
    "tfo",
    "no-tls-tickets",
    "no-sslv3",
    "no-tlsv10",
    "no-tlsv11",
    "force-tlsv12",
    "allow-0rtt",
];

const VALUES_CANNOT: [&str; 14] = [
    "crt",
    "proto",
    "ws",
    "source",
    "redir",
    "namespace",
    "ciphers",
    "ciphersuites",
    "ssl-min-ver",
    "ssl-max-ver",
    "crl-file",
    "proxy-v2-options",
    "socks4",
    "shard",
];

pub(super) fn servers(section: &ProxySection<'_>, context: &mut Context<'_>) -> HaproxyServers {
    let mut found = HaproxyServers { servers: Vec::new(), scheme: "http", keys: KeySet::default() };
    let is_default = |d: &&Directive| d.name == "default-server";
    let mut defaults: Vec<String> = Vec::new();
    for d in section.defaults.iter().chain(section.own()).filter(is_default) {
        context.report.taken(d, "servers.list[]");
        defaults.extend(d.args.iter().cloned());
    }
    for d in section.own() {
        match &*d.name {
            "server" => server(d, &defaults, &mut found, context),
            "server-template" => {
                let why = "icm takes servers from a list, or from the Domino Directory";
                context.report.cannot(d, why, "servers: { source: names } (docs/directory.md)");
            }
            _ => {}
        }
    }
    found
}

/// Values that are collected while the parameters of one server are read.
#[derive(Default)]
struct ServerTls<'a> {
    on: bool,
    verify_none: bool,
    ca_file: &'a str,
}

/// What the parameters of one server say beside the keys of all.
#[derive(Default)]
struct ServerParameters<'a> {
    keys: KeySet,
    tls: ServerTls<'a>,
    has_agent: bool,
    agent_port: &'a str,
}

fn server(d: &Directive, defaults: &[String], found: &mut HaproxyServers, context: &mut Context<'_>) {
    let address = d.arg(1).trim_start_matches("ipv4@").trim_start_matches("ipv6@");
    if address.is_empty() || address.contains(['@', '$', '/']) {
        let why = "icm connects to a host and a port";
        return context.report.cannot(d, why, "write `http: HOST:PORT` of the server");
    }
    let mut own = ServerParameters::default();
    let mut words = defaults.iter().chain(d.args_from(2));
    while let Some(word) = words.next() {
        parameter(d, word, &mut words, &mut own, found, context);
    }
    let ServerParameters { mut keys, tls, has_agent, agent_port } = own;
    let address = with_port(address, if tls.on { 443 } else { 80 });
    scheme(d, &tls, found, context);
    if has_agent {
        agent_check(d, agent_port, &mut keys, context.report);
    }
    context.report.taken(d, "servers.list[]");
    let name = plain_name(d.arg(0), "server");
    if found.servers.iter().any(|other| other.name == name) {
        return context.report.cannot(d, "another server has this name", "give it a name of its own");
    }
    found.servers.push(ImportedServer { name, address, at: d.at.clone(), keys });
}

fn parameter<'w>(
    d: &Directive,
    word: &'w str,
    words: &mut impl Iterator<Item = &'w String>,
    own: &mut ServerParameters<'w>,
    found: &mut HaproxyServers,
    context: &mut Context<'_>,
) {
    let mut value = || words.next().map_or("", String::as_str);
    match word {
        "ssl" => own.tls.on = true,
        "no-ssl" => own.tls.on = false,
        "verify" => own.tls.verify_none = value() == "none",
        "ca-file" => own.tls.ca_file = value(),
        "agent-check" => own.has_agent = true,
        "agent-port" => own.agent_port = value(),
        "weight" | "backup" | "disabled" => of_server(d, word, words, &mut own.keys),
        "inter" | "rise" | "fall" | "maxconn" | "slowstart" => {
            of_all(d, word, value(), &mut found.keys, context.report);
        }
        "send-proxy" | "send-proxy-v2" | "send-proxy-v2-ssl" | "send-proxy-v2-ssl-cn" => {
            context.report.cannot(d, "servers get no PROXY protocol", "they read X-Forwarded-For");
        }
        word if WORDS_NOT_NEEDED.contains(&word) => {}
        word if VALUES_NOT_NEEDED.contains(&word) => {
            value();
        }
        word if VALUES_CANNOT.contains(&word) => {
            let why = format!("`{word} {}` has no counterpart", value());
            context.report.cannot(d, &why, "");
        }
        other => context.report.cannot(d, &format!("icm init does not know `{other}` here"), ""),
    }
}

fn of_server<'w>(d: &Directive, word: &str, words: &mut impl Iterator<Item = &'w String>, keys: &mut KeySet) {
    let (key, value) = match word {
        "backup" => ("server_availability_threshold", "100".to_owned()),
        "disabled" => ("server_restricted", "1".to_owned()),
        _ => match words.next().and_then(|value| value.parse::<u32>().ok()) {
            Some(0) => ("server_restricted", "1".to_owned()),
            Some(weight) => ("weight", weight.to_string()),
            None => return,
        },
    };
    // The server's own parameter comes behind that of default-server.
    keys.0.retain(|(path, _)| path.first().is_none_or(|first| first != key));
    let _ = keys.set(&[key], value, &d.at);
}

/// Parameters of one server that `icm` has for all.
fn of_all(d: &Directive, word: &str, value: &str, keys: &mut KeySet, report: &mut ImportReport) {
    let time = scalar::haproxy_millis(value).map(scalar::duration);
    let number = scalar::number(value);
    let (path, value): (&[&str], _) = match word {
        "inter" => (&["probe", "interval"], time),
        "slowstart" => (&["failover", "slow_start"], time),
        "rise" => (&["probe", "healthy_after"], number),
        "fall" => (&["probe", "unreachable_after"], number),
        _ => (&["limits", "max_requests_in_flight_per_server"], number),
    };
    let Some(value) = value else {
        return report.cannot(d, &format!("`{word}` has no value that icm can write"), "");
    };
    if let Err(other) = keys.set(path, value, &d.at) {
        report.cannot(
            d,
            &format!("{} is one value for all servers, {other}", path.join(".")),
            "choose one value",
        );
    }
}

fn scheme(d: &Directive, tls: &ServerTls<'_>, found: &mut HaproxyServers, context: &mut Context<'_>) {
    let scheme = if tls.on { "https" } else { "http" };
    if found.servers.is_empty() {
        found.scheme = scheme;
    } else if found.scheme != scheme {
        let why = "all servers of a cluster are reached in one way, the first one's";
        context.report.cannot(d, why, "upstream_scheme, and `http` or `https` of each server");
    }
    if !tls.on {
        return;
    }
    let set =
        |keys: &mut KeySet, key: &str, value: String| keys.set(&["upstream_tls", key], value, &d.at).is_ok();
    if tls.verify_none {
        set(&mut found.keys, "verify", "false".to_owned());
        let instead = "upstream_tls: { ca_file: FILE } in place of `verify: false`";
        context.report.cannot(d, "the certificates of servers were not verified, and still are not", instead);
    } else if !tls.ca_file.is_empty() && !tls.ca_file.starts_with('@') {
        let base = base(context, "ca-base");
        let file = scalar::scalar(&absolute(&base, tls.ca_file));
        if found.keys.get(&["upstream_tls", "verify"]).is_some() {
            let why =
                "the certificate of this server is no longer verified, because that of another one was not";
            context.report.cannot(d, why, "remove `verify: false` from upstream_tls");
        }
        if !set(&mut found.keys, "ca_file", file) {
            context.report.cannot(
                d,
                "upstream_tls.ca_file is one file for all servers",
                "one file with all authorities",
            );
        }
    }
}

/// The directory of `crt-base` or `ca-base`.
pub(super) fn base(context: &Context<'_>, name: &str) -> std::path::PathBuf {
    let base = context.global.iter().find(|d| d.name == name);
    base.map_or_else(|| context.root.clone(), |d| context.root.join(d.arg(0)))
}

fn agent_check(d: &Directive, port: &str, keys: &mut KeySet, report: &mut ImportReport) {
    match port.parse::<u16>() {
        Ok(port) if port > 0 => {
            let _ = keys.set(&["availability"], format!("{{ source: agent_check, port: {port} }}"), &d.at);
        }
        _ => report.cannot(d, "agent-check has no port", "availability: { source: agent_check, port: ... }"),
    }
}
