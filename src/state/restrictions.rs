//! Restrictions by administrators: set and released by a verb, and saved in `state_dir`. A server that restricts itself,
//! or is restricted by the configuration, is not affected.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::catch_up::release::note_still_catching_up;
use super::cluster_view::UpstreamServer;
use super::persistent::{AdminRestrictions, PersistentState};
use super::restrictions_file::{KeptRestriction, RESTRICTIONS_FILE};
use super::state_file::StateFileError;
use super::{Balancer, Cluster, ClusterView};
use crate::domain::cluster::{Restriction, ServerName};
use crate::domain::directory::{DatabaseMatch, ReplicaStatus, ServerReplica};
use crate::domain::freshness::IgnoredDatabases;
use crate::util::clock;

impl KeptRestriction {
    fn from_restriction(cluster: &str, server: &ServerName, restriction: &Restriction) -> Self {
        Self {
            cluster: cluster.to_owned(),
            server: server.to_string(),
            since: restriction.since_unix_ms,
            by: restriction.by.clone(),
            at: restriction.at.clone(),
            closed: restriction.closed,
        }
    }

    fn to_restriction(&self) -> Restriction {
        Restriction {
            since_unix_ms: self.since,
            by: self.by.clone(),
            at: self.at.clone(),
            closed: self.closed,
        }
    }
}

/// The result of `restrict` or `release` for one server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RestrictionOutcome {
    pub cluster: String,
    /// The server's abbreviated name.
    pub server: String,
    pub state: String,
    /// Everything that restricts it, each with its origin.
    pub restrictions: Vec<String>,
    /// Requests of this balancer in flight there.
    pub in_flight: u32,
    /// Databases that no other server can serve to new users while this one is RESTRICTED.
    pub last_replicas: Vec<String>,
    /// Further advice for the administrator.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// How an administrator restricts a server.
#[derive(Clone, Debug)]
pub struct RestrictionOrder {
    /// The administrator, the client's address or the program.
    pub by: String,
    /// Not even users who work there may return.
    pub closed: bool,
}

/// Restricts or releases (`None`) every server named `name`, and saves that if there is a `state_dir`. The result is empty
/// if no cluster has such a server.
///
/// # Errors
/// When the file cannot be written; the servers are restricted or released nevertheless.
pub fn set_restricted(
    balancer: &Balancer,
    name: &str,
    order: Option<&RestrictionOrder>,
) -> Result<Vec<RestrictionOutcome>, StateFileError> {
    let snapshot = balancer.snapshot();
    let now = clock::now_ms();
    let mut outcomes = Vec::new();
    let restriction = order.map(|order| Restriction {
        since_unix_ms: clock::unix_ms(),
        by: order.by.clone(),
        at: None,
        closed: order.closed,
    });
    let notes = snapshot.settings.follow.iter().filter(|_| order.is_some()).map(|follow| {
        let url = follow.url.origin();
        format!("on this ICM alone: to restrict it on all, restrict it on {url}, which this one follows")
    });
    let notes: Vec<String> = notes.collect();
    for cluster in &snapshot.clusters {
        let view = cluster.view.load();
        outcomes.extend(release_departed_servers(cluster, &view, name, order.is_some()));
        for entry in view.entries.iter().filter(|e| e.config.name.answers_to(name)) {
            let restriction = restriction.clone();
            {
                let mut admin_restrictions = cluster.persistent_state.admin_restrictions.lock();
                let name = &entry.config.name;
                match &restriction {
                    Some(restriction) => admin_restrictions.local.insert(name.clone(), restriction.clone()),
                    None => admin_restrictions.local.remove(name),
                };
            }
            let change = entry.server.restrict(restriction, now);
            balancer.record_transition(&cluster.settings.name, &entry.config.name, change);
            outcomes.push(RestrictionOutcome {
                cluster: cluster.settings.name.clone(),
                server: entry.config.name.to_string(),
                state: entry.server.state().as_str().to_owned(),
                restrictions: entry.server.read(|health| health.restrictions()),
                in_flight: entry.server.in_flight(),
                last_replicas: order
                    .map(|_| last_replicas(cluster, &view, &entry.config.name))
                    .unwrap_or_default(),
                notes: match order {
                    Some(_) => notes.clone(),
                    None => note_still_catching_up(&entry.server),
                },
            });
        }
    }
    if let Some(dir) = &snapshot.settings.state_dir {
        RESTRICTIONS_FILE.save(dir, &local_restrictions(balancer))?;
    }
    Ok(outcomes)
}

/// Releases restricted servers that have left the cluster.
fn release_departed_servers(
    cluster: &Cluster,
    view: &ClusterView,
    name: &str,
    restrict: bool,
) -> Vec<RestrictionOutcome> {
    if restrict {
        return Vec::new();
    }
    let mut admin_restrictions = cluster.persistent_state.admin_restrictions.lock();
    let gone = |server: &ServerName| {
        server.answers_to(name) && !view.entries.iter().any(|e| e.config.name == *server)
    };
    let gone: Vec<ServerName> =
        admin_restrictions.local.keys().filter(|server| gone(server)).cloned().collect();
    let outcome = |server: ServerName| {
        admin_restrictions.local.remove(&server);
        RestrictionOutcome {
            cluster: cluster.settings.name.clone(),
            server: server.to_string(),
            state: "no member now".to_owned(),
            restrictions: Vec::new(),
            in_flight: 0,
            last_replicas: Vec::new(),
            notes: Vec::new(),
        }
    };
    gone.into_iter().map(outcome).collect()
}

/// Paths of databases that new users can open on this server only: every other replica is marked, or on a server that
/// takes no new users. Logs, mailboxes and the like are left out, because each server has its own. Of a pool, everything
/// if no other server takes new users.
#[must_use]
pub fn last_replicas(cluster: &Cluster, view: &ClusterView, server: &ServerName) -> Vec<String> {
    if let Some(pool_of) = &cluster.settings.pool_of {
        let takes_users = |e: &UpstreamServer| {
            let seen = e.server.snapshot();
            seen.restricted_since_ms.is_none() && (seen.http || seen.https)
        };
        let is_last = !view.entries.iter().any(|e| e.config.name != *server && takes_users(e));
        return is_last.then(|| format!("all requests of {pool_of} to its pool")).into_iter().collect();
    }
    let index = &view.directory.index;
    let own_databases = IgnoredDatabases::new(&[]);
    let is_open = |holder: &ServerReplica<'_>| holder.status == ReplicaStatus::InService;
    let takes_new_users = |holder: &ServerReplica<'_>| {
        view.server_id(holder.server).and_then(|ix| view.server(ix)).is_some_and(|entry| {
            let seen = entry.server.snapshot();
            is_open(holder) && seen.restricted_since_ms.is_none() && (seen.http || seen.https)
        })
    };
    let is_this_server = |holder: &ServerReplica<'_>| {
        view.server_id(holder.server).and_then(|ix| view.server(ix)).is_some_and(|e| e.config.name == *server)
    };
    index
        .databases()
        .filter(|database| {
            let found = DatabaseMatch { database: database.id(), path: None };
            index.replicas_by_server(&found).any(|h| is_this_server(&h) && is_open(&h))
                && !index.replicas_by_server(&found).any(|h| !is_this_server(&h) && takes_new_users(&h))
        })
        .map(|database| database.path().to_owned())
        .filter(|path| !own_databases.matches(&path.to_lowercase()))
        .collect()
}

/// Restrictions set on this ICM, also of servers that have left their cluster and may join again.
#[must_use]
pub fn local_restrictions(balancer: &Balancer) -> Vec<KeptRestriction> {
    sorted_records(balancer, |admin_restrictions| admin_restrictions.local.iter().collect())
}

/// All restrictions by administrators, including those of followed ICMs: what an ICM that follows this one needs.
#[must_use]
pub fn all_restrictions(balancer: &Balancer) -> Vec<KeptRestriction> {
    let inherited = sorted_records(balancer, |admin_restrictions| {
        admin_restrictions
            .from_followed_icm
            .iter()
            .flat_map(|(server, all)| all.iter().map(move |r| (server, r)))
            .collect()
    });
    let mut all = local_restrictions(balancer);
    all.extend(inherited);
    all
}

/// Sorted by cluster and server, so that the same state gives the same text.
fn sorted_records(
    balancer: &Balancer,
    of: impl Fn(&AdminRestrictions) -> Vec<(&ServerName, &Restriction)>,
) -> Vec<KeptRestriction> {
    let all = balancer.persistent_states.lock();
    let clusters: BTreeMap<&String, &Arc<PersistentState>> = all.iter().collect();
    let mut list = Vec::new();
    for (cluster, state) in clusters {
        let admin_restrictions = state.admin_restrictions.lock();
        list.extend(
            of(&admin_restrictions)
                .into_iter()
                .map(|(server, restriction)| KeptRestriction::from_restriction(cluster, server, restriction)),
        );
    }
    list
}

/// Replaces the restrictions of the followed ICM; those set on this ICM stay.
pub fn replace_followed_restrictions(balancer: &Balancer, restrictions: &[KeptRestriction]) {
    let mut by_cluster: BTreeMap<&str, BTreeMap<ServerName, Vec<Restriction>>> = BTreeMap::new();
    for restriction in restrictions {
        let Ok(server) = ServerName::parse(&restriction.server) else { continue };
        let cluster = by_cluster.entry(&restriction.cluster).or_default();
        cluster.entry(server).or_default().push(restriction.to_restriction());
    }
    update_admin_restrictions(balancer, by_cluster.keys(), |cluster, restrictions| {
        restrictions.from_followed_icm = by_cluster.get(cluster).cloned().unwrap_or_default();
    });
    for cluster in &balancer.snapshot().clusters {
        let by_server = by_cluster.get(cluster.settings.name.as_str());
        for entry in &cluster.view.load().entries {
            let all =
                by_server.and_then(|servers| servers.get(&entry.config.name)).cloned().unwrap_or_default();
            let change = entry.server.restrict_elsewhere(all, clock::now_ms());
            balancer.record_transition(&cluster.settings.name, &entry.config.name, change);
        }
    }
}

/// Updates the restrictions of every cluster, also of `named` clusters that the configuration does not have now: they may
/// return.
fn update_admin_restrictions<'a>(
    balancer: &Balancer,
    named: impl Iterator<Item = &'a &'a str>,
    update: impl Fn(&str, &mut AdminRestrictions),
) {
    let mut all = balancer.persistent_states.lock();
    for cluster in named {
        all.entry((*cluster).to_owned()).or_default();
    }
    for (cluster, state) in all.iter() {
        update(cluster, &mut state.admin_restrictions.lock());
    }
}

/// Applies the saved restrictions before the first request. If the file is damaged, its copy is used and an event
/// recorded.
///
/// # Errors
/// When the file exists but cannot be read: a start without a restriction would send users to a server that is being
/// taken down.
pub fn load_from_state_dir(balancer: &Balancer) -> Result<(), StateFileError> {
    let snapshot = balancer.snapshot();
    let Some(dir) = &snapshot.settings.state_dir else { return Ok(()) };
    let restored = RESTRICTIONS_FILE.load::<KeptRestriction>(dir)?;
    if let Some(damage) = restored.damage_report {
        balancer.events.record(log::Level::Error, "restrictions", None, damage);
    }
    for restriction in restored.records {
        let Ok(name) = ServerName::parse(&restriction.server) else { continue };
        let restriction_in_force = restriction.to_restriction();
        {
            // Also for a cluster that the configuration does not have now: it may return.
            let mut all = balancer.persistent_states.lock();
            let state = all.entry(restriction.cluster.clone()).or_default();
            state.admin_restrictions.lock().local.insert(name.clone(), restriction_in_force.clone());
        }
        for cluster in snapshot.clusters.iter().filter(|c| c.settings.name == restriction.cluster) {
            for entry in cluster.view.load().entries.iter().filter(|e| e.config.name == name) {
                let change = entry.server.restrict(Some(restriction_in_force.clone()), clock::now_ms());
                balancer.record_transition(&cluster.settings.name, &name, change);
            }
        }
    }
    Ok(())
}

/// Replaces the restrictions set on this ICM by those of the process that this one takes over from.
///
/// # Errors
/// When the file cannot be written; the servers are restricted nevertheless.
pub fn replace_local_restrictions(
    balancer: &Balancer,
    restrictions: &[KeptRestriction],
) -> Result<(), StateFileError> {
    let mut by_cluster: BTreeMap<&str, BTreeMap<ServerName, Restriction>> = BTreeMap::new();
    for restriction in restrictions {
        let Ok(server) = ServerName::parse(&restriction.server) else { continue };
        by_cluster.entry(&restriction.cluster).or_default().insert(server, restriction.to_restriction());
    }
    update_admin_restrictions(balancer, by_cluster.keys(), |cluster, restrictions| {
        restrictions.local = by_cluster.get(cluster).cloned().unwrap_or_default();
    });
    let snapshot = balancer.snapshot();
    for cluster in &snapshot.clusters {
        let by_server = by_cluster.get(cluster.settings.name.as_str());
        for entry in &cluster.view.load().entries {
            let restriction = by_server.and_then(|servers| servers.get(&entry.config.name)).cloned();
            let change = entry.server.restrict(restriction, clock::now_ms());
            balancer.record_transition(&cluster.settings.name, &entry.config.name, change);
        }
    }
    match &snapshot.settings.state_dir {
        Some(dir) => RESTRICTIONS_FILE.save(dir, &local_restrictions(balancer)),
        None => Ok(()),
    }
}
