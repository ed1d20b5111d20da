//! Receives the statistics that Domino publishes about once a minute: `POST /statpub/<server>`
//! (<https://help.hcl-software.com/domino/11.0.1/admin/stats_publish_other_external.html>). Only the server itself, or an
//! address in `statpub.allow`, may report, with the token if one is configured.

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use http::{Method, Response, StatusCode, header};
use percent_encoding::percent_decode_str;
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use pingora_http::RequestHeader;

use crate::admin::token_failures::{self, TokenFailures};
use crate::config::settings::{AvailabilitySource, Statpub};
use crate::discovery::availability::statpub;
use crate::domain::cluster::{ClusterServer, Port, ServerName};
use crate::state::cluster_view::UpstreamServer;
use crate::state::{Balancer, Cluster};
use crate::util::clock;
use crate::util::token;

const MAX_BODY_BYTES: usize = 1 << 20;

/// The HTTP application of the statpub listener.
#[derive(Debug)]
pub struct StatpubService {
    balancer: Arc<Balancer>,
    token_failures: TokenFailures,
}

/// A server that a report is about, and the position of statpub among its sources.
type Target = (Arc<Cluster>, Arc<ClusterServer>, usize);

impl StatpubService {
    #[must_use]
    pub fn new(balancer: Arc<Balancer>) -> Self {
        Self { balancer, token_failures: TokenFailures::default() }
    }

    async fn receive(&self, session: &mut ServerSession) -> Result<(), (StatusCode, String)> {
        let snapshot = self.balancer.snapshot();
        let Some(settings) = &snapshot.settings.statpub else {
            return Err((StatusCode::NOT_FOUND, "statpub is not configured".to_owned()));
        };
        let in_path = checked_path(session.req_header(), settings)?;
        let sender = session.client_addr().and_then(|a| a.as_inet()).map(|a| a.ip().to_canonical());
        // The body is read only from a sender that may report for the server it names.
        let named = in_path.as_deref().map(|name| self.servers_named(name, sender, settings)).transpose()?;
        if named.is_none() && !self.may_report(sender, settings) {
            let text = "the sender's address is neither that of a server nor in statpub.allow";
            return Err((StatusCode::FORBIDDEN, text.to_owned()));
        }
        let body = read_body(session).await?;
        let parsed = statpub::parse(&body)
            .map_err(|e| (StatusCode::BAD_REQUEST, format!("no statistics understood: {e}")))?;
        check_same_server(in_path.as_deref(), parsed.report.name.as_deref())?;
        let targets = match (named, &parsed.report.name) {
            (Some(targets), _) => targets,
            (None, Some(name)) => self.servers_named(name, sender, settings)?,
            (None, None) => {
                let text = "name the server in the URL, /statpub/Web1, or publish Server.Name";
                return Err((StatusCode::BAD_REQUEST, text.to_owned()));
            }
        };
        for warning in &parsed.warnings {
            let name = in_path.as_deref().or(parsed.report.name.as_deref()).unwrap_or_default();
            log::warn!(target: "icm::availability", "{name}: {warning}");
        }
        for (cluster, server, number) in targets {
            let id = (AvailabilitySource::Statpub.kind(), number);
            self.balancer.record_report(&cluster, &server, id, &parsed.report);
        }
        Ok(())
    }

    /// Whether this sender may report for any server.
    fn may_report(&self, sender: Option<IpAddr>, settings: &Statpub) -> bool {
        sender.is_some_and(|ip| settings.allow.iter().any(|net| net.contains(&ip)))
            || self
                .balancer
                .snapshot()
                .clusters
                .iter()
                .any(|cluster| cluster.view.load().entries.iter().any(|entry| is_address_of(entry, sender)))
    }

    /// Finds the servers of this name in every cluster with the source statpub.
    fn servers_named(
        &self,
        name: &str,
        sender: Option<IpAddr>,
        settings: &Statpub,
    ) -> Result<Vec<Target>, (StatusCode, String)> {
        let mut found = Vec::new();
        let mut known = false;
        let mut refused = false;
        for cluster in &self.balancer.snapshot().clusters {
            for entry in cluster.view.load().entries.iter().filter(|e| e.config.name.answers_to(name)) {
                known = true;
                let allowed = is_address_of(entry, sender)
                    || sender.is_some_and(|ip| settings.allow.iter().any(|net| net.contains(&ip)));
                if !allowed {
                    refused = true;
                    continue;
                }
                let sources = cluster.availability_sources(&entry.config);
                if let Some(number) = sources.iter().position(|a| a.source == AvailabilitySource::Statpub) {
                    found.push((Arc::clone(cluster), Arc::clone(&entry.server), number));
                }
            }
        }
        let shown: String = name.chars().take(80).collect();
        match (known, refused, found.is_empty()) {
            (_, _, false) => Ok(found),
            (false, ..) => Err((StatusCode::NOT_FOUND, format!("no server `{shown}` in any cluster"))),
            (true, true, _) => Err((
                StatusCode::FORBIDDEN,
                format!("the sender's address is neither that of `{shown}` nor in statpub.allow"),
            )),
            (true, false, _) => Err((
                StatusCode::CONFLICT,
                format!("no cluster of `{shown}` has `source: statpub` in its availability"),
            )),
        }
    }
}

/// Checks the head of a request before its body is read. Returns the server that the URL names, if any.
fn checked_path(head: &RequestHeader, settings: &Statpub) -> Result<Option<String>, (StatusCode, String)> {
    if settings.token.as_ref().is_some_and(|known| !token::has_bearer_token(head, &known.0)) {
        return Err((StatusCode::UNAUTHORIZED, "a bearer token is needed".to_owned()));
    }
    let path = String::from_utf8_lossy(head.raw_path());
    let path = path.split('?').next().unwrap_or_default();
    let rest = path.strip_prefix("/statpub").filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let Some(rest) = rest else {
        return Err((StatusCode::NOT_FOUND, "post to /statpub/<server>".to_owned()));
    };
    if !matches!(head.method, Method::POST | Method::PUT) {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "use POST".to_owned()));
    }
    let declared: Option<usize> =
        head.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
    if declared.is_some_and(|n| n > MAX_BODY_BYTES) {
        return Err((StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 1 MiB".to_owned()));
    }
    let name = rest.strip_prefix('/').filter(|name| !name.is_empty());
    Ok(name.map(|name| percent_decode_str(name).decode_utf8_lossy().into_owned()))
}

/// Refuses a body that is about another server than the URL.
fn check_same_server(in_path: Option<&str>, in_body: Option<&str>) -> Result<(), (StatusCode, String)> {
    match (in_path, in_body) {
        (Some(path), Some(name)) if !ServerName::parse(name).is_ok_and(|n| n.answers_to(path)) => {
            let text = format!("the URL says `{path}`, the body says Server.Name `{name}`");
            Err((StatusCode::BAD_REQUEST, text))
        }
        _ => Ok(()),
    }
}

fn is_address_of(entry: &UpstreamServer, sender: Option<IpAddr>) -> bool {
    let ports = [Port::Http, Port::Https].into_iter();
    ports.filter_map(|port| entry.address(port)).any(|address| Some(address.ip()) == sender)
}

async fn read_body(session: &mut ServerSession) -> Result<Vec<u8>, (StatusCode, String)> {
    let mut body = Vec::new();
    loop {
        match session.read_request_body().await {
            Ok(Some(chunk)) => {
                if body.len() + chunk.len() > MAX_BODY_BYTES {
                    return Err((StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 1 MiB".to_owned()));
                }
                body.extend_from_slice(&chunk);
            }
            Ok(None) => return Ok(body),
            Err(error) => return Err((StatusCode::BAD_REQUEST, format!("the body cannot be read: {error}"))),
        }
    }
}

#[async_trait]
impl ServeHttp for StatpubService {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let has_token = token::bearer_token(session.req_header()).is_some();
        let client = session.client_addr().and_then(|a| a.as_inet()).map(|a| a.ip()).filter(|_| has_token);
        if let Some(seconds) =
            client.and_then(|client| self.token_failures.retry_after_secs(client, clock::now_ms()))
        {
            session.set_keepalive(None);
            let text =
                format!("too many wrong tokens came from this address; try again in {seconds} seconds\n");
            let mut response = text_response(StatusCode::TOO_MANY_REQUESTS, text);
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from(seconds));
            return response;
        }
        match self.receive(session).await {
            Ok(()) => text_response(StatusCode::NO_CONTENT, String::new()),
            Err((status, text)) => {
                session.set_keepalive(None);
                if let Some(client) = client.filter(|_| status == StatusCode::UNAUTHORIZED) {
                    self.token_failures.record_failure(client, "statpub", clock::now_ms());
                    tokio::time::sleep(token_failures::FAILURE_DELAY).await;
                }
                text_response(status, format!("{text}\n"))
            }
        }
    }
}

fn text_response(status: StatusCode, text: String) -> Response<Vec<u8>> {
    let mut response = Response::new(text.into_bytes());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::SERVER, header::HeaderValue::from_static(crate::pages::SERVER_NAME));
    if status != StatusCode::NO_CONTENT {
        let length = header::HeaderValue::from(response.body().len());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(header::CONTENT_LENGTH, length);
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        }
    }
    response
}
