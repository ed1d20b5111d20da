//! `http-request`, `http-response`, `redirect` and their like as routes, rules of `access`, header fields and limits.

use super::super::directive::Directive;
use super::super::header_fields::{FieldScope, to_client, to_server};
use super::super::model::{ImportedCluster, ImportedMatch, ImportedRoute, ImportedRule, KeySet};
use super::super::pattern;
use super::super::scalar;
use super::condition::{AclTable, AclWay};
use super::{Context, ProxySection, exceptions};

/// Where the rules of a section go.
struct Target<'a, 'b> {
    cluster: &'a mut ImportedCluster,
    global: &'a mut KeySet,
    acls: AclTable<'b>,
    /// The host names of the cluster in this frontend.
    hosts: &'a [String],
    section: &'a ProxySection<'b>,
}

/// Adds what a frontend or backend says about the requests of a cluster.
pub(super) fn translate(
    section: &ProxySection<'_>,
    hosts: &[String],
    cluster: &mut ImportedCluster,
    global: &mut KeySet,
    context: &mut Context<'_>,
) {
    let acls = AclTable::read(&[section.defaults, section.own()]);
    let mut target = Target { cluster, global, acls, hosts, section };
    for d in section.defaults.iter().chain(section.own()) {
        let (name, action) = (&*d.name, d.arg(0));
        match (name, action) {
            ("http-request", "deny" | "reject" | "tarpit" | "silent-drop") => {
                deny(d, 1, &mut target, context)
            }
            ("tcp-request", "connection" | "content" | "session") if d.arg(1) == "reject" => {
                deny(d, 2, &mut target, context)
            }
            ("http-request", "redirect") => redirect(d, d.args_from(1), &mut target, context),
            ("redirect", _) => redirect(d, d.args_from(0), &mut target, context),
            ("http-request", "return") => respond(d, &mut target, context),
            ("http-request", "set-header" | "add-header" | "del-header") => {
                header(d, true, &mut target, context)
            }
            ("http-response" | "http-after-response", "set-header" | "add-header" | "del-header") => {
                header(d, false, &mut target, context);
            }
            ("http-request", "cache-use") => cache(d, &mut target, context),
            ("monitor-uri", path) if path.starts_with('/') && pattern::is_pattern(path) => {
                let mut keys = KeySet::default();
                let _ = keys.set(&["respond"], "{ status: 200, text: OK }", &d.at);
                context.report.taken(d, "routes[].respond");
                let condition = ImportedMatch::of("path", vec![path.to_owned()]);
                target.cluster.add_route(ImportedRoute { condition, keys, at: d.at.clone() });
            }
            _ => {}
        }
    }
    for (name, lines) in &target.acls.lines {
        let is_used = !name.is_empty();
        for d in lines.iter().filter(|_| is_used) {
            context.report.part_of_another(d);
        }
    }
}

/// The words behind the action, up to its condition, and the ways to satisfy the condition.
fn split<'d>(words: &'d [String], target: &Target<'_, '_>) -> (&'d [String], Option<Vec<AclWay>>) {
    let at = words.iter().position(|word| word == "if" || word == "unless").unwrap_or(words.len());
    let (before, condition) = words.split_at_checked(at).unwrap_or((words, &[]));
    (before, target.acls.ways(condition))
}

fn no_condition(d: &Directive, context: &mut Context<'_>) {
    context.report.cannot(d, "icm has no such condition", "a route or a rule of `access` with a condition");
}

fn deny(d: &Directive, skip: usize, target: &mut Target<'_, '_>, context: &mut Context<'_>) {
    let (words, ways) = split(d.args_from(skip), target);
    let Some(ways) = ways else { return no_condition(d, context) };
    let status = words.iter().skip_while(|word| *word != "deny_status" && *word != "status").nth(1);
    let status = if status.is_some_and(|status| status == "404") { 404 } else { 403 };
    for way in ways {
        if let Some(count) = way.request_limit.or(way.connection_limit) {
            limit(d, &way, count, target, context);
            continue;
        }
        if way.over_tls.is_some() {
            no_condition(d, context);
            continue;
        }
        let condition = pattern::by_database(way.positive.clone());
        let rule = ImportedRule { allow: false, condition, status, at: d.at.clone() };
        if way.negative.is_empty() {
            context.report.taken(d, "access[].deny");
            target.cluster.add_rule(rule);
            continue;
        }
        // All but some: they are allowed first.
        let is_added = match way.negative.as_slice() {
            [one] => exceptions::add(target.cluster, one, rule),
            _ => false,
        };
        if is_added {
            context.report.taken(d, "access[].allow, access[].deny");
        } else {
            let why = "its exception would also allow what another rule denies";
            let instead = "rules of `access`: the first one that matches decides";
            context.report.cannot(d, why, instead);
        }
    }
}

/// `deny if { sc_http_req_rate(0) gt 100 }`, with the period of the stick-table.
fn limit(d: &Directive, way: &AclWay, count: u64, target: &mut Target<'_, '_>, context: &mut Context<'_>) {
    let is_for_all = way.positive.is_everything() && way.negative.is_empty();
    if !is_for_all {
        let why = "icm limits clients for all requests together";
        return context.report.cannot(d, why, "limits.per_client, and limits.logins for attempts to log in");
    }
    if way.connection_limit.is_some() {
        let _ = target.global.set(&["limits", "per_client", "connections"], count.to_string(), &d.at);
        return context.report.taken(d, "limits.per_client.connections");
    }
    let tables =
        target.section.own().iter().chain(target.section.defaults).filter(|d| d.name == "stick-table");
    let tables =
        tables.chain(context.sections.iter().flat_map(|s| s.own()).filter(|d| d.name == "stick-table"));
    let period = tables.flat_map(|table| &table.args).find_map(|arg| {
        let at = arg.split("http_req_rate(").nth(1)?;
        scalar::haproxy_millis(at.split(')').next()?)
    });
    let rate =
        period.filter(|ms| *ms >= 1000).map(|ms| count.saturating_mul(1000) / ms).filter(|rate| *rate > 0);
    match rate {
        Some(rate) => {
            let _ =
                target.global.set(&["limits", "per_client", "requests_per_second"], rate.to_string(), &d.at);
            context.report.taken(d, "limits.per_client.requests_per_second");
        }
        None => context.report.cannot(
            d,
            "icm limits the requests of an address in a second, at least one",
            "limits.per_client.requests_per_second",
        ),
    }
}

fn redirect(d: &Directive, words: &[String], target: &mut Target<'_, '_>, context: &mut Context<'_>) {
    let (words, ways) = split(words, target);
    let (kind, to) = (words.first().map_or("", String::as_str), words.get(1).map_or("", String::as_str));
    if kind == "scheme" && to == "https" {
        if !context.report.is_known(d) {
            let why = "a listener redirects all requests to https, or none";
            context.report.cannot(d, why, "redirect_to_https of the listener");
        }
        return;
    }
    let code =
        words.iter().skip_while(|word| *word != "code").nth(1).and_then(|code| code.parse::<u16>().ok());
    let to = match kind {
        "location" => location(to),
        "prefix" => location(to).map(|to| format!("{}{{path}}{{query}}", to.trim_end_matches('/'))),
        _ => None,
    };
    let Some(to) = to else {
        let why = "its target has expressions of HAProxy";
        return context.report.cannot(
            d,
            why,
            "a route with `redirect`: {path}, {query} and {host} are known",
        );
    };
    let flow = format!("{{ to: {}, status: {} }}", scalar::scalar(&to), code.unwrap_or(302));
    routes(d, ways, "redirect", &flow, target, context);
}

/// A URL with the expressions that `icm` has as placeholders.
fn location(to: &str) -> Option<String> {
    let mut to = to.to_owned();
    for (expression, placeholder) in [
        ("%[capture.req.uri]", "{path}{query}"),
        ("%[pathq]", "{path}{query}"),
        ("%HU", "{path}{query}"),
        ("%[path]", "{path}"),
        ("%HP", "{path}"),
        ("%[hdr(host)]", "{host}"),
        ("%[req.hdr(host)]", "{host}"),
        ("%[req.hdr(Host)]", "{host}"),
        ("%[hdr(Host)]", "{host}"),
    ] {
        to = to.replace(expression, placeholder);
    }
    let to = to.replace("/{path}", "{path}");
    (!to.is_empty() && !to.contains(['%', '$']) && to.bytes().all(|b| b.is_ascii_graphic())).then_some(to)
}

fn routes(
    d: &Directive,
    ways: Option<Vec<AclWay>>,
    key: &str,
    flow: &str,
    target: &mut Target<'_, '_>,
    context: &mut Context<'_>,
) {
    let Some(ways) = ways.filter(|ways| ways.iter().all(AclWay::is_plain)) else {
        return no_condition(d, context);
    };
    for way in ways {
        let mut keys = KeySet::default();
        let _ = keys.set(&[key], flow, &d.at);
        let mut condition = way.positive;
        let host = condition.get("host").map(<[String]>::to_vec).unwrap_or_default();
        if !host.is_empty() && !target.cluster.hostnames.is_empty() && !target.hosts.is_empty() {
            let serves = host.iter().any(|name| target.cluster.hostnames.contains(name));
            if !serves {
                continue;
            }
            condition.lists.retain(|(key, _)| *key != "host" || target.cluster.hostnames != host);
        }
        context.report.taken(d, &format!("routes[].{key}"));
        target.cluster.add_route(ImportedRoute { condition, keys, at: d.at.clone() });
    }
    if !context.report.is_known(d) {
        context.report.cannot(d, "no cluster has this host name", "add it to `hostnames` of a cluster");
    }
}

fn respond(d: &Directive, target: &mut Target<'_, '_>, context: &mut Context<'_>) {
    let (words, ways) = split(d.args_from(1), target);
    let behind = |word: &str| words.iter().skip_while(|w| *w != word).nth(1).map(String::as_str);
    let status = behind("status").and_then(|status| status.parse::<u16>().ok()).unwrap_or(200);
    let text = behind("string").or_else(|| behind("lf-string"));
    if behind("file").is_some() || behind("lf-file").is_some() || text.is_some_and(|text| text.contains('%'))
    {
        let why = "its body is a file or an expression of HAProxy";
        return context.report.cannot(d, why, "a route with `respond: { status, page }`");
    }
    let text = text.map(|text| format!(", text: {}", scalar::scalar(text))).unwrap_or_default();
    let media =
        behind("content-type").map(|t| format!(", content_type: {}", scalar::scalar(t))).unwrap_or_default();
    let flow = format!("{{ status: {status}{text}{media} }}");
    routes(d, ways, "respond", &flow, target, context);
}

/// Fields of requests to servers, or of answers.
fn header(d: &Directive, is_request: bool, target: &mut Target<'_, '_>, context: &mut Context<'_>) {
    let (words, ways) = split(d.args_from(1), target);
    let name = words.first().map_or("", String::as_str);
    let value = words.get(1).map_or("", String::as_str);
    let always = ways.as_ref().is_some_and(|ways| ways.iter().any(|way| way.positive.is_everything()));
    if d.arg(0) != "del-header" && value.is_empty() {
        return context.report.cannot(d, "it has no value", "headers.set");
    }
    if d.arg(0) == "del-header" && words.iter().any(|word| word == "-m") {
        return context.report.cannot(d, "fields are named in full", "headers.remove");
    }
    // Both translators share the function, in which `$` begins a variable.
    let value = if value.contains("%[") || value.contains("%{") { "$expression" } else { value };
    let value = if matches!(value, "%ci" | "%cp" | "%bi" | "%ID") { "$expression" } else { value };
    let mut scope = FieldScope { keys: &mut target.cluster.keys, is_route: false };
    if !always {
        let Some(ways) = ways.filter(|ways| ways.iter().all(AclWay::is_plain) && !is_tls_field(name)) else {
            if is_tls_field(name) {
                return context.report.not_needed(d, "icm sets it anew in each request");
            }
            return no_condition(d, context);
        };
        for way in ways {
            let mut keys = KeySet::default();
            let mut scope = FieldScope { keys: &mut keys, is_route: true };
            apply(d, is_request, name, value, &mut scope, context);
            if !keys.0.is_empty() {
                let route = ImportedRoute { condition: way.positive, keys, at: d.at.clone() };
                target.cluster.add_route(route);
            }
        }
        return;
    }
    apply(d, is_request, name, value, &mut scope, context);
}

/// Fields that tell a server about the client's connection.
fn is_tls_field(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    lower.starts_with("x-forwarded-") || lower == "x-real-ip" || lower == "forwarded"
}

fn apply(
    d: &Directive,
    is_request: bool,
    name: &str,
    value: &str,
    scope: &mut FieldScope<'_>,
    context: &mut Context<'_>,
) {
    let value = if d.arg(0) == "del-header" { "" } else { value };
    if is_request {
        to_server(d, name, value, scope, context.report);
    } else {
        to_client(d, name, value, scope, context.report);
    }
}

fn cache(d: &Directive, target: &mut Target<'_, '_>, context: &mut Context<'_>) {
    let (_, ways) = split(d.args_from(2), target);
    let paths: Option<Vec<String>> = ways.filter(|ways| ways.iter().all(AclWay::is_plain)).and_then(|ways| {
        let paths: Option<Vec<_>> =
            ways.iter().map(|way| way.positive.get("path").map(<[String]>::to_vec)).collect();
        paths.map(|paths| paths.into_iter().flatten().collect())
    });
    let Some(paths) = paths.filter(|paths| !paths.is_empty()) else {
        let why = "pages of Domino are for one user, so icm caches listed paths only";
        return context.report.cannot(d, why, "cache.paths (docs/compression-and-cache.md)");
    };
    target.global.push(&["cache", "paths"], &paths, &d.at);
    context.report.taken(d, "cache.paths");
}
