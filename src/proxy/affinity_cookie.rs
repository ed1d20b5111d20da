//! What an answer says in the affinity cookie: which server serves this browser from now on. Apart from the rest of
//! the answer's head, as it alone depends on who the user is.

use http::header;
use pingora::Result;
use pingora_http::ResponseHeader;
use smallvec::SmallVec;

use super::ctx::{Attempt, Routed};
use crate::affinity::Entries;
use crate::clock;
use crate::select::{MemberIx, Verdict};

/// Writes the affinity cookie where the browser must be told.
///
/// # Errors
/// When Pingora refuses the cookie, which is made of its own alphabet.
pub fn write(
    head: &mut ResponseHeader,
    routed: &mut Routed,
    attempt: &Attempt,
    tried: &[MemberIx],
    redirected: Option<(MemberIx, u32)>,
) -> Result<()> {
    let settings = &routed.cluster.settings.affinity;
    let now = u32::try_from(clock::unix_secs()).unwrap_or(u32::MAX);
    let idle = u32::try_from(settings.idle_timeout.as_secs()).unwrap_or(u32::MAX);
    let mut entries = routed.entries.clone();
    let mut tell = false;
    if let Some((member, tag)) = redirected
        && let Some(entry) = routed.view.entry(member)
    {
        tell |= entries.touch(entry.member.tag(), tag, now, idle);
        entries.forget_former(tag);
    } else if is_html(head)
        && let Some(tag) = routed.database_tag
    {
        tell |= record(&mut entries, routed, attempt, tried, tag, now, idle);
    }
    if !tell {
        return Ok(());
    }
    let Some(value) = routed.cluster.keys.encode(&entries) else { return Ok(()) };
    let secure = if routed.tls { "; Secure" } else { "" };
    head.append_header(
        header::SET_COOKIE,
        format!("{}={value}; Path=/; HttpOnly{secure}; SameSite=Lax", settings.cookie),
    )?;
    routed.entries = entries;
    Ok(())
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
    let serving = attempt.in_flight.member().tag();
    let Some(home) = routed.entry.filter(|home| *home != attempt.member) else {
        return entries.touch(serving, tag, now, idle);
    };
    let Some(home_tag) = routed.view.entry(home).map(|e| e.member.tag()) else {
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
    head.headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.as_bytes().get(..9))
        .is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/html"))
}
