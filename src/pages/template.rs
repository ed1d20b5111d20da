//! An HTML file with `{{names}}` in it, checked once and filled often.
//!
//! In: the text of a template and the names it may hold. Out: [`Template`], which turns values that
//! are already harmless HTML into a page. It never escapes and never looks at a request.

use std::path::{Path, PathBuf};

/// Why a page of the shop's own cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PagesError {
    /// The directory or a file in it cannot be read, or is no UTF-8.
    #[error("cannot read {}: {source}", file.display())]
    Unreadable {
        /// Directory or file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A name between braces that this page does not know.
    #[error("{}, line {line}: unknown placeholder `{{{{{name}}}}}`, this page has {known}", file.display())]
    UnknownPlaceholder {
        /// Template file.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// As written.
        name: String,
        /// All that may stand there.
        known: String,
    },
    /// `{{` without `}}` on the same line.
    #[error("{}, line {line}: `{{{{` is not closed by `}}}}`", file.display())]
    Unclosed {
        /// Template file.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// A page that would not do what it is for.
    #[error("{} does not hold the placeholder `{{{{{name}}}}}`", file.display())]
    Missing {
        /// Template file.
        file: PathBuf,
        /// What must stand there.
        name: &'static str,
    },
}

/// A parsed template.
#[derive(Clone, Debug)]
pub struct Template {
    /// The shop's own, which may use what lies elsewhere.
    pub is_replaced: bool,
    /// Literal text, each piece but the last followed by a placeholder.
    pieces: Vec<(String, Option<&'static str>)>,
}

impl Template {
    /// A page with nothing on it.
    #[must_use]
    pub fn empty() -> Self {
        Self { is_replaced: false, pieces: Vec::new() }
    }

    /// The same, known to be the shop's own.
    #[must_use]
    pub fn of_the_shop(self) -> Self {
        Self { is_replaced: true, ..self }
    }

    /// Splits `text` at its placeholders. `file` is for messages alone.
    ///
    /// # Errors
    /// When a placeholder is not among `known`, is not closed, or the one of `required` is missing.
    pub fn parse(
        file: &Path,
        text: &str,
        known: &[&'static str],
        required: &'static str,
    ) -> Result<Self, PagesError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        let mut line = 1;
        while let Some((before, after)) = rest.split_once("{{") {
            line += before.matches('\n').count();
            let Some((name, after)) = after.split_once("}}").filter(|(name, _)| !name.contains('\n')) else {
                return Err(PagesError::Unclosed { file: file.to_owned(), line });
            };
            let name = name.trim();
            let Some(placeholder) = known.iter().find(|k| **k == name) else {
                return Err(PagesError::UnknownPlaceholder {
                    file: file.to_owned(),
                    line,
                    name: name.chars().take(64).collect(),
                    known: known.join(", "),
                });
            };
            pieces.push((before.to_owned(), Some(*placeholder)));
            rest = after;
        }
        pieces.push((rest.to_owned(), None));
        if !pieces.iter().any(|(_, p)| *p == Some(required)) {
            return Err(PagesError::Missing { file: file.to_owned(), name: required });
        }
        Ok(Self { is_replaced: false, pieces })
    }

    /// The page, with `value(name)` in place of each placeholder. Values must be harmless HTML.
    #[must_use]
    pub fn fill<'a>(&'a self, value: impl Fn(&'static str) -> &'a str) -> String {
        let mut out = String::with_capacity(4096);
        for (text, placeholder) in &self.pieces {
            out.push_str(text);
            if let Some(name) = placeholder {
                out.push_str(value(name));
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Template, PagesError> {
        Template::parse(Path::new("pages/error.html"), text, &["title", "message"], "message")
    }

    #[test]
    fn placeholders_are_filled_with_or_without_blanks() {
        let template = parse("<b>{{title}}</b>{{ message }}!").unwrap();
        let page = template.fill(|name| if name == "title" { "T" } else { "M" });
        assert_eq!(page, "<b>T</b>M!");
    }

    #[test]
    fn a_value_is_never_taken_for_a_template() {
        let template = parse("{{message}}").unwrap();
        assert_eq!(template.fill(|_| "{{title}}"), "{{title}}");
    }

    #[test]
    fn mistakes_name_the_file_and_the_line() {
        let unknown = parse("a\nb {{titel}} {{message}}").unwrap_err().to_string();
        assert_eq!(
            unknown,
            "pages/error.html, line 2: unknown placeholder `{{titel}}`, this page has title, message"
        );
        let unclosed = parse("{{message}}\n\n{{title\n}}").unwrap_err().to_string();
        assert_eq!(unclosed, "pages/error.html, line 3: `{{` is not closed by `}}`");
        let missing = parse("{{title}}").unwrap_err().to_string();
        assert_eq!(missing, "pages/error.html does not hold the placeholder `{{message}}`");
    }
}
