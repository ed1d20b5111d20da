//! A small HTTP client on Pingora's connectors, for everything that is read from servers.
//!
//! In: a [`Request`] with a resolved address. Out: the whole answer, or only its status for a
//! probe, or a [`FetchError`] that names the URL. Every call has one limit over everything. It
//! never follows a redirect, never resolves a name, and never sends a user's request.

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

use super::fault::{Fault, FetchError, ProbeError};
use super::request::Request;
use super::tls;
use crate::config::settings::UpstreamTls;

/// How long an idle connection is kept: below the time after which Domino closes it.
const IDLE: Duration = Duration::from_secs(10);

/// Shares one connection pool among its clones.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    connector: TransportConnector,
    authorities: Option<Arc<CaType>>,
    verify: bool,
    connect_timeout: Duration,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("verify", &self.shared.verify).finish_non_exhaustive()
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// 200 to 999.
    pub status: u16,
    /// As they came.
    pub headers: HeaderMap,
    /// Without transfer coding.
    pub body: Bytes,
}

/// Why an exchange on one connection ended early.
struct Broken {
    fault: Fault,
    /// The connection was closed before anything was answered: if it came from the pool it had
    /// merely grown old.
    stale: bool,
}

impl From<Fault> for Broken {
    fn from(fault: Fault) -> Self {
        Self { fault, stale: false }
    }
}

impl Client {
    /// A client that trusts what `upstream_tls` says; `connect_timeout` is for TCP and TLS together.
    ///
    /// Reads the platform's certificate authorities unless `tls` brings its own: call it when a
    /// configuration is applied, not for each request.
    #[must_use]
    pub fn new(tls: &UpstreamTls, connect_timeout: Duration) -> Self {
        let shared = Shared {
            connector: tls::connector(tls),
            authorities: tls::authorities(tls),
            verify: tls.verify,
            connect_timeout,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Sends a request and reads the whole answer, whatever its status is.
    ///
    /// # Errors
    /// When no whole answer came within `request.timeout`, or its body exceeds `request.max_body`.
    pub async fn fetch(&self, request: &Request) -> Result<Answer, FetchError> {
        self.within(request, self.exchange(request)).await
    }

    /// Reads only the status, on a fresh connection that is dropped afterwards: a pooled one would
    /// say nothing about whether the port still accepts.
    ///
    /// # Errors
    /// When no status came within `request.timeout`.
    pub async fn probe(&self, request: &Request) -> Result<u16, ProbeError> {
        let head = async {
            let peer = self.peer(request);
            let stream = self.connect(&peer).await?;
            let mut session = HttpSession::new_with_options(stream, &peer);
            self.write(&mut session, request, false).await?;
            self.read_head(&mut session).await
        };
        self.within(request, head).await
    }

    async fn within<T>(
        &self,
        request: &Request,
        work: impl Future<Output = Result<T, Broken>>,
    ) -> Result<T, FetchError> {
        let result = match tokio::time::timeout(request.timeout, work).await {
            Ok(result) => result.map_err(|broken| broken.fault),
            Err(_) => Err(Fault::TimedOut(request.timeout)),
        };
        result.map_err(|fault| FetchError { url: request.url(), fault })
    }

    async fn exchange(&self, request: &Request) -> Result<Answer, Broken> {
        let peer = self.peer(request);
        if let Some(stream) = self.shared.connector.reused_stream(&peer).await {
            match self.converse(stream, &peer, request).await {
                Err(broken) if broken.stale => {}
                result => return result,
            }
        }
        let stream = self.connect(&peer).await?;
        self.converse(stream, &peer, request).await
    }

    fn peer(&self, request: &Request) -> HttpPeer {
        let name = if request.https { request.tls_name() } else { String::new() };
        let mut peer = HttpPeer::new(request.address, request.https, name);
        peer.options.alpn = ALPN::H1;
        peer.options.connection_timeout = Some(self.shared.connect_timeout);
        peer.options.total_connection_timeout = Some(self.shared.connect_timeout);
        peer.options.verify_cert = self.shared.verify;
        peer.options.verify_hostname = self.shared.verify;
        peer.options.ca = self.shared.authorities.clone();
        peer
    }

    async fn connect(&self, peer: &HttpPeer) -> Result<Stream, Broken> {
        self.shared.connector.new_stream(peer).await.map_err(|error| self.broken(&error))
    }

    /// One request and its answer on one connection, which goes back to the pool if it may.
    async fn converse(&self, stream: Stream, peer: &HttpPeer, request: &Request) -> Result<Answer, Broken> {
        let mut session = HttpSession::new_with_options(stream, peer);
        self.write(&mut session, request, true).await?;
        let status = self.read_head(&mut session).await?;
        let headers = session.resp_header().map(|head| head.headers.clone()).unwrap_or_default();
        let announced =
            headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if announced.is_some_and(|length: u64| length > request.max_body as u64) {
            return Err(Fault::BodyTooLarge(request.max_body).into());
        }
        let mut body = BytesMut::new();
        while let Some(part) = session.read_body_ref().await.map_err(|error| self.in_body(&error))? {
            if part.len() > request.max_body.saturating_sub(body.len()) {
                return Err(Fault::BodyTooLarge(request.max_body).into());
            }
            body.extend_from_slice(part);
        }
        session.respect_keepalive();
        if session.will_keepalive()
            && let Some(stream) = session.reuse().await
        {
            self.shared.connector.release_stream(stream, peer.reuse_hash(), Some(IDLE));
        }
        Ok(Answer { status, headers, body: body.freeze() })
    }

    async fn write(&self, session: &mut HttpSession, request: &Request, keep: bool) -> Result<(), Broken> {
        let head = head(request, keep).map_err(|reason| Fault::BadRequest(super::fault::short(&reason)))?;
        session.write_request_header(Box::new(head)).await.map_err(|error| self.broken(&error))?;
        if !request.body.is_empty() {
            session.write_body(&request.body).await.map_err(|error| self.broken(&error))?;
        }
        session.finish_body().await.map_err(|error| self.broken(&error))?;
        Ok(())
    }

    /// Skips informational answers.
    async fn read_head(&self, session: &mut HttpSession) -> Result<u16, Broken> {
        loop {
            session.read_response().await.map_err(|error| self.broken(&error))?;
            match session.get_status().map_or(0, |status| status.as_u16()) {
                101 => {
                    return Err(Fault::Malformed("protocol switched without having been asked".into()).into());
                }
                100..=199 => {}
                status => return Ok(status),
            }
        }
    }

    fn broken(&self, error: &pingora::Error) -> Broken {
        let stale = matches!(error.retry, RetryType::ReusedOnly) || *error.etype() == ErrorType::WriteError;
        Broken { fault: Fault::of(error, self.shared.connect_timeout), stale }
    }

    /// An answer that began is never asked for again.
    fn in_body(&self, error: &pingora::Error) -> Broken {
        Fault::of(error, self.shared.connect_timeout).into()
    }
}

impl Answer {
    /// The answer if its status is 200 to 299.
    ///
    /// # Errors
    /// [`Fault::Status`] with the URL of `request`.
    pub fn success(self, request: &Request) -> Result<Self, FetchError> {
        if (200..300).contains(&self.status) {
            Ok(self)
        } else {
            Err(FetchError { url: request.url(), fault: Fault::Status(self.status) })
        }
    }

    /// A header's text, empty if it is absent or no text.
    #[must_use]
    pub fn header(&self, name: header::HeaderName) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

fn head(request: &Request, keep: bool) -> Result<RequestHeader, String> {
    let count = request.headers.len() + 4;
    let mut head = RequestHeader::build(request.method.clone(), request.target.as_bytes(), Some(count))
        .map_err(|error| error.to_string())?;
    let host = HeaderValue::from_str(&request.host_header).map_err(|error| error.to_string())?;
    let connection = if keep { "keep-alive" } else { "close" };
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
