//! The affinity cookie of a response: which server this user goes to from now on. It is the only part of the head that
//! depends on the user.

use http::{Method, StatusCode};
use pingora::Result;
use pingora_http::RequestHeader;
use smallvec::SmallVec;

use super::attempt::Attempt;
use super::database_lookup::{tag_of, tag_of_target};
use super::failover;
use super::route_context::origin_form;
use super::routed::Routed;
use crate::domain::affinity::entries::ANY_DATABASE;
use crate::domain::affinity::session_cookies::login_cookie_name;
use crate::domain::affinity::{self, AffinityEntries, SameSite, same_site};
use crate::domain::select::{CandidateVerdict, ServerId};
use crate::domain::url::{self, ServerCommand};
use crate::state::cluster_view::UpstreamServer;
use crate::upstream::response_head::{ResponseField, ResponseHead};
use crate::util::clock;

/// What decides about the user's entries besides the head of the response.
#[derive(Debug)]
pub struct ResponseContext<'a> {
    pub request: &'a RequestHeader,
    pub tried: &'a [ServerId],
    /// The server in `Location`, and the tag of the database there.
    pub redirected_to: Option<(ServerId, u32)>,
    pub sets_cookies: bool,
    /// Whether the user stays on the server that sent it.
    pub is_page: bool,
}

/// Writes the affinity cookie if it changes.
///
/// A browser withholds the cookie from some cross-site requests; the entries are then unknown and must not be
/// overwritten. A login by such a request (SAML and OIDC post from the site of the identity provider) gets a login
/// cookie, which is merged into the affinity cookie when a request has both.
pub fn write<H: ResponseHead>(
    head: &mut H,
    routed: &mut Routed,
    attempt: &Attempt,
    response: &ResponseContext<'_>,
) -> Result<()> {
    let settings = &routed.cluster.settings.affinity;
    let now = u32::try_from(clock::unix_secs()).unwrap_or(u32::MAX);
    let Some(serving) = routed.view.server(attempt.server).map(UpstreamServer::tag) else { return Ok(()) };
    let is_login = response.sets_cookies && routed.cluster.pool_tag.is_none();
    let login = if is_login { login_of(head, routed, response) } else { None };
    let mut entries = routed.affinity.entries.clone();
    let changed = update(&mut entries, head.status(), routed, attempt, response, login, now)
        || routed.affinity.has_login_cookie;
    if !changed && login.is_none() {
        return Ok(());
    }
    let (headers, method) = (&response.request.headers, &response.request.method);
    let is_carried = routed.affinity.has_affinity_cookie
        || same_site::browser_sends_cookie(
            settings.same_site,
            method,
            headers,
            &routed.authority,
            routed.tls,
        );
    if is_carried && changed {
        if let Some(value) = routed.cluster.affinity_keys.encode(&entries).filter(|_| !entries.is_empty()) {
            set(head, routed, &settings.cookie, &value, settings.same_site.effective(routed.tls))?;
        }
        if routed.affinity.has_login_cookie {
            set(head, routed, &login_cookie_name(&settings.cookie), "", SameSite::Lax)?;
        }
        routed.affinity.entries = entries;
    } else if !is_carried && let Some(CompletedLogin { database, is_session: true, .. }) = login {
        // Not `Strict`, as the browser follows a redirect from a page of the other site.
        let entry = affinity::AffinityEntry { server: serving, database, time: now };
        if let Some(value) = routed.cluster.affinity_keys.encode_login(entry) {
            set(head, routed, &login_cookie_name(&settings.cookie), &value, SameSite::Lax)?;
        }
    }
    Ok(())
}

/// Updates the user's entries. True if the cookie must be written.
fn update(
    entries: &mut AffinityEntries,
    status: StatusCode,
    routed: &Routed,
    attempt: &Attempt,
    response: &ResponseContext<'_>,
    login: Option<CompletedLogin>,
    now: u32,
) -> bool {
    let idle = u32::try_from(routed.cluster.settings.affinity.idle_timeout.as_secs()).unwrap_or(u32::MAX);
    let Some(serving) = routed.view.server(attempt.server).map(UpstreamServer::tag) else { return false };
    if let Some(login) = routed.affinity.login {
        entries.merge(login);
    }
    if let Some((server, tag)) = response.redirected_to
        && let Some(entry) = routed.view.server(server)
    {
        let changed = entries.record_response(entry.tag(), tag, now, idle);
        entries.forget_former(tag);
        return changed;
    }
    if response.is_page
        && let Some(tag) = routed.database.tag
    {
        let changed = update_entry(entries, routed, attempt, response.tried, tag, now, idle);
        return entries.clear_login(serving) || changed;
    }
    let Some(CompletedLogin { database, is_form, .. }) = login else { return false };
    // Isolated session cookies name their servers themselves.
    let leads_itself = routed.cluster.cookies.has_session_per_server();
    if leads_itself && (database == ANY_DATABASE || !status.is_redirection()) {
        false
    } else if !is_form && Some(database) == routed.database.tag {
        update_entry(entries, routed, attempt, response.tried, database, now, idle)
    } else {
        entries.record_response(serving, database, now, idle)
    }
}

/// Sets a cookie; see [`set_cookie`].
fn set<H: ResponseHead>(
    head: &mut H,
    routed: &Routed,
    name: &str,
    value: &str,
    same_site: SameSite,
) -> Result<()> {
    head.append(ResponseField::SetCookie, set_cookie(routed, name, value, same_site))
}

/// A `Set-Cookie` value for this host; an empty value deletes the cookie.
pub(super) fn set_cookie(routed: &Routed, name: &str, value: &str, same_site: SameSite) -> String {
    let gone = if value.is_empty() { "; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT" } else { "" };
    let secure = if routed.tls { "; Secure" } else { "" };
    let same_site = same_site.as_str();
    format!("{name}={value}; Path=/{gone}; HttpOnly{secure}; SameSite={same_site}")
}

/// Whether a response gives the browser a session, after a login.
pub(super) fn sets_session<H: ResponseHead>(head: &H, routed: &Routed) -> bool {
    head.all(ResponseField::SetCookie).any(|cookie| routed.cluster.cookies.sets_session(cookie))
}

/// A login that a response completes.
#[derive(Clone, Copy, Debug)]
struct CompletedLogin {
    /// The tag of the database that the user sees next.
    database: u32,
    /// Whether the session is valid on this server only.
    is_session: bool,
    /// Whether it follows a login form, or the message of an identity provider.
    is_form: bool,
}

/// The response completes a login if it sets a session cookie, or redirects after a login form. A token of multi-server
/// SSO is valid on every server, so it needs no entry.
fn login_of<H: ResponseHead>(
    head: &H,
    routed: &Routed,
    response: &ResponseContext<'_>,
) -> Option<CompletedLogin> {
    let is_session = sets_session(head, routed);
    let command = url::parse(response.request.raw_path()).command.server_command();
    let is_form = matches!(command, Some(ServerCommand::Login | ServerCommand::ProviderLogin))
        && response.request.method == Method::POST
        && head.status().is_redirection();
    if !is_session && !is_form {
        return None;
    }
    let hinted =
        || routed.affinity.hinted_database.map(|found| tag_of(&routed.cluster, &routed.view, &found));
    let database = database_of_location(head, routed).or_else(hinted).or(routed.database.tag);
    Some(CompletedLogin { database: database.unwrap_or(ANY_DATABASE), is_session, is_form })
}

fn database_of_location<H: ResponseHead>(head: &H, routed: &Routed) -> Option<u32> {
    let location = head.first(ResponseField::Location)?;
    let is_absolute = url::split_absolute_url(location).is_some();
    if is_absolute && !same_site::is_same_origin(location, &routed.authority, routed.tls) {
        return None;
    }
    let (_, target) = origin_form(location);
    let is_form = url::parse(target).is_login_form();
    if is_form { None } else { tag_of_target(&routed.cluster, &routed.view, target) }
}

/// Updates the entry of a database. The user stays on a server that failed only this request. If the server is gone, all
/// its entries move. A user whom selection leads elsewhere stays there, or the next form would go to another server than
/// the one that showed it.
fn update_entry(
    entries: &mut AffinityEntries,
    routed: &Routed,
    attempt: &Attempt,
    tried: &[ServerId],
    tag: u32,
    now: u32,
    idle: u32,
) -> bool {
    let Some(serving) = routed.view.server(attempt.server).map(UpstreamServer::tag) else { return false };
    let Some(home) = routed.affinity.entry.filter(|home| *home != attempt.server) else {
        return entries.record_response(serving, tag, now, idle);
    };
    let Some(home_tag) = routed.view.server(home).map(UpstreamServer::tag) else {
        return entries.record_response(serving, tag, now, idle);
    };
    let goes_back =
        routed.cluster.settings.affinity.fail_back.is_some() || routed.rehearsed_server() == Some(home);
    // The verdict on the old server, as if this request had not tried it.
    let without_this: SmallVec<[ServerId; 4]> =
        tried.iter().copied().filter(|server| *server != home).collect();
    let decision = failover::decide(routed, &without_this);
    match decision.verdict(home) {
        Some(CandidateVerdict::Unreachable) => {
            if goes_back {
                entries.remember_former_of_server(home_tag);
            }
            let moved = entries.replace_server(home_tag, serving);
            entries.record_response(serving, tag, now, idle) || moved
        }
        Some(
            CandidateVerdict::Restricted
            | CandidateVerdict::OutOfService
            | CandidateVerdict::PendingDelete
            | CandidateVerdict::CatchingUp,
        ) => {
            if goes_back {
                entries.remember_former(tag, home_tag);
            }
            entries.record_response(serving, tag, now, idle)
        }
        None => entries.record_response(serving, tag, now, idle),
        // Another server has the user's own last write.
        Some(verdict) if verdict != CandidateVerdict::Full && decision.chosen() != Some(home) => {
            entries.record_response(serving, tag, now, idle)
        }
        // It can serve. One failed request, or a moment at its limit, moves no user.
        Some(_) => entries.record_response(home_tag, tag, now, idle),
    }
}
