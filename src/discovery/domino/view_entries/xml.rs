//! Parses `?ReadViewEntries` in XML.
//!
//! It accepts references to surrogates, bare ampersands, control characters and unknown elements, because real servers
//! send them. It never expands entities that the document declares, so the text cannot grow.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::{ColumnValue, MAX_COLUMNS, MAX_ROWS, MAX_VALUES, Page, PageError, Row};
use crate::discovery::domino::fault::single_line;

/// Limit for nested elements; Domino needs six.
const MAX_DEPTH: usize = 64;

pub(super) fn parse(body: &[u8]) -> Result<Page, PageError> {
    let text = decode(body);
    let mut reader = Reader::from_str(&text);
    let config = reader.config_mut();
    config.allow_dangling_amp = true;
    config.allow_unmatched_ends = true;
    config.check_end_names = false;
    let mut builder = Builder::default();
    loop {
        match reader.read_event() {
            Ok(Event::Start(element)) => builder.start(&element)?,
            Ok(Event::Empty(element)) => {
                builder.start(&element)?;
                builder.end(name_of(&element).as_str())?;
            }
            Ok(Event::End(element)) => {
                builder.end(&element.local_name().as_ref().to_ascii_lowercase())?;
            }
            Ok(Event::Text(text)) => builder.text.push_str(&text.into_inner()),
            Ok(Event::CData(text)) => builder.text.push_str(&text.into_inner()),
            Ok(Event::GeneralRef(reference)) => builder.text.reference(&reference.into_inner()),
            Ok(Event::Eof) => break,
            Ok(_) => {}
            Err(error) => {
                return Err(PageError::Broken(single_line(&error.to_string())));
            }
        }
    }
    builder.finish()
}

/// Decodes UTF-8, or ISO 8859-1 if it is declared; invalid bytes become U+FFFD.
fn decode(body: &[u8]) -> String {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let head = body.get(..body.len().min(128)).unwrap_or(body).to_ascii_lowercase();
    let declaration = head.split(|byte| *byte == b'>').next().unwrap_or_default();
    let latin = declaration.starts_with(b"<?xml")
        && [&b"iso-8859-1"[..], b"windows-1252", b"us-ascii"]
            .iter()
            .any(|name| memchr::memmem::find(declaration, name).is_some());
    if latin && std::str::from_utf8(body).is_err() {
        body.iter().map(|byte| char::from(*byte)).collect()
    } else {
        String::from_utf8_lossy(body).into_owned()
    }
}

fn name_of(element: &BytesStart<'_>) -> String {
    element.local_name().as_ref().to_ascii_lowercase()
}

#[derive(Default)]
struct Builder {
    page: Page,
    in_view_entries: bool,
    closed: bool,
    depth: usize,
    row: Option<Row>,
    /// The entry has no `unid` but a count of children, so it is a category even if no column says so.
    is_heading: bool,
    column: Option<ColumnValue>,
    /// True inside `text`, `number` or `datetime` of a column.
    in_value: bool,
    text: TextBuilder,
}

impl Builder {
    fn start(&mut self, element: &BytesStart<'_>) -> Result<(), PageError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(PageError::LimitExceeded(format!(
                "elements are nested deeper than {MAX_DEPTH} levels"
            )));
        }
        match name_of(element).as_str() {
            "viewentries" => {
                self.in_view_entries = true;
                self.page.top_level_entries =
                    attribute(element, "toplevelentries").and_then(|count| count.trim().parse().ok());
            }
            "viewentry" if self.in_view_entries => {
                self.end_row()?;
                let position = attribute(element, "position").unwrap_or_default();
                self.is_heading = attribute(element, "unid").is_none()
                    && (attribute(element, "children").is_some()
                        || attribute(element, "descendants").is_some());
                self.row = Some(Row { position, is_category: false, columns: Vec::new() });
            }
            "entrydata" => {
                self.end_column();
                if let Some(row) = &mut self.row {
                    let order = u32::try_from(row.columns.len()).unwrap_or(u32::MAX);
                    let number = attribute(element, "columnnumber").and_then(|n| n.trim().parse().ok());
                    let name = attribute(element, "name").unwrap_or_default();
                    row.is_category |= attribute(element, "category")
                        .is_some_and(|value| value.trim().eq_ignore_ascii_case("true"));
                    self.column =
                        Some(ColumnValue { number: number.unwrap_or(order), name, values: Vec::new() });
                }
            }
            "text" | "number" | "datetime" if self.column.is_some() => {
                self.in_value = true;
                self.text.clear();
            }
            "br" | "break" if self.in_value => self.text.push_str("\n"),
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, name: &str) -> Result<(), PageError> {
        self.depth = self.depth.saturating_sub(1);
        match name {
            "text" | "number" | "datetime" => self.end_value(),
            "entrydata" => self.end_column(),
            "viewentry" => self.end_row()?,
            "viewentries" => {
                self.end_row()?;
                self.closed = self.in_view_entries;
            }
            _ => {}
        }
        Ok(())
    }

    fn end_value(&mut self) {
        if std::mem::take(&mut self.in_value)
            && let Some(column) = &mut self.column
            && column.values.len() < MAX_VALUES
        {
            column.values.push(self.text.take());
        }
        self.text.clear();
    }

    fn end_column(&mut self) {
        if let (Some(column), Some(row)) = (self.column.take(), &mut self.row)
            && row.columns.len() < MAX_COLUMNS
        {
            row.columns.push(column);
        }
        self.in_value = false;
    }

    fn end_row(&mut self) -> Result<(), PageError> {
        self.end_column();
        if let Some(mut row) = self.row.take() {
            if self.page.rows.len() >= MAX_ROWS {
                return Err(PageError::LimitExceeded(format!("more than {MAX_ROWS} rows in one response")));
            }
            row.is_category |= self.is_heading;
            self.page.rows.push(row);
        }
        Ok(())
    }

    fn finish(self) -> Result<Page, PageError> {
        match (self.in_view_entries, self.closed) {
            (true, true) => Ok(self.page),
            (true, false) => Err(PageError::Broken("the document ends too early".to_owned())),
            (false, _) => Err(PageError::NotViewEntries("no element `viewentries`".to_owned())),
        }
    }
}

fn attribute(element: &BytesStart<'_>, name: &str) -> Option<String> {
    let mut attributes = element.attributes();
    let attributes = attributes.with_checks(false);
    for attribute in attributes.flatten() {
        if attribute.key.local_name().as_ref().eq_ignore_ascii_case(name) {
            return Some(unescape(&attribute.value));
        }
    }
    None
}

/// Resolves the references in the value of an attribute.
fn unescape(value: &str) -> String {
    let mut text = TextBuilder::default();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('&') {
        text.push_str(before);
        match after.split_once(';') {
            Some((name, after)) if !name.is_empty() && name.len() < 12 => {
                text.reference(name);
                rest = after;
            }
            _ => {
                text.push_str("&");
                rest = after;
            }
        }
    }
    text.push_str(rest);
    text.take()
}

/// Collects text. Domino writes a surrogate pair as two references, which XML does not allow; they are joined here.
#[derive(Default)]
struct TextBuilder {
    done: String,
    high_surrogate: Option<u32>,
}

impl TextBuilder {
    fn push_str(&mut self, text: &str) {
        if !text.is_empty() {
            self.flush_surrogate();
            self.done.push_str(text);
        }
    }

    fn clear(&mut self) {
        self.done.clear();
        self.high_surrogate = None;
    }

    fn take(&mut self) -> String {
        self.flush_surrogate();
        std::mem::take(&mut self.done)
    }

    fn flush_surrogate(&mut self) {
        if self.high_surrogate.take().is_some() {
            self.done.push(char::REPLACEMENT_CHARACTER);
        }
    }

    /// Appends the reference `&name;`.
    fn reference(&mut self, name: &str) {
        let known = match name {
            "lt" => "<",
            "gt" => ">",
            "amp" => "&",
            "quot" => "\"",
            "apos" => "'",
            "nbsp" => "\u{a0}",
            _ => "",
        };
        if !known.is_empty() {
            return self.push_str(known);
        }
        let Some(digits) = name.strip_prefix('#') else {
            self.push_str("&");
            self.push_str(name);
            return self.push_str(";");
        };
        let code = match digits.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16),
            None => digits.parse(),
        }
        .unwrap_or(0);
        match (code, self.high_surrogate) {
            (0xD800..=0xDBFF, _) => {
                self.flush_surrogate();
                self.high_surrogate = Some(code);
            }
            (0xDC00..=0xDFFF, Some(high)) => {
                self.high_surrogate = None;
                let pair = 0x1_0000 + ((high - 0xD800) << 10) + (code - 0xDC00);
                self.done.push(char::from_u32(pair).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            _ => {
                self.flush_surrogate();
                let character = char::from_u32(code).filter(|c| *c != '\0');
                self.done.push(character.unwrap_or(char::REPLACEMENT_CHARACTER));
            }
        }
    }
}
