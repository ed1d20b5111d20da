//! `icm show`: prints servers, databases, statistics and events of a running balancer as tables.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use serde_json::{Value, json};

use super::admin::{AdminClient, AdminTarget, WaitOutcome, percent_encode};
use super::output::{self, TextTable};
use super::{EXIT_PROBLEM, EXIT_USAGE};
use crate::util::{clock, control_chars};

const DEFAULT_DATABASE_LIMIT: usize = 50;
/// The limit of one `/databases` answer.
const MAX_DATABASES_PER_RESPONSE: usize = 200;
const FOLLOW_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Debug, Subcommand)]
pub enum ShowCommand {
    /// Show each server: state and reason, index/threshold, age of the index, requests in flight, share of answers.
    Cluster {
        #[command(flatten)]
        admin_target: AdminTarget,
    },
    /// Show databases: every replica with its path and mark, and the server that a new user would get.
    Databases {
        /// Part of a path, title or replica ID, in upper or lower case.
        text: Option<String>,
        /// Maximum number of databases; 0 = all.
        #[arg(long, value_name = "N", default_value_t = DEFAULT_DATABASE_LIMIT)]
        limit: usize,
        #[command(flatten)]
        admin_target: AdminTarget,
    },
    /// Show the ICM statistics under their Domino names.
    Stat {
        /// Only names that begin with this text, in upper or lower case: ICM.Command
        prefix: Option<String>,
        #[command(flatten)]
        admin_target: AdminTarget,
    },
    /// Show the last events, oldest first: changes of server states, directory readings, reloads.
    Events {
        /// Print new events as they happen, until Ctrl-C.
        #[arg(short, long)]
        follow: bool,
        #[command(flatten)]
        admin_target: AdminTarget,
    },
}

/// # Errors
/// If the running balancer does not answer.
pub fn run(what: &ShowCommand) -> anyhow::Result<ExitCode> {
    let (ShowCommand::Cluster { admin_target }
    | ShowCommand::Databases { admin_target, .. }
    | ShowCommand::Stat { admin_target, .. }
    | ShowCommand::Events { admin_target, .. }) = what;
    let Some(admin) = admin_target.connect()? else { return Ok(ExitCode::from(EXIT_USAGE)) };
    match what {
        ShowCommand::Cluster { .. } => cluster(&admin, admin_target.json),
        ShowCommand::Databases { text, limit, .. } => {
            databases(&admin, text.as_deref(), *limit, admin_target.json)
        }
        ShowCommand::Stat { prefix, .. } => stat(&admin, prefix.as_deref(), admin_target.json),
        ShowCommand::Events { follow, .. } => events(&admin, *follow, admin_target.json),
    }
}

fn text_of(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn number(value: &Value, key: &str) -> Option<f64> {
    value.get(key).and_then(Value::as_f64)
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn ago(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_u64).map_or_else(String::new, output::format_age)
}

fn cluster(admin: &AdminClient, json: bool) -> anyhow::Result<ExitCode> {
    let status: Value = match admin.get("/status")? {
        Ok(status) => status,
        Err(code) => return Ok(code),
    };
    if json {
        println!("{:#}", status.get("clusters").cloned().unwrap_or_default());
        return Ok(ExitCode::SUCCESS);
    }
    for (n, cluster) in list(&status, "clusters").iter().enumerate() {
        if n > 0 {
            println!();
        }
        println!("{}", text_of(cluster, "name"));
        print_directory(cluster);
        let site = cluster.get("site").cloned().unwrap_or_default();
        if site.get("crossing_since").is_some_and(Value::is_u64) {
            println!("new users go to another site: no server of site {} takes them", text_of(&site, "own"));
        }
        for text in list(cluster, "not_read") {
            println!("{}", text.as_str().unwrap_or_default());
        }
        for server in list(cluster, "servers") {
            let exposure = text_of(server, "exposure");
            if !exposure.is_empty() {
                println!("{}: {exposure}", text_of(server, "name"));
            }
        }
        println!();
        servers(list(cluster, "servers")).print();
    }
    Ok(ExitCode::SUCCESS)
}

/// What is known about the directory of a cluster; nothing for a pool.
fn print_directory(cluster: &Value) {
    if cluster.get("pool_of").is_some_and(Value::is_string) {
        return;
    }
    let directory = cluster.get("directory").cloned().unwrap_or_default();
    let count = |key: &str| directory.get(key).and_then(Value::as_u64).unwrap_or(0);
    println!(
        "directory: {} databases, {} replicas, from {}{}, {} old",
        count("databases"),
        count("replicas"),
        text_of(&directory, "from"),
        match text_of(&directory, "view") {
            view if view.is_empty() => String::new(),
            view => format!(" view {view}"),
        },
        ago(&directory, "age_ms"),
    );
    for (what, place) in [("directory", &directory), ("servers", cluster)] {
        let key = if what == "directory" { "trouble" } else { "members_trouble" };
        let error = text_of(place, key);
        if !error.is_empty() {
            println!("{what} cannot be read: {error}");
        }
    }
}

fn servers(servers: &[Value]) -> TextTable {
    let answered = |server: &Value| server.get("counters").and_then(|c| number(c, "answered")).unwrap_or(0.0);
    let all: f64 = servers.iter().map(answered).sum();
    // A column only where there are sites.
    let has_sites = servers.iter().any(|server| !text_of(server, "site").is_empty());
    let sites: &[&str] = if has_sites { &["site"] } else { &[] };
    let columns = ["server", "state", "for", ">index/thr", ">age", "source", ">in flight", ">share", "why"];
    let [server, rest @ ..] = columns;
    let mut table = TextTable::new(&[&[server], sites, &rest].concat());
    for server in servers {
        let threshold = number(server, "threshold").unwrap_or(0.0);
        let (index, age, source) = match (number(server, "index"), number(server, "observed_index")) {
            (Some(index), _) => (
                format!("{index:.0}/{threshold:.0}"),
                ago(server, "index_age_ms"),
                text_of(server, "index_source"),
            ),
            (None, Some(index)) => {
                (format!("{index:.0}/{threshold:.0}"), String::new(), "observed".to_owned())
            }
            (None, None) => (format!("-/{threshold:.0}"), String::new(), String::new()),
        };
        let share =
            if all > 0.0 { format!("{:.0} %", answered(server) * 100.0 / all) } else { "-".to_owned() };
        let mut why =
            list(server, "restrictions").iter().filter_map(Value::as_str).collect::<Vec<_>>().join("; ");
        if why.is_empty() || text_of(server, "state") != "RESTRICTED" {
            let cause = text_of(server, "cause");
            why = if why.is_empty() { cause } else { format!("{cause}; {why}") };
        }
        if server.get("restriction_stale").and_then(Value::as_bool).unwrap_or(false) {
            why.push_str(" (stale: its source no longer reports)");
        }
        if let Some(gate) = server.get("catching_up").filter(|gate| gate.is_object()) {
            let waits: Vec<&str> = list(gate, "waiting_for").iter().filter_map(Value::as_str).collect();
            why.push_str(&format!("; waits: {}", waits.join("; ")));
        }
        let mut row = vec![text_of(server, "name")];
        row.extend(has_sites.then(|| text_of(server, "site")));
        row.extend([
            text_of(server, "state"),
            ago(server, "since_ms"),
            index,
            age,
            source,
            format!("{:.0}", number(server, "in_flight").unwrap_or(0.0)),
            share,
            why,
        ]);
        table.row(row);
    }
    table
}

fn databases(admin: &AdminClient, text: Option<&str>, limit: usize, json: bool) -> anyhow::Result<ExitCode> {
    let limit = if limit == 0 { usize::MAX } else { limit };
    let search = percent_encode(text.unwrap_or_default());
    let (mut found, mut total, mut next) = (Vec::new(), 0, Some(0));
    // One answer covers only a part of the databases; `next` says where the next one begins.
    while let (Some(from), remaining @ 1..) = (next, limit.saturating_sub(found.len())) {
        let target =
            format!("/databases?q={search}&limit={}&from={from}", remaining.min(MAX_DATABASES_PER_RESPONSE));
        let mut body: Value = match admin.get(&target)? {
            Ok(body) => body,
            Err(code) => return Ok(code),
        };
        total = body.get("total").and_then(Value::as_u64).unwrap_or(0);
        next = body.get("next").and_then(Value::as_u64);
        if let Some(Value::Array(databases)) = body.get_mut("databases").map(Value::take) {
            found.extend(databases);
        }
    }
    let more = next.is_some();
    let nothing = found.is_empty();
    if json {
        println!("{:#}", json!({ "databases": found, "total": total, "more": more }));
    } else {
        found.iter().for_each(print_database);
        let shown = found.len();
        if more {
            println!(
                "{shown} of {total} databases shown: use --limit 0 for all, or give a text to search for"
            );
        } else {
            println!("{shown} of {total} databases");
        }
    }
    Ok(if nothing { ExitCode::from(EXIT_PROBLEM) } else { ExitCode::SUCCESS })
}

fn print_database(database: &Value) {
    let title = text_of(database, "title");
    let title = if title.is_empty() { title } else { format!("  \"{}\"", control_chars::escape_all(&title)) };
    println!("{}  {}{title}", text_of(database, "path"), text_of(database, "replica_id"));
    let replicas = list(database, "replicas");
    let width = |key: &str| replicas.iter().map(|r| text_of(r, key).chars().count()).max().unwrap_or(0);
    let (servers, paths) = (width("server"), width("path"));
    let served_by: Vec<&str> = list(database, "served_by").iter().filter_map(Value::as_str).collect();
    for replica in replicas {
        let (server, path, mark) =
            (text_of(replica, "server"), text_of(replica, "path"), text_of(replica, "mark"));
        let serves = if served_by.contains(&server.as_str()) { "*" } else { " " };
        let mark = if mark == "in_service" { "" } else { mark.as_str() };
        let state = replica.get("state").and_then(Value::as_str).unwrap_or("unknown server");
        let since = replica.get("behind_since").and_then(Value::as_u64);
        let behind = since.map(|at| format!("behind since {}", clock::local_minute(at))).unwrap_or_default();
        let gap = if mark.is_empty() || behind.is_empty() { "" } else { ", " };
        let text = format!("  {serves} {server:servers$}  {state:<11}  {path:paths$}  {mark}{gap}{behind}");
        output::print_line(text.trim_end());
    }
    match text_of(database, "outcome").as_str() {
        "serve" => println!("    served by {}", served_by.join(" or ")),
        problem => println!("    no server would take a new user: {problem}"),
    }
}

fn stat(admin: &AdminClient, prefix: Option<&str>, json: bool) -> anyhow::Result<ExitCode> {
    let all: BTreeMap<String, Value> = match admin.get("/statistics")? {
        Ok(all) => all,
        Err(code) => return Ok(code),
    };
    let prefix = prefix.unwrap_or_default().to_ascii_lowercase();
    let wanted: BTreeMap<&String, &Value> =
        all.iter().filter(|(name, _)| name.to_ascii_lowercase().starts_with(&prefix)).collect();
    if json {
        println!("{:#}", serde_json::to_value(&wanted)?);
    } else {
        // The format of `show stat` on a Domino console.
        for (name, value) in &wanted {
            match value {
                Value::String(text) => println!("  {name} = {text}"),
                value => println!("  {name} = {value}"),
            }
        }
        println!("  {} statistics found", wanted.len());
    }
    Ok(if wanted.is_empty() { ExitCode::from(EXIT_PROBLEM) } else { ExitCode::SUCCESS })
}

fn events(admin: &AdminClient, follow: bool, json: bool) -> anyhow::Result<ExitCode> {
    let mut last = 0;
    loop {
        let body: Value = match admin.get(&format!("/events?after={last}"))? {
            Ok(body) => body,
            Err(code) => return Ok(code),
        };
        last = body.get("last").and_then(Value::as_u64).unwrap_or(0);
        for event in list(&body, "events") {
            if json {
                println!("{event}");
            } else {
                output::print_line(&event_line(event));
            }
        }
        if !follow
            || output::stdout_is_closed()
            || admin.sleep_or_interrupt(FOLLOW_INTERVAL)? == WaitOutcome::Interrupted
        {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

fn event_line(event: &Value) -> String {
    let at = output::local_time(event.get("at").and_then(Value::as_u64).unwrap_or(0));
    let place: Vec<String> =
        ["cluster", "server"].iter().map(|key| text_of(event, key)).filter(|text| !text.is_empty()).collect();
    let place = if place.is_empty() { text_of(event, "kind") } else { place.join(" ") };
    let change = match (text_of(event, "old"), text_of(event, "new")) {
        (old, new) if !new.is_empty() => format!("{old} -> {new} after {}: ", ago(event, "held_ms")),
        _ => String::new(),
    };
    format!("{at}  {place}  {change}{}", text_of(event, "cause"))
}
