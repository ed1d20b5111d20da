//! The command line, one file for each verb. A verb prints text for people, or JSON with `--json`, and returns an exit
//! code.

// First, because the other modules use its `print!` and `println!`.
#[macro_use]
mod output;

mod admin;
mod audit;
mod cache;
mod certificates;
mod check;
mod completion;
mod explain;
mod init;
mod maintain;
mod password;
mod readings;
mod rehearse;
mod replay;
mod replica_checks;
mod restrict;
mod show;
mod simulate;
mod sso;
mod upgrade;

pub use output::print_error;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use clap::{Parser, Subcommand};
use serde_json::json;

use crate::config::{self, ConfigErrors, LoadedConfig};
use crate::insight::explain::mark_ports_up;
use crate::server::handover::HandoverChild;
use crate::server::{self, lifecycle::Signals};
use crate::state::Balancer;

/// The arguments or the configuration are wrong.
pub const EXIT_USAGE: u8 = 64;
/// The verb worked, but the answer is no or it found a problem.
pub const EXIT_PROBLEM: u8 = 2;

/// The Internet Cluster Manager for HCL Domino.
#[derive(Debug, Parser)]
#[command(name = "icm", version, max_term_width = 120)]
#[command(after_help = "Exit codes:
  0   success
  1   failure at run time, or no answer from the balancer
  2   the answer is no, or a problem was found
  64  wrong arguments or configuration

Each verb has its own help with examples: icm restrict --help")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const SHOW_HELP: &str = "Exit codes:
  0   success
  1   no answer from the balancer
  2   nothing found
  64  wrong arguments or configuration

Examples:
  icm show cluster -c /etc/icm/icm.yaml
  icm show databases sales --limit 0 --admin http://127.0.0.1:8098
  icm show stat ICM.Command -c /etc/icm/icm.yaml
  icm show events --follow --json -c /etc/icm/icm.yaml";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the balancer in the foreground.
    Run {
        /// Path of the configuration file.
        #[arg(short, long = "conf", value_name = "FILE")]
        conf: PathBuf,
    },
    /// Write a first configuration from one server of a cluster.
    Init(init::InitArgs),
    /// Validate a configuration file and report every error in it.
    Check(check::CheckArgs),
    /// Show which server would get a request, and why.
    Explain(explain::ExplainArgs),
    /// Send no new users to a server; users who work there may finish.
    Restrict(restrict::RestrictArgs),
    /// Undo the restriction set by `icm restrict`.
    Release(restrict::ReleaseArgs),
    /// Maintain one server after the other: drain it, run a hook that restarts it, wait until it has caught up.
    Maintain(maintain::MaintainArgs),
    /// Rehearse the failover of a server with a share of the users.
    Rehearse(rehearse::RehearseArgs),
    /// Show servers, databases, statistics or events of a running balancer.
    #[command(after_help = SHOW_HELP)]
    Show {
        #[command(subcommand)]
        what: show::ShowCommand,
    },
    /// Show what would happen if some servers were down, RESTRICTED or BUSY.
    Simulate(simulate::SimulateArgs),
    /// Show what another threshold, weight or mark, or a server that is down, would have done to the requests of a log.
    Replay(replay::ReplayArgs),
    /// Find single points of failure and mistakes in replicas, paths, marks, ports and the directory.
    Audit(audit::AuditArgs),
    /// Remove responses from the cache of a running balancer.
    Cache {
        #[command(subcommand)]
        what: cache::CacheCommand,
    },
    /// Upgrade a running balancer to a new executable without refusing a connection.
    Upgrade(upgrade::UpgradeArgs),
    /// Print a completion script for a shell.
    #[command(after_help = "Example:\n  icm completion bash > /etc/bash_completion.d/icm")]
    Completion {
        /// Shell to complete for.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    #[command(after_help = "Example:\n  icm man > /usr/local/share/man/man1/icm.1")]
    Man,
}

impl Cli {
    /// # Errors
    /// On a failure at run time; the caller prints it and exits with 1.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Run { conf } => run(&conf),
            Command::Init(arguments) => init::run(&arguments),
            Command::Check(arguments) => check::run(&arguments),
            Command::Explain(arguments) => explain::run(&arguments),
            Command::Restrict(arguments) => restrict::restrict(&arguments),
            Command::Release(arguments) => restrict::release(&arguments),
            Command::Maintain(arguments) => maintain::run(&arguments),
            Command::Rehearse(arguments) => rehearse::run(&arguments),
            Command::Show { what } => show::run(&what),
            Command::Simulate(arguments) => simulate::run(&arguments),
            Command::Replay(arguments) => replay::run(&arguments),
            Command::Audit(arguments) => audit::run(&arguments),
            Command::Cache { what } => cache::run(&what),
            Command::Upgrade(arguments) => upgrade::run(&arguments),
            Command::Completion { shell } => completion::print_completion(shell),
            Command::Man => completion::print_manual(),
        }
    }
}

fn run(conf: &std::path::Path) -> anyhow::Result<ExitCode> {
    // First, because the default action of HUP ends the process.
    let signals = Signals::install()?;
    // Pingora's cache has a line for each client that leaves and each response that is served stale, and one that advises to
    // call a function.
    let default_filter = "info,pingora_core=warn,pingora_proxy=warn,pingora_proxy::proxy_cache=off,\
         pingora_cache::meta=error,pingora_load_balancing=error,rustls=warn,h2=warn";
    let logger =
        env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(default_filter)).build();
    output::install_logger(logger);
    let handover =
        HandoverChild::from_environment().context("cannot take over from the old process")?.map(Arc::new);
    let fail = |reason: String| {
        if let Some(handover) = &handover {
            handover.report_failure(&reason);
        }
    };
    let loaded = match config::load(conf) {
        Ok(loaded) => loaded,
        Err(errors) => {
            eprintln!("{errors}");
            fail(errors.to_string());
            return Ok(ExitCode::from(EXIT_USAGE));
        }
    };
    for warning in &loaded.warnings {
        log::warn!(target: "icm::config", "{warning}");
    }
    server::run(loaded.settings, conf, signals, handover.clone()).inspect_err(|e| fail(e.to_string()))?;
    Ok(ExitCode::SUCCESS)
}

/// A balancer without network: the configuration (for a followed ICM its last good copy) and the cached directory, with
/// every enabled port up. `None` if the configuration has errors, which are printed.
fn offline_state(admin_target: &admin::AdminTarget) -> anyhow::Result<Option<Arc<Balancer>>> {
    let conf = admin_target.conf.as_deref().ok_or_else(|| anyhow!("--offline needs -c FILE"))?;
    offline_balancer(conf, admin_target.json)
}

/// As [`offline_state`], for the configuration in this file.
fn offline_balancer(conf: &std::path::Path, json: bool) -> anyhow::Result<Option<Arc<Balancer>>> {
    let Ok(mut loaded) = load(conf, json) else { return Ok(None) };
    crate::follow::load_offline_copy(&mut loaded.settings)?;
    let balancer = Arc::new(Balancer::new(Arc::new(loaded.settings), vec![0; 32])?);
    mark_ports_up(&balancer);
    Ok(Some(balancer))
}

/// Loads a configuration, or prints all of its errors.
fn load(conf: &std::path::Path, json: bool) -> Result<LoadedConfig, ExitCode> {
    config::load(conf).map_err(|errors: ConfigErrors| {
        if json {
            let (errors, none): (_, [(); 0]) = (errors.to_json(), []);
            println!("{:#}", json!({ "ok": false, "errors": errors, "warnings": none, "findings": none }));
        } else {
            eprintln!("{errors}");
        }
        ExitCode::from(EXIT_USAGE)
    })
}
