//! A text with its file name, and the errors and warnings of one load.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use super::error::{ConfigError, Location, Warning};
use super::file_access::{FileAccess, OwnFile};
use super::files::Files;
use super::tree::{self, Duplicate, Failure, Node, Position};
use super::value_error::ValueError;

/// The largest configuration, in bytes.
pub(super) const MAX_SIZE: u64 = 4 << 20;
/// More errors or warnings are dropped.
const MAX_ERRORS: usize = 500;

/// What all documents of one load share.
pub(super) struct Load<'a> {
    pub files: &'a dyn Files,
    /// The directory of the configuration file, where relative paths start.
    pub base: PathBuf,
    /// Which files may be named; `None`: any.
    pub access: Option<&'a FileAccess>,
    /// The files that this configuration names.
    pub own: RefCell<Vec<OwnFile>>,
    pub errors: RefCell<Vec<ConfigError>>,
    pub warnings: RefCell<Vec<Warning>>,
}

impl<'a> Load<'a> {
    pub fn new(files: &'a dyn Files, file: &Path) -> Self {
        Self {
            files,
            base: file.parent().map(Path::to_owned).unwrap_or_default(),
            access: None,
            own: RefCell::default(),
            errors: RefCell::default(),
            warnings: RefCell::default(),
        }
    }

    pub fn failed(&self) -> bool {
        !self.errors.borrow().is_empty()
    }
}

pub(super) struct Document<'a> {
    pub load: &'a Load<'a>,
    pub file: &'a Path,
    pub text: &'a str,
}

impl<'a> Document<'a> {
    pub fn error(&self, at: Position, key: &str, problem: ValueError) {
        if self.is_saturated() {
            return;
        }
        let line = self.line(at.line);
        self.load.errors.borrow_mut().push(ConfigError {
            file: self.file.to_owned(),
            line: at.line,
            column: at.column,
            key: key.to_owned(),
            message: problem.message,
            hint: problem.hint,
            source_line: line.map(|l| l.chars().take(2000).collect()),
        });
    }

    /// A line by its number from 1. Only line ends are searched: a file may have millions of lines.
    pub fn line(&self, number: usize) -> Option<&'a str> {
        let before = number.checked_sub(2).map(|n| memchr::memchr_iter(b'\n', self.text.as_bytes()).nth(n));
        let from = match before {
            None if number == 0 => return None,
            None => 0,
            Some(end) => end? + 1,
        };
        self.text.get(from..)?.lines().next()
    }

    /// Whether further errors are dropped.
    pub fn is_saturated(&self) -> bool {
        self.load.errors.borrow().len() >= MAX_ERRORS
    }

    /// Reads the values of the text, and notes each duplicate key.
    pub fn read_tree(&self) -> Result<Node, Failure> {
        let (root, duplicates) = tree::read(self.text)?;
        for Duplicate { path, at, first } in duplicates {
            let problem = ValueError::new(format!("the key is there twice, first in line {first}"));
            self.error(at, &path, problem.hint("remove one of them"));
        }
        Ok(root)
    }

    pub fn warn(&self, at: Position, key: &str, text: &str) {
        let mut warnings = self.load.warnings.borrow_mut();
        if warnings.len() < MAX_ERRORS {
            let location = Location { file: self.file.to_owned(), line: at.line, column: at.column };
            let text = if key.is_empty() { text.to_owned() } else { format!("{key}: {text}") };
            warnings.push(Warning { location, text });
        }
    }
}

/// Reads a YAML text. `None` after an error was noted.
pub(super) fn open<'a>(load: &'a Load<'a>, file: &'a Path, text: &'a str) -> Option<(Document<'a>, Node)> {
    let document = Document { load, file, text: text.strip_prefix('\u{feff}').unwrap_or(text) };
    if text.len() as u64 > MAX_SIZE {
        document.error(Position::START, "", ValueError::new("the file is larger than 4 MiB"));
        return None;
    }
    match document.read_tree() {
        Ok(root) => Some((document, root)),
        Err((at, problem)) => {
            document.error(at, "", problem);
            None
        }
    }
}
