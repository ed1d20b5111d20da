//! How upgrades of this process went, for those who ask.
//!
//! In: their beginnings and ends. Out: the last one, as the admin listener shows it.

use parking_lot::Mutex;
use serde::Serialize;

use crate::util::clock;

/// What came of the last upgrade.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UpgradeState {
    /// There was none.
    #[default]
    None,
    /// A new process is on its way.
    Running,
    /// This process serves on.
    Failed,
    /// A new process serves, this one finishes what it has begun.
    HandedOver,
}

/// The last upgrade.
#[derive(Clone, Debug, Default, Serialize)]
pub struct UpgradeStatus {
    /// Attempts of this process.
    pub attempts: u64,
    /// What came of the last one.
    pub state: UpgradeState,
    /// Milliseconds since 1970 of the last change of that.
    pub at: u64,
    /// Why it failed; empty else.
    pub reason: String,
    /// The process that this one has taken over from.
    pub from: Option<u32>,
    /// The process that has taken over from this one.
    pub to: Option<u32>,
}

/// See the module's description.
#[derive(Debug, Default)]
pub struct UpgradeTracker(Mutex<UpgradeStatus>);

impl UpgradeTracker {
    /// This process began with a hand-over from that one.
    pub fn took_over_from(&self, from: u32) {
        self.update(|status| status.from = Some(from));
    }

    /// An attempt begins.
    pub fn begin_attempt(&self) {
        self.update(|status| {
            status.attempts += 1;
            status.state = UpgradeState::Running;
            status.reason.clear();
        });
    }

    /// It has ended.
    pub fn end_attempt(&self, state: UpgradeState, reason: String, to: Option<u32>) {
        self.update(|status| (status.state, status.reason, status.to) = (state, reason, to));
    }

    /// Another process serves, this one only finishes.
    #[must_use]
    pub fn has_handed_over(&self) -> bool {
        self.status().state == UpgradeState::HandedOver
    }

    /// The last one.
    #[must_use]
    pub fn status(&self) -> UpgradeStatus {
        self.0.lock().clone()
    }

    fn update(&self, change: impl FnOnce(&mut UpgradeStatus)) {
        let mut status = self.0.lock();
        status.at = clock::unix_ms();
        change(&mut status);
    }
}
