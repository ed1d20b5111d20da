//! A server that records every byte of every connection, including bytes after a request, where a smuggled one would be.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use super::listener::Listener;

type Recordings = Arc<Mutex<Vec<Vec<u8>>>>;

pub struct RecordingServer {
    pub address: SocketAddr,
    recordings: Recordings,
    _listener: Listener,
}

/// A short response that keeps the connection open.
pub const OK: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok";

impl RecordingServer {
    /// Answers each complete request with the result of `answer` for its head. Keeps the connection unless the response
    /// has `Connection: close`.
    pub fn new(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> RecordingServer {
        let recordings = Recordings::default();
        let all = recordings.clone();
        let listener = Listener::start(move |stream, number| record(stream, number, &all, &answer));
        RecordingServer { address: listener.address, recordings, _listener: listener }
    }

    /// The recordings that contain this text.
    pub fn with(&self, text: &str) -> Vec<String> {
        let all = self.recordings.lock().unwrap();
        all.iter().map(|t| String::from_utf8_lossy(t).into_owned()).filter(|t| t.contains(text)).collect()
    }

    /// A configuration with this as the only server, and an empty directory.
    pub fn config(&self) -> serde_yaml::Value {
        super::config_for(self.address)
    }
}

fn record(mut stream: TcpStream, number: usize, all: &Recordings, answer: &dyn Fn(&str) -> String) {
    let (mut from, mut piece) = (0, vec![0; 64 * 1024]);
    loop {
        let Ok(read) = stream.read(&mut piece) else { return };
        if read == 0 {
            return;
        }
        let whole = {
            let mut all = all.lock().unwrap();
            if all.len() <= number {
                all.resize_with(number + 1, Vec::new);
            }
            let recorder = &mut all[number];
            recorder.extend_from_slice(&piece[..read]);
            let head = head_of_complete_request(&recorder[from..]);
            from = head.as_ref().map_or(from, |_| recorder.len());
            head
        };
        if let Some(head) = whole {
            let answer = answer(&head);
            if stream.write_all(answer.as_bytes()).is_err() || answer.contains("Connection: close") {
                return;
            }
        }
    }
}

/// The head of a request that is complete.
fn head_of_complete_request(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let lower = head.to_ascii_lowercase();
    let length = lower.lines().find_map(|l| l.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    let complete = if lower.contains("transfer-encoding: chunked") {
        body.ends_with("\r\n\r\n") && (body.contains("\r\n0\r\n") || body.starts_with("0\r\n"))
    } else {
        body.len() >= length.unwrap_or(0)
    };
    complete.then(|| head.to_owned())
}
