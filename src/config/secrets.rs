//! Token, password and key files, read once at load.
//!
//! In: the value that names a file. Out: its secret, without the line end. A file that others may
//! read is refused. It never puts a secret into a message.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file_access::{AFFINITY_KEY, Named};
use super::files::Content;
use super::reader::Item;
use super::settings::Secret;
use super::values::Problem;

/// Largest secret file.
const SECRET: u64 = 64 << 10;
/// Shortest key that signs affinity cookies, in octets.
const SHORTEST_KEY: usize = 16;

impl Item<'_> {
    /// Reads the file that this value names.
    pub(super) fn file(&self, named: Named, limit: u64) -> Option<(PathBuf, Content)> {
        let path = self.path(named)?;
        match self.doc.load.files.read(&path, limit) {
            Ok(content) => Some((path, content)),
            Err(error) => {
                self.error(
                    Problem::new(format!("cannot read {}: {error}", path.display()))
                        .hint("the file is read when the configuration is loaded"),
                );
                None
            }
        }
    }

    fn secret_octets(&self) -> Option<Vec<u8>> {
        self.secret_file(SECRET).map(|(_, content)| content.octets)
    }

    /// A file that others may not read.
    pub(super) fn secret_file(&self, limit: u64) -> Option<(PathBuf, Content)> {
        let (path, content) = self.file(Named::Secret, limit)?;
        self.refuse_open(&path, content.mode)?;
        Some((path, content))
    }

    /// Notes an error when others may read or change a secret; the group may.
    fn refuse_open(&self, path: &Path, mode: u32) -> Option<()> {
        if mode & 0o007 == 0 {
            return Some(());
        }
        let path = path.display();
        let problem = Problem::new(format!("others may read {path} (mode {:04o})", mode & 0o7777));
        self.error(problem.hint(format!("run `chmod o-rwx {path}`")));
        None
    }

    /// `state_dir`. The generated key in it is a secret as others are.
    pub(super) fn state_dir(&self) -> Option<PathBuf> {
        let dir = self.path(Named::Root)?;
        let key = dir.join(AFFINITY_KEY);
        // Where there is none yet, or only the process itself may look, the start decides; an empty one is no secret.
        if let Ok(content) = self.doc.load.files.read(&key, SECRET)
            && !content.octets.is_empty()
        {
            self.refuse_open(&key, content.mode)?;
        }
        Some(dir)
    }

    /// A token or password: one line, its end removed.
    pub(super) fn secret(&self) -> Option<Secret> {
        let octets = self.secret_octets()?;
        let line = octets.strip_suffix(b"\n").unwrap_or(&octets);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            self.error(Problem::new("the file is empty").hint("write the secret into its first line"));
            return None;
        }
        if line.iter().any(u8::is_ascii_control) {
            self.error(Problem::new("the file holds more than one line, or a control character"));
            return None;
        }
        Some(Secret(Arc::from(line)))
    }

    /// As [`Item::secret`], for what travels in a header: visible ASCII.
    pub(super) fn token(&self) -> Option<Secret> {
        let secret = self.secret()?;
        if secret.0.iter().all(u8::is_ascii_graphic) {
            return Some(secret);
        }
        self.error(
            Problem::new("the file holds a blank or a character outside ASCII")
                .hint("a token is sent in a header, generate one with `openssl rand -hex 32`"),
        );
        None
    }

    /// Keys, one a line: the first signs, all verify.
    pub(super) fn keys(&self) -> Vec<Secret> {
        let Some(octets) = self.secret_octets() else { return Vec::new() };
        let lines = octets.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).filter(|l| !l.is_empty());
        let keys: Vec<Secret> = lines.map(|l| Secret(Arc::from(l))).collect();
        if keys.is_empty() || keys.iter().any(|k| k.0.len() < SHORTEST_KEY) {
            let what = if keys.is_empty() { "holds no key" } else { "holds a key that is too short" };
            self.error(Problem::new(format!("the file {what}")).hint(format!(
                "write one key a line, each of at least {SHORTEST_KEY} octets, such as `openssl rand -hex 32` prints"
            )));
        }
        keys
    }
}
