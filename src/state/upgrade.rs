//! The result of the last upgrade of this process, as the admin listener shows it.

use parking_lot::Mutex;
use serde::Serialize;

use crate::util::clock;

/// The result of the last upgrade.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UpgradeState {
    #[default]
    None,
    /// A new process was started.
    Running,
    /// The new process has ended; this one still serves.
    Failed,
    /// A new process serves; this one finishes its requests.
    HandedOver,
}
#[derive(Clone, Debug, Default, Serialize)]
pub struct UpgradeStatus {
    pub attempts: u64,
    pub state: UpgradeState,
    /// When `state` last changed, in milliseconds since 1970.
    pub at: u64,
    /// Why the last attempt failed, else empty.
    pub reason: String,
    /// The process that this one took over from.
    pub from: Option<u32>,
    /// The process that took over from this one.
    pub to: Option<u32>,
}

/// Records the attempts of this process.
#[derive(Debug, Default)]
pub struct UpgradeTracker(Mutex<UpgradeStatus>);

impl UpgradeTracker {
    pub fn took_over_from(&self, from: u32) {
        self.update(|status| status.from = Some(from));
    }

    pub fn begin_attempt(&self) {
        self.update(|status| {
            status.attempts += 1;
            status.state = UpgradeState::Running;
            status.reason.clear();
        });
    }

    pub fn end_attempt(&self, state: UpgradeState, reason: String, to: Option<u32>) {
        self.update(|status| (status.state, status.reason, status.to) = (state, reason, to));
    }

    #[must_use]
    pub fn has_handed_over(&self) -> bool {
        self.status().state == UpgradeState::HandedOver
    }

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
