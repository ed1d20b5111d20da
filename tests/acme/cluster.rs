//! The simulated cluster and its members while they run. In: scenario, bound ports, patches. Out: what every
//! connection, page, view and statistic asks for. It opens no socket itself.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, RwLock};

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::capacity::Capacity;
use crate::copies::CopyTable;
use crate::executions::{Executions, Log};
use crate::faults::{Fault, FaultKind, Faults, RequestInfo};
use crate::scenario::{Name, Scenario};
use crate::server::ReservedPort;
use crate::settings::Settings;
use crate::{clock, tls};

/// A server's four ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortKind {
    Http,
    Https,
    Agent,
    Metrics,
}

/// The real port numbers of a server.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ports {
    pub http: Option<u16>,
    pub https: Option<u16>,
    pub agent: Option<u16>,
    pub metrics: Option<u16>,
}

/// Counters of one server.
#[derive(Default)]
pub struct Counters {
    /// Connections opened, on HTTP and HTTPS.
    pub connections: AtomicU64,
    http: Connections,
    https: Connections,
    /// Most open at once.
    pub peak: AtomicU64,
    /// Requests whose head was read; those for `/fast` too.
    pub requests: AtomicU64,
    /// Requests being worked on.
    pub in_flight: AtomicU64,
    /// Statistics pushed successfully and not.
    pub pushed: AtomicU64,
    pub push_failed: AtomicU64,
}

/// Connections of one port.
#[derive(Default)]
pub struct Connections {
    /// Open now.
    pub open: AtomicU64,
    /// Of these, the ones without a request.
    pub idle: AtomicU64,
}

impl Counters {
    /// The connections of a port.
    pub fn of(&self, port: PortKind) -> &Connections {
        if port == PortKind::Https { &self.https } else { &self.http }
    }

    /// Connections open now, on HTTP and HTTPS.
    pub fn open(&self) -> u64 {
        self.http.open.load(Relaxed) + self.https.open.load(Relaxed)
    }

    /// Of these, the ones without a request.
    pub fn idle(&self) -> u64 {
        self.http.idle.load(Relaxed) + self.https.idle.load(Relaxed)
    }
}

/// One simulated server.
pub struct SimulatedServer {
    pub position: usize,
    pub name: Name,
    pub hostname: String,
    pub address: IpAddr,
    pub ports: Ports,
    /// Whether this process runs it (`--only`).
    pub is_local: bool,
    pub counters: Counters,
    pub log: Log,
    capacity: Capacity,
    /// Tokens of DomAuthSessId and their users.
    pub sessions: Mutex<HashMap<String, String>>,
    /// View states of XPages: SessionID and number of pages.
    pub xpages: Mutex<HashMap<String, u64>>,
    /// Documents that appeared while the directory was paged through.
    pub new_documents: AtomicU32,
    /// When the statistics froze, in seconds since 1970.
    pub frozen_at: AtomicU64,
    pub tls: Option<tls::ServerCertificates>,
    settings: RwLock<Arc<Settings>>,
    faults: Mutex<Faults>,
    /// No fault and no limit of requests: `/fast` may take the short way.
    pub is_fault_free: AtomicBool,
    /// The ready answer for `/fast`.
    pub fast: Vec<u8>,
    /// Number of the last change of faults.
    pub changes: watch::Sender<u64>,
    /// What each listener has applied of them.
    applied: Mutex<Vec<watch::Receiver<u64>>>,
}

/// The cluster.
pub struct Cluster {
    pub scenario: Scenario,
    pub members: Vec<Arc<SimulatedServer>>,
    pub executions: Executions,
    /// Tokens of LtpaToken and their users.
    pub ltpa: Mutex<HashMap<String, String>>,
    copies: RwLock<Arc<CopyTable>>,
    initial: Mutex<Arc<CopyTable>>,
}

impl SimulatedServer {
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.read().unwrap().clone()
    }

    /// What is published: the settings, with the measured index where one is wanted, and its moment.
    pub fn published(&self) -> (Arc<Settings>, Option<u64>) {
        let settings = self.settings();
        if settings.index.is_none() || settings.measure_index_ms == 0 {
            return (settings, None);
        }
        let (index, at) = self.capacity.index(settings.measure_index_ms);
        (Arc::new(Settings { index: Some(index), ..(*settings).clone() }), Some(at))
    }

    /// Does so many milliseconds of work, in its turn.
    pub async fn work(&self, work_ms: u64) {
        self.capacity.work(work_ms, || self.settings()).await;
    }

    /// The fault that hits this request; a counted one is used up.
    pub fn fault(&self, seen: &RequestInfo<'_>) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        let fault = faults.take(seen);
        self.update_plain(&mut faults);
        fault
    }

    /// The fault that hits this TLS handshake.
    pub fn tls_fault(&self) -> Option<FaultKind> {
        self.faults.lock().unwrap().take_tls()
    }

    /// The fault that closes this port.
    pub fn port_fault(&self, port: PortKind) -> Option<Fault> {
        self.faults.lock().unwrap().of_port(port)
    }

    fn update_plain(&self, faults: &mut Faults) {
        self.is_fault_free.store(faults.is_empty() && self.settings().is_unlimited(), Relaxed);
    }

    /// Applies a patch: settings, and `fault` if it is named. Nothing changes if any of it is wrong.
    /// Returns when the listeners have followed.
    pub async fn patch(self: &Arc<Self>, mut patch: Value) -> Result<(), String> {
        let Some(keys) = patch.as_object_mut() else { return Err("a patch is a JSON object".into()) };
        let fault = keys.remove("fault").map(|value| Fault::parse_all(&value)).transpose()?;
        let was = self.settings();
        let is = was.with_patch(&patch)?;
        if is.frozen && !was.frozen {
            self.frozen_at.store(clock::now(), Relaxed);
        }
        if patch.get("dir").is_some() {
            self.new_documents.store(0, Relaxed);
        }
        *self.settings.write().unwrap() = Arc::new(is);
        match fault {
            Some(fault) => self.set_faults(fault).await,
            None => self.update_plain(&mut self.faults.lock().unwrap()),
        }
        Ok(())
    }

    /// Replaces all faults and waits for the listeners and for the connections that have to go.
    pub async fn set_faults(self: &Arc<Self>, faults: Vec<Fault>) {
        let expiry = {
            let mut mine = self.faults.lock().unwrap();
            mine.set(faults);
            self.update_plain(&mut mine);
            mine.next_expiry()
        };
        self.announce_change().await;
        if let Some(expiry) = expiry {
            let member = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep_until(expiry.into()).await;
                member.update_plain(&mut member.faults.lock().unwrap());
                member.announce_change().await;
            });
        }
    }

    async fn announce_change(&self) {
        self.changes.send_modify(|n| *n += 1);
        let now = *self.changes.borrow();
        let listeners = self.applied.lock().unwrap().clone();
        for mut listener in listeners {
            // A listener that cannot follow has said so on standard error.
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

    /// Open connections of ports that refuse and are still to be closed.
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

    /// A listener of this member; it reports here which change it has applied.
    pub fn register_listener(&self) -> watch::Sender<u64> {
        let (sender, receiver) = watch::channel(0);
        self.applied.lock().unwrap().push(receiver);
        sender
    }

    /// Everything as at the start, but for connections that are open.
    pub async fn reset(self: &Arc<Self>, initial: &Value) -> Result<(), String> {
        *self.settings.write().unwrap() = Arc::new(Settings::default());
        self.sessions.lock().unwrap().clear();
        self.xpages.lock().unwrap().clear();
        self.log.reset();
        self.new_documents.store(0, Relaxed);
        self.set_faults(Vec::new()).await;
        self.patch(initial.clone()).await
    }

    /// `web1.acme.example:8081`, without a default port.
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

    /// One line for people.
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

    /// For the first line on standard output.
    pub fn addresses_json(&self) -> Value {
        json!({
            "name": self.name.abbreviated, "hostname": self.hostname, "address": self.address.to_string(),
            "http": self.ports.http, "https": self.ports.https, "agent": self.ports.agent,
            "metrics": self.ports.metrics,
        })
    }

    /// For the control port.
    pub fn to_json(&self) -> Value {
        let mut value = self.addresses_json();
        value["here"] = self.is_local.into();
        value["settings"] = serde_json::to_value(&*self.settings()).unwrap_or_default();
        value["fault"] = self.faults.lock().unwrap().to_json();
        value["connections"] = self.connections_json();
        value["pushed"] = self.counters.pushed.load(Relaxed).into();
        value["push_failed"] = self.counters.push_failed.load(Relaxed).into();
        value
    }

    /// For the control port.
    pub fn connections_json(&self) -> Value {
        let c = &self.counters;
        json!({
            "current": c.open(), "idle": c.idle(), "total": c.connections.load(Relaxed), "peak": c.peak.load(Relaxed),
            "requests": c.requests.load(Relaxed), "in_flight": c.in_flight.load(Relaxed),
        })
    }
}

impl Cluster {
    /// The whole cluster; `bound` has the ports of the servers that run here.
    pub fn build(
        scenario: Scenario,
        bound: &[ReservedPort],
        only: Option<usize>,
        ca: &tls::Authority,
    ) -> Result<Cluster, String> {
        let mut members = Vec::new();
        for (position, spec) in scenario.servers.iter().enumerate() {
            let name = Name::new(&spec.name);
            let here = only.is_none_or(|only| only == position);
            let find = |kind| bound.iter().find(|b| b.position == position && b.kind == kind).map(|b| b.port);
            // Of servers in other processes only what the scenario says is known.
            let known = |kind, spec: crate::scenario::Port| match here {
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
            let tls = match here && ports.https.is_some() {
                true => Some(ca.server(&name.common, &hostname, spec.address)?),
                false => None,
            };
            let mut settings = Settings::default();
            if let Some(push) = &scenario.statpub {
                settings.statpub_url = Some(push.url.clone());
                settings.statpub_token = push.token.clone();
                settings.statpub_interval_ms = push.interval_ms;
            }
            let mut set = spec.set.clone();
            let fault = set.as_object_mut().and_then(|set| set.remove("fault")).unwrap_or_default();
            if !set.is_null() {
                settings =
                    settings.with_patch(&set).map_err(|e| format!("scenario: {}: set: {e}", spec.name))?;
            }
            let mut faults = Faults::default();
            faults.set(Fault::parse_all(&fault)?);
            let fast = crate::connection::fast_answer(&name.abbreviated);
            let plain = faults.is_empty() && settings.is_unlimited();
            members.push(Arc::new(SimulatedServer {
                position,
                name,
                hostname,
                address: spec.address,
                ports,
                is_local: here,
                counters: Counters::default(),
                log: Log::default(),
                // Servers publish at moments of their own.
                capacity: Capacity::new((position + 1) as f64 / scenario.servers.len() as f64),
                sessions: Mutex::default(),
                xpages: Mutex::default(),
                new_documents: AtomicU32::new(0),
                frozen_at: AtomicU64::new(clock::now()),
                tls,
                settings: RwLock::new(Arc::new(settings)),
                faults: Mutex::new(faults),
                is_fault_free: AtomicBool::new(plain),
                fast,
                changes: watch::Sender::new(0),
                applied: Mutex::default(),
            }));
        }
        let copies = Arc::new(CopyTable::of(&scenario)?);
        Ok(Cluster {
            scenario,
            members,
            executions: Executions::default(),
            ltpa: Mutex::default(),
            copies: RwLock::new(copies.clone()),
            initial: Mutex::new(copies),
        })
    }

    pub fn copies(&self) -> Arc<CopyTable> {
        self.copies.read().unwrap().clone()
    }

    /// Replaces the databases.
    pub fn set_copies(&self, copies: CopyTable) {
        *self.copies.write().unwrap() = Arc::new(copies);
    }

    /// Members that run in this process.
    pub fn local_members(&self) -> impl Iterator<Item = &Arc<SimulatedServer>> {
        self.members.iter().filter(|m| m.is_local)
    }

    /// By any spelling of its name.
    pub fn find(&self, name: &str) -> Option<&Arc<SimulatedServer>> {
        self.members.iter().find(|m| m.name.matches(name))
    }

    /// Everything as at the start.
    pub async fn reset(&self) -> Result<(), String> {
        *self.copies.write().unwrap() = self.initial.lock().unwrap().clone();
        self.executions.reset();
        self.ltpa.lock().unwrap().clear();
        for member in self.local_members() {
            let spec = &self.scenario.servers[member.position];
            let mut initial = match spec.set.is_null() {
                true => json!({}),
                false => spec.set.clone(),
            };
            if let (Some(push), Some(set)) = (&self.scenario.statpub, initial.as_object_mut()) {
                set.entry("statpub_url").or_insert(push.url.clone().into());
                set.entry("statpub_token").or_insert(push.token.clone().into());
                set.entry("statpub_interval_ms").or_insert(push.interval_ms.into());
            }
            member.reset(&initial).await?;
        }
        Ok(())
    }

    /// The line on standard output that says where everything is.
    pub fn announcement(&self, control: &str, tls_dir: Option<&Path>) -> Value {
        json!({
            "acme": 1, "pid": std::process::id(), "cluster": self.scenario.cluster, "control": control,
            "ca": tls_dir.map(|dir| dir.join("ca.pem")),
            "servers": self.local_members().map(|m| m.addresses_json()).collect::<Vec<_>>(),
        })
    }
}
