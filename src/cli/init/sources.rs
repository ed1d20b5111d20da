//! What else a running balancer could read from the members: their load, and modification times of databases. Each is only
//! tried; what no URL can show is said to be unknown.

use std::time::Duration;

use super::members::{FoundMember, Reader};
use super::target::resolve;
use crate::config::settings::{Auth, AvailabilitySource};
use crate::discovery::availability::{PollTarget, poll};
use crate::discovery::domino::request::host_header;
use crate::discovery::freshness::head::{HeadTarget, read_head};
use crate::domain::cluster::HostPort;

const POLL_TIMEOUT: Duration = Duration::from_secs(3);
/// Where the guide puts the agent that prints statistics.
const CONSOLE_PATH: &str = "/icmstat.nsf/stat?OpenAgent";
/// node_exporter, which serves the file of domprom.
const PROMETHEUS_URL: &str = "http://{address}:9100/metrics";

/// Where the load of the members can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FoundSource {
    /// No source answers for all members.
    None,
    Companion,
    Prometheus,
    /// One URL for all members, with placeholders.
    Console(String),
    /// A URL for each member, in their order.
    ConsoleOfEach(Vec<String>),
}

/// The source to use, and what each kind answered.
#[derive(Debug)]
pub(super) struct FoundSources {
    pub(super) use_this: FoundSource,
    pub(super) notes: Vec<String>,
}

/// Tries every source at each member that answers.
pub(super) async fn find(reader: Reader<'_>, members: &[FoundMember], allow_plaintext: bool) -> FoundSources {
    let reached: Vec<(&FoundMember, &HostPort)> = members
        .iter()
        .filter(|member| member.answer.is_ok())
        .filter_map(|member| Some((member, member.at.as_ref()?)))
        .collect();
    let mut notes = Vec::new();
    let mut kinds = Vec::new();
    for (kind, name) in
        [(Kind::Companion, "companion"), (Kind::Prometheus, "prometheus"), (Kind::Console, "console")]
    {
        let mut answers = Vec::new();
        for (member, at) in &reached {
            if let Some(result) = ask(reader, member, at, kind, allow_plaintext).await {
                answers.push((member.name.to_string(), result));
            }
        }
        let yes: Vec<&str> =
            answers.iter().filter(|(_, r)| r.is_ok()).map(|(name, _)| name.as_str()).collect();
        let why = answers.iter().find_map(|(_, result)| result.as_ref().err());
        let (all, some) = (yes.len() == reached.len() && !yes.is_empty(), !yes.is_empty());
        notes.push(match (all, some, why) {
            (true, ..) => format!("{name}: answers at every server"),
            (_, true, Some(why)) => format!("{name}: answers at {} only ({why})", yes.join(", ")),
            (.., Some(why)) => format!("{name}: no ({why})"),
            (.., None) => format!("{name}: not tried"),
        });
        if all {
            kinds.push(kind);
        }
    }
    let use_this = match kinds.first() {
        None => FoundSource::None,
        Some(Kind::Companion) => FoundSource::Companion,
        Some(Kind::Prometheus) => FoundSource::Prometheus,
        Some(Kind::Console) => consoles(members, reader.target.https),
    };
    FoundSources { use_this, notes }
}

#[derive(Clone, Copy)]
enum Kind {
    Companion,
    Prometheus,
    Console,
}

async fn ask(
    reader: Reader<'_>,
    member: &FoundMember,
    at: &HostPort,
    kind: Kind,
    allow_plaintext: bool,
) -> Option<Result<(), String>> {
    let address = resolve(at).await.ok()?;
    let target = PollTarget {
        name: &member.name,
        hostname: &member.hostname,
        address,
        reading_port: (address, reader.target.https),
        sessions: reader.sessions,
        timeout: POLL_TIMEOUT,
    };
    let source = match kind {
        Kind::Companion => AvailabilitySource::Companion {
            url: None,
            auth: Some(reader.auth.clone()).filter(|auth| *auth != Auth::None),
            allow_plaintext,
        },
        Kind::Prometheus => AvailabilitySource::Prometheus { url: PROMETHEUS_URL.to_owned() },
        Kind::Console => AvailabilitySource::Console { url: console_url(at, reader.target.https) },
    };
    Some(poll(reader.client, &source, &target).await.map(|_| ()).map_err(|error| error.to_string()))
}

/// `{hostname}` stands for the server, whose address is known; its name may not resolve here.
fn console_url(at: &HostPort, https: bool) -> String {
    let (scheme, default) = if https { ("https", 443) } else { ("http", 80) };
    let port = if at.port == default { String::new() } else { format!(":{}", at.port) };
    format!("{scheme}://{{hostname}}{port}{CONSOLE_PATH}")
}

/// One URL if all members have the same port.
fn consoles(members: &[FoundMember], https: bool) -> FoundSource {
    let each: Vec<String> =
        members.iter().filter_map(|member| member.at.as_ref()).map(|at| console_url(at, https)).collect();
    match each.first() {
        Some(first) if each.iter().all(|url| url == first) => FoundSource::Console(first.clone()),
        _ => FoundSource::ConsoleOfEach(each),
    }
}

/// Whether databases say when they were modified, which `freshness: { source: head }` needs.
pub(super) async fn modification_times(reader: Reader<'_>, path: &str) -> String {
    let target = HeadTarget {
        address: reader.target.address,
        https: reader.target.https,
        hostname: reader.target.at.host.clone(),
        host_header: host_header(&reader.target.at.host, reader.target.address, reader.target.https),
        path: path.to_owned(),
    };
    match read_head(reader.client, &target, reader.auth, reader.sessions).await {
        Ok(_) => format!(
            "freshness: {path} says when it was modified, so `freshness: {{ source: head }}` could tell which replica is \
             behind (docs/freshness.md)"
        ),
        Err(error) => format!("freshness: {path} does not say when it was modified ({error})"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::domain::cluster::ServerName;

    fn members(ports: &[u16]) -> Vec<FoundMember> {
        let member = |(number, port): (usize, &u16)| FoundMember {
            name: ServerName::parse(&format!("Web{number}/Acme")).unwrap(),
            hostname: format!("web{number}.acme.example"),
            at: Some(HostPort { host: format!("10.0.0.{number}"), port: *port }),
            source: String::new(),
            answer: Ok(String::new()),
            other: None,
        };
        ports.iter().enumerate().map(member).collect()
    }

    #[test]
    fn servers_with_the_same_port_share_one_url() {
        let one = |url: &str| FoundSource::Console(url.to_owned());
        assert_eq!(consoles(&members(&[80, 80]), false), one("http://{hostname}/icmstat.nsf/stat?OpenAgent"));
        assert_eq!(
            consoles(&members(&[80, 80]), true),
            one("https://{hostname}:80/icmstat.nsf/stat?OpenAgent")
        );
        let each = [
            "http://{hostname}/icmstat.nsf/stat?OpenAgent",
            "http://{hostname}:81/icmstat.nsf/stat?OpenAgent",
        ];
        assert_eq!(
            consoles(&members(&[80, 81]), false),
            FoundSource::ConsoleOfEach(each.map(str::to_owned).to_vec())
        );
    }
}
