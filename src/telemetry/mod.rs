//! What is counted and what is written down about requests. Both take finished values and know nothing of the proxy.

pub mod access_log;
pub mod statistics;
