//! What requests do with documents: the URL commands that read, save and delete, and the pages' `Last-Modified`. Pages
//! without documents are in `pages.rs`.

use serde_json::{Value, json};

use crate::answer::Answer;
use crate::clock;
use crate::cluster::{Cluster, SimulatedServer};
use crate::copies::DatabaseCopy;
use crate::documents::{CopyKey, Document, Edit, Saved};
use crate::login::Requester;
use crate::pages::{Request, error};
use crate::replication;
use crate::settings::LastModified;
use crate::url;

/// What the page of this request says about documents (null if nothing), after the request has changed them. An error
/// page if there is no such document.
pub fn details(
    cluster: &Cluster,
    server: &SimulatedServer,
    request: &Request,
    copy: &DatabaseCopy,
    user: &Requester,
) -> Result<Value, Answer> {
    let (url, reads) = (&request.url, matches!(request.head.method.as_str(), "GET" | "HEAD"));
    let unid = url.rest.rsplit('/').next().filter(|last| is_unid(last)).map(str::to_uppercase);
    let names_document = url.is("OpenDocument") || url.is("EditDocument") || url.command.is_empty();
    match unid {
        Some(unid) if url.is("DeleteDocument") && request.head.method != "HEAD" => {
            let edit = Edit { unid: Some(unid), deletes: true, ..edit(request, user) };
            save(cluster, server, copy, edit)
        }
        Some(unid) if reads && names_document => read(cluster, copy, &unid),
        Some(unid) if !reads && (names_document || url.is("SaveDocument")) => {
            save(cluster, server, copy, Edit { unid: Some(unid), ..edit(request, user) })
        }
        None if !reads && (url.is("CreateDocument") || url.is("OpenForm")) => {
            create(cluster, server, copy, Edit { creates: true, ..edit(request, user) })
        }
        None if reads && url.is("OpenView") && url.rest.eq_ignore_ascii_case("documents") => {
            let all = cluster.documents.lock().unwrap().all(&CopyKey::of(copy));
            Ok(json!({ "documents": all.iter().map(|document| show(document)).collect::<Vec<_>>() }))
        }
        _ => Ok(Value::Null),
    }
}

fn is_unid(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The edit that the form of a request describes.
fn edit(request: &Request, user: &Requester) -> Edit {
    let fields = url::form(&String::from_utf8_lossy(&request.body.start));
    let field =
        |name: &str| fields.iter().find(|(k, _)| k.eq_ignore_ascii_case(name)).map(|(_, v)| v.clone());
    let author = match user {
        Requester::User(name) => name,
        _ => "Anonymous",
    };
    Edit {
        unid: field("unid").map(|unid| unid.to_uppercase()),
        base_seq: field("base_seq").and_then(|seq| seq.trim().parse().ok()),
        author: field("author").or_else(|| Some(author.to_owned())),
        subject: field("subject"),
        text: field("text").or_else(|| field("body")),
        write_id: field("write_id")
            .or_else(|| request.rid.clone())
            .unwrap_or_else(|| format!("{:016x}", fastrand::u64(..))),
        creates: false,
        deletes: false,
    }
}

fn create(
    cluster: &Cluster,
    server: &SimulatedServer,
    copy: &DatabaseCopy,
    edit: Edit,
) -> Result<Value, Answer> {
    match &edit.unid {
        Some(unid) if !is_unid(unid) => Err(error(400, "HTTP Web Server: unid is not 32 hex digits")),
        _ => save(cluster, server, copy, edit),
    }
}

fn save(
    cluster: &Cluster,
    server: &SimulatedServer,
    copy: &DatabaseCopy,
    edit: Edit,
) -> Result<Value, Answer> {
    let saved = {
        let mut documents = cluster.documents.lock().unwrap();
        documents.save(&CopyKey::of(copy), &server.name.abbreviated, edit, server.now_ms())
    };
    match saved {
        Saved::Absent => Err(absent()),
        Saved::Conflict(document) => {
            let mut shown = show(&document);
            shown["conflict"] = true.into();
            Ok(shown)
        }
        Saved::Done { document, lost_update } => {
            replication::changed(cluster, server, copy, &document.unid);
            let mut shown = show(&document);
            shown["conflict"] = false.into();
            shown["lost_update"] = lost_update.into();
            Ok(shown)
        }
    }
}

fn read(cluster: &Cluster, copy: &DatabaseCopy, unid: &str) -> Result<Value, Answer> {
    let documents = cluster.documents.lock().unwrap();
    match documents.get(&CopyKey::of(copy), unid) {
        Some(document) if !document.deleted => Ok(show(document)),
        _ => Err(absent()),
    }
}

fn absent() -> Answer {
    error(404, "HTTP Web Server: Invalid or nonexistent document")
}

fn show(document: &Document) -> Value {
    serde_json::to_value(document).unwrap_or_default()
}

/// Adds `Last-Modified` to a page of a database as the settings say.
pub fn with_last_modified(
    cluster: &Cluster,
    server: &SimulatedServer,
    request: &Request,
    copy: &DatabaseCopy,
    answer: Answer,
) -> Answer {
    let settings = server.settings();
    if !matches!(request.head.method.as_str(), "GET" | "HEAD") {
        return answer;
    }
    let (key, now_ms) = (CopyKey::of(copy), server.now_ms());
    let mut documents = cluster.documents.lock().unwrap();
    if settings.web_query_open.iter().any(|path| path.eq_ignore_ascii_case(&copy.path)) {
        documents.touch(&key, now_ms);
    }
    let modified_ms = match settings.last_modified {
        LastModified::Off => return answer,
        LastModified::Now => now_ms,
        LastModified::Data => documents.modified_ms(&key, now_ms),
    };
    answer.with_header("Last-Modified", clock::http_date(modified_ms / 1000))
}
