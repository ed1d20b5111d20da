//! What the cookies of a request say of its user, and what of them goes to a server.
//!
//! In: the `Cookie` lines as they came. Out: the user's entries, whose sessions there are; and the one line for
//! the server that was chosen. It changes no other header.

use http::header::{self, HeaderValue};
use pingora::Result;
use pingora_http::RequestHeader;
use smallvec::SmallVec;

use super::attempt::Attempt;
use super::routed::Routed;
use crate::affinity::session::{Meaning, pairs};
use crate::affinity::{Entries, Entry, cookie};
use crate::balancer::{Cluster, View};
use crate::clock;
use crate::select::MemberIx;

/// What the cookies of a request say.
#[derive(Debug, Default)]
pub struct RequestCookies {
    /// Those of the affinity cookie.
    pub entries: Entries,
    /// There was an affinity cookie of ours.
    pub has_affinity_cookie: bool,
    /// Of the cookie that remembers a login beside it.
    pub login: Option<Entry>,
    /// Whose sessions there are, the newest first. Nobody signs them: they are wishes.
    pub sessions: SmallVec<[MemberIx; 4]>,
    /// No server may see the lines as they are.
    pub rewrites_cookies: bool,
}

/// Reads the `Cookie` lines once. HTTP/2 may cut them into crumbs (RFC 9113 section 8.2.3).
#[must_use]
pub fn read(cluster: &Cluster, view: &View, head: &RequestHeader) -> RequestCookies {
    let affinity = &cluster.settings.affinity;
    let mut cookies = RequestCookies::default();
    let now = || u32::try_from(clock::unix_secs()).unwrap_or(u32::MAX);
    let idle = u32::try_from(affinity.idle_timeout.as_secs()).unwrap_or(u32::MAX);
    let renewed = |tag| view.renewed_tag(tag);
    for (number, line) in head.headers.get_all(http::header::COOKIE).iter().enumerate() {
        cookies.rewrites_cookies |= number > 0;
        if !affinity.enabled {
            continue;
        }
        for (name, rest) in pairs(line.as_bytes()) {
            let (meaning, value) = cluster.cookies.read(name, rest);
            let owner = match meaning {
                Meaning::Foreign => continue,
                Meaning::Plain { .. } => None,
                // A neighbouring site may have set cookies of our names for the whole domain, as many as it likes.
                Meaning::Affinity => {
                    if cookies.entries.is_empty() {
                        let value = cookie::unquoted(value);
                        cookies.entries = cluster.keys.decode_renewed(value, now(), idle, renewed);
                    }
                    None
                }
                Meaning::Login => {
                    let value = cookie::unquoted(value);
                    cookies.login =
                        cookies.login.or_else(|| cluster.keys.decode_login(value, now(), idle, renewed));
                    None
                }
                Meaning::Isolated { tag, .. } => view.by_tag(tag),
                Meaning::Unique(suffix) => view.by_suffix(&suffix),
            };
            cookies.rewrites_cookies = true;
            if let Some(owner) = owner.filter(|owner| !cookies.sessions.contains(owner)) {
                // Browsers send the newest last (RFC 6265 section 5.4): that session is the likeliest to be alive.
                cookies.sessions.insert(0, owner);
            }
        }
    }
    cookies.has_affinity_cookie = !cookies.entries.is_empty();
    cookies
}

/// One `Cookie` line with what this server may see: its own sessions under their own names, not those of the other
/// members, and not our affinity cookie.
///
/// # Errors
/// When Pingora refuses the line, which a client that Pingora let in cannot cause.
pub fn to_server(request: &mut RequestHeader, routed: &Routed, attempt: &Attempt) -> Result<()> {
    let line = {
        let lines: SmallVec<[&[u8]; 4]> =
            request.headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
        let is_anothers =
            |suffix: &_| routed.view.by_suffix(suffix).is_some_and(|owner| owner != attempt.member);
        let tags = routed.view.entry(attempt.member).map(|entry| &*entry.tags).unwrap_or_default();
        routed.cluster.cookies.for_server_of(lines.iter().copied(), tags, is_anothers)
    };
    match HeaderValue::from_maybe_shared(bytes::Bytes::from(line)) {
        // In place of all lines.
        Ok(value) if !value.is_empty() => request.insert_header("Cookie", value),
        _ => {
            request.remove_header(&header::COOKIE);
            Ok(())
        }
    }
}
