//! Asks the followed ICM for certificates and for pending challenges. The token goes only to the URL of
//! `get_configuration_from`, which is loopback or has TLS.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;

use super::certificate::SharedCertificates;
use super::challenges::{Challenges, PendingChallenge};
use super::https::{self, NamedRequest};
use crate::config::settings::{Follow, UpstreamTls};
use crate::discovery::domino::{DominoClient, FetchError};

/// For TCP and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const CERTIFICATES_TIMEOUT: Duration = Duration::from_secs(10);
/// A request or handshake waits at most this long for the followed ICM.
const CHALLENGE_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two questions for pending challenges, however many clients invent tokens.
const MIN_QUESTION_INTERVAL: Duration = Duration::from_millis(500);
/// Requests and handshakes that wait at once; others are not held up.
const MAX_WAITING: usize = 64;
const MAX_BODY_BYTES: usize = 8 << 20;

/// A client for the followed ICM.
#[derive(Debug)]
pub struct LeaderClient {
    follow: Follow,
    client: DominoClient,
    /// When the last question for pending challenges began.
    asked: Mutex<Option<Instant>>,
    waiting: Semaphore,
}

/// Why the followed ICM gives nothing.
#[derive(Debug, thiserror::Error)]
pub enum LeaderError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("{url}: answered with status {status}: {text}")]
    Status { url: String, status: u16, text: String },
    #[error("{url}: the answer cannot be understood: {reason}")]
    Malformed { url: String, reason: String },
}

impl LeaderClient {
    /// Must be called inside a runtime.
    #[must_use]
    pub fn new(follow: &Follow) -> Self {
        let tls = UpstreamTls { ca_file: follow.ca_file.clone(), ca: follow.ca.clone(), verify: true };
        Self {
            follow: follow.clone(),
            client: DominoClient::new(&tls, CONNECT_TIMEOUT),
            asked: Mutex::default(),
            waiting: Semaphore::new(MAX_WAITING),
        }
    }

    /// Whether it was made for the same ICM and token.
    #[must_use]
    pub fn is_for(&self, follow: &Follow) -> bool {
        let identity = |f: &Follow| (f.url.to_string(), f.token.clone(), f.ca.clone());
        identity(&self.follow) == identity(follow)
    }

    /// The ICM, for messages.
    #[must_use]
    pub fn origin(&self) -> String {
        self.follow.url.origin()
    }

    /// `/acme/certificates`, without the list if `known` is its digest.
    ///
    /// # Errors
    /// When there is no response in time, or it is not the expected JSON.
    pub async fn certificates(&self, known: &str) -> Result<SharedCertificates, LeaderError> {
        self.get(&format!("certificates?known={known}"), CERTIFICATES_TIMEOUT).await
    }

    /// Takes over the pending challenges of the followed ICM. Several callers share one question that began after they
    /// called.
    pub async fn update_challenges(&self, challenges: &Challenges) {
        let Ok(_waiting) = self.waiting.try_acquire() else { return };
        let called = Instant::now();
        let update = async {
            let mut asked = self.asked.lock().await;
            if let Some(last) = *asked {
                if last >= called {
                    return;
                }
                tokio::time::sleep_until(last + MIN_QUESTION_INTERVAL).await;
            }
            *asked = Some(Instant::now());
            let list = self.get::<Vec<PendingChallenge>>("challenges", CHALLENGE_TIMEOUT).await;
            let result = list.map_err(|e| e.to_string()).and_then(|list| challenges.set_followed(list));
            if let Err(error) = result {
                log::debug!(target: "icm::acme", "no pending challenges of the followed ICM: {error}");
            }
        };
        let _ = tokio::time::timeout(CHALLENGE_TIMEOUT, update).await;
    }

    async fn get<T: serde::de::DeserializeOwned>(
        &self,
        page: &str,
        timeout: Duration,
    ) -> Result<T, LeaderError> {
        let url = &self.follow.url;
        let base = url.path.strip_suffix("/config").unwrap_or_default();
        let request = NamedRequest {
            https: url.https,
            host: url.at.host.clone(),
            port: url.at.port,
            target: format!("{base}/acme/{page}"),
            method: Method::GET,
            headers: self.authorization().into_iter().collect(),
            body: Bytes::new(),
            timeout,
            max_body: MAX_BODY_BYTES,
        };
        let response = https::fetch(&self.client, &request).await?;
        let url = || format!("{}{}", url.origin(), request.target);
        if response.status != 200 {
            let text = String::from_utf8_lossy(&response.body);
            let text = crate::discovery::domino::fault::single_line(&text);
            return Err(LeaderError::Status { url: url(), status: response.status, text });
        }
        // The reason of serde_json has a position and no content, which may be a key.
        serde_json::from_slice(&response.body).map_err(|error| LeaderError::Malformed {
            url: url(),
            reason: format!("line {}, column {}", error.line(), error.column()),
        })
    }

    fn authorization(&self) -> Option<(HeaderName, HeaderValue)> {
        let token = self.follow.token.as_ref()?;
        let mut value = HeaderValue::from_bytes(&[b"Bearer ", &*token.0].concat()).ok()?;
        value.set_sensitive(true);
        Some((header::AUTHORIZATION, value))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::FileAccess;
    use crate::config::settings::{BaseUrl, Secret};
    use crate::discovery::domino::testing::{TestReply, TestServer};
    use crate::domain::cluster::HostPort;

    const TOKEN: &str = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";

    fn leader(server: &TestServer) -> LeaderClient {
        let at = HostPort { host: "127.0.0.1".into(), port: server.address.port() };
        LeaderClient::new(&Follow {
            url: BaseUrl { https: false, at, path: "/icm/config".into() },
            ca_file: None,
            ca: None,
            token: Some(Secret(Arc::from(&b"the token"[..]))),
            refresh: Duration::from_secs(30),
            cache: None,
            files: FileAccess::default(),
        })
    }

    #[tokio::test]
    async fn many_unknown_tokens_at_once_cost_the_leader_two_questions() {
        let server = TestServer::start(|_| {
            TestReply::ok(format!(
                r#"[{{"host":"www.acme.example","kind":"http-01","token":"{TOKEN}","key_authorization":"answer"}}]"#
            ))
        })
        .await;
        let (leader, challenges) = (Arc::new(leader(&server)), Arc::new(Challenges::default()));
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..200 {
            let (leader, challenges) = (Arc::clone(&leader), Arc::clone(&challenges));
            waiting.spawn(async move { leader.update_challenges(&challenges).await });
        }
        waiting.join_all().await;
        assert_eq!(challenges.http(TOKEN).as_deref(), Some("answer"));
        let requests = server.requests();
        assert!((1..=3).contains(&requests.len()), "{} questions", requests.len());
        assert_eq!(requests[0].target, "/icm/acme/challenges");
        assert!(requests[0].head.contains("Bearer the token"), "{}", requests[0].head);
    }

    #[tokio::test]
    async fn what_the_leader_says_wrongly_is_an_error_without_its_text() {
        let server = TestServer::start(|asked| match asked.query("known").as_deref() {
            Some("a") => TestReply::ok("{ \"digest\": \"-----BEGIN PRIVATE KEY-----"),
            _ => TestReply::status(403),
        })
        .await;
        let leader = leader(&server);
        let malformed = leader.certificates("a").await.map(|_| ()).unwrap_err().to_string();
        assert!(malformed.contains("line 1") && !malformed.contains("PRIVATE"), "{malformed}");
        let refused = leader.certificates("b").await.map(|_| ()).unwrap_err().to_string();
        assert!(refused.contains("status 403"), "{refused}");
    }
}
