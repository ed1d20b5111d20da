//! Which server holds which database. The table is immutable; the control port replaces it as a whole.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use crate::scenario::{Name, Replica, Replicas, Scenario};

/// One copy of a database on one server.
#[derive(Clone, Debug, Serialize)]
pub struct DatabaseCopy {
    /// Position of the server in the scenario.
    #[serde(skip)]
    pub server: usize,
    /// Uses `/` as the separator.
    pub path: String,
    /// 16 hex digits, upper case.
    pub replica_id: String,
    pub title: String,
    /// One of `in_service`, `out_of_service` and `pending_delete`.
    pub mark: String,
    pub login: bool,
    /// Number of the document in the directory, from which its UNID and NoteID are derived.
    #[serde(skip)]
    pub document: u32,
}

#[derive(Default)]
pub struct CopyTable {
    /// Ordered by path, then by server, as in the directory.
    pub copies: Vec<DatabaseCopy>,
    by_path: HashMap<(usize, String), usize>,
    by_id: HashMap<(usize, String), usize>,
}

impl CopyTable {
    pub fn new(mut copies: Vec<DatabaseCopy>) -> CopyTable {
        copies.sort_by_key(|c| (c.path.to_lowercase(), c.server, c.replica_id.clone()));
        let mut table = CopyTable { copies, ..CopyTable::default() };
        for (i, copy) in table.copies.iter().enumerate() {
            table.by_path.entry((copy.server, copy.path.to_lowercase())).or_insert(i);
            table.by_id.entry((copy.server, copy.replica_id.clone())).or_insert(i);
        }
        table
    }

    /// Builds the table of a scenario.
    pub fn of(scenario: &Scenario) -> Result<CopyTable, String> {
        let mut copies = Vec::new();
        let mut add = |server, path: &str, id: &str, title: &str, mark: Option<&str>, login| {
            let document = copies.len() as u32 + 1;
            let mark = mark.unwrap_or("in_service").to_owned();
            let (path, replica_id, title) = (path.to_owned(), id.to_uppercase(), title.to_owned());
            copies.push(DatabaseCopy { server, path, replica_id, title, mark, login, document });
        };
        for db in &scenario.databases {
            let (path, id, title) = (db.path.as_str(), db.replica_id.as_str(), db.title.as_str());
            match &db.replicas {
                Replicas::Word(word) if word == "all" => {
                    (0..scenario.servers.len()).for_each(|m| add(m, path, id, title, None, db.login));
                }
                Replicas::Word(word) => {
                    return Err(format!("scenario: {path}: replicas: {word} is not `all`"));
                }
                Replicas::List(list) => {
                    for replica in list {
                        let (name, own_path, mark) = match replica {
                            Replica::Name(name) => (name, None, None),
                            Replica::Full { server, path, mark } => {
                                (server, path.as_deref(), mark.as_deref())
                            }
                        };
                        let server = scenario
                            .find(name)
                            .ok_or_else(|| format!("scenario: {path}: no server {name}"))?;
                        add(server, own_path.unwrap_or(path), id, title, mark, db.login);
                    }
                }
            }
        }
        if let Some(bulk) = &scenario.generate {
            for n in 0..bulk.databases {
                let (path, id) =
                    (format!("{}{:04}.nsf", bulk.prefix, n + 1), format!("C1257B00{:08X}", n + 1));
                for copy in 0..bulk.copies.min(scenario.servers.len()) {
                    let server = (n as usize + copy) % scenario.servers.len();
                    add(server, &path, &id, &format!("Database {}", n + 1), None, false);
                }
            }
        }
        Ok(CopyTable::new(copies))
    }

    /// The copy at this path on this server. The path may be `__<replica id>.nsf` or `<replica id>.nsf`.
    pub fn find(&self, server: usize, path: &str) -> Option<&DatabaseCopy> {
        let lower = path.to_lowercase();
        if let Some(i) = self.by_path.get(&(server, lower.clone())) {
            return Some(&self.copies[*i]);
        }
        let stem = lower.strip_suffix(".nsf")?;
        let id = stem.strip_prefix("__").unwrap_or(stem).to_uppercase();
        self.by_id.get(&(server, id)).map(|i| &self.copies[*i])
    }

    /// The copies of each database, by replica ID.
    pub fn databases(&self) -> BTreeMap<&str, Vec<&DatabaseCopy>> {
        let mut databases: BTreeMap<&str, Vec<&DatabaseCopy>> = BTreeMap::new();
        for copy in &self.copies {
            databases.entry(&copy.replica_id).or_default().push(copy);
        }
        databases
    }

    /// The copy of this replica on this server.
    pub fn replica(&self, server: usize, id: &str) -> Option<&DatabaseCopy> {
        self.by_id.get(&(server, id.to_owned())).map(|i| &self.copies[*i])
    }
}

/// A copy with its server's name, for the control port.
pub fn show(copy: &DatabaseCopy, name: &Name) -> serde_json::Value {
    let mut value = serde_json::to_value(copy).unwrap_or_default();
    value["server"] = name.abbreviated.clone().into();
    value
}
