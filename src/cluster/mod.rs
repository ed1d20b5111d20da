//! What Domino says about servers: names, ports, state, availability.

pub mod name;

pub use name::{ServerName, ServerNameError};
