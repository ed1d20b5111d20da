//! The plan of a rolling maintenance: which servers, in which order, and what would stop it at each of them. It changes
//! nothing.

use anyhow::bail;
use serde::Serialize;
use serde_json::{Value, json};

use super::observe::{Observation, ObservedCluster, ObservedServer, ObservedStatus};
use super::phases::StepLimits;
use super::progress::MaintenanceProgress;
use super::steps::before_restricting;
use crate::cli::output::{self, TextTable, format_age};
use crate::domain::cluster::ServerName;

/// One server of the plan.
#[derive(Clone, Debug, Serialize)]
pub(super) struct PlannedServer {
    pub server: String,
    pub state: String,
    pub in_flight: u32,
    pub tunnels: u32,
    /// For how long its users may still return, before the restriction.
    pub users_may_return_ms: u64,
    /// Databases that only this server can serve now.
    pub last_replicas: usize,
    pub examples: Vec<String>,
    /// What its Cluster Replicator reports.
    pub replicator: String,
    /// Why the run would stop before this server.
    pub stops: Option<String>,
}

/// The cluster that is meant.
///
/// # Errors
/// If there is no such cluster, or several and none is named.
pub(super) fn choose_cluster<'a>(
    status: &'a ObservedStatus,
    wanted: Option<&str>,
) -> anyhow::Result<&'a ObservedCluster> {
    // A server is restricted in the pools of its cluster too.
    let clusters: Vec<&ObservedCluster> = status.clusters.iter().filter(|c| c.pool_of.is_none()).collect();
    let names: Vec<&str> = clusters.iter().map(|c| &*c.name).collect();
    match (wanted, clusters.as_slice()) {
        (Some(wanted), all) => match all.iter().find(|c| c.name == wanted) {
            Some(cluster) => Ok(cluster),
            None => bail!("there is no cluster {wanted}; there are: {}", names.join(", ")),
        },
        (None, [only]) => Ok(only),
        (None, _) => bail!("there are several clusters, name one by --cluster: {}", names.join(", ")),
    }
}

/// The full names of the wanted servers, in the wanted order; without any, all in the order of the configuration.
///
/// # Errors
/// If the cluster has no such server, or one is named twice.
pub(super) fn choose_servers(cluster: &ObservedCluster, wanted: &[String]) -> anyhow::Result<Vec<String>> {
    if wanted.is_empty() {
        return Ok(cluster.servers.iter().map(|server| server.name.clone()).collect());
    }
    let mut chosen: Vec<String> = Vec::new();
    for name in wanted {
        let answers =
            |s: &&ObservedServer| ServerName::parse(&s.name).is_ok_and(|parsed| parsed.answers_to(name));
        let Some(found) = cluster.servers.iter().find(answers) else {
            bail!("the cluster {} has no server {name}", cluster.name);
        };
        if chosen.contains(&found.name) {
            bail!("{} is named twice", found.name);
        }
        chosen.push(found.name.clone());
    }
    Ok(chosen)
}

/// What would happen at one server, as things are now.
pub(super) fn plan_server(seen: &Observation, server: &ObservedServer, limits: &StepLimits) -> PlannedServer {
    let drain = &seen.drain;
    let count = |number: Option<u64>| number.map_or_else(|| "unknown".to_owned(), |n| n.to_string());
    let replicator = match &server.replicator {
        Some(report) => format!(
            "Retry.Waiting {}, WorkQueueDepth {}, {} ago",
            count(report.retry_waiting),
            count(report.work_queue_depth),
            report.age_ms.map_or_else(|| "unknown".to_owned(), format_age)
        ),
        None => "not reported".to_owned(),
    };
    PlannedServer {
        server: server.name.clone(),
        state: server.state.clone(),
        in_flight: drain.in_flight,
        tunnels: drain.tunnels,
        users_may_return_ms: drain.may_return_ms,
        last_replicas: drain.last_replicas,
        examples: drain.examples.clone(),
        replicator,
        stops: before_restricting(seen, server, limits).map(|stop| stop.to_string()),
    }
}

/// The plan as JSON.
pub(super) fn plan_json(
    cluster: &str,
    plan: &[PlannedServer],
    unfinished: Option<&MaintenanceProgress>,
) -> Value {
    json!({ "cluster": cluster, "servers": plan, "unfinished": unfinished })
}

/// Prints the plan as a table, and below it what needs a decision.
pub(super) fn print_plan(
    cluster: &str,
    plan: &[PlannedServer],
    limits: &StepLimits,
    unfinished: Option<&MaintenanceProgress>,
) {
    println!("{cluster}: {} servers, one after the other", plan.len());
    let mut table = TextTable::new(&[
        ">",
        "server",
        "state",
        ">in flight",
        "users may return",
        ">at risk",
        "Cluster Replicator",
    ]);
    for (n, server) in plan.iter().enumerate() {
        let stay = server.users_may_return_ms.min(limits.drain_ms);
        table.row(vec![
            (n + 1).to_string(),
            server.server.clone(),
            server.state.clone(),
            server.in_flight.to_string(),
            if stay == 0 { "no".to_owned() } else { format!("up to {}", format_age(stay)) },
            server.last_replicas.to_string(),
            server.replicator.clone(),
        ]);
    }
    table.print();
    for server in plan {
        for path in &server.examples {
            println!("{}: only it can serve {path} now", server.server);
        }
        let more = server.last_replicas.saturating_sub(server.examples.len());
        if more > 0 {
            println!("{}: and {more} more databases", server.server);
        }
    }
    for server in plan {
        if let Some(stop) = &server.stops {
            output::print_line(&format!("would stop before {}: {stop}", server.server));
        }
    }
    if let Some(progress) = unfinished {
        println!("{}", describe_unfinished(progress));
    }
}

/// Where an unfinished run stands, as a sentence.
pub(super) fn describe_unfinished(progress: &MaintenanceProgress) -> String {
    let done = if progress.done.is_empty() { "none".to_owned() } else { progress.done.join(", ") };
    let at = match &progress.current {
        Some(step) => format!("it was at {} {}", step.server, step.phase.describe()),
        None => "it was between two servers".to_owned(),
    };
    let began = output::local_time(progress.started_at);
    format!("the run of {began} is not finished: {at}; done: {done}")
}
