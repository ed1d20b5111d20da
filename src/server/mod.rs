//! Builds Pingora's services from the settings and runs them until a signal ends them. Everything that can fail at start
//! fails here, with the address or file in the message.

pub mod acme_orders;
pub mod affinity_key;
pub mod descriptors;
pub mod follow_poller;
pub mod handover;
pub mod lifecycle;
mod pid_file;
pub mod reload;
mod services;
mod state_recorder;
pub mod statpub;
pub mod supervisor;
mod systemd;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use pingora::server::configuration::{Opt, ServerConf};
use pingora::server::{RunArgs, Server};

use crate::config::Settings;
use crate::edge::sockets::{self, ListenSocket};
use crate::edge::tls;
use crate::pages::PagesError;
use crate::state::state_file::StateFileError;
use handover::HandoverChild;
use lifecycle::Signals;
use services::Shared;

/// Why the balancer cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {address} ({what}): {source}")]
    Bind {
        address: SocketAddr,
        /// The kind of listener.
        what: &'static str,
        source: std::io::Error,
    },
    #[error("{0}")]
    AccessLog(std::io::Error),
    #[error(transparent)]
    Pages(#[from] PagesError),
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    #[error(transparent)]
    Secret(#[from] affinity_key::AffinityKeyError),
    #[error(transparent)]
    StateFile(#[from] StateFileError),
    #[error("cannot write pid file {path}: {source}")]
    PidFile { path: String, source: std::io::Error },
    /// The sockets cannot be duplicated for a later upgrade, or the program has no path.
    #[error("cannot prepare for upgrades: {0}")]
    Upgrade(std::io::Error),
    #[error("pingora: {0}")]
    Pingora(String),
    #[error(transparent)]
    Follow(#[from] crate::follow::FollowError),
}

/// Runs the balancer until a signal or a new process ends it; the caller then ends this process. With a `handover` it
/// takes over from another process.
///
/// # Errors
/// When it cannot start. Nothing is left running then.
pub fn run(
    mut settings: Settings,
    file: &Path,
    signals: Signals,
    handover: Option<Arc<HandoverChild>>,
) -> Result<(), StartError> {
    let descriptors = descriptors::raise_limit();
    let mut sockets = bind(&settings, handover.as_deref())?;
    let followed = match settings.follow.clone() {
        Some(follow) => {
            let (document, followed) =
                crate::follow::initial_document(&follow, follow_poller::FOLLOW_START_TIMEOUT)?;
            document.apply_to(&mut settings);
            Some(followed)
        }
        None => None,
    };
    if let Some(shortage) = descriptors.and_then(|n| descriptors::shortage(n, settings.limits.connections)) {
        log::warn!(target: "icm::lifecycle", "{shortage}");
    }
    let shared = Shared::load(settings, followed, &sockets, handover)?;
    let mut server = pingora_server(&shared.settings)?;
    let conf = Arc::clone(&server.configuration);
    let supervisor = shared.add_background(&mut server, file, signals);
    let logins = Arc::default();
    shared.add_proxy(&mut server, &conf, &mut sockets, &logins, &supervisor)?;
    let limit = descriptors::internal_connection_limit(descriptors);
    if let Some(socket) = sockets.pop_front() {
        shared.add_admin(&mut server, socket, &logins, limit, &supervisor)?;
    }
    if let Some(socket) = sockets.pop_front() {
        shared.add_statpub(&mut server, socket, &logins, limit, &supervisor)?;
    }
    server.run(RunArgs { shutdown_signal: Box::new(shared.shutdown()) });
    shared.finish();
    Ok(())
}

fn pingora_server(settings: &Settings) -> Result<Server, StartError> {
    // Pingora takes its configuration by value, and it is not `Clone`; the next reload compares with ours.
    let mut conf: ServerConf = serde_yaml::to_value(&*settings.pingora)
        .and_then(serde_yaml::from_value)
        .map_err(|e| StartError::Pingora(e.to_string()))?;
    conf.ca_file = conf.ca_file.take().or_else(crate::discovery::domino::tls::fallback_ca_file);
    let mut server = Server::new_with_opt_and_conf(Opt::default(), conf);
    server.bootstrap();
    Ok(server)
}

/// Binds or inherits every socket: the listeners in the order of the configuration file, then admin, then statpub. Closes
/// inherited sockets that the configuration no longer names.
fn bind(settings: &Settings, handover: Option<&HandoverChild>) -> Result<VecDeque<ListenSocket>, StartError> {
    let listeners = settings.listeners.iter().map(|l| (l.address, "listener"));
    let admin = [(settings.admin.address, "admin")];
    let statpub = settings.statpub.iter().map(|s| (s.address, "statpub"));
    let inherited = |address| handover.and_then(|handover| handover.take_socket(address));
    let sockets = listeners.chain(admin).chain(statpub).map(|(address, what)| match inherited(address) {
        Some(socket) => Ok(socket),
        None => sockets::bind(address).map_err(|source| StartError::Bind { address, what, source }),
    });
    let sockets = sockets.collect::<Result<_, _>>()?;
    for address in handover.map(HandoverChild::close_unused_sockets).unwrap_or_default() {
        log::info!(target: "icm::lifecycle", "{address} is no longer in the configuration and closes with the old process");
    }
    Ok(sockets)
}
