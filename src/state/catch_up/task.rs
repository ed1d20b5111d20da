//! The task of a cluster that keeps time for catching up: limits, requests for a replication, and the file in `state_dir`.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::{followed, now, request, saved};
use crate::state::{Balancer, Cluster};

const TICK_INTERVAL: Duration = Duration::from_millis(500);

/// Runs until a reload replaces the cluster.
pub(crate) async fn run(balancer: Arc<Balancer>, cluster: Arc<Cluster>) {
    let mut interval = interval_at(Instant::now(), TICK_INTERVAL);
    let mut failure_level = log::Level::Error;
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let now = now();
        for entry in &cluster.view.load().entries {
            entry.server.set_unix_offset(now.unix_ms.saturating_sub(now.ms));
        }
        followed::apply_followed_gates(&balancer, &cluster);
        balancer.update_catch_up(&cluster.settings.name, None);
        request::start_missing(&balancer, &cluster);
        let saving = Arc::clone(&balancer);
        let result = tokio::task::spawn_blocking(move || saved::save_if_changed(&saving)).await;
        if let Ok(Err(error)) = result {
            // Each tick tries again, but only the first of several failures in a row is an error.
            log::log!(target: "icm::lifecycle", failure_level, "{error}");
            failure_level = log::Level::Debug;
        } else {
            failure_level = log::Level::Error;
        }
    }
}
