//! Where the load goes: many users asked for one after the other, each a request in flight for a while.
//!
//! In: databases grouped by their holders, the members now and then. Out: each member's share in percent. The
//! draws are seeded: the same question gets the same answer.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering::Relaxed;

use super::{Holders, decide};
use crate::domain::cluster::{Port, ServerSnapshot};
use crate::state::{Cluster, View};

/// Users asked for in each run.
const USERS: usize = 10_000;
/// Requests in flight on a server at least: nearly idle servers would all leave the work to the best index.
const IN_FLIGHT: usize = 4;
/// Fewer answers than this say nothing about what is asked for.
const ENOUGH: u64 = 100;

/// Shares by member, percent.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) by_requests: bool,
    pub(super) now: Vec<f64>,
    pub(super) then: Vec<f64>,
    pub(super) unserved_now: f64,
    pub(super) unserved_then: f64,
}

/// Users of one run: by group, by member, and those nobody serves.
struct Run {
    by_group: Vec<Vec<usize>>,
    unserved: usize,
}

/// Compares now and then.
pub(super) fn compare(
    cluster: &Cluster,
    view: &View,
    groups: &BTreeMap<Holders, usize>,
    now: &[ServerSnapshot],
    then: &[ServerSnapshot],
    ports: &[Port],
) -> Load {
    let groups: Vec<(&Holders, usize)> = groups.iter().map(|(holders, count)| (holders, *count)).collect();
    let even: Vec<f64> = groups.iter().map(|(_, count)| *count as f64).collect();
    let at_once = view
        .entries
        .iter()
        .map(|e| e.member.in_flight() as usize)
        .sum::<usize>()
        .max(view.entries.len() * IN_FLIGHT);
    let go = |weights: &[f64], seen: &[ServerSnapshot]| run(cluster, &groups, weights, seen, ports, at_once);
    let answered: Vec<f64> =
        view.entries.iter().map(|e| e.member.counters.answered.load(Relaxed) as f64).collect();
    let by_requests = answered.iter().sum::<f64>() >= ENOUGH as f64;
    let first = go(&even, now);
    let (weights, before) = if by_requests {
        let weights = weigh(&first, &answered);
        let before = go(&weights, now);
        (weights, before)
    } else {
        (even, first)
    };
    let after = go(&weights, then);
    Load {
        by_requests,
        now: shares(&before, view.entries.len()),
        then: shares(&after, view.entries.len()),
        unserved_now: percent(before.unserved),
        unserved_then: percent(after.unserved),
    }
}

/// Spreads what each server has answered over the groups that it serves.
fn weigh(run: &Run, answered: &[f64]) -> Vec<f64> {
    let served = |member: usize| -> f64 {
        run.by_group.iter().filter_map(|row| row.get(member)).map(|n| *n as f64).sum()
    };
    let each: Vec<f64> = answered
        .iter()
        .enumerate()
        .map(|(at, n)| if served(at) > 0.0 { n / served(at) } else { 0.0 })
        .collect();
    run.by_group.iter().map(|row| row.iter().zip(&each).map(|(n, each)| *n as f64 * each).sum()).collect()
}

fn run(
    cluster: &Cluster,
    groups: &[(&Holders, usize)],
    weights: &[f64],
    seen: &[ServerSnapshot],
    ports: &[Port],
    at_once: usize,
) -> Run {
    let mut seen = seen.to_vec();
    let mut random = fastrand::Rng::with_seed(seen.len() as u64);
    let mut by_group = vec![vec![0; seen.len()]; groups.len()];
    let mut unserved = 0;
    let mut in_flight: VecDeque<usize> = VecDeque::with_capacity(at_once + 1);
    let mut sum = 0.0;
    let edges: Vec<f64> = weights
        .iter()
        .map(|weight| {
            sum += weight;
            sum
        })
        .collect();
    for _ in 0..USERS {
        let at = random.f64() * sum;
        let group = edges.partition_point(|edge| *edge <= at);
        let Some((holders, _)) = groups.get(group) else { continue };
        let Some(port) = ports.get(random.usize(..ports.len().max(1))) else { continue };
        let Some((member, _)) = decide(cluster, holders, &seen, *port, random.u64(..)) else {
            unserved += 1;
            continue;
        };
        let member = usize::from(member);
        if let Some(count) = by_group.get_mut(group).and_then(|row| row.get_mut(member)) {
            *count += 1;
        }
        if let Some(view) = seen.get_mut(member) {
            view.in_flight += 1;
        }
        in_flight.push_back(member);
        if in_flight.len() > at_once
            && let Some(view) = in_flight.pop_front().and_then(|done| seen.get_mut(done))
        {
            view.in_flight = view.in_flight.saturating_sub(1);
        }
    }
    Run { by_group, unserved }
}

fn shares(run: &Run, members: usize) -> Vec<f64> {
    (0..members).map(|m| percent(run.by_group.iter().filter_map(|row| row.get(m)).sum())).collect()
}

fn percent(users: usize) -> f64 {
    let tenths = (users as f64 * 1_000.0 / USERS as f64).round();
    tenths / 10.0
}
