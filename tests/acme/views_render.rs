//! Rows of a view as Domino's `?ReadViewEntries` writes them, in XML or JSON, including Domino's errors in both. Written
//! without a library, because a JSON library cannot write invalid JSON.

use crate::clock;
use crate::settings::DirectoryTraps;

/// A value of a column.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Text(String),
    Number(String),
    /// Several values in one column.
    List(Vec<String>),
}

/// A column of an entry.
#[derive(Clone, Debug)]
pub struct Cell {
    pub column: usize,
    pub name: String,
    pub value: Value,
    pub category: bool,
}

impl Cell {
    pub fn text(column: usize, name: &str, value: &str) -> Cell {
        Cell { column, name: name.to_owned(), value: Value::Text(value.to_owned()), category: false }
    }

    pub fn number(column: usize, name: &str, value: &str) -> Cell {
        Cell { column, name: name.to_owned(), value: Value::Number(value.to_owned()), category: false }
    }

    pub fn list(column: usize, name: &str, values: &[&str]) -> Cell {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        Cell { column, name: name.to_owned(), value: Value::List(values), category: false }
    }

    /// Whether the cell shows this text, without case.
    pub fn is(&self, text: &str) -> bool {
        match &self.value {
            Value::Text(mine) | Value::Number(mine) => mine.eq_ignore_ascii_case(text),
            Value::List(_) => false,
        }
    }
}

pub struct Entry {
    /// Such as `3` or `3.1`.
    pub position: String,
    /// Absent for a category.
    pub unid: Option<String>,
    pub noteid: String,
    /// Only present for a category.
    pub children: Option<usize>,
    pub siblings: usize,
    pub cells: Vec<Cell>,
}

/// Attributes of the whole page.
pub struct Range {
    pub top_level: usize,
    /// `rangeentries`, which Domino sends for `Count=-1`.
    pub entries: Option<usize>,
}

/// The attributes of an entry, in Domino's order.
fn attributes(entry: &Entry) -> Vec<(&'static str, String)> {
    let mut all = vec![("position", entry.position.clone())];
    all.extend(entry.unid.iter().map(|unid| ("unid", unid.clone())));
    all.push(("noteid", entry.noteid.clone()));
    if let Some(children) = entry.children {
        all.push(("children", children.to_string()));
        all.push(("descendants", children.to_string()));
    }
    all.push(("siblings", entry.siblings.to_string()));
    all
}

pub fn xml(entries: &[Entry], range: &Range, traps: &DirectoryTraps) -> String {
    let stamp = clock::format_domino(clock::now_ms());
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    out.push_str(&format!("<viewentries timestamp=\"{stamp}\" toplevelentries=\"{}\"", range.top_level));
    if let Some(n) = range.entries {
        out.push_str(&format!(" rangeentries=\"{n}\""));
    }
    out.push_str(">\n");
    for entry in entries {
        out.push_str("<viewentry");
        for (name, value) in attributes(entry) {
            out.push_str(&format!(" {name}=\"{value}\""));
        }
        out.push_str(">\n");
        for cell in &entry.cells {
            let category = if cell.category { " category=\"true\"" } else { "" };
            out.push_str(&format!(
                "<entrydata columnnumber=\"{}\" name=\"{}\"{category}>\n",
                cell.column, cell.name
            ));
            match &cell.value {
                Value::Text(text) => out.push_str(&xml_element("text", text, traps)),
                Value::Number(number) => out.push_str(&xml_element("number", number, traps)),
                Value::List(values) => {
                    let all: String = values.iter().map(|value| xml_element("text", value, traps)).collect();
                    out.push_str(&format!("<textlist>\n{all}</textlist>\n"));
                }
            }
            out.push_str("</entrydata>\n");
        }
        out.push_str("</viewentry>\n");
    }
    out.push_str("</viewentries>\n");
    out
}

fn xml_element(tag: &str, text: &str, traps: &DirectoryTraps) -> String {
    match text.is_empty() {
        true => format!("<{tag}/>\n"),
        false => format!("<{tag}>{}</{tag}>\n", xml_text(text, traps)),
    }
}

fn xml_text(text: &str, traps: &DirectoryTraps) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c if traps.surrogates && c.len_utf16() == 2 => {
                c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("&#{unit};")));
            }
            c => out.push(c),
        }
    }
    out
}

/// The JSON form: attributes have an `@`, and all values are strings.
pub fn json(entries: &[Entry], range: &Range, traps: &DirectoryTraps) -> String {
    let mut top = vec![
        pair("@timestamp", &string(&clock::format_domino(clock::now_ms()), traps)),
        pair("@toplevelentries", &string(&range.top_level.to_string(), traps)),
    ];
    if let Some(n) = range.entries {
        top.push(pair("@rangeentries", &string(&n.to_string(), traps)));
    }
    // Domino may write one entry without a list, and writes no list at all for none.
    let single = traps.single_object && entries.len() == 1;
    let rows: Vec<String> = entries.iter().map(|e| json_entry(e, traps, single)).collect();
    match rows.as_slice() {
        [] => {}
        [one] if single => top.push(pair("viewentry", one)),
        rows => top.push(pair("viewentry", &list(rows))),
    }
    format!("{}\n", object(&top))
}

fn json_entry(entry: &Entry, traps: &DirectoryTraps, single: bool) -> String {
    let mut members: Vec<String> = attributes(entry)
        .iter()
        .map(|(name, value)| pair(&format!("@{name}"), &string(value, traps)))
        .collect();
    let cells: Vec<String> = entry.cells.iter().map(|cell| json_cell(cell, traps)).collect();
    members.push(match cells.as_slice() {
        [one] if single => pair("entrydata", one),
        cells => pair("entrydata", &list(cells)),
    });
    object(&members)
}

fn json_cell(cell: &Cell, traps: &DirectoryTraps) -> String {
    let mut members = vec![
        pair("@columnnumber", &string(&cell.column.to_string(), traps)),
        pair("@name", &string(&cell.name, traps)),
    ];
    if cell.category {
        members.push(pair("@category", "\"true\""));
    }
    let scalar = |text: &str| object(&[pair("0", &string(text, traps))]);
    members.push(match &cell.value {
        Value::Text(text) => pair("text", &scalar(text)),
        Value::Number(number) => pair("number", &scalar(number)),
        Value::List(values) => {
            let all: Vec<String> = values.iter().map(|value| scalar(value)).collect();
            pair("textlist", &object(&[pair("text", &list(&all))]))
        }
    });
    object(&members)
}

fn pair(name: &str, value: &str) -> String {
    format!("\"{name}\": {value}")
}

fn object(members: &[String]) -> String {
    format!("{{\n{}\n}}", members.join(",\n"))
}

fn list(members: &[String]) -> String {
    format!("[\n{}\n]", members.join(",\n"))
}

fn string(text: &str, traps: &DirectoryTraps) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            // Domino writes this escape, although JSON does not have it.
            '<' | '>' | '!' if traps.invalid_escapes => {
                out.push('\\');
                out.push(c);
            }
            c if c.len_utf16() == 2 => {
                c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
            }
            c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
