//! The members of the cluster and where they answer. Names come from the Cluster Database Directory, addresses from the Server
//! documents, else from Domino's Redirect command, else from the server that was named.

use std::collections::HashMap;
use std::time::Duration;

use http::header;

use super::databases::{DirectoryServer, FoundDatabases};
use super::target::{InitTarget, resolve};
use crate::config::settings::{Auth, NamesColumns, NamesView, Server, ViewFormat};
use crate::discovery::domino::login::fetch_authenticated;
use crate::discovery::domino::request::encode_form;
use crate::discovery::domino::{DominoClient, DominoRequest, LoginSessions};
use crate::discovery::servers::survey::{self, ServerSurvey};
use crate::domain::cluster::{HostPort, ServerName};
use crate::domain::directory::ReplicaId;

const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// The view of the guide.
const SERVERS_VIEW: &str = "ICM Servers";

/// How Domino is read.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) client: &'a DominoClient,
    pub(super) target: &'a InitTarget,
    pub(super) auth: &'a Auth,
    pub(super) sessions: &'a LoginSessions,
}

/// A server for the configuration.
#[derive(Clone, Debug)]
pub(super) struct FoundMember {
    pub(super) name: ServerName,
    pub(super) hostname: String,
    /// The port of the scheme that is used. `None`: not found.
    pub(super) at: Option<HostPort>,
    /// Where the address comes from, for the comment.
    pub(super) source: String,
    /// What the port answered; `Err`: why it cannot be used.
    pub(super) answer: Result<String, String>,
    /// The port of the other scheme, if the Server document has one.
    pub(super) other: Option<HostPort>,
}

/// What was found about the cluster.
#[derive(Debug, Default)]
pub(super) struct FoundCluster {
    /// `None`: the Domino Directory did not give it.
    pub(super) name: Option<String>,
    pub(super) members: Vec<FoundMember>,
    pub(super) notes: Vec<String>,
}

/// Reads the Server documents, and looks for each member.
pub(super) async fn find(reader: Reader<'_>, databases: Option<&FoundDatabases>) -> FoundCluster {
    let mut found = FoundCluster::default();
    let documents = match survey::read(reader.client, &names_view(reader), reader.sessions).await {
        Ok(documents) => documents,
        Err(reason) => {
            found.notes.push(format!(
                "The Server documents were not read ({reason}): the view `{SERVERS_VIEW}` of the guide gives host names, \
                 ports and the name of the cluster (docs/directory.md, section 3)."
            ));
            ServerSurvey::default()
        }
    };
    found.notes.extend(documents.warnings.iter().map(|warning| format!("Server documents: {warning}.")));
    let wanted = match databases {
        Some(databases) => members_of(databases, &documents, &mut found),
        None => single(reader, &documents, &mut found),
    };
    for (name, replica) in wanted {
        let document = documents.servers.iter().map(|(_, server)| server).find(|server| server.name == name);
        let member = match document {
            Some(document) => of_document(document, reader.target.https),
            None => without_document(reader, name, replica, databases.map_or(1, |d| d.servers.len())).await,
        };
        found.members.push(member);
    }
    for member in &mut found.members {
        if let Some(at) = &member.at {
            member.answer = probe(reader.client, at, &member.hostname, reader.target.https).await;
        }
    }
    found
}

pub(super) fn names_view(reader: Reader<'_>) -> NamesView {
    NamesView {
        from: vec![reader.target.base()],
        database: "names.nsf".to_owned(),
        view: SERVERS_VIEW.to_owned(),
        columns: NamesColumns::default(),
        format: ViewFormat::Xml,
        auth: reader.auth.clone(),
        refresh: Duration::from_secs(60),
        cache: None,
        site_rules: None,
    }
}

/// The servers of the directory; where the Server documents say so, without those that have left the cluster, and with those
/// that hold nothing yet.
fn members_of(
    databases: &FoundDatabases,
    documents: &ServerSurvey,
    found: &mut FoundCluster,
) -> Vec<(ServerName, Option<ReplicaId>)> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for (cluster, server) in &documents.servers {
        if !cluster.is_empty() && databases.servers.contains_key(server.name.folded()) {
            *counts.entry(cluster).or_default() += 1;
        }
    }
    found.name = counts
        .iter()
        .max_by_key(|(name, n)| (**n, std::cmp::Reverse(**name)))
        .map(|(name, _)| (*name).to_owned());
    let cluster_of = |name: &ServerName| {
        documents.servers.iter().find(|(_, server)| server.name == *name).map(|(cluster, _)| cluster.as_str())
    };
    let mut wanted = Vec::new();
    for DirectoryServer { name, replica, .. } in databases.servers.values() {
        match (cluster_of(name), found.name.as_deref()) {
            (Some(other), Some(cluster)) if !other.eq_ignore_ascii_case(cluster) => found.notes.push(format!(
                "{name} is in cldbdir.nsf, but its Server document says that it is not in {cluster}, so it is left out."
            )),
            _ => wanted.push((name.clone(), Some(*replica))),
        }
    }
    for (cluster, server) in &documents.servers {
        let is_new = !databases.servers.contains_key(server.name.folded());
        if is_new && found.name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(cluster)) {
            found
                .notes
                .push(format!("{} is in the cluster, but holds no database in cldbdir.nsf.", server.name));
            wanted.push((server.name.clone(), None));
        }
    }
    wanted.sort_by(|a, b| a.0.folded().cmp(b.0.folded()));
    wanted
}

/// The server that was named, which is in no cluster.
fn single(
    reader: Reader<'_>,
    documents: &ServerSurvey,
    found: &mut FoundCluster,
) -> Vec<(ServerName, Option<ReplicaId>)> {
    let target = reader.target;
    let is_target = |server: &&Server| {
        let at = if target.https { &server.https } else { &server.http };
        server.hostname.eq_ignore_ascii_case(&target.at.host) || at.as_ref() == Some(&target.at)
    };
    let document = documents.servers.iter().map(|(_, server)| server).find(is_target);
    let name = document.map(|server| server.name.clone()).or_else(|| {
        let host = target.at.host.as_str();
        let label = if host.parse::<std::net::IpAddr>().is_ok() { "Web1" } else { host.split('.').next()? };
        found.notes.push(format!(
            "The Domino name of the server was not found, so `{label}` stands for it; write the real name if it matters to you."
        ));
        ServerName::parse(label).ok()
    });
    name.map(|name| (name, None)).into_iter().collect()
}

fn of_document(server: &Server, https: bool) -> FoundMember {
    let (at, other) = match https {
        true => (server.https.clone(), server.http.clone()),
        false => (server.http.clone(), server.https.clone()),
    };
    let answer = match at {
        Some(_) => Ok(String::new()),
        None => Err(format!("its Server document has no {} port", if https { "HTTPS" } else { "HTTP" })),
    };
    FoundMember {
        name: server.name.clone(),
        hostname: server.hostname.clone(),
        at,
        source: format!("from names.nsf, view `{SERVERS_VIEW}`"),
        answer,
        other,
    }
}

/// Asks the server that was named where another one is: `?Redirect` sends a browser to a server by its Domino name
/// (<https://help.hcltechsw.com/dom_designer/9.0.1/appdev/H_ABOUT_URL_COMMANDS_FOR_OPENING_SERVERS_DATABASES_AND_VIEWS.html>).
async fn without_document(
    reader: Reader<'_>,
    name: ServerName,
    replica: Option<ReplicaId>,
    number_of_members: usize,
) -> FoundMember {
    let target = reader.target;
    let mut member = FoundMember {
        name,
        hostname: String::new(),
        at: None,
        source: String::new(),
        answer: Err("no address was found".to_owned()),
        other: None,
    };
    let redirected = match replica {
        Some(replica) => ask_redirect(reader, &member.name, replica).await,
        None => None,
    };
    let first_label = target.at.host.split('.').next().unwrap_or_default();
    let is_target = number_of_members == 1 || first_label.eq_ignore_ascii_case(member.name.common());
    if let Some(at) = redirected {
        member.hostname.clone_from(&at.host);
        (member.at, member.source) = (Some(at), format!("from the Redirect command of {}", target.url()));
    } else if is_target {
        member.hostname.clone_from(&target.at.host);
        (member.at, member.source) = (Some(target.at.clone()), "the server that --server names".to_owned());
    } else if let Some(at) = sibling(target, &member.name) {
        let host = at.host.clone();
        let guessed = resolve(&at).await.is_ok();
        if guessed && probe(reader.client, &at, &host, target.https).await.is_ok() {
            (member.hostname, member.at) = (host, Some(at));
            member.source = "guessed from its name: check it".to_owned();
        }
    }
    member
}

async fn ask_redirect(reader: Reader<'_>, name: &ServerName, replica: ReplicaId) -> Option<HostPort> {
    let id = replica.to_hex();
    let path = format!(
        "/?Redirect&Name={}&Id={}&To=%3FOpenDatabase",
        encode_form(name.abbreviated().as_bytes()),
        std::str::from_utf8(&id).ok()?
    );
    let request = reader.target.request(&path);
    let answer = fetch_authenticated(reader.client, &request, reader.auth, reader.sessions).await.ok()?;
    if !(300..400).contains(&answer.status) {
        return None;
    }
    let uri: http::Uri = answer.header(header::LOCATION).parse().ok()?;
    let authority = uri.authority()?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let https = uri.scheme_str() == Some("https");
    let default = if reader.target.https { 443 } else { 80 };
    // The port of the other scheme is of no use.
    let port = authority.port_u16().filter(|_| https == reader.target.https).unwrap_or(default);
    Some(HostPort { host, port })
}

/// The host name that a server would have beside the one that was named: `web2.acme.example`.
fn sibling(target: &InitTarget, name: &ServerName) -> Option<HostPort> {
    if target.at.host.parse::<std::net::IpAddr>().is_ok() {
        return None;
    }
    let (_, domain) = target.at.host.split_once('.')?;
    let host = format!("{}.{domain}", name.common().to_lowercase());
    crate::util::host::is_resolvable(&host).then_some(HostPort { host, port: target.at.port })
}

/// Whether the port answers, and what.
async fn probe(client: &DominoClient, at: &HostPort, hostname: &str, https: bool) -> Result<String, String> {
    let address = resolve(at).await.map_err(|error| error.to_string())?;
    let mut request = DominoRequest::get(address, https, hostname, "/");
    request.timeout = PROBE_TIMEOUT;
    match client.probe(&request).await {
        Ok(status) => Ok(format!("answers {status}")),
        Err(error) => Err(error.fault.to_string()),
    }
}
