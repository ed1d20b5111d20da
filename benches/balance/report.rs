//! The tables and plots of the simulation: medians and tails in milliseconds, and for some cases the share of each server
//! over time.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::event::Event;
use super::plot;
use super::rules::{RULES, reads_index};
use super::run::{Case, Outcome, RUN_SECONDS, Size};

type Results<'a> = [(Case, &'a str, Outcome)];

/// Writes the report to `benches/results`.
pub fn write(results: &[(Case, &str, Outcome)]) -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results");
    fs::create_dir_all(&folder)?;
    let mut out = String::from("# Balance, simulated\n");
    let _ = writeln!(
        out,
        "\np50 / p99 in ms of simulated time; `icm` and `highest index` with an index renewed every 60 s, every 5 s and never. \
         `icm / best other`: icm's three p99 over the best p99 of the rules with the same information: without capacities, without an index \
         that is renewed at other times, and without the oracle. \
         `weights / weighted`: the same of `icm` with weights over weighted round robin. \
         `icm / oracle`: the worst of the three.\n\n\
         With 95 % of the requests pinned to a server, the placement of new users decides; the oracle only looks at the current \
         moment, so it can be beaten."
    );
    for size in [Size::Busy, Size::Calm] {
        table(&mut out, results, size);
    }
    fs::write(folder.join("balance.md"), &out)?;
    println!("{out}");
    plots(results, &folder)
}

fn table(out: &mut String, results: &Results<'_>, size: Size) {
    let cores = size.cores();
    let _ = writeln!(out, "\n## {size:?}: {} / {} / {} cores\n", cores[0], cores[1], cores[2]);
    let of_size = || results.iter().filter(|(case, ..)| case.size == size);
    let mut worse: Vec<String> = Vec::new();
    let mut cases: Vec<(Event, usize, u32)> = Vec::new();
    for (case, ..) in of_size() {
        let key = (case.event, case.icms, (case.affinity * 100.0).round() as u32);
        if !cases.contains(&key) {
            cases.push(key);
        }
    }
    cases.sort_by_key(|(event, icms, affinity)| (*event as u8, *icms, *affinity));
    let _ = write!(out, "| case | ICMs | affinity |");
    for name in RULES {
        for every in columns(name) {
            let _ = write!(out, " {name}{every} |", every = label(name, every));
        }
    }
    let _ = writeln!(out, " icm / best other | weights / weighted | icm / oracle |");
    let _ = writeln!(out, "|---|---|---|{}", "--:|".repeat(18));
    for (event, icms, affinity) in &cases {
        let _ = write!(out, "| {event:?} | {icms} | {affinity} % |");
        let find = |name: &str, every: f64| {
            of_size()
                .find(|(c, n, _)| {
                    (c.event, c.icms, (c.affinity * 100.0).round() as u32) == (*event, *icms, *affinity)
                        && *n == name
                        && (c.index_every - every).abs() < 0.1
                })
                .map(|(.., outcome)| outcome)
        };
        let (mut best_blind, mut best_weighted, mut oracle) = (f64::INFINITY, f64::INFINITY, f64::INFINITY);
        let mut highest_index: Vec<(f64, f64)> = Vec::new();
        let (mut ours, mut ours_weighted) = (Vec::new(), Vec::new());
        for name in RULES {
            for every in columns(name) {
                let Some(outcome) = find(name, every) else {
                    let _ = write!(out, " - |");
                    continue;
                };
                let p99 = outcome.p99;
                match name {
                    "icm" => ours.push((every, p99)),
                    "icm, weights" => ours_weighted.push(p99),
                    "weighted round robin" => best_weighted = p99,
                    "oracle" => oracle = p99,
                    "highest index" => highest_index.push((every, p99)),
                    _ => best_blind = best_blind.min(p99),
                }
                let _ = write!(out, " {} / {} |", short(outcome.p50), short(p99));
            }
        }
        let show = |all: Vec<f64>| all.iter().map(|r| format!("{r:.2}")).collect::<Vec<_>>().join(" ");
        let best_other = |every: f64| {
            let same = highest_index.iter().filter(|(e, _)| (e - every).abs() < 0.1);
            same.map(|(_, p99)| *p99).fold(best_blind, f64::min)
        };
        let ratios: Vec<f64> = ours.iter().map(|(every, p99)| p99 / best_other(*every)).collect();
        // Differences of less than 2 % are noise.
        if ratios.iter().any(|ratio| *ratio > 1.02) {
            worse.push(format!("{event:?}, {icms} ICMs, affinity {affinity} %: {}", show(ratios.clone())));
        }
        let worst = ours.iter().map(|(_, p99)| *p99).fold(0.0, f64::max);
        let _ = writeln!(
            out,
            " {} | {} | {:.2} |",
            show(ratios),
            show(ours_weighted.iter().map(|p99| p99 / best_weighted).collect()),
            worst / oracle
        );
    }
    let _ = writeln!(
        out,
        "\nCases of {} in which another rule has the lower p99: {}\n",
        cases.len(),
        worse.len()
    );
    for line in &worse {
        let _ = writeln!(out, "- {line}");
    }
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

fn plots(results: &Results<'_>, folder: &Path) -> std::io::Result<()> {
    for (event, icms) in [(Event::Steady, 4), (Event::SlowsDown, 1), (Event::ReturnsCold, 4)] {
        let strips: Vec<_> = results
            .iter()
            .filter(|(c, n, _)| {
                (c.size, c.event) == (Size::Busy, event)
                    && c.icms == icms
                    && c.affinity == 0.0
                    && c.index_every == 60.0
                    && *n != "oracle"
            })
            .map(|(_, name, outcome)| (*name, outcome.per_second.as_slice()))
            .collect();
        let title = format!(
            "Share of requests of each server in each two seconds, {event:?}, {icms} ICM(s), index every 60 s; capacity {:?}",
            Size::Busy.cores()
        );
        let svg = plot::shares(&title, RUN_SECONDS, &strips);
        fs::write(folder.join(format!("balance-{event:?}-{icms}.svg").to_lowercase()), svg)?;
    }
    Ok(())
}
