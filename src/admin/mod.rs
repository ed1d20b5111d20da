//! The admin listener: is it alive, is it ready, what does it know, and why.
//!
//! In: requests of administrators, their programs and the status page. Out: JSON, Prometheus text, a page, or a
//! word. [`routes`] is the table of everything that is answered, [`guard`] who may ask it. The verbs `restrict`
//! and `release` are all that changes anything.

pub mod authorization;
pub mod databases;
pub mod login;
pub mod metrics;
pub mod page;
pub mod queries;
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

/// The largest body: a login form.
const MAX_BODY_BYTES: usize = 8 * 1024;

/// The application of the admin listener.
#[derive(Debug)]
pub struct AdminService {
    balancer: Arc<Balancer>,
    certificate: Option<Arc<CertificateStore>>,
    started_unix_ms: u64,
    token_failures: TokenFailures,
}

/// One request, as the handlers see it.
#[derive(Debug)]
pub struct AdminRequest {
    /// What it asks about.
    pub balancer: Arc<Balancer>,
    /// The snapshot of the moment when it came.
    pub snapshot: Arc<Snapshot>,
    /// When this process began to serve, milliseconds since 1970.
    pub started_unix_ms: u64,
    /// As received.
    pub header: RequestHeader,
    /// Without its query.
    pub path: String,
    /// What stood behind `?`, not decoded.
    pub query: String,
    /// The `{name}` of the route, decoded; empty where it has none.
    pub name: String,
    /// Empty unless the method is POST.
    pub body: Vec<u8>,
    /// Where it came from: an address, or nothing for a socket without one.
    pub peer: Option<std::net::SocketAddr>,
    /// Which of our addresses it was sent to.
    pub local: Option<std::net::SocketAddr>,
    /// Over TLS.
    pub tls: bool,
    /// Of this listener, where it has one.
    pub certificate: Option<Arc<CertificateStore>>,
}

impl AdminRequest {
    /// The argument `scheme`: what the client uses.
    ///
    /// # Errors
    /// A 400 for anything but `http` and `https`.
    pub fn scheme(&self) -> Result<Option<Port>, AdminReply> {
        match self.query_value("scheme").as_deref() {
            None | Some("") => Ok(None),
            Some("http") => Ok(Some(Port::Http)),
            Some("https") => Ok(Some(Port::Https)),
            Some(_) => Err(AdminReply::bad_query("`scheme` is http or https: what the client uses")),
        }
    }

    /// An argument of the query, decoded; `None` when it is not there, empty when it has no value.
    #[must_use]
    pub fn query_value(&self, name: &str) -> Option<String> {
        crate::domain::url::find_argument(self.query.as_bytes(), name.as_bytes())
            .map(|value| String::from_utf8_lossy(&value).into_owned())
    }

    /// A number of the query.
    ///
    /// # Errors
    /// A 400 that says what is allowed.
    pub fn query_number(
        &self,
        name: &str,
        default: usize,
        allowed: std::ops::RangeInclusive<usize>,
    ) -> Result<usize, AdminReply> {
        let Some(text) = self.query_value(name).filter(|text| !text.is_empty()) else { return Ok(default) };
        text.parse::<usize>().ok().filter(|number| allowed.contains(number)).ok_or_else(|| {
            let (least, most) = (allowed.start(), allowed.end());
            AdminReply::bad_query(format!("`{name}` is a number from {least} to {most}"))
        })
    }
}

impl AdminService {
    /// Shows this balancer, on a listener with this certificate.
    #[must_use]
    pub fn new(balancer: Arc<Balancer>, certificate: Option<Arc<CertificateStore>>) -> Self {
        Self {
            balancer,
            certificate,
            started_unix_ms: clock::unix_ms(),
            token_failures: TokenFailures::default(),
        }
    }

    async fn answer(&self, session: &mut ServerSession) -> AdminReply {
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
        routes::answer(request, &self.token_failures).await
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
                    format!(
                        "the body is larger than {MAX_BODY_BYTES} octets, and nothing here needs so many"
                    ),
                ));
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(error) => return Err(AdminReply::bad_query(format!("the body cannot be read: {error}"))),
        }
    }
}

/// The Host that the client wrote, without its port: the header, or what stands for it in HTTP/2.
#[must_use]
pub fn request_host(header: &RequestHeader) -> &str {
    let host = header.headers.get(http::header::HOST).and_then(|h| h.to_str().ok());
    let authority = host.or_else(|| header.uri.authority().map(|a| a.as_str())).unwrap_or_default();
    host_table::strip_port(authority).trim_matches(['[', ']'])
}

#[async_trait]
impl ServeHttp for AdminService {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let reply = self.answer(session).await;
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
