//! What Domino says about databases: the Cluster Database Directory.

pub mod db_path;
pub mod entry;
pub mod index;
pub mod replica_id;

pub use db_path::{Folded, encode_for_url, fold, fold_plain};
pub use entry::{Entry, Mark};
pub use index::{
    AmbiguousIx, Database, DatabaseIx, Draft, Found, Holder, Index, Lookup, PathIx, Replica, Report, ServerIx,
};
pub use replica_id::{ReplicaId, ReplicaIdError};
