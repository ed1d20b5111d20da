//! What Domino says about servers: names, ports, state, availability.

pub mod facts;
pub mod name;
pub mod names_view;

pub use facts::{Administrative, Facts, Operational};
pub use name::{ServerName, ServerNameError};
