//! Metrics of each server: its state, its index, and the results of requests and probes.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::exposition::Exposition;
use crate::domain::cluster::{Port, ServerState};
use crate::state::cluster_view::UpstreamServer;
use crate::state::{Balancer, Cluster, ClusterView};
use crate::util::clock;

struct Row<'a> {
    labels: [(&'static str, &'a str); 2],
    entry: &'a UpstreamServer,
}

/// Writes one metric after the other, each for every server.
pub fn render(out: &mut Exposition, balancer: &Balancer) {
    let snapshot = balancer.snapshot();
    let views: Vec<(&Cluster, Arc<ClusterView>)> =
        snapshot.clusters.iter().map(|cluster| (&**cluster, cluster.view.load_full())).collect();
    let rows: Vec<Row<'_>> = views
        .iter()
        .flat_map(|(cluster, view)| {
            view.entries.iter().map(move |entry| {
                let server = entry.config.name.abbreviated();
                let labels = [("cluster", cluster.settings.name.as_str()), ("server", server)];
                Row { labels, entry }
            })
        })
        .collect();
    render_availability(out, &rows);
    render_attempts(out, &rows);
    render_ports(out, &rows);
}

fn render_availability(out: &mut Exposition, rows: &[Row<'_>]) {
    out.gauge("icm_server_state", "1 for the current state of the server");
    for Row { labels: [cluster, server], entry } in rows {
        let now = entry.server.state();
        for state in ServerState::ALL {
            let name = state.as_str().to_ascii_lowercase().replace(' ', "_");
            out.sample(&[*cluster, *server, ("state", &name)], u8::from(state == now));
        }
    }
    out.gauge("icm_server_catching_up_seconds", "How long the server has been CATCHING UP; 0 = it is not");
    for Row { labels, entry } in rows {
        let since = entry.server.snapshot().catching_up_since_unix_ms;
        let seconds = since.map_or(0.0, |since| clock::unix_ms().saturating_sub(since) as f64 / 1e3);
        out.sample(labels, seconds);
    }
    out.gauge("icm_server_availability_index", "Availability index 0..100, published or observed");
    for Row { labels, entry } in rows {
        if let Some(index) = entry.server.index() {
            out.sample(labels, format_args!("{index:.1}"));
        }
    }
    out.gauge("icm_server_availability_threshold", "BUSY at or under this index; 0 = never");
    for Row { labels, entry } in rows {
        out.sample(labels, entry.server.read(|health| health.snapshot(clock::now_ms()).threshold));
    }
}

fn render_attempts(out: &mut Exposition, rows: &[Row<'_>]) {
    out.gauge("icm_server_requests_in_flight", "Requests of this balancer in flight on the server");
    for Row { labels, entry } in rows {
        out.sample(labels, entry.server.in_flight());
    }
    out.counter("icm_server_attempts_total", "Attempts by result");
    for Row { labels: [cluster, server], entry } in rows {
        let counters = &entry.server.counters;
        for (result, count) in [
            ("answered", counters.answered()),
            ("connect_failed", counters.connect_failures.load(Relaxed)),
            ("broken", counters.broken.load(Relaxed)),
            ("timed_out", counters.timeouts.load(Relaxed)),
            ("malformed", counters.malformed.load(Relaxed)),
        ] {
            out.sample(&[*cluster, *server, ("result", result)], count);
        }
    }
    out.counter("icm_server_failed_over_total", "Requests moved to another server after this one failed");
    for Row { labels, entry } in rows {
        out.sample(labels, entry.server.counters.failed_over.load(Relaxed));
    }
}

fn render_ports(out: &mut Exposition, rows: &[Row<'_>]) {
    let ports = || {
        rows.iter().flat_map(|row| {
            let all = [Port::Http, Port::Https].into_iter();
            let enabled = all.filter(|port| row.entry.host_port(*port).is_some());
            enabled.map(move |port| (row.labels, port, row.entry))
        })
    };
    out.gauge("icm_server_port_up", "1 while the port answers its probes");
    for ([cluster, server], port, entry) in ports() {
        out.sample(
            &[cluster, server, ("port", port.scheme())],
            u8::from(entry.server.snapshot().is_up(port)),
        );
    }
    out.counter("icm_probes_total", "Probes by result");
    for ([cluster, server], port, entry) in ports() {
        let [good, bad] = entry.server.counters.probes(port);
        for (result, count) in [("ok", good), ("failed", bad)] {
            out.sample(&[cluster, server, ("port", port.scheme()), ("result", result)], count);
        }
    }
}
