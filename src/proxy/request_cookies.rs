//! The cookies of a request: what they contain about its user, and which of them go to a server.

use std::net::IpAddr;

use http::header::{self, HeaderValue};
use pingora_http::RequestHeader;
use smallvec::SmallVec;

use super::attempt::Attempt;
use super::routed::Routed;
use crate::domain::affinity::session_cookies::{CookieKind, cookie_pairs};
use crate::domain::affinity::{AffinityEntries, AffinityEntry, WriteStamps, cookie};
use crate::domain::rehearsal::{DrawHasher, RehearsalCookie, UserDraw};
use crate::domain::select::ServerId;
use crate::state::{Cluster, ClusterView};
use crate::util::clock;

#[derive(Debug, Default)]
pub(super) struct RequestCookies {
    /// The entries of the affinity cookie.
    pub entries: AffinityEntries,
    pub has_affinity_cookie: bool,
    /// The entry of the login cookie.
    pub login: Option<AffinityEntry>,
    /// The stamps of the write cookie.
    pub write_stamps: WriteStamps,
    /// The servers with a session of the user, the newest first. Clients can forge them.
    pub sessions: SmallVec<[ServerId; 4]>,
    /// What the rehearsal cookie says.
    pub rehearsal: Option<RehearsalCookie>,
    /// The number of the rehearsal that runs.
    pub running_rehearsal: Option<u32>,
    /// What the user draws by these cookies and the address; `None` without a rehearsal, or without affinity cookie.
    pub draw: Option<UserDraw>,
    /// Whether the lines must be changed for the server.
    pub rewrites_cookies: bool,
}

/// Reads the `Cookie` lines once. `rehearsal` is the number of the one that runs, with the client's address.
pub(super) fn read(
    cluster: &Cluster,
    view: &ClusterView,
    head: &RequestHeader,
    rehearsal: Option<(u32, Option<IpAddr>)>,
) -> RequestCookies {
    let affinity = &cluster.settings.affinity;
    let mut cookies = RequestCookies {
        running_rehearsal: rehearsal.map(|(number, _)| number),
        ..RequestCookies::default()
    };
    let mut draw = rehearsal.map(|(number, client)| DrawHasher::new(number, client));
    let now = || u32::try_from(clock::unix_secs()).unwrap_or(u32::MAX);
    let idle = u32::try_from(affinity.idle_timeout.as_secs()).unwrap_or(u32::MAX);
    let renewed = |tag| view.current_tag(tag);
    for (number, line) in head.headers.get_all(http::header::COOKIE).iter().enumerate() {
        cookies.rewrites_cookies |= number > 0;
        if !cluster.cookies.is_needed() {
            continue;
        }
        for (name, rest) in cookie_pairs(line.as_bytes()) {
            let (kind, value) = cluster.cookies.classify(name, rest);
            let owner = match kind {
                CookieKind::Foreign => continue,
                CookieKind::Untagged { .. } | CookieKind::Sibling => None,
                // Another site of the domain may have set cookies of this name: the first valid one counts.
                CookieKind::Affinity => {
                    if cookies.entries.is_empty() {
                        let value = cookie::strip_quotes(value);
                        cookies.entries = cluster.affinity_keys.decode(value, now(), idle, renewed);
                        if let Some(draw) = &mut draw {
                            draw.add(value);
                        }
                    }
                    None
                }
                CookieKind::Login => {
                    let value = cookie::strip_quotes(value);
                    cookies.login = cookies
                        .login
                        .or_else(|| cluster.affinity_keys.decode_login(value, now(), idle, renewed));
                    None
                }
                CookieKind::Write => {
                    if cookies.write_stamps.is_empty() {
                        let value = cookie::strip_quotes(value);
                        cookies.write_stamps =
                            cluster.affinity_keys.decode_writes(value, now(), write_limit(cluster), renewed);
                    }
                    None
                }
                CookieKind::Rehearsal => {
                    let value = cookie::strip_quotes(value);
                    cookies.rehearsal =
                        cookies.rehearsal.or_else(|| cluster.affinity_keys.decode_rehearsal(value));
                    None
                }
                CookieKind::Tagged { tag, .. } => view.server_by_tag(tag),
                CookieKind::Unique(suffix) => view.server_by_session_suffix(&suffix),
            };
            cookies.rewrites_cookies = true;
            if let (Some(draw), CookieKind::Tagged { .. } | CookieKind::Unique(_)) = (&mut draw, kind) {
                draw.add(value);
            }
            if let Some(owner) = owner.filter(|owner| !cookies.sessions.contains(owner)) {
                // Browsers send the newest last (RFC 6265 section 5.4), whose session most likely still exists.
                cookies.sessions.insert(0, owner);
            }
        }
    }
    cookies.has_affinity_cookie = !cookies.entries.is_empty();
    cookies.draw = draw.filter(|_| cookies.has_affinity_cookie).map(DrawHasher::finish);
    cookies
}

/// After this time replication has carried a write to the other replicas, or nothing shows that it will.
fn write_limit(cluster: &Cluster) -> u32 {
    u32::try_from(cluster.settings.freshness.behind_limit.as_secs()).unwrap_or(u32::MAX)
}

/// The `Cookie` line for a server: without our own cookies and the sessions of other servers. Those of this server get
/// their own names back. Empty: the server gets no such line.
pub(super) fn line_for_server(request: &RequestHeader, routed: &Routed, attempt: &Attempt) -> Vec<u8> {
    let lines = request.headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
    let lines: SmallVec<[&[u8]; 4]> = lines.collect();
    let is_of_other_server = |suffix: &_| {
        routed.view.server_by_session_suffix(suffix).is_some_and(|owner| owner != attempt.server)
    };
    let tags = routed.view.server(attempt.server).map(|entry| &*entry.tags).unwrap_or_default();
    routed.cluster.cookies.cookie_header_for_tags(lines.iter().copied(), tags, is_of_other_server)
}
