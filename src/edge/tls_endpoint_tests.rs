//! Handshakes over the loopback interface: resumed sessions, and the client certificates in them.

use std::path::Path;
use std::time::Duration;

use pingora::tls::{TlsConnector, TlsStream as PlainTlsStream};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::danger::ClientCertVerified;
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, HandshakeKind, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::edge::tcp::{ClientOrigin, ClientTcp};
use crate::util::crypto;

/// An authority, a server and a client that it has certified, as files.
fn certificates(dir: &Path) {
    let write = |name: &str, text: String| std::fs::write(dir.join(name), text).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    write("ca.pem", params.self_signed(&key).unwrap().pem());
    let issuer = Issuer::new(params, key);
    for name in ["server", "client"] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        write(&format!("{name}.pem"), params.signed_by(&key, &issuer).unwrap().pem());
        write(&format!("{name}.key"), key.serialize_pem());
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(dir.join(format!("{name}.key")), mode).unwrap();
    }
}

/// A listener that requires a client certificate, one that does not ask for any, and one that can do without. With ticket
/// keys in a file or not.
fn listeners(dir: &Path, keys: &str) -> [Arc<TlsEndpoint>; 3] {
    let certificates = "certificates: { cert: server.pem, key: server.key }";
    let text = format!(
        "listeners:\n\
         - {{ address: 127.0.0.1:8443, tls: {{ {certificates}, client_certificates: {{ ca_file: ca.pem }}{keys} }} }}\n\
         - {{ address: 127.0.0.1:8444, tls: {{ {certificates}{keys} }} }}\n\
         - {{ address: 127.0.0.1:8445, tls: {{ {certificates}, client_certificates: {{ ca_file: ca.pem, mode: request }}{keys} }} }}\n\
         clusters: [{{ name: A, directory: {{ source: cldbdir }}, servers: {{ list: [{{ name: W/A, http: 127.0.0.1:1 }}] }} }}]"
    );
    let settings = crate::config::load_text(&dir.join("icm.yaml"), &text).unwrap().settings;
    let stores = Certificates::load(&settings, &Arc::default()).unwrap();
    let generated = Arc::new(GeneratedTicketKeys::new(None));
    let endpoints = TlsEndpoints::load(&settings, &stores, generated).unwrap();
    [8443, 8444, 8445].map(|port| endpoints.for_listener(([127, 0, 0, 1], port).into()).unwrap())
}

/// A client that keeps its sessions.
fn client(dir: &Path, version: &'static SupportedProtocolVersion) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(dir.join("ca.pem")).unwrap()).unwrap();
    let chain = vec![CertificateDer::from_pem_file(dir.join("client.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(dir.join("client.key")).unwrap();
    let config = ClientConfig::builder_with_provider(crypto::provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    TlsConnector::from(Arc::new(config))
}

/// A handshake, and a byte behind it, before which a client of TLS 1.3 gets its tickets.
async fn connect(endpoint: &TlsEndpoint, client: &TlsConnector) -> (TlsStream<ClientTcp>, HandshakeKind) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let (accepted, peer) = listener.accept().await.unwrap();
    let accepted = ClientTcp::new(accepted, ClientOrigin::direct(peer), None, None);
    let handshake = endpoint.current();
    let serve = async {
        let mut stream = handshake.run(accepted).await.unwrap();
        stream.write_all(b"x").await.unwrap();
        stream
    };
    let visit = async {
        let mut stream = client.connect(name, tcp).await.unwrap();
        stream.read_exact(&mut [0]).await.unwrap();
        PlainTlsStream::Client(stream).get_ref().1.handshake_kind().unwrap()
    };
    tokio::time::timeout(Duration::from_secs(30), async { tokio::join!(serve, visit) }).await.unwrap()
}

/// A verifier whose clock is five thousand years ahead, after the end of every certificate that rcgen makes.
#[derive(Debug)]
struct LongAfter(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for LongAfter {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let ahead = Duration::from_secs(5_000 * 366 * 86_400);
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()) + ahead);
        self.0.verify_client_cert(leaf, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        unreachable!("only a certificate is verified again")
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        unreachable!("only a certificate is verified again")
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Vec::new()
    }
}

#[tokio::test]
async fn a_client_certificate_that_has_expired_is_refused_in_a_resumed_session_too() {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    let [requires, open, _] = listeners(dir.path(), "");
    for version in [&TLS12, &TLS13] {
        let client = client(dir.path(), version);
        assert_eq!(connect(&requires, &client).await.1, HandshakeKind::Full);
        let (stream, kind) = connect(&requires, &client).await;
        assert_eq!(kind, HandshakeKind::Resumed);
        let current = requires.current();
        let verifier = current.verifier.as_ref().unwrap();
        verify_again(&**verifier, &stream).unwrap();
        let error = verify_again(&LongAfter(Arc::clone(verifier)), &stream).unwrap_err();
        assert!(error.to_string().contains("no longer accepted"), "{error}");
        let (stream, _) = connect(&open, &client).await;
        assert!(open.current().verifier.is_none());
        let error = verify_again(&**verifier, &stream).unwrap_err();
        assert!(error.to_string().contains("no certificate"), "{error}");
    }
}

#[tokio::test]
async fn a_session_without_a_client_certificate_does_not_open_a_listener_that_requires_one() {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    let key = dir.path().join("tickets.key");
    std::fs::write(&key, "0123456789abcdef".repeat(4)).unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    for keys in ["", ", ticket_key_file: tickets.key"] {
        let ([requires, open, requests], again) =
            (listeners(dir.path(), keys), listeners(dir.path(), ", ticket_key_file: tickets.key"));
        for version in [&TLS12, &TLS13] {
            let client = client(dir.path(), version);
            assert_eq!(connect(&open, &client).await.1, HandshakeKind::Full);
            assert_eq!(connect(&open, &client).await.1, HandshakeKind::Resumed);
            assert_eq!(connect(&requires, &client).await.1, HandshakeKind::Full);
            assert_eq!(connect(&requests, &client).await.1, HandshakeKind::Full);
            assert_eq!(connect(&requires, &client).await.1, HandshakeKind::Full);
            assert_eq!(connect(&open, &client).await.1, HandshakeKind::Full);
            // Another process with the same file.
            let expected = if keys.is_empty() { HandshakeKind::Full } else { HandshakeKind::Resumed };
            assert_eq!(connect(&again[1], &client).await.1, expected);
        }
    }
}
