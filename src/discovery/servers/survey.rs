//! Reads the servers of all clusters from the view over the Server documents, for an administrator who has no configuration
//! yet. The reading of a running balancer is about one cluster, whose name it knows.

use std::collections::HashSet;

use super::{Collector, MAX_SERVERS, read_rows};
use crate::config::settings::{NamesColumns, NamesView, Server};
use crate::discovery::domino::fault::single_line;
use crate::discovery::domino::view_entries::Row;
use crate::discovery::domino::view_entries::reader::RowSink;
use crate::discovery::domino::{DominoClient, LoginSessions};

/// The servers in the view, with the name of the cluster of each.
#[derive(Debug, Default)]
pub struct ServerSurvey {
    /// In the order of the view; the name of the cluster is empty for a server without one.
    pub servers: Vec<(String, Server)>,
    /// One for each row that cannot be used.
    pub warnings: Vec<String>,
}

/// # Errors
/// Why the view cannot be read.
pub async fn read(
    client: &DominoClient,
    settings: &NamesView,
    sessions: &LoginSessions,
) -> Result<ServerSurvey, String> {
    let mut reason = "no server to ask".to_owned();
    for url in &settings.from {
        let mut collector = SurveyCollector::new(&settings.columns);
        match read_rows(client, url, settings, &settings.view, sessions, &mut collector).await {
            Ok(_) => return Ok(collector.survey),
            Err(error) => reason = error,
        }
    }
    Err(reason)
}

struct SurveyCollector<'a> {
    columns: &'a NamesColumns,
    survey: ServerSurvey,
    names: HashSet<String>,
}

impl<'a> SurveyCollector<'a> {
    fn new(columns: &'a NamesColumns) -> Self {
        Self { columns, survey: ServerSurvey::default(), names: HashSet::new() }
    }
}

impl RowSink for SurveyCollector<'_> {
    fn reset(&mut self) {
        *self = Self::new(self.columns);
    }

    fn accept_row(&mut self, row: Row) {
        if self.survey.servers.len() >= MAX_SERVERS || self.survey.warnings.len() >= MAX_SERVERS {
            return;
        }
        let cluster = row.text(&self.columns.cluster).to_owned();
        let mut one = Collector::new(self.columns, &cluster);
        let read = one.server(&row);
        self.survey.warnings.append(&mut one.warnings);
        match read {
            Ok(Some(server)) if self.names.insert(server.name.folded().to_owned()) => {
                self.survey.servers.push((cluster, server));
            }
            Ok(_) => {}
            Err(reason) => {
                self.survey.warnings.push(format!("row {} skipped: {reason}", single_line(&row.position)));
            }
        }
    }
}
