//! The positions of all keys and values of a YAML or JSON text.
//!
//! serde keeps none. Aliases stay references here, so that a short text cannot make a large tree.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, Span};

/// Line and column, both from 1; 0: unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub line: usize,
    pub column: usize,
}

impl Position {
    pub const START: Self = Self { line: 1, column: 1 };
}

impl From<&Span> for Position {
    fn from(span: &Span) -> Self {
        Self { line: span.start.line(), column: span.start.col() + 1 }
    }
}

/// Index of a node in its tree.
pub(super) type NodeId = usize;

#[derive(Debug)]
pub(super) struct Node {
    pub at: Position,
    pub kind: Kind,
    /// Number of nodes from this one down, with aliases written out.
    size: u64,
}

#[derive(Debug)]
pub(super) enum Kind {
    /// As it is written, without quotes.
    Scalar(String),
    Map(Vec<(String, Position, NodeId)>),
    List(Vec<NodeId>),
    Alias(NodeId),
}

/// A key that is twice in one map.
#[derive(Debug)]
pub(super) struct Duplicate {
    /// As a dotted path.
    pub key: String,
    pub first: Position,
    pub again: Position,
}

/// The positions in one document.
#[derive(Debug, Default)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    pub root: Option<NodeId>,
    pub duplicates: Vec<Duplicate>,
    /// Where a second document begins.
    pub second_document: Option<Position>,
    /// Where the text is nested deeper than [`MAX_DEPTH`]; nothing behind it was read.
    pub too_deep: Option<Position>,
}

/// Levels of lists and maps; a configuration needs eight. The time that serde_yaml takes grows with the square of the
/// depth.
pub(super) const MAX_DEPTH: usize = 64;

impl Tree {
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id)
    }

    /// Number of nodes of the document with aliases written out.
    pub fn expanded_size(&self) -> u64 {
        self.root.and_then(|id| self.node(id)).map_or(0, |n| n.size)
    }

    /// The node, or the one that its alias stands for.
    pub fn target(&self, mut id: NodeId) -> Option<&Node> {
        // An alias refers to an earlier node, so this ends before the bound.
        for _ in 0..64 {
            let node = self.node(id)?;
            match node.kind {
                Kind::Alias(to) => id = to,
                _ => return Some(node),
            }
        }
        None
    }

    /// The position of a key in a map, and the node of its value. The key may come from a merge (`<<`).
    pub fn child(&self, map: NodeId, key: &str) -> Option<(Position, NodeId)> {
        self.child_within(map, key, 16)
    }

    fn child_within(&self, map: NodeId, key: &str, depth: usize) -> Option<(Position, NodeId)> {
        let Kind::Map(entries) = &self.target(map)?.kind else { return None };
        if let Some((_, at, id)) = entries.iter().find(|(k, _, _)| k == key) {
            return Some((*at, *id));
        }
        let (_, _, merged) = entries.iter().find(|(k, _, _)| k == "<<")?;
        let depth = depth.checked_sub(1)?;
        match &self.target(*merged)?.kind {
            Kind::List(ids) => ids.iter().find_map(|id| self.child_within(*id, key, depth)),
            _ => self.child_within(*merged, key, depth),
        }
    }

    /// The node of a list's element.
    pub fn element(&self, list: NodeId, index: usize) -> Option<NodeId> {
        match &self.target(list)?.kind {
            Kind::List(ids) => ids.get(index).copied(),
            _ => None,
        }
    }

    /// The first merge key whose value is neither a map nor a list of maps.
    pub fn bad_merge(&self) -> Option<Position> {
        let is_map = |id: &NodeId| self.target(*id).is_some_and(|n| matches!(n.kind, Kind::Map(_)));
        let entries = self.nodes.iter().filter_map(|node| match &node.kind {
            Kind::Map(entries) => Some(entries),
            _ => None,
        });
        let (_, at, _) = entries.flatten().filter(|(key, _, _)| key == "<<").find(|(_, _, id)| match self
            .target(*id)
            .map(|n| &n.kind)
        {
            Some(Kind::List(ids)) => !ids.iter().all(is_map),
            _ => !is_map(id),
        })?;
        Some(*at)
    }

    fn add(&mut self, at: Position, kind: Kind, size: u64) -> NodeId {
        self.nodes.push(Node { at, kind, size });
        self.nodes.len() - 1
    }
}

/// A map or list whose end has not come yet.
struct Open {
    id: NodeId,
    /// In a map: the key whose value comes next.
    key: Option<(String, Position)>,
    seen: HashMap<String, Position>,
    /// Whether this collection is the key of a map.
    is_key: bool,
}

/// Makes a tree from the events of a parser.
#[derive(Default)]
pub(super) struct Builder {
    tree: Tree,
    open: Vec<Open>,
    anchors: HashMap<usize, NodeId>,
}

impl Builder {
    fn in_key_position(&self) -> bool {
        self.open.last().is_some_and(|open| {
            open.key.is_none() && self.tree.node(open.id).is_some_and(|n| matches!(n.kind, Kind::Map(_)))
        })
    }

    pub fn scalar(&mut self, at: Position, text: &str) -> Option<NodeId> {
        if self.in_key_position() {
            self.key(at, text);
            return None;
        }
        let id = self.tree.add(at, Kind::Scalar(text.to_owned()), 1);
        self.attach(id);
        Some(id)
    }

    fn key(&mut self, at: Position, text: &str) {
        let Some(open) = self.open.last_mut() else { return };
        open.key = Some((text.to_owned(), at));
        if let Some(first) = open.seen.get(text).copied() {
            self.tree.duplicates.push(Duplicate { key: self.path(), first, again: at });
        } else {
            open.seen.insert(text.to_owned(), at);
        }
    }

    /// The dotted path of the current position.
    fn path(&self) -> String {
        let mut path = String::new();
        for open in &self.open {
            match (&open.key, self.tree.node(open.id).map(|n| &n.kind)) {
                (_, Some(Kind::List(ids))) => path.push_str(&format!("[{}]", ids.len())),
                (Some((key, _)), _) => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.extend(key.chars().filter(|c| !c.is_control()).take(80));
                }
                _ => {}
            }
        }
        path
    }

    pub fn start(&mut self, at: Position, kind: Kind) -> NodeId {
        let is_key = self.in_key_position();
        let id = self.tree.add(at, kind, 1);
        self.open.push(Open { id, key: None, seen: HashMap::new(), is_key });
        id
    }

    pub fn end(&mut self) {
        let Some(open) = self.open.pop() else { return };
        if open.is_key {
            let at = self.tree.node(open.id).map_or(Position::default(), |n| n.at);
            if let Some(parent) = self.open.last_mut() {
                parent.key = Some(("?".to_owned(), at));
            }
        } else {
            self.attach(open.id);
        }
    }

    fn alias(&mut self, at: Position, anchor: usize) {
        let Some(to) = self.anchors.get(&anchor).copied() else { return };
        if self.in_key_position() {
            let text = match self.tree.target(to).map(|n| &n.kind) {
                Some(Kind::Scalar(text)) => text.clone(),
                _ => "?".to_owned(),
            };
            self.key(at, &text);
            return;
        }
        let size = self.tree.node(to).map_or(1, |n| n.size);
        let id = self.tree.add(at, Kind::Alias(to), size);
        self.attach(id);
    }

    /// Adds a finished node to the innermost open collection.
    fn attach(&mut self, id: NodeId) {
        let size = self.tree.node(id).map_or(1, |n| n.size);
        let Some(open) = self.open.last_mut() else {
            if self.tree.root.is_none() {
                self.tree.root = Some(id);
            }
            return;
        };
        let Some(parent) = self.tree.nodes.get_mut(open.id) else { return };
        parent.size = parent.size.saturating_add(size);
        match &mut parent.kind {
            Kind::Map(entries) => {
                if let Some((key, at)) = open.key.take() {
                    entries.push((key, at, id));
                }
            }
            Kind::List(ids) => ids.push(id),
            _ => {}
        }
    }

    pub fn finish(self) -> Tree {
        self.tree
    }
}

/// The positions in a YAML text. After a syntax error the rest is missing; serde_yaml reports the error.
pub(super) fn of_yaml(text: &str) -> Tree {
    let mut builder = Builder::default();
    let mut documents = 0;
    let mut depth: usize = 0;
    for event in Parser::new_from_str(text) {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => {
                // Within brackets the scanner looks ahead and reaches its own limit before the events come.
                if error.info().contains("recursion limit") {
                    let at = error.marker();
                    builder.tree.too_deep = Some(Position { line: at.line(), column: at.col() + 1 });
                }
                break;
            }
        };
        let at = Position::from(&span);
        match event {
            Event::MappingStart(..) | Event::SequenceStart(..) => depth += 1,
            Event::MappingEnd | Event::SequenceEnd => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            builder.tree.too_deep = Some(at);
            break;
        }
        match event {
            Event::DocumentStart(_) => {
                documents += 1;
                if documents > 1 {
                    builder.tree.second_document = Some(at);
                    break;
                }
            }
            Event::Scalar(text, _, anchor, _) => {
                if let Some(id) = builder.scalar(at, &text) {
                    builder.anchors.insert(anchor, id);
                } else if anchor > 0 {
                    let id = builder.tree.add(at, Kind::Scalar(text.into_owned()), 1);
                    builder.anchors.insert(anchor, id);
                }
            }
            Event::MappingStart(anchor, _) => {
                let id = builder.start(at, Kind::Map(Vec::new()));
                builder.anchors.insert(anchor, id);
            }
            Event::SequenceStart(anchor, _) => {
                let id = builder.start(at, Kind::List(Vec::new()));
                builder.anchors.insert(anchor, id);
            }
            Event::MappingEnd | Event::SequenceEnd => builder.end(),
            Event::Alias(anchor) => builder.alias(at, anchor),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
    }
    builder.finish()
}

/// The positions in a JSON text, which serde_json must have accepted.
pub(super) fn of_json(text: &str) -> Tree {
    let mut builder = Builder::default();
    let mut chars = text.chars().peekable();
    let mut next = Position { line: 1, column: 1 };
    let advance = |c: char, next: &mut Position| {
        if c == '\n' {
            *next = Position { line: next.line + 1, column: 1 };
        } else {
            next.column += 1;
        }
    };
    while let Some(c) = chars.next() {
        let at = next;
        advance(c, &mut next);
        match c {
            '{' => {
                builder.start(at, Kind::Map(Vec::new()));
            }
            '[' => {
                builder.start(at, Kind::List(Vec::new()));
            }
            '}' | ']' => builder.end(),
            ',' | ':' => {}
            c if c.is_whitespace() => {}
            first => {
                let mut raw = String::from(first);
                while let Some(&c) = chars.peek() {
                    if first != '"' && (c.is_whitespace() || matches!(c, ',' | ':' | '}' | ']')) {
                        break;
                    }
                    chars.next();
                    advance(c, &mut next);
                    raw.push(c);
                    if first == '"' && c == '\\' {
                        if let Some(escaped) = chars.next() {
                            advance(escaped, &mut next);
                            raw.push(escaped);
                        }
                    } else if first == '"' && c == '"' {
                        break;
                    }
                }
                let text = serde_json::from_str::<String>(&raw).unwrap_or(raw);
                builder.scalar(at, &text);
            }
        }
    }
    builder.finish()
}
