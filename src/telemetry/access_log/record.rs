//! One finished request as plain data for the formats.

use std::net::IpAddr;

use http::Version;
use smallvec::SmallVec;

use crate::domain::directory::ReplicaId;

/// One finished request; an empty field or `None` is unknown.
#[derive(Debug, Default)]
pub struct Record<'a> {
    /// The address of the client, if applicable from a trusted proxy.
    pub client: Option<IpAddr>,
    /// The subject of the client's certificate, if it showed one.
    pub client_subject: Option<&'a str>,
    /// The method, such as `GET`.
    pub method: &'a str,
    /// The Host header as the client sent it.
    pub host: &'a [u8],
    /// Path and query as the client sent them.
    pub target: &'a [u8],
    /// The protocol between client and `icm`.
    pub protocol: Version,
    /// The status sent to the client; 499 if the client left before, 0 if there was no response.
    pub status: u16,
    /// Bytes of the response body sent to the client.
    pub sent: u64,
    /// Bytes of the request body received from the client.
    pub received: u64,
    /// The Referer header as the client sent it.
    pub referer: &'a [u8],
    /// The User-Agent header as the client sent it.
    pub user_agent: &'a [u8],
    /// The cluster that the request belongs to.
    pub cluster: Option<&'a str>,
    /// The name of the route that the request took.
    pub route: Option<&'a str>,
    /// Path and replica ID, if the directory has the database.
    pub database: Option<(&'a str, ReplicaId)>,
    /// The server of the last attempt.
    pub server: Option<LoggedServer<'a>>,
    /// All attempts in order.
    pub attempts: LoggedAttempts<'a>,
    /// Why selection chose this server, or none.
    pub why: &'static str,
    /// The error page that was the response.
    pub page: Option<&'static str>,
    /// The request ID; empty where the cluster has none.
    pub request_id: &'a [u8],
    /// The access rule that denied the request.
    pub access_rule: Option<&'a str>,
    /// A rehearsed failover has moved the user.
    pub is_rehearsed: bool,
    /// Milliseconds from the request header to the response header.
    pub first_byte_ms: Option<u64>,
    /// Milliseconds from the request header to the end.
    pub total_ms: u64,
}

/// The server of each attempt and why it failed; `None` = its response was passed on.
pub type LoggedAttempts<'a> = SmallVec<[(&'a str, Option<&'static str>); 3]>;

/// A server at the moment it was chosen.
#[derive(Clone, Copy, Debug)]
pub struct LoggedServer<'a> {
    /// The abbreviated name, such as `Web1/Acme`.
    pub name: &'a str,
    /// The state, such as `AVAILABLE`.
    pub state: &'static str,
    /// The ranking index, from 0 to 100.
    pub index: Option<f32>,
}
