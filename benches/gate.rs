//! The cost of the gate for a request: time, and allocations (none).
//!
//! `cargo bench --features bench --bench gate`. The allocations are printed first.

use criterion::{Criterion, Throughput};
use domino_icm::edge::gate::{Gate, GateVerdict, HeadLimits};
use std::hint::black_box;

/// A browser's request, a login form, and the same form in chunks.
const REQUESTS: [(&str, &[u8]); 3] = [
    (
        "browser",
        b"GET /sales/leads.nsf/0/E86886A81087A25805258E4F00502001?OpenDocument HTTP/1.1\r\n\
        Host: www.acme.example\r\n\
        User-Agent: Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
        Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
        Accept-Language: en-GB,en;q=0.5\r\n\
        Accept-Encoding: gzip, deflate, br, zstd\r\n\
        Referer: https://www.acme.example/sales/leads.nsf/ByRegion?OpenView\r\n\
        Connection: keep-alive\r\n\
        Cookie: DomAuthSessId=0123456789ABCDEF0123456789ABCDEF; ICM=AbCdEfGhIjKlMnOpQrStUvWxYz0123456789-_AbCdEf\r\n\
        Upgrade-Insecure-Requests: 1\r\n\
        Priority: u=0, i\r\n\r\n",
    ),
    (
        "form",
        b"POST /names.nsf?Login HTTP/1.1\r\nHost: www.acme.example\r\nContent-Length: 50\r\n\
        Content-Type: application/x-www-form-urlencoded\r\n\r\nUsername=jdoe&Password=secret&RedirectTo=%2F%2F%2F",
    ),
    (
        "chunks",
        b"POST /names.nsf?Login HTTP/1.1\r\nHost: www.acme.example\r\nTransfer-Encoding: chunked\r\n\
        Content-Type: application/x-www-form-urlencoded\r\n\r\n\
        d\r\nUsername=jdoe\r\n10\r\n&Password=secret\r\n15\r\n&RedirectTo=%2F%2F%2F\r\n0\r\n\r\n",
    ),
];

/// Sends a request through a gate, and returns how many bytes passed.
fn passed_bytes(mut bytes: &[u8], limits: &HeadLimits) -> usize {
    let mut gate = Gate::new();
    let mut passed = 0;
    while let GateVerdict::Pass(length) = gate.inspect(bytes, limits) {
        passed += length;
        bytes = bytes.get(length..).unwrap_or_default();
    }
    passed
}

fn main() {
    let limits = HeadLimits { header_count: 100, header_bytes: 64 << 10, uri_bytes: 8 << 10 };
    for (what, request) in REQUESTS {
        let counted = allocation_counter::measure(|| {
            assert_eq!(passed_bytes(black_box(request), &limits), request.len(), "{what} passes whole");
        });
        println!(
            "gate/{what}: {} bytes, {} allocations, {} bytes",
            request.len(),
            counted.count_total,
            counted.bytes_total
        );
    }
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("gate");
    for (what, request) in REQUESTS {
        group.throughput(Throughput::Bytes(request.len() as u64));
        group.bench_function(what, |bencher| bencher.iter(|| passed_bytes(black_box(request), &limits)));
    }
    group.finish();
    criterion.final_summary();
}
