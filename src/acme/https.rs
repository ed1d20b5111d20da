//! HTTP requests to a host by name, on the client that reads from Domino. For `instant_acme`, whose own client would bring a
//! second HTTP stack, and for the followed ICM.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Uri, header};
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};

use crate::config::settings::UpstreamTls;
use crate::discovery::domino::{DominoClient, DominoRequest, DominoResponse, Fault, FetchError};

/// For TCP and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// An ACME server may validate a challenge before it answers.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// More than any chain of certificates.
const MAX_BODY_BYTES: usize = 1 << 20;
/// Addresses tried for the host name.
const MAX_ADDRESSES: usize = 4;

/// One request, before its host name is resolved.
#[derive(Clone, Debug)]
pub struct NamedRequest {
    pub https: bool,
    pub host: String,
    pub port: u16,
    /// Path and query of the URL.
    pub target: String,
    pub method: Method,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Bytes,
    /// From connect to the last byte.
    pub timeout: Duration,
    pub max_body: usize,
}

/// Resolves the host and tries its addresses until one accepts the connection.
pub async fn fetch(client: &DominoClient, request: &NamedRequest) -> Result<DominoResponse, FetchError> {
    let scheme = if request.https { "https" } else { "http" };
    let unresolved = |reason: String| FetchError {
        url: format!("{scheme}://{}:{}{}", request.host, request.port, request.target),
        fault: Fault::Unreachable(format!("the host name cannot be resolved: {reason}")),
    };
    let found = tokio::net::lookup_host((request.host.as_str(), request.port)).await;
    let mut last_error = unresolved("it has no address".to_owned());
    for address in found.map_err(|e| unresolved(e.to_string()))?.take(MAX_ADDRESSES) {
        let base = DominoRequest::get(address, request.https, &request.host, request.target.as_str());
        let resolved = DominoRequest {
            method: request.method.clone(),
            headers: request.headers.clone(),
            body: request.body.clone(),
            timeout: request.timeout,
            max_body: request.max_body,
            ..base
        };
        match client.fetch(&resolved).await {
            Err(error) if error.fault.is_connect() => last_error = error,
            result => return result,
        }
    }
    Err(last_error)
}

/// The client of one order.
pub struct AcmeHttpClient {
    client: DominoClient,
    /// `Retry-After` of the last response that was an error, in seconds; 0 without one.
    retry_after: Arc<AtomicU64>,
}

impl AcmeHttpClient {
    /// Must be called inside a runtime. Reads the system's authorities unless `tls` has its own.
    pub fn new(tls: &UpstreamTls, retry_after: Arc<AtomicU64>) -> Self {
        Self { client: DominoClient::new(tls, CONNECT_TIMEOUT), retry_after }
    }
}

impl HttpClient for AcmeHttpClient {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let (client, retry_after) = (self.client.clone(), Arc::clone(&self.retry_after));
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            // Collects the body without the crate of its trait.
            let mut body = BytesResponse::from(http::Response::new(body)).body;
            let body = body.into_bytes().await.map_err(instant_acme::Error::Other)?;
            let request = named_request(&parts.uri, parts.method, parts.headers.iter(), body)?;
            let response =
                fetch(&client, &request).await.map_err(|e| instant_acme::Error::Other(Box::new(e)))?;
            if response.status >= 400 {
                let seconds = response.header(header::RETRY_AFTER).trim().parse().unwrap_or(0);
                retry_after.store(seconds, Relaxed);
            }
            let mut built = http::Response::builder().status(response.status);
            if let Some(headers) = built.headers_mut() {
                *headers = response.headers;
            }
            let (parts, ()) = built.body(())?.into_parts();
            Ok(BytesResponse { parts, body: Box::new(response.body) })
        })
    }
}

fn named_request<'h>(
    uri: &Uri,
    method: Method,
    headers: impl Iterator<Item = (&'h HeaderName, &'h HeaderValue)>,
    body: Bytes,
) -> Result<NamedRequest, instant_acme::Error> {
    // RFC 8555 section 6.1: every request uses TLS. The URLs come from the server.
    if uri.scheme_str() != Some("https") {
        return Err(instant_acme::Error::Str("a URL of the ACME server that begins with https://"));
    }
    let host = uri.host().ok_or(instant_acme::Error::Str("a host in a URL of the ACME server"))?;
    // The client has a User-Agent of its own.
    let headers = headers.filter(|(name, _)| *name != header::USER_AGENT);
    Ok(NamedRequest {
        https: true,
        host: host.trim_matches(['[', ']']).to_owned(),
        port: uri.port_u16().unwrap_or(443),
        target: uri.path_and_query().map_or("/", |target| target.as_str()).to_owned(),
        method,
        headers: headers.map(|(name, value)| (name.clone(), value.clone())).collect(),
        body,
        timeout: REQUEST_TIMEOUT,
        max_body: MAX_BODY_BYTES,
    })
}
