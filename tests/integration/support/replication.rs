//! A simulated cluster that replicates: documents through URLs, servers that stop and start, and waits for a state of
//! replication.

use serde_json::{Value, json};

use super::acme::Acme;
use super::answer::Answer;
use super::browser::Browser;
use super::client::Client;
use super::eventually;
use super::status::MAX_WAIT;

/// Three servers that hold two databases, and one database on two of them. Without HTTPS, so that a server whose HTTP
/// port is dead is UNREACHABLE. `replication:` is missing.
const THREE_REPLICATING_SERVERS: &str = "
servers:
  - { name: Web1/Acme, https: false }
  - { name: Web2/Acme, https: false }
  - { name: Web3/Acme, https: false }
users: { ICM Reader/Acme: reader }
databases:
  - { path: cldbdir.nsf, replica_id: C1256A2F00310002, replicas: all }
  - { path: all.nsf, replica_id: C1257A000041D201, title: All, replicas: all }
  - { path: other.nsf, replica_id: C1257A000041D204, title: Other, replicas: all }
  - { path: two.nsf, replica_id: C1257A000041D202, title: Two, replicas: [Web1, { server: Web2, path: apps/two.nsf }] }
";

impl Acme {
    /// Three servers that replicate, with these settings of all servers as a YAML map: `{ push_ms: 50 }`.
    pub fn replicating(settings: &str) -> Acme {
        Acme::start(&format!("{THREE_REPLICATING_SERVERS}replication: {settings}\n"))
    }

    /// Stops a server: its ports refuse, its connections are reset, its memory is lost.
    pub fn stop_server(&self, name: &str) {
        self.ask("POST", &format!("/servers/{name}/stop"), None);
    }

    /// Starts a server that was stopped.
    pub fn start_server(&self, name: &str) {
        self.ask("POST", &format!("/servers/{name}/start"), None);
    }

    /// The state of replication: `servers`, `databases`, `behind`, `edits`.
    pub fn replication(&self) -> Value {
        self.ask("GET", "/replication", None)
    }

    /// A statistic of a server's Cluster Replicator, such as `Retry.Waiting`.
    pub fn replica_statistic(&self, server: &str, name: &str) -> u64 {
        let server = &self.server(server).name;
        self.replication()["servers"][server]["statistics"][name].as_u64().unwrap()
    }

    /// Starts a standard replication between all running servers, and returns how many documents it copied.
    pub fn replicate(&self) -> u64 {
        self.ask("POST", "/replicate", Some(&json!({})))["documents"].as_u64().unwrap()
    }

    /// Waits until the state of replication satisfies the condition.
    pub fn wait_for_replication(&self, what: &str, is_so: impl Fn(&Value) -> bool) {
        let came = eventually(MAX_WAIT, || is_so(&self.replication()));
        assert!(came, "never {what}: {:#}", self.replication());
    }

    /// Waits until no copy lacks the newest revision of a document.
    pub fn wait_until_replicated(&self) {
        self.wait_for_replication("replicated", |state| state["behind"] == json!([]));
    }
}

/// A client of documents: with cookies or without.
pub trait DocumentClient {
    fn ask(&mut self, method: &str, target: &str, form: &str) -> Answer;
}

impl DocumentClient for Client {
    fn ask(&mut self, method: &str, target: &str, form: &str) -> Answer {
        self.request(method, target, &[FORM], form.as_bytes())
            .unwrap_or_else(|e| panic!("{method} {target}: {e:?}"))
    }
}

impl DocumentClient for Browser {
    fn ask(&mut self, method: &str, target: &str, form: &str) -> Answer {
        self.request(method, target, &[FORM], form.as_bytes())
    }
}

const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

fn encode_form(fields: &[(&str, &str)]) -> String {
    let encode = |text| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC);
    fields.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect::<Vec<_>>().join("&")
}

/// Creates a document, or changes the one that the field `unid` names, and returns its page: `unid`, `seq`, `server`
/// and so on.
pub fn create_document(client: &mut impl DocumentClient, database: &str, fields: &[(&str, &str)]) -> Value {
    let target = format!("/{database}/Memo?CreateDocument&echo=json");
    found(&target, &client.ask("POST", &target, &encode_form(fields))).unwrap()
}

/// Changes a document as an editor who had seen revision `base_seq`. `None` if the copy does not have it.
pub fn change_document(
    client: &mut impl DocumentClient,
    database: &str,
    unid: &str,
    base_seq: u64,
    text: &str,
) -> Option<Value> {
    let form = encode_form(&[("base_seq", &base_seq.to_string()), ("text", text)]);
    let target = format!("/{database}/0/{unid}?SaveDocument&echo=json");
    found(&target, &client.ask("POST", &target, &form))
}

/// Reads a document. `None` if the copy does not have it.
pub fn read_document(client: &mut impl DocumentClient, database: &str, unid: &str) -> Option<Value> {
    let target = format!("/{database}/0/{unid}?OpenDocument&echo=json");
    found(&target, &client.ask("GET", &target, ""))
}

/// The page of a document; `None` for 404.
fn found(target: &str, answer: &Answer) -> Option<Value> {
    assert!(matches!(answer.status, 200 | 404), "{target}: {}\n{}", answer.head, answer.text());
    (answer.status == 200).then(|| answer.json())
}
