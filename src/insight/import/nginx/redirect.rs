//! `return`, `rewrite` and the `if` around them, as redirects and fixed answers.

use super::super::directive::Directive;
use super::super::model::{ImportModel, ImportedCluster, ImportedMatch, ImportedRoute, KeySet};
use super::super::report::ImportReport;
use super::super::{pattern, scalar};
use super::Context;
use super::block::{NginxLocation, ServerBlock};

/// Whether a block only sends browsers to https on the same host. Its directives are reported then.
pub(super) fn is_to_https(block: &Directive, names: &[String], report: &mut ImportReport) -> bool {
    let own = block.body().iter();
    let in_root =
        block.body().iter().filter(|d| d.name == "location" && d.args.last().is_some_and(|p| p == "/"));
    // Certbot writes one `if ($host = ...)` for each name, and `return 404` behind them.
    let in_if = block.body().iter().filter(|d| d.name == "if" && d.arg(0).starts_with("($host"));
    let inside = in_root.chain(in_if).flat_map(|d| d.body());
    let found: Vec<&Directive> = own.chain(inside).filter(|d| leads_to_https(d, names)).collect();
    let has_proxy = block.body().iter().any(has_proxy_pass);
    if found.is_empty() || has_proxy {
        return false;
    }
    for d in block.body() {
        match &*d.name {
            "if" => report.part_of_another(d),
            "return" => report.taken(d, "listeners[].redirect_to_https"),
            "location" if d.args.last().is_some_and(|p| p == "/") => {
                report.taken(d, "listeners[].redirect_to_https");
            }
            _ => {}
        }
    }
    found.iter().for_each(|d| report.taken(d, "listeners[].redirect_to_https"));
    report.taken(block, "listeners[].redirect_to_https");
    true
}

fn has_proxy_pass(d: &Directive) -> bool {
    d.name == "proxy_pass" || d.body().iter().any(has_proxy_pass)
}

fn leads_to_https(d: &Directive, names: &[String]) -> bool {
    let url = match (&*d.name, d.arg(0)) {
        ("return", "301" | "302" | "307" | "308") => d.arg(1),
        ("return", _) => d.arg(0),
        ("rewrite", "^" | "^(.*)" | "^(.*)$" | "^/(.*)$" | "^/(.*)" | ".*" | "^.*$" | "(.*)") => d.arg(1),
        _ => return false,
    };
    let Some(rest) = url.strip_prefix("https://") else { return false };
    let (host, path) =
        match rest.find('/').or_else(|| rest.find("$request_uri")).and_then(|at| rest.split_at_checked(at)) {
            Some(parts) => parts,
            None => rest.split_at_checked(rest.find("$1").unwrap_or(rest.len())).unwrap_or((rest, "")),
        };
    let bare = host.trim_end_matches(":443");
    let same_host =
        matches!(bare, "$host" | "$server_name" | "$http_host") || names.iter().any(|n| n == bare);
    let path = path.trim_start_matches('/').trim_end_matches('?');
    same_host && matches!(path, "$request_uri" | "$1" | "$uri$is_args$args" | "$uri")
}

/// `if ($scheme = http)` with a redirect to https, in a block for both.
pub(super) fn plain_to_https<'a>(block: &ServerBlock<'a>) -> Option<&'a Directive> {
    let is_plain = |d: &&Directive| {
        let text = d.args.join("").replace(['"', '\'', '(', ')', ' '], "");
        matches!(&*text, "$scheme=http" | "$scheme!=https" | "$https!=on" | "$ssl_protocol=")
    };
    block
        .named("if")
        .filter(is_plain)
        .find(|d| d.body().iter().any(|inner| leads_to_https(inner, &block.names)))
}

/// A URL of nginx with the placeholders of `icm`; `None` if it has other variables.
fn template(url: &str, names: &[String]) -> Option<String> {
    let mut to = url.to_owned();
    if let Some(name) = names.first() {
        to = to.replace("$server_name", name);
    }
    for (variable, placeholder) in [
        ("$uri$is_args$args", "{path}{query}"),
        ("$request_uri", "{path}{query}"),
        ("$is_args$args", "{query}"),
        ("$http_host", "{host}"),
        ("$host", "{host}"),
        ("$uri", "{path}"),
    ] {
        to = to.replace(variable, placeholder);
    }
    let to = to.replace("/{path}", "{path}");
    let is_url = to.starts_with('/') || to.contains("://") || to.starts_with("{path}");
    (!to.contains('$') && is_url && to.bytes().all(|b| b.is_ascii_graphic())).then_some(to)
}

/// Sets the action of a `return`; false if it is reported as not possible.
fn answer(d: &Directive, names: &[String], keys: &mut KeySet, report: &mut ImportReport) -> bool {
    let (status, rest) = match d.arg(0).parse::<u16>() {
        Ok(status) => (status, d.arg(1)),
        Err(_) => (302, d.arg(0)),
    };
    let flow = match status {
        301 | 302 | 303 | 307 | 308 => match template(rest, names) {
            Some(to) => ("redirect", format!("{{ to: {}, status: {status} }}", scalar::scalar(&to))),
            None => {
                let why = "its target has variables of nginx";
                report.cannot(d, why, "write a route with `redirect`: {path}, {query} and {host} are known");
                return false;
            }
        },
        403 => ("deny", "true".to_owned()),
        200..=299 | 400..=599 if !rest.contains('$') && status != 205 && status != 206 => {
            let text =
                if rest.is_empty() { String::new() } else { format!(", text: {}", scalar::scalar(rest)) };
            let text = if status == 204 { String::new() } else { text };
            ("respond", format!("{{ status: {status}{text} }}"))
        }
        _ => {
            report.cannot(d, "icm has no such answer", "write a route with `respond`");
            return false;
        }
    };
    let _ = keys.set(&[flow.0], flow.1, &d.at);
    report.taken(d, &format!("routes[].{}", flow.0));
    true
}

/// `return` and `rewrite` of a location. True if the route has its action.
pub(super) fn of_location(
    location: &NginxLocation<'_>,
    block: &ServerBlock<'_>,
    route: &mut ImportedRoute,
    context: &mut Context<'_>,
) -> bool {
    for d in location.d.body() {
        match &*d.name {
            "return" => return answer(d, &block.names, &mut route.keys, context.report),
            "rewrite" if matches!(d.arg(2), "redirect" | "permanent") => {
                let whole = matches!(d.arg(0), "^" | "^(.*)$" | "^.*$" | ".*" | "^/(.*)$");
                if whole && let Some((to, status)) = rewritten(d, &block.names) {
                    let flow = format!("{{ to: {}, status: {status} }}", scalar::scalar(&to));
                    let _ = route.keys.set(&["redirect"], flow, &d.at);
                    context.report.taken(d, "routes[].redirect");
                    return true;
                }
                rewrite_not_possible(d, context.report);
            }
            "rewrite" => rewrite_not_possible(d, context.report),
            _ => {}
        }
    }
    false
}

fn rewrite_not_possible(d: &Directive, report: &mut ImportReport) {
    let why = "icm does not change the path on the way to the servers";
    report.cannot(
        d,
        why,
        "a Web Site Rule of Domino and a route with `database`, or a route with `redirect`",
    );
}

/// The target and status of a `rewrite` that answers with a redirect.
fn rewritten(d: &Directive, names: &[String]) -> Option<(String, u16)> {
    let status = match d.arg(2) {
        "permanent" => 301,
        "redirect" => 302,
        _ => return None,
    };
    // nginx appends the query itself, unless the target ends with `?`.
    let (url, query) = match d.arg(1).strip_suffix('?') {
        Some(url) => (url, ""),
        None if d.arg(1).contains("$request_uri") || d.arg(1).contains('?') => (d.arg(1), ""),
        None => (d.arg(1), "{query}"),
    };
    let is_all = d.arg(0).trim_start_matches('^').trim_end_matches('$');
    let url = match is_all {
        "(.*)" | "/(.*)" => url.replace("/$1", "$uri").replace("$1", "$uri"),
        _ => url.to_owned(),
    };
    Some((format!("{}{query}", template(&url, names)?), status))
}

/// `return`, `rewrite` and `if` of a block that leads to servers otherwise.
pub(super) fn server_level(
    block: &ServerBlock<'_>,
    hosts: &[String],
    cluster: &mut ImportedCluster,
    context: &mut Context<'_>,
) {
    for d in block.d.body() {
        match &*d.name {
            "rewrite" => {
                let condition =
                    pattern::of_regex(d.arg(0)).map(|patterns| with_hosts("path", patterns, hosts));
                match condition.zip(rewritten(d, &block.names)) {
                    Some((condition, (to, status))) => {
                        let flow = format!("{{ to: {}, status: {status} }}", scalar::scalar(&to));
                        add(d, condition, "redirect", flow, cluster, context.report);
                    }
                    None => rewrite_not_possible(d, context.report),
                }
            }
            "return" => {
                let why = "it answers every request of the block, which also has locations with servers";
                context.report.cannot(d, why, "write a route with `redirect` or `respond`");
            }
            "if" => condition_of_if(d, block, hosts, cluster, context),
            _ => {}
        }
    }
}

fn add(
    d: &Directive,
    condition: ImportedMatch,
    key: &str,
    flow: String,
    cluster: &mut ImportedCluster,
    report: &mut ImportReport,
) {
    let mut keys = KeySet::default();
    let _ = keys.set(&[key], flow, &d.at);
    report.taken(d, &format!("routes[].{key}"));
    cluster.add_route(ImportedRoute { condition, keys, at: d.at.clone() });
}

fn with_hosts(key: &'static str, values: Vec<String>, hosts: &[String]) -> ImportedMatch {
    let mut condition = ImportedMatch::of(key, values);
    if !hosts.is_empty() && key != "host" {
        condition.lists.push(("host", hosts.to_vec()));
    }
    condition
}

/// A header field that contains a text.
fn field_condition(field: &str, value: &str, hosts: &[String]) -> Option<ImportedMatch> {
    let name = field.trim_start_matches("$http_").replace('_', "-");
    // Patterns are those of paths, so a slash in front makes one of the text.
    let patterns = pattern::of_regex(&format!("/?{value}"))?;
    let texts: Vec<&String> = patterns.iter().filter(|p| !p.contains('/')).collect();
    let [one] = texts.as_slice() else { return None };
    let mut condition = ImportedMatch { headers: vec![(name, (*one).clone())], ..ImportedMatch::default() };
    if !hosts.is_empty() {
        condition.lists.push(("host", hosts.to_vec()));
    }
    Some(condition)
}

/// `if` with a condition that a route has, too, around a single `return`.
fn condition_of_if(
    d: &Directive,
    block: &ServerBlock<'_>,
    hosts: &[String],
    cluster: &mut ImportedCluster,
    context: &mut Context<'_>,
) {
    let text = d.args.join(" ");
    let text = text.trim_start_matches('(').trim_end_matches(')');
    let mut words = text.split_whitespace();
    let (variable, operator, value) = (words.next(), words.next(), words.collect::<Vec<_>>().join(" "));
    let value = value.trim_matches(['"', '\'']);
    if plain_to_https(block).is_some_and(|known| known.id == d.id) {
        return;
    }
    let condition = match (variable, operator) {
        (Some("$host" | "$http_host"), Some("=")) => Some(with_hosts("host", vec![value.to_owned()], hosts)),
        (Some("$request_method"), Some("=")) => Some(with_hosts("method", vec![value.to_owned()], hosts)),
        (Some("$request_method"), Some("~" | "~*")) => {
            let names = value.trim_matches(['^', '$', '(', ')']).split('|').map(str::to_owned).collect();
            Some(with_hosts("method", names, hosts))
        }
        (Some("$uri" | "$document_uri"), Some("=")) => {
            Some(with_hosts("path", vec![value.to_owned()], hosts))
        }
        (Some("$uri" | "$request_uri" | "$document_uri"), Some("~" | "~*")) => {
            pattern::of_regex(value).map(|patterns| with_hosts("path", patterns, hosts))
        }
        (Some(field), Some("~" | "~*")) if field.starts_with("$http_") => {
            field_condition(field, value, hosts)
        }
        _ => None,
    };
    let single = match d.body() {
        [single] if single.name == "return" => Some(single),
        _ => None,
    };
    let (Some(condition), Some(single)) = (condition, single) else {
        let why = "icm has no such condition";
        return context.report.cannot_block(d, why, "write a route or a rule of `access` with a condition");
    };
    let mut keys = KeySet::default();
    if answer(single, &block.names, &mut keys, context.report) {
        context.report.taken(d, "routes[].match");
        cluster.add_route(ImportedRoute { condition, keys, at: d.at.clone() });
    } else {
        context.report.part_of_another(d);
    }
}

/// A block that leads all requests of its names elsewhere, as a route with `host`. False if it is something else.
pub(super) fn whole_host(
    block: &ServerBlock<'_>,
    model: &mut ImportModel,
    context: &mut Context<'_>,
) -> bool {
    let is_root = |l: &&NginxLocation<'_>| l.path == "/";
    let in_root =
        block.locations.iter().find(is_root).and_then(|l| l.d.body().iter().find(|d| d.name == "return"));
    let Some(d) = block.named("return").next().or(in_root) else { return false };
    if block.names.is_empty() {
        let refuses = matches!(d.arg(0), "444" | "403" | "404" | "400" | "410" | "421");
        let serves_all = model.clusters.iter().any(|cluster| cluster.hostnames.is_empty());
        if refuses && !serves_all {
            let why = "icm refuses host names that no cluster has";
            context.report.not_needed_block(block.d, why);
            return true;
        }
        return false;
    }
    let place = model.clusters.iter().position(|cluster| d.args.iter().any(|arg| names_a_host(arg, cluster)));
    let Some(cluster) = model.clusters.get_mut(place.unwrap_or_default()) else { return false };
    let mut keys = KeySet::default();
    if !answer(d, &block.names, &mut keys, context.report) {
        return false;
    }
    if !cluster.hostnames.is_empty() {
        let new: Vec<String> =
            block.names.iter().filter(|n| !cluster.hostnames.contains(n)).cloned().collect();
        cluster.hostnames.extend(new);
    }
    let condition = ImportedMatch::of("host", block.names.clone());
    cluster.routes.insert(0, ImportedRoute { condition, keys, at: d.at.clone() });
    context.report.taken(block.d, "routes[].match.host");
    for inner in &block.locations {
        context.report.part_of_another(inner.d);
    }
    true
}

fn names_a_host(url: &str, cluster: &ImportedCluster) -> bool {
    cluster.hostnames.iter().any(|name| url.contains(&**name))
}
