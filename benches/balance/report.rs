//! The tables and plots of the simulation.
//!
//! In: what came of every run. Out: Markdown with medians and tails in milliseconds, and for some cases the share of
//! each server over time as SVG.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::plot;
use super::rules::{RULES, reads_index};
use super::run::{CORES, Case, Event, Outcome, SECONDS};

type Results<'a> = [(Case, &'a str, Outcome)];

/// Writes everything below `benches/results`.
pub fn write(results: &[(Case, &str, Outcome)]) -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results");
    fs::create_dir_all(&folder)?;
    let mut out = String::from("# Balance, simulated\n\n");
    let mut worse: Vec<String> = Vec::new();
    let mut cases: Vec<(Event, usize, String)> = Vec::new();
    for (case, ..) in results {
        let key = (case.event, case.icms, format!("{:.0} %", case.affinity * 100.0));
        if !cases.contains(&key) {
            cases.push(key);
        }
    }
    cases.sort_by_key(|(event, icms, affinity)| (*event as u8, *icms, affinity.len(), affinity.clone()));
    let _ = writeln!(
        out,
        "p50 / p99 in ms of simulated time; `icm` and `highest index` with an index renewed every 60 s, every 5 s and never.\n"
    );
    let _ = write!(out, "| case | ICMs | affinity |");
    for name in RULES {
        for every in columns(name) {
            let _ = write!(out, " {name}{every} |", every = label(name, every));
        }
    }
    let _ = writeln!(out, " icm / best other | icm / oracle |");
    let _ = writeln!(out, "|---|---|---|{}", "--:|".repeat(16));
    for (event, icms, affinity) in &cases {
        let _ = write!(out, "| {event:?} | {icms} | {affinity} |");
        let find = |name: &str, every: f64| {
            results
                .iter()
                .find(|(c, n, _)| {
                    c.event == *event
                        && c.icms == *icms
                        && format!("{:.0} %", c.affinity * 100.0) == *affinity
                        && *n == name
                        && (c.index_every - every).abs() < 0.1
                })
                .map(|(.., outcome)| outcome)
        };
        let mut best_other = f64::INFINITY;
        let mut ours = 0.0_f64;
        let mut oracle = 0.0;
        for name in RULES {
            for every in columns(name) {
                let Some(outcome) = find(name, every) else {
                    let _ = write!(out, " - |");
                    continue;
                };
                let p99 = outcome.quantile(0.99);
                match name {
                    "icm" => ours = ours.max(p99),
                    "icm, weights" | "weighted round robin" => {}
                    "oracle" => oracle = p99,
                    _ => best_other = best_other.min(p99),
                }
                let _ = write!(out, " {} / {} |", short(outcome.quantile(0.5)), short(p99));
            }
        }
        let ratio = ours / best_other;
        if ratio > 1.0 {
            worse.push(format!("{event:?}, {icms} ICMs, affinity {affinity}: {ratio:.2}"));
        }
        let _ = writeln!(out, " {ratio:.2} | {:.2} |", ours / oracle);
    }
    let _ = writeln!(
        out,
        "\n`icm / best other`: the worst of icm's three p99 over the best p99 of any rule but the oracle."
    );
    let _ = writeln!(
        out,
        "\nWith 95 % of the requests pinned to a server, what counts is where newcomers were placed; the oracle places them by the \
         moment, so it can be beaten."
    );
    let _ = writeln!(out, "\nCases in which another rule has the lower p99: {}\n", worse.len());
    for line in &worse {
        let _ = writeln!(out, "- {line}");
    }
    fs::write(folder.join("balance.md"), &out)?;
    println!("{out}");
    plots(results, &folder)
}

fn columns(name: &str) -> Vec<f64> {
    match name {
        "icm" | "icm, weights" => vec![60.0, 5.0, 0.0],
        name if reads_index(name) => vec![60.0, 5.0],
        _ => vec![60.0],
    }
}

fn label(name: &str, every: f64) -> String {
    match (reads_index(name), every > 0.0) {
        (true, true) => format!(", {every:.0} s"),
        (true, false) => ", none".to_owned(),
        _ => String::new(),
    }
}

fn short(ms: f64) -> String {
    if ms < 100.0 { format!("{ms:.1}") } else { format!("{ms:.0}") }
}

/// Share of each server over time, one strip for each rule.
fn plots(results: &Results<'_>, folder: &Path) -> std::io::Result<()> {
    for (event, icms) in [(Event::Steady, 4), (Event::SlowsDown, 1), (Event::ReturnsCold, 4)] {
        let strips: Vec<_> = results
            .iter()
            .filter(|(c, n, _)| {
                c.event == event
                    && c.icms == icms
                    && c.affinity == 0.0
                    && c.index_every == 60.0
                    && *n != "oracle"
            })
            .map(|(_, name, outcome)| (*name, outcome.per_second.as_slice()))
            .collect();
        let title = format!(
            "Share of requests of each server in each two seconds, {event:?}, {icms} ICM(s), index every 60 s; capacity {CORES:?}"
        );
        let svg = plot::shares(&title, SECONDS, &strips);
        fs::write(folder.join(format!("balance-{event:?}-{icms}.svg").to_lowercase()), svg)?;
    }
    Ok(())
}
