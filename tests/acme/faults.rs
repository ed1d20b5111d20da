//! Faults that a server can be told to have. In: JSON of the control port. Out: for each request the fault
//! that hits it, if any; for each port whether it listens. Counts go down and expired faults vanish here.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cluster::PortKind;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// Listener closed: connection refused. Idle connections are closed.
    Refuse,
    /// Connecting gets no answer at all (accept queue full). Open connections get no answer either.
    Blackhole,
    /// Connection reset (RST) without an answer.
    Reset,
    /// Connection closed (FIN) without an answer.
    Close,
    /// The request is read, nothing is ever answered.
    Hang,
    /// The answer comes `delay_ms` later.
    Slow,
    /// The answer is `status`.
    Status,
    /// `size` announced, `after` sent, then `end`.
    DieMidBody,
    /// Half of the answer's header, then `end`.
    DieMidHeader,
    /// Octets that are not HTTP.
    Garbage,
    /// The database page answers 404.
    NotFound,
    /// As reset, but only from a connection's second request on.
    ResetOnReuse,
    /// After `after` octets of the body no more is read.
    StallUpload,
    /// `status` before the body is read, then `end`.
    EarlyResponse,
    /// TLS handshakes fail.
    TlsHandshake,
    /// TLS certificate expired.
    TlsExpired,
    /// TLS certificate for another name.
    TlsWrongName,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConnectionEnd {
    /// FIN.
    Fin,
    /// RST.
    Rst,
}

/// When a reset or close happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FaultStage {
    /// The head is read, the body is not: not executed.
    Head,
    /// The whole request is read: executed.
    Body,
}

/// Which ports of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortFilter {
    /// HTTP and HTTPS.
    Web,
    /// HTTP.
    Http,
    /// HTTPS.
    Https,
    /// Agent-check.
    Agent,
    /// Prometheus.
    Metrics,
    /// All four.
    All,
}

impl PortFilter {
    fn covers(self, port: PortKind) -> bool {
        match self {
            PortFilter::All => true,
            PortFilter::Web => matches!(port, PortKind::Http | PortKind::Https),
            PortFilter::Http => port == PortKind::Http,
            PortFilter::Https => port == PortKind::Https,
            PortFilter::Agent => port == PortKind::Agent,
            PortFilter::Metrics => port == PortKind::Metrics,
        }
    }
}

/// One fault, as written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// What happens.
    pub kind: FaultKind,
    /// The next so many requests, then off; absent = until removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// Off after so many milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
    /// Only decoded paths that begin so, without case; this alone then decides, also for background requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Only this method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Also background requests: the probe path, view readings, the statistics page.
    #[serde(default)]
    pub probe: bool,
    /// Which ports.
    #[serde(default = "default_port")]
    pub port: PortFilter,
    /// For `reset` and `close`.
    #[serde(default = "default_stage")]
    pub at: FaultStage,
    /// For `status` and `early_response`.
    #[serde(default = "default_status")]
    pub status: u16,
    /// Retry-After of these, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u32>,
    /// For `slow`.
    #[serde(default = "default_delay_ms")]
    pub delay_ms: u64,
    /// For `die_mid_body`.
    #[serde(default = "default_size")]
    pub size: usize,
    /// For `die_mid_body` (default: half) and `stall_upload` (default: 0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<usize>,
    /// For `die_mid_body`, `die_mid_header`, `early_response`.
    #[serde(default = "default_end")]
    pub end: ConnectionEnd,
    /// For `die_mid_body`: chunked instead of Content-Length.
    #[serde(default)]
    pub chunked: bool,
    /// For `refuse`: open connections are reset, also those in use, as when a machine loses power.
    #[serde(default)]
    pub kill: bool,
}

fn default_port() -> PortFilter {
    PortFilter::Web
}
fn default_stage() -> FaultStage {
    FaultStage::Body
}
fn default_end() -> ConnectionEnd {
    ConnectionEnd::Fin
}
fn default_status() -> u16 {
    503
}
fn default_delay_ms() -> u64 {
    1000
}
fn default_size() -> usize {
    100_000
}

/// What a request looks like to a fault.
pub struct RequestInfo<'a> {
    pub port: PortKind,
    pub method: &'a str,
    pub path: &'a str,
    /// Probe, view reading or statistics page.
    pub background: bool,
    /// 1 for the first request of a connection.
    pub nth: u64,
}

impl Fault {
    /// Reads `"refuse"`, an object or a list of either; null is none.
    pub fn parse_all(value: &Value) -> Result<Vec<Fault>, String> {
        match value {
            Value::Null => Ok(Vec::new()),
            Value::Array(list) => Ok(list.iter().map(Fault::parse).collect::<Result<_, _>>()?),
            one => Ok(vec![Fault::parse(one)?]),
        }
    }

    fn parse(value: &Value) -> Result<Fault, String> {
        let whole = if value.is_string() { json!({ "kind": value }) } else { value.clone() };
        let fault: Fault = serde_json::from_value(whole).map_err(|e| format!("fault: {e}"))?;
        if fault.count.is_some() && matches!(fault.kind, FaultKind::Refuse | FaultKind::Blackhole) {
            return Err("fault: refuse and blackhole cannot count what never arrives; use for_ms".into());
        }
        Ok(fault)
    }

    fn matches(&self, seen: &RequestInfo<'_>) -> bool {
        let request_fault = !matches!(
            self.kind,
            FaultKind::Refuse
                | FaultKind::Blackhole
                | FaultKind::TlsHandshake
                | FaultKind::TlsExpired
                | FaultKind::TlsWrongName
        );
        request_fault
            && self.port.covers(seen.port)
            && self.method.as_deref().is_none_or(|m| m.eq_ignore_ascii_case(seen.method))
            && (self.kind != FaultKind::ResetOnReuse || seen.nth > 1)
            && match &self.path {
                Some(prefix) => seen.path.to_lowercase().starts_with(&prefix.to_lowercase()),
                None => self.probe || !seen.background,
            }
    }
}

/// The faults of one server.
#[derive(Default)]
pub struct Faults(Vec<ActiveFault>);

struct ActiveFault {
    fault: Fault,
    left: Option<u32>,
    until: Option<Instant>,
}

impl Faults {
    /// Replaces all.
    pub fn set(&mut self, faults: Vec<Fault>) {
        let active = |fault: Fault| ActiveFault {
            left: fault.count,
            until: fault.for_ms.map(|ms| Instant::now() + Duration::from_millis(ms)),
            fault,
        };
        self.0 = faults.into_iter().map(active).collect();
    }

    /// When the next one expires.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.0.iter().filter_map(|a| a.until).min()
    }

    fn prune(&mut self) {
        let now = Instant::now();
        self.0.retain(|a| a.left != Some(0) && a.until.is_none_or(|until| until > now));
    }

    /// Whether there is none.
    pub fn is_empty(&mut self) -> bool {
        self.prune();
        self.0.is_empty()
    }

    fn take_where(&mut self, hit: impl Fn(&Fault) -> bool) -> Option<Fault> {
        self.prune();
        let active = self.0.iter_mut().find(|a| hit(&a.fault))?;
        active.left = active.left.map(|n| n - 1);
        let fault = active.fault.clone();
        self.prune();
        Some(fault)
    }

    /// The fault for this request; a counted one is used up.
    pub fn take(&mut self, seen: &RequestInfo<'_>) -> Option<Fault> {
        self.take_where(|fault| fault.matches(seen))
    }

    /// The fault for this TLS handshake; a counted one is used up.
    pub fn take_tls(&mut self) -> Option<FaultKind> {
        self.take_where(|f| {
            matches!(f.kind, FaultKind::TlsHandshake | FaultKind::TlsExpired | FaultKind::TlsWrongName)
        })
        .map(|f| f.kind)
    }

    /// The fault that closes this port: refuse or blackhole.
    pub fn of_port(&mut self, port: PortKind) -> Option<Fault> {
        self.prune();
        let closes =
            |f: &Fault| matches!(f.kind, FaultKind::Refuse | FaultKind::Blackhole) && f.port.covers(port);
        self.0.iter().map(|a| &a.fault).find(|f| closes(f)).cloned()
    }

    /// For the control port: the faults with what is left of their counts.
    pub fn to_json(&mut self) -> Value {
        self.prune();
        let one = |a: &ActiveFault| {
            let mut value = serde_json::to_value(&a.fault).unwrap_or_default();
            if let Some(left) = a.left {
                value["count"] = left.into();
            }
            value
        };
        self.0.iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(path: &str, background: bool) -> RequestInfo<'_> {
        RequestInfo { port: PortKind::Http, method: "GET", path, background, nth: 1 }
    }

    #[test]
    fn a_counted_fault_hits_so_often_and_leaves_the_probe_alone() {
        let mut faults = Faults::default();
        faults.set(Fault::parse_all(&json!({"kind": "reset", "count": 2})).unwrap());
        assert!(faults.take(&seen("/", true)).is_none());
        assert!(faults.take(&seen("/a.nsf", false)).is_some());
        assert!(faults.take(&seen("/a.nsf", false)).is_some());
        assert!(faults.take(&seen("/a.nsf", false)).is_none());
        assert!(faults.is_empty());
    }

    #[test]
    fn a_path_alone_decides() {
        let mut faults = Faults::default();
        faults.set(Fault::parse_all(&json!([{"kind": "hang", "path": "/CLDBDIR.nsf"}])).unwrap());
        assert!(faults.take(&seen("/a.nsf", false)).is_none());
        assert!(faults.take(&seen("/cldbdir.nsf/x", true)).is_some());
        assert!(Fault::parse_all(&json!({"kind": "refuse", "count": 1})).is_err());
    }
}
