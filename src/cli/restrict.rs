//! `icm restrict SERVER` and `icm release SERVER`: take a server out of service for new users, and back.

use std::process::ExitCode;

use anyhow::bail;
use http::Method;

use super::admin::{Where, encode};
use super::{NO, USAGE};
use crate::balancer::restrictions::Outcome;

/// What both verbs take.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// `Web1`, `Web1/Acme` or `CN=Web1/O=Acme`.
    server: String,
    #[command(flatten)]
    place: Where,
}

/// Runs `restrict` or, with `release`, `release`.
///
/// # Errors
/// When the running balancer cannot be asked.
pub fn run(arguments: &Arguments, release: bool) -> anyhow::Result<ExitCode> {
    let verb = if release { "release" } else { "restrict" };
    let target = format!("/servers/{}/{verb}", encode(&arguments.server));
    let Some((status, value)) = arguments.place.ask(Method::POST, &target)? else {
        return Ok(ExitCode::from(USAGE));
    };
    if arguments.place.json {
        println!("{value:#}");
    }
    if status == 404 {
        if !arguments.place.json {
            eprintln!("icm: no cluster has a server {}", arguments.server);
        }
        return Ok(ExitCode::from(NO));
    }
    if status != 200 {
        bail!("{status} {value}");
    }
    if arguments.place.json {
        return Ok(ExitCode::SUCCESS);
    }
    let outcomes: Vec<Outcome> = serde_json::from_value(value.get("servers").cloned().unwrap_or_default())?;
    for outcome in outcomes {
        println!("{}: {} is {}", outcome.cluster, outcome.server, outcome.state);
        for path in &outcome.last_replicas {
            println!("  nobody else can serve {path}");
        }
        for note in &outcome.notes {
            println!("  {note}");
        }
        match (release, outcome.restrictions.is_empty()) {
            (true, false) => println!("  still restricted: {}", outcome.restrictions.join("; ")),
            (false, _) => println!(
                "  {} requests in flight; those inside stay until affinity.drain_timeout",
                outcome.in_flight
            ),
            (true, true) => {}
        }
    }
    Ok(ExitCode::SUCCESS)
}
