//! A directory in a JSON file. It is read as a stream, because it may have millions of replicas. A small file with an
//! error is read again as values with positions, to find all errors.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::directory_entries::{Seen, databases, mark, replica_id, server};
use super::document::Document;
use super::reader::Item;
use super::tree::{Content, Entry, Position};
use super::values::ValueError;
use crate::domain::cluster::ServerName;
use crate::domain::directory::{DirectoryBuilder, DirectoryEntry, ReplicaStatus};

/// The values of a text take many times its size.
const MAX_TREE_TEXT: usize = 4 << 20;

/// Reads the list of databases, alone or below `databases`. Notes all errors of a small file, the first of a large one.
pub(super) fn read(document: &Document<'_>, known: Option<&[ServerName]>) -> DirectoryBuilder {
    let streamed = stream(document.text, known);
    let is_good = matches!(streamed, Ok(Streamed { twice: 0, .. }));
    if !is_good
        && document.text.len() <= MAX_TREE_TEXT
        && let Some(draft) = with_positions(document, known)
    {
        return draft;
    }
    match streamed {
        Ok(streamed) => {
            if let Some(entry) = streamed.first_twice {
                let text = format!(
                    "{} replicas are listed twice, the first is {} on {}",
                    streamed.twice, entry.path, entry.server
                );
                document.warn(Position::START, "", &text);
            }
            streamed.draft
        }
        Err(error) => {
            note(document, &error);
            DirectoryBuilder::default()
        }
    }
}

fn note(document: &Document<'_>, error: &serde_json::Error) {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    let at = Position { line: error.line(), column: error.column() };
    let message = if error.is_data() { text.to_owned() } else { format!("is not JSON: {text}") };
    document.error(at, "", ValueError::new(message));
}

/// Notes all errors and warnings in the list. `None` if the text is not JSON or cannot be read with positions.
fn with_positions(document: &Document<'_>, known: Option<&[ServerName]>) -> Option<DirectoryBuilder> {
    // YAML accepts more than JSON does.
    serde_json::from_str::<IgnoredAny>(document.text).ok()?;
    let top = document.read_tree().ok()?;
    let list = match &top.content {
        Content::Map(entries) => match entries.as_slice() {
            [Entry { key, value, .. }] if key == "databases" => value,
            _ => &top,
        },
        _ => &top,
    };
    let root = Item::root(document, list, "databases");
    if !root.is_list() {
        root.error(ValueError::new("a list of databases is expected").hint("write `[ { \"path\": ... } ]`"));
        return Some(DirectoryBuilder::default());
    }
    Some(databases(&root, known))
}

#[derive(Debug, Default)]
struct Streamed {
    draft: DirectoryBuilder,
    /// Number of replicas that are listed twice.
    twice: usize,
    first_twice: Option<DirectoryEntry>,
}

/// All replicas, or the first error.
fn stream(text: &str, known: Option<&[ServerName]>) -> Result<Streamed, serde_json::Error> {
    let mut reader = Reader { known, seen: Seen::default(), streamed: Streamed::default() };
    let mut json = serde_json::Deserializer::from_str(text);
    (&mut json).deserialize_any(Top(&mut reader))?;
    json.end()?;
    Ok(reader.streamed)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Database<'a> {
    #[serde(borrow)]
    path: Cow<'a, str>,
    #[serde(borrow)]
    replica_id: Cow<'a, str>,
    #[serde(borrow, default)]
    title: Option<Cow<'a, str>>,
    #[serde(borrow)]
    replicas: Vec<Replica<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Replica<'a> {
    #[serde(borrow)]
    server: Cow<'a, str>,
    #[serde(default, deserialize_with = "given")]
    path: Option<String>,
    #[serde(default, deserialize_with = "given")]
    mark: Option<String>,
}

/// A key that may be absent, but not `null`.
fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    String::deserialize(from).map(Some)
}

struct Reader<'a> {
    known: Option<&'a [ServerName]>,
    seen: Seen,
    streamed: Streamed,
}

impl Reader<'_> {
    fn take(&mut self, database: &Database<'_>) -> Result<(), ValueError> {
        let replica_id = replica_id(&database.replica_id).map_err(|p| under("replica_id", p))?;
        if database.replicas.is_empty() {
            return Err(ValueError::new("no replica is given"));
        }
        check_path(&database.path)?;
        let title = database.title.as_deref().unwrap_or_default();
        for replica in &database.replicas {
            let path = replica.path.as_deref().unwrap_or(&database.path).trim();
            check_path(path)?;
            let entry = DirectoryEntry {
                path: path.to_owned(),
                server: server(&replica.server, self.known).map_err(|p| under("server", p))?,
                replica_id,
                title: title.replace(char::is_control, " "),
                status: match &replica.mark {
                    Some(word) => mark(word).map_err(|p| under("mark", p))?,
                    None => ReplicaStatus::default(),
                },
            };
            if !self.seen.is_new(&entry) {
                self.streamed.twice += 1;
                self.streamed.first_twice.get_or_insert_with(|| entry.clone());
            }
            self.streamed.draft.add(&entry);
        }
        Ok(())
    }
}

fn check_path(path: &str) -> Result<(), ValueError> {
    let path = path.trim();
    if path.is_empty() || path.chars().any(char::is_control) {
        return Err(under("path", ValueError::new("is empty or contains a control character")));
    }
    Ok(())
}

fn under(key: &str, problem: ValueError) -> ValueError {
    ValueError { message: format!("{key}: {}", problem.message), ..problem }
}

/// The list, or an object with nothing but the list.
struct Top<'a, 'k>(&'a mut Reader<'k>);

impl<'de> Visitor<'de> for Top<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of databases")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<(), S::Error> {
        while let Some(database) = list.next_element::<Database<'de>>()? {
            self.0.take(&database).map_err(|problem| {
                let hint = problem.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
                S::Error::custom(format!("{}{hint}", problem.message))
            })?;
        }
        Ok(())
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        match map.next_key::<Cow<'de, str>>()? {
            Some(key) if key == "databases" => map.next_value_seed(List(self.0))?,
            _ => return Err(M::Error::custom("a list of databases is expected")),
        }
        match map.next_key::<Cow<'de, str>>()? {
            Some(key) => Err(M::Error::custom(format!("unknown key `{key}` beside `databases`"))),
            None => Ok(()),
        }
    }
}

struct List<'a, 'k>(&'a mut Reader<'k>);

impl<'de> DeserializeSeed<'de> for List<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_seq(Top(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = r#"[
        {"path": "Sales\\Leads.nsf", "replica_id": "C1257A00:0041D2E0", "title": "Le\u0007ads", "replicas":
            [{"server": "CN=Web1/O=Acme"}, {"server": "web2/acme", "path": " apps/leads.nsf ", "mark": "Out of service"}]},
        {"replicas": [{"server": "Web1/Acme"}], "replica_id": "C1257A000041D2E1", "path": "a.nsf"}
    ]"#;

    fn known() -> Vec<ServerName> {
        ["Web1/Acme", "Web2/Acme"].map(|name| ServerName::parse(name).unwrap()).to_vec()
    }

    #[test]
    fn the_list_is_read_alone_and_below_its_key() {
        for text in [TWO.to_owned(), format!("{{\"databases\": {TWO}}}")] {
            let streamed = stream(&text, Some(&known())).unwrap();
            let entries: Vec<DirectoryEntry> = streamed.draft.entries().collect();
            let shown: Vec<_> = entries
                .iter()
                .map(|e| (e.path.as_str(), e.server.common(), e.title.as_str(), e.status))
                .collect();
            let expected = [
                ("Sales/Leads.nsf", "Web1", "Le ads", ReplicaStatus::InService),
                ("apps/leads.nsf", "web2", "Le ads", ReplicaStatus::OutOfService),
                ("a.nsf", "Web1", "", ReplicaStatus::InService),
            ];
            assert_eq!(shown, expected);
            assert_eq!(streamed.twice, 0);
        }
    }

    #[test]
    fn a_replica_that_is_listed_twice_is_counted_and_the_first_one_named() {
        let text = TWO.replace("C1257A000041D2E1", "C1257A000041D2E0").replace("a.nsf", "SALES/leads.nsf");
        let streamed = stream(&text, None).unwrap();
        assert_eq!((streamed.twice, streamed.first_twice.unwrap().path.as_str()), (1, "SALES/leads.nsf"));
    }

    #[test]
    fn the_first_error_has_its_line() {
        for (from, to, message) in [
            ("web2/acme", "web9/acme", "server: `web9/acme` is not in servers.list"),
            ("C1257A000041D2E1", "C1257A", "replica_id: `C1257A` is not a replica ID"),
            ("Out of service", "gone", "mark: `gone` is not a mark"),
            ("a.nsf", " ", "path: is empty"),
            ("\"title\"", "\"titel\"", "unknown field `titel`"),
            ("[{\"server\": \"Web1/Acme\"}]", "[]", "no replica is given"),
            ("\"a.nsf\"", "7", "invalid type"),
            ("\"a.nsf\"}\n", "\"a.nsf\"", "expected"),
        ] {
            assert!(TWO.contains(from), "{from}");
            let error = stream(&TWO.replace(from, to), Some(&known())).unwrap_err();
            assert!(error.to_string().contains(message) && error.line() >= 2, "{to}: {error}");
        }
        for text in ["{}", "{\"database\": []}", "{\"databases\": [], \"more\": 1}", "7", "[] []", ""] {
            assert!(stream(text, None).is_err(), "{text}");
        }
    }
}
