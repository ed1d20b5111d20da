//! `directory: { source: file }`: a CSV or JSON file, which is read at start and at each reload.

use std::path::PathBuf;

use super::directory_entries::{Seen, mark, replica_id, server};
use super::directory_json;
use super::document::Document;
use super::file_access::Named;
use super::reader::Item;
use super::tree::Position;
use super::values::{self, ValueError};
use crate::domain::cluster::ServerName;
use crate::domain::directory::{DirectoryBuilder, DirectoryEntry};

/// In bytes: some ten million replicas.
const MAX_SIZE: u64 = 1 << 30;
const COLUMNS: [&str; 5] = ["path", "server", "replica_id", "title", "mark"];

/// Reads the file that `item` names, by its extension.
pub(super) fn read(item: &Item<'_>, known: Option<&[ServerName]>) -> Option<(PathBuf, DirectoryBuilder)> {
    let (path, content) = item.file(Named::Public, MAX_SIZE)?;
    let document = |text| Document { load: item.doc.load, file: &path, text };
    let text = match std::str::from_utf8(&content.bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            let good = content.bytes.get(..error.valid_up_to()).unwrap_or_default();
            let line = good.iter().filter(|b| **b == b'\n').count() + 1;
            document("").error(Position { line, column: 1 }, "", ValueError::new("is not UTF-8 text"));
            return None;
        }
    };
    let extension = path.extension().map(|e| e.to_ascii_lowercase());
    let builder = match extension.as_deref().and_then(|e| e.to_str()) {
        Some("csv") => csv(&document(text), known),
        Some("json") => directory_json::read(&document(text), known),
        _ => {
            item.error(
                ValueError::new(format!("{} is of an unknown kind", path.display()))
                    .hint("name a `.csv` or a `.json` file"),
            );
            return None;
        }
    };
    if builder.is_empty() && !item.doc.load.failed() {
        item.warn("the file has no replicas");
    }
    Some((path, builder))
}

fn csv(document: &Document<'_>, known: Option<&[ServerName]>) -> DirectoryBuilder {
    let header = document.text.lines().next().unwrap_or_default();
    // Where a comma is the decimal separator, spreadsheets write semicolons.
    let delimiter = if header.contains(';') && !header.contains(',') { b';' } else { b',' };
    let mut reader = csv::ReaderBuilder::new()
        .flexible(true)
        .delimiter(delimiter)
        .trim(csv::Trim::All)
        .from_reader(document.text.as_bytes());
    let Some(columns) = reader.headers().ok().and_then(|header| columns(document, header)) else {
        return DirectoryBuilder::default();
    };
    let mut builder = DirectoryBuilder::default();
    let mut seen = Seen::default();
    let mut record = csv::StringRecord::new();
    while !document.is_saturated() {
        match reader.read_record(&mut record) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                let line = error.position().map_or(0, csv::Position::line);
                let at = Position { line: usize::try_from(line).unwrap_or(0), column: 1 };
                document.error(at, "", ValueError::new(format!("is not CSV: {error}")));
                break;
            }
        }
        let line = record.position().map_or(0, csv::Position::line);
        let row =
            Row { document, line: usize::try_from(line).unwrap_or(0), record: &record, columns, delimiter };
        if let Some(entry) = row.entry(known) {
            if !seen.is_new(&entry) {
                document.warn(Position { line: row.line, column: 1 }, "", "this replica is listed twice");
            }
            builder.add(&entry);
        }
    }
    builder
}

/// The index of each of [`COLUMNS`] in a row.
type Columns = [Option<usize>; 5];

fn columns(document: &Document<'_>, header: &csv::StringRecord) -> Option<Columns> {
    let at = Position { line: 1, column: 1 };
    let mut columns = [None; 5];
    let mut good = true;
    for (i, name) in header.iter().enumerate() {
        let known = COLUMNS.iter().zip(&mut columns).find(|(c, _)| c.eq_ignore_ascii_case(name));
        match known {
            Some((_, slot @ None)) => *slot = Some(i),
            Some(_) => {
                document.error(at, name, ValueError::new("this column is there twice"));
                good = false;
            }
            None => {
                let hint = match values::similar(name, COLUMNS) {
                    Some(word) => format!("did you mean `{word}`? known here: {}", COLUMNS.join(", ")),
                    None => format!("the header line must be {}", COLUMNS.join(",")),
                };
                document.error(at, name, ValueError::new("unknown column").hint(hint));
                good = false;
            }
        }
    }
    for (name, slot) in COLUMNS.iter().zip(&columns).take(3) {
        if slot.is_none() && good {
            let hint = format!("the header line must be {}", COLUMNS.join(","));
            document.error(at, name, ValueError::new("this column is missing").hint(hint));
        }
    }
    (good && columns.iter().take(3).all(Option::is_some)).then_some(columns)
}

struct Row<'a> {
    document: &'a Document<'a>,
    line: usize,
    record: &'a csv::StringRecord,
    columns: Columns,
    delimiter: u8,
}

impl Row<'_> {
    fn entry(&self, known: Option<&[ServerName]>) -> Option<DirectoryEntry> {
        let path = self.cell(0, |text| match text {
            "" => Err(ValueError::new("is empty")),
            t if t.chars().any(char::is_control) => Err(ValueError::new("contains a control character")),
            t => Ok(t.to_owned()),
        });
        let server = self.cell(1, |text| server(text, known));
        let replica_id = self.cell(2, replica_id);
        let title = self.cell(3, |text| Ok(text.replace(char::is_control, " ")));
        let status = self.cell(4, mark);
        Some(DirectoryEntry {
            path: path?,
            server: server?,
            replica_id: replica_id?,
            title: title?,
            status: status?,
        })
    }

    fn cell<T>(&self, column: usize, parse: impl FnOnce(&str) -> Result<T, ValueError>) -> Option<T> {
        let index = self.columns.get(column).copied().flatten();
        let text = index.and_then(|i| self.record.get(i)).unwrap_or_default();
        match parse(text) {
            Ok(value) => Some(value),
            Err(problem) => {
                let at = Position { line: self.line, column: self.column_of(index.unwrap_or(0)) };
                self.document.error(at, COLUMNS.get(column).copied().unwrap_or_default(), problem);
                None
            }
        }
    }

    /// Where a cell begins in its line; 1 if quotes make that hard to tell.
    fn column_of(&self, index: usize) -> usize {
        let line = self.document.line(self.line).unwrap_or_default();
        if line.contains('"') {
            return 1;
        }
        line.split(char::from(self.delimiter)).take(index).map(|cell| cell.chars().count() + 1).sum::<usize>()
            + 1
    }
}
