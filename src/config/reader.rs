//! Typed values out of a document.
//!
//! A reader returns `None` after it has noted an error, so that one load finds everything that is wrong. What a missing
//! value means is for the caller to decide.

use std::path::PathBuf;
use std::time::Duration;

use serde_yaml::Value;

use super::document::{Document, KeyPath};
use super::file_access::{Named, OwnFile};
use super::keys;
use super::values::{self, ValueError};

/// A value, or the place where a missing value would be.
#[derive(Clone)]
pub(super) struct Item<'d> {
    pub doc: &'d Document<'d>,
    pub value: Option<&'d Value>,
    path: KeyPath,
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
    /// The whole of a document, called `name` in messages.
    pub fn root(doc: &'d Document<'d>, value: &'d Value, name: &'static str) -> Self {
        Self { doc, value: Some(value), path: KeyPath::root(name) }
    }

    /// The dotted path, for messages.
    pub fn key(&self) -> String {
        self.path.to_string()
    }

    /// False if the key is absent or has no value.
    pub fn is_present(&self) -> bool {
        !matches!(self.value, None | Some(Value::Null))
    }

    /// Notes an error at the value.
    pub fn error(&self, problem: ValueError) {
        self.doc.error(self.doc.value_position(&self.path), &self.key(), problem);
    }

    /// Notes an error at the key.
    pub fn error_at_key(&self, problem: ValueError) {
        self.doc.error(self.doc.key_position(&self.path), &self.key(), problem);
    }

    /// Notes a warning at the key.
    pub fn warn(&self, text: impl AsRef<str>) {
        self.doc.warn(self.doc.key_position(&self.path), &self.key(), text.as_ref());
    }

    fn expected(&self, what: &str) {
        match self.value {
            Some(Value::Tagged(_)) => {
                self.error(ValueError::new("YAML tags (`!...`) are not supported").hint("remove the tag"));
            }
            Some(Value::Null) => {
                self.error_at_key(
                    ValueError::new(format!("has no value, {what} is expected")).hint("or remove the key"),
                );
            }
            Some(value) => self.error(ValueError::new(format!("is {}, {what} is expected", kind(value)))),
            None => {}
        }
    }

    /// A map with these keys; any other key is an error.
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

    /// Like [`Item::map`], for a map whose keys were checked before.
    pub fn map_quietly(&self, section: keys::Section) -> Map<'d> {
        Map { item: self.clone(), section }
    }

    /// The keys and values of a map whose keys are not in [`keys`].
    pub fn entries(&self) -> Vec<(String, Item<'d>)> {
        match self.value {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Mapping(map)) => map
                .iter()
                .take(1000)
                .map(|(key, value)| {
                    let key = key.as_str().unwrap_or("?");
                    (key.to_owned(), Item { doc: self.doc, value: Some(value), path: self.path.key(key) })
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
        let item = Item { doc: self.doc, value: None, path: self.path.key(&text) };
        if let Some(new) = section.renamed(&text) {
            let problem = ValueError::new("the key was renamed").hint(format!("write `{new}`"));
            return item.error_at_key(problem);
        }
        let known = format!("known here: {}", section.list());
        let elsewhere = section.elsewhere(&text);
        let hint = if let Some(word) = values::similar(&text, section.keys.iter().copied()) {
            format!("did you mean `{word}`? {known}")
        } else if let Some(home) = elsewhere {
            format!("it belongs in `{home}`; {known}")
        } else {
            known
        };
        item.error_at_key(ValueError::new("unknown key").hint(hint));
    }

    /// The elements of a list; none if it is absent.
    pub fn list(&self) -> Vec<Item<'d>> {
        match self.value {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Sequence(values)) => values
                .iter()
                .enumerate()
                .map(|(i, value)| Item { doc: self.doc, value: Some(value), path: self.path.element(i) })
                .collect(),
            Some(_) => {
                self.expected("a list");
                Vec::new()
            }
        }
    }

    /// Like [`Item::list`], and a single value counts as a list with one element.
    pub fn one_or_more(&self) -> Vec<Item<'d>> {
        match self.value {
            Some(Value::Sequence(_) | Value::Null) | None => self.list(),
            Some(_) => vec![self.clone()],
        }
    }

    pub fn is_list(&self) -> bool {
        matches!(self.value, Some(Value::Sequence(_)))
    }

    /// A scalar as text.
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

    /// A scalar that `parse` accepts.
    pub fn parsed<T>(&self, what: &str, parse: impl FnOnce(&str) -> Result<T, ValueError>) -> Option<T> {
        let text = self.scalar(what)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.error(problem);
                None
            }
        }
    }

    /// A text that is not empty and has no control characters; spaces around it are removed.
    pub fn text(&self) -> Option<String> {
        self.parsed("a text", |text| match text.trim() {
            "" => Err(ValueError::new("is empty")),
            t if t.chars().any(char::is_control) => Err(ValueError::new("contains a control character")),
            t => Ok(t.to_owned()),
        })
    }

    /// `true` or `false`, or one of YAML 1.1's other words for them.
    pub fn boolean(&self) -> Option<bool> {
        self.parsed("true or false", |text| match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => Ok(true),
            "false" | "no" | "off" => Ok(false),
            _ => Err(ValueError::new(format!("`{text}` is neither true nor false"))),
        })
    }

    /// A whole number from `min` to `max`.
    pub fn integer<T: TryFrom<u64>>(&self, min: u64, max: u64) -> Option<T> {
        self.parsed("a whole number", |text| {
            let range = || match max {
                u64::MAX => format!("{min} or more"),
                _ => format!("{min} to {max}"),
            };
            let number = text.trim().parse::<i128>().map_err(|_| {
                ValueError::new(format!("`{text}` is not a whole number")).hint(format!("write {}", range()))
            })?;
            u64::try_from(number)
                .ok()
                .filter(|n| (min..=max).contains(n))
                .and_then(|n| T::try_from(n).ok())
                .ok_or_else(|| {
                    ValueError::new(format!("{number} is out of range")).hint(format!("write {}", range()))
                })
        })
    }

    /// One of these words. `false` means `off`, because YAML 1.1 reads `off` as `false`.
    pub fn choice<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let list = words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(" | ");
        self.parsed(&list, |text| {
            let text = text.trim();
            let word = if matches!(text, "false" | "no") { "off" } else { text };
            words.iter().find(|(w, _)| *w == word).map(|(_, value)| *value).ok_or_else(|| {
                let hint = values::similar(text, words.iter().map(|(w, _)| *w))
                    .map_or(format!("write {list}"), |w| format!("did you mean `{w}`? write {list}"));
                ValueError::new(format!("`{text}` is not possible here")).hint(hint)
            })
        })
    }

    /// Whether this is `off`, or `false`, as which YAML 1.1 reads `off`.
    pub fn is_off(&self) -> bool {
        match self.value {
            Some(Value::Bool(truth)) => !truth,
            Some(Value::String(text)) => matches!(text.trim(), "off" | "no" | "false"),
            _ => false,
        }
    }

    pub fn text_is(&self, word: &str) -> bool {
        self.value.and_then(Value::as_str).is_some_and(|text| text.trim() == word)
    }

    /// A duration, which may be zero.
    pub fn duration(&self) -> Option<Duration> {
        self.parsed("a duration such as `5s`", values::duration)
    }

    /// A duration that is not zero.
    pub fn period(&self) -> Option<Duration> {
        self.parsed("a duration such as `5s`", |text| match values::duration(text) {
            Ok(Duration::ZERO) => Err(ValueError::new("must not be zero")),
            other => other,
        })
    }

    /// A size in bytes.
    pub fn size(&self, min: u64) -> Option<u64> {
        self.parsed("a size such as `64KiB`", |text| match values::size(text)? {
            n if n < min => Err(ValueError::new(format!("must be at least {min}B"))),
            n => Ok(n),
        })
    }

    /// The name of a file or directory. A relative one starts at the directory of the configuration file.
    pub fn path(&self, named: Named) -> Option<PathBuf> {
        let load = self.doc.load;
        let path = load.base.join(self.text()?);
        let Some(access) = load.access else {
            if named != Named::Root {
                load.own.borrow_mut().push(OwnFile::new(&self.key(), &path, named));
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
    /// The value of an optional key.
    pub fn get(&self, key: &str) -> Item<'d> {
        debug_assert!(self.section.has(key), "`{key}` is missing in the key table {}", self.section.name);
        let value = self.item.value.and_then(|v| v.as_mapping()).and_then(|m| m.get(key));
        Item { doc: self.item.doc, value, path: self.item.path.key(key) }
    }

    /// The value of a required key.
    pub fn required(&self, key: &str) -> Item<'d> {
        let item = self.get(key);
        // An absent or wrong map has an error of its own, and so has a misspelt key: it suggests this one.
        let readable = matches!(self.item.value, Some(Value::Null | Value::Mapping(_)));
        if item.value.is_none() && readable && !self.is_misspelt(key) {
            item.error_at_key(ValueError::new("is missing").hint(format!("write `{key}:` here")));
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

    /// Warns about keys that have no effect beside another one.
    pub fn no_effect(&self, keys: &[&str], beside: &str) {
        for key in keys {
            let item = self.get(key);
            if item.is_present() {
                item.warn(format!("has no effect with {beside}"));
            }
        }
    }
}
