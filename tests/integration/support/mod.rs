//! Helpers for tests of the real programs. All are blocking, so that a test reads from top to bottom.
//!
//! [`Acme`] is a simulated Domino cluster, [`Icm`] the product in front of it, [`Client`] an HTTP/1.1 client
//! that sends exact bytes, [`load`] many of them at once. Every process is killed when its value is dropped.
//!
//! ```ignore
//! use crate::support::*;
//!
//! #[test]
//! fn a_request_goes_to_the_server_that_holds_the_database() {
//!     let acme = Acme::built_in();
//!     let icm = Icm::start(config(&acme));
//!     let answer = Client::to(icm.address).get("/legacy/archive2009.nsf");
//!     assert_eq!(answer.header("x-acme-server"), Some("Web4/Acme"));
//! }
//! ```

mod acme;
mod answer;
mod authority;
mod browser;
mod chromium;
mod cli;
mod client;
mod cluster;
mod config;
pub mod documented_commands;
pub mod exposition;
mod fixed_response_server;
pub mod h2;
mod icm;
mod listener;
mod load;
mod logins;
mod recording_server;
mod replication;
pub mod schema;
mod scripted_server;
mod status;

use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

pub use acme::{Acme, MAX_DRIP_WAIT, SAMPLE, Server};
pub use answer::{Answer, Failure};
pub use authority::Authority;
pub use browser::Browser;
pub use chromium::Chromium;
pub use cli::{CliOutput, icm_cli};
pub use client::Client;
pub use cluster::{THREE_SERVERS, ask, start_cluster, start_scenario, start_with_equal_indexes};
pub use config::{
    add_cache, add_tls, config, config_of, config_with_equal_indexes, config_with_replicator_statistics,
    secret_file, set, sources_of, write_config,
};
pub use fixed_response_server::{FixedResponseServer, config_for};
pub use h2::{H2, NextFrame, StreamEnd, block_of, frame_of, h2_client};
pub use icm::Icm;
pub use load::{Tally, load, load_get};
pub use logins::assert_guesses_are_limited;
pub use recording_server::{OK, RecordingServer};
pub use replication::{change_document, create_document, read_document};
pub use scripted_server::{ScriptedServer, ServerConnection};
pub use status::MAX_WAIT;

/// Waits until the condition holds. Returns false if it does not hold within this time.
pub fn eventually(at_most: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if condition() {
            return true;
        }
        if start.elapsed() > at_most {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// Waits until the address accepts connections; a second listener may open a moment after the first.
pub fn wait_for(address: std::net::SocketAddr) -> std::net::SocketAddr {
    let listens = || std::net::TcpStream::connect(address).is_ok();
    assert!(eventually(Duration::from_secs(20), listens), "nothing listens on {address}");
    address
}

/// A free port below the range from which the kernel takes ports for outgoing connections, so that it is still free when the
/// program under test binds it.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    for _ in 0..11_000 {
        let n = u32::from(NEXT.fetch_add(1, Ordering::Relaxed)) + std::process::id().wrapping_mul(97);
        let port = 20_000 + (n % 11_000) as u16;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between 20000 and 31000");
}

/// Raises this process's limit of open files, for tests with thousands of connections, and returns it.
pub fn raise_open_file_limit() -> u64 {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let limit = soft.max(hard.min(1 << 16));
    setrlimit(Resource::RLIMIT_NOFILE, limit, hard).unwrap();
    limit
}

/// Writes an executable shell script with `install(1)`. If this process had it open for writing, a child that another
/// test starts at that moment would inherit the descriptor, and executing the script would fail with ETXTBSY.
pub fn write_script(path: &std::path::Path, text: &str) {
    use std::io::Write;
    let mut install = std::process::Command::new("install")
        .args(["-m", "755", "/dev/stdin"])
        .arg(path)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    install.stdin.take().unwrap().write_all(format!("#!/bin/sh\n{text}\n").as_bytes()).unwrap();
    assert!(install.wait().unwrap().success());
}

/// An identifier for `X-Request-Id` that no other test uses.
pub fn unique_id() -> String {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Sends a signal (`HUP`, `STOP`, ...) to a process that the test started. After `STOP` it returns only when all
/// of the process's threads have stopped: kill(2) returns earlier, while some may still answer.
pub fn signal(pid: u32, name: &str) {
    use std::str::FromStr;
    let signal = nix::sys::signal::Signal::from_str(&format!("SIG{name}")).unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    nix::sys::signal::kill(pid, signal).unwrap();
    if name == "STOP" {
        let stopped = || {
            let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
            let state = |dir: std::fs::DirEntry| std::fs::read_to_string(dir.path().join("status")).unwrap();
            threads.map(|t| state(t.unwrap())).all(|status| status.contains("State:\tT"))
        };
        assert!(eventually(Duration::from_secs(5), stopped), "process {pid} does not stop");
    }
}
