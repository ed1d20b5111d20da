//! The fields of a line as plain data. Whoever answers a request fills them in; the formats only read them.

use std::net::IpAddr;

use http::Version;
use smallvec::SmallVec;

use crate::directory::ReplicaId;

/// One request; empty or `None` where there is nothing to say.
#[derive(Debug, Default)]
pub struct Record<'a> {
    /// The client's address, as a trusted proxy gave it where there is one.
    pub client: Option<IpAddr>,
    /// `GET`
    pub method: &'a str,
    /// The Host as the client wrote it.
    pub host: &'a [u8],
    /// Path and query as the client wrote them.
    pub target: &'a [u8],
    /// `HTTP/1.1`
    pub protocol: Version,
    /// What the client saw; 499 when it left before that, 0 when there was nothing to see.
    pub status: u16,
    /// Octets of the answer's body that were sent.
    pub sent: u64,
    /// Octets of the request's body that came.
    pub received: u64,
    /// As the client wrote it.
    pub referer: &'a [u8],
    /// As the client wrote it.
    pub user_agent: &'a [u8],
    /// Which cluster took it.
    pub cluster: Option<&'a str>,
    /// Path and replica ID, where the directory knows the database.
    pub database: Option<(&'a str, ReplicaId)>,
    /// The server that answered, or was the last to be asked.
    pub server: Option<LoggedServer<'a>>,
    /// All attempts in order with the cause of their failure; `None` = the response was passed on.
    pub attempts: LoggedAttempts<'a>,
    /// Why this server, or why none.
    pub why: &'static str,
    /// Which page of ours was the answer.
    pub page: Option<&'static str>,
    /// Milliseconds from the head to the answer's first octet.
    pub first_byte_ms: Option<u64>,
    /// Milliseconds from the head to the end.
    pub total_ms: u64,
}

/// The server of each attempt, and why the attempt failed.
pub type LoggedAttempts<'a> = SmallVec<[(&'a str, Option<&'static str>); 3]>;

/// A server as it was when it was chosen.
#[derive(Clone, Copy, Debug)]
pub struct LoggedServer<'a> {
    /// `Web1/Acme`
    pub name: &'a str,
    /// `AVAILABLE`
    pub state: &'static str,
    /// 0..=100
    pub index: Option<f32>,
}
