//! Configuration errors and warnings: every one with its place and what to do about it.
//!
//! In: what the readers of this folder complain about. Out: text for people (place, key, message,
//! hint, source line with a caret), JSON for machines. It never holds the content of a secret file.

use std::fmt;
use std::path::PathBuf;

/// One thing that is wrong in a configuration file, or in a file that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file that has to be changed.
    pub file: PathBuf,
    /// From 1; 0 where the error is not in a line, such as a file that cannot be read.
    pub line: usize,
    /// In characters, from 1; 0 as above.
    pub column: usize,
    /// Dotted path such as `clusters[0].probe.interval`; empty for the file as a whole.
    pub key: String,
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
    /// The line of the file, for the caret; absent where it is unknown.
    pub source_line: Option<String>,
}

/// Longest piece of a source line that is shown.
const SHOWN: usize = 120;

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        f.write_str(": ")?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, ", {hint}")?;
        }
        let Some(line) = self.source_line.as_deref().filter(|_| self.line > 0) else { return Ok(()) };
        // A long line is shown from a little before the place on; tabs become blanks so that the
        // caret stands where it should.
        let column = self.column.max(1);
        let start = column.saturating_sub(SHOWN / 2);
        let piece: String =
            line.chars().skip(start).take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
        let number = self.line.to_string();
        write!(f, "\n{number} | {}", piece.trim_end())?;
        write!(f, "\n{:>width$} | {:>caret$}", "", "^", width = number.len(), caret = column - start)
    }
}

impl std::error::Error for ConfigError {}

impl ConfigError {
    /// As an object with `file`, `line`, `column`, `key`, `message` and `hint` (null without one).
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "file": self.file.display().to_string(),
            "line": self.line,
            "column": self.column,
            "key": self.key,
            "message": self.message,
            "hint": self.hint,
        })
    }
}

/// Everything that is wrong, in the order of the files' lines. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl ConfigErrors {
    /// As a list of objects, see [`ConfigError::to_json`].
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        self.0.iter().map(ConfigError::to_json).collect()
    }
}

/// Where something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// From 1; 0 = the file as a whole.
    pub line: usize,
    /// From 1; 0 = the file as a whole.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        Ok(())
    }
}

/// Something that does not stop a load, but that an administrator wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Where it stands.
    pub place: Place,
    /// The key and what about it.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.text)
    }
}

impl Warning {
    /// As an object with `file`, `line`, `column` and `text`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "file": self.place.file.display().to_string(),
            "line": self.place.line,
            "column": self.place.column,
            "text": self.text,
        })
    }
}
