//! What a directory index promises.

use super::*;
use crate::domain::directory::{DirectoryEntry, percent_encode_path};
use proptest::prelude::*;

const LEADS: ReplicaId = ReplicaId(0xC125_7A00_0041_D2E0);
const OLD_LEADS: ReplicaId = ReplicaId(0xC125_790F_002B_11AA);
const JANE: ReplicaId = ReplicaId(0x8525_62F3_007A_BFD6);

fn entry(server: &str, path: &str, replica_id: ReplicaId) -> DirectoryEntry {
    DirectoryEntry {
        path: path.to_owned(),
        server: ServerName::parse(server).unwrap(),
        replica_id,
        title: String::new(),
        status: ReplicaStatus::InService,
    }
}

fn titled(entry: DirectoryEntry, title: &str) -> DirectoryEntry {
    DirectoryEntry { title: title.to_owned(), ..entry }
}

fn marked(entry: DirectoryEntry, status: ReplicaStatus) -> DirectoryEntry {
    DirectoryEntry { status, ..entry }
}

/// The five documents of a Cluster Database Directory, in the order of its view by path.
fn acme() -> Vec<DirectoryEntry> {
    vec![
        titled(entry("CN=Web1/O=Acme", "mail\\jdoe.nsf", JANE), "Jane Doe"),
        titled(entry("CN=Web2/O=Acme", "mail\\jdoe.nsf", JANE), "Jane Doe"),
        titled(entry("CN=Web1/O=Acme", "sales\\leads.nsf", LEADS), "Leads"),
        titled(entry("CN=Web3/O=Acme", "sales\\leads.nsf", OLD_LEADS), "Leads (old project)"),
        titled(entry("CN=Web2/O=Acme", "apps\\leads.nsf", LEADS), "Leads"),
    ]
}

fn build(entries: impl IntoIterator<Item = DirectoryEntry>) -> DirectoryIndex {
    DirectoryIndex::build(entries).0
}

fn unique_match(index: &DirectoryIndex, raw: &str) -> DatabaseMatch {
    match index.find_by_url_path(raw.as_bytes()) {
        LookupResult::Unique(found) => found,
        other => panic!("{raw}: {other:?}"),
    }
}

fn id_at(index: &DirectoryIndex, raw: &str) -> ReplicaId {
    index.database(unique_match(index, raw).database).replica_id()
}

/// Server, path, whether it is the requested path, number of copies.
fn holders<'a>(index: &'a DirectoryIndex, found: &DatabaseMatch) -> Vec<(&'a str, &'a str, bool, u16)> {
    index
        .replicas_by_server(found)
        .map(|h| (index.servers()[h.server.as_usize()].common(), h.path(), h.same_path, h.replica_count))
        .collect()
}

#[test]
fn an_empty_directory_has_no_databases() {
    let index = DirectoryIndex::default();
    assert!(index.is_empty());
    assert_eq!(index.find_by_url_path(b"a.nsf"), LookupResult::Unknown);
    assert_eq!(index.find_by_replica_id(LEADS), None);
    assert_eq!(index.databases().len(), 0);
    assert_eq!(DirectoryIndex::build([]).1, IndexReport::default());
}

#[test]
fn the_sample_directory_has_three_databases_on_three_servers() {
    let (index, report) = DirectoryIndex::build(acme());
    assert_eq!((report.entries, report.replicas, report.databases, report.paths), (5, 5, 3, 3));
    assert_eq!((report.ambiguous_paths, report.duplicates), (1, 0));
    assert_eq!((index.len(), index.replica_count()), (3, 5));
    let names: Vec<_> = index.servers().iter().map(ServerName::abbreviated).collect();
    assert_eq!(names, ["Web1/Acme", "Web2/Acme", "Web3/Acme"]);
    let ids: Vec<_> = index.databases().map(|d| d.replica_id()).collect();
    assert_eq!(ids, [JANE, OLD_LEADS, LEADS]);
    let jane = index.database(unique_match(&index, "mail/jdoe.nsf").database);
    assert_eq!((jane.title(), jane.path(), jane.replicas().len()), ("Jane Doe", "mail/jdoe.nsf", 2));
}

#[test]
fn the_same_path_with_different_replica_ids_is_ambiguous() {
    let index = build(acme());
    let LookupResult::Ambiguous(ix) = index.find_by_url_path(b"Sales%5CLeads.nsf") else {
        panic!("not ambiguous")
    };
    let ambiguous_databases: Vec<_> = index.ambiguous_databases(ix).collect();
    let ids: Vec<_> = ambiguous_databases.iter().map(|f| index.database(f.database).replica_id()).collect();
    assert_eq!(ids, [OLD_LEADS, LEADS]);
    assert_eq!(holders(&index, &ambiguous_databases[0]), [("Web3", "sales/leads.nsf", true, 1)]);
    assert_eq!(
        holders(&index, &ambiguous_databases[1]),
        [("Web1", "sales/leads.nsf", true, 1), ("Web2", "apps/leads.nsf", false, 1)]
    );
}

#[test]
fn several_ambiguous_paths_are_kept_apart() {
    let ids: Vec<_> = (1..=6).map(ReplicaId).collect();
    let mut entries = Vec::new();
    for (n, id) in ids.iter().enumerate() {
        entries.push(entry("Web1/Acme", &format!("own{n}.nsf"), *id));
    }
    entries.extend(ids[..3].iter().enumerate().map(|(n, id)| entry(&format!("S{n}"), "a.nsf", *id)));
    entries.extend(ids[2..6].iter().enumerate().map(|(n, id)| entry(&format!("S{n}"), "b.nsf", *id)));
    let (index, report) = DirectoryIndex::build(entries);
    assert_eq!(report.ambiguous_paths, 2);
    for (path, sharing) in [("a.nsf", &ids[..3]), ("b.nsf", &ids[2..])] {
        let LookupResult::Ambiguous(ix) = index.find_by_url_path(path.as_bytes()) else { panic!("{path}") };
        let found: Vec<_> = index.ambiguous_databases(ix).collect();
        assert_eq!(
            found.iter().map(|f| index.database(f.database).replica_id()).collect::<Vec<_>>(),
            sharing
        );
        for one in found {
            assert_eq!(index.folded_path(one.path.unwrap()), path);
            assert_eq!(index.replicas_by_server(&one).filter(|h| h.same_path).count(), 1);
        }
    }
    assert_eq!(index.ambiguous_databases(AmbiguousPathId(2)).len(), 0);
}

#[test]
fn a_database_with_several_paths_is_found_by_each_of_them_and_by_its_id() {
    let index = build(acme());
    let by_path = unique_match(&index, "apps/leads.nsf");
    let by_id = DatabaseMatch { database: index.find_by_replica_id(LEADS).unwrap(), path: None };
    assert_eq!(by_path.database, by_id.database);
    assert_eq!(
        holders(&index, &by_path),
        [("Web1", "sales/leads.nsf", false, 1), ("Web2", "apps/leads.nsf", true, 1)]
    );
    assert!(index.replicas_by_server(&by_id).all(|h| !h.same_path));
    assert_eq!(index.find_by_replica_id(ReplicaId(1)), None);
}

#[test]
fn of_several_copies_on_one_server_the_one_at_the_requested_path_counts_with_its_mark() {
    let index = build([
        entry("Web1", "b.nsf", LEADS),
        marked(entry("Web1", "a.nsf", LEADS), ReplicaStatus::OutOfService),
        entry("Web1", "c.nsf", LEADS),
        entry("Web2", "a.nsf", LEADS),
    ]);
    let shown = |found: &DatabaseMatch| {
        index.replicas_by_server(found).map(|h| (h.path(), h.status, h.replica_count)).collect::<Vec<_>>()
    };
    let a = unique_match(&index, "a.nsf");
    assert_eq!(
        shown(&a),
        [("a.nsf", ReplicaStatus::OutOfService, 3), ("a.nsf", ReplicaStatus::InService, 1)]
    );
    let c = unique_match(&index, "C.NSF");
    assert_eq!(shown(&c), [("c.nsf", ReplicaStatus::InService, 3), ("a.nsf", ReplicaStatus::InService, 1)]);
    let by_id = DatabaseMatch { path: None, ..a };
    assert_eq!(
        shown(&by_id),
        [("b.nsf", ReplicaStatus::InService, 3), ("a.nsf", ReplicaStatus::InService, 1)]
    );
}

#[test]
fn without_a_copy_in_service_a_server_is_shown_with_its_first() {
    let index = build([
        marked(entry("Web1", "b.nsf", LEADS), ReplicaStatus::OutOfService),
        marked(entry("Web1", "a.nsf", LEADS), ReplicaStatus::PendingDelete),
    ]);
    let found = DatabaseMatch { database: index.find_by_replica_id(LEADS).unwrap(), path: None };
    let holders: Vec<_> = index.replicas_by_server(&found).map(|h| (h.path(), h.status)).collect();
    assert_eq!(holders, [("a.nsf", ReplicaStatus::PendingDelete)]);
}

#[test]
fn the_last_of_several_duplicates_wins_and_duplicates_are_reported() {
    let (index, report) = DirectoryIndex::build([
        entry("Web1/Acme", "Sales\\Leads.nsf", OLD_LEADS),
        entry("Web2/Acme", "sales\\leads.nsf", LEADS),
        marked(entry("CN=web1/O=acme", "sales/leads.NSF", LEADS), ReplicaStatus::OutOfService),
    ]);
    assert_eq!((report.entries, report.duplicates, report.replicas), (3, 1, 2));
    let web1 = ServerName::parse("Web1/Acme").unwrap();
    assert_eq!(report.duplicate_examples, [(web1, "sales/leads.NSF".to_owned())]);
    assert_eq!(index.find_by_replica_id(OLD_LEADS), None);
    let found = unique_match(&index, "sales/leads.nsf");
    let first = index.replicas_by_server(&found).next().unwrap();
    assert_eq!(
        (first.path(), first.status, first.same_path),
        ("sales/leads.NSF", ReplicaStatus::OutOfService, true)
    );
}

#[test]
fn every_server_keeps_its_own_spelling_of_a_path() {
    let index = build([entry("Web1", "Sales\\Leads.nsf", LEADS), entry("Web2", "/sales//leads.nsf", LEADS)]);
    let found = unique_match(&index, "SALES/LEADS.NSF");
    assert_eq!(
        holders(&index, &found),
        [("Web1", "Sales/Leads.nsf", true, 1), ("Web2", "sales/leads.nsf", true, 1)]
    );
    let paths: Vec<_> = index.database(found.database).replicas().map(|r| r.path_id).collect();
    assert_eq!(paths, [found.path.unwrap(); 2]);
}

#[test]
fn the_title_is_the_first_that_is_not_empty() {
    let index = build([
        entry("Web3", "a.nsf", LEADS),
        titled(entry("Web2", "a.nsf", LEADS), " Leads "),
        titled(entry("Web1", "a.nsf", LEADS), "Other"),
        titled(entry("Web3", "a.nsf", LEADS), "Late"),
    ]);
    assert_eq!(index.database(unique_match(&index, "a.nsf").database).title(), "Leads");
}

#[test]
fn umlauts_percent_signs_spaces_and_other_endings_are_found() {
    let index = build([
        entry("Web1", "Verkauf\\MÜLLER.nsf", ReplicaId(1)),
        entry("Web1", "apps\\100%25 sure.ns5", ReplicaId(2)),
        entry("Web1", "a+b.nsf", ReplicaId(3)),
        entry("Web1", "my mail.box", ReplicaId(4)),
    ]);
    for (raw, id) in [
        ("verkauf/m%C3%BCller.nsf", 1),
        ("Verkauf%5CM%C3%9CLLER.NSF", 1),
        ("verkauf/müller.nsf", 1),
        ("apps/100%2525%20sure.ns5", 2),
        ("apps/100%2525+sure.ns5", 2),
        ("a+b.nsf", 3),
        ("a%2Bb.nsf", 3),
        ("my+mail.box", 4),
        ("my%20mail.box", 4),
    ] {
        assert_eq!(id_at(&index, raw), ReplicaId(id), "{raw}");
    }
    assert_eq!(index.find_by_url_path(b"apps/100%25%20sure.ns5"), LookupResult::Unknown);
    assert_eq!(index.find_by_url_path(b"a%20b.nsf"), LookupResult::Unknown);
    assert_eq!(index.find_by_url_path(b"verkauf/m\xfcller.nsf"), LookupResult::Unknown);
    assert!(matches!(index.find_by_plain_path("APPS/100%25 SURE.ns5"), LookupResult::Unique(_)));
}

#[test]
fn entries_without_a_path_are_dropped_and_counted() {
    let (index, report) = DirectoryIndex::build([entry("Web1", "\\", LEADS), entry("Web1", "", LEADS)]);
    assert!(index.is_empty());
    assert_eq!((report.entries, report.without_path, report.databases), (2, 2, 0));
}

#[test]
fn the_tag_of_a_database_never_changes() {
    let index = build(acme());
    let tags: Vec<_> = index.databases().map(|d| d.affinity_tag()).collect();
    // Cookies contain these tags: a change loses the affinity of every user.
    assert_eq!(tags, [222_020_380, 190_151_338, 2_800_303_454]);
}

#[test]
fn ids_of_another_index_give_an_empty_view() {
    let big = build((1..100).map(|n| entry("Web1", &format!("{n}.nsf"), ReplicaId(n))));
    let found = unique_match(&big, "99.nsf");
    let small = build(acme());
    assert_eq!(small.database(found.database).replicas().len(), 0);
    assert_eq!(small.database(found.database).path(), "");
    assert_eq!(small.replicas_by_server(&found).count(), 0);
    let _ = small.folded_path(found.path.unwrap());
    assert_eq!(small.ambiguous_databases(AmbiguousPathId(9)).len(), 0);
}

#[test]
fn a_large_directory_stays_within_160_bytes_a_replica() {
    let entries = (0..20_000_u64).flat_map(|n| {
        (1..=3).map(move |s| {
            let path = format!("Departments\\Division{}\\Database{n}.nsf", n % 50);
            titled(entry(&format!("Web{s}/Acme"), &path, ReplicaId(n << 20)), &format!("Database number {n}"))
        })
    });
    let index = build(entries);
    assert_eq!(index.replica_count(), 60_000);
    assert!(index.memory_size() < 160 * index.replica_count(), "{} bytes", index.memory_size());
}

/// A plain path, and one of its spellings in a URL.
fn spelled_path() -> impl Strategy<Value = (String, String)> {
    let letter =
        proptest::sample::select(vec!['a', 'B', '1', '%', '+', ' ', '!', '?', '#', 'ä', 'Ö', '.', '/', '\\']);
    let how = proptest::collection::vec((letter, 0_u8..4), 1..10);
    how.prop_map(|letters| {
        let (mut plain, mut url) = ("x".to_owned(), "/x".to_owned());
        for (letter, how) in letters {
            plain.push(letter);
            let respelled = match (how, letter) {
                (0, '/' | '\\') => "//".to_owned(),
                (1, '/' | '\\') => "%5c".to_owned(),
                (2, '/' | '\\') => "\\/".to_owned(),
                (0, _) => letter.to_uppercase().collect(),
                (1, _) => letter.to_lowercase().collect(),
                _ => letter.to_string(),
            };
            match how {
                3 => url.extend(respelled.bytes().map(|b| format!("%{b:02x}"))),
                // A separator is already a raw byte or an escape.
                _ if matches!(letter, '/' | '\\') => url.push_str(&respelled),
                _ => url.push_str(&percent_encode_path(&respelled)),
            }
        }
        (plain, url)
    })
}

fn any_entry() -> impl Strategy<Value = DirectoryEntry> {
    let path = "[abAB]{1,2}([/\\\\][abAB]{1,2})?\\.nsf";
    (path, 0_u8..4, 0_u64..6, 0_u8..3, "[a-c]{0,2}").prop_map(|(path, server, id, status, title)| {
        DirectoryEntry {
            status: [ReplicaStatus::InService, ReplicaStatus::OutOfService, ReplicaStatus::PendingDelete]
                [usize::from(status)],
            ..titled(entry(&format!("Web{server}/Acme"), &path, ReplicaId(id)), &title)
        }
    })
}

#[test]
fn a_replica_takes_at_most_160_bytes() {
    // Just above the capacity of a hash table, where it wastes the most memory.
    let databases = 58_000_u64;
    let mut builder = DirectoryBuilder::default();
    for n in 0..databases {
        for server in 0..3 {
            let path = format!(
                "Departments\\Division{:02}\\Region North\\Team {:03}\\Database {n:07}.nsf",
                n % 64,
                n % 311
            );
            let server = format!("Web{server}/Acme");
            builder.add(&DirectoryEntry {
                title: format!("Database {n} of a team"),
                ..entry(&server, &path, ReplicaId(n * 65_543))
            });
        }
    }
    let (index, report) = builder.finish();
    assert_eq!((report.replicas, report.databases), (3 * 58_000, 58_000));
    let each = index.memory_size() / report.replicas;
    assert!((40..=160).contains(&each), "{each}");
}

#[test]
fn one_two_three_and_more_replicas_are_all_found() {
    let servers = ["Web1/Acme", "Web2/Acme", "Web3/Acme", "Web4/Acme", "Web5/Acme"];
    let mut entries = Vec::new();
    for (n, copies) in (1..=5).chain(1..=5).enumerate() {
        for server in servers.iter().take(copies) {
            entries.push(entry(server, &format!("db{n}.nsf"), ReplicaId(n as u64)));
        }
    }
    let index = build(entries);
    for (n, copies) in (1..=5).chain(1..=5).enumerate() {
        let LookupResult::Unique(found) = index.find_by_url_path(format!("DB{n}.nsf").as_bytes()) else {
            panic!("{n}")
        };
        let names: Vec<_> = index
            .replicas_by_server(&found)
            .map(|h| index.servers()[h.server.as_usize()].abbreviated())
            .collect();
        assert_eq!(names, servers[..copies], "{n}");
        assert_eq!(index.database(found.database).replicas().len(), copies);
    }
    assert_eq!(index.replica_count(), 30);
}

proptest! {
    #[test]
    fn a_path_is_found_in_any_spelling((plain, url) in spelled_path()) {
        let index = build([entry("Web1", "other.nsf", OLD_LEADS), entry("Web1", &plain, LEADS)]);
        prop_assert_eq!(id_at(&index, &url), LEADS, "{} as {}", plain, url);
    }

    #[test]
    fn the_forwarded_path_leads_back_to_the_same_copy((plain, _) in spelled_path()) {
        let index = build([entry("Web1", &plain, LEADS)]);
        let found = DatabaseMatch { database: index.find_by_replica_id(LEADS).unwrap(), path: None };
        let holder = index.replicas_by_server(&found).next().unwrap();
        prop_assert_eq!(id_at(&index, &percent_encode_path(holder.path())), LEADS);
    }

    #[test]
    fn no_bytes_make_a_lookup_panic(raw in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = build(acme()).find_by_url_path(&raw);
    }

    /// The model is a map from server and folded path to the last entry.
    #[test]
    fn an_index_agrees_with_a_plain_map(entries in proptest::collection::vec(any_entry(), 0..40)) {
        use std::collections::{BTreeMap, BTreeSet};
        let folded = |e: &DirectoryEntry| e.path.replace('\\', "/").to_lowercase();
        let model: BTreeMap<_, _> = entries.iter().map(|e| ((e.server.clone(), folded(e)), e)).collect();
        let (index, report) = DirectoryIndex::build(entries.clone());
        prop_assert_eq!(report.replicas, model.len());
        prop_assert_eq!(report.duplicates, entries.len() - model.len());
        prop_assert_eq!(index.replica_count(), model.len());
        let shown: BTreeSet<_> = index
            .databases()
            .flat_map(|d| {
                let index = &index;
                d.replicas().map(move |r| {
                    let server = index.servers()[r.server.as_usize()].clone();
                    (server, r.path.to_owned(), d.replica_id(), r.status)
                })
            })
            .collect();
        let expected: BTreeSet<_> = model
            .iter()
            .map(|((server, _), e)| (server.clone(), e.path.replace('\\', "/"), e.replica_id, e.status))
            .collect();
        prop_assert_eq!(shown, expected);

        let paths: BTreeSet<_> = model.keys().map(|(_, path)| path.clone()).collect();
        prop_assert_eq!(report.paths, paths.len());
        for path in paths {
            let ids: BTreeSet<_> = model.iter().filter(|((_, p), _)| *p == path).map(|(_, e)| e.replica_id).collect();
            let found: Vec<_> = match index.find_by_url_path(path.as_bytes()) {
                LookupResult::Unknown => vec![],
                LookupResult::Unique(found) => vec![found],
                LookupResult::Ambiguous(ix) => index.ambiguous_databases(ix).collect(),
            };
            let found_ids: Vec<_> = found.iter().map(|f| index.database(f.database).replica_id()).collect();
            prop_assert_eq!(found_ids, ids.into_iter().collect::<Vec<_>>());
            for found in found {
                let id = index.database(found.database).replica_id();
                let servers: BTreeSet<_> =
                    model.iter().filter(|(_, e)| e.replica_id == id).map(|((s, _), _)| s.clone()).collect();
                let holders: Vec<_> = index.replicas_by_server(&found).collect();
                let names: Vec<_> = holders.iter().map(|h| index.servers()[h.server.as_usize()].clone()).collect();
                prop_assert_eq!(&names, &servers.into_iter().collect::<Vec<_>>());
                for (holder, name) in holders.iter().zip(names) {
                    let here = model.get(&(name.clone(), path.clone())).filter(|e| e.replica_id == id);
                    prop_assert_eq!(holder.same_path, here.is_some());
                    if let Some(here) = here {
                        prop_assert_eq!(holder.status, here.status);
                    } else {
                        let in_service = model
                            .iter()
                            .any(|((s, _), e)| *s == name && e.replica_id == id && e.status == ReplicaStatus::InService);
                        prop_assert_eq!(holder.status == ReplicaStatus::InService, in_service);
                    }
                    let copies = model.iter().filter(|((s, _), e)| *s == name && e.replica_id == id).count();
                    prop_assert_eq!(usize::from(holder.replica_count), copies);
                }
            }
        }
    }

    #[test]
    fn the_order_of_entries_without_duplicates_changes_nothing(entries in proptest::collection::vec(any_entry(), 0..20)) {
        let mut unique: Vec<DirectoryEntry> = Vec::new();
        for e in entries {
            let folded = |e: &DirectoryEntry| (e.server.clone(), e.path.replace('\\', "/").to_lowercase());
            if !unique.iter().any(|u| folded(u) == folded(&e)) {
                unique.push(DirectoryEntry { title: String::new(), ..e });
            }
        }
        let summary = |index: &DirectoryIndex| format!("{:?}", index.databases().map(|d| (d.replica_id(), d.replicas().map(|r| (r.server, r.path.to_owned(), r.status)).collect::<Vec<_>>())).collect::<Vec<_>>());
        let forwards = summary(&build(unique.clone()));
        unique.reverse();
        prop_assert_eq!(summary(&build(unique)), forwards);
    }
}
