//! The running state of the simulated cluster and its servers, shared by connections, pages, views and the control
//! port. It opens no socket.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, RwLock};

use serde_json::{Value, json};
use tokio::sync::{Notify, watch};

use crate::capacity::Capacity;
use crate::copies::CopyTable;
use crate::counters::Counters;
use crate::documents::Documents;
use crate::executions::{Executions, Log};
use crate::faults::{Fault, FaultKind, Faults, RequestInfo};
use crate::replication::Replicator;
use crate::scenario::{Name, Scenario};
use crate::server::ReservedPort;
use crate::settings::Settings;
use crate::{clock, tls};

/// The purpose of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortKind {
    Http,
    Https,
    Agent,
    Metrics,
}

/// The bound port numbers of a server.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ports {
    pub http: Option<u16>,
    pub https: Option<u16>,
    pub agent: Option<u16>,
    pub metrics: Option<u16>,
}

pub struct SimulatedServer {
    pub position: usize,
    pub name: Name,
    pub hostname: String,
    pub address: IpAddr,
    pub ports: Ports,
    /// Whether this process runs the server (`--only`).
    pub is_local: bool,
    pub counters: Counters,
    pub log: Log,
    capacity: Capacity,
    /// Users by their DomAuthSessId token.
    pub sessions: Mutex<HashMap<String, String>>,
    /// XPages view states: number of pages by SessionID.
    pub xpages: Mutex<HashMap<String, u64>>,
    /// Documents that appeared while a client paged through the directory.
    pub new_documents: AtomicU32,
    /// When the statistics froze, in seconds since 1970.
    pub frozen_at: AtomicU64,
    /// Stopped by the control port.
    pub stopped: AtomicBool,
    /// Whether the server was down at the last change.
    pub was_down: AtomicBool,
    /// Lost when the server stops.
    pub replicator: Mutex<Replicator>,
    pub replicator_wakes: Notify,
    /// Number of the other servers of the scenario.
    pub number_of_others: usize,
    /// When the companion's time froze, in milliseconds since 1970, by the server's own clock.
    pub companion_frozen_at: AtomicU64,
    /// The requests to the companion to start a replication.
    pub companion_calls: Mutex<Vec<Value>>,
    pub tls: Option<tls::ServerCertificates>,
    settings: RwLock<Arc<Settings>>,
    faults: Mutex<Faults>,
    /// No fault and no request limit is set, so `/fast` may use its prepared response.
    pub has_no_faults_or_limits: AtomicBool,
    /// The prepared response for `/fast`.
    pub fast: Vec<u8>,
    /// Number of the last change to the faults.
    pub changes: watch::Sender<u64>,
    /// The last change that each listener has applied.
    applied: Mutex<Vec<watch::Receiver<u64>>>,
}

/// A login that other servers may accept.
pub struct LtpaToken {
    pub user: String,
    /// The key of the server that made it.
    pub key: String,
    /// By the clock of that server, in milliseconds since 1970.
    pub created_ms: u64,
}

pub struct Cluster {
    pub scenario: Scenario,
    pub servers: Vec<Arc<SimulatedServer>>,
    pub executions: Executions,
    /// What is behind each LtpaToken.
    pub ltpa: Mutex<HashMap<String, LtpaToken>>,
    pub documents: Mutex<Documents>,
    copies: RwLock<Arc<CopyTable>>,
    initial: Mutex<Arc<CopyTable>>,
}

impl SimulatedServer {
    fn new(
        scenario: &Scenario,
        position: usize,
        bound: &[ReservedPort],
        is_local: bool,
        ca: &tls::Authority,
    ) -> Result<SimulatedServer, String> {
        let spec = &scenario.servers[position];
        let name = Name::new(&spec.name);
        let find = |kind| bound.iter().find(|b| b.position == position && b.kind == kind).map(|b| b.port);
        // For servers in other processes only the ports of the scenario are known.
        let known = |kind, spec: crate::scenario::Port| match is_local {
            true => find(kind),
            false => spec.bind_port().filter(|n| *n != 0),
        };
        let ports = Ports {
            http: known(PortKind::Http, spec.http),
            https: known(PortKind::Https, spec.https),
            agent: known(PortKind::Agent, spec.agent),
            metrics: known(PortKind::Metrics, spec.metrics),
        };
        let hostname = spec.hostname.clone().unwrap_or_else(|| name.default_hostname());
        let tls = match is_local && ports.https.is_some() {
            true => Some(ca.server(&name.common, &hostname, spec.address)?),
            false => None,
        };
        let mut patch = initial_patch(scenario, position);
        let fault = patch.as_object_mut().and_then(|patch| patch.remove("fault")).unwrap_or_default();
        let settings = Settings::default()
            .with_patch(&patch)
            .map_err(|e| format!("scenario: {}: set: {e}", spec.name))?;
        let mut faults = Faults::default();
        faults.set(Fault::parse_all(&fault)?);
        Ok(SimulatedServer {
            position,
            hostname,
            address: spec.address,
            ports,
            is_local,
            counters: Counters::default(),
            log: Log::default(),
            // Servers do not update their index at the same time.
            capacity: Capacity::new((position + 1) as f64 / scenario.servers.len() as f64),
            sessions: Mutex::default(),
            xpages: Mutex::default(),
            new_documents: AtomicU32::new(0),
            frozen_at: AtomicU64::new(clock::now()),
            stopped: AtomicBool::new(false),
            was_down: AtomicBool::new(false),
            replicator: Mutex::default(),
            replicator_wakes: Notify::new(),
            number_of_others: scenario.servers.len() - 1,
            companion_frozen_at: AtomicU64::new(clock::skewed_ms(settings.clock_skew_ms)),
            companion_calls: Mutex::default(),
            tls,
            has_no_faults_or_limits: AtomicBool::new(faults.is_empty() && settings.is_unlimited()),
            fast: crate::connection::fast_answer(&name.abbreviated),
            name,
            settings: RwLock::new(Arc::new(settings)),
            faults: Mutex::new(faults),
            changes: watch::Sender::new(0),
            applied: Mutex::default(),
        })
    }

    pub fn settings(&self) -> Arc<Settings> {
        self.settings.read().unwrap().clone()
    }

    /// The published settings. If the index is measured, it replaces the configured one, and its time is returned.
    pub fn published(&self) -> (Arc<Settings>, Option<u64>) {
        let settings = self.settings();
        if settings.index.is_none() || settings.measure_index_ms == 0 {
            return (settings, None);
        }
        let (index, at) = self.capacity.index(settings.measure_index_ms);
        (Arc::new(Settings { index: Some(index), ..(*settings).clone() }), Some(at))
    }

    pub async fn work(&self, work_ms: u64) {
        self.capacity.work(work_ms, || self.settings()).await;
    }

    /// The fault for this request; one use of a counted fault is consumed.
    pub fn fault(&self, seen: &RequestInfo<'_>) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        let fault = faults.take(seen);
        self.update_has_no_faults_or_limits(&mut faults);
        fault
    }

    /// The fault for this TLS handshake.
    pub fn tls_fault(&self) -> Option<FaultKind> {
        self.faults.lock().unwrap().take_tls()
    }

    /// The fault that closes this port.
    pub fn port_fault(&self, port: PortKind) -> Option<Fault> {
        if self.stopped.load(Relaxed) {
            return Some(Fault::of_stopped_server());
        }
        self.faults.lock().unwrap().of_port(port)
    }

    fn update_has_no_faults_or_limits(&self, faults: &mut Faults) {
        self.has_no_faults_or_limits.store(faults.is_empty() && self.settings().is_unlimited(), Relaxed);
    }

    /// Applies a patch to the settings and, if named, to `fault`. An invalid patch changes nothing.
    /// Returns when the listeners have applied it.
    pub async fn patch(self: &Arc<Self>, mut patch: Value) -> Result<(), String> {
        let Some(keys) = patch.as_object_mut() else { return Err("a patch is a JSON object".into()) };
        let fault = keys.remove("fault").map(|value| Fault::parse_all(&value)).transpose()?;
        let was = self.settings();
        let is = was.with_patch(&patch)?;
        if is.frozen && !was.frozen {
            self.frozen_at.store(clock::now(), Relaxed);
        }
        if is.companion_trap != was.companion_trap {
            self.companion_frozen_at.store(clock::skewed_ms(is.clock_skew_ms), Relaxed);
        }
        if patch.get("dir").is_some() {
            self.new_documents.store(0, Relaxed);
        }
        *self.settings.write().unwrap() = Arc::new(is);
        // The times of pushes and retries may have changed.
        self.replicator_wakes.notify_one();
        match fault {
            Some(fault) => self.set_faults(fault).await,
            None => self.update_has_no_faults_or_limits(&mut self.faults.lock().unwrap()),
        }
        Ok(())
    }

    /// Replaces all faults. Waits until the listeners have applied them and the affected connections are closed.
    pub async fn set_faults(self: &Arc<Self>, faults: Vec<Fault>) {
        let expiry = {
            let mut mine = self.faults.lock().unwrap();
            mine.set(faults);
            self.update_has_no_faults_or_limits(&mut mine);
            mine.next_expiry()
        };
        self.announce_change().await;
        if let Some(expiry) = expiry {
            let server = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep_until(expiry.into()).await;
                server.update_has_no_faults_or_limits(&mut server.faults.lock().unwrap());
                server.announce_change().await;
            });
        }
    }

    /// Tells the listeners and connections of a change. Waits until they have applied it.
    pub async fn announce_change(&self) {
        self.note_power_change();
        self.changes.send_modify(|n| *n += 1);
        let now = *self.changes.borrow();
        let listeners = self.applied.lock().unwrap().clone();
        for mut listener in listeners {
            // A listener that cannot apply the change reports it on standard error.
            let _ = tokio::time::timeout(
                std::time::Duration::from_secs(3),
                listener.wait_for(|applied| *applied >= now),
            )
            .await;
        }
        let gone = async {
            while self.connections_to_close() > 0 {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        };
        let _ = tokio::time::timeout(std::time::Duration::from_secs(3), gone).await;
    }

    /// Number of connections on refusing ports that are not closed yet.
    fn connections_to_close(&self) -> u64 {
        let of_port = |port| match self.port_fault(port) {
            Some(fault) if fault.kind == FaultKind::Refuse => {
                let connections = self.counters.of(port);
                if fault.kill { &connections.open } else { &connections.idle }.load(Relaxed)
            }
            _ => 0,
        };
        of_port(PortKind::Http) + of_port(PortKind::Https)
    }

    /// Registers a listener, which reports through the sender which change it has applied.
    pub fn register_listener(&self) -> watch::Sender<u64> {
        let (sender, receiver) = watch::channel(0);
        self.applied.lock().unwrap().push(receiver);
        sender
    }

    /// Restores the initial state. Open connections stay open.
    async fn reset(self: &Arc<Self>, initial: Value) -> Result<(), String> {
        *self.settings.write().unwrap() = Arc::new(Settings::default());
        self.sessions.lock().unwrap().clear();
        self.xpages.lock().unwrap().clear();
        self.log.reset();
        self.new_documents.store(0, Relaxed);
        self.stopped.store(false, Relaxed);
        self.companion_calls.lock().unwrap().clear();
        self.replicator.lock().unwrap().restart();
        self.set_faults(Vec::new()).await;
        self.patch(initial).await
    }

    /// `web1.acme.example:8081`; a default port is left out.
    pub fn authority(&self, scheme: &str) -> String {
        let (port, default) = match scheme {
            "https" => (self.ports.https, 443),
            _ => (self.ports.http, 80),
        };
        match port {
            Some(port) if port != default => format!("{}:{port}", self.hostname),
            _ => self.hostname.clone(),
        }
    }

    /// One line for standard error.
    pub fn summary(&self) -> String {
        let p = |port: Option<u16>| port.map_or("off".to_owned(), |n| n.to_string());
        format!(
            "{} ({}) on {}: http {}, https {}, agent-check {}, metrics {}",
            self.name.abbreviated,
            self.hostname,
            self.address,
            p(self.ports.http),
            p(self.ports.https),
            p(self.ports.agent),
            p(self.ports.metrics)
        )
    }

    pub fn addresses_json(&self) -> Value {
        json!({
            "name": self.name.abbreviated, "hostname": self.hostname, "address": self.address.to_string(),
            "http": self.ports.http, "https": self.ports.https, "agent": self.ports.agent,
            "metrics": self.ports.metrics,
        })
    }

    pub fn to_json(&self) -> Value {
        let mut value = self.addresses_json();
        value["here"] = self.is_local.into();
        value["running"] = (!self.is_down()).into();
        value["settings"] = serde_json::to_value(&*self.settings()).unwrap_or_default();
        value["fault"] = self.faults.lock().unwrap().to_json();
        value["connections"] = self.connections_json();
        value["pushed"] = self.counters.pushed.load(Relaxed).into();
        value["push_failed"] = self.counters.push_failed.load(Relaxed).into();
        value
    }

    pub fn connections_json(&self) -> Value {
        let c = &self.counters;
        json!({
            "current": c.open(), "idle": c.idle(), "total": c.connections.load(Relaxed), "peak": c.peak.load(Relaxed),
            "requests": c.requests.load(Relaxed), "in_flight": c.in_flight.load(Relaxed),
        })
    }
}

impl Cluster {
    /// Builds the cluster; `bound` has the ports of the servers that run in this process.
    pub fn build(
        scenario: Scenario,
        bound: &[ReservedPort],
        only: Option<usize>,
        ca: &tls::Authority,
    ) -> Result<Cluster, String> {
        let server = |position| {
            let is_local = only.is_none_or(|only| only == position);
            SimulatedServer::new(&scenario, position, bound, is_local, ca).map(Arc::new)
        };
        let servers = (0..scenario.servers.len()).map(server).collect::<Result<_, _>>()?;
        let copies = Arc::new(CopyTable::of(&scenario)?);
        Ok(Cluster {
            scenario,
            servers,
            executions: Executions::default(),
            ltpa: Mutex::default(),
            documents: Mutex::default(),
            copies: RwLock::new(copies.clone()),
            initial: Mutex::new(copies),
        })
    }

    pub fn copies(&self) -> Arc<CopyTable> {
        self.copies.read().unwrap().clone()
    }

    pub fn set_copies(&self, copies: CopyTable) {
        *self.copies.write().unwrap() = Arc::new(copies);
    }

    /// The servers that run in this process.
    pub fn local_servers(&self) -> impl Iterator<Item = &Arc<SimulatedServer>> {
        self.servers.iter().filter(|m| m.is_local)
    }

    /// Finds a server by any spelling of its name.
    pub fn find(&self, name: &str) -> Option<&Arc<SimulatedServer>> {
        self.servers.iter().find(|m| m.name.matches(name))
    }

    /// Restores the initial state.
    pub async fn reset(&self) -> Result<(), String> {
        *self.copies.write().unwrap() = self.initial.lock().unwrap().clone();
        self.executions.reset();
        self.ltpa.lock().unwrap().clear();
        *self.documents.lock().unwrap() = Documents::default();
        for server in self.local_servers() {
            server.reset(initial_patch(&self.scenario, server.position)).await?;
        }
        Ok(())
    }

    /// The first line on standard output, with all addresses.
    pub fn announcement(&self, control: &str, tls_dir: Option<&Path>) -> Value {
        json!({
            "acme": 1, "pid": std::process::id(), "cluster": self.scenario.cluster, "control": control,
            "ca": tls_dir.map(|dir| dir.join("ca.pem")),
            "servers": self.local_servers().map(|m| m.addresses_json()).collect::<Vec<_>>(),
        })
    }
}

/// The initial state of a server as a patch: `set` of the scenario, with its `replication` and `statpub` as defaults.
fn initial_patch(scenario: &Scenario, position: usize) -> Value {
    let mut patch = match &scenario.servers[position].set {
        Value::Null => json!({}),
        set => set.clone(),
    };
    if let (Some(replication), Some(set)) = (&scenario.replication, patch.as_object_mut()) {
        set.entry("replication").or_insert(true.into());
        for (key, value) in replication {
            set.entry(key).or_insert(value.clone());
        }
    }
    if let (Some(push), Some(set)) = (&scenario.statpub, patch.as_object_mut()) {
        set.entry("statpub_url").or_insert(push.url.clone().into());
        set.entry("statpub_token").or_insert(push.token.clone().into());
        set.entry("statpub_interval_ms").or_insert(push.interval_ms.into());
    }
    patch
}
