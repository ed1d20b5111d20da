//! The tables of the live comparison and, for each run without affinity, a plot of each server's share over time.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::event::Event;
use super::load::{Outcome, Run};
use super::plot;
use super::schedule::WORKERS;

/// Writes the report to `benches/results`.
pub fn write(runs: &Path) -> std::io::Result<()> {
    let folder = Path::new("benches/results");
    fs::create_dir_all(folder)?;
    let all = Run::all(runs);
    let mut out = String::from("# Balance, live\n\n");
    let from = all.iter().map(|r| r.date.as_str()).min().unwrap_or("-");
    let busiest = all.iter().map(|r| r.busy).fold(0.0, f64::max);
    let late = all.iter().map(|r| r.late).fold(0.0, f64::max);
    let _ = writeln!(
        out,
        "{from}; servers of {WORKERS:?} workers, each rule with a cluster of its own, all at once under the same requests; \
         {}. The processors were busy for {busiest:.0} % at most; 99 % of the requests were sent within {late:.1} ms of \
         their time. A request that failed or took over 10 s counts as 10 s.\n",
        version()
    );
    summary(&mut out, &all);
    for run in &all {
        details(&mut out, run);
        if run.affinity == 0 {
            plots(run, folder)?;
        }
    }
    fs::write(folder.join("live.md"), &out)?;
    println!("{out}");
    Ok(())
}

fn version() -> String {
    let first = |program: &str, argument: &str| {
        let output = std::process::Command::new(program).arg(argument).output().ok()?;
        let text =
            String::from_utf8(if output.stdout.is_empty() { output.stderr } else { output.stdout }).ok()?;
        text.split([' ', '/'])
            .find(|w| w.starts_with(|c: char| c.is_ascii_digit()))
            .map(|w| w.trim().to_owned())
    };
    let of = |name: &str, argument| first(name, argument).unwrap_or_else(|| "missing".to_owned());
    format!("nginx {}, HAProxy {}", of("nginx", "-v"), of("haproxy", "-v"))
}

fn knows_weights(outcome: &Outcome) -> bool {
    outcome.rule.contains("weights")
}

fn is_icm(outcome: &Outcome) -> bool {
    outcome.rule.starts_with("icm")
}

/// The best p99 of nginx and HAProxy with as many proxies, and with weights if `like` has weights.
fn best<'a>(run: &'a Run, like: &Outcome) -> Option<&'a Outcome> {
    run.outcomes
        .iter()
        .filter(|o| !is_icm(o) && o.proxies == like.proxies && knows_weights(o) == knows_weights(like))
        .min_by(|a, b| a.p99.total_cmp(&b.p99))
}

fn summary(out: &mut String, all: &[Run]) {
    out.push_str("p99 in ms, and in brackets against the best of nginx and HAProxy with as many proxies\n\n");
    out.push_str(
        "| scenario | affinity | proxies | icm, 60 s | icm, 5 s | icm, none | best of nginx and HAProxy |\n",
    );
    out.push_str("|---|--:|--:|--:|--:|--:|--:|\n");
    for run in all {
        let mut rows: BTreeMap<usize, Vec<&Outcome>> = BTreeMap::new();
        for outcome in run.outcomes.iter().filter(|o| is_icm(o) && !knows_weights(o)) {
            rows.entry(outcome.proxies).or_default().push(outcome);
        }
        for (proxies, ours) in rows {
            let Some(best) = ours.first().and_then(|one| best(run, one)) else { continue };
            let _ = write!(out, "| {} | {} % | {proxies} |", run.event, run.affinity);
            for outcome in ours {
                let _ = write!(out, " {:.0} ({:.2}) |", outcome.p99, outcome.p99 / best.p99);
            }
            let _ = writeln!(out, " {:.0} ({}) |", best.p99, best.rule);
        }
    }
}

fn details(out: &mut String, run: &Run) {
    let _ = writeln!(
        out,
        "\n## {}, affinity {} %\n\n{:.0} requests a second for {:.0} s; processors busy {:.0} %.\n",
        run.event, run.affinity, run.per_second, run.seconds, run.busy
    );
    out.push_str(
        "| rule | proxies | p50 ms | p99 ms | failed | against the best | share of each server, % |\n",
    );
    out.push_str("|---|--:|--:|--:|--:|--:|---|\n");
    for outcome in &run.outcomes {
        let ratio =
            best(run, outcome).map_or("-".to_owned(), |best| format!("{:.2}", outcome.p99 / best.p99));
        let sums: [u32; 3] = std::array::from_fn(|n| outcome.shares.iter().map(|s| s[n]).sum());
        let total = f64::from(sums.iter().sum::<u32>().max(1));
        let shares: Vec<String> =
            sums.iter().map(|sum| format!("{:.0}", f64::from(*sum) / total * 100.0)).collect();
        let _ = writeln!(
            out,
            "| {} | {} | {:.0} | {:.0} | {} | {ratio} | {} |",
            outcome.rule,
            outcome.proxies,
            outcome.p50,
            outcome.p99,
            outcome.failed,
            shares.join(" : ")
        );
    }
}

fn plots(run: &Run, folder: &Path) -> std::io::Result<()> {
    let names: Vec<String> = run
        .outcomes
        .iter()
        .map(|o| if o.proxies == 1 { o.rule.clone() } else { format!("{} x {}", o.rule, o.proxies) })
        .collect();
    let strips: Vec<(&str, &[[u32; 3]])> =
        names.iter().zip(&run.outcomes).map(|(name, o)| (name.as_str(), o.shares.as_slice())).collect();
    let title = format!(
        "Share of requests of each server in each two seconds, live, {}; workers {WORKERS:?}",
        Event::from_key(&run.event).key()
    );
    fs::write(folder.join(format!("live-{}.svg", run.event)), plot::shares(&title, run.seconds, &strips))
}
