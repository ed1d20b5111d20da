//! A server that sends the same bytes to every request, for responses that the simulated cluster never sends.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use super::listener::Listener;

pub struct FixedResponseServer {
    pub address: SocketAddr,
    answer: Arc<Mutex<Vec<u8>>>,
    heads: Arc<Mutex<Vec<String>>>,
    _listener: Listener,
}

impl FixedResponseServer {
    /// Answers every request with these bytes and closes the connection.
    pub fn new(answer: &str) -> FixedResponseServer {
        let answer = Arc::new(Mutex::new(answer.as_bytes().to_vec()));
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (response, seen) = (answer.clone(), heads.clone());
        let listener = Listener::start(move |mut stream, _| {
            let response = response.lock().unwrap().clone();
            let mut head = Vec::new();
            let mut piece = [0; 4096];
            while !head.windows(4).any(|w| w == b"\r\n\r\n") {
                match stream.read(&mut piece) {
                    Ok(n) if n > 0 => head.extend_from_slice(&piece[..n]),
                    _ => return,
                }
            }
            seen.lock().unwrap().push(String::from_utf8_lossy(&head).into_owned());
            let _ = stream.write_all(&response);
        });
        FixedResponseServer { address: listener.address, answer, heads, _listener: listener }
    }

    /// Changes the response from the next connection on.
    pub fn say(&self, answer: &str) {
        *self.answer.lock().unwrap() = answer.as_bytes().to_vec();
    }

    /// A configuration with this as the only server, and an empty directory.
    pub fn config(&self) -> serde_yaml::Value {
        config_for(self.address)
    }

    /// The heads of all requests so far, probes included.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

/// A configuration with one server at this address, and an empty directory.
pub fn config_for(server: SocketAddr) -> serde_yaml::Value {
    let text = format!(
        "
listeners: [ {{ address: \"127.0.0.1:{}\" }} ]
admin: {{ address: \"127.0.0.1:{}\" }}
clusters:
- name: AcmeWeb
  servers: {{ source: static, list: [ {{ name: Web1/Acme, hostname: web1.acme.example, http: \"{server}\" }} ] }}
  directory: {{ source: static, databases: [] }}
",
        super::free_port(),
        super::free_port(),
    );
    serde_yaml::from_str(&text).unwrap()
}
