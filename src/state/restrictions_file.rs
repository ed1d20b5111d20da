//! The restrictions of administrators as they are saved in `state_dir` and sent to ICMs that follow this one. Apart from
//! the verbs that change them, because both ends of a handover and of following use them too.

use serde::{Deserialize, Serialize};

use super::state_file::StateFile;
use crate::config::file_access::{RESTRICTIONS, RESTRICTIONS_COPY, RESTRICTIONS_DAMAGED};

/// The files with the restrictions.
pub const RESTRICTIONS_FILE: StateFile = StateFile {
    what: "restrictions",
    file: RESTRICTIONS,
    copy: RESTRICTIONS_COPY,
    damaged: RESTRICTIONS_DAMAGED,
    consequence: "so NO SERVER IS RESTRICTED by an administrator: restrict again what must be",
};

/// One restriction as saved, and as sent to ICMs that follow this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptRestriction {
    pub cluster: String,
    /// The server's abbreviated name.
    pub server: String,
    /// When it was set, in milliseconds since 1970.
    pub since: u64,
    pub by: String,
    /// The ICM where it was set; absent = this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Not even users who work there may return.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub closed: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::state_file::{LoadedRecords, StateFileError};
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    fn save(dir: &Path, kept: &[KeptRestriction]) -> Result<(), StateFileError> {
        RESTRICTIONS_FILE.save(dir, kept)
    }

    fn load(dir: &Path) -> Result<LoadedRecords<KeptRestriction>, StateFileError> {
        RESTRICTIONS_FILE.load(dir)
    }

    fn kept(server: &str) -> Vec<KeptRestriction> {
        vec![KeptRestriction {
            cluster: "A".into(),
            server: server.into(),
            since: 5,
            by: "Jo".into(),
            at: None,
            closed: false,
        }]
    }

    #[test]
    fn damaged_restrictions_are_put_aside_and_their_copy_is_used() {
        let dir = tempfile::tempdir().unwrap();
        assert!(load(dir.path()).unwrap().records.is_empty());
        save(dir.path(), &kept("Web1/Acme")).unwrap();
        save(dir.path(), &kept("Web2/Acme")).unwrap();
        let file = dir.path().join(RESTRICTIONS);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let whole = std::fs::read(&file).unwrap();
        for damaged in [&b""[..], b"[{", b"\xff\0", b"{}", b"[7]", &whole[..whole.len() - 9]] {
            std::fs::write(&file, damaged).unwrap();
            let restored = load(dir.path()).unwrap();
            assert_eq!(restored.records, kept("Web2/Acme"));
            let damage = restored.damage_report.unwrap();
            assert!(damage.contains("restrictions.json.damaged") && damage.contains("good copy"), "{damage}");
            assert_eq!(std::fs::read(dir.path().join(RESTRICTIONS_DAMAGED)).unwrap(), damaged);
            assert_eq!(std::fs::read(&file).unwrap(), whole, "the file is repaired");
            assert!(load(dir.path()).unwrap().damage_report.is_none());
        }
    }

    #[test]
    fn a_missing_or_damaged_copy_is_written_again() {
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), &kept("Web1/Acme")).unwrap();
        let copy = dir.path().join(RESTRICTIONS_COPY);
        let whole = std::fs::read(&copy).unwrap();
        std::fs::remove_file(&copy).unwrap();
        for _ in 0..2 {
            assert!(load(dir.path()).unwrap().damage_report.is_none());
            assert_eq!(std::fs::read(&copy).unwrap(), whole);
            std::fs::write(&copy, "[").unwrap();
        }
    }

    #[test]
    fn without_a_good_copy_nothing_is_restricted_and_the_report_names_that() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(RESTRICTIONS), "[").unwrap();
        let restored = load(dir.path()).unwrap();
        assert!(restored.records.is_empty());
        assert!(restored.damage_report.unwrap().contains("NO SERVER IS RESTRICTED"));
    }
}
