//! Reads the Cluster Database Directory from the first server that answers.
//!
//! It keeps duplicate entries, which a recreated directory has for a while:
//! <https://help.hcl-software.com/domino/11.0.1/admin/admn_creatinganewclusterdatabasedirectory_t.html>

use std::net::SocketAddr;

use super::columns::{ColumnLayout, RowError, parse_entry};
use crate::config::settings::Cldbdir;
use crate::discovery::domino::fault::single_line;
use crate::discovery::domino::view_entries::Row;
use crate::discovery::domino::view_entries::reader::{
    self, ReadError, ReadSummary, ReadTimeLimit, RowSink, ViewRequest, ViewSource,
};
use crate::discovery::domino::{DominoClient, LoginSessions};
use crate::domain::cluster::ServerName;
use crate::domain::directory::index::DirectoryBuilder;

/// The hidden lookup view that HCL's own code reads.
const DEFAULT_LOOKUP_VIEW: &str = "($Pathname)";
/// Visible views that are read if the hidden one is not accessible.
const FALLBACK_VIEWS: [&str; 2] = ["Databases by Pathname", "Databases by Replica ID"];
/// A directory with more entries is assumed to be faulty.
const MAX_ENTRIES: usize = 5_000_000;
/// Bad rows that a warning describes; the others are only counted.
const MAX_EXAMPLES: usize = 3;

/// How to reach a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddress {
    pub name: ServerName,
    /// For the Host header and SNI.
    pub hostname: String,
    pub address: SocketAddr,
    pub https: bool,
}

/// The directory as one server gave it.
#[derive(Debug)]
pub struct DirectoryReading {
    /// The entries, including duplicates.
    pub builder: DirectoryBuilder,
    pub from: ServerName,
    pub warnings: Vec<String>,
    /// Why entries are missing, if the view announces more than it returns.
    pub truncated: Option<String>,
}

/// No server gave the directory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot read the cluster directory from any server{}", .attempts.iter().map(|(name, error)| format!("; {name}: {error}")).collect::<String>())]
pub struct DirectoryReadError {
    /// In the order of the requests; empty if there is no server to ask.
    pub attempts: Vec<(ServerName, ReadError)>,
}

/// Asks one server after the other until one gives the directory.
///
/// # Errors
/// When none does, with the reason of each.
pub async fn read_directory(
    client: &DominoClient,
    servers: &[ServerAddress],
    settings: &Cldbdir,
    sessions: &LoginSessions,
) -> Result<DirectoryReading, DirectoryReadError> {
    let mut failure = DirectoryReadError { attempts: Vec::new() };
    for server in servers {
        match read_from_server(client, server, settings, sessions).await {
            Ok(mut reading) => {
                let skipped = failure.attempts.iter().map(|(name, error)| format!("{name}: {error}"));
                reading.warnings.extend(skipped);
                return Ok(reading);
            }
            Err(error) => failure.attempts.push((server.name.clone(), error)),
        }
    }
    Err(failure)
}

async fn read_from_server(
    client: &DominoClient,
    server: &ServerAddress,
    settings: &Cldbdir,
    sessions: &LoginSessions,
) -> Result<DirectoryReading, ReadError> {
    let source = ViewSource {
        client,
        address: server.address,
        https: server.https,
        hostname: &server.hostname,
        base: "",
        auth: &settings.auth,
        sessions,
        time_limit: ReadTimeLimit::for_refresh_interval(settings.refresh),
    };
    let is_default = settings.view.trim().eq_ignore_ascii_case(DEFAULT_LOOKUP_VIEW);
    let mut view = ViewRequest {
        database: &settings.database,
        name: settings.view.trim(),
        format: settings.format,
        expand: !is_default,
    };
    let mut collector = Collector::new(ColumnLayout::Configured(&settings.columns));
    let mut result = reader::read(&source, &view, &mut collector).await;
    if is_default {
        for name in FALLBACK_VIEWS {
            if !result.as_ref().is_err_and(ReadError::is_not_found) {
                break;
            }
            view = ViewRequest { name, expand: true, ..view };
            collector.layout = ColumnLayout::Guessed(&settings.columns);
            let other = reader::read(&source, &view, &mut collector).await;
            if !other.as_ref().is_err_and(ReadError::is_not_found) {
                result = other;
            }
        }
    }
    let summary = result?;
    let mut warnings = Vec::new();
    if view.name != settings.view.trim() {
        warnings.push(format!(
            "{}: {} has no accessible view `{}`, so `{}` was read instead",
            server.name, settings.database, settings.view, view.name
        ));
    }
    Ok(collector.reading(server.name.clone(), &settings.database, &summary, warnings))
}

struct Collector<'a> {
    layout: ColumnLayout<'a>,
    builder: DirectoryBuilder,
    bad_rows: usize,
    too_many: bool,
    examples: Vec<String>,
}

impl<'a> Collector<'a> {
    fn new(layout: ColumnLayout<'a>) -> Self {
        Self {
            layout,
            builder: DirectoryBuilder::default(),
            bad_rows: 0,
            too_many: false,
            examples: Vec::new(),
        }
    }

    fn reading(
        self,
        from: ServerName,
        database: &str,
        summary: &ReadSummary,
        mut warnings: Vec<String>,
    ) -> DirectoryReading {
        if self.bad_rows > 0 {
            let more = if self.bad_rows > self.examples.len() { ", ..." } else { "" };
            let examples = self.examples.join(", ");
            warnings.push(format!("{from}: {} bad rows in {database}: {examples}{more}", self.bad_rows));
        }
        let truncated = if self.too_many {
            Some(format!("only the first {MAX_ENTRIES} entries are used"))
        } else {
            summary.truncated.clone()
        };
        for reason in truncated.iter().chain(&summary.inconsistency) {
            warnings.push(format!("{from}: {database} may be incomplete: {reason}"));
        }
        DirectoryReading { builder: self.builder, from, warnings, truncated }
    }

    fn add_bad_row(&mut self, row: &Row, reason: &RowError) {
        self.bad_rows += 1;
        if self.examples.len() < MAX_EXAMPLES {
            let position = if row.position.is_empty() { "?" } else { &row.position };
            self.examples.push(format!("row {}: {reason}", single_line(position)));
        }
    }
}

impl RowSink for Collector<'_> {
    fn reset(&mut self) {
        self.builder = DirectoryBuilder::default();
        self.examples.clear();
        self.bad_rows = 0;
        self.too_many = false;
    }

    fn accept_row(&mut self, row: Row) {
        match parse_entry(&row, &self.layout) {
            Ok(_) if self.builder.len() >= MAX_ENTRIES => self.too_many = true,
            Ok(entry) => self.builder.add(&entry),
            Err(reason) => self.add_bad_row(&row, &reason),
        }
    }
}

#[cfg(test)]
mod tests;
