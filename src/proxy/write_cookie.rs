//! The write cookie: which servers took the user's last writes. It is written by other responses than the affinity
//! cookie, and whatever their content type is.

use http::Method;
use pingora::Result;

use super::affinity_cookie::{self, ResponseContext};
use super::attempt::Attempt;
use super::routed::Routed;
use crate::domain::affinity::session_cookies::write_cookie_name;
use crate::domain::affinity::{WriteStamp, WriteStamps, same_site};
use crate::domain::url::{self, RequestSafety, ServerCommand};
use crate::upstream::response_head::{ResponseField, ResponseHead};
use crate::util::clock;

/// The database with the login forms of an organization.
const LOGIN_FORMS: &[u8] = b"domcfg.nsf";

/// Adds a stamp after a request that may have changed the database.
pub(super) fn write<H: ResponseHead>(
    head: &mut H,
    routed: &mut Routed,
    attempt: &Attempt,
    response: &ResponseContext<'_>,
) -> Result<()> {
    if routed.affinity.moves_last_write && response.is_page {
        return move_stamp(head, routed, attempt);
    }
    if !is_write(&response.request.method, routed, head.status().as_u16()) || is_login(head, routed, response)
    {
        return Ok(());
    }
    let (Some(database), Some(entry)) = (routed.database.tag, routed.view.server(attempt.server)) else {
        return Ok(());
    };
    let now = i64::try_from(clock::unix_secs()).unwrap_or(i64::MAX);
    let time = entry.server.date_offset.time_of_answer(date_of(head), now);
    let stamp = WriteStamp {
        server: entry.tag(),
        database,
        time: u32::try_from(time).unwrap_or_default(),
        told: false,
    };
    if let Some(found) = &routed.database.found {
        let replica_id = routed.view.directory.index.database(found.database).replica_id();
        let at =
            u64::try_from(entry.server.date_offset.to_ours(time)).unwrap_or_default().saturating_mul(1_000);
        routed.cluster.persistent_state.record_write(replica_id, entry.server.tag(), at);
    }
    let affinity = &routed.affinity;
    let is_carried = affinity.has_affinity_cookie
        || !affinity.write_stamps.is_empty()
        || same_site::browser_sends_cookie(
            routed.cluster.settings.affinity.same_site,
            &response.request.method,
            &response.request.headers,
            &routed.authority,
            routed.tls,
        );
    if is_carried
        && routed.affinity.write_stamps.record(stamp)
        && let Some(cookie) = set_cookie(routed, &routed.affinity.write_stamps)
    {
        head.append(ResponseField::SetCookie, cookie)?;
    }
    Ok(())
}

/// After a fail-back the stamp names the server that has the write by now, or the next page would lead away from it.
fn move_stamp<H: ResponseHead>(head: &mut H, routed: &mut Routed, attempt: &Attempt) -> Result<()> {
    let Some(write) = routed.affinity.last_write.filter(|write| write.server == attempt.server) else {
        return Ok(());
    };
    let (Some(database), Some(entry)) = (routed.database.tag, routed.view.server(attempt.server)) else {
        return Ok(());
    };
    let ours = i64::try_from(write.unix_ms / 1_000).unwrap_or_default();
    let time = u32::try_from(entry.server.date_offset.ours_to_server(ours)).unwrap_or_default();
    let tag = entry.tag();
    routed.affinity.write_stamps.move_to(database, tag, time);
    if let Some(cookie) = set_cookie(routed, &routed.affinity.write_stamps) {
        head.append(ResponseField::SetCookie, cookie)?;
    }
    Ok(())
}

/// The `Set-Cookie` value of the page that tells the user about the last write, so that the next request passes.
pub(super) fn told(routed: &Routed) -> Option<String> {
    let mut stamps = routed.affinity.write_stamps.clone();
    stamps.mark_told(routed.database.tag?);
    set_cookie(routed, &stamps)
}

fn set_cookie(routed: &Routed, stamps: &WriteStamps) -> Option<String> {
    let settings = &routed.cluster.settings.affinity;
    let value = routed.cluster.affinity_keys.encode_writes(stamps)?;
    let same_site = settings.same_site.effective(routed.tls);
    Some(affinity_cookie::set_cookie(routed, &write_cookie_name(&settings.cookie), &value, same_site))
}

/// Whether a server has carried out a request that may change the database.
fn is_write(method: &Method, routed: &Routed, status: u16) -> bool {
    let may_change = matches!(*method, Method::POST | Method::PUT | Method::PATCH | Method::DELETE)
        || routed.class == RequestSafety::Unsafe;
    may_change && (200..400).contains(&status)
}

/// A login or logout changes no database. The message of an identity provider may go to any URL, but its answer sets a
/// session.
fn is_login<H: ResponseHead>(head: &H, routed: &Routed, response: &ResponseContext<'_>) -> bool {
    let target = url::parse(response.request.raw_path());
    let command = target.command.server_command();
    matches!(command, Some(ServerCommand::Login | ServerCommand::ProviderLogin | ServerCommand::Logout))
        || target.database.is_some_and(|database| database.raw.eq_ignore_ascii_case(LOGIN_FORMS))
        || (response.sets_cookies && affinity_cookie::sets_session(head, routed))
}

/// The `Date` of the server in Unix seconds.
fn date_of<H: ResponseHead>(head: &H) -> Option<i64> {
    let text = std::str::from_utf8(head.first(ResponseField::Date)?).ok()?;
    Some(chrono::DateTime::parse_from_rfc2822(text).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pingora_http::ResponseHeader;

    #[test]
    fn the_date_of_an_answer_is_read_and_a_wrong_one_is_unknown() {
        let date = |text: &'static str| {
            let mut head = ResponseHeader::build(200, None).unwrap();
            head.set(ResponseField::Date, text).unwrap();
            date_of(&head)
        };
        assert_eq!(date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!((date("yesterday"), date("")), (None, None));
        assert_eq!(date_of(&ResponseHeader::build(200, None).unwrap()), None);
    }
}
