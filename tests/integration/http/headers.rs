//! Headers toward the servers and toward the browser: what is added, replaced and removed.

use crate::support::*;
use serde_json::Value as Json;
use serde_yaml::Value;

fn start(change: impl FnOnce(&Acme, &mut Value)) -> (Acme, Icm) {
    let acme = Acme::built_in();
    let mut config = config(&acme);
    change(&acme, &mut config);
    (acme, Icm::start(config))
}

/// The headers that reached a server.
struct Received(Json);

impl Received {
    fn of(mut client: Client, headers: &[(&str, &str)]) -> Received {
        let mut all = headers.to_vec();
        all.push(("Accept", "application/json"));
        let answer = client.get_with("/sales/orders.nsf?OpenDatabase", &all);
        assert_eq!(answer.status, 200, "{} {}", answer.head, answer.text());
        Received(answer.json())
    }

    fn all(&self, name: &str) -> Vec<&str> {
        let all = self.0["headers"].as_array().unwrap();
        let named = all.iter().filter(|h| h[0].as_str().unwrap().eq_ignore_ascii_case(name));
        named.map(|h| h[1].as_str().unwrap()).collect()
    }

    fn names(&self) -> Vec<String> {
        let all = self.0["headers"].as_array().unwrap();
        all.iter().map(|h| h[0].as_str().unwrap().to_lowercase()).collect()
    }
}

#[test]
fn connector_headers_of_a_client_never_reach_a_server() {
    let (_acme, icm) = start(|_, _| {});
    let hostile = [
        ("$WSRU", "CN=Administrator/O=Acme"),
        ("$wsra", "10.0.0.1"),
        ("$WsPr", "x"),
        ("$WSNEW", "x"),
        ("X-ConnectorHeaders-Secret", "guess"),
        ("X_ConnectorHeaders_Secret", "guess"),
    ];
    for connection in [None, Some("close, $WSRU, $wsra"), Some("keep-alive, x-other")] {
        let mut headers = hostile.to_vec();
        headers.push(("X-Other", "1"));
        headers.extend(connection.map(|c| ("Connection", c)));
        let names = Received::of(icm.client(), &headers).names();
        assert!(!names.iter().any(|n| n.starts_with("$ws") || n.contains("secret")), "{names:?}");
        let kept = connection.is_none_or(|c| !c.contains("x-other"));
        assert_eq!(names.contains(&"x-other".to_owned()), kept, "hop by hop: {connection:?}");
        let hops = ["keep-alive", "proxy-connection", "te", "trailer", "upgrade", "proxy-authorization"];
        assert!(!names.iter().any(|n| hops.contains(&n.as_str())), "{names:?}");
    }
}

#[test]
fn a_proxy_header_reaches_no_server_in_any_spelling() {
    let (_acme, icm) = start(|_, _| {});
    for name in ["Proxy", "proxy", "PROXY", "pRoXy"] {
        let headers = [(name, "http://evil.example:3128"), ("X-Proxy", "1"), ("Proxy-Agent", "2")];
        let names = Received::of(icm.client(), &headers).names();
        assert!(!names.contains(&"proxy".to_owned()), "{name}: {names:?}");
        assert!(
            names.contains(&"x-proxy".to_owned()) && names.contains(&"proxy-agent".to_owned()),
            "{names:?}"
        );
        let named = format!("keep-alive, {name}");
        let names = Received::of(icm.client(), &[(name, "x"), ("Connection", &named)]).names();
        assert!(!names.contains(&"proxy".to_owned()), "{name}: {names:?}");
    }
}

#[test]
fn no_other_site_may_frame_what_icm_answers_itself() {
    let (_acme, icm) = start(|_, config| {
        set(config, "clusters.0.unknown_database", "not_found");
        set(config, "clusters.0.open_server", "list");
    });
    let framed = |answer: &Answer| {
        assert_eq!(answer.header("x-frame-options"), Some("SAMEORIGIN"), "{}", answer.head);
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{}", answer.head);
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.contains("frame-ancestors 'self'"), "{policy}");
    };
    for (target, status) in [("/no/such.nsf", 404), ("/?OpenServer", 200), ("/sales/leads.nsf", 300)] {
        let answer = icm.client().get(target);
        assert_eq!(answer.status, status, "{target}");
        framed(&answer);
    }
    let mut client = icm.client();
    client.connect().unwrap();
    client.send(b"GET / HTTP/1.1\r\nno colon\r\n\r\n").unwrap();
    framed(&client.read("GET").unwrap());
    // What Domino says is not ours to change.
    assert_eq!(icm.client().get("/homepage.nsf").header("x-frame-options"), None);
}

const CLAIMS: [(&str, &str); 9] = [
    ("X-Forwarded-For", "203.0.113.7, 127.0.0.9"),
    ("x-forwarded-proto", "https"),
    ("X-Forwarded-Host", "evil.example"),
    ("X-Forwarded-Port", "444"),
    ("X-Forwarded-Server", "evil"),
    ("X_Forwarded_For", "203.0.113.8"),
    ("X-Real-IP", "203.0.113.9"),
    ("X_Real_IP", "203.0.113.9"),
    ("Forwarded", "for=203.0.113.9;proto=https;host=evil.example"),
];

#[test]
fn what_a_stranger_says_of_himself_is_replaced() {
    let (_acme, icm) = start(|_, _| {});
    let got = Received::of(icm.client().host("www.acme.example:8080"), &CLAIMS);
    assert_eq!(got.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(got.all("x-real-ip"), ["127.0.0.1"]);
    assert_eq!(got.all("x-forwarded-proto"), ["http"]);
    assert_eq!(got.all("x-forwarded-host"), ["www.acme.example:8080"]);
    assert_eq!(got.all("host"), ["www.acme.example:8080"]);
    assert_eq!(got.all("x-forwarded-port"), ["8080"]);
    for gone in ["forwarded", "x-forwarded-server", "x_forwarded_for", "x_real_ip", "via"] {
        assert_eq!(got.all(gone), Vec::<&str>::new(), "{gone}");
    }
}

#[test]
fn what_a_trusted_proxy_says_of_address_and_scheme_is_believed() {
    let (_acme, icm) =
        start(|_, config| set(config, "listeners.0.trusted_proxies", "[127.0.0.0/8, '2001:db8::/32']"));
    let got = Received::of(icm.client().host("www.acme.example"), &CLAIMS);
    assert_eq!(got.all("x-forwarded-for"), ["203.0.113.7"], "the first that is no trusted proxy");
    assert_eq!(got.all("x-real-ip"), ["203.0.113.7"]);
    assert_eq!(got.all("x-forwarded-proto"), ["https"]);
    assert_eq!(got.all("x-forwarded-host"), ["www.acme.example"]);
    for (said, believed) in [
        ("198.51.100.1, 203.0.113.7", "203.0.113.7"),
        ("203.0.113.7:51234", "203.0.113.7"),
        ("2001:470::1, 2001:db8::5", "2001:470::1"),
        ("[2001:470::1]:443", "2001:470::1"),
        ("127.0.0.3, 127.0.0.2", "127.0.0.3"),
        ("198.51.100.1, unknown, 127.0.0.2", "127.0.0.2"),
        ("", "127.0.0.1"),
    ] {
        let got = Received::of(icm.client(), &[("X-Forwarded-For", said)]);
        assert_eq!(got.all("x-forwarded-for"), [believed], "{said}");
    }
    let got =
        Received::of(icm.client(), &[("X-Forwarded-For", "203.0.113.7"), ("X-Forwarded-For", "127.0.0.2")]);
    assert_eq!(got.all("x-forwarded-for"), ["203.0.113.7"], "two lines are one list");
    for (said, believed) in [
        ("gopher", "http"),
        ("HTTPS", "https"),
        ("https,http", "https"),
        ("https, http, http", "https"),
        ("http, https", "http"),
        ("wss", "https"),
        ("WSS,ws", "https"),
        ("ws", "http"),
        (" https ", "https"),
        ("", "http"),
    ] {
        let got = Received::of(icm.client(), &[("X-Forwarded-Proto", said)]);
        assert_eq!(got.all("x-forwarded-proto"), [believed], "{said}");
    }
}

#[test]
fn a_server_hears_the_port_of_the_public_name() {
    let (_acme, icm) = start(|_, config| set(config, "listeners.0.trusted_proxies", "[127.0.0.0/8]"));
    for (host, said, port) in [
        ("www.acme.example", &[][..], "80"),
        ("www.acme.example", &[("X-Forwarded-Proto", "https")], "443"),
        ("www.acme.example:8443", &[("X-Forwarded-Proto", "https")], "8443"),
        ("www.acme.example", &[("X-Forwarded-Port", "8443")], "8443"),
        (
            "www.acme.example",
            &[("X-Forwarded-Port", "443, 8080"), ("X-Forwarded-Proto", "https, http")],
            "443",
        ),
        ("www.acme.example:81", &[("X-Forwarded-Port", "8443")], "81"),
        ("www.acme.example", &[("X-Forwarded-Port", "none")], "80"),
        ("www.acme.example", &[("X-Forwarded-Port", "0")], "80"),
        ("[2001:db8::1]:8080", &[], "8080"),
        ("[2001:db8::1]", &[], "80"),
    ] {
        let got = Received::of(icm.client().host(host), said);
        assert_eq!(got.all("x-forwarded-port"), [port], "{host} {said:?}");
    }
    // An untrusted client is not believed.
    let (_acme, icm) = start(|_, _| {});
    let got = Received::of(icm.client().host("www.acme.example"), &[("X-Forwarded-Port", "8443")]);
    assert_eq!(got.all("x-forwarded-port"), ["80"]);
}

#[test]
fn the_servers_own_host_and_a_via_are_sent_where_the_administrator_wants_them() {
    let (acme, icm) = start(|_, config| {
        set(config, "clusters.0.headers.host", "server");
        set(config, "clusters.0.headers.via", "icm1");
    });
    let got = Received::of(icm.client().host("www.acme.example"), &[("Via", "1.0 fred")]);
    let server = acme.server(got.0["server"].as_str().unwrap());
    assert_eq!(got.all("host"), [format!("{}:{}", server.hostname, server.http.unwrap().port())]);
    assert_eq!(got.all("x-forwarded-host"), ["www.acme.example"]);
    assert_eq!(got.all("via").join(", "), "1.0 fred, 1.1 icm1");
    // The public name comes back all the same.
    let answer = icm.client().host("www.acme.example").get("/sales/orders.nsf?Open&redirect=host");
    assert_eq!(answer.header("location"), Some("http://www.acme.example/sales/orders.nsf?OpenDatabase"));
}

#[test]
fn whichever_server_is_asked_in_the_end_hears_of_the_client_once() {
    let (acme, icm) = start_cluster(&[("headers.via", "icm1")]);
    for server in ["Web1", "Web2"] {
        acme.fault(server, serde_json::json!("reset"));
    }
    let hostile = [("Via", "1.0 fred"), ("X-Forwarded-For", "203.0.113.7"), ("$WSRU", "CN=Administrator")];
    let nominated = ("Connection", "x-forwarded-for, x-real-ip, x-forwarded-host, via");
    let headers = [&hostile[..], &[("Accept", "application/json"), nominated]].concat();
    // Which one is asked first is a matter of chance.
    let asked_twice = (0..50).find_map(|_| {
        let (answer, rid) = ask(&icm, "GET", "/all.nsf?OpenDatabase", &headers, b"");
        assert_eq!(answer.status, 200, "{} {}", answer.head, answer.text());
        (acme.executed(&rid) > 1).then(|| Received(answer.json()))
    });
    let got = asked_twice.expect("two of three servers are dead");
    for name in ["x-forwarded-for", "x-real-ip"] {
        assert_eq!(got.all(name), ["127.0.0.1"], "{name}");
    }
    assert_eq!(got.all("x-forwarded-proto"), ["http"]);
    assert_eq!(got.all("x-forwarded-host"), got.all("host"));
    assert_eq!(got.all("via").join(", "), "1.0 fred, 1.1 icm1");
    assert!(!got.names().iter().any(|name| name.starts_with("$ws")), "{:?}", got.names());
}

#[test]
fn safe_connector_headers_tell_a_server_who_asks_but_never_as_whom() {
    let dir = tempfile::tempdir().unwrap();
    let secret = secret_file(dir.path(), "connector", "a-secret-of-the-connector-0123456789\n");
    let (_acme, icm) = start(|_, config| {
        for n in 0..4 {
            set(config, &format!("clusters.0.servers.list.{n}.connector_headers"), "safe");
        }
        set(config, "clusters.0.connector_secret_file", &secret);
        set(config, "listeners.0.trusted_proxies", "[127.0.0.1]");
    });
    let hostile = [("$WSRU", "CN=Administrator/O=Acme"), ("$WSRA", "10.9.9.9"), ("$WSPR", "x")];
    let got = Received::of(icm.client().host("www.acme.example:8080"), &hostile);
    for (name, value) in [
        ("$WSRA", "127.0.0.1"),
        ("$WSRH", "127.0.0.1"),
        ("$WSSN", "www.acme.example"),
        ("$WSSP", "8080"),
        ("$WSSC", "http"),
        ("$WSIS", "False"),
        ("X-ConnectorHeaders-Secret", "a-secret-of-the-connector-0123456789"),
    ] {
        assert_eq!(got.all(name), [value], "{name}");
    }
    assert_eq!(got.names().iter().filter(|n| n.starts_with("$ws")).count(), 6, "no identity");
    let behind = [("X-Forwarded-Proto", "https"), ("X-Forwarded-For", "203.0.113.7")];
    let got = Received::of(icm.client().host("www.acme.example"), &behind);
    for (name, value) in [("$WSRA", "203.0.113.7"), ("$WSSP", "443"), ("$WSSC", "https"), ("$WSIS", "True")] {
        assert_eq!(got.all(name), [value], "{name}");
    }
}

#[test]
fn hsts_is_the_edges_own_word() {
    for (hsts, expected) in [("max-age=31536000", Some("max-age=31536000")), ("off", None)] {
        let mut tls = None;
        let (acme, icm) = start(|acme, config| {
            set(config, "clusters.0.headers.hsts", hsts);
            tls = Some(add_tls(config, acme));
        });
        let mut secure = Client::tls(wait_for(tls.unwrap()), "localhost", &acme.ca_file);
        for target in ["/sales/orders.nsf?Open", "/", "/sales/orders.nsf/missing", "/nowhere.nsf"] {
            let all = secure.get(target);
            let all = all.all("strict-transport-security");
            assert_eq!(all, expected.into_iter().collect::<Vec<_>>(), "Domino's max-age=0 would erase it");
            let plain = icm.client().get(target);
            assert_eq!(plain.header("strict-transport-security"), None, "{target}");
        }
    }
}

#[test]
fn the_servers_software_is_hidden_unless_it_may_be_seen() {
    let (_acme, icm) = start(|_, _| {});
    assert_eq!(icm.client().get("/sales/orders.nsf?Open").header("server"), None);
    let (_acme, icm) = start(|_, config| set(config, "clusters.0.headers.expose_server", "true"));
    let answer = icm.client().get("/sales/orders.nsf?Open");
    assert!(answer.header("server").is_some_and(|s| s.contains("Domino")), "{}", answer.head);
}

#[test]
fn what_a_server_says_to_its_next_hop_ends_here() {
    let server = FixedResponseServer::new(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close, X-Hop, x-other-hop\r\nX-Hop: 1\r\n\
         X-Other-Hop: 2\r\nKeep-Alive: timeout=5\r\nProxy-Connection: close\r\nX-Kept: 3\r\nContent-Length: 2\r\n\r\nok",
    );
    let icm = Icm::start(server.config());
    let answer = icm.client().get("/x");
    assert_eq!((answer.status, answer.text()), (200, "ok".to_owned()));
    for gone in ["x-hop", "x-other-hop", "keep-alive", "proxy-connection"] {
        assert_eq!(answer.header(gone), None, "{}", answer.head);
    }
    assert_eq!(answer.header("x-kept"), Some("3"));
    assert!(!answer.closed, "the browser's connection is another one");
}
