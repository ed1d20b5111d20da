//! The compared rules, each from the view of one load balancer among several: it sees its own requests and what the
//! servers publish. [`Icm`] uses `select::decide` and the server health of production; the others follow their authors'
//! descriptions.

use std::collections::VecDeque;
use std::sync::Arc;

use domino_icm::domain::cluster::availability::RequestClass;
use domino_icm::domain::cluster::load;
use domino_icm::domain::cluster::{
    AvailabilityReport, ClusterServer, HealthSettings, InFlight, Port, ReportSource, ServerHealth, ServerName,
};
use domino_icm::domain::directory::ReplicaStatus;
use domino_icm::domain::select::{
    Candidate, CandidateFreshness, CrossSites, SelectionInput, SelectionOutcome, SelectionPolicy, ServerId,
    decide,
};

use super::server::Server;

/// The information for one choice.
pub struct Choice<'a> {
    /// Simulated time in seconds.
    pub now: f64,
    /// Which servers are reachable.
    pub up: &'a [bool],
    /// The server that this user belongs to.
    pub entry: Option<usize>,
    /// Only for the oracle and for rules that probe.
    pub servers: &'a [Server],
    /// Work of the request, only for the oracle.
    pub size: f64,
}

/// The selection rule of one load balancer.
pub trait Rule {
    /// Chooses a server that is up.
    fn choose(&mut self, choice: &Choice<'_>, random: &mut fastrand::Rng) -> usize;
    fn answered(&mut self, _server: usize, _seconds: f64, _now: f64) {}
    /// A server published its index.
    fn published(&mut self, _server: usize, _index: u8, _now: f64) {}
    /// Called every half second.
    fn tick(&mut self, _now: f64) {}
    /// A server became unreachable or reachable.
    fn reachable(&mut self, _server: usize, _up: bool, _now: f64) {}
}

/// The names of all rules, in the order of the table.
pub const RULES: [&str; 9] = [
    "icm",
    "icm, weights",
    "highest index",
    "round robin",
    "weighted round robin",
    "least connections",
    "peak EWMA",
    "Prequal",
    "oracle",
];

pub fn rule(name: &str, cores: &[f64]) -> Box<dyn Rule> {
    let n = cores.len();
    match name {
        "icm" => Box::new(Icm::new(&vec![1.0; n])),
        "icm, weights" => Box::new(Icm::new(cores)),
        "highest index" => Box::new(HighestIndex(vec![100; n])),
        "round robin" => Box::new(RoundRobin { weights: vec![1.0; n], current: vec![0.0; n] }),
        "weighted round robin" => Box::new(RoundRobin { weights: cores.to_vec(), current: vec![0.0; n] }),
        "least connections" => Box::new(LeastConnections(vec![0; n])),
        "peak EWMA" => Box::new(PeakEwma { cost: vec![(0.0, 0.0); n], in_flight: vec![0; n] }),
        "Prequal" => Box::new(Prequal::new(n)),
        _ => Box::new(Oracle),
    }
}

/// Whether a rule uses the index; the others need only one run for all index intervals.
pub fn reads_index(name: &str) -> bool {
    matches!(name, "icm" | "icm, weights" | "highest index")
}

/// The time in milliseconds, never 0.
fn ms(seconds: f64) -> u64 {
    (seconds * 1000.0) as u64 + 1
}

struct Icm {
    servers: Vec<Arc<ClusterServer>>,
    open: Vec<Vec<InFlight>>,
    settings: SelectionPolicy,
}

impl Icm {
    fn new(weights: &[f64]) -> Self {
        let count = weights.len();
        let settings = HealthSettings {
            http: true,
            https: false,
            healthy_after: 1,
            unreachable_after: 1,
            passive_failures: 3,
            threshold: None,
            restricted: false,
            max_users: 0,
            uses_http: true,
            uses_https: false,
            catch_up_after_ms: None,
        };
        let sources = [ReportSource { kind: "prometheus", stale_after_ms: 180_000 }];
        let server = |n: usize| {
            let name = ServerName::parse(&format!("Web{}/Acme", n + 1)).expect("a name");
            let server = Arc::new(ClusterServer::new(
                name,
                n as u32,
                weights[n] as u32,
                ServerHealth::new(settings.clone(), &sources, 1),
            ));
            let _ = server.probed(Port::Http, Ok(200), 1);
            server
        };
        Self {
            servers: (0..count).map(server).collect(),
            open: (0..count).map(|_| Vec::new()).collect(),
            settings: SelectionPolicy {
                drain_timeout_ms: 1_800_000,
                slow_start_ms: 30_000,
                max_in_flight: 0,
                try_unreachable: false,
                cross_sites: CrossSites::WhenUnavailable,
                transinfo_range: 6,
            },
        }
    }
}

impl Rule for Icm {
    fn choose(&mut self, choice: &Choice<'_>, random: &mut fastrand::Rng) -> usize {
        let candidates: Vec<Candidate> = self
            .servers
            .iter()
            .enumerate()
            .map(|(n, m)| Candidate {
                server: n as ServerId,
                status: ReplicaStatus::InService,
                snapshot: m.snapshot(),
                freshness: CandidateFreshness::default(),
                of_other_site: false,
            })
            .collect();
        let input = SelectionInput {
            entry: choice.entry.map(|e| e as ServerId),
            ..SelectionInput::without_affinity(&candidates, Port::Http, ms(choice.now), random.u64(..))
        };
        let SelectionOutcome::Serve(server, _) = decide(&input, &self.settings).outcome else {
            panic!("no server")
        };
        let server = usize::from(server);
        self.open[server].push(self.servers[server].begin(0).expect("no cap"));
        server
    }
    fn answered(&mut self, server: usize, seconds: f64, now: f64) {
        self.open[server].pop();
        self.servers[server].observe(RequestClass::Document, (seconds * 1e6) as u64, ms(now));
        self.servers[server].attempt_ended(false);
    }
    fn published(&mut self, server: usize, index: u8, now: f64) {
        let report =
            AvailabilityReport { index: Some(index), updated_at: Some(now), ..AvailabilityReport::default() };
        let _ = self.servers[server].report(0, &report, ms(now));
    }
    fn tick(&mut self, now: f64) {
        let peers = load::Peers::of(self.servers.iter().map(Arc::as_ref));
        for server in &self.servers {
            let _ = server.tick(self.settings.transinfo_range, 180_000, &peers, ms(now));
        }
    }
    fn reachable(&mut self, server: usize, up: bool, now: f64) {
        let _ = self.servers[server].probed(Port::Http, if up { Ok(200) } else { Err("refused") }, ms(now));
    }
}

/// The rule of Domino's ICM: the server with the highest index.
struct HighestIndex(Vec<u8>);
impl Rule for HighestIndex {
    fn choose(&mut self, choice: &Choice<'_>, random: &mut fastrand::Rng) -> usize {
        let up = || (0..self.0.len()).filter(|n| choice.up[*n]);
        let best = up().map(|n| self.0[n]).max().unwrap_or(0);
        let equal: Vec<usize> = up().filter(|n| self.0[*n] == best).collect();
        equal[random.usize(..equal.len())]
    }
    fn published(&mut self, server: usize, index: u8, _now: f64) {
        self.0[server] = index;
    }
}

/// nginx's smooth weighted round robin.
struct RoundRobin {
    weights: Vec<f64>,
    current: Vec<f64>,
}
impl Rule for RoundRobin {
    fn choose(&mut self, choice: &Choice<'_>, _random: &mut fastrand::Rng) -> usize {
        let up: Vec<usize> = (0..self.weights.len()).filter(|n| choice.up[*n]).collect();
        let total: f64 = up.iter().map(|n| self.weights[*n]).sum();
        for n in &up {
            self.current[*n] += self.weights[*n];
        }
        let best =
            up.iter().copied().max_by(|a, b| self.current[*a].total_cmp(&self.current[*b])).expect("one");
        self.current[best] -= total;
        best
    }
}

/// nginx's `least_conn`, HAProxy's `leastconn`: fewest requests in flight, in turn among equals.
struct LeastConnections(Vec<u32>);
impl Rule for LeastConnections {
    fn choose(&mut self, choice: &Choice<'_>, random: &mut fastrand::Rng) -> usize {
        let up = || (0..self.0.len()).filter(|n| choice.up[*n]);
        let least = up().map(|n| self.0[n]).min().unwrap_or(0);
        let equal: Vec<usize> = up().filter(|n| self.0[*n] == least).collect();
        let server = equal[random.usize(..equal.len())];
        self.0[server] += 1;
        server
    }
    fn answered(&mut self, server: usize, _seconds: f64, _now: f64) {
        self.0[server] = self.0[server].saturating_sub(1);
    }
}

/// Finagle's: of two random servers, the lower product of latency (rises at once, decays in ten seconds) and requests in
/// flight.
struct PeakEwma {
    cost: Vec<(f64, f64)>,
    in_flight: Vec<u32>,
}
impl PeakEwma {
    fn load(&self, server: usize, now: f64) -> f64 {
        let (cost, at) = self.cost[server];
        cost.max(1e-6) * (-(now - at) / 10.0).exp() * f64::from(self.in_flight[server] + 1)
    }
}
impl Rule for PeakEwma {
    fn choose(&mut self, choice: &Choice<'_>, random: &mut fastrand::Rng) -> usize {
        let mut up: Vec<usize> = (0..self.cost.len()).filter(|n| choice.up[*n]).collect();
        random.shuffle(&mut up);
        let drawn = up.iter().copied().take(2);
        let best = drawn
            .min_by(|a, b| self.load(*a, choice.now).total_cmp(&self.load(*b, choice.now)))
            .expect("one");
        self.in_flight[best] += 1;
        best
    }
    fn answered(&mut self, server: usize, seconds: f64, now: f64) {
        self.in_flight[server] = self.in_flight[server].saturating_sub(1);
        let (cost, at) = self.cost[server];
        let keep = (-(now - at) / 10.0).exp();
        let new = if seconds > cost { seconds } else { cost * keep + seconds * (1.0 - keep) };
        self.cost[server] = (new, now);
    }
}

/// Wydrowski et al., "Load is not what you should balance: introducing Prequal" (NSDI 2024): a pool of probes
/// with requests in flight and latency; the lowest latency among servers below a quantile of requests in flight.
struct Prequal {
    pool: VecDeque<Probe>,
    latency: Vec<f64>,
    seen: VecDeque<usize>,
}
#[derive(Clone, Copy)]
struct Probe {
    server: usize,
    in_flight: usize,
    latency: f64,
    at: f64,
    uses: u32,
}
impl Prequal {
    const POOL_SIZE: usize = 16;
    const PROBES: usize = 3;
    const MAX_AGE_SECONDS: f64 = 1.0;
    const HOT_QUANTILE: f64 = 0.84;
    fn new(servers: usize) -> Self {
        Self { pool: VecDeque::new(), latency: vec![0.0; servers], seen: VecDeque::new() }
    }
}
impl Rule for Prequal {
    fn choose(&mut self, choice: &Choice<'_>, random: &mut fastrand::Rng) -> usize {
        let up: Vec<usize> = (0..choice.up.len()).filter(|n| choice.up[*n]).collect();
        self.pool.retain(|p| choice.now - p.at < Self::MAX_AGE_SECONDS && p.uses > 0 && choice.up[p.server]);
        let mut sorted: Vec<usize> = self.seen.iter().copied().collect();
        sorted.sort_unstable();
        let hot =
            sorted.get((sorted.len() as f64 * Self::HOT_QUANTILE) as usize).copied().unwrap_or(usize::MAX);
        let cold = (0..self.pool.len()).filter(|i| self.pool[*i].in_flight < hot);
        let by_latency = cold.min_by(|a, b| self.pool[*a].latency.total_cmp(&self.pool[*b].latency));
        let chosen = by_latency.or_else(|| (0..self.pool.len()).min_by_key(|i| self.pool[*i].in_flight));
        let server = match chosen {
            Some(i) => {
                self.pool[i].uses -= 1;
                self.pool[i].in_flight += 1;
                self.pool[i].server
            }
            None => up[random.usize(..up.len())],
        };
        // The probes of this request are for the next ones.
        for _ in 0..Self::PROBES {
            let server = up[random.usize(..up.len())];
            let in_flight = choice.servers[server].jobs_in_progress();
            if self.pool.len() == Self::POOL_SIZE {
                self.pool.pop_front();
            }
            self.pool.push_back(Probe {
                server,
                in_flight,
                latency: self.latency[server],
                at: choice.now,
                uses: 2,
            });
            if self.seen.len() == 128 {
                self.seen.pop_front();
            }
            self.seen.push_back(in_flight);
        }
        server
    }
    fn answered(&mut self, server: usize, seconds: f64, _now: f64) {
        // The recent latency that the server itself reports.
        self.latency[server] += (seconds - self.latency[server]) * 0.1;
    }
}

/// Knows every queue and how long each job takes.
struct Oracle;
impl Rule for Oracle {
    fn choose(&mut self, choice: &Choice<'_>, _random: &mut fastrand::Rng) -> usize {
        let cost = |n: &usize| choice.servers[*n].cost(choice.size, choice.now);
        (0..choice.servers.len())
            .filter(|n| choice.up[*n])
            .min_by(|a, b| cost(a).total_cmp(&cost(b)))
            .expect("one is up")
    }
}
