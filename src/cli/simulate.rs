//! `icm simulate`: prints which databases would be left without a server, and where the load would go, if some servers
//! were down, RESTRICTED, BUSY or CATCHING UP.

use std::process::ExitCode;

use super::admin::{AdminTarget, percent_encode};
use super::output::{self, TextTable};
use super::{EXIT_PROBLEM, EXIT_USAGE, offline_state};
use crate::admin::queries::DEFAULT_EXAMPLES;
use crate::insight::simulate::{
    AffectedDatabases, ClusterSimulation, SimulatedChanges, Simulation, simulate,
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Shares are percentages of new users, computed with the same selection as for real traffic. Databases are \
weighted by the answers of their servers so far; with fewer than 100 answers, and offline, all have the same weight. \
Users on a RESTRICTED server stay there until affinity.drain_timeout; users of a server that is down are moved at once.

Exit codes:
  0   every database keeps a server
  1   no answer from the balancer
  2   a database would be left without a server, or there is no such server
  64  wrong arguments or configuration

Examples:
  icm simulate --down Web1/Acme -c /etc/icm/icm.yaml
  icm simulate --down Web1,Web2 --busy Web3 --offline -c /etc/icm/icm.yaml --json"
)]
pub struct SimulateArgs {
    /// Servers that are assumed UNREACHABLE: Web1/Acme,Web2/Acme
    #[arg(long, value_name = "SERVERS", value_delimiter = ',')]
    down: Vec<String>,
    /// Servers that are assumed RESTRICTED.
    #[arg(long, value_name = "SERVERS", value_delimiter = ',')]
    restricted: Vec<String>,
    /// Servers that are assumed BUSY.
    #[arg(long, value_name = "SERVERS", value_delimiter = ',')]
    busy: Vec<String>,
    /// Servers that are assumed CATCHING UP after an outage.
    #[arg(long, value_name = "SERVERS", value_delimiter = ',')]
    catching_up: Vec<String>,
    #[command(flatten)]
    admin_target: AdminTarget,
    /// Use only the configuration and the cached directory; assume that every server answers now.
    #[arg(long, requires = "conf")]
    offline: bool,
    /// Number of databases in each list.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_EXAMPLES)]
    limit: usize,
    /// Print all databases in each list.
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

/// # Errors
/// If the running balancer does not answer.
pub fn run(arguments: &SimulateArgs) -> anyhow::Result<ExitCode> {
    let limit = if arguments.all { usize::MAX } else { arguments.limit };
    let simulation: Simulation = if arguments.offline {
        let Some(balancer) = offline_state(&arguments.admin_target)? else {
            return Ok(ExitCode::from(EXIT_USAGE));
        };
        let changes = SimulatedChanges {
            down: arguments.down.clone(),
            restricted: arguments.restricted.clone(),
            busy: arguments.busy.clone(),
            catching_up: arguments.catching_up.clone(),
        };
        simulate(&balancer.snapshot(), &changes, limit)
    } else {
        let Some(admin) = arguments.admin_target.connect()? else { return Ok(ExitCode::from(EXIT_USAGE)) };
        let names = |list: &[String]| percent_encode(&list.join(","));
        let target = format!(
            "/simulate?down={}&restricted={}&busy={}&catching_up={}&limit={limit}",
            names(&arguments.down),
            names(&arguments.restricted),
            names(&arguments.busy),
            names(&arguments.catching_up)
        );
        match admin.get(&target)? {
            Ok(simulation) => simulation,
            Err(code) => return Ok(code),
        }
    };
    if !simulation.unknown.is_empty() {
        eprintln!("icm: no cluster has a server {}", simulation.unknown.join(", "));
        return Ok(ExitCode::from(EXIT_PROBLEM));
    }
    if arguments.admin_target.json {
        println!("{:#}", serde_json::to_value(&simulation)?);
    } else {
        for (n, cluster) in simulation.clusters.iter().enumerate() {
            if n > 0 {
                println!();
            }
            print_cluster(cluster);
        }
    }
    Ok(if simulation.loses_databases() { ExitCode::from(EXIT_PROBLEM) } else { ExitCode::SUCCESS })
}

fn print_cluster(cluster: &ClusterSimulation) {
    let weighting = match cluster.weighted_by.as_str() {
        "requests" => "weighted by the answers of their servers so far",
        _ => "all with the same weight",
    };
    println!("{}: {} databases, {weighting}", cluster.name, cluster.databases);
    let mut table = TextTable::new(&["server", "now", "then", ">share now", ">share then"]);
    let percent = |share: f64| format!("{share:.1} %");
    for server in &cluster.servers {
        table.row(vec![
            server.server.clone(),
            server.now.clone(),
            server.then.clone(),
            percent(server.share_now),
            percent(server.share_then),
        ]);
    }
    if cluster.unserved_now > 0.0 || cluster.unserved_then > 0.0 {
        let no_server = ["no server", "", ""].map(str::to_owned).into_iter();
        table.row(no_server.chain([percent(cluster.unserved_now), percent(cluster.unserved_then)]).collect());
    }
    table.print();
    print_databases("would be left without a server", &cluster.lost);
    print_databases("would be served only by another site", &cluster.other_site);
    print_databases("would be served only by servers or replicas that are set aside", &cluster.set_aside);
    print_databases("are not served by any server even now", &cluster.lost_already);
    if cluster.lost.count == 0 {
        output::print_line("every database that is served now would still be served");
    }
}

fn print_databases(what: &str, databases: &AffectedDatabases) {
    if databases.count == 0 {
        return;
    }
    println!("{} databases {what}", databases.count);
    for example in &databases.examples {
        println!("  {example}");
    }
    let more = databases.count - databases.examples.len().min(databases.count);
    if more > 0 {
        println!("  and {more} more, use --all to print them");
    }
}
