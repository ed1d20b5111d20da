//! What the replay changes: thresholds, weights, states and marks that an administrator asks about.

use serde::Serialize;

use crate::domain::cluster::availability::is_busy;
use crate::domain::directory::{DatabaseMatch, LookupResult, ReplicaId, ReplicaStatus};
use crate::domain::select::ServerId;
use crate::state::{ClusterView, Snapshot};

use super::known_states::KnownServer;

/// The changes by the names that the administrator wrote.
#[derive(Clone, Debug, Default)]
pub struct ReplayChanges {
    /// Servers that are assumed UNREACHABLE.
    pub down: Vec<String>,
    /// RESTRICTED for longer than `affinity.drain_timeout`.
    pub restricted: Vec<String>,
    /// Servers that are assumed BUSY.
    pub busy: Vec<String>,
    /// Servers that are assumed CATCHING UP.
    pub catching_up: Vec<String>,
    /// A threshold, for one server or for all.
    pub thresholds: Vec<(Option<String>, u8)>,
    /// The weights of servers.
    pub weights: Vec<(String, u32)>,
    /// Marks, by path or replica ID and server.
    pub marks: Vec<(String, String, ReplicaStatus)>,
}

impl ReplayChanges {
    /// Whether nothing is changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names().next().is_none() && self.thresholds.is_empty() && self.marks.is_empty()
    }

    /// The servers that are named, but those of marks.
    fn names(&self) -> impl Iterator<Item = &String> {
        let states = self.down.iter().chain(&self.restricted).chain(&self.busy).chain(&self.catching_up);
        let thresholds = self.thresholds.iter().filter_map(|(name, _)| name.as_ref());
        states.chain(thresholds).chain(self.weights.iter().map(|(name, _)| name))
    }

    /// One line for each kind of change.
    #[must_use]
    pub fn describe(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (what, names) in [
            ("UNREACHABLE", &self.down),
            ("RESTRICTED", &self.restricted),
            ("BUSY", &self.busy),
            ("CATCHING UP", &self.catching_up),
        ] {
            if !names.is_empty() {
                lines.push(format!("{} {what}", names.join(", ")));
            }
        }
        for (name, threshold) in &self.thresholds {
            lines.push(format!("threshold {threshold} on {}", name.as_deref().unwrap_or("all servers")));
        }
        for (name, weight) in &self.weights {
            lines.push(format!("weight {weight} of {name}"));
        }
        for (database, server, mark) in &self.marks {
            lines.push(format!("{database} on {server} {}", mark.as_str().replace('_', " ")));
        }
        lines
    }

    /// The servers and databases that no cluster has.
    #[must_use]
    pub fn unknown(&self, snapshot: &Snapshot) -> Vec<String> {
        let views: Vec<_> = snapshot.clusters.iter().map(|cluster| cluster.view.load_full()).collect();
        let is_known = |name: &str| views.iter().any(|view| view.server_by_name(name).is_some());
        let mut unknown: Vec<String> =
            self.names().filter(|name| !is_known(name)).map(|name| format!("server {name}")).collect();
        for (database, server, _) in &self.marks {
            let holds = |view: &ClusterView| {
                let Some(server) = view.server_by_name(server) else { return false };
                databases(view, database).iter().any(|found| view.replica_on(found, server).is_some())
            };
            if !is_known(server) {
                unknown.push(format!("server {server}"));
            } else if !views.iter().any(|view| holds(view)) {
                unknown.push(format!("replica of {database} on {server}"));
            }
        }
        unknown
    }

    /// The change of one server, by its position in the view.
    pub(super) fn of_server(&self, view: &ClusterView, server: ServerId) -> ServerChange {
        let Some(entry) = view.server(server) else { return ServerChange::default() };
        let is_it = |name: &String| entry.config.name.answers_to(name);
        let named = |names: &[String]| names.iter().any(is_it);
        let threshold = |(name, value): &(Option<String>, u8)| {
            name.as_ref().is_none_or(is_it).then_some((name.is_some(), *value))
        };
        ServerChange {
            down: named(&self.down),
            restricted: named(&self.restricted),
            busy: named(&self.busy),
            catching_up: named(&self.catching_up),
            released: false,
            // One for this server beats one for all.
            threshold: self.thresholds.iter().filter_map(threshold).max_by_key(|(own, _)| *own).map(|t| t.1),
            weight: self.weights.iter().rev().find(|(name, _)| is_it(name)).map(|(_, weight)| *weight),
        }
    }

    /// The marks of one cluster.
    pub(super) fn marks_in(&self, view: &ClusterView) -> Vec<(ReplicaId, ServerId, ReplicaStatus)> {
        let mut marks = Vec::new();
        for (database, server, mark) in &self.marks {
            let Some(server) = view.server_by_name(server) else { continue };
            for found in databases(view, database) {
                marks.push((view.directory.index.database(found.database).replica_id(), server, *mark));
            }
        }
        marks
    }
}

/// The databases with this path or replica ID.
fn databases(view: &ClusterView, text: &str) -> Vec<DatabaseMatch> {
    let index = &view.directory.index;
    if let Some(database) = ReplicaId::parse(text).ok().and_then(|id| index.find_by_replica_id(id)) {
        return vec![DatabaseMatch { database, path: None }];
    }
    match index.find_by_plain_path(text.trim_start_matches('/')) {
        LookupResult::Unique(found) => vec![found],
        LookupResult::Ambiguous(id) => index.ambiguous_databases(id).collect(),
        LookupResult::Unknown => Vec::new(),
    }
}

/// What is changed on one server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct ServerChange {
    pub down: bool,
    pub restricted: bool,
    pub busy: bool,
    pub catching_up: bool,
    /// The other configuration does not restrict it any more.
    pub released: bool,
    pub threshold: Option<u8>,
    pub weight: Option<u32>,
}

impl ServerChange {
    /// The server as it would have been.
    pub fn apply(&self, known: &KnownServer) -> KnownServer {
        let mut changed = known.clone();
        let snapshot = &mut changed.snapshot;
        if let Some(threshold) = self.threshold {
            changed.threshold = threshold;
            snapshot.busy = is_busy(known.index, threshold);
        }
        if self.released {
            snapshot.restricted_since_ms = None;
        }
        if let Some(weight) = self.weight {
            snapshot.weight = weight;
        }
        if self.busy {
            snapshot.busy = true;
        }
        if self.catching_up {
            snapshot.catching_up_since_unix_ms = Some(1);
        }
        if self.restricted {
            snapshot.restricted_since_ms = Some(1);
        }
        if self.down {
            (snapshot.http, snapshot.https) = (false, false);
        }
        changed
    }

    /// Whether nobody can be served there.
    pub fn excludes(&self) -> bool {
        self.down || self.restricted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::insight::replay::known_states::KnownServer;

    #[test]
    fn a_threshold_decides_by_the_published_index_alone() {
        let of = |index: Option<u8>, threshold: u8| {
            let known = KnownServer { index, ..KnownServer::default() };
            let change = ServerChange { threshold: Some(threshold), ..ServerChange::default() };
            change.apply(&known).snapshot.busy
        };
        assert!(of(Some(70), 70) && !of(Some(71), 70));
        assert!(!of(None, 70), "unknown is not BUSY");
        assert!(!of(Some(0), 0) && of(None, 100));
    }

    #[test]
    fn changes_are_described_in_the_words_of_the_states() {
        let changes = ReplayChanges {
            down: vec!["Web1".into(), "Web2".into()],
            thresholds: vec![(None, 70), (Some("Web3".into()), 20)],
            weights: vec![("Web3".into(), 2)],
            marks: vec![("a.nsf".into(), "Web1".into(), ReplicaStatus::OutOfService)],
            ..ReplayChanges::default()
        };
        assert_eq!(
            changes.describe(),
            [
                "Web1, Web2 UNREACHABLE",
                "threshold 70 on all servers",
                "threshold 20 on Web3",
                "weight 2 of Web3",
                "a.nsf on Web1 out of service"
            ]
        );
        assert!(!changes.is_empty() && ReplayChanges::default().is_empty());
    }
}
