//! Probes servers before they join. A server is UNREACHABLE until it was probed, so a change that replaces servers would
//! leave none for a moment; servers that are already known are not probed again.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::persistent::PersistentState;
use super::{Balancer, resolve};
use crate::config::Settings;
use crate::config::settings::{self, Server, Servers};
use crate::discovery::domino::DominoClient;
use crate::discovery::probe;
use crate::domain::cluster::{HostPort, Port, ServerName};

/// Limits all lookups and probes together; the regular probes find out the rest.
pub const PREFLIGHT_TIMEOUT: Duration = Duration::from_secs(5);

/// A port that was not known at this address.
#[derive(Clone, Debug, PartialEq)]
pub struct UnprobedPort {
    server: Server,
    port: Port,
    address: SocketAddr,
}

/// The results for the unknown ports of one cluster.
#[derive(Debug, Default)]
pub struct PreflightProbes {
    /// `None` = the probe timed out.
    results: Vec<(UnprobedPort, Option<Result<u16, String>>)>,
}

/// What was learned before a new configuration applies.
#[derive(Debug, Default)]
pub struct PreflightResults {
    /// Addresses of the host names of the configured servers.
    pub addresses: HashMap<HostPort, SocketAddr>,
    clusters: HashMap<String, PreflightProbes>,
}

impl PreflightProbes {
    #[must_use]
    pub fn result(&self, server: &ServerName, port: Port, address: SocketAddr) -> Option<Result<u16, &str>> {
        let (_, result) = self.results.iter().find(|(probed, _)| {
            probed.server.name == *server && probed.port == port && probed.address == address
        })?;
        Some(result.as_ref()?.as_ref().copied().map_err(String::as_str))
    }

    /// Records an event for each server that joins without having answered.
    pub fn record_failures(&self, balancer: &Balancer, cluster: &str) {
        for (UnprobedPort { server, port, .. }, result) in &self.results {
            let text = match result {
                Some(Ok(_)) => continue,
                Some(Err(reason)) => {
                    format!("joins the cluster although its {port} port does not answer: {reason}")
                }
                None => {
                    format!(
                        "joins the cluster although its {port} port did not answer in {PREFLIGHT_TIMEOUT:?}"
                    )
                }
            };
            balancer.events.record_port_change(log::Level::Warn, cluster, &server.name, text);
        }
    }
}

impl PreflightResults {
    #[must_use]
    pub fn for_cluster(&self, cluster: &str) -> Option<&PreflightProbes> {
        self.clusters.get(cluster)
    }
}

/// Returns the ports in use whose current address was never probed.
#[must_use]
pub fn unprobed_ports(
    state: &PersistentState,
    settings: &settings::ClusterSettings,
    servers: &[Server],
    addresses: &HashMap<HostPort, SocketAddr>,
) -> Vec<UnprobedPort> {
    let ports = |server: &Server| [(Port::Http, server.http.clone()), (Port::Https, server.https.clone())];
    let all = servers.iter().flat_map(|server| ports(server).map(|(port, at)| (server, port, at)));
    all.filter(|(_, port, _)| settings.uses(*port))
        .filter_map(|(server, port, at)| {
            let at = at?;
            let address = at.literal_address().or_else(|| addresses.get(&at).copied())?;
            let is_known = state.last_address(&server.name, port) == Some(address);
            (!is_known).then(|| UnprobedPort { server: server.clone(), port, address })
        })
        .collect()
}

/// Probes all ports concurrently, until the deadline at most.
pub async fn probe_ports(
    client: &DominoClient,
    settings: &Arc<settings::ClusterSettings>,
    unknown: Vec<UnprobedPort>,
    deadline: Instant,
) -> PreflightProbes {
    let mut set = JoinSet::new();
    for target in unknown {
        let (client, settings) = (client.clone(), Arc::clone(settings));
        set.spawn(async move {
            let probe = probe::probe(&client, &settings, &target.server, target.port, target.address);
            let result = tokio::time::timeout_at(deadline, probe).await.ok();
            (target, result)
        });
    }
    PreflightProbes { results: set.join_all().await }
}

/// The client for readings and probes. As for requests, `pingora.ca_file` is the fallback for the cluster's `ca_file`.
#[must_use]
pub fn upstream_client(settings: &settings::ClusterSettings, process: &Settings) -> DominoClient {
    let own = &settings.upstream_tls;
    let ca = own.ca.clone().or_else(|| process.upstream_ca.clone());
    let tls = settings::UpstreamTls { ca, ..own.clone() };
    DominoClient::new(&tls, settings.failover.connect_timeout)
}

/// Resolves and probes the new servers of a configuration before it applies. Blocks, for [`PREFLIGHT_TIMEOUT`] at most.
#[must_use]
pub fn run(balancer: &Balancer, settings: &Settings, runtime: &Handle) -> PreflightResults {
    let deadline = Instant::now() + PREFLIGHT_TIMEOUT;
    let listed = |cluster: &settings::ClusterSettings| match &cluster.servers {
        Servers::Static(list) => list.clone(),
        Servers::Names(_) => Vec::new(),
    };
    let all: Vec<Server> = settings.clusters.iter().flat_map(|cluster| listed(cluster)).collect();
    let addresses = resolve::resolve_blocking(&all);
    let mut probing = JoinSet::new();
    for wanted in &settings.clusters {
        let state = balancer.persistent_state(&wanted.name);
        let unknown = unprobed_ports(&state, wanted, &listed(wanted), &addresses);
        if unknown.is_empty() {
            continue;
        }
        let (client, wanted) = (upstream_client(wanted, settings), Arc::clone(wanted));
        let probes =
            async move { (wanted.name.clone(), probe_ports(&client, &wanted, unknown, deadline).await) };
        probing.spawn_on(probes, runtime);
    }
    PreflightResults { addresses, clusters: runtime.block_on(probing.join_all()).into_iter().collect() }
}
