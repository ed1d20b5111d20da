//! Reports how far a RESTRICTED server is drained: what is in flight there, and which users may still return. Sessions
//! are in the users' cookies, so the report rests on the server's last answer and the lifetime of a cookie.

use serde::{Deserialize, Serialize};

use super::{Balancer, restrictions};
use crate::util::clock;

/// The report about one server of one cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DrainProgress {
    pub cluster: String,
    /// The server's abbreviated name.
    pub server: String,
    pub state: String,
    /// Everything that restricts it, each with its origin.
    pub restrictions: Vec<String>,
    /// Requests of this balancer in flight there, including tunnels.
    pub in_flight: u32,
    /// WebSocket tunnels, which may last for hours.
    pub tunnels: u32,
    /// Milliseconds since its last answer; `None` = none since this process started.
    pub last_answer_ms: Option<u64>,
    /// Milliseconds for which users may still return; 0 = no user is sent there.
    pub may_return_ms: u64,
    /// Nothing is in flight and no user can return.
    pub empty: bool,
    /// Why it is empty or not, as a sentence.
    pub reason: String,
    /// Databases that only this server can serve to new users.
    pub last_replicas: LastReplicas,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LastReplicas {
    pub count: usize,
    /// Paths of the first of them.
    pub examples: Vec<String>,
}

/// Reports on every server named `name`. `examples` is the number of databases to name; with `None` the directory is
/// not searched.
#[must_use]
pub fn drain_progress(balancer: &Balancer, name: &str, examples: Option<usize>) -> Vec<DrainProgress> {
    let now = clock::now_ms();
    let mut servers = Vec::new();
    for cluster in &balancer.snapshot().clusters {
        let view = cluster.view.load();
        let affinity = &cluster.settings.affinity;
        for entry in view.entries.iter().filter(|e| e.config.name.answers_to(name)) {
            let server = &entry.server;
            let snapshot = server.snapshot();
            let last_answer_ms = server.last_answer_ms().map(|at| now.saturating_sub(at));
            // The newest cookie is as old as the last answer, or else as this process.
            let idle = last_answer_ms.unwrap_or_else(|| now.saturating_sub(clock::START_OFFSET_MS));
            let cookie_left = clock::saturating_millis(affinity.idle_timeout).saturating_sub(idle);
            let may_return_ms = match snapshot.restricted_since_ms {
                _ if !affinity.enabled || snapshot.closed => 0,
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
                state: server.state().as_str().to_owned(),
                restrictions: server.read(|health| health.restrictions()),
                in_flight: snapshot.in_flight,
                tunnels: server.tunnels(),
                last_answer_ms,
                may_return_ms,
                empty,
                reason: reason(restricted, snapshot.in_flight, may_return_ms),
                last_replicas: examples.map_or_else(LastReplicas::default, |limit| {
                    let mut paths = restrictions::last_replicas(cluster, &view, &entry.config.name);
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
        "nothing in flight, and no user is sent there".to_owned()
    }
}
