//! Asks every server, without an account, for the views that tell which databases and users there are. What Anonymous may
//! read there, anyone can read through the balancer too, unless a rule of `access` denies it.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use http::header;
use pingora_http::RequestHeader;
use tokio::task::JoinSet;

use crate::config::settings::{Directory, HostPattern};
use crate::discovery::directory::ServerAddress;
use crate::discovery::domino::request::{encode_database_path, encode_segment};
use crate::discovery::domino::{DominoClient, DominoRequest, FetchError};
use crate::domain::url;
use crate::proxy::access::{self, AccessRequest};
use crate::proxy::route::TargetUri;
use crate::state::{Cluster, Snapshot, readable};

/// More servers are not asked: their databases are replicas of the same.
const MAX_SERVERS: usize = 32;
const TIMEOUT: Duration = Duration::from_secs(3);
/// One row of a view.
const MAX_BODY: usize = 256 << 10;
/// A documentation address (RFC 5737), so it is outside of every network that a rule could name.
const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// Whether anyone may read a view of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposure {
    /// The abbreviated name of the server.
    pub server: String,
    /// The database of the view.
    pub database: String,
    /// What the server answered.
    pub answer: AnonymousAnswer,
    /// Whether no rule of `access` denies the same request to a client from outside.
    pub passes: bool,
}

/// The answer to a reader without an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnonymousAnswer {
    /// The rows of the view.
    Rows,
    /// Anything else, such as a login form.
    NoRows,
    /// No answer, and why.
    Unknown(String),
}

impl Exposure {
    /// Whether anyone can read the view through the balancer.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.passes && self.answer == AnonymousAnswer::Rows
    }

    /// One sentence for an administrator.
    #[must_use]
    pub fn describe(&self) -> String {
        let Self { server, database, .. } = self;
        let what = if database == "names.nsf" { "users and groups" } else { "databases and servers" };
        match (&self.answer, self.passes) {
            (AnonymousAnswer::Rows, true) => format!(
                "{database} can be read by Anonymous on {server}, and `access` does not forbid it: anyone can list \
                 {what}"
            ),
            (AnonymousAnswer::Rows, false) => {
                format!(
                    "{database} can be read by Anonymous on {server}; `access` forbids it to clients from outside"
                )
            }
            (AnonymousAnswer::NoRows, _) => format!("{database} cannot be read by Anonymous on {server}"),
            (AnonymousAnswer::Unknown(why), _) => {
                format!("not known whether {database} can be read by Anonymous on {server}: {why}")
            }
        }
    }
}

/// Asks the servers of all clusters at once; the results are in the order of the clusters.
pub async fn ask_all(snapshot: &Snapshot) -> Vec<Vec<Exposure>> {
    let mut asked = Vec::new();
    for cluster in &snapshot.clusters {
        asked.push(start(cluster));
    }
    let mut all = Vec::new();
    for set in asked {
        all.push(finish(set).await);
    }
    all
}

/// Asks every server of a cluster.
pub async fn ask(cluster: &Arc<Cluster>) -> Vec<Exposure> {
    finish(start(cluster)).await
}

fn start(cluster: &Arc<Cluster>) -> JoinSet<(usize, Exposure)> {
    let views = views(cluster);
    let mut asked = JoinSet::new();
    let view = cluster.view.load();
    let servers = view.entries.iter().filter_map(|entry| Some(readable::reading_port(cluster, entry)?.1));
    for (number, server) in servers.take(MAX_SERVERS).enumerate() {
        for (at, (database, target, passes)) in views.iter().cloned().enumerate() {
            let client = cluster.client.clone();
            let server = server.clone();
            asked.spawn(async move {
                let answer = ask_for(&client, &server, &target).await;
                let server = server.name.abbreviated().to_owned();
                (number * 2 + at, Exposure { server, database, answer, passes })
            });
        }
    }
    asked
}

async fn finish(asked: JoinSet<(usize, Exposure)>) -> Vec<Exposure> {
    let mut all = asked.join_all().await;
    all.sort_by_key(|(number, _)| *number);
    all.into_iter().map(|(_, exposure)| exposure).collect()
}

/// The database, the URL of its view, and whether the rules let it pass.
fn views(cluster: &Arc<Cluster>) -> [(String, String, bool); 2] {
    let (directory, view) = match &cluster.settings.directory {
        Directory::Cldbdir(source) => (source.database.as_str(), source.view.as_str()),
        _ => ("cldbdir.nsf", "($Pathname)"),
    };
    [(directory, view), ("names.nsf", "($Users)")].map(|(database, view)| {
        let path = encode_database_path(database);
        let target = format!("{path}/{}?ReadViewEntries&Count=1", encode_segment(view));
        let passes = passes(cluster, &target);
        (database.to_owned(), target, passes)
    })
}

async fn ask_for(client: &DominoClient, server: &ServerAddress, target: &str) -> AnonymousAnswer {
    let mut request = DominoRequest::get(server.address, server.https, &server.hostname, target);
    request.timeout = TIMEOUT;
    request.max_body = MAX_BODY;
    match client.fetch(&request).await {
        Ok(response) => {
            let has_rows = memchr::memmem::find(&response.body, b"<viewentries").is_some();
            if response.status == 200 && has_rows { AnonymousAnswer::Rows } else { AnonymousAnswer::NoRows }
        }
        Err(FetchError { fault, .. }) => AnonymousAnswer::Unknown(fault.to_string()),
    }
}

/// Whether the rules of a cluster let a client from outside ask for this.
fn passes(cluster: &Arc<Cluster>, target: &str) -> bool {
    let host = cluster.settings.hostnames.iter().find_map(|pattern| match pattern {
        HostPattern::Exact(name) => Some(name.as_str()),
        HostPattern::Wildcard(_) => None,
    });
    let authority = host.unwrap_or("localhost");
    let head = RequestHeader::build("GET", target.as_bytes(), None).and_then(|mut head| {
        head.insert_header(header::HOST, authority)?;
        Ok(head)
    });
    let Ok(head) = head else { return true };
    let parsed = url::parse(target.as_bytes());
    let view = cluster.view.load();
    let uri = TargetUri { authority, target: target.as_bytes(), tls: true };
    let request =
        AccessRequest { cluster, view: &view, head: &head, uri, target: &parsed, client: Some(OUTSIDE) };
    access::decide(request, None, |decision| !decision.is_denied())
}
