//! `icm explain URL`: asks the running balancer, or with `--offline` the configuration and the cached
//! directory alone.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use http::Method;

use super::admin::{Where, encode};
use super::{NO, load};
use crate::balancer::Balancer;
use crate::cluster::Port;
use crate::explain::{Explanation, assume_reachable, explain};

/// What `explain` takes.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// `http://www.acme.example/sales/leads.nsf`, or only the path.
    url: String,
    #[command(flatten)]
    place: Where,
    /// Ask nobody: every server is assumed to answer.
    #[arg(long, requires = "conf")]
    offline: bool,
    /// As if the client had come by this scheme.
    #[arg(long, value_parser = ["http", "https"])]
    scheme: Option<String>,
}

/// Runs it.
///
/// # Errors
/// When the running balancer cannot be asked.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (value, text) = if arguments.offline { offline(arguments)? } else { live(arguments)? };
    let Some(value) = value else { return Ok(ExitCode::from(super::USAGE)) };
    if arguments.place.json {
        println!("{value:#}");
    } else {
        print!("{text}");
    }
    let served = value
        .get("outcome")
        .and_then(serde_json::Value::as_str)
        .is_some_and(|o| matches!(o, "serve" | "choice" | "list"));
    Ok(if served { ExitCode::SUCCESS } else { ExitCode::from(NO) })
}

type Told = (Option<serde_json::Value>, String);

fn offline(arguments: &Arguments) -> anyhow::Result<Told> {
    let conf = arguments.place.conf.as_deref().ok_or_else(|| anyhow!("--offline needs -c FILE"))?;
    let Ok(mut loaded) = load(conf, arguments.place.json) else { return Ok((None, String::new())) };
    crate::follow::offline(&mut loaded.settings)?;
    let balancer = Balancer::new(Arc::new(loaded.settings), vec![0; 32])?;
    assume_reachable(&balancer);
    let scheme = arguments.scheme.as_deref().map(|s| if s == "https" { Port::Https } else { Port::Http });
    let mut told = explain(&balancer.snapshot(), &arguments.url, scheme);
    told.notes.push("offline: every enabled port is assumed to answer, no index is known".to_owned());
    for cluster in &balancer.snapshot().clusters {
        let view = cluster.view.load();
        if !view.directory.is_loaded() {
            told.notes
                .push(format!("{}: no directory at hand, not even a cached copy", cluster.settings.name));
        }
    }
    let text = told.text();
    Ok((Some(serde_json::to_value(&told)?), text))
}

fn live(arguments: &Arguments) -> anyhow::Result<Told> {
    let mut target = format!("/explain?url={}", encode(&arguments.url));
    if let Some(scheme) = &arguments.scheme {
        target.push_str(&format!("&scheme={scheme}"));
    }
    let asked = arguments.place.ask(Method::GET, &target);
    let Some((status, value)) = asked.context("`--offline` asks the configuration alone")? else {
        return Ok((None, String::new()));
    };
    if status != 200 {
        bail!("{status} {value}");
    }
    let told: Explanation = serde_json::from_value(value.clone()).context("the admin listener's answer")?;
    Ok((Some(value), told.text()))
}
