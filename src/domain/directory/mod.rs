//! The Cluster Database Directory: which server holds which database.

pub(crate) mod db_path;
mod entry;
pub(crate) mod index;
mod replica_id;

pub use db_path::{FoldBuffer, fold_plain_path, fold_url_path, percent_encode_path};
pub use entry::{DirectoryEntry, ReplicaStatus};
pub use index::{
    AmbiguousPathId, DatabaseId, DatabaseMatch, DirectoryBuilder, DirectoryIndex, DirectoryServerId,
    IndexReport, IndexedDatabase, LookupResult, PathId, Replica, ServerReplica,
};
pub use replica_id::{ReplicaId, ReplicaIdError};
