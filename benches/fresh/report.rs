//! The table as Markdown, the counts as JSON, and the plot.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::experiment::judge::Findings;
use super::experiment::{NOTICE, Plan};
use super::{fleet, plot};

type Row = (&'static str, fn(&Findings) -> String);

const ROWS: [Row; 17] = [
    ("**reads without the user's own last write, though the server that took it was up**", |f| {
        format!("**{}**", f.own_last_eligible)
    }),
    ("**newcomers sent to a replica known to be behind**", |f| format!("**{}**", f.newcomers_behind)),
    ("reads without the user's own last write while the server that took it was down, without a word", |f| {
        f.own_last_down.to_string()
    }),
    ("... after a page that said so", |f| f.own_last_down_told.to_string()),
    ("reads without an earlier write of the user's", |f| f.own_earlier.to_string()),
    ("newcomers sent to the returned server while it lacked changes", |f| f.newcomers_returned.to_string()),
    ("documents that newcomers saw in an older state, or not at all", |f| f.outdated_documents.to_string()),
    ("saves over an older revision than the user had seen (lost updates)", |f| f.lost_updates.to_string()),
    ("saves of a document that the server did not have", |f| f.absent_edits.to_string()),
    ("save conflicts shown to the user", |f| f.save_conflicts.to_string()),
    ("replication conflicts", |f| f.replication_conflicts.to_string()),
    ("failed GET", |f| f.failed_gets.to_string()),
    ("failed POST", |f| f.failed_posts.to_string()),
    ("users who got another server (changes)", |f| format!("{} ({})", f.moved_users, f.moves)),
    ("seconds from the return until every replica had what it lacked then", |f| {
        let rounds: Vec<String> = f
            .complete_after
            .iter()
            .map(|after| after.map_or("-".to_owned(), |after| format!("{after:.0}")))
            .collect();
        rounds.join(", ")
    }),
    ("requests (saves)", |f| format!("{} ({})", f.gets + f.posts, f.saves)),
    ("median response time, ms (icm: a development build)", |f| format!("{:.1}", median(&f.times))),
];

/// Writes everything to the folder, and the report to standard output.
pub fn write(folder: &Path, plan: &Plan, rounds: usize, runs: &[(String, Findings)]) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    let line = &plan.timeline;
    let mut out = String::from("# A server dies with changes that nobody else has, and returns\n\n");
    let _ = writeln!(
        out,
        "{}; {}. Sums of {rounds} rounds of {:.0} s. Each column had a simulated cluster of its own, of three servers with \
         thirteen databases, all at the same time. {} users write, read and edit, and {} newcomers a second read. After \
         {:.0} s the changes of Web1 stay in its queue, after {:.0} s it stops and loses them, and after {:.0} s it returns \
         without the changes of its absence: the failed pushes are due in an hour. After {:.0} s they are repeated, and a \
         replication is forced. Half of the users only read in between. `make fresh` repeats it.\n",
        machine(),
        versions(),
        line.end,
        plan.users,
        plan.newcomers_per_second,
        line.hold,
        line.kill,
        line.back,
        line.replicate,
    );
    table(&mut out, runs);
    notes(&mut out, plan);
    for (name, findings) in runs {
        for example in findings.examples.iter().take(3) {
            eprintln!("fresh: {name}: {example}");
        }
    }
    fs::write(folder.join("fresh.md"), &out)?;
    fs::write(folder.join("fresh.svg"), plot::stale_reads(line.end, runs))?;
    let json: serde_json::Map<String, serde_json::Value> = runs
        .iter()
        .map(|(name, findings)| {
            let mut value = serde_json::to_value(findings).unwrap();
            value.as_object_mut().unwrap().remove("examples");
            (name.clone(), value)
        })
        .collect();
    fs::write(folder.join("fresh.json"), serde_json::to_string_pretty(&json)? + "\n")?;
    println!("{out}");
    Ok(())
}

fn table(out: &mut String, runs: &[(String, Findings)]) {
    out.push('|');
    for (name, _) in runs {
        let _ = write!(out, " | {name}");
    }
    out.push_str(" |\n|---|");
    out.push_str(&"--:|".repeat(runs.len()));
    out.push('\n');
    for (title, value) in ROWS {
        let _ = write!(out, "| {title}");
        for (_, findings) in runs {
            let _ = write!(out, " | {}", value(findings));
        }
        out.push_str(" |\n");
    }
    let failures: Vec<String> = runs
        .iter()
        .filter(|(_, findings)| !findings.failures.is_empty())
        .map(|(name, findings)| {
            let kinds: Vec<String> =
                findings.failures.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
            format!("{name}: {}", kinds.join(", "))
        })
        .collect();
    if !failures.is_empty() {
        let _ = writeln!(out, "\nFailed: {}.", failures.join("; "));
    }
}

fn notes(out: &mut String, plan: &Plan) {
    let _ = write!(
        out,
        "
![Reads of an older state in each second](fresh.svg)

- **icm, companion**: `catch_up` with a `request`, `freshness: {{ source: companion, after_write: tell }}`. **icm, HEAD**:
  nothing is installed on the servers; `freshness: {{ source: head, after_write: tell }}` and the published statistics.
  Intervals are 1 s, `slack`, `behind_after` and `catch_up.after` 2 s, because seconds stand for an hour here.
- **icm, off**: `catch_up: {{ mode: off }}`, `freshness` off, and browsers that do not store the cookie with the own writes,
  which has no switch: as `icm` was before it had these features.
- **HAProxy**: `cookie SRV insert indirect nocache`, `option httpchk` every 500 ms, `option redispatch`, `slowstart 30s`.
  **nginx**: `hash` of a cookie that it sets itself, and its defaults for failures.
- A server that stopped counts as down until {NOTICE:.0} s after its return, so that every health check can notice it.
- Known to be behind: the replica lacks a change, its modification time is older than that of another running replica by
  more than {} s, and both for more than {:.0} s.
- An earlier write is one that is not the user's last in that database. After a write on Web1 before it stopped and
  one on another server afterwards, no server has both until they replicate.
- A write that lost against another in a replication conflict does not count as missing.
",
        plan.rule.slack_ms / 1000,
        fleet::KNOWN_AFTER,
    );
}

fn median(times: &[f64]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// Processors and their number.
fn machine() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut models = text.lines().filter_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let model = models.next().unwrap_or("unknown processor").trim().to_owned();
    let number = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{model}, {number} processors")
}

fn versions() -> String {
    let of = |program: &str| {
        let output = std::process::Command::new(program).arg("-v").output().ok()?;
        let bytes = if output.stdout.is_empty() { output.stderr } else { output.stdout };
        let text = String::from_utf8(bytes).ok()?;
        let version = text.split([' ', '/', '-']).find(|w| w.starts_with(|c: char| c.is_ascii_digit()))?;
        Some(version.trim().to_owned())
    };
    let of = |program| of(program).unwrap_or_else(|| "missing".to_owned());
    format!("nginx {}, HAProxy {}", of("nginx"), of("haproxy"))
}
