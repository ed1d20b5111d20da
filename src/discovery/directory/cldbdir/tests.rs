//! The directory from members that answer, fall back, or do not.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::config::settings::{Auth, Column, DirectoryColumns, ViewFormat};
use crate::discovery::directory::acceptance::{ReadingDigest, ReadingValidator};
use crate::discovery::directory::refresh::{RefreshOutcome, refresh};
use crate::discovery::domino::testing::{ReceivedRequest, TestReply, TestServer, client};
use crate::domain::directory::{DirectoryEntry, ReplicaId, ReplicaStatus};

const FLAT: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fixtures/cldbdir-pathname-flat.readviewentries.xml"
));
const CATEGORISED: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fixtures/cldbdir-replicaid-categorised.readviewentries.xml"
));

fn settings() -> Cldbdir {
    Cldbdir {
        database: "cldbdir.nsf".to_owned(),
        view: "($Pathname)".to_owned(),
        format: ViewFormat::Xml,
        columns: DirectoryColumns {
            path: Column::Number(0),
            server: Column::Number(1),
            replica_id: Column::Number(3),
            title: Some(Column::Number(2)),
            out_of_service: None,
            pending_delete: None,
        },
        auth: Auth::None,
        refresh: Duration::from_secs(60),
        cache: None,
    }
}

fn member(name: &str, server: &TestServer) -> ServerAddress {
    ServerAddress {
        name: ServerName::parse(name).unwrap(),
        hostname: "web.acme.example".to_owned(),
        address: server.address,
        https: false,
    }
}

async fn read_from(server: &TestServer, settings: &Cldbdir) -> Result<DirectoryReading, DirectoryReadError> {
    read_directory(&client(), &[member("Web1/Acme", server)], settings, &LoginSessions::default()).await
}

/// One page, then nothing more, whatever `Start` counts.
fn once(asked: &ReceivedRequest, page: &str) -> TestReply {
    match asked.query("Start").as_deref() {
        Some("1") => TestReply::ok(page),
        _ => TestReply::ok("<viewentries/>"),
    }
}

fn row(columns: &[&str]) -> String {
    let mut out = String::from("<viewentry position=\"1\" unid=\"A\">");
    for (n, text) in columns.iter().enumerate() {
        out.push_str(&format!(
            "<entrydata columnnumber=\"{n}\" name=\"C{n}\"><text>{text}</text></entrydata>"
        ));
    }
    out + "</viewentry>"
}

fn view(rows: &[String]) -> String {
    format!("<viewentries toplevelentries=\"{}\">{}</viewentries>", rows.len(), rows.concat())
}

#[tokio::test]
async fn the_hidden_view_is_read_by_column_numbers() {
    let server = TestServer::start(|asked| once(asked, FLAT)).await;
    let reading = read_from(&server, &settings()).await.unwrap();
    assert_eq!((reading.builder.len(), reading.bad_rows, reading.truncated.as_deref()), (5, 0, None));
    assert_eq!(reading.warnings, Vec::<String>::new());
    assert_eq!(
        entries_of(&reading)[3],
        DirectoryEntry {
            path: "sales/leads.nsf".to_owned(),
            server: ServerName::parse("Web3/Acme").unwrap(),
            replica_id: ReplicaId(0xC125_790F_002B_11AA),
            title: "Leads (old project)".to_owned(),
            status: ReplicaStatus::InService,
        }
    );
}

#[tokio::test]
async fn marks_are_set_unless_empty_0_no_or_false() {
    let rows: Vec<String> = [("", ""), ("0", " No "), ("FALSE", ""), ("1", ""), ("x", "yes"), ("", "1")]
        .iter()
        .map(|(out, delete)| row(&["a.nsf", "Web1/Acme", "", "C1257A00:0041D2E0", out, delete]))
        .collect();
    let page = view(&rows);
    let server = TestServer::start(move |asked| once(asked, &page)).await;
    let mut settings = settings();
    settings.columns.out_of_service = Some(Column::Number(4));
    settings.columns.pending_delete = Some(Column::Name("c5".to_owned()));
    let reading = read_from(&server, &settings).await.unwrap();
    let marks: Vec<ReplicaStatus> = entries_of(&reading).iter().map(|entry| entry.status).collect();
    use ReplicaStatus::{InService, OutOfService, PendingDelete};
    assert_eq!(marks, [InService, InService, InService, OutOfService, PendingDelete, PendingDelete]);
}

#[tokio::test]
async fn bad_rows_are_counted_and_the_good_ones_serve() {
    let page = view(&[
        row(&["a.nsf", "Web1/Acme", "", "C1257A000041D2E0"]),
        row(&["", "Web1/Acme", "", "C1257A000041D2E0"]),
        row(&["b.nsf", "", "", "C1257A000041D2E0"]),
        row(&["c.nsf", "Web1/Acme", "", "nonsense"]),
        row(&["d.nsf", "Web1//Acme", "", "C1257A000041D2E0"]),
    ]);
    let server = TestServer::start(move |asked| once(asked, &page)).await;
    let reading = read_from(&server, &settings()).await.unwrap();
    assert_eq!((reading.builder.len(), reading.bad_rows), (1, 4));
    assert!(
        reading.warnings[0].contains("4 bad rows in cldbdir.nsf: row 1: no path"),
        "{:?}",
        reading.warnings
    );
}

#[tokio::test]
async fn a_missing_hidden_view_falls_back_to_a_visible_one_and_says_so() {
    for (wanted, page) in
        [("/Databases%20by%20Pathname", FLAT), ("/Databases%20by%20Replica%20ID", CATEGORISED)]
    {
        let server = TestServer::start(move |asked| {
            if asked.target.contains(wanted) { once(asked, page) } else { TestReply::status(404) }
        })
        .await;
        let reading = read_from(&server, &settings()).await.unwrap();
        assert_eq!((reading.builder.len(), reading.bad_rows), (5, 0), "{wanted}");
        assert!(entries_of(&reading).iter().any(|entry| {
            entry.path == "apps/leads.nsf"
                && entry.server.abbreviated() == "Web2/Acme"
                && entry.replica_id == ReplicaId(0xC125_7A00_0041_D2E0)
        }));
        assert!(reading.warnings[0].contains("was read instead"), "{:?}", reading.warnings);
        let last = server.targets().pop().unwrap();
        assert!(last.contains("&ExpandView"), "{last}");
    }
}

#[tokio::test]
async fn a_fallback_view_with_unknown_column_names_is_read_by_what_they_hold() {
    let page = view(&[row(&["Leads of 2026", "C1257A000041D2E0", "apps/leads.nsf", "Web2/Acme"])]);
    let server = TestServer::start(move |asked| {
        if asked.target.contains("Databases") { once(asked, &page) } else { TestReply::status(404) }
    })
    .await;
    let entry = entries_of(&read_from(&server, &settings()).await.unwrap()).pop().unwrap();
    assert_eq!((entry.path.as_str(), entry.server.abbreviated()), ("apps/leads.nsf", "Web2/Acme"));
    assert_eq!(entry.replica_id, ReplicaId(0xC125_7A00_0041_D2E0));
}

#[tokio::test]
async fn a_view_of_the_administrators_own_never_falls_back() {
    let server = TestServer::start(|_| TestReply::status(404)).await;
    let mut settings = settings();
    settings.view = "ICM Databases".to_owned();
    let failure = read_from(&server, &settings).await.unwrap_err();
    assert_eq!(server.requests().len(), 1);
    assert!(failure.to_string().contains("Web1/Acme") && failure.to_string().contains("404"), "{failure}");
}

#[tokio::test]
async fn a_database_that_is_nowhere_is_told_as_the_configured_view() {
    let server = TestServer::start(|_| TestReply::status(404)).await;
    let failure = read_from(&server, &settings()).await.unwrap_err();
    assert!(failure.to_string().contains("($Pathname)"), "{failure}");
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn the_next_member_is_asked_when_one_fails() {
    let broken = TestServer::start(|_| TestReply::Close).await;
    let login = TestServer::start(|_| TestReply::status(401)).await;
    let good = TestServer::start(|asked| once(asked, FLAT)).await;
    let members = [member("Web1/Acme", &broken), member("Web2/Acme", &login), member("Web3/Acme", &good)];
    let (client, sessions) = (client(), LoginSessions::default());
    let reading = read_directory(&client, &members, &settings(), &sessions).await.unwrap();
    assert_eq!(reading.from.abbreviated(), "Web3/Acme");
    assert_eq!(reading.warnings.len(), 2, "{:?}", reading.warnings);
    let failure = read_directory(&client, &members[..2], &settings(), &sessions).await.unwrap_err();
    assert_eq!(failure.attempts.len(), 2);
    assert!(
        failure.to_string().contains("Web2/Acme: ") && failure.to_string().contains("Anonymous"),
        "{failure}"
    );
}

fn entries_of(reading: &DirectoryReading) -> Vec<DirectoryEntry> {
    reading.builder.entries().collect()
}

fn entries(n: usize) -> String {
    let row = |n| row(&[&format!("db{n}.nsf"), "Web1/Acme", "", &format!("{n:016X}")]);
    view(&(0..n).map(row).collect::<Vec<_>>())
}

async fn holding(n: usize) -> TestServer {
    let page = entries(n);
    TestServer::start(move |asked| once(asked, &page)).await
}

/// The digest of a directory with ten databases.
async fn ten() -> ReadingDigest {
    let server = holding(10).await;
    let reading = read_from(&server, &settings()).await.unwrap();
    ReadingDigest::of(reading.from, &reading.builder)
}

#[tokio::test]
async fn a_refresh_that_lost_too_much_asks_another_member_before_it_serves() {
    let serving = ten().await;
    let (small, whole) = (holding(3).await, holding(10).await);
    let (client, sessions) = (client(), LoginSessions::default());
    let members = [member("Web1/Acme", &small), member("Web2/Acme", &whole)];
    let mut validator = ReadingValidator::new();
    match refresh(&client, &members, &settings(), &sessions, &mut validator, Some(&serving)).await {
        RefreshOutcome::Accepted { reading, .. } => assert_eq!(reading.builder.len(), 10),
        other => panic!("{other:?}"),
    }
    let agreeing = holding(3).await;
    let members = [member("Web1/Acme", &small), member("Web2/Acme", &agreeing)];
    match refresh(&client, &members, &settings(), &sessions, &mut validator, Some(&serving)).await {
        RefreshOutcome::Accepted { reading, digest } => {
            assert_eq!((reading.builder.len(), digest.len), (3, 3))
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_refresh_of_the_only_member_that_answers_is_believed_the_third_time() {
    let serving = ten().await;
    let (small, dead) = (holding(3).await, TestServer::start(|_| TestReply::Close).await);
    let (client, sessions) = (client(), LoginSessions::default());
    let members = [member("Web1/Acme", &dead), member("Web2/Acme", &small), member("Web3/Acme", &dead)];
    let mut validator = ReadingValidator::new();
    for round in 1..=3 {
        match refresh(&client, &members, &settings(), &sessions, &mut validator, Some(&serving)).await {
            RefreshOutcome::Accepted { reading, .. } => assert_eq!((round, reading.builder.len()), (3, 3)),
            RefreshOutcome::Held { reason, .. } => {
                assert!(round < 3 && reason.contains("lost 7 of 10 entries"), "{round}: {reason}");
            }
            RefreshOutcome::Failed(failure) => panic!("{failure}"),
        }
    }
}

#[tokio::test]
async fn a_refresh_holds_when_two_members_disagree_and_fails_when_none_answers() {
    let serving = ten().await;
    let (three, four) = (holding(3).await, holding(4).await);
    let (client, sessions) = (client(), LoginSessions::default());
    let members = [member("Web1/Acme", &three), member("Web2/Acme", &four)];
    let mut validator = ReadingValidator::new();
    for _ in 0..4 {
        match refresh(&client, &members, &settings(), &sessions, &mut validator, Some(&serving)).await {
            RefreshOutcome::Held { reason, .. } => assert!(reason.contains("disagree"), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
    let none = refresh(&client, &[], &settings(), &sessions, &mut validator, Some(&serving)).await;
    assert!(matches!(none, RefreshOutcome::Failed(_)));
}

#[tokio::test]
async fn a_directory_of_several_pages_comes_whole() {
    let pages = Arc::new(AtomicUsize::new(0));
    let count = pages.clone();
    let server = TestServer::start(move |asked| {
        count.fetch_add(1, Ordering::SeqCst);
        let start = asked.number("Start");
        let rows: Vec<String> = (start..start + 1000)
            .take_while(|n| *n <= 3500)
            .map(|n| row(&[&format!("db{n}.nsf"), "Web1/Acme", "", &format!("{n:016X}")]))
            .collect();
        TestReply::ok(format!("<viewentries toplevelentries=\"3500\">{}</viewentries>", rows.concat()))
    })
    .await;
    let reading = read_from(&server, &settings()).await.unwrap();
    assert_eq!((reading.builder.len(), pages.load(Ordering::SeqCst)), (3500, 4));
    assert_eq!(reading.truncated, None);
}

#[tokio::test]
async fn a_refresh_never_takes_an_incomplete_directory_while_another_member_has_a_complete_one() {
    let serving = ten().await;
    let cut = entries(9).replace("toplevelentries=\"9\"", "toplevelentries=\"12\"");
    let incomplete = TestServer::start(move |asked| once(asked, &cut)).await;
    let (whole, dead) = (holding(12).await, TestServer::start(|_| TestReply::Close).await);
    let (client, sessions) = (client(), LoginSessions::default());
    let mut validator = ReadingValidator::new();
    let members = [member("Web1/Acme", &incomplete), member("Web2/Acme", &whole)];
    match refresh(&client, &members, &settings(), &sessions, &mut validator, Some(&serving)).await {
        RefreshOutcome::Accepted { reading, .. } => assert_eq!(reading.builder.len(), 12),
        other => panic!("{other:?}"),
    }
    let members = [member("Web1/Acme", &incomplete), member("Web2/Acme", &dead)];
    for round in 1..=3 {
        match refresh(&client, &members, &settings(), &sessions, &mut validator, Some(&serving)).await {
            RefreshOutcome::Held { reason, .. } => {
                assert!(round < 3 && reason.contains("9 of 12 top level entries"), "{round}: {reason}");
            }
            RefreshOutcome::Accepted { reading, .. } => assert_eq!((round, reading.builder.len()), (3, 9)),
            RefreshOutcome::Failed(failure) => panic!("{failure}"),
        }
    }
    // Where nothing serves, part of a directory is more than none.
    match refresh(&client, &members, &settings(), &sessions, &mut validator, None).await {
        RefreshOutcome::Accepted { reading, .. } => assert_eq!(reading.builder.len(), 9),
        other => panic!("{other:?}"),
    }
}
