//! Which files the configuration of another ICM may name.
//!
//! The other ICM may be compromised. A password that its configuration names is sent to a server of its choice, and a
//! file that it names as a cache is overwritten. Paths are compared without links and dots. Files are compared by
//! device and inode too, because a hard link has a path of its own.

use std::path::{Component, Path, PathBuf};

use super::files::Files;
use super::value_error::ValueError;

/// The generated affinity key below `state_dir`.
pub const AFFINITY_KEY: &str = "affinity.key";
/// The restrictions of administrators below `state_dir`.
pub const RESTRICTIONS: &str = "restrictions.json";
/// A second copy of the restrictions, for when the first one is damaged.
pub const RESTRICTIONS_COPY: &str = "restrictions.json.copy";
/// Restrictions that could not be read are moved here.
pub const RESTRICTIONS_DAMAGED: &str = "restrictions.json.damaged";
/// Outages and servers that are CATCHING UP, below `state_dir`.
pub const CATCH_UP: &str = "catch-up.json";
/// A second copy of them, for when the first one is damaged.
pub const CATCH_UP_COPY: &str = "catch-up.json.copy";
/// Outages that could not be read are moved here.
pub const CATCH_UP_DAMAGED: &str = "catch-up.json.damaged";

/// Account, certificates and keys from ACME, a directory below `state_dir`.
pub const ACME_DIR: &str = "acme";

/// The progress of `icm maintain`, a directory below `state_dir`.
pub const MAINTENANCE_DIR: &str = "maintenance";

/// The files that this ICM keeps in its `state_dir`.
const STATE_FILES: [&str; 9] = [
    AFFINITY_KEY,
    RESTRICTIONS,
    RESTRICTIONS_COPY,
    RESTRICTIONS_DAMAGED,
    CATCH_UP,
    CATCH_UP_COPY,
    CATCH_UP_DAMAGED,
    ACME_DIR,
    MAINTENANCE_DIR,
];

/// What kind of file a value names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// A token, a password or a key, which is read.
    Secret,
    /// A certificate or a list of databases, which is read and not secret.
    Public,
    /// A cache, a log or a PID file, which is written.
    Written,
    /// A directory; rules apply to the files in it.
    Root,
}

/// A file that this ICM itself uses.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnFile {
    /// The key that names it, or a description.
    what: String,
    path: PathBuf,
    is_public: bool,
}

/// Which files another ICM's configuration may name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FileAccess {
    /// `allow_files_under`: files below may be read.
    pub read_under: Vec<PathBuf>,
    /// `allow_caches_under`, else `state_dir`: caches may be written below.
    pub write_under: Vec<PathBuf>,
    /// Files that must never be written, and only read if they are public, even below these directories.
    pub own: Vec<OwnFile>,
}

impl OwnFile {
    pub(super) fn new(what: &str, path: &Path, named: Named) -> Self {
        Self { what: what.to_owned(), path: path.to_owned(), is_public: named == Named::Public }
    }

    fn is(&self, files: &dyn Files, real: &Path) -> bool {
        let identity = files.identity(real);
        let own = files.real_path(&self.path).unwrap_or_else(|_| self.path.clone());
        real.starts_with(own) || (identity.is_some() && identity == files.identity(&self.path))
    }
}

/// The first file below a folder that only this ICM may read: a secret, or one that it writes.
pub(super) fn secret_below<'o>(own: &'o [OwnFile], files: &dyn Files, folder: &Path) -> Option<&'o str> {
    let real = |path: &Path| files.real_path(path).unwrap_or_else(|_| path.to_owned());
    let folder = real(folder);
    own.iter().find(|own| !own.is_public && real(&own.path).starts_with(&folder)).map(|own| own.what.as_str())
}

impl FileAccess {
    /// Protects the files that this ICM keeps in its `state_dir`.
    pub fn protect_state(&mut self, state_dir: Option<&Path>) {
        let Some(dir) = state_dir else { return };
        for name in STATE_FILES {
            let file = OwnFile::new("file in `state_dir`", &dir.join(name), Named::Secret);
            if !self.own.contains(&file) {
                self.own.push(file);
            }
        }
    }

    /// The real path of a file that may be used in this way.
    pub(super) fn permitted(
        &self,
        files: &dyn Files,
        path: &Path,
        named: Named,
    ) -> Result<PathBuf, ValueError> {
        let written = named == Named::Written;
        let (roots, key, verb) = match written {
            true => (&self.write_under, "allow_caches_under", "written"),
            false => (&self.read_under, "allow_files_under", "read"),
        };
        let refused = |why: &str| {
            ValueError::new(format!(
                "`{}` may not be named by another ICM's configuration{why}",
                path.display()
            ))
        };
        let plain = path.is_absolute()
            && path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
        let real = files.real_path(path).ok().filter(|_| plain && roots.iter().any(|r| path.starts_with(r)));
        // A link must not lead out of the allowed directories.
        let inside = |real: &PathBuf| {
            roots.iter().filter_map(|root| files.real_path(root).ok()).any(|root| real.starts_with(root))
        };
        let Some(real) = real.filter(inside) else {
            let list: Vec<_> = roots.iter().map(|p| p.display().to_string()).collect();
            let list = if list.is_empty() { "no directory at all".to_owned() } else { list.join(", ") };
            return Err(refused("").hint(format!(
                "only files under {list} may be {verb}, by absolute paths (get_configuration_from.{key})"
            )));
        };
        let own = self.own.iter().filter(|own| written || !own.is_public).find(|own| own.is(files, &real));
        match own {
            Some(own) => Err(refused(&format!(": it is this ICM's own {}", own.what))
                .hint("files of this ICM are neither read nor replaced for another one")),
            None => Ok(real),
        }
    }
}
