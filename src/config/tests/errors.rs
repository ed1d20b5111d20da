//! Errors have file, line, column, key and a hint.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::super::{ConfigErrors, load as load_file};
use super::support::{FILE, Virtual, certificate, cluster, load, load_from, top};

/// A text is wrong at one place: line, column, key, parts of what is shown.
#[track_caller]
fn wrong(text: &str, line: usize, column: usize, key: &str, parts: &[&str]) {
    let errors = match load(text) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(errors) => errors,
    };
    let shown = ConfigErrors(errors.clone()).to_string();
    assert_eq!(errors.len(), 1, "{shown}\n{text}");
    let error = &errors[0];
    assert_eq!((error.line, error.column, error.key.as_str()), (line, column, key), "{shown}");
    for part in parts {
        assert!(shown.contains(part), "`{part}` is not in:\n{shown}");
    }
    assert!(shown.starts_with(&format!("{FILE}:{line}:{column}: ")), "{shown}");
}

/// One line of a cluster, line 8 of the file, is wrong.
#[track_caller]
fn wrong_in_cluster(line: &str, column: usize, key: &str, parts: &[&str]) {
    wrong(&cluster(&format!("    {line}\n")), 8, column, &format!("clusters[0].{key}"), parts);
}

/// One line before the rest is wrong.
#[track_caller]
fn wrong_on_top(line: &str, column: usize, key: &str, parts: &[&str]) {
    wrong(&top(line), 1, column, key, parts);
}

/// In place of the good server.
#[track_caller]
fn wrong_server(server: &str, column: usize, key: &str, parts: &[&str]) {
    let text = cluster("").replace("{ name: Web1/Acme, hostname: w1.example, http: 10.0.0.11:80 }", server);
    wrong(&text, 6, column, &format!("clusters[0].servers.list[0]{key}"), parts);
}

/// In place of the good directory.
#[track_caller]
fn wrong_directory(directory: &str, column: usize, key: &str, parts: &[&str]) {
    let text = cluster("").replace("{ source: cldbdir }", directory);
    wrong(&text, 7, column, &format!("clusters[0].directory{key}"), parts);
}

#[test]
fn an_unknown_key_comes_with_a_suggestion_and_a_caret() {
    let text = cluster("    probe:\n      intervall: 5s\n");
    let errors = load(&text).unwrap_err();
    assert_eq!(
        errors[0].to_string(),
        "icm.yaml:9:7: clusters[0].probe.intervall: unknown key, did you mean `interval`? known here: \
         path, host, interval, timeout, healthy_after, unreachable_after, expected_statuses\n\
         9 |       intervall: 5s\n\
         \x20 |       ^"
    );
}

#[test]
fn unknown_keys_are_errors_everywhere() {
    wrong_on_top("listenerz: []", 1, "listenerz", &["did you mean `listeners`?"]);
    wrong_on_top("failover: {}", 1, "failover", &["it belongs in `clusters[]`"]);
    wrong_on_top("12: {}", 1, "12", &["unknown key"]);
    wrong_on_top(
        "limits: { per_client: { conections: 1 } }",
        25,
        "limits.per_client.conections",
        &["`connections`"],
    );
    wrong_on_top("admin: { token: x }", 10, "admin.token", &["`token_file`"]);
    wrong_in_cluster("mod: proxy", 5, "mod", &["`mode`"]);
    wrong_in_cluster("affinity: { sticky: yes }", 17, "affinity.sticky", &["known here: mode, cookie"]);
    wrong_directory("{ source: cldbdir, colums: {} }", 35, ".colums", &["`columns`"]);
    wrong_server("{ name: A/B, http: h, wieght: 2 }", 33, ".wieght", &["`weight`"]);
}

#[test]
fn an_old_key_is_an_error_that_names_the_new_one() {
    wrong_on_top("pages: /etc/icm/pages", 1, "pages", &["renamed", "write `pages_dir`"]);
    wrong_in_cluster("probe: { ok: [200] }", 14, "probe.ok", &["write `expected_statuses`"]);
    wrong_in_cluster(
        "failover: { acting_commands: [X] }",
        17,
        "failover.acting_commands",
        &["write `unsafe_commands`"],
    );
    wrong_in_cluster(
        "limits: { max_connections_per_server: 1 }",
        15,
        "limits.max_connections_per_server",
        &["write `max_requests_in_flight_per_server`"],
    );
}

#[test]
fn the_keys_of_pingora_are_those_that_pingora_has() {
    wrong_on_top("pingora: { thread: 2 }", 12, "pingora.thread", &["did you mean `threads`?"]);
    wrong_on_top("pingora: { refresh: 1s }", 12, "pingora.refresh", &["get_configuration_from"]);
    wrong_on_top("pingora: { xyzzy: 1 }", 12, "pingora.xyzzy", &["known here: ", "threads"]);
    wrong_on_top("pingora: { threads: two }", 21, "pingora.threads", &["expected usize"]);
    wrong_on_top("pingora: { threads: 0 }", 21, "pingora.threads", &["1 to 1024"]);
    wrong_on_top(
        "pingora: { max_blocking_threads: 0 }",
        34,
        "pingora.max_blocking_threads",
        &["greater than zero"],
    );
    wrong_on_top("pingora: { daemon: false }", 12, "pingora.daemon", &["foreground"]);
    wrong_on_top("pingora: { max_retries: 3 }", 12, "pingora.max_retries", &["failover.attempts"]);
    wrong_on_top(
        "pingora: { client_bind_to_ipv4: [x] }",
        34,
        "pingora.client_bind_to_ipv4[0]",
        &["not an address"],
    );
    let conf =
        load(&top("pingora: { threads: 3, upgrade_sock: /run/u.sock, grace_period_seconds: 80 }")).unwrap();
    let conf = conf.settings.pingora;
    assert_eq!((conf.threads, conf.upgrade_sock.as_str()), (3, "/run/u.sock"));
    assert_eq!(conf.grace_period_seconds, Some(80));
}

#[test]
fn durations_need_a_unit() {
    wrong_in_cluster("probe: { interval: 5 }", 24, "probe.interval", &["no unit", "write `5s`"]);
    wrong_in_cluster("probe: { interval: 5sec }", 24, "probe.interval", &["ms, s, m, h or d"]);
    wrong_in_cluster("probe: { interval: 0s }", 24, "probe.interval", &["must not be zero"]);
    wrong_in_cluster("probe: { interval: 900d }", 24, "probe.interval", &["too long"]);
    wrong_in_cluster("probe: { interval: -5s }", 24, "probe.interval", &["not a duration"]);
    wrong_in_cluster("probe: { interval: 1.5s }", 24, "probe.interval", &["not a duration"]);
    wrong_in_cluster("probe: { interval: 99999999999999999999s }", 24, "probe.interval", &["not a duration"]);
    wrong_in_cluster("probe: { interval: }", 14, "probe.interval", &["has no value"]);
    wrong_in_cluster("probe: { interval: [5s] }", 24, "probe.interval", &["is a list"]);
    wrong_in_cluster("affinity: { fail_back: sometimes }", 28, "affinity.fail_back", &["not a duration"]);
    for (text, ms) in [("500ms", 500), ("1m30s", 90_000), ("7d", 604_800_000), ("\"2 h\"", 7_200_000)] {
        let loaded = load(&cluster(&format!("    probe: {{ interval: {text} }}\n"))).unwrap();
        assert_eq!(loaded.settings.clusters[0].probe.interval.as_millis(), ms, "{text}");
    }
}

#[test]
fn sizes_and_percentages_need_a_unit() {
    wrong_on_top(
        "limits: { header_bytes: 65536 }",
        25,
        "limits.header_bytes",
        &["no unit", "write `65536B`"],
    );
    wrong_on_top("limits: { header_bytes: 64KB }", 25, "limits.header_bytes", &["write `64KiB`"]);
    wrong_on_top("limits: { header_bytes: 0 }", 25, "limits.header_bytes", &["at least 1B"]);
    wrong_on_top("limits: { min_rate: 99999999999GiB }", 21, "limits.min_rate", &["too large"]);
    wrong_in_cluster("failover: { retry_budget: 0.2 }", 31, "failover.retry_budget", &["like `20%`"]);
    wrong_in_cluster("failover: { retry_budget: 20 }", 31, "failover.retry_budget", &["write `20%`"]);
    wrong_in_cluster("failover: { retry_budget: 101% }", 31, "failover.retry_budget", &["0% to 100%"]);
    let s = load(&cluster("    limits: { request_body: 0 }\n")).unwrap().settings;
    assert_eq!(s.clusters[0].limits.request_body, 0);
}

#[test]
fn words_and_numbers_are_checked() {
    wrong_in_cluster("mode: proxi", 11, "mode", &["did you mean `proxy`? write proxy | redirect"]);
    wrong_in_cluster("upstream_scheme: ftp", 22, "upstream_scheme", &["write http | https | same"]);
    wrong_in_cluster("forwarded_path: server", 21, "forwarded_path", &["write client | directory"]);
    wrong_in_cluster("mode: off", 11, "mode", &["not possible here"]);
    wrong_in_cluster("failover: { attempts: 0 }", 27, "failover.attempts", &["out of range"]);
    wrong_in_cluster("failover: { attempts: many }", 27, "failover.attempts", &["not a whole number"]);
    wrong_in_cluster(
        "failover: { retry_statuses: [404] }",
        34,
        "failover.retry_statuses[0]",
        &["500 to 599"],
    );
    wrong_in_cluster("failover: { retry_methods: [get] }", 33, "failover.retry_methods[0]", &["write `GET`"]);
    wrong_in_cluster(
        "failover: { retry_after_timeout: maybe }",
        38,
        "failover.retry_after_timeout",
        &["true nor false"],
    );
    wrong_in_cluster("failover: { save_check: head }", 29, "failover.save_check", &["on | off"]);
    wrong_in_cluster(
        "probe: { expected_statuses: [499-200] }",
        34,
        "probe.expected_statuses[0]",
        &["write `200-499`"],
    );
    wrong_in_cluster("probe: { expected_statuses: [99] }", 34, "probe.expected_statuses[0]", &["100 to 599"]);
    wrong_in_cluster("probe: { path: icm }", 20, "probe.path", &["write `/icm`"]);
    wrong_in_cluster("affinity: { same_site: None }", 28, "affinity.same_site", &["lax | strict | none"]);
    wrong_in_cluster(
        "affinity: { same_site: none }",
        28,
        "affinity.same_site",
        &["needs TLS", "trusted_proxies"],
    );
    wrong_in_cluster(
        "affinity: { session_cookie_style: prefix }",
        39,
        "affinity.session_cookie_style",
        &["name | value"],
    );
    wrong_in_cluster(
        "affinity: { cookie: A, session_cookies: [a-login] }",
        25,
        "affinity.cookie",
        &["`A-login` is one of session_cookies"],
    );
    wrong_in_cluster(
        "affinity: { cookie: A, session_cookies: [a-write] }",
        25,
        "affinity.cookie",
        &["`A-write` is one of session_cookies"],
    );
    wrong_in_cluster("affinity: { cookie: \"a b\" }", 25, "affinity.cookie", &["not a cookie name"]);
    wrong_in_cluster("headers: { hsts: \"1\" }", 22, "headers.hsts", &["max-age=31536000"]);
    wrong_in_cluster("headers: { via: true }", 21, "headers.via", &["via: icm"]);
    wrong_in_cluster("mode: !x proxy", 11, "mode", &["YAML tags"]);
}

#[test]
fn availability_sources_are_checked() {
    wrong_in_cluster("availability: { source: observd }", 29, "availability.source", &["`observed`"]);
    wrong_in_cluster("availability: { range: 31 }", 28, "availability.range", &["1 to 30"]);
    wrong_in_cluster("availability: { source: console }", 5, "availability.url", &["is missing"]);
    wrong_in_cluster("availability: { source: agent_check }", 5, "availability.port", &["is missing"]);
    wrong_in_cluster(
        "availability: { url: \"http://x/stat\" }",
        21,
        "availability.url",
        &["source: console"],
    );
    let url = "availability: { source: console, url: \"http://{server}/\" }";
    wrong_in_cluster(url, 43, "availability.url", &["`{server}` is not a placeholder", "{hostname}"]);
    let url = "availability: [{ source: prometheus, url: \"{address}/metrics\" }]";
    wrong_in_cluster(url, 47, "availability[0].url", &["scheme is missing"]);
}

#[test]
fn host_patterns_are_checked() {
    wrong_in_cluster("hostnames: [\"*\"]", 17, "hostnames[0]", &["leave `hostnames` out"]);
    wrong_in_cluster("hostnames: [www.*.example]", 17, "hostnames[0]", &["only for the first part"]);
    wrong_in_cluster("hostnames: [\"a.example:443\"]", 17, "hostnames[0]", &["write `a.example`"]);
    wrong_in_cluster("hostnames: [\"https://a.example\"]", 17, "hostnames[0]", &["without scheme"]);
    wrong_in_cluster("hostnames: [a..b]", 17, "hostnames[0]", &["not a host name"]);
    wrong_in_cluster("hostnames: [münchen.example]", 17, "hostnames[0]", &["xn--"]);
}

#[test]
fn servers_are_checked() {
    wrong_server("{ name: Web1/Acme }", 11, "", &["neither `http` nor `https`"]);
    wrong_server("{ http: h }", 11, ".name", &["is missing"]);
    wrong_server("{ name: Web1//Acme, http: h }", 19, ".name", &["not a Domino server name"]);
    wrong_server("{ name: A/B, http: 10.0.0.300 }", 30, ".http", &["neither an address nor a host name"]);
    wrong_server("{ name: A/B, http: h:99999 }", 30, ".http", &["not a port"]);
    wrong_server("{ name: A/B, http: h:0 }", 30, ".http", &["port 0"]);
    wrong_server("{ name: A/B, http: \"http://h:81/x\" }", 30, ".http", &["write `h:81`"]);
    wrong_server("{ name: A/B, http: \"::1\" }", 30, ".http", &["write `[::1]:80`"]);
    wrong_server("{ name: A/B, http: h, weight: 0 }", 41, ".weight", &["server_restricted"]);
    wrong_server("{ name: A/B, http: h, weight: 1001 }", 41, ".weight", &["1 to 1000"]);
    wrong_server("{ name: A/B, http: h, server_restricted: 5 }", 52, ".server_restricted", &["0 to 4"]);
    wrong_server(
        "{ name: A/B, http: h, server_availability_threshold: 101 }",
        64,
        ".server_availability_threshold",
        &["0 to 100"],
    );
    let twice = "{ name: Web1/Acme, http: h }\n        - { name: cn=WEB1/o=acme, http: i }";
    let text = cluster("").replace("{ name: Web1/Acme, hostname: w1.example, http: 10.0.0.11:80 }", twice);
    wrong(&text, 7, 19, "clusters[0].servers.list[1].name", &["same server as clusters[0].servers.list[0]"]);
}

#[test]
fn a_directory_may_name_only_servers_of_the_cluster() {
    let databases = |replica: &str| {
        format!("{{ databases: [{{ path: a.nsf, replica_id: C1257A000041D2E0, replicas: [{replica}] }}] }}")
    };
    let key = ".databases[0].replicas[0]";
    wrong_directory(
        &databases("{ server: Web2/Acme }"),
        96,
        &format!("{key}.server"),
        &["did you mean `Web1/Acme`?"],
    );
    wrong_directory(
        &databases("{ server: Web1 }"),
        96,
        &format!("{key}.server"),
        &["did you mean `Web1/Acme`?"],
    );
    let mark = "{ server: Web1/Acme, mark: gone }";
    wrong_directory(&databases(mark), 113, &format!("{key}.mark"), &["in_service | out_of_service"]);
    wrong_directory(&databases(""), 75, ".databases[0].replicas", &["no replica"]);
    let id = "{ databases: [{ path: a, replica_id: C1257A, replicas: [{ server: Web1/Acme }] }] }";
    wrong_directory(id, 53, ".databases[0].replica_id", &["16 hex digits"]);
    wrong_directory("{ source: static }", 5, ".databases", &["is missing"]);
    wrong_directory("{ source: cldbdir, columns: { path: -1 } }", 52, ".columns.path", &["not a column"]);
}

#[test]
fn a_password_in_clear_text_needs_allow_plaintext() {
    let login = "{ auth: { basic: { user: A, password_file: /etc/icm/password } } }";
    wrong_directory(login, 18, ".auth", &["10.0.0.11:80 in clear text", "allow_plaintext: true"]);
    wrong_directory(&login.replace("basic", "session"), 18, ".auth", &["in clear text"]);
    let text = cluster("").replace("{ source: cldbdir }", login);
    for good in [
        text.replace("10.0.0.11", "127.0.0.1"),
        text.replace("} } }", "}, allow_plaintext: true } }"),
        text.replace("http: 10", "https: 10") + "    upstream_scheme: https\n",
        text.replace(":80 }", ":80, https: h }") + "    upstream_scheme: same\n",
    ] {
        load(&good).unwrap_or_else(|e| panic!("{e:?}\n{good}"));
    }
    let same = text.clone() + "    upstream_scheme: same\n";
    wrong(&same, 7, 18, "clusters[0].directory.auth", &["in clear text"]);
    let names = "listeners: [{ address: 127.0.0.1:80 }]\nclusters:\n  - name: A\n    directory: {}\n    servers: { source: names, from: [http://h], auth: { session: { user: A, password_file: /etc/icm/password } } }\n";
    wrong(names, 5, 49, "clusters[0].servers.auth", &["h:80 in clear text"]);
    load(&names.replace("http:", "https:")).unwrap();
}

#[test]
fn logins_are_checked() {
    let both = "{ auth: { basic: { user: A, password_file: /etc/icm/password }, session: { user: A, password_file: /etc/icm/password }, allow_plaintext: true } }";
    wrong_directory(both, 80, ".auth.session", &["together with `basic`"]);
    wrong_directory("{ auth: { allow_plaintext: true } }", 18, ".auth", &["how to log in"]);
    let missing = "{ auth: { basic: { user: A, password_file: /etc/icm/nothing } } }";
    wrong_directory(missing, 59, ".auth.basic.password_file", &["cannot read /etc/icm/nothing"]);
}

#[test]
fn listeners_and_admin_are_checked() {
    let good = cluster("");
    let listener = |text: &str| good.replace("listeners: [{ address: 127.0.0.1:8080 }]", text);
    wrong(&listener("listeners: []"), 1, 1, "listeners", &["no listener"]);
    wrong(&listener("listeners:"), 1, 1, "listeners", &["no listener"]);
    wrong(&listener("state_dir: /x"), 1, 1, "listeners", &["no listener"]);
    wrong(&listener("listeners: [{}]"), 1, 13, "listeners[0].address", &["is missing"]);
    wrong(&listener("listeners: [{ address: 8080 }]"), 1, 24, "listeners[0].address", &["0.0.0.0:8080"]);
    wrong(&listener("listeners: [{ address: 0.0.0.0 }]"), 1, 24, "listeners[0].address", &["has no port"]);
    wrong(
        &listener("listeners: [{ address: \"nowhere:80\" }]"),
        1,
        24,
        "listeners[0].address",
        &["cannot be resolved"],
    );
    wrong(
        &listener("listeners: [{ address: 127.0.0.1:8080 }, { address: \"localhost:8080\" }]"),
        1,
        53,
        "listeners[1].address",
        &["already taken by listeners[0].address"],
    );
    wrong(
        &listener("listeners: [{ address: 127.0.0.1:8098 }]"),
        1,
        1,
        "admin.address",
        &["already taken by listeners[0].address"],
    );
    wrong(
        &listener("listeners: [{ address: 127.0.0.1:80, trusted_proxies: [10.0.0.0/33] }]"),
        1,
        56,
        "listeners[0].trusted_proxies[0]",
        &["not a network"],
    );
    wrong_on_top("admin: { address: 0.0.0.0:8098 }", 19, "admin.address", &["not loopback", "token_file"]);
    load(&top("admin: { address: 0.0.0.0:8098, token_file: /etc/icm/token }")).unwrap();
    for wrong in ["50ms", "2m", "0"] {
        let line = format!("admin: {{ history_interval: {wrong} }}");
        wrong_on_top(&line, 28, "admin.history_interval", &[]);
    }
    wrong_on_top("statpub: { token_file: /etc/icm/token }", 1, "statpub.address", &["is missing"]);
    wrong_on_top("pages_dir: /nowhere", 12, "pages_dir", &["no directory /nowhere"]);
}

#[test]
fn clusters_are_needed_unless_another_icm_has_them() {
    let listener = "listeners: [{ address: 127.0.0.1:80 }]\n";
    wrong(listener, 1, 1, "clusters", &["no cluster"]);
    wrong(&format!("{listener}clusters: []\n"), 2, 1, "clusters", &["no cluster"]);
    wrong(&format!("{listener}clusters: {{ name: A }}\n"), 2, 11, "clusters", &["a list is expected"]);
    wrong(
        &cluster("  - name: a\n    servers: { list: [{ name: X/Y, http: h }] }\n    directory: {}\n"),
        8,
        11,
        "clusters[1].name",
        &["name of clusters[0]"],
    );
    let follow = "get_configuration_from: { url: \"https://icm1/config\" }\n";
    let settings = load(&format!("{listener}{follow}")).unwrap().settings;
    assert!(settings.clusters.is_empty() && settings.follow.is_some());
    wrong_on_top(follow.trim(), 1, "get_configuration_from", &["together with `clusters`"]);
    for token in ["", ", token_file: /etc/icm/token"] {
        let plain = format!("get_configuration_from: {{ url: \"http://icm1/config\"{token} }}\n");
        wrong(&format!("{listener}{plain}"), 2, 32, "get_configuration_from.url", &["in clear text"]);
    }
    let near = "get_configuration_from: { url: \"http://127.0.0.1:8098/config\" }\n";
    let loaded = load(&format!("{listener}{near}")).unwrap();
    assert!(loaded.warnings.iter().any(|w| w.text.contains("has no `cache`")), "{:?}", loaded.warnings);
    load(&format!("{listener}{}", near.replace("127.0.0.1", "[::1]"))).unwrap();
    let missing: Vec<_> = load(&format!("{listener}clusters: [{{ }}]\n"))
        .unwrap_err()
        .into_iter()
        .map(|e| (e.line, e.column, e.key))
        .collect();
    let at = |key: &str| (2, 12, format!("clusters[0].{key}"));
    assert_eq!(missing, [at("name"), at("servers"), at("directory")]);
}

#[test]
fn a_syntax_error_has_its_position() {
    wrong("listeners: [\n", 2, 1, "", &["is not YAML"]);
    wrong("a:\n\tb: 1\n", 2, 1, "", &["does not allow tabs"]);
    wrong("", 1, 1, "", &["is empty"]);
    wrong("- a\n", 1, 1, "", &["is a list"]);
    wrong(&(cluster("") + "---\nx: 1\n"), 8, 1, "", &["second YAML document"]);
    wrong(
        &cluster("    mode: proxy\n    mode: proxy\n"),
        9,
        5,
        "clusters[0].mode",
        &["is there twice", "first in line 8"],
    );
    wrong(&cluster("    probe: { <<: 5 }\n"), 8, 14, "", &["merge key"]);
}

#[test]
fn all_errors_come_in_one_run_in_the_order_of_the_lines() {
    let text = "pingora: { thread: 1 }\nlisteners: [{ address: x }]\nlimits: { uri_bytes: 8 }\nclusters:\n  - servers: { list: [{ name: A, http: 1 }] }\n    probe: { interval: 5, timeout: x, okay: 1 }\n    directory: { source: file, file: /none.csv }\n";
    let errors = load(text).unwrap_err();
    let lines: Vec<usize> = errors.iter().map(|e| e.line).collect();
    assert_eq!(lines, [1, 2, 3, 5, 5, 6, 6, 6, 7], "{}", ConfigErrors(errors.clone()));
    let json = ConfigErrors(errors).to_json();
    let first = json.get(0).unwrap();
    assert_eq!(first["key"], "pingora.thread");
    assert_eq!((first["line"].as_u64(), first["column"].as_u64()), (Some(1), Some(12)));
    assert!(first["hint"].as_str().unwrap().contains("threads"));
    assert_eq!(first["file"], FILE);
}

#[test]
fn errors_in_a_directory_file_name_that_file() {
    let text = cluster("").replace("{ source: cldbdir }", "{ file: /d.csv }");
    let csv = "path,server,replica_id,title,mark\na.nsf,Web1/Acme,C1257A000041D2E0,,\nb.nsf,Web9/Acme,C1257A,T,later\n";
    let errors = load_from(&text, &Virtual::default().with("/d.csv", csv, 0o644)).unwrap_err();
    let places: Vec<_> = errors.iter().map(|e| (e.line, e.column, e.key.as_str())).collect();
    assert_eq!(places, [(3, 7, "server"), (3, 17, "replica_id"), (3, 26, "mark")]);
    assert_eq!(errors[0].file, Path::new("/d.csv"));
    assert!(errors[0].to_string().starts_with("/d.csv:3:7: server: `Web9/Acme` is not in servers.list"));

    let csv = "path,sever,replica_id\n";
    let errors = load_from(&text, &Virtual::default().with("/d.csv", csv, 0o644)).unwrap_err();
    assert!(errors[0].to_string().contains("did you mean `server`?"), "{}", errors[0]);

    let text = text.replace(".csv", ".json");
    let json = "[\n { \"path\": \"a.nsf\",\n   \"replica_id\": \"C1257A000041D2E0\",\n   \"replicas\": [ { \"sever\": \"Web1/Acme\" } ] } ]";
    let errors = load_from(&text, &Virtual::default().with("/d.json", json, 0o644)).unwrap_err();
    assert_eq!((errors[0].line, errors[0].column), (4, 20), "{}", errors[0]);
    assert_eq!(errors[0].key, "databases[0].replicas[0].sever");

    let errors = load_from(&text, &Virtual::default().with("/d.json", "[ { ]", 0o644)).unwrap_err();
    assert_eq!((errors.len(), errors[0].line), (1, 1));
    assert!(errors[0].message.contains("not JSON"), "{}", errors[0]);
}

#[test]
fn a_replica_that_a_small_json_file_lists_twice_is_named_by_its_line() {
    let text = cluster("").replace("{ source: cldbdir }", "{ file: /d.json }");
    let replica = r#"{ "server": "Web1/Acme" }"#;
    let json = format!(
        "[ {{ \"path\": \"a.nsf\", \"replica_id\": \"C1257A000041D2E0\", \"replicas\": [\n{replica},\n{replica} ] }} ]"
    );
    let warnings = load_from(&text, &Virtual::default().with("/d.json", json, 0o644)).unwrap().warnings;
    assert!(
        matches!(&warnings[..], [w] if w.location.line == 3 && w.text.contains("listed twice")),
        "{warnings:?}"
    );
}

#[test]
fn deep_nesting_is_refused_at_its_position() {
    for open in ["[", "{a: ", "- ", "? ", "[{a: "] {
        let text = format!("listeners:\n  {}", open.repeat(300_000));
        let errors = load_from(&text, &Virtual::default()).unwrap_err();
        assert_eq!((errors.len(), errors[0].line), (1, 2));
        assert!(errors[0].message.contains("nested deeper than 64 levels"), "{}", errors[0]);
    }
}

#[test]
fn secret_files_that_others_may_read_are_refused() {
    let text = top("admin: { token_file: /t }");
    for (content, mode, part) in [
        ("secret\n", 0o644, "run `chmod o-rwx /t`"),
        ("\n", 0o600, "the file is empty"),
        ("a\nb\n", 0o600, "more than one line"),
        ("two words\n", 0o600, "has a space"),
    ] {
        let errors = load_from(&text, &Virtual::default().with("/t", content, mode)).unwrap_err();
        let shown = errors[0].to_string();
        assert!(shown.contains(part), "{shown}");
        assert_eq!((errors[0].line, errors[0].column, errors[0].key.as_str()), (1, 22, "admin.token_file"));
        assert!(!shown.contains("secret\n") && !shown.contains("two words"), "{shown}");
    }
    let text = cluster("    affinity: { secret_file: /k }\n");
    for content in ["", "short\n", "long enough for a key\nshort\n"] {
        let errors = load_from(&text, &Virtual::default().with("/k", content, 0o600)).unwrap_err();
        assert!(errors[0].to_string().contains("at least 16 bytes"), "{}", errors[0]);
    }
}

#[test]
fn certificates_are_checked_when_they_are_loaded() {
    let (cert, key) = certificate(365);
    let (old, old_key) = certificate(-2);
    let (soon, soon_key) = certificate(5);
    let text = cluster("")
        .replace("127.0.0.1:8080 }", "127.0.0.1:8080, tls: { certificates: [{ cert: /c, key: /k }] } }");
    let with =
        |c: &str, k: &str| load_from(&text, &Virtual::default().with("/c", c, 0o644).with("/k", k, 0o600));
    assert_eq!(with(&cert, &key).unwrap().warnings, []);
    for (c, k, part, key) in [
        (&cert, &old_key, "does not belong", "key"),
        (&old, &old_key, "has expired", "cert"),
        (&key, &key, "no certificate", "cert"),
        (&cert, &cert, "no private key", "key"),
        (&"-----BEGIN CERTIFICATE-----\n%%\n-----END CERTIFICATE-----\n".to_owned(), &key, "PEM", "cert"),
        (
            &"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(),
            &key,
            "cannot be used",
            "cert",
        ),
    ] {
        let errors = with(c, k).unwrap_err();
        assert_eq!(errors.len(), 1, "{part}: {errors:?}");
        assert!(errors[0].message.contains(part), "{}", errors[0]);
        assert_eq!(errors[0].key, format!("listeners[0].tls.certificates[0].{key}"));
    }
    let warnings = with(&soon, &soon_key).unwrap().warnings;
    assert!(warnings[0].text.contains("expires in"), "{}", warnings[0]);

    let text = cluster("    upstream_tls: { ca_file: /k }\n");
    let errors = load_from(&text, &Virtual::default().with("/k", &key, 0o600)).unwrap_err();
    assert_eq!((errors[0].line, errors[0].column), (8, 30));
    let loaded = load_from(&text, &Virtual::default().with("/k", &cert, 0o600)).unwrap();
    assert_eq!(loaded.settings.clusters[0].upstream_tls.ca.as_ref().unwrap().len(), 1);
}

#[test]
fn likely_mistakes_are_warnings() {
    for (text, line, part) in [
        (cluster("    failover: { response_timeout: 75s }\n"), 8, "grace_period_seconds"),
        (cluster("    upstream_scheme: same\n"), 8, "without TLS"),
        (cluster("    availability: { source: statpub }\n"), 8, "`statpub`"),
        (cluster("    availability: { url: \"http://x/\", source: observed }\n"), 8, "no effect"),
        (cluster("    failover: { retry_methods: [POST] }\n"), 8, "not idempotent"),
        (cluster("").replace("http: 10", "server_availability_threshold: 100, http: 10"), 6, "always BUSY"),
        (cluster("").replace("http: 10", "https: 10"), 6, "never be used"),
        (cluster("    mode: redirect\n").replace("hostname: w1.example, ", ""), 6, "10.0.0.11"),
        (cluster("").replace("{ source: cldbdir }", "{ databases: [] }"), 7, "empty"),
        (top("pingora: { user: nobody }"), 1, "foreground"),
    ] {
        let loaded = load(&text).unwrap_or_else(|e| panic!("{e:?}\n{text}"));
        let warnings = loaded.warnings;
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert_eq!(warnings[0].location.line, line, "{}", warnings[0]);
        assert!(warnings[0].text.contains(part), "{}", warnings[0]);
    }
}

#[test]
fn a_real_file_is_read_with_what_it_names() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("icm.yaml");
    let token = folder.path().join("token");
    std::fs::write(&file, top("admin: { token_file: token }")).unwrap();
    let errors = load_file(&file).unwrap_err().0;
    assert!(errors[0].message.contains("cannot read"), "{}", errors[0]);
    std::fs::write(&token, "abc\n").unwrap();
    std::fs::set_permissions(&token, PermissionsExt::from_mode(0o604)).unwrap();
    let errors = load_file(&file).unwrap_err().0;
    assert!(errors[0].message.contains("others may read"), "{}", errors[0]);
    std::fs::set_permissions(&token, PermissionsExt::from_mode(0o640)).unwrap();
    let settings = load_file(&file).unwrap().settings;
    assert_eq!(&*settings.admin.token.unwrap().0, b"abc");

    std::fs::write(&file, b"a: \xff\n").unwrap();
    assert!(load_file(&file).unwrap_err().to_string().contains("not UTF-8"));
    let errors = load_file(&folder.path().join("none.yaml")).unwrap_err().0;
    assert_eq!((errors[0].line, errors.len()), (0, 1));
    assert!(load_file(folder.path()).unwrap_err().to_string().contains("directory"));
}
