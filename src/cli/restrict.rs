//! `icm restrict SERVER` and `icm release SERVER`. At a terminal `restrict` asks for confirmation and then waits until the
//! server may be shut down; a script uses `--if-safe` and `--wait` instead.

use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::admin::{AdminClient, AdminTarget, WaitOutcome, percent_encode};
use super::{EXIT_PROBLEM, EXIT_USAGE, output};
use crate::state::drain::DrainProgress;
use crate::state::restrictions::RestrictionOutcome;

const MAX_NAMED_DATABASES: usize = 20;
const POLL_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
#[command(after_help = "Rules:
  icm first lists the databases that only this server can serve to new users. If there are any, it asks for \
confirmation at a terminal, except with --yes. In a script it does not ask: use --if-safe there.
  At a terminal icm then waits until the server may be shut down: no request is in flight, and no user can return to \
it (affinity.drain_timeout is over, or the last answer is older than affinity.idle_timeout). In a script it returns at \
once, except with --wait. Ctrl-C ends only the waiting; the server stays RESTRICTED.
  Each ICM counts only its own requests.

Exit codes:
  0   the server is restricted (with --wait: and drained)
  1   no answer from the balancer
  2   no such server, not restricted, or not drained within --wait=DURATION
  64  wrong arguments or configuration

Examples:
  icm restrict Web1/Acme -c /etc/icm/icm.yaml
  icm restrict Web1 --admin http://127.0.0.1:8098 --if-safe --wait=40m && ssh web1 shutdown")]
pub struct RestrictArgs {
    /// Server name: Web1, Web1/Acme or CN=Web1/O=Acme.
    server: String,
    #[command(flatten)]
    admin_target: AdminTarget,
    /// Do not ask for confirmation.
    #[arg(short, long)]
    yes: bool,
    /// Do nothing and exit with 2 if a database would lose its last usable replica.
    #[arg(long, conflicts_with = "yes")]
    if_safe: bool,
    /// Wait until the server may be shut down, at most for DURATION.
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true, default_missing_value = "365d",
        value_parser = humantime::parse_duration)]
    wait: Option<Duration>,
    /// Return at once, even at a terminal.
    #[arg(long, conflicts_with = "wait")]
    no_wait: bool,
    /// Stop waiting also if no request is in flight and the last answer is older than DURATION.
    #[arg(long, alias = "quiet", value_name = "DURATION", value_parser = humantime::parse_duration)]
    idle: Option<Duration>,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Releases only what an administrator restricted. If something else still restricts the server, icm names it.
  A server that was UNREACHABLE and returned is CATCHING UP until the other servers report that nothing waits for \
replication. --now trusts it at once, and leaves its restriction.

Exit codes:
  0   the restriction is removed; with --now: the server is not CATCHING UP on this ICM
  1   no answer from the balancer
  2   no such server
  64  wrong arguments or configuration

Examples:
  icm release Web1/Acme -c /etc/icm/icm.yaml
  icm release Web1/Acme --now -c /etc/icm/icm.yaml"
)]
pub struct ReleaseArgs {
    /// Server name: Web1, Web1/Acme or CN=Web1/O=Acme.
    server: String,
    #[command(flatten)]
    admin_target: AdminTarget,
    /// End CATCHING UP at once; a restriction stays.
    #[arg(long)]
    now: bool,
}

#[derive(Deserialize)]
struct ServersBody<T> {
    servers: Vec<T>,
}

/// # Errors
/// If the running balancer does not answer.
pub fn release(arguments: &ReleaseArgs) -> anyhow::Result<ExitCode> {
    let Some(admin) = arguments.admin_target.connect()? else { return Ok(ExitCode::from(EXIT_USAGE)) };
    let verb = if arguments.now { "release?now=1" } else { "release" };
    let (value, outcomes) = match post_action(&admin, &arguments.server, verb, arguments.admin_target.json)? {
        Ok(done) => done,
        Err(code) => return Ok(code),
    };
    if arguments.admin_target.json {
        println!("{value:#}");
        return Ok(ExitCode::SUCCESS);
    }
    for outcome in outcomes {
        output::print_line(&format!("{}: {} is {}", outcome.cluster, outcome.server, outcome.state));
        outcome.notes.iter().for_each(|note| println!("  {note}"));
        if !outcome.restrictions.is_empty() {
            println!("  still restricted: {}", outcome.restrictions.join("; "));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// # Errors
/// If the running balancer does not answer.
pub fn restrict(arguments: &RestrictArgs) -> anyhow::Result<ExitCode> {
    let json = arguments.admin_target.json;
    let Some(admin) = arguments.admin_target.connect()? else { return Ok(ExitCode::from(EXIT_USAGE)) };
    let drain = format!("/servers/{}/drain", percent_encode(&arguments.server));
    let before: ServersBody<DrainProgress> =
        match admin.get(&format!("{drain}?limit={MAX_NAMED_DATABASES}"))? {
            Ok(before) => before,
            Err(code) => return Ok(code),
        };
    let lost: usize = before.servers.iter().map(|s| s.last_replicas.count).sum();
    if !json {
        before.servers.iter().for_each(print_last_replicas);
    }
    if lost > 0 && arguments.if_safe {
        if json {
            let text = json!({ "error": "last_replicas", "servers": before.servers });
            println!("{text:#}");
        } else {
            eprintln!("icm: not restricted: {lost} databases would lose their last usable replica");
        }
        return Ok(ExitCode::from(EXIT_PROBLEM));
    }
    let interactive = output::is_interactive() && !json;
    if lost > 0 && interactive && !arguments.yes && !confirm()? {
        println!("not restricted");
        return Ok(ExitCode::from(EXIT_PROBLEM));
    }
    let (value, outcomes) = match post_action(&admin, &arguments.server, "restrict", json)? {
        Ok(done) => done,
        Err(code) => return Ok(code),
    };
    let wait = match arguments.wait {
        Some(wait) => Some(wait),
        None if interactive && !arguments.no_wait => Some(Duration::MAX),
        None => None,
    };
    if json {
        // While waiting each JSON object is one line, because progress follows.
        if wait.is_some() { println!("{value}") } else { println!("{value:#}") }
    } else {
        for outcome in &outcomes {
            output::print_line(&format!("{}: {} is {}", outcome.cluster, outcome.server, outcome.state));
            println!(
                "  {} requests in flight; users may stay on it until affinity.drain_timeout",
                outcome.in_flight
            );
            outcome.notes.iter().for_each(|note| println!("  {note}"));
        }
    }
    match wait {
        Some(at_most) => wait_until_empty(&admin, &drain, at_most, arguments.idle, json),
        None => Ok(ExitCode::SUCCESS),
    }
}

fn print_last_replicas(server: &DrainProgress) {
    let lost = &server.last_replicas;
    for path in &lost.examples {
        println!("{}: only {} can serve {path}", server.cluster, server.server);
    }
    if lost.count > lost.examples.len() {
        println!("  and {} more databases", lost.count - lost.examples.len());
    }
}

fn confirm() -> anyhow::Result<bool> {
    print!("New users will not reach these databases. Restrict the server anyway? [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

type ActionResult = (Value, Vec<RestrictionOutcome>);

fn post_action(
    admin: &AdminClient,
    server: &str,
    verb: &str,
    json: bool,
) -> anyhow::Result<Result<ActionResult, ExitCode>> {
    let (status, value) = admin.send(Method::POST, &format!("/servers/{}/{verb}", percent_encode(server)))?;
    match status {
        200 => {
            let outcomes = serde_json::from_value(value.get("servers").cloned().unwrap_or_default())?;
            Ok(Ok((value, outcomes)))
        }
        404 => {
            if json {
                println!("{value:#}");
            } else {
                eprintln!("icm: no cluster has a server {server}");
            }
            Ok(Err(ExitCode::from(EXIT_PROBLEM)))
        }
        _ => bail!("{status} {value}"),
    }
}

/// Prints the progress on each change and on every tenth poll, so that it does not seem to hang.
fn wait_until_empty(
    admin: &AdminClient,
    drain: &str,
    at_most: Duration,
    idle: Option<Duration>,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let mut last_key: Vec<String> = Vec::new();
    for polls in 0_u64.. {
        let now: ServersBody<DrainProgress> = match admin.get(drain)? {
            Ok(now) => now,
            Err(code) => return Ok(code),
        };
        let empty = now.servers.iter().all(|server| is_empty(server, idle));
        let lines: Vec<String> = now.servers.iter().map(progress_line).collect();
        let counts = |s: &DrainProgress| format!("{} {} {}", s.server, s.in_flight, s.tunnels);
        let key: Vec<String> = now.servers.iter().map(counts).collect();
        if key != last_key || empty || polls.is_multiple_of(10) {
            last_key = key;
            for (server, text) in now.servers.iter().zip(&lines) {
                if json {
                    println!("{}", json!({ "progress": server, "empty": is_empty(server, idle) }));
                } else {
                    println!("{text}");
                }
            }
        }
        if empty {
            if !json {
                println!("the server may be shut down, as far as this ICM is concerned");
            }
            return Ok(ExitCode::SUCCESS);
        }
        if began.elapsed() >= at_most {
            eprintln!("icm: not drained yet; the server stays RESTRICTED");
            return Ok(ExitCode::from(EXIT_PROBLEM));
        }
        if admin.sleep_or_interrupt(POLL_INTERVAL.min(at_most.saturating_sub(began.elapsed())))?
            == WaitOutcome::Interrupted
        {
            eprintln!("icm: stopped waiting; the server stays RESTRICTED until `icm release`");
            return Ok(ExitCode::SUCCESS);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn is_empty(server: &DrainProgress, idle: Option<Duration>) -> bool {
    let restricted = !server.restrictions.is_empty();
    let is_idle = |idle: Duration| server.last_answer_ms.is_none_or(|ms| u128::from(ms) >= idle.as_millis());
    server.empty || (restricted && server.in_flight == 0 && idle.is_some_and(is_idle))
}

fn progress_line(server: &DrainProgress) -> String {
    let last = server
        .last_answer_ms
        .map_or_else(|| "none yet".to_owned(), |ms| format!("{} ago", output::format_age(ms)));
    let tunnels = if server.tunnels > 0 { format!(" ({} tunnels)", server.tunnels) } else { String::new() };
    format!(
        "{}: {} in flight{tunnels}, last answer {last}; {}",
        server.server, server.in_flight, server.reason
    )
}
