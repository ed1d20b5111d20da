//! Responses that the proxy makes itself. They do not pass Pingora's response hooks, so common headers are set here.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, header};
use pingora::{Error, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::ctx::Ctx;
use super::{Proxy, error_mapping, keep_alive};
use crate::domain::directory::{AmbiguousPathId, LookupResult, db_path};
use crate::domain::url;
use crate::edge::pending_responses;
use crate::pages::{self, ChoiceItem, ListItem, Problem, RenderedPage};
use crate::state::{Cluster, ClusterView, Snapshot};

/// A longer list of databases is of no use, and would delay other requests.
const MAX_LISTED: usize = 5_000;

/// A response that the proxy makes itself.
#[derive(Debug)]
pub enum LocalReply {
    /// An error page, after which the connection closes: the rest of the request is not read.
    Rejected(Problem),
    /// An error page, and the cluster if it is known.
    Problem(Problem, Option<Arc<Cluster>>),
    /// 308 to the same URL over TLS.
    RedirectToHttps(String, Option<Arc<Cluster>>),
    /// Redirect mode: the browser goes to the server itself.
    RedirectToServer {
        /// 302, or 307 if the method must stay.
        status: u16,
        /// The URL on the server.
        location: String,
    },
    /// The key authorization for an HTTP-01 challenge of ACME.
    AcmeChallenge(String),
    /// The response to an OPTIONS whose last hop is this proxy.
    Options,
    /// The databases that share the path of the URL.
    Choice(Arc<Cluster>, Arc<ClusterView>, AmbiguousPathId),
    /// The databases of a cluster.
    List(Arc<Cluster>, Arc<ClusterView>),
}

impl From<Problem> for LocalReply {
    fn from(problem: Problem) -> Self {
        Self::Rejected(problem)
    }
}

impl LocalReply {
    pub(super) fn cluster(&self) -> Option<&Arc<Cluster>> {
        match self {
            Self::Problem(_, cluster) | Self::RedirectToHttps(_, cluster) => cluster.as_ref(),
            Self::Choice(cluster, ..) | Self::List(cluster, _) => Some(cluster),
            Self::Rejected(_) | Self::RedirectToServer { .. } | Self::AcmeChallenge(_) | Self::Options => {
                None
            }
        }
    }

    /// The reason in the access log; errors have none.
    fn reason(&self) -> Option<&'static str> {
        match self {
            Self::RedirectToHttps(..) => Some("https"),
            Self::AcmeChallenge(_) => Some("acme"),
            Self::Choice(..) => Some("choice"),
            Self::List(..) => Some("list"),
            _ => None,
        }
    }
}

impl Proxy {
    /// Sends a response and notes it for the access log. The connection stays open only if the request's body was read
    /// to its end.
    pub(super) async fn reply(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        snapshot: &Snapshot,
        reply: LocalReply,
        hsts: Option<&str>,
    ) -> Result<()> {
        let (mut head, body) = render(session, snapshot, &reply)?;
        if let Some(hsts) = hsts {
            head.insert_header(header::STRICT_TRANSPORT_SECURITY, hsts)?;
        }
        if let Some(cookie) = ctx.reply_cookie.take() {
            head.insert_header(header::SET_COOKIE, cookie)?;
        }
        if matches!(reply, LocalReply::Rejected(_)) || !session.as_mut().is_body_done() {
            keep_alive::close_after_response(session);
        }
        ctx.reply_cluster = reply.cluster().cloned();
        ctx.reply_reason = reply.reason();
        if let LocalReply::Problem(..) = reply
            && ctx.routed.is_none()
        {
            self.count_outcome(None);
        }
        if let LocalReply::Rejected(problem) | LocalReply::Problem(problem, _) = reply {
            ctx.problem = Some(problem);
        }
        let has_body = session.req_header().method != Method::HEAD && !body.is_empty();
        session.write_response_header(Box::new(head), !has_body).await?;
        if has_body {
            session.write_response_body(Some(pending_responses::track_chunk(&mut None, body)), true).await?;
        }
        Ok(())
    }
}

impl Proxy {
    /// Sends the error page after the last attempt failed, and returns its status; 0 if the client is gone or has the head of
    /// a response already.
    pub(super) async fn reply_after_failure(&self, session: &mut Session, e: &Error, ctx: &mut Ctx) -> u16 {
        if is_response_begun(session) {
            return 0;
        }
        let target = session.req_header().raw_path();
        let problem = ctx.problem.take().or_else(|| error_mapping::problem_after_failure(e, ctx, target));
        let Some(problem) = problem else { return 0 };
        let status = problem.status();
        let routed = ctx.routed.as_ref();
        let snapshot = routed.map_or_else(|| self.balancer.snapshot(), |r| Arc::clone(&r.snapshot));
        let hsts = routed.filter(|r| r.tls).and_then(|r| r.cluster.settings.headers.hsts.clone());
        let reply = LocalReply::Rejected(problem);
        if let Err(error) = self.reply(session, ctx, &snapshot, reply, hsts.as_deref()).await {
            log::debug!(target: "icm::proxy", "cannot send the {status} page to the client: {error}");
        }
        status
    }
}

/// Whether the final head was sent to the client. After a 101 the connection is a tunnel; any other 1xx precedes the
/// final head.
pub(super) fn is_response_begun(session: &Session) -> bool {
    session.response_written().is_some_and(|head| !head.status.is_informational() || head.status == 101)
}

fn render(session: &Session, snapshot: &Snapshot, reply: &LocalReply) -> Result<(ResponseHeader, Bytes)> {
    let request = session.req_header();
    let accept = request.headers.get(header::ACCEPT).map(HeaderValue::as_bytes);
    match reply {
        LocalReply::Rejected(problem) | LocalReply::Problem(problem, _) => {
            page(snapshot.pages.error(problem, accept))
        }
        LocalReply::RedirectToHttps(location, _) => redirect(308, location),
        LocalReply::RedirectToServer { status, location } => redirect(*status, location),
        LocalReply::AcmeChallenge(key_authorization) => {
            let mut head = empty(200)?;
            head.insert_header(header::CONTENT_LENGTH, key_authorization.len())?;
            head.insert_header(header::CONTENT_TYPE, "application/octet-stream")?;
            head.insert_header(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))?;
            Ok((head, Bytes::from(key_authorization.clone())))
        }
        LocalReply::Options => {
            let mut head = empty(200)?;
            head.insert_header(header::ALLOW, pages::ALLOWED_METHODS)?;
            Ok((head, Bytes::new()))
        }
        LocalReply::Choice(_, view, ambiguous) => {
            page(choice(snapshot, view, *ambiguous, request.raw_path(), accept))
        }
        LocalReply::List(cluster, view) => page(list(snapshot, cluster, view, accept)),
    }
}

fn page(rendered: RenderedPage) -> Result<(ResponseHeader, Bytes)> {
    let mut head = ResponseHeader::build(rendered.status, Some(12))?;
    for (name, value) in rendered.headers() {
        head.insert_header(name, value)?;
    }
    Ok((head, rendered.body))
}

fn redirect(status: u16, location: &str) -> Result<(ResponseHeader, Bytes)> {
    let mut head = empty(status)?;
    head.insert_header(header::LOCATION, location)?;
    head.insert_header(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))?;
    Ok((head, Bytes::new()))
}

fn empty(status: u16) -> Result<ResponseHeader> {
    let mut head = ResponseHeader::build(status, Some(6))?;
    head.insert_header(header::SERVER, pages::SERVER_NAME)?;
    head.insert_header(header::CONTENT_LENGTH, "0")?;
    Ok(head)
}

fn choice(
    snapshot: &Snapshot,
    view: &ClusterView,
    ambiguous: AmbiguousPathId,
    target: &[u8],
    accept: Option<&[u8]>,
) -> RenderedPage {
    let parsed = url::parse(target);
    let (range, raw) = parsed.database.as_ref().map_or((0..0, &b""[..]), |d| (d.range.clone(), d.raw));
    let rest = String::from_utf8_lossy(target.get(range.end..).unwrap_or_default());
    let index = &view.directory.index;
    let items: Vec<ChoiceItem<'_>> = index
        .ambiguous_databases(ambiguous)
        .map(|found| {
            let database = index.database(found.database);
            let replica_id = database.replica_id();
            let link = Cow::Owned(format!("/__{replica_id}.nsf{rest}"));
            ChoiceItem { title: database.title(), replica_id, link }
        })
        .collect();
    snapshot.pages.choice(&items, accept, &String::from_utf8_lossy(raw))
}

fn list(snapshot: &Snapshot, cluster: &Cluster, view: &ClusterView, accept: Option<&[u8]>) -> RenderedPage {
    let index = &view.directory.index;
    let items: Vec<ListItem<'_>> = index
        .databases()
        .take(MAX_LISTED)
        .map(|database| {
            let path = database.path();
            let replica_id = database.replica_id();
            // If several databases share the path, only the replica ID is unique.
            let link = match index.find_by_plain_path(path) {
                LookupResult::Ambiguous(_) => format!("/__{replica_id}.nsf"),
                _ => format!("/{}", db_path::percent_encode_path(path)),
            };
            ListItem { title: database.title(), path, replica_id, link: Cow::Owned(link) }
        })
        .collect();
    let more = index.len() - items.len();
    snapshot.pages.list(&items, more, &cluster.settings.name, accept)
}
