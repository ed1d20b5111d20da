//! The command line: few verbs, a result for people or `--json` for machines.
//!
//! In: arguments. Out: text and an exit code: 0 fine, 1 failed at run time, 2 the answer is no, 64 the
//! arguments or the configuration are wrong.

// First, for its `print!` and `println!`.
#[macro_use]
mod output;

mod admin;
mod audit;
mod certificates;
mod check;
mod completion;
mod explain;
mod restrict;
mod show;
mod simulate;
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
/// The answer is no.
pub const EXIT_PROBLEM: u8 = 2;

/// The Internet Cluster Manager for HCL Domino.
#[derive(Debug, Parser)]
#[command(name = "icm", version, max_term_width = 120)]
#[command(
    after_help = "Exit codes: 0 fine   1 failed at run time, or no answer from the balancer   2 the answer is no, or a problem
was found   64 the arguments or the configuration are wrong

Every verb has its own help with examples: icm restrict --help"
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const SHOW_HELP: &str = "Exit codes: 0 shown   1 no answer from the balancer   2 nothing matches   64 wrong arguments or configuration

Examples:
  icm show cluster -c /etc/icm/icm.yaml
  icm show databases sales --limit 0 --admin http://127.0.0.1:8098
  icm show stat ICM.Command -c /etc/icm/icm.yaml
  icm show events --follow --json -c /etc/icm/icm.yaml";

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve, in the foreground.
    Run {
        /// The configuration file.
        #[arg(short, long = "conf", value_name = "FILE")]
        conf: PathBuf,
    },
    /// Say everything that is wrong with a configuration file.
    Check(check::CheckArgs),
    /// Say what would happen to a request, and why.
    Explain(explain::ExplainArgs),
    /// Take a server out for new users; those inside may finish.
    Restrict(restrict::RestrictArgs),
    /// Take an administrator's restriction back.
    Release(restrict::ReleaseArgs),
    /// Show servers, databases, statistics or events of a running balancer.
    #[command(after_help = SHOW_HELP)]
    Show {
        #[command(subcommand)]
        what: show::ShowCommand,
    },
    /// Say what would happen if some servers were down, RESTRICTED or BUSY.
    Simulate(simulate::SimulateArgs),
    /// Find what stands on one leg: single replicas, path conflicts, marks, ports, directory.
    Audit(audit::AuditArgs),
    /// Put a new program in a running balancer's place, without a refused connection.
    Upgrade(upgrade::UpgradeArgs),
    /// Print the completion script of a shell.
    #[command(after_help = "Example:\n  icm completion bash > /etc/bash_completion.d/icm")]
    Completion {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    #[command(after_help = "Example:\n  icm man > /usr/local/share/man/man1/icm.1")]
    Man,
}

impl Cli {
    /// Runs the verb.
    ///
    /// # Errors
    /// What nobody expected; the caller prints it and exits with 1.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Run { conf } => run(&conf),
            Command::Check(arguments) => check::run(&arguments),
            Command::Explain(arguments) => explain::run(&arguments),
            Command::Restrict(arguments) => restrict::restrict(&arguments),
            Command::Release(arguments) => restrict::release(&arguments),
            Command::Show { what } => show::run(&what),
            Command::Simulate(arguments) => simulate::run(&arguments),
            Command::Audit(arguments) => audit::run(&arguments),
            Command::Upgrade(arguments) => upgrade::run(&arguments),
            Command::Completion { shell } => completion::print_completion(shell),
            Command::Man => completion::print_manual(),
        }
    }
}

fn run(conf: &std::path::Path) -> anyhow::Result<ExitCode> {
    // First of all: the default action of HUP would end the process.
    let signals = Signals::install()?;
    let default_filter =
        "info,pingora_core=warn,pingora_proxy=warn,pingora_load_balancing=error,rustls=warn,h2=warn";
    let logger =
        env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(default_filter)).build();
    output::install_logger(logger);
    let handover =
        HandoverChild::from_environment().context("the old process hands nothing over")?.map(Arc::new);
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

/// A balancer that asks nobody: the configuration (of another ICM: its last good copy) and the cached
/// directory, every enabled port taken for answering. `None` when the configuration is wrong, which has been printed.
fn offline_state(admin_target: &admin::AdminTarget) -> anyhow::Result<Option<Arc<Balancer>>> {
    let conf = admin_target.conf.as_deref().ok_or_else(|| anyhow!("--offline needs -c FILE"))?;
    let Ok(mut loaded) = load(conf, admin_target.json) else { return Ok(None) };
    crate::follow::load_offline_copy(&mut loaded.settings)?;
    let balancer = Arc::new(Balancer::new(Arc::new(loaded.settings), vec![0; 32])?);
    mark_ports_up(&balancer);
    Ok(Some(balancer))
}

/// Loads a configuration, or prints every error.
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
