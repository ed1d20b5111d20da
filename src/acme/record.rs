//! What is known about the orders of each host: failures in a row, the pause after the last one, the challenge that worked.
//! It is saved, so that a process that restarts again and again does not order at each start.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The orders of one host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRecord {
    /// Failed orders since the last successful one.
    #[serde(default)]
    pub failures: u32,
    /// No order before this time, in seconds since 1970.
    #[serde(default)]
    pub paused_until: u64,
    /// When the last order began, in seconds since 1970; 0 for never.
    #[serde(default)]
    pub attempted: u64,
    /// Why the last order failed; empty after a success.
    #[serde(default)]
    pub error: String,
    /// The ACME server that issued the certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// The name of the challenge that succeeded last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenge: Option<String>,
}

/// The orders by host.
pub type OrderRecords = BTreeMap<String, OrderRecord>;
