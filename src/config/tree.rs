//! The values of a YAML text with their positions, built from the events of saphyr's parser.
//!
//! serde_yaml keeps no positions and has no limits for depth, aliases and documents. It still reads numbers here, and
//! writes values.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::rc::Rc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, StrInput, Tag};
use serde::{Serialize, Serializer};
use serde_yaml::Number;

use super::value_error::ValueError;

/// Levels of lists and maps, also through aliases; a configuration needs eight. What reads the values is recursive.
const MAX_DEPTH: usize = 64;
/// The most values in a text, with its aliases written out.
const MAX_VALUES: u64 = 1_000_000;

pub(super) const TAGS_NOT_SUPPORTED: &str = "YAML tags (`!...`) are not supported";

/// Line and column, both from 1; 0: unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    pub line: usize,
    pub column: usize,
}

impl Position {
    pub const START: Self = Self { line: 1, column: 1 };
}

impl From<&Marker> for Position {
    fn from(marker: &Marker) -> Self {
        Self { line: marker.line(), column: marker.col() + 1 }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub at: Position,
    pub content: Content,
}

/// An alias shares the lists and maps of its anchor, so that a short text cannot make a large tree.
#[derive(Clone, Debug)]
pub(super) enum Content {
    Null,
    Bool(bool),
    /// A whole number; fractional ones are text.
    Number(Number),
    Text(String),
    List(Rc<Vec<Node>>),
    /// Merge keys (`<<`) are applied.
    Map(Rc<Vec<Entry>>),
    /// Any value with a tag of its own, such as `!x`.
    Tagged,
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub key: String,
    /// The position of the key.
    pub at: Position,
    pub value: Node,
}

impl Node {
    pub fn get(&self, key: &str) -> Option<&Entry> {
        match &self.content {
            Content::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }
}

impl Content {
    /// A scalar as text.
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::Number(number) => Some(number.to_string()),
            Self::Bool(truth) => Some(truth.to_string()),
            _ => None,
        }
    }

    fn plain(text: String) -> Self {
        match text.as_str() {
            "" | "~" | "null" | "Null" | "NULL" => Self::Null,
            "true" | "True" | "TRUE" => Self::Bool(true),
            "false" | "False" | "FALSE" => Self::Bool(false),
            _ => match text.parse::<Number>() {
                Ok(number) if !number.is_f64() => Self::Number(number),
                // The replica ID `85257E1000123456` looks like a fractional number, and would lose its digits.
                _ => Self::Text(text),
            },
        }
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match &self.content {
            Content::Null => to.serialize_unit(),
            Content::Tagged => Err(serde::ser::Error::custom(TAGS_NOT_SUPPORTED)),
            Content::Bool(truth) => to.serialize_bool(*truth),
            Content::Number(number) => number.serialize(to),
            Content::Text(text) => to.serialize_str(text),
            Content::List(nodes) => to.collect_seq(nodes.iter()),
            Content::Map(entries) => to.collect_map(entries.iter().map(|entry| (&entry.key, &entry.value))),
        }
    }
}

/// A key that a map has had before.
#[derive(Clone, Debug)]
pub(super) struct Duplicate {
    /// The dotted path of the key.
    pub path: String,
    pub at: Position,
    /// The line of the first one.
    pub first: usize,
}

/// Why a text cannot be read, and where.
pub(super) type Failure = (Position, ValueError);

/// Appends a key to a dotted path. A key in the file may be anything: a long one would hide the message.
pub(super) fn push_key(path: &mut String, key: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.extend(key.chars().take(80).map(|c| if c.is_control() { '?' } else { c }));
}

/// Reads a YAML or JSON text, and lists its duplicate keys. A text without a value is `Null`.
pub(super) fn read(text: &str) -> Result<(Node, Vec<Duplicate>), Failure> {
    // YAML forbids these, but saphyr accepts them.
    let is_forbidden = |c: char| match c {
        '\t' | '\n' | '\r' | '\u{85}' => false,
        '\u{FEFF}' | '\u{FFFE}' | '\u{FFFF}' => true,
        _ => c.is_control(),
    };
    if let Some((before, _)) = text.find(is_forbidden).and_then(|at| text.split_at_checked(at)) {
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let problem = ValueError::new("is not YAML: control characters are not allowed");
        return Err((Position { line, column }, problem));
    }
    let events = Parser::new_from_str(text);
    let mut reader = Reader {
        text,
        events,
        anchors: HashMap::new(),
        values: 0,
        depth: 0,
        deepest: 0,
        path: String::new(),
        duplicates: Vec::new(),
    };
    let mut root = None;
    loop {
        match reader.next()? {
            (Event::DocumentStart(_), at) if root.is_some() => {
                let problem = ValueError::new("a second YAML document begins here");
                return Err((at, problem.hint("a file has one configuration, remove the `---`")));
            }
            (Event::DocumentStart(_), _) => root = reader.node()?,
            (Event::StreamEnd, _) => {
                let root = root.unwrap_or(Node { at: Position::START, content: Content::Null });
                return Ok((root, reader.duplicates));
            }
            _ => {}
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    events: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, Anchored>,
    /// Number of values so far, with aliases written out.
    values: u64,
    /// Lists and maps that are open.
    depth: usize,
    /// The greatest depth in the value that is being read, with aliases written out.
    deepest: usize,
    /// The dotted path of the value that is being read.
    path: String,
    duplicates: Vec<Duplicate>,
}

/// What an alias stands for.
#[derive(Clone)]
struct Anchored {
    content: Content,
    values: u64,
    levels: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Position), Failure> {
        match self.events.next_event() {
            Some(Ok((event, span))) => Ok((event, Position::from(&span.start))),
            Some(Err(error)) => {
                let at = Position::from(error.marker());
                // Within brackets the scanner looks ahead and reaches its own limit before the events come.
                if error.info().contains("recursion limit") {
                    return Err(too_deep(at));
                }
                let problem = ValueError::new(format!("is not YAML: {}", error.info()));
                let line = self.text.lines().nth(at.line.saturating_sub(1)).unwrap_or_default();
                let mut indent = line.chars().take_while(|c| c.is_whitespace());
                Err(match indent.position(|c| c == '\t') {
                    Some(tab) => (
                        Position { column: tab + 1, ..at },
                        problem.hint("indent with spaces, YAML does not allow tabs"),
                    ),
                    None => (at, problem),
                })
            }
            None => Ok((Event::StreamEnd, Position::START)),
        }
    }

    /// The next value; `None` at the end of a list, map or document.
    fn node(&mut self) -> Result<Option<Node>, Failure> {
        let (event, at) = self.next()?;
        let (before, outer) = (self.values, std::mem::replace(&mut self.deepest, self.depth));
        if matches!(event, Event::Scalar(..) | Event::SequenceStart(..) | Event::MappingStart(..)) {
            self.count(1)?;
        }
        let (anchor, tag, content) = match event {
            Event::Alias(anchor) => {
                let Some(Anchored { content, values, levels }) = self.anchors.get(&anchor).cloned() else {
                    return Err((at, ValueError::new("the alias is inside the value that it refers to")));
                };
                self.count(values)?;
                self.deepest = outer.max(self.depth + levels);
                if self.deepest > MAX_DEPTH {
                    return Err(too_deep(at));
                }
                return Ok(Some(Node { at, content }));
            }
            Event::Scalar(text, style, anchor, tag) => {
                let is_text =
                    tag.as_ref().is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str");
                let content = match style {
                    ScalarStyle::Plain if !is_text => Content::plain(text.into_owned()),
                    _ => Content::Text(text.into_owned()),
                };
                (anchor, tag, content)
            }
            Event::SequenceStart(anchor, tag) => {
                self.descend(at)?;
                let nodes = self.elements()?;
                self.depth -= 1;
                (anchor, tag, Content::List(Rc::new(nodes)))
            }
            Event::MappingStart(anchor, tag) => {
                self.descend(at)?;
                let entries = self.entries()?;
                self.depth -= 1;
                (anchor, tag, Content::Map(Rc::new(entries)))
            }
            _ => {
                self.deepest = outer;
                return Ok(None);
            }
        };
        let is_tagged = tag.is_some_and(|tag| !Tag::is_yaml_core_schema(&tag));
        let content = if is_tagged { Content::Tagged } else { content };
        if anchor > 0 {
            let (values, levels) = (self.values - before, self.deepest - self.depth);
            self.anchors.insert(anchor, Anchored { content: content.clone(), values, levels });
        }
        self.deepest = self.deepest.max(outer);
        Ok(Some(Node { at, content }))
    }

    fn elements(&mut self) -> Result<Vec<Node>, Failure> {
        let (mut nodes, length) = (Vec::new(), self.path.len());
        loop {
            let _ = write!(self.path, "[{}]", nodes.len());
            let node = self.node()?;
            self.path.truncate(length);
            match node {
                Some(node) => nodes.push(node),
                None => return Ok(nodes),
            }
        }
    }

    fn entries(&mut self) -> Result<Vec<Entry>, Failure> {
        let (mut entries, mut merged) = (Vec::new(), Vec::new());
        let (mut lines, length) = (HashMap::new(), self.path.len());
        loop {
            let values = self.values;
            let Some(Node { at, content }) = self.node()? else { break };
            // A key is not a value.
            self.values = values;
            let key = match content {
                Content::Null => "null".to_owned(),
                content => content.text().unwrap_or_else(|| "?".to_owned()),
            };
            push_key(&mut self.path, &key);
            if let Some(first) = lines.insert(key.clone(), at.line) {
                self.duplicates.push(Duplicate { path: self.path.clone(), at, first });
            }
            let value = self.node()?;
            self.path.truncate(length);
            let Some(value) = value else { break };
            if key != "<<" {
                entries.push(Entry { key, at, value });
                continue;
            }
            let sources = match &value.content {
                Content::List(nodes) => nodes.as_slice(),
                _ => std::slice::from_ref(&value),
            };
            for source in sources {
                let Content::Map(map) = &source.content else {
                    let problem = ValueError::new("the value of the merge key (`<<`) is not a map");
                    return Err((at, problem.hint("write an alias of a map, or a list of them")));
                };
                merged.extend(map.iter().cloned());
            }
        }
        if !merged.is_empty() {
            let mut keys: HashSet<String> = entries.iter().map(|entry| entry.key.clone()).collect();
            entries.extend(merged.into_iter().filter(|entry| keys.insert(entry.key.clone())));
        }
        Ok(entries)
    }

    fn descend(&mut self, at: Position) -> Result<(), Failure> {
        self.depth += 1;
        self.deepest = self.deepest.max(self.depth);
        if self.depth > MAX_DEPTH { Err(too_deep(at)) } else { Ok(()) }
    }

    fn count(&mut self, values: u64) -> Result<(), Failure> {
        self.values = self.values.saturating_add(values);
        if self.values <= MAX_VALUES {
            return Ok(());
        }
        let problem = ValueError::new(format!("the file has more than {MAX_VALUES} values"));
        Err((Position::START, problem.hint("an alias counts as all values that it stands for")))
    }
}

fn too_deep(at: Position) -> Failure {
    (at, ValueError::new(format!("lists and maps are nested deeper than {MAX_DEPTH} levels")))
}
