//! Certificates as `check` sees them: whether the listeners' cover the public names, and what a server shows.
//!
//! In: settings; the address of a server's HTTPS port. Out: words for the administrator. What a server shows
//! is looked at here whether it can be trusted or not, and nothing is ever sent to it: whether it is trusted
//! is the probe's word.

use parking_lot::Mutex;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::config::settings::{HostPattern, Listener, Settings};

/// A certificate that ends sooner than this is worth a word.
const EXPIRY_WARNING_DAYS: i64 = 30;
const SECONDS_PER_DAY: i64 = 24 * 3600;

/// One sentence for each public name that no certificate of a listener with TLS covers: browsers would
/// warn their users there.
pub fn uncovered_host_names(settings: &Settings) -> Vec<String> {
    let mut out = Vec::new();
    for listener in &settings.listeners {
        let leaves = leaf_certificates(listener);
        if leaves.is_empty() {
            continue;
        }
        for cluster in &settings.clusters {
            for pattern in &cluster.hostnames {
                let (shown, name) = match pattern {
                    HostPattern::Exact(name) => (name.clone(), name.clone()),
                    HostPattern::Wildcard(suffix) => (format!("*{suffix}"), format!("any{suffix}")),
                };
                if !leaves.iter().any(|leaf| covers_name(leaf, &name)) {
                    out.push(format!(
                        "{}: no certificate of the listener {} is for {shown}, browsers will refuse it",
                        cluster.name, listener.address
                    ));
                }
            }
        }
    }
    out
}

fn leaf_certificates(listener: &Listener) -> Vec<CertificateDer<'static>> {
    let files = listener.tls.iter().flat_map(|tls| &tls.certificates);
    files.filter_map(|file| CertificateDer::from_pem_file(&file.cert).ok()).collect()
}

fn covers_name(leaf: &CertificateDer<'_>, name: &str) -> bool {
    let (Ok(leaf), Ok(name)) = (webpki::EndEntityCert::try_from(leaf), ServerName::try_from(name)) else {
        return false;
    };
    leaf.verify_is_valid_for_subject_name(&name).is_ok()
}

/// What a server shows to who asks for `hostname`: for whom, by whom, how long; and where it is not `trusted`,
/// whether the chain may be why. `None` where it shows none.
pub async fn describe_server_certificate(
    address: SocketAddr,
    hostname: &str,
    trusted: bool,
    timeout: Duration,
) -> Option<String> {
    let hostname = hostname.to_owned();
    tokio::task::spawn_blocking(move || {
        let chain = fetch_chain(address, &hostname, timeout)?;
        let now = i64::try_from(crate::util::clock::unix_secs()).unwrap_or(i64::MAX);
        Some(describe_chain(&chain, trusted, now))
    })
    .await
    .ok()?
}

fn describe_chain(chain: &[CertificateDer<'_>], trusted: bool, now: i64) -> String {
    let Some(Ok((_, leaf))) = chain.first().map(|leaf| X509Certificate::from_der(leaf)) else {
        return "shows a certificate that cannot be read".to_owned();
    };
    let names = leaf.subject_alternative_name().ok().flatten().map(|found| {
        let name = |name: &GeneralName<'_>| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => match *bytes {
                [a, b, c, d] => Some(format!("{a}.{b}.{c}.{d}")),
                other => <[u8; 16]>::try_from(other).ok().map(|o| std::net::Ipv6Addr::from(o).to_string()),
            },
            _ => None,
        };
        found.value.general_names.iter().filter_map(name).take(10).collect::<Vec<_>>().join(", ")
    });
    let names = match names {
        Some(names) if !names.is_empty() => names,
        _ => format!("nobody by subjectAltName (subject {})", leaf.subject()),
    };
    let mut out = format!("certificate for {names}, issued by {}", leaf.issuer());
    let end = leaf.validity().not_after;
    let days = (end.timestamp() - now).div_euclid(SECONDS_PER_DAY);
    out.push_str(&if end.timestamp() < now {
        format!(", expired on {end}")
    } else if days < EXPIRY_WARNING_DAYS {
        format!(", expires in {days} days, on {end}: renew it")
    } else {
        format!(", valid until {end}")
    });
    if chain.len() == 1 && leaf.issuer().as_raw() == leaf.subject().as_raw() {
        out.push_str(", self-signed");
    } else if chain.len() == 1 && !trusted {
        out.push_str(", sent without the certificate of its issuer");
    }
    crate::discovery::domino::fault::single_line(&out)
}

/// Shakes hands far enough to see the chain. Nothing else is said to the server.
fn fetch_chain(
    address: SocketAddr,
    hostname: &str,
    timeout: Duration,
) -> Option<Vec<CertificateDer<'static>>> {
    let provider = crate::util::crypto::provider();
    let verifier = Arc::new(CapturingVerifier { provider: Arc::clone(&provider), chain: Mutex::default() });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&verifier) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    let name =
        ServerName::try_from(hostname.to_owned()).unwrap_or(ServerName::IpAddress(address.ip().into()));
    let connection = ClientConnection::new(Arc::new(config), name).ok()?;
    let tcp = TcpStream::connect_timeout(&address, timeout).ok()?;
    tcp.set_read_timeout(Some(timeout)).ok()?;
    tcp.set_write_timeout(Some(timeout)).ok()?;
    let _ = StreamOwned::new(connection, tcp).flush();
    let mut chain = verifier.chain.lock();
    Some(std::mem::take(&mut *chain)).filter(|chain| !chain.is_empty())
}

/// Remembers the chain.
#[derive(Debug)]
struct CapturingVerifier {
    provider: Arc<CryptoProvider>,
    chain: Mutex<Vec<CertificateDer<'static>>>,
}

impl ServerCertVerifier for CapturingVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = std::iter::once(leaf).chain(more).map(|c| c.clone().into_owned()).collect();
        *self.chain.lock() = chain;
        // Seen is enough: the handshake ends here.
        Err(rustls::Error::General("looked at".to_owned()))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let schemes = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, schemes)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let schemes = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, schemes)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
