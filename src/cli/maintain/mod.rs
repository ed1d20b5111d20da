//! `icm maintain --rolling`: takes one server after the other out of use, runs a hook that restarts or upgrades it, and gives
//! it back to its users when it has caught up. It talks to a running balancer, like the other verbs.

mod balancers;
mod hook;
mod observe;
mod phases;
mod plan;
mod progress;
mod report;
mod runner;
mod steps;
mod stop;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{anyhow, bail};

use super::admin::AdminTarget;
use super::{EXIT_PROBLEM, EXIT_USAGE, load, output};
use crate::util::clock::saturating_millis;
use balancers::Balancers;
use observe::ObservedStatus;
use phases::{StepLimits, StepPhase};
use progress::{MaintenanceProgress, ProgressFile};
use report::MaintenanceReporter;
use runner::{MAX_EXAMPLES, MaintenanceRun, RunOutcome};
use steps::RESTRICTED_BY;

#[derive(Debug, clap::Args)]
#[command(after_help = "For each server in turn:
  1. If a database would lose its last eligible replica, it stops (--allow-outage goes on). While a server is CATCHING UP, \
it waits.
  2. It restricts the server, and waits until nothing is in flight and no user can return. After --drain-timeout nobody may \
return; what is still in flight half a minute later is cut by the hook.
  3. It waits until the server's Cluster Replicator has nothing to push in two reports (WorkQueueDepth and Retry.Waiting \
are 0), for --drain-timeout at most.
  4. It runs the hook with sh -c, or without --hook asks at the terminal. The hook gets ICM_SERVER (Web1/Acme), \
ICM_SERVER_COMMON (Web1), ICM_HOSTNAME, ICM_CLUSTER, ICM_HTTP and ICM_HTTPS. Its exit code must be 0.
  5. It waits until the server was UNREACHABLE and answers again. The hook may return before the server goes down, but \
the server must go down within --settle; otherwise it counts as not restarted.
  6. It waits until CATCHING UP ends. If it ends without evidence, it stops (--accept-unproven goes on).
  7. It releases the server, and waits until it serves.
  If it stops, the server stays RESTRICTED, and the reason and the next step are printed. The same command goes on there; \
the progress is kept in the state_dir. Ctrl-C stops in the same way.

Exit codes:
  0   all servers are maintained; with --dry-run: nothing would stop it
  1   no answer from the balancer
  2   it has stopped, or another run is under way
  64  wrong arguments or configuration

Examples:
  icm maintain --rolling --dry-run -c /etc/icm/icm.yaml
  icm maintain --rolling -c /etc/icm/icm.yaml --hook 'ssh root@$ICM_HOSTNAME systemctl restart domino'
  icm maintain --rolling --servers Web2,Web1 -c /etc/icm/icm.yaml")]
pub struct MaintainArgs {
    /// Maintain one server after the other.
    #[arg(long, required = true)]
    rolling: bool,
    #[command(flatten)]
    admin_target: AdminTarget,
    /// Command that restarts or upgrades the server; without it, icm asks at the terminal.
    #[arg(long, value_name = "COMMAND")]
    hook: Option<String>,
    /// Only these servers, in this order [default: all, in the order of the configuration].
    #[arg(long, value_name = "SERVERS", value_delimiter = ',')]
    servers: Vec<String>,
    /// The cluster, if there are several.
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// Admin listener of another ICM in front of these servers, with the same token: the servers are restricted there, too, and
    /// its users and requests count. May be repeated.
    #[arg(long, value_name = "URL")]
    also: Vec<String>,
    /// Print the plan and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// How long users may finish on a server.
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = humantime::parse_duration)]
    drain_timeout: Duration,
    /// How long the hook may run.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = humantime::parse_duration)]
    hook_timeout: Duration,
    /// How long a server may take to go down after the hook.
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = humantime::parse_duration)]
    settle: Duration,
    /// How long a server may take to answer again, and to serve after its release.
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = humantime::parse_duration)]
    return_timeout: Duration,
    /// Go on although databases are away while their only server is maintained.
    #[arg(long)]
    allow_outage: bool,
    /// Go on although nobody proves that changes were pushed or that a server has caught up.
    #[arg(long)]
    accept_unproven: bool,
    /// Directory in which the progress is kept [default: state_dir of the configuration file].
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    state_dir: Option<PathBuf>,
    /// The hook of the server at which the last run stopped was done by hand.
    #[arg(long, conflicts_with = "forget")]
    hook_done: bool,
    /// Forget an unfinished run and begin anew.
    #[arg(long)]
    forget: bool,
}

impl MaintainArgs {
    fn limits(&self) -> StepLimits {
        StepLimits {
            drain_ms: saturating_millis(self.drain_timeout),
            return_ms: saturating_millis(self.return_timeout),
            settle_ms: saturating_millis(self.settle),
            allow_outage: self.allow_outage,
            accept_unproven: self.accept_unproven,
        }
    }

    /// `None` if the configuration has errors, which are printed.
    fn state_dir(&self) -> Option<Option<PathBuf>> {
        match (&self.state_dir, &self.admin_target.conf) {
            (Some(dir), _) => Some(Some(dir.clone())),
            (None, Some(conf)) => {
                let loaded = load(conf, self.admin_target.json).ok()?;
                Some(loaded.settings.state_dir)
            }
            (None, None) => Some(None),
        }
    }
}

/// # Errors
/// If the running balancer does not answer.
pub fn run(arguments: &MaintainArgs) -> anyhow::Result<ExitCode> {
    let usage = |text: String| {
        eprintln!("icm: {text}");
        Ok(ExitCode::from(EXIT_USAGE))
    };
    if arguments.hook.is_none() && !arguments.dry_run && !std::io::stdin().is_terminal() {
        return usage("without --hook a terminal is needed, at which to press Enter".to_owned());
    }
    let Some(balancers) = Balancers::connect(&arguments.admin_target, &arguments.also)? else {
        return Ok(ExitCode::from(EXIT_USAGE));
    };
    let admin = &balancers.main;
    let Some(state_dir) = arguments.state_dir() else { return Ok(ExitCode::from(EXIT_USAGE)) };
    let status: ObservedStatus = match admin.get("/status?events=0")? {
        Ok(status) => status,
        Err(code) => return Ok(code),
    };
    let chosen = plan::choose_cluster(&status, arguments.cluster.as_deref())
        .and_then(|cluster| Ok((cluster.name.clone(), plan::choose_servers(cluster, &arguments.servers)?)));
    let (cluster, servers) = match chosen {
        Ok(chosen) => chosen,
        Err(error) => return usage(error.to_string()),
    };
    if arguments.dry_run {
        let unfinished = ProgressFile::peek(state_dir.as_deref(), &cluster)?;
        return dry_run(arguments, &balancers, &cluster, &servers, unfinished.as_ref());
    }
    start(arguments, &balancers, (&cluster, servers), state_dir.as_deref(), status.now)
}

/// Begins a run, or goes on with an unfinished one.
fn start(
    arguments: &MaintainArgs,
    balancers: &Balancers,
    (cluster, servers): (&str, Vec<String>),
    state_dir: Option<&Path>,
    now: u64,
) -> anyhow::Result<ExitCode> {
    // From here on signals are noticed, not obeyed at once.
    let interrupts = balancers.main.interrupts()?;
    let prepared = ProgressFile::lock(state_dir, cluster).and_then(|file| {
        let unfinished = if arguments.forget { None } else { file.load()? };
        Ok((begin(arguments, cluster, servers, unfinished, now)?, file))
    });
    let (progress, file) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            eprintln!("icm: {error:#}");
            return Ok(ExitCode::from(EXIT_PROBLEM));
        }
    };
    let mut reporter = MaintenanceReporter::new(cluster, arguments.admin_target.json);
    if !file.is_kept() {
        reporter.event(
            "note",
            None,
            "progress is not kept: there is neither -c FILE with state_dir nor --state-dir",
        );
    }
    let word = if progress.started_at == now { "started" } else { "resumed" };
    let text = match word {
        "started" => format!("maintains {}", progress.servers.join(", ")),
        _ => format!("goes on: {}", plan::describe_unfinished(&progress)),
    };
    reporter.event(word, None, &text);
    file.save(&progress)?;
    let run = MaintenanceRun {
        balancers,
        interrupts,
        limits: arguments.limits(),
        hook: arguments.hook.as_deref(),
        hook_timeout: arguments.hook_timeout,
        json: arguments.admin_target.json,
        by: restricted_by(progress.started_at),
        file,
        progress,
        reporter,
    };
    Ok(match run.run()? {
        RunOutcome::Done => ExitCode::SUCCESS,
        RunOutcome::Stopped => ExitCode::from(EXIT_PROBLEM),
    })
}

/// The progress with which a run begins: that of the unfinished run, if there is one.
fn begin(
    arguments: &MaintainArgs,
    cluster: &str,
    servers: Vec<String>,
    unfinished: Option<MaintenanceProgress>,
    now: u64,
) -> anyhow::Result<MaintenanceProgress> {
    let Some(mut progress) = unfinished else {
        if arguments.hook_done {
            bail!("--hook-done: there is no unfinished run");
        }
        return Ok(MaintenanceProgress::new(cluster, servers, now));
    };
    if !arguments.servers.is_empty() && servers != progress.servers {
        let described = plan::describe_unfinished(&progress);
        bail!(
            "{described}. Its servers are {}: leave out --servers to go on, or begin anew with --forget",
            progress.servers.join(",")
        );
    }
    let process = progress.current.as_ref().and_then(|step| step.hook_process);
    if let Some(process) = process.filter(|process| process.is_running()) {
        let pid = process.pid;
        bail!(
            "the hook of the last run is still running as process {pid}: wait until it has ended, or end it"
        );
    }
    if arguments.hook_done {
        match &mut progress.current {
            Some(step) if step.phase == StepPhase::Hook => step.hook_done(now),
            _ => bail!("--hook-done: the unfinished run did not stop at a hook"),
        }
    }
    Ok(progress)
}

/// Who restricts the servers, as the status page shows it.
fn restricted_by(started_at: u64) -> String {
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let host = host.map_or_else(String::new, |name| format!(" on {name}"));
    format!("{RESTRICTED_BY}{host}, begun {}", output::local_time(started_at))
}

fn dry_run(
    arguments: &MaintainArgs,
    balancers: &Balancers,
    cluster: &str,
    servers: &[String],
    unfinished: Option<&MaintenanceProgress>,
) -> anyhow::Result<ExitCode> {
    let limits = arguments.limits();
    let mut planned = Vec::new();
    for name in servers {
        let seen = balancers.observe(cluster, name, Some(MAX_EXAMPLES))?;
        let server = seen.server(name).ok_or_else(|| anyhow!("the balancer has no server {name} now"))?;
        planned.push(plan::plan_server(&seen, server, &limits));
    }
    if arguments.admin_target.json {
        println!("{:#}", plan::plan_json(cluster, &planned, unfinished));
    } else {
        plan::print_plan(cluster, &planned, &limits, unfinished);
    }
    let would_stop = planned.iter().any(|server| server.stops.is_some());
    Ok(if would_stop { ExitCode::from(EXIT_PROBLEM) } else { ExitCode::SUCCESS })
}
