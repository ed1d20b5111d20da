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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColumnLayout<'a> {
    pub columns: &'a DirectoryColumns,
    /// The view is read in place of the configured one, so columns configured by number are those of another view.
    pub is_substitute: bool,
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
    let finder = ColumnFinder { row, layout: *layout };
    let DirectoryColumns { path, server, replica_id, title, .. } = layout.columns;
    let path = finder.find(path.as_ref(), &["pathname", "path", "dbpath"], is_path);
    let server = finder.find(server.as_ref(), &["servername", "server", "canonicalservername"], is_server);
    let replica_id = finder.find(replica_id.as_ref(), &["replicaid", "dbreplicaid"], is_replica_id);
    let title = match title {
        Some(_) => finder.find(title.as_ref(), &["title", "dbtitle"], |_| false),
        None => "",
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
        status: parse_status(row, layout),
    })
}

/// *Pending delete* takes precedence over *out of service*.
fn parse_status(row: &Row, layout: &ColumnLayout<'_>) -> ReplicaStatus {
    let set = |column: &Option<Column>| {
        column.as_ref().filter(|column| layout.applies(column)).is_some_and(|c| is_set(row.values(c)))
    };
    if set(&layout.columns.pending_delete) {
        ReplicaStatus::PendingDelete
    } else if set(&layout.columns.out_of_service) {
        ReplicaStatus::OutOfService
    } else {
        ReplicaStatus::InService
    }
}

impl ColumnLayout<'_> {
    /// Whether a configured column is meant for the view that is read.
    fn applies(&self, column: &Column) -> bool {
        !self.is_substitute || matches!(column, Column::Name(_))
    }

    /// Whether marks are configured that this view cannot have: a wrong column would close a database to new users.
    #[must_use]
    pub fn ignores_marks(&self) -> bool {
        let marks = [&self.columns.out_of_service, &self.columns.pending_delete];
        marks.into_iter().flatten().any(|column| !self.applies(column))
    }
}

/// A mark is set unless it is absent, empty, `0`, `no` or `false`.
fn is_set(values: Option<&[String]>) -> bool {
    values.unwrap_or_default().iter().any(|value| {
        let value = value.trim();
        !(value.is_empty() || ["0", "no", "false"].iter().any(|off| value.eq_ignore_ascii_case(off)))
    })
}

struct ColumnFinder<'a> {
    row: &'a Row,
    layout: ColumnLayout<'a>,
}

impl<'a> ColumnFinder<'a> {
    /// Finds a column as it is configured. If it is not, or not for this view, finds it by the usual names, else by its
    /// value.
    fn find(
        &self,
        configured: Option<&Column>,
        names: &[&str],
        looks_right: impl Fn(&str) -> bool,
    ) -> &'a str {
        if let Some(column) = configured.filter(|column| self.layout.applies(column)) {
            let text = self.row.text(column);
            if !text.is_empty() || !self.layout.is_substitute {
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
