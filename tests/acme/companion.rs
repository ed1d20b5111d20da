//! The companion: the agent with which a server tells a load balancer what HTTP cannot know, and which starts a
//! replication. It follows the document's description, not the parser that reads it.

use std::sync::atomic::Ordering::Relaxed;

use serde_json::{Value, json};

use crate::answer::{Answer, Content};
use crate::clock;
use crate::cluster::{Cluster, SimulatedServer};
use crate::documents::CopyKey;
use crate::login::{self, Requester};
use crate::pages::{Request, error};
use crate::scenario::Name;
use crate::settings::{CompanionTrap, Settings};
use crate::{replication, url};

/// The answer of the agent, if the request is for it and it exists.
pub fn answer(cluster: &Cluster, server: &SimulatedServer, request: &Request) -> Option<Answer> {
    let url = &request.url;
    let is_agent = url.database.as_deref().is_some_and(|db| db.eq_ignore_ascii_case("icm.nsf"))
        && url.rest.eq_ignore_ascii_case("companion");
    if !is_agent {
        return None;
    }
    let settings = server.settings();
    if !settings.companion {
        return None;
    }
    let user = login::requester(cluster, server, request);
    if request.url.argument("whoami").is_some() {
        let about = json!({ "cookie": request.head.header("cookie"), "host": request.head.header("host"),
            "authorization": request.head.header("authorization"),
            "forwarded_for": request.head.header("x-forwarded-for") });
        server.companion_calls.lock().unwrap().push(about);
    }
    if (settings.companion_login && user == Requester::Anonymous) || user == Requester::Rejected {
        return Some(login::login_required(cluster, server, &user, &request.head.target));
    }
    match settings.companion_trap {
        Some(CompanionTrap::Html) => return Some(login::form(&request.head.target, "")),
        Some(CompanionTrap::Error500) => return Some(error(500, "HTTP Web Server: Agent error")),
        _ => {}
    }
    let document = match request.head.method.as_str() {
        "POST" => match start_replication(cluster, server, request, &settings) {
            Ok(document) => document,
            Err(answer) => return Some(answer),
        },
        _ if request.url.argument("whoami").is_some() => caller(cluster, server, &user, &settings),
        _ if request.url.argument("modified").is_some() => revision(cluster, server, request, &settings),
        _ => report(cluster, server, &settings),
    };
    let strings = settings.companion_trap == Some(CompanionTrap::Strings);
    let mut answer = Answer::json(200, &if strings { numbers_as_strings(document) } else { document });
    if let (Some(CompanionTrap::Truncated), Content::Bytes(bytes)) =
        (settings.companion_trap, &mut answer.body)
    {
        bytes.truncate(bytes.len() / 2);
    }
    Some(answer.with_header("Cache-Control", "no-cache"))
}

/// The document for GET.
fn report(cluster: &Cluster, server: &SimulatedServer, settings: &Settings) -> Value {
    let time_ms = match settings.companion_trap {
        Some(CompanionTrap::Old) => server.companion_frozen_at.load(Relaxed),
        _ => server.now_ms(),
    };
    let (published, _) = server.published();
    let started_ms = {
        let replicator = server.replicator.lock().unwrap();
        replicator.started_ms.saturating_add_signed(settings.clock_skew_ms)
    };
    let members = cluster.servers.iter().filter(|other| other.settings().member);
    let mut document = json!({
        "icm_companion": 1,
        "server": server.name.canonical,
        "time": clock::format_iso(time_ms),
        "release": "Release 14.0FP2",
        "started": clock::format_iso(started_ms),
        "availability_index": published.index.map(|index| index.round() as i64),
        "availability_threshold": settings.threshold,
        "server_restricted": settings.restricted,
        "server_maxusers": settings.maxusers,
        "users": settings.users,
        "cluster": cluster.scenario.cluster,
        "members": members.map(|member| member.name.canonical.as_str()).collect::<Vec<_>>(),
        "replication": replication::companion_statistics(server),
        "replicas": replicas(cluster, server),
        "missing": [],
    });
    for item in &settings.companion_missing {
        leave_out(&mut document, item);
    }
    document
}

/// Who asks. His mail file is the database `mail/` with the first letter of his name and his last name, on the first
/// server that has it.
fn caller(cluster: &Cluster, server: &SimulatedServer, user: &Requester, settings: &Settings) -> Value {
    let mut document = json!({ "icm_companion": 1, "server": server.name.canonical, "missing": [] });
    if let Requester::User(name) = user {
        document["user"] = name.as_str().into();
        let common = Name::new(name).common;
        let mut words = common.split_whitespace();
        let first = words.next().unwrap_or_default().chars().next().unwrap_or_default();
        let path = format!("mail/{first}{}.nsf", words.next_back().unwrap_or_default()).to_lowercase();
        let copies = cluster.copies();
        match copies.copies.iter().find(|copy| copy.path == path) {
            Some(copy) => {
                document["mail_file"] = path.into();
                let home = cluster.servers.iter().find(|other| other.position == copy.server);
                document["mail_server"] = home.map(|home| home.name.canonical.as_str()).into();
            }
            None => document["missing"] = json!([format!("mail_file: no Person document of {name}")]),
        }
    }
    for item in &settings.companion_missing {
        leave_out(&mut document, item);
    }
    document
}

/// When a document was saved; without `revision` if the copy or the document is not there.
fn revision(cluster: &Cluster, server: &SimulatedServer, request: &Request, settings: &Settings) -> Value {
    let argument = |name| request.url.argument(name).unwrap_or_default();
    let started_ms =
        server.replicator.lock().unwrap().started_ms.saturating_add_signed(settings.clock_skew_ms);
    let mut document = json!({
        "icm_companion": 1, "server": server.name.canonical, "time": clock::format_iso(server.now_ms()),
        "started": clock::format_iso(started_ms), "missing": [],
    });
    let copies = cluster.copies();
    let documents = cluster.documents.lock().unwrap();
    let unid = argument("modified").to_uppercase();
    let found = copies.find(server.position, argument("path")).and_then(|copy| {
        let document = documents.get(&CopyKey::of(copy), &unid).filter(|document| !document.deleted)?;
        Some((copy.replica_id.to_uppercase(), document.modified_ms))
    });
    match found {
        Some((replica_id, saved_ms)) => {
            document["revision"] =
                json!({ "replica_id": replica_id, "unid": unid, "saved": clock::format_iso(saved_ms) });
        }
        None => document["missing"] = json!(["revision: Invalid universal id"]),
    }
    for item in &settings.companion_missing {
        leave_out(&mut document, item);
    }
    document
}

fn replicas(cluster: &Cluster, server: &SimulatedServer) -> Vec<Value> {
    let copies = cluster.copies();
    let mut documents = cluster.documents.lock().unwrap();
    let now_ms = server.now_ms();
    let own = copies.copies.iter().filter(|copy| copy.server == server.position);
    own.map(|copy| {
        json!({
            "path": copy.path,
            "replica_id": copy.replica_id,
            "title": copy.title,
            "modified": clock::format_iso(documents.modified_ms(&CopyKey::of(copy), now_ms)),
            "out_of_service": copy.mark == "out_of_service",
            "pending_delete": copy.mark == "pending_delete",
        })
    })
    .collect()
}

/// Removes an item, or one item of an object or of each object in a list: `users`, `replicas.modified`.
fn leave_out(document: &mut Value, item: &str) {
    let Some(items) = document.as_object_mut() else { return };
    match item.split_once('.') {
        None => {
            items.remove(item);
        }
        Some((outer, inner)) => {
            let objects = match items.get_mut(outer) {
                Some(Value::Array(list)) => list.iter_mut().collect(),
                Some(one) => vec![one],
                None => Vec::new(),
            };
            for object in objects.into_iter().filter_map(Value::as_object_mut) {
                object.remove(inner);
            }
        }
    }
    if let Some(Value::Array(missing)) = items.get_mut("missing") {
        missing.push(format!("{item}: not readable: no access").into());
    }
}

fn numbers_as_strings(value: Value) -> Value {
    match value {
        Value::Number(number) => number.to_string().into(),
        Value::Array(list) => list.into_iter().map(numbers_as_strings).collect(),
        Value::Object(items) => items.into_iter().map(|(key, v)| (key, numbers_as_strings(v))).collect(),
        other => other,
    }
}

/// Starts a standard replication of this server with all others, and records the call.
fn start_replication(
    cluster: &Cluster,
    server: &SimulatedServer,
    request: &Request,
    settings: &Settings,
) -> Result<Value, Answer> {
    let fields = url::form(&String::from_utf8_lossy(&request.body.start));
    let field = |name: &str| fields.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str());
    let authorization = request.head.header("authorization");
    let (token, action) = (field("token"), field("action"));
    let wanted = settings.companion_token.as_deref();
    let is_allowed = wanted.is_none()
        || token == wanted
        || authorization.and_then(|value| value.strip_prefix("Bearer ")) == wanted;
    server.companion_calls.lock().unwrap().push(json!({
        "time_ms": clock::now_ms(), "action": action, "server": field("server"), "cluster": field("cluster"),
        "token": token, "authorization": authorization, "allowed": is_allowed,
    }));
    if !is_allowed {
        return Err(error(403, "HTTP Web Server: You are not authorized to perform that operation"));
    }
    if action != Some("replicate") {
        return Err(error(400, "HTTP Web Server: unknown action"));
    }
    replication::request(server);
    let others = cluster.local_servers().filter(|other| other.position != server.position);
    let running = others.filter(|other| !other.is_down()).map(|other| other.name.canonical.as_str());
    Ok(json!({ "icm_companion": 1, "replicating_with": running.collect::<Vec<_>>() }))
}
