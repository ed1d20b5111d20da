//! Parses `?ReadViewEntries&OutputFormat=JSON`.
//!
//! Attributes begin with `@`, all values are strings, a list of one may be the element itself, and an empty list may be
//! absent. The text is parsed directly into rows, so that a hostile document never becomes a tree in memory.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::repair::repair;
use super::{ColumnValue, MAX_COLUMNS, MAX_ROWS, MAX_VALUES, Page, PageError, Row};
use crate::discovery::domino::fault::single_line;

pub(super) fn parse(body: &[u8]) -> Result<Page, PageError> {
    let text = repair(body);
    if !text.trim_start().starts_with('{') {
        return Err(PageError::NotViewEntries("no JSON object".to_owned()));
    }
    serde_json::from_str::<Page>(&text).map_err(|error| {
        let reason = single_line(&error.to_string());
        if reason.starts_with(TOO_MANY) || reason.starts_with("recursion limit") {
            PageError::LimitExceeded(reason)
        } else {
            PageError::Broken(reason)
        }
    })
}

const TOO_MANY: &str = "too many rows";

impl<'de> Deserialize<'de> for Page {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(PageVisitor)
    }
}

struct PageVisitor;

impl<'de> Visitor<'de> for PageVisitor {
    type Value = Page;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `viewentry`")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Page, M::Error> {
        let mut page = Page::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "@toplevelentries" => {
                    page.top_level_entries =
                        first_scalar(&mut map)?.and_then(|text| text.trim().parse().ok());
                }
                "viewentry" => map.next_value_seed(Rows(&mut page.rows))?,
                // Some versions wrap the object in another one.
                "viewentries" => {
                    let inner: Page = map.next_value()?;
                    page.top_level_entries = inner.top_level_entries.or(page.top_level_entries);
                    page.rows.extend(inner.rows);
                }
                _ => skip(&mut map)?,
            }
        }
        Ok(page)
    }
}

fn skip<'de, M: MapAccess<'de>>(map: &mut M) -> Result<(), M::Error> {
    map.next_value::<IgnoredAny>().map(|_| ())
}

/// The first scalar within a value.
fn first_scalar<'de, M: MapAccess<'de>>(map: &mut M) -> Result<Option<String>, M::Error> {
    let mut values = Vec::new();
    map.next_value_seed(Values(&mut values))?;
    Ok(values.into_iter().next())
}

/// Appends one object, or each object of a list, to the vector of `$name`; null and text are ignored.
macro_rules! one_or_many {
    ($name:ident, $element:ty, $limit:expr, $strict:expr) => {
        impl<'de> DeserializeSeed<'de> for $name<'_> {
            type Value = ();
            fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
                from.deserialize_any(self)
            }
        }

        impl<'de> Visitor<'de> for $name<'_> {
            type Value = ();
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object or a list of objects")
            }
            fn visit_unit<E>(self) -> Result<(), E> {
                Ok(())
            }
            fn visit_str<E>(self, _: &str) -> Result<(), E> {
                Ok(())
            }
            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<(), M::Error> {
                self.0.push(<$element>::read(map, self.0.len())?);
                Ok(())
            }
            fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<(), S::Error> {
                while let Some(element) = list.next_element_seed(Element::<$element>::at(self.0.len()))? {
                    if self.0.len() < $limit {
                        self.0.extend(element);
                    } else if $strict {
                        return Err(S::Error::custom(format!("{TOO_MANY}, the limit is {}", $limit)));
                    }
                }
                Ok(())
            }
        }
    };
}

struct Rows<'a>(&'a mut Vec<Row>);
struct Columns<'a>(&'a mut Vec<EntryData>);
one_or_many!(Rows, Row, MAX_ROWS, true);
one_or_many!(Columns, EntryData, MAX_COLUMNS, false);

/// A column, and whether it marks its row as a category.
struct EntryData {
    column: ColumnValue,
    is_category: bool,
}

/// One object of a list; null and text in its place are skipped.
struct Element<T> {
    order: usize,
    kind: std::marker::PhantomData<T>,
}

impl<T> Element<T> {
    fn at(order: usize) -> Self {
        Self { order, kind: std::marker::PhantomData }
    }
}

trait ReadFromMap: Sized {
    fn read<'de, M: MapAccess<'de>>(map: M, order: usize) -> Result<Self, M::Error>;
}

impl<'de, T: ReadFromMap> DeserializeSeed<'de> for Element<T> {
    type Value = Option<T>;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Option<T>, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de, T: ReadFromMap> Visitor<'de> for Element<T> {
    type Value = Option<T>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_unit<E>(self) -> Result<Option<T>, E> {
        Ok(None)
    }
    fn visit_str<E>(self, _: &str) -> Result<Option<T>, E> {
        Ok(None)
    }
    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Option<T>, M::Error> {
        T::read(map, self.order).map(Some)
    }
}

impl ReadFromMap for Row {
    fn read<'de, M: MapAccess<'de>>(mut map: M, _: usize) -> Result<Self, M::Error> {
        let mut row = Self::default();
        let (mut unid, mut children) = (false, false);
        let mut columns: Vec<EntryData> = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "@position" => row.position = first_scalar(&mut map)?.unwrap_or_default(),
                "entrydata" => map.next_value_seed(Columns(&mut columns))?,
                "@unid" => {
                    unid = first_scalar(&mut map)?.is_some_and(|text| !text.is_empty());
                }
                "@children" | "@descendants" => {
                    children = true;
                    skip(&mut map)?;
                }
                _ => skip(&mut map)?,
            }
        }
        row.is_category = (children && !unid) || columns.iter().any(|data| data.is_category);
        row.columns = columns.into_iter().map(|data| data.column).collect();
        Ok(row)
    }
}

impl ReadFromMap for EntryData {
    fn read<'de, M: MapAccess<'de>>(mut map: M, order: usize) -> Result<Self, M::Error> {
        let number = u32::try_from(order).unwrap_or(u32::MAX);
        let mut column = ColumnValue { number, ..ColumnValue::default() };
        let mut is_category = false;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "@columnnumber" => {
                    if let Some(number) = first_scalar(&mut map)?.and_then(|text| text.trim().parse().ok()) {
                        column.number = number;
                    }
                }
                "@name" => column.name = first_scalar(&mut map)?.unwrap_or_default(),
                "@category" => {
                    is_category =
                        first_scalar(&mut map)?.is_some_and(|text| text.trim().eq_ignore_ascii_case("true"));
                }
                key if key.starts_with('@') => skip(&mut map)?,
                _ => map.next_value_seed(Values(&mut column.values))?,
            }
        }
        Ok(Self { column, is_category })
    }
}

/// Collects every scalar within a value, in order: `{"0":"a"}`, `{"text":[{"0":"a"},{"0":"b"}]}`, `"a"`.
struct Values<'a>(&'a mut Vec<String>);

impl Values<'_> {
    fn push(self, value: impl ToString) {
        if self.0.len() < MAX_VALUES {
            self.0.push(value.to_string());
        }
    }
}

impl<'de> DeserializeSeed<'de> for Values<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Values<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.push(value);
        Ok(())
    }
    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.push(value);
        Ok(())
    }
    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.push(value);
        Ok(())
    }
    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.push(value);
        Ok(())
    }
    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.push(value);
        Ok(())
    }
    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if key.starts_with('@') {
                skip(&mut map)?;
            } else {
                map.next_value_seed(Values(self.0))?;
            }
        }
        Ok(())
    }
    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<(), S::Error> {
        while list.next_element_seed(Values(self.0))?.is_some() {}
        Ok(())
    }
}
