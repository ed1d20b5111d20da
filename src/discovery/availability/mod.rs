//! Parsers for each availability source, and the poll of those that are polled.
//!
//! They return an [`AvailabilityReport`](crate::domain::cluster::AvailabilityReport). How reports are merged and when they
//! become stale is decided by [`ServerHealth`](crate::domain::cluster::ServerHealth).

pub mod agent_check;
pub mod companion;
pub mod console;
mod poll;
pub mod prometheus;
mod statistics;
pub mod statpub;

pub(crate) use poll::{CompanionReading, PollError, PollReading, PollTarget, ask_companion, poll};
pub use statistics::{ParseError, ParsedReport};
