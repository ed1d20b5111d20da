//! The report of an availability source about one server. A value that the source does not mention is `None` and is
//! never assumed.

/// The statistics of one server from one source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AvailabilityReport {
    /// `Server.AvailabilityIndex`, 0 (nothing left) to 100 (idle).
    pub index: Option<u8>,
    /// `Server.AvailabilityThreshold` or `Server_Availability_Threshold`, 0 to 100.
    pub threshold: Option<u8>,
    /// `Server_Restricted` is 1 to 4, or a maintenance window is open.
    pub restricted: Option<bool>,
    /// `Server_MaxUsers`; 0 = no limit.
    pub max_users: Option<u32>,
    /// `Server.Users`: the number of users.
    pub users: Option<u32>,
    /// `Server.Name`, if the source gives it.
    pub name: Option<String>,
    /// `DominoHealth_stat_update_timestamp`: while it does not advance, the values are old.
    pub updated_at: Option<f64>,
    /// Agent-check: the administrative dimension.
    pub administrative: Option<Administrative>,
    /// Agent-check: the operational dimension.
    pub operational: Option<Operational>,
    /// Agent-check `maxconn:N`: the maximum of requests in flight; 0 = no limit.
    pub max_connections: Option<u32>,
    /// `Replica.Cluster.*` of the server.
    pub replicator: ReplicatorReport,
}

/// What the Cluster Replicator of a server reports about its pushes to all other servers (HCL help, "Cluster Replicator
/// statistics"). Its queues are in memory, so every run of the server begins with zeros.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplicatorReport {
    /// `Replica.Cluster.Successful`: replications that succeeded in this run.
    pub successful: Option<u64>,
    /// `Replica.Cluster.Failed`: replications that failed in this run.
    pub failed: Option<u64>,
    /// `Replica.Cluster.Retry.Waiting`: replicas that wait for another attempt.
    pub retry_waiting: Option<u32>,
    /// `Replica.Cluster.WorkQueueDepth`: databases that wait for their push.
    pub work_queue_depth: Option<u32>,
    /// `Replica.Cluster.SecondsOnQueue`: how long the last replicated database had waited.
    pub seconds_on_queue: Option<u32>,
    /// `Server.BootID` or the start time of the server, as text: another value is another run.
    pub run: Option<String>,
}

/// `ready`, `drain` or `maint` of the agent-check protocol; the latest one counts (<https://docs.haproxy.org/>,
/// configuration manual, `agent-check`)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Administrative {
    /// Ends `drain` and `maint`.
    Ready,
    /// Makes the server RESTRICTED.
    Drain,
    /// Makes the server UNREACHABLE.
    Maint,
}

/// `up` and `down`, `failed`, `stopped` of the agent-check protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operational {
    /// Ends `down`, `failed` and `stopped`.
    Up,
    /// Makes the server UNREACHABLE, with the text after `#` as the reason.
    Down(String),
}

impl AvailabilityReport {
    /// True if the source mentioned no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
