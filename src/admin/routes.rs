//! Everything the admin listener answers, in one table: a route is one line here and a function somewhere.
//!
//! In: a request. Out: the answer of the route that it names, once [`guard`] has let it through; 404 for what is not
//! in the table, 405 with `Allow` for another method. `docs/openapi.json` describes every line, and a test
//! compares the two.

use http::header::{self, HeaderValue};
use http::{Method, StatusCode};
use percent_encoding::percent_decode_str;

use super::guard::{self, Access};
use super::reply::{Reply, TEXT};
use super::{Call, databases, inquiry, login, page, status, verbs};
use crate::admin::metrics;
use crate::domain::cluster::Port;
use crate::follow;
use crate::insight::explain::{Request, explain};

/// What answers.
type Handler = fn(&Call) -> Reply;

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// `GET`, which answers HEAD too, or `POST`.
    pub method: Verb,
    /// With at most one `{name}`, which takes whatever stands there.
    pub path: &'static str,
    /// Who may ask.
    pub access: Access,
    handler: Handler,
    /// It may go through a whole directory: it works on a thread that serves nobody.
    walks: bool,
}

impl Route {
    const fn walks(self) -> Self {
        Self { walks: true, ..self }
    }
}

/// The methods that a route may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Reads; HEAD is answered as well.
    Get,
    /// Changes something.
    Post,
}

impl Verb {
    /// What `Allow` says of it.
    #[must_use]
    pub fn allow(self) -> &'static str {
        match self {
            Self::Get => "GET, HEAD",
            Self::Post => "POST",
        }
    }

    fn takes(self, method: &Method) -> bool {
        match self {
            Self::Get => matches!(*method, Method::GET | Method::HEAD),
            Self::Post => *method == Method::POST,
        }
    }
}

const fn get(path: &'static str, access: Access, handler: Handler) -> Route {
    Route { method: Verb::Get, path, access, handler, walks: false }
}

const fn post(path: &'static str, access: Access, handler: Handler) -> Route {
    Route { method: Verb::Post, path, access, handler, walks: false }
}

/// The table.
pub const ROUTES: &[Route] = &[
    get("/", Access::Page, page::page),
    get("/status", Access::Read, status::answer),
    // For other ICMs: what the verbs need, as an administrator's word travels in it.
    get("/config", Access::Act, |call| Reply::text(follow::YAML, follow::published(&call.balancer))),
    get("/databases", Access::Read, databases::answer).walks(),
    get("/explain", Access::Read, explained),
    get("/audit", Access::Read, inquiry::audited).walks(),
    get("/simulate", Access::Read, inquiry::simulated).walks(),
    get("/events", Access::Read, inquiry::events),
    get("/statistics", Access::Read, inquiry::statistics),
    get("/servers/{name}/drain", Access::Read, inquiry::drained).walks(),
    get("/metrics", Access::Read, numbers),
    get("/openapi.json", Access::Read, openapi),
    get("/livez", Access::Open, |_| Reply::text(TEXT, "ok\n")),
    get("/readyz", Access::Open, readiness),
    post("/servers/{name}/restrict", Access::Act, verbs::restrict).walks(),
    post("/servers/{name}/release", Access::Act, verbs::release).walks(),
    post("/login", Access::Page, login::login),
    post("/logout", Access::Page, login::logout),
];

/// The description of all routes, for programs and those who write them.
pub const OPENAPI: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json"));

/// Answers a request.
pub async fn answer(mut call: Call) -> Reply {
    let (route, name) = match wanted(&call) {
        Ok(found) => found,
        Err(refusal) => return refusal,
    };
    call.name = name;
    if let Err(refusal) = guard::check(route.access, &call) {
        return refusal;
    }
    let handler = route.handler;
    if !route.walks {
        return handler(&call);
    }
    let work = tokio::task::spawn_blocking(move || handler(&call));
    work.await.unwrap_or_else(|error| {
        log::error!(target: "icm::admin", "{}: {error}", route.path);
        let message = "no answer could be made; the log says more";
        Reply::problem(StatusCode::INTERNAL_SERVER_ERROR, "failed", message)
    })
}

/// The request is a login.
#[must_use]
pub fn is_login(call: &Call) -> bool {
    call.path == "/login" && call.head.method == Method::POST
}

/// The request is for a route that everybody may ask.
#[must_use]
pub fn is_open(call: &Call) -> bool {
    ROUTES.iter().any(|route| route.access == Access::Open && route.path == call.path)
}

/// The route that this request names, and the `{name}` in it.
fn wanted(call: &Call) -> Result<(&'static Route, String), Reply> {
    let there: Vec<(&Route, &str)> =
        ROUTES.iter().filter_map(|route| Some((route, matching(route.path, &call.path)?))).collect();
    let wanted = there.iter().find(|(route, _)| route.method.takes(&call.head.method));
    let Some((route, name)) = wanted else {
        // Whoever may not read learns nothing of what is here.
        guard::check(Access::Read, call)?;
        let Some((other, _)) = there.first() else {
            return Err(Reply::problem(
                StatusCode::NOT_FOUND,
                "not_found",
                "no such page; /openapi.json describes all there are",
            ));
        };
        let allow = other.method.allow();
        let message = format!("use {allow} for {}", other.path);
        return Err(Reply::problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
            .with(header::ALLOW, HeaderValue::from_static(allow)));
    };
    match percent_decode_str(name).decode_utf8() {
        Ok(name) => Ok((route, name.into_owned())),
        Err(_) => Err(Reply::bad_query("the server's name in the URL is not UTF-8")),
    }
}

/// What stands for `{name}` when the path is of this pattern; empty for a pattern without one.
fn matching<'a>(pattern: &str, path: &'a str) -> Option<&'a str> {
    match pattern.split_once("{name}") {
        None => (pattern == path).then_some(""),
        Some((before, after)) => {
            path.strip_prefix(before)?.strip_suffix(after).filter(|name| !name.is_empty())
        }
    }
}

fn readiness(call: &Call) -> Reply {
    let word = match (call.balancer.is_ready(), call.balancer.is_draining()) {
        (true, _) => return Reply::text(TEXT, "ready\n"),
        (_, true) => "draining\n",
        _ => "not ready yet\n",
    };
    Reply { status: StatusCode::SERVICE_UNAVAILABLE, ..Reply::text(TEXT, word) }
}

fn numbers(call: &Call) -> Reply {
    Reply::text("text/plain; version=0.0.4; charset=utf-8", metrics::render(&call.balancer))
}

fn openapi(_: &Call) -> Reply {
    Reply::text(super::reply::JSON, OPENAPI)
}

fn explained(call: &Call) -> Reply {
    let Some(url) = call.argument("url").filter(|url| !url.is_empty()) else {
        return Reply::bad_query("say which URL: /explain?url=/sales/leads.nsf, percent-encoded");
    };
    let scheme = match scheme(call) {
        Ok(scheme) => scheme,
        Err(refusal) => return refusal,
    };
    let argument = |name: &[u8]| call.argument(std::str::from_utf8(name).unwrap_or_default());
    match Request::from_arguments(url, scheme, &argument) {
        Ok(request) => Reply::json(&explain(&call.snapshot, &request)),
        Err(error) => Reply::bad_query(error),
    }
}

/// The argument `scheme`: what the client uses.
///
/// # Errors
/// A 400 for anything but `http` and `https`.
pub fn scheme(call: &Call) -> Result<Option<Port>, Reply> {
    match call.argument("scheme").as_deref() {
        None | Some("") => Ok(None),
        Some("http") => Ok(Some(Port::Http)),
        Some("https") => Ok(Some(Port::Https)),
        Some(_) => Err(Reply::bad_query("`scheme` is http or https: what the client uses")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_name_may_hold_anything_but_nothing() {
        let pattern = "/servers/{name}/restrict";
        assert_eq!(matching(pattern, "/servers/Web1/restrict"), Some("Web1"));
        assert_eq!(matching(pattern, "/servers/CN%3DWeb1%2FO%3DAcme/restrict"), Some("CN%3DWeb1%2FO%3DAcme"));
        assert_eq!(matching(pattern, "/servers/Web1/Acme/restrict"), Some("Web1/Acme"));
        assert_eq!(matching(pattern, "/servers//restrict"), None);
        assert_eq!(matching(pattern, "/servers/restrict"), None);
        assert_eq!(matching("/status", "/status/"), None);
    }

    #[test]
    fn the_description_names_every_route_and_nothing_else() {
        let described: serde_json::Value = serde_json::from_str(OPENAPI).unwrap();
        let paths = described["paths"].as_object().unwrap();
        let described: BTreeSet<String> = paths
            .iter()
            .flat_map(|(path, item)| item.as_object().unwrap().keys().map(move |m| format!("{m} {path}")))
            .filter(|line| !line.starts_with("parameters "))
            .collect();
        let there: BTreeSet<String> = ROUTES
            .iter()
            .map(|r| format!("{} {}", if r.method == Verb::Get { "get" } else { "post" }, r.path))
            .collect();
        assert_eq!(described, there, "docs/openapi.json describes the routes of src/server/admin/routes.rs");
    }
}
