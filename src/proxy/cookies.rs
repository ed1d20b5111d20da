//! What the cookies of a request say of its user, and what of them goes to a server.
//!
//! In: the `Cookie` lines as they came. Out: the user's entries, whose sessions there are; and the one line for
//! the server that was chosen. It changes no other header.

use http::header::{self, HeaderValue};
use pingora::Result;
use pingora_http::RequestHeader;
use smallvec::SmallVec;

use super::ctx::{Attempt, Routed};
use crate::affinity::session::{Meaning, pairs};
use crate::affinity::{Entries, cookie};
use crate::balancer::{Cluster, View};
use crate::clock;
use crate::select::MemberIx;

/// So many cookies of our name are verified, and so many sessions looked at: no browser has more.
const MOST_COOKIES: usize = 8;

/// What the cookies of a request say.
#[derive(Debug, Default)]
pub struct Brought {
    /// Those of the affinity cookie.
    pub entries: Entries,
    /// Whose sessions there are, the newest first.
    pub sessions: SmallVec<[MemberIx; 4]>,
    /// No server may see the lines as they are.
    pub rewrites_cookies: bool,
}

/// Reads the `Cookie` lines once. HTTP/2 may cut them into crumbs (RFC 9113 section 8.2.3).
#[must_use]
pub fn read(cluster: &Cluster, view: &View, head: &RequestHeader) -> Brought {
    let affinity = &cluster.settings.affinity;
    let mut brought = Brought::default();
    let mut verified = 0;
    for (number, line) in head.headers.get_all(http::header::COOKIE).iter().enumerate() {
        brought.rewrites_cookies |= number > 0;
        if !affinity.enabled {
            continue;
        }
        for (name, value) in pairs(line.as_bytes()) {
            let owner = match cluster.cookies.meaning(name) {
                Meaning::Foreign => continue,
                Meaning::Plain { .. } => None,
                Meaning::Affinity => {
                    // A neighbouring site may have set a cookie of this name for the whole domain.
                    if brought.entries.is_empty() && verified < MOST_COOKIES {
                        verified += 1;
                        let now = u32::try_from(clock::unix_secs()).unwrap_or(u32::MAX);
                        let idle = u32::try_from(affinity.idle_timeout.as_secs()).unwrap_or(u32::MAX);
                        let value = cookie::unquoted(value.get(1..).unwrap_or_default());
                        brought.entries = cluster.keys.decode(value, now, idle);
                    }
                    None
                }
                Meaning::Isolated { tag, .. } => view.by_tag(tag),
                Meaning::Unique(suffix) => view.by_suffix(&suffix),
            };
            brought.rewrites_cookies = true;
            if let Some(owner) = owner.filter(|owner| !brought.sessions.contains(owner))
                && brought.sessions.len() < MOST_COOKIES
            {
                // Browsers send the newest last (RFC 6265 section 5.4): that session is the likeliest to be alive.
                brought.sessions.insert(0, owner);
            }
        }
    }
    brought
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
        let tag = attempt.in_flight.member().tag();
        routed.cluster.cookies.for_server(lines.iter().copied(), tag, is_anothers)
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
