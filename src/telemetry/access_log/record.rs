//! The fields of a line as plain data, which the formats read.

use std::net::IpAddr;

use http::Version;
use smallvec::SmallVec;

use crate::domain::directory::ReplicaId;

/// One request; an empty field or `None` is unknown.
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
    /// As sent to the client; 499 where it left before, 0 where there was no response.
    pub status: u16,
    /// Bytes of the response's body that were sent.
    pub sent: u64,
    /// Bytes of the request's body that were received.
    pub received: u64,
    /// As the client wrote it.
    pub referer: &'a [u8],
    /// As the client wrote it.
    pub user_agent: &'a [u8],
    /// The cluster that the request belongs to.
    pub cluster: Option<&'a str>,
    /// Path and replica ID, where the directory knows the database.
    pub database: Option<(&'a str, ReplicaId)>,
    /// The server of the last attempt.
    pub server: Option<LoggedServer<'a>>,
    /// All attempts in order with the cause of their failure; `None` = the response was passed on.
    pub attempts: LoggedAttempts<'a>,
    /// Why selection chose this server, or none.
    pub why: &'static str,
    /// The error page that was the response.
    pub page: Option<&'static str>,
    /// Milliseconds from the request's head to the response's head.
    pub first_byte_ms: Option<u64>,
    /// Milliseconds from the request's head to the end.
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
