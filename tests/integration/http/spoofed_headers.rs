//! Headers that name the user, his address or his scheme reach a server only from the balancer. Every such header is tried in
//! every way that a client has.

use crate::support::*;
use serde_json::Value as Json;

/// No value of ours has this in it.
const LIE: &str = "evil";
const TARGET: &str = "/sales/orders.nsf?OpenDatabase";

/// Every name, in several spellings.
fn names() -> Vec<String> {
    let connector = ["RA", "RH", "RU", "SN", "SP", "SC", "IS", "PR", "AT", "CC", "CS", "NEW", "_RU"]
        .map(|n| format!("$WS{n}"));
    let others = [
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "X-Forwarded-Port",
        "X-Forwarded-Server",
        "X-Forwarded-User",
        "X-Forwarded",
        "X-Real-IP",
        "Forwarded",
        "X-ConnectorHeaders-Secret",
    ];
    let mut all: Vec<String> = connector.into_iter().chain(others.map(str::to_owned)).collect();
    for twin in [
        "X_Forwarded_For",
        "X-Forwarded_Proto",
        "x_real-ip",
        "X.Forwarded.For",
        "X_ConnectorHeaders_Secret",
        "_WSRU",
    ] {
        all.push(twin.to_owned());
    }
    let lower: Vec<String> = all.iter().map(|n| n.to_lowercase()).collect();
    let mixed: Vec<String> = all
        .iter()
        .map(|n| n.char_indices().map(|(i, c)| if i % 2 == 0 { c.to_ascii_lowercase() } else { c }).collect())
        .collect();
    all.extend(lower);
    all.extend(mixed);
    all
}

/// Nothing of what a server received is a lie of the client's.
fn assert_no_lie(echo: &Json, how: &str) {
    let headers = echo["headers"].as_array().unwrap_or_else(|| panic!("{how}: {echo}"));
    for header in headers {
        let (name, value) = (header[0].as_str().unwrap(), header[1].as_str().unwrap());
        assert!(!value.contains(LIE), "{how}: the server received {name}: {value}");
    }
    let all = |name: &str| {
        let named = headers.iter().filter(|h| h[0].as_str().unwrap().eq_ignore_ascii_case(name));
        named.map(|h| h[1].as_str().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(all("x-forwarded-for"), ["127.0.0.1"], "{how}");
    assert_eq!(all("x-real-ip"), ["127.0.0.1"], "{how}");
    let scheme = if how.starts_with("http:") { "http" } else { "https" };
    assert_eq!(all("x-forwarded-proto"), [scheme], "{how}");
    assert_eq!(all("cookie"), ["kept=1"], "{how}");
}

/// A cluster with two listeners; with connector headers or without.
fn start(connector_headers: &str) -> (Acme, Icm, std::net::SocketAddr, tempfile::TempDir) {
    let acme = Acme::built_in();
    let mut config = config(&acme);
    let secure = add_tls(&mut config, &acme);
    let dir = tempfile::tempdir().unwrap();
    let secret = secret_file(dir.path(), "connector", "a-secret-of-the-connector-0123456789\n");
    for n in 0..4 {
        set(&mut config, &format!("clusters.0.servers.list.{n}.connector_headers"), connector_headers);
    }
    set(&mut config, "clusters.0.connector_secret_file", &secret);
    let icm = Icm::start(config);
    wait_for(secure);
    (acme, icm, secure, dir)
}

#[test]
fn no_server_ever_hears_a_clients_word_about_himself() {
    for connector_headers in ["off", "safe"] {
        let (acme, icm, secure, _dir) = start(connector_headers);
        let names = names();
        for (scheme, mut client) in
            [("http:", icm.client()), ("https:", Client::tls(secure, "localhost", &acme.ca_file))]
        {
            let json = [("Accept", "application/json"), ("Cookie", "kept=1")];
            for (n, name) in names.iter().enumerate() {
                let lie = (name.as_str(), "evil");
                // Alone, twice, and named in Connection, where it would take our own away.
                let hop = format!("keep-alive, {name}, Cookie, {}", names[names.len() - 1 - n]);
                let ways: [(&str, Vec<(&str, &str)>); 3] = [
                    ("alone", vec![lie]),
                    ("twice", vec![lie, (name, "evil, evil")]),
                    ("nominated", vec![lie, ("Connection", &hop)]),
                ];
                for (way, lies) in ways {
                    let answer = client.get_with(TARGET, &[&json[..], &lies].concat());
                    assert_eq!(answer.status, 200, "{scheme} {name} {way}: {}", answer.head);
                    assert_no_lie(&answer.json(), &format!("{scheme} {name} {way} {connector_headers}"));
                }
            }
            // All at once, in what follows a body in chunks.
            let mut bytes = client
                .head("POST", TARGET, &[&json[..], &[("Transfer-Encoding", "chunked")]].concat())
                .into_bytes();
            bytes.extend_from_slice(b"4\r\nbody\r\n0\r\n");
            for name in names.iter().take(40) {
                bytes.extend_from_slice(format!("{name}: evil\r\n").as_bytes());
            }
            bytes.extend_from_slice(b"\r\n");
            client.send(&bytes).unwrap();
            let answer = client.read("POST").unwrap();
            assert_eq!(answer.status, 200, "{}", answer.head);
            assert_no_lie(&answer.json(), &format!("{scheme} trailers"));
            assert_eq!(answer.json()["body_length"], 4);
        }
    }
}

#[test]
fn nor_from_a_client_of_http_2() {
    for connector_headers in ["off", "safe"] {
        let (acme, _icm, secure, _dir) = start(connector_headers);
        let names: Vec<String> = names().iter().map(|n| n.to_lowercase()).collect();
        let mut h2 = H2::connect(secure, "localhost", &acme.ca_file);
        let begin = |method| {
            vec![
                (":method", method),
                (":scheme", "https"),
                (":authority", "localhost"),
                (":path", TARGET),
                ("accept", "application/json"),
                ("cookie", "kept=1"),
            ]
        };
        for some in names.chunks(20) {
            let mut fields = begin("GET");
            fields.extend(some.iter().map(|name| (name.as_str(), "evil")));
            fields.extend(some.iter().map(|name| (name.as_str(), "evil, evil")));
            let stream = h2.headers(&fields, true);
            assert_no_lie(&h2.end_of(stream).json(), &format!("https: {some:?}"));
        }
        let stream = h2.headers(&begin("POST"), false);
        h2.data(stream, b"body", false);
        let trailers: Vec<(&str, &str)> = names.iter().take(40).map(|name| (name.as_str(), "evil")).collect();
        h2.section(stream, &trailers, true);
        assert_no_lie(&h2.end_of(stream).json(), "https: trailers");
    }
}

#[test]
fn trailers_of_a_request_end_at_the_balancer() {
    let recorder = RecordingServer::new(|_| OK.to_owned());
    let icm = Icm::start(recorder.config());
    let mut client = icm.client();
    let head = client.head("POST", "/taped", &[("Transfer-Encoding", "chunked"), ("TE", "trailers")]);
    client.send(format!("{head}4\r\nbody\r\n0\r\n$WSRU: evil\r\nX-Own: evil\r\n\r\n").as_bytes()).unwrap();
    assert_eq!(client.read("POST").unwrap().status, 200);
    let taped = recorder.with("/taped");
    assert_eq!(taped.len(), 1);
    assert!(!taped[0].contains("evil") && taped[0].ends_with("4\r\nbody\r\n0\r\n\r\n"), "{}", taped[0]);
}

#[test]
fn a_twin_of_a_field_that_frames_never_reaches_a_server() {
    let (_acme, icm, ..) = start("off");
    let twins = [("Transfer_Encoding", "chunked"), ("Content_Length", "99"), ("Proxy_Connection", "evil")];
    let answer = icm.client().post(TARGET, &[&twins[..], &[("Accept", "application/json")]].concat(), "a=b");
    let names = answer.json()["headers"].to_string().to_lowercase();
    assert!(
        !names.contains("r_encoding") && !names.contains("t_length") && !names.contains("evil"),
        "{names}"
    );
    assert_eq!(answer.json()["body_length"], 3);
}
