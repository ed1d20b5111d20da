//! What Domino says about databases: the Cluster Database Directory.

pub mod entry;
pub mod replica_id;
pub mod source;

pub use entry::{Entry, Mark};
pub use replica_id::{ReplicaId, ReplicaIdError};
