//! Turns a row of the Cluster Database Directory into a [`DirectoryEntry`].
//!
//! The columns of the hidden view `($Pathname)` are known by number (`LookupProvider` in
//! <https://github.com/OpenNTF/XPagesExtensionLibrary>: 1 = server, 3 = replica ID), those of the visible views by name
//! or content.

use crate::config::settings::{Column, DirectoryColumns};
use crate::discovery::domino::view_entries::{ColumnValue, Row};
use crate::domain::cluster::ServerName;
use crate::domain::directory::{DirectoryEntry, ReplicaId, ReplicaStatus};

/// How to find the columns of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnLayout<'a> {
    Configured(&'a DirectoryColumns),
    /// For a visible view instead of the configured one: columns configured by name are used, those by number guessed.
    Guessed(&'a DirectoryColumns),
}

/// Why a row is not an entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    #[error("no {0}")]
    Missing(&'static str),
    #[error("{0}")]
    Invalid(String),
}

/// # Errors
/// When path, server or replica ID are missing or malformed.
pub fn parse_entry(row: &Row, layout: &ColumnLayout<'_>) -> Result<DirectoryEntry, RowError> {
    let (path, server, replica_id, title, columns) = match layout {
        ColumnLayout::Configured(columns) => {
            let title = columns.title.as_ref().map_or("", |column| row.text(column));
            (
                row.text(&columns.path),
                row.text(&columns.server),
                row.text(&columns.replica_id),
                title,
                columns,
            )
        }
        ColumnLayout::Guessed(columns) => {
            let guess = ColumnGuesser { row };
            let title = columns
                .title
                .as_ref()
                .map_or("", |column| guess.find(column, &["title", "dbtitle"], |_| false));
            let path = guess.find(&columns.path, &["pathname", "path", "dbpath"], is_path);
            let server =
                guess.find(&columns.server, &["servername", "server", "canonicalservername"], is_server);
            let replica_id = guess.find(&columns.replica_id, &["replicaid", "dbreplicaid"], is_replica_id);
            (path, server, replica_id, title, columns)
        }
    };
    let path = path.trim_start_matches(['/', '\\']);
    if path.is_empty() {
        return Err(RowError::Missing("path"));
    }
    if server.is_empty() {
        return Err(RowError::Missing("server"));
    }
    if replica_id.is_empty() {
        return Err(RowError::Missing("replica ID"));
    }
    if path.len() > 1024 || path.chars().any(char::is_control) {
        return Err(RowError::Invalid(format!(
            "`{}` is no path",
            path.escape_default().take(80).collect::<String>()
        )));
    }
    Ok(DirectoryEntry {
        path: path.to_owned(),
        server: ServerName::parse(server).map_err(|error| RowError::Invalid(error.to_string()))?,
        replica_id: ReplicaId::parse(replica_id).map_err(|error| RowError::Invalid(error.to_string()))?,
        title: title.to_owned(),
        status: parse_status(row, columns),
    })
}

/// *Pending delete* takes precedence over *out of service*.
fn parse_status(row: &Row, columns: &DirectoryColumns) -> ReplicaStatus {
    let set = |column: &Option<Column>| column.as_ref().is_some_and(|column| is_set(row.values(column)));
    if set(&columns.pending_delete) {
        ReplicaStatus::PendingDelete
    } else if set(&columns.out_of_service) {
        ReplicaStatus::OutOfService
    } else {
        ReplicaStatus::InService
    }
}

/// A mark is set unless it is absent, empty, `0`, `no` or `false`.
fn is_set(values: Option<&[String]>) -> bool {
    values.unwrap_or_default().iter().any(|value| {
        let value = value.trim();
        !(value.is_empty() || ["0", "no", "false"].iter().any(|off| value.eq_ignore_ascii_case(off)))
    })
}

struct ColumnGuesser<'a> {
    row: &'a Row,
}

impl<'a> ColumnGuesser<'a> {
    /// Finds a column by its configured name, else by the usual names, else by its value.
    fn find(&self, configured: &Column, names: &[&str], looks_right: impl Fn(&str) -> bool) -> &'a str {
        if let Column::Name(_) = configured {
            let text = self.row.text(configured);
            if !text.is_empty() {
                return text;
            }
        }
        let named = names.iter().find_map(|name| {
            let found = self
                .row
                .columns
                .iter()
                .find(|column| normalize_name(&column.name) == *name && !column.is_blank())?;
            Some(first_value(found))
        });
        let looked = || self.row.columns.iter().map(first_value).find(|text| looks_right(text));
        named.or_else(looked).unwrap_or_default()
    }
}

fn first_value(column: &ColumnValue) -> &str {
    column.values.first().map_or("", |text| text.trim())
}

/// `Replica_ID` and `$ReplicaID` become `replicaid`.
fn normalize_name(name: &str) -> String {
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
