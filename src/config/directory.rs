//! `directory`: which server holds which database, or where to read the Cluster Database Directory.

use super::auth;
use super::directory_entries::databases;
use super::directory_file;
use super::file_access::Named;
use super::keys;
use super::reader::{Item, Map};
use super::servers;
use super::settings::{
    Cldbdir, Column, Directory, DirectoryColumns, Entries, LOOKUP_VIEW, Servers, UpstreamScheme,
    VISIBLE_VIEWS,
};
use super::values;
use crate::domain::cluster::ServerName;
use crate::util::host::is_loopback;

#[derive(Clone, Copy)]
enum Source {
    Static,
    File,
    Cldbdir,
}

/// Entries may name only the servers in `known`, if the file lists its servers.
pub(super) fn directory(
    item: &Item<'_>,
    scheme: UpstreamScheme,
    servers: &Servers,
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
            Directory::Cldbdir(cldbdir(&map, scheme, servers))
        }
    }
}

fn cldbdir(map: &Map<'_>, scheme: UpstreamScheme, servers: &Servers) -> Cldbdir {
    let columns = map.get("columns").map(keys::DIRECTORY_COLUMNS);
    let column = |key: &str| columns.get(key).parsed("a column", values::column);
    let (auth, plaintext) = auth::auth(&map.get("auth"));
    if !plaintext {
        auth::refuse_plaintext(&map.get("auth"), &auth, plain_server(scheme, servers));
    }
    let view = map.get("view").text().unwrap_or_else(|| LOOKUP_VIEW.to_owned());
    // Their columns are known in words only, so they are recognised.
    let recognised = VISIBLE_VIEWS.iter().any(|visible| visible.eq_ignore_ascii_case(view.trim()));
    let column_or = |key: &str, of_lookup_view: u32| {
        column(key).or_else(|| (!recognised).then_some(Column::Number(of_lookup_view)))
    };
    Cldbdir {
        database: servers::database(map, "cldbdir.nsf"),
        view,
        format: servers::format(map),
        columns: DirectoryColumns {
            path: column_or("path", 0),
            server: column_or("server", 1),
            replica_id: column_or("replica_id", 3),
            title: column("title"),
            out_of_service: column("out_of_service"),
            pending_delete: column("pending_delete"),
        },
        auth,
        refresh: servers::refresh(map),
        cache: map.get("cache").path(Named::Written),
    }
}

/// A server to which the password would be sent in clear text. With `same`, its HTTPS port is preferred.
pub(super) fn plain_server(scheme: UpstreamScheme, servers: &Servers) -> Option<String> {
    let servers = match servers {
        Servers::Static(servers) => servers,
        Servers::Names(_) if scheme == UpstreamScheme::Https => return None,
        Servers::Names(view) => return auth::plain_url(&view.from),
    };
    let plain = servers.iter().filter_map(|server| match scheme {
        UpstreamScheme::Http => server.http.as_ref(),
        UpstreamScheme::Https => None,
        UpstreamScheme::Same => server.http.as_ref().filter(|_| server.https.is_none()),
    });
    plain.filter(|at| !is_loopback(&at.host)).map(ToString::to_string).next()
}
