//! Rewrites the head of a response for the client: public names and paths, the affinity cookie, `Server` and HSTS. Bodies
//! are never rewritten.

use http::header::{self, HeaderName, HeaderValue};
use http::uri::Scheme;
use pingora::Result;
use pingora_http::{RequestHeader, ResponseHeader};
use smallvec::SmallVec;

use super::affinity_cookie::{self, ResponseContext};
use super::attempt::Attempt;
use super::ctx::Ctx;
use super::database_lookup::tag_of_target;
use super::request_headers::server_path;
use super::routed::Routed;
use super::write_cookie;
use crate::domain::directory::LookupResult;
use crate::domain::rewrite::{self, RewriteContext};
use crate::domain::select::ServerId;
use crate::state::cluster_view::UpstreamServer;

const XSP_LOCATION: HeaderName = HeaderName::from_static("x-xsplocation");
const REFRESH: HeaderName = header::REFRESH;

pub(super) fn to_client(
    head: &mut ResponseHeader,
    fields: &ResponseFields,
    ctx: &mut Ctx,
    request: &RequestHeader,
) -> Result<()> {
    let (Some(routed), Some(attempt)) = (&mut ctx.routed, &ctx.attempt) else { return Ok(()) };
    let target = request.raw_path();
    remove_hop_by_hop(head, fields);
    let redirected_to = if fields.urls { map_urls(head, routed, attempt, target)? } else { None };
    apply_policy(head, routed, fields)?;
    if routed.is_logout && head.status.as_u16() < 400 {
        end_sessions(head, routed, request, target)?;
    }
    if routed.cluster.settings.affinity.enabled {
        let response = ResponseContext {
            request,
            tried: &ctx.failover.tried,
            redirected_to,
            sets_cookies: fields.set_cookie,
            is_html: fields.media_type == Some(MediaType::Html),
        };
        affinity_cookie::write(head, routed, attempt, &response)?;
        write_cookie::write(head, routed, attempt, &response)?;
    }
    Ok(())
}

/// Rewrites an interim head (1xx). The affinity cookie and HSTS come with the final head.
pub(super) fn interim(
    head: &mut ResponseHeader,
    fields: &ResponseFields,
    ctx: &Ctx,
    request: &RequestHeader,
) -> Result<()> {
    let (Some(routed), Some(attempt)) = (&ctx.routed, &ctx.attempt) else { return Ok(()) };
    remove_hop_by_hop(head, fields);
    if fields.urls {
        map_urls(head, routed, attempt, request.raw_path())?;
    }
    hide_server(head, routed, fields);
    Ok(())
}

/// The fields of a head that must be changed. One look at every name costs less than a search for each field.
#[derive(Debug, Default)]
pub(super) struct ResponseFields {
    pub(super) media_type: Option<MediaType>,
    hop_by_hop: SmallVec<[HeaderName; 4]>,
    /// Whether any field may hold a URL or a cookie.
    urls: bool,
    set_cookie: bool,
    server: bool,
    hsts: bool,
}

/// The media types that matter to the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MediaType {
    Html,
    EventStream,
}

impl ResponseFields {
    pub(super) fn of(head: &ResponseHeader) -> Self {
        let mut fields = Self::default();
        for name in head.headers.keys() {
            match name.as_str() {
                // `Alt-Svc` is about the host and port of the server, which the client does not use.
                "connection" | "keep-alive" | "proxy-connection" | "proxy-authenticate" | "upgrade"
                | "alt-svc" => fields.hop_by_hop.push(name.clone()),
                "location" | "content-location" | "refresh" | "x-xsplocation" | "link" => fields.urls = true,
                "set-cookie" => (fields.urls, fields.set_cookie) = (true, true),
                "content-type" => fields.media_type = media_type(head),
                "server" => fields.server = true,
                "strict-transport-security" => fields.hsts = true,
                _ => {}
            }
        }
        fields
    }
}

fn media_type(head: &ResponseHeader) -> Option<MediaType> {
    let value = head.headers.get(header::CONTENT_TYPE)?.as_bytes();
    let is = |name: &[u8]| value.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
    if is(b"text/html") || is(b"application/xhtml+xml") {
        Some(MediaType::Html)
    } else if is(b"text/event-stream") {
        Some(MediaType::EventStream)
    } else {
        None
    }
}

/// Removes `Connection` and the fields that it names (RFC 9110 section 7.6.1), which Pingora does for requests only. The
/// framing of the body stays, and so does a switch to another protocol.
fn remove_hop_by_hop(head: &mut ResponseHeader, fields: &ResponseFields) {
    if fields.hop_by_hop.is_empty() || matches!(head.status.as_u16(), 101 | 426) {
        return;
    }
    let named: SmallVec<[HeaderName; 4]> = head
        .headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .map(<[u8]>::trim_ascii)
        // There is no field `Close`, and `Keep-Alive` is removed anyway.
        .filter(|name| !name.eq_ignore_ascii_case(b"close") && !name.eq_ignore_ascii_case(b"keep-alive"))
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        .filter(|name| *name != header::TRANSFER_ENCODING && *name != header::CONTENT_LENGTH)
        .collect();
    for name in named.iter().chain(&fields.hop_by_hop) {
        head.remove_header(name);
    }
}

/// Sets HSTS and hides `Server`. Domino sends `max-age=0` while its HTTP port is open, which would erase our own
/// value (<https://help.hcl-software.com/domino/14.5.0/admin/secu_configure_dom_for_hsts.html>).
fn apply_policy(head: &mut ResponseHeader, routed: &Routed, fields: &ResponseFields) -> Result<()> {
    hide_server(head, routed, fields);
    if routed.tls
        && let Some(value) = &routed.cluster.settings.headers.hsts
    {
        head.insert_header(header::STRICT_TRANSPORT_SECURITY, value.as_str())?;
    }
    Ok(())
}

fn hide_server(head: &mut ResponseHeader, routed: &Routed, fields: &ResponseFields) {
    if fields.hsts {
        head.remove_header(&header::STRICT_TRANSPORT_SECURITY);
    }
    if fields.server && !routed.cluster.settings.headers.expose_server {
        head.remove_header(&header::SERVER);
    }
}

/// Maps the URLs and cookies of a head. Returns the server in `Location` and the tag of the database there, if it is
/// another server.
fn map_urls(
    head: &mut ResponseHeader,
    routed: &Routed,
    attempt: &Attempt,
    target: &[u8],
) -> Result<Option<(ServerId, u32)>> {
    let scheme = if routed.tls { Scheme::HTTPS } else { Scheme::HTTP };
    let paths = attempt.replace_path.then(|| server_path(routed, attempt)).flatten().map(|path| {
        let public = target.get(routed.database.range.clone()).unwrap_or_default();
        (format!("/{path}"), format!("/{}", String::from_utf8_lossy(public)))
    });
    let public_path = |server: usize, path: &[u8]| public_path(routed, server, path);
    let mapping = RewriteContext {
        public_scheme: &scheme,
        public_authority: &routed.authority,
        servers: &routed.view.names,
        serving: usize::from(attempt.server),
        database_paths: paths.as_ref().map(|(server, public)| (server.as_str(), public.as_str())),
        public_path: &public_path,
    };
    let mut redirected = None;
    for name in [header::LOCATION, header::CONTENT_LOCATION, REFRESH, XSP_LOCATION] {
        let mut all = head.headers.get_all(&name).iter();
        let Some(value) = all.next().cloned() else { continue };
        if all.next().is_some() {
            // Each may occur once; browsers differ in which one they take.
            head.insert_header(name.clone(), value.clone())?;
        }
        let Some(mapped) = rewrite::rewrite_header(&name, value.as_bytes(), &mapping) else { continue };
        if name == header::LOCATION
            && let Some(server) = mapped.server.and_then(|m| ServerId::try_from(m).ok())
            && server != attempt.server
            && let Some(target) = mapped.value.get(mapped.target.clone())
            && let Some(tag) = tag_of_target(&routed.cluster, &routed.view, target)
        {
            redirected = Some((server, tag));
        }
        if let Ok(value) = HeaderValue::from_bytes(&mapped.value) {
            head.insert_header(name, value)?;
        }
    }
    map_all(head, header::LINK, |link| rewrite::rewrite_link(link, &mapping))?;
    let in_database = routed.database.tag.is_some();
    let tag = routed.view.server(attempt.server).map_or(0, UpstreamServer::tag);
    map_all(head, header::SET_COOKIE, |cookie| {
        let public = rewrite::rewrite_set_cookie(cookie, &mapping, in_database);
        let value = public.as_deref().unwrap_or(cookie);
        routed.cluster.cookies.tag_session_cookie(value, tag, path_of(target)).or(public)
    })?;
    Ok(redirected)
}

/// Maps all fields of one name, in order.
fn map_all(
    head: &mut ResponseHeader,
    name: HeaderName,
    map: impl Fn(&[u8]) -> Option<Vec<u8>>,
) -> Result<()> {
    if !head.headers.contains_key(&name) {
        return Ok(());
    }
    let all: SmallVec<[HeaderValue; 4]> = head.headers.get_all(&name).iter().cloned().collect();
    let mapped: SmallVec<[Option<Vec<u8>>; 4]> = all.iter().map(|value| map(value.as_bytes())).collect();
    if mapped.iter().any(Option::is_some) {
        head.remove_header(&name);
        for (old, new) in all.into_iter().zip(mapped) {
            let value = new.and_then(|v| HeaderValue::from_bytes(&v).ok()).unwrap_or(old);
            head.append_header(name.clone(), value)?;
        }
    }
    Ok(())
}

/// Expires every session cookie of the request: after a logout no server may know the user any more.
fn end_sessions(
    head: &mut ResponseHeader,
    routed: &Routed,
    request: &RequestHeader,
    target: &[u8],
) -> Result<()> {
    let gone = {
        let set: SmallVec<[&[u8]; 4]> = head
            .headers
            .get_all(header::SET_COOKIE)
            .iter()
            .filter_map(|value| value.as_bytes().split(|b| *b == b'=').next())
            .collect();
        let lines = request.headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
        let host = crate::state::host_table::strip_port(&routed.authority);
        routed.cluster.cookies.expire_sessions(lines, path_of(target), host, routed.tls, &set)
    };
    for cookie in gone {
        if let Ok(value) = HeaderValue::from_bytes(&cookie) {
            head.append_header(header::SET_COOKIE, value)?;
        }
    }
    Ok(())
}

fn path_of(target: &[u8]) -> &[u8] {
    target.split(|b| *b == b'?').next().unwrap_or(target)
}

/// The public path for a path of a server: the replica ID if several databases have that path, unless the client uses
/// this database already.
fn public_path(routed: &Routed, server: usize, path: &[u8]) -> Option<String> {
    let server = ServerId::try_from(server).ok()?;
    let target = crate::domain::url::parse(path);
    let database = target.database.as_ref()?;
    let index = &routed.view.directory.index;
    let LookupResult::Ambiguous(ambiguous) = index.find_by_url_path(database.raw) else { return None };
    let held = index.ambiguous_databases(ambiguous).find(|found| {
        index
            .replicas_by_server(found)
            .any(|h| h.same_path && routed.view.server_id(h.server) == Some(server))
    })?;
    if routed.database.found == Some(held) && routed.affinity.entry == Some(server) {
        return None;
    }
    let id = index.database(held.database).replica_id();
    let rest = path.get(database.range.end..).map(String::from_utf8_lossy)?;
    Some(format!("/__{id}.nsf{rest}"))
}
