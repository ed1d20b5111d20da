//! `icm release SERVER --now`: an administrator trusts a server that is CATCHING UP. Its restrictions stay.

use super::{GateRelease, saved};
use crate::domain::cluster::ClusterServer;
use crate::state::Balancer;
use crate::state::restrictions::RestrictionOutcome;
use crate::state::state_file::StateFileError;

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
    saved::save_if_changed(balancer)?;
    Ok(outcomes)
}

/// What plain `release` must say about a server that is not trusted yet.
pub(in crate::state) fn note_still_catching_up(server: &ClusterServer) -> Vec<String> {
    let own = server.read(|health| health.reachability().gate.is_some());
    let own = own.then(|| "still CATCHING UP: `icm release SERVER --now` trusts it at once".to_owned());
    own.into_iter().chain(note_elsewhere(server)).collect()
}

fn note_elsewhere(server: &ClusterServer) -> Vec<String> {
    let elsewhere = server.read(|health| health.gate_elsewhere().map(|gate| gate.at.clone()));
    let note = |at| format!("still CATCHING UP on {at}, which this ICM follows: release it there");
    elsewhere.map(note).into_iter().collect()
}
