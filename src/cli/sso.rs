//! `icm check --sso`: whether a failover keeps the login of a test account. It is a part of `check`, because it needs a valid
//! configuration and contacts the servers in the same way.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

use super::password;
use super::readings::{ProbeFinding, read_directory, read_servers};
use crate::config::Settings;
use crate::config::settings::{Auth, Directory, Servers};
use crate::insight::sso::{self, DatabaseChoice, SsoReport, TestAccount};
use crate::state::{Balancer, Cluster, readable};

/// Databases that are opened; each costs a request for every pair of its servers.
const DEFAULT_LIMIT: usize = 20;

#[derive(Debug, Default, clap::Args)]
pub struct SsoArgs {
    /// Also log a test account in at every server, and try whether the others accept its session.
    #[arg(long)]
    sso: bool,
    /// User of --sso, with the rights of an ordinary user.
    #[arg(long, value_name = "NAME", requires = "sso")]
    user: Option<String>,
    /// File with the password of the user; without it, icm asks at the terminal.
    #[arg(long, value_name = "FILE", requires = "sso", value_hint = clap::ValueHint::FilePath)]
    password_file: Option<PathBuf>,
    /// Open this database only; may be repeated [default: those with several replicas].
    #[arg(long = "database", value_name = "PATH", requires = "sso")]
    databases: Vec<String>,
    /// Number of databases to open [default: 20].
    #[arg(long, value_name = "N", requires = "sso")]
    limit: Option<usize>,
    /// Send the password over plain HTTP to another machine.
    #[arg(long, requires = "sso")]
    allow_plaintext: bool,
}

/// Why the check was not made.
#[derive(Debug, thiserror::Error)]
pub enum SsoError {
    #[error("--sso needs --user NAME, a test account with the rights of an ordinary user")]
    NoUser,
    #[error("--password-file FILE is missing, and nobody can be asked: standard input is no terminal")]
    NoPassword,
    #[error(transparent)]
    Password(#[from] password::PasswordError),
    #[error(
        "the password would be sent to {0} in clear text: use `upstream_scheme: https`, or --allow-plaintext if the network \
         is trusted"
    )]
    Plaintext(String),
}

impl SsoArgs {
    /// The account, if `--sso` is given.
    ///
    /// # Errors
    /// When its name or password is missing.
    pub fn account(&self) -> Result<Option<TestAccount>, SsoError> {
        if !self.sso {
            return Ok(None);
        }
        let user = self.user.clone().ok_or(SsoError::NoUser)?;
        let password = match &self.password_file {
            Some(file) => password::read(file)?,
            None if std::io::stdin().is_terminal() => password::ask(&user)?,
            None => return Err(SsoError::NoPassword),
        };
        Ok(Some(TestAccount { user, password }))
    }
}

/// Makes the check for all clusters.
///
/// # Errors
/// If the runtime cannot be created; inside, if the password must not be sent.
pub fn check(
    settings: &Arc<Settings>,
    arguments: &SsoArgs,
    account: &TestAccount,
) -> anyhow::Result<Result<Vec<SsoReport>, SsoError>> {
    let balancer = Arc::new(Balancer::new(Arc::clone(settings), vec![0; 32])?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let choice = DatabaseChoice {
        paths: arguments.databases.clone(),
        limit: arguments.limit.unwrap_or(DEFAULT_LIMIT),
    };
    runtime.block_on(async {
        let mut reports = Vec::new();
        let snapshot = balancer.snapshot();
        // A pool has no directory and is no Domino.
        for cluster in snapshot.clusters.iter().filter(|cluster| !cluster.settings.is_pool()) {
            let mut problems = read_cluster(cluster).await;
            if let Some(at) = plaintext_server(cluster).filter(|_| !arguments.allow_plaintext) {
                return Ok(Err(SsoError::Plaintext(at)));
            }
            let mut report = sso::check(cluster, &settings.listeners, account, &choice).await;
            report.notes.append(&mut problems);
            reports.push(report);
        }
        Ok(Ok(reports))
    })
}

/// Brings servers and directory into the cluster, and returns what failed.
async fn read_cluster(cluster: &Arc<Cluster>) -> Vec<String> {
    let mut problems = Vec::new();
    let mut note = |finding: ProbeFinding| {
        let problem = (!finding.is_ok).then(|| format!("{}: {}", finding.subject, finding.text));
        problems.extend(problem);
        finding.is_ok
    };
    if let Servers::Names(view) = &cluster.settings.servers {
        note(read_servers(cluster, view).await);
    }
    if let Directory::Cldbdir(directory) = &cluster.settings.directory {
        for server in readable::readable_servers(cluster) {
            if note(read_directory(cluster, directory, server).await) {
                break;
            }
        }
    }
    problems
}

/// A server that would get the password in clear text. Where the account of the directory goes there already, the
/// configuration has allowed it.
fn plaintext_server(cluster: &Cluster) -> Option<String> {
    if *cluster.settings.directory.auth() != Auth::None {
        return None;
    }
    let servers = readable::readable_servers(cluster);
    let plain = servers.into_iter().find(|server| !server.https && !server.address.ip().is_loopback());
    plain.map(|server| server.name.to_string())
}

/// Prints the reports for people.
pub fn print(reports: &[SsoReport]) {
    for report in reports {
        let name = &report.cluster;
        for server in &report.servers {
            println!("{}: {name}: login at {}: {}", server.verdict.label(), server.server, server.text);
        }
        for database in &report.databases {
            println!("{}: {name}: {}: {}", database.verdict.label(), database.database, database.text);
        }
        for note in &report.notes {
            println!("note: {name}: {note}");
        }
    }
}
