//! The cost of a directory: memory per replica, time to build, and time and allocations per lookup, alone and with the
//! decision, for a thousand, a hundred thousand and a million databases of three replicas each.
//!
//! `cargo bench --features bench --bench directory`. Memory, allocations and the time of one build are printed first.
//! Lookups are in random order, so that the data of a million of them does not fit into the processor's caches.

#[path = "scale/catalogue.rs"]
#[allow(dead_code, reason = "`benches/scale` uses the rest")]
mod catalogue;

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use criterion::Criterion;
use domino_icm::config;
use domino_icm::domain::cluster::{Port, ServerName, ServerState};
use domino_icm::domain::directory::{
    DatabaseMatch, DirectoryBuilder, DirectoryEntry, DirectoryIndex, LookupResult, ReplicaId, ReplicaStatus,
};
use domino_icm::domain::select::{self, Candidate, SelectionInput, SelectionOutcome};
use domino_icm::state::{Balancer, ClusterView, DirectoryOrigin, LoadedDirectory};
use domino_icm::util::clock;
use smallvec::SmallVec;

const SIZES: [(u64, &str); 3] = [(1_000, "1 k"), (100_000, "100 k"), (1_000_000, "1 M")];

/// Number of different lookups, which are repeated.
const LOOKUPS: u64 = 1_000_000;

type Failure = Box<dyn std::error::Error>;

fn path(number: u64) -> String {
    catalogue::replica(number, 0, catalogue::UNMOVED_EDITION).1
}

fn replica_id(number: u64) -> ReplicaId {
    ReplicaId(catalogue::replica_id(number))
}

fn entries(databases: u64) -> impl Iterator<Item = DirectoryEntry> {
    let servers: Vec<ServerName> =
        catalogue::SERVERS.iter().filter_map(|name| ServerName::parse(name).ok()).collect();
    (0..databases)
        .flat_map(|number| (0..catalogue::REPLICAS_PER_DATABASE).map(move |replica| (number, replica)))
        .filter_map(move |(number, replica)| {
            let (server, path) = catalogue::replica(number, replica, catalogue::UNMOVED_EDITION);
            Some(DirectoryEntry {
                path,
                server: servers.get(server)?.clone(),
                replica_id: replica_id(number),
                title: catalogue::title(number),
                status: ReplicaStatus::InService,
            })
        })
}

/// Numbers all over the directory.
fn shuffle(databases: u64) -> impl Iterator<Item = u64> {
    (0..LOOKUPS).map(move |n| catalogue::shuffle(n) % databases)
}

fn main() -> Result<(), Failure> {
    let mut criterion = Criterion::default().configure_from_args();
    for (databases, size) in SIZES {
        let prepared: Vec<DirectoryEntry> = entries(databases).collect();
        let started = Instant::now();
        let index = DirectoryIndex::build(prepared).0;
        println!(
            "directory/{size}: built in {:.1} ms, {} bytes, {:.1} per replica, {:.1} per database",
            started.elapsed().as_secs_f64() * 1e3,
            index.memory_size(),
            index.memory_size() as f64 / index.replica_count() as f64,
            index.memory_size() as f64 / index.len() as f64,
        );
        lookups(&mut criterion, &index, databases, size);
        drop(index);
        decisions(&mut criterion, databases, size)?;
    }
    build(&mut criterion);
    criterion.final_summary();
    Ok(())
}

fn lookups(criterion: &mut Criterion, index: &DirectoryIndex, databases: u64, size: &str) {
    let plain: Vec<String> = shuffle(databases).map(|n| path(n).replace('\\', "/")).collect();
    let encoded: Vec<String> = plain.iter().map(|p| p.replace('/', "%5C").to_lowercase()).collect();
    let ids: Vec<ReplicaId> = shuffle(databases).map(replica_id).collect();
    let unknown: Vec<String> = plain.iter().map(|p| p.replace(".nsf", ".ntf")).collect();

    for (what, paths) in [("path", &plain), ("encoded path", &encoded), ("unknown path", &unknown)] {
        let counted = allocation_counter::measure(|| {
            for path in paths {
                black_box(index.find_by_url_path(path.as_bytes()));
            }
        });
        println!(
            "directory/{size}, by {what}: {} allocations in {} lookups",
            counted.count_total,
            paths.len()
        );
        let mut next = paths.iter().cycle();
        criterion.bench_function(&format!("directory/{size}/by {what}"), |bencher| {
            bencher.iter(|| next.next().map(|path| index.find_by_url_path(black_box(path.as_bytes()))));
        });
    }
    let mut next = ids.iter().cycle();
    criterion.bench_function(&format!("directory/{size}/by replica id"), |bencher| {
        bencher.iter(|| next.next().map(|id| index.find_by_replica_id(black_box(*id))));
    });
}

/// A cluster of reachable servers with a directory of this size.
fn cluster(databases: u64) -> Result<Balancer, Failure> {
    let mut text = String::from(
        "listeners: [{ address: 127.0.0.1:80 }]\nclusters:\n  - name: Bench\n    directory: { source: cldbdir }\n    servers:\n      source: static\n      list:\n",
    );
    for (number, name) in catalogue::SERVERS.iter().enumerate() {
        text += &format!(
            "        - {{ name: {name}, hostname: web.acme.example, http: 127.0.0.1:{} }}\n",
            20_000 + number
        );
    }
    let settings = config::load_text(Path::new("bench.yaml"), &text).map_err(|e| e.to_string())?.settings;
    let balancer = Balancer::new(Arc::new(settings), b"only for this bench".to_vec())?;
    let mut builder = DirectoryBuilder::default();
    entries(databases).for_each(|entry| builder.add(&entry));
    let cluster = Arc::clone(balancer.snapshot().clusters.first().ok_or("no cluster")?);
    cluster.set_directory(Arc::new(LoadedDirectory::new(
        builder,
        DirectoryOrigin::Configuration,
        Vec::new(),
    )));
    for (_, view, ix, port) in balancer.snapshot().enabled_ports() {
        let Some(entry) = view.entries.get(ix) else { continue };
        while entry.server.state() == ServerState::Unreachable {
            let _ = entry.server.probed(port, Ok(200), clock::now_ms());
        }
    }
    Ok(balancer)
}

/// Chooses a server for a new user from the database part of a URL.
fn decide(
    view: &ClusterView,
    rules: &select::SelectionPolicy,
    path: &str,
    seed: u64,
) -> Option<SelectionOutcome> {
    let LookupResult::Unique(found) = view.directory.index.find_by_url_path(black_box(path.as_bytes()))
    else {
        return None;
    };
    let mut candidates: SmallVec<[Candidate; 8]> = SmallVec::new();
    view.candidates(Some(&DatabaseMatch { path: found.path, ..found }), &mut candidates);
    Some(
        select::decide(&SelectionInput::without_affinity(&candidates, Port::Http, 100_000, seed), rules)
            .outcome,
    )
}

fn decisions(criterion: &mut Criterion, databases: u64, size: &str) -> Result<(), Failure> {
    let balancer = cluster(databases)?;
    let snapshot = balancer.snapshot();
    let cluster = snapshot.clusters.first().ok_or("no cluster")?;
    let view = cluster.view.load_full();
    let paths: Vec<String> = shuffle(databases).map(|n| path(n).replace('\\', "/")).collect();
    let counted = allocation_counter::measure(|| {
        for path in &paths {
            assert!(
                matches!(
                    decide(&view, &cluster.selection_policy, path, 1),
                    Some(SelectionOutcome::Serve(..))
                ),
                "{path}"
            );
        }
    });
    println!(
        "directory/{size}, by path, then the decision: {} allocations in {} requests",
        counted.count_total,
        paths.len()
    );
    let mut next = paths.iter().cycle().zip(0..);
    criterion.bench_function(&format!("directory/{size}/by path, then the decision"), |bencher| {
        bencher.iter(|| next.next().map(|(path, seed)| decide(&view, &cluster.selection_policy, path, seed)));
    });
    Ok(())
}

fn build(criterion: &mut Criterion) {
    for (databases, size) in SIZES.into_iter().take(2) {
        let prepared: Vec<DirectoryEntry> = entries(databases).collect();
        let mut group = criterion.benchmark_group("directory");
        group.sample_size(10);
        group.bench_function(format!("{size}/build"), |bencher| {
            bencher.iter_batched(
                || prepared.clone(),
                DirectoryIndex::build,
                criterion::BatchSize::LargeInput,
            );
        });
        group.finish();
    }
}
