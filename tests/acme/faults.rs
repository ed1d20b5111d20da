//! Faults that a server can have: their JSON form, which requests and ports they affect, and when they expire.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cluster::PortKind;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// Listener closed: connection refused. Idle connections are closed.
    Refuse,
    /// Connection attempts time out (accept queue full), and open connections get no response.
    Blackhole,
    /// The connection is reset (RST) without a response.
    Reset,
    /// The connection is closed (FIN) without a response.
    Close,
    /// The request is read and never answered.
    Hang,
    /// The response comes `delay_ms` later.
    Slow,
    /// The response has `status`.
    Status,
    /// The response announces `size` bytes, sends `after`, and ends with `end`.
    DieMidBody,
    /// The response ends with `end` in the middle of its head.
    DieMidHeader,
    /// The response is not HTTP.
    Garbage,
    /// The response is 404 for a database that the server holds.
    NotFound,
    /// Like `Reset`, but only from the second request of a connection on.
    ResetOnReuse,
    /// Reading stops after `after` bytes of the body.
    StallUpload,
    /// The response with `status` is sent before the body is read; then the connection ends with `end`.
    EarlyResponse,
    TlsHandshake,
    TlsExpired,
    /// The TLS certificate has another name.
    TlsWrongName,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConnectionEnd {
    Fin,
    Rst,
}

/// When a `Reset`, `Close` or `Hang` happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FaultStage {
    /// The head is read, the body is not: not executed.
    Head,
    /// The whole request is read: executed, but not carried out.
    Body,
    /// The request is carried out: what it saves is saved.
    Saved,
}

/// The ports of a server that a fault affects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortFilter {
    Web,
    Http,
    Https,
    Agent,
    Metrics,
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

/// One fault, as written in JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    pub kind: FaultKind,
    /// Number of requests that the fault affects; absent means until it is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// Milliseconds until the fault expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
    /// Prefix of the decoded path, without case. If set, it alone decides, for background requests as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Affects background requests as well: the probe path, view readings, the statistics page.
    #[serde(default)]
    pub probe: bool,
    #[serde(default = "default_port")]
    pub port: PortFilter,
    /// Used by `reset`, `close` and `hang`.
    #[serde(default = "default_stage")]
    pub at: FaultStage,
    /// Used by `status` and `early_response`.
    #[serde(default = "default_status")]
    pub status: u16,
    /// Retry-After in seconds, used by `status` and `early_response`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u32>,
    #[serde(default = "default_delay_ms")]
    pub delay_ms: u64,
    #[serde(default = "default_size")]
    pub size: usize,
    /// Used by `die_mid_body` (default: half of `size`) and `stall_upload` (default: 0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<usize>,
    /// Used by `die_mid_body`, `die_mid_header` and `early_response`.
    #[serde(default = "default_end")]
    pub end: ConnectionEnd,
    /// For `die_mid_body`: use chunks instead of Content-Length.
    #[serde(default)]
    pub chunked: bool,
    /// For `refuse`: reset all open connections, as when a machine loses power.
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

/// The properties of a request that faults look at.
pub struct RequestInfo<'a> {
    pub port: PortKind,
    pub method: &'a str,
    pub path: &'a str,
    /// A probe, a view reading or the statistics page.
    pub background: bool,
    /// 1 for the first request of a connection.
    pub nth: u64,
}

impl Fault {
    /// Reads a kind, an object, or a list of either; null means no faults.
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
            return Err(
                "fault: refuse and blackhole cannot count requests that never arrive; use for_ms".into()
            );
        }
        Ok(fault)
    }

    /// What a client sees of a server that is stopped.
    pub fn of_stopped_server() -> Fault {
        Fault::parse(&json!({ "kind": "refuse", "kill": true, "port": "all" })).unwrap()
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

impl ActiveFault {
    fn is_active(&self) -> bool {
        self.left != Some(0) && self.until.is_none_or(|until| until > Instant::now())
    }
}

impl Faults {
    pub fn set(&mut self, faults: Vec<Fault>) {
        let active = |fault: Fault| ActiveFault {
            left: fault.count,
            until: fault.for_ms.map(|ms| Instant::now() + Duration::from_millis(ms)),
            fault,
        };
        self.0 = faults.into_iter().map(active).collect();
    }

    /// When the next fault expires.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.0.iter().filter_map(|a| a.until).min()
    }

    fn prune(&mut self) {
        self.0.retain(ActiveFault::is_active);
    }

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

    /// The fault for this request; one use of a counted fault is consumed.
    pub fn take(&mut self, seen: &RequestInfo<'_>) -> Option<Fault> {
        self.take_where(|fault| fault.matches(seen))
    }

    /// The fault for this TLS handshake; one use of a counted fault is consumed.
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

    /// The faults with their remaining counts, for the control port.
    pub fn to_json(&self) -> Value {
        let one = |a: &ActiveFault| {
            let mut value = serde_json::to_value(&a.fault).unwrap_or_default();
            if let Some(left) = a.left {
                value["count"] = left.into();
            }
            value
        };
        self.0.iter().filter(|a| a.is_active()).map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(path: &str, background: bool) -> RequestInfo<'_> {
        RequestInfo { port: PortKind::Http, method: "GET", path, background, nth: 1 }
    }

    #[test]
    fn a_counted_fault_expires_after_its_count_and_spares_the_probe() {
        let mut faults = Faults::default();
        faults.set(Fault::parse_all(&json!({"kind": "reset", "count": 2})).unwrap());
        assert!(faults.take(&seen("/", true)).is_none());
        assert!(faults.take(&seen("/a.nsf", false)).is_some());
        assert!(faults.take(&seen("/a.nsf", false)).is_some());
        assert!(faults.take(&seen("/a.nsf", false)).is_none());
        assert!(faults.is_empty());
    }

    #[test]
    fn a_path_decides_alone_for_background_requests_as_well() {
        let mut faults = Faults::default();
        faults.set(Fault::parse_all(&json!([{"kind": "hang", "path": "/CLDBDIR.nsf"}])).unwrap());
        assert!(faults.take(&seen("/a.nsf", false)).is_none());
        assert!(faults.take(&seen("/cldbdir.nsf/x", true)).is_some());
        assert!(Fault::parse_all(&json!({"kind": "refuse", "count": 1})).is_err());
    }
}
