//! Who reads an older state when a server dies and returns: the real `icm`, with and without what it knows about replicas,
//! nginx and HAProxy, each in front of its own replicating `acme` cluster, all at the same time with the same users, the
//! same failure and the same return.
//!
//! Writes `benches/results/fresh.md`, `fresh.json` and `fresh.svg`. It counts; it measures no speed. All traffic stays on
//! the loopback, and all processes end with this one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a bench may panic"
)]

mod experiment;
mod fleet;
mod plot;
mod report;

use std::path::PathBuf;

use experiment::judge::{BehindRule, Findings};
use experiment::{Plan, Timeline};
use fleet::{Fleet, KINDS};

/// The settings, from environment variables.
pub struct Settings {
    icm: PathBuf,
    acme: PathBuf,
    /// `SHORT` or `--short`: 20 s, to try it out.
    is_short: bool,
    /// `ONLY`: only load balancers whose name contains one of these words; empty means all.
    only: Vec<String>,
    /// `ROUNDS`: how often everything is repeated, with new clusters; the counts are added up.
    rounds: usize,
    /// `RESULTS`: the folder of the results.
    results: PathBuf,
    /// `KEEP`: a folder for the logs and configurations; absent: they are removed.
    keep: Option<PathBuf>,
}

impl Settings {
    fn read() -> Settings {
        let path =
            |name: &str, default: &str| PathBuf::from(std::env::var(name).unwrap_or(default.to_owned()));
        let only = std::env::var("ONLY").unwrap_or_default();
        Settings {
            icm: path("ICM", "target/debug/icm"),
            acme: path("ACME", "target/debug/acme"),
            is_short: std::env::var_os("SHORT").is_some() || std::env::args().any(|a| a == "--short"),
            only: only.split(',').map(|word| word.trim().to_lowercase()).filter(|w| !w.is_empty()).collect(),
            rounds: std::env::var("ROUNDS").map_or(3, |n| n.parse().expect("ROUNDS is a number")),
            results: path("RESULTS", "benches/results"),
            keep: std::env::var_os("KEEP").map(PathBuf::from),
        }
    }

    fn plan(&self) -> Plan {
        let rule = BehindRule { slack_ms: fleet::SLACK_MS, after: fleet::KNOWN_AFTER };
        let timeline = if self.is_short { Timeline::SHORT } else { Timeline::LONG };
        Plan { timeline, users: 48, think_ms: 300..900, newcomers_per_second: 8.0, rule }
    }
}

fn main() {
    // `cargo bench` runs every bench; this one is `make fresh`, which sets FRESH.
    if std::env::var_os("FRESH").is_none() {
        return;
    }
    std::env::set_current_dir(env!("CARGO_MANIFEST_DIR")).unwrap();
    let settings = Settings::read();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let finished = runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let mut term = signal(SignalKind::terminate()).unwrap();
        tokio::select! {
            all = measure_all(&settings) => Some(all),
            _ = tokio::signal::ctrl_c() => None,
            _ = term.recv() => None,
        }
    });
    let Some(all) = finished else {
        eprintln!("fresh: interrupted");
        std::process::exit(130);
    };
    report::write(&settings.results, &settings.plan(), settings.rounds, &all).unwrap();
}

/// All rounds, added up.
async fn measure_all(settings: &Settings) -> Vec<(String, Findings)> {
    let mut all: Vec<(String, Findings)> = Vec::new();
    for round in 1..=settings.rounds.max(1) {
        eprintln!("fresh: round {round} of {}", settings.rounds);
        for (name, findings) in measure(settings, round).await {
            match all.iter_mut().find(|(known, _)| *known == name) {
                Some((_, sum)) => sum.add(&findings),
                None => all.push((name, findings)),
            }
        }
    }
    all
}

/// Runs the experiment behind every load balancer at once.
async fn measure(settings: &Settings, round: usize) -> Vec<(String, Findings)> {
    let temporary = tempfile::tempdir().unwrap();
    let work = settings.keep.as_deref().unwrap_or(temporary.path()).join(round.to_string());
    let plan = settings.plan();
    let mut fleets: Vec<Fleet> = Vec::new();
    for kind in KINDS.iter().filter(|kind| kind.is_selected(&settings.only)) {
        fleets.push(Fleet::start(settings, kind, &work));
    }
    for fleet in &fleets {
        fleet.wait_until_ready().await;
    }
    // So that every server has been probed and read.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    eprintln!("fresh: {} clusters, {:.0} s", fleets.len(), plan.timeline.end);
    let runs: Vec<_> = fleets
        .iter()
        .map(|fleet| {
            let (site, plan) = (fleet.site.clone(), plan.clone());
            tokio::spawn(async move { experiment::run(&site, &plan).await })
        })
        .collect();
    let mut all = Vec::new();
    for (fleet, run) in fleets.iter().zip(runs) {
        all.push((fleet.site.name.clone(), run.await.unwrap()));
    }
    all
}
