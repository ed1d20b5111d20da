//! How it stands with the configuration of the other ICM, for the status page and the metrics.
//!
//! In: what came of each question. Out: JSON. It never holds the token.

use std::sync::Arc;

use serde_json::{Value, json};

use super::restrictions_file::KeptRestriction;
use crate::util::clock;

/// Where the text in force comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FollowedOrigin {
    /// The other ICM, in this process's time.
    Remote,
    /// The copy on disk.
    Cache,
}

/// The configuration that was taken over, and what came of asking since.
#[derive(Clone, Debug)]
pub struct FollowedConfig {
    /// Of the other ICM's `/config`.
    pub url: String,
    /// The text in force.
    pub text: Arc<str>,
    /// What is restricted there.
    pub restrictions: Vec<KeptRestriction>,
    /// Its tag.
    pub etag: Option<String>,
    /// The ICMs that it came by, the nearest first.
    pub via: Vec<String>,
    /// Where it comes from.
    pub origin: FollowedOrigin,
    /// When it was last confirmed, milliseconds since 1970.
    pub confirmed_unix_ms: u64,
    /// When a different one was last taken over.
    pub changed_unix_ms: u64,
    /// When the other ICM was last asked.
    pub attempted_unix_ms: u64,
    /// Why asking is in vain now; empty when it is not.
    pub trouble: String,
    /// What the status of reloads says of it: the last refusal since something good came.
    pub rejected_error: String,
}

impl FollowedConfig {
    /// The other ICM says that this is its configuration.
    pub fn confirm(&mut self) {
        let now = clock::unix_ms();
        self.confirmed_unix_ms = now;
        self.attempted_unix_ms = now;
        self.origin = FollowedOrigin::Remote;
        self.trouble.clear();
        self.rejected_error.clear();
    }

    /// For `/status`.
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
