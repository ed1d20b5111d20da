//! Prometheus metrics. Labels are clusters, servers and fixed words, never a URL or a database. docs/monitoring.md explains
//! each metric; the statistics of the ICM keep their names
//! (<https://help.hcl-software.com/domino/10.0.1/tune_internetclustermanagerstatistics_r.html>).

mod clusters;
pub mod domino;
mod exposition;
mod process;
mod servers;

use std::sync::atomic::Ordering::Relaxed;

use crate::domain::compression::ContentCoding;
use crate::state::Balancer;
use crate::state::followed::FollowedConfig;
use crate::telemetry::statistics::{CacheResult, ClientStatistics, Statistics};
use crate::util::clock;
use domino::{MetricKind, StatisticValue};
use exposition::Exposition;

#[must_use]
pub fn render(balancer: &Balancer) -> String {
    let mut out = Exposition::default();
    out.gauge("icm_build_info", "1, with the version as a label");
    out.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    for statistic in domino::statistics(balancer) {
        let StatisticValue::Number(value) = statistic.value else { continue };
        match statistic.kind {
            MetricKind::Counter => out.counter(statistic.metric, statistic.domino),
            MetricKind::Gauge => out.gauge(statistic.metric, statistic.domino),
        }
        out.sample(&[], value);
    }
    let statistics = &balancer.statistics;
    out.gauge("icm_requests_in_flight", "Requests in progress");
    out.sample(&[], statistics.in_flight.load(Relaxed));
    out.counter(
        "icm_fast_path_requests_total",
        "Requests that took the fast path; the others took Pingora's loop",
    );
    out.sample(&[], statistics.sum(|counters| &counters.fast_path));
    out.gauge("icm_upstream_idle_connections", "Idle connections to servers in the pool of the fast path");
    out.sample(&[], statistics.idle_upstream.load(Relaxed));
    out.gauge("icm_ready", "1 while /readyz answers 200");
    out.sample(&[], u8::from(balancer.is_ready()));
    compression(&mut out, statistics);
    cache(&mut out, balancer);
    clients(&mut out, &statistics.client_statistics);
    reload(&mut out, balancer);
    followed(&mut out, balancer);
    rehearsal(&mut out, balancer);
    certificates(&mut out, statistics);
    acme(&mut out, balancer);
    access_log(&mut out, statistics);
    clusters::render(&mut out, balancer);
    servers::render(&mut out, balancer);
    process::render(&mut out);
    out.finish()
}

fn cache(out: &mut Exposition, balancer: &Balancer) {
    out.counter("icm_cache_requests_total", "Requests for paths of `cache`, by what the cache did");
    for result in CacheResult::ALL {
        let count = balancer.statistics.sum(|counters| counters.cache.of(result));
        out.sample(&[("result", result.as_str())], count);
    }
    let totals = balancer.response_cache.totals();
    out.gauge("icm_cache_objects", "Responses in the cache");
    out.sample(&[], totals.objects);
    out.gauge("icm_cache_bytes", "Memory that they take");
    out.sample(&[], totals.bytes);
    out.gauge("icm_cache_max_bytes", "Memory that they may take, 0 without a cache");
    out.sample(&[], totals.limit);
    out.counter("icm_cache_evictions_total", "Responses that made room for others");
    out.sample(&[], totals.evictions);
}

fn compression(out: &mut Exposition, statistics: &Statistics) {
    out.counter("icm_compressed_responses_total", "Responses that were compressed for the client");
    for coding in ContentCoding::ALL {
        let count = statistics.sum(|counters| &counters.compression.of(coding).responses);
        out.sample(&[("algorithm", coding.name())], count);
    }
    out.counter(
        "icm_compression_bytes_total",
        "Bytes of their bodies before (in) and after (out) compression",
    );
    for coding in ContentCoding::ALL {
        let bytes_in = statistics.sum(|counters| &counters.compression.of(coding).bytes_in);
        let bytes_out = statistics.sum(|counters| &counters.compression.of(coding).bytes_out);
        for (direction, bytes) in [("in", bytes_in), ("out", bytes_out)] {
            out.sample(&[("algorithm", coding.name()), ("direction", direction)], bytes);
        }
    }
}

fn clients(out: &mut Exposition, clients: &ClientStatistics) {
    out.counter("icm_client_refused_total", "Requests refused before they were parsed");
    for (status, count) in clients.refused_by_status() {
        out.sample(&[("status", &status.to_string())], count);
    }
    out.counter("icm_client_connections_closed_total", "Connections closed without an answer, by reason");
    for (reason, count) in [
        ("limit", &clients.over_limit),
        ("client_limit", &clients.over_client_limit),
        ("handshake", &clients.handshakes_failed),
        ("proxy_header", &clients.proxy_headers_failed),
        ("slow", &clients.too_slow),
    ] {
        out.sample(&[("reason", reason)], count.load(Relaxed));
    }
    out.counter("icm_client_limited_total", "Requests answered with 429, by the limit of limits.per_client");
    for (limit, count) in
        [("requests_per_second", &clients.over_rate), ("requests_in_flight", &clients.over_in_flight)]
    {
        out.sample(&[("limit", limit)], count.load(Relaxed));
    }
    out.counter(
        "icm_login_limited_total",
        "Attempts to log in answered with 429, by what limits.logins counts",
    );
    for (by, count) in [("address", &clients.logins_over_address), ("user", &clients.logins_over_user)] {
        out.sample(&[("by", by)], count.load(Relaxed));
    }
}

fn reload(out: &mut Exposition, balancer: &Balancer) {
    let reload = balancer.reload.lock();
    out.gauge("icm_config_reload_success", "1 if the last configuration was applied");
    out.sample(&[], u8::from(reload.success));
    out.gauge("icm_config_reload_timestamp_seconds", "Time of the last attempt to load the configuration");
    out.sample(&[], reload.at_unix_ms / 1_000);
    out.gauge("icm_config_reload_seconds", "Duration of the last reload, 0 before the first one");
    out.sample(&[], reload.duration_ms as f64 / 1e3);
    out.gauge("icm_config_restart_required", "Changed keys that need a restart");
    out.sample(&[], reload.restart_required.len());
}

/// An ICM with its own clusters has no samples of these metrics.
fn followed(out: &mut Exposition, balancer: &Balancer) {
    let followed = balancer.followed.lock();
    let mut gauge = |name, help, value: fn(&FollowedConfig) -> u64| {
        out.gauge(name, help);
        if let Some(followed) = &*followed {
            out.sample(&[], value(followed));
        }
    };
    gauge(
        "icm_config_follow_success",
        "1 while the followed ICM answers with a valid configuration",
        |followed| u64::from(followed.trouble.is_empty()),
    );
    gauge(
        "icm_config_follow_age_seconds",
        "Time since the followed ICM confirmed the configuration in use",
        |followed| clock::unix_ms().saturating_sub(followed.confirmed_unix_ms) / 1_000,
    );
    gauge(
        "icm_config_follow_changed_timestamp_seconds",
        "Time of the last change of the followed configuration",
        |followed| followed.changed_unix_ms / 1_000,
    );
}

fn rehearsal(out: &mut Exposition, balancer: &Balancer) {
    out.gauge("icm_rehearsal_running", "1 while a rehearsed failover is under way");
    out.sample(&[], u8::from(balancer.rehearsals.running().is_some()));
    out.counter("icm_rehearsal_ended_total", "Rehearsed failovers that have ended, by why");
    for (end, count) in balancer.rehearsals.ended() {
        out.sample(&[("reason", end.as_str())], count);
    }
}

fn certificates(out: &mut Exposition, statistics: &Statistics) {
    let certificates = statistics.certificates.lock();
    out.gauge("icm_tls_certificate_expiry_timestamp_seconds", "Expiry of the certificate of a listener");
    for one in certificates.iter() {
        out.sample(&[("listener", &one.listener), ("file", &one.file)], one.expires_unix_secs);
    }
}

fn acme(out: &mut Exposition, balancer: &Balancer) {
    out.counter("icm_acme_renewals_total", "Certificates from ACME or from the followed ICM, and failures");
    for (result, count) in [("success", &balancer.acme.succeeded), ("failure", &balancer.acme.failed)] {
        out.sample(&[("result", result)], count.load(Relaxed));
    }
}

fn access_log(out: &mut Exposition, statistics: &Statistics) {
    let log = &statistics.access_log;
    out.counter("icm_access_log_lines_total", "Lines passed to the writer of the access log");
    out.sample(&[], log.lines.load(Relaxed));
    out.counter("icm_access_log_dropped_total", "Lines dropped because the writer could not keep up");
    out.sample(&[], log.dropped.load(Relaxed));
    out.counter("icm_access_log_errors_total", "Failures to write or open the access log");
    out.sample(&[], log.errors.load(Relaxed));
}
