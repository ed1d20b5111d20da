//! Everything that `icm init` reads, in order, and the sentences about it. Each step prints what it found, so that an
//! administrator sees where a slow server keeps him waiting.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::InitArgs;
use super::account::{self, InitLogin};
use super::answers::{Account, WantedServer, allows_plaintext};
use super::databases::{self, FoundDatabases};
use super::error::InitError;
use super::members::{self, FoundCluster, Reader};
use super::sources::{self, FoundSources};
use super::target::{self, InitTarget};
use super::yaml::FileContent;
use crate::cli::output;
use crate::config::settings::{Auth, NamesView, SiteRuleColumns, SiteRulesView, UpstreamTls};
use crate::discovery::domino::{DominoClient, LoginSessions};
use crate::discovery::site_rules;
use crate::util::clock;
use crate::util::host::is_loopback;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Host names in a comment.
const MAX_HOSTS: usize = 20;

const STATPUB_NOTE: &str =
    "statpub (Domino sends its statistics) cannot be seen from outside: docs/availability.md.";
const MARKS_NOTE: &str = "Marks (out of service, pending delete) are not read: no column of the view is known to hold them \
                          (docs/directory.md, section 2).";

/// What was read from the servers.
#[derive(Debug)]
pub(super) struct Findings {
    target: InitTarget,
    login: InitLogin,
    allow_plaintext: bool,
    directory: Option<String>,
    cluster_name: String,
    cluster_source: String,
    cluster: FoundCluster,
    hosts: Vec<String>,
    sources: FoundSources,
    notes: Vec<String>,
}

/// # Errors
/// When there is nothing from which a configuration could be written.
pub(super) async fn read(
    arguments: &InitArgs,
    wanted: &WantedServer,
    account: Option<&Account>,
) -> Result<Findings, InitError> {
    let client = DominoClient::new(&upstream_tls(arguments)?, CONNECT_TIMEOUT);
    let target = target::find(&client, wanted, arguments.ca_file.is_some()).await?;
    print_target(&target);
    let allow_plaintext = account.is_some() && !target.https && !target.address.ip().is_loopback();
    if allow_plaintext && !allows_plaintext(arguments, &target.url())? {
        return Err(plaintext_refused(&target.url()));
    }
    let login = account::log_in(&client, &target, account).await?;
    let login_note = login_note(&target, &login);
    println!("{login_note}");
    let sessions = LoginSessions::default();
    let reader = Reader { client: &client, target: &target, auth: &login.auth, sessions: &sessions };
    let databases = databases::read(&client, &target, &login.auth, &sessions).await?;
    let directory = databases.as_ref().map(describe_directory);
    println!("{}", directory.as_deref().unwrap_or("cldbdir.nsf: not there, so this server is in no cluster"));
    let cluster = members::find(reader, databases.as_ref()).await;
    print_members(&cluster);
    let allow_plaintext = allow_plaintext || allows_members(arguments, &target, account, &cluster)?;
    if !cluster.members.iter().any(|member| member.at.is_some()) {
        let names: Vec<String> = cluster.members.iter().map(|member| member.name.to_string()).collect();
        return Err(InitError::NoAddresses { members: names.join(", ") });
    }
    let sources = sources::find(reader, &cluster.members, allow_plaintext).await;
    let freshness = freshness_note(reader, &cluster, databases.as_ref()).await;
    let hosts = web_hosts(reader).await;
    let (cluster_name, cluster_source) = cluster_name(arguments, &cluster);
    let mut notes = vec![login_note];
    notes.extend(target.notes.iter().chain(&cluster.notes).cloned());
    notes.extend(databases.iter().flat_map(|found| found.warnings.iter().cloned()));
    notes.extend(sources.notes.iter().map(|note| format!("Source of the servers' load: {note}.")));
    notes.push(STATPUB_NOTE.to_owned());
    notes.extend(freshness);
    notes.extend(databases.is_some().then(|| MARKS_NOTE.to_owned()));
    Ok(Findings {
        allow_plaintext,
        directory,
        cluster_name,
        cluster_source,
        hosts,
        sources,
        notes,
        cluster,
        login,
        target,
    })
}

fn print_target(target: &InitTarget) {
    for note in &target.notes {
        println!("{note}");
    }
    let product = if target.product.is_empty() { String::new() } else { format!(" ({})", target.product) };
    println!("{}: Domino{product}", target.url());
}

fn describe_directory(found: &FoundDatabases) -> String {
    let (servers, view) = (found.servers.len(), &found.view);
    format!(
        "cldbdir.nsf: {} replicas of {} databases on {servers} servers, view `{view}`",
        found.replicas, found.databases
    )
}

/// Whether the configuration will send the password in clear text to a member elsewhere, which must be allowed even where the
/// server that was named is on this machine.
fn allows_members(
    arguments: &InitArgs,
    target: &InitTarget,
    account: Option<&Account>,
    cluster: &FoundCluster,
) -> Result<bool, InitError> {
    let mut hosts = cluster.members.iter().filter_map(|member| member.at.as_ref());
    let Some(at) = hosts.find(|at| !is_loopback(&at.host)).filter(|_| account.is_some() && !target.https)
    else {
        return Ok(false);
    };
    let url = format!("http://{at}");
    if allows_plaintext(arguments, &url)? { Ok(true) } else { Err(plaintext_refused(&url)) }
}

fn plaintext_refused(url: &str) -> InitError {
    InitError::Usage(format!(
        "{url} is plain HTTP, so everyone on the way could read the password: use https, or --allow-plaintext if the network \
         is trusted"
    ))
}

impl Findings {
    pub(super) fn content(
        &self,
        listen: SocketAddr,
        state_dir: Option<String>,
        ca_file: Option<String>,
        password_file: String,
    ) -> FileContent<'_> {
        let user = match &self.login.auth {
            Auth::None => "Anonymous",
            Auth::Basic { user, .. } | Auth::Session { user, .. } => user,
        };
        FileContent {
            origin: format!(
                "on {} from {} as {user}",
                output::local_time(clock::unix_ms()),
                self.target.url()
            ),
            listen: listen.to_string(),
            state_dir,
            cluster: &self.cluster_name,
            cluster_source: &self.cluster_source,
            hosts: self.hosts.clone(),
            https: self.target.https,
            ca_file: ca_file.filter(|_| self.target.https),
            members: &self.cluster.members,
            directory: self.directory.clone(),
            auth: &self.login.auth,
            password_file,
            allow_plaintext: self.allow_plaintext,
            source: &self.sources.use_this,
            notes: &self.notes,
        }
    }
}

/// The authorities of `--ca-file`, or those of the platform.
fn upstream_tls(arguments: &InitArgs) -> Result<UpstreamTls, InitError> {
    let Some(file) = &arguments.ca_file else {
        return Ok(UpstreamTls { ca_file: None, ca: None, verify: true });
    };
    let wrong = |why: String| InitError::Usage(format!("--ca-file: {}: {why}", file.display()));
    let pem = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
    let all: Result<Vec<Vec<u8>>, _> =
        CertificateDer::pem_slice_iter(&pem).map(|one| one.map(|one| one.to_vec())).collect();
    let all = all.map_err(|error| wrong(error.to_string()))?;
    if all.is_empty() {
        return Err(wrong("it has no certificate in PEM".to_owned()));
    }
    Ok(UpstreamTls { ca_file: Some(file.clone()), ca: Some(Arc::new(all)), verify: true })
}

/// What the login of the account says about those of users.
fn login_note(target: &InitTarget, login: &InitLogin) -> String {
    let Some(first) = login.cookies.first() else {
        return match login.auth {
            Auth::None => format!("{}: read as Anonymous; how users log in was not tried.", target.url()),
            _ => "Login: Basic authentication, so browsers send the password with every request and a failover keeps the \
                  login."
                .to_owned(),
        };
    };
    let names: Vec<&str> = login.cookies.iter().map(|cookie| cookie.name.as_str()).collect();
    let names = names.join(", ");
    if !first.is_sso() {
        return format!(
            "Login: the session cookie {names} is valid on its own server only, so users log in again after a failover; with \
             multi-server session authentication they need not (docs/sessions.md)."
        );
    }
    let domain = first.domain.as_deref().map_or_else(
        || "without a domain".to_owned(),
        |domain| format!("for *.{domain}, so the public name of icm must be in this domain"),
    );
    format!(
        "Login: single sign-on with {names} {domain}. `icm check --sso` tries whether all servers accept it."
    )
}

fn print_members(cluster: &FoundCluster) {
    for member in &cluster.members {
        let at = member.at.as_ref().map(|at| format!(" at {at}")).unwrap_or_default();
        match &member.answer {
            Ok(answer) => println!("{}{at}: {answer}; {}", member.name, member.source),
            Err(why) => println!("{}{at}: {why}", member.name),
        }
    }
    for note in &cluster.notes {
        println!("{note}");
    }
}

/// Asks for one database that the first member holds.
async fn freshness_note(
    reader: Reader<'_>,
    cluster: &FoundCluster,
    databases: Option<&FoundDatabases>,
) -> Option<String> {
    let member = cluster.members.iter().find(|member| member.at.as_ref() == Some(&reader.target.at))?;
    let held = databases?.servers.get(member.name.folded())?;
    Some(sources::modification_times(reader, &held.path).await)
}

/// The host names in the Web Site documents; empty if there is no view over them.
async fn web_hosts(reader: Reader<'_>) -> Vec<String> {
    let column = |name: &str| crate::config::settings::Column::Name(name.to_owned());
    let rules = SiteRulesView {
        view: "ICM Web Rules".to_owned(),
        columns: SiteRuleColumns {
            kind: column("RuleType"),
            incoming: column("Incoming"),
            replacement: column("Replacement"),
            host: column("Hosts"),
        },
    };
    let view: NamesView = members::names_view(reader);
    match site_rules::read(reader.client, &view, &rules, reader.sessions).await {
        Ok(rules) => rules.hosts().into_iter().take(MAX_HOSTS).map(str::to_owned).collect(),
        Err(_) => Vec::new(),
    }
}

/// The name, and where it comes from.
fn cluster_name(arguments: &InitArgs, cluster: &FoundCluster) -> (String, String) {
    if let Some(name) = &arguments.cluster {
        return (name.clone(), "As --cluster says.".to_owned());
    }
    if let Some(name) = &cluster.name {
        return (name.clone(), "ClusterName of the Server documents.".to_owned());
    }
    let organisation = cluster.members.first().and_then(|member| member.name.abbreviated().rsplit_once('/'));
    let name = organisation.map_or_else(|| "Domino".to_owned(), |(_, organisation)| organisation.to_owned());
    (name, "The name of the cluster was not found; any name will do (--cluster).".to_owned())
}
