//! Responses that the proxy makes itself. They do not pass Pingora's response hooks, so common headers are set here.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, header};
use pingora::{Error, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::ctx::Ctx;
use super::header_edits::FieldEdits;
use super::save_check::{AnsweredSave, SaveQuestion};
use super::static_files::{FileRequest, FoundFile, OpenFile};
use super::{Proxy, error_mapping, keep_alive, request_id, save_check, static_files};
use crate::config::settings::FixedResponse;
use crate::domain::directory::{AmbiguousPathId, LookupResult, db_path};
use crate::domain::rules::local_url;
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
    /// An error page, because a rule of `access` denies the request.
    Denied(Box<Denial>),
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
    /// A route sends the browser to another URL.
    RouteRedirect(Arc<Cluster>, u16, String),
    /// The fixed response of a route.
    Fixed(Arc<Cluster>, Arc<FixedResponse>),
    /// A file of a route's folder.
    File(Arc<Cluster>, FileRequest),
    /// The response to an OPTIONS whose last hop is this proxy.
    Options,
    /// The databases that share the path of the URL.
    Choice(Arc<Cluster>, Arc<ClusterView>, AmbiguousPathId),
    /// The databases of a cluster.
    List(Arc<Cluster>, Arc<ClusterView>),
    /// Asks whether a save happened; `LocalReply::of_save` makes the reply.
    SaveQuestion(Box<SaveQuestion>),
    /// What the servers say about a save.
    SaveAnswer(Box<AnsweredSave>),
}

/// A request that a rule of `access` denies.
#[derive(Debug)]
pub struct Denial {
    /// The cluster that serves the host.
    pub cluster: Arc<Cluster>,
    /// The position of the rule.
    pub rule: usize,
    /// Why, as the access log shows it.
    pub reason: &'static str,
    /// The page that is shown.
    pub problem: Problem,
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
            Self::Choice(cluster, ..)
            | Self::List(cluster, _)
            | Self::RouteRedirect(cluster, ..)
            | Self::Fixed(cluster, _)
            | Self::File(cluster, _) => Some(cluster),
            Self::Denied(denial) => Some(&denial.cluster),
            Self::SaveQuestion(question) => Some(&question.cluster),
            Self::SaveAnswer(answer) => Some(&answer.cluster),
            Self::Rejected(_) | Self::RedirectToServer { .. } | Self::AcmeChallenge(_) | Self::Options => {
                None
            }
        }
    }

    /// The answer to a question about a save.
    pub(super) async fn of_save(question: SaveQuestion) -> Self {
        let cluster = Arc::clone(&question.cluster);
        // On the heap: the future of every request would be larger.
        match Box::pin(save_check::answer(question)).await {
            Ok(answer) => Self::SaveAnswer(answer),
            Err(problem) => Self::Problem(problem, Some(cluster)),
        }
    }

    /// HSTS for the response of a route, as servers' responses have it.
    pub(super) fn hsts_of_route(&self, tls: bool) -> Option<String> {
        let cluster = match self {
            Self::RouteRedirect(cluster, ..) | Self::Fixed(cluster, _) | Self::File(cluster, _) => cluster,
            _ => return None,
        };
        cluster.settings.headers.hsts.clone().filter(|_| tls)
    }

    /// The reason in the access log; an error whose page says it has none.
    fn reason(&self) -> Option<&'static str> {
        match self {
            Self::RedirectToHttps(..) => Some("https"),
            Self::AcmeChallenge(_) => Some("acme"),
            Self::Choice(..) => Some("choice"),
            Self::List(..) => Some("list"),
            Self::Denied(denial) => Some(denial.reason),
            Self::RouteRedirect(..) => Some("redirect"),
            Self::Fixed(..) => Some("respond"),
            Self::File(..) => Some("files"),
            Self::SaveAnswer(answer) => Some(answer.reason()),
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
        begin_request_id(session, ctx, reply.cluster());
        let (mut head, body) = prepare(session, snapshot, &reply, ctx.request_id.as_ref()).await?;
        add_cluster_fields(&mut head, ctx, reply.cluster())?;
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
        if let LocalReply::Problem(problem, _) = &reply
            && *problem != Problem::AccessDenied
            && ctx.routed.is_none()
        {
            self.count_outcome(None);
        }
        match reply {
            LocalReply::Rejected(problem) | LocalReply::Problem(problem, _) => ctx.problem = Some(problem),
            LocalReply::Denied(denial) => {
                denial.cluster.count_denied(denial.rule);
                ctx.denied_by = Some(denial.rule);
                ctx.problem = Some(denial.problem);
            }
            _ => {}
        }
        let body = match body {
            LocalBody::Bytes(body) => body,
            LocalBody::File(file) => return file.send(session, head).await,
        };
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
        let problem = save_check::with_advice(problem, session.req_header(), ctx);
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

/// The content of a response.
enum LocalBody {
    Bytes(Bytes),
    File(OpenFile),
}

async fn prepare(
    session: &Session,
    snapshot: &Snapshot,
    reply: &LocalReply,
    request_id: Option<&HeaderValue>,
) -> Result<(ResponseHeader, LocalBody)> {
    let LocalReply::File(_, file) = reply else {
        return render(session, snapshot, reply, request_id)
            .map(|(head, body)| (head, LocalBody::Bytes(body)));
    };
    let request = session.req_header();
    let problem = if matches!(request.method, Method::GET | Method::HEAD) {
        match file.open().await {
            FoundFile::File(file) => return Ok((file.head(request)?, LocalBody::File(file))),
            FoundFile::FolderWithoutSlash => {
                let (head, body) = redirect(302, &with_slash(request.raw_path()))?;
                return Ok((head, LocalBody::Bytes(body)));
            }
            FoundFile::Nothing => Problem::NotFound,
            FoundFile::Unreadable => Problem::Internal,
        }
    } else {
        Problem::MethodNotAllowed
    };
    let accept = request.headers.get(header::ACCEPT).map(HeaderValue::as_bytes);
    let (mut head, body) = page(snapshot.pages.error(&problem, accept, reference(request_id)))?;
    if problem == Problem::MethodNotAllowed {
        head.insert_header(header::ALLOW, HeaderValue::from_static("GET, HEAD"))?;
    }
    Ok((head, LocalBody::Bytes(body)))
}

/// The request ID as a page shows it.
fn reference(request_id: Option<&HeaderValue>) -> Option<&str> {
    request_id.and_then(|id| id.to_str().ok())
}

/// The URL of a folder, on this host.
fn with_slash(target: &[u8]) -> String {
    let (path, query) = match memchr::memchr(b'?', target) {
        Some(at) => target.split_at_checked(at).unwrap_or((target, b"")),
        None => (target, &b""[..]),
    };
    local_url(&[path, b"/", query].concat())
}

/// A request that was answered before it was routed has no ID yet.
fn begin_request_id(session: &Session, ctx: &mut Ctx, cluster: Option<&Arc<Cluster>>) {
    if ctx.request_id.is_none()
        && let Some(field) = cluster.and_then(|cluster| cluster.settings.headers.request_id.as_ref())
    {
        ctx.request_id = Some(request_id::of_request(session.req_header(), field));
    }
}

fn add_cluster_fields(head: &mut ResponseHeader, ctx: &Ctx, cluster: Option<&Arc<Cluster>>) -> Result<()> {
    let id = ctx.request_id.as_ref();
    match (&ctx.routed, cluster) {
        (Some(routed), _) => FieldEdits::to_client(routed, id).apply_to_own_response(head),
        (None, Some(cluster)) => {
            let route = ctx.route.as_ref().map(|taken| &*taken.route);
            FieldEdits::of_cluster(cluster, route, id).apply_to_own_response(head)
        }
        (None, None) => Ok(()),
    }
}

fn render(
    session: &Session,
    snapshot: &Snapshot,
    reply: &LocalReply,
    request_id: Option<&HeaderValue>,
) -> Result<(ResponseHeader, Bytes)> {
    let request = session.req_header();
    let accept = request.headers.get(header::ACCEPT).map(HeaderValue::as_bytes);
    let reference = reference(request_id);
    match reply {
        LocalReply::Rejected(problem) | LocalReply::Problem(problem, _) => {
            page(snapshot.pages.error(problem, accept, reference))
        }
        LocalReply::Denied(denial) => page(snapshot.pages.error(&denial.problem, accept, reference)),
        LocalReply::RedirectToHttps(location, _) => redirect(308, location),
        LocalReply::RedirectToServer { status, location } => redirect(*status, location),
        LocalReply::AcmeChallenge(key_authorization) => {
            let mut head = empty(200)?;
            head.insert_header(header::CONTENT_LENGTH, key_authorization.len())?;
            head.insert_header(header::CONTENT_TYPE, "application/octet-stream")?;
            head.insert_header(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))?;
            Ok((head, Bytes::from(key_authorization.clone())))
        }
        LocalReply::RouteRedirect(_, status, location) => {
            let (mut head, body) = redirect(*status, location)?;
            if matches!(status, 301 | 308) {
                head.remove_header(&header::CACHE_CONTROL);
            }
            Ok((head, body))
        }
        LocalReply::Fixed(_, response) => fixed(request, response),
        LocalReply::SaveAnswer(answer) => {
            let (mut head, body) = page(answer.page(&snapshot.pages, accept, reference))?;
            // The URL is the permission to ask, and the page has links.
            head.insert_header(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"))?;
            Ok((head, body))
        }
        // Made before, because they wait for a file or for servers.
        LocalReply::File(..) | LocalReply::SaveQuestion(_) => {
            page(snapshot.pages.error(&Problem::Internal, accept, reference))
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

/// The fixed response of a route; 304 if the client has it already.
fn fixed(request: &RequestHeader, response: &FixedResponse) -> Result<(ResponseHeader, Bytes)> {
    let is_page = response.status == 200;
    let unchanged = is_page
        && matches!(request.method, Method::GET | Method::HEAD)
        && static_files::is_unchanged(request, &response.etag, None);
    let mut head = ResponseHeader::build(if unchanged { 304 } else { response.status }, Some(8))?;
    head.insert_header(header::SERVER, pages::SERVER_NAME)?;
    // The next reload may change it.
    let cache_control = if is_page { "no-cache" } else { "no-store" };
    head.insert_header(header::CACHE_CONTROL, HeaderValue::from_static(cache_control))?;
    if is_page {
        head.insert_header(header::ETAG, response.etag.clone())?;
    }
    let has_content = !unchanged && response.status != 204;
    if has_content {
        head.insert_header(header::CONTENT_TYPE, response.content_type.clone())?;
        head.insert_header(header::CONTENT_LENGTH, response.body.len())?;
        head.insert_header(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))?;
    }
    if let Some(seconds) = response.retry_after {
        head.insert_header(header::RETRY_AFTER, seconds)?;
    }
    for (name, value) in &response.headers {
        head.insert_header(name, value.clone())?;
    }
    Ok((head, if has_content { response.body.clone() } else { Bytes::new() }))
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
