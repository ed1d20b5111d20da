//! `acme`: a simulated Domino cluster on real sockets, for demonstrations and tests.
//!
//! Its servers answer HTTP and HTTPS like Domino's web server, publish statistics in four ways, and fail on demand.
//! It shares no code with `icm`, so that a wrong parser and a wrong writer cannot agree. `README.md` beside this file
//! describes the scenario file and the control port.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice
)]

mod answer;
mod capacity;
mod clock;
mod cluster;
mod companion;
mod connection;
mod control;
mod copies;
mod counters;
mod document_pages;
mod documents;
mod executions;
mod faults;
mod http;
mod login;
mod pages;
mod power;
mod replication;
mod replication_report;
mod scenario;
mod server;
mod settings;
mod standard_replication;
mod stats;
mod tls;
mod url;
mod views;
mod views_render;
mod websocket;

use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Parser;

/// A simulated Domino cluster.
#[derive(Parser)]
#[command(name = "acme", version)]
struct Options {
    /// Scenario file; without it the built-in Acme cluster.
    #[arg(long)]
    scenario: Option<PathBuf>,
    /// Run only this server of the scenario in this process (common or whole name).
    #[arg(long)]
    only: Option<String>,
    /// Address of the control port; overrides the scenario's.
    #[arg(long)]
    control: Option<String>,
    /// Folder for ca.pem, ca.key and a certificate and key for each server.
    #[arg(long)]
    tls_dir: Option<PathBuf>,
    /// Write nothing to standard error.
    #[arg(long)]
    quiet: bool,
    /// Exit when standard input closes, so that no test leaves it running.
    #[arg(long)]
    exit_with_parent: bool,
    /// Print the built-in scenario and exit.
    #[arg(long)]
    print_scenario: bool,
}

fn main() {
    let options = Options::parse();
    if options.print_scenario {
        print!("{}", scenario::BUILT_IN);
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    if let Err(message) = runtime.block_on(run(options)) {
        eprintln!("acme: {message}");
        std::process::exit(1);
    }
    // Connections that a fault holds open must not delay the exit.
    std::process::exit(0);
}

async fn run(options: Options) -> Result<(), String> {
    let text = match &options.scenario {
        None => scenario::BUILT_IN.to_owned(),
        Some(file) => std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?,
    };
    let scenario = scenario::Scenario::parse(&text)?;
    let control_address =
        options.control.clone().or(scenario.control.clone()).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let only = match &options.only {
        None => None,
        Some(name) => Some(scenario.find(name).ok_or_else(|| format!("the scenario has no server {name}"))?),
    };

    let bound = server::bind(&scenario, only)?;
    let ca = tls::Authority::open(options.tls_dir.as_deref())?;
    let cluster = Arc::new(cluster::Cluster::build(scenario, &bound, only, &ca)?);
    let control = tokio::net::TcpListener::bind(&control_address)
        .await
        .map_err(|e| format!("control port {control_address}: {e}"))?;
    let control_address = control.local_addr().map_err(|e| e.to_string())?;

    server::start(&cluster, bound).await;
    tokio::spawn(control::serve(control, cluster.clone()));

    let line = cluster.announcement(&control_address.to_string(), ca.directory());
    println!("{line}");
    let _ = std::io::stdout().flush();
    if !options.quiet {
        for server in cluster.local_servers() {
            eprintln!("acme: {}", server.summary());
        }
        eprintln!("acme: control http://{control_address}/servers");
    }
    wait_for_end(options.exit_with_parent).await;
    Ok(())
}

/// Returns on TERM or INT, and with `with_parent` also when standard input ends.
async fn wait_for_end(with_parent: bool) {
    use tokio::signal::unix::{SignalKind, signal};
    let (closed, mut input_closed) = tokio::sync::mpsc::channel::<()>(1);
    if with_parent {
        // A thread of its own: a blocking read of standard input cannot be cancelled.
        std::thread::spawn(move || {
            let mut sink = [0_u8; 256];
            while matches!(std::io::stdin().read(&mut sink), Ok(n) if n > 0) {}
            drop(closed);
        });
    } else {
        std::mem::forget(closed);
    }
    let mut term = signal(SignalKind::terminate()).unwrap();
    let mut int = signal(SignalKind::interrupt()).unwrap();
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
        _ = input_closed.recv() => {}
    }
}
