//! Timeouts, options and balancing of HAProxy as keys of a cluster, and the section `global`.

use super::super::directive::Directive;
use super::super::model::{ImportModel, ImportedCluster, KeySet};
use super::super::report::ImportReport;
use super::super::scalar;
use super::{Context, ProxySection};

/// The directives of a section, then those of its defaults that the section does not have.
pub(super) fn apply_all(
    section: &ProxySection<'_>,
    cluster: &mut ImportedCluster,
    global: &mut KeySet,
    context: &mut Context<'_>,
) {
    let key = |d: &Directive| match &*d.name {
        "timeout" | "option" => format!("{} {}", d.name, d.arg(0)),
        name => name.to_owned(),
    };
    let own: Vec<String> = section.own().iter().map(key).collect();
    for d in section.own() {
        one(d, &mut cluster.keys, global, context);
    }
    for d in section.defaults {
        if own.contains(&key(d)) {
            context.report.overridden(d);
        } else {
            let mut keys = cluster.keys.clone();
            // A frontend and a backend share the defaults, and the backend may have replaced one.
            one(d, &mut keys, global, context);
            cluster.keys = keys;
        }
    }
}

fn set(keys: &mut KeySet, d: &Directive, path: &[&str], value: String, report: &mut ImportReport) {
    let shown = path.join(".");
    match keys.set(path, value, &d.at) {
        Ok(()) => report.taken(d, &shown),
        Err(other) => report.cannot(d, &format!("{shown} has one value, {other}"), "choose one value"),
    }
}

fn one(d: &Directive, keys: &mut KeySet, global: &mut KeySet, context: &mut Context<'_>) {
    let report = &mut *context.report;
    match &*d.name {
        "timeout" => timeout(d, keys, global, report),
        "retries" => match d.arg(0).parse::<u32>() {
            Ok(n) => set(keys, d, &["failover", "attempts"], n.saturating_add(1).min(32).to_string(), report),
            Err(_) => report.cannot(d, "it is no number", "failover.attempts"),
        },
        "retry-on" => retry_on(d, keys, report),
        "cookie" => cookie(d, keys, report),
        "balance" => match d.arg(0) {
            "source" | "uri" | "url_param" | "hdr" | "rdp-cookie" | "hash" => {
                report.taken(d, "affinity (a signed cookie, on by default)");
            }
            _ => report.not_needed(d, "of two servers icm takes the one with fewer requests in flight"),
        },
        "option" => option(d, keys, report),
        "http-check" => http_check(d, keys, report),
        "maxconn" => match scalar::number(d.arg(0)) {
            Some(n) => set(global, d, &["limits", "connections"], n, report),
            None => report.cannot(d, "it is no number", "limits.connections"),
        },
        "compression" => compression(d, keys, report),
        "filter" if d.arg(0) == "compression" => report.taken(d, "compression"),
        "filter" if d.arg(0) == "cache" => report.taken(d, "cache"),
        "log" | "log-format" | "log-format-sd" | "log-tag" | "error-log-format" | "log-steps" => {
            report.not_needed(d, "icm writes its access log to standard output (docs/monitoring.md)");
        }
        "stick-table" | "stick" => report.taken(d, "affinity (a signed cookie, nothing to synchronise)"),
        _ => {}
    }
}

fn timeout(d: &Directive, keys: &mut KeySet, global: &mut KeySet, report: &mut ImportReport) {
    let Some(time) = scalar::haproxy_millis(d.arg(1)).filter(|ms| *ms > 0).map(scalar::duration) else {
        return report.cannot(d, "it is no time that icm can write", "write the key yourself");
    };
    match d.arg(0) {
        "connect" => set(keys, d, &["failover", "connect_timeout"], time, report),
        "server" => {
            set(keys, d, &["failover", "response_timeout"], time.clone(), report);
            set(keys, d, &["failover", "body_timeout"], time, report);
        }
        "queue" => set(keys, d, &["limits", "queue_timeout"], time, report),
        "check" => set(keys, d, &["probe", "timeout"], time, report),
        "http-request" => set(global, d, &["limits", "header_timeout"], time, report),
        "http-keep-alive" => set(global, d, &["limits", "idle_timeout"], time, report),
        "tunnel" => set(global, d, &["limits", "websocket_idle"], time, report),
        "client" => report.not_needed(d, "limits.min_rate ends slow transfers"),
        "client-fin" | "server-fin" | "tarpit" | "client-hs" => {
            report.not_needed(d, "icm has limits of its own")
        }
        _ => report.cannot(d, "icm has no such time", ""),
    }
}

fn retry_on(d: &Directive, keys: &mut KeySet, report: &mut ImportReport) {
    if d.args.iter().any(|arg| arg == "all-retryable-errors") {
        let why = "a request that a server may have executed is never sent again";
        return report.cannot(d, why, "failover.retry_statuses, retry_methods and unsafe_commands");
    }
    let statuses: Vec<String> = d
        .args
        .iter()
        .filter(|arg| arg.len() == 3 && arg.starts_with('5'))
        .filter_map(|s| scalar::number(s))
        .collect();
    if statuses.is_empty() {
        report.taken(d, "failover (errors and timeouts always)");
    } else {
        set(keys, d, &["failover", "retry_statuses"], format!("[{}]", statuses.join(", ")), report);
    }
}

fn cookie(d: &Directive, keys: &mut KeySet, report: &mut ImportReport) {
    let has = |word: &str| d.args.iter().any(|arg| arg == word);
    if has("insert") {
        let idle = d.args.iter().position(|arg| arg == "maxidle").and_then(|at| d.args.get(at + 1));
        if let Some(ms) = idle.and_then(|time| super::super::scalar::nginx_millis(time)) {
            set(keys, d, &["affinity", "idle_timeout"], scalar::duration(ms), report);
        }
        return report.taken(d, "affinity (a signed cookie of its own, on by default)");
    }
    let is_domino =
        d.arg(0).eq_ignore_ascii_case("DomAuthSessId") || d.arg(0).eq_ignore_ascii_case("SessionID");
    if has("prefix") && is_domino {
        return set(keys, d, &["affinity", "session_cookie_style"], "value".to_owned(), report);
    }
    report.cannot(d, "icm keeps a user on his server by a cookie of its own", "affinity (docs/sessions.md)");
}

fn option(d: &Directive, keys: &mut KeySet, report: &mut ImportReport) {
    match d.arg(0) {
        "httpchk" => {
            let path = match (d.arg(1), d.arg(2)) {
                (path, _) if path.starts_with('/') => path,
                (_, path) => path,
            };
            if path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic()) {
                set(keys, d, &["probe", "path"], scalar::scalar(path), report);
            } else {
                report.taken(d, "probe");
            }
        }
        "forwardfor" if d.args.iter().any(|arg| arg == "header") => {
            report.cannot(d, "servers get the address in X-Forwarded-For and X-Real-IP", "docs/headers.md");
        }
        "forwardfor" => report.not_needed(d, "icm sets X-Forwarded-For anew in each request"),
        "tcp-check" | "ssl-hello-chk" | "ldap-check" | "smtpchk" | "mysql-check" | "pgsql-check"
        | "redis-check" | "external-check" => {
            report.cannot(d, "a probe is an HTTP request", "probe: { path, expected_statuses }")
        }
        "transparent" | "http_proxy" | "originalto" => report.cannot(d, "icm has no such option", ""),
        _ => report.not_needed(d, "icm needs no such option"),
    }
}

fn http_check(d: &Directive, keys: &mut KeySet, report: &mut ImportReport) {
    let behind = |word: &str| d.args.iter().position(|arg| arg == word).and_then(|at| d.args.get(at + 1));
    match (d.arg(0), d.arg(1)) {
        ("send", _) => {
            if let Some(path) = behind("uri").filter(|path| path.starts_with('/')) {
                set(keys, d, &["probe", "path"], scalar::scalar(path), report);
            }
            let host = d
                .args
                .iter()
                .position(|arg| arg.eq_ignore_ascii_case("host"))
                .and_then(|at| d.args.get(at + 1));
            if let Some(host) = host {
                set(keys, d, &["probe", "host"], scalar::scalar(host), report);
            }
            report.taken(d, "probe");
        }
        ("expect", "status") => {
            let all = d
                .arg(2)
                .split(',')
                .all(|one| one.split('-').all(|n| n.len() == 3 && n.parse::<u16>().is_ok()));
            if all {
                let list: Vec<&str> = d.arg(2).split(',').collect();
                set(keys, d, &["probe", "expected_statuses"], format!("[{}]", list.join(", ")), report);
            } else {
                report.cannot(d, "it is no list of statuses", "probe.expected_statuses");
            }
        }
        ("expect", "rstatus") => report.cannot(d, "statuses are a list of ranges", "probe.expected_statuses"),
        ("disable-on-404", _) => report.cannot(d, "a status means up or down", "probe.expected_statuses"),
        ("connect", _) => report.not_needed(d, "a probe uses the port and scheme of its server"),
        _ => report.cannot(d, "a probe looks at the status only", "probe.expected_statuses"),
    }
}

fn compression(d: &Directive, keys: &mut KeySet, report: &mut ImportReport) {
    match d.arg(0) {
        "type" | "type-res" => {
            keys.push(&["compression", "types"], d.args_from(1), &d.at);
            report.taken(d, "compression.types");
        }
        "algo" | "algo-res" => {
            if d.args_from(1).iter().any(|arg| arg == "gzip") {
                keys.push(&["compression", "algorithms"], &["gzip".to_owned()], &d.at);
                report.taken(d, "compression.algorithms");
            } else {
                report.cannot(d, "icm has zstd, br and gzip", "compression.algorithms");
            }
        }
        "minsize-res" => match scalar::bytes(d.arg(1)) {
            Some(bytes) => set(keys, d, &["compression", "min_size"], scalar::size(bytes), report),
            None => report.cannot(d, "it is no size", "compression.min_size"),
        },
        "offload" => report.cannot(d, "servers get Accept-Encoding unchanged", "headers.to_server.remove"),
        _ => report.cannot(d, "icm compresses answers only", ""),
    }
}

/// The section `global`, as far as it holds for clients.
pub(super) fn global(context: &mut Context<'_>, model: &mut ImportModel) {
    for d in context.global.clone() {
        match (&*d.name, scalar::number(d.arg(0))) {
            ("maxconn", Some(count)) => {
                if model.global.get(&["limits", "connections"]).is_some() {
                    context.report.not_needed(d, "that of a frontend counts");
                } else {
                    set(&mut model.global, d, &["limits", "connections"], count, context.report);
                }
            }
            ("nbthread", Some(count)) => {
                set(&mut model.global, d, &["pingora", "threads"], count, context.report)
            }
            _ => {}
        }
    }
}
