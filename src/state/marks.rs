//! The mark of a replica, if the directory and the server itself both say something about it.

use super::directory::{DirectoryOrigin, LoadedDirectory};
use crate::config::settings::Directory;
use crate::domain::directory::ReplicaStatus;
use crate::domain::freshness::ReplicaFreshness;

/// What the marks in a directory are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DirectoryMarks {
    /// The Cluster Database Directory has columns for both marks, so that each reading knows them.
    Read,
    /// It has no such columns: that it shows no mark means nothing.
    NotRead,
    /// They are written by an administrator, or only one of the two columns is read: a mark counts, its absence does not.
    Added,
}

impl DirectoryMarks {
    #[must_use]
    pub(crate) fn of(directory: &Directory) -> Self {
        let Directory::Cldbdir(view) = directory else { return Self::Added };
        match (&view.columns.out_of_service, &view.columns.pending_delete) {
            (Some(_), Some(_)) => Self::Read,
            (None, None) => Self::NotRead,
            _ => Self::Added,
        }
    }

    /// The mark that counts: of two readings the newer one, else either.
    #[must_use]
    pub(crate) fn merge(
        self,
        directory: &LoadedDirectory,
        of_directory: ReplicaStatus,
        replica: Option<&ReplicaFreshness>,
    ) -> ReplicaStatus {
        let Some((reported, at_unix_ms)) = replica.and_then(|replica| replica.mark) else {
            return of_directory;
        };
        let is_read = !matches!(directory.origin, DirectoryOrigin::Configuration | DirectoryOrigin::File(_));
        match self {
            Self::Read if is_read && directory.at_unix_ms > at_unix_ms => of_directory,
            Self::Read | Self::NotRead if is_read => reported,
            _ => of_directory.max(reported),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::cluster::ServerName;
    use crate::domain::directory::{DirectoryBuilder, ReplicaStatus::*};

    fn directory(origin: DirectoryOrigin) -> LoadedDirectory {
        LoadedDirectory::new(DirectoryBuilder::default(), origin, Vec::new())
    }

    fn read_directory() -> LoadedDirectory {
        let (name, view) = (ServerName::parse("Web1/Acme").unwrap(), "($Pathname)".to_owned());
        directory(DirectoryOrigin::Server { name, view })
    }

    fn reported(mark: ReplicaStatus, at: u64) -> ReplicaFreshness {
        ReplicaFreshness {
            server: 1,
            reading: None,
            behind_since_unix_ms: None,
            is_newest: false,
            mark: Some((mark, at)),
        }
    }

    #[test]
    fn of_a_directory_with_mark_columns_and_a_report_the_newer_one_counts() {
        let directory = read_directory();
        let (older, newer) = (directory.at_unix_ms - 1, directory.at_unix_ms + 1);
        let merge = |of, report: ReplicaFreshness| DirectoryMarks::Read.merge(&directory, of, Some(&report));
        assert_eq!(merge(InService, reported(OutOfService, newer)), OutOfService);
        assert_eq!(merge(OutOfService, reported(InService, newer)), InService);
        assert_eq!(merge(InService, reported(OutOfService, older)), InService);
        assert_eq!(DirectoryMarks::Read.merge(&directory, PendingDelete, None), PendingDelete);
    }

    #[test]
    fn a_directory_without_mark_columns_has_not_read_them() {
        let directory = read_directory();
        let report = reported(OutOfService, directory.at_unix_ms - 60_000);
        assert_eq!(DirectoryMarks::NotRead.merge(&directory, InService, Some(&report)), OutOfService);
    }

    #[test]
    fn a_mark_that_an_administrator_wrote_and_a_reported_one_both_count() {
        let directory = directory(DirectoryOrigin::Configuration);
        let merge = |of, mark| DirectoryMarks::Added.merge(&directory, of, Some(&reported(mark, u64::MAX)));
        assert_eq!(merge(OutOfService, InService), OutOfService);
        assert_eq!(merge(InService, PendingDelete), PendingDelete);
        assert_eq!(merge(InService, InService), InService);
    }
}
