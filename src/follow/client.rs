//! Fetches the configuration of the other ICM.
//!
//! TLS is always verified. The client follows no redirects, so the token goes only to the configured host.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, header};

use super::FollowError;
use crate::config::settings::{Follow, UpstreamTls};
use crate::discovery::domino::{DominoClient, DominoRequest, DominoResponse, Fault, FetchError};

/// For name lookup, connect and the complete response.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// For TCP and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The limit for a configuration file.
const MAX_DOCUMENT_BYTES: usize = 4 << 20;
/// Addresses tried for the host name.
const MAX_ADDRESSES: usize = 4;

/// A response with status 200 or 304.
#[derive(Clone, Debug)]
pub enum FollowResponse {
    NotModified,
    /// The text is not checked yet.
    Document {
        text: Arc<str>,
        etag: Option<String>,
    },
}

/// A client for the `/config` of the other ICM.
#[derive(Debug)]
pub struct FollowClient {
    follow: Follow,
    client: DominoClient,
}

impl FollowClient {
    /// Reads the platform's certificate authorities if there is no `ca_file`. Must be called inside a runtime.
    #[must_use]
    pub fn new(follow: &Follow) -> Self {
        let tls = UpstreamTls { ca_file: follow.ca_file.clone(), ca: follow.ca.clone(), verify: true };
        Self { follow: follow.clone(), client: DominoClient::new(&tls, CONNECT_TIMEOUT) }
    }

    /// `etag` = the tag of the configuration already known.
    ///
    /// # Errors
    /// When there is no response in time, or its status is neither 200 nor, with a tag, 304.
    pub async fn fetch(&self, etag: Option<&str>) -> Result<FollowResponse, FollowError> {
        let url = || self.follow.url.to_string();
        let response = match tokio::time::timeout(FETCH_TIMEOUT, self.send_request(etag)).await {
            Ok(response) => response?,
            Err(_) => return Err(FetchError { url: url(), fault: Fault::TimedOut(FETCH_TIMEOUT) }.into()),
        };
        let status = |status, hint| FollowError::Status { url: url(), status, hint };
        match response.status {
            200 => {
                let etag = response.header(header::ETAG);
                let etag = (!etag.is_empty()).then(|| etag.to_owned());
                let malformed =
                    || FetchError { url: url(), fault: Fault::Malformed("it is not UTF-8 text".into()) };
                let text = std::str::from_utf8(&response.body).map_err(|_| malformed())?;
                Ok(FollowResponse::Document { text: text.into(), etag })
            }
            304 if etag.is_some() => Ok(FollowResponse::NotModified),
            401 | 403 => Err(status(response.status, ": is `token_file` the token of its admin listener?")),
            404 => Err(status(404, ": does the URL end with /config?")),
            other => Err(status(other, "")),
        }
    }

    async fn send_request(&self, etag: Option<&str>) -> Result<DominoResponse, FollowError> {
        let at = &self.follow.url.at;
        let unresolved = |reason: String| FollowError::Resolve { url: self.follow.url.to_string(), reason };
        let found = tokio::net::lookup_host((at.host.as_str(), at.port)).await;
        let addresses: Vec<_> = found.map_err(|e| unresolved(e.to_string()))?.take(MAX_ADDRESSES).collect();
        let mut last_error = unresolved("it has no address".to_owned());
        for address in addresses {
            let mut request =
                DominoRequest::get(address, self.follow.url.https, &at.host, self.follow.url.path.as_str());
            request.timeout = FETCH_TIMEOUT;
            request.max_body = MAX_DOCUMENT_BYTES;
            request.headers = self.headers(etag);
            match self.client.fetch(&request).await {
                Err(error) if error.fault.is_connect() => last_error = error.into(),
                result => return Ok(result?),
            }
        }
        Err(last_error)
    }

    fn headers(&self, etag: Option<&str>) -> Vec<(http::HeaderName, HeaderValue)> {
        let mut headers = Vec::with_capacity(2);
        let token = self.follow.token.as_ref().map(|token| [b"Bearer ", &*token.0].concat());
        if let Some(Ok(mut value)) = token.map(|t| HeaderValue::from_bytes(&t)) {
            value.set_sensitive(true);
            headers.push((header::AUTHORIZATION, value));
        }
        if let Some(Ok(value)) = etag.map(HeaderValue::from_str) {
            headers.push((header::IF_NONE_MATCH, value));
        }
        headers
    }
}
