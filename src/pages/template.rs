//! HTML templates with `{{placeholders}}`, checked when they are loaded. Values must be escaped already.

use std::path::{Path, PathBuf};

/// Why a custom page cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PagesError {
    /// The directory or a file in it cannot be read, or is not UTF-8.
    #[error("cannot read {}: {source}", file.display())]
    Unreadable { file: PathBuf, source: std::io::Error },
    /// A placeholder that this page does not have.
    #[error("{}, line {line}: unknown placeholder `{{{{{name}}}}}`, this page has {known}", file.display())]
    UnknownPlaceholder {
        file: PathBuf,
        line: usize,
        name: String,
        /// The placeholders of this page.
        known: String,
    },
    /// `{{` without `}}` on the same line.
    #[error("{}, line {line}: `{{{{` is not closed by `}}}}`", file.display())]
    Unclosed { file: PathBuf, line: usize },
    /// A page without its required placeholder.
    #[error("{} does not contain the placeholder `{{{{{name}}}}}`", file.display())]
    Missing { file: PathBuf, name: &'static str },
}

/// A template that has been checked.
#[derive(Clone, Debug)]
pub struct Template {
    /// Comes from `pages_dir`, and may load resources of other sites.
    pub is_custom: bool,
    /// Literal text, followed by a placeholder except at the end.
    pieces: Vec<(String, Option<&'static str>)>,
}

impl Template {
    #[must_use]
    pub fn empty() -> Self {
        Self { is_custom: false, pieces: Vec::new() }
    }

    /// Marks the template as custom.
    #[must_use]
    pub fn into_custom(self) -> Self {
        Self { is_custom: true, ..self }
    }

    /// Splits `text` at its placeholders. `file` is for error messages only.
    ///
    /// # Errors
    /// When a placeholder is unknown or not closed, or `required` is missing.
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
        Ok(Self { is_custom: false, pieces })
    }

    /// The page with `value(name)` in place of each placeholder.
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
        assert_eq!(missing, "pages/error.html does not contain the placeholder `{{message}}`");
    }
}
