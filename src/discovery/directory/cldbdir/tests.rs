//! The directory from servers that respond, fall back to another view, or fail.
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
            path: Some(Column::Number(0)),
            server: Some(Column::Number(1)),
            replica_id: Some(Column::Number(3)),
            title: Some(Column::Number(2)),
            out_of_service: None,
            pending_delete: None,
        },
        auth: Auth::None,
        refresh: Duration::from_secs(60),
        cache: None,
    }
}

fn server_address(name: &str, server: &TestServer) -> ServerAddress {
    ServerAddress {
        name: ServerName::parse(name).unwrap(),
        hostname: "web.acme.example".to_owned(),
        address: server.address,
        https: false,
    }
}

async fn read_from(server: &TestServer, settings: &Cldbdir) -> Result<DirectoryReading, DirectoryReadError> {
    read_directory(
        &client(),
        &[server_address("Web1/Acme", server)],
        settings,
        &LoginSessions::default(),
        &AnsweredViews::default(),
    )
    .await
}

/// Returns one page and then an empty one, whatever `Start` means.
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

/// The number in the warning about bad rows.
fn bad_rows(reading: &DirectoryReading) -> usize {
    let before = reading.warnings.iter().find_map(|w| Some(w.split_once(" bad rows in ")?.0));
    before.map_or(0, |text| text.rsplit(' ').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn the_hidden_view_is_read_by_column_numbers() {
    let server = TestServer::start(|asked| once(asked, FLAT)).await;
    let reading = read_from(&server, &settings()).await.unwrap();
    assert_eq!((reading.builder.len(), bad_rows(&reading), reading.truncated.as_deref()), (5, 0, None));
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
async fn bad_rows_are_counted_and_skipped() {
    let page = view(&[
        row(&["a.nsf", "Web1/Acme", "", "C1257A000041D2E0"]),
        row(&["", "Web1/Acme", "", "C1257A000041D2E0"]),
        row(&["b.nsf", "", "", "C1257A000041D2E0"]),
        row(&["c.nsf", "Web1/Acme", "", "nonsense"]),
        row(&["d.nsf", "Web1//Acme", "", "C1257A000041D2E0"]),
    ]);
    let server = TestServer::start(move |asked| once(asked, &page)).await;
    let reading = read_from(&server, &settings()).await.unwrap();
    assert_eq!((reading.builder.len(), bad_rows(&reading)), (1, 4));
    assert!(
        reading.warnings[0].contains("4 bad rows in cldbdir.nsf: row 1: no path"),
        "{:?}",
        reading.warnings
    );
}

#[tokio::test]
async fn a_missing_hidden_view_is_replaced_by_a_visible_one_with_a_warning() {
    for (wanted, page) in
        [("/Databases%20by%20Pathname", FLAT), ("/Databases%20by%20Replica%20ID", CATEGORISED)]
    {
        let server = TestServer::start(move |asked| {
            if asked.target.contains(wanted) { once(asked, page) } else { TestReply::status(404) }
        })
        .await;
        let reading = read_from(&server, &settings()).await.unwrap();
        assert_eq!((reading.builder.len(), bad_rows(&reading)), (5, 0), "{wanted}");
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
async fn the_columns_of_a_fallback_view_are_recognised_by_content() {
    let page = view(&[row(&["Leads of 2026", "C1257A000041D2E0", "apps/leads.nsf", "Web2/Acme"])]);
    let server = TestServer::start(move |asked| {
        if asked.target.contains("Databases") { once(asked, &page) } else { TestReply::status(404) }
    })
    .await;
    let entry = entries_of(&read_from(&server, &settings()).await.unwrap()).pop().unwrap();
    assert_eq!((entry.path.as_str(), entry.server.abbreviated()), ("apps/leads.nsf", "Web2/Acme"));
    assert_eq!(entry.replica_id, ReplicaId(0xC125_7A00_0041_D2E0));
}

/// The view in the path of a request: `/Databases%20by%20Pathname`.
fn view_of(target: &str) -> String {
    let path = target.split('?').next().unwrap_or_default();
    path.strip_prefix("/cldbdir.nsf/").unwrap().replace("%20", " ").replace("%28", "(").replace("%29", ")")
}

/// The views that were asked for, each once for all its pages.
fn views_asked(server: &TestServer) -> Vec<String> {
    let mut views: Vec<String> = server.targets().iter().map(|target| view_of(target)).collect();
    views.dedup();
    views
}

#[tokio::test]
async fn the_hidden_view_is_tried_first_and_the_view_that_answered_from_then_on() {
    let hidden_is_open = Arc::new(AtomicUsize::new(0));
    let visible_is_open = Arc::new(AtomicUsize::new(1));
    let (hidden, visible) = (hidden_is_open.clone(), visible_is_open.clone());
    let server = TestServer::start(move |asked| {
        let open = match view_of(&asked.target).as_str() {
            "($Pathname)" => &hidden,
            "Databases by Pathname" => &visible,
            other => panic!("{other}"),
        };
        if open.load(Ordering::SeqCst) == 1 { once(asked, FLAT) } else { TestReply::status(404) }
    })
    .await;
    let (client, sessions, answered) = (client(), LoginSessions::default(), AnsweredViews::default());
    let servers = [server_address("Web1/Acme", &server)];
    let settings = settings();
    let read = || read_directory(&client, &servers, &settings, &sessions, &answered);
    let reading = read().await.unwrap();
    assert_eq!((reading.view.as_str(), reading.builder.len()), ("Databases by Pathname", 5));
    assert_eq!(views_asked(&server), ["($Pathname)", "Databases by Pathname"]);
    // Opening the hidden one changes nothing: the one that answered is asked alone, and the warning stays the same.
    hidden_is_open.store(1, Ordering::SeqCst);
    let again = read().await.unwrap();
    assert_eq!((again.view.as_str(), again.warnings), ("Databases by Pathname", reading.warnings));
    assert_eq!(views_asked(&server).len(), 2);
    // Once it is closed, the order begins anew.
    visible_is_open.store(0, Ordering::SeqCst);
    let last = read().await.unwrap();
    assert_eq!((last.view.as_str(), last.warnings), ("($Pathname)", Vec::new()));
    assert_eq!(views_asked(&server), ["($Pathname)", "Databases by Pathname", "($Pathname)"]);
}

#[tokio::test]
async fn a_login_page_a_refusal_or_no_answer_does_not_mean_that_the_view_is_closed() {
    const LOGIN: &str = "<html><form method=\"post\" action=\"/names.nsf?Login\"></form></html>";
    let answers: [fn() -> TestReply; 7] = [
        || TestReply::ok(LOGIN),
        || TestReply::status(401),
        || TestReply::status(403),
        || TestReply::status(500),
        || TestReply::status(503),
        || TestReply::Page(302, "Location: /names.nsf?Login\r\n", Vec::new()),
        || TestReply::Close,
    ];
    for (n, answer) in answers.into_iter().enumerate() {
        let server = TestServer::start(move |asked| match view_of(&asked.target).as_str() {
            "($Pathname)" => answer(),
            _ => once(asked, FLAT),
        })
        .await;
        read_from(&server, &settings()).await.unwrap_err();
        assert_eq!(views_asked(&server), ["($Pathname)"], "answer {n}");
    }
}

/// *Databases by Pathname* as the template describes it: path as category, server, replica ID.
fn by_pathname(columns: [&str; 3]) -> String {
    format!(
        "<viewentries toplevelentries=\"1\"><viewentry position=\"1\" noteid=\"80000004\" children=\"1\">\
         <entrydata columnnumber=\"0\" name=\"{}\" category=\"true\"><text>Apps\\Leads.nsf</text></entrydata></viewentry>\
         <viewentry position=\"1.1\" unid=\"A\"><entrydata columnnumber=\"1\" name=\"{}\"><text>CN=Web2/O=Acme</text></entrydata>\
         <entrydata columnnumber=\"2\" name=\"{}\"><text>C1257A00:0041D2E0</text></entrydata>\
         <entrydata columnnumber=\"4\" name=\"Oos\"><text>1</text></entrydata></viewentry></viewentries>",
        columns[0], columns[1], columns[2]
    )
}

#[tokio::test]
async fn the_columns_of_the_visible_view_are_recognised_whatever_their_names_are() {
    for names in [["Pathname", "CanonicalServername", "ReplicaID"], ["$0", "$1", "$2"]] {
        let page = by_pathname(names);
        let server = TestServer::start(move |asked| match view_of(&asked.target).as_str() {
            "($Pathname)" => TestReply::status(404),
            _ if asked.query("Start").as_deref() == Some("1") => TestReply::ok(page.clone()),
            _ => TestReply::ok("<viewentries/>"),
        })
        .await;
        // Named in the configuration, its columns are recognised too, and nothing else is asked for.
        let mut named = settings();
        named.view = "databases by pathname".to_owned();
        (named.columns.path, named.columns.server, named.columns.replica_id) = (None, None, None);
        named.columns.title = None;
        for (settings, is_substitute) in [(settings(), true), (named, false)] {
            let reading = read_from(&server, &settings).await.unwrap();
            let entry = entries_of(&reading).pop().unwrap();
            assert_eq!((entry.path.as_str(), entry.server.abbreviated()), ("Apps/Leads.nsf", "Web2/Acme"));
            assert_eq!(entry.replica_id, ReplicaId(0xC125_7A00_0041_D2E0));
            assert_eq!(reading.warnings.len(), usize::from(is_substitute), "{:?}", reading.warnings);
        }
        assert_eq!(views_asked(&server), ["($Pathname)", "Databases by Pathname", "databases by pathname"]);
    }
}

#[tokio::test]
async fn marks_by_number_are_not_read_from_a_view_for_which_they_were_not_meant() {
    let page = by_pathname(["Pathname", "ServerName", "ReplicaID"]);
    let server = TestServer::start(move |asked| match view_of(&asked.target).as_str() {
        "($Pathname)" => TestReply::status(404),
        _ => once(asked, &page),
    })
    .await;
    for (column, expected, is_mentioned) in [
        (Column::Number(4), ReplicaStatus::InService, true),
        (Column::Name("oos".to_owned()), ReplicaStatus::OutOfService, false),
    ] {
        let mut settings = settings();
        settings.columns.out_of_service = Some(column);
        let reading = read_from(&server, &settings).await.unwrap();
        assert_eq!(entries_of(&reading)[0].status, expected);
        assert_eq!(reading.warnings[0].contains("without the marks"), is_mentioned, "{:?}", reading.warnings);
    }
}

#[tokio::test]
async fn a_custom_view_has_no_fallback() {
    let server = TestServer::start(|_| TestReply::status(404)).await;
    let mut settings = settings();
    settings.view = "ICM Databases".to_owned();
    let failure = read_from(&server, &settings).await.unwrap_err();
    assert_eq!(server.requests().len(), 1);
    assert!(failure.to_string().contains("Web1/Acme") && failure.to_string().contains("404"), "{failure}");
}

#[tokio::test]
async fn the_error_for_a_missing_database_names_the_configured_view() {
    let server = TestServer::start(|_| TestReply::status(404)).await;
    let failure = read_from(&server, &settings()).await.unwrap_err();
    assert!(failure.to_string().contains("($Pathname)"), "{failure}");
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn the_next_server_is_asked_when_one_fails() {
    let broken = TestServer::start(|_| TestReply::Close).await;
    let login = TestServer::start(|_| TestReply::status(401)).await;
    let good = TestServer::start(|asked| once(asked, FLAT)).await;
    let servers = [
        server_address("Web1/Acme", &broken),
        server_address("Web2/Acme", &login),
        server_address("Web3/Acme", &good),
    ];
    let (client, sessions, answered) = (client(), LoginSessions::default(), AnsweredViews::default());
    let reading = read_directory(&client, &servers, &settings(), &sessions, &answered).await.unwrap();
    assert_eq!(reading.from.abbreviated(), "Web3/Acme");
    assert_eq!(reading.warnings.len(), 2, "{:?}", reading.warnings);
    let failure =
        read_directory(&client, &servers[..2], &settings(), &sessions, &answered).await.unwrap_err();
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

async fn server_with(n: usize) -> TestServer {
    let page = entries(n);
    TestServer::start(move |asked| once(asked, &page)).await
}

/// The digest of a directory with ten databases.
async fn digest_of_ten() -> ReadingDigest {
    let server = server_with(10).await;
    let reading = read_from(&server, &settings()).await.unwrap();
    ReadingDigest::of(reading.from, &reading.builder)
}

#[tokio::test]
async fn a_reading_that_lost_too_much_needs_confirmation_by_another_server() {
    let current = digest_of_ten().await;
    let (small, whole) = (server_with(3).await, server_with(10).await);
    let (client, sessions, answered) = (client(), LoginSessions::default(), AnsweredViews::default());
    let servers = [server_address("Web1/Acme", &small), server_address("Web2/Acme", &whole)];
    let mut validator = ReadingValidator::default();
    match refresh(&client, &servers, &settings(), &sessions, &answered, &mut validator, Some(&current)).await
    {
        RefreshOutcome::Accepted { reading, .. } => assert_eq!(reading.builder.len(), 10),
        other => panic!("{other:?}"),
    }
    let agreeing = server_with(3).await;
    let servers = [server_address("Web1/Acme", &small), server_address("Web2/Acme", &agreeing)];
    match refresh(&client, &servers, &settings(), &sessions, &answered, &mut validator, Some(&current)).await
    {
        RefreshOutcome::Accepted { reading, digest } => {
            assert_eq!((reading.builder.len(), digest.len), (3, 3))
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_suspicious_reading_of_the_only_server_that_responds_is_accepted_the_third_time() {
    let current = digest_of_ten().await;
    let (small, dead) = (server_with(3).await, TestServer::start(|_| TestReply::Close).await);
    let (client, sessions, answered) = (client(), LoginSessions::default(), AnsweredViews::default());
    let servers = [
        server_address("Web1/Acme", &dead),
        server_address("Web2/Acme", &small),
        server_address("Web3/Acme", &dead),
    ];
    let mut validator = ReadingValidator::default();
    for round in 1..=3 {
        match refresh(&client, &servers, &settings(), &sessions, &answered, &mut validator, Some(&current))
            .await
        {
            RefreshOutcome::Accepted { reading, .. } => assert_eq!((round, reading.builder.len()), (3, 3)),
            RefreshOutcome::Held { reason, .. } => {
                assert!(round < 3 && reason.contains("lost 7 of 10 entries"), "{round}: {reason}");
            }
            RefreshOutcome::Failed(failure) => panic!("{failure}"),
        }
    }
}

#[tokio::test]
async fn a_refresh_is_held_when_servers_disagree_and_fails_when_none_responds() {
    let current = digest_of_ten().await;
    let (three, four) = (server_with(3).await, server_with(4).await);
    let (client, sessions, answered) = (client(), LoginSessions::default(), AnsweredViews::default());
    let servers = [server_address("Web1/Acme", &three), server_address("Web2/Acme", &four)];
    let mut validator = ReadingValidator::default();
    for _ in 0..4 {
        match refresh(&client, &servers, &settings(), &sessions, &answered, &mut validator, Some(&current))
            .await
        {
            RefreshOutcome::Held { reason, .. } => assert!(reason.contains("disagree"), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
    let none = refresh(&client, &[], &settings(), &sessions, &answered, &mut validator, Some(&current)).await;
    assert!(matches!(none, RefreshOutcome::Failed(_)));
}

#[tokio::test]
async fn a_directory_of_several_pages_is_read_completely() {
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
async fn a_refresh_prefers_a_complete_directory_to_an_incomplete_one() {
    let current = digest_of_ten().await;
    let cut = entries(9).replace("toplevelentries=\"9\"", "toplevelentries=\"12\"");
    let incomplete = TestServer::start(move |asked| once(asked, &cut)).await;
    let (whole, dead) = (server_with(12).await, TestServer::start(|_| TestReply::Close).await);
    let (client, sessions, answered) = (client(), LoginSessions::default(), AnsweredViews::default());
    let mut validator = ReadingValidator::default();
    let servers = [server_address("Web1/Acme", &incomplete), server_address("Web2/Acme", &whole)];
    match refresh(&client, &servers, &settings(), &sessions, &answered, &mut validator, Some(&current)).await
    {
        RefreshOutcome::Accepted { reading, .. } => assert_eq!(reading.builder.len(), 12),
        other => panic!("{other:?}"),
    }
    let servers = [server_address("Web1/Acme", &incomplete), server_address("Web2/Acme", &dead)];
    for round in 1..=3 {
        match refresh(&client, &servers, &settings(), &sessions, &answered, &mut validator, Some(&current))
            .await
        {
            RefreshOutcome::Held { reason, .. } => {
                assert!(round < 3 && reason.contains("9 of 12 top-level entries"), "{round}: {reason}");
            }
            RefreshOutcome::Accepted { reading, .. } => assert_eq!((round, reading.builder.len()), (3, 9)),
            RefreshOutcome::Failed(failure) => panic!("{failure}"),
        }
    }
    // Without a directory in use, an incomplete one is better than none.
    match refresh(&client, &servers, &settings(), &sessions, &answered, &mut validator, None).await {
        RefreshOutcome::Accepted { reading, .. } => assert_eq!(reading.builder.len(), 9),
        other => panic!("{other:?}"),
    }
}
