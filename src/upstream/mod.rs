//! What Pingora's pool does not know about connections to servers: how long each has been idle and how much it has
//! carried ([`usage`]), when the server has to answer on it ([`deadline`]), and whether it may carry this request
//! ([`reuse`]).
//!
//! All of it is kept by the connection's descriptor, which Pingora hands to its hooks, in one table of the process. It
//! opens, reads and writes no connection.

mod connection_table;
pub mod deadline;
pub mod reuse;
pub mod tunnel;
pub mod usage;
