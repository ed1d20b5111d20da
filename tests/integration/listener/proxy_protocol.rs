//! PROXY headers in front of connections: who must send one, who must not, and what the address in it is good for.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::support::*;
use serde_yaml::Value;

const TARGET: &str = "/sales/orders.nsf?OpenDatabase";
const JSON: (&str, &str) = ("Accept", "application/json");

fn v1(client: &str) -> Vec<u8> {
    format!("PROXY TCP4 {client} 192.0.2.1 51234 443\r\n").into_bytes()
}

/// Version 2 with a TLV behind the addresses.
fn v2(command: u8, client: [u8; 4]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([command, 0x11, 0, 12 + 7]);
    header.extend(client);
    header.extend([192, 0, 2, 1, 200, 34, 1, 187]);
    header.extend([3, 0, 4, 1, 2, 3, 4]);
    header
}

/// Every client of these tests is a proxy for the first listener and the last one, which has TLS, and none for the one
/// between.
fn behind_proxies(acme: &Acme) -> (Value, SocketAddr, SocketAddr) {
    let mut config = config(acme);
    let untrusted = format!("127.0.0.1:{}", free_port());
    let listener =
        format!("{{ address: \"{untrusted}\", proxy_protocol: {{ from: [10.0.0.0/8, \"::1\"] }} }}");
    config["listeners"].as_sequence_mut().unwrap().push(serde_yaml::from_str(&listener).unwrap());
    let secure = add_tls(&mut config, acme);
    for n in [0, 2] {
        set(&mut config, &format!("listeners.{n}.proxy_protocol"), "{ from: 127.0.0.0/8 }");
    }
    (config, untrusted.parse().unwrap(), secure)
}

/// The client's address as the server heard it.
fn forwarded(client: &mut Client, headers: &[(&str, &str)]) -> String {
    let answer = client.get_with(TARGET, &[&[JSON], headers].concat());
    assert_eq!(answer.status, 200, "{}", answer.head);
    address_in(&answer.json())
}

fn address_in(echo: &serde_json::Value) -> String {
    let headers = echo["headers"].as_array().unwrap();
    let named = headers.iter().filter(|h| h[0].as_str().unwrap().eq_ignore_ascii_case("x-forwarded-for"));
    named.map(|h| h[1].as_str().unwrap()).collect::<Vec<_>>().join(" and ")
}

#[test]
fn the_address_in_the_header_is_the_clients_everywhere() {
    let acme = Acme::built_in();
    let (mut config, _, secure) = behind_proxies(&acme);
    for n in [0, 2] {
        set(&mut config, &format!("listeners.{n}.trusted_proxies"), "[203.0.113.9]");
    }
    let icm = Icm::start(config);
    wait_for(secure);
    let (two, local) = (v2(0x21, [198, 51, 100, 8]), v2(0x20, [198, 51, 100, 8]));
    let cases: [(&[u8], &str); 5] = [
        (&v1("198.51.100.7"), "198.51.100.7"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 51234 443\r\n", "2001:db8::7"),
        (&two, "198.51.100.8"),
        // These name nobody: the proxy's own address stays.
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (&local, "127.0.0.1"),
    ];
    for (header, address) in cases {
        let plain = icm.client();
        let tls = Client::tls(secure, "localhost", &acme.ca_file);
        for mut client in [plain, tls].map(|client| client.begin_with(header)) {
            // Twice on one connection, and what a client claims does not count.
            for _ in 0..2 {
                assert_eq!(forwarded(&mut client, &[("X-Forwarded-For", "192.0.2.99")]), address);
            }
            let form = client.request("POST", TARGET, &[JSON], b"a=b").unwrap();
            assert_eq!(address_in(&form.json()), address);
        }
        let mut h2 = H2::connect_after(header, secure, "localhost", &acme.ca_file);
        let (method, path) = ((":method", "GET"), (":path", TARGET));
        let authority = (":authority", "localhost");
        let stream = h2.headers(&[method, (":scheme", "https"), authority, path, ("accept", JSON.1)], true);
        assert_eq!(address_in(&h2.end_of(stream).json()), address);
    }
    icm.wait_for_log("\"client\":\"198.51.100.8\"");
    let url = format!("http://{}{TARGET}", icm.address);
    let arguments = ["explain", &url, "--client", "127.0.0.1", "--json", "-c", icm.file.to_str().unwrap()];
    let explained = icm_cli(&arguments).json()["notes"].to_string();
    assert!(explained.contains("127.0.0.1 must begin with a PROXY header at"), "{explained}");
    // A trusted proxy behind the one that sends the header.
    let mut cdn = icm.client().begin_with(&v1("203.0.113.9"));
    assert_eq!(forwarded(&mut cdn, &[("X-Forwarded-For", "192.0.2.99, 198.51.100.5")]), "198.51.100.5");
    // A header in pieces, each in a packet of its own.
    let mut slow = TcpStream::connect(icm.address).unwrap();
    slow.set_nodelay(true).unwrap();
    for piece in v1("198.51.100.6").chunks(5) {
        slow.write_all(piece).unwrap();
        pause(2);
    }
    slow.write_all(format!("GET {TARGET} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes())
        .unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut slow, &mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    icm.wait_for_log("\"client\":\"198.51.100.6\"");
}

#[test]
fn a_missing_late_or_malformed_header_closes_the_connection_and_is_counted() {
    let acme = Acme::built_in();
    let (mut config, untrusted, secure) = behind_proxies(&acme);
    set(&mut config, "limits.handshake_timeout", "1s");
    let icm = Icm::start(config.clone());
    [untrusted, secure].into_iter().for_each(|address| {
        wait_for(address);
    });
    let counted = || icm.metric("icm_client_connections_closed_total{reason=\"proxy_header\"}").unwrap();
    // Those with which this test waited for the listeners have ended, too.
    let opened = counted();
    assert!(eventually(MAX_WAIT, || counted() >= 2.0), "{opened}");
    let get = format!("GET {TARGET} HTTP/1.1\r\nHost: a\r\n\r\n");
    let malformed: [&[u8]; 7] = [
        get.as_bytes(),
        b"PROXY TCP4 198.51.100.300 192.0.2.1 51234 443\r\n",
        b"PROXY TCP4 198.51.100.7 192.0.2.1 51234\r\n",
        &[b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 200]].concat(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
        // Never complete.
        b"PROXY TCP4 198.51.100.7 ",
    ];
    for bytes in malformed {
        for address in [icm.address, secure] {
            let before = counted();
            let mut client = Client::to(address).begin_with(bytes);
            client.connect().unwrap();
            assert!(client.peer_closes(), "{bytes:?}");
            assert!(eventually(MAX_WAIT, || counted() > before), "{bytes:?}");
        }
    }
    // Who is no proxy must not send one.
    let mut direct = Client::to(untrusted);
    assert_eq!(forwarded(&mut direct, &[]), "127.0.0.1");
    for header in [v1("198.51.100.7"), v2(0x21, [198, 51, 100, 8])] {
        let answer = Client::to(untrusted).begin_with(&header).request("GET", TARGET, &[], b"");
        assert!(matches!(&answer, Ok(answer) if answer.status == 400), "{answer:?}");
    }
    assert!(!icm.log().contains("198.51.100."), "{}", icm.log());
    // A reload makes it a proxy, from its next connection on.
    set(&mut config, "listeners.1.proxy_protocol.from", "[127.0.0.1]");
    icm.reload(&config);
    icm.wait_for_log("configuration reloaded");
    assert_eq!(forwarded(&mut direct, &[]), "127.0.0.1");
    assert_eq!(forwarded(&mut Client::to(untrusted).begin_with(&v1("198.51.100.7")), &[]), "198.51.100.7");
}

#[test]
fn a_connection_counts_for_the_client_behind_the_proxy() {
    let acme = Acme::built_in();
    let (mut config, _, secure) = behind_proxies(&acme);
    set(&mut config, "limits.per_client.connections", "2");
    let icm = Icm::start(config);
    wait_for(secure);
    let client = |address: &str| icm.client().begin_with(&v1(address));
    let open: Vec<Client> = ["198.51.100.1", "198.51.100.2", "198.51.100.3"]
        .into_iter()
        .flat_map(|address| [client(address), client(address)])
        .map(|mut client| {
            assert_eq!(client.get("/fast").status, 200, "six connections of one proxy");
            client
        })
        .collect();
    let refused = |mut client: Client| {
        let answer = client.request("GET", "/fast", &[], b"");
        matches!(answer, Ok(answer) if answer.status == 429)
    };
    assert!(refused(client("198.51.100.1")));
    let tls = Client::tls(secure, "localhost", &acme.ca_file).begin_with(&v1("198.51.100.1"));
    assert!(refused(tls), "also behind TLS");
    let mut other = client("198.51.100.4");
    assert_eq!(other.get("/fast").status, 200);
    drop(open);
    let served =
        || matches!(client("198.51.100.1").request("GET", "/fast", &[], b""), Ok(a) if a.status == 200);
    assert!(eventually(Duration::from_secs(30), served), "never again");
}
