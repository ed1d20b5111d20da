//! Records events: changes of server states, readings of directories, reloads. Each is logged, and the last ones are
//! kept for `/events` and the status page.
use std::borrow::Cow;
use std::collections::VecDeque;

use parking_lot::Mutex;
use serde::Serialize;

use crate::domain::cluster::{ServerName, ServerState, Transition};
use crate::util::clock;
use crate::util::control_chars;

const MAX_EVENTS: usize = 200;

/// One event, as `/events` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    /// Counts from 1 since the start of the process.
    pub number: u64,
    /// When it happened, in milliseconds since 1970.
    pub at: u64,
    /// `server`, `directory`, `members`, `reload`, `follow`, `restrictions`, `upgrade`, `catch_up`,
    /// `freshness`, `acme`, `site`, `logins`, `rehearsal`.
    pub kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<&'static str>,
    /// How long the old state lasted, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_ms: Option<u64>,
    /// The cause of a change of state, or the text of any other event.
    pub cause: String,
}

/// The most recent events.
#[derive(Debug, Default)]
pub struct Events(Mutex<VecDeque<Event>>);

impl Events {
    /// Records a change of a server's state.
    pub fn record_transition(&self, cluster: &str, server: &ServerName, change: &Transition) {
        let level = match change.new {
            ServerState::Unreachable => log::Level::Warn,
            _ => log::Level::Info,
        };
        log::log!(
            target: "icm::state", level,
            "{cluster}: {server} {} -> {} after {}: {}",
            change.old, change.new, humantime::format_duration(std::time::Duration::from_millis(change.held_ms)),
            change.cause
        );
        self.push(Event {
            number: 0,
            at: clock::unix_ms(),
            kind: "server",
            cluster: Some(cluster.to_owned()),
            server: Some(server.to_string()),
            old: Some(change.old.as_str()),
            new: Some(change.new.as_str()),
            held_ms: Some(change.held_ms),
            cause: change.cause.clone(),
        });
    }

    /// Records a change of a port that did not change the server's state.
    pub fn record_port_change(&self, level: log::Level, cluster: &str, server: &ServerName, text: String) {
        log::log!(target: "icm::state", level, "{cluster}: {server}: {text}");
        self.push_text("server", Some(cluster), Some(server.to_string()), text);
    }

    /// Records any other event.
    pub fn record(&self, level: log::Level, kind: &'static str, cluster: Option<&str>, text: String) {
        match cluster {
            Some(cluster) => log::log!(target: "icm::event", level, "{cluster}: {text}"),
            None => log::log!(target: "icm::event", level, "{text}"),
        }
        self.push_text(kind, cluster, None, text);
    }

    #[must_use]
    pub fn newest_first(&self) -> Vec<Event> {
        self.0.lock().iter().rev().cloned().collect()
    }

    #[must_use]
    pub fn oldest_first(&self) -> Vec<Event> {
        self.0.lock().iter().cloned().collect()
    }

    fn push_text(&self, kind: &'static str, cluster: Option<&str>, server: Option<String>, text: String) {
        self.push(Event {
            number: 0,
            at: clock::unix_ms(),
            kind,
            cluster: cluster.map(str::to_owned),
            server,
            old: None,
            new: None,
            held_ms: None,
            cause: text,
        });
    }

    /// Numbers the event. Its cause may come from a server, so control characters are escaped.
    fn push(&self, mut event: Event) {
        if let Cow::Owned(cause) = control_chars::escape_except_newlines(&event.cause) {
            event.cause = cause;
        }
        let mut tail = self.0.lock();
        event.number = tail.back().map_or(0, |last| last.number) + 1;
        if tail.len() >= MAX_EVENTS {
            tail.pop_front();
        }
        tail.push_back(event);
    }
}
