//! State changes as events: one place that logs them, counts them and keeps the last ones.
//!
//! In: transitions of servers, readings of directories, reloads. Out: log lines and a bounded tail
//! for the status page.

use parking_lot::Mutex;
use std::borrow::Cow;
use std::collections::VecDeque;

use serde::Serialize;

use crate::domain::cluster::{ServerName, ServerState, Transition};
use crate::util::clock;
use crate::util::control_chars;

/// How many are kept.
const MAX_EVENTS: usize = 200;

/// One thing that happened.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    /// Counts up from 1 in the process's life.
    pub number: u64,
    /// Milliseconds since 1970.
    pub at: u64,
    /// `server`, `directory`, `members`, `reload`, `follow`, `restrictions`, `upgrade`.
    pub kind: &'static str,
    /// Which cluster, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Which server, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The state that was left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<&'static str>,
    /// The state that was entered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<&'static str>,
    /// How long the old state held, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_ms: Option<u64>,
    /// Why, or what.
    pub cause: String,
}

/// The tail of events.
#[derive(Debug, Default)]
pub struct Events(Mutex<VecDeque<Event>>);

impl Events {
    /// A server changed its state.
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

    /// A port of a server changed, and the server's state did not.
    pub fn record_port_change(&self, level: log::Level, cluster: &str, server: &ServerName, text: String) {
        log::log!(target: "icm::state", level, "{cluster}: {server}: {text}");
        self.push(Event {
            number: 0,
            at: clock::unix_ms(),
            kind: "server",
            cluster: Some(cluster.to_owned()),
            server: Some(server.to_string()),
            old: None,
            new: None,
            held_ms: None,
            cause: text,
        });
    }

    /// Anything else worth a line.
    pub fn record(&self, level: log::Level, kind: &'static str, cluster: Option<&str>, text: String) {
        match cluster {
            Some(cluster) => log::log!(target: "icm::event", level, "{cluster}: {text}"),
            None => log::log!(target: "icm::event", level, "{text}"),
        }
        self.push(Event {
            number: 0,
            at: clock::unix_ms(),
            kind,
            cluster: cluster.map(str::to_owned),
            server: None,
            old: None,
            new: None,
            held_ms: None,
            cause: text,
        });
    }

    /// The last ones, newest first.
    #[must_use]
    pub fn newest_first(&self) -> Vec<Event> {
        self.0.lock().iter().rev().cloned().collect()
    }

    /// The last ones, oldest first.
    #[must_use]
    pub fn oldest_first(&self) -> Vec<Event> {
        self.0.lock().iter().cloned().collect()
    }

    /// Gives the event its number. What caused it may come from a server: it is shown escaped everywhere.
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
