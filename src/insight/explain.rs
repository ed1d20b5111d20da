//! Explains what would happen to a request: runs the routing and the selection of the proxy, and reports the verdict on
//! each candidate instead of sending the request.

mod question;
mod rehearsal;
mod request;
mod route_servers;
mod text;

use std::sync::Arc;

use http::Method;
use serde::{Deserialize, Serialize};

use crate::acme::challenges::http_token;
use crate::config::settings::{Mode, RouteAction};
use crate::domain::cluster::{Port, SiteName};
use crate::domain::select::{
    CandidateVerdict, Decision, OwnWrite, SelectionOutcome, SelectionReason, ServerId,
};
use crate::proxy::caching;
use crate::proxy::failover::decide;
use crate::proxy::local_reply::LocalReply;
use crate::proxy::own_write;
use crate::proxy::route::{self, Routing, TargetUri};
use crate::proxy::routed::Routed;
use crate::state::{Balancer, Snapshot};
use crate::util::clock;
use crate::util::control_chars;
use question::{default_host, split_url};
use rehearsal::ExplainedRehearsal;
pub use request::ExplainRequest;

/// The answer of `/explain` and `icm explain --json`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Explanation {
    /// The URL of the question, with scheme and host added.
    pub url: String,
    /// `serve`, `choice`, `list`, `redirect`, `respond`, `files`, `save_check`, or the code of the problem.
    pub outcome: String,
    /// The status of an answer by `icm` itself; `None` if a server would answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// The route that takes the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// `None` if the directory does not know the database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<ExplainedDatabase>,
    /// Whether the request changes something: `safe`, `unsafe`, `unknown`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// The user's own last write to the database, by the write cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_write: Option<ExplainedWrite>,
    /// The rehearsed failover of this cluster, while one runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehearsal: Option<ExplainedRehearsal>,
    /// What the rules of `access` decide; `None` without rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<ExplainedAccess>,
    /// The pattern of `cache.paths` that the path matches: a stored response needs no server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Why this server is chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The servers that are as lightly loaded as the chosen one, and the chosen one.
    pub band: Vec<String>,
    /// In the order of elimination; the chosen one is last.
    pub candidates: Vec<ExplainedCandidate>,
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ExplainedDatabase {
    pub path: String,
    pub replica_id: String,
    pub title: String,
    pub replicas: usize,
}

/// What the rules of `access` decide about the request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExplainedAccess {
    /// The rule that decides; `None` if no rule matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Whether the request ends with an error page.
    pub denied: bool,
    /// The decision and its reason.
    pub text: String,
}

/// The user's own last write to the database.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExplainedWrite {
    /// The server that took it.
    pub server: String,
    /// The time of the answer in UTC.
    pub time: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ExplainedCandidate {
    pub server: String,
    pub state: String,
    /// Where the server is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Path and query as this server would get them, if the path of the database is replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    pub mark: String,
    pub verdict: String,
    pub chosen: bool,
    /// Whether the replica has the user's own last write: `included`, `unknown`, `missing`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_write: Option<String>,
}

/// Routes the request and selects a server as the proxy would. Sends nothing.
#[must_use]
pub fn explain(snapshot: &Arc<Snapshot>, request: &ExplainRequest) -> Explanation {
    let (scheme_of_url, host, target) = split_url(&request.url);
    let tls = request.scheme.unwrap_or(scheme_of_url) == Port::Https;
    let authority = match request.host.as_str() {
        "" => host.map(str::to_owned).unwrap_or_else(|| default_host(snapshot)),
        host => host.to_owned(),
    };
    let scheme = if tls { "https" } else { "http" };
    let mut explanation =
        Explanation { url: format!("{scheme}://{authority}{target}"), ..Explanation::default() };
    let head = match request.head(snapshot, &authority, &target) {
        Ok(head) => head,
        Err(error) => {
            explanation.outcome = "bad_request".to_owned();
            explanation.status = Some(400);
            explanation.notes.push(error);
            return explanation;
        }
    };
    // The proxy sees IPv4 clients of an IPv6 listener in this form, too.
    let client = request.client.map(|address| address.to_canonical());
    request.add_client_notes(snapshot, &mut explanation.notes);
    if http_token(target.as_bytes()).is_some() && !snapshot.settings.acme_hosts().is_empty() {
        let note = "while an ACME order has this token, `icm` answers itself, before it routes the request";
        explanation.notes.push(note.to_owned());
    }
    let uri = TargetUri { authority: &authority, target: target.as_bytes(), tls };
    explanation.access = route::access_of(snapshot, &head, uri, client, |decision| ExplainedAccess {
        rule: decision.rule().map(|rule| rule.name.to_string()),
        denied: decision.is_denied(),
        text: decision.to_string(),
    });
    let Routing { route, result } = route::route(snapshot, &head, uri, client);
    explanation.route = route.as_ref().map(|taken| taken.route.name.to_string());
    match result {
        Ok(routed) => add_routed(&mut explanation, &routed, &head.method, uri.target),
        Err(LocalReply::Rejected(problem)) => {
            explanation.status = Some(problem.status());
            explanation.outcome = problem.as_str().to_owned();
        }
        Err(LocalReply::Problem(problem, cluster)) => {
            explanation.cluster = cluster.map(|cluster| cluster.settings.name.clone());
            explanation.status = Some(problem.status());
            explanation.outcome = problem.as_str().to_owned();
        }
        Err(LocalReply::Denied(denial)) => {
            explanation.cluster = Some(denial.cluster.settings.name.clone());
            explanation.status = Some(denial.problem.status());
            explanation.outcome = denial.problem.as_str().to_owned();
        }
        Err(LocalReply::Choice(cluster, view, ambiguous)) => {
            explanation.cluster = Some(cluster.settings.name.clone());
            explanation.outcome = "choice".to_owned();
            explanation.status = Some(300);
            for found in view.directory.index.ambiguous_databases(ambiguous) {
                let database = view.directory.index.database(found.database);
                explanation.notes.push(format!(
                    "one of the databases with this path: {} ({})",
                    control_chars::escape_all(database.title()),
                    database.replica_id()
                ));
            }
        }
        Err(LocalReply::List(cluster, _)) => {
            explanation.cluster = Some(cluster.settings.name.clone());
            explanation.outcome = "list".to_owned();
            explanation.status = Some(200);
        }
        Err(LocalReply::RouteRedirect(cluster, status, location)) => {
            explanation.cluster = Some(cluster.settings.name.clone());
            explanation.outcome = "redirect".to_owned();
            explanation.status = Some(status);
            explanation.notes.push(format!("Location: {location}"));
        }
        Err(LocalReply::Fixed(cluster, response)) => {
            explanation.cluster = Some(cluster.settings.name.clone());
            explanation.outcome = "respond".to_owned();
            explanation.status = Some(response.status);
        }
        Err(LocalReply::File(cluster, file)) => {
            explanation.cluster = Some(cluster.settings.name.clone());
            explanation.outcome = "files".to_owned();
            explanation.notes.push(file.describe());
        }
        Err(LocalReply::SaveQuestion(question)) => {
            explanation.cluster = Some(question.cluster.settings.name.clone());
            explanation.outcome = "save_check".to_owned();
            let note = "`icm` asks the companions of the servers when the document was changed (failover.save_check)";
            explanation.notes.push(note.to_owned());
        }
        // Routing never returns these.
        Err(
            LocalReply::RedirectToHttps(..)
            | LocalReply::RedirectToServer { .. }
            | LocalReply::AcmeChallenge(_)
            | LocalReply::SaveAnswer(_)
            | LocalReply::Options,
        ) => {}
    }
    explanation
}

fn add_routed(explanation: &mut Explanation, routed: &Routed, method: &Method, target: &[u8]) {
    let settings = &routed.cluster.settings;
    explanation.cluster = Some(settings.name.clone());
    explanation.mode = Some(if settings.mode == Mode::Proxy { "proxy" } else { "redirect" }.to_owned());
    let class = match routed.class {
        crate::domain::url::RequestSafety::Safe => "safe",
        crate::domain::url::RequestSafety::Unsafe => "unsafe",
        crate::domain::url::RequestSafety::Unknown => "unknown",
    };
    explanation.class = Some(class.to_owned());
    let cache = routed.snapshot.settings.cache.as_ref();
    let listed = cache.filter(|_| matches!(*method, Method::GET | Method::HEAD));
    let pattern = listed.and_then(|cache| caching::listed_path(cache, target));
    explanation.cached_path = pattern.map(|pattern| format!("/{}", pattern.to_text()));
    add_database(explanation, routed);
    if let Some(RouteAction::HomeMail(home)) = routed.route.as_ref().map(|route| &route.action) {
        let agent = &home.agent;
        explanation
            .notes
            .push(format!("home_mail: this server is asked for the user's mail file by {agent}"));
    }
    let decision = decide(routed, &[]);
    add_outcome(explanation, routed, &decision.outcome, method);
    add_candidates(explanation, routed, &decision, target);
    explanation.add_unknown_servers(routed);
    add_own_write(explanation, routed, decision.chosen());
    explanation.rehearsal = rehearsal::explain(routed, decision.chosen());
    add_crossing(explanation, routed, &decision);
    add_certificate_note(explanation, routed, decision.chosen());
    if let Some(found) = &routed.database.found {
        let index = &routed.view.directory.index;
        let unknown =
            index.replicas_by_server(found).filter(|h| routed.view.server_id(h.server).is_none()).count();
        if unknown > 0 {
            explanation
                .notes
                .push(format!("{unknown} more replicas are on servers that the cluster does not have"));
        }
    }
}

fn add_database(explanation: &mut Explanation, routed: &Routed) {
    if let Some(found) = &routed.database.found {
        let database = routed.view.directory.index.database(found.database);
        explanation.database = Some(ExplainedDatabase {
            path: database.path().to_owned(),
            replica_id: database.replica_id().to_string(),
            title: database.title().to_owned(),
            replicas: database.replicas().len(),
        });
    } else if routed.cluster.settings.is_pool() {
        explanation
            .notes
            .push("a pool: every server is a candidate, and nothing of the URL is read".to_owned());
    } else if routed.database.tag.is_some() {
        explanation
            .notes
            .push("the directory does not know this database: every server is a candidate".to_owned());
    }
}

fn add_own_write(explanation: &mut Explanation, routed: &Routed, chosen: Option<ServerId>) {
    let Some(write) = &routed.affinity.last_write else { return };
    let Some(entry) = routed.view.server(write.server) else { return };
    explanation.own_write =
        Some(ExplainedWrite { server: entry.config.name.to_string(), time: rfc3339(write.unix_ms) });
    if chosen.is_some_and(|server| own_write::tells_about(routed, write, server, &[])) {
        explanation.notes.push(
            "a browser that opens this page is told first that the replica is older than its last write"
                .to_owned(),
        );
    }
}

/// Notes that the request leaves the site of this ICM, or that it may not.
fn add_crossing(explanation: &mut Explanation, routed: &Routed, decision: &Decision) {
    let Some(own) = routed.cluster.site.as_ref().filter(|_| routed.view.has_other_sites) else { return };
    let (server, why) = match decision.outcome {
        SelectionOutcome::Serve(server, why) => (server, why),
        _ if decision.verdicts.iter().any(|(_, verdict)| *verdict == CandidateVerdict::OtherSiteExcluded) => {
            let text = format!("cross_sites is never: no server of site {own} can take the request");
            return explanation.notes.push(text);
        }
        _ => return,
    };
    let Some(entry) = routed.view.server(server).filter(|entry| entry.of_other_site) else { return };
    let because = match why {
        SelectionReason::OtherSite | SelectionReason::SetAside | SelectionReason::LastResort => {
            format!("no server of site {own} takes it (cross_sites)")
        }
        _ => "the user belongs to this server".to_owned(),
    };
    let other = entry.config.site.as_ref().map_or("-", SiteName::as_str);
    explanation.notes.push(format!("the request crosses from site {own} to site {other}: {because}"));
}

/// Whether the chosen server would get the certificate of a client that shows one.
fn add_certificate_note(explanation: &mut Explanation, routed: &Routed, chosen: Option<ServerId>) {
    let Some(entry) = chosen.and_then(|server| routed.view.server(server)) else { return };
    if routed.cluster.settings.exposure_of(&entry.config).is_none() {
        return;
    }
    let name = &entry.config.name;
    explanation.notes.push(match routed.port {
        Port::Https => format!(
            "{name} gets the certificate of a client that shows one (connector_headers: client_certificate)"
        ),
        Port::Http => {
            format!("{name} gets no certificate of a client: this request would reach it without TLS")
        }
    });
}

fn own_write_on(routed: &Routed, server: ServerId) -> Option<String> {
    let own_write = match own_write::on_server(routed, routed.affinity.last_write.as_ref()?, server) {
        OwnWrite::Included => "included",
        OwnWrite::Unknown => "unknown",
        OwnWrite::Missing => "missing",
    };
    Some(own_write.to_owned())
}

fn rfc3339(unix_ms: u64) -> String {
    let at = i64::try_from(unix_ms).ok().and_then(chrono::DateTime::from_timestamp_millis);
    at.map(|at| at.format("%Y-%m-%dT%H:%M:%SZ").to_string()).unwrap_or_default()
}

fn add_outcome(explanation: &mut Explanation, routed: &Routed, outcome: &SelectionOutcome, method: &Method) {
    let problem = match outcome {
        SelectionOutcome::Serve(server, why) => {
            explanation.outcome = "serve".to_owned();
            explanation.server = routed.view.server(*server).map(|e| e.config.name.to_string());
            // A pool has no databases.
            let of_pool = *why == SelectionReason::Entry && routed.cluster.settings.pool_of.is_some();
            explanation.why = Some(if of_pool { "the user's server".to_owned() } else { why.to_string() });
            if routed.cluster.settings.mode == Mode::Redirect {
                let keeps_method = !matches!(*method, Method::GET | Method::HEAD);
                explanation.status = Some(if keeps_method { 307 } else { 302 });
            }
            return;
        }
        SelectionOutcome::Full => "overloaded",
        SelectionOutcome::NoteIdServerGone => "note_id_server_gone",
        SelectionOutcome::OutOfService => "out_of_service",
        SelectionOutcome::NoServer => "no_server",
    };
    explanation.outcome = problem.to_owned();
    explanation.status = Some(503);
}

fn add_candidates(explanation: &mut Explanation, routed: &Routed, decision: &Decision, target: &[u8]) {
    explanation.add_left_out(routed);
    for (server, verdict) in &decision.verdicts {
        let Some(entry) = routed.view.server(*server) else { continue };
        let holder = routed.replica_on(*server);
        let mark = routed.database.found.as_ref().and_then(|found| routed.view.mark_on(found, *server));
        let name = entry.config.name.to_string();
        // A server that was not drawn from a band is a band of its own.
        if decision.band.contains(server) || decision.chosen() == Some(*server) {
            explanation.band.push(name.clone());
        }
        explanation.candidates.push(ExplainedCandidate {
            server: name,
            state: entry.server.state().as_str().to_owned(),
            site: entry.config.site.as_ref().map(ToString::to_string),
            index: entry.server.index(),
            path: holder.map(|h| h.path().to_owned()),
            target: holder
                .filter(|h| routed.replaces_path(h, target))
                .and_then(|h| routed.target_for(&h, target))
                .map(|target| String::from_utf8_lossy(&target).into_owned()),
            mark: mark.map_or("in_service", |mark| mark.as_str()).to_owned(),
            verdict: rehearsal::describe_verdict(routed, (*server, entry), *verdict),
            chosen: matches!(verdict, CandidateVerdict::Chosen(_)),
            own_write: own_write_on(routed, *server),
        });
    }
}

/// For `--offline`: without probes, every enabled port is assumed to be up.
pub fn mark_ports_up(balancer: &Balancer) {
    let now = clock::now_ms();
    for cluster in &balancer.snapshot().clusters {
        for entry in &cluster.view.load().entries {
            for port in [Port::Http, Port::Https] {
                if entry.host_port(port).is_some() {
                    entry.server.probed(port, Ok(200), now);
                }
            }
        }
    }
}
