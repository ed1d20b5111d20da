//! Fields that the configuration sets and removes, and request IDs, the same with the fast path and without it.

use crate::support::*;
use serde_yaml::Value;

/// A server that answers with fields of its own, and `icm` in front of it, with these `headers` of the cluster.
fn start(fast_path: &str, headers: &str, change: impl FnOnce(&mut Value)) -> (RecordingServer, Icm) {
    let server = RecordingServer::new(|head| {
        let status = if head.contains("/missing") { "404 Not Found" } else { "200 OK" };
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nX-Powered-By: a\r\nx-powered-by: b\r\n\
             x-frame-options: DENY\r\nX-Request-ID: server\r\nX-Kept: 1\r\nContent-Length: 2\r\n\r\nok"
        )
    });
    let mut config = server.config();
    set(&mut config, "proxy.fast_path", fast_path);
    set(&mut config, "access_log", "{ path: stdout, format: json }");
    set(&mut config, "clusters.0.headers", headers);
    change(&mut config);
    (server, Icm::start(config))
}

/// The lines that reached the server in the request for this target.
fn lines(server: &RecordingServer, target: &str) -> Vec<String> {
    let with = server.with(target);
    assert_eq!(with.len(), 1, "{with:?}");
    let request = with[0].split("\r\n\r\n").find(|request| request.contains(target)).unwrap();
    request.lines().skip(1).map(str::to_owned).collect()
}

fn named<'a>(lines: &'a [String], name: &str) -> Vec<&'a str> {
    let of = |line: &'a String| line.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name));
    lines.iter().filter_map(of).map(|(_, value)| value).collect()
}

const EDITS: &str = "{ set: { X-Frame-Options: SAMEORIGIN, X-New: a, Cache-Control: max-age=60 }, remove: [X-Powered-By, X-Absent],
    to_server: { set: { X-Role: user, Accept-Language: de, X-Added: '1' }, remove: [Accept-Encoding, X-Debug, User-Agent] } }";
const CLIENT: [(&str, &str); 8] = [
    ("X-Role", "admin"),
    ("x_role", "admin"),
    ("Accept-Language", "en"),
    ("Accept-Encoding", "gzip"),
    ("X-Debug", "1"),
    ("User-Agent", "test"),
    ("X-Own", "2"),
    ("If-None-Match", "\"3\""),
];

#[test]
fn fields_are_set_and_removed_in_both_directions_in_both_loops() {
    for fast_path in ["on", "off"] {
        let (server, icm) =
            start(fast_path, EDITS, |config| set(config, "clusters.0.unknown_database", "not_found"));
        // The second takes Pingora's loop in any case, and names a field that is set as one of the connection.
        for (target, connection) in [("/one", None), ("/two", Some("keep-alive, X-Role, X-Added"))] {
            let mut headers = CLIENT.to_vec();
            headers.extend(connection.map(|options| ("Connection", options)));
            let answer = icm.client().get_with(target, &headers);
            assert_eq!(answer.status, 200);
            let what = format!("{fast_path} {target}: {}", answer.head);
            assert!(answer.head.contains("\r\nX-Frame-Options: SAMEORIGIN\r\n"), "{what}");
            assert!(answer.head.contains("\r\nX-New: a\r\n"), "{what}");
            assert_eq!(answer.all("x-frame-options"), ["SAMEORIGIN"], "{what}");
            assert_eq!(answer.all("x-powered-by"), Vec::<&str>::new(), "{what}");
            assert_eq!((answer.all("x-kept"), answer.all("cache-control")), (vec!["1"], vec!["max-age=60"]));
            let got = lines(&server, target);
            for (name, values) in [
                ("x-role", &["user"][..]),
                ("x_role", &[]),
                ("accept-language", &["de"]),
                ("accept-encoding", &[]),
                ("x-debug", &[]),
                ("user-agent", &[]),
                ("x-added", &["1"]),
                ("x-own", &["2"]),
                ("if-none-match", &["\"3\""]),
            ] {
                assert_eq!(named(&got, name), values, "{fast_path} {target} {name}: {got:?}");
            }
            assert!(got.contains(&"X-Role: user".to_owned()), "the spelling of the file: {got:?}");
        }
        // What the client sent is still what is logged.
        icm.wait_for_log("\"user_agent\":\"test\"");
        let own = icm.client().get("/no.nsf");
        assert_eq!((own.status, own.header("x-new")), (404, Some("a")));
        assert_eq!(own.all("cache-control"), ["no-store"], "an error page must not be kept");
        assert_eq!(own.all("x-frame-options"), ["SAMEORIGIN"]);
        assert_eq!(own.header("x-request-id"), None);
    }
}

/// The log line of the request for this target.
fn logged(icm: &Icm, target: &str) -> serde_json::Value {
    let text = format!("\"target\":\"{target}\"");
    icm.wait_for_log(&text);
    let log = icm.log();
    let line = log.lines().find(|line| line.contains(&text)).unwrap();
    serde_json::from_str(line).unwrap()
}

#[test]
fn a_request_has_one_id_in_the_client_the_server_the_log_and_the_page() {
    for fast_path in ["on", "off"] {
        let (server, icm) = start(fast_path, "{ request_id: X-Request-ID, set: { X-New: a } }", |config| {
            set(config, "clusters.0.unknown_database", "not_found");
        });
        let made = |id: &str| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
        let twice = [("X-Request-ID", "a"), ("X-Request-ID", "b")];
        for (target, sent, kept) in [
            ("/made", &[][..], None),
            ("/kept", &[("X-Request-Id", "Root=1-67891233-ab")], Some("Root=1-67891233-ab")),
            ("/bad", &[("X-Request-ID", "a b\"c")], None),
            ("/twice", &twice, None),
            ("/alias", &[("X_Request_ID", "x")], None),
        ] {
            let answer = icm.client().get_with(target, sent);
            let ids = answer.all("x-request-id");
            assert!(ids.len() == 1 && kept.map_or(made(ids[0]), |kept| ids[0] == kept), "{target}: {ids:?}");
            let got = lines(&server, target);
            assert_eq!(named(&got, "x-request-id"), ids, "{fast_path} {target}: {got:?}");
            assert_eq!(named(&got, "x_request_id"), Vec::<&str>::new(), "{target}");
            assert_eq!(logged(&icm, target)["request_id"], ids[0], "{target}");
        }
        // Without a server: a page for people, and one for programs.
        for accept in ["text/html", "application/json"] {
            let target = format!("/no.nsf?{}", accept.len());
            let page = icm.client().get_with(&target, &[("X-Request-ID", "r-7"), ("Accept", accept)]);
            assert_eq!((page.status, page.all("x-request-id")), (404, vec!["r-7"]), "{}", page.head);
            assert!(page.text().contains("r-7") && page.text().contains("eference"), "{}", page.text());
            assert_eq!(logged(&icm, &target)["request_id"], "r-7");
        }
        assert_eq!(icm.client().get("/missing").status, 404);
        assert!(made(logged(&icm, "/missing")["request_id"].as_str().unwrap()));
    }
}

#[test]
fn a_request_keeps_its_id_when_it_goes_to_another_server() {
    for fast_path in ["on", "off"] {
        let acme = Acme::start(THREE_SERVERS);
        let mut config = config(&acme);
        set(&mut config, "proxy.fast_path", fast_path);
        set(&mut config, "clusters.0.headers.request_id", "X-Request-Id");
        set(&mut config, "clusters.0.failover.passive_failures", "0");
        let icm = Icm::start(config);
        for server in ["Web1", "Web2"] {
            acme.fault(server, serde_json::json!({ "kind": "reset", "path": "/all.nsf" }));
        }
        let asked_twice = (0..50).any(|_| {
            let answer = icm.client().get("/all.nsf?OpenDatabase");
            assert_eq!(answer.status, 200, "{}", answer.head);
            acme.executed(answer.header("x-request-id").unwrap()) > 1
        });
        assert!(asked_twice, "two of three servers fail");
    }
}
