//! What a directory costs: memory per replica, time to build, and time and allocations per lookup, with
//! a thousand, a hundred thousand and a million databases of three replicas each.
//!
//! `cargo bench --bench directory`. Memory, allocations and the time of one build are printed first.

use criterion::Criterion;
use domino_icm::cluster::ServerName;
use domino_icm::directory::{Entry, Found, Index, Lookup, Mark, ReplicaId};
use std::hint::black_box;
use std::time::Instant;

const SIZES: [(u64, &str); 3] = [(1_000, "1 k"), (100_000, "100 k"), (1_000_000, "1 M")];

/// How many different lookups are cycled through: enough to leave the processor's caches.
const LOOKUPS: u64 = 65_536;

fn path(number: u64) -> String {
    format!("Departments\\Division{:02}\\Database{number:07}.nsf", number % 64)
}

fn replica_id(number: u64) -> ReplicaId {
    ReplicaId(0xC125_7A00_0000_0000 + number * 0x1_0007)
}

fn entries(databases: u64) -> impl Iterator<Item = Entry> {
    let servers: Vec<ServerName> = ["Web1/Acme", "Web2/Acme", "Web3/Acme"]
        .iter()
        .filter_map(|name| ServerName::parse(name).ok())
        .collect();
    (0..databases).flat_map(move |number| {
        servers.clone().into_iter().map(move |server| Entry {
            path: path(number),
            server,
            replica_id: replica_id(number),
            title: format!("Database number {number}"),
            mark: Mark::InService,
        })
    })
}

/// Numbers all over the directory, in an order that no prefetcher guesses.
fn scattered(databases: u64) -> impl Iterator<Item = u64> {
    (0..LOOKUPS).map(move |n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % databases)
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for (databases, size) in SIZES {
        let prepared: Vec<Entry> = entries(databases).collect();
        let started = Instant::now();
        let index = Index::build(prepared).0;
        println!(
            "directory/{size}: built in {:.1} ms, {} octets, {:.1} a replica, {:.1} a database",
            started.elapsed().as_secs_f64() * 1e3,
            index.bytes(),
            index.bytes() as f64 / index.replica_count() as f64,
            index.bytes() as f64 / index.len() as f64,
        );
        lookups(&mut criterion, &index, databases, size);
    }
    build(&mut criterion);
    criterion.final_summary();
}

fn lookups(criterion: &mut Criterion, index: &Index, databases: u64, size: &str) {
    let plain: Vec<String> = scattered(databases).map(|n| path(n).replace('\\', "/")).collect();
    let encoded: Vec<String> = plain.iter().map(|p| p.replace('/', "%5C").to_lowercase()).collect();
    let ids: Vec<ReplicaId> = scattered(databases).map(replica_id).collect();
    let unknown: Vec<String> = plain.iter().map(|p| p.replace("Division", "Section")).collect();

    for (what, paths) in [("path", &plain), ("encoded path", &encoded), ("unknown path", &unknown)] {
        let counted = allocation_counter::measure(|| {
            for path in paths {
                black_box(index.by_path(path.as_bytes()));
            }
        });
        println!(
            "directory/{size}, by {what}: {} allocations in {} lookups",
            counted.count_total,
            paths.len()
        );
        let mut next = paths.iter().cycle();
        criterion.bench_function(&format!("directory/{size}/by {what}"), |bencher| {
            bencher.iter(|| next.next().map(|path| index.by_path(black_box(path.as_bytes()))));
        });
    }
    let mut next = ids.iter().cycle();
    criterion.bench_function(&format!("directory/{size}/by replica id"), |bencher| {
        bencher.iter(|| next.next().map(|id| index.by_replica_id(black_box(*id))));
    });
    let mut next = plain.iter().cycle();
    criterion.bench_function(&format!("directory/{size}/by path, then its holders"), |bencher| {
        bencher.iter(|| next.next().map(|path| holders(index, path)));
    });
}

/// What one request does: the lookup, and a look at every holder.
fn holders(index: &Index, path: &str) -> usize {
    let Lookup::One(found) = index.by_path(black_box(path.as_bytes())) else { return 0 };
    index
        .holders(&Found { path: found.path, ..found })
        .filter(|h| h.same_path && h.mark == Mark::InService)
        .count()
}

fn build(criterion: &mut Criterion) {
    for (databases, size) in SIZES.into_iter().take(2) {
        let prepared: Vec<Entry> = entries(databases).collect();
        let mut group = criterion.benchmark_group("directory");
        group.sample_size(10);
        group.bench_function(format!("{size}/build"), |bencher| {
            bencher.iter_batched(|| prepared.clone(), Index::build, criterion::BatchSize::LargeInput);
        });
        group.finish();
    }
}
