//! The ICM statistics under their Domino names, for `show stat` and `/metrics`. Bytes are those of bodies; outbound sessions
//! are connections that carry a request, because the pool does not report idle ones.

use std::collections::BTreeSet;
use std::fmt;

use crate::state::Balancer;
use crate::telemetry::statistics::{RateWindow, accept_queue as queue};
use crate::util::clock;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    Counter,
    Gauge,
}

/// A number, or a text that `/metrics` cannot carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatisticValue {
    Number(u64),
    /// `Web1/Acme 87, Web2/Acme 34`
    Text(String),
}

impl fmt::Display for StatisticValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statistic {
    /// The name in Domino's `show stat ICM`.
    pub domino: &'static str,
    /// The name in `/metrics`; empty for a text.
    pub metric: &'static str,
    pub kind: MetricKind,
    pub value: StatisticValue,
}

/// All statistics in alphabetical order, as in Domino.
#[must_use]
pub fn statistics(balancer: &Balancer) -> Vec<Statistic> {
    use MetricKind::{Counter, Gauge};
    let s = &balancer.statistics;
    let now = clock::now_ms();
    let commands = s.sum(|c| &c.commands);
    let rate = |window| s.rates.count_within(window, now, commands);
    let (inbound, outbound) = (&s.inbound, &s.outbound);
    #[rustfmt::skip]
    let numbers = [
        ("ICM.Command.Redirects.ClusterBusy", "icm_command_redirects_clusterbusy_total", Counter, s.sum(|c| &c.cluster_busy)),
        ("ICM.Command.Redirects.Successful", "icm_command_redirects_successful_total", Counter, s.sum(|c| &c.successful)),
        ("ICM.Command.Redirects.Unsuccessful", "icm_command_redirects_unsuccessful_total", Counter, s.sum(|c| &c.unsuccessful)),
        ("ICM.Command.Total", "icm_command_total", Counter, commands),
        ("ICM.Command.Unknown", "icm_command_unknown_total", Counter, s.sum(|c| &c.unknown)),
        ("ICM.Receive.Error", "icm_receive_error_total", Counter, s.sum(|c| &c.receive_errors)),
        ("ICM.Requests.Per1Hour.Total", "icm_requests_per1hour", Gauge, rate(RateWindow::Hour)),
        ("ICM.Requests.Per1Minute.Total", "icm_requests_per1minute", Gauge, rate(RateWindow::Minute)),
        ("ICM.Requests.Per5Minutes.Total", "icm_requests_per5minutes", Gauge, rate(RateWindow::FiveMinutes)),
        ("ICM.Server.Running", "icm_server_running", Gauge, u64::from(!balancer.is_draining())),
        ("ICM.Sessions.Inbound.Accept.Queue", "icm_sessions_inbound_accept_queue", Gauge, accept_queue_length(balancer)),
        ("ICM.Sessions.Inbound.Active", "icm_sessions_inbound_active", Gauge, inbound.active(false)),
        ("ICM.Sessions.Inbound.Active.SSL", "icm_sessions_inbound_active_ssl", Gauge, inbound.active(true)),
        ("ICM.Sessions.Inbound.BytesReceived", "icm_sessions_inbound_received_bytes_total", Counter, s.sum(|c| &c.client_received)),
        ("ICM.Sessions.Inbound.BytesSent", "icm_sessions_inbound_sent_bytes_total", Counter, s.sum(|c| &c.client_sent)),
        ("ICM.Sessions.Inbound.Peak", "icm_sessions_inbound_peak", Gauge, inbound.peak(false)),
        ("ICM.Sessions.Inbound.SSL", "icm_sessions_inbound_peak_ssl", Gauge, inbound.peak(true)),
        ("ICM.Sessions.Inbound.Total", "icm_sessions_inbound_total", Counter, inbound.total(false)),
        ("ICM.Sessions.Inbound.Total.SSL", "icm_sessions_inbound_ssl_total", Counter, inbound.total(true)),
        ("ICM.Sessions.Outbound.Active", "icm_sessions_outbound_active", Gauge, outbound.active(false)),
        ("ICM.Sessions.Outbound.Active.SSL", "icm_sessions_outbound_active_ssl", Gauge, outbound.active(true)),
        ("ICM.Sessions.Outbound.BytesReceived", "icm_sessions_outbound_received_bytes_total", Counter, s.sum(|c| &c.server_received)),
        ("ICM.Sessions.Outbound.BytesSent", "icm_sessions_outbound_sent_bytes_total", Counter, s.sum(|c| &c.server_sent)),
        ("ICM.Sessions.Outbound.Peak", "icm_sessions_outbound_peak", Gauge, outbound.peak(false)),
        ("ICM.Sessions.Outbound.SSL", "icm_sessions_outbound_peak_ssl", Gauge, outbound.peak(true)),
        ("ICM.Sessions.Outbound.Total", "icm_sessions_outbound_total", Counter, outbound.total(false)),
        ("ICM.Sessions.Outbound.Total.SSL", "icm_sessions_outbound_ssl_total", Counter, outbound.total(true)),
    ];
    let text = Statistic {
        domino: "ICM.AvailabilityIndex",
        metric: "",
        kind: Gauge,
        value: StatisticValue::Text(availability_text(balancer)),
    };
    let numbers = numbers.into_iter().map(|(domino, metric, kind, value)| Statistic {
        domino,
        metric,
        kind,
        value: StatisticValue::Number(value),
    });
    std::iter::once(text).chain(numbers).collect()
}

/// The servers with their index, in the format of the ICM.
fn availability_text(balancer: &Balancer) -> String {
    let mut parts = Vec::new();
    for cluster in &balancer.snapshot().clusters {
        for entry in &cluster.view.load().entries {
            let index = entry.server.index().map_or_else(|| "-".to_owned(), |i| format!("{i:.0}"));
            parts.push(format!("{} {index}", entry.config.name.abbreviated()));
        }
    }
    parts.join(", ")
}

fn accept_queue_length(balancer: &Balancer) -> u64 {
    let snapshot = balancer.snapshot();
    let ports: BTreeSet<u16> =
        snapshot.settings.listeners.iter().map(|listener| listener.address.port()).collect();
    let queues = queue::accept_queue_lengths().unwrap_or_default();
    ports.iter().filter_map(|port| queues.get(port)).sum()
}
