//! The admin listener: status page, JSON, Prometheus metrics, and the actions `restrict` and `release`. [`routes`] is the
//! table of all routes, [`authorization`] decides who may use them.

mod acme;
pub mod authorization;
mod cache;
pub mod databases;
mod history;
pub mod login;
pub mod metrics;
pub mod page;
pub mod queries;
mod rehearsal;
pub mod reply;
mod restrict;
pub mod routes;
pub mod status;
pub mod token_failures;

use std::sync::Arc;

use async_trait::async_trait;
use http::{Method, Response, StatusCode};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use pingora_http::RequestHeader;

use crate::domain::cluster::Port;
use crate::edge::tls::CertificateStore;
use crate::follow;
use crate::proxy::route::origin_form;
use crate::state::{Balancer, Snapshot, host_table};
use crate::util::clock;
use reply::AdminReply;
use token_failures::TokenFailures;

/// The largest expected body is a login form.
const MAX_BODY_BYTES: usize = 8 * 1024;

/// Answers the requests on the admin listener.
#[derive(Debug)]
pub struct AdminService {
    balancer: Arc<Balancer>,
    certificate: Option<Arc<CertificateStore>>,
    started_unix_ms: u64,
    token_failures: TokenFailures,
}

/// A request with everything that a handler needs.
#[derive(Debug)]
pub struct AdminRequest {
    pub balancer: Arc<Balancer>,
    /// The snapshot at the time of the request.
    pub snapshot: Arc<Snapshot>,
    pub started_unix_ms: u64,
    pub header: RequestHeader,
    pub path: String,
    /// Everything after `?`, not decoded.
    pub query: String,
    /// The `{name}` of the route, decoded; empty if it has none.
    pub name: String,
    /// Empty unless the method is POST.
    pub body: Vec<u8>,
    pub peer: Option<std::net::SocketAddr>,
    /// The local address of the connection.
    pub local: Option<std::net::SocketAddr>,
    pub tls: bool,
    /// The certificate of the listener.
    pub certificate: Option<Arc<CertificateStore>>,
}

impl AdminRequest {
    /// # Errors
    /// A 400 for any value other than `http` and `https`.
    pub fn scheme(&self) -> Result<Option<Port>, AdminReply> {
        match self.query_value("scheme").as_deref() {
            None | Some("") => Ok(None),
            Some("http") => Ok(Some(Port::Http)),
            Some("https") => Ok(Some(Port::Https)),
            Some(_) => Err(AdminReply::bad_query("`scheme` must be http or https, the scheme of the client")),
        }
    }

    /// An argument of the query, decoded; `None` if it is missing, empty if it has no value.
    #[must_use]
    pub fn query_value(&self, name: &str) -> Option<String> {
        crate::domain::url::find_argument(self.query.as_bytes(), name.as_bytes())
            .map(|value| String::from_utf8_lossy(&value).into_owned())
    }

    /// A numeric argument of the query.
    ///
    /// # Errors
    /// A 400 that gives the allowed range.
    pub fn query_number(
        &self,
        name: &str,
        default: usize,
        allowed: std::ops::RangeInclusive<usize>,
    ) -> Result<usize, AdminReply> {
        let Some(text) = self.query_value(name).filter(|text| !text.is_empty()) else { return Ok(default) };
        text.parse::<usize>().ok().filter(|number| allowed.contains(number)).ok_or_else(|| {
            let (min, max) = (allowed.start(), allowed.end());
            AdminReply::bad_query(format!("`{name}` must be a number from {min} to {max}"))
        })
    }
}

impl AdminService {
    #[must_use]
    pub fn new(balancer: Arc<Balancer>, certificate: Option<Arc<CertificateStore>>) -> Self {
        Self {
            balancer,
            certificate,
            started_unix_ms: clock::unix_ms(),
            token_failures: TokenFailures::default(),
        }
    }

    async fn reply(&self, session: &mut ServerSession) -> AdminReply {
        let body = if session.req_header().method == Method::POST {
            match read_body(session).await {
                Ok(body) => body,
                Err(error_reply) => return error_reply,
            }
        } else {
            Vec::new()
        };
        let address =
            |a: Option<&pingora::protocols::l4::socket::SocketAddr>| a.and_then(|a| a.as_inet().copied());
        let header = session.req_header();
        let (_, target) = origin_form(header.raw_path());
        let target = String::from_utf8_lossy(target);
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let request = AdminRequest {
            balancer: Arc::clone(&self.balancer),
            snapshot: self.balancer.snapshot(),
            started_unix_ms: self.started_unix_ms,
            header: header.clone(),
            path: path.to_owned(),
            query: query.to_owned(),
            name: String::new(),
            body,
            peer: address(session.client_addr()),
            local: address(session.server_addr()),
            tls: session.digest().is_some_and(|d| d.ssl_digest.is_some()),
            certificate: self.certificate.clone(),
        };
        routes::dispatch(request, &self.token_failures).await
    }
}

async fn read_body(session: &mut ServerSession) -> Result<Vec<u8>, AdminReply> {
    let mut body = Vec::new();
    loop {
        match session.read_request_body().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > MAX_BODY_BYTES => {
                return Err(AdminReply::error(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "too_large",
                    format!("the body is larger than {MAX_BODY_BYTES} bytes"),
                ));
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(error) => return Err(AdminReply::bad_query(format!("the body cannot be read: {error}"))),
        }
    }
}

/// The Host header or the HTTP/2 authority, without the port.
#[must_use]
pub fn request_host(header: &RequestHeader) -> &str {
    let host = header.headers.get(http::header::HOST).and_then(|h| h.to_str().ok());
    let authority = host.or_else(|| header.uri.authority().map(|a| a.as_str())).unwrap_or_default();
    host_table::strip_port(authority).trim_matches(['[', ']'])
}

#[async_trait]
impl ServeHttp for AdminService {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let reply = self.reply(session).await;
        if reply.status != StatusCode::OK {
            session.set_keepalive(None);
        }
        let configuration = (reply.content_type == follow::YAML_MEDIA_TYPE).then(|| reply.body.clone());
        let mut response = reply.response(session.req_header().method == Method::HEAD);
        if let Some(text) = configuration {
            follow::apply_etag(session.req_header(), &text, &mut response);
        }
        response
    }
}
