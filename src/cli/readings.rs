//! Readings that `icm check` makes of a cluster as a running balancer does: its servers, and its directory. They are apart,
//! because more than one part of the check needs what they bring into the cluster.

use std::sync::Arc;

use crate::config::settings::{Cldbdir, NamesView};
use crate::discovery::directory::{AnsweredViews, ServerAddress, cldbdir};
use crate::discovery::servers;
use crate::state::preflight::PreflightProbes;
use crate::state::{Cluster, DirectoryOrigin, LoadedDirectory};

/// One line of the result.
pub struct ProbeFinding {
    pub is_ok: bool,
    /// What was tried, at which server.
    pub subject: String,
    pub text: String,
}

/// Brings the servers of a view into the cluster.
pub async fn read_servers(cluster: &Arc<Cluster>, view: &NamesView) -> ProbeFinding {
    let name = &cluster.settings.name;
    let subject = format!("{name}: servers from {}/{}", view.database, view.view);
    match servers::read(&cluster.client, view, name, &cluster.persistent_state.login_sessions).await {
        Ok(reading) => {
            let mut text = format!("{} servers from {}", reading.servers.len(), reading.from);
            append_warnings(&mut text, &reading.warnings);
            let addresses = crate::state::resolve::resolve_async(&reading.servers).await;
            cluster.set_servers(reading.servers, addresses, &PreflightProbes::default());
            ProbeFinding { is_ok: true, subject, text }
        }
        Err(failure) => ProbeFinding { is_ok: false, subject, text: failure.to_string() },
    }
}

/// Reads the directory of one server, and takes it if there is none yet.
pub async fn read_directory(cluster: &Cluster, settings: &Cldbdir, server: ServerAddress) -> ProbeFinding {
    let subject = format!("{}: {} of {}", cluster.settings.name, settings.database, server.name);
    match cldbdir::read_directory(
        &cluster.client,
        &[server],
        settings,
        &cluster.persistent_state.login_sessions,
        &AnsweredViews::default(),
    )
    .await
    {
        Ok(reading) => {
            let empty = reading.builder.is_empty();
            let cause = if empty { ": the view is wrong, or empty for this user" } else { "" };
            let mut text = format!("{} replicas{cause}; view `{}`", reading.builder.len(), reading.view);
            append_warnings(&mut text, &reading.warnings);
            if !empty && !cluster.view.load().directory.is_loaded() {
                let origin = DirectoryOrigin::Server { name: reading.from, view: reading.view };
                cluster.set_directory(Arc::new(LoadedDirectory::new(reading.builder, origin, Vec::new())));
            }
            ProbeFinding { is_ok: !empty, subject, text }
        }
        Err(failure) => ProbeFinding { is_ok: false, subject, text: failure.to_string() },
    }
}

pub fn append_warnings(text: &mut String, warnings: &[String]) {
    for warning in warnings {
        text.push_str("; ");
        text.push_str(warning);
    }
}
