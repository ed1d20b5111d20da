//! Directives and sections of HAProxy that no translator takes: why they are not needed, or what to do in place of them.

use super::super::directive::Directive;
use super::super::report::ImportReport;
use super::ProxySection;

/// A section with nothing but the statistics page, the exporter, or a socket.
pub(super) fn is_for_administrators(section: &ProxySection<'_>) -> bool {
    let is_stats = |d: &Directive| {
        d.name == "stats" || d.name == "http-request" && d.arg(0) == "use-service" || d.name == "monitor-uri"
    };
    let leads = |d: &Directive| matches!(&*d.name, "server" | "use_backend" | "default_backend");
    section.own().iter().any(is_stats)
        && !section.own().iter().any(leads)
        && section.find("default_backend", "").is_none()
}

/// A section after the translators: the first statement about a directive counts.
pub(super) fn section(d: &Directive, report: &mut ImportReport) {
    match &*d.name {
        "global" => d.body().iter().for_each(|inner| of_global(inner, report)),
        "defaults" | "frontend" | "backend" | "listen" => {
            for inner in d.body() {
                of_proxy(inner, report);
            }
            if !report.is_known(d) {
                let why = "it leads to no servers over HTTP";
                report.cannot_block(d, why, "write a route with `redirect`, `respond` or `files`");
            }
        }
        "peers" => {
            report.not_needed_block(d, "the affinity cookie is signed, so there is nothing to synchronise")
        }
        "resolvers" => report.not_needed_block(d, "names are resolved by the system, for each connection"),
        "userlist" => report.cannot_block(
            d,
            "icm does not authenticate users: Domino does",
            "the ACL of the databases, or `access` by network",
        ),
        "mailers" => report.cannot_block(d, "icm sends no mail", "alerts from /metrics (docs/monitoring.md)"),
        "cache" => report.cannot_block(
            d,
            "icm keeps responses in memory, as long as their headers say",
            "cache.size (256MiB by default) and cache.max_object",
        ),
        "program" => report.cannot_block(d, "icm starts no programs", "a unit of systemd"),
        "http-errors" => report.cannot_block(d, "pages have other names here", "pages_dir"),
        "ring" | "log-forward" | "log-profile" | "traces" => {
            report.not_needed_block(d, "icm logs to standard output")
        }
        "acme" => {
            report.cannot_block(d, "icm has an ACME client of its own", "tls.acme (docs/certificates.md)")
        }
        "crt-store" => report.cannot_block(d, "certificates are named by their files", "tls.certificates"),
        "fcgi-app" => report.cannot_block(d, "icm speaks HTTP to servers only", ""),
        ".if" => {
            report.cannot_block(d, "HAProxy decides at its start which lines count", "write those that do")
        }
        name if name.starts_with('.') => report.cannot(d, "icm has no such instructions", ""),
        _ => {}
    }
}

fn of_global(d: &Directive, report: &mut ImportReport) {
    if report.is_known(d) {
        return;
    }
    match &*d.name {
        "log" | "log-send-hostname" | "log-tag" => {
            report.not_needed(d, "icm writes its access log to standard output (docs/monitoring.md)");
        }
        "chroot" | "user" | "group" | "uid" | "gid" | "daemon" | "pidfile" | "ulimit-n" | "node"
        | "description" | "master-worker" | "localpeer" | "setenv" | "presetenv" | "unsetenv"
        | "resetenv" | "set-dumpable" => {
            report.not_needed(d, "the service decides it (conf/systemd)");
        }
        "stats" => {
            report.not_needed(d, "the verbs of icm and the admin listener take its place (docs/admin.md)")
        }
        "nbproc"
        | "nbthread"
        | "cpu-map"
        | "maxpipes"
        | "spread-checks"
        | "numa-cpu-mapping"
        | "thread-groups"
        | "hard-stop-after"
        | "busy-polling"
        | "external-check"
        | "zero-warning"
        | "expose-experimental-directives" => {
            report.not_needed(d, "icm needs no such setting");
        }
        "crt-base" | "ca-base" => report.taken(d, "the paths of certificates"),
        name if name.starts_with("tune.") => report.not_needed(d, "icm needs no such setting"),
        name if name.starts_with("ssl-default-server") => report.not_needed(d, "icm decides it"),
        name if name.starts_with("ssl-") => report.not_needed(d, "icm decides it, or a line of `bind` does"),
        name if name.starts_with("lua-") => {
            report.cannot(d, "icm runs no scripts", "keep HAProxy for this path, in front of icm");
        }
        name if name.starts_with("maxconnrate")
            || name.starts_with("maxsess")
            || name.starts_with("maxssl") =>
        {
            report.cannot(
                d,
                "icm limits connections, not their rate",
                "limits.connections, limits.per_client",
            );
        }
        ".if" => {
            report.cannot_block(d, "HAProxy decides at its start which lines count", "write those that do")
        }
        _ => {}
    }
}

/// Directives of a section that `icm` does not need.
const NOT_NEEDED: [&str; 22] = [
    "http-reuse",
    "fullconn",
    "hash-type",
    "hash-balance-factor",
    "backlog",
    "id",
    "description",
    "enabled",
    "email-alert",
    "load-server-state-from-file",
    "server-state-file-name",
    "max-keep-alive-queue",
    "unique-id-format",
    "log-tag",
    "bind-process",
    "grace",
    "guid",
    "max-session-srv-conns",
    "dynamic-cookie-key",
    "clitcpka-cnt",
    "capture",
    "declare",
];

fn of_proxy(d: &Directive, report: &mut ImportReport) {
    if report.is_known(d) {
        return;
    }
    match &*d.name {
        "mode" if d.arg(0) == "http" => report.not_needed(d, "icm proxies HTTP"),
        "mode" => report.not_needed(d, "each section has its own mode, or is listed"),
        "stats" | "monitor-net" | "monitor-uri" | "monitor" => {
            report.not_needed(d, "the status page and metrics are on the admin listener (docs/admin.md)");
        }
        "use-server" | "ignore-persist" | "force-persist" => {
            report.cannot(d, "icm chooses among servers with a replica", "a route with `servers`");
        }
        "unique-id-header" => {
            report.cannot(d, "it is a key of the cluster", "headers.request_id: X-Request-ID")
        }
        "errorfile" | "errorfiles" | "http-error" => {
            report.cannot(d, "pages have other names and placeholders here", "pages_dir: pages of your own");
        }
        "errorloc" | "errorloc302" | "errorloc303" => {
            report.cannot(d, "an error is a page, no redirect", "pages_dir: pages of your own");
        }
        "http-request" | "http-response" | "tcp-request" | "tcp-response" | "http-after-response" => {
            of_request(d, d.arg(0), report);
        }
        "filter" => report.cannot(d, "icm has no filters", "keep HAProxy for this, in front of icm"),
        "rate-limit" => {
            report.cannot(d, "icm limits clients, not sessions", "limits.per_client, limits.connections")
        }
        "acl" => report.not_needed(d, "no rule that was taken over uses it"),
        "server" | "default-server" | "bind" => report.not_needed(d, "its section is reported"),
        "dispatch" => report.cannot(d, "a server is checked and has a name", "servers.list"),
        "source" => report.cannot(d, "it is a setting of the whole process", "pingora.client_bind_to_ipv4"),
        "persist" | "external-check" => report.cannot(d, "icm has no such thing", ""),
        ".if" => {
            report.cannot_block(d, "HAProxy decides at its start which lines count", "write those that do")
        }
        name if NOT_NEEDED.contains(&name) => report.not_needed(d, "icm needs no such setting"),
        _ => {}
    }
}

/// Rules that change a request or look at it.
/// A rule that refuses requests, in a section that is no cluster of its own.
fn lost_rule(d: &Directive, report: &mut ImportReport) {
    let why = "its section is no cluster here, so this restricts nothing";
    report.cannot(d, why, "a rule of `access` in the cluster, for the paths that lead to these servers");
}

fn of_request(d: &Directive, action: &str, report: &mut ImportReport) {
    let action = action.split('(').next().unwrap_or(action);
    match action {
        "set-path" | "replace-path" | "set-uri" | "replace-uri" | "set-query" | "set-pathq"
        | "replace-pathq" | "set-method" => {
            let instead = "a Web Site Rule of Domino and a route with `database` (docs/front-door.md)";
            report.cannot(d, "icm does not change the URL on the way to the servers", instead);
        }
        "replace-header" | "replace-value" => {
            let why = "Location and cookies are always translated; other fields take fixed values";
            report.cannot(d, why, "headers.set");
        }
        "connection" | "content" | "session" if d.args.iter().any(|arg| arg == "reject") => {
            lost_rule(d, report)
        }
        "deny" | "reject" | "tarpit" | "silent-drop" => lost_rule(d, report),
        "auth" => {
            report.cannot(d, "icm does not authenticate users: Domino does", "the ACL of the databases")
        }
        "set-src" | "set-dst" | "set-src-port" => {
            report.cannot(d, "proxies in front are named by their addresses", "listeners[].trusted_proxies");
        }
        "lua" | "use-service" | "send-spoe-group" => {
            report.cannot(d, "icm runs no scripts", "keep HAProxy for this path, in front of icm");
        }
        "track-sc0" | "track-sc1" | "track-sc2" | "capture" | "set-log-level" | "set-nice" | "set-tos"
        | "set-mark" | "inspect-delay" | "sc-inc-gpc0" | "wait-for-handshake" | "cache-store"
        | "normalize-uri" => {
            report.not_needed(d, "icm needs no such rule");
        }
        "connection" | "content" | "session" => report.not_needed(d, "only rules that reject are taken over"),
        "allow" | "accept" => {
            report.cannot(d, "rules that allow end the search", "`allow` in `access`, in its place")
        }
        "set-var"
        | "unset-var"
        | "set-map"
        | "add-acl"
        | "del-acl"
        | "del-map"
        | "set-timeout"
        | "disable-l7-retry"
        | "early-hint"
        | "set-status"
        | "wait-for-body"
        | "set-priority-class"
        | "set-priority-offset" => {
            report.cannot(d, "icm has no such action", "write a route with a condition");
        }
        lua if lua.starts_with("lua.") => {
            report.cannot(d, "icm runs no scripts", "keep HAProxy for this path, in front of icm");
        }
        _ => {}
    }
}
