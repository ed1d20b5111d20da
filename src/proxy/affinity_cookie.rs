//! What an answer says in the affinity cookie: which server serves this browser from now on. Apart from the rest of
//! the answer's head, as it alone depends on who the user is.

use http::{Method, header};
use pingora::Result;
use pingora_http::{RequestHeader, ResponseHeader};
use smallvec::SmallVec;

use super::ctx::{Attempt, Routed};
use crate::domain::affinity::entries::ANY_DATABASE;
use crate::domain::affinity::session::login_name;
use crate::domain::affinity::{self, Entries, SameSite, carried};
use crate::domain::select::{MemberIx, Verdict};
use crate::domain::url::{self, ServerCommand};
use crate::state::view::Entry;
use crate::util::clock;

/// What an answer has to do with the user's entries, beside its head.
#[derive(Debug)]
pub struct Answered<'a> {
    /// As the client sent it.
    pub request: &'a RequestHeader,
    /// Servers that are out for this request.
    pub tried: &'a [MemberIx],
    /// The server that a `Location` named, with the database tag of its target.
    pub redirected_to: Option<(MemberIx, u32)>,
    /// The head has a `Set-Cookie`.
    pub sets_cookies: bool,
}

/// Writes the affinity cookie where the browser must be told.
///
/// The answer to a request that could not bring the cookie says nothing of the user's entries, and must not overwrite
/// them. A login that arrived with it (SAML and OIDC post from the identity provider's site) is remembered in a cookie
/// of its own, which the next request that brings both gets into the affinity cookie.
///
/// # Errors
/// When Pingora refuses the cookie, which is made of its own alphabet.
pub fn write(
    head: &mut ResponseHeader,
    routed: &mut Routed,
    attempt: &Attempt,
    answer: &Answered<'_>,
) -> Result<()> {
    let settings = &routed.cluster.settings.affinity;
    let now = u32::try_from(clock::unix_secs()).unwrap_or(u32::MAX);
    let Some(serving) = routed.view.entry(attempt.member).map(Entry::tag) else { return Ok(()) };
    let login = if answer.sets_cookies { login_of(head, routed, answer) } else { None };
    let mut entries = routed.entries.clone();
    let tell = update(&mut entries, head, routed, attempt, answer, login, now) || routed.has_login;
    if !tell && login.is_none() {
        return Ok(());
    }
    let (headers, method) = (&answer.request.headers, &answer.request.method);
    let is_carried = routed.has_affinity
        || carried::is_carried(settings.same_site, method, headers, &routed.authority, routed.tls);
    if is_carried && tell {
        if let Some(value) = routed.cluster.keys.encode(&entries).filter(|_| !entries.is_empty()) {
            set(head, routed, &settings.cookie, &value, settings.same_site.on(routed.tls))?;
        }
        if routed.has_login {
            set(head, routed, &login_name(&settings.cookie), "", SameSite::Lax)?;
        }
        routed.entries = entries;
    } else if !is_carried && let Some(Login { database, is_session: true, .. }) = login {
        // Not `Strict` either: the browser follows a redirect out of the other site's page.
        let entry = affinity::Entry { server: serving, database, time: now };
        if let Some(value) = routed.cluster.keys.encode_login(entry) {
            set(head, routed, &login_name(&settings.cookie), &value, SameSite::Lax)?;
        }
    }
    Ok(())
}

/// The user's entries after this answer. True when the browser must be told.
fn update(
    entries: &mut Entries,
    head: &ResponseHeader,
    routed: &Routed,
    attempt: &Attempt,
    answer: &Answered<'_>,
    login: Option<Login>,
    now: u32,
) -> bool {
    let idle = u32::try_from(routed.cluster.settings.affinity.idle_timeout.as_secs()).unwrap_or(u32::MAX);
    let Some(serving) = routed.view.entry(attempt.member).map(Entry::tag) else { return false };
    if let Some(login) = routed.login {
        entries.merge(login);
    }
    if let Some((member, tag)) = answer.redirected_to
        && let Some(entry) = routed.view.entry(member)
    {
        let tell = entries.touch(entry.tag(), tag, now, idle);
        entries.forget_former(tag);
        return tell;
    }
    if is_html(head)
        && let Some(tag) = routed.database_tag
    {
        let tell = record(entries, routed, attempt, answer.tried, tag, now, idle);
        return entries.login_used(serving) || tell;
    }
    let Some(Login { database, is_form, .. }) = login else { return false };
    // Sessions that live side by side lead to their servers by themselves.
    let leads_itself = routed.cluster.cookies.keeps_sessions_apart();
    if leads_itself && (database == ANY_DATABASE || !head.status.is_redirection()) {
        false
    } else if !is_form && Some(database) == routed.database_tag {
        record(entries, routed, attempt, answer.tried, database, now, idle)
    } else {
        entries.touch(serving, database, now, idle)
    }
}

/// Sets a cookie of ours for this host; an empty value deletes it.
fn set(
    head: &mut ResponseHeader,
    routed: &Routed,
    name: &str,
    value: &str,
    same_site: SameSite,
) -> Result<()> {
    let gone = if value.is_empty() { "; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT" } else { "" };
    let secure = if routed.tls { "; Secure" } else { "" };
    let same_site = same_site.word();
    head.append_header(
        header::SET_COOKIE,
        format!("{name}={value}; Path=/{gone}; HttpOnly{secure}; SameSite={same_site}"),
    )?;
    Ok(())
}

/// A login that an answer completes.
#[derive(Clone, Copy, Debug)]
struct Login {
    /// Tag of the database that the user gets to see next.
    database: u32,
    /// It is good on this server alone.
    is_session: bool,
    /// It follows a login form, or the message of an identity provider.
    is_form: bool,
}

/// The login that the answer completes, if it does: it sets a session cookie, or it is the redirect that follows a
/// login form. A token of multi-server SSO is good on every server, so nobody has to follow it.
fn login_of(head: &ResponseHeader, routed: &Routed, answer: &Answered<'_>) -> Option<Login> {
    let mut set = head.headers.get_all(header::SET_COOKIE).iter();
    let is_session = set.any(|cookie| routed.cluster.cookies.gives_session(cookie.as_bytes()));
    let (_, target) = super::route::origin_form(answer.request.raw_path());
    let command = url::parse(target).command.server_command();
    let is_form = matches!(command, Some(ServerCommand::Login | ServerCommand::ProviderLogin))
        && answer.request.method == Method::POST
        && head.status.is_redirection();
    if !is_session && !is_form {
        return None;
    }
    let hinted = || routed.hinted.map(|found| super::route::tag_of(&routed.cluster, &routed.view, &found));
    let database = database_of_location(head, routed).or_else(hinted).or(routed.database_tag);
    Some(Login { database: database.unwrap_or(ANY_DATABASE), is_session, is_form })
}

/// The database to which an answer redirects the browser.
fn database_of_location(head: &ResponseHeader, routed: &Routed) -> Option<u32> {
    let location = head.headers.get(header::LOCATION)?.as_bytes();
    let is_absolute = url::path_and_query_of_absolute(location).is_some();
    if is_absolute && !carried::is_ours(location, &routed.authority, routed.tls) {
        return None;
    }
    let (_, target) = super::route::origin_form(location);
    let is_form = url::parse(target).is_login_form();
    if is_form { None } else { super::route::tag_of_target(&routed.cluster, &routed.view, target) }
}

/// The entry after this answer. A user whose server is merely not answering this once keeps it; one whose
/// server is gone moves with everything.
fn record(
    entries: &mut Entries,
    routed: &Routed,
    attempt: &Attempt,
    tried: &[MemberIx],
    tag: u32,
    now: u32,
    idle: u32,
) -> bool {
    let Some(serving) = routed.view.entry(attempt.member).map(Entry::tag) else { return false };
    let Some(home) = routed.entry.filter(|home| *home != attempt.member) else {
        return entries.touch(serving, tag, now, idle);
    };
    let Some(home_tag) = routed.view.entry(home).map(Entry::tag) else {
        return entries.touch(serving, tag, now, idle);
    };
    let goes_back = routed.cluster.settings.affinity.fail_back.is_some();
    // What would selection say of the old server now, had this request not tried it?
    let without_this: SmallVec<[MemberIx; 4]> = tried.iter().copied().filter(|m| *m != home).collect();
    match super::failover::decide(routed, &without_this).verdict(home) {
        Some(Verdict::Unreachable) => {
            if goes_back {
                entries.remember_all(home_tag);
            }
            let moved = entries.replace_server(home_tag, serving);
            entries.touch(serving, tag, now, idle) || moved
        }
        Some(Verdict::Restricted | Verdict::OutOfService | Verdict::PendingDelete) => {
            if goes_back {
                entries.remember(tag, home_tag);
            }
            entries.touch(serving, tag, now, idle)
        }
        None => entries.touch(serving, tag, now, idle),
        // It can serve: one retried request, or one that found it full, moves nobody.
        Some(_) => entries.touch(home_tag, tag, now, idle),
    }
}

fn is_html(head: &ResponseHeader) -> bool {
    let is = |kind: &[u8], name: &[u8]| {
        kind.get(..name.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(name))
    };
    let kind = head.headers.get(header::CONTENT_TYPE).map(|kind| kind.as_bytes());
    kind.is_some_and(|kind| is(kind, b"text/html") || is(kind, b"application/xhtml+xml"))
}
