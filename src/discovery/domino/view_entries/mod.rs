//! The answer of `?ReadViewEntries`, in XML or JSON, as plain rows.
//!
//! In: the octets of one answer. Out: a [`Page`]. The parsers take everything that live servers have
//! been seen to send, and bound what a hostile one can cost: rows, columns, values, depth. They never
//! judge what a column means.
//!
//! Shapes and traps: <https://help.hcl-software.com/dom_designer/14.0.0/basic/H_VIEWENTRIES_ELEMENT_XML.html>

pub mod categories;
pub mod json;
pub mod reader;
pub mod repair;
pub mod xml;

pub use categories::Categories;
pub use reader::{ReadError, ReadSummary, ReadTimeLimit, RowSink, ViewRequest, ViewSource};

use super::login::is_html;
use crate::config::settings::{Column, ViewFormat};

/// Most rows of one page; we ask for 1000.
pub const MAX_ROWS: usize = 100_000;
/// Most columns of a row, most values of a column; what is beyond is not read.
pub const MAX_COLUMNS: usize = 256;
/// Most values of one column.
pub const MAX_VALUES: usize = 1024;

/// One answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// `toplevelentries`: rows of a flat view, first-level categories of a categorised one.
    pub top_level_entries: Option<u64>,
    /// In the view's order.
    pub rows: Vec<Row>,
}

/// A `viewentry`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// `1`, or dotted below a category: `3.2`. Empty if absent.
    pub position: String,
    /// A heading, not a document.
    pub is_category: bool,
    /// Those that were sent; empty ones may be missing.
    pub columns: Vec<ColumnValue>,
}

/// An `entrydata`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ColumnValue {
    /// `columnnumber`, from 0; the order within the row where it is absent.
    pub number: u32,
    /// Programmatic name; empty if absent.
    pub name: String,
    /// One, or several of a list; none for an empty list.
    pub values: Vec<String>,
}

/// An answer that is no page of view entries.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// A web page, such as an error page or a form.
    #[error("an HTML page came instead of view entries")]
    Html,
    /// Neither XML with `viewentries` nor a JSON object.
    #[error("no view entries in the answer: {0}")]
    NotViewEntries(String),
    /// It ends too early or is broken beyond repair.
    #[error("view entries are broken: {0}")]
    Broken(String),
    /// More than [`MAX_ROWS`], or nested too deeply.
    #[error("view entries exceed a limit: {0}")]
    LimitExceeded(String),
}

/// Parses one answer.
///
/// # Errors
/// When it holds no view entries, is broken, or exceeds a limit.
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
    /// The values of a column, `None` if the row does not have it.
    #[must_use]
    pub fn values(&self, column: &Column) -> Option<&[String]> {
        let found = self.columns.iter().find(|value| match column {
            Column::Number(number) => value.number == *number,
            Column::Name(name) => value.name.eq_ignore_ascii_case(name),
        })?;
        Some(&found.values)
    }

    /// The first value of a column without blanks around it; empty if there is none.
    #[must_use]
    pub fn text(&self, column: &Column) -> &str {
        self.values(column).and_then(<[String]>::first).map_or("", |text| text.trim())
    }

    /// How deep the row lies: 1 at the top, 3 for `4.1.2`.
    #[must_use]
    pub fn depth(&self) -> usize {
        1 + self.position.matches('.').count()
    }
}

impl ColumnValue {
    /// True when there is nothing but blanks in it.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.values.iter().all(|value| value.trim().is_empty())
    }
}

#[cfg(test)]
mod reader_tests;
#[cfg(test)]
mod tests;
