//! `icm replay`: what other thresholds, weights or marks, or a server that is down, would have done to the requests of an
//! access log.

mod input;
mod print;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;

use super::{EXIT_PROBLEM, EXIT_USAGE, offline_balancer};
use crate::admin::queries::DEFAULT_EXAMPLES;
use crate::domain::directory::ReplicaStatus;
use crate::insight::replay::{Replay, ReplayChanges, ReplayRange, ReplayReport};
use crate::state::Balancer;
use input::LogFile;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Reads logs of format json, plain, gzip or zstd, rotated files in any order; - is standard input. The configuration is \
the one that was in force, or nearly so; the directory is the copy in directory.cache. Nothing is sent.

Requests in flight follow from the times in the log. The availability index is the recorded one: it does not react to \
load that moves.

Exit codes:
  0   no request would have been refused that was served
  1   a file cannot be read
  2   a request would have been refused, there is no such server or database, or nothing could be replayed
  64  wrong arguments or configuration

Examples:
  icm replay /var/log/icm/access.log -c /etc/icm/icm.yaml
  icm replay /var/log/icm/access.log* --down Web3/Acme --from 2026-11-24T08:00:00Z -c /etc/icm/icm.yaml
  icm replay access.log.gz --threshold 70 --threshold Web1/Acme=50 -c /etc/icm/icm.yaml --json
  icm replay access.log --with new.yaml -c /etc/icm/icm.yaml"
)]
pub struct ReplayArgs {
    /// Files of the access log; - is standard input.
    #[arg(value_name = "LOG", required = true)]
    logs: Vec<String>,
    /// Path of the configuration file that was in force.
    #[arg(short, long = "conf", value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    conf: PathBuf,
    /// Compare with this configuration.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    with: Option<PathBuf>,
    /// Servers that are assumed UNREACHABLE: Web1/Acme,Web2/Acme
    #[arg(long, value_name = "SERVERS", value_delimiter = ',')]
    down: Vec<String>,
    /// Servers that are assumed RESTRICTED.
    #[arg(long, alias = "restrict", value_name = "SERVERS", value_delimiter = ',')]
    restricted: Vec<String>,
    /// Servers that are assumed BUSY.
    #[arg(long, value_name = "SERVERS", value_delimiter = ',')]
    busy: Vec<String>,
    /// Servers that are assumed CATCHING UP after an outage.
    #[arg(long, value_name = "SERVERS", value_delimiter = ',')]
    catching_up: Vec<String>,
    /// Another threshold, from 0 to 100, of all servers or of one: 70, or Web1/Acme=70
    #[arg(long, value_name = "[SERVER=]N", value_delimiter = ',', value_parser = threshold)]
    threshold: Vec<(Option<String>, u8)>,
    /// Another weight, from 1 to 1000: Web1/Acme=2
    #[arg(long, value_name = "SERVER=N", value_delimiter = ',', value_parser = weight)]
    weight: Vec<(String, u32)>,
    /// A replica, by path or replica ID and server, marked out of service: sales/leads.nsf@Web1/Acme
    #[arg(long, value_name = "DB@SERVER", value_delimiter = ',', value_parser = replica)]
    out_of_service: Vec<(String, String)>,
    /// A replica marked pending delete.
    #[arg(long, value_name = "DB@SERVER", value_delimiter = ',', value_parser = replica)]
    pending_delete: Vec<(String, String)>,
    /// A replica without its mark.
    #[arg(long, value_name = "DB@SERVER", value_delimiter = ',', value_parser = replica)]
    in_service: Vec<(String, String)>,
    /// Only requests that began at or after this time: 2026-11-24T08:00:00Z, or without Z in local time
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<u64>,
    /// Only requests that began before this time.
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Option<u64>,
    /// Only requests of this cluster or pool.
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// Seed of the random draws: the same seed gives the same result.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Number of databases in each list.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_EXAMPLES)]
    limit: usize,
    /// Print all databases in each list.
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
}

fn threshold(text: &str) -> Result<(Option<String>, u8), String> {
    let (name, number) = match text.rsplit_once('=') {
        Some((name, number)) if !name.is_empty() => (Some(name.to_owned()), number),
        Some(_) => return Err("a server is expected before =".to_owned()),
        None => (None, text),
    };
    let number = number.parse().ok().filter(|n| *n <= 100).ok_or("a number from 0 to 100 is expected")?;
    Ok((name, number))
}

fn weight(text: &str) -> Result<(String, u32), String> {
    let (name, number) =
        text.rsplit_once('=').filter(|(name, _)| !name.is_empty()).ok_or("Web1/Acme=2 is expected")?;
    let number = number.parse().ok().filter(|n| (1..=1_000).contains(n));
    Ok((name.to_owned(), number.ok_or("a number from 1 to 1000 is expected")?))
}

fn replica(text: &str) -> Result<(String, String), String> {
    let (database, server) = text
        .rsplit_once('@')
        .filter(|(database, server)| !database.is_empty() && !server.is_empty())
        .ok_or("sales/leads.nsf@Web1/Acme is expected")?;
    Ok((database.to_owned(), server.to_owned()))
}

/// RFC 3339, or a local time or day.
fn time(text: &str) -> Result<u64, String> {
    let unix_ms = |ms: i64| u64::try_from(ms).map_err(|_| "a time since 1970 is expected".to_owned());
    if let Ok(at) = chrono::DateTime::parse_from_rfc3339(text) {
        return unix_ms(at.timestamp_millis());
    }
    let formats = ["%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M"];
    let of_format = |format: &&str| chrono::NaiveDateTime::parse_from_str(text, format).ok();
    let day = || chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0);
    let local = formats.iter().find_map(of_format).or_else(day);
    let at = local.and_then(|at| at.and_local_timezone(chrono::Local).earliest());
    unix_ms(at.ok_or("a time like 2026-11-24T08:00:00Z is expected")?.timestamp_millis())
}

impl ReplayArgs {
    fn changes(&self) -> ReplayChanges {
        let marks = |list: &[(String, String)], status: ReplicaStatus| {
            list.iter().map(move |(d, s)| (d.clone(), s.clone(), status)).collect::<Vec<_>>()
        };
        ReplayChanges {
            down: self.down.clone(),
            restricted: self.restricted.clone(),
            busy: self.busy.clone(),
            catching_up: self.catching_up.clone(),
            thresholds: self.threshold.clone(),
            weights: self.weight.clone(),
            marks: [
                marks(&self.out_of_service, ReplicaStatus::OutOfService),
                marks(&self.pending_delete, ReplicaStatus::PendingDelete),
                marks(&self.in_service, ReplicaStatus::InService),
            ]
            .concat(),
        }
    }
}

/// What the verb knows beside the report.
#[derive(Debug, Default)]
struct Reading {
    files: Vec<String>,
    /// The first malformed lines, as `file:line: error`.
    malformed: Vec<String>,
    /// Files that could not be read to their end.
    errors: Vec<String>,
    notes: Vec<String>,
}

/// Malformed lines that are shown.
const MAX_SHOWN_LINES: usize = 5;

/// # Errors
/// If a file cannot be opened.
pub fn run(arguments: &ReplayArgs) -> anyhow::Result<ExitCode> {
    if let (Some(from), Some(to)) = (arguments.from, arguments.to)
        && from >= to
    {
        eprintln!("icm: --from must be before --to");
        return Ok(ExitCode::from(EXIT_USAGE));
    }
    let Some(before) = offline_balancer(&arguments.conf, arguments.json)? else {
        return Ok(ExitCode::from(EXIT_USAGE));
    };
    let mut after: Option<Arc<Balancer>> = None;
    if let Some(other) = &arguments.with {
        after = offline_balancer(other, arguments.json)?;
        if after.is_none() {
            return Ok(ExitCode::from(EXIT_USAGE));
        }
    }
    let changes = arguments.changes();
    let changed = after.as_ref().unwrap_or(&before).snapshot();
    let mut unknown = changes.unknown(&changed);
    if let Some(cluster) = &arguments.cluster
        && !before.snapshot().clusters.iter().any(|known| known.settings.name == *cluster)
    {
        unknown.push(format!("cluster {cluster}"));
    }
    if !unknown.is_empty() {
        eprintln!("icm: the configuration and its directory have no {}", unknown.join(", no "));
        return Ok(ExitCode::from(EXIT_PROBLEM));
    }
    let range =
        ReplayRange { from_ms: arguments.from, to_ms: arguments.to, cluster: arguments.cluster.clone() };
    let other = after.as_ref().map(|after| after.snapshot());
    let mut replay = Replay::new(&before.snapshot(), other.as_deref(), &changes, range, arguments.seed);
    let files = input::sorted(&arguments.logs)?;
    let reading = feed(&files, &mut replay);
    let report = replay.finish(if arguments.all { usize::MAX } else { arguments.limit });
    let mut what = changes.describe();
    what.extend(arguments.with.as_ref().map(|other| format!("configuration {}", other.display())));
    finish(arguments, &report, &reading, &what)
}

fn feed(files: &[LogFile], replay: &mut Replay) -> Reading {
    let mut reading = Reading { files: files.iter().map(|f| f.name.clone()).collect(), ..Reading::default() };
    let mut numbers = vec![0_u64; files.len()];
    for piece in input::read_all(files) {
        let (Some(number), Some(file)) = (numbers.get_mut(piece.file), files.get(piece.file)) else {
            continue;
        };
        if let Some(error) = piece.error {
            reading.errors.push(format!("{}: {error}", file.name));
            continue;
        }
        let mut malformed = |number: u64, error: String| {
            if reading.malformed.len() < MAX_SHOWN_LINES {
                reading.malformed.push(format!("{}:{number}: {error}", file.name));
            }
        };
        if piece.is_too_long {
            *number += 1;
            replay.skip_line();
            malformed(*number, "the line is too long".to_owned());
            continue;
        }
        let text = piece.text.strip_suffix(b"\n").unwrap_or(&piece.text);
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', text).chain([text.len()]) {
            let line = text.get(start..end).unwrap_or_default();
            start = end + 1;
            *number += 1;
            if let Err(error) = replay.line(line) {
                malformed(*number, error.to_string());
            }
        }
    }
    reading.notes = overlaps(files);
    reading
}

/// Logs of two ICMs have one in-flight count each, which one replay cannot tell apart.
fn overlaps(files: &[LogFile]) -> Vec<String> {
    let same = files.windows(2).filter_map(|pair| match pair {
        [a, b] if a.first_ms.is_some() && a.first_ms == b.first_ms => Some((&a.name, &b.name)),
        _ => None,
    });
    same.map(|(a, b)| format!("{a} and {b} begin at the same time: is a file given twice?")).collect()
}

fn finish(
    arguments: &ReplayArgs,
    report: &ReplayReport,
    reading: &Reading,
    what: &[String],
) -> anyhow::Result<ExitCode> {
    if arguments.json {
        let mut value = serde_json::to_value(report)?;
        if let Some(map) = value.as_object_mut() {
            map.insert("files".to_owned(), json!(reading.files));
            map.insert("changes".to_owned(), json!(what));
            map.insert("seed".to_owned(), json!(arguments.seed));
            map.insert("malformed_lines".to_owned(), json!(reading.malformed));
            map.insert("read_errors".to_owned(), json!(reading.errors));
            if let Some(notes) = map.get_mut("notes").and_then(serde_json::Value::as_array_mut) {
                notes.extend(reading.notes.iter().map(|note| json!(note)));
            }
        }
        println!("{value:#}");
    } else {
        print::report(report, reading, what);
    }
    let is_empty = report.clusters.iter().all(|cluster| cluster.requests == 0);
    Ok(if !reading.errors.is_empty() {
        ExitCode::FAILURE
    } else if is_empty || report.clusters.iter().any(|cluster| cluster.newly_refused > 0) {
        ExitCode::from(EXIT_PROBLEM)
    } else {
        ExitCode::SUCCESS
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_in_each_form_and_wrong_ones_are_refused() {
        assert_eq!(threshold("70"), Ok((None, 70)));
        assert_eq!(threshold("CN=Web1/O=Acme=70"), Ok((Some("CN=Web1/O=Acme".into()), 70)));
        assert!(threshold("101").is_err() && threshold("=5").is_err() && threshold("Web1=x").is_err());
        assert_eq!(weight("Web1/Acme=2"), Ok(("Web1/Acme".into(), 2)));
        assert!(weight("2").is_err() && weight("Web1=0").is_err() && weight("Web1=1001").is_err());
        assert_eq!(replica("a@b.nsf@Web1/Acme"), Ok(("a@b.nsf".into(), "Web1/Acme".into())));
        assert!(replica("a.nsf").is_err() && replica("a.nsf@").is_err());
        assert_eq!(time("1970-01-01T00:00:01Z"), Ok(1_000));
        assert!(time("2026-11-24").is_ok() && time("2026-11-24T08:00").is_ok());
        assert!(time("tuesday").is_err() && time("1969-01-01T00:00:00Z").is_err());
    }
}
