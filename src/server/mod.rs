//! Wiring: settings in, Pingora's services out, running until a signal ends them.
//!
//! Services: `knowledge` (loops, reloads; ready when every member was probed once), `probes`
//! (Pingora's health checks), `proxy` (all listeners; starts when `knowledge` is ready), `statpub`
//! and `admin`. Everything that can fail at start fails here, with the address or file in the message.

pub mod descriptors;
pub mod follow;
pub mod handover;
pub mod lifecycle;
mod pid_file;
pub mod reload;
pub mod secret;
pub mod statpub;
pub mod supervisor;
mod systemd;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pingora::apps::http_app::HttpServer;
use pingora::server::configuration::{Opt, ServerConf};
use pingora::server::{RunArgs, Server};
use pingora::services::background::background_service;
use pingora_load_balancing::{Backends, HealthCheckService, HealthRegistry};
use pingora_proxy::http_proxy;

use crate::admin::Admin;
use crate::config::Settings;
use crate::edge::House;
use crate::edge::accept::{Accept, Door};
use crate::edge::batch::Batch;
use crate::edge::places::ConnectionLimit;
use crate::edge::sockets::{self, Socket};
use crate::edge::tls::{self, Certificates};
use crate::pages::PagesError;
use crate::proxy::Proxy;
use crate::state::probes::{Members, Probes};
use crate::state::restrictions_file::StoreError;
use crate::state::{Balancer, restrictions};
use crate::telemetry::access_log::AccessLog;
use crate::upstream::deadline::Deadlines;
use handover::{Inheritance, Upgrade};
use lifecycle::Signals;
use pid_file::PidFile;
use supervisor::{Succession, Supervisor};

/// How finely probes are scheduled.
const PROBE_TICK: Duration = Duration::from_millis(100);

/// Why the balancer cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port is taken or may not be used.
    #[error("cannot listen on {address} ({what}): {source}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// For whom.
        what: &'static str,
        /// The system's words.
        source: std::io::Error,
    },
    /// The access log's file.
    #[error("{0}")]
    AccessLog(std::io::Error),
    /// The shop's own pages.
    #[error(transparent)]
    Pages(#[from] PagesError),
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// A generated key.
    #[error(transparent)]
    Secret(#[from] secret::SecretError),
    /// What administrators had restricted.
    #[error(transparent)]
    Restrictions(#[from] StoreError),
    /// The pid file.
    #[error("pid file {path}: {source}")]
    PidFile {
        /// Which.
        path: String,
        /// The system's words.
        source: std::io::Error,
    },
    /// What a later upgrade needs.
    #[error("upgrades cannot be prepared: {0}")]
    Upgrade(std::io::Error),
    /// Pingora's own settings.
    #[error("pingora: {0}")]
    Pingora(String),
    /// The other ICM's configuration.
    #[error(transparent)]
    Follow(#[from] crate::follow::FollowError),
}

/// Runs the balancer until a signal or a new process ends it; the caller then ends this one. With an
/// `inheritance` it takes over from another process, else it begins by itself.
///
/// # Errors
/// When it cannot start; nothing is left running then.
pub fn run(
    mut settings: Settings,
    file: &Path,
    signals: Signals,
    inheritance: Option<Arc<Inheritance>>,
) -> Result<(), StartError> {
    let descriptors = descriptors::raise();
    let mut sockets = bind(&settings, inheritance.as_deref())?;
    let followed = match settings.follow.clone() {
        Some(other) => {
            let (document, followed) = crate::follow::begin(&other, follow::PATIENCE)?;
            document.put_into(&mut settings);
            Some(followed)
        }
        None => None,
    };
    if let Some(shortage) = descriptors.and_then(|n| descriptors::shortage(n, settings.limits.connections)) {
        log::warn!(target: "icm::lifecycle", "{shortage}");
    }
    let settings = Arc::new(settings);
    let inherited = inheritance.as_ref().map(|i| i.affinity_key.as_slice());
    let generated = secret::affinity(settings.state_dir.as_deref(), inherited)?;
    let balancer = Arc::new(Balancer::new(Arc::clone(&settings), generated.clone())?);
    restrictions::restore(&balancer)?;
    follow::started(&balancer, followed);
    let access_log = Arc::new(
        AccessLog::start(&settings.access_log, Arc::clone(&balancer.statistics.access_log))
            .map_err(StartError::AccessLog)?,
    );
    let certificates = Arc::new(Certificates::load(&settings)?);
    certificates.note_expiry(&balancer.snapshot().settings, &balancer.statistics);
    let pid_file = settings.pid_file.as_deref().map(PidFile::new);
    match &inheritance {
        // The old process is the one to signal until this one serves.
        Some(inheritance) => balancer.upgrade.inherited(inheritance.from),
        None => pid_file.as_ref().map_or(Ok(()), PidFile::write)?,
    }
    let upgrade = Upgrade::new(Arc::clone(&balancer), generated, pid_file.clone(), &sockets);
    let upgrade = Arc::new(upgrade.map_err(StartError::Upgrade)?);
    let closed = Arc::default();

    // Pingora takes its configuration by value and gives it no `Clone`; ours stays for the next reload.
    let mut conf: ServerConf = serde_yaml::to_value(&*settings.pingora)
        .and_then(serde_yaml::from_value)
        .map_err(|e| StartError::Pingora(e.to_string()))?;
    conf.ca_file = conf.ca_file.take().or_else(crate::discovery::domino::tls::instead_of_platform);
    let mut server = Server::new_with_opt_and_conf(Opt::default(), conf);
    server.bootstrap();
    let conf = Arc::clone(&server.configuration);

    let registry = Arc::new(HealthRegistry::new());
    registry.set_health_check(Box::new(Probes::new(&balancer)));
    let backends =
        Backends::new_with_health_registry(Box::new(Members::new(&balancer)), Arc::clone(&registry));
    let mut health = HealthCheckService::new(registry);
    health.health_check_frequency = Some(PROBE_TICK);
    health.parallel_health_check = true;

    let supervisor = Supervisor::new(
        Arc::clone(&balancer),
        Arc::clone(&access_log),
        Arc::clone(&certificates),
        backends,
        file.to_owned(),
        signals,
        Succession {
            inheritance: inheritance.clone(),
            upgrade: Arc::clone(&upgrade),
            pid_file: pid_file.clone(),
            closed: Arc::clone(&closed),
        },
    );
    let knowledge = server.add_service(background_service("knowledge", supervisor));
    server.add_service(background_service("probes", health));
    server.add_service(background_service("deadlines", Deadlines));

    // Sessions are those of browsers, as the ICM counted them.
    let logins = Arc::default();
    let batch = Arc::new(Batch::new(&balancer.statistics.in_flight, conf.threads));
    let house = |access_log: Option<Arc<AccessLog>>| House {
        statistics: Arc::clone(&balancer.statistics.clients),
        sessions: access_log.as_ref().map(|_| Arc::clone(&balancer.statistics.inbound)).unwrap_or_default(),
        batch: access_log.as_ref().map(|_| Arc::clone(&batch)),
        logins: Arc::clone(&logins),
        access_log,
    };
    let mut doors = Vec::new();
    for (listener, socket) in settings.listeners.iter().zip(sockets.drain(..settings.listeners.len())) {
        let store = certificates.of_listener(listener.address);
        let tls = listener.tls.as_ref().zip(store).map(|(tls, store)| tls::listener(tls, store));
        doors.push(Door { socket, tls: tls.transpose()? });
    }
    let app =
        Proxy::new(Arc::clone(&balancer), Arc::clone(&access_log), Arc::clone(&batch), Arc::clone(&logins));
    let app = http_proxy(&conf, app);
    let log = Some(Arc::clone(&access_log));
    let proxy =
        Accept::new("proxy", app, doors, Arc::clone(&balancer), house(log), ConnectionLimit::Configured);
    let proxy = server.add_service(proxy.counted(&closed));
    proxy.add_dependency(&knowledge);

    let few = descriptors::internal(descriptors);
    let internal = |socket| -> Result<Door, StartError> {
        Ok(Door { socket, tls: certificates.of_admin().map(tls::internal).transpose()? })
    };
    if let Some(socket) = sockets.pop_front() {
        let app = HttpServer::new_app(Admin::new(Arc::clone(&balancer), certificates.of_admin()));
        let doors = vec![internal(socket)?];
        let service = Accept::new("admin", app, doors, Arc::clone(&balancer), house(None), few);
        let service = service.threads(1).counted(&closed);
        let admin = server.add_service(lifecycle::UntilTheEnd(service, Arc::clone(&upgrade)));
        // Until this process serves, the old one is who answers.
        if inheritance.is_some() {
            admin.add_dependency(&knowledge);
        }
    }
    if let Some(socket) = sockets.pop_front() {
        let app = HttpServer::new_app(statpub::Receiver::new(Arc::clone(&balancer)));
        let doors = vec![internal(socket)?];
        let service = Accept::new("statpub", app, doors, Arc::clone(&balancer), house(None), few);
        let statpub = server.add_service(service.threads(1).counted(&closed));
        if inheritance.is_some() {
            statpub.add_dependency(&knowledge);
        }
    }

    let log = Arc::clone(&access_log);
    let watch = lifecycle::Shutdown::new(Arc::clone(&balancer), log, pid_file.clone(), upgrade);
    server.run(RunArgs { shutdown_signal: Box::new(watch) });
    // Here the grace period has ended before the last request has.
    access_log.flush();
    if let Some(pid_file) = pid_file {
        pid_file.remove();
    }
    Ok(())
}

/// Takes every socket: those of the listeners in the file's order, then admin, then statpub. One that was
/// inherited goes on, whatever it was for before; those that nothing is for any more are closed.
fn bind(settings: &Settings, inheritance: Option<&Inheritance>) -> Result<VecDeque<Socket>, StartError> {
    let listeners = settings.listeners.iter().map(|l| (l.address, "listener"));
    let admin = [(settings.admin.address, "admin")];
    let statpub = settings.statpub.iter().map(|s| (s.address, "statpub"));
    let inherited = |address| inheritance.and_then(|inheritance| inheritance.take_socket(address));
    let sockets = listeners.chain(admin).chain(statpub).map(|(address, what)| match inherited(address) {
        Some(socket) => Ok(socket),
        None => sockets::bind(address).map_err(|source| StartError::Bind { address, what, source }),
    });
    let sockets = sockets.collect::<Result<_, _>>()?;
    for address in inheritance.map(Inheritance::close_the_rest).unwrap_or_default() {
        log::info!(target: "icm::lifecycle", "{address} is no longer in the configuration and closes with the old process");
    }
    Ok(sockets)
}
