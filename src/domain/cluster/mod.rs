//! What is known of the servers of a cluster: names, ports, state, availability.
//!
//! [`AvailabilityReport`] is what a source reports about a server, [`ServerHealth`] merges reports and probes into one
//! [`ServerState`], and [`ClusterServer`] keeps the health with the live counters for the request path, which reads it as a
//! [`ServerSnapshot`].

pub mod availability;
pub mod counters;
pub mod health;
mod host_port;
mod keep_alive;
pub mod load;
pub mod name;
mod ranking;
mod report;
pub mod server;
mod server_snapshot;
pub mod state;

pub use health::{HealthSettings, HealthSnapshot, ReportSource, Restriction, ServerHealth, Timestamped};
pub use host_port::HostPort;
pub use keep_alive::KeepAlive;
pub use name::{ServerName, ServerNameError};
pub use report::{Administrative, AvailabilityReport, Operational};
pub use server::{ClusterServer, InFlight};
pub use server_snapshot::ServerSnapshot;
pub use state::{Port, ServerState, Transition};
