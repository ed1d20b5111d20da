//! What availability sources say: parsers of their texts, and one poll of each that can be polled.
//!
//! In: text of a console, of an exporter, of an agent, of Domino's statistics publisher. Out: the
//! [`Facts`](crate::domain::cluster::Facts) in it. It never judges them: what is stale, which source wins and
//! what makes a server BUSY is decided elsewhere.

pub mod agent_check;
pub mod console;
pub mod poll;
pub mod prometheus;
pub mod statistics;
pub mod statpub;

pub use poll::{PollError, PollTarget, poll};
pub use statistics::{ParseError, Report};
