//! A text with the position of each of its values, and where its errors and warnings are noted.
//!
//! serde_yaml reads the values. It keeps no positions, and it has no limits for depth, aliases and documents. So the
//! events of the text make a tree of positions first: its shape is checked before serde_yaml sees the text, and
//! afterwards a value is looked up in it only when a message needs its position.

use std::cell::RefCell;
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde_yaml::Value;

use super::error::{ConfigError, Location, Warning};
use super::file_access::{FileAccess, OwnFile};
use super::files::Files;
use super::tree::{self, Kind, NodeId, Position, Tree};
use super::values::ValueError;

/// The largest configuration, in bytes.
pub(super) const MAX_SIZE: u64 = 4 << 20;
/// The most values in a configuration, with its aliases written out.
const MAX_VALUES: u64 = 1_000_000;
/// Nobody reads more errors than that.
const MAX_ERRORS: usize = 500;

/// Shared by all documents of one load.
pub(super) struct Load<'a> {
    pub files: &'a dyn Files,
    /// Relative paths start at the directory of the configuration file.
    pub base: PathBuf,
    /// Which files may be named; `None`: any, as in this ICM's own configuration.
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

/// A text and the positions in it.
pub(super) struct Document<'a> {
    pub load: &'a Load<'a>,
    pub file: &'a Path,
    pub text: &'a str,
    pub tree: Tree,
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

    /// A line by its number from 1. Only line ends are searched, because a file may have millions of lines.
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

    pub fn warn(&self, at: Position, key: &str, text: &str) {
        let mut warnings = self.load.warnings.borrow_mut();
        if warnings.len() < MAX_ERRORS {
            let location = Location { file: self.file.to_owned(), line: at.line, column: at.column };
            let text = if key.is_empty() { text.to_owned() } else { format!("{key}: {text}") };
            warnings.push(Warning { location, text });
        }
    }

    /// Where the key at the end of a path stands, else the nearest key around it; and the node of its value.
    fn find(&self, path: &KeyPath) -> (Position, Option<NodeId>) {
        match &*path.0 {
            Step::Root(_) => (Position::START, self.tree.root),
            Step::Key(map, key) => {
                let (around, map) = self.find(map);
                match map.and_then(|id| self.tree.child(id, key)) {
                    Some((at, value)) => (at, Some(value)),
                    None => (around, None),
                }
            }
            Step::Element(list, index) => {
                let (around, list) = self.find(list);
                let element = list.and_then(|id| self.tree.element(id, *index));
                let at = element.or(list).and_then(|id| self.tree.node(id)).map_or(around, |node| node.at);
                (at, element)
            }
        }
    }

    /// The position of a key, else of the nearest key around it.
    pub fn key_position(&self, path: &KeyPath) -> Position {
        self.find(path).0
    }

    /// The position of a value, else of its key.
    pub fn value_position(&self, path: &KeyPath) -> Position {
        let (key, value) = self.find(path);
        value.and_then(|id| self.tree.node(id)).map_or(key, |node| node.at)
    }
}

/// The keys from the root of a document to a value, such as `clusters[0].probe.interval`.
#[derive(Clone)]
pub(super) struct KeyPath(Rc<Step>);

enum Step {
    /// What the root is called in messages; usually nothing.
    Root(&'static str),
    Key(KeyPath, String),
    Element(KeyPath, usize),
}

impl KeyPath {
    pub fn root(name: &'static str) -> Self {
        Self(Rc::new(Step::Root(name)))
    }

    pub fn key(&self, key: impl Into<String>) -> Self {
        Self(Rc::new(Step::Key(self.clone(), key.into())))
    }

    pub fn element(&self, index: usize) -> Self {
        Self(Rc::new(Step::Element(self.clone(), index)))
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Step::Root(name) => f.write_str(name),
            Step::Element(list, index) => write!(f, "{list}[{index}]"),
            Step::Key(map, key) => {
                if !matches!(&*map.0, Step::Root("")) {
                    write!(f, "{map}.")?;
                }
                // A key in the file may be anything: a long one would hide the message.
                key.chars().take(80).try_for_each(|c| write!(f, "{}", if c.is_control() { '?' } else { c }))
            }
        }
    }
}

/// Checks the shape of a YAML text and reads its values. `None` after an error was noted.
pub(super) fn open<'a>(load: &'a Load<'a>, file: &'a Path, text: &'a str) -> Option<(Document<'a>, Value)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut document = Document { load, file, text, tree: Tree::default() };
    if text.len() as u64 > MAX_SIZE {
        document.error(Position::START, "", ValueError::new("the file is larger than 4 MiB"));
        return None;
    }
    document.tree = tree::of_yaml(text);
    if let Some(at) = document.tree.second_document {
        let problem = ValueError::new("a second YAML document begins here");
        document.error(at, "", problem.hint("a file has one configuration, remove the `---`"));
        return None;
    }
    if let Some(at) = document.tree.too_deep {
        let problem =
            ValueError::new(format!("lists and maps are nested deeper than {} levels", tree::MAX_DEPTH));
        document.error(at, "", problem);
        return None;
    }
    for twice in &document.tree.duplicates {
        let problem = ValueError::new(format!("the key is there twice, first in line {}", twice.first.line));
        document.error(twice.again, &twice.key, problem.hint("remove one of them"));
    }
    if document.tree.expanded_size() > MAX_VALUES {
        let problem = ValueError::new(format!("the file has more than {MAX_VALUES} values"));
        document.error(Position::START, "", problem.hint("an alias counts as all values that it stands for"));
        return None;
    }
    let mut value = match serde_yaml::from_str::<Value>(text) {
        Ok(value) => value,
        Err(error) => {
            if document.tree.duplicates.is_empty() {
                syntax_error(&document, &error);
            }
            return None;
        }
    };
    restore(&mut value, &document.tree, document.tree.root);
    // A merged map may have a merge key itself; each round resolves one level.
    for _ in 0..8 {
        if let Err(error) = value.apply_merge() {
            let problem = ValueError::new(format!("the merge key (`<<`) cannot be used: {error}"));
            document.error(
                document.tree.bad_merge().unwrap_or(Position::START),
                "",
                problem.hint("write an alias of a map, or a list of them"),
            );
            return None;
        }
    }
    Some((document, value))
}

fn syntax_error(document: &Document<'_>, error: &serde_yaml::Error) {
    let text = error.to_string();
    let message = text.split(" at line ").next().unwrap_or(&text);
    let at = error.location().map_or(Position::START, |l| Position { line: l.line(), column: l.column() });
    let tabs = document
        .text
        .lines()
        .nth(at.line.saturating_sub(1))
        .is_some_and(|l| l.chars().take_while(|c| c.is_whitespace()).any(|c| c == '\t'));
    let problem = ValueError::new(format!("is not YAML: {message}"));
    let problem = if tabs { problem.hint("indent with spaces, YAML does not allow tabs") } else { problem };
    document.error(at, "", problem);
}

/// Gives fractional numbers their text back: YAML reads the replica ID `85257E1000123456` as a number, and its digits
/// would be lost.
fn restore(value: &mut Value, tree: &Tree, node: Option<NodeId>) {
    let Some(target) = node.and_then(|id| tree.target(id)) else { return };
    match (value, &target.kind) {
        (value @ Value::Number(_), Kind::Scalar(text))
            if value.as_i64().is_none() && value.as_u64().is_none() =>
        {
            *value = Value::String(text.clone());
        }
        (Value::Sequence(values), Kind::List(nodes)) => {
            for (value, node) in values.iter_mut().zip(nodes) {
                restore(value, tree, Some(*node));
            }
        }
        (Value::Mapping(map), Kind::Map(entries)) => {
            for (key, _, node) in entries {
                if let Some(value) = map.get_mut(key.as_str()) {
                    restore(value, tree, Some(*node));
                }
            }
        }
        _ => {}
    }
}
