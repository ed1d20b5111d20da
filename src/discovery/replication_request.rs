//! Asks an agent on a server that returned to start a replication (`catch_up.request`). It only sends; when, and how often
//! after a failure, is decided by `state`.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, header};

use super::domino::{DominoClient, FetchError, login::is_login_page, request::encode_form};
use super::server_url::{self, ServerPlace, ServerUrlError};
use crate::config::settings::ReplicationRequest;

/// The agent may start a replication with several servers before it answers.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The answer is a short JSON object.
const MAX_BODY_BYTES: usize = 1 << 20;

/// Why the agent did not start a replication, as far as is known.
#[derive(Debug, thiserror::Error)]
pub enum ReplicationRequestError {
    #[error(transparent)]
    Url(#[from] ServerUrlError),
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// Domino answers a POST that needs a login with status 200.
    #[error("{0}: the response is a login page: let the agent run for Anonymous, which its token protects")]
    LoginPage(String),
}

/// Sends the request about this server; any status from 200 to 299 is success.
///
/// # Errors
/// When there is no such answer.
pub async fn request_replication(
    client: &DominoClient,
    settings: &ReplicationRequest,
    server: &ServerPlace<'_>,
    cluster: &str,
) -> Result<(), ReplicationRequestError> {
    let get = server_url::get(&settings.url, server, REQUEST_TIMEOUT).await?;
    let mut body = format!(
        "action=replicate&server={}&cluster={}",
        encode_form(server.name.abbreviated().as_bytes()),
        encode_form(cluster.as_bytes())
    );
    let token = settings.token.as_ref().map(|token| &*token.0);
    if let Some(token) = token {
        body.push_str("&token=");
        body.push_str(&encode_form(token));
    }
    let target = get.target.clone();
    let mut request = get.post_form(&target, Bytes::from(body));
    request.max_body = MAX_BODY_BYTES;
    let bearer = token.map(|token| [b"Bearer ", token].concat());
    if let Some(Ok(mut value)) = bearer.map(|value| HeaderValue::from_bytes(&value)) {
        value.set_sensitive(true);
        request.headers.push((header::AUTHORIZATION, value));
    }
    let response = client.fetch(&request).await?.success(&request)?;
    if is_login_page(&response.body) {
        return Err(ReplicationRequestError::LoginPage(request.url()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::Secret;
    use crate::discovery::domino::testing::{TestReply, TestServer, client};
    use crate::domain::cluster::ServerName;

    fn settings(server: &TestServer, path: &str) -> ReplicationRequest {
        let url = format!("http://{{address}}:{}{path}", server.address.port());
        ReplicationRequest { url, token: Some(Secret(b"k3y&7"[..].into())) }
    }

    #[tokio::test]
    async fn the_form_and_the_header_carry_the_token_and_any_2xx_is_success() {
        let server = TestServer::start(|asked| match asked.target.as_str() {
            "/busy" => TestReply::status(503),
            "/login" => TestReply::ok(
                &include_bytes!(concat!(
                    env!("CARGO_MANIFEST_DIR"),
                    "/tests/fixtures/not-authorised-login-page.html"
                ))[..],
            ),
            _ => TestReply::status(202),
        })
        .await;
        let name = ServerName::parse("CN=Web1/O=Acme").unwrap();
        let place = ServerPlace { name: &name, hostname: "web1.acme.example", address: server.address };
        let ask = async |path: &str| {
            request_replication(&client(), &settings(&server, path), &place, "Acme Web").await
        };
        ask("/icm.nsf/companion?OpenAgent").await.unwrap();
        let asked = server.requests();
        let [asked] = asked.as_slice() else { panic!("{asked:?}") };
        assert_eq!(asked.body, "action=replicate&server=Web1%2FAcme&cluster=Acme%20Web&token=k3y%267");
        assert!(asked.head.contains("Bearer k3y&7") && asked.head.starts_with("POST /icm.nsf/companion?"));
        let error = ask("/busy").await.unwrap_err().to_string();
        assert!(error.contains("503") && !error.contains("k3y"), "{error}");
        assert!(ask("/login").await.unwrap_err().to_string().contains("login page"));
    }
}
