//! Header fields that both programs set, add and remove, as `headers` of a cluster or a route. Which fields `icm` writes
//! itself is known here.

use super::directive::Directive;
use super::model::KeySet;
use super::report::ImportReport;
use super::scalar;

/// Fields that `icm` writes itself in each request to a server.
const OWN_REQUEST_FIELDS: [&str; 8] = [
    "x-real-ip",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-server",
    "x-forwarded-scheme",
    "forwarded",
];

/// The `headers` that are changed.
#[derive(Debug)]
pub(crate) struct FieldScope<'a> {
    pub keys: &'a mut KeySet,
    /// A route has no `host`, `hsts` and `request_id`.
    pub is_route: bool,
}

impl FieldScope<'_> {
    pub fn set(&mut self, d: &Directive, path: &[&str], value: String, report: &mut ImportReport) {
        let shown = path.join(".");
        let of_route = matches!(path.get(1), Some(&("set" | "remove" | "to_server")));
        if self.is_route && !of_route {
            let why = format!("a route has no {shown}: it holds for the whole cluster");
            return report.cannot(d, &why, "write it in the cluster if it suits all paths");
        }
        match self.keys.set(path, value, &d.at) {
            Ok(()) => report.taken(d, &shown),
            Err(other) => report.cannot(d, &format!("{shown} has one value, {other}"), "choose one value"),
        }
    }
}

/// A field of a request to a server.
pub(crate) fn to_server(
    d: &Directive,
    name: &str,
    value: &str,
    scope: &mut FieldScope<'_>,
    report: &mut ImportReport,
) {
    let lower = name.to_ascii_lowercase();
    match &*lower {
        "host" => match value {
            "$host" | "$http_host" | "$server_name" | "$host:$server_port" | "$host:$proxy_port" => {
                report.taken(d, "headers.host: client (the default)");
            }
            "$proxy_host" => scope.set(d, &["headers", "host"], "server".to_owned(), report),
            _ => report.cannot(
                d,
                "servers get the Host of the client, or their own",
                "headers.host: client or server",
            ),
        },
        name if OWN_REQUEST_FIELDS.contains(&name) => {
            report.not_needed(d, "icm sets it anew in each request")
        }
        "upgrade" | "connection" => report.not_needed(d, "WebSockets and connections need no setting"),
        "accept-encoding" if value.is_empty() => {
            remove(d, &["headers", "to_server", "remove"], name, scope, report)
        }
        name if name.starts_with("$ws") => connector(d, name, scope, report),
        _ if value == "$request_id" => scope.set(d, &["headers", "request_id"], scalar::scalar(name), report),
        _ if is_refused(&lower) => {
            report.cannot(d, "icm does not let this field be changed", "docs/headers.md")
        }
        "authorization" => {
            report.cannot(
                d,
                "a password belongs in no file that others read",
                "headers.to_server.set, by hand",
            );
        }
        _ if value.is_empty() => remove(d, &["headers", "to_server", "remove"], name, scope, report),
        _ if value.contains('$') => {
            report.cannot(d, "its value has variables of nginx", "headers.to_server.set takes fixed values");
        }
        _ => scope.set(d, &["headers", "to_server", "set", name], scalar::scalar(value), report),
    }
}

/// Stands for `connector_headers` of each server, until the servers are known.
pub(crate) const CONNECTOR_HEADERS: &str = "#connector_headers";

/// `$WSRA` and the like, which Domino believes.
fn connector(d: &Directive, name: &str, scope: &mut FieldScope<'_>, report: &mut ImportReport) {
    let why = "icm writes such fields itself, for servers that trust it";
    match name {
        "$wscc" | "$wscs" | "$wspr" => {
            report.cannot(d, why, "`connector_headers: client_certificate` of each server");
        }
        "$wsra" | "$wsrh" | "$wssn" | "$wssp" | "$wssc" | "$wsis" if !scope.is_route => {
            let _ = scope.keys.set(&[CONNECTOR_HEADERS], "safe", &d.at);
            report.taken(d, "servers.list[].connector_headers: safe");
        }
        "$wsra" | "$wsrh" | "$wssn" | "$wssp" | "$wssc" | "$wsis" => {
            report.cannot(d, why, "`connector_headers: safe` of each server");
        }
        _ => report.cannot(d, "icm never sends an identity in a header field", "docs/sessions.md"),
    }
}

/// Whether `icm` lets nobody change the field.
pub(crate) fn is_refused(name: &str) -> bool {
    const FIELDS: [&str; 20] = [
        "content-length",
        "content-encoding",
        "transfer-encoding",
        "te",
        "trailer",
        "keep-alive",
        "date",
        "expect",
        "cookie",
        "set-cookie",
        "via",
        "server",
        "host",
        "proxy",
        "proxy-connection",
        "connection",
        "upgrade",
        "http2-settings",
        "proxy-authorization",
        "max-forwards",
    ];
    FIELDS.contains(&name)
}

/// A field of an answer.
pub(crate) fn to_client(
    d: &Directive,
    name: &str,
    value: &str,
    scope: &mut FieldScope<'_>,
    report: &mut ImportReport,
) {
    let lower = name.to_ascii_lowercase();
    let status_of_cache = ["$upstream_cache_status", "$upstream_addr", "$upstream_response_time"];
    match &*lower {
        "strict-transport-security" if !value.contains('$') => {
            scope.set(d, &["headers", "hsts"], scalar::scalar(value), report);
        }
        "alt-svc" => report.cannot(d, "icm does not offer HTTP/3", ""),
        _ if status_of_cache.contains(&value) => {
            report.not_needed(d, "cached answers have X-Cache, and the access log names the server");
        }
        _ if value == "$request_id" => scope.set(d, &["headers", "request_id"], scalar::scalar(name), report),
        _ if is_refused(&lower) => {
            report.cannot(d, "icm does not let this field be changed", "docs/headers.md")
        }
        _ if value.contains('$') => {
            report.cannot(d, "its value has variables of nginx", "headers.set takes fixed values");
        }
        _ if value.is_empty() => remove(d, &["headers", "remove"], name, scope, report),
        _ => scope.set(d, &["headers", "set", name], scalar::scalar(value), report),
    }
}

/// Adds a field to a list of those that are removed.
pub(crate) fn remove(
    d: &Directive,
    path: &[&str],
    name: &str,
    scope: &mut FieldScope<'_>,
    report: &mut ImportReport,
) {
    scope.keys.push(path, &[name.to_owned()], &d.at);
    report.taken(d, &path.join("."));
}
