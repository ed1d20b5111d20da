//! What can be changed on a running server: statistics, sources and directory traps. In: a JSON patch.
//! Out: a new immutable set. Faults are in `faults.rs`, as they count and expire.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// The state of one server; every key can be in `PUT /servers/<name>` and in a scenario's `set:`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Server.AvailabilityIndex; null = not published by any source.
    pub index: Option<f64>,
    /// Server.AvailabilityThreshold.
    pub threshold: u32,
    /// Server.Users.
    pub users: u32,
    /// Server_Restricted, 0 to 4.
    pub restricted: u8,
    /// Server_MaxUsers.
    pub maxusers: u32,
    /// The exporter's maintenance window is now.
    pub maintenance: bool,
    /// The metrics port answers 200 with metrics.
    pub prometheus: bool,
    /// stat_update_timestamp no longer advances.
    pub frozen: bool,
    /// The reduced metrics that stay after a shutdown.
    pub shutdown: bool,
    /// The console text page answers.
    pub console: bool,
    /// The console text carries the administrator's extra lines (Server_Restricted and so on).
    pub recipe: bool,
    /// The agent-check port answers; false closes the connection without a word.
    pub agent_check: bool,
    /// The agent-check line; null = made from index, restricted and maintenance.
    pub agent: Option<String>,
    /// Statistics are pushed.
    pub statpub: bool,
    /// Where to; `{name}` is the common name.
    pub statpub_url: Option<String>,
    /// Bearer token of the push.
    pub statpub_token: Option<String>,
    /// Milliseconds between pushes.
    pub statpub_interval_ms: u64,
    /// Appears with the cluster's name in the names view.
    pub member: bool,
    /// Requests on one connection, then `Connection: close`; 0 = no limit.
    pub max_requests: u64,
    /// An idle connection is closed after so many milliseconds; 0 = never.
    pub keepalive_ms: u64,
    /// Requests with `&work=MS` that are worked on at once, the others wait in line; 0 = no limit.
    pub workers: usize,
    /// Part of the usual speed: at 0.1 work of 20 ms takes 200.
    pub speed: f64,
    /// Milliseconds between two indexes that are measured from how long work took; 0 = `index` is what is published.
    pub measure_index_ms: u64,
    /// Traps of the directory views (cldbdir.nsf and the names view).
    pub dir: DirectoryTraps,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            index: Some(100.0),
            threshold: 0,
            users: 10,
            restricted: 0,
            maxusers: 0,
            maintenance: false,
            prometheus: true,
            frozen: false,
            shutdown: false,
            console: true,
            recipe: true,
            agent_check: true,
            agent: None,
            statpub: true,
            statpub_url: None,
            statpub_token: None,
            statpub_interval_ms: 60_000,
            member: true,
            max_requests: 0,
            keepalive_ms: 0,
            workers: 0,
            speed: 1.0,
            measure_index_ms: 0,
            dir: DirectoryTraps::default(),
        }
    }
}

/// What goes wrong when views are read.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DirectoryTraps {
    /// `($Pathname)` and `($ReplicaID)` do not exist by URL.
    pub hidden_view_404: bool,
    /// JSON with `\<`, `\>` and `\!`, which no strict parser takes.
    pub invalid_escapes: bool,
    /// Titles end in an emoji, in XML as two references to surrogates.
    pub surrogates: bool,
    /// Every document twice.
    pub duplicates: bool,
    /// The body stops in the middle.
    pub truncated: bool,
    /// The view is empty.
    pub empty: bool,
    /// So many readings with Start above 1 find a document more than the one before; true = every one.
    #[serde(deserialize_with = "times")]
    pub changes_while_paging: u32,
    /// The login page with 200 instead of data.
    pub unauthorised: bool,
    /// "Not authorized" with 500.
    pub error500: bool,
    /// Milliseconds before the answer.
    pub slow: u64,
    /// Maximum lines per view page; 0 = no limit.
    pub count_cap: usize,
    /// So many documents at the end of the view are counted in toplevelentries and never given.
    pub withheld: usize,
    /// Only so many per cent of the documents are there.
    pub keep_percent: usize,
    /// A list with one member is the member itself in JSON.
    pub single_object: bool,
}

impl Default for DirectoryTraps {
    fn default() -> Self {
        DirectoryTraps {
            hidden_view_404: false,
            invalid_escapes: false,
            surrogates: false,
            duplicates: false,
            truncated: false,
            empty: false,
            changes_while_paging: 0,
            unauthorised: false,
            error500: false,
            slow: 0,
            count_cap: 1000,
            withheld: 0,
            keep_percent: 100,
            single_object: true,
        }
    }
}

fn times<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Times {
        Switch(bool),
        Number(u32),
    }
    Ok(match Times::deserialize(from)? {
        Times::Switch(on) => u32::from(on) * u32::MAX,
        Times::Number(n) => n,
    })
}

impl Settings {
    /// Connections may be kept for ever.
    pub fn is_unlimited(&self) -> bool {
        self.max_requests == 0 && self.keepalive_ms == 0
    }

    /// BUSY by Domino's rule: a threshold of 0 is never.
    pub fn busy(&self) -> bool {
        self.threshold > 0 && self.index.is_some_and(|index| index <= f64::from(self.threshold))
    }

    /// This with the patch's keys replaced, objects merged. Errors name the key.
    pub fn with_patch(&self, patch: &Value) -> Result<Settings, String> {
        let mut whole = serde_json::to_value(self).map_err(|e| e.to_string())?;
        merge(&mut whole, patch);
        let patched: Settings = serde_json::from_value(whole).map_err(|e| e.to_string())?;
        if !(patched.speed > 0.0 && patched.speed <= 1000.0) {
            return Err(format!("speed: {} is not over 0 and up to 1000", patched.speed));
        }
        Ok(patched)
    }
}

fn merge(into: &mut Value, patch: &Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, patch) => *into = patch.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_patch_changes_only_what_it_names() {
        let was = Settings { users: 7, ..Settings::default() };
        let is = was
            .with_patch(&json!({"index": null, "dir": {"slow": 5, "changes_while_paging": true}}))
            .unwrap();
        assert_eq!((is.index, is.users, is.dir.slow, is.dir.count_cap), (None, 7, 5, 1000));
        assert_eq!(is.dir.changes_while_paging, u32::MAX);
        assert!(was.with_patch(&json!({"indx": 3})).unwrap_err().contains("indx"));
    }
}
