//! The databases of the directory with their replicas, and who would serve a new user now.
//!
//! In: a snapshot, a text to look for, a limit. Out: at most so many databases, and how many there are in all.
//! Only those listed are asked about.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::balancer::{Cluster, Snapshot, View};
use crate::clock;
use crate::cluster::Port;
use crate::directory::{Database, Found};
use crate::select::{self, Candidate, Outcome, Question, Verdict};

/// The whole answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Listing {
    /// Databases that match, listed or not.
    pub matching: usize,
    /// Databases in all.
    pub total: usize,
    /// The first ones.
    pub databases: Vec<Listed>,
}

/// One database.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Listed {
    pub cluster: String,
    pub path: String,
    pub replica_id: String,
    pub title: String,
    pub replicas: Vec<Replica>,
    /// Any of them would serve a new user; empty = nobody would.
    pub served_by: Vec<String>,
    /// The word of the outcome where nobody would: `no_server`, `out_of_service`, `overloaded`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// One copy.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Replica {
    pub server: String,
    pub path: String,
    pub mark: String,
    /// The server's state; `None` = it is no member.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

/// Databases whose path, title or replica ID has `text` in it, in any case; by path within a cluster's order of
/// replica IDs.
#[must_use]
pub fn list(snapshot: &Snapshot, text: &str, limit: usize) -> Listing {
    let wanted = text.trim().to_lowercase();
    let id = wanted.trim_start_matches('_').replace(':', "");
    let mut listing = Listing { matching: 0, total: 0, databases: Vec::new() };
    for cluster in &snapshot.clusters {
        let view = cluster.view.load();
        let index = &view.directory.index;
        listing.total += index.len();
        for database in index.databases() {
            let has = |text: &str| text.to_lowercase().contains(&wanted);
            let matches = wanted.is_empty()
                || database.replicas().any(|r| has(r.path))
                || has(database.title())
                || database.replica_id().to_string().to_lowercase().contains(&id);
            if !matches {
                continue;
            }
            listing.matching += 1;
            if listing.databases.len() < limit {
                listing.databases.push(one(cluster, &view, &database));
            }
        }
    }
    listing
}

fn one(cluster: &Cluster, view: &View, database: &Database<'_>) -> Listed {
    let index = &view.directory.index;
    let replicas = database
        .replicas()
        .map(|replica| {
            let entry = view.member_of(replica.server).and_then(|member| view.entry(member));
            let name = index.servers().get(replica.server.index());
            Replica {
                server: name.map(ToString::to_string).unwrap_or_default(),
                path: replica.path.to_owned(),
                mark: replica.mark.word().to_owned(),
                state: entry.map(|e| e.member.state().word().to_owned()),
            }
        })
        .collect();
    let mut candidates: SmallVec<[Candidate; 8]> = SmallVec::new();
    view.candidates(Some(&Found { database: database.ix(), path: None }), &mut candidates);
    let question = Question {
        candidates: &candidates,
        port: if cluster.settings.uses(Port::Http) { Port::Http } else { Port::Https },
        entry: None,
        hint: None,
        recent: None,
        sessions: &[],
        note_id: false,
        tried: &[],
        now_ms: clock::now_ms(),
        seed: fastrand::u64(..),
    };
    let decision = select::decide(&question, &cluster.rules);
    let problem = match decision.outcome {
        Outcome::Serve(..) => None,
        Outcome::OutOfService => Some("out_of_service"),
        Outcome::Full => Some("overloaded"),
        Outcome::NoServer | Outcome::NoteIdServerGone => Some("no_server"),
    };
    let served_by = decision
        .verdicts
        .iter()
        .filter(|(_, verdict)| matches!(verdict, Verdict::Chosen(_) | Verdict::Equal(_)))
        .filter_map(|(member, _)| view.entry(*member))
        .map(|entry| entry.server.name.to_string())
        .collect();
    Listed {
        cluster: cluster.settings.name.clone(),
        path: database.path().to_owned(),
        replica_id: database.replica_id().to_string(),
        title: database.title().to_owned(),
        replicas,
        served_by,
        problem: problem.map(str::to_owned),
    }
}
