//! Counters and the access log. Both take finished values and do not depend on the proxy.

pub mod access_log;
pub mod statistics;
