//! Counters, the history of servers and the access log. They take finished values and do not depend on the proxy.

pub mod access_log;
pub(crate) mod history;
pub mod statistics;
