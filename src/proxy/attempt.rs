//! One attempt: a request that is sent to one server.

use std::time::Instant;

use crate::domain::cluster::{InFlight, ServerState};
use crate::domain::directory::DirectoryServerId;
use crate::domain::select::{SelectionReason, ServerId};
use crate::upstream::deadline::{self, ResponseDeadline};
use crate::upstream::usage::{self, ConnectionUsage};
use crate::util::clock;
use crate::util::socket_fd::SocketFd;

/// Dropping it ends its deadline and what was counted for it.
#[derive(Debug)]
pub struct Attempt {
    pub server: ServerId,
    /// Counts the request among those of the server until the attempt ends.
    pub in_flight: InFlight,
    pub why: SelectionReason,
    /// The state of the server when it was chosen, and its index.
    pub state: ServerState,
    pub index: Option<f32>,
    /// The holder in the directory, for the 404 rule.
    pub holder: Option<DirectoryServerId>,
    /// The server gets another path of the database than the URL has.
    pub replace_path: bool,
    pub started: Instant,
    /// Whether the connection came from the pool.
    pub reused: bool,
    pub connection: Option<SocketFd>,
    /// How that connection was used before.
    pub usage: Option<ConnectionUsage>,
    /// The longest pause within the body; 0 = no limit.
    pub body_timeout_ms: u64,
    /// The deadline for the response's head, or for more of its body.
    pub due: Option<ResponseDeadline>,
    /// The connection must not be reused: it may have begun to carry a login.
    pub close_at_end: bool,
    /// The final head of the response arrived.
    pub answered: bool,
}

impl Attempt {
    /// This attempt as one that has failed just now.
    pub fn failed(&self, failure: AttemptFailure) -> FailedAttempt {
        let ms = clock::saturating_millis(self.started.elapsed());
        FailedAttempt { server: self.server, failure, ms: u32::try_from(ms).unwrap_or(u32::MAX) }
    }

    pub fn shut_down(&self) {
        if let Some(connection) = self.connection {
            connection.shut_down();
        }
    }

    /// The connection was shut down because the server missed a deadline.
    pub fn is_overdue(&self) -> bool {
        self.connection.is_some_and(deadline::has_expired)
    }

    /// Ends the deadline and the use of the connection, before another request may take it from a pool.
    pub fn release_connection(&mut self, now_ms: u64) {
        if let Some(due) = self.due.take() {
            due.clear();
        }
        // Without a response the connection is not reused, and its number may already belong to another one.
        if let Some(connection) = self.connection.take().filter(|_| self.answered) {
            usage::end_request(connection, now_ms);
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.connection.is_some() || self.due.is_some() {
            self.release_connection(clock::now_ms());
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptFailure {
    /// The connect failed, so nothing was sent.
    Connect,
    /// The connection broke before the response's head.
    Broken,
    /// The response's head did not come in time.
    Timeout,
    /// The status is one of `failover.retry_statuses`.
    Status(u16),
    /// 404 from a server that holds the database according to the directory.
    NotFound,
    /// The response is not valid HTTP: the cause is the request, not the server's health.
    Malformed,
}

/// An attempt that has failed.
#[derive(Clone, Copy, Debug)]
pub struct FailedAttempt {
    pub server: ServerId,
    pub failure: AttemptFailure,
    /// From the choice of the server to the failure, in milliseconds.
    pub ms: u32,
}

impl AttemptFailure {
    /// The cause in the access log and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Broken => "broken",
            Self::Timeout => "timeout",
            Self::Status(_) => "status",
            Self::NotFound => "not_found",
            Self::Malformed => "malformed response",
        }
    }
}
