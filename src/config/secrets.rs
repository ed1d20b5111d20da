//! Token, password and key files. A file that other users may read is refused. No message contains a secret.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file_access::{AFFINITY_KEY, Named};
use super::files::Content;
use super::reader::Item;
use super::settings::Secret;
use super::values::ValueError;

const MAX_SECRET_FILE_BYTES: u64 = 64 << 10;
/// The shortest key that may sign affinity cookies, in bytes.
const MIN_KEY: usize = 16;
/// A key of `ticket_key_file` is as many bytes in hexadecimal digits.
const TICKET_SECRET_BYTES: usize = 32;

impl Item<'_> {
    /// Reads the file that this value names.
    pub(super) fn file(&self, named: Named, limit: u64) -> Option<(PathBuf, Content)> {
        let path = self.path(named)?;
        match self.doc.load.files.read(&path, limit) {
            Ok(content) => Some((path, content)),
            Err(error) => {
                self.error(
                    ValueError::new(format!("cannot read {}: {error}", path.display()))
                        .hint("it must be readable when the configuration is loaded"),
                );
                None
            }
        }
    }

    fn secret_bytes(&self) -> Option<Vec<u8>> {
        self.secret_file(MAX_SECRET_FILE_BYTES).map(|(_, content)| content.bytes)
    }

    /// Reads a file that other users must not be able to read.
    pub(super) fn secret_file(&self, limit: u64) -> Option<(PathBuf, Content)> {
        let (path, content) = self.file(Named::Secret, limit)?;
        self.refuse_open(&path, content.mode)?;
        Some((path, content))
    }

    /// Notes an error if other users may read or write the file. Its group may.
    fn refuse_open(&self, path: &Path, mode: u32) -> Option<()> {
        if mode & 0o007 == 0 {
            return Some(());
        }
        let path = path.display();
        let problem = ValueError::new(format!("others may read {path} (mode {:04o})", mode & 0o7777));
        self.error(problem.hint(format!("run `chmod o-rwx {path}`")));
        None
    }

    /// `state_dir`. The generated affinity key in it is a secret file too.
    pub(super) fn state_dir(&self) -> Option<PathBuf> {
        let dir = self.path(Named::Root)?;
        let key = dir.join(AFFINITY_KEY);
        // If the key cannot be read here, the start decides. An empty file has no secret.
        if let Ok(content) = self.doc.load.files.read(&key, MAX_SECRET_FILE_BYTES)
            && !content.bytes.is_empty()
        {
            self.refuse_open(&key, content.mode)?;
        }
        Some(dir)
    }

    /// A token or password: the only line of its file.
    pub(super) fn secret(&self) -> Option<Secret> {
        let bytes = self.secret_bytes()?;
        let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            self.error(ValueError::new("the file is empty").hint("write the secret on its first line"));
            return None;
        }
        if line.iter().any(u8::is_ascii_control) {
            self.error(ValueError::new("the file has more than one line, or a control character"));
            return None;
        }
        Some(Secret(Arc::from(line)))
    }

    /// Like [`Item::secret`], for a secret that is sent in a header: visible ASCII only.
    pub(super) fn token(&self) -> Option<Secret> {
        let secret = self.secret()?;
        if secret.0.iter().all(u8::is_ascii_graphic) {
            return Some(secret);
        }
        self.error(
            ValueError::new("the file has a space or a character outside ASCII")
                .hint("a token is sent in a header, generate one with `openssl rand -hex 32`"),
        );
        None
    }

    /// A key on each line: the first signs, all verify.
    pub(super) fn keys(&self) -> Vec<Secret> {
        let Some(bytes) = self.secret_bytes() else { return Vec::new() };
        let lines = bytes.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).filter(|l| !l.is_empty());
        let keys: Vec<Secret> = lines.map(|l| Secret(Arc::from(l))).collect();
        if keys.is_empty() || keys.iter().any(|k| k.0.len() < MIN_KEY) {
            let what = if keys.is_empty() { "holds no key" } else { "holds a key that is too short" };
            self.error(ValueError::new(format!("the file {what}")).hint(format!(
                "write one key on each line, of at least {MIN_KEY} bytes, such as from `openssl rand -hex 32`"
            )));
        }
        keys
    }

    /// `ticket_key_file`: a secret on each line in hexadecimal digits, as `openssl rand -hex 32` writes it. The first
    /// encrypts, all decrypt.
    pub(super) fn ticket_secrets(&self) -> Vec<Secret> {
        let Some(bytes) = self.secret_bytes() else { return Vec::new() };
        let lines = bytes.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).enumerate();
        let mut secrets = Vec::new();
        for (at, line) in lines.filter(|(_, line)| !line.is_empty()) {
            let Some(secret) = hexadecimal(line).filter(|secret| secret.len() == TICKET_SECRET_BYTES) else {
                let problem = format!("line {} of the file is not 64 hexadecimal digits", at + 1);
                self.error(ValueError::new(problem).hint(TICKET_HINT));
                return Vec::new();
            };
            secrets.push(Secret(Arc::from(secret)));
        }
        if secrets.is_empty() && self.is_present() {
            self.error(ValueError::new("the file holds no key").hint(TICKET_HINT));
        }
        secrets
    }
}

const TICKET_HINT: &str =
    "write one key on each line, made with `openssl rand -hex 32`; the first encrypts, all decrypt";

fn hexadecimal(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |b: &u8| char::from(*b).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = text.as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| Some(digit(high)? << 4 | digit(low)?));
    bytes.collect::<Option<Vec<u8>>>().filter(|_| rest.is_empty())
}
