//! The documents of every copy of a database: how a save changes them, and how two copies merge. They are on disk, so a
//! server that stops keeps them; what a server loses is in `replication.rs`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use crate::copies::DatabaseCopy;

/// Revisions that a document remembers, as Domino's `$Revisions` does.
const MAX_REVISIONS: usize = 64;
/// Events that are kept for the control port.
const MAX_EVENTS: usize = 500;
/// How long before the first access an untouched copy was modified, in milliseconds.
const AGE_OF_UNTOUCHED_MS: u64 = 3_600_000;

/// One revision of a document. It is immutable, so that copies share it.
#[derive(Clone, Debug, Serialize)]
pub struct Document {
    /// 32 hex digits, upper case.
    pub unid: String,
    /// Number of the revision, from 1.
    pub seq: u64,
    /// Milliseconds since 1970, by the clock of the server that took this revision.
    pub modified_ms: u64,
    pub author: String,
    pub subject: String,
    pub text: String,
    /// The save that made this revision.
    pub write_id: String,
    /// A deletion stub.
    pub deleted: bool,
    /// The saves before it, oldest first.
    #[serde(skip)]
    earlier: Vec<String>,
}

impl Document {
    fn descends_from(&self, other: &Document) -> bool {
        let forgotten = other.seq + (MAX_REVISIONS as u64) < self.seq;
        self.seq > other.seq && (forgotten || self.earlier.contains(&other.write_id))
    }

    fn is(&self, other: &Document) -> bool {
        self.seq == other.seq && self.write_id == other.write_id
    }

    /// Whether this revision wins against another: the higher number, then the later time.
    fn wins(&self, other: &Document) -> bool {
        (self.seq, self.modified_ms, &self.write_id) > (other.seq, other.modified_ms, &other.write_id)
    }
}

/// The identity of a copy. A copy that another database replaces at the same path has none of its documents.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CopyKey {
    pub server: usize,
    /// Lower case.
    pub path: String,
    pub replica_id: String,
}

impl CopyKey {
    pub fn of(copy: &DatabaseCopy) -> CopyKey {
        CopyKey {
            server: copy.server,
            path: copy.path.to_lowercase(),
            replica_id: copy.replica_id.to_uppercase(),
        }
    }
}

struct Store {
    documents: BTreeMap<String, Arc<Document>>,
    /// Data modification time, by the clock of the copy's server.
    modified_ms: u64,
}

/// What a client saves. Absent fields keep their value.
#[derive(Default)]
pub struct Edit {
    pub unid: Option<String>,
    /// The revision that the editor had before him.
    pub base_seq: Option<u64>,
    pub author: Option<String>,
    pub subject: Option<String>,
    pub text: Option<String>,
    pub write_id: String,
    /// Creates the document if it is absent.
    pub creates: bool,
    pub deletes: bool,
}

/// What became of an edit.
pub enum Saved {
    Done {
        document: Arc<Document>,
        /// The editor had seen a newer revision than this copy has.
        lost_update: bool,
    },
    /// The copy has a newer revision than the editor had seen; it is kept.
    Conflict(Arc<Document>),
    Absent,
}

/// Counts of all servers.
#[derive(Default, Serialize)]
struct Counts {
    saves: u64,
    /// Saves over a revision older than the editor had seen.
    lost_update_edits: u64,
    save_conflicts: u64,
    /// Saves and deletions of documents that the copy does not have.
    absent_edits: u64,
    replication_conflicts: u64,
}

/// The documents of all copies.
#[derive(Default)]
pub struct Documents {
    stores: HashMap<CopyKey, Store>,
    counts: Counts,
    /// The last edits that were not plain saves, and replication conflicts.
    events: VecDeque<Value>,
    /// Conflicts that were counted: UNID and both saves.
    known_conflicts: HashSet<(String, [String; 2])>,
}

impl Documents {
    /// `now_ms` is the clock of the copy's server.
    fn store(&mut self, key: &CopyKey, now_ms: u64) -> &mut Store {
        if !self.stores.contains_key(key) {
            let modified_ms = now_ms.saturating_sub(AGE_OF_UNTOUCHED_MS);
            self.stores.insert(key.clone(), Store { documents: BTreeMap::new(), modified_ms });
        }
        self.stores.get_mut(key).unwrap()
    }

    /// The data modification time of a copy.
    pub fn modified_ms(&mut self, key: &CopyKey, now_ms: u64) -> u64 {
        self.store(key, now_ms).modified_ms
    }

    /// Sets the data modification time, as an agent does that writes into its own database.
    pub fn touch(&mut self, key: &CopyKey, now_ms: u64) {
        self.store(key, now_ms).modified_ms = now_ms;
    }

    /// The document, which may be a deletion stub.
    pub fn get(&self, key: &CopyKey, unid: &str) -> Option<&Arc<Document>> {
        self.stores.get(key)?.documents.get(unid)
    }

    /// All documents without the deletion stubs, by UNID.
    pub fn all(&self, key: &CopyKey) -> Vec<Arc<Document>> {
        let all = self.stores.get(key).into_iter().flat_map(|store| store.documents.values());
        all.filter(|document| !document.deleted).cloned().collect()
    }

    pub fn save(&mut self, key: &CopyKey, server: &str, edit: Edit, now_ms: u64) -> Saved {
        let unid = edit.unid.clone().unwrap_or_else(|| format!("{:032X}", fastrand::u128(..)));
        let old = self.get(key, &unid).cloned();
        let seq = old.as_ref().map_or(0, |old| old.seq);
        let current = old.as_ref().filter(|old| !old.deleted);
        let base_seq = edit.base_seq;
        let saw_newer = base_seq.is_some_and(|base| base > seq);
        let note = |kind: &str| {
            json!({
                "kind": kind, "server": server, "path": key.path, "unid": unid, "base_seq": base_seq, "seq": seq,
                "write_id": edit.write_id, "time_ms": now_ms,
            })
        };
        if current.is_none() && !edit.creates {
            remember(&mut self.events, note("absent"));
            self.counts.absent_edits += 1;
            return Saved::Absent;
        }
        if let Some(current) = current.filter(|_| base_seq.is_some_and(|base| base < seq)) {
            remember(&mut self.events, note("save_conflict"));
            self.counts.save_conflicts += 1;
            return Saved::Conflict(current.clone());
        }
        if saw_newer {
            remember(&mut self.events, note("lost_update"));
            self.counts.lost_update_edits += 1;
        }
        self.counts.saves += 1;
        let document = Arc::new(revision(old.as_deref(), unid, edit, now_ms));
        let store = self.store(key, now_ms);
        store.documents.insert(document.unid.clone(), document.clone());
        store.modified_ms = now_ms;
        Saved::Done { document, lost_update: saw_newer }
    }

    /// Copies what is newer from one copy to another: these documents, or all. Returns how many. `now_ms` is the clock
    /// of the receiving server.
    pub fn transfer(
        &mut self,
        from: &CopyKey,
        to: &CopyKey,
        only: Option<&BTreeSet<String>>,
        now_ms: u64,
    ) -> usize {
        let Some(source) = self.stores.get(from) else { return 0 };
        let wanted = |document: &&Arc<Document>| only.is_none_or(|only| only.contains(&document.unid));
        let documents: Vec<Arc<Document>> = source.documents.values().filter(wanted).cloned().collect();
        let mut taken = 0;
        for incoming in documents {
            if self.takes(to, &incoming) {
                let store = self.store(to, now_ms);
                store.documents.insert(incoming.unid.clone(), incoming);
                store.modified_ms = now_ms;
                taken += 1;
            }
        }
        taken
    }

    /// Whether a copy takes this revision. Counts a conflict.
    fn takes(&mut self, to: &CopyKey, incoming: &Arc<Document>) -> bool {
        let Some(local) = self.get(to, &incoming.unid).cloned() else { return true };
        if local.is(incoming) || local.descends_from(incoming) {
            return false;
        }
        if incoming.descends_from(&local) {
            return true;
        }
        let wins = incoming.wins(&local);
        if !local.deleted && !incoming.deleted {
            let mut saves = [local.write_id.clone(), incoming.write_id.clone()];
            saves.sort();
            if self.known_conflicts.insert((incoming.unid.clone(), saves)) {
                self.counts.replication_conflicts += 1;
                let (winner, loser) = if wins { (&**incoming, &*local) } else { (&*local, &**incoming) };
                let event = json!({
                    "kind": "replication_conflict", "path": to.path, "unid": incoming.unid,
                    "write_id": loser.write_id, "winner": winner.write_id,
                });
                remember(&mut self.events, event);
            }
        }
        wins
    }

    /// The number of documents of a copy, without deletion stubs.
    pub fn count(&self, key: &CopyKey) -> usize {
        self.stores.get(key).map_or(0, |store| store.documents.values().filter(|d| !d.deleted).count())
    }

    /// Whether a copy has ever had a document.
    pub fn has_any(&self, key: &CopyKey) -> bool {
        self.stores.get(key).is_some_and(|store| !store.documents.is_empty())
    }

    /// The documents that other copies have newer: UNID, own and newest revision. All copies must be of one database.
    pub fn behind<'a>(&'a self, keys: &'a [CopyKey]) -> Vec<(&'a CopyKey, String, u64, u64)> {
        let mut newest: BTreeMap<&str, &Document> = BTreeMap::new();
        for document in keys.iter().filter_map(|key| self.stores.get(key)).flat_map(|s| s.documents.values())
        {
            let best = newest.entry(&document.unid).or_insert(document);
            if document.wins(best) {
                *best = document;
            }
        }
        let mut behind = Vec::new();
        for key in keys {
            for (unid, newest) in &newest {
                match self.get(key, unid) {
                    Some(own) if own.is(newest) => {}
                    own => behind.push((key, (*unid).to_owned(), own.map_or(0, |d| d.seq), newest.seq)),
                }
            }
        }
        behind
    }

    pub fn counts_json(&self) -> Value {
        let mut counts = serde_json::to_value(&self.counts).unwrap_or_default();
        counts["last"] = self.events.iter().cloned().collect();
        counts
    }

    /// Forgets the documents of deleted copies.
    pub fn forget(&mut self, is_deleted: impl Fn(&CopyKey) -> bool) {
        self.stores.retain(|key, _| !is_deleted(key));
    }
}

fn remember(events: &mut VecDeque<Value>, event: Value) {
    if events.len() == MAX_EVENTS {
        events.pop_front();
    }
    events.push_back(event);
}

/// The next revision of a document.
fn revision(old: Option<&Document>, unid: String, edit: Edit, now_ms: u64) -> Document {
    let mut earlier = old.map(|old| old.earlier.clone()).unwrap_or_default();
    earlier.extend(old.map(|old| old.write_id.clone()));
    let surplus = earlier.len().saturating_sub(MAX_REVISIONS);
    earlier.drain(..surplus);
    let kept = |new: Option<String>, field: fn(&Document) -> &String| {
        new.or_else(|| old.map(|old| field(old).clone())).unwrap_or_default()
    };
    Document {
        unid,
        seq: old.map_or(1, |old| old.seq + 1),
        modified_ms: now_ms,
        author: kept(edit.author, |d| &d.author),
        subject: kept(edit.subject, |d| &d.subject),
        text: kept(edit.text, |d| &d.text),
        write_id: edit.write_id,
        deleted: edit.deletes,
        earlier,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(server: usize) -> CopyKey {
        CopyKey { server, path: "a.nsf".into(), replica_id: "C1257A000041D2E0".into() }
    }

    fn save(documents: &mut Documents, server: usize, base: Option<u64>, write: &str, ms: u64) -> Saved {
        let edit = Edit {
            unid: Some("A".into()),
            base_seq: base,
            text: Some(write.into()),
            write_id: write.into(),
            creates: true,
            ..Edit::default()
        };
        documents.save(&key(server), "Web1/Acme", edit, ms)
    }

    #[test]
    fn revisions_of_one_line_merge_without_a_conflict_whatever_their_order() {
        let mut documents = Documents::default();
        save(&mut documents, 0, None, "one", 1000);
        assert_eq!(documents.transfer(&key(0), &key(1), None, 1100), 1);
        save(&mut documents, 0, Some(1), "two", 2000);
        assert_eq!(documents.transfer(&key(1), &key(0), None, 2050), 0, "an older revision changes nothing");
        assert_eq!(documents.behind(&[key(0), key(1)]), [(&key(1), "A".to_owned(), 1, 2)]);
        assert_eq!(documents.transfer(&key(0), &key(1), None, 2100), 1);
        assert_eq!(documents.modified_ms(&key(1), 9000), 2100);
        assert!(documents.behind(&[key(0), key(1)]).is_empty());
        assert_eq!(documents.counts.replication_conflicts, 0);
    }

    #[test]
    fn two_lines_conflict_once_and_the_higher_revision_wins() {
        let mut documents = Documents::default();
        save(&mut documents, 0, None, "one", 1000);
        documents.transfer(&key(0), &key(1), None, 1100);
        save(&mut documents, 0, Some(1), "left", 2000);
        let Saved::Done { lost_update, .. } = save(&mut documents, 1, Some(2), "right", 3000) else {
            panic!("saved over the older revision")
        };
        assert!(lost_update);
        assert_eq!(documents.transfer(&key(0), &key(1), None, 4000), 0, "the later time wins");
        assert_eq!(documents.transfer(&key(1), &key(0), None, 4000), 1);
        assert_eq!(documents.get(&key(0), "A").unwrap().text, "right");
        let counts = documents.counts;
        assert_eq!((counts.replication_conflicts, counts.lost_update_edits, counts.saves), (1, 1, 3));
    }

    #[test]
    fn a_save_over_a_newer_revision_is_a_conflict_and_changes_nothing() {
        let mut documents = Documents::default();
        save(&mut documents, 0, None, "one", 1000);
        save(&mut documents, 0, Some(1), "two", 2000);
        assert!(matches!(save(&mut documents, 0, Some(1), "late", 3000), Saved::Conflict(_)));
        assert_eq!(documents.get(&key(0), "A").unwrap().text, "two");
        assert_eq!((documents.counts.save_conflicts, documents.modified_ms(&key(0), 9000)), (1, 2000));
    }
}
