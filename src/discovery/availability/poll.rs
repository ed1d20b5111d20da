//! Polls an availability source once, within one timeout. Intervals and retries belong to the task that polls.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::companion::{self, CompanionDocument};
use super::statistics::{ParseError, ParsedReport};
use super::{agent_check, console, prometheus};
use crate::config::settings::{Auth, AvailabilitySource};
use crate::discovery::domino::login::{LoginError, LoginSessions, fetch_authenticated};
use crate::discovery::domino::{DominoClient, DominoRequest, FetchError};
use crate::discovery::server_url::{self, ServerPlace, ServerUrlError};
use crate::domain::cluster::{AvailabilityReport, ServerName};
use crate::util::clock;

/// Large, because node_exporter may report a lot about its machine.
const MAX_BODY_BYTES: usize = 8 << 20;
const MAX_LINE_BYTES: usize = 4096;
/// Where `conf/domino` puts the companion.
const COMPANION_TARGET: &str = "/icm.nsf/companion?OpenAgent";

/// The server that a source is polled for.
#[derive(Clone, Copy, Debug)]
pub struct PollTarget<'a> {
    /// Its common name replaces `{name}`.
    pub name: &'a ServerName,
    /// Replaces `{hostname}` in a URL.
    pub hostname: &'a str,
    /// Its IP address replaces `{address}`; the port is not used.
    pub address: SocketAddr,
    /// The port from which views are read, and whether it is the HTTPS port; the companion's by default.
    pub reading_port: (SocketAddr, bool),
    /// Logins at the companion, shared with the readers of views.
    pub sessions: &'a LoginSessions,
    /// For the whole poll.
    pub timeout: Duration,
}

/// What a poll gave.
#[derive(Clone, Debug, Default)]
pub struct PollReading {
    /// The statistics of the server.
    pub report: AvailabilityReport,
    /// The document of a companion, which also knows replicas.
    pub companion: Option<Box<CompanionReading>>,
}

/// The document of a companion, and when it was read. Its replicas were read after the request was sent.
#[derive(Clone, Debug)]
pub struct CompanionReading {
    pub document: CompanionDocument,
    /// In milliseconds since 1970, as all times here.
    pub sent_unix_ms: u64,
    pub received_unix_ms: u64,
}

impl<'a> PollTarget<'a> {
    fn place(&self) -> ServerPlace<'a> {
        ServerPlace { name: self.name, hostname: self.hostname, address: self.address }
    }
}

/// Why a poll gave no report.
#[derive(Debug, thiserror::Error)]
pub enum PollError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The companion could not be fetched, or refused access.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// The URL turned out to be a cleartext one after its placeholders were replaced.
    #[error("{url}: the password is not sent in clear text: use https, or `allow_plaintext: true` in `auth`")]
    Plaintext { url: String },
    #[error(transparent)]
    Url(#[from] ServerUrlError),
    #[error("agent of {server} at {address}: {reason}")]
    Agent { server: ServerName, address: SocketAddr, reason: String },
    #[error("{from}: {reason}")]
    Parse { from: String, reason: ParseError },
    /// `observed` and `statpub` are not polled.
    #[error("this source is not polled")]
    NotPolled,
}

/// # Errors
/// When the source gives no known statistic within `target.timeout`.
pub async fn poll(
    client: &DominoClient,
    source: &AvailabilitySource,
    target: &PollTarget<'_>,
) -> Result<PollReading, PollError> {
    let report = match source {
        AvailabilitySource::Console { url } => read(client, url, target, console::parse).await?,
        AvailabilitySource::Prometheus { url } => read(client, url, target, prometheus::parse).await?,
        AvailabilitySource::AgentCheck { port } => agent(*port, target).await?,
        AvailabilitySource::Companion { .. } => {
            let companion = Box::new(ask_companion(client, source, target, "").await?);
            let report = companion.document.report.clone();
            return Ok(PollReading { report, companion: Some(companion) });
        }
        AvailabilitySource::Observed | AvailabilitySource::Statpub => return Err(PollError::NotPolled),
    };
    Ok(PollReading { report, companion: None })
}

/// Asks the companion of a server with more arguments in the URL, such as `&modified=...`.
///
/// # Errors
/// When `source` is no companion, or does not answer with its document within `target.timeout`.
pub async fn ask_companion(
    client: &DominoClient,
    source: &AvailabilitySource,
    target: &PollTarget<'_>,
    arguments: &str,
) -> Result<CompanionReading, PollError> {
    let AvailabilitySource::Companion { url, auth, allow_plaintext } = source else {
        return Err(PollError::NotPolled);
    };
    let auth = auth.as_ref().unwrap_or(&Auth::None);
    let started = tokio::time::Instant::now();
    let mut request = match url {
        Some(template) => server_url::get(template, &target.place(), target.timeout).await?,
        None => {
            let (address, https) = target.reading_port;
            DominoRequest::get(address, https, target.hostname, COMPANION_TARGET)
        }
    };
    request.target.push_str(arguments);
    // The configuration was checked with the placeholders in place.
    if !request.https && !*allow_plaintext && *auth != Auth::None && !request.address.ip().is_loopback() {
        return Err(PollError::Plaintext { url: request.url() });
    }
    request.timeout = target.timeout.saturating_sub(started.elapsed());
    request.max_body = MAX_BODY_BYTES;
    let sent_unix_ms = clock::unix_ms();
    let response = fetch_authenticated(client, &request, auth, target.sessions).await?;
    let received_unix_ms = clock::unix_ms();
    let response = response.success(&request)?;
    let failed = |reason| PollError::Parse { from: request.url(), reason };
    let document = companion::parse(&response.body).map_err(failed)?;
    if let Some(other) = document.server.as_ref().filter(|server| *server != target.name) {
        return Err(failed(ParseError::OtherServer(other.to_string())));
    }
    Ok(CompanionReading { document, sent_unix_ms, received_unix_ms })
}

async fn read(
    client: &DominoClient,
    template: &str,
    target: &PollTarget<'_>,
    parse: impl Fn(&[u8]) -> Result<ParsedReport, ParseError>,
) -> Result<AvailabilityReport, PollError> {
    let started = tokio::time::Instant::now();
    let mut request = server_url::get(template, &target.place(), target.timeout).await?;
    request.timeout = target.timeout.saturating_sub(started.elapsed());
    request.max_body = MAX_BODY_BYTES;
    let response = client.fetch(&request).await?.success(&request)?;
    match parse(&response.body) {
        Ok(parsed) => Ok(parsed.logged()),
        Err(reason) => Err(PollError::Parse { from: request.url(), reason }),
    }
}

async fn agent(port: u16, target: &PollTarget<'_>) -> Result<AvailabilityReport, PollError> {
    let address = SocketAddr::new(target.address.ip(), port);
    let failed = |reason: String| PollError::Agent { server: target.name.clone(), address, reason };
    let line = match tokio::time::timeout(target.timeout, agent_line(address)).await {
        Ok(Ok(line)) => line,
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Err(_) => return Err(failed(format!("no line within {:?}", target.timeout))),
    };
    match agent_check::parse(&line) {
        Ok(parsed) => Ok(parsed.logged()),
        Err(reason) => Err(PollError::Parse { from: address.to_string(), reason }),
    }
}

/// Reads up to a line end, the end of the connection, or the limit.
async fn agent_line(address: SocketAddr) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    let mut line = Vec::with_capacity(128);
    let mut limited = (&mut stream).take(MAX_LINE_BYTES as u64);
    loop {
        let read = limited.read_buf(&mut line).await?;
        if read == 0 || line.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
            return Ok(line);
        }
    }
}

#[cfg(test)]
mod tests;
