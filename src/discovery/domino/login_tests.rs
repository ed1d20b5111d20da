//! Logins that a server grants, refuses, or forgets.
#![allow(clippy::unwrap_used)]

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::login::{self, LoginError, LoginSessions, fetch_authenticated};
use super::testing::{TestReply, TestServer, client};
use crate::config::settings::{Auth, Secret};

const PAGE: &[u8] =
    include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/not-authorised-login-page.html"));

fn secret(text: &str) -> Secret {
    Secret(Arc::from(text.as_bytes()))
}

fn session() -> Auth {
    Auth::Session { user: "ICM Reader/Acme".to_owned(), password: secret("p&ss wörd") }
}

/// Sets a different session cookie at the second login, and accepts only the latest one while `valid` is true.
async fn domino(valid: Arc<Mutex<bool>>, logins: Arc<AtomicUsize>) -> TestServer {
    TestServer::start(move |asked| {
        if asked.target == "/names.nsf?Login" {
            if asked.body != "Username=ICM%20Reader%2FAcme&Password=p%26ss%20w%C3%B6rd" {
                return TestReply::Page(200, "", PAGE.to_vec());
            }
            *valid.lock() = true;
            return match logins.fetch_add(1, Ordering::SeqCst) {
                0 => TestReply::Page(
                    302,
                    "Set-Cookie: other=1\r\nSet-Cookie: DomAuthSessID=0; path=/\r\n",
                    vec![],
                ),
                _ => TestReply::Page(302, "Set-Cookie: LtpaToken=n; domain=.acme.example\r\n", vec![]),
            };
        }
        let cookie = match logins.load(Ordering::SeqCst) {
            0 => "none",
            1 => "cookie: domauthsessid=0\r\n",
            _ => "cookie: ltpatoken=n\r\n",
        };
        if *valid.lock() && asked.head.to_ascii_lowercase().contains(cookie) {
            TestReply::ok("data")
        } else {
            TestReply::Page(200, "Content-Type: text/html\r\n", PAGE.to_vec())
        }
    })
    .await
}

#[tokio::test]
async fn a_session_is_reused_and_renewed_when_the_server_forgets_it() {
    let (valid, logins) = (Arc::new(Mutex::new(false)), Arc::new(AtomicUsize::new(0)));
    let server = domino(valid.clone(), logins.clone()).await;
    let (client, sessions, auth) = (client(), LoginSessions::default(), session());
    let request = server.get("/cldbdir.nsf");
    for _ in 0..2 {
        assert_eq!(
            fetch_authenticated(&client, &request, &auth, &sessions).await.unwrap().body.as_ref(),
            b"data"
        );
    }
    assert_eq!(logins.load(Ordering::SeqCst), 1);
    *valid.lock() = false;
    assert_eq!(
        fetch_authenticated(&client, &request, &auth, &sessions).await.unwrap().body.as_ref(),
        b"data"
    );
    assert_eq!(logins.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_wrong_password_is_refused_after_one_attempt() {
    let server = domino(Arc::default(), Arc::default()).await;
    let auth = Auth::Session { user: "ICM Reader/Acme".to_owned(), password: secret("wrong") };
    let error = fetch_authenticated(&client(), &server.get("/x"), &auth, &LoginSessions::default())
        .await
        .unwrap_err();
    assert!(matches!(error, LoginError::Refused { .. }), "{error}");
    assert_eq!(server.targets(), ["/names.nsf?Login"]);
    assert!(!error.to_string().contains("wrong,"), "{error}");
}

#[tokio::test]
async fn missing_access_after_a_login_is_an_error_and_not_retried() {
    let server = TestServer::start(|asked| match asked.target.as_str() {
        "/names.nsf?Login" => TestReply::Page(302, "Set-Cookie: LtpaToken2=x\r\n", vec![]),
        _ => TestReply::status(403),
    })
    .await;
    let error = fetch_authenticated(&client(), &server.get("/x"), &session(), &LoginSessions::default())
        .await
        .unwrap_err();
    assert!(matches!(error, LoginError::NotAuthorised { .. }), "{error}");
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn basic_credentials_are_sent_with_every_request() {
    let server = TestServer::start(|asked| {
        let head = asked.head.to_ascii_lowercase();
        if head.contains(&"authorization: basic SUNNIFJlYWRlci9BY21lOnB3\r\n".to_ascii_lowercase()) {
            TestReply::ok("data")
        } else {
            TestReply::status(401)
        }
    })
    .await;
    let request = server.get("/x");
    let basic = |password| Auth::Basic { user: "ICM Reader/Acme".to_owned(), password: secret(password) };
    let sessions = LoginSessions::default();
    assert!(fetch_authenticated(&client(), &request, &basic("pw"), &sessions).await.is_ok());
    for (auth, user) in [(basic("no"), "ICM Reader/Acme"), (Auth::None, "Anonymous")] {
        let error = fetch_authenticated(&client(), &request, &auth, &sessions).await.unwrap_err().to_string();
        assert!(error.contains(user) && error.contains("Reader access"), "{error}");
    }
}

#[test]
fn login_pages_are_distinguished_from_data_and_other_pages() {
    assert!(login::is_login_page(PAGE));
    assert!(login::is_login_page(b"\xef\xbb\xbf \n<HTML><input TYPE=\"PASSWORD\">"));
    assert!(!login::is_login_page(b"<html><body>File does not exist</body></html>"));
    assert!(!login::is_login_page(b"<viewentries><text>names.nsf?Login</text></viewentries>"));
    assert!(!login::is_login_page(b"{\"text\":\"<html>?Login\"}"));
}
