//! What a short file means, and that `conf/full.yaml` shows the same values.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::settings::*;
use super::super::{Disk, FileAccess, facts, load_clusters, unread};
use super::support::{self, FULL_FILES, Virtual, cluster, load, top};
use crate::domain::affinity::{SameSite, SessionCookieStyle};
use crate::domain::select::CrossSites;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn a_file_with_a_listener_and_a_cluster_gets_the_defaults_of_the_contract() {
    let loaded = load(&cluster("")).unwrap();
    assert_eq!(loaded.warnings, []);
    let s = loaded.settings;
    assert_eq!(s.pingora.grace_period_seconds, Some(75));
    assert_eq!(s.pingora.upstream_keepalive_pool_size, 512);
    assert_eq!(s.pingora.max_retries, 64);
    assert!(s.pingora.threads >= 1 && !s.pingora.daemon);
    assert_eq!((s.pid_file, s.state_dir, s.pages_dir, s.site), (None, None, None, None));
    assert_eq!(
        s.limits,
        Limits {
            header_count: 100,
            header_bytes: 65536,
            uri_bytes: 8192,
            header_timeout: seconds(10),
            idle_timeout: seconds(60),
            handshake_timeout: seconds(10),
            min_rate: 512,
            websocket_idle: seconds(300),
            connections: 50_000,
            per_client_connections: 0,
            per_client_requests: 0,
            per_client_in_flight: 1000,
            per_client_exempt: Vec::new(),
            http2_streams: 32,
            logins: None,
        }
    );
    assert_eq!(
        s.admin,
        AdminConfig {
            address: "127.0.0.1:8098".parse().unwrap(),
            token: None,
            tls: None,
            history_interval: Duration::from_secs(10),
        }
    );
    assert_eq!(s.statpub, None);
    assert!(s.follow.is_none());
    assert_eq!(s.access_log, AccessLogSettings { target: LogTarget::Stdout, format: LogFormat::Combined });
    let listener = s.listeners.first().unwrap();
    assert_eq!((listener.redirect_to_https, listener.tls.is_none()), (false, true));
    assert_eq!((&listener.trusted_proxies, &listener.proxy_protocol_from), (&vec![], &vec![]));

    let c = s.clusters.first().unwrap();
    assert_eq!((c.name.as_str(), c.hostnames.len()), ("A", 0));
    assert_eq!((c.mode, c.upstream_scheme), (Mode::Proxy, UpstreamScheme::Http));
    assert_eq!(c.upstream_tls, UpstreamTls { ca_file: None, ca: None, verify: true });
    assert_eq!(
        c.probe,
        Probe {
            path: "/".into(),
            host: None,
            interval: seconds(5),
            timeout: seconds(2),
            healthy_after: 2,
            unreachable_after: 2,
            expected_statuses: vec![(200, 499)],
        }
    );
    assert_eq!(
        c.availability,
        [Availability {
            source: AvailabilitySource::Observed,
            interval: seconds(15),
            stale_after: seconds(180),
            range: 6,
        }]
    );
    assert_eq!(
        c.failover,
        Failover {
            attempts: 3,
            deadline: seconds(90),
            retry_budget: 0.2,
            connect_timeout: seconds(2),
            response_timeout: seconds(60),
            retry_statuses: vec![502, 503, 504],
            retry_methods: vec![http::Method::GET, http::Method::HEAD, http::Method::OPTIONS],
            unsafe_commands: [
                "deletedocument",
                "openagent",
                "runagent",
                "logout",
                "savedocument",
                "createdocument"
            ]
            .map(String::from)
            .to_vec(),
            unknown_commands: UnknownCommands::Replay,
            retry_after_timeout: true,
            save_check: true,
            body_timeout: Some(Duration::from_secs(600)),
            passive_failures: 3,
            slow_start: seconds(30),
            last_resort: LastResort::Refuse,
        }
    );
    assert_eq!(
        c.affinity,
        Affinity {
            enabled: true,
            cookie: "ICM".into(),
            secrets: vec![],
            session_cookies: vec!["domauthsessid".into(), "sessionid".into()],
            session_cookie_style: SessionCookieStyle::Name,
            same_site: SameSite::Lax,
            fail_back: None,
            idle_timeout: seconds(1800),
            drain_timeout: seconds(1800),
        }
    );
    assert_eq!((c.unknown_database, c.ambiguous_path), (UnknownDatabase::Any, AmbiguousPath::Choose));
    assert_eq!(c.forwarded_path, ForwardedPath::Client);
    assert_eq!(c.open_server, OpenServer::Off);
    assert_eq!(c.cross_sites, CrossSites::WhenUnavailable);
    assert_eq!(
        c.limits,
        ClusterLimits {
            request_body: 100 << 20,
            max_requests_in_flight_per_server: 0,
            queue_timeout: seconds(1)
        }
    );
    assert_eq!(
        c.headers,
        Headers {
            host_of_server: false,
            via: None,
            hsts: Some("max-age=31536000".into()),
            expose_server: false,
            rules: HeaderRules::default(),
            request_id: None
        }
    );
    assert_eq!(c.connector_secret, None);
    let Servers::Static(servers) = &c.servers else { panic!("static servers") };
    let server = servers.first().unwrap();
    assert_eq!((server.weight, server.threshold, server.restricted), (1, None, false));
    assert_eq!((server.max_users, server.connector_headers), (0, ConnectorHeaders::Off));
    assert_eq!(server.site, None);
    assert_eq!((server.https.clone(), server.availability.len()), (None, 0));
    let Directory::Cldbdir(view) = &c.directory else { panic!("cldbdir") };
    assert_eq!(
        *view,
        Cldbdir {
            database: "cldbdir.nsf".into(),
            view: "($Pathname)".into(),
            format: ViewFormat::Xml,
            columns: DirectoryColumns {
                path: Some(Column::Number(0)),
                server: Some(Column::Number(1)),
                replica_id: Some(Column::Number(3)),
                title: None,
                out_of_service: None,
                pending_delete: None,
            },
            auth: Auth::None,
            refresh: seconds(60),
            cache: None,
        }
    );
}

#[test]
fn the_full_file_shows_the_same_values_as_no_file() {
    let full = support::load(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/conf/full.yaml"))).unwrap();
    let short = load(&cluster("")).unwrap().settings;
    let f = full.settings;
    assert_eq!(f.limits, short.limits);
    assert_eq!(f.access_log, short.access_log);
    assert_eq!(f.admin.address, short.admin.address);
    assert_eq!(f.admin.history_interval, short.admin.history_interval);
    assert_eq!(f.pingora.grace_period_seconds, short.pingora.grace_period_seconds);
    assert_eq!(f.pingora.upstream_keepalive_pool_size, short.pingora.upstream_keepalive_pool_size);
    let (f, s) = (f.clusters.first().unwrap(), short.clusters.first().unwrap());
    assert_eq!((f.mode, f.upstream_scheme), (s.mode, s.upstream_scheme));
    assert_eq!(f.probe, s.probe);
    assert_eq!(f.availability, s.availability);
    assert_eq!(f.failover, s.failover);
    assert_eq!(f.limits, s.limits);
    assert_eq!(f.headers, s.headers);
    assert_eq!(Affinity { secrets: vec![], ..f.affinity.clone() }, s.affinity);
    assert_eq!((f.unknown_database, f.ambiguous_path), (s.unknown_database, s.ambiguous_path));
    assert_eq!((f.forwarded_path, f.open_server), (s.forwarded_path, s.open_server));
    let (Directory::Cldbdir(f), Directory::Cldbdir(s)) = (&f.directory, &s.directory) else {
        panic!("cldbdir")
    };
    assert_eq!(Cldbdir { auth: Auth::None, cache: None, ..f.clone() }, *s);
}

#[test]
fn an_empty_names_view_has_the_columns_of_the_recipe() {
    let text = "listeners: [{ address: 127.0.0.1:80 }]\nclusters:\n  - name: A\n    servers: { source: names, from: [http://10.0.0.1] }\n    directory: {}\n";
    let c = load(text).unwrap().settings.clusters.remove(0);
    let Servers::Names(view) = &c.servers else { panic!("names") };
    let name = |n: &str| Column::Name(n.to_owned());
    assert_eq!((view.database.as_str(), view.view.as_str()), ("names.nsf", "ICM Servers"));
    assert_eq!(view.columns.name, name("ServerName"));
    assert_eq!(view.columns.https_status, name("HTTPSStatus"));
    assert_eq!(view.columns.ports, name("Ports"));
    assert_eq!(view.from.first().unwrap().at.to_string(), "10.0.0.1:80");
    assert_eq!(view.refresh, seconds(60));
}

#[test]
fn the_columns_of_a_visible_view_have_no_default_because_they_are_recognised() {
    for (directory, expected) in [
        ("{ view: Databases by Pathname }", [None, None]),
        ("{ view: databases by replica id, columns: { server: 2 } }", [None, Some(Column::Number(2))]),
        ("{ view: ($Pathname) }", [Some(Column::Number(0)), Some(Column::Number(1))]),
        (
            "{ view: ICM Databases, columns: { server: S } }",
            [Some(Column::Number(0)), Some(Column::Name("S".to_owned()))],
        ),
    ] {
        let text = cluster("").replace("{ source: cldbdir }", directory);
        let c = load(&text).unwrap().settings.clusters.remove(0);
        let Directory::Cldbdir(view) = &c.directory else { panic!("cldbdir") };
        assert_eq!([view.columns.path.clone(), view.columns.server.clone()], expected, "{directory}");
    }
}

#[test]
fn false_is_off_where_off_is_a_choice() {
    let off = cluster(
        "    affinity: { mode: false }\n    open_server: false\n    headers: { via: false, hsts: false }\n",
    );
    let text = format!("access_log: {{ format: false }}\n{off}");
    let s = load(&text.replace("http: 10.0.0.11:80", "http: 10.0.0.11:80, connector_headers: false"))
        .unwrap()
        .settings;
    let c = s.clusters.first().unwrap();
    assert_eq!(s.access_log.format, LogFormat::Off);
    assert_eq!((c.affinity.enabled, c.open_server), (false, OpenServer::Off));
    assert_eq!((c.headers.via.clone(), c.headers.hsts.clone()), (None, None));
}

#[test]
fn anchors_aliases_and_merge_keys_stand_for_what_they_name() {
    let text = cluster(
        "    probe: &p { interval: 7s }\n    failover: { deadline: &d 33s }\n  - name: B\n    servers: { list: [{ name: X/Y, http: \"x.example\" }] }\n    directory: {}\n    probe: { <<: *p, timeout: 1s }\n    failover: { deadline: *d }\n  - name: C\n    servers: { list: [{ name: X/Y, http: \"[::1]\" }] }\n    directory: {}\n    probe: &q { <<: *p, timeout: 3s }\n  - name: D\n    servers: { list: [{ name: X/Y, http: 1.2.3.4 }] }\n    directory: {}\n    probe: { <<: *q, path: /x }\n",
    );
    let clusters = load(&text).unwrap().settings.clusters;
    let probes: Vec<_> = clusters.iter().map(|c| (c.probe.interval, c.probe.timeout)).collect();
    assert_eq!(probes, [(7, 2), (7, 1), (7, 3), (7, 3)].map(|(i, t)| (seconds(i), seconds(t))));
    assert_eq!(clusters[1].failover.deadline, seconds(33));
    let hosts: Vec<_> = clusters
        .iter()
        .map(|c| match &c.servers {
            Servers::Static(s) => (s[0].http.as_ref().unwrap().to_string(), s[0].hostname.clone()),
            Servers::Names(_) => panic!("static"),
        })
        .collect();
    assert_eq!(hosts[1], ("x.example:80".into(), "x.example".into()));
    assert_eq!(hosts[2], ("[::1]:80".into(), "::1".into()));
    assert_eq!(hosts[3], ("1.2.3.4:80".into(), "1.2.3.4".into()));
}

#[test]
fn a_replica_id_that_yaml_takes_for_a_number_is_read_as_written() {
    for id in ["85257E1000123456", "8525712300412345", "0012345600123456", "85257e10:00123456"] {
        let directory = format!(
            "directory: {{ databases: [{{ path: a.nsf, replica_id: {id}, replicas: [{{ server: web1/ACME }}] }}] }}"
        );
        let text = cluster("").replace("directory: { source: cldbdir }", &directory);
        let loaded = load(&text).unwrap();
        let Directory::Static(entries) = &loaded.settings.clusters[0].directory else { panic!("static") };
        let entries: Vec<_> = entries.take().entries().collect();
        assert_eq!(entries[0].replica_id.to_string(), id.replace(':', "").to_uppercase(), "{id}");
        let again = loaded.settings.clusters_yaml.clone().unwrap();
        assert!(again.contains(id), "{again}");
    }
}

#[test]
fn a_server_refines_the_source_of_its_cluster_and_keeps_the_others() {
    let text = cluster("    availability: [{ source: prometheus, url: \"http://{address}:9100/metrics\", interval: 30s }, { source: statpub }]\n").replace("w1.example, ", "w1.example, availability: { url: \"http://x:1/m\" }, ");
    let c = load(&text).unwrap().settings.clusters.remove(0);
    let Servers::Static(servers) = &c.servers else { panic!("static") };
    let own = &servers[0].availability;
    assert_eq!(own[0].source, AvailabilitySource::Prometheus { url: "http://x:1/m".into() });
    assert_eq!((own[0].interval, own.len()), (seconds(30), 2));
    assert_eq!(own[1].source, AvailabilitySource::Statpub);
}

#[test]
fn a_metrics_url_for_one_server_needs_no_source() {
    let text =
        cluster("").replace("w1.example, ", "w1.example, availability: { url: \"http://x:9100/metrics\" }, ");
    let c = load(&text).unwrap().settings.clusters.remove(0);
    let Servers::Static(servers) = &c.servers else { panic!("static") };
    assert_eq!(
        servers[0].availability[0].source,
        AvailabilitySource::Prometheus { url: "http://x:9100/metrics".into() }
    );
}

#[test]
fn facts_that_no_source_reports_are_named() {
    let c = load(&cluster("")).unwrap().settings.clusters.remove(0);
    let unread_facts = unread(&c).join("\n");
    assert!(
        unread_facts.contains("marks not read") && unread_facts.contains("RESTRICTED not read"),
        "{unread_facts}"
    );
    assert!(!unread_facts.contains("MAXUSERS"), "{unread_facts}");

    // Statistics do not have Server_Restricted.
    let text = cluster("    availability: { source: statpub }\n")
        .replace("{ source: cldbdir }", "{ columns: { out_of_service: oos } }");
    let c = load(&text).unwrap().settings.clusters.remove(0);
    let named: Vec<String> = facts(&c).iter().map(ToString::to_string).collect();
    assert_eq!(
        named,
        [
            "availability index from statpub",
            "BUSY from statpub",
            "RESTRICTED not read: no source reports it",
            "replication from statpub",
            "marks from cldbdir",
            "freshness not read: freshness.source is off",
        ]
    );
    let text = cluster(
        "    availability: [{ source: companion }, { source: statpub }]\n    freshness: { source: companion }\n",
    );
    assert_eq!(unread(&load(&text).unwrap().settings.clusters[0]), Vec::<String>::new());

    let text = cluster("").replace(
        "http: 10.0.0.11:80 }",
        "http: 10.0.0.11:80, server_max_users: 5 }\n        - { name: Web2/Acme, http: h:80, availability: { source: companion } }",
    );
    let unread_facts = unread(&load(&text).unwrap().settings.clusters[0]).join("\n");
    assert!(unread_facts.contains("RESTRICTED of Web1/Acme not read"), "{unread_facts}");
    assert!(unread_facts.contains("MAXUSERS of Web1/Acme not read"), "{unread_facts}");
}

#[test]
fn the_databases_of_a_json_file_are_those_of_a_static_list() {
    let json = "\u{feff}[\n\t{ \"path\": \"a\\\\b.nsf\", \"replica_id\": \"C1257A000041D2E0\",\n\t  \"replicas\": [ { \"server\": \"Web1/Acme\", \"mark\": \"pending_delete\" } ] } ]";
    for content in [json.to_owned(), format!("{{ \"databases\": {} }}", json.trim_start_matches('\u{feff}'))]
    {
        let files = Virtual::default().with("/d.json", content, 0o644);
        let text = cluster("").replace("{ source: cldbdir }", "{ file: /d.json }");
        let c = support::load_from(&text, &files).unwrap().settings.clusters.remove(0);
        let Directory::File { entries, .. } = &c.directory else { panic!("file") };
        let entries: Vec<_> = entries.take().entries().collect();
        assert_eq!((entries[0].path.as_str(), entries[0].status.as_str()), ("a/b.nsf", "pending_delete"));
        assert_eq!(entries[0].title, "");
    }
}

#[test]
fn a_csv_file_has_its_columns_in_any_order() {
    let csv = "Server;title;path;replica_id\nWeb1/Acme;\"Leads; old\";sales/leads.nsf;C1257A00:0041D2E0\n";
    let files = Virtual::default().with("/d.csv", csv, 0o644);
    let text = cluster("").replace("{ source: cldbdir }", "{ source: file, file: /d.csv }");
    let c = support::load_from(&text, &files).unwrap().settings.clusters.remove(0);
    let Directory::File { entries, .. } = &c.directory else { panic!("file") };
    let entries: Vec<_> = entries.take().entries().collect();
    assert_eq!((entries[0].path.as_str(), entries[0].title.as_str()), ("sales/leads.nsf", "Leads; old"));
}

#[test]
fn relative_names_start_at_the_directory_of_the_file() {
    let text = top("state_dir: state\naccess_log: { path: log/access.log }");
    let s = super::super::load_with(Path::new("/srv/icm/icm.yaml"), &text, &Disk).unwrap().settings;
    assert_eq!(s.state_dir.as_deref(), Some(Path::new("/srv/icm/state")));
    assert_eq!(s.access_log.target, LogTarget::File("/srv/icm/log/access.log".into()));
}

#[test]
fn secrets_lose_their_line_end_and_are_never_shown() {
    let s =
        support::load(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/conf/full.yaml"))).unwrap().settings;
    assert_eq!(&*s.admin.token.clone().unwrap().0, b"0123456789abcdef");
    assert_eq!(&*s.statpub.clone().unwrap().token.unwrap().0, b"fedcba9876543210");
    assert_eq!(s.clusters[0].affinity.secrets.len(), 2);
    assert!(!format!("{s:?}").contains("0123456789abcdef"));
}

/// For reading and writing alike.
fn access(roots: &[PathBuf]) -> FileAccess {
    FileAccess { read_under: roots.to_vec(), write_under: roots.to_vec(), own: Vec::new() }
}

#[test]
fn clusters_of_another_icm_may_name_files_only_where_allowed() {
    let text = "restrictions: []\nclusters:\n  - name: A\n    servers: { list: [{ name: X/Y, http: h:80 }] }\n    directory: { source: file, file: /etc/icm/databases.csv }\n";
    let load = |text: &str, allow: &str| {
        load_clusters(Path::new("https://icm1/config"), text, &access(&[allow.into()]), &*FULL_FILES)
    };
    let errors = load(text, "/var/lib").unwrap_err().0;
    assert_eq!((errors[0].line, errors[0].column), (5, 38));
    assert!(errors[0].message.contains("may not be named"), "{}", errors[0]);
    let up = text.replace("/etc/icm/", "/var/lib/../../etc/icm/");
    assert!(load(&up, "/var/lib").is_err());
    let text = text.replace("name: X/Y", "name: Mail1/Acme");
    assert_eq!(load(&text, "/etc/icm").unwrap().clusters.len(), 1);
}

#[test]
fn a_link_must_not_lead_out_of_the_allowed_directories() {
    let dir = tempfile::tempdir().unwrap();
    let (inside, outside) = (dir.path().join("inside"), dir.path().join("outside"));
    for dir in [&inside, &outside] {
        std::fs::create_dir(dir).unwrap();
        std::fs::write(dir.join("a.csv"), "path,server,replica_id\na.nsf,X/Y,C1257A000041D2E0\n").unwrap();
    }
    std::os::unix::fs::symlink(outside.join("a.csv"), inside.join("link.csv")).unwrap();
    std::os::unix::fs::symlink(outside.join("none.csv"), inside.join("nowhere.csv")).unwrap();
    std::os::unix::fs::symlink(&outside, inside.join("dir")).unwrap();
    std::os::unix::fs::symlink(&inside, dir.path().join("allowed")).unwrap();
    let load = |file: &str| {
        let text = format!(
            "clusters:\n  - name: A\n    servers: {{ list: [{{ name: X/Y, http: h:80 }}] }}\n    directory: {{ source: file, file: {file} }}\n"
        );
        load_clusters(Path::new("https://icm1/config"), &text, &access(&[dir.path().join("allowed")]), &Disk)
    };
    let allowed = dir.path().join("allowed").display().to_string();
    load(&format!("{allowed}/a.csv")).unwrap();
    for file in ["link.csv", "nowhere.csv", "dir/a.csv", "../outside/a.csv", "./a.csv/../a.csv"] {
        let errors = load(&format!("{allowed}/{file}")).unwrap_err();
        assert!(errors.to_string().contains("may not be named"), "{file}: {errors}");
    }
    // What does not exist yet, as a cache, is judged by its directory.
    let error = load(&format!("{allowed}/later/a.csv")).unwrap_err().to_string();
    assert!(error.contains("cannot read"), "{error}");
}

#[test]
fn a_text_that_is_not_the_configuration_of_an_icm_is_refused() {
    for text in [
        "",
        "<html>Please log in</html>",
        "[]",
        "clusters:",
        "clusters: []",
        "restrictions: []",
        "a: *a",
        "\u{0}",
    ] {
        let loaded = load_clusters(Path::new("https://icm1/config"), text, &access(&[]), &*FULL_FILES);
        assert!(loaded.is_err(), "{text:?}");
    }
}

#[test]
fn clusters_yaml_gives_the_same_clusters() {
    let loaded = support::load(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/conf/full.yaml"))).unwrap();
    let yaml = format!("clusters:\n{}", loaded.settings.clusters_yaml.as_deref().unwrap());
    let roots = ["/etc/icm".into(), "/var/lib/icm".into()];
    let taken = load_clusters(Path::new("other"), &yaml, &access(&roots), &*FULL_FILES).unwrap();
    assert_eq!(format!("{:?}", taken.clusters), format!("{:?}", loaded.settings.clusters));
}

#[test]
fn a_host_pattern_covers_its_names() {
    let wildcard = HostPattern::Wildcard(".acme.example".into());
    for (host, good) in [("www.acme.example", true), ("a.b.acme.example.", true), ("acme.example", false)] {
        assert_eq!(wildcard.matches(host), good, "{host}");
    }
    assert!(!wildcard.matches(".acme.example"));
    assert!(HostPattern::Exact("::1".into()).matches("[::1]"));
}
