//! Whole configurations in memory: what the file says, what the report says, and that neither panics nor loses a directive
//! whatever the input is.

use std::path::Path;

use super::files::MemoryTree;
use super::*;
use crate::config;

/// The file of a configuration of nginx, or of HAProxy, with the report.
pub(super) fn read(name: &str, text: &str) -> ImportedConfig {
    let files = MemoryTree::of(&[(name, text)]);
    import(Path::new(name), None, &files).unwrap_or_else(|error| panic!("{error}: {text}"))
}

pub(super) fn nginx(inside: &str) -> ImportedConfig {
    let text = format!(
        "http {{ upstream domino {{ server 10.0.0.11:80; server 10.0.0.12:80; }} server {{ listen 80; server_name \
         www.acme.example;\n{inside}\nlocation / {{ proxy_pass http://domino; }} }} }}"
    );
    read("/etc/nginx/nginx.conf", &text)
}

/// Sections in the text follow those of the frame.
pub(super) fn haproxy(inside: &str) -> ImportedConfig {
    let (inside, sections) = inside.split_once("\nbackend ").unwrap_or((inside, ""));
    let sections = if sections.is_empty() { String::new() } else { format!("backend {sections}\n") };
    let text = format!(
        "defaults\n mode http\nfrontend www\n bind :80\n{inside}\n default_backend domino\nbackend domino\n server web1 \
         10.0.0.11:80\n server web2 10.0.0.12:80\n{sections}"
    );
    read("/etc/haproxy/haproxy.cfg", &text)
}

/// The value of the first cluster, by a dotted path.
pub(super) fn of_cluster(imported: &ImportedConfig, path: &str) -> serde_json::Value {
    let yaml: serde_json::Value = serde_yaml::from_str(&imported.yaml).unwrap();
    let mut value = yaml["clusters"][0].clone();
    for part in path.split('.') {
        value = part.parse::<usize>().map_or_else(|_| value[part].clone(), |at| value[at].clone());
    }
    value
}

pub(super) fn reasons(imported: &ImportedConfig) -> Vec<String> {
    imported
        .with_outcome(ImportOutcome::Cannot)
        .map(|item| format!("{}: {}", item.directive, item.text))
        .collect()
}

/// Loads what was written.
fn check(imported: &ImportedConfig) -> config::Settings {
    match config::load_with(Path::new("icm.yaml"), &imported.yaml, &config::Disk) {
        Ok(loaded) => loaded.settings,
        Err(errors) => panic!("{errors}\n{}", imported.yaml),
    }
}

#[test]
fn the_kind_of_a_configuration_is_seen_by_its_content() {
    let cases = [
        ("http { server { listen 80; } }", Some(ImportFormat::Nginx)),
        ("server {\n  listen 80;\n}\n", Some(ImportFormat::Nginx)),
        ("global\n  daemon\nfrontend x\n  bind :80\n", Some(ImportFormat::Haproxy)),
        ("listen http-in\n bind *:80\n", Some(ImportFormat::Haproxy)),
        ("listeners:\n  - address: 0.0.0.0:80\n", None),
        ("", None),
    ];
    for (text, format) in cases {
        assert_eq!(ImportFormat::recognise(text), format, "{text}");
    }
}

#[test]
fn locations_become_routes_in_the_order_in_which_nginx_prefers_them() {
    let imported = nginx(
        "location /a/ { return 302 /x; } location /a/b/ { return 302 /y; } location = /a/b/ { return 302 /z; }
         location ~ \\.gif$ { return 302 /w; } location ^~ /img/ { return 302 /v; }",
    );
    let routes = of_cluster(&imported, "routes");
    let shown: Vec<String> = routes.as_array().unwrap().iter().map(|r| r["match"].to_string()).collect();
    assert_eq!(
        shown,
        [
            r#"{"path":"/a/b/"}"#,
            r#"{"path_prefix":"/img"}"#,
            r#"{"path":"*.gif"}"#,
            r#"{"path_prefix":"/a/b"}"#,
            r#"{"path_prefix":"/a"}"#
        ]
    );
    check(&imported);
}

#[test]
fn what_is_denied_by_path_is_denied_as_a_database() {
    let imported = nginx(
        "location /names.nsf { deny all; } location /log.nsf { return 404; } location /x/ { allow 10.0.0.0/8; deny all; }
         location /x/open/ { proxy_pass http://domino; }",
    );
    let access = of_cluster(&imported, "access").to_string();
    assert!(access.contains(r#"{"deny":{"database":"names.nsf"}}"#), "{access}");
    assert!(access.contains(r#"{"deny":{"database":"log.nsf"},"status":404}"#), "{access}");
    let (open, closed) = (
        access.find(r#"{"allow":{"path_prefix":"/x/open"}}"#),
        access.find(r#"{"deny":{"path_prefix":"/x"}}"#),
    );
    assert!(open.unwrap() < closed.unwrap(), "{access}");
    check(&imported);
}

#[test]
fn a_directive_further_inside_replaces_the_others() {
    let imported =
        nginx("proxy_read_timeout 10s; location /slow/ { proxy_read_timeout 5m; proxy_pass http://domino; }");
    assert_eq!(of_cluster(&imported, "failover.response_timeout"), "10s");
    assert_eq!(of_cluster(&imported, "routes.0.response_timeout"), "5m");
    check(&imported);
}

#[test]
fn other_servers_are_a_pool_and_some_of_the_servers_are_named() {
    let imported = nginx(
        "location /api/ { proxy_pass http://10.0.0.11:8880; } location /one/ { proxy_pass http://10.0.0.12:80; }",
    );
    assert_eq!(
        of_cluster(&imported, "pools.0.servers.list.0.name"),
        of_cluster(&imported, "servers.list.0.name")
    );
    let routes = of_cluster(&imported, "routes").to_string();
    assert!(
        routes.contains(r#""servers":["10.0.0.12"]"#) || routes.contains(r#""servers":["10.0.0.12""#),
        "{routes}"
    );
    check(&imported);
}

#[test]
fn what_has_no_counterpart_is_listed_with_its_line_and_what_to_do() {
    let imported = nginx(
        "auth_basic x;\nlocation /r/ { rewrite ^/r/(.*) /web/$1 break; proxy_pass http://domino; }\nfrobnicate on;",
    );
    let items: Vec<_> = imported.with_outcome(ImportOutcome::Cannot).collect();
    let shown: Vec<_> = items.iter().map(|i| (i.line, &*i.directive, i.instead.is_empty())).collect();
    assert_eq!(
        shown,
        [
            (2, "auth_basic x", false),
            (3, "rewrite ^/r/(.*) /web/$1 break", false),
            (4, "frobnicate on", false)
        ]
    );
    assert!(imported.yaml.contains("# nginx.conf:4: frobnicate on\n"), "{}", imported.yaml);
}

#[test]
fn a_value_that_icm_refuses_is_a_comment_and_listed() {
    let imported = nginx("add_header Proxy-Connection x; add_header X-Fine y; client_max_body_size 1k;");
    check(&imported);
    assert_eq!(of_cluster(&imported, "headers.set.X-Fine"), "y");
    let imported = haproxy(" timeout connect 400d\n http-response set-header X-Long \"\u{e9}\"");
    check(&imported);
    let reasons = reasons(&imported);
    assert!(reasons.iter().any(|r| r.contains("icm does not take this value")), "{reasons:?}");
    assert!(imported.yaml.contains("# connect_timeout: "), "{}", imported.yaml);
}

#[test]
fn includes_are_followed_below_the_directory_only_and_not_in_circles() {
    let files = MemoryTree::of(&[
        (
            "/etc/nginx/nginx.conf",
            "http { include /etc/nginx/conf.d/*.conf; include ../secret.conf; include none.conf; }",
        ),
        (
            "/etc/nginx/conf.d/www.conf",
            "include conf.d/www.conf;\nserver { location / { proxy_pass http://10.0.0.11; } }",
        ),
        ("/etc/secret.conf", "frobnicate on;"),
    ]);
    let imported = import(Path::new("/etc/nginx/nginx.conf"), None, &files).unwrap();
    let reasons = reasons(&imported);
    assert!(reasons.iter().any(|r| r.contains("it includes itself")), "{reasons:?}");
    assert!(reasons.iter().any(|r| r.starts_with("include none.conf: there is no such file")), "{reasons:?}");
    assert!(!imported.yaml.contains("frobnicate"), "{}", imported.yaml);
    assert!(imported.yaml.contains("conf.d/www.conf:2"), "{}", imported.yaml);
}

#[test]
fn conditions_of_haproxy_become_routes_and_rules() {
    let imported = haproxy(
        " redirect scheme https code 301 unless { ssl_fc }
 acl office src 10.0.0.0/8
 http-request deny if { path_beg /webadmin.nsf } !office
 http-request deny deny_status 404 if { path_end .ntf } || { method TRACE }
 http-request redirect location https://%[hdr(host)]/x code 301 if { path /y }
 use_backend api if { path_beg /api/ } { hdr(host) -i api.acme.example }
backend api
 server web1 10.0.0.11:8880",
    );
    let access = of_cluster(&imported, "access").to_string();
    assert_eq!(
        access,
        r#"[{"deny":{"path":"*.ntf"},"status":404},{"deny":{"method":"TRACE"},"status":404},{"allow":{"client":"10.0.0.0/8","database":"webadmin.nsf"}},{"deny":{"database":"webadmin.nsf"}}]"#
    );
    let routes = of_cluster(&imported, "routes").to_string();
    assert!(routes.contains(r#""redirect":{"status":301,"to":"https://{host}/x"}"#), "{routes}");
    let yaml: serde_json::Value = serde_yaml::from_str(&imported.yaml).unwrap();
    assert_eq!(yaml["listeners"][0]["redirect_to_https"], true, "{}", imported.yaml);
}

#[test]
fn a_backend_with_some_of_the_servers_is_a_route_with_its_timeout() {
    let imported = haproxy(
        " use_backend slow if { path_beg /traveler }\n use_backend gone if { path_beg /gone }
backend slow
 timeout server 30m
 server other 10.0.0.12:80
backend gone
 server-template x 3 x.example:80",
    );
    assert_eq!(of_cluster(&imported, "routes.0.servers.0"), "web2");
    assert_eq!(of_cluster(&imported, "routes.0.response_timeout"), "30m");
    assert!(reasons(&imported).iter().any(|r| r.starts_with("use_backend gone")), "{:?}", reasons(&imported));
    check(&imported);
}

#[test]
fn addresses_of_both_families_are_one_listener_and_connector_headers_are_of_each_server() {
    let imported = nginx("listen [::]:80; proxy_set_header $WSRA $remote_addr;");
    assert_eq!(check(&imported).listeners.len(), 1, "{}", imported.yaml);
    assert_eq!(of_cluster(&imported, "servers.list.1.connector_headers"), "safe");
}

#[test]
fn what_leads_to_no_servers_is_an_error() {
    let error = |name: &str, text: &str| {
        import(Path::new(name), None, &MemoryTree::of(&[(name, text)])).unwrap_err().to_string()
    };
    assert!(error("/n.conf", "http { server { listen 80; root /var/www; } }").contains("no servers"));
    assert!(error("/h.cfg", "frontend x\n mode tcp\n bind :80\n").contains("no servers"));
    assert!(error("/x", "something else").contains("--format"));
    assert!(error("/n.conf", "http { server {").starts_with("n.conf:1: "));
}

/// Every directive has an item, or belongs to one that has.
fn assert_complete(text: &str, imported: &ImportedConfig) {
    let loaded = config::load_with(Path::new("icm.yaml"), &imported.yaml, &config::Disk);
    if let Err(errors) = loaded {
        let is_file =
            |e: &config::ConfigError| e.message.contains("cannot read") || e.message.contains("no directory");
        assert!(errors.0.iter().all(is_file), "{errors}\n{text}\n{}", imported.yaml);
    }
    assert!(imported.items.iter().all(|item| !item.directive.contains('\n') && !item.text.contains('\n')));
}

proptest::proptest! {
    #[test]
    fn whatever_nginx_says_is_read_and_the_file_loads(lines in proptest::collection::vec(proptest::sample::select(NGINX_LINES.to_vec()), 0..12), garbage in "\\PC{0,12}") {
        let garbage: String = garbage.chars().filter(|c| !"{};\"'\\#".contains(*c)).collect();
        let text = format!("{}\nadd_header X-G \"{garbage}\"; location ~ {garbage}/q {{ return 302 /{garbage}; }}", lines.join("\n"));
        let imported = nginx(&text);
        assert_complete(&text, &imported);
    }

    #[test]
    fn whatever_haproxy_says_is_read_and_the_file_loads(lines in proptest::collection::vec(proptest::sample::select(HAPROXY_LINES.to_vec()), 0..12), garbage in "\\PC{0,12}") {
        let garbage: String = garbage.chars().filter(|c| !"\"'\\#".contains(*c)).collect();
        let text = format!("{}\n http-request set-header X-G \"{garbage}\"\n http-request redirect location /{garbage} if {{ path_beg /{garbage} }}", lines.join("\n"));
        let imported = haproxy(&text);
        assert_complete(&text, &imported);
    }

    #[test]
    fn no_text_makes_it_panic(text in "(\\PC|[\\n{};\"'\\\\# ]){0,120}") {
        for format in [ImportFormat::Nginx, ImportFormat::Haproxy] {
            let files = MemoryTree::of(&[("/x.conf", &text)]);
            let _ = import(Path::new("/x.conf"), Some(format), &files);
        }
    }
}

const NGINX_LINES: [&str; 34] = [
    "client_max_body_size 50m;",
    "client_max_body_size 0;",
    "proxy_read_timeout 0;",
    "proxy_read_timeout 1000d;",
    "proxy_next_upstream off;",
    "proxy_next_upstream error http_500 http_404;",
    "proxy_next_upstream_tries 99;",
    "large_client_header_buffers 8 512k;",
    "keepalive_timeout 0;",
    "gzip on;",
    "gzip_types text/css text/* bad;",
    "gzip_types *;",
    "gzip_min_length 0;",
    "add_header Strict-Transport-Security none;",
    "add_header Set-Cookie a=b;",
    "add_header X-Frame-Options DENY;",
    "proxy_hide_header X-Powered-By;",
    "proxy_hide_header X-Frame-Options;",
    "proxy_set_header X-Request-ID $request_id;",
    "proxy_set_header X-A '';",
    "proxy_set_header 'bad name' x;",
    "expires 1d;",
    "allow all;",
    "deny all;",
    "deny 10.0.0.1;",
    "if ($host = x.acme.example) { return 301 https://$host$request_uri; }",
    "if ($request_method ~ ^(TRACE|TRACK)$) { return 405; }",
    "rewrite ^/a/(.*)$ /b/$1 permanent;",
    "rewrite ^/c$ /d redirect;",
    "location /e { return 200 \"ok\"; }",
    "location /f/ { alias /nowhere/; }",
    "location ~* \\.(png|css)$ { expires max; proxy_cache z; proxy_pass http://domino; }",
    "location /g/ { proxy_pass https://10.0.0.9/g/; proxy_set_header Host $proxy_host; }",
    "location = /h { return 204; }",
];

const HAPROXY_LINES: [&str; 27] = [
    " timeout server 0",
    " timeout server 1h",
    " timeout http-request 5s",
    " retries 99",
    " retry-on 500 503 conn-failure",
    " cookie X insert maxidle 10m",
    " cookie DomAuthSessId prefix",
    " option httpchk HEAD /x\\ y",
    " option httpchk /ok",
    " http-check expect status 200-204",
    " http-check expect status 9",
    " maxconn 5000",
    " compression algo gzip",
    " compression type text/html bad",
    " acl a path_beg /a",
    " http-request deny if a",
    " http-request deny if !a",
    " http-request deny deny_status 404 if a { src 10.0.0.0/8 }",
    " http-request return status 200 content-type text/plain string ok if { path /r }",
    " http-request return status 304",
    " http-request set-header X-A b if a",
    " http-request del-header X-A",
    " http-response set-header Strict-Transport-Security off",
    " http-response add-header X-B c",
    " http-request cache-use c if { path_end .gif }",
    " monitor-uri /up",
    " stats enable",
];
