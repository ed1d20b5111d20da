//! `icm explain URL`: asks the running balancer, or with `--offline` the configuration and the cached
//! directory alone.

use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};

use super::{NO, load};
use crate::balancer::Balancer;
use crate::cluster::Port;
use crate::config::settings::UpstreamTls;
use crate::domino::{Client, Request};
use crate::explain::{assume_reachable, explain};

/// What `explain` takes.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// `http://www.acme.example/sales/leads.nsf`, or only the path.
    url: String,
    /// The configuration file; says where the running balancer's admin listener is.
    #[arg(short, long = "conf", value_name = "FILE")]
    conf: Option<PathBuf>,
    /// The admin listener, `http://127.0.0.1:8098`, instead of the one in the file.
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    /// Ask nobody: every server is assumed to answer.
    #[arg(long, requires = "conf")]
    offline: bool,
    /// As if the client had come by this scheme.
    #[arg(long, value_parser = ["http", "https"])]
    scheme: Option<String>,
    /// For machines.
    #[arg(long)]
    json: bool,
}

/// Runs it.
///
/// # Errors
/// When the running balancer cannot be asked.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (value, text) = if arguments.offline { offline(arguments)? } else { live(arguments)? };
    let Some(value) = value else { return Ok(ExitCode::from(super::USAGE)) };
    if arguments.json {
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
    let conf = arguments.conf.as_deref().ok_or_else(|| anyhow!("--offline needs -c FILE"))?;
    let Ok(loaded) = load(conf, arguments.json) else { return Ok((None, String::new())) };
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
    let mut token = None;
    let admin = match (&arguments.admin, &arguments.conf) {
        (Some(url), _) => url.clone(),
        (None, Some(conf)) => {
            let Ok(loaded) = load(conf, arguments.json) else { return Ok((None, String::new())) };
            let admin = loaded.settings.admin;
            token = admin.token;
            let scheme = if admin.tls.is_some() { "https" } else { "http" };
            format!("{scheme}://{}", admin.address)
        }
        (None, None) => "http://127.0.0.1:8098".to_owned(),
    };
    let (https, rest) = match (admin.strip_prefix("http://"), admin.strip_prefix("https://")) {
        (Some(rest), _) => (false, rest),
        (_, Some(rest)) => (true, rest),
        _ => bail!("{admin}: write the admin listener as http://HOST:PORT or https://HOST:PORT"),
    };
    let at = rest.trim_end_matches('/');
    let address = at
        .to_socket_addrs()
        .with_context(|| format!("{at} is no address"))?
        .next()
        .ok_or_else(|| anyhow!("{at} does not resolve"))?;
    let encode = |text: &str| {
        percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
    };
    let mut target = format!("/explain?url={}", encode(&arguments.url));
    if let Some(scheme) = &arguments.scheme {
        target.push_str(&format!("&scheme={scheme}"));
    }
    let host = crate::balancer::hosts::host_name(at).trim_matches(['[', ']']).to_owned();
    let mut request = Request::get(address, https, &host, target);
    request.timeout = Duration::from_secs(10);
    if let Some(token) = token {
        let value = http::HeaderValue::from_bytes(&[b"Bearer ", &*token.0].concat())?;
        request.headers.push((http::header::AUTHORIZATION, value));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let client = Client::new(&UpstreamTls { ca_file: None, ca: None, verify: true }, Duration::from_secs(5));
    let answer = runtime.block_on(client.fetch(&request)).with_context(|| {
        format!("is the balancer running at {admin}? `--offline` asks the configuration alone")
    })?;
    if answer.status != 200 {
        bail!("{admin}: {} {}", answer.status, String::from_utf8_lossy(&answer.body).trim());
    }
    let told: crate::explain::Explanation =
        serde_json::from_slice(&answer.body).context("the admin listener's answer")?;
    let text = told.text();
    Ok((Some(serde_json::to_value(&told)?), text))
}
