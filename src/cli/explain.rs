//! `icm explain URL`: asks the running balancer, or with `--offline` the configuration and the cached
//! directory alone.

use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::{Context, bail};
use http::Method;

use super::admin::{AdminTarget, percent_encode};
use super::{EXIT_PROBLEM, EXIT_USAGE, offline_state};
use crate::domain::cluster::Port;
use crate::insight::explain::{ExplainRequest, Explanation, explain};

/// What `explain` takes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "One line for each candidate: its state, index and why it is chosen or not. Several that are equally light are
the band, any of which may serve; the draw is made anew for each request.

Exit codes:
  0 somebody serves, or a page of choice or list   1 no answer from the balancer   2 nobody serves
  64 wrong arguments or configuration

Examples:
  icm explain -c /etc/icm/icm.yaml 'http://www.acme.example/sales/leads.nsf?OpenDatabase'
  icm explain --admin http://127.0.0.1:8098 --host www.acme.example --cookie ICM=AbCd... /mail/jdoe.nsf
  icm explain --offline --json -c /etc/icm/icm.yaml /sales/leads.nsf"
)]
pub struct ExplainArgs {
    /// `http://www.acme.example/sales/leads.nsf`, or only the path.
    url: String,
    #[command(flatten)]
    admin_target: AdminTarget,
    /// Ask nobody: every server is assumed to answer.
    #[arg(long, requires = "conf")]
    offline: bool,
    /// As if the client had come by this scheme.
    #[arg(long, value_parser = ["http", "https"])]
    scheme: Option<String>,
    /// As if the request had this method.
    #[arg(long, default_value = "GET")]
    method: String,
    /// As if it had this Host header.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    host: String,
    /// As if it had this Cookie header; the value of the affinity cookie will do.
    #[arg(long, default_value = "", hide_default_value = true)]
    cookie: String,
    /// As if it had this Referer header.
    #[arg(long, value_name = "URL", default_value = "", hide_default_value = true)]
    referer: String,
    /// As if it came from this address.
    #[arg(long, value_name = "ADDRESS")]
    client: Option<IpAddr>,
}

/// Runs it.
///
/// # Errors
/// When the running balancer cannot be asked.
pub fn run(arguments: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let explanation = if arguments.offline { explain_offline(arguments)? } else { explain_live(arguments)? };
    let Some(explanation) = explanation else { return Ok(ExitCode::from(EXIT_USAGE)) };
    if arguments.admin_target.json {
        println!("{:#}", serde_json::to_value(&explanation)?);
    } else {
        print!("{}", explanation.text());
    }
    let served = matches!(explanation.outcome.as_str(), "serve" | "choice" | "list");
    Ok(if served { ExitCode::SUCCESS } else { ExitCode::from(EXIT_PROBLEM) })
}

fn explain_offline(arguments: &ExplainArgs) -> anyhow::Result<Option<Explanation>> {
    let Some(balancer) = offline_state(&arguments.admin_target)? else { return Ok(None) };
    let request = ExplainRequest {
        url: arguments.url.clone(),
        scheme: arguments.scheme.as_deref().map(|s| if s == "https" { Port::Https } else { Port::Http }),
        method: arguments.method.clone(),
        host: arguments.host.clone(),
        cookie: arguments.cookie.clone(),
        referer: arguments.referer.clone(),
        client: arguments.client,
    };
    let mut explanation = explain(&balancer.snapshot(), &request);
    explanation.notes.push("offline: every enabled port is assumed to answer, no index is known".to_owned());
    for cluster in &balancer.snapshot().clusters {
        if !cluster.view.load().directory.is_loaded() {
            explanation
                .notes
                .push(format!("{}: no directory at hand, not even a cached copy", cluster.settings.name));
        }
    }
    Ok(Some(explanation))
}

fn explain_live(arguments: &ExplainArgs) -> anyhow::Result<Option<Explanation>> {
    let Some(admin) = arguments.admin_target.connect()? else { return Ok(None) };
    let mut target = format!("/explain?url={}", percent_encode(&arguments.url));
    let client = arguments.client.map(|c| c.to_string()).unwrap_or_default();
    for (name, value) in [
        ("scheme", arguments.scheme.as_deref().unwrap_or_default()),
        ("method", &arguments.method),
        ("host", &arguments.host),
        ("cookie", &arguments.cookie),
        ("referer", &arguments.referer),
        ("client", &client),
    ] {
        if !value.is_empty() {
            target.push_str(&format!("&{name}={}", percent_encode(value)));
        }
    }
    let asked = admin.send(Method::GET, &target);
    let (status, value) = asked.context("`--offline` asks the configuration alone")?;
    if status != 200 {
        bail!("{status} {value}");
    }
    Ok(Some(serde_json::from_value(value).context("the admin listener's answer")?))
}
