//! Begins a rehearsal, or says why it would be dangerous or would show nothing.

use std::sync::Arc;
use std::time::Duration;

use super::watch;
use crate::config::settings::Mode;
use crate::domain::directory::{DatabaseMatch, ReplicaStatus};
use crate::domain::freshness::IgnoredDatabases;
use crate::domain::rehearsal::{DURATION, ServersProblem, USERS_PERCENT, UserShare, check_servers};
use crate::domain::select::ServerId;
use crate::state::rehearsal::{OnlyReplicas, RunningRehearsal};
use crate::state::{Balancer, Cluster, ClusterView, restrictions};

/// Paths in the answer; the rest is counted.
const MAX_EXAMPLES: usize = 10;

/// What an administrator asks for.
#[derive(Clone, Debug)]
pub(crate) struct RehearsalOrder {
    /// By common or full name.
    pub(crate) server: String,
    /// Needed if several clusters have such a server.
    pub(crate) cluster: Option<String>,
    pub(crate) users_percent: f64,
    pub(crate) duration: Duration,
    /// That of another ICM which rehearses the same; `None` = a new one.
    pub(crate) id: Option<u32>,
    /// The person or address for the event.
    pub(crate) by: String,
}

/// Why no rehearsal began.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RehearsalRefusal {
    #[error("the share of users must be {} to {} %", USERS_PERCENT.start(), USERS_PERCENT.end())]
    Share,
    #[error("a rehearsal takes 10 s to 24 h")]
    Duration,
    #[error("no cluster has a server {0}; /status lists them")]
    UnknownServer(String),
    #[error("several clusters have a server {0}: {1}; name the cluster")]
    SeveralClusters(String, String),
    #[error("a rehearsal of {0} is under way; this process does one at a time")]
    Running(String),
    #[error("this process is draining")]
    Draining,
    #[error("{0} has affinity off: without its cookie no user can be told from another")]
    NoAffinity(String),
    #[error("{0} has mode: redirect: browsers go to the servers themselves")]
    RedirectMode(String),
    #[error("{0}")]
    Servers(#[from] ServersProblem),
    #[error("none of the {1} databases of {0} has a replica in service on another server that serves")]
    NothingToMove(String, usize),
}

impl RehearsalRefusal {
    /// A word for programs.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Share | Self::Duration => "bad_request",
            Self::UnknownServer(_) => "unknown_server",
            Self::SeveralClusters(..) => "several_clusters",
            Self::Running(_) => "rehearsal_running",
            Self::Draining => "draining",
            Self::NoAffinity(_) => "no_affinity",
            Self::RedirectMode(_) => "redirect_mode",
            Self::Servers(problem) => problem.end().as_str(),
            Self::NothingToMove(..) => "nothing_to_move",
        }
    }
}

/// Begins a rehearsal and the task that ends it. Searches the whole directory, so it may take a while.
///
/// # Errors
/// If it would be dangerous, would show nothing, or another one runs.
pub(crate) fn start(
    balancer: &Arc<Balancer>,
    order: &RehearsalOrder,
) -> Result<Arc<RunningRehearsal>, RehearsalRefusal> {
    let share = UserShare::from_percent(order.users_percent).ok_or(RehearsalRefusal::Share)?;
    if !DURATION.contains(&order.duration) {
        return Err(RehearsalRefusal::Duration);
    }
    let (cluster, view, server) = find_server(balancer, order)?;
    let entry = view.server(server).ok_or_else(|| RehearsalRefusal::UnknownServer(order.server.clone()))?;
    let settings = &cluster.settings;
    if !settings.affinity.enabled {
        return Err(RehearsalRefusal::NoAffinity(settings.name.clone()));
    }
    if settings.mode == Mode::Redirect {
        return Err(RehearsalRefusal::RedirectMode(settings.name.clone()));
    }
    let name = &entry.config.name;
    check_servers(name.abbreviated(), entry.server.state(), &watch::other_servers(&cluster, &view, server))?;
    let only_replicas = only_replicas(&cluster, &view, server)?;
    let mut last = balancer.rehearsals.last.lock();
    // After the check of the state, a drain may have begun.
    if balancer.is_draining() {
        return Err(RehearsalRefusal::Draining);
    }
    if let Some(running) = last.as_ref().filter(|rehearsal| rehearsal.is_running()) {
        return Err(RehearsalRefusal::Running(running.server.to_string()));
    }
    let id = order.id.unwrap_or_else(|| fastrand::u32(..));
    let at = (settings.name.clone(), name.clone(), entry.tag());
    let rehearsal = Arc::new(RunningRehearsal::new(id, at, share, order.duration, only_replicas));
    *last = Some(Arc::clone(&rehearsal));
    cluster.persistent_state.rehearsal.set(Arc::clone(&rehearsal));
    drop(last);
    balancer.events.record(
        log::Level::Warn,
        "rehearsal",
        Some(&settings.name),
        rehearsal.start_text(&order.by),
    );
    tokio::spawn(watch::watch(Arc::clone(balancer), Arc::clone(&rehearsal)));
    Ok(rehearsal)
}

type ServerOfCluster = (Arc<Cluster>, Arc<ClusterView>, ServerId);

fn find_server(balancer: &Balancer, order: &RehearsalOrder) -> Result<ServerOfCluster, RehearsalRefusal> {
    let snapshot = balancer.snapshot();
    let is_wanted = |cluster: &&Arc<Cluster>| {
        order.cluster.as_ref().is_none_or(|name| cluster.settings.name.eq_ignore_ascii_case(name))
    };
    let mut found: Vec<ServerOfCluster> = snapshot
        .clusters
        .iter()
        .filter(is_wanted)
        .filter_map(|cluster| {
            let view = cluster.view.load_full();
            let server = view.server_by_name(&order.server)?;
            Some((Arc::clone(cluster), view, server))
        })
        .collect();
    if found.len() > 1 {
        let names: Vec<&str> = found.iter().map(|(cluster, ..)| cluster.settings.name.as_str()).collect();
        return Err(RehearsalRefusal::SeveralClusters(order.server.clone(), names.join(", ")));
    }
    found.pop().ok_or_else(|| RehearsalRefusal::UnknownServer(order.server.clone()))
}

/// The databases that only this server can serve.
fn only_replicas(
    cluster: &Cluster,
    view: &ClusterView,
    server: ServerId,
) -> Result<OnlyReplicas, RehearsalRefusal> {
    let Some(entry) = view.server(server) else { return Ok(OnlyReplicas::default()) };
    let mut paths = restrictions::last_replicas(cluster, view, &entry.config.name);
    let count = paths.len();
    if count > 0 && count == databases_on(view, server) {
        return Err(RehearsalRefusal::NothingToMove(entry.config.name.to_string(), count));
    }
    paths.truncate(MAX_EXAMPLES);
    Ok(OnlyReplicas { count, examples: paths })
}

/// How many databases are in service on a server, without those that each server writes by itself.
fn databases_on(view: &ClusterView, server: ServerId) -> usize {
    let index = &view.directory.index;
    let own_databases = IgnoredDatabases::new(&[]);
    let is_there = |found: &DatabaseMatch| {
        index.replicas_by_server(found).any(|holder| {
            holder.status == ReplicaStatus::InService && view.server_id(holder.server) == Some(server)
        })
    };
    index
        .databases()
        .filter(|database| is_there(&DatabaseMatch { database: database.id(), path: None }))
        .filter(|database| !own_databases.matches(&database.path().to_lowercase()))
        .count()
}
