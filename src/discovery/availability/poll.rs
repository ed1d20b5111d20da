//! Polls an availability source once, within one timeout. Intervals and retries belong to the task that polls.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::statistics::{ParseError, ParsedReport};
use super::{agent_check, console, prometheus};
use crate::config::settings::AvailabilitySource;
use crate::discovery::domino::{DominoClient, FetchError};
use crate::discovery::server_url::{self, ServerPlace, ServerUrlError};
use crate::domain::cluster::{AvailabilityReport, ServerName};

/// Large, because node_exporter may report a lot about its machine.
const MAX_BODY_BYTES: usize = 8 << 20;
const MAX_LINE_BYTES: usize = 4096;

/// The server that a source is polled for.
#[derive(Clone, Copy, Debug)]
pub struct PollTarget<'a> {
    /// Its common name replaces `{name}`.
    pub name: &'a ServerName,
    /// Replaces `{hostname}` in a URL.
    pub hostname: &'a str,
    /// Its IP address replaces `{address}`; the port is not used.
    pub address: SocketAddr,
    /// For the whole poll.
    pub timeout: Duration,
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
) -> Result<AvailabilityReport, PollError> {
    match source {
        AvailabilitySource::Console { url } => read(client, url, target, console::parse).await,
        AvailabilitySource::Prometheus { url } => read(client, url, target, prometheus::parse).await,
        AvailabilitySource::AgentCheck { port } => agent(*port, target).await,
        AvailabilitySource::Observed | AvailabilitySource::Statpub | AvailabilitySource::Companion { .. } => {
            Err(PollError::NotPolled)
        }
    }
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
