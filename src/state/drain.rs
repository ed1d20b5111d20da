//! How far the emptying of a RESTRICTED server is: what is in flight there, and who may still come back.
//!
//! In: a server's name. Out: plain numbers and a verdict with its reason. The balancer keeps no sessions (the
//! users' cookies do), so who is still inside is not known: only when the last answer was given there, and when
//! the last cookie that names the server ends. It changes nothing.

use serde::{Deserialize, Serialize};

use super::{Balancer, restrictions};
use crate::util::clock;

/// One server of one cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DrainProgress {
    /// The cluster's name.
    pub cluster: String,
    /// The server's abbreviated name.
    pub server: String,
    /// Its state now.
    pub state: String,
    /// Everything that restricts it now.
    pub restrictions: Vec<String>,
    /// Requests of this balancer in flight there, tunnels among them.
    pub in_flight: u32,
    /// WebSocket tunnels, which may last for hours.
    pub tunnels: u32,
    /// Milliseconds since the last answer from there; `None` = none since this process began.
    pub last_answer_ms: Option<u64>,
    /// Milliseconds for which users may still come back to it; 0 = nobody is sent there any more.
    pub may_return_ms: u64,
    /// Nothing is in flight and nobody can come back.
    pub empty: bool,
    /// Why, or why not yet, in words.
    pub reason: String,
    /// Databases that only this server can give to new users.
    pub last_replicas: LastReplicas,
}

/// Databases, and the first of them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LastReplicas {
    /// How many.
    pub count: usize,
    /// Paths.
    pub examples: Vec<String>,
}

/// The progress on every member that answers to `name`. `examples`: how many databases to name; `None` = the
/// directory is not looked through at all.
#[must_use]
pub fn drain_progress(balancer: &Balancer, name: &str, examples: Option<usize>) -> Vec<DrainProgress> {
    let now = clock::now_ms();
    let mut servers = Vec::new();
    for cluster in &balancer.snapshot().clusters {
        let view = cluster.view.load();
        let affinity = &cluster.settings.affinity;
        for entry in view.entries.iter().filter(|e| e.config.name.answers_to(name)) {
            let member = &entry.server;
            let snapshot = member.snapshot();
            let last_answer_ms = member.last_answer_ms().map(|at| now.saturating_sub(at));
            // A cookie names the server since its last answer, or, as far as we know, since we began.
            let idle = last_answer_ms.unwrap_or_else(|| now.saturating_sub(clock::START_OFFSET_MS));
            let cookie_left = clock::saturating_millis(affinity.idle_timeout).saturating_sub(idle);
            let may_return_ms = match snapshot.restricted_since_ms {
                _ if !affinity.enabled => 0,
                Some(since) => {
                    let elapsed_ms = now.saturating_sub(since);
                    cookie_left
                        .min(clock::saturating_millis(affinity.drain_timeout).saturating_sub(elapsed_ms))
                }
                None => cookie_left,
            };
            let restricted = snapshot.restricted_since_ms.is_some();
            let empty = restricted && snapshot.in_flight == 0 && may_return_ms == 0;
            servers.push(DrainProgress {
                cluster: cluster.settings.name.clone(),
                server: entry.config.name.to_string(),
                state: member.state().as_str().to_owned(),
                restrictions: member.read(|health| health.restrictions()),
                in_flight: snapshot.in_flight,
                tunnels: member.tunnels(),
                last_answer_ms,
                may_return_ms,
                empty,
                reason: reason(restricted, snapshot.in_flight, may_return_ms),
                last_replicas: examples.map_or_else(LastReplicas::default, |limit| {
                    let mut paths = restrictions::last_replicas(&view, &entry.config.name);
                    let count = paths.len();
                    paths.truncate(limit);
                    LastReplicas { count, examples: paths }
                }),
            });
        }
    }
    servers
}

fn reason(restricted: bool, in_flight: u32, may_return_ms: u64) -> String {
    if !restricted {
        "it is not RESTRICTED: new users are sent there".to_owned()
    } else if in_flight > 0 {
        format!("{in_flight} requests in flight")
    } else if may_return_ms > 0 {
        let left = std::time::Duration::from_secs(may_return_ms.div_ceil(1_000));
        format!("nothing in flight; users may still come back for {}", humantime::format_duration(left))
    } else {
        "nothing in flight, and nobody is sent there any more".to_owned()
    }
}
