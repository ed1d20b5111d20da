//! One YAML file in, [`Settings`] or every error with its place out.
//!
//! In: the file, and the files that it names (secrets, certificates, directory files). Out: settings
//! that need no further check and warnings, or all errors of one run. It never contacts a server and
//! never writes a file.
//!
//! The text is parsed twice: into values (`serde_yaml`) and into places (`tree`). The `reader` walks
//! both side by side, so that a message can point at the character it is about.

use std::path::Path;
use std::sync::Arc;

use serde_yaml::Value;

mod availability;
mod cluster;
mod directory;
mod directory_entries;
mod directory_file;
mod directory_json;
mod document;
mod error;
pub mod file_access;
mod files;
mod keys;
mod not_yet;
mod pingora;
mod policy;
mod reader;
mod secrets;
mod servers;
pub mod settings;
#[cfg(test)]
mod tests;
mod tls;
mod top;
mod tree;
mod values;

pub use cluster::unread;
pub use error::{ConfigError, ConfigErrors, Place, Warning};
pub use file_access::FileAccess;
pub use files::{Content, Disk, Files};
pub use settings::Settings;

use document::{Document, Load, open};
use file_access::{Named, OwnFile};
use reader::Item;
use settings::Cluster;
use values::Problem;

/// A configuration without errors.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the program runs by.
    pub settings: Settings,
    /// What an administrator should know all the same.
    pub warnings: Vec<Warning>,
}

/// The clusters of another ICM, without errors.
#[derive(Clone, Debug)]
pub struct LoadedClusters {
    /// In its file's order; at least one.
    pub clusters: Vec<Arc<Cluster>>,
    /// As [`Settings::clusters_yaml`].
    pub yaml: Arc<str>,
    /// What an administrator should know all the same.
    pub warnings: Vec<Warning>,
}

/// Reads a configuration file and all files that it names.
///
/// # Errors
/// Everything that is wrong, with places.
pub fn load(path: &Path) -> Result<Loaded, ConfigErrors> {
    let content = Disk
        .read(path, document::MAX_SIZE)
        .map_err(|e| whole_file(path, format!("cannot read the file: {e}")))?;
    match String::from_utf8(content.octets) {
        Ok(text) => load_text(path, &text),
        Err(error) => {
            let good = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
            let line = good.iter().filter(|b| **b == b'\n').count() + 1;
            Err(whole_file(path, format!("is not UTF-8 text, see line {line}")))
        }
    }
}

/// An error without a line.
fn whole_file(path: &Path, message: String) -> ConfigErrors {
    let file = path.to_owned();
    let (line, column, key, hint, source_line) = (0, 0, String::new(), None, None);
    ConfigErrors(vec![ConfigError { file, line, column, key, message, hint, source_line }])
}

/// As [`load`] for a text that is at hand; `file` is where it came from.
///
/// # Errors
/// Everything that is wrong, with places.
pub fn load_text(file: &Path, text: &str) -> Result<Loaded, ConfigErrors> {
    load_with(file, text, &Disk)
}

/// As [`load_text`] with other files than those on disk.
///
/// # Errors
/// Everything that is wrong, with places.
pub fn load_with(file: &Path, text: &str, files: &dyn Files) -> Result<Loaded, ConfigErrors> {
    let load = Load::new(files, file);
    let read = open(&load, file, text);
    let settings = read.as_ref().and_then(|(document, value)| settings(document, value));
    let clusters_yaml = read.as_ref().and_then(|(_, value)| clusters_yaml(value));
    let warnings = finish(load, file)?;
    match settings {
        Some(settings) => Ok(Loaded { settings: Settings { clusters_yaml, ..settings }, warnings }),
        None => Err(whole_file(file, "cannot be understood".to_owned())),
    }
}

/// Reads the `clusters` that another ICM serves. Other top level keys are ignored, and only files
/// that `access` permits may be named. `origin` stands for the file in messages.
///
/// # Errors
/// Everything that is wrong, with places in the text that came.
pub fn load_clusters(
    origin: &Path,
    text: &str,
    access: &FileAccess,
    files: &dyn Files,
) -> Result<LoadedClusters, ConfigErrors> {
    let mut load = Load::new(files, Path::new(""));
    load.access = Some(access);
    let read = open(&load, origin, text);
    let clusters = read.as_ref().map_or_else(Vec::new, |(document, value)| {
        let root = Item::root(document, value, "");
        if !value.is_mapping() {
            root.error(
                Problem::new("is not the configuration of an ICM").hint("expected is a map with `clusters:`"),
            );
            return Vec::new();
        }
        cluster::clusters(&root.map_quietly(keys::TOP).get("clusters"))
    });
    let yaml = read.as_ref().and_then(|(_, value)| clusters_yaml(value));
    let warnings = finish(load, origin)?;
    match yaml {
        Some(yaml) => Ok(LoadedClusters { clusters, yaml, warnings }),
        None => Err(whole_file(origin, "cannot be understood".to_owned())),
    }
}

/// `clusters:` as it would be written without aliases and merge keys.
fn clusters_yaml(value: &Value) -> Option<Arc<str>> {
    let clusters = value.get("clusters").filter(|clusters| !clusters.is_null())?;
    serde_yaml::to_string(clusters).ok().map(Arc::from)
}

/// The warnings, or all errors in the order of files and lines.
fn finish(load: Load<'_>, file: &Path) -> Result<Vec<Warning>, ConfigErrors> {
    let mut errors = load.errors.into_inner();
    if errors.is_empty() {
        let mut warnings = load.warnings.into_inner();
        warnings.sort_by_key(|w| (w.place.file != file, w.place.line));
        return Ok(warnings);
    }
    errors.sort_by(|a, b| {
        let order = |e: &ConfigError| (e.file != file, e.line, e.column);
        order(a).cmp(&order(b)).then_with(|| a.file.cmp(&b.file))
    });
    Err(ConfigErrors(errors))
}

/// The whole file. `None` only after an error was noted.
fn settings(document: &Document<'_>, value: &Value) -> Option<Settings> {
    let root = Item::root(document, value, "");
    if !root.is_present() {
        root.error(Problem::new("the file is empty").hint("see conf/minimal.yaml for the least it needs"));
        return None;
    }
    let top = root.map(keys::TOP);
    if !value.is_mapping() {
        return None;
    }
    let pingora::PingoraSettings { server_conf, pid_file, upstream_ca } =
        pingora::settings(&top.get("pingora"));
    let listeners = top::listeners(&top.get("listeners"));
    let admin = top::admin(&top.get("admin"));
    let statpub = top::statpub(&top.get("statpub"));
    top::check_addresses(&top, &listeners, &admin, statpub.as_ref());
    let pages_item = top.get("pages_dir");
    let pages_dir = pages_item.path(Named::Public);
    if let Some(pages) = pages_dir.as_ref().filter(|p| !document.load.files.is_dir(p)) {
        pages_item.error(Problem::new(format!("there is no directory {}", pages.display())));
    }
    let (follow_item, clusters_item) = (top.get("get_configuration_from"), top.get("clusters"));
    let state_dir = top.get("state_dir").state_dir();
    let mut follow = top::follow(&follow_item, state_dir.clone());
    let clusters = if !follow_item.is_present() || clusters_item.value.is_some() {
        cluster::clusters(&clusters_item)
    } else {
        Vec::new()
    };
    if follow_item.is_present() && clusters_item.value.is_some() {
        follow_item.error_at_key(
            Problem::new("stands beside `clusters`")
                .hint("the clusters come from the other ICM, keep one of the two"),
        );
    }
    let access_log = top::access_log(&top.get("access_log"));
    if let Some(follow) = &mut follow {
        follow.files.own = document.load.own.take();
        follow.files.own.push(OwnFile::new("configuration file", document.file, Named::Secret));
        follow.files.protect_state(state_dir.as_deref());
    }
    let settings = Settings {
        file: document.file.to_owned(),
        pingora: Arc::new(server_conf),
        upstream_ca,
        pid_file,
        listeners,
        state_dir,
        limits: top::limits(&top.get("limits")),
        pages_dir,
        admin,
        statpub,
        access_log,
        clusters,
        clusters_yaml: None,
        follow,
    };
    if !document.load.failed() {
        top::cross_check(&top, &settings);
        not_yet::warn(&top);
    }
    Some(settings)
}
