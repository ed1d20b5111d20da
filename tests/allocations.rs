//! The request path of the pure modules allocates nothing in the common case.
//!
//! These tests are a separate program because they replace the global allocator by one that counts.

#![allow(clippy::unwrap_used)]

use bytes::{Bytes, BytesMut};
use domino_icm::config::settings::{self, LogFormat, LogTarget};
use domino_icm::domain::cluster::{Port, ServerName, ServerSnapshot};
use domino_icm::domain::directory::{
    DatabaseMatch, DirectoryBuilder, DirectoryEntry, DirectoryIndex, LookupResult, ReplicaId, ReplicaStatus,
};
use domino_icm::domain::freshness::{self, FreshnessTable, ModifiedReading, ReplicaFreshness};
use domino_icm::domain::select::{
    Candidate, CandidateFreshness, CrossSites, SelectionInput, SelectionPolicy, ServerId, decide,
};
use domino_icm::domain::url::{Hazard, RequestSafety, UnsafeCommands, parse, split_absolute_url};
use domino_icm::state::{DirectoryOrigin, LoadedDirectory};
use domino_icm::telemetry::access_log::AccessLog;
use domino_icm::telemetry::access_log::record::{LoggedServer, Record};
use domino_icm::telemetry::statistics::Statistics;
use domino_icm::telemetry::statistics::traffic::Traffic;
use domino_icm::upstream::raw_response_head::RawResponseHead;
use domino_icm::upstream::response_body::{BodyDecoder, BodyFraming, BodyPiece};
use domino_icm::upstream::response_head::{ResponseField, ResponseHead};
use std::hint::black_box;

fn allocations(work: impl FnOnce()) -> u64 {
    allocation_counter::measure(work).count_total
}

fn entry(server: &str, path: &str, id: u64) -> DirectoryEntry {
    DirectoryEntry {
        path: path.to_owned(),
        server: ServerName::parse(server).unwrap(),
        replica_id: ReplicaId(id),
        title: "Leads".to_owned(),
        status: ReplicaStatus::InService,
    }
}

fn index() -> DirectoryIndex {
    DirectoryIndex::build([
        entry("Web1/Acme", "sales\\leads.nsf", 1),
        entry("Web2/Acme", "apps\\leads.nsf", 1),
        entry("Web1/Acme", "Verkauf\\MÜLLER.nsf", 2),
        entry("Web1/Acme", "news.nsf", 3),
        entry("Web2/Acme", "news.nsf", 4),
    ])
    .0
}

#[test]
fn the_counting_allocator_is_active() {
    assert_eq!(allocations(|| drop(black_box(Box::new(7)))), 1);
}

#[test]
fn parsing_and_classifying_a_target_allocates_nothing() {
    let table = UnsafeCommands::default();
    for target in [
        &b"/"[..],
        b"/icons/actn010.gif",
        b"/sales/leads.nsf/By+Region?OpenView&Start=31&Count=30",
        b"/mail/jdoe.nsf/0/8FA!OpenDocument",
        b"/__C1257A000041D2E0.nsf/0/E86886A81087A25805258E4F00502001/$FILE/Offer%202026.pdf",
        b"/names.nsf?Login&RedirectTo=/sales/leads.nsf",
        b"/a/b/c/d/e/f/g/h/i/j/k/l/m.nsf/n/o/p/q/r/s/t/u/v?OpenAgent",
        b"/%2e%2e/%5C..%00/x.nsf%3FOpenAgent?%ff",
    ] {
        assert_eq!(
            allocations(|| {
                black_box(table.classify(&parse(black_box(target))));
            }),
            0,
            "{}",
            target.escape_ascii()
        );
    }
    // The work was not optimised away: its result is correct.
    let last = parse(b"/%2e%2e/x.nsf%3FOpenAgent");
    assert_eq!((last.hazard, table.classify(&last)), (Some(Hazard::DotSegment), RequestSafety::Unsafe));
}

#[test]
fn a_response_is_read_and_written_in_its_first_buffer() {
    let text = b"HTTP/1.1 200 OK\r\nServer: Lotus-Domino\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\nabcde";
    let mut received = BytesMut::from(&text[..]);
    let mut out = Vec::with_capacity(1024);
    let counted = allocations(|| {
        let mut head = RawResponseHead::parse(&mut received).unwrap().unwrap();
        assert_eq!(head.first(ResponseField::ContentType), Some(&b"text/html"[..]));
        head.remove(ResponseField::Server);
        head.write_to(&mut out);
        let mut body = BodyDecoder::new(BodyFraming::of(&head, false));
        assert_eq!(body.next(&mut received).unwrap(), BodyPiece::Data(Bytes::from_static(b"abcde")));
        assert!(body.is_at_end());
    });
    assert_eq!(out, b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\n");
    // The count of the references to the buffer.
    assert_eq!(counted, 1);
}

#[test]
fn a_plain_argument_and_a_referer_are_not_copied() {
    assert_eq!(
        allocations(|| {
            let target = parse(b"/names.nsf?Login&RedirectTo=/sales/leads.nsf");
            assert_eq!(target.argument(b"redirectto").as_deref(), Some(&b"/sales/leads.nsf"[..]));
            let referer = split_absolute_url(b"https://www.acme.example/sales/leads.nsf?OpenDatabase");
            assert!(referer.is_some());
        }),
        0
    );
}

#[test]
fn lookups_and_holders_allocate_nothing_up_to_256_bytes() {
    let index = index();
    let longest = "x".repeat(256);
    for (raw, holders) in [
        ("sales/leads.nsf", 2),
        ("/Sales%5CLEADS.nsf", 2),
        ("verkauf/m%C3%9Cller.nsf", 1),
        ("verkauf/m+ller.nsf", 0),
        (longest.as_str(), 0),
    ] {
        let mut seen = 0;
        let counted = allocations(|| {
            if let LookupResult::Unique(found) = index.find_by_url_path(black_box(raw.as_bytes())) {
                seen = index.replicas_by_server(&found).count();
            }
        });
        assert_eq!((counted, seen), (0, holders), "{raw}");
    }
    let by_id = allocations(|| {
        let database = index.find_by_replica_id(ReplicaId(1)).unwrap();
        assert_eq!(index.replicas_by_server(&DatabaseMatch { database, path: None }).count(), 2);
        assert_eq!(index.database(database).replicas().count(), 2);
    });
    assert_eq!(by_id, 0);
    let ambiguous = allocations(|| {
        let LookupResult::Ambiguous(ix) = index.find_by_url_path(b"news.nsf") else {
            panic!("not ambiguous")
        };
        assert_eq!(index.ambiguous_databases(ix).count(), 2);
    });
    assert_eq!(ambiguous, 0);
}

#[test]
fn a_longer_path_spills_to_the_heap_and_is_still_found() {
    let long = format!("{}.nsf", "x".repeat(300));
    let index = DirectoryIndex::build([entry("Web1/Acme", &long, 9)]).0;
    let mut found = LookupResult::Unknown;
    assert!(allocations(|| found = index.find_by_url_path(long.to_uppercase().as_bytes())) > 0);
    assert!(matches!(found, LookupResult::Unique(_)));
}

/// A database on six servers: one is CATCHING UP, one is BUSY, the replica of one is behind.
fn six_candidates() -> Vec<Candidate> {
    let snapshot = |server| ServerSnapshot {
        http: true,
        https: true,
        restricted_since_ms: None,
        busy: server == 2,
        max_users: false,
        closed: false,
        catching_up_since_unix_ms: (server == 1).then_some(50_000),
        index: Some(95.0),
        in_flight: 0,
        in_flight_then: 0.0,
        noise: 0.0,
        weight: 1,
        max_connections: 0,
        returned_at_ms: None,
        failing: 0.0,
    };
    let candidate = |server: ServerId| Candidate {
        server,
        status: ReplicaStatus::InService,
        snapshot: snapshot(server),
        freshness: CandidateFreshness::default(),
        of_other_site: server % 3 == 2,
    };
    (0..6).map(candidate).collect()
}

#[test]
fn deciding_with_all_that_is_known_about_replicas_allocates_nothing() {
    const DATABASE: ReplicaId = ReplicaId(1);
    let mut table = FreshnessTable::default();
    for server in 0..6 {
        let modified_unix_ms = if server == 3 { 10_000 } else { 60_000 };
        let replica = ReplicaFreshness {
            server,
            reading: Some(ModifiedReading { modified_unix_ms, taken_unix_ms: 90_000 }),
            behind_since_unix_ms: (server == 3).then_some(60_000),
            is_newest: server != 3,
            mark: None,
        };
        table.insert(DATABASE, replica);
    }
    let mut candidates = six_candidates();
    let policy = SelectionPolicy {
        drain_timeout_ms: 1_800_000,
        slow_start_ms: 30_000,
        max_in_flight: 0,
        try_unreachable: false,
        cross_sites: CrossSites::WhenUnavailable,
        transinfo_range: 6,
    };
    for (entry, written_on) in [(None, None), (Some(4), None), (Some(4), Some(1)), (Some(3), Some(5))] {
        let mut chosen = None;
        let counted = allocations(|| {
            for candidate in &mut candidates {
                let server = u32::from(candidate.server);
                let replica = table.replica(DATABASE, server);
                candidate.freshness.behind_since_unix_ms = replica.and_then(|r| r.behind_since_unix_ms);
                if let Some(writer) = written_on {
                    let replicas = table.replicas(DATABASE);
                    candidate.freshness.own_write =
                        freshness::own_write(replicas, u32::from(writer), server, 55_000, 5_000);
                }
            }
            let input = SelectionInput {
                candidates: black_box(&candidates),
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
                seed: 7,
            };
            chosen = decide(&input, &policy).chosen();
        });
        assert_eq!(counted, 0, "{entry:?} {written_on:?}");
        let expected: &[ServerId] = match (entry, written_on) {
            (_, Some(_)) => written_on.as_slice(),
            (Some(_), None) => entry.as_slice(),
            (None, None) => &[0, 4, 5],
        };
        assert!(chosen.is_some_and(|server| expected.contains(&server)), "{chosen:?}");
    }
}

#[test]
fn an_access_log_line_allocates_nothing_once_buffers_are_reused() {
    for format in [LogFormat::Json, LogFormat::Combined] {
        let target = LogTarget::File("/dev/null".into());
        let log =
            AccessLog::start(&settings::AccessLogSettings { target, format }, std::sync::Arc::default())
                .unwrap();
        let record = Record {
            client: "10.0.0.7".parse().ok(),
            method: "GET",
            host: b"www.acme.example",
            target: b"/sales/leads.nsf/By+Region?OpenView",
            status: 200,
            user_agent: b"Mozilla/5.0 (X11; Linux x86_64)",
            cluster: Some("AcmeWeb"),
            database: Some(("sales/leads.nsf", ReplicaId(7))),
            server: Some(LoggedServer { name: "Web1/Acme", state: "AVAILABLE", index: Some(87.0) }),
            why: "lightest",
            first_byte_ms: Some(3),
            total_ms: 4,
            ..Record::default()
        };
        let several = || (0..50).for_each(|_| log.put(black_box(&record)));
        several();
        log.flush();
        // Formatting the time of a new second allocates, so take the minimum.
        let minimum = (0..5).map(|_| (allocations(several), log.flush()).0).min().unwrap();
        assert_eq!(minimum, 0, "{format:?}");
    }
}

#[test]
fn counting_a_request_allocates_nothing() {
    let (statistics, traffic) = (Statistics::default(), Traffic::default());
    let counted = allocations(|| {
        statistics.this_thread().commands.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        statistics.outbound.begin(true, false);
        traffic.record_request(200, std::time::Duration::from_millis(3));
        traffic.record_failover("timeout");
    });
    assert_eq!(counted, 0);
}

#[test]
fn the_last_user_of_a_large_directory_does_not_free_it_itself() {
    let mut builder = DirectoryBuilder::default();
    for n in 0..20_000 {
        builder.add(&entry("Web1/Acme", &format!("mail\\User{n:05}.nsf"), n));
    }
    let loaded = LoadedDirectory::new(builder, DirectoryOrigin::Configuration, Vec::new());
    let bytes = i64::try_from(loaded.index.memory_size()).unwrap();
    assert!(bytes > 1 << 20, "large enough to matter: {bytes}");
    // Starts the thread that frees it.
    domino_icm::state::low_priority::discard(());
    let here = allocation_counter::measure(|| drop(loaded));
    assert!(here.bytes_current > -bytes / 10, "{} of {bytes} bytes were freed here", -here.bytes_current);
}
