//! The routes of the admin listener in one table, and their dispatch after [`authorization`]. `docs/openapi.json` describes
//! the same routes; a test compares the two.

use std::time::Duration;

use http::header::{self, HeaderValue};
use http::{Method, StatusCode};
use percent_encoding::percent_decode_str;

use super::authorization::{self, Access};
use super::reply::{AdminReply, TEXT};
use super::token_failures::TokenFailures;
use super::{
    AdminRequest, acme, cache, databases, history, login, page, queries, rehearsal, restrict, status,
};
use crate::admin::metrics;
use crate::follow;
use crate::insight::explain::{ExplainRequest, explain};

type Handler = fn(&AdminRequest) -> AdminReply;

/// Limit of `/readyz?wait_ms=`, because a client without a token can hold a connection so long.
const MAX_WAIT_MS: usize = 5_000;
/// How late a held answer tells of a drain, at most.
const READINESS_POLL_INTERVAL: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug)]
pub struct AdminRoute {
    pub method: RouteMethod,
    /// Contains at most one `{name}`, which matches any text.
    pub path: &'static str,
    pub access: Access,
    handler: Handler,
    /// The handler may scan a whole directory, so it runs on a blocking thread.
    blocking: bool,
    /// `?wait_ms=` holds the answer back while this process is ready.
    held_while_ready: bool,
}

impl AdminRoute {
    const fn blocking(self) -> Self {
        Self { blocking: true, ..self }
    }

    const fn held_while_ready(self) -> Self {
        Self { held_while_ready: true, ..self }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteMethod {
    /// GET, and HEAD without the body.
    Get,
    Post,
}

impl RouteMethod {
    /// The value of the `Allow` header.
    #[must_use]
    pub fn allow_header(self) -> &'static str {
        match self {
            Self::Get => "GET, HEAD",
            Self::Post => "POST",
        }
    }

    fn accepts(self, method: &Method) -> bool {
        match self {
            Self::Get => matches!(*method, Method::GET | Method::HEAD),
            Self::Post => *method == Method::POST,
        }
    }
}

const fn get(path: &'static str, access: Access, handler: Handler) -> AdminRoute {
    AdminRoute { method: RouteMethod::Get, path, access, handler, blocking: false, held_while_ready: false }
}

const fn post(path: &'static str, access: Access, handler: Handler) -> AdminRoute {
    AdminRoute { method: RouteMethod::Post, path, access, handler, blocking: false, held_while_ready: false }
}

pub const ROUTES: &[AdminRoute] = &[
    get("/", Access::Page, page::page),
    get("/status", Access::Read, status::handle),
    // Needs the same rights as the actions, because it contains the restrictions of administrators.
    get("/config", Access::Modify, |request| {
        AdminReply::text(follow::YAML_MEDIA_TYPE, follow::render_document(&request.balancer))
    }),
    get("/acme/certificates", Access::PrivateKeys, acme::certificates).blocking(),
    get("/acme/challenges", Access::PrivateKeys, acme::challenges),
    get("/databases", Access::Read, databases::handle).blocking(),
    get("/explain", Access::Read, explanation),
    get("/audit", Access::Read, queries::audit_report).blocking(),
    get("/simulate", Access::Read, queries::simulation).blocking(),
    get("/events", Access::Read, queries::events),
    get("/history", Access::Read, history::handle),
    get("/statistics", Access::Read, queries::statistics),
    get("/servers/{name}/drain", Access::Read, queries::drain_progress).blocking(),
    get("/metrics", Access::Read, metrics_text),
    get("/openapi.json", Access::Read, openapi),
    get("/livez", Access::Public, |_| AdminReply::text(TEXT, "ok\n")),
    get("/readyz", Access::Public, readiness).held_while_ready(),
    post("/servers/{name}/restrict", Access::Modify, restrict::restrict).blocking(),
    post("/servers/{name}/release", Access::Modify, restrict::release).blocking(),
    get("/rehearsal", Access::Read, rehearsal::show),
    post("/rehearsal", Access::Modify, rehearsal::start).blocking(),
    post("/rehearsal/stop", Access::Modify, rehearsal::stop),
    post("/cache/purge", Access::Modify, cache::purge).blocking(),
    post("/login", Access::Page, login::login),
    post("/logout", Access::Page, login::logout),
];

pub const OPENAPI: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json"));

/// Authorizes a request and runs the handler of its route.
pub async fn dispatch(mut request: AdminRequest, token_failures: &TokenFailures) -> AdminReply {
    let is_public = ROUTES.iter().any(|route| route.access == Access::Public && route.path == request.path);
    if let Some(error_reply) = authorization::throttle_wrong_tokens(&request, is_public, token_failures).await
    {
        return error_reply;
    }
    let (route, name) = match find_route(&request) {
        Ok(found) => found,
        Err(error_reply) => return error_reply,
    };
    request.name = name;
    if let Err(error_reply) = authorization::authorize(route.access, &request) {
        return error_reply;
    }
    if route.held_while_ready
        && let Err(error_reply) = hold_while_ready(&request).await
    {
        return error_reply;
    }
    let handler = route.handler;
    if !route.blocking {
        return handler(&request);
    }
    let work = tokio::task::spawn_blocking(move || handler(&request));
    work.await.unwrap_or_else(|error| {
        log::error!(target: "icm::admin", "{}: {error}", route.path);
        let message = "the request failed; see the log";
        AdminReply::error(StatusCode::INTERNAL_SERVER_ERROR, "failed", message)
    })
}

/// The route of a request, and the decoded `{name}`.
fn find_route(request: &AdminRequest) -> Result<(&'static AdminRoute, String), AdminReply> {
    let matches: Vec<(&AdminRoute, &str)> =
        ROUTES.iter().filter_map(|route| Some((route, match_path(route.path, &request.path)?))).collect();
    let wanted = matches.iter().find(|(route, _)| route.method.accepts(&request.header.method));
    let Some((route, name)) = wanted else {
        // Only clients that may read learn which routes exist.
        authorization::authorize(Access::Read, request)?;
        if matches.is_empty() {
            return Err(AdminReply::error(
                StatusCode::NOT_FOUND,
                "not_found",
                "there is no such page; /openapi.json describes all of them",
            ));
        }
        let allowed: Vec<&str> = matches.iter().map(|(other, _)| other.method.allow_header()).collect();
        let allow = allowed.join(", ");
        let message = format!("use {allow} for {}", request.path);
        let value = HeaderValue::from_str(&allow).unwrap_or_else(|_| HeaderValue::from_static("GET"));
        return Err(AdminReply::error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
            .with(header::ALLOW, value));
    };
    match percent_decode_str(name).decode_utf8() {
        Ok(name) => Ok((route, name.into_owned())),
        Err(_) => Err(AdminReply::bad_query("the server's name in the URL is not UTF-8")),
    }
}

/// The text at `{name}` if the path matches the pattern; empty for a pattern without `{name}`.
fn match_path<'a>(pattern: &str, path: &'a str) -> Option<&'a str> {
    match pattern.split_once("{name}") {
        None => (pattern == path).then_some(""),
        Some((before, after)) => {
            path.strip_prefix(before)?.strip_suffix(after).filter(|name| !name.is_empty())
        }
    }
}

/// Waits for `wait_ms`, or less if a drain begins. If the process is killed meanwhile the connection breaks, so the
/// client learns of both at once.
async fn hold_while_ready(request: &AdminRequest) -> Result<(), AdminReply> {
    let wait_ms = request.query_number("wait_ms", 0, 0..=MAX_WAIT_MS)?;
    let deadline = tokio::time::Instant::now() + Duration::from_millis(wait_ms as u64);
    while request.balancer.is_ready() && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(READINESS_POLL_INTERVAL).await;
    }
    Ok(())
}

fn readiness(request: &AdminRequest) -> AdminReply {
    let text = match (request.balancer.is_ready(), request.balancer.is_draining()) {
        (true, _) => return AdminReply::text(TEXT, "ready\n"),
        (_, true) => "draining\n",
        _ => "not ready yet\n",
    };
    AdminReply { status: StatusCode::SERVICE_UNAVAILABLE, ..AdminReply::text(TEXT, text) }
}

fn metrics_text(request: &AdminRequest) -> AdminReply {
    AdminReply::text("text/plain; version=0.0.4; charset=utf-8", metrics::render(&request.balancer))
}

fn openapi(_: &AdminRequest) -> AdminReply {
    AdminReply::text(super::reply::JSON, OPENAPI)
}

fn explanation(request: &AdminRequest) -> AdminReply {
    let Some(url) = request.query_value("url").filter(|url| !url.is_empty()) else {
        return AdminReply::bad_query("`url` is missing: /explain?url=/sales/leads.nsf, percent-encoded");
    };
    let scheme = match request.scheme() {
        Ok(scheme) => scheme,
        Err(error_reply) => return error_reply,
    };
    let argument = |name: &[u8]| request.query_value(std::str::from_utf8(name).unwrap_or_default());
    match ExplainRequest::from_query(url, scheme, &argument) {
        Ok(explain_request) => AdminReply::json(&explain(&request.snapshot, &explain_request)),
        Err(error) => AdminReply::bad_query(error),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_name_matches_any_text_but_not_an_empty_one() {
        let pattern = "/servers/{name}/restrict";
        assert_eq!(match_path(pattern, "/servers/Web1/restrict"), Some("Web1"));
        assert_eq!(
            match_path(pattern, "/servers/CN%3DWeb1%2FO%3DAcme/restrict"),
            Some("CN%3DWeb1%2FO%3DAcme")
        );
        assert_eq!(match_path(pattern, "/servers/Web1/Acme/restrict"), Some("Web1/Acme"));
        assert_eq!(match_path(pattern, "/servers//restrict"), None);
        assert_eq!(match_path(pattern, "/servers/restrict"), None);
        assert_eq!(match_path("/status", "/status/"), None);
    }

    #[test]
    fn the_openapi_document_describes_exactly_the_routes() {
        let described: serde_json::Value = serde_json::from_str(OPENAPI).unwrap();
        let paths = described["paths"].as_object().unwrap();
        let described: BTreeSet<String> = paths
            .iter()
            .flat_map(|(path, item)| item.as_object().unwrap().keys().map(move |m| format!("{m} {path}")))
            .filter(|line| !line.starts_with("parameters "))
            .collect();
        let routes: BTreeSet<String> = ROUTES
            .iter()
            .map(|r| format!("{} {}", if r.method == RouteMethod::Get { "get" } else { "post" }, r.path))
            .collect();
        assert_eq!(described, routes, "docs/openapi.json describes the routes of src/admin/routes.rs");
    }
}
