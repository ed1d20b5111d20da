//! `/databases`: searches paths, titles and replica IDs, and shows which server a new user would get. One call scans a
//! limited number of databases and returns where it stopped; a complete path or replica ID is found without a scan.

use serde_json::{Value, json};
use smallvec::SmallVec;

use super::AdminRequest;
use super::reply::AdminReply;
use crate::domain::cluster::Port;
use crate::domain::directory::index::IndexedDatabase;
use crate::domain::directory::{DatabaseId, DatabaseMatch, DirectoryIndex, LookupResult, ReplicaId};
use crate::domain::select::{self, Candidate, CandidateVerdict, SelectionInput, SelectionOutcome};
use crate::state::{Cluster, ClusterView};
use crate::util::clock;

const DEFAULT_LIMIT: usize = 20;
const MAX_LIMIT: usize = 200;
/// Databases scanned in one call, which takes some ten milliseconds.
const MAX_SCANNED: usize = 100_000;

/// Answers `GET /databases?q=&limit=&from=&cluster=&scheme=` with matching databases.
#[must_use]
pub fn handle(request: &AdminRequest) -> AdminReply {
    search(request).unwrap_or_else(|error_reply| error_reply)
}

fn search(request: &AdminRequest) -> Result<AdminReply, AdminReply> {
    let limit = request.query_number("limit", DEFAULT_LIMIT, 1..=MAX_LIMIT)?;
    let from = request.query_number("from", 0, 0..=usize::MAX)?;
    let tls = match request.scheme()? {
        Some(port) => port == Port::Https,
        // The scheme of the first listener is what most clients use.
        None => request.snapshot.settings.listeners.first().is_some_and(|l| l.tls.is_some()),
    };
    let wanted = request.query_value("cluster").filter(|name| !name.is_empty());
    let clusters: Vec<_> = request
        .snapshot
        .clusters
        .iter()
        .filter(|c| wanted.as_ref().is_none_or(|name| c.settings.name == *name))
        .map(|cluster| (cluster, cluster.view.load_full()))
        .collect();
    if let (true, Some(name)) = (clusters.is_empty(), &wanted) {
        return Err(AdminReply::bad_query(format!("there is no cluster `{name}`; /status lists them")));
    }
    let query = request.query_value("q").unwrap_or_default();
    let matcher = DatabaseMatcher::new(&query);
    let total: usize = clusters.iter().map(|(_, view)| view.directory.index.len()).sum();
    let mut hits = Vec::new();
    if from == 0 {
        for (cluster, view) in &clusters {
            let exact = matcher.exact_matches(&view.directory.index);
            let room = limit.saturating_sub(hits.len());
            hits.extend(exact.into_iter().take(room).map(|ix| describe(cluster, view, ix, tls)));
        }
    }
    // Positions run through the directories of all clusters. 0 is the first call, which adds the exact matches; 1 is the
    // first database of a later call.
    let start = from.saturating_sub(1).min(total);
    let (mut at, mut first) = (start, 0);
    let stop = start.saturating_add(MAX_SCANNED).min(total);
    'scan: for (cluster, view) in &clusters {
        let index = &view.directory.index;
        let exact = matcher.exact_matches(index);
        for database in index.databases().skip(at.saturating_sub(first)) {
            if at >= stop || hits.len() >= limit {
                break 'scan;
            }
            at += 1;
            if !exact.contains(&database.id()) && matcher.matches(index, &database) {
                hits.push(describe(cluster, view, database.id(), tls));
            }
        }
        first += index.len();
    }
    let next = (at < total).then_some(at + 1);
    Ok(AdminReply::json(&json!({
        "q": query,
        "scheme": if tls { "https" } else { "http" },
        "databases": hits,
        "total": total,
        "scanned": at - start,
        "scan_limit": MAX_SCANNED,
        "next": next,
    })))
}

/// The searched text, folded in the same way as in the directory.
#[derive(Debug)]
struct DatabaseMatcher {
    text: String,
    path: String,
    replica_id: Option<ReplicaId>,
    /// A part of a replica ID, without the colon.
    digits: Option<String>,
}

impl DatabaseMatcher {
    fn new(query: &str) -> Self {
        let text = query.trim().to_lowercase();
        let path = text.replace('\\', "/");
        let path = path.trim_start_matches('/').to_owned();
        let bare = text.strip_prefix("__").unwrap_or(&text).trim_end_matches(".nsf").replacen(':', "", 1);
        let is_hex = (4..=16).contains(&bare.len()) && bare.bytes().all(|byte| byte.is_ascii_hexdigit());
        Self {
            replica_id: ReplicaId::parse(&bare).ok(),
            digits: is_hex.then(|| bare.to_ascii_uppercase()),
            text,
            path,
        }
    }

    /// The databases that the index finds without a scan.
    fn exact_matches(&self, index: &DirectoryIndex) -> SmallVec<[DatabaseId; 4]> {
        if let Some(id) = self.replica_id {
            return index.find_by_replica_id(id).into_iter().collect();
        }
        match index.find_by_plain_path(&self.path) {
            _ if self.path.is_empty() => SmallVec::new(),
            LookupResult::Unknown => SmallVec::new(),
            LookupResult::Unique(found) => SmallVec::from_slice(&[found.database]),
            LookupResult::Ambiguous(path) => {
                index.ambiguous_databases(path).map(|found| found.database).collect()
            }
        }
    }

    fn matches(&self, index: &DirectoryIndex, database: &IndexedDatabase<'_>) -> bool {
        let in_path = || database.replicas().any(|r| index.folded_path(r.path_id).contains(&self.path));
        let in_title = || contains_folded(database.title(), &self.text);
        let in_id =
            || self.digits.as_ref().is_some_and(|d| database.replica_id().to_string().contains(d.as_str()));
        in_path() || in_title() || in_id()
    }
}

/// Case-insensitive search; `needle` is in lower case.
fn contains_folded(text: &str, needle: &str) -> bool {
    if text.is_ascii() {
        let needle = needle.as_bytes();
        return needle.is_empty()
            || text.as_bytes().windows(needle.len()).any(|part| part.eq_ignore_ascii_case(needle));
    }
    text.to_lowercase().contains(needle)
}

/// A database with its replicas and the servers that a new user would get.
fn describe(cluster: &Cluster, view: &ClusterView, database: DatabaseId, tls: bool) -> Value {
    let index = &view.directory.index;
    let found = DatabaseMatch { database, path: None };
    let database = index.database(database);
    let mut candidates: SmallVec<[Candidate; 8]> = SmallVec::new();
    view.candidates(Some(&found), &mut candidates);
    let input =
        SelectionInput::without_affinity(&candidates, cluster.settings.port_for(tls), clock::now_ms(), 0);
    let decision = select::decide(&input, &cluster.selection_policy);
    let replicas: Vec<Value> = database
        .replicas()
        .map(|replica| {
            let server = view.server_id(replica.server);
            let name = index.servers().get(replica.server.as_usize()).map(|name| name.abbreviated());
            let of_path = DatabaseMatch { path: Some(replica.path_id), ..found };
            let mark = server.and_then(|id| view.mark_on(&of_path, id)).unwrap_or(replica.status);
            let known = server.and_then(|id| view.freshness_on(database.id(), id));
            let reading = known.and_then(|known| known.reading);
            json!({
                "server": name,
                "path": replica.path,
                "mark": mark.as_str(),
                "state": server.and_then(|id| view.server(id)).map(|e| e.server.state().as_str()),
                "verdict": server.and_then(|id| Some(view.server(id)?.describe_verdict(decision.verdict(id)?))),
                "modified": reading.map(|reading| reading.modified_unix_ms),
                "read_at": reading.map(|reading| reading.taken_unix_ms),
                "behind_since": known.and_then(|known| known.behind_since_unix_ms),
            })
        })
        .collect();
    // Selection draws one of the equal servers, so each of them may serve.
    let served_by: Vec<&str> = decision
        .verdicts
        .iter()
        .filter(|(_, verdict)| matches!(verdict, CandidateVerdict::Chosen(_) | CandidateVerdict::Equal(_)))
        .filter_map(|(server, _)| view.server(*server).map(|e| e.config.name.abbreviated()))
        .collect();
    let (outcome, why) = match decision.outcome {
        SelectionOutcome::Serve(_, why) => ("serve", Some(why.to_string())),
        SelectionOutcome::Full => ("overloaded", None),
        SelectionOutcome::OutOfService => ("out_of_service", None),
        SelectionOutcome::NoteIdServerGone | SelectionOutcome::NoServer => ("no_server", None),
    };
    json!({
        "cluster": cluster.settings.name,
        "path": database.path(),
        "title": database.title(),
        "replica_id": database.replica_id().to_string(),
        "replicas": replicas,
        "served_by": served_by,
        "outcome": outcome,
        "why": why,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::cluster::ServerName;
    use crate::domain::directory::{DirectoryEntry, ReplicaStatus};

    fn index(entries: &[(&str, u64, &str)]) -> DirectoryIndex {
        let entries = entries.iter().map(|(path, id, title)| DirectoryEntry {
            path: (*path).to_owned(),
            server: ServerName::parse("Web1/Acme").unwrap(),
            replica_id: ReplicaId(*id),
            title: (*title).to_owned(),
            status: ReplicaStatus::InService,
        });
        DirectoryIndex::build(entries).0
    }

    fn found(index: &DirectoryIndex, query: &str) -> Vec<String> {
        let matcher = DatabaseMatcher::new(query);
        let hits = index.databases().filter(|database| matcher.matches(index, database));
        hits.map(|database| database.path().to_owned()).collect()
    }

    #[test]
    fn path_title_and_replica_id_are_searched_in_any_case() {
        let index = index(&[
            ("Sales\\Leads.nsf", 0xC125_7A00_0041_D2E0, "Kunden & Käufe"),
            ("hr/vacation.nsf", 0xC125_7A00_0041_FFFF, "<script>alert(1)</script>"),
        ]);
        for query in [
            "sales/leads",
            "LEADS.NSF",
            "sales\\leads",
            "/sales/",
            "KÄUFE",
            "kunden &",
            "d2e0",
            "C1257A00:0041D2E0",
        ] {
            assert_eq!(found(&index, query), ["Sales/Leads.nsf"], "{query}");
        }
        assert_eq!(found(&index, "<SCRIPT>"), ["hr/vacation.nsf"]);
        assert_eq!(found(&index, "c1257a0000").len(), 2);
        assert_eq!(found(&index, "").len(), 2);
        assert!(found(&index, "nothing like this").is_empty());
    }

    #[test]
    fn a_complete_path_or_replica_id_is_found_without_a_scan() {
        let index = index(&[("a.nsf", 1, ""), ("b.nsf", 2, ""), ("c.nsf", 3, "")]);
        for query in ["B.NSF", "/b.nsf", "0000000000000002", "__0000000000000002.nsf", "00000000:00000002"] {
            let exact = DatabaseMatcher::new(query).exact_matches(&index);
            let paths: Vec<_> = exact.iter().map(|ix| index.database(*ix).path()).collect();
            assert_eq!(paths, ["b.nsf"], "{query}");
        }
        assert!(DatabaseMatcher::new("").exact_matches(&index).is_empty());
        assert!(DatabaseMatcher::new("b").exact_matches(&index).is_empty());
    }
}
