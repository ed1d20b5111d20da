//! Polls of sources that respond and of sources that fail.
#![allow(clippy::unwrap_used)]

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::*;
use crate::discovery::domino::Fault;
use crate::discovery::domino::testing::{TestReply, TestServer, client};
use crate::domain::cluster::Operational;

static SESSIONS: std::sync::LazyLock<LoginSessions> = std::sync::LazyLock::new(LoginSessions::default);

fn web1() -> ServerName {
    ServerName::parse("Web 1/Acme").unwrap()
}

fn target<'a>(name: &'a ServerName, address: &str) -> PollTarget<'a> {
    PollTarget {
        name,
        hostname: "web1.acme.example",
        address: address.parse().unwrap(),
        reading_port: (address.parse().unwrap(), false),
        sessions: &SESSIONS,
        timeout: Duration::from_millis(300),
    }
}

#[tokio::test]
async fn console_and_prometheus_are_read_from_the_address_of_the_server() {
    let server = TestServer::start(|asked| match asked.target.as_str() {
        "/stat?Web%201" => TestReply::ok(
            &include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/show-stat-server.txt"))[..],
        ),
        "/metrics" => TestReply::ok(
            &include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/domino.prom"))[..],
        ),
        "/login" => TestReply::ok(
            &include_bytes!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/fixtures/not-authorised-login-page.html"
            ))[..],
        ),
        _ => TestReply::status(404),
    })
    .await;
    let (name, port) = (web1(), server.address.port());
    let target = target(&name, "127.0.0.1:80");
    let client = client();
    // The host name of the test does not exist, so the request must use the address.
    let console = AvailabilitySource::Console { url: format!("http://{{hostname}}:{port}/stat?{{name}}") };
    let report = poll(&client, &console, &target).await.unwrap().report;
    assert_eq!((report.index, report.users), (Some(84), Some(96)));
    let host = format!("host: web1.acme.example:{port}");
    assert!(server.requests()[0].head.to_ascii_lowercase().contains(&host));
    let prometheus = AvailabilitySource::Prometheus { url: format!("http://{{address}}:{port}/metrics") };
    assert_eq!(poll(&client, &prometheus, &target).await.unwrap().report.threshold, Some(20));
    let missing = AvailabilitySource::Console { url: format!("http://127.0.0.1:{port}/no") };
    let error = poll(&client, &missing, &target).await.unwrap_err();
    assert!(matches!(&error, PollError::Fetch(error) if error.fault == Fault::Status(404)), "{error}");
    let login = AvailabilitySource::Console { url: format!("http://127.0.0.1:{port}/login") };
    let error = poll(&client, &login, &target).await.unwrap_err();
    assert!(matches!(&error, PollError::Parse { reason: ParseError::LoginPage, .. }), "{error}");
}

#[tokio::test]
async fn invalid_urls_and_sources_that_are_not_polled_are_errors() {
    let name = web1();
    let target = target(&name, "127.0.0.1:80");
    let bad = AvailabilitySource::Console { url: "{name}".to_owned() };
    assert!(matches!(poll(&client(), &bad, &target).await, Err(PollError::Url(_))));
    for source in [AvailabilitySource::Observed, AvailabilitySource::Statpub] {
        assert!(matches!(poll(&client(), &source, &target).await, Err(PollError::NotPolled)));
    }
}

/// Polls an agent that sends `line` and then closes the connection or keeps it open.
async fn poll_agent(line: &'static [u8], keep: bool) -> Result<AvailabilityReport, PollError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.write_all(line).await;
        if keep {
            std::future::pending::<()>().await;
        }
    });
    let name = web1();
    let result =
        poll(&client(), &AvailabilitySource::AgentCheck { port }, &target(&name, "127.0.0.1:80")).await;
    server.abort();
    result.map(|reading| reading.report)
}

fn companion(url: Option<String>, auth: Option<Auth>) -> AvailabilitySource {
    AvailabilitySource::Companion { url, auth, allow_plaintext: false }
}

#[tokio::test]
async fn the_companion_is_read_from_the_port_of_the_readers_or_from_its_url() {
    const BODY: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/companion.json"));
    let server = TestServer::start(|asked| match asked.target.as_str() {
        "/icm.nsf/companion?OpenAgent" | "/apps/icm.nsf/x?OpenAgent" => TestReply::ok(BODY),
        _ => TestReply::ok(&b"<html>no</html>"[..]),
    })
    .await;
    let name = ServerName::parse("CN=web1/O=acme").unwrap();
    let address = server.address.to_string();
    let target = target(&name, &address);
    let reading = poll(&client(), &companion(None, None), &target).await.unwrap();
    assert_eq!((reading.report.index, reading.report.users), (Some(84), Some(96)));
    let read = reading.companion.unwrap();
    assert_eq!(read.document.replicas.as_ref().map(Vec::len), Some(1));
    assert!(read.sent_unix_ms <= read.received_unix_ms);
    let own = format!("http://{{hostname}}:{}/apps/icm.nsf/x?OpenAgent", server.address.port());
    assert!(poll(&client(), &companion(Some(own.clone()), None), &target).await.is_ok());
    let other = ServerName::parse("Web2/Acme").unwrap();
    let error = poll(&client(), &companion(Some(own), None), &PollTarget { name: &other, ..target }).await;
    assert!(error.as_ref().is_err_and(|e| e.to_string().contains("Web1/Acme")), "{error:?}");
    let page = companion(Some(format!("http://{address}/other")), None);
    let error = poll(&client(), &page, &target).await.unwrap_err();
    assert!(error.to_string().contains("HTML"), "{error}");
}

#[tokio::test]
async fn a_password_for_the_companion_is_not_sent_in_clear_text() {
    let name = web1();
    let target = target(&name, "192.0.2.1:80");
    let secret = crate::config::settings::Secret(std::sync::Arc::from(&b"secret"[..]));
    let auth = Auth::Basic { user: "ICM Reader".to_owned(), password: secret };
    let error = poll(&client(), &companion(None, Some(auth)), &target).await.unwrap_err();
    assert!(matches!(error, PollError::Plaintext { .. }), "{error}");
}

#[tokio::test]
async fn the_line_of_an_agent_ends_with_a_line_end_or_the_connection() {
    assert_eq!(poll_agent(b"up 75%\nready", true).await.unwrap().index, Some(75));
    assert_eq!(
        poll_agent(b"drain\r", true).await.unwrap().administrative,
        Some(crate::domain::cluster::Administrative::Drain)
    );
    let report = poll_agent(b"down # HTTP task ended", false).await.unwrap();
    assert_eq!(report.operational, Some(Operational::Down("HTTP task ended".to_owned())));
}

#[tokio::test]
async fn an_agent_that_sends_nothing_is_an_error_after_the_timeout() {
    let error = poll_agent(b"", true).await.unwrap_err();
    assert!(
        error.to_string().contains("Web 1/Acme") && error.to_string().contains("no line within"),
        "{error}"
    );
    assert!(matches!(poll_agent(b"", false).await, Err(PollError::Parse { .. })));
    assert!(matches!(poll_agent(b"220 smtp ready?\r\n", false).await, Err(PollError::Parse { .. })));
}
