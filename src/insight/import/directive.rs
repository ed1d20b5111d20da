//! A directive of nginx or HAProxy with its place, as both parsers return it, so that the report can name every one of them.

use std::sync::Arc;

/// A line of a configuration that is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SourceLine {
    pub file: Arc<str>,
    /// From 1, as editors count.
    pub line: usize,
}

impl std::fmt::Display for SourceLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// A directive with its arguments. A block of nginx and a section of HAProxy have directives of their own.
#[derive(Clone, Debug)]
pub(crate) struct Directive {
    /// Its number in the order of reading, by which the report knows it.
    pub id: usize,
    pub at: SourceLine,
    pub name: String,
    pub args: Vec<String>,
    pub block: Option<Vec<Directive>>,
}

/// In characters: a longer directive is cut where it is shown.
const MAX_SHOWN: usize = 100;

impl Directive {
    /// An argument by its number; empty if it is absent.
    pub fn arg(&self, number: usize) -> &str {
        self.args.get(number).map_or("", String::as_str)
    }

    /// The directives inside; none for a directive without a block.
    pub fn body(&self) -> &[Directive] {
        self.block.as_deref().unwrap_or_default()
    }

    /// The arguments from this one on.
    pub fn args_from(&self, number: usize) -> &[String] {
        self.args.get(number..).unwrap_or_default()
    }

    /// The directive on one line, without its block, for people.
    pub fn shown(&self) -> String {
        let mut text = self.name.clone();
        for argument in &self.args {
            text.push(' ');
            text.push_str(argument);
        }
        if self.block.is_some() {
            text.push_str(" {}");
        }
        one_line(&text)
    }
}

/// A text without line breaks and other control characters, which would end a comment.
pub(crate) fn without_breaks(text: &str) -> String {
    let clean =
        |c: char| if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') { ' ' } else { c };
    text.chars().map(clean).collect()
}

/// A text without line breaks, cut after [`MAX_SHOWN`] characters.
pub(crate) fn one_line(text: &str) -> String {
    let start: String = text.chars().take(MAX_SHOWN).collect();
    let mut line = without_breaks(&start);
    if text.chars().nth(MAX_SHOWN).is_some() {
        line.push('…');
    }
    line
}

/// A file of the configuration as comments and lists name it: below the directory of the configuration if it is there.
pub(crate) fn shown_path(root: &std::path::Path, path: &std::path::Path) -> Arc<str> {
    let path = path.strip_prefix(root).unwrap_or(path);
    without_breaks(&path.display().to_string()).into()
}

/// A text that is no configuration of this kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// It does not follow the grammar.
    #[error("{file}:{line}: {message}")]
    Syntax {
        /// The file of the configuration.
        file: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// Neither kind of directives is in it.
    #[error(
        "{0} looks neither like a configuration of nginx nor like one of HAProxy: name it with --format nginx or \
         --format haproxy"
    )]
    Unrecognised(String),
    /// Nothing in it leads to servers.
    #[error("{0} names no servers to which HTTP requests go, so there is nothing to take over")]
    NoServers(String),
    /// The file, or one that it includes, cannot be read.
    #[error("cannot read {0}: {1}")]
    Unreadable(String, String),
}

/// Numbers directives in the order of reading, over all files.
#[derive(Debug, Default)]
pub(crate) struct Numbering(usize);

/// More directives than any configuration has; reading ends there.
pub(crate) const MAX_DIRECTIVES: usize = 50_000;

impl Numbering {
    /// The next number; `None` after [`MAX_DIRECTIVES`].
    pub fn next(&mut self) -> Option<usize> {
        let id = self.0;
        self.0 += 1;
        (id < MAX_DIRECTIVES).then_some(id)
    }
}
