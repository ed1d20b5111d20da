//! "Did my save happen?": the link on the page of a save that was cut, and the answer behind it.
//!
//! The request itself is never sent again. The link carries a signed token, so that only the browser that got the page can
//! ask, and nothing is kept here.

use std::sync::Arc;

use http::Method;
use pingora_http::RequestHeader;

use super::attempt::{AttemptFailure, FailedAttempt};
use super::ctx::Ctx;
use super::route_context::TargetUri;
use super::route_target::target_with_database;
use super::routed::Routed;
use crate::config::settings::Mode;
use crate::domain::save::{self, SaveToken, SaveVerdict, SavedDocument, Unid, saved_document};
use crate::domain::url::{self, Target};
use crate::pages::{Pages, Problem, RenderedPage, SaveAdvice, SaveAnswer};
use crate::state::{Cluster, ClusterView, Snapshot, document_copies};
use crate::util::clock;
use crate::util::log_interval::LogInterval;

/// No database has such a path, and no file of Domino begins with a dot.
const PATH: &str = "/.icm/saved";
/// One log line about answers in this time, because clients could fill the log.
const LOG_INTERVAL_MS: u64 = 1_000;

/// A request for the answer.
#[derive(Debug)]
pub struct SaveQuestion {
    /// The cluster that signed the token; the first one of the host if none did.
    pub cluster: Arc<Cluster>,
    /// The view in which the servers are found.
    pub view: Arc<ClusterView>,
    /// `None` if it is forged or too old.
    token: Option<SaveToken>,
    /// The link as it came.
    link: String,
}

/// The answer, with what its page needs.
#[derive(Debug)]
pub struct AnsweredSave {
    /// The cluster that was asked.
    pub cluster: Arc<Cluster>,
    view: Arc<ClusterView>,
    token: SaveToken,
    link: String,
    asked_unix_ms: u64,
    verdict: SaveVerdict,
}

impl SaveQuestion {
    /// Whether it comes from a page of this cluster, so that the path can mean nothing else.
    pub(super) fn is_signed(&self) -> bool {
        self.token.is_some()
    }
}

/// Whether pages of this cluster have the link.
fn is_on(cluster: &Cluster) -> bool {
    let settings = &cluster.settings;
    settings.failover.save_check && settings.mode == Mode::Proxy && settings.has_companion()
}

/// Adds to the page of a request that a server may have carried out what its user can do.
pub(super) fn with_advice(problem: Problem, request: &RequestHeader, ctx: &Ctx) -> Problem {
    if !matches!(problem, Problem::BadGateway | Problem::MalformedResponse | Problem::GatewayTimeout) {
        return problem;
    }
    match advice(request, ctx) {
        Some(advice) => Problem::FailedSave { failure: Box::new(problem), advice },
        None => problem,
    }
}

fn advice(request: &RequestHeader, ctx: &Ctx) -> Option<SaveAdvice> {
    let routed = ctx.routed.as_deref().filter(|routed| is_on(&routed.cluster))?;
    let target = request.raw_path();
    let route = routed.route.as_deref().filter(|_| routed.database.is_named_by_route);
    let named = route.and_then(|route| target_with_database(route, target));
    match saved_document(&request.method, &url::parse(named.as_deref().unwrap_or(target))) {
        SavedDocument::Existing(unid) => link(routed, ctx, unid).map(|link| SaveAdvice::Ask { link }),
        SavedDocument::New => Some(SaveAdvice::LookForNew),
        SavedDocument::Unknown => None,
    }
}

fn link(routed: &Routed, ctx: &Ctx, unid: Unid) -> Option<String> {
    let attempt = ctx.attempt.as_ref()?;
    // With `retry_methods: [POST]` several servers may have it; no single one could show that it was not saved.
    let is_only =
        |failed: &FailedAttempt| failed.failure == AttemptFailure::Connect || failed.server == attempt.server;
    if !ctx.failover.failures.iter().all(is_only) {
        return None;
    }
    let database = routed.view.directory.index.database(routed.database.found?.database).replica_id();
    let now = clock::unix_ms();
    let token = SaveToken {
        database,
        unid,
        server: routed.view.server(attempt.server)?.tag(),
        sent_unix_ms: now.saturating_sub(clock::saturating_millis(attempt.started.elapsed())),
        settled_unix_ms: now.saturating_add(clock::saturating_millis(routed.response_timeout())),
        earlier_write_unix_ms: routed.affinity.last_write.map_or(0, |write| write.unix_ms),
    };
    Some(format!("{PATH}?t={}", token.encode(&routed.cluster.affinity_keys)?))
}

/// The question of a request, if its URL is that of the link and a cluster of its host has such links.
pub(super) fn question(
    snapshot: &Snapshot,
    head: &RequestHeader,
    uri: TargetUri<'_>,
    target: &Target<'_>,
) -> Option<SaveQuestion> {
    let is_asked = target.database.is_none()
        && target.path == PATH.as_bytes()
        && matches!(head.method, Method::GET | Method::HEAD);
    if !is_asked {
        return None;
    }
    let numbers = snapshot.hosts.lookup(uri.authority);
    let clusters = || {
        numbers.iter().filter_map(|number| snapshot.clusters.get(*number)).filter(|cluster| is_on(cluster))
    };
    let text = target.argument(b"t").unwrap_or_default();
    let now = clock::unix_ms();
    let signed = clusters()
        .find_map(|cluster| Some((cluster, SaveToken::decode(&cluster.affinity_keys, &text, now)?)));
    let (cluster, token) = match signed {
        Some((cluster, token)) => (cluster, Some(token)),
        None => (clusters().next()?, None),
    };
    Some(SaveQuestion {
        cluster: Arc::clone(cluster),
        view: cluster.view.load_full(),
        token,
        link: format!("{PATH}?t={}", String::from_utf8_lossy(&text)),
    })
}

/// Asks each server with a replica once.
///
/// # Errors
/// The page for a link that is not valid, or while too many others ask.
pub(super) async fn answer(question: SaveQuestion) -> Result<Box<AnsweredSave>, Problem> {
    let SaveQuestion { cluster, view, token, link } = question;
    let mut token = token.ok_or(Problem::SaveLinkInvalid)?;
    let state = Arc::clone(&cluster.persistent_state);
    let _running = state.save_checks.begin().ok_or(Problem::Overloaded)?;
    token.server = view.current_tag(token.server);
    let asked_unix_ms = clock::unix_ms();
    let logged = document_copies::read(&cluster, &view, token.database, token.unid).await;
    let readings: Vec<_> = logged.iter().map(|one| one.reading).collect();
    let verdict = save::decide(&token, &readings);
    state.save_checks.record(verdict.as_str());
    log_answer(&cluster, &token, verdict, &logged);
    Ok(Box::new(AnsweredSave { cluster, view, token, link, asked_unix_ms, verdict }))
}

fn log_answer(
    cluster: &Cluster,
    token: &SaveToken,
    verdict: SaveVerdict,
    logged: &[document_copies::LoggedReading],
) {
    static INTERVAL: LogInterval = LogInterval::new(LOG_INTERVAL_MS);
    if !INTERVAL.is_due() {
        return;
    }
    let why = match verdict {
        SaveVerdict::Unknown(why) => format!(" ({})", why.as_str()),
        _ => String::new(),
    };
    let texts: Vec<&str> = logged.iter().map(|one| one.text.as_str()).collect();
    let (name, word) = (&cluster.settings.name, verdict.as_str());
    log::info!(
        target: "icm::proxy",
        "{name}: save check of document {} in {}: {word}{why}: {}",
        token.unid, token.database, texts.join("; ")
    );
}

impl AnsweredSave {
    /// The reason in the access log.
    pub(super) fn reason(&self) -> &'static str {
        match self.verdict {
            SaveVerdict::Saved { .. } => "saved",
            SaveVerdict::NotSaved => "not_saved",
            SaveVerdict::Unknown(_) => "save_unknown",
        }
    }

    pub(super) fn page(&self, pages: &Pages, accept: Option<&[u8]>, reference: Option<&str>) -> RenderedPage {
        let index = &self.view.directory.index;
        let database = index.find_by_replica_id(self.token.database).map(|found| index.database(found));
        let name = database.map_or("", |database| match database.title() {
            "" => database.path(),
            title => title,
        });
        let answer = SaveAnswer {
            verdict: self.verdict,
            database: name,
            sent_unix_ms: self.token.sent_unix_ms,
            asked_unix_ms: self.asked_unix_ms,
            ask_again: &self.link,
            document: &format!("/__{}.nsf/0/{}?OpenDocument", self.token.database, self.token.unid),
        };
        pages.saved(&answer, accept, reference)
    }
}
