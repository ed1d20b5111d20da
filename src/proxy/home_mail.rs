//! `home_mail`: asks the companion of a server who the user of a request is, and redirects to his mail file. It is separate
//! because the user's own request goes to no server: only his cookies do.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, header};
use pingora::Result;
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::attempt::Attempt;
use super::client_info::ClientInfo;
use super::ctx::Ctx;
use super::local_reply::LocalReply;
use super::routed::Routed;
use super::{failover, request_cookies, request_headers, server_choice};
use crate::config::settings::{HomeMail, RouteAction};
use crate::discovery::caller::{self, Caller, MailFile};
use crate::discovery::domino::fault::Fault;
use crate::discovery::domino::request::encode_form;
use crate::discovery::domino::{DominoRequest, DominoResponse, FetchError};
use crate::domain::cluster::Port;
use crate::domain::directory::{LookupResult, db_path};
use crate::domain::url;
use crate::pages::Problem;
use crate::state::ClusterView;
use crate::util::log_interval::LogInterval;

/// The agent looks up one document, and other agents may run before it.
const TIMEOUT: Duration = Duration::from_secs(5);
const MAX_BODY_BYTES: usize = 64 * 1024;
/// One log line about answers that cannot be used in this time, because clients could fill the log.
const LOG_INTERVAL_MS: u64 = 1_000;

/// Whether the route of the request is `home_mail`.
pub(super) fn is_wanted(ctx: &Ctx) -> bool {
    settings(ctx).is_some()
}

fn settings(ctx: &Ctx) -> Option<&HomeMail> {
    match &ctx.routed.as_ref()?.route.as_ref()?.action {
        RouteAction::HomeMail(home) => Some(home),
        _ => None,
    }
}

/// Asks one server, and answers with a redirect or an error page.
pub(super) async fn reply(session: &mut Session, ctx: &mut Ctx) -> LocalReply {
    let request = session.req_header();
    let (question, response) = match ask(ctx, request).await {
        Ok(answered) => answered,
        Err(problem) => return LocalReply::Problem(problem, ctx.cluster().cloned()),
    };
    let (Some(routed), Some(home)) = (&ctx.routed, settings(ctx)) else {
        return LocalReply::Rejected(Problem::Internal);
    };
    let cluster = || Some(Arc::clone(&routed.cluster));
    let redirect = |location| LocalReply::RouteRedirect(Arc::clone(&routed.cluster), 302, location);
    match caller::read(&response) {
        Ok(Caller::Anonymous) => redirect(login(home, request)),
        Ok(Caller::User { name, mail }) => {
            let target = mail.as_ref().and_then(|mail| target(&routed.view, mail));
            if target.is_none() {
                log::debug!(target: "icm::proxy", "home_mail: {}: no mail file of {name:?}", question.url());
            }
            target.map_or_else(|| LocalReply::Problem(Problem::NoHomeMail, cluster()), redirect)
        }
        Err(error) => {
            log_unusable(&question, &error);
            LocalReply::Problem(Problem::BadGateway, cluster())
        }
    }
}

/// Asks the server that selection chooses; the next one only if no connection was made.
async fn ask(
    ctx: &mut Ctx,
    request: &RequestHeader,
) -> std::result::Result<(DominoRequest, DominoResponse), Problem> {
    loop {
        if server_choice::begin_attempt(ctx, request).await.is_err() {
            return Err(ctx.problem.take().unwrap_or(Problem::NoServer));
        }
        let (Some(routed), Some(attempt), Some(question)) =
            (&ctx.routed, &ctx.attempt, question(ctx, request))
        else {
            return Err(Problem::Internal);
        };
        let answer = routed.cluster.client.fetch(&question).await;
        note_health(routed, attempt, &answer);
        match answer {
            Ok(response) => return Ok((question, response)),
            Err(error) if error.fault.is_connect() && failover::after_connect_failure(ctx) => {}
            Err(error) => {
                log_unusable(&question, &error.fault);
                return Err(match error.fault {
                    Fault::TimedOut(_) => Problem::GatewayTimeout,
                    fault if fault.is_connect() => Problem::NoServer,
                    _ => Problem::BadGateway,
                });
            }
        }
    }
}

/// The request to the agent: with the user's cookies and login, and what servers are told about every client.
fn question(ctx: &Ctx, request: &RequestHeader) -> Option<DominoRequest> {
    let (routed, attempt, home) = (ctx.routed.as_ref()?, ctx.attempt.as_ref()?, settings(ctx)?);
    let entry = routed.view.server(attempt.server)?;
    let mut question = DominoRequest::get(
        entry.address(routed.port)?,
        routed.port == Port::Https,
        &entry.config.hostname,
        &*home.agent,
    );
    question.timeout = TIMEOUT;
    question.max_body = MAX_BODY_BYTES;
    question.host_header =
        request_headers::host_of_server(routed, attempt).unwrap_or_else(|| routed.authority.to_string());
    question.headers = fields(routed, attempt, request, ctx.client).ok()?;
    Some(question)
}

fn fields(
    routed: &Routed,
    attempt: &Attempt,
    request: &RequestHeader,
    client: ClientInfo,
) -> Result<Vec<(HeaderName, HeaderValue)>> {
    let mut fields = Vec::new();
    let mut set = |name: &'static str, value: &[u8]| {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value))
        {
            fields.push((name, value));
        }
        Ok(())
    };
    request_headers::forwarding_fields(routed, client, &mut set)?;
    request_headers::connector_fields(routed, attempt, client, &mut set)?;
    let cookies = request_cookies::line_for_server(request, routed, attempt);
    if !cookies.is_empty() {
        set("cookie", &cookies)?;
    }
    // A login that belongs to the client's connection must not begin on one that others use.
    let login =
        request.headers.get(header::AUTHORIZATION).filter(|value| is_in_the_request(value.as_bytes()));
    if let Some(login) = login {
        set("authorization", login.as_bytes())?;
    }
    Ok(fields)
}

/// Whether a login is complete in the field, as with Basic and Bearer, unlike the steps of NTLM and Negotiate.
fn is_in_the_request(authorization: &[u8]) -> bool {
    let scheme = authorization.split(|b| *b == b' ').next().unwrap_or_default();
    scheme.eq_ignore_ascii_case(b"basic") || scheme.eq_ignore_ascii_case(b"bearer")
}

fn note_health(routed: &Routed, attempt: &Attempt, answer: &Result<DominoResponse, FetchError>) {
    let server = attempt.in_flight.server();
    server.attempt_ended(answer.is_err());
    match answer {
        Ok(_) => server.passive_success(routed.port, None),
        Err(_) => server.suspect(routed.port),
    }
}

/// The login with the way back.
fn login(home: &HomeMail, request: &RequestHeader) -> String {
    // Browsers take a path that begins with two slashes, of either kind, for a host.
    let target = String::from_utf8_lossy(request.raw_path()).into_owned();
    let back = format!("/{}", target.trim_start_matches(['/', '\\']));
    let separator = if home.login.contains('?') { '&' } else { '?' };
    format!("{}{separator}RedirectTo={}", home.login, encode_form(back.as_bytes()))
}

/// The mail file by its path, or by its replica ID if several databases have that path. `None` if the path could be taken
/// for another one.
fn target(view: &ClusterView, mail: &MailFile) -> Option<String> {
    let index = &view.directory.index;
    if let LookupResult::Ambiguous(ambiguous) = index.find_by_plain_path(&mail.path) {
        let home = view.server_by_name(mail.server.as_deref()?)?;
        let is_held = |found: &_| {
            index.replicas_by_server(found).any(|h| h.same_path && view.server_id(h.server) == Some(home))
        };
        let found = index.ambiguous_databases(ambiguous).find(is_held)?;
        return Some(format!("/__{}.nsf", index.database(found.database).replica_id()));
    }
    let target = format!("/{}", db_path::percent_encode_path(&mail.path));
    let parsed = url::parse(target.as_bytes());
    let is_whole = parsed.database.as_ref().is_some_and(|database| database.range.end == target.len());
    (is_whole && parsed.hazard.is_none()).then_some(target)
}

fn log_unusable(question: &DominoRequest, cause: &dyn std::fmt::Display) {
    static INTERVAL: LogInterval = LogInterval::new(LOG_INTERVAL_MS);
    if INTERVAL.is_due() {
        log::warn!(target: "icm::proxy", "home_mail: {}: {cause}", question.url());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login_of(target: &str, login_page: &str) -> String {
        let home = HomeMail { agent: "/x".into(), login: login_page.into() };
        login(&home, &RequestHeader::build("GET", target.as_bytes(), None).unwrap())
    }

    #[test]
    fn the_way_back_from_the_login_stays_on_this_site() {
        assert_eq!(login_of("/mail", "/names.nsf?Login"), "/names.nsf?Login&RedirectTo=%2Fmail");
        assert_eq!(login_of("/mail?a=b&c", "/login"), "/login?RedirectTo=%2Fmail%3Fa%3Db%26c");
        for target in ["//evil.example/mail", "/\\evil.example/mail", "///evil.example/mail"] {
            let back = login_of(target, "/l");
            assert_eq!(back, "/l?RedirectTo=%2Fevil.example%2Fmail", "{target}");
        }
    }

    #[test]
    fn only_a_login_that_needs_no_connection_is_passed_on() {
        assert!(is_in_the_request(b"Basic SmFuZQ==") && is_in_the_request(b"bearer abc"));
        for other in ["NTLM TlRM", "Negotiate YII", "", "Basically x", "Digest a=b"] {
            assert!(!is_in_the_request(other.as_bytes()), "{other}");
        }
    }
}
