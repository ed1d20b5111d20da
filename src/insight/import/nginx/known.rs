//! Directives of nginx that no translator takes: why they are not needed, or what to do in place of them.

use super::super::directive::Directive;
use super::super::report::ImportReport;

/// Directives, by words that begin or are their names, and why `icm` needs nothing in their place.
const NOT_NEEDED: &[(&[&str], &str)] = &[
    (
        &[
            "sendfile",
            "tcp_",
            "aio",
            "directio",
            "open_file_cache",
            "types",
            "default_type",
            "output_buffers",
            "server_names_hash_",
            "variables_hash_",
            "map_hash_",
            "proxy_headers_hash_",
            "client_body_buffer_size",
            "client_header_buffer_size",
            "client_body_temp_path",
            "client_body_in_",
            "connection_pool_size",
            "request_pool_size",
            "reset_timedout_connection",
            "lingering_",
            "postpone_output",
            "read_ahead",
            "max_ranges",
            "subrequest_",
            "proxy_buffering",
            "proxy_buffers",
            "proxy_buffer_size",
            "proxy_busy_",
            "proxy_max_temp_",
            "proxy_temp_",
            "proxy_request_buffering",
            "proxy_http_version",
            "proxy_socket_",
            "proxy_force_ranges",
            "sendfile_max_chunk",
        ],
        "icm has no such setting: it streams",
    ),
    (
        &["proxy_redirect", "proxy_cookie_domain", "proxy_cookie_path"],
        "icm always translates Location and cookies back to the public name",
    ),
    (&["proxy_send_timeout", "send_timeout", "client_body_timeout"], "limits.min_rate ends slow transfers"),
    (&["gzip_", "brotli_"], "compression has no such setting"),
    (
        &["ssl_session_", "ssl_prefer_server_ciphers", "ssl_buffer_size", "ssl_dhparam", "ssl_verify_depth"],
        "icm decides it",
    ),
    (
        &[
            "proxy_ssl_server_name",
            "proxy_ssl_session_reuse",
            "proxy_ssl_protocols",
            "proxy_ssl_ciphers",
            "proxy_ssl_name",
            "proxy_ssl_verify_depth",
        ],
        "icm decides it",
    ),
    (
        &["log_format", "error_log", "log_not_found", "log_subrequest", "rewrite_log", "open_log_file_cache"],
        "icm has log formats of its own (docs/monitoring.md)",
    ),
    (
        &[
            "server_tokens",
            "etag",
            "if_modified_since",
            "msie_",
            "chunked_transfer_encoding",
            "charset",
            "index",
            "merge_slashes",
            "underscores_in_headers",
            "ignore_invalid_headers",
            "port_in_redirect",
            "absolute_redirect",
            "server_name_in_redirect",
            "keepalive_requests",
            "keepalive_disable",
            "keepalive_time",
            "http2",
            "real_ip_recursive",
            "resolver",
            "recursive_error_pages",
            "uninitialized_variable_warn",
            "proxy_intercept_errors",
            "proxy_ignore_client_abort",
            "limit_req_status",
            "limit_conn_status",
            "limit_req_log_level",
            "limit_conn_log_level",
            "limit_req_dry_run",
            "auth_delay",
            "proxy_pass_request_",
            "brotli_static",
            "gzip_static",
            "client_body",
        ],
        "icm needs no such setting",
    ),
    (
        &["stub_status", "status", "status_zone", "vhost_traffic_status", "api"],
        "the status page and metrics are on the admin listener (docs/admin.md)",
    ),
];

/// Directives that have no counterpart, the reason, and what to do.
const CANNOT: &[(&[&str], &str, &str)] = &[
    (
        &["map", "geo", "split_clients", "set", "geoip", "perl_set", "js_set"],
        "icm has no variables",
        "write conditions in routes and in `access`",
    ),
    (
        &["auth_basic", "auth_request", "auth_jwt", "oidc_"],
        "icm does not authenticate users: Domino does",
        "the ACL of the databases, or `access` by network",
    ),
    (&["satisfy"], "`access` rules are the only condition", "rules of `access`"),
    (
        &["sub_filter", "ssi", "xslt_", "addition_", "add_before_body", "add_after_body", "image_filter"],
        "icm does not change bodies",
        "keep nginx for this path, in front of icm",
    ),
    (
        &[
            "js_",
            "perl",
            "lua_",
            "init_by_lua",
            "access_by_lua",
            "content_by_lua",
            "rewrite_by_lua",
            "header_filter_by_lua",
            "set_by_lua",
            "log_by_lua",
            "ssl_certificate_by_lua",
            "balancer_by_lua",
        ],
        "icm runs no scripts",
        "keep nginx for this path, in front of icm",
    ),
    (
        &["modsecurity", "naxsi", "SecRules", "CheckRule", "app_protect"],
        "icm is no web application firewall",
        "keep it in front of icm, and name it in trusted_proxies",
    ),
    (
        &["error_page"],
        "nginx's pages have other names and no placeholders",
        "pages_dir: pages of your own (docs/front-door.md)",
    ),
    (
        &["proxy_cache_path", "proxy_cache_"],
        "icm keeps responses in memory, as long as their headers say",
        "cache.size, cache.stale (docs/compression-and-cache.md)",
    ),
    (&["proxy_no_cache"], "the headers of an answer say whether it is kept", "cache.paths"),
    (&["ssl_stapling", "ssl_trusted_certificate", "ssl_ocsp"], "icm does not staple OCSP answers", ""),
    (
        &["ssl_session_ticket_key"],
        "the file has another format",
        "tls.ticket_key_file: `openssl rand -hex 32` (docs/listeners.md)",
    ),
    (&["ssl_crl"], "icm reads no revocation lists", "issue client certificates for a short time"),
    (
        &["ssl_password_file"],
        "icm reads keys without a password",
        "`openssl pkey -in FILE -out KEY`, readable by its owner only",
    ),
    (
        &[
            "ssl_conf_command",
            "ssl_early_data",
            "ssl_reject_handshake",
            "ssl_engine",
            "ssl_certificate_cache",
        ],
        "icm has no such setting",
        "tls of the listener (docs/listeners.md)",
    ),
    (
        &["proxy_ssl_certificate", "proxy_ssl_conf_command", "proxy_ssl_crl", "proxy_ssl_password_file"],
        "icm has no certificate of its own for servers",
        "",
    ),
    (&["proxy_bind"], "it is a setting of the whole process", "pingora.client_bind_to_ipv4"),
    (
        &["fastcgi_", "uwsgi_", "scgi_", "grpc_", "memcached_"],
        "icm speaks HTTP to servers only",
        "keep nginx for this path",
    ),
    (
        &[
            "dav_",
            "autoindex",
            "try_files",
            "root",
            "alias",
            "empty_gif",
            "random_index",
            "mp4",
            "flv",
            "secure_link",
            "valid_referers",
        ],
        "files of the proxy are a route of their own",
        "a route with `files` (docs/front-door.md)",
    ),
    (&["limit_rate"], "icm does not slow answers down", ""),
    (&["mirror"], "icm does not send requests twice", ""),
    (
        &["limit_except"],
        "methods are a condition of `access`",
        "access: [ { deny: { method: [...], path_prefix: ... } } ]",
    ),
    (&["http3", "quic_"], "icm does not offer HTTP/3", ""),
    (&["proxy_method", "proxy_set_body"], "icm does not change requests", ""),
    (&["load_module"], "icm has no modules", ""),
    (&["proxy_protocol"], "servers get no PROXY protocol", "they read X-Forwarded-For"),
];

fn is_named(d: &Directive, words: &[&str]) -> bool {
    words.iter().any(|word| match word.strip_suffix('_') {
        Some(_) => d.name.starts_with(word),
        None => d.name == *word || d.name.strip_prefix(word).is_some_and(|rest| rest.starts_with('_')),
    })
}

/// A directive in `http` or further inside.
pub(super) fn everywhere(d: &Directive, report: &mut ImportReport) {
    match &*d.name {
        "types" | "charset_map" => return report.not_needed_block(d, "icm knows the types of files"),
        "if" => {
            let instead = "a route or a rule of `access` with a condition";
            return report.cannot_block(d, "icm has no such condition", instead);
        }
        "proxy_cache_path" => {
            let why = "icm keeps responses in memory, as long as their headers say";
            return report.cannot(d, why, "cache.size (256MiB by default)");
        }
        "ssl_session_ticket_key" => {
            let instead = "tls.ticket_key_file: `openssl rand -hex 32` (docs/listeners.md)";
            return report.cannot(d, "the file has another format", instead);
        }
        _ => {}
    }
    if let Some((_, why, instead)) = CANNOT.iter().find(|(words, ..)| is_named(d, words)) {
        report.cannot_block(d, why, instead);
    } else if let Some((_, why)) = NOT_NEEDED.iter().find(|(words, _)| is_named(d, words)) {
        report.not_needed_block(d, why);
    }
}

/// A directive outside all blocks.
pub(super) fn main_level(d: &Directive, report: &mut ImportReport) {
    match &*d.name {
        "events" => report.not_needed_block(d, "icm is one process with a thread for each core"),
        "worker_processes"
        | "worker_rlimit_nofile"
        | "worker_cpu_affinity"
        | "worker_priority"
        | "worker_shutdown_timeout"
        | "thread_pool"
        | "pcre_jit"
        | "timer_resolution"
        | "master_process" => {
            report.not_needed(d, "icm is one process with a thread for each core (pingora.threads)");
        }
        "user" | "pid" | "daemon" | "lock_file" | "env" | "working_directory" | "load_module" => {
            report.not_needed(d, "the service decides it (conf/systemd)");
        }
        "error_log" => report.not_needed(d, "messages go to standard error, which systemd keeps"),
        "stream" => report.cannot_block(
            d,
            "icm proxies HTTP only",
            "keep nginx or HAProxy for TCP (NRPC, LDAP, SMTP)",
        ),
        "mail" => report.cannot_block(d, "icm proxies HTTP only", "keep nginx for mail"),
        "include" => {}
        _ => everywhere(d, report),
    }
}

/// All that is in blocks, after the translators: the first statement about a directive counts.
pub(super) fn inside(directives: &[&Directive], report: &mut ImportReport) {
    for d in directives {
        for inner in d.body() {
            if !report.is_known(inner) {
                everywhere(inner, report);
            }
            inside(&[inner], report);
        }
    }
}
