//! Which files the configuration of another ICM may name: where it may read, where it may keep caches, and which files
//! of this ICM it may never touch.
//!
//! The other ICM may be in hostile hands. What it reads here can be sent to a server that it names, such as a password,
//! and what it names as a cache is replaced. Paths are compared without links and dots, and files by device and inode
//! too, as a hard link has a path of its own.

use std::path::{Component, Path, PathBuf};

use super::files::Files;
use super::values::Problem;

/// The generated affinity key below `state_dir`.
pub const AFFINITY_KEY: &str = "affinity.key";
/// The restrictions of administrators below `state_dir`.
pub const RESTRICTIONS: &str = "restrictions.json";
/// A second copy of the restrictions, for when the first one is damaged.
pub const RESTRICTIONS_COPY: &str = "restrictions.json.copy";
/// Restrictions that could not be read, put aside.
pub const RESTRICTIONS_DAMAGED: &str = "restrictions.json.damaged";

/// What a value of the configuration names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// A token, a password or a key: it is read.
    Secret,
    /// A certificate or a list of databases: it is read, and others may read it too.
    Public,
    /// A cache, a log or a pid file: it is written.
    Written,
    /// A directory of files that have rules of their own.
    Root,
}

/// A file of this ICM.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnFile {
    /// The key that names it, or what it is.
    what: String,
    path: PathBuf,
    is_public: bool,
}

/// What another ICM's configuration may name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FileAccess {
    /// `allow_files_under`: files there may be read.
    pub read_under: Vec<PathBuf>,
    /// `allow_caches_under`, else `state_dir`: caches may be kept there.
    pub write_under: Vec<PathBuf>,
    /// Whatever the directories say, these may not be replaced, and only public ones may be read.
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

impl FileAccess {
    /// Protects what a balancer with this `state_dir` keeps there.
    pub fn protect_state(&mut self, state_dir: Option<&Path>) {
        let Some(dir) = state_dir else { return };
        for name in [AFFINITY_KEY, RESTRICTIONS, RESTRICTIONS_COPY, RESTRICTIONS_DAMAGED] {
            let file = OwnFile::new("file in `state_dir`", &dir.join(name), Named::Secret);
            if !self.own.contains(&file) {
                self.own.push(file);
            }
        }
    }

    /// The real path of a file that may be used so.
    pub(super) fn permitted(&self, files: &dyn Files, path: &Path, named: Named) -> Result<PathBuf, Problem> {
        let written = named == Named::Written;
        let (roots, key, verb) = match written {
            true => (&self.write_under, "allow_caches_under", "written"),
            false => (&self.read_under, "allow_files_under", "read"),
        };
        let refused = |why: &str| {
            Problem::new(format!("`{}` may not be named by another ICM's configuration{why}", path.display()))
        };
        let plain = path.is_absolute()
            && path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
        let real = files.real_path(path).ok().filter(|_| plain && roots.iter().any(|r| path.starts_with(r)));
        // No link leads out.
        let inside = |real: &PathBuf| {
            roots.iter().filter_map(|root| files.real_path(root).ok()).any(|root| real.starts_with(root))
        };
        let Some(real) = real.filter(inside) else {
            let list: Vec<_> = roots.iter().map(|p| p.display().to_string()).collect();
            let list = if list.is_empty() { "no directory at all".to_owned() } else { list.join(", ") };
            return Err(refused("").hint(format!(
                "only files under {list} may be {verb}, by their absolute names (get_configuration_from.{key})"
            )));
        };
        let own = self.own.iter().filter(|own| written || !own.is_public).find(|own| own.is(files, &real));
        match own {
            Some(own) => Err(refused(&format!(": it is this ICM's own {}", own.what))
                .hint("files of this ICM itself are neither read nor replaced for another one")),
            None => Ok(real),
        }
    }
}
