//! What selection needs to know about the replicas of each database, immutable and replaced as a whole.

use ahash::AHashMap;
use smallvec::SmallVec;

use crate::domain::directory::{ReplicaId, ReplicaStatus};

/// One reading of the data modification time of a replica. All times are milliseconds since 1970 on the clock of this
/// balancer: the reader has corrected them by the server's own clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModifiedReading {
    /// When the data of the replica was last modified.
    pub modified_unix_ms: u64,
    /// When that was read.
    pub taken_unix_ms: u64,
}

/// What is known about one replica of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaFreshness {
    /// The tag of its server ([`crate::domain::cluster::ClusterServer::tag`]).
    pub server: u32,
    /// The last reading of its time.
    pub reading: Option<ModifiedReading>,
    /// It has lacked changes of another replica since then.
    pub behind_since_unix_ms: Option<u64>,
    /// Its time is not older than that of any other replica that was read, and there is one.
    pub is_newest: bool,
    /// The mark that the server itself reported, and when.
    pub mark: Option<(ReplicaStatus, u64)>,
}

/// The replicas of all databases that were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FreshnessTable {
    databases: AHashMap<ReplicaId, SmallVec<[ReplicaFreshness; 3]>>,
}

impl FreshnessTable {
    /// Adds or replaces what is known about one replica.
    pub fn insert(&mut self, database: ReplicaId, replica: ReplicaFreshness) {
        let replicas = self.databases.entry(database).or_default();
        replicas.retain(|known| known.server != replica.server);
        replicas.push(replica);
    }

    /// The replicas of a database that were read.
    #[must_use]
    pub fn replicas(&self, database: ReplicaId) -> &[ReplicaFreshness] {
        self.databases.get(&database).map(SmallVec::as_slice).unwrap_or_default()
    }

    /// The replica of a database on one server.
    #[must_use]
    pub fn replica(&self, database: ReplicaId, server: u32) -> Option<&ReplicaFreshness> {
        self.replicas(database).iter().find(|replica| replica.server == server)
    }

    /// Every database that was read, with its replicas, in no order.
    pub fn databases(&self) -> impl Iterator<Item = (ReplicaId, &[ReplicaFreshness])> {
        self.databases.iter().map(|(database, replicas)| (*database, replicas.as_slice()))
    }
}
