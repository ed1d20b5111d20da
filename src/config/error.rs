//! Configuration errors and warnings: where they are, what is wrong, and what to write instead.
//!
//! They are shown as text (with the line of the file and a caret) or as JSON, and never contain a secret.

use std::fmt;
use std::path::PathBuf;

/// An error in a configuration file, or in a file that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file to change.
    pub file: PathBuf,
    /// From 1; 0 if the error is in no line, such as a file that cannot be read.
    pub line: usize,
    /// In characters, from 1; 0 if the error is in no line.
    pub column: usize,
    /// A dotted path such as `clusters[0].probe.interval`; empty for the file as a whole.
    pub key: String,
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
    /// The line of the file, shown above the caret.
    pub source_line: Option<String>,
}

/// The longest part of a line that is shown, in characters.
const MAX_SHOWN: usize = 120;

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
        // Of a long line, the part around the error is shown. Tabs become spaces, else the caret would be elsewhere.
        let column = self.column.max(1);
        let start = column.saturating_sub(MAX_SHOWN / 2);
        let piece: String =
            line.chars().skip(start).take(MAX_SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
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

/// All errors in the order of files and lines; at least one.
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

/// A line and column in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The file that the line belongs to.
    pub file: PathBuf,
    /// From 1; 0: the file as a whole.
    pub line: usize,
    /// From 1; 0: the file as a whole.
    pub column: usize,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        Ok(())
    }
}

/// Something that is not an error, but that an administrator should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The position of the key.
    pub location: Location,
    /// The key and the warning.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.location, self.text)
    }
}

impl Warning {
    /// As an object with `file`, `line`, `column` and `text`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "file": self.location.file.display().to_string(),
            "line": self.location.line,
            "column": self.location.column,
            "text": self.text,
        })
    }
}
