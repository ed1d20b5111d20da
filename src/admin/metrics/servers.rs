//! What is known of each server, and what became of the requests sent there.
//!
//! In: the members of all clusters. Out: families labelled with cluster and server.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::exposition::Exposition;
use crate::domain::cluster::{Member, Port, ServerState};
use crate::state::{Balancer, Cluster, View};
use crate::util::clock;

/// Writes one family after the other, each with every server.
pub fn render(out: &mut Exposition, balancer: &Balancer) {
    let snapshot = balancer.snapshot();
    let views: Vec<(&Cluster, Arc<View>)> =
        snapshot.clusters.iter().map(|cluster| (&**cluster, cluster.view.load_full())).collect();
    let all = || {
        views.iter().flat_map(|(cluster, view)| {
            view.entries.iter().map(move |entry| {
                let labels = [
                    ("cluster", cluster.settings.name.as_str()),
                    ("server", entry.server.name.abbreviated()),
                ];
                (labels, entry, &*entry.member)
            })
        })
    };
    out.gauge("icm_server_state", "1 for the state that the server is in");
    for ([cluster, server], _, member) in all() {
        let now = member.state();
        for state in ServerState::ALL {
            let word = state.word().to_ascii_lowercase();
            out.sample(&[cluster, server, ("state", &word)], u8::from(state == now));
        }
    }
    out.gauge("icm_server_availability_index", "Index 0..100, published or observed");
    for (labels, _, member) in all() {
        if let Some(index) = member.index() {
            out.sample(&labels, format_args!("{index:.1}"));
        }
    }
    out.gauge("icm_server_availability_threshold", "BUSY at or under this index; 0 = never");
    for (labels, _, member) in all() {
        out.sample(&labels, member.read(|ledger| ledger.standing(clock::now_ms()).threshold));
    }
    out.gauge("icm_server_requests_in_flight", "Requests of this balancer on the server");
    for (labels, _, member) in all() {
        out.sample(&labels, member.in_flight());
    }
    out.counter("icm_server_attempts_total", "Attempts by their result");
    for ([cluster, server], _, member) in all() {
        let counters = &member.counters;
        for (result, count) in [
            ("answered", &counters.answered),
            ("connect_failed", &counters.connect_failures),
            ("broken", &counters.broken),
            ("timed_out", &counters.timeouts),
            ("malformed", &counters.malformed),
        ] {
            out.sample(&[cluster, server, ("result", result)], count.load(Relaxed));
        }
    }
    out.counter(
        "icm_server_failed_over_total",
        "Requests that left the server for another after it had them",
    );
    for (labels, _, member) in all() {
        out.sample(&labels, member.counters.failed_over.load(Relaxed));
    }
    let ports = || {
        all().flat_map(|(labels, entry, member)| {
            let enabled =
                [Port::Http, Port::Https].into_iter().filter(move |port| entry.host_port(*port).is_some());
            enabled.map(move |port| (labels, port, member))
        })
    };
    out.gauge("icm_server_port_up", "1 when the port answers its probe");
    for ([cluster, server], port, member) in ports() {
        out.sample(&[cluster, server, ("port", word(port))], u8::from(answers(member, port)));
    }
    out.counter("icm_probes_total", "Probes by their result");
    for ([cluster, server], port, member) in ports() {
        let [good, bad] = member.counters.probes(port);
        for (result, count) in [("ok", good), ("failed", bad)] {
            out.sample(&[cluster, server, ("port", word(port)), ("result", result)], count);
        }
    }
}

fn word(port: Port) -> &'static str {
    match port {
        Port::Http => "http",
        Port::Https => "https",
    }
}

fn answers(member: &Member, port: Port) -> bool {
    let view = member.view();
    match port {
        Port::Http => view.http,
        Port::Https => view.https,
    }
}
