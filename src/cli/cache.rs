//! `icm cache purge`: removes responses from the cache of a running balancer.

use std::process::ExitCode;

use anyhow::bail;
use http::Method;
use serde_json::Value;

use super::admin::{AdminTarget, percent_encode};
use super::{EXIT_PROBLEM, EXIT_USAGE, output};

#[derive(Debug, clap::Subcommand)]
pub enum CacheCommand {
    /// Remove responses from the cache, so that the next request gets them from a server.
    #[command(
        after_help = "A path is removed for every host. `*` stands for any text; without it the query counts, too.
  Each ICM has a cache of its own.

Exit codes:
  0   the responses are removed; there may have been none
  1   no answer from the balancer
  2   the configuration has no cache, or the URL is none
  64  wrong arguments or configuration

Examples:
  icm cache purge --all -c /etc/icm/icm.yaml
  icm cache purge '/xsp/.ibmxspres/*' -c /etc/icm/icm.yaml
  icm cache purge https://www.acme.example/icons/logo.gif --admin http://127.0.0.1:8098"
    )]
    Purge(PurgeArgs),
}

#[derive(Debug, clap::Args)]
pub struct PurgeArgs {
    /// URL or path of the responses.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    url: Option<String>,
    /// Remove all that is stored.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    admin_target: AdminTarget,
}

/// # Errors
/// If the running balancer does not answer.
pub fn run(command: &CacheCommand) -> anyhow::Result<ExitCode> {
    let CacheCommand::Purge(arguments) = command;
    let Some(admin) = arguments.admin_target.connect()? else { return Ok(ExitCode::from(EXIT_USAGE)) };
    let what = match &arguments.url {
        Some(url) => format!("url={}", percent_encode(url)),
        None => "all=1".to_owned(),
    };
    let (status, value) = admin.send(Method::POST, &format!("/cache/purge?{what}"))?;
    match status {
        200 => {}
        400 | 409 => {
            eprintln!("icm: {}", value.get("message").and_then(Value::as_str).unwrap_or_default());
            return Ok(ExitCode::from(EXIT_PROBLEM));
        }
        _ => bail!("{status} {value}"),
    }
    if arguments.admin_target.json {
        println!("{value:#}");
    } else {
        let purged = value.get("purged").and_then(Value::as_u64).unwrap_or(0);
        output::print_line(&format!("{purged} responses removed"));
    }
    Ok(ExitCode::SUCCESS)
}
