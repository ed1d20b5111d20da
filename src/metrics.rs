//! The numbers of the balancer as Prometheus text.
//!
//! In: counters and states. Out: the exposition format, made when it is asked for. Labels are clusters and
//! servers, never a URL or a database. The ICM's own statistics keep their names
//! (<https://help.hcl-software.com/domino/10.0.1/tune_internetclustermanagerstatistics_r.html>).

use std::fmt::Write as _;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;

use crate::balancer::Balancer;
use crate::clock;
use crate::cluster::ServerState;
use crate::config::settings::Servers;
use crate::edge::ClientStatistics;

/// All metrics.
#[must_use]
pub fn render(balancer: &Balancer) -> String {
    let mut out = String::with_capacity(8 * 1024);
    let s = &balancer.statistics;
    let icm = [
        ("icm_command_total", "ICM.Command.Total", &s.commands),
        ("icm_command_unknown_total", "ICM.Command.Unknown", &s.unknown),
        ("icm_command_redirects_successful_total", "ICM.Command.Redirects.Successful", &s.successful),
        ("icm_command_redirects_unsuccessful_total", "ICM.Command.Redirects.Unsuccessful", &s.unsuccessful),
        ("icm_command_redirects_clusterbusy_total", "ICM.Command.Redirects.ClusterBusy", &s.cluster_busy),
        ("icm_receive_error_total", "ICM.Receive.Error", &s.receive_errors),
        ("icm_failovers_total", "Requests sent to a second server", &s.failovers),
    ];
    for (name, help, value) in icm {
        family(&mut out, name, help, "counter");
        let _ = writeln!(out, "{name} {}", value.load(Relaxed));
    }
    family(&mut out, "icm_requests_in_flight", "Requests in progress", "gauge");
    let _ = writeln!(out, "icm_requests_in_flight {}", s.in_flight.load(Relaxed));
    family(&mut out, "icm_ready", "1 when /readyz is 200", "gauge");
    let _ = writeln!(out, "icm_ready {}", u8::from(balancer.is_ready()));
    {
        let reload = balancer.reload.lock().unwrap_or_else(PoisonError::into_inner);
        family(
            &mut out,
            "icm_config_reload_success",
            "1 when the last configuration offered is in force",
            "gauge",
        );
        let _ = writeln!(out, "icm_config_reload_success {}", u8::from(reload.success));
        family(&mut out, "icm_config_reload_timestamp_seconds", "When it was offered", "gauge");
        let _ = writeln!(out, "icm_config_reload_timestamp_seconds {}", reload.at_unix_ms / 1_000);
    }
    clients(&mut out, &s.clients);
    servers(&mut out, balancer);
    directories(&mut out, balancer);
    out
}

fn clients(out: &mut String, clients: &ClientStatistics) {
    family(out, "icm_client_connections", "Connections of clients that are open", "gauge");
    let _ = writeln!(out, "icm_client_connections {}", clients.open.load(Relaxed));
    family(out, "icm_client_refused_total", "Requests refused before they were parsed", "counter");
    for (status, count) in clients.refusals() {
        let _ = writeln!(out, "icm_client_refused_total{{status=\"{status}\"}} {count}");
    }
    let name = "icm_client_connections_closed_total";
    family(out, name, "Connections closed without an answer, by reason", "counter");
    let reasons = [
        ("limit", &clients.over_limit),
        ("client_limit", &clients.over_client_limit),
        ("handshake", &clients.handshakes_failed),
        ("slow", &clients.too_slow),
    ];
    for (reason, count) in reasons {
        let _ = writeln!(out, "{name}{{reason=\"{reason}\"}} {}", count.load(Relaxed));
    }
}

fn servers(out: &mut String, balancer: &Balancer) {
    let snapshot = balancer.snapshot();
    let members: Vec<(String, std::sync::Arc<crate::cluster::Member>)> = snapshot
        .clusters
        .iter()
        .flat_map(|cluster| {
            let view = cluster.view.load_full();
            let labels: Vec<_> = view
                .entries
                .iter()
                .map(|e| {
                    let cluster = escape(&cluster.settings.name);
                    let server = escape(e.server.name.abbreviated());
                    (format!("cluster=\"{cluster}\",server=\"{server}\""), std::sync::Arc::clone(&e.member))
                })
                .collect();
            labels
        })
        .collect();
    family(out, "icm_server_state", "1 for the state that the server is in", "gauge");
    for (labels, member) in &members {
        let now = member.state();
        for state in ServerState::ALL {
            let word = state.word().to_ascii_lowercase();
            let _ = writeln!(out, "icm_server_state{{{labels},state=\"{word}\"}} {}", u8::from(state == now));
        }
    }
    family(out, "icm_server_availability_index", "Index 0..100, published or observed", "gauge");
    for (labels, member) in &members {
        if let Some(index) = member.view().index {
            let _ = writeln!(out, "icm_server_availability_index{{{labels}}} {index:.1}");
        }
    }
    family(out, "icm_server_requests_in_flight", "Requests of this balancer on the server", "gauge");
    for (labels, member) in &members {
        let _ = writeln!(out, "icm_server_requests_in_flight{{{labels}}} {}", member.in_flight());
    }
    family(out, "icm_server_attempts_total", "Attempts by their result", "counter");
    for (labels, member) in &members {
        for (result, value) in member.counters.all() {
            let _ = writeln!(out, "icm_server_attempts_total{{{labels},result=\"{result}\"}} {value}");
        }
    }
}

fn directories(out: &mut String, balancer: &Balancer) {
    let snapshot = balancer.snapshot();
    let now = clock::unix_ms();
    let loaded: Vec<_> = snapshot
        .clusters
        .iter()
        .map(|c| {
            let trouble = !c.kept.directory_trouble.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
            (escape(&c.settings.name), c.view.load().directory.clone(), trouble)
        })
        .collect();
    family(out, "icm_directory_age_seconds", "Age of the directory in use", "gauge");
    for (cluster, directory, _) in &loaded {
        let age = now.saturating_sub(directory.at_unix_ms) / 1_000;
        let _ = writeln!(out, "icm_directory_age_seconds{{cluster=\"{cluster}\"}} {age}");
    }
    family(out, "icm_directory_readable", "0 while the directory cannot be read", "gauge");
    for (cluster, _, trouble) in &loaded {
        let _ = writeln!(out, "icm_directory_readable{{cluster=\"{cluster}\"}} {}", u8::from(!trouble));
    }
    family(out, "icm_members_readable", "0 while the Server documents cannot be read", "gauge");
    for cluster in &snapshot.clusters {
        if matches!(cluster.settings.servers, Servers::Names(_)) {
            let trouble = cluster.kept.members_trouble.lock().unwrap_or_else(PoisonError::into_inner);
            let name = escape(&cluster.settings.name);
            let _ =
                writeln!(out, "icm_members_readable{{cluster=\"{name}\"}} {}", u8::from(trouble.is_empty()));
        }
    }
    family(out, "icm_directory_databases", "Databases in the directory", "gauge");
    for (cluster, directory, _) in &loaded {
        let _ = writeln!(out, "icm_directory_databases{{cluster=\"{cluster}\"}} {}", directory.index.len());
    }
    family(out, "icm_directory_replicas", "Replicas in the directory", "gauge");
    for (cluster, directory, _) in &loaded {
        let _ = writeln!(
            out,
            "icm_directory_replicas{{cluster=\"{cluster}\"}} {}",
            directory.index.replica_count()
        );
    }
}

fn family(out: &mut String, name: &str, help: &str, kind: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
