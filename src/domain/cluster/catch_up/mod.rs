//! CATCHING UP: what must be shown before a server that returned after an outage is trusted again.
//!
//! The tracker of a cluster gets the health of its servers and the reports of their Cluster Replicators, and says which
//! gates to open. The health of a server closes its gate itself. There is no clock here: every event brings its
//! [`Moment`].

mod absence;
mod evidence;
mod records;
mod reporter;
mod tracker;
mod types;

pub use records::{KnownRun, OutageRecord, WitnessRecord};
pub use tracker::CatchUpTracker;
pub use types::{CatchUpAction, CatchUpRules, Moment, OpenReason, ReporterStatus, ServerReachability};

#[cfg(test)]
mod tests;
