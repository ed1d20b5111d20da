//! The admin listener: is it alive, is it ready, what does it know, and why.
//!
//! In: GET requests, on loopback or with the token. Out: JSON, Prometheus text, or a word. It changes
//! nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
use http::{Method, Response, StatusCode, header};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use serde_json::{Value, json};
use subtle::ConstantTimeEq;

use crate::balancer::{Balancer, hosts};
use crate::clock;
use crate::cluster::Port;
use crate::explain::explain;
use crate::metrics;

/// The application of the admin listener.
#[derive(Debug)]
pub struct Admin {
    balancer: Arc<Balancer>,
}

type Reply = (StatusCode, &'static str, String);

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json; charset=utf-8";

impl Admin {
    /// Shows this balancer.
    #[must_use]
    pub fn new(balancer: Arc<Balancer>) -> Self {
        Self { balancer }
    }

    fn reply(&self, session: &ServerSession) -> Reply {
        let head = session.req_header();
        let target = String::from_utf8_lossy(head.raw_path()).into_owned();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        if !matches!(head.method, Method::GET | Method::HEAD) {
            return (StatusCode::METHOD_NOT_ALLOWED, TEXT, "use GET\n".to_owned());
        }
        match path {
            "/livez" => return (StatusCode::OK, TEXT, "ok\n".to_owned()),
            "/readyz" if self.balancer.is_ready() => return (StatusCode::OK, TEXT, "ready\n".to_owned()),
            "/readyz" => {
                let word = if self.balancer.is_draining() { "draining\n" } else { "not ready yet\n" };
                return (StatusCode::SERVICE_UNAVAILABLE, TEXT, word.to_owned());
            }
            _ => {}
        }
        if let Err(refusal) = self.may_read(session) {
            return refusal;
        }
        match path {
            "/" | "/status" => (StatusCode::OK, JSON, format!("{:#}\n", status(&self.balancer))),
            "/metrics" => {
                (StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics::render(&self.balancer))
            }
            "/explain" => {
                let argument = |name: &[u8]| {
                    crate::url::argument(query.as_bytes(), name)
                        .map(|v| String::from_utf8_lossy(&v).into_owned())
                };
                let Some(url) = argument(b"url") else {
                    return (StatusCode::BAD_REQUEST, TEXT, "say /explain?url=...\n".to_owned());
                };
                let scheme = match argument(b"scheme").as_deref() {
                    None | Some("") => None,
                    Some("http") => Some(Port::Http),
                    Some("https") => Some(Port::Https),
                    Some(_) => {
                        return (StatusCode::BAD_REQUEST, TEXT, "scheme is http or https\n".to_owned());
                    }
                };
                let told = explain(&self.balancer.snapshot(), &url, scheme);
                (
                    StatusCode::OK,
                    JSON,
                    format!("{}\n", serde_json::to_string_pretty(&told).unwrap_or_default()),
                )
            }
            _ => (StatusCode::NOT_FOUND, TEXT, "no such page\n".to_owned()),
        }
    }

    /// Off loopback the token is needed; on loopback a Host that is ours, or any page in a browser could
    /// read us through a name that resolves to 127.0.0.1.
    fn may_read(&self, session: &ServerSession) -> Result<(), Reply> {
        let snapshot = self.balancer.snapshot();
        let admin = &snapshot.settings.admin;
        let head = session.req_header();
        let loopback = admin.address.ip().is_loopback();
        if !loopback {
            let given = head.headers.get(header::AUTHORIZATION).map(|v| v.as_bytes()).unwrap_or_default();
            let bearer = given.get(..7).is_some_and(|s| s.eq_ignore_ascii_case(b"bearer "));
            let token = admin.token.as_ref().map(|t| t.0.clone()).unwrap_or_default();
            let given = given.get(7..).unwrap_or_default().trim_ascii();
            if token.is_empty() || !bearer || !bool::from(given.ct_eq(&token)) {
                return Err((StatusCode::UNAUTHORIZED, TEXT, "a bearer token is needed\n".to_owned()));
            }
        }
        let host = head.headers.get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or_default();
        let name = hosts::host_name(host).trim_matches(['[', ']']);
        let ours = name.eq_ignore_ascii_case("localhost")
            || name
                .parse::<std::net::IpAddr>()
                .is_ok_and(|ip| ip.is_loopback() || ip == admin.address.ip() || !loopback)
            || !loopback;
        if ours {
            Ok(())
        } else {
            Err((StatusCode::MISDIRECTED_REQUEST, TEXT, "this Host is not ours\n".to_owned()))
        }
    }
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let (status, kind, text) = self.reply(session);
        if status != StatusCode::OK {
            session.set_keepalive(None);
        }
        let head_only = session.req_header().method == Method::HEAD;
        let mut response = Response::new(if head_only { Vec::new() } else { text.clone().into_bytes() });
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::SERVER, header::HeaderValue::from_static(crate::pages::SERVER));
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
        headers.insert(header::CONTENT_LENGTH, header::HeaderValue::from(text.len()));
        headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
        response
    }
}

/// Everything that is known, for people and programs.
#[must_use]
pub fn status(balancer: &Balancer) -> Value {
    let snapshot = balancer.snapshot();
    let now = clock::now_ms();
    let clusters: Vec<Value> = snapshot.clusters.iter().map(|cluster| {
        let view = cluster.view.load();
        let servers: Vec<Value> = view.entries.iter().map(|entry| {
            let member = &entry.member;
            let seen = member.view();
            let (state, since, cause, standing, restrictions, stale) = member.read(|ledger| {
                let (state, since, cause) = ledger.state();
                (state, since, cause.to_owned(), ledger.standing(now), ledger.restrictions(), ledger.restriction_stale(now))
            });
            let counters: BTreeMap<&str, u64> = member.counters.all().into_iter().collect();
            json!({
                "name": entry.server.name.abbreviated(),
                "hostname": entry.server.hostname,
                "http": entry.server.http.as_ref().map(ToString::to_string),
                "https": entry.server.https.as_ref().map(ToString::to_string),
                "http_up": standing.http,
                "https_up": standing.https,
                "state": state.word(),
                "since_ms": now.saturating_sub(since),
                "cause": cause,
                "index": standing.raw_index,
                "observed_index": if standing.raw_index.is_none() { seen.index } else { None },
                "threshold": standing.threshold,
                "restrictions": restrictions,
                "restriction_stale": stale,
                "in_flight": seen.in_flight,
                "weight": seen.weight,
                "counters": counters,
            })
        }).collect();
        let directory = &view.directory;
        json!({
            "name": cluster.settings.name,
            "servers": servers,
            "directory": {
                "from": directory.origin.to_string(),
                "age_ms": clock::unix_ms().saturating_sub(directory.at_unix_ms),
                "databases": directory.index.len(),
                "replicas": directory.index.replica_count(),
                "duplicates": directory.duplicates,
                "warnings": directory.warnings,
                "trouble": *cluster.kept.directory_trouble.lock().unwrap_or_else(PoisonError::into_inner),
                "not_members": view.strangers().iter().map(|n| n.to_string()).collect::<Vec<_>>(),
            },
            "members_trouble": *cluster.kept.members_trouble.lock().unwrap_or_else(PoisonError::into_inner),
            "not_read": crate::config::unread(&cluster.settings),
        })
    }).collect();
    let reload = balancer.reload.lock().unwrap_or_else(PoisonError::into_inner).clone();
    json!({
        "ready": balancer.is_ready(),
        "draining": balancer.is_draining(),
        "clusters": clusters,
        "reload": {
            "success": reload.success,
            "at": reload.at_unix_ms,
            "error": reload.error,
            "restart_required": reload.restart_required,
        },
        "events": balancer.events.tail(),
    })
}
