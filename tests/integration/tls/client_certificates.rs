//! Users who are known by the certificate of their browser: at every server, without a login, and never by a claim of their
//! own. The servers of the simulated cluster read `$WSCC` as Domino does.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, HandshakeKind, SupportedProtocolVersion};
use serde_json::{Value as Json, json};
use serde_yaml::Value;

use crate::support::*;

const SERVERS: &str = "
servers:
  - { name: Web1/Acme, set: { certificate_login: true } }
  - { name: Web2/Acme, set: { certificate_login: true } }
databases:
  - { path: cldbdir.nsf, replica_id: C1256A2F00310002, replicas: all }
  - { path: own.nsf, replica_id: C1257A000041D201, replicas: all, login: true }
  - { path: open.nsf, replica_id: C1257A000041D202, replicas: all }
";
const OWN: &str = "/own.nsf?OpenDatabase&echo=json";
const OPEN: &str = "/open.nsf?OpenDatabase&echo=json";

/// A person's certificate and key in one file, as curl reads it.
struct Person {
    file: PathBuf,
    base64: String,
}

impl Person {
    fn new(dir: &Path, file: &str, by: &Authority, name: &str) -> Self {
        let (pem, key) = by.person(name);
        let base64 = STANDARD.encode(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap());
        Self { file: PathBuf::from(secret_file(dir, file, &(pem + &key))), base64 }
    }
}

/// A cluster that logs users in by certificate, and `icm` with a plain listener and one that asks for certificates.
struct Site {
    acme: Acme,
    icm: Icm,
    config: Value,
    secure: SocketAddr,
    jane: Person,
    stranger: Person,
    _dir: tempfile::TempDir,
}

impl Site {
    fn start(change: impl FnOnce(&mut Value)) -> Self {
        let acme = Acme::start(SERVERS);
        let dir = tempfile::tempdir().unwrap();
        let (clients, strangers) = (Authority::new("Clients", None), Authority::new("Strangers", None));
        let ca = dir.path().join("clients.pem");
        std::fs::write(&ca, &clients.pem).unwrap();
        let mut config = config(&acme);
        let secure = add_tls(&mut config, &acme);
        let asked = format!("{{ ca_file: {}, mode: request }}", ca.display());
        set(&mut config, "listeners.1.tls.client_certificates", &asked);
        set(&mut config, "clusters.0.upstream_scheme", "https");
        for n in 0..2 {
            set(&mut config, &format!("clusters.0.servers.list.{n}.connector_headers"), "client_certificate");
        }
        change(&mut config);
        let icm = Icm::start(config.clone());
        wait_for(secure);
        for name in ["Web1", "Web2"] {
            icm.wait_for_state(name, "AVAILABLE");
        }
        icm.wait_for_status("read", |s| s["clusters"][0]["directory"]["databases"].as_u64() > Some(0));
        let jane = Person::new(dir.path(), "jane.pem", &clients, "Jane Doe");
        let stranger = Person::new(dir.path(), "stranger.pem", &strangers, "Jane Doe");
        Self { acme, icm, config, secure, jane, stranger, _dir: dir }
    }

    /// What `curl` gets over a new connection: the status, or 0 if the handshake failed, and the body.
    fn curl(&self, person: Option<&Person>, target: &str, arguments: &[&str]) -> (u16, String) {
        let mut command = Command::new("curl");
        command.args(["-sS", "--max-time", "60", "-w", "\n%{http_code}", "--cacert"]).arg(&self.acme.ca_file);
        if let Some(person) = person {
            command.arg("--cert").arg(&person.file);
        }
        let url = format!("https://localhost:{}{target}", self.secure.port());
        let out = command.args(arguments).arg(url).output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n').unwrap_or_else(|| panic!("{out:?}"));
        (status.parse().unwrap(), body.to_owned())
    }

    /// The page that a server made, which shows the request.
    fn page(&self, person: Option<&Person>, target: &str, arguments: &[&str]) -> Page {
        let (status, body) = self.curl(person, target, arguments);
        assert_eq!(status, 200, "{arguments:?}: {body}\n{}", self.icm.log());
        Page(serde_json::from_str(&body).unwrap_or_else(|e| panic!("{e}: {body}")))
    }
}

struct Page(Json);

impl Page {
    fn user(&self) -> &Json {
        &self.0["user"]
    }

    fn server(&self) -> String {
        self.0["server"].as_str().unwrap().to_owned()
    }

    /// The values of a field, and of every field that a CGI program could not tell from it.
    fn all(&self, name: &str) -> Vec<&str> {
        let folded = |name: &str| name.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        let headers = self.0["headers"].as_array().unwrap().iter();
        let named = headers.filter(|h| folded(h[0].as_str().unwrap()) == folded(name));
        named.map(|h| h[1].as_str().unwrap()).collect()
    }

    #[track_caller]
    fn assert_no_identity(&self) {
        for name in ["$WSCC", "$WSCS", "$WSPR", "$WSRU", "$WSAT"] {
            assert!(self.all(name).is_empty(), "{name}: {}", self.0);
        }
        assert_eq!(self.user(), &Json::Null, "{}", self.0);
    }
}

/// Over HTTP/1.1 and HTTP/2, and with a body of unknown length, which never takes the fast path.
const WAYS: [&[&str]; 3] =
    [&["--http1.1"], &["--http2"], &["--http1.1", "-H", "Transfer-Encoding: chunked", "-d", "a=b"]];

#[test]
fn a_user_with_a_certificate_is_the_same_at_every_server_without_a_login() {
    let site = Site::start(|_| {});
    let jane = Some(&site.jane);
    for way in WAYS {
        let page = site.page(jane, OWN, way);
        assert_eq!(page.user(), "Jane Doe", "{way:?}");
        assert_eq!(page.all("$WSCC"), [&*site.jane.base64], "{way:?}");
        assert_eq!(page.all("$WSPR"), ["HTTP/1.1"]);
        assert!(matches!(&*page.all("$WSCS"), [one] if one.starts_with("TLS_AES_")), "{}", page.0);
        for (name, value) in [("$WSRA", "127.0.0.1"), ("$WSSC", "https"), ("$WSIS", "True")] {
            assert_eq!(page.all(name), [value], "{way:?}");
        }
        for never in ["$WSRU", "$WSAT", "Cookie"] {
            assert!(page.all(never).is_empty(), "{never}: {}", page.0);
        }
        // Nothing that the browser could send again leads it to the next server.
        let down = page.server();
        let name = down.split('/').next().unwrap();
        site.acme.ask("POST", &format!("/servers/{name}/stop"), None);
        if way.contains(&"-d") {
            // Otherwise it might be sent on a connection that breaks, and what POST has sent is sent once.
            site.icm.wait_for_state(name, "UNREACHABLE");
        }
        let page = site.page(jane, OWN, way);
        assert_ne!(page.server(), down, "{way:?}");
        assert_eq!((page.user(), page.all("$WSCC")), (&json!("Jane Doe"), vec![&*site.jane.base64]));
        site.acme.ask("POST", "/servers/all/start", None);
        for name in ["Web1", "Web2"] {
            site.icm.wait_for_state(name, "AVAILABLE");
        }
    }
    for way in WAYS {
        // Without one, who asks is anonymous.
        site.page(None, OPEN, way).assert_no_identity();
        assert_eq!(site.page(None, OPEN, way).all("$WSRA"), ["127.0.0.1"]);
        assert_eq!(site.curl(None, OWN, way).0, 401);
        // One of another authority is no certificate at all: the handshake fails, or the first read after it.
        assert_eq!(site.curl(Some(&site.stranger), OPEN, way), (0, String::new()));
    }
    site.shows_what_it_does();
}

impl Site {
    /// The log names users; `explain`, `audit` and `/status` the servers that get certificates.
    fn shows_what_it_does(&self) {
        self.icm.wait_for_log("\"client_subject\":\"CN=Jane Doe\"");
        let anonymous =
            |line: &&str| line.contains("\"target\":\"/open.nsf") && line.contains("\"status\":200");
        assert!(eventually(MAX_WAIT, || self.icm.log().lines().any(|line| anonymous(&line))));
        let log = self.icm.log();
        assert!(log.lines().filter(anonymous).all(|line| !line.contains("client_subject")), "{log}");
        let explained = self.icm.admin("/explain?url=https://localhost/own.nsf").json();
        assert!(explained["notes"].to_string().contains("gets the certificate of a client"), "{explained}");
        let status = self.icm.status_of("Web1");
        assert_eq!(status["connector_headers"], "client_certificate");
        let exposure = status["exposure"].as_str().unwrap();
        assert!(exposure.contains("only the ICMs may reach them"), "{exposure}");
        let audit = self.icm.admin("/audit").json().to_string();
        assert!(
            audit.contains("gets_certificates") && audit.contains("Web2/Acme: Domino believes"),
            "{audit}"
        );
        let shown = icm_cli(&["show", "cluster", "--admin", &format!("http://{}", self.icm.admin)]);
        assert!(shown.out.contains("Web1/Acme: Domino believes a certificate in `$WSCC`"), "{}", shown.out);
        self.icm.wait_for_log("only the ICMs may reach them");
    }

    fn lies(&self) -> Vec<Vec<String>> {
        let names = ["$WSCC", "$wscc", "$WsCc", "_WSCC", "$WS_CC", "$WSRU", "$WSAT", "$WSCS", "$WSPR"];
        let mut all = Vec::new();
        for name in names {
            let lie = format!("{name}: {}", self.jane.base64);
            all.push(vec!["-H".to_owned(), lie.clone()]);
            all.push(
                ["-H", &lie, "-H", &lie, "-H", &format!("Connection: {name}")].map(str::to_owned).to_vec(),
            );
        }
        all
    }
}

#[test]
fn nobody_is_another_user_by_what_he_writes_into_a_request() {
    let site = Site::start(|_| {});
    for lie in site.lies() {
        let lie: Vec<&str> = lie.iter().map(String::as_str).collect();
        for way in WAYS {
            let arguments = [way, &lie].concat();
            site.page(None, OPEN, &arguments).assert_no_identity();
        }
        // A lie in HTTP/1.1 does not take the truth away either.
        let page = site.page(Some(&site.jane), OWN, &[WAYS[0], &lie].concat());
        assert_eq!(
            (page.user(), page.all("$WSCC")),
            (&json!("Jane Doe"), vec![&*site.jane.base64]),
            "{lie:?}"
        );
        assert!(page.all("$WSRU").is_empty() && page.all("$WSAT").is_empty(), "{lie:?}: {}", page.0);
        assert_eq!(page.all("$WSPR"), ["HTTP/1.1"], "{lie:?}");
    }
    let lie = format!("$WSCC: {}", site.jane.base64);
    assert_eq!(site.curl(None, OWN, &["-H", &lie]).0, 401);
}

#[test]
fn a_certificate_goes_to_no_server_in_clear_text_and_that_of_a_proxy_to_none() {
    let site = Site::start(|config| set(config, "clusters.0.upstream_scheme", "same"));
    let jane = Some(&site.jane);
    assert_eq!(site.page(jane, OWN, &[]).user(), "Jane Doe");
    let plain = Page(site.icm.client().get(OPEN).json());
    plain.assert_no_identity();
    assert_eq!((&plain.0["scheme"], plain.all("$WSRA")), (&json!("http"), vec!["127.0.0.1"]));
    let explained = site.icm.admin("/explain?url=http://localhost/own.nsf").json();
    assert!(explained["notes"].to_string().contains("gets no certificate"), "{explained}");
    // A trusted proxy shows its own certificate, whatever it says about the client behind it.
    let mut config = site.config.clone();
    set(&mut config, "listeners.1.trusted_proxies", "[127.0.0.1]");
    site.reload(&config);
    for scheme in ["http", "https"] {
        let forwarded = format!("X-Forwarded-Proto: {scheme}");
        let page = site.page(jane, OPEN, &["-H", &forwarded]);
        page.assert_no_identity();
        assert_eq!(page.0["scheme"], scheme);
    }
    assert_eq!(site.curl(jane, OWN, &[]).0, 401);
    // In redirect mode the browser shows its certificate to the server itself.
    set(&mut config, "clusters.0.mode", "redirect");
    site.reload(&config);
    assert_eq!(site.curl(jane, OWN, &[]).0, 302);
    site.icm.wait_for_log("no effect with mode: redirect");
    let seen = site.acme.ask("GET", "/requests?n=100000", None);
    for request in seen.as_array().unwrap().iter().filter(|request| request["scheme"] == "http") {
        assert!(!request["headers"].to_string().to_lowercase().contains("$wscc"), "{request}");
    }
}

impl Site {
    fn reload(&self, config: &Value) {
        let at = || self.icm.admin("/status").json()["reload"]["at"].clone();
        let before = at();
        pause(5);
        self.icm.reload(config);
        assert!(eventually(MAX_WAIT, || at() != before), "HUP was not heard");
        assert_eq!(self.icm.admin("/status").json()["reload"]["success"], true, "{}", self.icm.log());
    }

    fn tls(&self, person: &Person, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.acme.ca_file).unwrap()).unwrap();
        let builder =
            ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
        let chain = vec![CertificateDer::from_pem_file(&person.file).unwrap()];
        let key = PrivateKeyDer::from_pem_file(&person.file).unwrap();
        Arc::new(builder.with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap())
    }

    /// A request over a new connection: how its handshake was, and the page.
    fn visit(&self, config: &Arc<ClientConfig>) -> (HandshakeKind, Page) {
        use std::io::{Read, Write};
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let connection = rustls::ClientConnection::new(Arc::clone(config), name).unwrap();
        let tcp = std::net::TcpStream::connect(self.secure).unwrap();
        tcp.set_read_timeout(Some(MAX_WAIT)).unwrap();
        let mut stream = rustls::StreamOwned::new(connection, tcp);
        let head = format!("GET {OWN} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let text = String::from_utf8(answer).unwrap();
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        let (_, body) = text.split_once("\r\n\r\n").unwrap();
        (stream.conn.handshake_kind().unwrap(), Page(serde_json::from_str(body).unwrap()))
    }
}

#[test]
fn a_resumed_session_has_the_certificate_of_the_handshake_before() {
    let site = Site::start(|_| {});
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = site.tls(&site.jane, version);
        let (first, page) = site.visit(&config);
        assert!(matches!(first, HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest), "{first:?}");
        assert_eq!(page.user(), "Jane Doe");
        for _ in 0..2 {
            let (again, page) = site.visit(&config);
            assert_eq!(again, HandshakeKind::Resumed, "{version:?}");
            assert_eq!((page.user(), page.all("$WSCC")), (&json!("Jane Doe"), vec![&*site.jane.base64]));
        }
    }
}
