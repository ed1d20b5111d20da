//! Asks the companions of all servers with a replica when a document was last saved. Apart from the availability readings,
//! because it is asked for one request of a user, and each server once.

use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use tokio::task::JoinSet;

use super::cluster::Cluster;
use super::cluster_view::{ClusterView, UpstreamServer};
use super::readable::reading_port;
use super::replica_readings::{ServerTimes, rules};
use crate::config::settings::{AvailabilitySource, Server};
use crate::discovery::availability::{CompanionReading, PollError, PollTarget, ask_companion};
use crate::discovery::directory::ServerAddress;
use crate::discovery::domino::FetchError;
use crate::discovery::domino::fault::Fault;
use crate::discovery::domino::login::LoginError;
use crate::discovery::domino::request::encode_form;
use crate::domain::directory::{DatabaseMatch, ReplicaId};
use crate::domain::freshness::UnknownModified;
use crate::domain::save::{CopyAnswer, CopyReading, CopyState, Unid};

/// For all servers together: they are asked at the same time, and a person waits.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The times of the companion have whole seconds.
const RESOLUTION_MS: u64 = 1_000;

/// The answer of a server, and what to log about it.
#[derive(Debug)]
pub(crate) struct LoggedReading {
    pub(crate) reading: CopyReading,
    /// The name of the server and the cause.
    pub(crate) text: String,
}

/// The question to one server.
struct Question {
    cluster: Arc<Cluster>,
    source: AvailabilitySource,
    config: Server,
    tag: u32,
    address: ServerAddress,
    database: ReplicaId,
    unid: Unid,
    path: String,
}

/// Asks every server that holds the database, at most 5 s. The order is that of the directory.
pub(crate) async fn read(
    cluster: &Arc<Cluster>,
    view: &ClusterView,
    database: ReplicaId,
    unid: Unid,
) -> Vec<LoggedReading> {
    let index = &view.directory.index;
    let mut tasks = JoinSet::new();
    let mut readings = Vec::new();
    if let Some(found) = index.find_by_replica_id(database) {
        for holder in index.replicas_by_server(&DatabaseMatch { database: found, path: None }) {
            let Some(entry) = view.server_id(holder.server).and_then(|id| view.server(id)) else { continue };
            // Of several copies on one server nobody knows which one the server chose.
            let question = (holder.replica_count == 1)
                .then(|| question(cluster, entry, (database, unid), holder.path()))
                .flatten();
            match question {
                Some(question) => {
                    tasks.spawn(question.ask());
                }
                None => readings.push(not_told(entry.tag(), &entry.config, "cannot be asked")),
            }
        }
    }
    while let Some(result) = tasks.join_next().await {
        readings.extend(result.ok());
    }
    readings
}

fn not_told(server: u32, config: &Server, cause: &str) -> LoggedReading {
    let reading = CopyReading { server, answer: CopyAnswer::NotTold };
    LoggedReading { reading, text: format!("{}: {cause}", config.name) }
}

fn question(
    cluster: &Arc<Cluster>,
    entry: &UpstreamServer,
    (database, unid): (ReplicaId, Unid),
    path: &str,
) -> Option<Question> {
    let sources = cluster.availability_sources(&entry.config);
    let source = sources.iter().map(|one| &one.source).find(|source| source.is_companion())?;
    Some(Question {
        cluster: Arc::clone(cluster),
        source: source.clone(),
        config: entry.config.clone(),
        tag: entry.tag(),
        address: reading_port(cluster, entry)?.1,
        database,
        unid,
        path: path.to_owned(),
    })
}

impl Question {
    async fn ask(self) -> LoggedReading {
        let (cluster, config) = (&self.cluster, &self.config);
        let target = PollTarget {
            name: &config.name,
            hostname: &config.hostname,
            address: self.address.address,
            reading_port: (self.address.address, self.address.https),
            sessions: &cluster.persistent_state.login_sessions,
            timeout: TIMEOUT,
        };
        let arguments = format!("&modified={}&path={}", self.unid, encode_form(self.path.as_bytes()));
        let asked = ask_companion(&cluster.client, &self.source, &target, &arguments);
        let (answer, cause) = match tokio::time::timeout(TIMEOUT, asked).await {
            Ok(Ok(reading)) => self.answer(&reading),
            Ok(Err(error)) => (of_error(&error), error.to_string()),
            Err(_) => (CopyAnswer::Unreachable, format!("no answer within {TIMEOUT:?}")),
        };
        let reading = CopyReading { server: self.tag, answer };
        LoggedReading { reading, text: format!("{}: {cause}", config.name) }
    }

    fn answer(&self, reading: &CompanionReading) -> (CopyAnswer, String) {
        let document = &reading.document;
        let revision =
            document.revision.filter(|found| found.replica_id == self.database && found.unid == self.unid);
        let (Some(revision), Some(clock)) = (revision, document.time_unix_ms) else {
            let missing = document.missing.join("; ");
            let cause =
                if missing.is_empty() { "the companion does not know this question" } else { &missing };
            return (CopyAnswer::NotTold, cause.to_owned());
        };
        let (sent, received) = (reading.sent_unix_ms, reading.received_unix_ms);
        let times = ServerTimes { modified: revision.saved_unix_ms, clock, sent, received };
        let rules = rules(&self.cluster.settings.freshness);
        let readings = &self.cluster.persistent_state.replica_readings;
        let observed = readings.observe_clock(self.tag, times, &rules);
        if let Err(why) = observed.and_then(|offset| offset.to_ours(revision.saved_unix_ms)) {
            let answer =
                if why == UnknownModified::Slow { CopyAnswer::Unreachable } else { CopyAnswer::ClockMoved };
            return (answer, why.as_str().to_owned());
        }
        // The offset of this one answer: that of several readings follows small differences slowly.
        let middle = sent.midpoint(received);
        let to_ours = |time: u64| time.saturating_add(middle).saturating_sub(clock);
        let state = CopyState {
            revised_unix_ms: to_ours(revision.saved_unix_ms),
            uncertainty_ms: received.saturating_sub(sent) / 2 + RESOLUTION_MS,
            started_unix_ms: document.started_unix_ms().map(to_ours),
            asked_unix_ms: sent,
        };
        let saved = i64::try_from(revision.saved_unix_ms).ok().and_then(DateTime::from_timestamp_millis);
        let text = saved.map_or_else(String::new, |time| format!("changed {}", time.to_rfc3339()));
        (CopyAnswer::State(state), text)
    }
}

/// A server that answers, although not with its document, is there.
fn of_error(error: &PollError) -> CopyAnswer {
    match error {
        PollError::Fetch(FetchError { fault: Fault::Status(_), .. }) => CopyAnswer::NotTold,
        PollError::Fetch(_) | PollError::Login(LoginError::Fetch(_)) => CopyAnswer::Unreachable,
        _ => CopyAnswer::NotTold,
    }
}
