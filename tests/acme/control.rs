//! The control port: plain HTTP and JSON for tests and for curl. `README.md` beside this file lists its requests.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::answer::Answer;
use crate::cluster::{Cluster, SimulatedServer};
use crate::copies::{self, CopyTable, DatabaseCopy};
use crate::documents::CopyKey;
use crate::http::{AnyStream, Body, Head, HttpConnection, Received};
use crate::standard_replication::{self, Selection};
use crate::url::{Url, decode};
use crate::{replication_report, stats};

const HELP: &str = "GET    /servers  /servers/Web1
PUT    /servers/Web1  /servers/all     {\"index\": 20, \"restricted\": 1, \"fault\": {\"kind\": \"reset\", \"count\": 1}}
DELETE /servers/Web1/fault  /servers/all/fault
POST   /servers/Web1/push              push statistics now
POST   /servers/Web1/stop  /servers/Web1/start
GET    /replication                    POST /replicate {\"from\": \"Web1\", \"to\": \"Web2\", \"database\": \"a.nsf\"}
GET    /requests?server=Web1&n=10&rid=x
GET    /executions?rid=x  /executions/repeated
GET    /connections
GET    /databases                      POST one copy, DELETE ?server=Web1&path=sales/leads.nsf
POST   /reset                          everything as at the start
";

pub async fn serve(listener: TcpListener, cluster: Arc<Cluster>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let cluster = cluster.clone();
        tokio::spawn(async move {
            let mut io = HttpConnection::new(AnyStream::Plain(stream));
            while let Ok(Received::Head(head)) = io.head(false).await {
                let Ok(framing) = head.framing() else { break };
                if head.names("expect", "100-continue")
                    && io.send(b"HTTP/1.1 100 Continue\r\n\r\n").await.is_err()
                {
                    break;
                }
                let Ok(body) = io.body(framing, |_| ()).await else { break };
                let answer = match route(&cluster, &head, &body).await {
                    Ok(answer) => answer,
                    Err((status, why)) => Answer::json(status, &json!({ "error": why })),
                };
                if !io.answer(&answer, &head, head.keep_alive()).await.unwrap_or(false) {
                    break;
                }
            }
            io.finish().await;
        });
    }
}

type ControlError = (u16, String);

async fn route(cluster: &Cluster, head: &Head, body: &Body) -> Result<Answer, ControlError> {
    let url = Url::parse(&head.target);
    // A name may contain an encoded slash, so split before decoding.
    let parts: Vec<String> = url.raw_path.split('/').filter(|p| !p.is_empty()).map(decode).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let parsed = || -> Result<Value, ControlError> {
        serde_json::from_slice(&body.start).map_err(|e| (400, format!("body: {e}")))
    };
    let ok = |value: Value| Ok(Answer::json(200, &value));
    match (head.method.as_str(), parts.as_slice()) {
        ("GET", []) => Ok(Answer::new(200, "text/plain; charset=UTF-8", HELP)),
        ("GET", ["servers"]) => ok(cluster.local_servers().map(|m| m.to_json()).collect()),
        ("GET", ["servers", name]) => ok(find_server(cluster, name)?.to_json()),
        ("PUT" | "PATCH" | "POST", ["servers", name]) => {
            let patch = parsed()?;
            for server in find_servers(cluster, name)? {
                server.patch(patch.clone()).await.map_err(|e| (400, e))?;
            }
            ok(servers_json(cluster, name)?)
        }
        ("DELETE", ["servers", name, "fault"]) => {
            for server in find_servers(cluster, name)? {
                server.set_faults(Vec::new()).await;
            }
            ok(servers_json(cluster, name)?)
        }
        ("POST", ["servers", name, "push"]) => match stats::push_now(find_server(cluster, name)?).await {
            Ok(status) => ok(json!({ "status": status })),
            Err(why) => Err((502, why)),
        },
        ("POST", ["servers", name, "stop"]) => {
            for server in find_servers(cluster, name)? {
                server.stop().await;
            }
            ok(servers_json(cluster, name)?)
        }
        ("POST", ["servers", name, "start"]) => {
            for server in find_servers(cluster, name)? {
                server.start().await;
            }
            ok(servers_json(cluster, name)?)
        }
        ("GET", ["replication"]) => ok(replication_report::report(cluster)),
        ("POST", ["replicate"]) => {
            replicate(cluster, &if body.start.is_empty() { json!({}) } else { parsed()? })
        }
        ("GET", ["requests"]) => requests(cluster, &url),
        ("GET", ["executions"]) => ok(cluster.executions.to_json(url.argument("rid"))),
        ("GET", ["executions", "repeated"]) => ok(cluster.executions.repeated()),
        ("GET", ["connections"]) => {
            ok(cluster.local_servers().map(|m| (m.name.abbreviated.clone(), m.connections_json())).collect())
        }
        ("GET", ["databases"]) => {
            let all = cluster.copies();
            ok(all.copies.iter().map(|c| copies::show(c, &cluster.servers[c.server].name)).collect())
        }
        ("POST" | "PUT", ["databases"]) => add(cluster, &parsed()?),
        ("DELETE", ["databases"]) => remove(cluster, &url),
        ("POST", ["reset"]) => {
            cluster.reset().await.map_err(|e| (500, e))?;
            ok(json!({ "reset": true }))
        }
        _ => Err((404, format!("no {} {}; GET / lists the requests", head.method, head.target))),
    }
}

fn find_server<'a>(cluster: &'a Cluster, name: &str) -> Result<&'a Arc<SimulatedServer>, ControlError> {
    let server = cluster.find(name).ok_or_else(|| (404, format!("no server {name}")))?;
    if server.is_local { Ok(server) } else { Err((404, format!("server {name} runs in another process"))) }
}

fn find_servers<'a>(cluster: &'a Cluster, name: &str) -> Result<Vec<&'a Arc<SimulatedServer>>, ControlError> {
    if name == "all" { Ok(cluster.local_servers().collect()) } else { Ok(vec![find_server(cluster, name)?]) }
}

fn servers_json(cluster: &Cluster, name: &str) -> Result<Value, ControlError> {
    match name {
        "all" => Ok(cluster.local_servers().map(|m| m.to_json()).collect()),
        name => Ok(find_server(cluster, name)?.to_json()),
    }
}

/// Starts a standard replication and returns what it copied.
fn replicate(cluster: &Cluster, wanted: &Value) -> Result<Answer, ControlError> {
    let server = |key: &str| match wanted[key].as_str() {
        Some(name) => Ok(Some(find_server(cluster, name)?.position)),
        None => Ok(None),
    };
    let database = wanted["database"].as_str().map(str::to_owned);
    let selection = Selection { from: server("from")?, to: server("to")?, database };
    let mut documents = cluster.documents.lock().unwrap();
    Ok(Answer::json(200, &standard_replication::replicate(cluster, &mut documents, &selection)))
}

/// The last requests, oldest first, filtered by server, identifier and path.
fn requests(cluster: &Cluster, url: &Url) -> Result<Answer, ControlError> {
    let n = url.number("n").unwrap_or(50) as usize;
    let servers = find_servers(cluster, url.argument("server").unwrap_or("all"))?;
    let mut all: Vec<_> = servers.iter().flat_map(|m| m.log.last(usize::MAX)).collect();
    if let Some(rid) = url.argument("rid") {
        all.retain(|r| {
            let named = r.headers.iter().any(|(k, v)| k.eq_ignore_ascii_case("x-request-id") && v == rid);
            named || Url::parse(&r.target).argument("rid") == Some(rid)
        });
    }
    if let Some(path) = url.argument("path") {
        let path = path.to_lowercase();
        all.retain(|r| Url::parse(&r.target).path.to_lowercase().starts_with(&path));
    }
    all.sort_by_key(|r| r.time_ms);
    let skip = all.len().saturating_sub(n);
    Ok(Answer::json(200, &all.iter().skip(skip).map(|r| json!(**r)).collect()))
}

/// Adds a copy, or replaces the one at that path on that server.
fn add(cluster: &Cluster, wanted: &Value) -> Result<Answer, ControlError> {
    let text = |key: &str| wanted[key].as_str().map(str::to_owned);
    let need = |key: &str| text(key).ok_or_else(|| (400, format!("{key} is missing")));
    let server = cluster.find(&need("server")?).ok_or_else(|| (404, "no such server".to_owned()))?;
    let path = need("path")?;
    let all = cluster.copies();
    let same = |c: &&DatabaseCopy| c.server == server.position && c.path.eq_ignore_ascii_case(&path);
    let old = all.copies.iter().find(same);
    let copy = DatabaseCopy {
        server: server.position,
        replica_id: match (text("replica_id"), old) {
            (Some(id), _) => id.to_uppercase(),
            (None, Some(old)) => old.replica_id.clone(),
            (None, None) => return Err((400, "replica_id is missing".into())),
        },
        title: text("title").or(old.map(|o| o.title.clone())).unwrap_or_default(),
        mark: text("mark").or(old.map(|o| o.mark.clone())).unwrap_or_else(|| "in_service".into()),
        login: wanted["login"].as_bool().or(old.map(|o| o.login)).unwrap_or(false),
        document: old
            .map_or_else(|| all.copies.iter().map(|c| c.document).max().unwrap_or(0) + 1, |o| o.document),
        path: path.clone(),
    };
    let shown = copies::show(&copy, &server.name);
    let mut copies: Vec<DatabaseCopy> = all.copies.iter().filter(|c| !same(c)).cloned().collect();
    copies.push(copy);
    cluster.set_copies(CopyTable::new(copies));
    Ok(Answer::json(200, &shown))
}

/// Removes the copies at a path, on one server or on all.
fn remove(cluster: &Cluster, url: &Url) -> Result<Answer, ControlError> {
    let path = url.argument("path").ok_or_else(|| (400, "path is missing".to_owned()))?;
    let server = match url.argument("server") {
        Some(name) => Some(cluster.find(name).ok_or_else(|| (404, format!("no server {name}")))?.position),
        None => None,
    };
    let all = cluster.copies();
    let matches =
        |c: &DatabaseCopy| c.path.eq_ignore_ascii_case(path) && server.is_none_or(|m| m == c.server);
    let copies: Vec<DatabaseCopy> = all.copies.iter().filter(|c| !matches(c)).cloned().collect();
    let removed = all.copies.len() - copies.len();
    let is_deleted =
        |key: &CopyKey| key.path == path.to_lowercase() && server.is_none_or(|server| server == key.server);
    cluster.documents.lock().unwrap().forget(is_deleted);
    cluster.set_copies(CopyTable::new(copies));
    Ok(Answer::json(200, &json!({ "removed": removed })))
}
