//! What a rehearsed failover does to one request: what its response tells the browser, and what is counted. Without a rehearsal
//! each step is one comparison.

use pingora::{Error, ErrorSource, Result};

use super::affinity_cookie::{self, ResponseContext};
use super::ctx::Ctx;
use super::failover;
use super::rehearsal_user::RehearsalUser;
use super::routed::Routed;
use crate::domain::affinity::session_cookies::rehearsal_cookie_name;
use crate::domain::rehearsal::{RehearsalCookie, RehearsalEnd, UserGroup};
use crate::domain::select::ServerId;
use crate::pages::Problem;
use crate::state::Balancer;
use crate::state::rehearsal::{RehearsalPart, RequestResult};
use crate::state::rehearsal_control;
use crate::upstream::response_head::{ResponseField, ResponseHead};
use crate::util::clock;

/// Notes the server that a request is about to be sent to.
pub(super) fn note_choice(ctx: &mut Ctx, chosen: ServerId) {
    let Some(routed) = &mut ctx.routed else { return };
    let Some(user) = &routed.rehearsal else { return };
    let part = match user.part {
        None => first_part(routed, user, chosen),
        Some(RehearsalPart::Moved { by_this_request, .. }) if chosen == user.server => {
            RehearsalPart::Moved { by_this_request, rescued: true }
        }
        Some(part) => part,
    };
    if let Some(user) = &mut routed.rehearsal {
        user.part = Some(part);
    }
}

fn first_part(routed: &Routed, user: &RehearsalUser, chosen: ServerId) -> RehearsalPart {
    let is_there = chosen == user.server;
    let may_get_it = is_there || may_go_to(routed, user.server);
    let known_group = user.cookie.and_then(|cookie| cookie.group);
    match user.unreachable() {
        None if user.is_in_share => RehearsalPart::Unaffected,
        None if is_there || (may_get_it && known_group == Some(UserGroup::Stayed)) => RehearsalPart::Stayed,
        Some(_) if is_there => RehearsalPart::Kept,
        Some(_) if may_get_it => {
            let by_this_request =
                failover::decide_without_rehearsal(routed, &[]).chosen() == Some(user.server);
            let was_moved = known_group == Some(UserGroup::Moved);
            let is_logged_in_at = |server: ServerId| user.sessions.contains(&server);
            if by_this_request && is_logged_in_at(user.server) && !is_logged_in_at(chosen) {
                user.rehearsal.count_lost_login();
            }
            match by_this_request || was_moved {
                true => RehearsalPart::Moved { by_this_request, rescued: false },
                false => RehearsalPart::Unaffected,
            }
        }
        _ => RehearsalPart::Unaffected,
    }
}

/// Whether the server holds the database, and the route lets it have the request.
fn may_go_to(routed: &Routed, server: ServerId) -> bool {
    routed.allows(server) && (routed.database.found.is_none() || routed.replica_on(server).is_some())
}

/// Writes the cookie with what the user drew, with every response that may change the affinity cookie: the next request must
/// not draw again.
pub(super) fn write_cookie<H: ResponseHead>(
    head: &mut H,
    routed: &Routed,
    response: &ResponseContext<'_>,
) -> Result<()> {
    let Some(user) = &routed.rehearsal else { return Ok(()) };
    let may_change = response.is_page || response.sets_cookies || head.status().is_redirection();
    let group_of_page = match user.part.filter(|_| response.is_page) {
        Some(RehearsalPart::Moved { rescued: false, .. }) => Some(UserGroup::Moved),
        Some(RehearsalPart::Stayed) => Some(UserGroup::Stayed),
        _ => None,
    };
    let cookie = RehearsalCookie {
        rehearsal: user.rehearsal.id,
        user: user.draw,
        group: user.cookie.and_then(|cookie| cookie.group).or(group_of_page),
    };
    if !may_change || user.cookie == Some(cookie) || !user.rehearsal.is_running() {
        return Ok(());
    }
    let settings = &routed.cluster.settings.affinity;
    let Some(value) = routed.cluster.affinity_keys.encode_rehearsal(cookie) else { return Ok(()) };
    let name = rehearsal_cookie_name(&settings.cookie);
    let line = affinity_cookie::set_cookie(routed, &name, &value, settings.same_site.effective(routed.tls));
    // Afterwards it leads the user back, as long as there is an entry to lead back from.
    let left = user.rehearsal.ends_ms.saturating_sub(clock::now_ms()) / 1_000;
    let seconds = left.saturating_add(settings.idle_timeout.as_secs());
    head.append(ResponseField::SetCookie, format!("{line}; Max-Age={seconds}"))
}

/// Whether the user is logged in on the rehearsed server and not on the one that answered: this is counted as a lost login
/// already, and a new login mends it.
fn has_lost_login(user: &RehearsalUser, ctx: &Ctx) -> bool {
    let answered_by = ctx.attempt.as_ref().map(|attempt| attempt.server);
    user.sessions.contains(&user.server) && !answered_by.is_some_and(|server| user.sessions.contains(&server))
}

/// Counts a request that has ended, and ends the rehearsal if the errors have risen.
pub(super) fn count(balancer: &Balancer, ctx: &Ctx, status: u16, error: Option<&Error>) {
    let Some(user) = ctx.routed.as_ref().and_then(|routed| routed.rehearsal.as_ref()) else { return };
    let Some(part) = user.part else { return };
    let is_older_page = matches!(ctx.problem, Some(Problem::OlderThanOwnWrite { .. }));
    if is_older_page && matches!(part, RehearsalPart::Moved { .. }) {
        user.rehearsal.count_older_page();
    }
    let is_cut = error.is_some_and(|error| *error.esource() != ErrorSource::Downstream);
    let result = match status {
        499 => RequestResult::Good,
        _ if is_older_page => RequestResult::Good,
        404 => RequestResult::NotFound,
        401 if has_lost_login(user, ctx) => RequestResult::Good,
        401 | 403 => RequestResult::Denied,
        0 | 500.. => RequestResult::Failed,
        _ if is_cut => RequestResult::Failed,
        _ => RequestResult::Good,
    };
    if user.rehearsal.record(part, user.draw, result, ctx.first_byte)
        && let Some(detail) = user.rehearsal.risen_errors()
    {
        rehearsal_control::end(balancer, &user.rehearsal, RehearsalEnd::Errors, detail);
    }
}
