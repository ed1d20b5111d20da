//! `pingora`: Pingora's own `ServerConf`. Keys and types come from Pingora, so that a new release needs no change here.

use std::path::PathBuf;
use std::sync::Arc;

use pingora::server::configuration::ServerConf;
use serde_yaml::{Mapping, Value};

use super::file_access::Named;
use super::keys;
use super::reader::Item;
use super::tls;
use super::values::{self, ValueError};

/// Longer than the default of `failover.response_timeout`, so that a restart cuts no response off.
const GRACE_PERIOD_SECONDS: u64 = 75;
/// Idle connections to servers that each thread keeps.
const KEEPALIVE_POOL_SIZE: u64 = 512;
/// High enough that `failover.attempts` ends a failover, not Pingora: it counts failed connections too.
const MAX_RETRIES: u64 = 64;

/// Keys that matter only if Pingora puts the process into the background.
const DAEMON_KEYS: &[&str] = &[
    "error_log",
    "user",
    "group",
    "working_directory",
    "daemon_wait_for_ready",
    "daemon_ready_timeout_seconds",
    "daemon_notify_timeout_seconds",
];

/// All keys of `ServerConf`.
pub(super) fn known() -> Vec<String> {
    match serde_yaml::to_value(ServerConf::default()) {
        Ok(Value::Mapping(map)) => map.keys().filter_map(|k| k.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    }
}

pub(super) struct PingoraSettings {
    pub server_conf: ServerConf,
    pub pid_file: Option<PathBuf>,
    /// The certificates of `ca_file` in DER.
    pub upstream_ca: Option<Arc<Vec<Vec<u8>>>>,
}

pub(super) fn settings(item: &Item<'_>) -> PingoraSettings {
    let known = known();
    let mut map = Mapping::new();
    let mut pid_file = None;
    let mut upstream_ca = None;
    for (key, entry) in item.entries() {
        match key {
            "daemon" => entry.error_at_key(
                ValueError::new("is not available")
                    .hint("remove it: icm stays in the foreground, run it under systemd"),
            ),
            "max_retries" => entry.error_at_key(
                ValueError::new("is not available")
                    .hint("remove it and set `failover.attempts` of each cluster"),
            ),
            key if known.iter().any(|k| k == key) => {
                let authorities = (key == "ca_file" && entry.is_present()).then(|| tls::authorities(&entry));
                let is_good = !matches!(authorities, Some(None));
                upstream_ca = upstream_ca.or(authorities.flatten().map(|(_, list)| list));
                if let Some(value) = checked(key, &entry).filter(|_| is_good) {
                    map.insert(Value::from(key), value);
                }
                if key == "pid_file" {
                    pid_file = entry.path(Named::Written);
                }
                if DAEMON_KEYS.contains(&key) {
                    entry.warn("has no effect: icm stays in the foreground");
                }
            }
            key => unknown_key(key, &entry, &known),
        }
    }
    set_defaults(&mut map);
    let server_conf = serde_yaml::from_value::<ServerConf>(Value::Mapping(map)).unwrap_or_else(|error| {
        // Each key was accepted on its own, so this is not expected.
        item.error_at_key(ValueError::new(error.to_string()));
        ServerConf::default()
    });
    PingoraSettings { server_conf, pid_file, upstream_ca }
}

fn unknown_key(key: &str, entry: &Item<'_>, known: &[String]) {
    let offered = known.iter().map(String::as_str).filter(|k| !matches!(*k, "daemon" | "max_retries"));
    let home = keys::ALL.iter().find(|section| section.has(key)).map(|section| section.name);
    // Pingora has too many keys to list them all beside a suggestion.
    let hint = match (values::similar(key, offered.clone()), home) {
        (Some(word), _) => format!("did you mean `{word}`? see conf/full.yaml for all keys"),
        (None, Some("")) => "it belongs at the top level, see conf/full.yaml".to_owned(),
        (None, Some(home)) => format!("it belongs in `{home}`, see conf/full.yaml"),
        (None, None) => format!("known here: {}", offered.collect::<Vec<_>>().join(", ")),
    };
    entry.error_at_key(ValueError::new("unknown key").hint(hint));
}

fn set_defaults(map: &mut Mapping) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for (key, default) in [
        ("threads", cores as u64),
        ("grace_period_seconds", GRACE_PERIOD_SECONDS),
        ("upstream_keepalive_pool_size", KEEPALIVE_POOL_SIZE),
        ("max_retries", MAX_RETRIES),
    ] {
        if !map.contains_key(key) {
            map.insert(Value::from(key), Value::from(default));
        }
    }
}

/// The value if Pingora accepts it for this key.
fn checked(key: &str, entry: &Item<'_>) -> Option<Value> {
    let value = match serde_yaml::to_value(entry.value?) {
        Ok(value) => value,
        Err(error) => {
            entry.error(ValueError::new(error.to_string()).hint("remove the tag"));
            return None;
        }
    };
    let single = Mapping::from_iter([(Value::from(key), value.clone())]);
    let problem = match serde_yaml::from_value::<ServerConf>(Value::Mapping(single)) {
        Err(error) => {
            let text = error.to_string();
            Some(text.strip_prefix(&format!("{key}: ")).map_or(text.clone(), str::to_owned))
        }
        Ok(conf) => conf.validate().err().map(|e| {
            let text = e.context.as_ref().map_or_else(|| e.to_string(), |c| c.as_str().to_owned());
            text.strip_prefix(&format!("{key} ")).map_or(text.clone(), str::to_owned)
        }),
    };
    if let Some(problem) = problem {
        entry.error(ValueError::new(problem));
        return None;
    }
    match key {
        // Tokio and the listeners panic on zero.
        "threads" | "listener_tasks_per_fd" => {
            entry.integer::<u64>(1, 1024)?;
        }
        // Pingora panics on a wrong address when it makes a connector.
        "client_bind_to_ipv4" => {
            for address in entry.list() {
                address.parsed("an IPv4 address", parse_ip::<std::net::Ipv4Addr>)?;
            }
        }
        "client_bind_to_ipv6" => {
            for address in entry.list() {
                address.parsed("an IPv6 address", parse_ip::<std::net::Ipv6Addr>)?;
            }
        }
        _ => {}
    }
    Some(value)
}

fn parse_ip<T: std::str::FromStr>(text: &str) -> Result<T, ValueError> {
    text.parse().map_err(|_| ValueError::new(format!("`{text}` is not an address of this IP version")))
}
