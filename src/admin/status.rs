//! `/status`: the state of servers, directories, reloads and events as JSON. Its size depends on the number of servers, not
//! on the number of databases.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use serde_json::{Value, json};

use super::AdminRequest;
use super::authorization::TokenStatus;
use super::reply::AdminReply;
use crate::config::settings::{Directory, HostPattern, Mode, Servers, UpstreamScheme};
use crate::domain::cluster::catch_up::ReporterStatus;
use crate::domain::cluster::{Port, ServerState, SiteName};
use crate::domain::select::CrossSites;
use crate::state::catch_up::{self, CatchUpStatus};
use crate::state::cluster_view::UpstreamServer;
use crate::state::followed::FollowedConfig;
use crate::state::{Balancer, Cluster};
use crate::util::clock::{self, saturating_millis};

/// As many events as the balancer stores.
const MAX_EVENTS: usize = 200;

/// Answers `GET /status` and `GET /status?events=N`.
#[must_use]
pub fn handle(request: &AdminRequest) -> AdminReply {
    let events = match request.query_number("events", MAX_EVENTS, 0..=MAX_EVENTS) {
        Ok(events) => events,
        Err(error_reply) => return error_reply,
    };
    let mut status = status(&request.balancer, events);
    if let Some(object) = status.as_object_mut() {
        let token_status = TokenStatus::of_request(request);
        let may_modify = match token_status {
            TokenStatus::NotConfigured => request.snapshot.settings.admin.address.ip().is_loopback(),
            token_status => token_status != TokenStatus::Invalid,
        };
        object.insert("started_at".to_owned(), json!(request.started_unix_ms));
        object.insert(
            "you".to_owned(),
            json!({
                "may_act": may_modify,
                "token_set": token_status != TokenStatus::NotConfigured,
                "logged_in": token_status == TokenStatus::Cookie,
            }),
        );
    }
    AdminReply::json(&status)
}

/// The status of the balancer without the part that depends on the request.
#[must_use]
pub fn status(balancer: &Balancer, max_events: usize) -> Value {
    let snapshot = balancer.snapshot();
    let clusters: Vec<Value> = snapshot.clusters.iter().map(|c| cluster(c)).collect();
    let reload = balancer.reload.lock().clone();
    let mut events = balancer.events.newest_first();
    events.truncate(max_events);
    let count = &balancer.statistics;
    let followed = balancer.followed.lock();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "now": clock::unix_ms(),
        "ready": balancer.is_ready(),
        "draining": balancer.is_draining(),
        "configuration": {
            "file": snapshot.settings.file.display().to_string(),
            "follows": followed.as_ref().map(FollowedConfig::to_json),
        },
        "requests": {
            "total": count.sum(|c| &c.commands),
            "served": count.sum(|c| &c.successful),
            "no_server": count.sum(|c| &c.unsuccessful),
            "cluster_busy": count.sum(|c| &c.cluster_busy),
            "failovers": count.sum(|c| &c.failovers),
            "in_flight": count.in_flight.load(Relaxed),
        },
        "acme": acme(balancer),
        "restrictions_kept": snapshot.settings.state_dir.is_some(),
        "clusters": clusters,
        "rehearsal": balancer.rehearsals.last().map(|rehearsal| rehearsal.report()),
        "upgrade": balancer.upgrade.status(),
        "reload": {
            "success": reload.success,
            "at": reload.at_unix_ms,
            "error": reload.error,
            "restart_required": reload.restart_required,
        },
        "events": events,
    })
}

/// The hosts with certificates from ACME, without keys.
fn acme(balancer: &Balancer) -> Value {
    let snapshot = balancer.snapshot();
    let leader = balancer.acme.leader();
    let now = clock::unix_secs();
    let milliseconds = |seconds: u64| seconds.saturating_mul(1_000);
    let hosts = snapshot.settings.acme_hosts().into_iter().map(|(host, settings)| {
        let certificate = balancer.acme.certificate(host);
        let record = balancer.acme.record(host);
        let from = leader.as_ref().map_or_else(|| settings.directory.clone(), |leader| leader.origin());
        let error = leader.as_ref().map_or(record.error, |_| balancer.acme.leader_error.lock().clone());
        json!({
            "host": host,
            "from": from,
            "expires_at": certificate.as_ref().map(|one| milliseconds(one.validity.not_after)),
            "next_order_at": leader.is_none().then(|| milliseconds(balancer.acme.next_order(host, &settings.directory, now))),
            "failures": record.failures,
            "error": error,
            "challenge": record.challenge,
        })
    });
    hosts.collect()
}

fn cluster(cluster: &Cluster) -> Value {
    let settings = &cluster.settings;
    let view = cluster.view.load();
    let answered = |entry: &UpstreamServer| entry.server.counters.answered();
    let total_answered: u64 = view.entries.iter().map(answered).sum();
    let servers: Vec<Value> =
        view.entries.iter().map(|entry| server(cluster, entry, total_answered)).collect();
    let directory = &view.directory;
    let (source, refresh) = match &settings.directory {
        Directory::Static(_) => ("static", None),
        Directory::File { .. } => ("file", None),
        Directory::Cldbdir(view) => ("cldbdir", Some(saturating_millis(view.refresh))),
    };
    let hostnames: Vec<String> = settings
        .hostnames
        .iter()
        .map(|pattern| match pattern {
            HostPattern::Exact(name) => name.clone(),
            HostPattern::Wildcard(suffix) => format!("*{suffix}"),
        })
        .collect();
    let facts = crate::config::facts(settings);
    let unreported: Vec<(String, &str)> =
        facts.iter().filter_map(|fact| Some((fact.unread()?, fact.hint))).collect();
    let hints: Vec<Value> =
        unreported.iter().map(|(what, hint)| json!({ "what": what, "hint": hint })).collect();
    json!({
        "name": settings.name,
        "pool_of": settings.pool_of,
        "hostnames": hostnames,
        "mode": match settings.mode { Mode::Proxy => "proxy", Mode::Redirect => "redirect" },
        "upstream_scheme": match settings.upstream_scheme {
            UpstreamScheme::Http => "http",
            UpstreamScheme::Https => "https",
            UpstreamScheme::Same => "same",
        },
        "site": site(cluster),
        "drain_timeout_ms": saturating_millis(settings.affinity.drain_timeout),
        "routes": routes(cluster),
        "servers": servers,
        "directory": {
            "from": directory.origin.to_string(),
            "source": source,
            "view": directory.view(),
            "loaded": directory.is_loaded(),
            "at": directory.at_unix_ms,
            "age_ms": clock::unix_ms().saturating_sub(directory.at_unix_ms),
            "refresh_ms": refresh,
            "databases": directory.index.len(),
            "replicas": directory.index.replica_count(),
            "duplicates": directory.duplicates,
            "warnings": directory.warnings,
            "trouble": *cluster.persistent_state.directory_error.lock(),
            "unknown_servers": view.unknown_servers().iter().map(|n| n.to_string()).collect::<Vec<_>>(),
        },
        "members_from": match &settings.servers { Servers::Static(_) => "static", Servers::Names(_) => "names" },
        "members_trouble": *cluster.persistent_state.server_list_error.lock(),
        "members_warnings": *cluster.persistent_state.server_list_warnings.lock(),
        "facts": facts,
        "evidence": evidence(cluster),
        "freshness": freshness(cluster),
        "not_read": unreported.iter().map(|(what, _)| what).collect::<Vec<_>>(),
        "hints": hints,
    })
}

/// In their order, with how many requests took each.
fn routes(cluster: &Cluster) -> Vec<Value> {
    let routes = cluster.settings.routes.iter().zip(&cluster.route_requests);
    routes
        .map(|(route, requests)| {
            json!({ "name": route.name, "action": route.action.as_str(), "requests": requests.total() })
        })
        .collect()
}

fn server(cluster: &Cluster, entry: &UpstreamServer, total_answered: u64) -> Value {
    let now = clock::now_ms();
    let server = &entry.server;
    let catching_up = catch_up::status(cluster, server).map(|status| catching_up(&status));
    let last_catch_up = catch_up::last_opening(cluster, &entry.config.name)
        .map(|opening| json!({ "opened_at": opening.at, "by": opening.reason }));
    let replicator = cluster.persistent_state.catch_up.reporter(&entry.config.name);
    let replicator = replicator.map(|status| replicator_report(&status, now));
    let live = server.snapshot();
    server.read(|health| {
        let (state, since, cause) = health.state();
        let snapshot = health.snapshot(now);
        let index = snapshot.published_index.map(|index| index.value);
        let counters: BTreeMap<&str, u64> = server.counters.all().into_iter().collect();
        let answered = counters.get("answered").copied().unwrap_or_default();
        let share = if total_answered == 0 { 0.0 } else { answered as f64 / total_answered as f64 };
        let admin = health
            .admin_restriction()
            .map(|r| json!({ "since": r.since_unix_ms, "by": r.by, "closed": r.closed }));
        let port_cause = |port: Port| {
            let cause = health.port_cause(port);
            (entry.host_port(port).is_some() && !cause.is_empty()).then(|| cause.to_owned())
        };
        json!({
            "name": entry.config.name.abbreviated(),
            "hostname": entry.config.hostname,
            "site": entry.config.site.as_ref().map(SiteName::as_str),
            "http": entry.config.http.as_ref().map(ToString::to_string),
            "https": entry.config.https.as_ref().map(ToString::to_string),
            "http_up": snapshot.http,
            "https_up": snapshot.https,
            "http_cause": port_cause(Port::Http),
            "https_cause": port_cause(Port::Https),
            "state": state.as_str(),
            "since_ms": now.saturating_sub(since),
            "cause": cause,
            "reason": reason(state, index, snapshot.threshold, &health.restrictions(), cause),
            "index": index,
            "index_age_ms": snapshot.published_index.map(|index| now.saturating_sub(index.at_ms)),
            "index_source": index.and_then(|_| health.index_source()),
            "observed_index": if index.is_none() { live.index } else { None },
            "threshold": snapshot.threshold,
            "restrictions": health.restrictions(),
            "restriction_stale": health.restriction_stale(now),
            "restricted_by_admin": admin,
            "catching_up": catching_up,
            "last_catch_up": last_catch_up,
            "replicator": replicator,
            "connector_headers": entry.config.connector_headers.as_str(),
            "exposure": cluster.settings.exposure_of(&entry.config),
            "in_flight": live.in_flight,
            "weight": live.weight,
            "share": share,
            "counters": counters,
        })
    })
}

/// The site of this ICM, and whether new users leave it.
fn site(cluster: &Cluster) -> Value {
    json!({
        "own": cluster.site.as_ref().map(SiteName::as_str),
        "cross_sites": match cluster.settings.cross_sites {
            CrossSites::WhenUnavailable => "when_unavailable",
            CrossSites::WhenBusy => "when_busy",
            CrossSites::Never => "never",
        },
        "crossing_since": cluster.persistent_state.site_crossing.since_unix_ms(),
        "crossings": cluster.persistent_state.traffic.site_crossings(),
    })
}

/// Which replicas lack changes, in numbers.
fn freshness(cluster: &Cluster) -> Value {
    let (behind, oldest) = cluster.persistent_state.replica_readings.behind();
    json!({ "source": cluster.settings.freshness.source.as_str(), "behind": behind, "behind_since": oldest })
}

/// What could show that a returned server has caught up.
fn evidence(cluster: &Cluster) -> Value {
    let sources = catch_up::evidence_sources(cluster);
    let reporting: Vec<Value> = sources
        .reporting
        .iter()
        .map(|(server, source)| json!({ "server": server.abbreviated(), "source": source }))
        .collect();
    let silent: Vec<&str> = sources.silent.iter().map(|server| server.abbreviated()).collect();
    json!({
        "enabled": cluster.settings.catch_up.enabled && !sources.is_empty(),
        "after_ms": saturating_millis(cluster.settings.catch_up.after),
        "reporting": reporting,
        "silent": silent,
        "freshness": sources.freshness,
    })
}

fn catching_up(status: &CatchUpStatus) -> Value {
    json!({
        "since": status.since_unix_ms,
        "limit_at": status.limit_at_unix_ms,
        "waiting_for": status.waiting_for,
        "outage_ms": status.outage_ms,
    })
}

fn replicator_report(status: &ReporterStatus, now_ms: u64) -> Value {
    let report = &status.report;
    json!({
        "retry_waiting": report.retry_waiting,
        "work_queue_depth": report.work_queue_depth,
        "successful": report.successful,
        "failed": report.failed,
        "run": report.run,
        "age_ms": now_ms.saturating_sub(status.at_ms),
        "source": status.source,
    })
}

/// Why a server is in its state now. `cause` describes the moment when the state changed.
fn reason(
    state: ServerState,
    index: Option<u8>,
    threshold: u8,
    restrictions: &[String],
    cause: &str,
) -> String {
    match (state, index) {
        (ServerState::Busy, Some(index)) => format!("index {index} is at or under its threshold {threshold}"),
        (ServerState::Busy, None) => "its threshold is 100, which means always BUSY".to_owned(),
        (ServerState::Restricted, _) => restrictions.join("; "),
        (ServerState::MaxUsers, _) => "its user limit is reached".to_owned(),
        _ => cause.to_owned(),
    }
}
