//! Answers of our own: pages, redirects, lists.
//!
//! In: what is wrong, or where to send the browser. Out: a whole answer on the client's connection.
//! They never pass Pingora's response hooks, so what every answer needs is added here.

use std::borrow::Cow;

use http::{HeaderValue, Method, header};
use pingora::Result;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::ctx::Routed;
use super::route::Addressed;
use crate::domain::directory::AmbiguousIx;
use crate::domain::url;
use crate::edge::waiting;
use crate::pages::{ChoiceItem, ListItem, Problem, Rendered};
use crate::state::{Cluster, Snapshot, View};

/// Whether the client has the head of its answer, so that nothing of ours may follow. Behind a 101 the connection
/// is a tunnel, and all other 1xx are only news.
#[must_use]
pub fn answer_begun(session: &Session) -> bool {
    session.response_written().is_some_and(|head| !head.status.is_informational() || head.status == 101)
}

/// Sends a page. The connection stays open only where no octet of a request's body can be left on it.
///
/// # Errors
/// When the client is gone.
pub async fn page(session: &mut Session, rendered: Rendered, hsts: Option<&str>) -> Result<()> {
    let mut head = ResponseHeader::build(rendered.status, Some(12))?;
    for (name, value) in rendered.headers() {
        head.insert_header(name, value)?;
    }
    if let Some(hsts) = hsts {
        head.insert_header(header::STRICT_TRANSPORT_SECURITY, hsts)?;
    }
    send(session, head, rendered.body).await
}

/// Sends a head and a body, the body not to HEAD.
async fn send(session: &mut Session, head: ResponseHeader, body: bytes::Bytes) -> Result<()> {
    let body_expected = session.req_header().method != Method::HEAD && !body.is_empty();
    if !session.as_mut().is_body_done() {
        session.set_keepalive(None);
    }
    session.write_response_header(Box::new(head), !body_expected).await?;
    if body_expected {
        session.write_response_body(Some(waiting::track(&mut None, body)), true).await?;
    }
    Ok(())
}

/// The answer to an OPTIONS whose last hop we are.
///
/// # Errors
/// When the client is gone.
pub async fn options(session: &mut Session) -> Result<()> {
    let mut head = ResponseHeader::build(200, Some(3))?;
    head.insert_header(header::SERVER, crate::pages::SERVER)?;
    head.insert_header(header::ALLOW, crate::pages::ALLOW)?;
    head.insert_header(header::CONTENT_LENGTH, "0")?;
    send(session, head, bytes::Bytes::new()).await
}

/// Sends the browser to another URL.
///
/// # Errors
/// When the client is gone, or `location` cannot stand in a header.
pub async fn redirect(session: &mut Session, status: u16, location: &str, hsts: Option<&str>) -> Result<()> {
    let mut head = ResponseHeader::build(status, Some(6))?;
    head.insert_header(header::SERVER, crate::pages::SERVER)?;
    head.insert_header(header::LOCATION, location)?;
    head.insert_header(header::CONTENT_LENGTH, "0")?;
    head.insert_header(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))?;
    if let Some(hsts) = hsts {
        head.insert_header(header::STRICT_TRANSPORT_SECURITY, hsts)?;
    }
    send(session, head, bytes::Bytes::new()).await
}

/// The page for a problem, in the form that the client prefers.
#[must_use]
pub fn problem(snapshot: &Snapshot, session: &Session, problem: &Problem) -> Rendered {
    snapshot.pages.error(problem, accept(session))
}

/// The choice page of an ambiguous path.
#[must_use]
pub fn choice(
    snapshot: &Snapshot,
    session: &Session,
    view: &View,
    ambiguous: AmbiguousIx,
    addressed: Addressed<'_>,
) -> Rendered {
    let target = url::parse(addressed.target);
    let (range, raw) = target.database.as_ref().map_or((0..0, &b""[..]), |d| (d.range.clone(), d.raw));
    let rest = addressed.target.get(range.end..).unwrap_or_default();
    let rest = String::from_utf8_lossy(rest);
    let index = &view.directory.index;
    let items: Vec<ChoiceItem<'_>> = index
        .ambiguous(ambiguous)
        .map(|found| {
            let database = index.database(found.database);
            let replica_id = database.replica_id();
            ChoiceItem {
                title: database.title(),
                replica_id,
                link: Cow::Owned(format!("/__{replica_id}.nsf{rest}")),
            }
        })
        .collect();
    snapshot.pages.choice(&items, accept(session), &String::from_utf8_lossy(raw))
}

/// A list of more databases helps nobody, and to write it would keep other requests waiting.
const MOST_LISTED: usize = 5_000;

/// The list of a cluster's databases.
#[must_use]
pub fn list(snapshot: &Snapshot, session: &Session, cluster: &Cluster, view: &View) -> Rendered {
    let index = &view.directory.index;
    let items: Vec<ListItem<'_>> = index
        .databases()
        .take(MOST_LISTED)
        .map(|database| {
            let path = database.path();
            let replica_id = database.replica_id();
            // Where the path means several databases, only the replica ID is a link that works.
            let link = match index.by_plain_path(path) {
                crate::domain::directory::Lookup::Ambiguous(_) => format!("/__{replica_id}.nsf"),
                _ => format!("/{}", crate::domain::directory::db_path::encode_for_url(path)),
            };
            ListItem { title: database.title(), path, replica_id, link: Cow::Owned(link) }
        })
        .collect();
    let more = index.len() - items.len();
    snapshot.pages.list(&items, more, &cluster.settings.name, accept(session))
}

/// What a problem says about this very request.
#[must_use]
pub fn out_of_service(routed: &Routed, target: &[u8]) -> Problem {
    let database = target.get(routed.database_range.clone()).unwrap_or_default();
    Problem::AllOutOfService { database: format!("/{}", String::from_utf8_lossy(database)) }
}

/// The database's link, for a NoteID that cannot be followed.
#[must_use]
pub fn note_id_gone(routed: &Routed, target: &[u8]) -> Problem {
    let database = target.get(routed.database_range.clone()).unwrap_or_default();
    Problem::NoteIdServerGone { link: format!("/{}", String::from_utf8_lossy(database)) }
}

fn accept(session: &Session) -> Option<&[u8]> {
    session.req_header().headers.get(header::ACCEPT).map(HeaderValue::as_bytes)
}
