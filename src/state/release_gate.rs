//! `icm release SERVER --now`: an administrator trusts a server that is CATCHING UP. Its restrictions stay.

use super::Balancer;
use super::catch_up::release::note_elsewhere;
use super::catch_up::{GateRelease, save_if_changed};
use super::restrictions::RestrictionOutcome;
use super::state_file::StateFileError;

/// Opens the gates of every server named `name`, and saves that. The result is empty if no cluster has such a server.
///
/// # Errors
/// When the file cannot be written; the gates are open nevertheless.
pub(crate) fn release_gates(
    balancer: &Balancer,
    name: &str,
) -> Result<Vec<RestrictionOutcome>, StateFileError> {
    let mut outcomes = Vec::new();
    for cluster in &balancer.snapshot().clusters {
        let view = cluster.view.load();
        for entry in view.entries.iter().filter(|e| e.config.name.answers_to(name)) {
            let released = balancer.release_gate(cluster, &entry.server);
            let mut notes = note_elsewhere(&entry.server);
            if released == GateRelease::NotCatchingUp && notes.is_empty() {
                notes.push("it was not CATCHING UP".to_owned());
            }
            outcomes.push(RestrictionOutcome {
                cluster: cluster.settings.name.clone(),
                server: entry.config.name.to_string(),
                state: entry.server.state().as_str().to_owned(),
                restrictions: entry.server.read(|health| health.restrictions()),
                in_flight: entry.server.in_flight(),
                last_replicas: Vec::new(),
                notes,
            });
        }
    }
    save_if_changed(balancer)?;
    Ok(outcomes)
}
