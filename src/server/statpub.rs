//! The receiver of Domino's own statistics: `POST /statpub/<server>`.
//!
//! In: what a server publishes about once a minute
//! (<https://help.hcl-software.com/domino/11.0.1/admin/stats_publish_other_external.html>). Out: facts in
//! that member's ledger, or a clear 4xx. Whoever is not the server, not allowed, or without the token
//! changes nothing.

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use http::{Method, Response, StatusCode, header};
use percent_encoding::percent_decode_str;
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;

use crate::admin::attempts::{self, Attempts};
use crate::config::settings::{AvailabilitySource, Statpub};
use crate::discovery::availability::statpub;
use crate::domain::cluster::{Member, Port, ServerName};
use crate::state::view::Entry;
use crate::state::{Balancer, Cluster};
use crate::util::clock;
use crate::util::token;

/// The largest body.
const LARGEST: usize = 1 << 20;

/// The application of the statpub listener.
#[derive(Debug)]
pub struct Receiver {
    balancer: Arc<Balancer>,
    attempts: Attempts,
}

/// A member that a push is about, and which of its sources statpub is.
type Meant = (Arc<Cluster>, Arc<Member>, usize);

impl Receiver {
    /// Reports to this balancer's members.
    #[must_use]
    pub fn new(balancer: Arc<Balancer>) -> Self {
        Self { balancer, attempts: Attempts::default() }
    }

    async fn receive(&self, session: &mut ServerSession) -> Result<(), (StatusCode, String)> {
        let snapshot = self.balancer.snapshot();
        let Some(settings) = snapshot.settings.statpub.clone() else {
            return Err((StatusCode::NOT_FOUND, "statpub is not configured".to_owned()));
        };
        let head = session.req_header();
        if settings.token.as_ref().is_some_and(|known| !token::is_carried(head, &known.0)) {
            return Err((StatusCode::UNAUTHORIZED, "a bearer token is needed".to_owned()));
        }
        let path = String::from_utf8_lossy(head.raw_path()).into_owned();
        let path = path.split('?').next().unwrap_or_default();
        let Some(rest) = path.strip_prefix("/statpub") else {
            return Err((StatusCode::NOT_FOUND, "post to /statpub/<server>".to_owned()));
        };
        let in_path = rest.strip_prefix('/').filter(|name| !name.is_empty());
        let in_path = in_path.map(|name| percent_decode_str(name).decode_utf8_lossy().into_owned());
        if !rest.is_empty() && !rest.starts_with('/') {
            return Err((StatusCode::NOT_FOUND, "post to /statpub/<server>".to_owned()));
        }
        if !matches!(head.method, Method::POST | Method::PUT) {
            return Err((StatusCode::METHOD_NOT_ALLOWED, "use POST".to_owned()));
        }
        let declared: Option<usize> =
            head.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
        if declared.is_some_and(|n| n > LARGEST) {
            return Err((StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 1 MiB".to_owned()));
        }
        let sender = session.client_addr().and_then(|a| a.as_inet()).map(|a| a.ip().to_canonical());
        // Who is meant, and may this sender speak for it, before what it says.
        let named = in_path.as_deref().map(|name| self.targets(name, sender, &settings)).transpose()?;
        if named.is_none() && !self.may_speak(sender, &settings) {
            let text = "the sender's address is neither that of a server nor in statpub.allow";
            return Err((StatusCode::FORBIDDEN, text.to_owned()));
        }
        let body = body(session).await?;
        let report = statpub::parse(&body)
            .map_err(|e| (StatusCode::BAD_REQUEST, format!("no statistics understood: {e}")))?;
        let targets = match (&in_path, named, &report.facts.name) {
            (Some(path), Some(_), Some(name))
                if !ServerName::parse(name).is_ok_and(|n| n.answers_to(path)) =>
            {
                let text = format!("the URL says `{path}`, the body says Server.Name `{name}`");
                return Err((StatusCode::BAD_REQUEST, text));
            }
            (_, Some(targets), _) => targets,
            (_, None, Some(name)) => self.targets(name, sender, &settings)?,
            (_, None, None) => {
                return Err((
                    StatusCode::BAD_REQUEST,
                    "name the server in the URL, /statpub/Web1, or publish Server.Name".to_owned(),
                ));
            }
        };
        for warning in &report.warnings {
            let said = in_path.as_deref().or(report.facts.name.as_deref()).unwrap_or_default();
            log::warn!(target: "icm::availability", "{said}: {warning}");
        }
        for (cluster, member, number) in targets {
            let change = member.report(number, &report.facts, clock::now_ms());
            self.balancer.record(&cluster.settings.name, member.name(), change);
        }
        Ok(())
    }

    /// Whether this sender may speak for any server.
    fn may_speak(&self, sender: Option<IpAddr>, settings: &Statpub) -> bool {
        sender.is_some_and(|ip| settings.allow.iter().any(|net| net.contains(&ip)))
            || self
                .balancer
                .snapshot()
                .clusters
                .iter()
                .any(|cluster| cluster.view.load().entries.iter().any(|entry| is_address_of(entry, sender)))
    }

    /// The members that the name means, in every cluster that listens to statpub.
    fn targets(
        &self,
        said: &str,
        sender: Option<IpAddr>,
        settings: &Statpub,
    ) -> Result<Vec<Meant>, (StatusCode, String)> {
        let mut found = Vec::new();
        let mut known = false;
        let mut refused = false;
        for cluster in &self.balancer.snapshot().clusters {
            for entry in cluster.view.load().entries.iter().filter(|e| e.server.name.answers_to(said)) {
                known = true;
                let allowed = is_address_of(entry, sender)
                    || sender.is_some_and(|ip| settings.allow.iter().any(|net| net.contains(&ip)));
                if !allowed {
                    refused = true;
                    continue;
                }
                let sources = cluster.sources(&entry.server);
                if let Some(number) = sources.iter().position(|a| a.source == AvailabilitySource::Statpub) {
                    found.push((Arc::clone(cluster), Arc::clone(&entry.member), number));
                }
            }
        }
        let shown: String = said.chars().take(80).collect();
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

fn is_address_of(entry: &Entry, sender: Option<IpAddr>) -> bool {
    let ports = [Port::Http, Port::Https].into_iter();
    ports.filter_map(|port| entry.address(port)).any(|address| Some(address.ip()) == sender)
}

async fn body(session: &mut ServerSession) -> Result<Vec<u8>, (StatusCode, String)> {
    let mut body = Vec::new();
    loop {
        match session.read_request_body().await {
            Ok(Some(chunk)) => {
                if body.len() + chunk.len() > LARGEST {
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
impl ServeHttp for Receiver {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let shows = token::shown(session.req_header()).is_some();
        let client = session.client_addr().and_then(|a| a.as_inet()).map(|a| a.ip()).filter(|_| shows);
        if let Some(seconds) = client.and_then(|client| self.attempts.must_wait(client, clock::now_ms())) {
            session.set_keepalive(None);
            let text =
                format!("too many wrong tokens came from this address; try again in {seconds} seconds\n");
            let mut response = answer(StatusCode::TOO_MANY_REQUESTS, text);
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from(seconds));
            return response;
        }
        match self.receive(session).await {
            Ok(()) => answer(StatusCode::NO_CONTENT, String::new()),
            Err((status, text)) => {
                session.set_keepalive(None);
                if let Some(client) = client.filter(|_| status == StatusCode::UNAUTHORIZED) {
                    self.attempts.failed(client, "statpub", clock::now_ms());
                    tokio::time::sleep(attempts::DELAY).await;
                }
                answer(status, format!("{text}\n"))
            }
        }
    }
}

fn answer(status: StatusCode, text: String) -> Response<Vec<u8>> {
    let mut response = Response::new(text.into_bytes());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::SERVER, header::HeaderValue::from_static(crate::pages::SERVER));
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
