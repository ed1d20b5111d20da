//! What an administrator who releases a server must know about its gate.

use crate::domain::cluster::ClusterServer;

/// What plain `release` must say about a server that is not trusted yet.
pub(crate) fn note_still_catching_up(server: &ClusterServer) -> Vec<String> {
    let own = server.read(|health| health.reachability().gate.is_some());
    let own = own.then(|| "still CATCHING UP: `icm release SERVER --now` trusts it at once".to_owned());
    own.into_iter().chain(note_elsewhere(server)).collect()
}

pub(crate) fn note_elsewhere(server: &ClusterServer) -> Vec<String> {
    let elsewhere = server.read(|health| health.gate_elsewhere().map(|gate| gate.at.clone()));
    let note = |at| format!("still CATCHING UP on {at}, which this ICM follows: release it there");
    elsewhere.map(note).into_iter().collect()
}
