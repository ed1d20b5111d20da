//! The files in `state_dir/acme`: the accounts, one file for the certificate and key of each host, and the record of orders.
//! Only the owner can read them. Every function blocks.

use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::certificate::AcmeCertificate;
use super::record::OrderRecords;
use crate::config::file_access::ACME_DIR;
use crate::config::settings::AcmeSettings;
use crate::config::{Disk, Files};
use crate::util::atomic_file;

const RECORDS: &str = "orders.json";
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The directory `acme` below `state_dir`.
#[derive(Clone, Debug)]
pub struct AcmeFolder(PathBuf);

impl AcmeFolder {
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self(state_dir.join(ACME_DIR))
    }

    /// The file of a host, for messages and the metric.
    #[must_use]
    pub fn certificate_file(&self, host: &str) -> PathBuf {
        self.0.join(format!("{host}.pem"))
    }

    /// `None` if there is no file.
    ///
    /// # Errors
    /// When there is a file without a usable certificate for this host.
    pub fn load_certificate(&self, host: &str) -> Result<Option<AcmeCertificate>, String> {
        let file = self.certificate_file(host);
        let found = read(&file).and_then(|text| match text {
            Some(text) => AcmeCertificate::parse(host, text).map(Some),
            None => Ok(None),
        });
        found.map_err(|error| format!("{}: {error}", file.display()))
    }

    /// # Errors
    /// When the file cannot be written; the old one then stays.
    pub fn save_certificate(&self, host: &str, pem: &str) -> io::Result<()> {
        self.write(&self.certificate_file(host), pem)
    }

    /// Empty if there is no file; a damaged one is as good as none, and is written again with the next order.
    #[must_use]
    pub fn load_records(&self) -> OrderRecords {
        let file = self.0.join(RECORDS);
        let records = read(&file).and_then(|text| match text {
            Some(text) => serde_json::from_str(&text).map_err(|e| e.to_string()),
            None => Ok(OrderRecords::new()),
        });
        records.unwrap_or_else(|error| {
            log::warn!(target: "icm::acme", "{}: {error}; pauses after failed orders are forgotten", file.display());
            OrderRecords::new()
        })
    }

    /// # Errors
    /// When the file cannot be written.
    pub fn save_records(&self, records: &OrderRecords) -> io::Result<()> {
        let text = serde_json::to_string_pretty(records)?;
        self.write(&self.0.join(RECORDS), &format!("{text}\n"))
    }

    /// The saved account for this mail address at this ACME server.
    ///
    /// # Errors
    /// When there is a file that cannot be read.
    pub fn load_account(&self, acme: &AcmeSettings) -> Result<Option<String>, String> {
        let file = self.account_file(acme);
        read(&file).map_err(|error| format!("{}: {error}", file.display()))
    }

    /// # Errors
    /// When the file cannot be written.
    pub fn save_account(&self, acme: &AcmeSettings, text: &str) -> io::Result<()> {
        self.write(&self.account_file(acme), text)
    }

    fn account_file(&self, acme: &AcmeSettings) -> PathBuf {
        let digest = Sha256::digest(format!("{}\n{}", acme.directory, acme.email).as_bytes());
        let name: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        self.0.join(format!("account-{name}.json"))
    }

    fn write(&self, file: &Path, text: &str) -> io::Result<()> {
        atomic_file::create_dir(&self.0, atomic_file::PRIVATE_DIR_MODE)?;
        atomic_file::replace(file, atomic_file::PRIVATE_FILE_MODE, |file| file.write_all(text.as_bytes()))
    }
}

fn read(file: &Path) -> Result<Option<String>, String> {
    match Disk.read(file, MAX_FILE_BYTES) {
        Ok(content) => {
            String::from_utf8(content.bytes).map(Some).map_err(|_| "it is not UTF-8 text".to_owned())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::OrderRecord;
    use super::*;
    use crate::config::settings::AcmeChallengeType;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_the_owner_can_read_what_is_kept_and_damage_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = AcmeFolder::new(&dir.path().join("state"));
        assert!(folder.load_certificate("www.acme.example").unwrap().is_none());
        assert!(folder.load_records().is_empty());
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["www.acme.example".to_owned()]).unwrap();
        let pem = format!("{}{}", key.serialize_pem(), params.self_signed(&key).unwrap().pem());
        folder.save_certificate("www.acme.example", &pem).unwrap();
        assert_eq!(folder.load_certificate("www.acme.example").unwrap().unwrap().pem, pem);
        let file = folder.certificate_file("www.acme.example");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&file, pem.split_at(pem.len() / 2).0).unwrap();
        assert!(folder.load_certificate("www.acme.example").unwrap_err().contains("www.acme.example.pem"));
        let failed = OrderRecord { failures: 3, paused_until: 99, ..OrderRecord::default() };
        let records = OrderRecords::from([("www.acme.example".to_owned(), failed)]);
        folder.save_records(&records).unwrap();
        assert_eq!(folder.load_records(), records);
        std::fs::write(dir.path().join("state/acme/orders.json"), "{").unwrap();
        assert!(folder.load_records().is_empty());
    }

    #[test]
    fn every_mail_address_and_server_has_an_account_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let folder = AcmeFolder::new(dir.path());
        let acme = |email: &str| AcmeSettings {
            email: email.into(),
            directory: "https://acme.example/directory".into(),
            ca_file: None,
            ca: None,
            hosts: vec!["www.acme.example".into()],
            challenges: vec![AcmeChallengeType::Http01],
        };
        folder.save_account(&acme("a@acme.example"), "{}").unwrap();
        assert_eq!(folder.load_account(&acme("a@acme.example")).unwrap().as_deref(), Some("{}"));
        assert_eq!(folder.load_account(&acme("b@acme.example")).unwrap(), None);
    }
}
