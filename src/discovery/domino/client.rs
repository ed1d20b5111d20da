//! A small HTTP client on Pingora's connectors, for everything that `icm` itself reads from servers.
//!
//! Each call has one timeout from connect to the last byte. The client resolves no names and follows no redirects.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, header};
use pingora::connectors::TransportConnector;
use pingora::http::RequestHeader;
use pingora::protocols::Stream;
use pingora::protocols::http::v1::client::HttpSession;
use pingora::protocols::tls::CaType;
use pingora::upstreams::peer::{ALPN, HttpPeer, Peer};
use pingora::{ErrorType, RetryType};

use super::fault::{Fault, FetchError};
use super::request::DominoRequest;
use super::tls;
use crate::config::settings::UpstreamTls;

/// Shorter than the time after which Domino closes an idle connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Its clones share one connection pool.
#[derive(Clone)]
pub struct DominoClient {
    inner: Arc<ClientInner>,
}

struct ClientInner {
    connector: TransportConnector,
    ca_certificates: Option<Arc<CaType>>,
    verify: bool,
    connect_timeout: Duration,
}

impl std::fmt::Debug for DominoClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DominoClient").field("verify", &self.inner.verify).finish_non_exhaustive()
    }
}

/// A response with its complete body, transfer coding removed.
#[derive(Clone, Debug)]
pub struct DominoResponse {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Why an exchange on one connection ended early.
struct ExchangeError {
    fault: Fault,
    /// The server closed the connection before it sent any byte. A pooled connection may simply have idled too long,
    /// so the request is sent again on a new one.
    connection_was_stale: bool,
}

impl From<Fault> for ExchangeError {
    fn from(fault: Fault) -> Self {
        Self { fault, connection_was_stale: false }
    }
}

impl DominoClient {
    /// `connect_timeout` covers TCP and TLS together.
    ///
    /// This reads the platform's certificate authorities unless `tls` has its own, so call it once for each
    /// configuration, not for each request.
    #[must_use]
    pub fn new(tls: &UpstreamTls, connect_timeout: Duration) -> Self {
        let inner = ClientInner {
            connector: tls::connector(tls),
            ca_certificates: tls::ca_certificates(tls),
            verify: tls.verify,
            connect_timeout,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Sends a request and reads the complete response; any status is `Ok`.
    ///
    /// # Errors
    /// When there is no complete response within `request.timeout`, or its body exceeds `request.max_body`.
    pub async fn fetch(&self, request: &DominoRequest) -> Result<DominoResponse, FetchError> {
        self.with_timeout(request, self.exchange(request)).await
    }

    /// Reads only the status, always on a new connection: a pooled one does not show whether the port still accepts.
    ///
    /// # Errors
    /// When there is no status within `request.timeout`.
    pub async fn probe(&self, request: &DominoRequest) -> Result<u16, FetchError> {
        let head = async {
            let peer = self.peer(request);
            let stream = self.connect(&peer).await?;
            let mut session = HttpSession::new_with_options(stream, &peer);
            self.write_request(&mut session, request, false).await?;
            self.read_head(&mut session).await
        };
        self.with_timeout(request, head).await
    }

    async fn with_timeout<T>(
        &self,
        request: &DominoRequest,
        work: impl Future<Output = Result<T, ExchangeError>>,
    ) -> Result<T, FetchError> {
        let result = match tokio::time::timeout(request.timeout, work).await {
            Ok(result) => result.map_err(|error| error.fault),
            Err(_) => Err(Fault::TimedOut(request.timeout)),
        };
        result.map_err(|fault| FetchError { url: request.url(), fault })
    }

    async fn exchange(&self, request: &DominoRequest) -> Result<DominoResponse, ExchangeError> {
        let peer = self.peer(request);
        if let Some(stream) = self.inner.connector.reused_stream(&peer).await {
            match self.exchange_on(stream, &peer, request).await {
                Err(error) if error.connection_was_stale => {}
                result => return result,
            }
        }
        let stream = self.connect(&peer).await?;
        self.exchange_on(stream, &peer, request).await
    }

    fn peer(&self, request: &DominoRequest) -> HttpPeer {
        let name = if request.https { request.tls_name() } else { String::new() };
        let mut peer = HttpPeer::new(request.address, request.https, name);
        peer.options.alpn = ALPN::H1;
        peer.options.connection_timeout = Some(self.inner.connect_timeout);
        peer.options.total_connection_timeout = Some(self.inner.connect_timeout);
        peer.options.verify_cert = self.inner.verify;
        peer.options.verify_hostname = self.inner.verify;
        peer.options.ca = self.inner.ca_certificates.clone();
        peer
    }

    async fn connect(&self, peer: &HttpPeer) -> Result<Stream, ExchangeError> {
        self.inner.connector.new_stream(peer).await.map_err(|error| self.exchange_error(&error))
    }

    /// Sends the request on this connection and returns the connection to the pool if it can be reused.
    async fn exchange_on(
        &self,
        stream: Stream,
        peer: &HttpPeer,
        request: &DominoRequest,
    ) -> Result<DominoResponse, ExchangeError> {
        let mut session = HttpSession::new_with_options(stream, peer);
        self.write_request(&mut session, request, true).await?;
        let status = self.read_head(&mut session).await?;
        let headers = session.resp_header().map(|head| head.headers.clone()).unwrap_or_default();
        let declared_length =
            headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if declared_length.is_some_and(|length: u64| length > request.max_body as u64) {
            return Err(Fault::BodyTooLarge(request.max_body).into());
        }
        let mut body = BytesMut::new();
        while let Some(part) = session.read_body_ref().await.map_err(|error| self.body_error(&error))? {
            if part.len() > request.max_body.saturating_sub(body.len()) {
                return Err(Fault::BodyTooLarge(request.max_body).into());
            }
            body.extend_from_slice(part);
        }
        session.respect_keepalive();
        if session.will_keepalive()
            && let Some(stream) = session.reuse().await
        {
            self.inner.connector.release_stream(stream, peer.reuse_hash(), Some(IDLE_TIMEOUT));
        }
        Ok(DominoResponse { status, headers, body: body.freeze() })
    }

    async fn write_request(
        &self,
        session: &mut HttpSession,
        request: &DominoRequest,
        keep_alive: bool,
    ) -> Result<(), ExchangeError> {
        let head = request_header(request, keep_alive)
            .map_err(|reason| Fault::BadRequest(super::fault::single_line(&reason)))?;
        session.write_request_header(Box::new(head)).await.map_err(|error| self.exchange_error(&error))?;
        if !request.body.is_empty() {
            session.write_body(&request.body).await.map_err(|error| self.exchange_error(&error))?;
        }
        session.finish_body().await.map_err(|error| self.exchange_error(&error))?;
        Ok(())
    }

    /// Reads the final response header and returns its status; informational responses are skipped.
    async fn read_head(&self, session: &mut HttpSession) -> Result<u16, ExchangeError> {
        loop {
            session.read_response().await.map_err(|error| self.exchange_error(&error))?;
            match session.get_status().map_or(0, |status| status.as_u16()) {
                101 => {
                    return Err(Fault::Malformed("unexpected switch of protocols".into()).into());
                }
                100..=199 => {}
                status => return Ok(status),
            }
        }
    }

    fn exchange_error(&self, error: &pingora::Error) -> ExchangeError {
        let connection_was_stale =
            matches!(error.retry, RetryType::ReusedOnly) || *error.etype() == ErrorType::WriteError;
        ExchangeError { fault: Fault::from_pingora(error, self.inner.connect_timeout), connection_was_stale }
    }

    /// A request whose response has begun is never sent again.
    fn body_error(&self, error: &pingora::Error) -> ExchangeError {
        Fault::from_pingora(error, self.inner.connect_timeout).into()
    }
}

impl DominoResponse {
    /// # Errors
    /// [`Fault::Status`] with the URL of `request`, unless the status is 200 to 299.
    pub fn success(self, request: &DominoRequest) -> Result<Self, FetchError> {
        if (200..300).contains(&self.status) {
            Ok(self)
        } else {
            Err(FetchError { url: request.url(), fault: Fault::Status(self.status) })
        }
    }

    /// The value of a header; empty if it is absent or not text.
    #[must_use]
    pub fn header(&self, name: header::HeaderName) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

fn request_header(request: &DominoRequest, keep_alive: bool) -> Result<RequestHeader, String> {
    let count = request.headers.len() + 4;
    let mut head = RequestHeader::build(request.method.clone(), request.target.as_bytes(), Some(count))
        .map_err(|error| error.to_string())?;
    let host = HeaderValue::from_str(&request.host_header).map_err(|error| error.to_string())?;
    let connection = if keep_alive { "keep-alive" } else { "close" };
    let mut put = |name: header::HeaderName, value: HeaderValue| {
        head.append_header(name, value).map(|_| ()).map_err(|error| error.to_string())
    };
    put(header::HOST, host)?;
    put(header::USER_AGENT, HeaderValue::from_static("domino-icm"))?;
    put(header::CONNECTION, HeaderValue::from_static(connection))?;
    if !request.body.is_empty() {
        put(header::CONTENT_LENGTH, HeaderValue::from(request.body.len()))?;
    }
    for (name, value) in &request.headers {
        put(name.clone(), value.clone())?;
    }
    Ok(head)
}
