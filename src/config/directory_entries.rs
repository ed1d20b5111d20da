//! The entries of a directory: databases and their replicas. The list in the configuration, CSV files and JSON files
//! share this, so that they accept the same values with the same messages.

use std::collections::HashSet;

use super::keys;
use super::reader::Item;
use super::values::{self, ValueError};
use crate::domain::cluster::ServerName;
use crate::domain::directory::{
    DirectoryBuilder, DirectoryEntry, FoldBuffer, ReplicaId, ReplicaStatus, fold_plain_path,
};

/// The list of databases, from the configuration or from a JSON file with its positions.
pub(super) fn databases(item: &Item<'_>, known: Option<&[ServerName]>) -> DirectoryBuilder {
    let mut draft = DirectoryBuilder::default();
    let mut seen = Seen::default();
    for database in item.list() {
        let map = database.map(keys::DATABASE);
        let path_item = map.required("path");
        let path = path_item.text();
        let id = map.required("replica_id").parsed("a replica ID", replica_id);
        let title = title(&map.get("title"));
        let list = map.required("replicas");
        let replicas = list.list();
        if list.is_list() && replicas.is_empty() {
            list.error_at_key(ValueError::new("no replica is given").hint("write `- { server: Web1/Acme }`"));
        }
        for replica in replicas {
            let map = replica.map(keys::REPLICA);
            let server = map.required("server").parsed("a server name", |text| server(text, known));
            let own_path = map.get("path");
            let path = if own_path.value.is_some() { own_path.text() } else { path.clone() };
            let mark = map.get("mark").parsed("in_service | out_of_service | pending_delete", mark);
            let ((Some(path), Some(server)), Some(replica_id)) = ((path, server), id) else { continue };
            let mark = mark.unwrap_or_default();
            let entry = DirectoryEntry { path, server, replica_id, title: title.clone(), status: mark };
            if !seen.is_new(&entry) {
                replica.warn("this replica is listed twice");
            }
            draft.add(&entry);
        }
    }
    draft
}

/// The replicas of a list so far, as hashes: a list may have millions.
#[derive(Debug, Default)]
pub(super) struct Seen {
    hashes: HashSet<u64, ahash::RandomState>,
    buffer: FoldBuffer,
}

impl Seen {
    pub fn is_new(&mut self, entry: &DirectoryEntry) -> bool {
        let path = fold_plain_path(entry.path.as_bytes(), &mut self.buffer);
        let hash = self.hashes.hasher().hash_one((path, entry.server.folded(), entry.replica_id));
        self.hashes.insert(hash)
    }
}

/// A title may be empty.
fn title(item: &Item<'_>) -> String {
    let text = |t: &str| Ok(t.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>());
    if item.is_present() { item.parsed("a text", text).unwrap_or_default() } else { String::new() }
}

pub(super) fn replica_id(text: &str) -> Result<ReplicaId, ValueError> {
    ReplicaId::parse(text)
        .map_err(|e| ValueError::new(e.to_string()).hint("write it like `C1257A000041D2E0`"))
}

pub(super) fn mark(text: &str) -> Result<ReplicaStatus, ValueError> {
    const WORDS: [&str; 3] = ["in_service", "out_of_service", "pending_delete"];
    ReplicaStatus::parse(text).ok_or_else(|| {
        let list = WORDS.join(" | ");
        let hint = values::similar(text, WORDS)
            .map_or(format!("write {list}"), |w| format!("did you mean `{w}`? write {list}"));
        ValueError::new(format!("`{text}` is not a mark")).hint(hint)
    })
}

/// The name of a server, which must be one of `known` where those are listed.
pub(super) fn server(text: &str, known: Option<&[ServerName]>) -> Result<ServerName, ValueError> {
    let name = ServerName::parse(text).map_err(|e| ValueError::new(e.to_string()))?;
    let Some(known) = known.filter(|known| !known.contains(&name)) else { return Ok(name) };
    let names = || known.iter().map(ServerName::abbreviated);
    let close = known.iter().find(|k| k.answers_to(text)).map(ServerName::abbreviated);
    let hint = match close.or_else(|| values::similar(name.abbreviated(), names())) {
        Some(close) => format!("did you mean `{close}`?"),
        None => format!("known here: {}", names().take(20).collect::<Vec<_>>().join(", ")),
    };
    Err(ValueError::new(format!("`{name}` is not in servers.list")).hint(hint))
}
