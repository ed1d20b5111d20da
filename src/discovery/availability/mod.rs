//! Availability sources: parsers of their texts, and one poll of each that can be polled.
//!
//! In: the text of a console, an exporter, an agent, or Domino's statistics publisher. Out: an
//! [`AvailabilityReport`](crate::domain::cluster::AvailabilityReport). Which report is stale, which source wins and what makes a
//! server BUSY is decided by [`ServerHealth`](crate::domain::cluster::ServerHealth).

pub mod agent_check;
pub mod console;
pub mod poll;
pub mod prometheus;
pub mod statistics;
pub mod statpub;

pub use poll::{PollError, PollTarget, poll};
pub use statistics::{ParseError, ParsedReport};
