//! What would happen to a request, and why: the proxy's own routing and selection, told instead of done.
//!
//! In: a snapshot and a URL. Out: cluster, database, one line a candidate with its state, index and reason,
//! and who would serve; where several are equal, the whole band. It sends nothing and changes nothing.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use http::{Method, header};
use pingora_http::RequestHeader;
use serde::{Deserialize, Serialize};

use crate::config::settings::{HostPattern, Mode};
use crate::domain::cluster::Port;
use crate::domain::select::{Outcome, Verdict};
use crate::proxy::failover::decide;
use crate::proxy::local_reply::LocalReply;
use crate::proxy::route::{self, TargetUri};
use crate::proxy::routed::Routed;
use crate::state::{Balancer, Snapshot};
use crate::util::clock;
use crate::util::visible;

/// The whole answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Explanation {
    /// As it was asked, completed.
    pub url: String,
    /// `serve`, `choice`, `list`, or the word of the problem.
    pub outcome: String,
    /// The status that the client would see from us; `None` where the server's answer passes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Which cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// `proxy` or `redirect`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// The database, when the directory knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<Database>,
    /// What the request does: `safe`, `acting`, `unknown`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Who would serve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Why that one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Everybody who is as light as the one who would serve, that one included.
    pub band: Vec<String>,
    /// In the order of elimination, the chosen one last.
    pub candidates: Vec<Candidate>,
    /// What the reader should know besides.
    pub notes: Vec<String>,
}

/// The database that the URL names.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Database {
    pub path: String,
    pub replica_id: String,
    pub title: String,
    pub replicas: usize,
}

/// One server that was considered.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Candidate {
    pub server: String,
    pub state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    pub mark: String,
    pub verdict: String,
    pub chosen: bool,
}

/// What is asked about: a URL, and of the request around it what may decide.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// `http://www.acme.example/sales/leads.nsf?OpenDatabase`, or only a path.
    pub url: String,
    /// As if the client had come by this scheme; `None` = the URL's, else http.
    pub scheme: Option<Port>,
    /// Empty = GET.
    pub method: String,
    /// The Host header; empty = the URL's, else the first of the configuration.
    pub host: String,
    /// The Cookie header, or only the value of the affinity cookie; empty = a new user.
    pub cookie: String,
    /// The Referer header.
    pub referer: String,
    /// The client's address.
    pub client: Option<IpAddr>,
}

impl Request {
    /// Only a URL.
    #[must_use]
    pub fn of(url: &str) -> Self {
        Self { url: url.to_owned(), ..Self::default() }
    }

    /// With what else stands in the query of `/explain`.
    ///
    /// # Errors
    /// When `client` is no address.
    pub fn from_arguments(
        url: String,
        scheme: Option<Port>,
        argument: &impl Fn(&[u8]) -> Option<String>,
    ) -> Result<Self, &'static str> {
        let client = match argument(b"client").filter(|text| !text.is_empty()) {
            Some(text) => Some(text.parse().map_err(|_| "`client` is an IP address: 192.0.2.7")?),
            None => None,
        };
        let text = |name: &[u8]| argument(name).unwrap_or_default();
        Ok(Self {
            url,
            scheme,
            method: text(b"method"),
            host: text(b"host"),
            cookie: text(b"cookie"),
            referer: text(b"referer"),
            client,
        })
    }

    /// The head that this request would have.
    fn head(&self, snapshot: &Snapshot, authority: &str, target: &str) -> Result<RequestHeader, String> {
        let method = if self.method.is_empty() { "GET".to_owned() } else { self.method.to_ascii_uppercase() };
        let build = || -> pingora::Result<RequestHeader> {
            let mut head = RequestHeader::build(method.as_str(), target.as_bytes(), Some(4))?;
            head.insert_header(header::HOST, authority)?;
            if !self.cookie.is_empty() {
                let name = snapshot.clusters.first().map_or("ICM", |c| &c.settings.affinity.cookie);
                let value = match self.cookie.contains('=') {
                    true => self.cookie.clone(),
                    false => format!("{name}={}", self.cookie),
                };
                head.insert_header(header::COOKIE, value)?;
            }
            if !self.referer.is_empty() {
                head.insert_header(header::REFERER, self.referer.as_str())?;
            }
            Ok(head)
        };
        build().map_err(|error| error.to_string())
    }

    /// What the client's address decides: no rule of selection looks at it.
    fn note_client(&self, snapshot: &Snapshot, notes: &mut Vec<String>) {
        let Some(client) = self.client else { return };
        let listeners = &snapshot.settings.listeners;
        let trusting = listeners.iter().filter(|l| l.trusted_proxies.iter().any(|net| net.contains(&client)));
        let trusting: Vec<String> = trusting.map(|l| l.address.to_string()).collect();
        if !trusting.is_empty() {
            notes.push(format!(
                "{client} is a trusted proxy at {}: its X-Forwarded-For and -Proto say who the client is",
                trusting.join(", ")
            ));
        }
        let rate = snapshot.settings.limits.per_client_requests;
        if rate > 0 {
            notes.push(format!("{client} may ask {rate} times a second, more gets 429"));
        }
        if trusting.is_empty() && rate == 0 {
            notes.push(format!("nothing depends on the client's address {client}"));
        }
    }
}

/// Explains what would happen to a request.
#[must_use]
pub fn explain(snapshot: &Arc<Snapshot>, request: &Request) -> Explanation {
    let (scheme_of_url, host, target) = split(&request.url);
    let tls = request.scheme.unwrap_or(scheme_of_url) == Port::Https;
    let authority = match request.host.as_str() {
        "" => host.map(str::to_owned).unwrap_or_else(|| usual_host(snapshot)),
        host => host.to_owned(),
    };
    let scheme_word = if tls { "https" } else { "http" };
    let mut explanation = Explanation {
        url: format!("{scheme_word}://{authority}{target}"),
        outcome: String::new(),
        status: None,
        cluster: None,
        mode: None,
        database: None,
        class: None,
        server: None,
        why: None,
        band: Vec::new(),
        candidates: Vec::new(),
        notes: Vec::new(),
    };
    let head = match request.head(snapshot, &authority, &target) {
        Ok(head) => head,
        Err(error) => {
            explanation.outcome = "bad_request".to_owned();
            explanation.status = Some(400);
            explanation.notes.push(error);
            return explanation;
        }
    };
    request.note_client(snapshot, &mut explanation.notes);
    let uri = TargetUri { authority: &authority, target: target.as_bytes(), tls };
    match route::route(snapshot, &head, uri) {
        Ok(routed) => told(&mut explanation, &routed, &head.method),
        Err(LocalReply::Rejected(problem) | LocalReply::Problem(problem, _)) => {
            explanation.status = Some(problem.status());
            explanation.outcome = problem.word().to_owned();
        }
        Err(LocalReply::Choice(cluster, view, ambiguous)) => {
            explanation.cluster = Some(cluster.settings.name.clone());
            explanation.outcome = "choice".to_owned();
            explanation.status = Some(300);
            for found in view.directory.index.ambiguous(ambiguous) {
                let database = view.directory.index.database(found.database);
                explanation.notes.push(format!(
                    "one of the databases with this path: {} ({})",
                    visible::word(database.title()),
                    database.replica_id()
                ));
            }
        }
        Err(LocalReply::List(cluster, _)) => {
            explanation.cluster = Some(cluster.settings.name.clone());
            explanation.outcome = "list".to_owned();
            explanation.status = Some(200);
        }
        // Not of routing.
        Err(LocalReply::RedirectToHttps(..) | LocalReply::RedirectToServer { .. } | LocalReply::Options) => {}
    }
    explanation
}

fn told(explanation: &mut Explanation, routed: &Routed, method: &Method) {
    let settings = &routed.cluster.settings;
    explanation.cluster = Some(settings.name.clone());
    explanation.mode = Some(if settings.mode == Mode::Proxy { "proxy" } else { "redirect" }.to_owned());
    explanation.class = Some(
        match routed.class {
            crate::domain::url::Class::Safe => "safe",
            crate::domain::url::Class::Acting => "acting",
            crate::domain::url::Class::Unknown => "unknown",
        }
        .to_owned(),
    );
    let index = &routed.view.directory.index;
    if let Some(found) = &routed.database.found {
        let database = index.database(found.database);
        explanation.database = Some(Database {
            path: database.path().to_owned(),
            replica_id: database.replica_id().to_string(),
            title: database.title().to_owned(),
            replicas: database.replicas().len(),
        });
    } else if routed.database.tag.is_some() {
        explanation
            .notes
            .push("the directory does not know this database: every member is a candidate".to_owned());
    }
    let decision = decide(routed, &[]);
    let mut problem = None;
    match decision.outcome {
        Outcome::Serve(member, why) => {
            explanation.outcome = "serve".to_owned();
            explanation.server = routed.view.entry(member).map(|e| e.server.name.to_string());
            explanation.why = Some(why.to_string());
            if settings.mode == Mode::Redirect {
                explanation.status =
                    Some(if matches!(*method, Method::GET | Method::HEAD) { 302 } else { 307 });
            }
        }
        Outcome::Full => problem = Some("overloaded"),
        Outcome::NoteIdServerGone => problem = Some("note_id_server_gone"),
        Outcome::OutOfService => problem = Some("out_of_service"),
        Outcome::NoServer => problem = Some("no_server"),
    }
    if let Some(word) = problem {
        explanation.outcome = word.to_owned();
        explanation.status = Some(503);
    }
    for (member, verdict) in &decision.verdicts {
        let Some(entry) = routed.view.entry(*member) else { continue };
        let holder = routed.holder(*member);
        let name = entry.server.name.to_string();
        // Where nobody else could have been drawn, the one who was chosen is the whole band.
        if decision.band.contains(member) || decision.chosen() == Some(*member) {
            explanation.band.push(name.clone());
        }
        explanation.candidates.push(Candidate {
            server: name,
            state: entry.member.state().word().to_owned(),
            index: entry.member.index(),
            path: holder.map(|h| h.path().to_owned()),
            mark: holder.map_or("in_service", |h| h.mark.word()).to_owned(),
            verdict: verdict.to_string(),
            chosen: matches!(verdict, Verdict::Chosen(_)),
        });
    }
    if let Some(found) = &routed.database.found {
        let strangers = index.holders(found).filter(|h| routed.view.member_of(h.server).is_none()).count();
        if strangers > 0 {
            explanation.notes.push(format!("{strangers} more replicas lie on servers that are no members"));
        }
    }
}

impl Explanation {
    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = format!("{}\n", self.url);
        if let Some(cluster) = &self.cluster {
            let _ = writeln!(
                out,
                "cluster   {cluster}{}",
                self.mode.as_ref().map(|m| format!(" ({m})")).unwrap_or_default()
            );
        }
        if let Some(database) = &self.database {
            let _ = writeln!(
                out,
                "database  {} ({}){}",
                database.path,
                database.replica_id,
                if database.title.is_empty() {
                    String::new()
                } else {
                    format!(" \"{}\"", visible::word(&database.title))
                }
            );
        }
        if let Some(class) = &self.class {
            let _ = writeln!(out, "command   {class}");
        }
        let width = self.candidates.iter().map(|c| c.server.chars().count()).max().unwrap_or(0);
        for candidate in &self.candidates {
            let index = candidate.index.map_or_else(|| "-".to_owned(), |i| format!("{i:.0}"));
            let _ = writeln!(
                out,
                "  {} {:width$}  {:<11} index {index:>3}  {}{}",
                if candidate.chosen { "*" } else { " " },
                candidate.server,
                candidate.state,
                candidate.verdict,
                candidate.path.as_ref().map(|p| format!("  [{p}]")).unwrap_or_default(),
            );
        }
        for note in &self.notes {
            let _ = writeln!(out, "note      {note}");
        }
        match (&self.server, &self.why) {
            (Some(server), Some(why)) if self.band.len() > 1 => {
                let _ = writeln!(out, "served by {server}: {why}; equal: {}", self.band.join(", "));
            }
            (Some(server), Some(why)) => {
                let _ = writeln!(out, "served by {server}: {why}");
            }
            _ => {
                let status = self.status.map(|s| format!(" ({s})")).unwrap_or_default();
                let _ = writeln!(out, "answer    {}{status}", self.outcome);
            }
        }
        out
    }
}

/// `--offline`: nothing was probed, so every enabled port is assumed to answer.
pub fn assume_reachable(balancer: &Balancer) {
    let now = clock::now_ms();
    for cluster in &balancer.snapshot().clusters {
        for entry in &cluster.view.load().entries {
            for port in [Port::Http, Port::Https] {
                if entry.host_port(port).is_some() {
                    entry.member.probed(port, Ok(200), now);
                }
            }
        }
    }
}

/// Scheme, authority if any, and the target of a URL or a path.
fn split(url: &str) -> (Port, Option<&str>, String) {
    let lower = url.get(..8).unwrap_or(url).to_ascii_lowercase();
    let (port, rest) = if lower.starts_with("https://") {
        (Port::Https, url.get(8..))
    } else if lower.starts_with("http://") {
        (Port::Http, url.get(7..))
    } else {
        (Port::Http, None)
    };
    let Some(rest) = rest else {
        let slash = if url.starts_with('/') { "" } else { "/" };
        return (port, None, format!("{slash}{url}"));
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, target) = rest.split_at_checked(end).unwrap_or((rest, ""));
    let slash = if target.starts_with('/') { "" } else { "/" };
    (port, Some(host), format!("{slash}{target}"))
}

/// The first exact host name of the first cluster.
fn usual_host(snapshot: &Snapshot) -> String {
    snapshot
        .clusters
        .iter()
        .flat_map(|c| &c.settings.hostnames)
        .find_map(|pattern| match pattern {
            HostPattern::Exact(name) => Some(name.clone()),
            HostPattern::Wildcard(_) => None,
        })
        .unwrap_or_else(|| "localhost".to_owned())
}
