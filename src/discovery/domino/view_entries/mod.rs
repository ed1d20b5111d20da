//! Parses the response to `?ReadViewEntries`, in XML or JSON, into plain rows.
//!
//! The parsers accept everything that real servers were seen to send, and limit what a hostile one can cost: rows,
//! columns, values, depth. Format: <https://help.hcl-software.com/dom_designer/14.0.0/basic/H_VIEWENTRIES_ELEMENT_XML.html>

mod categories;
mod json;
pub(crate) mod reader;
mod repair;
mod xml;

pub use categories::Categories;

use super::login::is_html;
use crate::config::settings::{Column, ViewFormat};

/// Limit for the rows of one page; `icm` asks for 1000.
pub const MAX_ROWS: usize = 100_000;
/// Limit for the columns of a row; the others are ignored.
pub const MAX_COLUMNS: usize = 256;
/// Limit for the values of a column; the others are ignored.
pub const MAX_VALUES: usize = 1024;

/// The rows of one response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// `toplevelentries`: rows of a flat view, first-level categories of a categorised one.
    pub top_level_entries: Option<u64>,
    /// All rows of the page, in the order of the view.
    pub rows: Vec<Row>,
}

/// One `viewentry`: a document or a category.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// `1`, or `3.2` below a category; empty if absent.
    pub position: String,
    /// True for a category, false for a document.
    pub is_category: bool,
    /// The columns in the response; Domino may omit empty ones.
    pub columns: Vec<ColumnValue>,
}

/// One `entrydata`: a column of a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ColumnValue {
    /// `columnnumber`, from 0; if absent, the position within the row.
    pub number: u32,
    /// The programmatic name of the column; empty if absent.
    pub name: String,
    /// One value, or those of a list, which may be empty.
    pub values: Vec<String>,
}

/// Why a response is not a page of view entries.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// A web page, such as an error page or a form.
    #[error("the response is an HTML page instead of view entries")]
    Html,
    /// Neither XML with `viewentries` nor a JSON object.
    #[error("no view entries in the response: {0}")]
    NotViewEntries(String),
    /// The text ends too early or is malformed.
    #[error("view entries are broken: {0}")]
    Broken(String),
    /// More than [`MAX_ROWS`], or nested too deeply.
    #[error("view entries exceed a limit: {0}")]
    LimitExceeded(String),
}

/// Parses one response to `?ReadViewEntries`.
///
/// # Errors
/// When it has no view entries, is malformed, or exceeds a limit.
pub fn parse(format: ViewFormat, body: &[u8]) -> Result<Page, PageError> {
    if is_html(body) {
        return Err(PageError::Html);
    }
    match format {
        ViewFormat::Xml => xml::parse(body),
        ViewFormat::Json => json::parse(body),
    }
}

impl Row {
    /// The values of a column; `None` if the row does not have it.
    #[must_use]
    pub fn values(&self, column: &Column) -> Option<&[String]> {
        let found = self.columns.iter().find(|value| match column {
            Column::Number(number) => value.number == *number,
            Column::Name(name) => value.name.eq_ignore_ascii_case(name),
        })?;
        Some(&found.values)
    }

    /// The first value of a column, trimmed; empty if there is none.
    #[must_use]
    pub fn text(&self, column: &Column) -> &str {
        self.values(column).and_then(<[String]>::first).map_or("", |text| text.trim())
    }

    /// The level of the row: 1 at the top, 3 for `4.1.2`.
    #[must_use]
    pub fn depth(&self) -> usize {
        1 + self.position.matches('.').count()
    }
}

impl ColumnValue {
    /// True if every value is empty or blank.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.values.iter().all(|value| value.trim().is_empty())
    }
}

#[cfg(test)]
mod reader_tests;
#[cfg(test)]
mod tests;
