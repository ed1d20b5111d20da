//! `listen` of nginx as listeners, with what holds for the connections of clients: TLS, redirects to https, proxies in front.

use super::super::address::listen_address;
use super::super::directive::{Directive, SourceLine};
use super::super::model::{ImportModel, ImportedCluster, KeySet, OWN_ICM, more_listeners};
use super::super::report::ImportReport;
use super::block::{LocationKind, ServerBlock};
use super::{Context, location, redirect, tls};

/// An address on which a block listens.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listen {
    address: String,
    at: SourceLine,
    tls: bool,
    proxy_protocol: bool,
}

/// The listeners of a block, and what the block says about them.
pub(super) fn translate(
    block: &ServerBlock<'_>,
    http: &[&Directive],
    context: &mut Context<'_>,
    model: &mut ImportModel,
) {
    let listens = listens(block, context.report);
    let is_used = block.target.is_some() || block.to_https;
    let levels = block.d.body().iter().chain(http.iter().copied());
    let trusted = trusted(levels, context.report);
    let plain_redirect = redirect::plain_to_https(block);
    if let Some(d) = plain_redirect {
        context.report.taken(d, "listeners[].redirect_to_https");
        d.body().iter().for_each(|inner| context.report.part_of_another(inner));
    }
    for listen in listens {
        if !is_used && !listen.tls && block.names.is_empty() {
            continue;
        }
        let listener = model.listener(&listen.address, &listen.at);
        let from_header = trusted.by_proxy_protocol || listen.proxy_protocol;
        if !trusted.networks.is_empty() {
            let path: &[&str] = if from_header { &["proxy_protocol", "from"] } else { &["trusted_proxies"] };
            if let Some(at) = &trusted.at {
                listener.keys.push(path, &trusted.networks, at);
            }
        }
        listener.wants_proxy_protocol |= listen.proxy_protocol && trusted.networks.is_empty();
        if listen.tls {
            listener.has_tls = true;
            tls::translate(block, http, listener, context);
        } else if let Some(d) = plain_redirect {
            listener.redirect_to_https.get_or_insert_with(|| d.at.clone());
        }
    }
}

struct Trusted {
    networks: Vec<String>,
    at: Option<SourceLine>,
    by_proxy_protocol: bool,
}

/// The proxies whose header fields, or PROXY header, name the client.
fn trusted<'a>(levels: impl Iterator<Item = &'a Directive>, report: &mut ImportReport) -> Trusted {
    let mut trusted = Trusted { networks: Vec::new(), at: None, by_proxy_protocol: false };
    for d in levels {
        match &*d.name {
            "set_real_ip_from" => {
                let network = d.arg(0);
                if network.parse::<ipnet::IpNet>().is_ok() || network.parse::<std::net::IpAddr>().is_ok() {
                    trusted.networks.push(network.to_owned());
                    trusted.at.get_or_insert_with(|| d.at.clone());
                    report.taken(d, "listeners[].trusted_proxies");
                } else {
                    report.cannot(
                        d,
                        "a proxy in front is an address or a network",
                        "listeners[].trusted_proxies",
                    );
                }
            }
            "real_ip_header" => match &*d.arg(0).to_ascii_lowercase() {
                "proxy_protocol" => {
                    trusted.by_proxy_protocol = true;
                    report.taken(d, "listeners[].proxy_protocol");
                }
                "x-forwarded-for" | "x-real-ip" => report.taken(d, "listeners[].trusted_proxies"),
                _ => report.cannot(
                    d,
                    "icm reads the client from X-Forwarded-For",
                    "let the proxy in front send it",
                ),
            },
            _ => {}
        }
    }
    trusted
}

/// The addresses of a block; nginx listens on port 80 without any.
fn listens(block: &ServerBlock<'_>, report: &mut ImportReport) -> Vec<Listen> {
    let ssl_on = block.named("ssl").any(|d| d.arg(0) == "on");
    for d in block.named("ssl") {
        report.taken(d, "listeners[].tls");
    }
    for d in block.named("http2") {
        report.taken(d, "tls.h2 (on by default)");
    }
    let mut listens: Vec<Listen> = Vec::new();
    for d in block.named("listen") {
        let Some(address) = listen_address(d.arg(0)) else {
            report.cannot(d, "icm listens on an address and a port", "listeners: [ { address: ... } ]");
            continue;
        };
        let has = |word: &str| d.args_from(1).iter().any(|arg| arg == word);
        if has("quic") {
            report.cannot(d, "icm does not offer HTTP/3", "");
            continue;
        }
        if has("proxy_protocol") {
            let instead = "name the proxies in front: proxy_protocol: { from: [...] }";
            let known = block.d.body().iter().any(|d| d.name == "set_real_ip_from");
            if !known {
                report.cannot(d, "icm accepts PROXY headers from named addresses only", instead);
            }
        }
        report.taken(d, "listeners[].address");
        let tls = has("ssl") || ssl_on;
        listens.push(Listen { address, at: d.at.clone(), tls, proxy_protocol: has("proxy_protocol") });
    }
    if listens.is_empty() {
        let at = block.d.at.clone();
        listens.push(Listen { address: "0.0.0.0:80".to_owned(), at, tls: false, proxy_protocol: false });
    }
    listens
}

/// After all blocks: listeners that only redirect, folders for certificate authorities, addresses of both families.
pub(super) fn finish(
    blocks: &[ServerBlock<'_>],
    clusters: &[Option<usize>],
    http: &[&Directive],
    context: &mut Context<'_>,
    model: &mut ImportModel,
) {
    let addresses_of = |block: &ServerBlock<'_>| -> Vec<String> {
        let all: Vec<String> = block.named("listen").filter_map(|d| listen_address(d.arg(0))).collect();
        if all.is_empty() { vec!["0.0.0.0:80".to_owned()] } else { all }
    };
    let served: Vec<String> = blocks
        .iter()
        .zip(clusters)
        .filter(|(_, at)| at.is_some())
        .flat_map(|(b, _)| addresses_of(b))
        .collect();
    for (block, at) in blocks.iter().zip(clusters) {
        let Some(cluster) = at.and_then(|at| model.clusters.get(at)) else { continue };
        let own = addresses_of(block);
        for listener in model.listeners.iter().filter(|listener| own.contains(&listener.address)) {
            tls::report_client_certificates(block, http, listener, context.report);
        }
        let more = more_listeners(&own, &served);
        if let Some(why) = more.filter(|_| cluster.commented_out.is_empty()) {
            context.report.cannot(block.d, &why, OWN_ICM);
        }
        if !cluster.commented_out.is_empty() {
            let why = format!(
                "another cluster serves all host names already, so `{}` is written as a comment only",
                cluster.name
            );
            context.report.cannot(block.d, &why, "write its `hostnames`, and remove the `#`");
        }
    }
    for block in blocks.iter().filter(|block| block.to_https) {
        for address in addresses_of(block) {
            let Some(listener) = model.listeners.iter_mut().find(|l| l.address == address && !l.has_tls)
            else {
                continue;
            };
            if served.contains(&address) {
                let why = format!(
                    "on {address} other blocks lead to servers, and a listener redirects all or nothing"
                );
                context.report.cannot(
                    block.d,
                    &why,
                    "redirect_to_https of the listener, or an address of its own",
                );
            } else {
                listener.redirect_to_https.get_or_insert_with(|| block.d.at.clone());
            }
        }
        challenge_folders(block, context, model);
    }
}

/// The folder of certbot in a block that redirects everything else.
fn challenge_folders(block: &ServerBlock<'_>, context: &mut Context<'_>, model: &mut ImportModel) {
    let is_challenge = |path: &str| {
        path.trim_end_matches('/').ends_with("/.well-known/acme-challenge")
            || path.starts_with("/.well-known")
    };
    let mut only = block.clone();
    only.locations.retain(|l| l.path != "/");
    for l in only.locations.iter().filter(|l| !is_challenge(l.path)) {
        let why = "the listener redirects to https before any route";
        context.report.cannot_block(l.d, why, "it is reached over https only");
    }
    only.locations.retain(|l| is_challenge(l.path) && l.kind != LocationKind::Named);
    let serves = |hosts: &[String]| block.names.iter().any(|name| hosts.contains(name));
    let at = model.clusters.iter().position(|cluster| serves(&cluster.hostnames)).unwrap_or_default();
    if let Some(cluster) = model.clusters.get_mut(at) {
        let mut own = ImportedCluster::new("", &block.d.at);
        let mut unused = KeySet::default();
        location::translate(&only, &[], &mut own, &mut unused, context);
        own.routes.into_iter().rev().for_each(|route| cluster.routes.insert(0, route));
    }
}
