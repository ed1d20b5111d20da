//! Reading the Cluster Database Directory from any member that answers.
//!
//! In: members in the order to ask them, the settings of the source. Out: a draft of it, from whom it
//! is, and what was doubtful. Marks that no column is configured for are not read, and every entry
//! is in service then. It never drops duplicates (a recreated directory has them for a while:
//! <https://help.hcl-software.com/domino/11.0.1/admin/admn_creatinganewclusterdatabasedirectory_t.html>) and never
//! decides whether a reading is believed.

use std::net::SocketAddr;

use super::columns::{ColumnLayout, RowError, parse_entry};
use crate::config::settings::Cldbdir;
use crate::discovery::domino::view_entries::reader::{
    self, ReadError, ReadTimeLimit, RowSink, ViewRequest, ViewSource,
};
use crate::discovery::domino::view_entries::{ReadSummary, Row};
use crate::discovery::domino::{DominoClient, LoginSessions};
use crate::domain::cluster::ServerName;
use crate::domain::directory::index::DirectoryBuilder;

/// The hidden lookup view that HCL's own code reads.
const DEFAULT_LOOKUP_VIEW: &str = "($Pathname)";
/// Views that everybody sees, where the hidden one is not to be had.
const FALLBACK_VIEWS: [&str; 2] = ["Databases by Pathname", "Databases by Replica ID"];
/// A directory of more entries is taken for a fault.
const MAX_ENTRIES: usize = 5_000_000;
/// Bad rows that are described one by one.
const MAX_EXAMPLES: usize = 3;

/// Where a member can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddress {
    /// Its Domino name.
    pub name: ServerName,
    /// Host header and SNI.
    pub hostname: String,
    /// Resolved.
    pub address: SocketAddr,
    /// Speak TLS.
    pub https: bool,
}

/// A complete reading.
#[derive(Debug)]
pub struct DirectoryReading {
    /// What was read, duplicates included.
    pub builder: DirectoryBuilder,
    /// Who answered.
    pub from: ServerName,
    /// For log, `check` and status page.
    pub warnings: Vec<String>,
    /// Rows that were no entries.
    #[cfg(test)]
    pub bad_rows: usize,
    /// The view says itself that it has more: why this is not the whole directory.
    pub truncated: Option<String>,
}

/// Nobody could be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cluster directory cannot be read from any member{}", .attempts.iter().map(|(name, error)| format!("; {name}: {error}")).collect::<String>())]
pub struct DirectoryReadError {
    /// In the order they were asked; empty if there was nobody to ask.
    pub attempts: Vec<(ServerName, ReadError)>,
}

/// Asks one member after the other; the first complete reading counts.
///
/// # Errors
/// When none gives one, with each member's reason.
pub async fn read_directory(
    client: &DominoClient,
    servers: &[ServerAddress],
    settings: &Cldbdir,
    sessions: &LoginSessions,
) -> Result<DirectoryReading, DirectoryReadError> {
    let mut failure = DirectoryReadError { attempts: Vec::new() };
    for member in servers {
        match read_from_server(client, member, settings, sessions).await {
            Ok(mut reading) => {
                let skipped = failure.attempts.iter().map(|(name, error)| format!("{name}: {error}"));
                reading.warnings.extend(skipped);
                return Ok(reading);
            }
            Err(error) => failure.attempts.push((member.name.clone(), error)),
        }
    }
    Err(failure)
}

async fn read_from_server(
    client: &DominoClient,
    member: &ServerAddress,
    settings: &Cldbdir,
    sessions: &LoginSessions,
) -> Result<DirectoryReading, ReadError> {
    let source = ViewSource {
        client,
        address: member.address,
        https: member.https,
        hostname: &member.hostname,
        base: "",
        auth: &settings.auth,
        sessions,
        allowance: ReadTimeLimit::for_refresh_interval(settings.refresh),
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
            "{}: {} has no view `{}` for us, `{}` was read instead",
            member.name, settings.database, settings.view, view.name
        ));
    }
    Ok(collector.reading(member.name.clone(), &settings.database, &summary, warnings))
}

struct Collector<'a> {
    layout: ColumnLayout<'a>,
    builder: DirectoryBuilder,
    bad: usize,
    too_many: bool,
    examples: Vec<String>,
}

impl<'a> Collector<'a> {
    fn new(layout: ColumnLayout<'a>) -> Self {
        Self { layout, builder: DirectoryBuilder::default(), bad: 0, too_many: false, examples: Vec::new() }
    }

    fn reading(
        self,
        from: ServerName,
        database: &str,
        summary: &ReadSummary,
        mut warnings: Vec<String>,
    ) -> DirectoryReading {
        if self.bad > 0 {
            let more = if self.bad > self.examples.len() { ", ..." } else { "" };
            let examples = self.examples.join(", ");
            warnings.push(format!("{from}: {} bad rows in {database}: {examples}{more}", self.bad));
        }
        let truncated = if self.too_many {
            Some(format!("only {MAX_ENTRIES} entries are taken"))
        } else {
            summary.truncated.clone()
        };
        for reason in truncated.iter().chain(&summary.inconsistency) {
            warnings.push(format!("{from}: {database} may be incomplete: {reason}"));
        }
        DirectoryReading {
            builder: self.builder,
            from,
            warnings,
            #[cfg(test)]
            bad_rows: self.bad,
            truncated,
        }
    }

    fn bad(&mut self, row: &Row, reason: &RowError) {
        self.bad += 1;
        if self.examples.len() < MAX_EXAMPLES {
            let place = if row.position.is_empty() { "?" } else { &row.position };
            self.examples
                .push(format!("row {}: {reason}", crate::discovery::domino::fault::single_line(place)));
        }
    }
}

impl RowSink for Collector<'_> {
    fn reset(&mut self) {
        self.builder = DirectoryBuilder::default();
        self.examples.clear();
        self.bad = 0;
        self.too_many = false;
    }

    fn accept_row(&mut self, row: Row) {
        match parse_entry(&row, &self.layout) {
            Ok(_) if self.builder.len() >= MAX_ENTRIES => self.too_many = true,
            Ok(entry) => self.builder.add(&entry),
            Err(reason) => self.bad(&row, &reason),
        }
    }
}

#[cfg(test)]
mod tests;
