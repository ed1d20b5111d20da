//! `icm rehearse`: fails a share of the users over from one server, follows that to its end and reports what happened.

mod fleet;
mod report;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::anyhow;

use super::admin::{AdminTarget, Interrupts, WaitOutcome};
use super::{EXIT_PROBLEM, EXIT_USAGE, output};
use crate::domain::rehearsal::{DURATION, USERS_PERCENT};
use fleet::{Fleet, FleetState, Order, StartOutcome};

const POLL_INTERVAL: Duration = Duration::from_millis(500);
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
#[command(after_help = "Rules:
  A share of the users, drawn by cookie, meets the server as UNREACHABLE: other servers get their requests, and their \
affinity moves, as in an outage. All others notice nothing. Clients without the affinity cookie are left out.
  A request that no other server can take goes to the server all the same. Nobody is refused because of a rehearsal.
  It does not begin while the server takes no new users, another server of the cluster is UNREACHABLE, or none is \
AVAILABLE. It ends early if that happens, or if moved users have more errors than those who stayed (docs/rehearse.md).
  Afterwards moved users return with their next page, unless they changed something on the other server.
  icm follows the rehearsal to its end; Ctrl-C stops it. With --detach it returns at once.
  Each ICM rehearses for its own users: name the others with --also. A restart or an upgrade ends a rehearsal.

Exit codes:
  0   it ran to its end; with --detach: it has begun; with --status: one is shown; with --stop: it is stopped
  1   no answer from the balancer
  2   refused, ended early, or there is none
  64  wrong arguments or configuration

Examples:
  icm rehearse --down Web1/Acme --users 5% --for 10m -c /etc/icm/icm.yaml
  icm rehearse --status --admin http://127.0.0.1:8098
  icm rehearse --stop -c /etc/icm/icm.yaml")]
pub struct RehearseArgs {
    /// Server that counts as UNREACHABLE for the share of users: Web1, Web1/Acme or CN=Web1/O=Acme.
    #[arg(long, value_name = "SERVER", required_unless_present_any = ["status", "stop"], requires_all = ["users", "duration"])]
    down: Option<String>,
    /// Share of users in percent, 0.1 to 50.
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    users: Option<f64>,
    /// How long, 10s to 24h.
    #[arg(long = "for", id = "duration", value_name = "DURATION", value_parser = duration)]
    duration: Option<Duration>,
    /// The cluster, if several have this server.
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    #[command(flatten)]
    admin_target: AdminTarget,
    /// Admin listener of another ICM in front of these servers, with the same token. May be repeated.
    #[arg(long, value_name = "URL")]
    also: Vec<String>,
    /// Return as soon as it has begun.
    #[arg(long)]
    detach: bool,
    /// Show the rehearsal that is under way, or the last one.
    #[arg(long, conflicts_with_all = ["down", "users", "duration", "cluster", "detach"])]
    status: bool,
    /// End the rehearsal that is under way.
    #[arg(long, conflicts_with_all = ["down", "users", "duration", "cluster", "detach", "status"])]
    stop: bool,
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim_end_matches('%').trim().parse().ok();
    number.filter(|number| USERS_PERCENT.contains(number)).ok_or_else(|| {
        format!("write {} to {} percent, such as 5%", USERS_PERCENT.start(), USERS_PERCENT.end())
    })
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    DURATION.contains(&duration).then_some(duration).ok_or_else(|| "write 10s to 24h, such as 10m".to_owned())
}

/// # Errors
/// If the running balancer does not answer.
pub fn run(arguments: &RehearseArgs) -> anyhow::Result<ExitCode> {
    let json = arguments.admin_target.json;
    let Some(fleet) = Fleet::connect(&arguments.admin_target, &arguments.also)? else {
        return Ok(ExitCode::from(EXIT_USAGE));
    };
    if arguments.stop {
        return show(&fleet.stop("icm rehearse --stop")?, json, "no rehearsal is under way");
    }
    if arguments.status {
        return show(&fleet.observe()?, json, "no rehearsal was run since the start of the process");
    }
    let (Some(server), Some(percent), Some(duration)) =
        (&arguments.down, arguments.users, arguments.duration)
    else {
        return Err(anyhow!("--down needs --users and --for"));
    };
    // Before the start, so that Ctrl-C always stops the rehearsal.
    let mut interrupts = if arguments.detach { None } else { Some(fleet.main().interrupts()?) };
    let order = Order { server, cluster: arguments.cluster.as_deref(), percent, duration };
    let state = match fleet.start(&order)? {
        StartOutcome::Begun(state) => state,
        StartOutcome::Refused(value) => {
            if json {
                println!("{value:#}");
            } else {
                eprintln!("icm: not begun: {}", fleet::message_of(&value));
            }
            return Ok(ExitCode::from(EXIT_PROBLEM));
        }
    };
    if json {
        println!("{}", report::begun_json(&state));
    } else {
        report::print_beginning(&state);
    }
    match &mut interrupts {
        None => Ok(ExitCode::SUCCESS),
        Some(interrupts) => follow(&fleet, &state, interrupts, json),
    }
}

fn show(state: &FleetState, json: bool, none: &str) -> anyhow::Result<ExitCode> {
    if json {
        println!("{:#}", report::state_json(state));
    } else if state.total().is_some() {
        report::print_report(state);
    } else {
        eprintln!("icm: {none}");
    }
    Ok(if state.total().is_some() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_PROBLEM) })
}

/// Prints the progress until all have ended. As soon as one ends early, the others end, too.
fn follow(
    fleet: &Fleet,
    begun: &FleetState,
    interrupts: &mut Interrupts,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let mut printed = Instant::now();
    let mut last = begun.clone();
    loop {
        if fleet.main().pause(POLL_INTERVAL, interrupts) == WaitOutcome::Interrupted {
            eprintln!("icm: stopping the rehearsal");
            fleet.stop("Ctrl-C in icm rehearse")?;
        } else if output::stdout_is_closed() {
            fleet.stop("the reader of icm rehearse has gone")?;
        }
        let state = fleet.observe_same(&last);
        if state.has_ended_early() && state.is_running() {
            fleet.stop("another ICM ended it early")?;
        }
        last = state;
        if !last.is_running() {
            break;
        }
        if printed.elapsed() >= PROGRESS_INTERVAL {
            printed = Instant::now();
            if json {
                println!("{}", report::progress_json(&last));
            } else {
                report::print_progress(&last);
            }
        }
    }
    if json {
        println!("{}", report::state_json(&last));
    } else {
        report::print_report(&last);
    }
    Ok(if last.ran_to_its_end() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_PROBLEM) })
}
