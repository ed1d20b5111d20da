//! What a server's answer says to the browser: public names and paths, the affinity cookie, our policy
//! on `Server` and HSTS.
//!
//! In: a server's head. Out: the head that the browser sees. Bodies are never rewritten.

use http::header::{self, HeaderName, HeaderValue};
use http::uri::Scheme;
use pingora::Result;
use pingora_http::{RequestHeader, ResponseHeader};
use smallvec::SmallVec;

use super::affinity_cookie::{self, Answered};
use super::ctx::{Attempt, Ctx, Routed};
use super::headers::server_path;
use crate::domain::directory::Lookup;
use crate::domain::rewrite::{self, Mapping};
use crate::domain::select::MemberIx;
use crate::state::view::Entry;

const XSP_LOCATION: HeaderName = HeaderName::from_static("x-xsplocation");
const REFRESH: HeaderName = header::REFRESH;

/// Makes the browser's head out of the server's.
///
/// # Errors
/// When Pingora refuses a value, which rewriting never makes.
pub fn to_browser(head: &mut ResponseHeader, ctx: &mut Ctx, request: &RequestHeader) -> Result<()> {
    let (Some(routed), Some(attempt)) = (&mut ctx.routed, &ctx.attempt) else { return Ok(()) };
    let (_, target) = super::route::origin_form(request.raw_path());
    let there = Fields::of(head);
    end_hop(head, &there);
    let redirected_to = if there.urls { map_urls(head, routed, attempt, target)? } else { None };
    policy(head, routed, &there)?;
    if routed.is_logout && head.status.as_u16() < 400 {
        end_sessions(head, routed, request, target)?;
    }
    if routed.cluster.settings.affinity.enabled {
        let answer = Answered { request, tried: &ctx.tried, redirected_to, sets_cookies: there.set_cookie };
        affinity_cookie::write(head, routed, attempt, &answer)?;
    }
    Ok(())
}

/// Makes an interim answer (1xx) one that the browser may see: it names no server and tells no session to others. It
/// carries no promise of ours, as the final answer will.
///
/// # Errors
/// When Pingora refuses a value, which rewriting never makes.
pub fn interim(head: &mut ResponseHeader, ctx: &Ctx, request: &RequestHeader) -> Result<()> {
    let (Some(routed), Some(attempt)) = (&ctx.routed, &ctx.attempt) else { return Ok(()) };
    let there = Fields::of(head);
    end_hop(head, &there);
    if there.urls {
        let (_, target) = super::route::origin_form(request.raw_path());
        map_urls(head, routed, attempt, target)?;
    }
    hide_server(head, routed, &there);
    Ok(())
}

/// Which fields of a head there is something to do about: most answers have one or two, and looking for each of
/// them by its name would cost more than all the rest.
#[derive(Debug, Default)]
struct Fields {
    /// Those that end here.
    of_this_hop: SmallVec<[HeaderName; 4]>,
    /// Any that may hold a URL or a cookie.
    urls: bool,
    set_cookie: bool,
    server: bool,
    hsts: bool,
}

impl Fields {
    fn of(head: &ResponseHeader) -> Self {
        let mut there = Self::default();
        for name in head.headers.keys() {
            match name.as_str() {
                // `Alt-Svc` offers another way to this host and port, and the host is not this one.
                "connection" | "keep-alive" | "proxy-connection" | "proxy-authenticate" | "upgrade"
                | "alt-svc" => there.of_this_hop.push(name.clone()),
                "location" | "content-location" | "refresh" | "x-xsplocation" | "link" => there.urls = true,
                "set-cookie" => (there.urls, there.set_cookie) = (true, true),
                "server" => there.server = true,
                "strict-transport-security" => there.hsts = true,
                _ => {}
            }
        }
        there
    }
}

/// Removes what the server said to us alone: `Connection` and what it names (RFC 9110 section 7.6.1), which
/// Pingora does for requests only. What frames the body stays, and so does the switch to another protocol.
fn end_hop(head: &mut ResponseHeader, there: &Fields) {
    if there.of_this_hop.is_empty() || matches!(head.status.as_u16(), 101 | 426) {
        return;
    }
    let named: SmallVec<[HeaderName; 4]> = head
        .headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .map(<[u8]>::trim_ascii)
        // What nearly all of them say: no field is called the one, and the other goes anyway.
        .filter(|name| !name.eq_ignore_ascii_case(b"close") && !name.eq_ignore_ascii_case(b"keep-alive"))
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        .filter(|name| *name != header::TRANSFER_ENCODING && *name != header::CONTENT_LENGTH)
        .collect();
    for name in named.iter().chain(&there.of_this_hop) {
        head.remove_header(name);
    }
}

/// HSTS and `Server`. Domino sends `max-age=0` when its plain HTTP port is open, which would erase what
/// the edge promises (<https://help.hcl-software.com/domino/14.5.0/admin/secu_configure_dom_for_hsts.html>).
fn policy(head: &mut ResponseHeader, routed: &Routed, there: &Fields) -> Result<()> {
    hide_server(head, routed, there);
    if routed.tls
        && let Some(value) = &routed.cluster.settings.headers.hsts
    {
        head.insert_header(header::STRICT_TRANSPORT_SECURITY, value.as_str())?;
    }
    Ok(())
}

/// Removes what the server says of itself, and promises in the public name.
fn hide_server(head: &mut ResponseHeader, routed: &Routed, there: &Fields) {
    if there.hsts {
        head.remove_header(&header::STRICT_TRANSPORT_SECURITY);
    }
    if there.server && !routed.cluster.settings.headers.expose_server {
        head.remove_header(&header::SERVER);
    }
}

/// Maps the URLs and cookies of a head. Gives the member that a `Location` named, with the database tag of
/// its target, when it is not the one that answered.
fn map_urls(
    head: &mut ResponseHeader,
    routed: &Routed,
    attempt: &Attempt,
    target: &[u8],
) -> Result<Option<(MemberIx, u32)>> {
    let scheme = if routed.tls { Scheme::HTTPS } else { Scheme::HTTP };
    let paths = attempt.replace_path.then(|| server_path(routed, attempt)).flatten().map(|path| {
        let public = target.get(routed.database_range.clone()).unwrap_or_default();
        (format!("/{path}"), format!("/{}", String::from_utf8_lossy(public)))
    });
    let public_path = |member: usize, path: &[u8]| public_path(routed, member, path);
    let mapping = Mapping {
        public_scheme: &scheme,
        public_authority: &routed.authority,
        members: &routed.view.names,
        serving: usize::from(attempt.member),
        paths: paths.as_ref().map(|(server, public)| (server.as_str(), public.as_str())),
        public_path: &public_path,
    };
    let mut redirected = None;
    for name in [header::LOCATION, header::CONTENT_LOCATION, REFRESH, XSP_LOCATION] {
        let mut all = head.headers.get_all(&name).iter();
        let Some(value) = all.next().cloned() else { continue };
        if all.next().is_some() {
            // There is one of each. Which of several a browser takes is its own secret.
            head.insert_header(name.clone(), value.clone())?;
        }
        let Some(mapped) = rewrite::response_header(&name, value.as_bytes(), &mapping) else { continue };
        if name == header::LOCATION
            && let Some(member) = mapped.member.and_then(|m| MemberIx::try_from(m).ok())
            && member != attempt.member
            && let Some(target) = mapped.value.get(mapped.target.clone())
            && let Some(tag) = super::route::tag_of_target(&routed.cluster, &routed.view, target)
        {
            redirected = Some((member, tag));
        }
        if let Ok(value) = HeaderValue::from_bytes(&mapped.value) {
            head.insert_header(name, value)?;
        }
    }
    map_all(head, header::LINK, |link| rewrite::link(link, &mapping))?;
    let in_database = routed.database_tag.is_some();
    let tag = routed.view.entry(attempt.member).map_or(0, Entry::tag);
    map_all(head, header::SET_COOKIE, |cookie| {
        let public = rewrite::set_cookie(cookie, &mapping, in_database);
        let value = public.as_deref().unwrap_or(cookie);
        routed.cluster.cookies.isolate(value, tag, path_of(target)).or(public)
    })?;
    Ok(redirected)
}

/// Maps every field of a name that may stand there several times, in their order.
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

/// After a logout no member may still know the user: every session that the browser sent expires, whoever's it is.
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
        let host = crate::state::hosts::host_name(&routed.authority);
        routed.cluster.cookies.expire(lines, path_of(target), host, routed.tls, &set)
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

/// A member's path of a database as the public knows it: by replica ID where the path means several
/// databases, unless it is the very one that the browser is in already.
fn public_path(routed: &Routed, member: usize, path: &[u8]) -> Option<String> {
    let member = MemberIx::try_from(member).ok()?;
    let target = crate::domain::url::parse(path);
    let database = target.database.as_ref()?;
    let index = &routed.view.directory.index;
    let Lookup::Ambiguous(ambiguous) = index.by_path(database.raw) else { return None };
    let held = index.ambiguous(ambiguous).find(|found| {
        index.holders(found).any(|h| h.same_path && routed.view.member_of(h.server) == Some(member))
    })?;
    if routed.found == Some(held) && routed.entry == Some(member) {
        return None;
    }
    let id = index.database(held.database).replica_id();
    let rest = path.get(database.range.end..).map(String::from_utf8_lossy)?;
    Some(format!("/__{id}.nsf{rest}"))
}
