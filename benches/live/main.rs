//! How well requests are balanced, live: the real `icm`, nginx and HAProxy, each in front of its own `acme` cluster whose
//! servers have capacity 1:2:4, all at the same time with the same requests.
//!
//! Writes `benches/results/live.md` and plots. All rules run at once, so that other load on the machine affects all alike.
//! A request occupies a worker of `acme` without computing, so the processors stay mostly idle; their load is reported.
//! All traffic stays on the loopback, and all processes end with this one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a bench may panic"
)]

mod client;
#[path = "../balance/event.rs"]
mod event;
mod fleet;
mod load;
#[path = "../balance/plot.rs"]
mod plot;
mod report;
mod schedule;

use std::path::PathBuf;
use std::time::Duration;

use event::Event;
use fleet::{Fleet, RULES};

/// The settings, from environment variables.
pub struct Plan {
    icm: PathBuf,
    acme: PathBuf,
    /// `SECONDS_EACH`: length of each run; the first ten seconds do not count.
    seconds: f64,
    /// `EVENTS`: names of scenarios.
    events: Vec<Event>,
    /// `AFFINITY`: percentages of requests from users with affinity.
    affinities: Vec<u32>,
    /// `RULES`: only rules whose name contains one of these words; empty means all.
    words: Vec<String>,
    /// `RUNS`: folder of all results; the report contains every run in it.
    runs: PathBuf,
}

impl Plan {
    fn read() -> Plan {
        let words = |name: &str, default: &str| -> Vec<String> {
            let text = std::env::var(name).unwrap_or_else(|_| default.to_owned());
            text.split_whitespace().map(str::to_lowercase).collect()
        };
        let path =
            |name: &str, default: &str| PathBuf::from(std::env::var(name).unwrap_or(default.to_owned()));
        let number = |text: &String| text.parse().unwrap_or_else(|_| panic!("{text} is no number"));
        let all: Vec<String> = Event::ALL.iter().map(|e| e.key()).collect();
        Plan {
            icm: path("ICM", "target/release/icm"),
            acme: path("ACME", "target/release/acme"),
            seconds: words("SECONDS_EACH", "55").first().map_or(55, number).clamp(20, 600).into(),
            events: words("EVENTS", &all.join(" ")).iter().map(|word| Event::from_key(word)).collect(),
            affinities: words("AFFINITY", "0").iter().map(number).collect(),
            words: words("RULES", ""),
            runs: path("RUNS", "target/live"),
        }
    }
}

fn main() {
    // `cargo bench` runs every bench; this one is `make live`, which sets LIVE.
    if std::env::var_os("LIVE").is_none() {
        return;
    }
    std::env::set_current_dir(env!("CARGO_MANIFEST_DIR")).unwrap();
    let plan = Plan::read();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let finished = runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let mut term = signal(SignalKind::terminate()).unwrap();
        tokio::select! {
            () = measure(&plan) => true,
            _ = tokio::signal::ctrl_c() => false,
            _ = term.recv() => false,
        }
    });
    if !finished {
        eprintln!("live: interrupted");
        std::process::exit(130);
    }
    report::write(&plan.runs).unwrap();
}

async fn measure(plan: &Plan) {
    std::fs::create_dir_all(&plan.runs).unwrap();
    for event in &plan.events {
        for affinity in &plan.affinities {
            let work = tempfile::tempdir().unwrap();
            let rules = RULES.iter().filter(|rule| rule.is_selected(&plan.words));
            let fleets: Vec<Fleet> = rules.map(|rule| Fleet::start(plan, rule, work.path())).collect();
            for fleet in &fleets {
                fleet.wait_until_ready().await;
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
            eprintln!("live: {}, affinity {affinity} %, {} clusters", event.key(), fleets.len());
            let run = load::run(*event, *affinity, plan.seconds, &fleets).await;
            run.save(&plan.runs);
        }
    }
}
