//! Starting and stopping a simulated server. A server that stops loses what it has in memory, and keeps its documents.

use std::sync::atomic::Ordering::SeqCst;

use crate::clock;
use crate::cluster::{PortKind, SimulatedServer};

impl SimulatedServer {
    /// Whether the whole server is down, as opposed to one of its ports: stopped by the control port, or without power
    /// (a fault `refuse` with `kill`).
    pub fn is_down(&self) -> bool {
        let has_no_power = || self.port_fault(PortKind::Http).is_some_and(|fault| fault.kill);
        self.stopped.load(SeqCst) || (self.settings().replication && has_no_power())
    }

    /// Stops the server: its ports refuse, its connections are reset, its memory is lost.
    pub async fn stop(&self) {
        self.stopped.store(true, SeqCst);
        self.announce_change().await;
    }

    pub async fn start(&self) {
        self.stopped.store(false, SeqCst);
        self.announce_change().await;
    }

    /// Notices that the server went down or came up since the last call.
    pub fn note_power_change(&self) {
        let is_down = self.is_down();
        let was_down = self.was_down.swap(is_down, SeqCst);
        if is_down && !was_down {
            self.replicator.lock().unwrap().restart();
            self.sessions.lock().unwrap().clear();
            self.xpages.lock().unwrap().clear();
        } else if was_down && !is_down {
            self.replicator.lock().unwrap().started_ms = clock::now_ms();
        }
    }

    /// Returns when the connections of a port are to be reset.
    pub async fn killed(&self, port: PortKind) {
        let mut changes = self.changes.subscribe();
        while !self.port_fault(port).is_some_and(|fault| fault.kill) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// The server's own clock, in milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        clock::skewed_ms(self.settings().clock_skew_ms)
    }
}
