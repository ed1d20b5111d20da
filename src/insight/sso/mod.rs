//! Tries whether a failover keeps a login: a test account logs in at every server, and its session is shown to all others.
//! `visit` sends the requests, `judge` says what their answers mean.

mod judge;
mod observe;
mod visit;

pub use judge::SsoReport;

use std::sync::Arc;

use crate::config::settings::{HostPattern, Listener, Mode, Secret};
use crate::state::Cluster;
use judge::PublicSide;

/// The account that logs in. It should have the rights of an ordinary user.
#[derive(Clone, Debug)]
pub struct TestAccount {
    /// The name of the Domino user.
    pub user: String,
    /// Its Internet password, which is only sent.
    pub password: Secret,
}

/// Which databases are opened.
#[derive(Clone, Debug)]
pub struct DatabaseChoice {
    /// Paths; empty: those with several replicas.
    pub paths: Vec<String>,
    /// No more than this number of databases.
    pub limit: usize,
}

/// Logs in at every server of the cluster and opens databases with each session. The directory must have been read.
pub async fn check(
    cluster: &Arc<Cluster>,
    listeners: &[Listener],
    account: &TestAccount,
    choice: &DatabaseChoice,
) -> SsoReport {
    let seen = visit::visit(cluster, account, choice).await;
    judge::judge(&seen, &public_side(cluster, listeners))
}

/// How browsers reach the cluster, which decides whether they keep a cookie.
fn public_side(cluster: &Cluster, listeners: &[Listener]) -> PublicSide {
    let hosts = cluster.settings.hostnames.iter().map(|pattern| match pattern {
        HostPattern::Exact(name) => name.clone(),
        HostPattern::Wildcard(suffix) => format!("any{suffix}"),
    });
    // A proxy in front may end TLS itself.
    let plain = |listener: &Listener| {
        listener.tls.is_none() && !listener.redirect_to_https && listener.trusted_proxies.is_empty()
    };
    PublicSide {
        hosts: hosts.collect(),
        redirects: cluster.settings.mode == Mode::Redirect,
        only_plain_http: !listeners.is_empty() && listeners.iter().all(plain),
    }
}
