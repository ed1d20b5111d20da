//! `bind` of HAProxy as listeners: addresses, certificates, TLS, the PROXY protocol, redirects to https.

use std::path::Path;

use super::super::address::listen_address;
use super::super::directive::Directive;
use super::super::files::absolute;
use super::super::model::{ImportModel, ImportedCertificate, ImportedListener};
use super::super::scalar;
use super::super::tls_names::{ciphers, curves};
use super::condition::AclTable;
use super::switch::FrontendPlan;
use super::{Context, server};

/// A directory of certificates is listed up to this number of files.
const MAX_CERTIFICATES: usize = 100;

/// Adds the listeners of a frontend. One that leads nowhere but to https counts, too.
pub(super) fn translate(plan: &FrontendPlan<'_>, context: &mut Context<'_>, model: &mut ImportModel) {
    let redirect = to_https(plan, context);
    let leads_to_servers = plan.own_clusters().next().is_some();
    if redirect.is_none() && !leads_to_servers {
        return;
    }
    if !leads_to_servers {
        context.report.taken(plan.section.d, "listeners[]");
    }
    for d in plan.section.own().iter().filter(|d| d.name == "bind") {
        for address in d.arg(0).split(',') {
            bind(d, address, redirect, context, model);
        }
    }
}

/// The addresses of a frontend.
pub(super) fn addresses(plan: &FrontendPlan<'_>) -> Vec<String> {
    let binds = plan.section.own().iter().filter(|d| d.name == "bind");
    binds.flat_map(|d| d.arg(0).split(',')).filter_map(plain_address).collect()
}

/// `None` for sockets and variables.
fn plain_address(text: &str) -> Option<String> {
    let text = text.trim_start_matches("ipv4@").trim_start_matches("ipv6@");
    listen_address(text).filter(|_| !text.contains(['/', '$', '@']))
}

/// `redirect scheme https`, for all requests or for those without TLS.
fn to_https<'a>(plan: &FrontendPlan<'a>, context: &mut Context<'_>) -> Option<&'a Directive> {
    let acls = AclTable::read(&[plan.section.defaults, plan.section.own()]);
    plan.section.own().iter().find(|d| {
        let words = match (&*d.name, d.arg(0)) {
            ("redirect", "scheme") => d.args_from(0),
            ("http-request", "redirect") => d.args_from(1),
            _ => return false,
        };
        if words.first().is_none_or(|word| word != "scheme") || words.get(1).is_none_or(|to| to != "https") {
            return false;
        }
        let condition = words.iter().position(|word| word == "if" || word == "unless");
        let condition = condition.and_then(|at| words.get(at..)).unwrap_or_default();
        let ways = acls.ways(condition).unwrap_or_default();
        let is_for_plain = ways
            .iter()
            .any(|way| way.positive.is_everything() && way.negative.is_empty() && way.over_tls != Some(true));
        if is_for_plain {
            context.report.taken(d, "listeners[].redirect_to_https");
        }
        is_for_plain
    })
}

/// Parameters with a value that `icm` does not need.
const VALUES_NOT_NEEDED: [&str; 21] = [
    "name",
    "backlog",
    "maxconn",
    "mss",
    "process",
    "thread",
    "shards",
    "id",
    "user",
    "group",
    "mode",
    "uid",
    "gid",
    "level",
    "tcp-ut",
    "nice",
    "npn",
    "severity-output",
    "ssl-max-ver",
    "proto",
    "guid-prefix",
];
const WORDS_NOT_NEEDED: [&str; 16] = [
    "no-sslv3",
    "no-tlsv10",
    "no-tlsv11",
    "no-tls-tickets",
    "strict-sni",
    "no-strict-sni",
    "tfo",
    "transparent",
    "v4v6",
    "v6only",
    "defer-accept",
    "prefer-client-ciphers",
    "no-alpn",
    "generate-certificates",
    "allow-0rtt",
    "force-tlsv12",
];
const VALUES_CANNOT: [&str; 8] = [
    "crt-list",
    "crl-file",
    "ca-sign-file",
    "crt-ignore-err",
    "ca-ignore-err",
    "interface",
    "namespace",
    "tls-ticket-keys",
];

/// Values that are used together, after all parameters of a line.
#[derive(Default)]
struct BindTls {
    client_ca: String,
    verify: String,
    ciphers: String,
    ciphersuites: String,
}

fn bind(
    d: &Directive,
    address: &str,
    redirect: Option<&Directive>,
    context: &mut Context<'_>,
    model: &mut ImportModel,
) {
    let Some(address) = plain_address(address) else {
        let why = "icm listens on an address and a port";
        return context.report.cannot(d, why, "listeners: [ { address: ... } ]");
    };
    let listener = model.listener(&address, &d.at);
    context.report.taken(d, "listeners[]");
    let mut tls = BindTls::default();
    let mut words = d.args_from(1).iter();
    while let Some(word) = words.next() {
        parameter(d, word, || words.next().map_or("", String::as_str), &mut tls, listener, context);
    }
    if listener.has_tls {
        protocol(d, &tls, listener, context);
        client_certificates(d, &tls, listener, context);
    } else if let Some(redirect) = redirect {
        listener.redirect_to_https.get_or_insert_with(|| redirect.at.clone());
    }
}

fn parameter<'d>(
    d: &Directive,
    word: &str,
    mut value: impl FnMut() -> &'d str,
    tls: &mut BindTls,
    listener: &mut ImportedListener,
    context: &mut Context<'_>,
) {
    match word {
        "ssl" => listener.has_tls = true,
        "crt" => certificates(d, value(), listener, context),
        "accept-proxy" => {
            listener.wants_proxy_protocol = true;
            let instead = "name the proxies in front: proxy_protocol: { from: [...] }";
            context.report.cannot(d, "icm accepts PROXY headers from named addresses only", instead);
        }
        "ca-file" => value().clone_into(&mut tls.client_ca),
        "verify" => value().clone_into(&mut tls.verify),
        "ciphers" => value().clone_into(&mut tls.ciphers),
        "ciphersuites" => value().clone_into(&mut tls.ciphersuites),
        "ssl-min-ver" => min_version(d, value(), listener, context),
        "force-tlsv13" | "no-tlsv12" => min_version(d, "TLSv1.3", listener, context),
        "curves" | "ecdhe" => {
            let list = curves(value());
            if !list.is_empty() {
                let _ = listener.keys.set(&["tls", "curves"], scalar::list(&list), &d.at);
            }
        }
        "alpn" if !value().contains("h2") => {
            let _ = listener.keys.set(&["tls", "h2"], "false", &d.at);
        }
        "alpn" => {}
        word if WORDS_NOT_NEEDED.contains(&word) => {}
        word if VALUES_NOT_NEEDED.contains(&word) => {
            value();
        }
        word if VALUES_CANNOT.contains(&word) => {
            let shown = format!("`{word} {}` has no counterpart", value());
            context.report.cannot(d, &shown, "certificates and keys of tickets: docs/listeners.md");
        }
        other => context.report.cannot(d, &format!("icm init does not know `{other}` here"), ""),
    }
}

/// A file with certificate and key, or a directory of such files.
fn certificates(d: &Directive, name: &str, listener: &mut ImportedListener, context: &mut Context<'_>) {
    if name.contains('$') || name.starts_with('@') {
        return context.report.cannot(d, "the name of the certificate is a variable", "tls.certificates");
    }
    let path = absolute(&server::base(context, "crt-base"), name);
    let is_part = |name: &String| [".key", ".ocsp", ".issuer", ".sctl"].iter().any(|end| name.ends_with(end));
    let files = match context.files.list(Path::new(&path)) {
        Ok(names) => {
            let names = names.into_iter().filter(|name| !name.starts_with('.') && !is_part(name));
            names.take(MAX_CERTIFICATES).map(|name| format!("{path}/{name}")).collect()
        }
        Err(_) if name.ends_with('/') => {
            return context.report.cannot(
                d,
                &format!("the directory {path} cannot be read"),
                "tls.certificates",
            );
        }
        Err(_) => vec![path],
    };
    for cert in files {
        // The key is in the file with the certificate, or beside it.
        let beside = format!("{cert}.key");
        let key = if context.files.real_path(Path::new(&beside)).is_ok() { beside } else { cert.clone() };
        if !listener.certificates.iter().any(|known| known.cert == cert) {
            listener.certificates.push(ImportedCertificate { cert, key, at: d.at.clone() });
        }
    }
}

fn min_version(d: &Directive, version: &str, listener: &mut ImportedListener, context: &mut Context<'_>) {
    match version {
        "TLSv1.3" | "TLSv1.2" => {
            let value = scalar::scalar(version.trim_start_matches("TLSv"));
            let _ = listener.keys.set(&["tls", "min_version"], value, &d.at);
        }
        _ => context.report.cannot(d, "there is no TLS before 1.2 (RFC 8996)", ""),
    }
}

/// Ciphers of the line, else of `ssl-default-bind-...`.
fn protocol(d: &Directive, own: &BindTls, listener: &mut ImportedListener, context: &mut Context<'_>) {
    let default = |name: &str| context.global.iter().find(|d| d.name == name).copied();
    let (tls12, tls13) = (default("ssl-default-bind-ciphers"), default("ssl-default-bind-ciphersuites"));
    let text = if own.ciphers.is_empty() { tls12.map_or("", |d| d.arg(0)) } else { &own.ciphers };
    let text13 = if own.ciphersuites.is_empty() { tls13.map_or("", |d| d.arg(0)) } else { &own.ciphersuites };
    let options = default("ssl-default-bind-options");
    let at = tls12.filter(|_| own.ciphers.is_empty()).map_or(&d.at, |d| &d.at).clone();
    match ciphers(text, text13) {
        Some(list) => {
            let _ = listener.keys.set(&["tls", "ciphers"], scalar::list(&list), &at);
            tls12.into_iter().chain(tls13).for_each(|d| context.report.taken(d, "listeners[].tls.ciphers"));
        }
        None if !text.is_empty() => {
            let why = "the list names no cipher that icm has; its default is used";
            context.report.cannot(tls12.filter(|_| own.ciphers.is_empty()).unwrap_or(d), why, "tls.ciphers");
        }
        None => {}
    }
    if let Some(options) = options {
        let version =
            options.args.iter().position(|arg| arg == "ssl-min-ver").and_then(|at| options.args.get(at + 1));
        context.report.taken(options, "listeners[].tls.min_version");
        if let Some(version) = version.filter(|_| listener.keys.get(&["tls", "min_version"]).is_none()) {
            min_version(options, version, listener, context);
        }
    }
}

fn client_certificates(
    d: &Directive,
    tls: &BindTls,
    listener: &mut ImportedListener,
    context: &mut Context<'_>,
) {
    let mode = match tls.verify.as_str() {
        "required" => "require",
        "optional" => "request",
        _ => return,
    };
    let file = absolute(&server::base(context, "ca-base"), &tls.client_ca);
    let _ = listener.keys.set(&["tls", "client_certificates", "ca_file"], scalar::scalar(&file), &d.at);
    let _ = listener.keys.set(&["tls", "client_certificates", "mode"], mode, &d.at);
}
