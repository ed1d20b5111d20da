//! What a rolling maintenance tells while it runs: lines with the time for people, or one JSON object a line for programs.

use std::time::{Duration, Instant};

use serde_json::json;

use super::stop::StopReason;
use crate::cli::output;
use crate::util::clock;

/// An unchanged wait is told again after this time, so that the run does not seem to hang.
const REPEAT_INTERVAL: Duration = Duration::from_secs(60);

/// Prints the events of one run.
pub(super) struct MaintenanceReporter {
    json: bool,
    cluster: String,
    last_wait: Option<(String, Instant)>,
}

impl MaintenanceReporter {
    pub(super) fn new(cluster: &str, json: bool) -> Self {
        Self { json, cluster: cluster.to_owned(), last_wait: None }
    }

    /// Something has happened; `word` is for programs.
    pub(super) fn event(&mut self, word: &str, server: Option<&str>, text: &str) {
        self.last_wait = None;
        self.print(word, server, text);
    }

    /// The run waits for `what`; `detail` may change every second and is told only with it.
    pub(super) fn waiting(&mut self, server: &str, what: &str, detail: &str) {
        let is_known =
            self.last_wait.as_ref().is_some_and(|(last, at)| last == what && at.elapsed() < REPEAT_INTERVAL);
        if is_known {
            return;
        }
        self.last_wait = Some((what.to_owned(), Instant::now()));
        let detail = if detail.is_empty() { String::new() } else { format!(", {detail}") };
        self.print("waiting", Some(server), &format!("waiting: {what}{detail}"));
    }

    /// The run stops at a server.
    pub(super) fn stopped(&mut self, server: &str, reason: &StopReason, advice: &str) {
        if self.json {
            let (at, cluster, code) = (clock::unix_ms(), &self.cluster, reason.code());
            let text = reason.to_string();
            let event = json!({
                "at": at, "cluster": cluster, "server": server, "event": "stopped",
                "reason": code, "text": text, "advice": advice,
            });
            println!("{event}");
        } else {
            eprintln!("icm: stopped at {server}: {reason}\n{advice}");
        }
    }

    fn print(&self, word: &str, server: Option<&str>, text: &str) {
        let at = clock::unix_ms();
        if self.json {
            let cluster = &self.cluster;
            let event =
                json!({ "at": at, "cluster": cluster, "server": server, "event": word, "text": text });
            println!("{event}");
        } else {
            let place = server.unwrap_or(&self.cluster);
            output::print_line(&format!("{}  {place}: {text}", output::local_time(at)));
        }
    }
}
