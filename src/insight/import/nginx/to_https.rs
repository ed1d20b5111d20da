//! Blocks that only send browsers to https, which is a key of the listener. They are found before a block is looked at
//! otherwise.

use super::super::directive::Directive;
use super::super::report::ImportReport;

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

/// Whether a directive answers with the same URL over https.
pub(super) fn leads_to_https(d: &Directive, names: &[String]) -> bool {
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
