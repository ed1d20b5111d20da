//! `icm explain URL`: prints which server would get a request and why, according to the running balancer or, with
//! `--offline`, to the configuration and the cached directory.

use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::{Context, bail};
use http::Method;

use super::admin::{AdminTarget, percent_encode};
use super::{EXIT_PROBLEM, EXIT_USAGE, offline_state};
use crate::domain::cluster::Port;
use crate::insight::explain::{ExplainRequest, Explanation, explain};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "The output has one line for each candidate with its state, its index, and why it is chosen or not. Servers \
that are about equally loaded form a band: each request goes to one of them at random.

Exit codes:
  0   a server would answer, or icm would show a choice or a list of databases, or what a route says
  1   no answer from the balancer
  2   no server would answer
  64  wrong arguments or configuration

Examples:
  icm explain -c /etc/icm/icm.yaml 'http://www.acme.example/sales/leads.nsf?OpenDatabase'
  icm explain --admin http://127.0.0.1:8098 --host www.acme.example --cookie ICM=AbCd... /mail/jdoe.nsf
  icm explain --offline --json -c /etc/icm/icm.yaml /sales/leads.nsf"
)]
pub struct ExplainArgs {
    /// URL or path: http://www.acme.example/sales/leads.nsf or /sales/leads.nsf.
    url: String,
    #[command(flatten)]
    admin_target: AdminTarget,
    /// Use only the configuration and the cached directory; assume that every server answers.
    #[arg(long, requires = "conf")]
    offline: bool,
    /// Scheme that the client uses [default: that of the URL, else http].
    #[arg(long, value_parser = ["http", "https"])]
    scheme: Option<String>,
    /// Method of the request.
    #[arg(long, default_value = "GET")]
    method: String,
    /// Host header of the request [default: that of the URL, else the first one in the configuration].
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    host: String,
    /// Cookie header of the request, or only the value of the affinity cookie.
    #[arg(long, default_value = "", hide_default_value = true)]
    cookie: String,
    /// Referer header of the request.
    #[arg(long, value_name = "URL", default_value = "", hide_default_value = true)]
    referer: String,
    /// Further field of the request, such as 'X-Team: Sales'; may be repeated.
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// IP address of the client.
    #[arg(long, value_name = "ADDRESS")]
    client: Option<IpAddr>,
}

/// # Errors
/// If the running balancer does not answer.
pub fn run(arguments: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let explanation = if arguments.offline { explain_offline(arguments)? } else { explain_live(arguments)? };
    let Some(explanation) = explanation else { return Ok(ExitCode::from(EXIT_USAGE)) };
    if arguments.admin_target.json {
        println!("{:#}", serde_json::to_value(&explanation)?);
    } else {
        print!("{}", explanation.text());
    }
    let served = matches!(
        explanation.outcome.as_str(),
        "serve" | "choice" | "list" | "redirect" | "respond" | "files" | "save_check"
    );
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
        headers: arguments.header.join("\n"),
    };
    let mut explanation = explain(&balancer.snapshot(), &request);
    explanation
        .notes
        .push("offline: every enabled port is assumed to be up, and no index is known".to_owned());
    for cluster in &balancer.snapshot().clusters {
        if !cluster.view.load().directory.is_loaded() {
            explanation
                .notes
                .push(format!("{}: there is no directory, not even a cached copy", cluster.settings.name));
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
        ("header", &arguments.header.join("\n")),
    ] {
        if !value.is_empty() {
            target.push_str(&format!("&{name}={}", percent_encode(value)));
        }
    }
    let answer = admin.send(Method::GET, &target);
    let (status, value) = answer.context("`--offline` works without a running balancer")?;
    if status != 200 {
        bail!("{status} {value}");
    }
    Ok(Some(serde_json::from_value(value).context("the admin listener's answer")?))
}
