//! Estimates the share of each server: selects a server for many users one after the other, and keeps each request in
//! flight for a while. The random numbers are seeded, so the same question gets the same answer.

use std::collections::{BTreeMap, VecDeque};

use super::{MarkedHolders, decide};
use crate::domain::cluster::{Port, ServerSnapshot};
use crate::state::{Cluster, ClusterView};

const SIMULATED_USERS: usize = 10_000;
/// With fewer requests in flight the server with the best index would get everything.
const MIN_IN_FLIGHT_PER_SERVER: usize = 4;
/// Fewer answers say too little about the use of the databases.
const MIN_ANSWERS: u64 = 100;

/// The percentage of each server, now and after the change.
#[derive(Debug)]
pub(super) struct LoadShares {
    pub(super) by_requests: bool,
    pub(super) now: Vec<f64>,
    pub(super) then: Vec<f64>,
    pub(super) unserved_now: f64,
    pub(super) unserved_then: f64,
}

struct LoadRun {
    /// Users for each group of databases and each server.
    by_group: Vec<Vec<usize>>,
    unserved: usize,
}

pub(super) fn compare_loads(
    cluster: &Cluster,
    view: &ClusterView,
    groups: &BTreeMap<MarkedHolders, usize>,
    now: &[ServerSnapshot],
    then: &[ServerSnapshot],
    ports: &[Port],
) -> LoadShares {
    let groups: Vec<(&MarkedHolders, usize)> =
        groups.iter().map(|(holders, count)| (holders, *count)).collect();
    let equal_weights: Vec<f64> = groups.iter().map(|(_, count)| *count as f64).collect();
    let max_in_flight = view
        .entries
        .iter()
        .map(|e| e.server.in_flight() as usize)
        .sum::<usize>()
        .max(view.entries.len() * MIN_IN_FLIGHT_PER_SERVER);
    let run_with = |weights: &[f64], servers: &[ServerSnapshot]| {
        simulate_users(cluster, &groups, weights, servers, ports, max_in_flight)
    };
    let answered: Vec<f64> = view.entries.iter().map(|e| e.server.counters.answered() as f64).collect();
    let by_requests = answered.iter().sum::<f64>() >= MIN_ANSWERS as f64;
    let first = run_with(&equal_weights, now);
    let (weights, before) = if by_requests {
        let weights = database_weights(&first, &answered);
        let before = run_with(&weights, now);
        (weights, before)
    } else {
        (equal_weights, first)
    };
    let after = run_with(&weights, then);
    LoadShares {
        by_requests,
        now: shares(&before, view.entries.len()),
        then: shares(&after, view.entries.len()),
        unserved_now: percent(before.unserved),
        unserved_then: percent(after.unserved),
    }
}

/// Distributes the answers of each server over the groups of databases that it serves.
fn database_weights(run: &LoadRun, answered: &[f64]) -> Vec<f64> {
    let served = |server: usize| -> f64 {
        run.by_group.iter().filter_map(|row| row.get(server)).map(|n| *n as f64).sum()
    };
    let each: Vec<f64> = answered
        .iter()
        .enumerate()
        .map(|(at, n)| if served(at) > 0.0 { n / served(at) } else { 0.0 })
        .collect();
    run.by_group.iter().map(|row| row.iter().zip(&each).map(|(n, each)| *n as f64 * each).sum()).collect()
}

fn simulate_users(
    cluster: &Cluster,
    groups: &[(&MarkedHolders, usize)],
    weights: &[f64],
    servers: &[ServerSnapshot],
    ports: &[Port],
    max_in_flight: usize,
) -> LoadRun {
    let mut servers = servers.to_vec();
    let mut random = fastrand::Rng::with_seed(servers.len() as u64);
    let mut by_group = vec![vec![0; servers.len()]; groups.len()];
    let mut unserved = 0;
    let mut in_flight: VecDeque<usize> = VecDeque::with_capacity(max_in_flight + 1);
    let mut sum = 0.0;
    let cumulative_weights: Vec<f64> = weights
        .iter()
        .map(|weight| {
            sum += weight;
            sum
        })
        .collect();
    for _ in 0..SIMULATED_USERS {
        let at = random.f64() * sum;
        let group = cumulative_weights.partition_point(|edge| *edge <= at);
        let Some((holders, _)) = groups.get(group) else { continue };
        let Some(port) = ports.get(random.usize(..ports.len().max(1))) else { continue };
        let Some((server, _)) = decide(cluster, holders, &servers, *port, random.u64(..)) else {
            unserved += 1;
            continue;
        };
        let server = usize::from(server);
        if let Some(count) = by_group.get_mut(group).and_then(|row| row.get_mut(server)) {
            *count += 1;
        }
        if let Some(snapshot) = servers.get_mut(server) {
            snapshot.in_flight += 1;
        }
        in_flight.push_back(server);
        if in_flight.len() > max_in_flight
            && let Some(snapshot) = in_flight.pop_front().and_then(|done| servers.get_mut(done))
        {
            snapshot.in_flight = snapshot.in_flight.saturating_sub(1);
        }
    }
    LoadRun { by_group, unserved }
}

fn shares(run: &LoadRun, servers: usize) -> Vec<f64> {
    (0..servers).map(|at| percent(run.by_group.iter().filter_map(|row| row.get(at)).sum())).collect()
}

fn percent(users: usize) -> f64 {
    let tenths = (users as f64 * 1_000.0 / SIMULATED_USERS as f64).round();
    tenths / 10.0
}
