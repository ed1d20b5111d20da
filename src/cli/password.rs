//! Passwords for verbs: from a file, by the rules of `password_file` in a configuration, or typed at the terminal without
//! being shown.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use crate::config::settings::Secret;

/// A longer password file is another file.
const MAX_PASSWORD_FILE_BYTES: u64 = 64 << 10;

/// Why there is no password, for the administrator.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PasswordError(String);

/// Reads the only line of a file that others may not read.
///
/// # Errors
/// When the file cannot be used; the message has no part of it.
pub fn read(file: &Path) -> Result<Secret, PasswordError> {
    let shown = file.display();
    let failed =
        |error: std::io::Error| PasswordError(format!("--password-file: cannot read {shown}: {error}"));
    let metadata = std::fs::metadata(file).map_err(failed)?;
    if !metadata.is_file() || metadata.len() > MAX_PASSWORD_FILE_BYTES {
        return Err(PasswordError(format!("--password-file: {shown} is not a file with one line")));
    }
    if metadata.permissions().mode() & 0o007 != 0 {
        return Err(PasswordError(format!(
            "--password-file: others may read {shown}; run `chmod o-rwx {shown}`"
        )));
    }
    let bytes = std::fs::read(file).map_err(failed)?;
    let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    secret(line.strip_suffix(b"\r").unwrap_or(line), &format!("--password-file: {shown}"))
}

/// Asks at the terminal.
///
/// # Errors
/// When nothing usable is typed.
pub fn ask(user: &str) -> Result<Secret, PasswordError> {
    let typed = rpassword::prompt_password(format!("Password of {user}: "))
        .map_err(|error| PasswordError(format!("no password could be read: {error}")))?;
    secret(typed.as_bytes(), "the password")
}

fn secret(bytes: &[u8], what: &str) -> Result<Secret, PasswordError> {
    if bytes.is_empty() {
        return Err(PasswordError(format!("{what} is empty")));
    }
    if bytes.iter().any(u8::is_ascii_control) {
        return Err(PasswordError(format!("{what} has more than one line, or a control character")));
    }
    Ok(Secret(Arc::from(bytes)))
}
