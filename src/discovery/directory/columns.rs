//! From a row of the Cluster Database Directory to an [`Entry`].
//!
//! In: a row and which column is what. Out: an entry, or why the row is none. It knows the hidden view
//! `($Pathname)` by column numbers
//! (`LookupProvider`, <https://github.com/OpenNTF/XPagesExtensionLibrary>: 1 = server, 3 = replica ID) and
//! the visible views by what their columns are called and hold.

use crate::config::settings::{Column, DirectoryColumns};
use crate::discovery::domino::view_entries::{ColumnValue, Row};
use crate::domain::cluster::ServerName;
use crate::domain::directory::{Entry, Mark, ReplicaId};

/// Which column is what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout<'a> {
    /// As configured.
    Configured(&'a DirectoryColumns),
    /// A visible view in the place of the configured one: columns configured by name still hold,
    /// numbers do not.
    Guessed(&'a DirectoryColumns),
}

/// Why a row is no entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRow {
    /// The column is absent or empty.
    #[error("no {0}")]
    Missing(&'static str),
    /// The column holds something else.
    #[error("{0}")]
    Wrong(String),
}

/// Reads one row.
///
/// # Errors
/// When path, server or replica ID are missing or malformed.
pub fn entry(row: &Row, layout: &Layout<'_>) -> Result<Entry, BadRow> {
    let (path, server, replica_id, title, columns) = match layout {
        Layout::Configured(columns) => {
            let title = columns.title.as_ref().map_or("", |column| row.text(column));
            (
                row.text(&columns.path),
                row.text(&columns.server),
                row.text(&columns.replica_id),
                title,
                columns,
            )
        }
        Layout::Guessed(columns) => {
            let guess = Guess { row };
            let title = columns
                .title
                .as_ref()
                .map_or("", |column| guess.text(column, &["title", "dbtitle"], |_| false));
            let path = guess.text(&columns.path, &["pathname", "path", "dbpath"], is_path);
            let server =
                guess.text(&columns.server, &["servername", "server", "canonicalservername"], is_server);
            let replica_id = guess.text(&columns.replica_id, &["replicaid", "dbreplicaid"], is_replica_id);
            (path, server, replica_id, title, columns)
        }
    };
    let path = path.trim_start_matches(['/', '\\']);
    if path.is_empty() {
        return Err(BadRow::Missing("path"));
    }
    if server.is_empty() {
        return Err(BadRow::Missing("server"));
    }
    if replica_id.is_empty() {
        return Err(BadRow::Missing("replica ID"));
    }
    if path.len() > 1024 || path.chars().any(char::is_control) {
        return Err(BadRow::Wrong(format!(
            "`{}` is no path",
            path.escape_default().take(80).collect::<String>()
        )));
    }
    Ok(Entry {
        path: path.to_owned(),
        server: ServerName::parse(server).map_err(|error| BadRow::Wrong(error.to_string()))?,
        replica_id: ReplicaId::parse(replica_id).map_err(|error| BadRow::Wrong(error.to_string()))?,
        title: title.to_owned(),
        mark: mark(row, columns),
    })
}

/// Pending delete is the stronger mark.
fn mark(row: &Row, columns: &DirectoryColumns) -> Mark {
    let set = |column: &Option<Column>| column.as_ref().is_some_and(|column| is_set(row.values(column)));
    if set(&columns.pending_delete) {
        Mark::PendingDelete
    } else if set(&columns.out_of_service) {
        Mark::OutOfService
    } else {
        Mark::InService
    }
}

/// Set unless absent, empty, `0`, `no` or `false`.
fn is_set(values: Option<&[String]>) -> bool {
    values.unwrap_or_default().iter().any(|value| {
        let value = value.trim();
        !(value.is_empty() || ["0", "no", "false"].iter().any(|off| value.eq_ignore_ascii_case(off)))
    })
}

struct Guess<'a> {
    row: &'a Row,
}

impl<'a> Guess<'a> {
    /// By the configured name, by usual names, by what a value looks like: the first that is there.
    fn text(&self, configured: &Column, names: &[&str], looks: impl Fn(&str) -> bool) -> &'a str {
        if let Column::Name(_) = configured {
            let text = self.row.text(configured);
            if !text.is_empty() {
                return text;
            }
        }
        let named = names.iter().find_map(|name| {
            let found =
                self.row.columns.iter().find(|column| plain(&column.name) == *name && !column.is_blank())?;
            Some(value(found))
        });
        let looked = || self.row.columns.iter().map(value).find(|text| looks(text));
        named.or_else(looked).unwrap_or_default()
    }
}

fn value(column: &ColumnValue) -> &str {
    column.values.first().map_or("", |text| text.trim())
}

/// `Replica_ID` and `$ReplicaID` are `replicaid`.
fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

fn is_path(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    [".nsf", ".ntf", ".box", ".ns"]
        .iter()
        .any(|ending| lower.rfind(ending).is_some_and(|at| lower.len() - at <= 4))
}

fn is_server(text: &str) -> bool {
    let canonical = text.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("cn="));
    canonical || (text.contains('/') && !is_path(text) && ServerName::parse(text).is_ok())
}

fn is_replica_id(text: &str) -> bool {
    ReplicaId::parse(text).is_ok()
}
