//! One YAML file in, `Settings` out, or every error with its file, line and column.
//!
//! Settings need no further check. Loading contacts no server and writes no file. `document` opens the text, `reader` reads
//! single values of it, and each section of the file has a module that turns its values into settings.

use std::path::{Path, PathBuf};
use std::sync::Arc;

mod access;
mod acme;
mod auth;
mod availability;
mod cache;
mod cluster;
mod companion;
mod compression;
mod directory;
mod directory_entries;
mod directory_file;
mod directory_json;
mod document;
mod error;
mod facts;
pub(crate) mod file_access;
mod files;
mod freshness;
mod header_edits;
mod home_mail;
mod ignored_keys;
mod keys;
mod pingora;
mod policy;
mod pools;
mod reader;
mod request_match;
mod route_actions;
mod routes;
mod secrets;
mod servers;
pub mod settings;
mod sites;
#[cfg(test)]
mod tests;
mod tls;
mod tls_protocol;
mod top;
mod tree;
mod upstream;
mod value_error;
mod values;

pub use error::{ConfigError, ConfigErrors, Location, Warning};
pub use facts::{FactSources, facts, unread};
pub use file_access::FileAccess;
pub use files::{Content, Disk, Files};
pub use settings::Settings;

use document::{Document, Load, open};
use file_access::{Named, OwnFile};
use reader::Item;
use settings::ClusterSettings;
use tree::Node;
use value_error::ValueError;

/// A configuration without errors.
#[derive(Clone, Debug)]
pub struct LoadedConfig {
    /// The settings of this process.
    pub settings: Settings,
    /// What an administrator should know nevertheless.
    pub warnings: Vec<Warning>,
}

/// The clusters of another ICM's configuration, without errors.
#[derive(Clone, Debug)]
pub struct LoadedClusters {
    /// In the order of its file; at least one.
    pub clusters: Vec<Arc<ClusterSettings>>,
    /// The same as YAML, like [`Settings::clusters_yaml`].
    pub yaml: Arc<str>,
    /// What an administrator should know nevertheless.
    pub warnings: Vec<Warning>,
}

/// Reads a configuration file and all files that it names.
///
/// # Errors
/// Everything that is wrong.
pub fn load(path: &Path) -> Result<LoadedConfig, ConfigErrors> {
    let content = Disk
        .read(path, document::MAX_SIZE)
        .map_err(|e| whole_file(path, format!("cannot read the file: {e}")))?;
    match String::from_utf8(content.bytes) {
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

/// Like [`load`], for the text of `file`.
///
/// # Errors
/// Everything that is wrong.
pub fn load_text(file: &Path, text: &str) -> Result<LoadedConfig, ConfigErrors> {
    load_with(file, text, &Disk)
}

/// Like [`load_text`], with other files than those on disk.
///
/// # Errors
/// Everything that is wrong.
pub fn load_with(file: &Path, text: &str, files: &dyn Files) -> Result<LoadedConfig, ConfigErrors> {
    let load = Load::new(files, file);
    let read = open(&load, file, text);
    let settings = read.as_ref().and_then(|(document, value)| settings(document, value));
    let clusters_yaml = read.as_ref().and_then(|(_, value)| clusters_yaml(value));
    let warnings = finish(load, file)?;
    match settings {
        Some(settings) => Ok(LoadedConfig { settings: Settings { clusters_yaml, ..settings }, warnings }),
        None => Err(whole_file(file, "cannot be read".to_owned())),
    }
}

/// Reads the `clusters` of another ICM's configuration and ignores its other keys. Only files that `access` permits are
/// read. `origin` is the file in messages.
///
/// # Errors
/// Everything that is wrong, with positions in this text.
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
        if !root.is_map() {
            root.error(
                ValueError::new("is not the configuration of an ICM")
                    .hint("a map with `clusters:` is expected"),
            );
            return Vec::new();
        }
        cluster::clusters(&root.map_quietly(keys::TOP).get("clusters"))
    });
    let yaml = read.as_ref().and_then(|(_, value)| clusters_yaml(value));
    let warnings = finish(load, origin)?;
    match yaml {
        Some(yaml) => Ok(LoadedClusters { clusters, yaml, warnings }),
        None => Err(whole_file(origin, "cannot be read".to_owned())),
    }
}

/// `clusters` without aliases and merge keys.
fn clusters_yaml(root: &Node) -> Option<Arc<str>> {
    let clusters =
        &root.get("clusters").filter(|entry| !matches!(entry.value.content, tree::Content::Null))?.value;
    serde_yaml::to_string(clusters).ok().map(Arc::from)
}

/// The warnings, or all errors in the order of files and lines.
fn finish(load: Load<'_>, file: &Path) -> Result<Vec<Warning>, ConfigErrors> {
    let mut errors = load.errors.into_inner();
    if errors.is_empty() {
        let mut warnings = load.warnings.into_inner();
        warnings.sort_by_key(|w| (w.location.file != file, w.location.line));
        return Ok(warnings);
    }
    errors.sort_by(|a, b| {
        let order = |e: &ConfigError| (e.file != file, e.line, e.column);
        order(a).cmp(&order(b)).then_with(|| a.file.cmp(&b.file))
    });
    Err(ConfigErrors(errors))
}

/// `None` only after an error was noted.
fn settings(document: &Document<'_>, value: &Node) -> Option<Settings> {
    let root = Item::root(document, value, "");
    if !root.is_present() {
        root.error(ValueError::new("the file is empty").hint("start from conf/minimal.yaml"));
        return None;
    }
    let top = root.map(keys::TOP);
    if !root.is_map() {
        return None;
    }
    let pingora::PingoraSettings { server_conf, pid_file, upstream_ca } =
        pingora::settings(&top.get("pingora"));
    let mut listeners = top::listeners(&top.get("listeners"));
    let admin = top::admin(&top.get("admin"));
    let statpub = top::statpub(&top.get("statpub"));
    top::check_addresses(&top, &listeners, &admin, statpub.as_ref());
    let pages_dir = pages_dir(&top.get("pages_dir"));
    let (follow_item, clusters_item) = (top.get("get_configuration_from"), top.get("clusters"));
    let state_dir = top.get("state_dir").state_dir();
    let mut follow = top::follow(&follow_item, state_dir.clone());
    acme::cross_check(&top, &mut listeners, state_dir.as_deref(), follow.as_ref());
    let clusters = if !follow_item.is_present() || clusters_item.value.is_some() {
        cluster::clusters(&clusters_item)
    } else {
        Vec::new()
    };
    if follow_item.is_present() && clusters_item.value.is_some() {
        follow_item.error_at_key(
            ValueError::new("cannot be used together with `clusters`")
                .hint("remove one of them: the clusters come from this file or from the other ICM"),
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
        site: top.get("site").site(),
        listeners,
        state_dir,
        limits: top::limits(&top.get("limits")),
        pages_dir,
        admin,
        statpub,
        access_log,
        fast_path: top::fast_path(&top.get("proxy")),
        cache: cache::cache(&top.get("cache")),
        clusters,
        clusters_yaml: None,
        follow,
    };
    if !document.load.failed() {
        top::cross_check(&top, &settings);
        ignored_keys::warn(&top);
        sites::check(&top, &settings);
    }
    Some(settings)
}

fn pages_dir(item: &Item<'_>) -> Option<PathBuf> {
    let dir = item.path(Named::Public)?;
    if !item.doc.load.files.is_dir(&dir) {
        item.error(ValueError::new(format!("there is no directory {}", dir.display())));
    }
    Some(dir)
}
