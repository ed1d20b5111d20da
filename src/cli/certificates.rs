//! Describes certificates for `icm check`: whether those of the listeners cover the public names, and which one a server
//! presents. This module reads the certificate of a server even if it is not trusted, and sends no request; the probe
//! decides about trust.

use parking_lot::Mutex;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CipherSuite, ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use x509_parser::public_key::PublicKey;

use crate::acme::record::OrderRecords;
use crate::acme::storage::AcmeFolder;
use crate::config::settings::{HostPattern, Listener, Settings, TlsVersion};
use crate::server::acme_orders::time;

const EXPIRY_WARNING_DAYS: i64 = 30;
const SECONDS_PER_DAY: i64 = 24 * 3600;

/// One warning for each public name that no certificate of a TLS listener covers.
pub fn uncovered_host_names(settings: &Settings) -> Vec<String> {
    let mut out = Vec::new();
    for listener in &settings.listeners {
        let leaves = leaf_certificates(listener);
        let acme = listener.tls.iter().filter_map(|tls| tls.acme.as_ref()).flat_map(|acme| &acme.hosts);
        let acme: Vec<&String> = acme.collect();
        if leaves.is_empty() && acme.is_empty() {
            continue;
        }
        for cluster in &settings.clusters {
            for pattern in &cluster.hostnames {
                let (shown, name) = match pattern {
                    HostPattern::Exact(name) => (name.clone(), name.clone()),
                    HostPattern::Wildcard(suffix) => (format!("*{suffix}"), format!("any{suffix}")),
                };
                let is_covered = acme.iter().any(|host| host.eq_ignore_ascii_case(&name))
                    || leaves.iter().any(|leaf| covers_name(leaf, &name));
                if !is_covered {
                    out.push(format!(
                        "{}: no certificate of the listener {} is for {shown}, browsers will reject it",
                        cluster.name, listener.address
                    ));
                }
            }
        }
    }
    out
}

/// One warning for each certificate with which no cipher for TLS 1.2 of its listener goes.
pub fn keys_without_cipher(settings: &Settings) -> Vec<String> {
    let mut out = Vec::new();
    for listener in &settings.listeners {
        let Some(tls) = &listener.tls else { continue };
        let suites = &tls.protocol.suites;
        if suites.is_empty() || tls.protocol.min_version == TlsVersion::Tls13 {
            continue;
        }
        let goes_with = |key: &str| {
            let of_key = format!("ECDHE_{key}_");
            suites.iter().filter_map(CipherSuite::as_str).any(|suite| suite.contains(&of_key))
        };
        let files = tls.certificates.iter().filter_map(|file| {
            let leaf = CertificateDer::from_pem_file(&file.cert).ok()?;
            Some((key_kind(&leaf)?, file.cert.display().to_string()))
        });
        let acme = tls.acme.iter().map(|_| ("ECDSA", "the certificates from ACME".to_owned()));
        for (key, shown) in files.chain(acme).filter(|(key, _)| !goes_with(key)) {
            out.push(format!(
                "clients of TLS 1.2 cannot connect to the listener {} with {shown}: `ciphers` has no cipher for a key of the \
                 kind {key}; add `ECDHE-{key}-AES256-GCM-SHA384`, or write `min_version: \"1.3\"`",
                listener.address
            ));
        }
    }
    out
}

/// As the names of ciphers have it.
fn key_kind(leaf: &CertificateDer<'_>) -> Option<&'static str> {
    let (_, leaf) = X509Certificate::from_der(leaf).ok()?;
    Some(if matches!(leaf.public_key().parsed(), Ok(PublicKey::RSA(_))) { "RSA" } else { "ECDSA" })
}

/// What ACME has for each host and will do next; the second value is a warning.
pub fn acme_certificates(settings: &Settings) -> (Vec<String>, Vec<String>) {
    let (mut facts, mut warnings) = (Vec::new(), Vec::new());
    let Some(folder) = settings.state_dir.as_deref().map(AcmeFolder::new) else { return (facts, warnings) };
    let hosts = settings.acme_hosts();
    let records = if hosts.is_empty() { OrderRecords::new() } else { folder.load_records() };
    let now = crate::util::clock::unix_secs();
    for (host, acme) in hosts {
        let from = match &settings.follow {
            Some(follow) => format!("from {}", follow.url.origin()),
            None => {
                let challenges: Vec<_> = acme.challenges.iter().map(|challenge| challenge.as_str()).collect();
                format!("from {} by {}", acme.directory, challenges.join(" or "))
            }
        };
        let record = records.get(host).cloned().unwrap_or_default();
        match folder.load_certificate(host) {
            Ok(Some(one)) if one.validity.not_after < now => {
                warnings.push(format!(
                    "acme: {host}: the certificate has expired on {}",
                    time(one.validity.not_after)
                ));
            }
            Ok(Some(one)) => facts.push(format!(
                "acme: {host}: certificate valid until {}, renewed {from} from {} on",
                time(one.validity.not_after),
                time(one.renewal())
            )),
            Ok(None) => facts.push(format!("acme: {host}: no certificate yet, ordered {from} by `icm run`")),
            Err(error) => warnings.push(format!("acme: {error}")),
        }
        if !record.error.is_empty() && settings.follow.is_none() {
            warnings.push(format!(
                "acme: {host}: the last order failed: {}; the next one is not before {}",
                record.error,
                time(record.paused_until)
            ));
        }
    }
    (facts, warnings)
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

/// Names, issuer and expiry of the certificate that a server presents for `hostname`; if it is not `trusted`, also
/// whether an incomplete chain may be the cause. `None` if the server presents none.
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

/// The SHA-256 fingerprint of the certificate that a server presents, in the form of `openssl x509 -fingerprint`.
pub async fn server_fingerprint(address: SocketAddr, hostname: &str, timeout: Duration) -> Option<String> {
    let hostname = hostname.to_owned();
    let chain =
        tokio::task::spawn_blocking(move || fetch_chain(address, &hostname, timeout)).await.ok()??;
    let digest = Sha256::digest(chain.first()?);
    let pairs: Vec<String> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
    Some(pairs.join(":"))
}

fn describe_chain(chain: &[CertificateDer<'_>], trusted: bool, now: i64) -> String {
    let Some(Ok((_, leaf))) = chain.first().map(|leaf| X509Certificate::from_der(leaf)) else {
        return "presents a certificate that cannot be read".to_owned();
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
        _ => format!("no name in subjectAltName (subject {})", leaf.subject()),
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

/// Starts a TLS handshake and ends it when the chain has arrived.
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

/// Stores the chain and then fails the handshake.
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
        Err(rustls::Error::General("only the certificate was wanted".to_owned()))
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
