//! How files of the configuration are read: the file itself and what it includes, never anything outside its directory.
//! A trait, so that the translators stay pure and tests need no files.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// A configuration is smaller; a larger file is something else.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// What the translators need from the file system.
pub trait ImportFiles {
    /// The text of a file.
    ///
    /// # Errors
    /// If it cannot be read, is too large or is no text.
    fn read(&self, path: &Path) -> io::Result<String>;
    /// The names in a directory, sorted.
    ///
    /// # Errors
    /// If it cannot be read.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;
    /// The path without links and dots.
    ///
    /// # Errors
    /// If there is no such file.
    fn real_path(&self, path: &Path) -> io::Result<PathBuf>;
}

/// The real file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskTree;

impl ImportFiles for DiskTree {
    fn read(&self, path: &Path) -> io::Result<String> {
        // Opening a named pipe would wait for a writer.
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(io::Error::other(format!("it is larger than {MAX_FILE_BYTES} bytes")));
        }
        let text = String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
        text.ok_or_else(|| {
            io::Error::other("it is not a text in UTF-8; `iconv -f latin1 -t utf-8` converts other texts")
        })
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            names.extend(entry?.file_name().into_string());
        }
        names.sort();
        Ok(names)
    }

    fn real_path(&self, path: &Path) -> io::Result<PathBuf> {
        std::fs::canonicalize(path)
    }
}

/// Files that a pattern of an `include` denotes: `*` and `?` stand for characters of one name.
pub(crate) fn matching(files: &dyn ImportFiles, pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for part in pattern.components() {
        let name = part.as_os_str().to_string_lossy();
        if !name.contains(['*', '?']) {
            found.iter_mut().for_each(|path| path.push(part));
            continue;
        }
        let mut next = Vec::new();
        for directory in &found {
            let names = files.list(directory).unwrap_or_default();
            let hidden = |entry: &String| entry.starts_with('.') && !name.starts_with('.');
            let fits = names.into_iter().filter(|entry| !hidden(entry) && matches_glob(&name, entry));
            next.extend(fits.map(|entry| directory.join(entry)));
        }
        found = next;
    }
    found
}

fn matches_glob(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || Some(c) == name.get(n) => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((at, from)) = star else { return false };
                star = Some((at, from + 1));
                p = at + 1;
                n = from + 1;
            }
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|c| *c == '*'))
}

/// A name of the configuration as an absolute path, below this directory if it is relative.
pub(crate) fn absolute(directory: &Path, name: &str) -> String {
    directory.join(name).components().collect::<PathBuf>().display().to_string()
}

/// Files in memory, for tests.
#[cfg(test)]
pub(crate) struct MemoryTree(pub std::collections::BTreeMap<PathBuf, String>);

#[cfg(test)]
impl MemoryTree {
    pub fn of(files: &[(&str, &str)]) -> Self {
        Self(files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect())
    }
}

#[cfg(test)]
impl ImportFiles for MemoryTree {
    fn read(&self, path: &Path) -> io::Result<String> {
        self.0.get(path).cloned().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let below = self.0.keys().filter_map(|path| path.strip_prefix(directory).ok());
        let mut names: Vec<String> =
            below.filter_map(|rest| Some(rest.iter().next()?.to_str()?.to_owned())).collect();
        names.dedup();
        if names.is_empty() { Err(io::Error::from(io::ErrorKind::NotFound)) } else { Ok(names) }
    }

    fn real_path(&self, path: &Path) -> io::Result<PathBuf> {
        if self.0.contains_key(path) { Ok(path.to_owned()) } else { Err(io::ErrorKind::NotFound.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_denotes_the_names_of_one_directory() {
        let files = MemoryTree::of(&[
            ("/etc/nginx/nginx.conf", ""),
            ("/etc/nginx/conf.d/a.conf", ""),
            ("/etc/nginx/conf.d/b.conf", ""),
            ("/etc/nginx/conf.d/b.conf.bak", ""),
            ("/etc/nginx/conf.d/.hidden.conf", ""),
        ]);
        let found = matching(&files, Path::new("/etc/nginx/conf.d/*.conf"));
        assert_eq!(found, [PathBuf::from("/etc/nginx/conf.d/a.conf"), "/etc/nginx/conf.d/b.conf".into()]);
        assert!(matching(&files, Path::new("/etc/nginx/*/x?.conf")).is_empty());
        assert!(matches_glob("*a*b", "xaxxb") && !matches_glob("a?", "a") && matches_glob("**", ""));
    }
}
