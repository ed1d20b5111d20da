//! What an availability source reports about one server.
//!
//! The parsers of `availability` fill it, the health of the server merges it. `None` = the source does not mention it:
//! silence is never read as a value.

/// The statistics that one source gave of one server.
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
    /// `Server.Users`.
    pub users: Option<u32>,
    /// `Server.Name`, where the text names its server.
    pub name: Option<String>,
    /// `DominoHealth_stat_update_timestamp`: while it does not advance the values are old.
    pub updated_at: Option<f64>,
    /// Agent-check: the administrative dimension.
    pub administrative: Option<Administrative>,
    /// Agent-check: the operational dimension.
    pub operational: Option<Operational>,
    /// Agent-check `maxconn:N`: requests in flight that the server wants at most; 0 = no limit.
    pub max_connections: Option<u32>,
}

/// `ready`, `drain`, `maint` of the agent-check protocol; each replaces the one before
/// (<https://docs.haproxy.org/>, configuration manual, `agent-check`)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Administrative {
    /// Clears drain and maint.
    Ready,
    /// RESTRICTED for us.
    Drain,
    /// UNREACHABLE for us.
    Maint,
}

/// `up` and `down`, `failed`, `stopped` of the agent-check protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operational {
    /// Clears down.
    Up,
    /// UNREACHABLE for us, with the text after `#`.
    Down(String),
}

impl AvailabilityReport {
    /// The source mentioned nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
