//! Clients that are slow, silent or too many are cut in time, and only they; TLS negotiation.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::*;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, StreamOwned, SupportedProtocolVersion};
use serde_yaml::Value;

/// One of the counters.
fn metric(icm: &Icm, name: &str) -> u64 {
    let metrics = icm.admin("/metrics").text();
    let line = metrics.lines().find(|l| l.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
    line.and_then(|l| l.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("{name}: {metrics}"))
}

fn closed(icm: &Icm, reason: &str) -> u64 {
    metric(icm, &format!("icm_client_connections_closed_total{{reason=\"{reason}\"}}"))
}

/// The first listener with TLS, with a certificate of the simulated cluster's.
fn with_tls(acme: &Acme) -> Value {
    let mut config = config(acme);
    set(&mut config, "listeners.0.tls.certificates", &format!("[{}]", acme.certificate()));
    config
}

/// What a TLS client is configured with.
fn tls_client(
    acme: &Acme,
    alpn: &[&str],
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&acme.ca_file).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
    Arc::new(config)
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(MAX_WAIT)).unwrap();
    stream
}

fn tls(address: SocketAddr, config: &Arc<ClientConfig>) -> StreamOwned<ClientConnection, TcpStream> {
    let name = ServerName::try_from("localhost").unwrap();
    StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), connect(address))
}

/// Everything until the other side closes, however it does that. Panics when it never does.
fn rest(stream: &mut impl Read) -> Vec<u8> {
    let mut came = Vec::new();
    let mut piece = [0_u8; 65_536];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return came,
            Ok(n) => came.extend_from_slice(&piece[..n]),
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                panic!("not closed; {} bytes came", came.len())
            }
            Err(_) => return came,
        }
    }
}

#[test]
fn a_head_that_trickles_is_cut_with_408_and_a_silent_connection_without_a_word() {
    let acme = Acme::built_in();
    let mut config = config(&acme);
    set(&mut config, "limits.header_timeout", "700ms");
    set(&mut config, "limits.idle_timeout", "1h");
    let icm = Icm::start(config);
    let mut kept = icm.client();
    assert_eq!(kept.get("/fast").status, 200);
    let mut silent = connect(icm.address);
    let mut slow = connect(icm.address);
    let mut writer = slow.try_clone().unwrap();
    let trickle = std::thread::spawn(move || {
        for byte in b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: ".iter().chain(std::iter::repeat(&b'y')) {
            if writer.write_all(&[*byte]).is_err() {
                return;
            }
            pause(20);
        }
    });
    let text = String::from_utf8_lossy(&rest(&mut slow)).into_owned();
    assert!(text.starts_with("HTTP/1.1 408 ") && text.contains("Connection: close"), "{text}");
    drop(slow);
    trickle.join().unwrap();
    assert_eq!(rest(&mut silent), b"");
    // Also behind a request that was good; the connection in between was idle, not slow.
    assert_eq!(kept.get("/fast").status, 200);
    kept.send(b"GET /fast HT").unwrap();
    let late = kept.read_to_end().unwrap();
    assert!(late.starts_with(b"HTTP/1.1 408 "), "{}", late.escape_ascii());
    assert!(metric(&icm, "icm_client_refused_total{status=\"408\"}") >= 2);
    // A slow server is no slow client, nor is one that pauses in its body.
    let slow = "/sales/orders.nsf?OpenDatabase&delay=1500&echo=json";
    let mut client = icm.client();
    let head = client.head("POST", slow, &[("Content-Length", "4")]);
    client.send(head.as_bytes()).unwrap();
    for byte in b"body" {
        pause(400);
        client.send(&[*byte]).unwrap();
    }
    let answer = client.read("POST").unwrap();
    assert_eq!((answer.status, answer.json()["body_length"].as_u64()), (200, Some(4)));
}

#[test]
fn an_idle_connection_is_closed_without_a_word_and_a_waiting_one_is_not() {
    let acme = Acme::built_in();
    let mut config = config(&acme);
    set(&mut config, "limits.idle_timeout", "500ms");
    let icm = Icm::start(config);
    let mut idle = icm.client();
    assert_eq!(idle.get("/fast").status, 200);
    let mut waiting = icm.client();
    assert_eq!(waiting.get("/sales/orders.nsf?OpenDatabase&delay=1500").status, 200);
    assert_eq!(idle.read_to_end().unwrap(), b"");
    assert_eq!(waiting.read_to_end().unwrap(), b"");
    let refused: Vec<_> = icm
        .admin("/metrics")
        .text()
        .lines()
        .filter(|l| l.starts_with("icm_client_refused"))
        .map(str::to_owned)
        .collect();
    assert!(refused.iter().all(|l| l.ends_with(" 0")), "{refused:?}");
}

#[test]
fn a_client_that_neither_sends_nor_takes_is_cut_and_others_are_served() {
    let acme = Acme::built_in();
    let mut config = config(&acme);
    set(&mut config, "limits.min_rate", "1KiB");
    set(&mut config, "clusters.0.failover.response_timeout", "100s");
    let icm = Icm::start(config);
    let begin = Instant::now();
    let patience = Duration::from_secs(120);
    // Sends half of a body, then a little from time to time.
    let mut sender = connect(icm.address);
    sender.set_read_timeout(Some(patience)).unwrap();
    let head =
        icm.client().head("POST", "/sales/orders.nsf?OpenDatabase&rid=half", &[("Content-Length", "4000")]);
    sender.write_all(head.as_bytes()).unwrap();
    sender.write_all(&[b'x'; 2000]).unwrap();
    let mut writer = sender.try_clone().unwrap();
    let trickle = std::thread::spawn(move || {
        while writer.write_all(b"y").is_ok() {
            pause(500);
        }
    });
    // Takes nothing of a large answer.
    let mut taker = connect(icm.address);
    taker.set_read_timeout(Some(patience)).unwrap();
    let large = 256 << 20;
    let head = icm.client().head("GET", &format!("/sales/orders.nsf?OpenDatabase&size={large}"), &[]);
    taker.write_all(head.as_bytes()).unwrap();
    let mut kept = icm.client();
    assert_eq!(kept.get("/fast").status, 200);
    let text = String::from_utf8_lossy(&rest(&mut sender)).into_owned();
    assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
    assert!(begin.elapsed() >= Duration::from_secs(25), "the client had half a minute");
    drop(sender);
    trickle.join().unwrap();
    assert!(eventually(patience, || closed(&icm, "slow") == 1), "{}", icm.admin("/metrics").text());
    assert!(rest(&mut taker).len() < large);
    assert_eq!(acme.executed("half"), 0);
    assert_eq!(kept.get("/fast").status, 200);
    assert!(eventually(MAX_WAIT, || metric(&icm, "icm_requests_in_flight") == 0));
}

fn assert_too_many(answer: &[u8]) {
    let text = String::from_utf8_lossy(answer);
    assert!(text.starts_with("HTTP/1.1 429 ") && text.contains("Retry-After: "), "{text}");
    assert!(text.contains("Connection: close") && text.contains("Server: domino-icm\r\n"), "{text}");
}

#[test]
fn a_connection_too_many_is_told_so_in_its_own_protocol() {
    let acme = Acme::built_in();
    let mut config = with_tls(&acme);
    set(&mut config, "limits.connections", "1");
    let icm = Icm::start(config);
    assert!(eventually(MAX_WAIT, || metric(&icm, "icm_sessions_inbound_active") == 0));
    let old = tls_client(&acme, &["http/1.1"], rustls::ALL_VERSIONS);
    let mut kept = tls(icm.address, &old);
    kept.write_all(b"GET /fast HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    kept.read_exact(&mut [0; 15]).unwrap();
    assert_too_many(&rest(&mut tls(icm.address, &old)));
    let new = tls_client(&acme, &["h2"], rustls::ALL_VERSIONS);
    let said = rest(&mut tls(icm.address, &new));
    // SETTINGS, and GOAWAY with ENHANCE_YOUR_CALM.
    assert!(said.len() == 26 && said[12] == 7 && said[25] == 11, "{said:?}");
}

#[test]
fn connections_over_the_limit_are_closed_at_once_and_a_reload_changes_the_limit() {
    let acme = Acme::built_in();
    let mut config = config(&acme);
    set(&mut config, "limits.connections", "3");
    let icm = Icm::start(config.clone());
    // The test that it listens was a connection, too.
    assert!(eventually(MAX_WAIT, || metric(&icm, "icm_sessions_inbound_active") == 0));
    let mut kept: Vec<Client> = (0..3).map(|_| icm.client()).collect();
    assert!(kept.iter_mut().all(|c| c.get("/fast").status == 200));
    assert_too_many(&rest(&mut connect(icm.address)));
    assert_eq!(closed(&icm, "limit"), 1, "and the admin listener is not limited");
    assert!(kept.iter_mut().all(|c| c.get("/fast").status == 200));
    kept.pop();
    assert!(eventually(MAX_WAIT, || icm
        .client()
        .request("GET", "/fast", &[], b"")
        .is_ok_and(|a| a.status == 200)));
    // And off.
    set(&mut config, "limits.connections", "0");
    icm.reload(&config);
    icm.wait_for_log("configuration reloaded");
    let mut more: Vec<Client> = (0..10).map(|_| icm.client()).collect();
    assert!(more.iter_mut().all(|c| c.get("/fast").status == 200));
}

#[test]
fn one_address_has_a_limit_of_its_own_which_a_trusted_proxy_has_not() {
    let acme = Acme::built_in();
    let mut config = config(&acme);
    set(&mut config, "limits.per_client", "{ connections: 2 }");
    let icm = Icm::start(config.clone());
    assert!(eventually(MAX_WAIT, || metric(&icm, "icm_sessions_inbound_active") == 0));
    let mut kept: Vec<Client> = (0..2).map(|_| icm.client()).collect();
    assert!(kept.iter_mut().all(|c| c.get("/fast").status == 200));
    assert_too_many(&rest(&mut connect(icm.address)));
    let mut asking = connect(icm.address);
    asking.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody").unwrap();
    assert_too_many(&rest(&mut asking));
    assert_eq!(closed(&icm, "client_limit"), 2);
    set(&mut config, "listeners.0.trusted_proxies", "[127.0.0.0/8]");
    icm.reload(&config);
    icm.wait_for_log("configuration reloaded");
    let mut more: Vec<Client> = (0..5).map(|_| icm.client()).collect();
    assert!(more.iter_mut().all(|c| c.get("/fast").status == 200));
    set(&mut config, "listeners.0.trusted_proxies", "[]");
    set(&mut config, "limits.per_client", "{ connections: 3 }");
    icm.reload(&config);
    let again = || icm.client().request("GET", "/fast", &[], b"").is_ok();
    // The five came by a proxy and do not count; two are left of those that do.
    assert!(eventually(MAX_WAIT, || icm.log().matches("configuration reloaded").count() == 2));
    assert!(eventually(MAX_WAIT, again));
    drop(more);
    assert!(kept.iter_mut().all(|c| c.get("/fast").status == 200));
}

#[test]
fn a_handshake_that_does_not_come_is_cut_and_is_no_error_in_the_log() {
    let acme = Acme::built_in();
    let mut config = with_tls(&acme);
    set(&mut config, "limits.handshake_timeout", "500ms");
    let icm = Icm::start(config);
    let good = tls_client(&acme, &["http/1.1"], rustls::ALL_VERSIONS);
    assert_eq!(rest(&mut connect(icm.address)), b"");
    // Half of a record.
    let mut half = connect(icm.address);
    half.write_all(b"\x16\x03\x01\x02\x00\x01").unwrap();
    rest(&mut half);
    // No TLS at all.
    let mut plain = connect(icm.address);
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    rest(&mut plain);
    let mut stream = tls(icm.address, &good);
    stream.write_all(b"GET /fast HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    assert!(rest(&mut stream).starts_with(b"HTTP/1.1 200 "));
    assert!(closed(&icm, "handshake") >= 3);
    assert!(!icm.log().contains("ERROR"), "{}", icm.log());
}

#[test]
fn a_client_that_speaks_none_of_our_protocols_is_told_so() {
    let acme = Acme::built_in();
    let icm = Icm::start(with_tls(&acme));
    for (offer, agreed) in [
        (&["h2", "http/1.1"][..], Some(&b"h2"[..])),
        (&["http/1.1", "h2"], Some(b"h2")),
        (&["http/1.1"], Some(b"http/1.1")),
        (&["spdy/3", "http/1.1"], Some(b"http/1.1")),
        (&[], None),
    ] {
        let mut stream = tls(icm.address, &tls_client(&acme, offer, rustls::ALL_VERSIONS));
        stream.flush().unwrap();
        assert_eq!(stream.conn.alpn_protocol(), agreed, "{offer:?}");
    }
    for version in rustls::ALL_VERSIONS {
        let mut stream = tls(icm.address, &tls_client(&acme, &["spdy/3"], &[version]));
        let refused = stream.flush().and_then(|()| stream.read(&mut [0; 1])).unwrap_err();
        assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");
    }
}

#[test]
fn a_session_is_resumed_in_both_versions_of_tls() {
    let acme = Acme::built_in();
    let icm = Icm::start(with_tls(&acme));
    for version in rustls::ALL_VERSIONS {
        let config = tls_client(&acme, &["http/1.1"], &[version]);
        let visit = || {
            let mut stream = tls(icm.address, &config);
            stream.write_all(b"GET /fast HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
            assert!(rest(&mut stream).starts_with(b"HTTP/1.1 200 "));
            stream.conn.handshake_kind().unwrap()
        };
        assert_eq!(visit(), HandshakeKind::Full, "{version:?}");
        assert_eq!(visit(), HandshakeKind::Resumed, "{version:?}");
        assert_eq!(visit(), HandshakeKind::Resumed, "{version:?}");
    }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const PING: &[u8] = &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
/// The beginning of a header block on stream 1, `:method: GET`, without its end.
const OPEN_HEADERS: &[u8] = &[0, 0, 1, 1, 1, 0, 0, 0, 1, 0x82];

#[test]
fn an_http2_connection_that_does_not_begin_or_never_asks_is_cut() {
    let acme = Acme::built_in();
    let mut config = with_tls(&acme);
    set(&mut config, "limits.header_timeout", "600ms");
    set(&mut config, "limits.idle_timeout", "1500ms");
    let icm = Icm::start(config);
    let client = tls_client(&acme, &["h2"], rustls::ALL_VERSIONS);
    let half = &PREFACE[..10];
    let no_settings = [PREFACE, PING].concat();
    let open_headers = [PREFACE, SETTINGS, OPEN_HEADERS].concat();
    let silent = [PREFACE, SETTINGS].concat();
    for bytes in [b"", half, PREFACE, &no_settings, &open_headers, &silent, b"GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = tls(icm.address, &client);
        stream.write_all(bytes).unwrap();
        stream.flush().unwrap();
        rest(&mut stream);
    }
    // Control frames are no request: they keep nothing open.
    let mut pings = tls(icm.address, &client);
    pings.write_all(&silent).unwrap();
    let cut = eventually(MAX_WAIT, || {
        pause(50);
        pings.write_all(PING).and_then(|()| pings.flush()).is_err()
    });
    assert!(cut, "a connection with nothing but PING lives for ever");
    assert!(closed(&icm, "slow") >= 3);
}
