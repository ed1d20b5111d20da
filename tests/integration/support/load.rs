//! Load for a bounded time, counted by outcome. It measures no speed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::client::Client;

/// Counts by outcome: `200`, `503`, `reset`, `truncated`, ...
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally(pub BTreeMap<String, u64>);

impl Tally {
    /// The count of this outcome.
    pub fn of(&self, outcome: &str) -> u64 {
        self.0.get(outcome).copied().unwrap_or(0)
    }

    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// The count of all outcomes except this one.
    pub fn other_than(&self, outcome: &str) -> u64 {
        self.total() - self.of(outcome)
    }
}

/// Runs `work` repeatedly in this many threads, at least once in each. It gets the number of its thread and of its turn,
/// and returns the outcome.
pub fn load<W>(threads: usize, time: Duration, work: impl Fn(usize) -> W + Sync) -> Tally
where
    W: FnMut(u64) -> String,
{
    let end = Instant::now() + time;
    let mut tally = Tally::default();
    let turns = |thread| {
        let mut mine: BTreeMap<String, u64> = BTreeMap::new();
        let mut work = work(thread);
        for n in 0.. {
            *mine.entry(work(n)).or_default() += 1;
            if Instant::now() >= end {
                break;
            }
        }
        mine
    };
    std::thread::scope(|scope| {
        let turns = &turns;
        let all: Vec<_> = (0..threads).map(|t| scope.spawn(move || turns(t))).collect();
        for thread in all {
            for (outcome, n) in thread.join().unwrap() {
                *tally.0.entry(outcome).or_default() += n;
            }
        }
    });
    tally
}

/// Sends GETs on kept connections, each with the `X-Request-Id` `<prefix>-<thread>-<turn>`. The outcome is the status or
/// the name of the failure.
pub fn load_get(address: SocketAddr, target: &str, prefix: &str, threads: usize, time: Duration) -> Tally {
    load(threads, time, |thread| {
        let mut client = Client::to(address);
        move |n| {
            let rid = format!("{prefix}-{thread}-{n}");
            match client.request("GET", target, &[("X-Request-Id", &rid)], b"") {
                Ok(answer) => answer.status.to_string(),
                Err(failure) => failure.name().to_owned(),
            }
        }
    })
}
