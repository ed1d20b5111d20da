//! Restrictions by administrators: set by a verb, kept on disk, taken back only by a verb.
//!
//! In: a server's name and who asks. Out: RESTRICTED members, and a file in `state_dir` that a restart
//! reads. What else restricts a server (its own word, the configuration) is not touched here.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Balancer, Snapshot};
use crate::clock;
use crate::cluster::{Restriction, ServerName};

/// The file below `state_dir`.
const FILE: &str = "restrictions.json";

/// One restriction as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The cluster's name.
    pub cluster: String,
    /// The server's abbreviated name.
    pub server: String,
    /// Milliseconds since 1970.
    pub since: u64,
    /// Who.
    pub by: String,
}

/// Why restrictions cannot be kept or read.
#[derive(Debug, thiserror::Error)]
#[error("restrictions in {path}: {reason}")]
pub struct StoreError {
    path: PathBuf,
    reason: String,
}

impl StoreError {
    fn new(path: &Path, reason: impl ToString) -> Self {
        Self { path: path.to_owned(), reason: reason.to_string() }
    }
}

/// What came of a verb for one server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// The cluster's name.
    pub cluster: String,
    /// The server's abbreviated name.
    pub server: String,
    /// Its state now.
    pub state: String,
    /// Everything that restricts it now.
    pub restrictions: Vec<String>,
    /// Requests of this balancer in flight there.
    pub in_flight: u32,
    /// Databases that nobody else can serve while this server is RESTRICTED.
    pub last_replicas: Vec<String>,
}

/// Restricts or releases every member that answers to `name`, and keeps it on disk where there is a
/// `state_dir`. Empty when no cluster has such a server.
///
/// # Errors
/// When the file cannot be written; the members are restricted or released all the same.
pub fn set(balancer: &Balancer, name: &str, by: Option<&str>) -> Result<Vec<Outcome>, StoreError> {
    let snapshot = balancer.snapshot();
    let now = clock::now_ms();
    let mut outcomes = Vec::new();
    for cluster in &snapshot.clusters {
        let view = cluster.view.load();
        for entry in view.entries.iter().filter(|e| e.server.name.answers_to(name)) {
            let restriction = by.map(|by| Restriction { since_unix_ms: clock::unix_ms(), by: by.to_owned() });
            let change = entry.member.restrict(restriction, now);
            balancer.record(&cluster.settings.name, &entry.server.name, change);
            outcomes.push(Outcome {
                cluster: cluster.settings.name.clone(),
                server: entry.server.name.to_string(),
                state: entry.member.state().word().to_owned(),
                restrictions: entry.member.read(|ledger| ledger.restrictions()),
                in_flight: entry.member.in_flight(),
                last_replicas: if by.is_some() {
                    last_replicas(&view, &entry.server.name)
                } else {
                    Vec::new()
                },
            });
        }
    }
    if let Some(dir) = &snapshot.settings.state_dir {
        save(dir, &all(&snapshot))?;
    }
    Ok(outcomes)
}

/// Paths of databases that new users may open on this server, and whose other replicas are all marked or on
/// servers that take no new users.
#[must_use]
pub fn last_replicas(view: &super::View, server: &ServerName) -> Vec<String> {
    let index = &view.directory.index;
    let is_open = |holder: &crate::directory::Holder<'_>| holder.mark == crate::directory::Mark::InService;
    let takes_new_users = |holder: &crate::directory::Holder<'_>| {
        view.member_of(holder.server).and_then(|ix| view.entry(ix)).is_some_and(|entry| {
            let seen = entry.member.view();
            is_open(holder) && seen.restricted_since_ms.is_none() && (seen.http || seen.https)
        })
    };
    let is_it = |holder: &crate::directory::Holder<'_>| {
        view.member_of(holder.server).and_then(|ix| view.entry(ix)).is_some_and(|e| e.server.name == *server)
    };
    index
        .databases()
        .filter(|database| {
            let found = crate::directory::Found { database: database.ix(), path: None };
            index.holders(&found).any(|h| is_it(&h) && is_open(&h))
                && !index.holders(&found).any(|h| !is_it(&h) && takes_new_users(&h))
        })
        .map(|database| database.path().to_owned())
        .collect()
}

/// All restrictions by administrators that are in force.
#[must_use]
pub fn all(snapshot: &Snapshot) -> Vec<Kept> {
    let mut kept = Vec::new();
    for cluster in &snapshot.clusters {
        for entry in &cluster.view.load().entries {
            if let Some(restriction) = entry.member.read(|ledger| ledger.admin_restriction().cloned()) {
                kept.push(Kept {
                    cluster: cluster.settings.name.clone(),
                    server: entry.server.name.to_string(),
                    since: restriction.since_unix_ms,
                    by: restriction.by,
                });
            }
        }
    }
    kept
}

/// Applies what was kept to the members that exist now; before the first request.
///
/// # Errors
/// When the file is there and cannot be understood: to start without a restriction that somebody set would
/// send users to a server that is being taken down.
pub fn restore(balancer: &Balancer) -> Result<(), StoreError> {
    let snapshot = balancer.snapshot();
    let Some(dir) = &snapshot.settings.state_dir else { return Ok(()) };
    let path = dir.join(FILE);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(StoreError::new(&path, error)),
    };
    let kept: Vec<Kept> = serde_json::from_slice(&text).map_err(|e| StoreError::new(&path, e))?;
    for restriction in kept {
        for cluster in snapshot.clusters.iter().filter(|c| c.settings.name == restriction.cluster) {
            let Ok(name) = ServerName::parse(&restriction.server) else { continue };
            for entry in cluster.view.load().entries.iter().filter(|e| e.server.name == name) {
                let again = Restriction { since_unix_ms: restriction.since, by: restriction.by.clone() };
                let change = entry.member.restrict(Some(again), clock::now_ms());
                balancer.record(&cluster.settings.name, &name, change);
            }
        }
    }
    Ok(())
}

/// Written aside and renamed: a crash leaves the old list or the new one.
fn save(dir: &Path, kept: &[Kept]) -> Result<(), StoreError> {
    let path = dir.join(FILE);
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(dir)?;
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        serde_json::to_writer_pretty(&mut file, kept)?;
        file.write_all(b"\n")?;
        file.as_file().sync_all()?;
        file.persist(&path)?;
        Ok(())
    };
    write().map_err(|e| StoreError::new(&path, e))
}
