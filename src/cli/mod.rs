//! The command line: few verbs, a result for people or `--json` for machines.
//!
//! In: arguments. Out: text and an exit code: 0 fine, 1 failed at run time, 2 the answer is no, 64 the
//! arguments or the configuration are wrong.

mod admin;
mod certificates;
mod check;
mod explain;
mod restrict;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde_json::json;

use crate::config::{self, ConfigErrors, Loaded};
use crate::server::{self, lifecycle::Signals};

/// The arguments or the configuration are wrong.
pub const USAGE: u8 = 64;
/// The answer is no.
pub const NO: u8 = 2;

/// The Internet Cluster Manager for HCL Domino.
#[derive(Debug, Parser)]
#[command(name = "icm", version, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve, in the foreground.
    Run {
        /// The configuration file.
        #[arg(short, long = "conf", value_name = "FILE")]
        conf: PathBuf,
    },
    /// Say everything that is wrong with a configuration file.
    Check(check::Arguments),
    /// Say what would happen to a request, and why.
    Explain(explain::Arguments),
    /// Take a server out for new users; those inside may finish.
    Restrict(restrict::Arguments),
    /// Take an administrator's restriction back.
    Release(restrict::Arguments),
}

impl Arguments {
    /// Runs the verb.
    ///
    /// # Errors
    /// What nobody expected; the caller prints it and exits with 1.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.verb {
            Verb::Run { conf } => run(&conf),
            Verb::Check(arguments) => check::run(&arguments),
            Verb::Explain(arguments) => explain::run(&arguments),
            Verb::Restrict(arguments) => restrict::run(&arguments, false),
            Verb::Release(arguments) => restrict::run(&arguments, true),
        }
    }
}

fn run(conf: &std::path::Path) -> anyhow::Result<ExitCode> {
    // First of all: the default action of HUP would end the process.
    let signals = Signals::install()?;
    let quiet = "info,pingora_core=warn,pingora_proxy=warn,pingora_load_balancing=error,rustls=warn,h2=warn";
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(quiet)).init();
    let loaded = match load(conf, false) {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    for warning in &loaded.warnings {
        log::warn!(target: "icm::config", "{warning}");
    }
    server::run(loaded.settings, conf, signals)?;
    Ok(ExitCode::SUCCESS)
}

/// Loads a configuration, or prints every error.
fn load(conf: &std::path::Path, json: bool) -> Result<Loaded, ExitCode> {
    config::load(conf).map_err(|errors: ConfigErrors| {
        if json {
            let (errors, none): (_, [(); 0]) = (errors.to_json(), []);
            println!("{:#}", json!({ "ok": false, "errors": errors, "warnings": none, "findings": none }));
        } else {
            eprintln!("{errors}");
        }
        ExitCode::from(USAGE)
    })
}
