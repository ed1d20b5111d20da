//! Reads the Cluster Database Directory from the first server that answers.
//!
//! It keeps duplicate entries, which a recreated directory has for a while:
//! <https://help.hcl-software.com/domino/11.0.1/admin/admn_creatinganewclusterdatabasedirectory_t.html>

use std::collections::HashMap;
use std::net::SocketAddr;

use parking_lot::Mutex;

use super::columns::{ColumnLayout, RowError, parse_entry};
use crate::config::settings::{Cldbdir, LOOKUP_VIEW, VISIBLE_VIEWS};
use crate::discovery::domino::fault::single_line;
use crate::discovery::domino::view_entries::Row;
use crate::discovery::domino::view_entries::reader::{
    self, ReadError, ReadSummary, ReadTimeLimit, RowSink, ViewRequest, ViewSource,
};
use crate::discovery::domino::{DominoClient, LoginSessions};
use crate::domain::cluster::ServerName;
use crate::domain::directory::index::DirectoryBuilder;

/// The views of the default, in the order in which they are tried. HCL's help says that URLs open no hidden view, but
/// excepts one that is hidden by the parentheses of its name
/// (<https://www.ibm.com/docs/en/SSVRGU_9.0.1/basic/H_ABOUT_URL_COMMANDS_FOR_OPENING_DOCUMENTS_BY_KEY.html>), and other
/// pages of it do not
/// (<https://help.hcl-software.com/dom_designer/10.0.1/basic/H_ABOUT_URL_COMMANDS_FOR_OPENING_SERVERS_DATABASES_AND_VIEWS.html>).
const DEFAULT_VIEWS: [&str; 3] = [LOOKUP_VIEW, VISIBLE_VIEWS[0], VISIBLE_VIEWS[1]];
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
    /// The name of the view.
    pub view: String,
    pub warnings: Vec<String>,
    /// Why entries are missing, if the view announces more than it returns.
    pub truncated: Option<String>,
}

/// The view that each server gave last, so that a view that it does not give is not asked for with every reading.
#[derive(Debug, Default)]
pub struct AnsweredViews {
    views: Mutex<HashMap<ServerName, &'static str>>,
}

impl AnsweredViews {
    /// The view to try first at a server, which is the one that it gave last, and the others.
    fn order_for(&self, server: &ServerName) -> (&'static str, impl Iterator<Item = &'static str> + use<>) {
        let first = self.views.lock().get(server).copied().unwrap_or(LOOKUP_VIEW);
        (first, DEFAULT_VIEWS.into_iter().filter(move |view| *view != first))
    }

    fn record(&self, server: &ServerName, view: &'static str) {
        self.views.lock().insert(server.clone(), view);
    }
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
    answered: &AnsweredViews,
) -> Result<DirectoryReading, DirectoryReadError> {
    let mut failure = DirectoryReadError { attempts: Vec::new() };
    for server in servers {
        match read_from_server(client, server, settings, sessions, answered).await {
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
    answered: &AnsweredViews,
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
    if !settings.view.trim().eq_ignore_ascii_case(LOOKUP_VIEW) {
        return read_view(&source, &server.name, settings, settings.view.trim()).await;
    }
    let (first, others) = answered.order_for(&server.name);
    let (mut view, mut result) = (first, read_view(&source, &server.name, settings, first).await);
    for other in others {
        // Only this answer means that a view is closed. A login page, or no answer, says nothing about the view.
        if !result.as_ref().is_err_and(ReadError::is_not_found) {
            break;
        }
        let next = read_view(&source, &server.name, settings, other).await;
        // A server that gives none of the views is reported with its answer for the hidden one.
        if other == LOOKUP_VIEW || !next.as_ref().is_err_and(ReadError::is_not_found) {
            (view, result) = (other, next);
        }
    }
    if result.is_ok() {
        answered.record(&server.name, view);
    }
    result
}

async fn read_view(
    source: &ViewSource<'_>,
    server: &ServerName,
    settings: &Cldbdir,
    name: &str,
) -> Result<DirectoryReading, ReadError> {
    let is_substitute = !name.eq_ignore_ascii_case(settings.view.trim());
    let layout = ColumnLayout { columns: &settings.columns, is_substitute };
    // Domino shows no document of a categorised view that is not expanded; a flat one has nothing to expand.
    let view = ViewRequest { database: &settings.database, name, format: settings.format, expand: true };
    let mut collector = Collector::new(layout);
    let summary = reader::read(source, &view, &mut collector).await?;
    let mut warnings = Vec::new();
    if is_substitute {
        let marks =
            if layout.ignores_marks() { ", without the marks, whose columns have numbers" } else { "" };
        warnings.push(format!(
            "{server}: {} has no accessible view `{}`, so `{name}` was read instead{marks}",
            settings.database, settings.view
        ));
    }
    Ok(collector.reading(server.clone(), settings, name, &summary, warnings))
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
        settings: &Cldbdir,
        view: &str,
        summary: &ReadSummary,
        mut warnings: Vec<String>,
    ) -> DirectoryReading {
        let database = &settings.database;
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
        DirectoryReading { builder: self.builder, from, view: view.to_owned(), warnings, truncated }
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
