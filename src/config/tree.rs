//! The values of a YAML text with their positions, built from the events of saphyr's parser.
//!
//! serde_yaml keeps no positions and has no limits for depth, aliases and documents. It still reads numbers here, and
//! writes values.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, StrInput, Tag};
use serde::{Serialize, Serializer};
use serde_yaml::Number;

use super::value_error::ValueError;

/// Levels of lists and maps; a configuration needs eight.
const MAX_DEPTH: usize = 64;
/// The most values in a text, with its aliases written out.
const MAX_VALUES: u64 = 1_000_000;

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
    /// Merge keys (`<<`) are applied. A key may be there twice.
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
            Content::Null | Content::Tagged => to.serialize_unit(),
            Content::Bool(truth) => to.serialize_bool(*truth),
            Content::Number(number) => number.serialize(to),
            Content::Text(text) => to.serialize_str(text),
            Content::List(nodes) => to.collect_seq(nodes.iter()),
            Content::Map(entries) => to.collect_map(entries.iter().map(|entry| (&entry.key, &entry.value))),
        }
    }
}

/// Why a text cannot be read, and where.
type Failure = (Position, ValueError);

/// Reads a YAML or JSON text. A text without a value is `Null`.
pub(super) fn read(text: &str) -> Result<Node, Failure> {
    // YAML forbids these, but saphyr accepts them.
    let is_forbidden = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}');
    if let Some((before, _)) = text.find(is_forbidden).and_then(|at| text.split_at_checked(at)) {
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let problem = ValueError::new("is not YAML: control characters are not allowed");
        return Err((Position { line, column }, problem));
    }
    let events = Parser::new_from_str(text);
    let mut reader = Reader { text, events, anchors: HashMap::new(), values: 0, depth: 0 };
    let mut root = None;
    loop {
        match reader.next()? {
            (Event::DocumentStart(_), at) if root.is_some() => {
                let problem = ValueError::new("a second YAML document begins here");
                return Err((at, problem.hint("a file has one configuration, remove the `---`")));
            }
            (Event::DocumentStart(_), _) => root = reader.node()?,
            (Event::StreamEnd, _) => {
                return Ok(root.unwrap_or(Node { at: Position::START, content: Content::Null }));
            }
            _ => {}
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    events: Parser<'a, StrInput<'a>>,
    /// What an anchor stands for, and the number of values in it.
    anchors: HashMap<usize, (Content, u64)>,
    /// Number of values so far, with aliases written out.
    values: u64,
    depth: usize,
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
        let before = self.values;
        self.count(1)?;
        let (anchor, tag, content) = match event {
            Event::Alias(anchor) => {
                let Some((content, size)) = self.anchors.get(&anchor).cloned() else {
                    return Err((at, ValueError::new("the alias is inside the value that it refers to")));
                };
                self.count(size)?;
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
                let mut nodes = Vec::new();
                while let Some(node) = self.node()? {
                    nodes.push(node);
                }
                self.depth -= 1;
                (anchor, tag, Content::List(Rc::new(nodes)))
            }
            Event::MappingStart(anchor, tag) => {
                self.descend(at)?;
                let entries = self.entries()?;
                self.depth -= 1;
                (anchor, tag, Content::Map(Rc::new(entries)))
            }
            _ => return Ok(None),
        };
        let is_tagged = tag.is_some_and(|tag| !Tag::is_yaml_core_schema(&tag));
        let content = if is_tagged { Content::Tagged } else { content };
        if anchor > 0 {
            self.anchors.insert(anchor, (content.clone(), self.values - before));
        }
        Ok(Some(Node { at, content }))
    }

    fn entries(&mut self) -> Result<Vec<Entry>, Failure> {
        let (mut entries, mut merged) = (Vec::new(), Vec::new());
        while let Some(Node { at, content }) = self.node()? {
            let Some(value) = self.node()? else { break };
            let key = content.text().unwrap_or_else(|| "?".to_owned());
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
