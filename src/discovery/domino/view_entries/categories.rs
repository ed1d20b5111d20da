//! Copies the values of categories into the documents below them, across pages.

use super::{ColumnValue, Row};

/// The categories above the next row.
#[derive(Debug, Default)]
pub struct Categories {
    /// Level and columns of each, outermost first.
    open: Vec<(usize, Vec<ColumnValue>)>,
}

impl Categories {
    /// Remembers a category and returns nothing, or returns a document with the missing columns filled in.
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
