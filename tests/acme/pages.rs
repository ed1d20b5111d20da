//! The pages of a simulated server. A page names the server, path and replica that produced it, and shows the request
//! that it received.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::answer::{Answer, Content};
use crate::cluster::{Cluster, SimulatedServer};
use crate::copies::DatabaseCopy;
use crate::http::{Body, Head};
use crate::login::{self, Requester};
use crate::url::{Url, encode};
use crate::{companion, document_pages, stats, views};

pub struct Request {
    pub head: Head,
    pub url: Url,
    pub body: Body,
    pub scheme: &'static str,
    pub remote: SocketAddr,
    pub rid: Option<String>,
    /// A fault makes the server answer 404 for its database.
    pub not_found: bool,
}

pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The response to any request.
pub fn answer(cluster: &Cluster, server: &SimulatedServer, request: &Request) -> Answer {
    let copies = cluster.copies();
    let copy = request.url.database.as_deref().and_then(|db| copies.find(server.position, db));
    let mut answer = route(cluster, server, request, copy);
    if let Some(copy) = copy {
        answer = answer
            .with_header("X-Acme-Path", encode(&copy.path))
            .with_header("X-Acme-Replica", copy.replica_id.clone());
    }
    if cluster.scenario.hsts_trap {
        answer = answer.with_header("Strict-Transport-Security", "max-age=0");
    }
    options(&request.url, answer)
}

fn route(
    cluster: &Cluster,
    server: &SimulatedServer,
    request: &Request,
    copy: Option<&DatabaseCopy>,
) -> Answer {
    let url = &request.url;
    if server.settings().redirect_to_https
        && request.scheme == "http"
        && let Some(port) = server.ports.https
    {
        let host = request.head.header("host").unwrap_or_default();
        let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
        let location = format!("https://{host}:{port}{}", request.head.target);
        return Answer::html(302, "").with_header("Location", location);
    }
    if url.is("Logout") {
        return login::logout(cluster, server, request);
    }
    if url.is("Login") || url.is("SAMLLogin") {
        return login::login(cluster, server, request);
    }
    let Some(database) = url.database.as_deref() else {
        return page_without_database(cluster, server, request);
    };
    if let Some(answer) = companion::answer(cluster, server, request) {
        return answer;
    }
    let Some(copy) = copy.filter(|_| !request.not_found) else {
        return error(404, &format!("HTTP Web Server: File does not exist - {database}"));
    };
    let user = login::requester(cluster, server, request);
    let forced = url.argument("Login").is_some();
    if ((copy.login || forced) && user == Requester::Anonymous) || user == Requester::Rejected {
        return login::login_required(cluster, server, &user, &request.head.target);
    }
    let settings = server.settings();
    if let Some(status) = settings.head_status.filter(|_| request.head.method == "HEAD") {
        return refused_head(status);
    }
    let path = copy.path.to_lowercase();
    if url.is("ReadViewEntries") {
        return views::answer(cluster, server, request, &path);
    }
    if path == "icmstat.nsf" && url.rest.to_lowercase().starts_with("stat") {
        return match settings.console {
            true => Answer::new(200, "text/plain; charset=UTF-8", stats::console(server)),
            false => error(404, "HTTP Web Server: Couldn't find design note - stat"),
        };
    }
    if url.rest.eq_ignore_ascii_case("missing") {
        return error(404, "HTTP Web Server: Couldn't find design note - missing");
    }
    if url.rest.eq_ignore_ascii_case("rewrite") {
        return rewrite(server, request, copy);
    }
    let documents = match settings.replication {
        true => match document_pages::details(cluster, server, request, copy, &user) {
            Ok(documents) => documents,
            Err(answer) => return answer,
        },
        false => Value::Null,
    };
    if let Some(to) = url.argument("location") {
        return Answer::html(302, "").with_header("Location", to);
    }
    if let Some(to) = url.argument("redirect") {
        return redirect(cluster, server, request, copy, to);
    }
    let page = page(server, request, Some(copy), &user, documents);
    match settings.replication {
        true => document_pages::with_last_modified(cluster, server, request, copy, page),
        false => page,
    }
}

fn refused_head(status: u16) -> Answer {
    let answer = error(status, "HTTP Web Server: HEAD is refused");
    match status {
        401 => answer.with_header("WWW-Authenticate", "Basic realm=\"/\""),
        300..=399 => answer.with_header("Location", "/names.nsf?Login"),
        _ => answer,
    }
}

/// Pages outside any database.
fn page_without_database(cluster: &Cluster, server: &SimulatedServer, request: &Request) -> Answer {
    let url = &request.url;
    if url.path == "/fast" {
        let mut answer = Answer::new(200, "text/plain", Vec::new());
        answer.body = Content::Fill(1024);
        return answer;
    }
    if url.is("OpenServer") {
        let list: String = cluster
            .copies()
            .copies
            .iter()
            .filter(|c| c.server == server.position)
            .map(|c| format!("<li><a href=\"/{}\">{}</a></li>\n", encode(&c.path), escape(&c.title)))
            .collect();
        let name = &server.name.abbreviated;
        return Answer::html(200, format!("<html><body><h1>{name}</h1><ul>\n{list}</ul></body></html>\n"));
    }
    if url.is("Redirect") {
        return redirect_to_server(cluster, request);
    }
    page(server, request, None, &login::requester(cluster, server, request), Value::Null)
}

fn redirect_to_server(cluster: &Cluster, request: &Request) -> Answer {
    let argument = |name| request.url.argument(name).unwrap_or("");
    let copies = cluster.copies();
    let id = argument("Id").replace(':', "").to_uppercase();
    let found = cluster.find(argument("Name")).and_then(|m| Some((m, copies.replica(m.position, &id)?)));
    match found {
        Some((server, copy)) => {
            let to = argument("To");
            let at =
                format!("{}://{}/{}", request.scheme, server.authority(request.scheme), encode(&copy.path));
            Answer::html(302, "").with_header("Location", format!("{at}{to}"))
        }
        None => error(404, "HTTP Web Server: Redirect - unknown server or database"),
    }
}

pub fn error(status: u16, text: &str) -> Answer {
    let text = escape(text);
    Answer::html(
        status,
        format!("<html><head><title>Error</title></head><body><h1>Error {status}</h1>{text}</body></html>\n"),
    )
}

/// The page that shows the request and what it did with documents, as HTML or JSON. An XPage has view state on this
/// server.
fn page(
    server: &SimulatedServer,
    request: &Request,
    copy: Option<&DatabaseCopy>,
    user: &Requester,
    documents: Value,
) -> Answer {
    let mut details = json!({
        "server": server.name.abbreviated,
        "database": copy.map(|c| c.title.clone()),
        "path": copy.map(|c| c.path.clone()),
        "replica_id": copy.map(|c| c.replica_id.clone()),
        "method": request.head.method,
        "target": request.head.target,
        "version": format!("HTTP/1.{}", request.head.version),
        "headers": request.head.headers,
        "body_length": request.body.length,
        "body_sha256": request.body.sha256,
        "request_id": request.rid,
        "remote": request.remote.to_string(),
        "scheme": request.scheme,
        "user": match user { Requester::User(name) => Some(name), _ => None },
    });
    if let (Some(details), Value::Object(documents)) = (details.as_object_mut(), documents) {
        details.extend(documents);
    }
    let xpage = copy.filter(|_| request.url.rest.to_lowercase().contains(".xsp"));
    let cookie = xpage.map(|copy| xpages(server, request, copy, &mut details));
    let as_json =
        request.url.argument("echo") == Some("json") || request.head.names("accept", "application/json");
    let mut answer = match as_json {
        true => Answer::json(200, &details),
        false => Answer::html(200, html(&details)),
    };
    if let Some((cookie, location)) = cookie {
        answer = answer.with_header("Set-Cookie", cookie).with_header("X-XspLocation", location);
    }
    answer
}

/// Adds the state of an XPage (`new`, `known`, or `lost` for a session of another server) to `details`, and returns
/// its cookie and location.
fn xpages(
    server: &SimulatedServer,
    request: &Request,
    copy: &DatabaseCopy,
    details: &mut Value,
) -> (String, String) {
    let mut states = server.xpages.lock().unwrap();
    let sent = login::cookie(&request.head, "SessionID").map(str::to_owned);
    let (state, id) = match sent {
        Some(id) if states.contains_key(&id) => ("known", id),
        Some(_) => ("lost", format!("{:032X}", fastrand::u128(..))),
        None => ("new", format!("{:032X}", fastrand::u128(..))),
    };
    let pages = states.entry(id.clone()).or_default();
    *pages += 1;
    details["xpages_state"] = state.into();
    details["xpages_pages"] = (*pages).into();
    let here = format!("{}://{}/{}", request.scheme, server.authority(request.scheme), encode(&copy.path));
    (format!("SessionID={id}; path=/; HttpOnly"), format!("{here}{}", request.url.raw_rest))
}

fn html(details: &Value) -> String {
    let mut rows = String::new();
    for (key, value) in details.as_object().into_iter().flatten() {
        let text = match value {
            Value::Null => continue,
            Value::String(text) => escape(text),
            Value::Array(list) => list
                .iter()
                .map(|item| match item {
                    Value::Object(_) => item.to_string(),
                    header => {
                        format!("{}: {}", header[0].as_str().unwrap_or(""), header[1].as_str().unwrap_or(""))
                    }
                })
                .map(|line| escape(&line))
                .collect::<Vec<_>>()
                .join("<br>"),
            other => escape(&other.to_string()),
        };
        rows.push_str(&format!("<tr><th>{key}</th><td>{text}</td></tr>\n"));
    }
    let title = details["database"].as_str().map_or("Domino Web Server".to_owned(), escape);
    let server = details["server"].as_str().map(escape).unwrap_or_default();
    format!(
        "<!DOCTYPE html>\n<html><head><meta charset=\"UTF-8\"><title>{title}</title><style>body{{font:1rem \
         sans-serif}}th{{text-align:left;vertical-align:top;padding-right:1em}}</style></head>\n\
         <body><h1>{title}</h1><p>Served by <b>{server}</b></p>\n<table>\n{rows}</table>\n</body></html>\n"
    )
}

/// A response with every header in which a server names itself and its own path.
fn rewrite(server: &SimulatedServer, request: &Request, copy: &DatabaseCopy) -> Answer {
    let own = format!("/{}", encode(&copy.path));
    let here = format!("{}://{}{own}", request.scheme, server.authority(request.scheme));
    let host = &server.hostname;
    let domain = host.split_once('.').map_or("", |(_, domain)| domain);
    Answer::html(200, format!("<html><body><a href=\"{here}?OpenDatabase\">{here}</a></body></html>\n"))
        .with_header("Content-Location", format!("{here}/rewrite?OpenPage"))
        .with_header("Refresh", format!("600; url={here}/rewrite?OpenPage"))
        .with_header("X-XspLocation", format!("{here}/page.xsp"))
        .with_header("Set-Cookie", format!("AcmeHost=1; Domain={host}; Path={own}"))
        .with_header("Set-Cookie", format!("AcmeDomain=2; domain=.{domain}; path={own}/sub; HttpOnly"))
        .with_header("Set-Cookie", "AcmeRoot=3; Path=/; Secure; SameSite=Lax")
}

/// 302 to this database. `to` is `1` for this server's host name, `address` for its IP address, `host` for the Host of
/// the request, `relative` for no host, or the name of a server for its replica.
fn redirect(
    cluster: &Cluster,
    server: &SimulatedServer,
    request: &Request,
    copy: &DatabaseCopy,
    to: &str,
) -> Answer {
    let scheme = request.scheme;
    let own = encode(&copy.path);
    let location = match to {
        "relative" => format!("/{own}?OpenDatabase&redirected=1"),
        "host" => format!("{scheme}://{}/{own}?OpenDatabase", request.head.header("host").unwrap_or("")),
        "address" => {
            let authority = server.authority(scheme).replace(&server.hostname, &server.address.to_string());
            format!("{scheme}://{authority}/{own}?OpenDatabase&redirected=1")
        }
        name => {
            let copies = cluster.copies();
            let there = cluster.find(name).filter(|_| name != "1").map_or(server, |m| m);
            let path = copies.replica(there.position, &copy.replica_id).map_or(own, |c| encode(&c.path));
            format!("{scheme}://{}/{path}?OpenDatabase&redirected=1", there.authority(scheme))
        }
    };
    Answer::html(302, "<html><body>Moved</body></html>\n").with_header("Location", location)
}

/// Applies the query arguments that every page accepts: `status`, `size`, `text`, `type`, `max-age`, `chunked`, `delay`, `work`, `drip`, `close`.
fn options(url: &Url, mut answer: Answer) -> Answer {
    if let Some(status) = url.number("status").filter(|s| (200..600).contains(s)) {
        answer.status = status as u16;
    }
    if let Some(size) = url.number("size") {
        answer.body = Content::Fill(size.min(1 << 32) as usize);
    }
    if let Some(size) = url.number("text") {
        answer.body = Content::Text(size.min(1 << 32) as usize);
    }
    if let Some(media_type) = url.argument("type") {
        answer.headers.retain(|(name, _)| name != "Content-Type");
        answer = answer.with_header("Content-Type", media_type);
    }
    if let Some(lifetime) = url.number("max-age") {
        answer = answer.with_header("Cache-Control", format!("max-age={lifetime}"));
    }
    answer.chunked = url.argument("chunked") == Some("1");
    answer.until_close = url.argument("close") == Some("1");
    answer.delay_ms += url.number("delay").unwrap_or(0);
    answer.drip_ms = url.number("drip").unwrap_or(0);
    answer.work_ms = url.number("work").unwrap_or(0);
    answer
}
