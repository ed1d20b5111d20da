//! A cluster of the log as a configuration has it: its members, the holders of each database, and the rules of
//! selection. A replay compares two such sides of each cluster, and both count servers by the same positions.

use std::sync::Arc;

use ahash::AHashMap;
use smallvec::SmallVec;

use super::changes::{ReplayChanges, ServerChange};
use super::known_states::KnownServer;
use crate::config::settings::{ClusterSettings, Server};
use crate::domain::cluster::{Port, ServerName, ServerSnapshot};
use crate::domain::directory::{DatabaseMatch, ReplicaId, ReplicaStatus};
use crate::domain::select::{Candidate, SelectionPolicy, ServerId};
use crate::state::{Cluster, ClusterView, Snapshot};

/// A server that holds a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub server: ServerId,
    pub status: ReplicaStatus,
    pub of_other_site: bool,
}

type Holders = SmallVec<[Holder; 4]>;

/// A server as the configuration has it.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// What is assumed while nothing is known.
    pub unknown: KnownServer,
    pub change: ServerChange,
}

/// A cluster of one configuration.
#[derive(Debug)]
pub(super) struct Side {
    view: Arc<ClusterView>,
    pub policy: SelectionPolicy,
    settings: Arc<ClusterSettings>,
    /// By the positions of the replay; `None` = not a member here.
    members: Vec<Option<Member>>,
    /// The position of each server of the view.
    positions: Vec<ServerId>,
    /// Every member, for requests that name no database.
    all: Holders,
    databases: AHashMap<ReplicaId, Option<Holders>>,
    marks: Vec<(ReplicaId, ServerId, ReplicaStatus)>,
    /// The routes that name servers.
    routes: AHashMap<Box<str>, Vec<ServerId>>,
}

impl Side {
    /// `names` numbers the servers of both sides; `before` are the members of the other side.
    fn new(
        cluster: &Cluster,
        changes: &ReplayChanges,
        names: &mut ServerNames,
        before: Option<&ClusterView>,
    ) -> Self {
        let view = cluster.view.load_full();
        let positions: Vec<ServerId> = view.entries.iter().map(|e| names.position(&e.config.name)).collect();
        let mut members: Vec<Option<Member>> = Vec::new();
        for (entry, (at, position)) in view.entries.iter().zip((0..).zip(&positions)) {
            let mut change = changes.of_server(&view, at);
            if let Some(before) = before {
                let same = before.entries.iter().find(|old| old.config.name == entry.config.name);
                change_by_configuration(&mut change, &entry.config, same.map(|old| &old.config));
            }
            let position = usize::from(*position);
            members.resize(members.len().max(position + 1), None);
            if let Some(member) = members.get_mut(position) {
                *member = Some(Member { unknown: unknown_server(&entry.config), change });
            }
        }
        let of_view = |server: &ServerId| positions.get(usize::from(*server)).copied();
        let marks = changes
            .marks_in(&view)
            .into_iter()
            .filter_map(|(id, server, mark)| of_view(&server).map(|server| (id, server, mark)));
        let marks = marks.collect();
        let mut routes: AHashMap<Box<str>, Vec<ServerId>> = AHashMap::new();
        for route in cluster.settings.routes.iter().filter(|route| !route.servers.is_empty()) {
            let servers = route.servers.iter().map(|name| names.position(name)).collect();
            // Of two with one name, the log does not say which it was.
            routes.entry(route.name.clone()).or_insert(servers);
        }
        let mut side = Self {
            policy: cluster.selection_policy,
            settings: Arc::clone(&cluster.settings),
            members,
            positions,
            all: Holders::new(),
            databases: AHashMap::new(),
            marks,
            routes,
            view,
        };
        side.all = side.holders_of(None);
        side
    }

    fn holders_of(&self, found: Option<&DatabaseMatch>) -> Holders {
        let mut candidates: SmallVec<[Candidate; 8]> = SmallVec::new();
        self.view.candidates(found, &mut candidates);
        let replica = found.map(|found| self.view.directory.index.database(found.database).replica_id());
        let holder = |candidate: &Candidate| {
            let server = *self.positions.get(usize::from(candidate.server))?;
            let changed = self.marks.iter().rev().find(|(id, on, _)| Some(*id) == replica && *on == server);
            let status = changed.map_or(candidate.status, |(_, _, mark)| *mark);
            Some(Holder { server, status, of_other_site: candidate.of_other_site })
        };
        candidates.iter().filter_map(holder).collect()
    }

    /// Finds the holders of a database once. False if the directory does not have it.
    pub fn prepare(&mut self, database: Option<ReplicaId>) -> bool {
        let Some(id) = database else { return true };
        if let Some(known) = self.databases.get(&id) {
            return known.is_some();
        }
        let found = self.view.directory.index.find_by_replica_id(id);
        let found = found.map(|database| self.holders_of(Some(&DatabaseMatch { database, path: None })));
        let is_known = found.is_some();
        self.databases.insert(id, found);
        is_known
    }

    /// The holders of a prepared database, or all members.
    pub fn holders(&self, database: Option<ReplicaId>) -> &[Holder] {
        match database {
            None => &self.all,
            Some(id) => self.databases.get(&id).and_then(Option::as_ref).map_or(&[], |all| all.as_slice()),
        }
    }

    /// The servers to which a route is restricted.
    pub fn servers_of_route(&self, route: Option<&str>) -> Option<&[ServerId]> {
        self.routes.get(route?).map(Vec::as_slice)
    }

    pub fn member(&self, server: ServerId) -> Option<&Member> {
        self.members.get(usize::from(server)).and_then(Option::as_ref)
    }

    pub fn members(&self) -> impl Iterator<Item = (ServerId, &Member)> {
        self.members.iter().zip(0..).filter_map(|(member, at)| Some((at, member.as_ref()?)))
    }

    /// The port that a request needs; `tls` is the scheme of the client.
    pub fn port(&self, tls: bool) -> Port {
        self.settings.port_for(tls)
    }

    /// Whether users stay on a server.
    pub fn has_affinity(&self) -> bool {
        self.settings.affinity.enabled
    }

    /// The path of a database in the directory.
    pub fn path(&self, database: ReplicaId) -> Option<&str> {
        let index = &self.view.directory.index;
        Some(index.database(index.find_by_replica_id(database)?).path())
    }

    pub fn has_directory(&self) -> bool {
        self.view.directory.is_loaded()
    }
}

/// What the other configuration changes on a server.
fn change_by_configuration(change: &mut ServerChange, new: &Server, old: Option<&Server>) {
    change.weight =
        change.weight.or(Some(new.weight).filter(|weight| old.is_some_and(|o| o.weight != *weight)));
    let threshold = new.threshold.filter(|threshold| old.is_none_or(|o| o.threshold != Some(*threshold)));
    change.threshold = change.threshold.or(threshold);
    change.restricted |= new.restricted && old.is_none_or(|o| !o.restricted);
    change.released = !new.restricted && old.is_some_and(|o| o.restricted);
}

fn unknown_server(config: &Server) -> KnownServer {
    let known = KnownServer::default();
    let snapshot = ServerSnapshot {
        http: config.http.is_some(),
        https: config.https.is_some(),
        weight: config.weight,
        restricted_since_ms: config.restricted.then_some(1),
        ..known.snapshot
    };
    KnownServer { snapshot, threshold: config.threshold.unwrap_or(0), ..known }
}

/// More servers in a log than any configuration has are not told apart.
const MAX_NAMES: usize = 1_000;

/// The servers of a cluster by their positions: those of both configurations, then those that only lines name.
#[derive(Debug, Default)]
pub(super) struct ServerNames {
    names: Vec<Box<str>>,
    positions: AHashMap<Box<str>, ServerId>,
}

impl ServerNames {
    fn position(&mut self, name: &ServerName) -> ServerId {
        self.position_of(name.abbreviated())
    }

    /// The position of a server as the log writes it.
    pub fn position_of(&mut self, name: &str) -> ServerId {
        if let Some(known) = self.positions.get(name) {
            return *known;
        }
        let is_full = self.names.len() >= MAX_NAMES;
        let at = if is_full { self.names.len() - 1 } else { self.names.len() };
        let at = ServerId::try_from(at).unwrap_or(ServerId::MAX);
        if !is_full {
            self.names.push(name.into());
            self.positions.insert(name.into(), at);
        }
        at
    }

    pub fn find(&self, name: &str) -> Option<ServerId> {
        self.positions.get(name).copied()
    }

    pub fn name(&self, server: ServerId) -> &str {
        self.names.get(usize::from(server)).map_or("-", |name| name)
    }

    pub fn len(&self) -> usize {
        self.names.len()
    }
}

/// The sides of one cluster.
#[derive(Debug)]
pub(super) struct ClusterSides {
    pub name: String,
    pub servers: ServerNames,
    pub before: Side,
    /// `None` if nothing is changed, or if the other configuration does not have the cluster.
    pub after: Option<Side>,
}

impl ClusterSides {
    /// The clusters of the configuration. `after` is the changed one, else the same.
    pub fn of(before: &Snapshot, after: Option<&Snapshot>, changes: &ReplayChanges) -> Vec<Self> {
        let none = ReplayChanges::default();
        let sides = |cluster: &Arc<Cluster>| {
            let name = cluster.settings.name.clone();
            let mut servers = ServerNames::default();
            let side = Side::new(cluster, &none, &mut servers, None);
            let after = match after {
                Some(after) => {
                    let same = after.clusters.iter().find(|other| other.settings.name == name);
                    same.map(|same| Side::new(same, changes, &mut servers, Some(&side.view)))
                }
                None if changes.is_empty() => None,
                None => Some(Side::new(cluster, changes, &mut servers, None)),
            };
            Self { name, servers, before: side, after }
        };
        before.clusters.iter().map(sides).collect()
    }
}
