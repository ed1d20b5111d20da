//! Reads single values out of a document and notes every error with its place.
//!
//! In: a document (values beside places). Out: typed values, or `None` after the error has been
//! noted, so that one load finds everything that is wrong. It never stops at the first error and
//! never decides what a missing value means: callers give the default.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_yaml::Value;

use super::error::{ConfigError, Place, Warning};
use super::file_access::{FileAccess, Named, OwnFile};
use super::files::Files;
use super::keys;
use super::tree::{NodeId, Spot, Tree};
use super::values::{self, Problem};

/// What all documents of one load share.
pub(super) struct Load<'a> {
    pub files: &'a dyn Files,
    /// Relative paths start here: the directory of the configuration file.
    pub base: PathBuf,
    /// What may be named; `None` = any file, as in a configuration of this ICM itself.
    pub access: Option<&'a FileAccess>,
    /// The files that this ICM's own configuration names.
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

/// A text and the places in it.
pub(super) struct Document<'a> {
    pub load: &'a Load<'a>,
    pub file: &'a Path,
    pub text: &'a str,
    pub tree: Tree,
}

/// More errors than anybody reads; a file with so many is not a configuration.
const MOST_ERRORS: usize = 500;

impl<'a> Document<'a> {
    pub fn error(&self, at: Spot, key: &str, problem: Problem) {
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

    /// A line by its number, from 1. Goes by the ends of lines alone: a file may have millions.
    pub fn line(&self, number: usize) -> Option<&'a str> {
        let before = number.checked_sub(2).map(|n| memchr::memchr_iter(b'\n', self.text.as_bytes()).nth(n));
        let from = match before {
            None if number == 0 => return None,
            None => 0,
            Some(end) => end? + 1,
        };
        self.text.get(from..)?.lines().next()
    }

    /// True when further errors are dropped.
    pub fn is_saturated(&self) -> bool {
        self.load.errors.borrow().len() >= MOST_ERRORS
    }

    pub fn warn(&self, at: Spot, key: &str, text: &str) {
        let mut warnings = self.load.warnings.borrow_mut();
        if warnings.len() < MOST_ERRORS {
            let place = Place { file: self.file.to_owned(), line: at.line, column: at.column };
            let text = if key.is_empty() { text.to_owned() } else { format!("{key}: {text}") };
            warnings.push(Warning { place, text });
        }
    }

    /// The whole document.
    pub fn root<'d>(&'d self, value: &'d Value, name: &str) -> Item<'d> {
        let at = Spot { line: 1, column: 1 };
        Item { doc: self, value: Some(value), key: name.to_owned(), key_at: at, node: self.tree.root }
    }
}

/// One value, or the place where it could stand.
#[derive(Clone)]
pub(super) struct Item<'d> {
    pub doc: &'d Document<'d>,
    pub value: Option<&'d Value>,
    pub key: String,
    /// Of the key; of the map around it where there is none.
    key_at: Spot,
    node: Option<NodeId>,
}

/// What a value is, for messages.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Sequence(_) => "a list",
        Value::Mapping(_) => "a map",
        Value::Tagged(_) => "a YAML tag",
    }
}

impl<'d> Item<'d> {
    /// True unless the key is absent or has nothing behind it.
    pub fn is_present(&self) -> bool {
        !matches!(self.value, None | Some(Value::Null))
    }

    /// Place of the value, else of the key.
    fn at(&self) -> Spot {
        self.node.and_then(|id| self.doc.tree.node(id)).map_or(self.key_at, |node| node.at)
    }

    /// Notes an error at the value.
    pub fn error(&self, problem: Problem) {
        self.doc.error(self.at(), &self.key, problem);
    }

    /// Notes an error at the key.
    pub fn error_at_key(&self, problem: Problem) {
        self.doc.error(self.key_at, &self.key, problem);
    }

    /// Notes a warning at the key.
    pub fn warn(&self, text: impl AsRef<str>) {
        self.doc.warn(self.key_at, &self.key, text.as_ref());
    }

    fn expected(&self, what: &str) {
        match self.value {
            Some(Value::Tagged(_)) => {
                self.error(Problem::new("YAML tags (`!...`) have no meaning here").hint("remove the tag"));
            }
            Some(Value::Null) => {
                self.error_at_key(
                    Problem::new(format!("has no value, {what} is expected")).hint("or remove the key"),
                );
            }
            Some(value) => self.error(Problem::new(format!("is {}, {what} is expected", kind(value)))),
            None => {}
        }
    }

    /// A map of these keys; every other key is an error.
    pub fn map(&self, section: keys::Section) -> Map<'d> {
        match self.value {
            None | Some(Value::Null) => {}
            Some(Value::Mapping(map)) => {
                let unknown = map.keys().filter(|k| !k.as_str().is_some_and(|k| section.has(k)));
                for key in unknown.take(100) {
                    self.unknown_key(key, section);
                }
            }
            Some(_) => self.expected(&format!("a map with {}", section.list())),
        }
        Map { item: self.clone(), section }
    }

    /// As [`Item::map`] where the keys have been checked before.
    pub fn map_quietly(&self, section: keys::Section) -> Map<'d> {
        Map { item: self.clone(), section }
    }

    /// All keys and values of a map whose keys are not in [`keys`].
    pub fn entries(&self) -> Vec<(String, Item<'d>)> {
        match self.value {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Mapping(map)) => map
                .iter()
                .take(1000)
                .map(|(key, value)| {
                    let key = key.as_str().unwrap_or("?").to_owned();
                    let place = self.node.and_then(|id| self.doc.tree.child(id, &key));
                    let item = Item {
                        doc: self.doc,
                        value: Some(value),
                        key: self.below(&key),
                        key_at: place.map_or(self.key_at, |(at, _)| at),
                        node: place.map(|(_, id)| id),
                    };
                    (key, item)
                })
                .collect(),
            Some(_) => {
                self.expected("a map");
                Vec::new()
            }
        }
    }

    fn unknown_key(&self, key: &Value, section: keys::Section) {
        let text = match key {
            Value::String(text) => text.clone(),
            other => serde_yaml::to_string(other).unwrap_or_default().trim().to_owned(),
        };
        let at = self.node.and_then(|id| self.doc.tree.child(id, &text)).map_or(self.at(), |(at, _)| at);
        if let Some(new) = section.renamed(&text) {
            let problem = Problem::new("the key was renamed").hint(format!("write `{new}`"));
            return self.doc.error(at, &self.below(&text), problem);
        }
        let known = format!("known here: {}", section.list());
        let elsewhere = section.elsewhere(&text);
        let hint = if let Some(word) = values::similar(&text, section.keys.iter().copied()) {
            format!("did you mean `{word}`? {known}")
        } else if let Some(home) = elsewhere {
            format!("it belongs into `{home}`; {known}")
        } else {
            known
        };
        self.doc.error(at, &self.below(&text), Problem::new("unknown key").hint(hint));
    }

    fn below(&self, key: &str) -> String {
        // A key from the file may be anything; a long or wild one would drown the message.
        let key: String = key.chars().map(|c| if c.is_control() { '?' } else { c }).take(80).collect();
        if self.key.is_empty() { key } else { format!("{}.{key}", self.key) }
    }

    /// The elements of a list; empty when absent.
    pub fn list(&self) -> Vec<Item<'d>> {
        match self.value {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Sequence(values)) => values
                .iter()
                .enumerate()
                .map(|(i, value)| {
                    let node = self.node.and_then(|id| self.doc.tree.element(id, i));
                    let at = node.and_then(|id| self.doc.tree.node(id)).map_or(self.at(), |n| n.at);
                    let key = format!("{}[{i}]", self.key);
                    Item { doc: self.doc, value: Some(value), key, key_at: at, node }
                })
                .collect(),
            Some(_) => {
                self.expected("a list");
                Vec::new()
            }
        }
    }

    /// As [`Item::list`], but a single value (or map) counts as a list of one.
    pub fn one_or_more(&self) -> Vec<Item<'d>> {
        match self.value {
            Some(Value::Sequence(_) | Value::Null) | None => self.list(),
            Some(_) => vec![self.clone()],
        }
    }

    /// Whether this is a list.
    pub fn is_list(&self) -> bool {
        matches!(self.value, Some(Value::Sequence(_)))
    }

    /// The text of a scalar; numbers and truth values as they are written.
    fn scalar(&self, what: &str) -> Option<String> {
        match self.value? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(truth) => Some(truth.to_string()),
            _ => {
                self.expected(what);
                None
            }
        }
    }

    /// A scalar that `parse` understands.
    pub fn parsed<T>(&self, what: &str, parse: impl FnOnce(&str) -> Result<T, Problem>) -> Option<T> {
        let text = self.scalar(what)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.error(problem);
                None
            }
        }
    }

    /// A text that is not blank, without control characters, blanks around it removed.
    pub fn text(&self) -> Option<String> {
        self.parsed("a text", |text| match text.trim() {
            "" => Err(Problem::new("is empty")),
            t if t.chars().any(char::is_control) => Err(Problem::new("holds a control character")),
            t => Ok(t.to_owned()),
        })
    }

    /// `true` or `false`; also the YAML 1.1 words for them.
    pub fn boolean(&self) -> Option<bool> {
        self.parsed("true or false", |text| match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => Ok(true),
            "false" | "no" | "off" => Ok(false),
            _ => Err(Problem::new(format!("`{text}` is neither true nor false"))),
        })
    }

    /// A whole number from `least` to `most`.
    pub fn integer<T: TryFrom<u64>>(&self, least: u64, most: u64) -> Option<T> {
        self.parsed("a whole number", |text| {
            let range = || match most {
                u64::MAX => format!("{least} or more"),
                _ => format!("{least} to {most}"),
            };
            let number = text.trim().parse::<i128>().map_err(|_| {
                Problem::new(format!("`{text}` is not a whole number")).hint(format!("write {}", range()))
            })?;
            u64::try_from(number)
                .ok()
                .filter(|n| (least..=most).contains(n))
                .and_then(|n| T::try_from(n).ok())
                .ok_or_else(|| {
                    Problem::new(format!("{number} is out of range")).hint(format!("write {}", range()))
                })
        })
    }

    /// One of some words. `false` counts as `off` where that is one of them.
    pub fn choice<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let list = words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(" | ");
        self.parsed(&list, |text| {
            let text = text.trim();
            let word = if matches!(text, "false" | "no") { "off" } else { text };
            words.iter().find(|(w, _)| *w == word).map(|(_, value)| *value).ok_or_else(|| {
                let hint = values::similar(text, words.iter().map(|(w, _)| *w))
                    .map_or(format!("write {list}"), |w| format!("did you mean `{w}`? write {list}"));
                Problem::new(format!("`{text}` is not possible here")).hint(hint)
            })
        })
    }

    /// True for `off` and `false`.
    pub fn is_off(&self) -> bool {
        match self.value {
            Some(Value::Bool(truth)) => !truth,
            Some(Value::String(text)) => matches!(text.trim(), "off" | "no" | "false"),
            _ => false,
        }
    }

    /// True for exactly this word.
    pub fn text_is(&self, word: &str) -> bool {
        self.value.and_then(Value::as_str).is_some_and(|text| text.trim() == word)
    }

    /// A duration; zero is allowed.
    pub fn duration(&self) -> Option<Duration> {
        self.parsed("a duration such as `5s`", values::duration)
    }

    /// A duration that is not zero.
    pub fn period(&self) -> Option<Duration> {
        self.parsed("a duration such as `5s`", |text| match values::duration(text) {
            Ok(Duration::ZERO) => Err(Problem::new("may not be zero")),
            other => other,
        })
    }

    /// A size in octets.
    pub fn size(&self, least: u64) -> Option<u64> {
        self.parsed("a size such as `64KiB`", |text| match values::size(text)? {
            n if n < least => Err(Problem::new(format!("must be at least {least}B"))),
            n => Ok(n),
        })
    }

    /// A file or directory name, absolute or starting at the configuration file's directory.
    pub fn path(&self, named: Named) -> Option<PathBuf> {
        let load = self.doc.load;
        let path = load.base.join(self.text()?);
        let Some(access) = load.access else {
            if named != Named::Root {
                load.own.borrow_mut().push(OwnFile::new(&self.key, &path, named));
            }
            return Some(path);
        };
        access.permitted(load.files, &path, named).map_err(|problem| self.error(problem)).ok()
    }
}

/// A map whose keys were checked.
#[derive(Clone)]
pub(super) struct Map<'d> {
    pub item: Item<'d>,
    section: keys::Section,
}

impl<'d> Map<'d> {
    /// The value of a key, which may be absent.
    pub fn get(&self, key: &str) -> Item<'d> {
        debug_assert!(self.section.has(key), "`{key}` is missing in the key table {}", self.section.name);
        let value = self.item.value.and_then(|v| v.as_mapping()).and_then(|m| m.get(key));
        let place = self.item.node.and_then(|id| self.item.doc.tree.child(id, key));
        Item {
            doc: self.item.doc,
            value,
            key: self.item.below(key),
            key_at: place.map_or(self.item.key_at, |(at, _)| at),
            node: place.map(|(_, id)| id).filter(|_| value.is_some()),
        }
    }

    /// The value of a key that must be there.
    pub fn required(&self, key: &str) -> Item<'d> {
        let item = self.get(key);
        // Where the map itself is absent or wrong that has been said already, and a misspelt key has
        // been named with this one as the suggestion.
        let readable = matches!(self.item.value, Some(Value::Null | Value::Mapping(_)));
        if item.value.is_none() && readable && !self.is_misspelt(key) {
            item.error_at_key(Problem::new("is missing").hint(format!("write `{key}:` here")));
        }
        item
    }

    fn is_misspelt(&self, key: &str) -> bool {
        let keys =
            self.item.value.and_then(Value::as_mapping).into_iter().flat_map(|map| map.keys().take(100));
        keys.filter_map(Value::as_str)
            .filter(|k| !self.section.has(k))
            .any(|k| values::similar(k, self.section.keys.iter().copied()) == Some(key))
    }

    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_present()
    }

    /// Warns about keys that mean nothing beside another one.
    pub fn no_effect(&self, keys: &[&str], beside: &str) {
        for key in keys {
            let item = self.get(key);
            if item.is_present() {
                item.warn(format!("has no effect with {beside}"));
            }
        }
    }
}
