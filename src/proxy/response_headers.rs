//! Rewrites the head of a response for the client: public names and paths, the affinity cookie, `Server` and HSTS, then the
//! fields that the configuration sets and removes. Bodies are never rewritten.

use http::header::{self, HeaderName, HeaderValue};
use http::uri::Scheme;
use pingora::Result;
use pingora_http::RequestHeader;
use smallvec::SmallVec;

use super::affinity_cookie::{self, ResponseContext};
use super::attempt::Attempt;
use super::ctx::Ctx;
use super::database_lookup::tag_of_target;
use super::header_edits::FieldEdits;
use super::request_headers::server_path;
use super::routed::Routed;
use super::{rehearsal, write_cookie};
use crate::domain::directory::LookupResult;
use crate::domain::rewrite::{self, RewriteContext};
use crate::domain::select::ServerId;
use crate::state::cluster_view::UpstreamServer;
use crate::upstream::response_head::{ResponseField, ResponseFieldSet, ResponseHead};

/// `Alt-Svc` is about the host and port of the server, which the client does not use.
const HOP_BY_HOP: [ResponseField; 6] = [
    ResponseField::Connection,
    ResponseField::KeepAlive,
    ResponseField::ProxyConnection,
    ResponseField::ProxyAuthenticate,
    ResponseField::Upgrade,
    ResponseField::AltSvc,
];
const ANY_HOP_BY_HOP: ResponseFieldSet = ResponseFieldSet::from_fields(&HOP_BY_HOP);
/// The fields whose value is one URL, in the order in which they are mapped.
const URLS: [ResponseField; 4] = [
    ResponseField::Location,
    ResponseField::ContentLocation,
    ResponseField::Refresh,
    ResponseField::XspLocation,
];
/// The fields that may hold a URL or a cookie.
const ANY_URL_OR_COOKIE: ResponseFieldSet = {
    let mut fields = ResponseFieldSet::from_fields(&URLS);
    fields.insert(ResponseField::Link);
    fields.insert(ResponseField::SetCookie);
    fields
};

pub(super) fn to_client<H: ResponseHead>(
    head: &mut H,
    fields: ResponseFields,
    ctx: &mut Ctx,
    request: &RequestHeader,
) -> Result<()> {
    let is_shared = ctx.uses_cache();
    let (Some(routed), Some(attempt)) = (&mut ctx.routed, &ctx.attempt) else { return Ok(()) };
    let target = request.raw_path();
    remove_hop_by_hop(head, fields);
    let redirected_to = map_urls(head, fields, routed, attempt, target)?;
    apply_policy(head, routed, fields)?;
    if routed.is_logout && head.status().as_u16() < 400 {
        end_sessions(head, routed, request, target)?;
    }
    // A response that goes to several users has no cookie for one of them.
    let has_own_cookies = !is_shared || fields.present.contains(ResponseField::SetCookie);
    if routed.cluster.settings.affinity.enabled && has_own_cookies {
        let response = ResponseContext {
            request,
            tried: &ctx.failover.tried,
            redirected_to,
            sets_cookies: fields.present.contains(ResponseField::SetCookie),
            is_page: match routed.cluster.pool_tag {
                Some(_) => is_page_of_pool(head),
                None => fields.media_type == Some(MediaType::Html),
            },
        };
        affinity_cookie::write(head, routed, attempt, &response)?;
        rehearsal::write_cookie(head, routed, &response)?;
        if routed.cluster.pool_tag.is_none() {
            write_cookie::write(head, routed, attempt, &response)?;
        }
    }
    // Each request gets its own from what is stored, with its own ID: `Proxy::note_cache_result`.
    if is_shared {
        return Ok(());
    }
    FieldEdits::to_client(routed, ctx.request_id.as_ref()).apply_to_response(head)
}

/// Rewrites an interim head (1xx). The affinity cookie and HSTS come with the final head.
pub(super) fn interim<H: ResponseHead>(
    head: &mut H,
    fields: ResponseFields,
    ctx: &Ctx,
    request: &RequestHeader,
) -> Result<()> {
    let (Some(routed), Some(attempt)) = (&ctx.routed, &ctx.attempt) else { return Ok(()) };
    remove_hop_by_hop(head, fields);
    map_urls(head, fields, routed, attempt, request.raw_path())?;
    hide_server(head, routed, fields);
    Ok(())
}

/// What a head has before it is changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct ResponseFields {
    pub(super) media_type: Option<MediaType>,
    present: ResponseFieldSet,
}

/// The media types that matter to the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MediaType {
    Html,
    EventStream,
}

impl ResponseFields {
    pub(super) fn of<H: ResponseHead>(head: &H) -> Self {
        let present = head.fields();
        let media_type = if present.contains(ResponseField::ContentType) { media_type(head) } else { None };
        Self { media_type, present }
    }
}

fn media_type<H: ResponseHead>(head: &H) -> Option<MediaType> {
    let value = head.first(ResponseField::ContentType)?;
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
fn remove_hop_by_hop<H: ResponseHead>(head: &mut H, fields: ResponseFields) {
    if !fields.present.intersects(ANY_HOP_BY_HOP) || matches!(head.status().as_u16(), 101 | 426) {
        return;
    }
    let named: SmallVec<[HeaderName; 4]> = head
        .all(ResponseField::Connection)
        .flat_map(|value| value.split(|b| *b == b','))
        .map(<[u8]>::trim_ascii)
        // There is no field `Close`, and `Keep-Alive` is removed anyway.
        .filter(|name| !name.eq_ignore_ascii_case(b"close") && !name.eq_ignore_ascii_case(b"keep-alive"))
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        .filter(|name| *name != header::TRANSFER_ENCODING && *name != header::CONTENT_LENGTH)
        .collect();
    for name in &named {
        head.remove_named(name);
    }
    for field in HOP_BY_HOP {
        if fields.present.contains(field) {
            head.remove(field);
        }
    }
}

/// Sets HSTS and hides `Server`. Domino sends `max-age=0` while its HTTP port is open, which would erase our own
/// value (<https://help.hcl-software.com/domino/14.5.0/admin/secu_configure_dom_for_hsts.html>).
fn apply_policy<H: ResponseHead>(head: &mut H, routed: &Routed, fields: ResponseFields) -> Result<()> {
    hide_server(head, routed, fields);
    if routed.tls
        && let Some(value) = &routed.cluster.settings.headers.hsts
    {
        head.set(ResponseField::StrictTransportSecurity, value.as_str())?;
    }
    Ok(())
}

fn hide_server<H: ResponseHead>(head: &mut H, routed: &Routed, fields: ResponseFields) {
    if fields.present.contains(ResponseField::StrictTransportSecurity) {
        head.remove(ResponseField::StrictTransportSecurity);
    }
    if fields.present.contains(ResponseField::Server) && !routed.cluster.settings.headers.expose_server {
        head.remove(ResponseField::Server);
    }
}

/// Maps the URLs and cookies of a head. Returns the server in `Location` and the tag of the database there, if it is
/// another server.
fn map_urls<H: ResponseHead>(
    head: &mut H,
    fields: ResponseFields,
    routed: &Routed,
    attempt: &Attempt,
    target: &[u8],
) -> Result<Option<(ServerId, u32)>> {
    if !fields.present.intersects(ANY_URL_OR_COOKIE) {
        return Ok(None);
    }
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
    for field in URLS.into_iter().filter(|field| fields.present.contains(*field)) {
        map_url(head, field, &mapping, |server, target| {
            let other = ServerId::try_from(server).ok().filter(|server| *server != attempt.server);
            if let Some(server) = other.filter(|_| field == ResponseField::Location) {
                let tag = routed.cluster.pool_tag;
                let tag = tag.or_else(|| tag_of_target(&routed.cluster, &routed.view, target));
                redirected = tag.map(|tag| (server, tag));
            }
        })?;
    }
    map_all(head, ResponseField::Link, fields, |link| rewrite::rewrite_link(link, &mapping))?;
    let in_database = routed.database.tag.is_some();
    let tag = routed.view.server(attempt.server).map_or(0, UpstreamServer::tag);
    map_all(head, ResponseField::SetCookie, fields, |cookie| {
        let public = rewrite::rewrite_set_cookie(cookie, &mapping, in_database);
        let value = public.as_deref().unwrap_or(cookie);
        routed.cluster.cookies.tag_session_cookie(value, tag, path_of(target)).or(public)
    })?;
    Ok(redirected)
}

/// Maps a field with one URL. Calls `leads_to` with the position of the server that it named, and the target there.
fn map_url<H: ResponseHead>(
    head: &mut H,
    field: ResponseField,
    mapping: &RewriteContext<'_>,
    leads_to: impl FnOnce(usize, &[u8]),
) -> Result<()> {
    let mut all = head.all(field);
    let Some(value) = all.next() else { return Ok(()) };
    // Each may occur once; browsers differ in which one they take.
    let first = all.next().is_some().then(|| value.to_vec());
    let mapped = rewrite::rewrite_header(&field.header_name(), value, mapping);
    drop(all);
    if let Some(first) = first {
        head.set(field, first)?;
    }
    if let Some(mapped) = mapped {
        if let (Some(server), Some(target)) = (mapped.server, mapped.value.get(mapped.target)) {
            leads_to(server, target);
        }
        // An invalid value leaves the field as it is.
        head.set(field, mapped.value).ok();
    }
    Ok(())
}

/// Maps all lines of a field, in order.
fn map_all<H: ResponseHead>(
    head: &mut H,
    field: ResponseField,
    fields: ResponseFields,
    map: impl Fn(&[u8]) -> Option<Vec<u8>>,
) -> Result<()> {
    if !fields.present.contains(field) {
        return Ok(());
    }
    let mapped: SmallVec<[Option<Vec<u8>>; 4]> = head.all(field).map(map).collect();
    if mapped.iter().any(Option::is_some) {
        head.replace_each(field, mapped)?;
    }
    Ok(())
}

/// Expires every session cookie of the request: after a logout no server may know the user any more.
fn end_sessions<H: ResponseHead>(
    head: &mut H,
    routed: &Routed,
    request: &RequestHeader,
    target: &[u8],
) -> Result<()> {
    let gone = {
        let set: SmallVec<[&[u8]; 4]> = head
            .all(ResponseField::SetCookie)
            .filter_map(|value| value.split(|b| *b == b'=').next())
            .collect();
        let lines = request.headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
        let host = crate::state::host_table::strip_port(&routed.authority);
        routed.cluster.cookies.expire_sessions(lines, path_of(target), host, routed.tls, &set)
    };
    for cookie in gone {
        if let Ok(value) = HeaderValue::try_from(cookie) {
            head.append(ResponseField::SetCookie, value)?;
        }
    }
    Ok(())
}

/// The media types of files that every server of a pool has, at the start of `Content-Type`.
const STATIC_TYPES: [&[u8]; 6] =
    [b"image/", b"font/", b"text/css", b"text/javascript", b"application/javascript", b"application/wasm"];

/// Whether the server of a pool has served the user: a successful response, such as the JSON of an API, but no image,
/// style or script.
fn is_page_of_pool<H: ResponseHead>(head: &H) -> bool {
    let status = head.status();
    let is_success = matches!(status.as_u16(), 101 | 200..=303 | 305..=399);
    let value = head.first(ResponseField::ContentType).unwrap_or_default();
    let is = |name: &&[u8]| value.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
    is_success && !STATIC_TYPES.iter().any(is)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::raw_response_head::RawResponseHead;

    const ALL: &str = "HTTP/1.1 200 OK\r\nConnection: close, X-Own, Content-Length, x y\r\nKeep-Alive: timeout=5\r\n\
        Alt-Svc: h3\r\nx-own: 1\r\nX-Other: 2\r\nContent-Type: TEXT/HTML; charset=UTF-8\r\nContent-Length: 5\r\n\r\n";

    fn raw(text: &str) -> RawResponseHead {
        RawResponseHead::parse(&mut text.as_bytes().into()).unwrap().unwrap()
    }

    fn text(head: &RawResponseHead) -> String {
        let mut text = Vec::new();
        head.write_to(&mut text);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn fields_of_the_connection_are_removed_from_both_kinds_of_head() {
        let mut head = raw(ALL);
        let mut map = head.to_pingora().unwrap();
        let fields = ResponseFields::of(&head);
        assert_eq!(fields.media_type, Some(MediaType::Html));
        assert_eq!((fields.media_type, fields.present), {
            let fields = ResponseFields::of(&*map);
            (fields.media_type, fields.present)
        });
        remove_hop_by_hop(&mut head, fields);
        remove_hop_by_hop(&mut *map, fields);
        let left = "X-Other: 2\r\nContent-Type: TEXT/HTML; charset=UTF-8\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(text(&head), format!("HTTP/1.1 200 OK\r\n{left}"));
        let names: std::collections::BTreeSet<_> = map.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["content-length", "content-type", "x-other"]);
    }

    #[test]
    fn a_switch_of_protocols_keeps_the_fields_of_the_connection() {
        let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        let mut head = raw(switch);
        let fields = ResponseFields::of(&head);
        remove_hop_by_hop(&mut head, fields);
        assert_eq!(text(&head), switch);
    }
}
