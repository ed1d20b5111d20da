//! Category values carried down to the documents below them.
//!
//! In: the rows of a view in their order, across pages. Out: each document's row with the columns of
//! its categories filled in. In a flat view nothing changes.

use super::{ColumnValue, Row};

/// The headings above the next row.
#[derive(Debug, Default)]
pub struct Categories {
    open: Vec<(usize, Vec<ColumnValue>)>,
}

impl Categories {
    /// Nothing is open.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a heading and gives nothing, or fills up and gives back a document.
    pub fn take(&mut self, mut row: Row) -> Option<Row> {
        let depth = row.depth();
        self.open.retain(|(above, _)| *above < depth);
        if row.is_category {
            self.open.push((depth, row.columns));
            return None;
        }
        for (_, columns) in &self.open {
            for heading in columns {
                match row.columns.iter_mut().find(|column| column.number == heading.number) {
                    Some(own) if own.is_blank() => own.values.clone_from(&heading.values),
                    Some(_) => {}
                    None => row.columns.push(heading.clone()),
                }
            }
        }
        Some(row)
    }
}
