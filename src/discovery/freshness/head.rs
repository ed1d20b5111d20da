//! Reads `Last-Modified` of a database with a HEAD of `?OpenDatabase`.
//!
//! For most database pages that is the data modification time (release notes of R5). Where it is something else, the
//! result must be unknown: a page that Domino computes has no such header, or the time of the response.

use std::net::SocketAddr;
use std::time::Duration;

use http::Method;
use http::header;

use crate::config::settings::Auth;
use crate::discovery::domino::login::{LoginError, LoginSessions, fetch_authenticated};
use crate::discovery::domino::request::encode_database_path;
use crate::discovery::domino::{DominoClient, DominoRequest, DominoResponse, Fault, FetchError};
use crate::domain::freshness::UnknownModified;
use crate::util::clock;

/// A slower response could not be used: the time of the server would be too uncertain.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// A HEAD has no body, but its `Content-Length` is that of the page.
const MAX_DECLARED_BODY: usize = usize::MAX;
const MAX_LOGIN_PAGE_BYTES: usize = 1 << 20;

/// A database on a server.
#[derive(Clone, Debug)]
pub(crate) struct HeadTarget {
    pub(crate) address: SocketAddr,
    pub(crate) https: bool,
    /// For SNI and the certificate.
    pub(crate) hostname: String,
    pub(crate) host_header: String,
    /// As the server spells it.
    pub(crate) path: String,
}

/// What a server said about a database, by its own clock, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeadReading {
    pub(crate) modified_unix_ms: u64,
    pub(crate) date_unix_ms: u64,
    /// When the request was sent, by our clock.
    pub(crate) sent_unix_ms: u64,
    pub(crate) received_unix_ms: u64,
}

/// Why there is no reading.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeadError {
    /// The server did not answer, refused the login, or has an error.
    #[error(transparent)]
    Failed(#[from] LoginError),
    /// The server answered, but not when this database was modified.
    #[error("{0}")]
    Unknown(UnknownModified),
}

impl HeadError {
    /// Whether it was surely not the fault of the database.
    pub(crate) fn is_of_server(&self) -> bool {
        match self {
            Self::Failed(LoginError::Fetch(FetchError { fault: Fault::Status(_), .. })) => false,
            Self::Failed(_) => true,
            Self::Unknown(_) => false,
        }
    }
}

/// Reads one database with the account of the directory.
///
/// # Errors
/// When the server cannot be asked, or its answer does not say when the database was modified.
pub(crate) async fn read_head(
    client: &DominoClient,
    target: &HeadTarget,
    auth: &Auth,
    sessions: &LoginSessions,
) -> Result<HeadReading, HeadError> {
    let request = request(target, Method::HEAD, MAX_DECLARED_BODY);
    let sent_unix_ms = clock::unix_ms();
    let response = match fetch_authenticated(client, &request, auth, sessions).await {
        Ok(response) => response,
        Err(LoginError::NotAuthorised { .. }) => {
            return Err(HeadError::Unknown(UnknownModified::NotAuthorised));
        }
        Err(error) => return Err(error.into()),
    };
    let received_unix_ms = clock::unix_ms();
    if response.status >= 500 {
        let fault = Fault::Status(response.status);
        return Err(LoginError::from(FetchError { url: request.url(), fault }).into());
    }
    let (modified_unix_ms, date_unix_ms) = times(&response).map_err(HeadError::Unknown)?;
    Ok(HeadReading { modified_unix_ms, date_unix_ms, sent_unix_ms, received_unix_ms })
}

/// Whether the server answers with a login form instead of the database. A HEAD does not show that, because the form comes
/// with status 200 and a HEAD has no body. If only the session had expired, it is renewed by this.
pub(crate) async fn answers_login_form(
    client: &DominoClient,
    target: &HeadTarget,
    auth: &Auth,
    sessions: &LoginSessions,
) -> bool {
    let page = request(target, Method::GET, MAX_LOGIN_PAGE_BYTES);
    let answer = fetch_authenticated(client, &page, auth, sessions).await;
    matches!(answer, Err(LoginError::NotAuthorised { .. }))
}

fn request(target: &HeadTarget, method: Method, max_body: usize) -> DominoRequest {
    let path = format!("{}?OpenDatabase", encode_database_path(&target.path));
    let mut request = DominoRequest::get(target.address, target.https, &target.hostname, path);
    request.host_header.clone_from(&target.host_header);
    DominoRequest { method, max_body, timeout: HEAD_TIMEOUT, ..request }
}

/// `Last-Modified` and `Date` of a response, if they say when the database was modified.
fn times(response: &DominoResponse) -> Result<(u64, u64), UnknownModified> {
    match response.status {
        200..=299 => {}
        300..=399 => return Err(UnknownModified::Redirect),
        401 | 403 => return Err(UnknownModified::NotAuthorised),
        404 | 410 => return Err(UnknownModified::NotFound),
        status => return Err(UnknownModified::Status(status)),
    }
    let modified =
        http_date(response.header(header::LAST_MODIFIED)).ok_or(UnknownModified::NoLastModified)?;
    let date = http_date(response.header(header::DATE)).ok_or(UnknownModified::NoDate)?;
    if modified == date {
        Err(UnknownModified::EqualsDate)
    } else if modified > date {
        Err(UnknownModified::LaterThanDate)
    } else {
        Ok((modified, date))
    }
}

/// The preferred format of RFC 9110, 5.6.7, which every HTTP/1.1 server sends.
pub(crate) fn http_date(text: &str) -> Option<u64> {
    let time = chrono::DateTime::parse_from_rfc2822(text).ok()?;
    u64::try_from(time.timestamp_millis()).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::settings::Secret;
    use crate::discovery::domino::testing::{TestReply, TestServer, client};

    const DATE: &str = "Mon, 30 Nov 2026 08:15:02 GMT";
    const EARLIER: &str = "Mon, 30 Nov 2026 08:14:40 GMT";

    fn target(server: &TestServer, path: &str) -> HeadTarget {
        HeadTarget {
            address: server.address,
            https: false,
            hostname: "web1.acme.example".to_owned(),
            host_header: "www.acme.example".to_owned(),
            path: path.to_owned(),
        }
    }

    fn head(status: &str, fields: &str) -> TestReply {
        TestReply::Raw(format!("HTTP/1.1 {status}\r\n{fields}\r\n").into_bytes())
    }

    async fn read(reply: impl Fn() -> TestReply + Send + Sync + 'static) -> Result<HeadReading, HeadError> {
        let server = TestServer::start(move |_| reply()).await;
        read_head(&client(), &target(&server, "a.nsf"), &Auth::None, &LoginSessions::default()).await
    }

    #[tokio::test]
    async fn the_times_of_a_database_are_read_with_a_head_for_its_own_path() {
        let reply = || {
            head(
                "200 OK",
                &format!("Date: {DATE}\r\nLast-Modified: {EARLIER}\r\nContent-Length: 99999999\r\n"),
            )
        };
        let server = TestServer::start(move |_| reply()).await;
        let sessions = LoginSessions::default();
        let reading = read_head(&client(), &target(&server, "Sales\\Hot leads.nsf"), &Auth::None, &sessions)
            .await
            .unwrap();
        assert_eq!(reading.date_unix_ms - reading.modified_unix_ms, 22_000);
        assert_eq!(reading.date_unix_ms, 1_796_026_502_000);
        let asked = server.requests().remove(0);
        assert!(asked.head.starts_with("HEAD /Sales/Hot%20leads.nsf?OpenDatabase "), "{}", asked.head);
        assert!(asked.head.to_ascii_lowercase().contains("host: www.acme.example\r\n"), "{}", asked.head);
    }

    #[tokio::test]
    async fn whatever_does_not_say_when_it_was_modified_is_unknown() {
        let dates = |modified: &str| format!("Date: {DATE}\r\nLast-Modified: {modified}\r\n");
        let cases = [
            ("200 OK", format!("Date: {DATE}\r\n"), UnknownModified::NoLastModified),
            ("200 OK", dates("yesterday"), UnknownModified::NoLastModified),
            ("200 OK", format!("Last-Modified: {EARLIER}\r\n"), UnknownModified::NoDate),
            ("200 OK", dates(DATE), UnknownModified::EqualsDate),
            ("200 OK", dates("Mon, 30 Nov 2026 09:15:02 GMT"), UnknownModified::LaterThanDate),
            ("401 Unauthorized", dates(EARLIER), UnknownModified::NotAuthorised),
            ("403 Forbidden", dates(EARLIER), UnknownModified::NotAuthorised),
            ("404 Not Found", dates(EARLIER), UnknownModified::NotFound),
            ("302 Found", format!("{}Location: /x.nsf/y\r\n", dates(EARLIER)), UnknownModified::Redirect),
            ("405 Method Not Allowed", dates(EARLIER), UnknownModified::Status(405)),
        ];
        for (status, fields, expected) in cases {
            let error = read(move || head(status, &fields)).await.unwrap_err();
            assert!(matches!(error, HeadError::Unknown(why) if why == expected), "{status}: {error:?}");
            assert!(!error.is_of_server());
        }
    }

    #[tokio::test]
    async fn an_error_of_the_database_is_told_from_a_server_that_does_not_answer() {
        let error = read(|| head("500 Error", "Content-Length: 0\r\n")).await.unwrap_err();
        assert!(matches!(error, HeadError::Failed(_)) && !error.is_of_server(), "{error:?}");
        let error = read(|| TestReply::Close).await.unwrap_err();
        assert!(error.is_of_server(), "{error:?}");
    }

    #[tokio::test]
    async fn a_login_form_with_status_200_is_found_although_a_head_has_no_body() {
        let form = || {
            let page: &[u8] = include_bytes!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/fixtures/not-authorised-login-page.html"
            ));
            TestReply::ok(page)
        };
        let server = TestServer::start(move |asked| match asked.head.split(' ').next() {
            Some("POST") => {
                head("302 Found", "Location: /\r\nSet-Cookie: DomAuthSessId=1\r\nContent-Length: 0\r\n")
            }
            Some("HEAD") => head("200 OK", &format!("Date: {DATE}\r\n")),
            _ => form(),
        })
        .await;
        let password = Secret(std::sync::Arc::from(&b"secret"[..]));
        let auth = Auth::Session { user: "ICM Reader".to_owned(), password };
        let (sessions, target) = (LoginSessions::default(), target(&server, "a.nsf"));
        let error = read_head(&client(), &target, &auth, &sessions).await;
        assert!(matches!(error, Err(HeadError::Unknown(UnknownModified::NoLastModified))), "{error:?}");
        assert!(answers_login_form(&client(), &target, &auth, &sessions).await);
    }
}
