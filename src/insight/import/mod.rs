//! A configuration of nginx or HAProxy as a commented `icm.yaml`, with a list of what has no counterpart. It is apart from the
//! command line, because it is a pure function of the text and of the files that the text includes.
//!
//! Each parser returns directives, each translator fills the same model, and `yaml` writes it. Every directive ends up in
//! the report exactly because the report, not the translators, goes through all of them at the end.

#[cfg(test)]
mod access_tests;
mod address;
mod directive;
mod files;
mod haproxy;
mod header_fields;
mod model;
mod nginx;
mod pattern;
mod report;
mod scalar;
#[cfg(test)]
mod tests;
mod tls_names;
mod verify;
mod yaml;

use std::path::Path;

pub use directive::ImportError;
pub use files::{DiskTree, ImportFiles};
pub use report::{ImportItem, ImportOutcome};

use directive::Directive;
use header_fields::CONNECTOR_HEADERS;
use model::{ImportModel, ImportedCluster, one_family};
use report::ImportReport;

/// The program whose configuration is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportFormat {
    /// Blocks in braces, directives that end with `;`.
    Nginx,
    /// Sections of lines without braces.
    Haproxy,
}

impl ImportFormat {
    /// The word of `--format`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
        }
    }

    /// The name for people.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
        }
    }

    /// By the content: which program's directives begin its lines.
    #[must_use]
    pub fn recognise(text: &str) -> Option<Self> {
        let (mut nginx, mut haproxy) = (0, 0);
        for line in text.lines().map(str::trim) {
            let mut words = line.split_whitespace();
            match (words.next().unwrap_or_default(), words.next()) {
                ("global" | "defaults", None) | ("frontend" | "backend" | "listen", Some(_))
                    if !line.ends_with([';', '{']) =>
                {
                    haproxy += 1;
                }
                ("http" | "server" | "upstream" | "location" | "events" | "stream", _)
                    if line.contains('{') =>
                {
                    nginx += 1;
                }
                ("http" | "server" | "events", None) => nginx += 1,
                ("listen" | "server_name" | "proxy_pass" | "worker_processes", _) if line.ends_with(';') => {
                    nginx += 1;
                }
                _ => {}
            }
        }
        match (nginx, haproxy) {
            (0, 0) => None,
            (n, h) if n >= h => Some(Self::Nginx),
            _ => Some(Self::Haproxy),
        }
    }
}

/// A configuration that was taken over.
#[derive(Clone, Debug)]
pub struct ImportedConfig {
    /// The program whose configuration was read.
    pub format: ImportFormat,
    /// The text of `icm.yaml`.
    pub yaml: String,
    /// What became of each directive, in the order of reading.
    pub items: Vec<ImportItem>,
}

impl ImportedConfig {
    /// The items with this outcome.
    pub fn with_outcome(&self, outcome: ImportOutcome) -> impl Iterator<Item = &ImportItem> {
        self.items.iter().filter(move |item| item.outcome == outcome)
    }
}

/// Reads a configuration. Without a format it is recognised by the content.
///
/// # Errors
/// If the text does not follow the grammar, is of no known kind, or names no servers.
pub fn import(
    path: &Path,
    format: Option<ImportFormat>,
    files: &dyn ImportFiles,
) -> Result<ImportedConfig, ImportError> {
    let shown = path.display().to_string();
    let text = files.read(path).map_err(|error| ImportError::Unreadable(shown.clone(), error.to_string()))?;
    let format = format
        .or_else(|| ImportFormat::recognise(&text))
        .ok_or_else(|| ImportError::Unrecognised(shown.clone()))?;
    let mut report = ImportReport::default();
    let (directives, mut model) = match format {
        ImportFormat::Nginx => nginx::import(path, &text, files, &mut report)?,
        ImportFormat::Haproxy => haproxy::import(path, &text, files, &mut report)?,
    };
    if model.clusters.is_empty() || model.listeners.is_empty() {
        return Err(ImportError::NoServers(shown));
    }
    model.clusters.iter_mut().for_each(give_connector_headers);
    one_family(&mut model);
    let items = report.finish(&directives);
    Ok(verify::finish(format, &shown, &model, items))
}

/// Header fields that Domino believes are a matter of each server here.
fn give_connector_headers(cluster: &mut ImportedCluster) {
    let is_mark = |path: &[String]| path.first().is_some_and(|key| key == CONNECTOR_HEADERS);
    let Some(value) = cluster.keys.get(&[CONNECTOR_HEADERS]).cloned() else { return };
    cluster.keys.0.retain(|(path, _)| !is_mark(path));
    for server in &mut cluster.servers {
        let _ = server.keys.set(&["connector_headers"], value.text(), &value.at);
    }
}

type Translated = Result<(Vec<Directive>, ImportModel), ImportError>;
