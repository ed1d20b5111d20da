//! The admin listener: is it alive, is it ready, what does it know, and why.
//!
//! In: GET requests, on loopback or with the token. Out: JSON, Prometheus text, or a word. The
//! verbs `restrict` and `release` are all that changes anything.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
use http::{Method, Response, StatusCode, header};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use serde_json::{Value, json};

use super::inquiry::Inquiry;
use super::token;
use crate::balancer::{Balancer, hosts, restrictions};
use crate::clock;
use crate::cluster::Port;
use crate::explain::{Request, explain};
use crate::follow;
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

    /// A question that may take a while, from somebody who may read; else [`Admin::reply`] answers.
    fn inquiry(&self, session: &ServerSession) -> Option<Inquiry> {
        let head = session.req_header();
        let target = String::from_utf8_lossy(head.raw_path()).into_owned();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let inquiry = Inquiry::of(path, query)?;
        (matches!(head.method, Method::GET | Method::HEAD) && self.may_read(session).is_ok())
            .then_some(inquiry)
    }

    fn reply(&self, session: &ServerSession) -> Reply {
        let head = session.req_header();
        let target = String::from_utf8_lossy(head.raw_path()).into_owned();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        if let Some((name, verb)) = verb_of(path) {
            return self.verb(session, &name, verb);
        }
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
            // For other ICMs: what the verbs need, as an administrator's word travels in it.
            "/config" => match self.may_act(session) {
                Ok(()) => (StatusCode::OK, follow::YAML, follow::published(&self.balancer)),
                Err(refusal) => refusal,
            },
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
                let request = match Request::from_arguments(url, scheme, &argument) {
                    Ok(request) => request,
                    Err(text) => return (StatusCode::BAD_REQUEST, TEXT, format!("{text}\n")),
                };
                let told = explain(&self.balancer.snapshot(), &request);
                (
                    StatusCode::OK,
                    JSON,
                    format!("{}\n", serde_json::to_string_pretty(&told).unwrap_or_default()),
                )
            }
            _ => (StatusCode::NOT_FOUND, TEXT, "no such page\n".to_owned()),
        }
    }

    /// `POST /servers/{name}/restrict` and `release`.
    fn verb(&self, session: &ServerSession, name: &str, verb: Verb) -> Reply {
        let head = session.req_header();
        if head.method != Method::POST {
            return (StatusCode::METHOD_NOT_ALLOWED, TEXT, "use POST\n".to_owned());
        }
        if let Err(refusal) = self.may_read(session).and_then(|()| self.may_act(session)) {
            return refusal;
        }
        let by = match verb {
            Verb::Restrict => {
                let peer = session.client_addr().map_or_else(String::new, ToString::to_string);
                Some(format!("an administrator at {peer}"))
            }
            Verb::Release => None,
        };
        let outcomes = match restrictions::set(&self.balancer, name, by.as_deref()) {
            Ok(outcomes) => outcomes,
            Err(error) => {
                log::error!(target: "icm::admin", "{error}");
                let text = json!({ "error": "not_kept", "message": format!("done, but not kept over a restart: {error}") });
                return (StatusCode::INTERNAL_SERVER_ERROR, JSON, format!("{text}\n"));
            }
        };
        if outcomes.is_empty() {
            let text =
                json!({ "error": "unknown_server", "message": format!("no cluster has a server {name}") });
            return (StatusCode::NOT_FOUND, JSON, format!("{text}\n"));
        }
        (StatusCode::OK, JSON, format!("{:#}\n", json!({ "servers": outcomes })))
    }

    /// Verbs need the token wherever one is set, and never come from another site's page.
    fn may_act(&self, session: &ServerSession) -> Result<(), Reply> {
        let snapshot = self.balancer.snapshot();
        let head = session.req_header();
        if let Some(token) = &snapshot.settings.admin.token
            && !token::is_carried(head, &token.0)
        {
            return Err((StatusCode::UNAUTHORIZED, TEXT, "a bearer token is needed\n".to_owned()));
        }
        let host = head.headers.get(header::HOST).map(|h| h.as_bytes()).unwrap_or_default();
        let foreign = head.headers.get(header::ORIGIN).is_some_and(|origin| {
            let origin = origin.as_bytes();
            let at = origin.windows(3).position(|w| w == b"://").map_or(0, |p| p + 3);
            origin.get(at..) != Some(host)
        });
        if foreign {
            return Err((StatusCode::FORBIDDEN, TEXT, "not from another site\n".to_owned()));
        }
        Ok(())
    }

    /// Off loopback the token is needed; on loopback a Host that is ours, or any page in a browser could
    /// read us through a name that resolves to 127.0.0.1.
    fn may_read(&self, session: &ServerSession) -> Result<(), Reply> {
        let snapshot = self.balancer.snapshot();
        let admin = &snapshot.settings.admin;
        let head = session.req_header();
        let loopback = admin.address.ip().is_loopback();
        if !loopback {
            let known = admin.token.as_ref().is_some_and(|token| token::is_carried(head, &token.0));
            if !known {
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

/// What an administrator may do to a server.
#[derive(Clone, Copy, Debug)]
enum Verb {
    Restrict,
    Release,
}

/// The server and the verb of `/servers/{name}/restrict`.
fn verb_of(path: &str) -> Option<(String, Verb)> {
    let (name, verb) = path.strip_prefix("/servers/")?.rsplit_once('/')?;
    let verb = match verb {
        "restrict" => Verb::Restrict,
        "release" => Verb::Release,
        _ => return None,
    };
    let name = percent_encoding::percent_decode_str(name).decode_utf8().ok()?;
    Some((name.into_owned(), verb))
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let (status, kind, text) = match self.inquiry(session) {
            Some(inquiry) => {
                let (status, text) = inquiry.answer(&self.balancer).await;
                (status, JSON, text)
            }
            None => self.reply(session),
        };
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
        if kind == follow::YAML {
            follow::validate(session.req_header(), &text, &mut response);
        }
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
                "index_age_ms": standing.raw_index.map(|_| now.saturating_sub(standing.index_at_ms)),
                "index_source": member.read(|ledger| ledger.index_source().map(str::to_owned)),
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
        "configuration": {
            "file": snapshot.settings.file.display().to_string(),
            "follows": balancer.followed.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(follow::Followed::to_json),
        },
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
