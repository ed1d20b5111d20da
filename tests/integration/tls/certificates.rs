//! TLS on both sides: the certificate by SNI, client certificates, and verification of servers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use crate::support::*;
use rcgen::KeyPair;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use serde_yaml::Value;

/// An authority that writes certificates into a folder.
struct CertificateFolder {
    authority: Authority,
    dir: tempfile::TempDir,
    file: PathBuf,
}

impl CertificateFolder {
    fn new(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(name, None);
        let file = dir.path().join("ca.pem");
        std::fs::write(&file, &authority.pem).unwrap();
        Self { authority, dir, file }
    }

    /// A certificate for these names as `<file>.pem` and `<file>.key`; replaces what was there.
    fn issue(&self, file: &str, names: &[&str]) -> (PathBuf, PathBuf) {
        let (certificate, key) = self.authority.leaf(names);
        let cert_file = self.path(file, "pem");
        std::fs::write(&cert_file, certificate).unwrap();
        let key_file = secret_file(self.dir.path(), &format!("{file}.key"), &key);
        (cert_file, PathBuf::from(key_file))
    }

    fn path(&self, file: &str, kind: &str) -> PathBuf {
        self.dir.path().join(format!("{file}.{kind}"))
    }

    /// `certificates:` of these files.
    fn list(&self, files: &[&str]) -> String {
        let pair = |f: &&str| {
            format!("{{ cert: {}, key: {} }}", self.path(f, "pem").display(), self.path(f, "key").display())
        };
        format!("[{}]", files.iter().map(pair).collect::<Vec<_>>().join(", "))
    }

    fn der(&self, file: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.path(file, "pem")).unwrap()
    }
}

/// Accepts every certificate, and remembers it.
#[derive(Debug, Default)]
struct Seen(Mutex<Option<CertificateDer<'static>>>);

impl ServerCertVerifier for Seen {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.0.lock().unwrap() = Some(leaf.clone().into_owned());
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// GET / over a new connection, with this name in the SNI (an address: none), and perhaps a certificate of
/// the client's. Out: the server's certificate, and the answer's head if there was one.
fn visit(
    address: SocketAddr,
    name: &str,
    own: Option<(PathBuf, PathBuf)>,
) -> (Option<CertificateDer<'static>>, String) {
    let seen = Arc::new(Seen::default());
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&seen) as Arc<dyn ServerCertVerifier>);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let chain = vec![CertificateDer::from_pem_file(cert).unwrap()];
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap()).unwrap()
        }
    };
    let server = ServerName::try_from(name.to_owned()).unwrap();
    let connection = rustls::ClientConnection::new(Arc::new(config), server).unwrap();
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(MAX_WAIT)).unwrap();
    let mut stream = rustls::StreamOwned::new(connection, stream);
    let request = "GET /fast HTTP/1.1\r\nHost: www.acme.example\r\nConnection: close\r\n\r\n";
    let mut answer = Vec::new();
    let _ = stream.write_all(request.as_bytes()).and_then(|()| stream.read_to_end(&mut answer));
    let text = String::from_utf8_lossy(&answer).into_owned();
    let leaf = seen.0.lock().unwrap().take();
    (leaf, text.split("\r\n\r\n").next().unwrap_or_default().to_owned())
}

fn leaf(address: SocketAddr, name: &str) -> CertificateDer<'static> {
    visit(address, name, None).0.expect("no certificate was shown")
}

/// The first listener with TLS.
fn with_tls(acme: &Acme, certificates: &str) -> Value {
    let mut config = config(acme);
    set(&mut config, "listeners.0.tls.certificates", certificates);
    config
}

fn reload(icm: &Icm, config: &Value, success: bool) {
    let at = || icm.admin("/status").json()["reload"]["at"].clone();
    let before = at();
    pause(5);
    icm.reload(config);
    assert!(eventually(MAX_WAIT, || at() != before), "HUP was not heard");
    assert_eq!(icm.admin("/status").json()["reload"]["success"], success, "{}", icm.log());
}

#[test]
fn the_certificate_is_chosen_by_name_exact_or_wildcard_and_the_first_is_the_default() {
    let acme = Acme::built_in();
    let ca = CertificateFolder::new("Listeners");
    ca.issue("default", &["icm.acme.example"]);
    ca.issue("www", &["www.acme.example"]);
    ca.issue("wild", &["*.mail.acme.example"]);
    let icm = Icm::start(with_tls(&acme, &ca.list(&["default", "www", "wild"])));
    for (name, expected) in [
        ("www.acme.example", "www"),
        ("WWW.Acme.Example", "www"),
        ("jane.mail.acme.example", "wild"),
        ("a.b.mail.acme.example", "default"),
        ("mail.acme.example", "default"),
        ("other.example", "default"),
        ("icm.acme.example", "default"),
        ("127.0.0.1", "default"),
    ] {
        assert_eq!(leaf(icm.address, name), ca.der(expected), "{name}");
    }
    let answer = Client::tls(icm.address, "www.acme.example", &ca.file).get("/fast");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("strict-transport-security"), Some("max-age=31536000"));
}

#[test]
fn certificates_are_swapped_on_hup_and_a_bad_one_keeps_the_old() {
    let acme = Acme::built_in();
    let ca = CertificateFolder::new("Listeners");
    ca.issue("www", &["www.acme.example"]);
    let config = with_tls(&acme, &ca.list(&["www"]));
    let icm = Icm::start(config.clone());
    let mut kept = Client::tls(icm.address, "www.acme.example", &ca.file);
    assert_eq!(kept.get("/fast").status, 200);
    let old = ca.der("www");
    let (cert, key) = ca.issue("www", &["www.acme.example"]);
    assert_eq!(leaf(icm.address, "www.acme.example"), old, "read without HUP");
    reload(&icm, &config, true);
    let new = ca.der("www");
    assert_ne!(new, old);
    assert_eq!(leaf(icm.address, "www.acme.example"), new);
    assert_eq!(kept.get("/fast").status, 200, "a connection from before");

    let good = (std::fs::read(&cert).unwrap(), std::fs::read(&key).unwrap());
    std::fs::write(&cert, "this is no certificate").unwrap();
    reload(&icm, &config, false);
    icm.wait_for_log("www.pem");
    assert_eq!(leaf(icm.address, "www.acme.example"), new);
    // A key that does not belong to the certificate.
    std::fs::write(&cert, good.0).unwrap();
    std::fs::write(&key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    reload(&icm, &config, false);
    assert_eq!(leaf(icm.address, "www.acme.example"), new);
    std::fs::write(&key, good.1).unwrap();
    // Another one beside it, in a file that names it now.
    ca.issue("shop", &["shop.acme.example"]);
    reload(&icm, &with_tls_again(&config, &ca.list(&["www", "shop"])), true);
    assert_eq!(leaf(icm.address, "shop.acme.example"), ca.der("shop"));
    assert_eq!(kept.get("/fast").status, 200);
}

fn with_tls_again(config: &Value, certificates: &str) -> Value {
    let mut config = config.clone();
    set(&mut config, "listeners.0.tls.certificates", certificates);
    config
}

#[test]
fn http2_is_offered_unless_it_is_off() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let acme = Acme::built_in();
    let ca = CertificateFolder::new("Listeners");
    ca.issue("www", &["www.acme.example"]);
    for (h2, version) in [("true", reqwest::Version::HTTP_2), ("false", reqwest::Version::HTTP_11)] {
        let mut config = with_tls(&acme, &ca.list(&["www"]));
        set(&mut config, "listeners.0.tls.h2", h2);
        let icm = Icm::start(config);
        let url = format!("https://www.acme.example:{}/sales/orders.nsf?OpenView", icm.address.port());
        let root = reqwest::Certificate::from_pem(&std::fs::read(&ca.file).unwrap()).unwrap();
        let client = reqwest::Client::builder()
            .add_root_certificate(root)
            .resolve("www.acme.example", icm.address)
            .build()
            .unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (got, status, text) = runtime.block_on(async {
            let answer = client.get(url).send().await.unwrap();
            (answer.version(), answer.status().as_u16(), answer.text().await.unwrap())
        });
        assert_eq!((got, status), (version, 200), "h2: {h2}");
        assert!(text.contains("orders.nsf"), "{text}");
    }
}

#[test]
fn only_clients_with_a_certificate_of_the_named_authority_come_in() {
    let acme = Acme::built_in();
    let (ca, clients, other_ca) = (
        CertificateFolder::new("Listeners"),
        CertificateFolder::new("Clients"),
        CertificateFolder::new("Strangers"),
    );
    ca.issue("www", &["www.acme.example"]);
    let mut config = with_tls(&acme, &ca.list(&["www"]));
    let required = format!("{{ ca_file: {}, mode: require }}", clients.file.display());
    set(&mut config, "listeners.0.tls.client_certificates", &required);
    let icm = Icm::start(config.clone());
    let enters = |own| visit(icm.address, "www.acme.example", own).1.starts_with("HTTP/1.1 200");
    let (good, bad) = (clients.issue("jane", &["jane"]), other_ca.issue("jane", &["jane"]));
    assert!(enters(Some(good.clone())));
    assert!(!enters(Some(bad.clone())));
    assert!(!enters(None));
    // Other authorities are for a new process, and that is said.
    std::fs::copy(&other_ca.file, &clients.file).unwrap();
    reload(&icm, &config, true);
    assert_eq!(icm.admin("/status").json()["reload"]["restart_required"][0], "listeners");
    assert!(enters(Some(good)) && !enters(Some(bad)));
}

#[test]
fn plain_clients_are_sent_to_https_once_their_host_was_matched() {
    let acme = Acme::built_in();
    let ca = CertificateFolder::new("Listeners");
    ca.issue("www", &["www.acme.example"]);
    let mut config = config(&acme);
    set(&mut config, "clusters.0.hostnames", "[www.acme.example]");
    set(&mut config, "listeners.0.redirect_to_https", "true");
    set(&mut config, "listeners.0.trusted_proxies", "[127.0.0.2/32]");
    let port = free_port();
    let second = format!("[{{ address: 127.0.0.1:{port}, tls: {{ certificates: {} }} }}]", ca.list(&["www"]));
    let second: Value = serde_yaml::from_str(&second).unwrap();
    config["listeners"].as_sequence_mut().unwrap().push(second[0].clone());
    let icm = Icm::start(config);
    let target = "/Sales\\Orders.nsf/%C3%BC?OpenView&Start=1&x=%2e%2E";
    let ask = |host: &str| icm.client().get_with(target, &[("Host", host)]);
    let answer = ask("www.acme.example");
    assert_eq!(answer.status, 308);
    assert_eq!(answer.header("location"), Some(format!("https://www.acme.example{target}").as_str()));
    // Who writes our port reaches us without anything between that maps ports.
    let answer = ask(&format!("www.acme.example:{}", icm.address.port()));
    assert_eq!(answer.header("location"), Some(format!("https://www.acme.example:{port}{target}").as_str()));
    let answer = ask("www.acme.example:8080");
    assert_eq!(answer.header("location"), Some(format!("https://www.acme.example{target}").as_str()));
    assert_eq!(ask("evil.example").status, 421);
    let form = icm.client().host("www.acme.example").post("/names.nsf?Login", &[], "Username=x");
    assert_eq!(form.status, 308, "the method and the body go along");
    // Nobody here is a trusted proxy.
    let claims = [("Host", "www.acme.example"), ("X-Forwarded-Proto", "https")];
    assert_eq!(icm.client().get_with("/", &claims).status, 308);
    let secure: SocketAddr = ([127, 0, 0, 1], port).into();
    assert_eq!(Client::tls(secure, "www.acme.example", &ca.file).get("/fast").status, 200);
}

#[test]
fn the_admin_listener_speaks_tls_and_its_certificate_is_renewed() {
    let acme = Acme::built_in();
    let ca = CertificateFolder::new("Admin");
    let (cert, key) = ca.issue("admin", &["localhost"]);
    let mut config = config(&acme);
    let files = format!("{{ cert: {}, key: {} }}", cert.display(), key.display());
    set(&mut config, "admin.tls", &files);
    let icm = Icm::start(config.clone());
    let ready = || Client::tls(icm.admin, "localhost", &ca.file).get("/readyz").status == 200;
    assert!(eventually(MAX_WAIT, ready), "{}", icm.log());
    ca.issue("admin", &["localhost"]);
    icm.reload(&config);
    assert!(eventually(MAX_WAIT, || leaf(icm.admin, "localhost") == ca.der("admin")), "{}", icm.log());
}

/// HTTPS to the servers, probed once: the first request makes the first connection of its own.
fn upstream_https(acme: &Acme) -> Value {
    let mut config = config(acme);
    set(&mut config, "clusters.0.upstream_scheme", "https");
    set(&mut config, "clusters.0.probe", "{ interval: 1h, healthy_after: 1 }");
    set(&mut config, "clusters.0.directory.refresh", "1h");
    config
}

fn status_of(icm: &Icm, rid: &str) -> u16 {
    icm.client().get_with("/sales/orders.nsf?OpenPage", &[("X-Request-Id", rid)]).status
}

#[test]
fn no_server_is_sent_a_request_whose_certificate_is_not_good() {
    let acme = Acme::built_in();
    let good = Icm::start(upstream_https(&acme));
    let healthy = |icm: &Icm| {
        let status = icm.admin("/status").json();
        status["clusters"][0]["servers"].as_array().unwrap().iter().all(|s| s["https_up"] == true)
    };
    assert!(eventually(MAX_WAIT, || healthy(&good)), "{}", good.log());
    assert_eq!(status_of(&good, &unique_id()), 200);
    for fault in ["tls_wrong_name", "tls_expired", "tls_handshake"] {
        let icm = Icm::start(upstream_https(&acme));
        assert!(eventually(MAX_WAIT, || healthy(&icm)), "{}", icm.log());
        acme.fault("all", fault.into());
        let rid = unique_id();
        assert_eq!(status_of(&icm, &rid), 503, "{fault}");
        assert_eq!(acme.executed(&rid), 0, "{fault}: the request was sent");
        acme.heal("all");
    }
    // An authority that is not configured.
    let mut config = upstream_https(&acme);
    set(&mut config, "clusters.0.upstream_tls", "{ verify: true }");
    let icm = Icm::start(config.clone());
    let rid = unique_id();
    assert_eq!((status_of(&icm, &rid), acme.executed(&rid)), (503, 0));
    let other = CertificateFolder::new("Another");
    set(&mut config, "clusters.0.upstream_tls.ca_file", &other.file.display().to_string());
    readdress(&mut config);
    let icm = Icm::start(config);
    let rid = unique_id();
    assert_eq!((status_of(&icm, &rid), acme.executed(&rid)), (503, 0));
}

#[test]
fn a_probe_notices_a_bad_certificate_and_verify_false_says_so_and_goes_on() {
    let acme = Acme::built_in();
    acme.fault("all", "tls_wrong_name".into());
    let mut config = config(&acme);
    set(&mut config, "clusters.0.upstream_scheme", "https");
    let icm = Icm::start(config.clone());
    icm.wait_for_log("the certificate is not trusted");
    let up = || icm.admin("/status").json()["clusters"][0]["servers"][0]["https_up"] == true;
    assert!(!up());
    assert_eq!(status_of(&icm, &unique_id()), 503);
    set(&mut config, "clusters.0.upstream_tls", "{ verify: false }");
    reload(&icm, &config, true);
    assert!(eventually(MAX_WAIT, up), "{}", icm.log());
    assert!(eventually(MAX_WAIT, || status_of(&icm, &unique_id()) == 200), "{}", icm.log());
    icm.wait_for_log("verify: false");
}

fn readdress(config: &mut Value) {
    for key in ["listeners.0.address", "admin.address"] {
        set(config, key, &format!("127.0.0.1:{}", free_port()));
    }
}
