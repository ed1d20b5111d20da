//! Typed values out of a document. A reader returns `None` after it has noted an error, so that one load finds all
//! errors.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use super::document::Document;
use super::file_access::{Named, OwnFile};
use super::keys;
use super::tree::{Content, Entry, Node, Position, TAGS_NOT_SUPPORTED, push_key};
use super::values::{self, ValueError};
use crate::domain::cluster::SiteName;

/// A value, or the place where a missing value would be.
#[derive(Clone)]
pub(super) struct Item<'d> {
    pub doc: &'d Document<'d>,
    pub value: Option<&'d Node>,
    /// The position of the key, else of the nearest key around it.
    at: Position,
    /// The keys from the root, such as `clusters[0].probe.interval`.
    path: Rc<str>,
}

impl<'d> Item<'d> {
    /// The whole of a document, called `name` in messages.
    pub fn root(doc: &'d Document<'d>, value: &'d Node, name: &str) -> Self {
        Self { doc, value: Some(value), at: Position::START, path: name.into() }
    }

    fn child(&self, key: &str, at: Position, value: Option<&'d Node>) -> Self {
        let mut path = self.path.to_string();
        push_key(&mut path, key);
        Self { doc: self.doc, value, at, path: path.into() }
    }

    fn content(&self) -> Option<&'d Content> {
        self.value.map(|node| &node.content)
    }

    /// The dotted path, for messages.
    pub fn key(&self) -> String {
        self.path.to_string()
    }

    /// False if the key is absent or has no value.
    pub fn is_present(&self) -> bool {
        !matches!(self.content(), None | Some(Content::Null))
    }

    pub fn is_list(&self) -> bool {
        matches!(self.content(), Some(Content::List(_)))
    }

    pub fn is_map(&self) -> bool {
        matches!(self.content(), Some(Content::Map(_)))
    }

    /// Notes an error at the value.
    pub fn error(&self, problem: ValueError) {
        self.doc.error(self.value.map_or(self.at, |node| node.at), &self.path, problem);
    }

    /// Notes an error at the key.
    pub fn error_at_key(&self, problem: ValueError) {
        self.doc.error(self.at, &self.path, problem);
    }

    /// Notes a warning at the key.
    pub fn warn(&self, text: impl AsRef<str>) {
        self.doc.warn(self.at, &self.path, text.as_ref());
    }

    fn expected(&self, what: &str) {
        let kind = match self.content() {
            None => return,
            Some(Content::Tagged) => {
                self.error(ValueError::new(TAGS_NOT_SUPPORTED).hint("remove the tag"));
                return;
            }
            Some(Content::Null) => {
                self.error_at_key(
                    ValueError::new(format!("has no value, {what} is expected")).hint("or remove the key"),
                );
                return;
            }
            Some(Content::Bool(_)) => "true or false",
            Some(Content::Number(_)) => "a number",
            Some(Content::Text(_)) => "a text",
            Some(Content::List(_)) => "a list",
            Some(Content::Map(_)) => "a map",
        };
        self.error(ValueError::new(format!("is {kind}, {what} is expected")));
    }

    /// The entries of a map; none if it is absent.
    fn map_entries(&self, what: impl FnOnce() -> String) -> &'d [Entry] {
        match self.content() {
            None | Some(Content::Null) => &[],
            Some(Content::Map(entries)) => entries,
            Some(_) => {
                self.expected(&what());
                &[]
            }
        }
    }

    /// A map with these keys; any other key is an error.
    pub fn map(&self, section: keys::Section) -> Map<'d> {
        let entries = self.map_entries(|| format!("a map with {}", section.list()));
        for entry in entries.iter().filter(|entry| !section.has(&entry.key)).take(100) {
            self.unknown_key(entry, section);
        }
        self.map_quietly(section)
    }

    /// Like [`Item::map`], for a map whose keys were checked before.
    pub fn map_quietly(&self, section: keys::Section) -> Map<'d> {
        Map { item: self.clone(), section }
    }

    /// The keys and values of a map whose keys are not in [`keys`].
    pub fn entries(&self) -> Vec<(&'d str, Item<'d>)> {
        let entries = self.map_entries(|| "a map".to_owned()).iter().take(1000);
        entries.map(|e| (e.key.as_str(), self.child(&e.key, e.at, Some(&e.value)))).collect()
    }

    fn unknown_key(&self, entry: &Entry, section: keys::Section) {
        let text = &entry.key;
        let item = self.child(text, entry.at, None);
        if let Some(new) = section.renamed(text) {
            let problem = ValueError::new("the key was renamed").hint(format!("write `{new}`"));
            return item.error_at_key(problem);
        }
        let known = format!("known here: {}", section.list());
        let hint = if let Some(word) = values::similar(text, section.keys.iter().copied()) {
            format!("did you mean `{word}`? {known}")
        } else if let Some(home) = section.elsewhere(text) {
            format!("it belongs in `{home}`; {known}")
        } else {
            known
        };
        item.error_at_key(ValueError::new("unknown key").hint(hint));
    }

    /// The elements of a list; none if it is absent.
    pub fn list(&self) -> Vec<Item<'d>> {
        match self.content() {
            None | Some(Content::Null) => Vec::new(),
            Some(Content::List(nodes)) => {
                let element = |(i, node): (usize, &'d Node)| Item {
                    doc: self.doc,
                    value: Some(node),
                    at: node.at,
                    path: format!("{}[{i}]", self.path).into(),
                };
                nodes.iter().enumerate().map(element).collect()
            }
            Some(_) => {
                self.expected("a list");
                Vec::new()
            }
        }
    }

    /// Like [`Item::list`], and a single value counts as a list with one element.
    pub fn one_or_more(&self) -> Vec<Item<'d>> {
        if self.is_present() && !self.is_list() { vec![self.clone()] } else { self.list() }
    }

    /// A scalar as text.
    fn scalar(&self, what: &str) -> Option<String> {
        let text = self.content()?.text();
        if text.is_none() {
            self.expected(what);
        }
        text
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

    /// The name of a site.
    pub fn site(&self) -> Option<SiteName> {
        self.text().and_then(|text| SiteName::new(&text))
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

    /// Whether this is `off`, which YAML 1.1 reads as `false`.
    pub fn is_off(&self) -> bool {
        ["off", "no", "false"].iter().any(|word| self.text_is(word))
    }

    pub fn text_is(&self, word: &str) -> bool {
        self.content().and_then(Content::text).is_some_and(|text| text.trim() == word)
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
            n if n < min => Err(ValueError::new(format!("must be at least {}", values::size_text(min)))),
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
        match self.item.value.and_then(|node| node.get(key)) {
            Some(entry) => self.item.child(key, entry.at, Some(&entry.value)),
            None => self.item.child(key, self.item.at, None),
        }
    }

    /// The value of a required key.
    pub fn required(&self, key: &str) -> Item<'d> {
        let item = self.get(key);
        // An absent or wrong map has an error of its own, and so has a misspelt key: it suggests this one.
        let readable = matches!(self.item.content(), Some(Content::Null | Content::Map(_)));
        if item.value.is_none() && readable && !self.is_misspelt(key) {
            item.error_at_key(ValueError::new("is missing").hint(format!("write `{key}:` here")));
        }
        item
    }

    fn is_misspelt(&self, key: &str) -> bool {
        let Some(Content::Map(entries)) = self.item.content() else { return false };
        let mut unknown = entries.iter().map(|e| e.key.as_str()).filter(|k| !self.section.has(k)).take(100);
        unknown.any(|k| values::similar(k, self.section.keys.iter().copied()) == Some(key))
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
