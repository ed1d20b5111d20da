//! Reads the Cluster Database Directory for `icm init`: which servers hold databases, and how many.

use std::collections::{BTreeMap, HashSet};

use super::error::InitError;
use super::target::InitTarget;
use crate::config::settings::{Auth, Cldbdir, Column, DirectoryColumns, LOOKUP_VIEW, ViewFormat};
use crate::discovery::directory::cldbdir::read_directory;
use crate::discovery::directory::{AnsweredViews, ServerAddress};
use crate::discovery::domino::login::LoginError;
use crate::discovery::domino::view_entries::reader::ReadError;
use crate::discovery::domino::{DominoClient, LoginSessions};
use crate::domain::cluster::ServerName;
use crate::domain::directory::ReplicaId;

/// What the directory of one server says.
#[derive(Debug)]
pub(super) struct FoundDatabases {
    /// The view that was read.
    pub(super) view: String,
    pub(super) replicas: usize,
    pub(super) databases: usize,
    /// The servers by their folded names.
    pub(super) servers: BTreeMap<String, DirectoryServer>,
    pub(super) warnings: Vec<String>,
}

/// A server that holds databases.
#[derive(Clone, Debug)]
pub(super) struct DirectoryServer {
    pub(super) name: ServerName,
    /// A database that it holds.
    pub(super) replica: ReplicaId,
    /// The path of that database there.
    pub(super) path: String,
}

/// `None` if the server has no Cluster Database Directory: it is in no cluster.
///
/// # Errors
/// When the account may not read it, or it cannot be read.
pub(super) async fn read(
    client: &DominoClient,
    target: &InitTarget,
    auth: &Auth,
    sessions: &LoginSessions,
) -> Result<Option<FoundDatabases>, InitError> {
    let unreadable = |reason: String| InitError::Unreadable(format!("cldbdir.nsf cannot be read: {reason}"));
    let name = ServerName::parse(&target.at.host).map_err(|error| unreadable(error.to_string()))?;
    let server = ServerAddress {
        name,
        hostname: target.at.host.clone(),
        address: target.address,
        https: target.https,
    };
    let settings = settings(auth);
    match read_directory(client, &[server], &settings, sessions, &AnsweredViews::default()).await {
        Ok(reading) if reading.builder.is_empty() => Err(unreadable(format!(
            "view `{}` shows this user no document: give the user the role that its Reader fields name",
            reading.view
        ))),
        Ok(reading) => Ok(Some(found(&reading))),
        Err(failure) => match failure.attempts.into_iter().next().map(|(_, error)| error) {
            Some(error) if error.is_not_found() => Ok(None),
            Some(ReadError::Login(LoginError::NotAuthorised { user, .. })) => {
                Err(InitError::NoReader { url: target.url(), user })
            }
            Some(error) => Err(unreadable(error.to_string())),
            None => Err(unreadable("no server was asked".to_owned())),
        },
    }
}

fn found(reading: &crate::discovery::directory::DirectoryReading) -> FoundDatabases {
    let mut databases = HashSet::new();
    let mut servers = BTreeMap::new();
    for entry in reading.builder.entries() {
        databases.insert(entry.replica_id);
        let key = entry.server.folded().to_owned();
        servers.entry(key).or_insert(DirectoryServer {
            name: entry.server,
            replica: entry.replica_id,
            path: entry.path,
        });
    }
    let asked = format!("{}: ", reading.from);
    let warnings = reading.warnings.iter().map(|text| text.trim_start_matches(&asked).to_owned());
    FoundDatabases {
        view: reading.view.clone(),
        replicas: reading.builder.len(),
        databases: databases.len(),
        servers,
        warnings: warnings.collect(),
    }
}

/// The defaults of a configuration.
fn settings(auth: &Auth) -> Cldbdir {
    let number = |number| Some(Column::Number(number));
    Cldbdir {
        database: "cldbdir.nsf".to_owned(),
        view: LOOKUP_VIEW.to_owned(),
        format: ViewFormat::Xml,
        columns: DirectoryColumns {
            path: number(0),
            server: number(1),
            replica_id: number(3),
            title: None,
            out_of_service: None,
            pending_delete: None,
        },
        auth: auth.clone(),
        refresh: std::time::Duration::from_secs(60),
        cache: None,
    }
}
