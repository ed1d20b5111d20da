//! One case: requests arrive, load balancers choose servers, and servers work, for some simulated minutes. The seed
//! determines the result.

use super::event::{Event, exponential};
use super::rules::{Choice, Rule, rule};
use super::server::Server;

#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub size: Size,
    pub event: Event,
    /// Seconds between two published indexes; 0 means that none is published.
    pub index_every: f64,
    /// Number of load balancers.
    pub icms: usize,
    /// Share of the requests from users with affinity.
    pub affinity: f64,
}

/// The result of a case.
pub struct Outcome {
    /// Median of the response times, milliseconds.
    pub p50: f64,
    /// 99th percentile of the response times, milliseconds.
    pub p99: f64,
    /// Requests of each server in each second.
    pub per_second: Vec<[u32; 3]>,
}

/// The size of the cluster. A rule may learn enough from a thousand requests a second, but not from a hundred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// 4, 8 and 16 cores, requests of 20 ms: 840 a second.
    Busy,
    /// 2, 4 and 8 cores, requests of 80 ms: 105 a second.
    Calm,
}

impl Size {
    /// Cores of each server, in the ratio 1:2:4.
    pub fn cores(self) -> [f64; 3] {
        match self {
            Size::Busy => [4.0, 8.0, 16.0],
            Size::Calm => [2.0, 4.0, 8.0],
        }
    }

    /// Mean work of a request, seconds.
    fn mean(self) -> f64 {
        match self {
            Size::Busy => 0.02,
            Size::Calm => 0.08,
        }
    }

    fn users(self) -> usize {
        match self {
            Size::Busy => 2000,
            Size::Calm => 200,
        }
    }
}

pub const RUN_SECONDS: f64 = 240.0;
const WARM_UP: f64 = 10.0;
/// Work of the longest request of a heavy tail, seconds.
const MAX_WORK_SECONDS: f64 = 20.0;

/// Runs a case once with each seed. The times of all runs are one sample, because a run of four minutes has too few of
/// the slowest 1 %. The shares are those of the first run.
pub fn run(case: Case, name: &str, seeds: &[u64]) -> Outcome {
    let mut runs = seeds.iter().map(|seed| run_once(case, name, *seed));
    let Run { mut times, per_second } = runs.next().expect("one seed at least");
    times.extend(runs.flat_map(|run| run.times));
    times.sort_unstable_by(f64::total_cmp);
    let quantile = |q: f64| times[((times.len() as f64 - 1.0) * q) as usize] * 1000.0;
    Outcome { p50: quantile(0.5), p99: quantile(0.99), per_second }
}

struct Run {
    /// Response times in seconds.
    times: Vec<f64>,
    per_second: Vec<[u32; 3]>,
}

fn run_once(case: Case, name: &str, seed: u64) -> Run {
    let mut random = fastrand::Rng::with_seed(seed);
    // Rules use a separate generator, so that all get the same requests.
    let mut rules_random = fastrand::Rng::with_seed(seed ^ 0x5eed);
    let (cores, mean) = (case.size.cores(), case.size.mean());
    let mut servers: Vec<Server> = cores.iter().map(|c| Server::new(*c)).collect();
    let mut rules: Vec<Box<dyn Rule>> = (0..case.icms).map(|_| rule(name, &cores)).collect();
    let mut up = [true; 3];
    let mut users: Vec<Option<usize>> = vec![None; case.size.users()];
    let mut outcome = Run { times: Vec::new(), per_second: vec![[0; 3]; RUN_SECONDS as usize + 1] };

    let rate = case.event.load() * cores.iter().sum::<f64>() / mean;
    let mut next_arrival = 0.0;
    let mut next_tick = 0.5;
    // Servers do not publish at the same time.
    let mut next_index: Vec<f64> = (0..3).map(|n| (n as f64 + 1.0) / 3.0 * case.index_every).collect();
    if case.index_every > 0.0 {
        // At the start the index of an idle server is known.
        for rule in &mut rules {
            (0..3).for_each(|n| rule.published(n, 100, 0.0));
        }
    }
    loop {
        let (server, end) = (0..3)
            .map(|n| (n, servers[n].next_end()))
            .min_by(|a, b| a.1.total_cmp(&b.1))
            .expect("three servers");
        let index_due = if case.index_every > 0.0 {
            next_index.iter().copied().fold(f64::INFINITY, f64::min)
        } else {
            f64::INFINITY
        };
        let now = end.min(next_arrival).min(next_tick).min(index_due);
        if now >= RUN_SECONDS {
            break;
        }
        if now == end {
            let Some(job) = servers[server].end(now) else { continue };
            rules[job.icm].answered(server, now - job.arrived, now);
            if job.arrived > WARM_UP {
                outcome.times.push(now - job.arrived);
            }
        } else if now == next_arrival {
            let icm = random.usize(..case.icms);
            let size = case.event.work(mean, MAX_WORK_SECONDS, &mut random);
            let user = (random.f64() < case.affinity).then(|| random.usize(..users.len()));
            let leaves = random.f64() < 1.0 / 30.0;
            let entry = user.and_then(|u| users[u]).filter(|n| up[*n]);
            let choice = Choice { now, up: &up, entry, servers: &servers, size };
            // A user with affinity stays with any rule; `Icm` decides this itself.
            let chosen = match entry {
                Some(entry) if !name.starts_with("icm") => {
                    StickyUser(entry).choose(&mut rules[icm], &choice, &mut rules_random)
                }
                _ => rules[icm].choose(&choice, &mut rules_random),
            };
            if let Some(user) = user {
                users[user] = (!leaves).then_some(chosen);
            }
            servers[chosen].begin(size, icm, now);
            outcome.per_second[now as usize][chosen] += 1;
            next_arrival = now + exponential(&mut random) / (rate * case.event.intensity(now));
        } else if now == next_tick {
            next_tick += 0.5;
            apply_event(case.event, now, &mut servers, &mut up, &mut rules);
            for rule in &mut rules {
                rule.tick(now);
            }
        } else {
            for n in 0..3 {
                if next_index[n] <= now {
                    next_index[n] += case.index_every;
                    if !up[n] {
                        continue;
                    }
                    let expansion = servers[n].take_expansion();
                    let index = domino_icm::domain::cluster::availability::index_of_expansion(expansion, 6)
                        .round() as u8;
                    for rule in &mut rules {
                        rule.published(n, index, now);
                    }
                }
            }
        }
    }
    outcome
}

/// The choice for a user with affinity. The rule must still count the request, so it chooses with only this server up.
struct StickyUser(usize);
impl StickyUser {
    fn choose(&self, rule: &mut Box<dyn Rule>, choice: &Choice<'_>, random: &mut fastrand::Rng) -> usize {
        let mut up = [false; 3];
        up[self.0] = true;
        rule.choose(&Choice { up: &up, ..*choice }, random)
    }
}

fn apply_event(
    event: Event,
    now: f64,
    servers: &mut [Server],
    up: &mut [bool; 3],
    rules: &mut [Box<dyn Rule>],
) {
    match event {
        Event::SlowsDown => {
            let slow = (RUN_SECONDS / 3.0..RUN_SECONDS * 2.0 / 3.0).contains(&now);
            servers[1].set_speed(if slow { 0.1 } else { 1.0 }, now);
        }
        Event::ReturnsCold => {
            let (leaves, returns) = (RUN_SECONDS / 6.0, RUN_SECONDS / 3.0);
            let is_up = !(leaves..returns).contains(&now);
            if is_up != up[2] {
                up[2] = is_up;
                for rule in rules.iter_mut() {
                    rule.reachable(2, is_up, now);
                }
            }
            if now >= returns {
                servers[2].set_speed((1.0_f64 / 3.0 + (now - returns) / 30.0 * 2.0 / 3.0).min(1.0), now);
            }
        }
        _ => {}
    }
}
