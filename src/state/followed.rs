//! The state of the configuration taken over from another ICM, for the status page and the metrics. It never contains
//! the token.

use std::sync::Arc;

use serde_json::{Value, json};

use super::catch_up::kept::KeptCatchUp;
use super::restrictions_file::KeptRestriction;
use crate::util::clock;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FollowedOrigin {
    /// Read from the other ICM by this process.
    Remote,
    /// The copy on disk.
    Cache,
}

/// The configuration that was taken over, and the result of later requests.
#[derive(Clone, Debug)]
pub struct FollowedConfig {
    /// The URL of the other ICM's `/config`.
    pub url: String,
    /// The text in force.
    pub text: Arc<str>,
    /// Restrictions set on the other ICM.
    pub restrictions: Vec<KeptRestriction>,
    /// Servers that are CATCHING UP on the other ICM, and gates opened last.
    pub catching_up: Vec<KeptCatchUp>,
    pub etag: Option<String>,
    /// The ICMs that passed it on, the nearest first.
    pub via: Vec<String>,
    pub origin: FollowedOrigin,
    /// When it was last confirmed, in milliseconds since 1970.
    pub confirmed_unix_ms: u64,
    /// When a different configuration was last taken over.
    pub changed_unix_ms: u64,
    /// When the other ICM was last asked.
    pub attempted_unix_ms: u64,
    /// Why the last request failed; empty after a success.
    pub trouble: String,
    /// Why the last document was rejected; empty after a good one.
    pub rejected_error: String,
}

impl FollowedConfig {
    /// Records that the other ICM still has this configuration.
    pub fn confirm(&mut self) {
        let now = clock::unix_ms();
        self.confirmed_unix_ms = now;
        self.attempted_unix_ms = now;
        self.origin = FollowedOrigin::Remote;
        self.trouble.clear();
        self.rejected_error.clear();
    }

    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "url": self.url,
            "from": match self.origin { FollowedOrigin::Remote => "remote", FollowedOrigin::Cache => "cache" },
            "success": self.trouble.is_empty(),
            "error": self.trouble,
            "etag": self.etag,
            "age_ms": clock::unix_ms().saturating_sub(self.confirmed_unix_ms),
            "confirmed_at": self.confirmed_unix_ms,
            "changed_at": self.changed_unix_ms,
            "asked_at": self.attempted_unix_ms,
        })
    }
}
