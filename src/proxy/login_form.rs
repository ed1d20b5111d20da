//! The body of a login names the database that the login form was shown for (`RedirectTo`). It is read before a server
//! is chosen, so that the session begins where the user works.

use http::{Method, header};
use pingora::Result;
use pingora_proxy::Session;

use super::database_lookup::entry_of_url;
use super::http_validation::content_length;
use super::routed::Routed;
use crate::domain::select::Hint;
use crate::domain::url::{self, ServerCommand};

/// The rest of a longer form is not read.
const MAX_FORM_BYTES: usize = 16 * 1024;

/// Takes the `RedirectTo` of a login form as a hint.
pub(super) async fn read(session: &mut Session, routed: &mut Routed) -> Result<()> {
    if !is_needed(session, routed) {
        return Ok(());
    }
    session.as_mut().enable_retry_buffering();
    let mut form = Vec::new();
    while let Some(chunk) = session.as_mut().read_request_body().await? {
        form.extend_from_slice(&chunk);
        if form.len() > MAX_FORM_BYTES {
            return Ok(());
        }
    }
    if let Some(value) = url::find_argument(&form, b"RedirectTo")
        && let Some((server, found)) =
            entry_of_url(&routed.cluster, &routed.view, &value, &routed.affinity.entries)
    {
        routed.affinity.hint = Some((server, Hint::RedirectTo));
        routed.affinity.hinted_database = found;
    }
    Ok(())
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
