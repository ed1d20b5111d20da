//! The body of a login names the user, and the database that the login form was shown for (`RedirectTo`). It is read before
//! a server is chosen, so that the session begins where the user works, and attempts can be limited.

use std::sync::atomic::Ordering::Relaxed;

use http::{Method, header};
use pingora::Result;
use pingora_proxy::Session;
use smallvec::SmallVec;

use super::Proxy;
use super::ctx::Ctx;
use super::database_lookup::entry_of_url;
use super::http_validation::content_length;
use super::local_reply::LocalReply;
use super::login_limits::{LoginKey, LoginLimiter, LoginRefused, UserKey};
use super::routed::Routed;
use crate::config::settings::LoginLimits;
use crate::domain::select::Hint;
use crate::domain::url::{self, ServerCommand, Target};
use crate::edge::raw_request::field_values;
use crate::pages::Problem;
use crate::upstream::response_head::{ResponseField, ResponseHead};
use crate::util::percent::PercentDecoder;

/// The rest of a longer form is not read.
const MAX_FORM_BYTES: usize = 16 * 1024;

/// The body of a form.
enum Form {
    Read(Vec<u8>),
    TooLong,
}

impl Proxy {
    /// Takes the `RedirectTo` of a login form as a hint, and counts the attempt.
    ///
    /// # Errors
    /// The client does not send the body. The inner error is the response to an attempt beyond a limit.
    pub(super) async fn read_login(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        routed: &mut Routed,
    ) -> Result<Result<(), LocalReply>> {
        let limits = &routed.snapshot.settings.limits;
        if let Some(limits) = LoginLimiter::limits_for(limits, ctx.client.address)
            && is_login_attempt(session)
        {
            return self.limited_login(session, ctx, routed, limits).await;
        }
        if is_needed(session, routed)
            && let Form::Read(form) = read_form(session).await?
        {
            take_hint(routed, &form);
        }
        Ok(Ok(()))
    }

    async fn limited_login(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        routed: &mut Routed,
        limits: LoginLimits,
    ) -> Result<Result<(), LocalReply>> {
        if let Err(refused) = self.login_limits.count_address(limits, ctx.client.address) {
            return Ok(Err(self.refuse_login(ctx, routed, refused, limits)));
        }
        if limits.per_user == 0 && !is_needed(session, routed) {
            return Ok(Ok(()));
        }
        // The name must be known before the request is sent on, and clients wait for a 100 that only a server sends.
        if field_values(session.req_header(), header::EXPECT.as_str()).next().is_some() {
            return Ok(Err(Problem::ExpectationFailed.into()));
        }
        let takes_hint = is_needed(session, routed);
        let Form::Read(form) = read_form(session).await? else {
            return Ok(Err(Problem::BodyTooLarge.into()));
        };
        if takes_hint {
            take_hint(routed, &form);
        }
        let user = match self.user_of(session, &form) {
            Ok(Some(user)) => user,
            Ok(None) => return Ok(Ok(())),
            Err(problem) => return Ok(Err(problem.into())),
        };
        if let Err(refused) = self.login_limits.count_user(limits, user) {
            return Ok(Err(self.refuse_login(ctx, routed, refused, limits)));
        }
        ctx.login_user = Some(user);
        Ok(Ok(()))
    }

    /// The user that a form or a URL names; `None` if it names none, which cannot succeed either.
    fn user_of(&self, session: &Session, form: &[u8]) -> Result<Option<UserKey>, Problem> {
        let head = session.req_header();
        let target = url::parse(head.raw_path());
        let (mut user, mut is_other) = (None, false);
        let mut take = |name: &[u8]| {
            if !name.trim_ascii().is_empty() {
                let key = self.login_limits.user_key(name);
                is_other |= user.replace(key).is_some_and(|before| before != key);
            }
            is_other
        };
        let _ =
            url::any_argument(form, b"Username", &mut take) || target.any_argument(b"Username", &mut take);
        if is_other {
            // Which one the server takes is not known.
            return Err(Problem::BadRequest("The login form names more than one user."));
        }
        let is_form = |value: &[u8]| {
            let name = b"application/x-www-form-urlencoded";
            value.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
        };
        let has_other_type = field_values(head, header::CONTENT_TYPE.as_str()).any(|value| !is_form(value));
        let is_unreadable = user.is_none() && !form.is_empty() && has_other_type;
        Ok(if is_unreadable { Some(self.login_limits.unreadable_user_key()) } else { user })
    }

    /// Clears the count of a user whose login succeeded: Domino redirects and begins a session, and shows the form again
    /// if the password is wrong.
    pub(super) fn note_login<H: ResponseHead>(&self, user: UserKey, head: &H) {
        let redirects = matches!(head.status().as_u16(), 302 | 303);
        if redirects
            && head.all(ResponseField::SetCookie).any(|value| self.login_limits.begins_session(value))
        {
            self.login_limits.succeeded(user);
        }
    }

    /// Counts a refusal, tells about the first one of an address or a name, and makes the response.
    fn refuse_login(
        &self,
        ctx: &Ctx,
        routed: &Routed,
        refused: LoginRefused,
        limits: LoginLimits,
    ) -> LocalReply {
        let statistics = &self.balancer.statistics.client_statistics;
        let (counter, max, key) = match refused.by {
            LoginKey::Address => (&statistics.logins_over_address, limits.per_address, "per_address"),
            LoginKey::User => (&statistics.logins_over_user, limits.per_user, "per_user"),
        };
        counter.fetch_add(1, Relaxed);
        let cluster = &routed.cluster;
        if refused.tells {
            let address = ctx.client.address.map_or("an unknown address".to_owned(), |at| at.to_string());
            let what = match refused.by {
                LoginKey::Address => format!("{address} tried"),
                // The name is not shown: users type their password there by mistake.
                LoginKey::User => format!("for one user name, at last from {address}, there were"),
            };
            let window = humantime::format_duration(limits.window);
            let text = format!(
                "{what} {max} logins in {window} (limits.logins.{key}): more get 429 for {} s",
                refused.wait_secs
            );
            self.balancer.events.record(log::Level::Warn, "logins", Some(&cluster.settings.name), text);
        }
        LocalReply::Problem(
            Problem::TooManyLogins { wait_secs: refused.wait_secs },
            Some(std::sync::Arc::clone(cluster)),
        )
    }
}

/// The whole body, which Pingora keeps for the server as well.
async fn read_form(session: &mut Session) -> Result<Form> {
    session.as_mut().enable_retry_buffering();
    let mut form = Vec::new();
    while let Some(chunk) = session.as_mut().read_request_body().await? {
        form.extend_from_slice(&chunk);
        if form.len() > MAX_FORM_BYTES {
            return Ok(Form::TooLong);
        }
    }
    Ok(Form::Read(form))
}

fn take_hint(routed: &mut Routed, form: &[u8]) {
    if let Some(value) = url::find_argument(form, b"RedirectTo")
        && let Some((server, found)) =
            entry_of_url(&routed.cluster, &routed.view, &value, &routed.affinity.entries)
    {
        routed.affinity.hint = Some((server, Hint::RedirectTo));
        routed.affinity.hinted_database = found;
    }
}

/// Whether a request tries a password: a form that is posted to a login in any spelling, or a URL with the name
/// of a user. A session is not given to anything else; Basic authentication is not counted.
fn is_login_attempt(session: &Session) -> bool {
    let head = session.req_header();
    let target = url::parse(head.raw_path());
    (head.method == Method::POST || has_credentials(&target))
        && target.may_be_command(|name| name == b"login")
}

/// Whether the query has the name of a user or a password, even if only some servers would read it there.
fn has_credentials(target: &Target<'_>) -> bool {
    let Some(query) = target.query.filter(|query| query.len() > b"username=".len()) else { return false };
    let mut text: SmallVec<[u8; 256]> = PercentDecoder::new(query).values().collect();
    text.make_ascii_lowercase();
    [&b"username="[..], b"password="].iter().any(|name| memchr::memmem::find(&text, name).is_some())
}

fn is_needed(session: &Session, routed: &Routed) -> bool {
    let (head, affinity) = (session.req_header(), &routed.affinity);
    // If only some servers hold the database of the URL, the form cannot choose another server.
    let may_choose = routed.database.found.as_ref().is_none_or(|found| routed.view.is_on_every_server(found));
    affinity.entry.is_none()
        && routed.cluster.pool_tag.is_none()
        && may_choose
        && !affinity.entries.is_empty()
        && !matches!(affinity.hint, Some((_, Hint::RedirectTo)))
        && head.method == Method::POST
        && url::parse(head.raw_path()).command.server_command() == Some(ServerCommand::Login)
        && !head.headers.contains_key(header::EXPECT)
        && content_length(&head.headers).is_some_and(|length| length <= MAX_FORM_BYTES as u64)
}
