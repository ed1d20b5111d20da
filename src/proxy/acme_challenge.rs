//! The answer to HTTP-01 of ACME, before routing and before the redirect to https: an ACME server asks on port 80, and no cluster
//! need have its host.

use http::Method;
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::local_reply::LocalReply;
use super::route_context::origin_form;
use crate::acme::AcmeState;
use crate::acme::challenges::http_token;

fn token(head: &RequestHeader) -> Option<&str> {
    let is_read = matches!(head.method, Method::GET | Method::HEAD);
    http_token(origin_form(head.raw_path()).1).filter(|_| is_read)
}

/// Asks the followed ICM, if there is one, for a challenge that is not known here.
pub(super) async fn prepare(acme: &AcmeState, session: &Session) {
    if let Some(leader) = acme.leader()
        && token(session.req_header()).is_some_and(|token| acme.challenges.http(token).is_none())
    {
        leader.update_challenges(&acme.challenges).await;
    }
}

/// # Errors
/// The answer, if the request is for a pending challenge.
pub(super) fn answer(acme: &AcmeState, head: &RequestHeader) -> Result<(), LocalReply> {
    match token(head).and_then(|token| acme.challenges.http(token)) {
        Some(key_authorization) => Err(LocalReply::AcmeChallenge(key_authorization)),
        None => Ok(()),
    }
}
