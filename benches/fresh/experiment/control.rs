//! The control port of the simulated cluster: it stops and starts servers, and knows which replica lacks what.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use super::{DATABASES, SERVERS, client};

/// One replica at the moment of a poll.
#[derive(Clone, Debug, Default)]
pub struct ReplicaState {
    pub modified_ms: u64,
    /// The documents of which another replica has a newer revision: the number of its own, 0 without one, and of the
    /// newest.
    pub lacks: BTreeMap<String, (u64, u64)>,
}

/// All replicas at one moment.
#[derive(Clone, Debug, Default)]
pub struct ReplicaPoll {
    /// Seconds after the beginning, when it was asked for.
    pub at: f64,
    pub running: [bool; 3],
    /// By server and database.
    pub replicas: BTreeMap<(usize, usize), ReplicaState>,
}

/// The control port, as a client.
pub struct Control {
    client: reqwest::Client,
    address: SocketAddr,
}

impl Control {
    pub fn of(address: SocketAddr) -> Control {
        Control { client: client::http(1), address }
    }

    /// Changes a server; the change is in effect when this returns.
    pub async fn set(&self, server: &str, patch: &Value) {
        self.post(&format!("/servers/{server}"), &patch.to_string()).await;
    }

    pub async fn post(&self, path: &str, body: &str) -> Value {
        self.answer(self.client.post(self.url(path)).body(body.to_owned())).await
    }

    /// The state of replication: `servers`, `databases`, `behind` and `edits`.
    pub async fn replication(&self) -> Value {
        self.answer(self.client.get(self.url("/replication"))).await
    }

    /// Waits until the queue of a server holds changes that will be lost with it.
    pub async fn wait_for_unreplicated_changes(&self, server: &str) {
        for _ in 0..300 {
            let report = self.replication().await;
            let queue = &report["servers"][format!("{server}/Acme")]["queue"];
            if queue.as_array().is_some_and(|queue| !queue.is_empty()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("nobody writes on {server}");
    }

    pub async fn poll(&self, at: f64) -> ReplicaPoll {
        let report = self.replication().await;
        let mut poll = ReplicaPoll { at, ..ReplicaPoll::default() };
        for (server, name) in SERVERS.iter().enumerate() {
            poll.running[server] = report["servers"][format!("{name}/Acme")]["running"] == true;
        }
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        for copy in list(&report["databases"]).iter().flat_map(|database| list(&database["copies"])) {
            let Some(key) = replica(&copy) else { continue };
            poll.replicas.entry(key).or_default().modified_ms = copy["modified_ms"].as_u64().unwrap();
        }
        for lack in list(&report["behind"]) {
            let Some(key) = replica(&lack) else { continue };
            let revisions = (lack["seq"].as_u64().unwrap(), lack["newest_seq"].as_u64().unwrap());
            let unid = lack["unid"].as_str().unwrap().to_owned();
            poll.replicas.entry(key).or_default().lacks.insert(unid, revisions);
        }
        poll
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Value {
        let answer = request.send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "acme: {status} {text}");
        serde_json::from_str(&text).unwrap()
    }
}

/// Positions of the server and the database that an item names.
fn replica(item: &Value) -> Option<(usize, usize)> {
    let server = item["server"].as_str()?.split('/').next()?;
    let path = item["path"].as_str()?;
    let server = SERVERS.iter().position(|name| *name == server)?;
    let database = DATABASES.iter().position(|(known, _)| known.eq_ignore_ascii_case(path))?;
    Some((server, database))
}

/// Waits until an `icm` no longer reports the server as UNREACHABLE.
pub async fn wait_until_noticed(admin: SocketAddr, server: &str) {
    let client = client::http(1);
    let name = format!("{server}/Acme");
    for _ in 0..600 {
        if let Ok(answer) = client.get(format!("http://{admin}/status")).send().await
            && let Ok(text) = answer.text().await
            && let Ok(status) = serde_json::from_str::<Value>(&text)
            && state_of(&status, &name).is_some_and(|state| state != "UNREACHABLE")
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("icm does not notice that {server} has returned");
}

fn state_of<'a>(status: &'a Value, server: &str) -> Option<&'a str> {
    let clusters = status["clusters"].as_array()?;
    let mut servers = clusters.iter().flat_map(|cluster| cluster["servers"].as_array().into_iter().flatten());
    servers.find(|one| one["name"] == server)?["state"].as_str()
}
