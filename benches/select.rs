//! The cost of a decision, and of a whole request from its parsed head to the chosen server: time and allocations.
//!
//! `cargo bench --features bench --bench select`. Allocations are printed first. No socket is opened: the state is built
//! from a configuration, and successful probes are reported to its servers.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use criterion::Criterion;
use domino_icm::config;
use domino_icm::domain::affinity::{AffinityEntries, AffinityEntry};
use domino_icm::domain::cluster::{Port, ServerSnapshot, ServerState};
use domino_icm::domain::directory::ReplicaStatus;
use domino_icm::domain::select::{
    Candidate, CandidateFreshness, CrossSites, OwnWrite, SelectionInput, SelectionOutcome, SelectionPolicy,
    ServerId, decide,
};
use domino_icm::proxy::database_lookup;
use domino_icm::proxy::failover;
use domino_icm::proxy::route::{self, TargetUri};
use domino_icm::proxy::routed::Routed;
use domino_icm::state::{Balancer, Snapshot};
use domino_icm::util::clock;
use pingora_http::RequestHeader;

const SERVERS: [ServerId; 3] = [2, 6, 32];
const SETTINGS: SelectionPolicy = SelectionPolicy {
    drain_timeout_ms: 1_800_000,
    slow_start_ms: 30_000,
    max_in_flight: 0,
    try_unreachable: false,
    cross_sites: CrossSites::WhenUnavailable,
    transinfo_range: 6,
};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut criterion = Criterion::default().configure_from_args();
    for servers in SERVERS {
        decisions(&mut criterion, servers);
    }
    for servers in SERVERS {
        requests(&mut criterion, servers)?;
    }
    criterion.final_summary();
    Ok(())
}

/// Counts the allocations of one operation and measures its time.
fn measure<T>(criterion: &mut Criterion, name: &str, mut operation: impl FnMut() -> T) {
    let counted = allocation_counter::measure(|| {
        black_box(operation());
    });
    println!("{name}: {} allocations, {} bytes", counted.count_total, counted.bytes_total);
    criterion.bench_function(name, |bencher| bencher.iter(&mut operation));
}

/// A reachable server without load.
fn idle(server: ServerId) -> Candidate {
    let view = ServerSnapshot {
        http: true,
        https: true,
        restricted_since_ms: None,
        closed: false,
        busy: false,
        max_users: false,
        catching_up_since_unix_ms: None,
        index: Some(95.0),
        in_flight: 0,
        in_flight_then: 0.0,
        noise: 0.0,
        weight: 1,
        max_connections: 0,
        returned_at_ms: None,
        failing: 0.0,
    };
    Candidate {
        server,
        status: ReplicaStatus::InService,
        snapshot: view,
        freshness: CandidateFreshness::default(),
        of_other_site: false,
    }
}

/// The same servers with everything that freshness knows: one is CATCHING UP, the replica of another is behind, and some
/// lack the user's own write.
fn compared(candidates: &[Candidate]) -> Vec<Candidate> {
    let mut compared = candidates.to_vec();
    for candidate in &mut compared {
        let server = candidate.server;
        candidate.snapshot.catching_up_since_unix_ms = (server % 6 == 1).then_some(50_000);
        candidate.freshness = CandidateFreshness {
            behind_since_unix_ms: (server % 6 == 2).then_some(60_000),
            shown_fresh: server % 12 == 1,
            own_write: match server % 3 {
                0 => OwnWrite::Included,
                1 => OwnWrite::Unknown,
                _ => OwnWrite::Missing,
            },
        };
    }
    compared
}

fn decisions(criterion: &mut Criterion, servers: ServerId) {
    let all_idle: Vec<Candidate> = (0..servers).map(idle).collect();
    let mut in_flight = all_idle.clone();
    for candidate in &mut in_flight {
        // Different for each, so that every index is corrected, and some servers are outside the band.
        candidate.snapshot.in_flight = 3 + u32::from(candidate.server) * 5 % 17;
        candidate.snapshot.in_flight_then = 2.0;
    }
    let mut busy = in_flight.clone();
    for candidate in &mut busy {
        candidate.snapshot.busy = candidate.server % 2 == 0;
    }
    let last = servers.checked_sub(1);
    let compared = compared(&in_flight);
    for (what, candidates, entry, written_on) in [
        ("idle", &all_idle, None, None),
        ("in flight", &in_flight, None, None),
        ("affinity hit", &in_flight, last, None),
        ("half set aside as BUSY", &busy, None, None),
        ("freshness known, newcomer", &compared, None, None),
        ("freshness known, own write elsewhere", &compared, last, Some(0)),
    ] {
        let mut seed = 0_u64;
        measure(criterion, &format!("decide/{servers} servers, {what}"), || {
            seed = seed.wrapping_add(1);
            let input = SelectionInput {
                candidates: black_box(candidates),
                port: Port::Http,
                entry,
                hint: None,
                recent: entry,
                sessions: &[],
                written_on,
                posts_login_form: false,
                note_id: false,
                tried: &[],
                now_ms: 100_000,
                seed,
            };
            decide(&input, &SETTINGS)
        });
    }
}

/// The state of a cluster whose servers are all reachable and hold one database.
fn balancer(servers: ServerId) -> Result<Balancer, Failure> {
    let mut text = String::from(
        "listeners: [{ address: 127.0.0.1:80 }]\nclusters:\n  - name: Bench\n    servers:\n      source: static\n      list:\n",
    );
    let mut replicas = String::new();
    for number in 0..servers {
        text += &format!(
            "        - {{ name: Web{number}/Acme, hostname: web{number}.acme.example, http: 127.0.0.1:{} }}\n",
            20_000 + number
        );
        replicas += &format!("            - {{ server: Web{number}/Acme }}\n");
    }
    text += "    directory:\n      source: static\n      databases:\n        - path: sales/leads.nsf\n          replica_id: C1257A000041D2E0\n          replicas:\n";
    text += &replicas;
    let settings = config::load_text(Path::new("bench.yaml"), &text).map_err(|e| e.to_string())?.settings;
    let balancer = Balancer::new(Arc::new(settings), b"only for this bench".to_vec())?;
    for (_, view, ix, port) in balancer.snapshot().enabled_ports() {
        let Some(entry) = view.entries.get(ix) else { continue };
        while entry.server.state() == ServerState::Unreachable {
            let _ = entry.server.probed(port, Ok(200), clock::now_ms());
        }
    }
    Ok(balancer)
}

/// The head of a browser's request.
fn head(target: &str, cookie: Option<String>) -> Result<RequestHeader, Failure> {
    let mut head = RequestHeader::build("GET", target.as_bytes(), Some(8))?;
    head.insert_header("Host", "www.acme.example")?;
    head.insert_header(
        "User-Agent",
        "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
    )?;
    head.insert_header("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")?;
    if let Some(cookie) = cookie {
        head.insert_header("Cookie", format!("SessionID=A1B2C3; ICM={cookie}"))?;
    }
    Ok(head)
}

/// The cookie of a user whom the last server has served from this database.
fn cookie(snapshot: &Arc<Snapshot>, target: &str) -> Result<String, Failure> {
    let cluster = snapshot.clusters.first().ok_or("no cluster")?;
    let view = cluster.view.load();
    let server = view.entries.last().ok_or("no server")?.tag();
    let database = database_lookup::tag_of_target(cluster, &view, target.as_bytes()).ok_or("no database")?;
    let now = u32::try_from(clock::unix_secs())?;
    let entries =
        AffinityEntries::new([AffinityEntry { server, database, time: now }].into_iter(), now, 1_800);
    cluster.affinity_keys.encode(&entries).ok_or_else(|| "no cookie".into())
}

/// Routes a request and decides, as the proxy does.
fn chosen(
    snapshot: &Arc<Snapshot>,
    head: &RequestHeader,
    target: &str,
) -> Option<(Box<Routed>, SelectionOutcome)> {
    let uri = TargetUri { authority: "www.acme.example", target: black_box(target.as_bytes()), tls: false };
    let Ok(routed) = route::route(snapshot, black_box(head), uri, None).result else { return None };
    let outcome = failover::decide(&routed, &[]).outcome;
    Some((routed, outcome))
}

fn requests(criterion: &mut Criterion, servers: ServerId) -> Result<(), Failure> {
    let balancer = balancer(servers)?;
    let snapshot = balancer.snapshot();
    let view = "/sales/leads.nsf/By+Region?OpenView&Start=31&Count=30";
    for (what, target, with_cookie) in [
        ("new user", view, false),
        ("affinity hit", view, true),
        ("no database", "/icons/actn010.gif", false),
    ] {
        let cookie = if with_cookie { Some(cookie(&snapshot, target)?) } else { None };
        let head = head(target, cookie)?;
        match chosen(&snapshot, &head, target) {
            Some((routed, SelectionOutcome::Serve(..))) if routed.affinity.entry.is_some() == with_cookie => {
            }
            other => return Err(format!("{what}: unexpected result: {other:?}").into()),
        }
        measure(criterion, &format!("request/{servers} servers, {what}"), || {
            chosen(&snapshot, &head, target)
        });
    }
    Ok(())
}
