//! The cost of parsing and classifying one request target: time, and allocations (none).
//!
//! `cargo bench --features bench --bench url`. The allocations are printed first, once for every target.

use criterion::{Criterion, Throughput};
use domino_icm::domain::url::{UnsafeCommands, parse};
use std::hint::black_box;

/// Targets of browsers, from simple to complex.
const TARGETS: [(&str, &[u8]); 8] = [
    ("static file", b"/icons/actn010.gif"),
    ("database", b"/sales/leads.nsf"),
    ("view", b"/sales/leads.nsf/By+Region?OpenView&Start=31&Count=30&ExpandView"),
    ("document", b"/mail/jdoe.nsf/0/E86886A81087A25805258E4F00502001?OpenDocument"),
    ("exclamation mark", b"/mail/jdoe.nsf/0/8FA!OpenDocument"),
    ("replica id", b"/__C1257A000041D2E0.nsf/$defaultView?OpenView"),
    ("attachment", b"/sales/leads.nsf/0/E86886A81087A25805258E4F00502001/$FILE/Offer%202026.pdf"),
    ("login", b"/names.nsf?Login&RedirectTo=%2Fsales%2Fleads.nsf%3FOpenDatabase"),
];

fn main() {
    let table = UnsafeCommands::default();
    for (what, target) in TARGETS {
        let counted = allocation_counter::measure(|| {
            black_box(table.classify(&parse(black_box(target))));
        });
        println!("url/{what}: {} allocations, {} bytes", counted.count_total, counted.bytes_total);
    }
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("url");
    for (what, target) in TARGETS {
        group.throughput(Throughput::Bytes(target.len() as u64));
        group.bench_function(format!("parse {what}"), |bencher| bencher.iter(|| parse(black_box(target))));
        let parsed = parse(target);
        group.bench_function(format!("classify {what}"), |bencher| {
            bencher.iter(|| table.classify(black_box(&parsed)));
        });
    }
    group.finish();
    criterion.final_summary();
}
