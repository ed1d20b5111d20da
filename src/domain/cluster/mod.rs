//! The servers of a cluster: names, ports, health and availability.
//!
//! A source reports an [`AvailabilityReport`] about a server. [`ServerHealth`] merges reports and probes into one
//! [`ServerState`], and [`ClusterServer`] combines the health with the live counters. The request path reads it as a
//! [`ServerSnapshot`].

pub mod availability;
pub(crate) mod catch_up;
mod counters;
mod date_offset;
mod health;
mod host_port;
mod keep_alive;
pub mod load;
mod name;
mod ranking;
mod report;
pub(crate) mod response_times;
mod server;
mod server_snapshot;
mod site;
mod state;

pub use health::{
    CatchUpElsewhere, CatchUpGate, HealthSettings, HealthSnapshot, Outage, Reachability, ReportSource,
    Restriction, ServerHealth, Timestamped,
};
pub use host_port::HostPort;
pub use keep_alive::KeepAlive;
pub use name::{ServerName, ServerNameError};
pub use report::{Administrative, AvailabilityReport, Operational, ReplicatorReport};
pub use server::{ClusterServer, InFlight};
pub use server_snapshot::ServerSnapshot;
pub use site::SiteName;
pub use state::{Port, ServerState, Transition};
