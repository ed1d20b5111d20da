//! Starts the probes that are due, as Pingora's health checks.
//!
//! Pingora only decides when to check; the result goes to the health of the server. Each probe runs in a task of its
//! own, so that one that hangs delays no other.
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::{Error, ErrorType, Result};
use pingora_load_balancing::Backend;
use pingora_load_balancing::discovery::ServiceDiscovery;
use pingora_load_balancing::health_check::HealthCheck;

use super::{Balancer, Cluster};
use crate::discovery::probe;
use crate::discovery::probe::schedule::{self, Schedule};
use crate::domain::cluster::{Port, ServerName, ServerState};
use crate::util::clock;

/// Identifies a backend. Addresses may be shared and may change; names do not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    pub cluster: String,
    pub server: ServerName,
}

/// Gives Pingora the current servers of all clusters.
#[derive(Debug)]
pub struct ServerDiscovery(Weak<Balancer>);

impl ServerDiscovery {
    #[must_use]
    pub fn new(balancer: &Arc<Balancer>) -> Self {
        Self(Arc::downgrade(balancer))
    }
}

#[async_trait]
impl ServiceDiscovery for ServerDiscovery {
    async fn discover(&self) -> Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        let Some(balancer) = self.0.upgrade() else { return Ok(Default::default()) };
        let snapshot = balancer.snapshot();
        let mut backends = BTreeSet::new();
        for cluster in &snapshot.clusters {
            for entry in &cluster.view.load().entries {
                let Some(address) = entry.address(Port::Http).or_else(|| entry.address(Port::Https)) else {
                    continue;
                };
                let mut ext = http::Extensions::new();
                ext.insert(Identity {
                    cluster: cluster.settings.name.clone(),
                    server: entry.config.name.clone(),
                });
                // Pingora identifies a backend by address and weight. The tag as weight distinguishes two servers
                // behind one address; nothing selects by it.
                let weight = (entry.server.tag() as usize).max(1);
                backends.insert(Backend { addr: SocketAddr::Inet(address), weight, ext });
            }
        }
        Ok((backends, HashMap::new()))
    }
}

/// The schedule of one port, shared with its running probe.
type SharedSchedule = Arc<Mutex<Schedule>>;

/// Starts the probes that are due, and tells Pingora which servers are UNREACHABLE.
#[derive(Debug)]
pub struct Probes {
    balancer: Weak<Balancer>,
    schedules: Mutex<HashMap<(Identity, Port), SharedSchedule>>,
}

impl Probes {
    #[must_use]
    pub fn new(balancer: &Arc<Balancer>) -> Self {
        Self { balancer: Arc::downgrade(balancer), schedules: Mutex::default() }
    }

    /// Starts the probe of one port if it is due, and does not wait for it.
    fn start_if_due(
        &self,
        balancer: &Arc<Balancer>,
        cluster: &Arc<Cluster>,
        identity: &Identity,
        port: Port,
        at_once: bool,
    ) {
        let view = cluster.view.load_full();
        let Some(entry) = view.entries.iter().find(|e| e.config.name == identity.server) else { return };

        let schedule = {
            let mut all = self.schedules.lock();
            Arc::clone(all.entry((identity.clone(), port)).or_default())
        };
        let request = match (at_once, entry.server.is_suspected(port)) {
            (true, _) => schedule::Request::AtOnce,
            (false, true) => schedule::Request::Suspicion,
            (false, false) => schedule::Request::None,
        };
        if !schedule.lock().take(clock::now_ms(), request) {
            return;
        }
        // Any probe that begins after the failure decides, also one that was due anyway.
        let decides = entry.server.take_suspicion(port);
        let (server, config) = (Arc::clone(&entry.server), entry.config.clone());
        let address = entry.address(port);
        let (balancer, cluster) = (Arc::clone(balancer), Arc::clone(cluster));
        tokio::spawn(async move {
            // Reschedules the port on every path, a panic included.
            let mut running = schedule::RunningProbe::new(schedule, cluster.settings.probe.clone());
            let Some(address) = address else { return };
            let result = probe::probe(&cluster.client, &cluster.settings, &config, port, address).await;
            if server.last_address(port) != Some(address) {
                // The port has a new address, for which this result means nothing.
                server.probe_now();
                return;
            }
            let outcome = result.as_ref().copied().map_err(String::as_str);
            if decides && outcome.is_err() {
                server.let_one_bad_probe_decide(port);
            }
            balancer.record_probe(&cluster.settings.name, &server, port, outcome, clock::now_ms());
            running.failures = server.read(|health| health.failures(port));
            running.unsettled = server.read(|health| health.unsettled(port));
        });
    }
}

#[async_trait]
impl HealthCheck for Probes {
    async fn check(&self, target: &Backend) -> Result<()> {
        let (Some(balancer), Some(identity)) = (self.balancer.upgrade(), target.ext.get::<Identity>()) else {
            return Ok(());
        };
        let snapshot = balancer.snapshot();
        let Some(cluster) = snapshot.clusters.iter().find(|c| c.settings.name == identity.cluster) else {
            return Ok(());
        };
        let view = cluster.view.load_full();
        let Some(entry) = view.entries.iter().find(|e| e.config.name == identity.server) else {
            return Ok(());
        };
        let at_once = entry.server.take_probe_now();
        for port in [Port::Http, Port::Https] {
            if entry.address(port).is_some() {
                self.start_if_due(&balancer, cluster, identity, port, at_once);
            }
        }
        if entry.server.state() == ServerState::Unreachable {
            return Error::e_explain(ErrorType::ConnectError, entry.server.read(|l| l.state().2.to_owned()));
        }
        Ok(())
    }

    fn backend_summary(&self, target: &Backend) -> String {
        target.ext.get::<Identity>().map_or_else(String::new, |i| format!("{}: {}", i.cluster, i.server))
    }

    /// `ServerHealth` counts consecutive results, so Pingora must not.
    fn health_threshold(&self, _success: bool) -> usize {
        1
    }
}
