//! The states of all servers as a line of the JSON log records them: what selection knew at that time, for
//! `icm replay`. It is separate because it is both written and read, unlike the lines.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use serde::{Deserialize, Serialize};

/// Points by which a ranking index must change to be recorded. It changes with every answer, and by less than this it
/// rarely decides.
const RECORDED_RANKING_STEP: f32 = 2.0;

/// The value of the field `servers`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RecordedStates {
    /// When these states were read, in UTC.
    pub at: String,
    /// The servers of all clusters and pools.
    pub list: Vec<RecordedServer>,
}

/// One server at that time. What is rare is left out where it does not hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RecordedServer {
    /// The cluster or pool.
    pub cluster: String,
    /// The abbreviated name, such as `Web1/Acme`.
    pub server: String,
    /// Its state, such as `AVAILABLE`.
    pub state: String,
    /// The HTTP port answers.
    pub http: bool,
    /// The HTTPS port answers.
    pub https: bool,
    /// The published index; `null` = unknown.
    pub index: Option<u8>,
    /// At this index and below the server is BUSY; 0 = never.
    pub threshold: u8,
    /// The index that ranks: published and observed joined; `null` = unknown.
    pub ranking: Option<f32>,
    /// Points by which `ranking` is not exact.
    pub noise: f32,
    /// Mean number of requests in flight while `ranking` was taken.
    pub in_flight: f32,
    /// Its share of new users relative to the others.
    pub weight: u32,
    /// Its own limit of requests in flight; 0 = none.
    #[serde(skip_serializing_if = "is_zero")]
    pub max_connections: u32,
    /// BUSY, whatever hides it in `state`.
    #[serde(skip_serializing_if = "is_false")]
    pub busy: bool,
    /// MAXUSERS, whatever hides it in `state`.
    #[serde(skip_serializing_if = "is_false")]
    pub max_users: bool,
    /// RESTRICTED also for users who work there.
    #[serde(skip_serializing_if = "is_false")]
    pub closed: bool,
    /// For how many milliseconds it has been RESTRICTED.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restricted_ms: Option<u64>,
    /// For how many milliseconds it has been CATCHING UP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catching_up_ms: Option<u64>,
    /// How many milliseconds ago it returned, while it ramps up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub returned_ms: Option<u64>,
    /// Share of the latest attempts that failed.
    #[serde(skip_serializing_if = "is_nothing")]
    pub failing: f32,
    /// Replica IDs of databases whose replica here is behind, the first ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub behind: Vec<String>,
    /// How many more there are.
    #[serde(skip_serializing_if = "is_zero")]
    pub behind_more: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // what serde calls
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(value: &bool) -> bool {
    !value
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_nothing(share: &f32) -> bool {
    *share == 0.0
}

impl RecordedStates {
    /// Whether selection could decide otherwise than with `before`, so that these states are worth a record. Ages,
    /// noise and small steps of the ranking index are not.
    #[must_use]
    pub fn differ_from(&self, before: &Self) -> bool {
        self.list.len() != before.list.len()
            || self.list.iter().zip(&before.list).any(|(new, old)| new.differs_from(old))
    }
}

impl RecordedServer {
    fn differs_from(&self, old: &Self) -> bool {
        let ranking_moved = match (self.ranking, old.ranking) {
            (Some(new), Some(old)) => (new - old).abs() >= RECORDED_RANKING_STEP,
            (new, old) => new.is_some() != old.is_some(),
        };
        let plain = |server: &Self| Self {
            ranking: None,
            noise: 0.0,
            in_flight: 0.0,
            failing: 0.0,
            restricted_ms: server.restricted_ms.map(|_| 0),
            catching_up_ms: server.catching_up_ms.map(|_| 0),
            returned_ms: server.returned_ms.map(|_| 0),
            ..server.clone()
        };
        ranking_moved || (self.failing == 0.0) != (old.failing == 0.0) || plain(self) != plain(old)
    }
}

/// The states for the next line. Most lines carry none, and look at one flag only.
#[derive(Debug, Default)]
pub(super) struct DueStates {
    is_due: AtomicBool,
    text: Mutex<Option<Arc<[u8]>>>,
}

impl DueStates {
    /// The next line carries this JSON.
    pub(super) fn publish(&self, text: Arc<[u8]>) {
        *self.text.lock() = Some(text);
        self.is_due.store(true, Relaxed);
    }

    /// The next line carries the last states again: it begins a file.
    pub(super) fn repeat(&self) {
        self.is_due.store(true, Relaxed);
    }

    /// What this line carries.
    pub(super) fn take(&self) -> Option<Arc<[u8]>> {
        if !self.is_due.load(Relaxed) || !self.is_due.swap(false, Relaxed) {
            return None;
        }
        self.text.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(change: impl FnOnce(&mut RecordedServer)) -> RecordedStates {
        let mut server = RecordedServer {
            cluster: "AcmeWeb".into(),
            server: "Web1/Acme".into(),
            state: "AVAILABLE".into(),
            http: true,
            index: Some(84),
            ranking: Some(80.0),
            restricted_ms: Some(5),
            weight: 1,
            ..RecordedServer::default()
        };
        change(&mut server);
        RecordedStates { at: String::new(), list: vec![server] }
    }

    #[test]
    fn only_what_could_change_a_decision_is_recorded() {
        let before = states(|_| ());
        let differs = |change: fn(&mut RecordedServer)| states(change).differ_from(&before);
        assert!(!differs(|_| ()));
        assert!(!differs(|s| s.ranking = Some(81.5)), "a small step");
        assert!(!differs(|s| (s.restricted_ms, s.noise, s.in_flight) = (Some(900), 3.0, 4.0)), "ages");
        assert!(differs(|s| s.ranking = Some(82.0)));
        assert!(differs(|s| s.ranking = None));
        assert!(differs(|s| s.index = Some(83)));
        assert!(differs(|s| s.threshold = 70));
        assert!(differs(|s| s.restricted_ms = None));
        assert!(differs(|s| s.http = false));
        assert!(differs(|s| s.state = "BUSY".into()));
        assert!(RecordedStates::default().differ_from(&before), "a server left");
    }

    #[test]
    fn a_record_is_short_and_is_read_as_it_was_written() {
        let written = states(|s| s.behind = vec!["C1257A000041D203".into()]);
        let text = serde_json::to_string(&written).unwrap();
        assert_eq!(serde_json::from_str::<RecordedStates>(&text).unwrap(), written);
        assert!(!text.contains("busy") && !text.contains("failing"), "{text}");
        let sparse = r#"{"at":"","list":[{"server":"Web1/Acme"}]}"#;
        assert_eq!(serde_json::from_str::<RecordedStates>(sparse).unwrap().list[0].index, None);
    }

    #[test]
    fn states_are_carried_by_one_line() {
        let due = DueStates::default();
        due.repeat();
        assert_eq!(due.take(), None, "nothing was published yet");
        due.publish(Arc::from(*b"{}"));
        assert_eq!(due.take().as_deref(), Some(&b"{}"[..]));
        assert_eq!(due.take(), None);
        due.repeat();
        assert_eq!(due.take().as_deref(), Some(&b"{}"[..]), "a new file");
    }
}
