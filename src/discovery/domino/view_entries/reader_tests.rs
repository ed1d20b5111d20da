//! Views from servers with different paging.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::reader::{ReadError, ReadSummary, ReadTimeLimit, RowSink, ViewRequest, ViewSource, read};
use super::{PageError, Row};
use crate::config::settings::{Auth, Column, ViewFormat};
use crate::discovery::domino::LoginSessions;
use crate::discovery::domino::login::LoginError;
use crate::discovery::domino::testing::{ReceivedRequest, TestReply, TestServer, client};

#[derive(Debug, Default)]
struct Texts {
    texts: Vec<String>,
    starts: usize,
}

impl RowSink for Texts {
    fn reset(&mut self) {
        self.texts.clear();
        self.starts += 1;
    }
    fn accept_row(&mut self, row: Row) {
        self.texts.push(format!("{}{}", row.text(&Column::Number(0)), row.text(&Column::Number(1))));
    }
}

async fn read_view(server: &TestServer, format: ViewFormat) -> Result<(ReadSummary, Texts), ReadError> {
    read_within(server, format, ReadTimeLimit::for_refresh_interval(Duration::from_secs(60))).await
}

async fn read_within(
    server: &TestServer,
    format: ViewFormat,
    time_limit: ReadTimeLimit,
) -> Result<(ReadSummary, Texts), ReadError> {
    let (client, sessions) = (client(), LoginSessions::default());
    let source = ViewSource {
        client: &client,
        address: server.address,
        https: false,
        hostname: "web1.acme.example",
        base: "/",
        auth: &Auth::None,
        sessions: &sessions,
        time_limit,
    };
    let view = ViewRequest { database: "sub\\cldbdir.nsf", name: "($Pathname)", format, expand: false };
    let mut sink = Texts::default();
    read(&source, &view, &mut sink).await.map(|summary| (summary, sink))
}

/// The rows `from..to` of a flat view with `all` rows.
fn flat(all: usize, from: usize, to: usize) -> String {
    let mut out = format!("<viewentries toplevelentries=\"{all}\">");
    for n in from..to.min(all + 1) {
        out.push_str(&format!("<viewentry position=\"{n}\" unid=\"A\"><entrydata columnnumber=\"0\"><text>{n}</text></entrydata></viewentry>"));
    }
    out + "</viewentries>"
}

fn flat_page(all: usize, cap: usize, asked: &ReceivedRequest) -> TestReply {
    let start = asked.number("Start");
    TestReply::ok(flat(all, start, start + asked.number("Count").min(cap)))
}

fn numbers(to: usize) -> Vec<String> {
    (1..=to).map(|n| n.to_string()).collect()
}

#[tokio::test]
async fn a_view_larger_than_the_servers_page_limit_is_read_completely() {
    let server = TestServer::start(|asked| flat_page(2500, 400, asked)).await;
    let (summary, sink) = read_view(&server, ViewFormat::Xml).await.unwrap();
    assert_eq!(summary, ReadSummary { rows: 2500, truncated: None, inconsistency: None });
    assert_eq!(sink.texts, numbers(2500));
    let targets = server.targets();
    assert_eq!(targets.len(), 7);
    assert_eq!(targets[1], "/sub/cldbdir.nsf/($Pathname)?ReadViewEntries&Start=401&Count=1000");
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn json_is_requested_if_configured() {
    let server = TestServer::start(|_| {
        TestReply::ok(
            "{\"@toplevelentries\":\"1\",\"viewentry\":{\"@position\":\"1\",\"entrydata\":{\"text\":\"x\"}}}",
        )
    })
    .await;
    let (summary, sink) = read_view(&server, ViewFormat::Json).await.unwrap();
    assert_eq!((summary.rows, sink.texts), (1, vec!["x".to_owned()]));
    assert!(server.targets()[0].contains("&OutputFormat=JSON&"));
}

#[tokio::test]
async fn an_empty_view_is_not_an_error() {
    let server = TestServer::start(|asked| flat_page(0, 10, asked)).await;
    let (summary, _) = read_view(&server, ViewFormat::Xml).await.unwrap();
    assert_eq!(summary, ReadSummary { rows: 0, truncated: None, inconsistency: None });
}

#[tokio::test]
async fn rows_hidden_by_access_rights_are_reported() {
    let server = TestServer::start(|asked| {
        let start = asked.number("Start");
        TestReply::ok(flat(7, start, start + 10).replace("toplevelentries=\"7\"", "toplevelentries=\"9\""))
    })
    .await;
    let (summary, _) = read_view(&server, ViewFormat::Xml).await.unwrap();
    assert_eq!(
        (summary.rows, summary.truncated.as_deref()),
        (7, Some("only 7 of 9 top-level entries were received"))
    );
}

#[tokio::test]
async fn a_server_that_ignores_start_is_not_asked_forever() {
    let server = TestServer::start(|_| TestReply::ok(flat(100, 1, 11))).await;
    let (summary, _) = read_view(&server, ViewFormat::Xml).await.unwrap();
    assert_eq!(summary.rows, 10);
    assert!(summary.truncated.unwrap().contains("repeated a page"));
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_view_that_changes_meanwhile_is_read_again() {
    let asked_before = Arc::new(AtomicUsize::new(0));
    let server = TestServer::start(move |asked| {
        let all = if asked_before.fetch_add(1, Ordering::SeqCst) < 1 { 30 } else { 29 };
        flat_page(all, 10, asked)
    })
    .await;
    let (summary, sink) = read_view(&server, ViewFormat::Xml).await.unwrap();
    assert_eq!(
        (summary, sink.texts),
        (ReadSummary { rows: 29, truncated: None, inconsistency: None }, numbers(29))
    );
    assert_eq!(sink.starts, 2);
}

#[tokio::test]
async fn a_view_that_keeps_changing_is_used_after_three_restarts_and_reported() {
    let asked_before = Arc::new(AtomicUsize::new(0));
    let server = TestServer::start(move |asked| {
        flat_page(30 + asked_before.fetch_add(1, Ordering::SeqCst) % 2, 10, asked)
    })
    .await;
    let (summary, sink) = read_view(&server, ViewFormat::Xml).await.unwrap();
    assert_eq!(sink.starts, 4);
    assert!(summary.inconsistency.unwrap().contains("kept changing"));
    assert_eq!(summary.truncated, None, "all rows were received");
}

/// Position, whether it is a category, and text of each row: `groups` categories of `size` documents.
fn categorised(groups: usize, size: usize) -> Vec<(String, bool, String)> {
    let mut rows = Vec::new();
    for group in 1..=groups {
        rows.push((group.to_string(), true, format!("g{group}/")));
        rows.extend((1..=size).map(|n| (format!("{group}.{n}"), false, n.to_string())));
    }
    rows
}

fn categorised_page(groups: usize, rows: &[(String, bool, String)]) -> TestReply {
    let mut out = format!("<viewentries toplevelentries=\"{groups}\">");
    for (position, is_category, text) in rows {
        let (unid, column, mark) =
            if *is_category { ("", 0, " category=\"true\"") } else { (" unid=\"A\"", 1, "") };
        out.push_str(&format!("<viewentry position=\"{position}\"{unid}><entrydata columnnumber=\"{column}\"{mark}><text>{text}</text></entrydata></viewentry>"));
    }
    TestReply::ok(out + "</viewentries>")
}

fn documents(groups: usize, size: usize) -> Vec<String> {
    (1..=groups).flat_map(|group| (1..=size).map(move |n| format!("g{group}/{n}"))).collect()
}

#[tokio::test]
async fn a_categorised_view_is_continued_from_the_position_of_its_last_row() {
    let server = TestServer::start(|asked| {
        let rows = categorised(7, 3);
        let start = asked.query("Start").unwrap();
        let at = rows.iter().position(|(position, ..)| *position == start).unwrap_or(rows.len());
        categorised_page(7, &rows[at..rows.len().min(at + 5)])
    })
    .await;
    let (summary, sink) = read_view(&server, ViewFormat::Xml).await.unwrap();
    assert_eq!(summary, ReadSummary { rows: 21, truncated: None, inconsistency: None });
    assert_eq!(sink.texts, documents(7, 3));
}

#[tokio::test]
async fn a_categorised_view_of_a_server_that_counts_rows_is_read_completely() {
    for refuse in [false, true] {
        let server = TestServer::start(move |asked| {
            let rows = categorised(7, 3);
            let start = asked.query("Start").unwrap();
            if refuse && start.contains('.') {
                return TestReply::status(500);
            }
            let start: usize = start.split('.').next().unwrap().parse().unwrap();
            let at = (start - 1).min(rows.len());
            categorised_page(7, &rows[at..rows.len().min(at + 6)])
        })
        .await;
        let (summary, sink) = read_view(&server, ViewFormat::Xml).await.unwrap();
        assert_eq!(summary, ReadSummary { rows: 21, truncated: None, inconsistency: None });
        assert_eq!(sink.texts, documents(7, 3));
    }
}

#[tokio::test]
async fn a_categorised_view_that_ends_early_is_reported() {
    let server = TestServer::start(|asked| {
        let rows = categorised(2, 3);
        let start = asked.query("Start").unwrap();
        let at = rows.iter().position(|(position, ..)| *position == start).unwrap_or(rows.len());
        categorised_page(5, &rows[at..])
    })
    .await;
    let (summary, _) = read_view(&server, ViewFormat::Xml).await.unwrap();
    assert_eq!(summary.truncated.as_deref(), Some("only 2 of 5 top-level entries were received"));
}

#[tokio::test]
async fn a_view_with_a_failing_page_is_an_error() {
    let server = TestServer::start(|asked| match asked.number("Start") {
        1 => flat_page(30, 10, asked),
        _ => TestReply::status(500),
    })
    .await;
    let error = read_view(&server, ViewFormat::Xml).await.unwrap_err();
    assert!(error.to_string().contains("Start=11") && error.to_string().contains("500"), "{error}");
}

#[tokio::test]
async fn login_pages_error_pages_and_missing_views_are_distinguished() {
    let server = TestServer::start(|_| {
        TestReply::ok(
            &include_bytes!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/fixtures/not-authorised-login-page.html"
            ))[..],
        )
    })
    .await;
    let error = read_view(&server, ViewFormat::Xml).await.unwrap_err();
    assert!(matches!(error, ReadError::Login(LoginError::NotAuthorised { .. })), "{error}");
    let server =
        TestServer::start(|_| TestReply::ok("<html>HTTP Web Server: Database unavailable</html>")).await;
    let error = read_view(&server, ViewFormat::Json).await.unwrap_err();
    assert!(matches!(error, ReadError::Page { reason: PageError::Html, .. }), "{error}");
    let server = TestServer::start(|_| TestReply::status(404)).await;
    assert!(read_view(&server, ViewFormat::Xml).await.unwrap_err().is_not_found());
}

/// A server that returns one row per page.
async fn one_by_one(all: usize) -> TestServer {
    TestServer::start(move |asked: &ReceivedRequest| flat_page(all, 1, asked)).await
}

#[tokio::test]
async fn a_view_that_exceeds_its_time_limit_is_abandoned_and_a_slow_one_within_it_is_not() {
    let time_limit = |start: u64, per_row: Duration, max: u64| ReadTimeLimit {
        start: Duration::from_millis(start),
        per_row,
        max: Duration::from_millis(max),
    };
    let endless = one_by_one(1_000_000).await;
    for allowed in [time_limit(200, Duration::ZERO, 90_000), time_limit(90_000, Duration::from_secs(9), 200)]
    {
        let error = read_within(&endless, ViewFormat::Xml, allowed).await.unwrap_err();
        assert!(matches!(error, ReadError::TooSlow { rows: 1.., .. }), "{error}");
        assert!(error.to_string().contains("is too slow"), "{error}");
    }
    // Each row extends the limit.
    let long = one_by_one(400).await;
    let allowed = time_limit(9_000, Duration::from_secs(1), 90_000);
    let (summary, texts) = read_within(&long, ViewFormat::Xml, allowed).await.unwrap();
    assert_eq!((summary.truncated, texts.texts.len()), (None, 400));
}

#[tokio::test]
async fn a_login_without_response_ends_with_the_time_limit() {
    let server = TestServer::start(|_| TestReply::Hang).await;
    let time_limit = ReadTimeLimit {
        start: Duration::from_millis(200),
        per_row: Duration::ZERO,
        max: Duration::from_secs(9),
    };
    let error = read_within(&server, ViewFormat::Json, time_limit).await.unwrap_err();
    assert!(matches!(error, ReadError::TooSlow { rows: 0, .. }), "{error}");
}

#[test]
fn the_time_limit_grows_with_the_rows_and_depends_on_the_refresh_interval() {
    let seconds = |refresh| ReadTimeLimit::for_refresh_interval(Duration::from_secs(refresh)).start.as_secs();
    assert_eq!([1, 45, 60, 86_400].map(seconds), [30, 45, 60, 60]);
    let million = ReadTimeLimit::for_refresh_interval(Duration::from_secs(60));
    assert!(
        million.per_row * 1_000_000 > Duration::from_secs(600),
        "a million entries may take more than ten minutes"
    );
}
