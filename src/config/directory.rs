//! `directory`: which database is where.
//!
//! In: the map. Out: the entries of a static or file directory, or where to read the Cluster
//! Database Directory. It contacts nobody.

use std::collections::HashSet;

use super::directory_file;
use super::file_access::Named;
use super::keys;
use super::reader::{Item, Map};
use super::servers;
use super::settings::{Cldbdir, Column, Directory, DirectoryColumns, Entries, Servers, UpstreamScheme};
use super::values::{self, Problem};
use crate::domain::cluster::ServerName;
use crate::domain::directory::{Draft, Entry, Folded, Mark, ReplicaId, fold_plain};

#[derive(Clone, Copy)]
enum Source {
    Static,
    File,
    Cldbdir,
}

/// `directory`. `known` are the servers that entries may name, if the file lists them.
pub(super) fn directory(
    item: &Item<'_>,
    scheme: UpstreamScheme,
    members: &Servers,
    known: Option<&[ServerName]>,
) -> Directory {
    let map = item.map(keys::DIRECTORY);
    let words = [("static", Source::Static), ("file", Source::File), ("cldbdir", Source::Cldbdir)];
    let fallback = match (map.has("databases"), map.has("file")) {
        (true, _) => Source::Static,
        (_, true) => Source::File,
        _ => Source::Cldbdir,
    };
    let view = ["database", "view", "format", "columns", "auth", "refresh", "cache"];
    match map.get("source").choice(&words).unwrap_or(fallback) {
        Source::Static => {
            map.no_effect(&view, "source: static");
            map.no_effect(&["file"], "source: static");
            let list = map.required("databases");
            let entries = databases(&list, known);
            if list.is_list() && list.list().is_empty() {
                list.warn("the directory is empty");
            }
            Directory::Static(Entries::new(entries))
        }
        Source::File => {
            map.no_effect(&view, "source: file");
            map.no_effect(&["databases"], "source: file");
            let (path, entries) = directory_file::read(&map.required("file"), known).unwrap_or_default();
            Directory::File { path, entries: Entries::new(entries) }
        }
        Source::Cldbdir => {
            map.no_effect(&["file", "databases"], "source: cldbdir");
            Directory::Cldbdir(cldbdir(&map, scheme, members))
        }
    }
}

fn cldbdir(map: &Map<'_>, scheme: UpstreamScheme, members: &Servers) -> Cldbdir {
    let columns = map.get("columns").map(keys::DIRECTORY_COLUMNS);
    let column = |key: &str| columns.get(key).parsed("a column", values::column);
    let (auth, plaintext) = servers::auth(&map.get("auth"));
    if !plaintext {
        servers::refuse_plaintext(&map.get("auth"), &auth, plain_member(scheme, members));
    }
    Cldbdir {
        database: servers::database(map, "cldbdir.nsf"),
        view: map.get("view").text().unwrap_or_else(|| "($Pathname)".to_owned()),
        format: servers::format(map),
        columns: DirectoryColumns {
            path: column("path").unwrap_or(Column::Number(0)),
            server: column("server").unwrap_or(Column::Number(1)),
            replica_id: column("replica_id").unwrap_or(Column::Number(3)),
            title: column("title"),
            out_of_service: column("out_of_service"),
            pending_delete: column("pending_delete"),
        },
        auth,
        refresh: servers::refresh(map),
        cache: map.get("cache").path(Named::Written),
    }
}

/// A member that would be asked in clear text over a network. With `same` the reader prefers the
/// HTTPS port.
fn plain_member(scheme: UpstreamScheme, members: &Servers) -> Option<String> {
    let servers = match members {
        Servers::Static(servers) => servers,
        Servers::Names(_) if scheme == UpstreamScheme::Https => return None,
        Servers::Names(view) => return servers::plain_url(&view.from),
    };
    let plain = servers.iter().filter_map(|server| match scheme {
        UpstreamScheme::Http => server.http.as_ref(),
        UpstreamScheme::Https => None,
        UpstreamScheme::Same => server.http.as_ref().filter(|_| server.https.is_none()),
    });
    plain.filter(|at| !values::is_loopback(&at.host)).map(ToString::to_string).next()
}

/// The list of databases, of the configuration or of a JSON file.
pub(super) fn databases(item: &Item<'_>, known: Option<&[ServerName]>) -> Draft {
    let mut draft = Draft::default();
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
            list.error_at_key(Problem::new("no replica is given").hint("write `- { server: Web1/Acme }`"));
        }
        for replica in replicas {
            let map = replica.map(keys::REPLICA);
            let server = map.required("server").parsed("a server name", |text| server(text, known));
            let own_path = map.get("path");
            let path = if own_path.value.is_some() { own_path.text() } else { path.clone() };
            let mark = map.get("mark").parsed("in_service | out_of_service | pending_delete", mark);
            let ((Some(path), Some(server)), Some(replica_id)) = ((path, server), id) else { continue };
            let mark = mark.unwrap_or_default();
            let entry = Entry { path, server, replica_id, title: title.clone(), mark };
            if !seen.is_new(&entry) {
                replica.warn("this replica is listed twice");
            }
            draft.add(&entry);
        }
    }
    draft
}

/// The replicas of a list so far, by a hash of what makes two the same: of millions, only these can be kept.
#[derive(Debug, Default)]
pub(super) struct Seen {
    hashes: HashSet<u64, ahash::RandomState>,
    buffer: Folded,
}

impl Seen {
    pub fn is_new(&mut self, entry: &Entry) -> bool {
        let path = fold_plain(entry.path.as_bytes(), &mut self.buffer);
        let hash = self.hashes.hasher().hash_one((path, entry.server.folded(), entry.replica_id));
        self.hashes.insert(hash)
    }
}

/// A title may be empty.
fn title(item: &Item<'_>) -> String {
    let text = |t: &str| Ok(t.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>());
    if item.is_present() { item.parsed("a text", text).unwrap_or_default() } else { String::new() }
}

pub(super) fn replica_id(text: &str) -> Result<ReplicaId, Problem> {
    ReplicaId::parse(text).map_err(|e| Problem::new(e.to_string()).hint("write it like `C1257A000041D2E0`"))
}

pub(super) fn mark(text: &str) -> Result<Mark, Problem> {
    const WORDS: [&str; 3] = ["in_service", "out_of_service", "pending_delete"];
    Mark::from_word(text).ok_or_else(|| {
        let list = WORDS.join(" | ");
        let hint = values::similar(text, WORDS)
            .map_or(format!("write {list}"), |w| format!("did you mean `{w}`? write {list}"));
        Problem::new(format!("`{text}` is not a mark")).hint(hint)
    })
}

/// A server that is one of the members.
pub(super) fn server(text: &str, known: Option<&[ServerName]>) -> Result<ServerName, Problem> {
    let name = ServerName::parse(text).map_err(|e| Problem::new(e.to_string()))?;
    let Some(known) = known.filter(|known| !known.contains(&name)) else { return Ok(name) };
    let names = || known.iter().map(ServerName::abbreviated);
    let close = known.iter().find(|k| k.answers_to(text)).map(ServerName::abbreviated);
    let hint = match close.or_else(|| values::similar(name.abbreviated(), names())) {
        Some(close) => format!("did you mean `{close}`?"),
        None => format!("known here: {}", names().take(20).collect::<Vec<_>>().join(", ")),
    };
    Err(Problem::new(format!("`{name}` is not in servers.list")).hint(hint))
}
