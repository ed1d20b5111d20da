//! Builds the services of the process and adds them to Pingora's server.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use pingora::apps::http_app::HttpServer;
use pingora::server::Server;
use pingora::server::configuration::ServerConf;
use pingora::services::ServiceHandle;
use pingora::services::background::background_service;
use pingora_load_balancing::{Backends, HealthCheckService, HealthRegistry};
use pingora_proxy::http_proxy;

use super::acme_orders::AcmeSource;
use super::handover::{HandoverChild, HandoverParent};
use super::lifecycle::{RunsUntilExit, ShutdownWatcher, Signals};
use super::pid_file::PidFile;
use super::state_recorder::StateRecorder;
use super::supervisor::{ProcessHandover, Supervisor};
use super::{StartError, acme_orders, affinity_key, follow_poller, statpub};
use crate::admin::AdminService;
use crate::config::Settings;
use crate::edge::ListenerContext;
use crate::edge::coalesce::Coalescer;
use crate::edge::connection_limit::ConnectionLimit;
use crate::edge::listener::{BoundListener, ListenerService};
use crate::edge::login_connections::LoginConnections;
use crate::edge::session_tickets::GeneratedTicketKeys;
use crate::edge::sockets::ListenSocket;
use crate::edge::tls::Certificates;
use crate::edge::tls_endpoint::TlsEndpoints;
use crate::proxy::{FastPath, Proxy};
use crate::state::followed::FollowedConfig;
use crate::state::probes::{Probes, ServerDiscovery};
use crate::state::{Balancer, catch_up, restrictions};
use crate::telemetry::access_log::AccessLog;
use crate::upstream::pool::ConnectionPool;
use crate::upstream::service::UpstreamService;

const PROBE_TICK_INTERVAL: Duration = Duration::from_millis(100);

/// The objects that several services need.
pub(super) struct Shared {
    pub(super) settings: Arc<Settings>,
    balancer: Arc<Balancer>,
    access_log: Arc<AccessLog>,
    certificates: Arc<Certificates>,
    endpoints: Arc<TlsEndpoints>,
    /// The idle connections of the fast path.
    upstream_pool: Arc<ConnectionPool>,
    pid_file: Option<PidFile>,
    handover: Option<Arc<HandoverChild>>,
    upgrade: Arc<HandoverParent>,
    /// Number of listeners that do not accept yet.
    unopened: Arc<AtomicUsize>,
}

impl Shared {
    /// Reads keys, pages, restrictions and certificates; writes the pid file unless another process still serves.
    pub(super) fn load(
        settings: Settings,
        followed: Option<FollowedConfig>,
        sockets: &VecDeque<ListenSocket>,
        handover: Option<Arc<HandoverChild>>,
    ) -> Result<Self, StartError> {
        let settings = Arc::new(settings);
        let inherited = handover.as_ref().map(|i| i.affinity_key.as_slice());
        let affinity_key = affinity_key::load_or_generate(settings.state_dir.as_deref(), inherited)?;
        let balancer = Arc::new(Balancer::new(Arc::clone(&settings), affinity_key.clone())?);
        // Until it takes over, the old process writes the state.
        balancer.owns_state.store(handover.is_none(), Relaxed);
        restrictions::load_from_state_dir(&balancer)?;
        catch_up::load_from_state_dir(&balancer)?;
        follow_poller::record_initial(&balancer, followed);
        let access_log = Arc::new(
            AccessLog::start(&settings.access_log, Arc::clone(&balancer.statistics.access_log))
                .map_err(StartError::AccessLog)?,
        );
        acme_orders::load_from_state_dir(&balancer, AcmeSource::Memory);
        let certificates = Arc::new(Certificates::load(&settings, &balancer.acme)?);
        certificates.publish_expiry(&settings, &balancer.statistics);
        let inherited = handover.as_ref().and_then(|handover| handover.ticket_keys.clone());
        let ticket_keys = Arc::new(GeneratedTicketKeys::new(inherited));
        let endpoints = TlsEndpoints::load(&settings, &certificates, Arc::clone(&ticket_keys))?;
        let pid_file = settings.pid_file.as_deref().map(PidFile::new);
        match &handover {
            // The pid file names the old process until this one serves.
            Some(handover) => balancer.upgrade.took_over_from(handover.from),
            None => pid_file.as_ref().map_or(Ok(()), PidFile::write)?,
        }
        let upgrade =
            HandoverParent::new(Arc::clone(&balancer), affinity_key, ticket_keys, pid_file.clone(), sockets);
        let upgrade = Arc::new(upgrade.map_err(StartError::Upgrade)?);
        let unopened = Arc::default();
        let upstream_pool = Arc::new(upstream_pool(&settings.pingora, &balancer));
        Ok(Self {
            settings,
            balancer,
            access_log,
            certificates,
            endpoints: Arc::new(endpoints),
            upstream_pool,
            pid_file,
            handover,
            upgrade,
            unopened,
        })
    }

    /// Adds the services without listeners. Returns the supervisor, on which the listeners depend.
    pub(super) fn add_background(&self, server: &mut Server, file: &Path, signals: Signals) -> ServiceHandle {
        let registry = Arc::new(HealthRegistry::new());
        registry.set_health_check(Box::new(Probes::new(&self.balancer)));
        let discovery = Box::new(ServerDiscovery::new(&self.balancer));
        let backends = Backends::new_with_health_registry(discovery, Arc::clone(&registry));
        let mut health = HealthCheckService::new(registry);
        health.health_check_frequency = Some(PROBE_TICK_INTERVAL);
        health.parallel_health_check = true;

        let supervisor = Supervisor::new(
            Arc::clone(&self.balancer),
            Arc::clone(&self.access_log),
            (Arc::clone(&self.certificates), Arc::clone(&self.endpoints)),
            backends,
            file.to_owned(),
            signals,
            ProcessHandover {
                handover: self.handover.clone(),
                upgrade: Arc::clone(&self.upgrade),
                pid_file: self.pid_file.clone(),
                unopened: Arc::clone(&self.unopened),
            },
        );
        let supervisor = server.add_service(background_service("supervisor", supervisor));
        server.add_service(background_service("probes", health));
        let upstream = UpstreamService::new(Arc::clone(&self.upstream_pool));
        server.add_service(background_service("upstream", upstream));
        let states = StateRecorder::new(Arc::clone(&self.balancer), Arc::clone(&self.access_log));
        server.add_service(background_service("states", states));
        supervisor
    }

    /// Adds the proxy, which takes the first sockets in the order of the configuration file.
    pub(super) fn add_proxy(
        &self,
        server: &mut Server,
        conf: &Arc<ServerConf>,
        sockets: &mut VecDeque<ListenSocket>,
        logins: &Arc<LoginConnections>,
        supervisor: &ServiceHandle,
    ) -> Result<(), StartError> {
        let mut listeners = Vec::new();
        let configured = &self.settings.listeners;
        for (listener, socket) in configured.iter().zip(sockets.drain(..configured.len())) {
            let tls = self.endpoints.for_listener(listener.address);
            listeners.push(BoundListener { socket, tls });
        }
        let coalescer = Arc::new(Coalescer::new(&self.balancer.statistics.in_flight, conf.threads));
        let (balancer, access_log) = (Arc::clone(&self.balancer), Arc::clone(&self.access_log));
        // As in HCL's ICM, only connections of browsers count as sessions.
        let context = ListenerContext {
            statistics: Arc::clone(&balancer.statistics.client_statistics),
            sessions: Arc::clone(&balancer.statistics.inbound),
            coalescer: Some(Arc::clone(&coalescer)),
            logins: Arc::clone(logins),
            access_log: Some(Arc::clone(&access_log)),
        };
        let fast_path = FastPath::new(conf, Arc::clone(&self.upstream_pool));
        let app = Proxy::new(Arc::clone(&balancer), access_log, coalescer, Arc::clone(logins), fast_path);
        let app = http_proxy(conf, app);
        let limit = ConnectionLimit::Configured;
        let proxy = ListenerService::new("proxy", app, listeners, balancer, context, limit);
        let proxy = server.add_service(proxy.count_unopened(&self.unopened));
        proxy.add_dependency(supervisor);
        Ok(())
    }

    /// Adds the admin listener, which answers until the process ends.
    pub(super) fn add_admin(
        &self,
        server: &mut Server,
        socket: ListenSocket,
        logins: &Arc<LoginConnections>,
        limit: ConnectionLimit,
        supervisor: &ServiceHandle,
    ) -> Result<(), StartError> {
        let app = AdminService::new(Arc::clone(&self.balancer), self.certificates.for_admin());
        let service = self.internal("admin", HttpServer::new_app(app), socket, logins, limit)?;
        let admin = server.add_service(RunsUntilExit(service, Arc::clone(&self.upgrade)));
        self.after_takeover(&admin, supervisor);
        Ok(())
    }

    pub(super) fn add_statpub(
        &self,
        server: &mut Server,
        socket: ListenSocket,
        logins: &Arc<LoginConnections>,
        limit: ConnectionLimit,
        supervisor: &ServiceHandle,
    ) -> Result<(), StartError> {
        let app = HttpServer::new_app(statpub::StatpubService::new(Arc::clone(&self.balancer)));
        let statpub = server.add_service(self.internal("statpub", app, socket, logins, limit)?);
        self.after_takeover(&statpub, supervisor);
        Ok(())
    }

    /// A listener for administrators and servers rather than for browsers.
    fn internal<A>(
        &self,
        name: &'static str,
        app: A,
        socket: ListenSocket,
        logins: &Arc<LoginConnections>,
        limit: ConnectionLimit,
    ) -> Result<ListenerService<A>, StartError> {
        let store = self.certificates.for_admin();
        let tls = store.map(|store| self.endpoints.internal(socket.address, store)).transpose()?;
        let context = ListenerContext {
            statistics: Arc::clone(&self.balancer.statistics.client_statistics),
            sessions: Arc::default(),
            coalescer: None,
            logins: Arc::clone(logins),
            access_log: None,
        };
        let balancer = Arc::clone(&self.balancer);
        let service =
            ListenerService::new(name, app, vec![BoundListener { socket, tls }], balancer, context, limit);
        Ok(service.threads(1).count_unopened(&self.unopened))
    }

    /// During a handover, opens the service only when this process serves; until then the old one answers.
    fn after_takeover(&self, service: &ServiceHandle, supervisor: &ServiceHandle) {
        if self.handover.is_some() {
            service.add_dependency(supervisor);
        }
    }

    pub(super) fn shutdown(&self) -> ShutdownWatcher {
        let (balancer, access_log) = (Arc::clone(&self.balancer), Arc::clone(&self.access_log));
        ShutdownWatcher::new(balancer, access_log, self.pid_file.clone(), Arc::clone(&self.upgrade))
    }

    /// Cleans up if Pingora returns, which it does when its grace period ends before the last request.
    pub(super) fn finish(self) {
        self.access_log.flush();
        if let Some(pid_file) = self.pid_file {
            pid_file.remove();
        }
    }
}

/// As many idle connections as in Pingora's pool.
fn upstream_pool(conf: &ServerConf, balancer: &Balancer) -> ConnectionPool {
    let max_idle = conf.upstream_keepalive_pool_size.saturating_mul(conf.threads.max(1));
    ConnectionPool::new(max_idle, Arc::clone(&balancer.statistics.idle_upstream))
}
