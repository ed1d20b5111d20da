//! Certificates generated at start: an authority, and for each server a valid, an expired and a misnamed certificate.

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The certificate authority of the simulation.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    directory: Option<PathBuf>,
}

/// The TLS configurations of a server, one for each certificate.
pub struct ServerCertificates {
    pub valid: Arc<ServerConfig>,
    pub expired: Arc<ServerConfig>,
    pub wrong_name: Arc<ServerConfig>,
}

/// The fatal alert `handshake_failure`.
pub const HANDSHAKE_FAILURE: [u8; 7] = [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x28];

fn named(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "Acme");
    name.push(DnType::CommonName, common);
    name
}

impl Authority {
    /// Creates an authority, or reuses the key in that directory, so that several processes and restarts share it.
    pub fn open(directory: Option<&Path>) -> Result<Authority, String> {
        let mut params = CertificateParams::default();
        params.distinguished_name = named("Acme Test CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = match directory.and_then(|dir| std::fs::read_to_string(dir.join("ca.key")).ok()) {
            Some(pem) => KeyPair::from_pem(&pem).map_err(|e| format!("ca.key: {e}"))?,
            None => {
                let key = KeyPair::generate().map_err(|e| e.to_string())?;
                if let Some(dir) = directory {
                    std::fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
                    let certificate = params.self_signed(&key).map_err(|e| e.to_string())?;
                    write(dir, "ca.pem", &certificate.pem())?;
                    write(dir, "ca.key", &key.serialize_pem())?;
                }
                key
            }
        };
        Ok(Authority { issuer: Issuer::new(params, key), directory: directory.map(Path::to_owned) })
    }

    /// The folder of the PEM files.
    pub fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    /// Issues the certificates of one server; the valid one is written to the directory.
    pub fn server(
        &self,
        common: &str,
        hostname: &str,
        address: IpAddr,
    ) -> Result<ServerCertificates, String> {
        let names =
            vec![hostname.to_owned(), "localhost".to_owned(), "127.0.0.1".to_owned(), address.to_string()];
        let wrong = vec!["somewhere.else.example".to_owned()];
        Ok(ServerCertificates {
            valid: self.issue(common, names.clone(), false, Some(&common.to_lowercase()))?,
            expired: self.issue(common, names, true, None)?,
            wrong_name: self.issue("somewhere.else.example", wrong, false, None)?,
        })
    }

    fn issue(
        &self,
        common: &str,
        mut names: Vec<String>,
        expired: bool,
        file: Option<&str>,
    ) -> Result<Arc<ServerConfig>, String> {
        names.dedup();
        let mut params = CertificateParams::new(names).map_err(|e| format!("{common}: {e}"))?;
        params.distinguished_name = named(common);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(if expired { 2021 } else { 2099 }, 1, 1);
        let key = KeyPair::generate().map_err(|e| e.to_string())?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(|e| format!("{common}: {e}"))?;
        if let (Some(dir), Some(file)) = (&self.directory, file) {
            write(dir, &format!("{file}.pem"), &certificate.pem())?;
            write(dir, &format!("{file}.key"), &key.serialize_pem())?;
        }
        let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|e| e.to_string())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|b| b.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|e| format!("{common}: {e}"))?;
        Ok(Arc::new(config))
    }
}

fn write(dir: &Path, name: &str, text: &str) -> Result<(), String> {
    let file = dir.join(name);
    let mode = if name.ends_with(".key") { 0o600 } else { 0o644 };
    std::fs::write(&file, text)
        .and_then(|()| std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)))
        .map_err(|e| format!("{}: {e}", file.display()))
}
