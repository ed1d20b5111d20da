//! A server that records every byte of every connection, also after the end of a request: a smuggled request would stand there.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

type Recordings = Arc<Mutex<Vec<Vec<u8>>>>;

/// Ends when dropped.
pub struct RecordingServer {
    /// Where it listens.
    pub address: SocketAddr,
    tapes: Recordings,
    stop: Arc<AtomicBool>,
}

/// A short answer that keeps the connection.
pub const OK: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok";

impl RecordingServer {
    /// Answers each whole request with what `answer` says to its head, and keeps the connection unless that says
    /// `Connection: close`.
    pub fn new(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> RecordingServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, tapes, answer) =
            (Arc::new(AtomicBool::new(false)), Recordings::default(), Arc::new(answer));
        let (ended, all) = (stop.clone(), tapes.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let number = {
                    let mut all = all.lock().unwrap();
                    all.push(Vec::new());
                    all.len() - 1
                };
                let (all, answer) = (all.clone(), answer.clone());
                std::thread::spawn(move || record(stream, number, &all, &*answer));
            }
        });
        RecordingServer { address, tapes, stop }
    }

    /// What a connection received whose bytes have this text in them.
    pub fn with(&self, text: &str) -> Vec<String> {
        let all = self.tapes.lock().unwrap();
        all.iter().map(|t| String::from_utf8_lossy(t).into_owned()).filter(|t| t.contains(text)).collect()
    }

    /// A configuration for a cluster with this as its only server, and an empty directory.
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
            let recorder = &mut all[number];
            recorder.extend_from_slice(&piece[..read]);
            let head = head_of_a_whole(&recorder[from..]);
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

/// The head, when the request is there to its end.
fn head_of_a_whole(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let lower = head.to_ascii_lowercase();
    let length = lower.lines().find_map(|l| l.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    let over = if lower.contains("transfer-encoding: chunked") {
        body.ends_with("\r\n\r\n") && (body.contains("\r\n0\r\n") || body.starts_with("0\r\n"))
    } else {
        body.len() >= length.unwrap_or(0)
    };
    over.then(|| head.to_owned())
}

impl Drop for RecordingServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}
