//! What Pingora's pool does not track about connections to servers: idle time and number of requests ([`usage`]), response
//! deadlines ([`deadline`]), and whether a connection may carry a request ([`reuse`]).
//!
//! The state is in one table by file descriptor, which is all that Pingora's hooks get of a connection.

mod connection_table;
pub mod deadline;
pub mod reuse;
pub mod tunnel;
pub mod usage;
