//! Runs the probes that are due, for Pingora's health checks and through its `ServiceDiscovery`.
//!
//! In: the members of all clusters as they are now. Out: probe results in each member's ledger, a boolean for Pingora.
//! A probe that hangs delays no other.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_trait::async_trait;
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

/// Who a backend is: addresses may be shared and change, names do not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The cluster's name.
    pub cluster: String,
    /// The server's name.
    pub server: ServerName,
}

/// Gives Pingora the members of all clusters as they are now.
#[derive(Debug)]
pub struct Members(Weak<Balancer>);

impl Members {
    /// Of this balancer.
    #[must_use]
    pub fn new(balancer: &Arc<Balancer>) -> Self {
        Self(Arc::downgrade(balancer))
    }
}

#[async_trait]
impl ServiceDiscovery for Members {
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
                    server: entry.server.name.clone(),
                });
                // Pingora knows a backend by address and weight: the tag in the weight keeps apart two
                // servers behind one address. Nothing here ever selects by it.
                let weight = (entry.member.tag() as usize).max(1);
                backends.insert(Backend { addr: SocketAddr::Inet(address), weight, ext });
            }
        }
        Ok((backends, HashMap::new()))
    }
}

/// One port's, shared with the probe that is running.
type SharedSchedule = Arc<Mutex<Schedule>>;

/// Runs due probes and tells Pingora what is known.
#[derive(Debug)]
pub struct Probes {
    balancer: Weak<Balancer>,
    schedules: Mutex<HashMap<(Identity, Port), SharedSchedule>>,
}

impl Probes {
    /// For the members of this balancer.
    #[must_use]
    pub fn new(balancer: &Arc<Balancer>) -> Self {
        Self { balancer: Arc::downgrade(balancer), schedules: Mutex::default() }
    }

    /// Starts the probe of one port if it is due. Never waits for it.
    fn drive(
        &self,
        balancer: &Arc<Balancer>,
        cluster: &Arc<Cluster>,
        identity: &Identity,
        port: Port,
        at_once: bool,
    ) {
        let view = cluster.view.load_full();
        let Some(entry) = view.entries.iter().find(|e| e.server.name == identity.server) else { return };

        let schedule = {
            let mut all = self.schedules.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry((identity.clone(), port)).or_default())
        };
        let request = match (at_once, entry.member.is_suspected(port)) {
            (true, _) => schedule::Request::AtOnce,
            (false, true) => schedule::Request::Suspicion,
            (false, false) => schedule::Request::None,
        };
        if !schedule.lock().unwrap_or_else(PoisonError::into_inner).take(clock::now_ms(), request) {
            return;
        }
        // Any probe that begins after the failure tells, also one that was due anyway.
        let decides = entry.member.take_suspicion(port);
        let (member, server) = (Arc::clone(&entry.member), entry.server.clone());
        let address = entry.address(port);
        let (balancer, cluster) = (Arc::clone(balancer), Arc::clone(cluster));
        tokio::spawn(async move {
            // Ends the probe's turn on every path, a panic included.
            let mut turn = schedule::Turn::new(schedule, cluster.settings.probe.clone());
            let Some(address) = address else { return };
            let result = probe::probe(&cluster.client, &cluster.settings, &server, port, address).await;
            if member.last_address(port) != Some(address) {
                // It moved meanwhile: this answer says nothing about where it is now.
                member.probe_now();
                return;
            }
            let said = result.as_ref().copied().map_err(String::as_str);
            if decides && said.is_err() {
                member.let_one_bad_probe_decide(port);
            }
            balancer.probed(&cluster.settings.name, &member, port, said, clock::now_ms());
            turn.failures = member.read(|ledger| ledger.failures(port));
            turn.unsettled = member.read(|ledger| ledger.unsettled(port));
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
        let Some(entry) = view.entries.iter().find(|e| e.server.name == identity.server) else {
            return Ok(());
        };
        let at_once = entry.member.take_probe_now();
        for port in [Port::Http, Port::Https] {
            if entry.address(port).is_some() {
                self.drive(&balancer, cluster, identity, port, at_once);
            }
        }
        if entry.member.state() == ServerState::Unreachable {
            return Error::e_explain(ErrorType::ConnectError, entry.member.read(|l| l.state().2.to_owned()));
        }
        Ok(())
    }

    fn backend_summary(&self, target: &Backend) -> String {
        target.ext.get::<Identity>().map_or_else(String::new, |i| format!("{}: {}", i.cluster, i.server))
    }

    /// The ledger counts in a row; what it says is final.
    fn health_threshold(&self, _success: bool) -> usize {
        1
    }
}
