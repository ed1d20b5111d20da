//! Which responses are kept, and for how long (RFC 9111), as far as `pingora-cache` leaves that to its user.

use std::time::{Duration, SystemTime};

use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, AGE, CACHE_CONTROL, CONTENT_RANGE, CONTENT_TYPE, EXPIRES, LAST_MODIFIED,
    PRAGMA, SET_COOKIE, VARY,
};
use http::{HeaderName, HeaderValue};
use pingora_cache::cache_control::CacheControl;
use pingora_cache::filters::{calculate_fresh_until, calculate_serve_stale_durations};
use pingora_cache::{CacheMeta, CacheMetaDefaults, NoCacheReason, RespCacheable};
use pingora_http::ResponseHeader;

/// The share of the time since the last change for which a response without a lifetime of its own is fresh
/// (RFC 9111 section 4.2.2).
const HEURISTIC_DIVISOR: u32 = 10;
const MAX_HEURISTIC: Duration = Duration::from_secs(24 * 3600);
/// What differs by these differs by user.
const PERSONAL: [&[u8]; 3] = [b"*", b"cookie", b"authorization"];

/// Whether a response may be kept, and until when it is fresh. `stale` is how long it may be used after that while no server
/// answers, unless it says otherwise itself.
pub(super) fn cacheable(head: &ResponseHeader, stale: Duration, now: SystemTime) -> RespCacheable {
    match meta(head, stale, now) {
        Some(meta) => RespCacheable::Cacheable(meta),
        None => RespCacheable::Uncacheable(NoCacheReason::OriginNotCache),
    }
}

fn meta(head: &ResponseHeader, stale: Duration, now: SystemTime) -> Option<CacheMeta> {
    let has = |name: &HeaderName| head.headers.contains_key(name);
    let control = CacheControl::from_resp_headers(head);
    // With the names of fields these two are about the fields only, of which a stored response would have to be stripped.
    let is_private = control.as_ref().is_some_and(|control| {
        control.no_store()
            || control.has_key("private")
            || (control.has_key("no-cache") && !control.no_cache())
    });
    let is_for_one = has(&SET_COOKIE)
        || has(&CONTENT_RANGE)
        || is_private
        || varies_by_user(head)
        || is_for_one_origin(head);
    // HTTP/1.0 had no other way to say it.
    let is_http10_no_cache = !has(&CACHE_CONTROL)
        && head.headers.get(PRAGMA).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"no-cache"));
    if is_for_one || is_http10_no_cache || !matches!(head.status.as_u16(), 200 | 301 | 404) {
        return None;
    }
    let lasts = u32::try_from(stale.as_secs()).unwrap_or(u32::MAX);
    let defaults = CacheMetaDefaults::new(|_| None, 0, lasts);
    let explicit = calculate_fresh_until(now, control.as_ref(), head, false, &defaults);
    let fresh_until = match explicit {
        Some(until) => until.checked_sub(age(head))?,
        None => now.checked_add(heuristic(head, now)?)?,
    };
    let can_be_confirmed = has(&LAST_MODIFIED) || has(&http::header::ETAG);
    if fresh_until <= now && !can_be_confirmed {
        return None;
    }
    let (_, on_error) = calculate_serve_stale_durations(control.as_ref(), &defaults);
    let must_ask = control.as_ref().is_some_and(CacheControl::no_cache);
    Some(CacheMeta::new(fresh_until, now, 0, if must_ask { 0 } else { on_error }, head.clone()))
}

/// What a page without a lifetime gets. Pages that applications generate get none: a login form also comes with status 200.
fn heuristic(head: &ResponseHeader, now: SystemTime) -> Option<Duration> {
    let is_page = head.headers.get(CONTENT_TYPE).is_none_or(|value| {
        let value = value.as_bytes();
        value.get(..9).is_some_and(|start| start.eq_ignore_ascii_case(b"text/html"))
    });
    if is_page || head.status == 404 || head.headers.contains_key(EXPIRES) {
        return None;
    }
    let modified = date(head.headers.get(LAST_MODIFIED)?)?;
    let unchanged = now.duration_since(modified).ok()?;
    Some((unchanged / HEURISTIC_DIVISOR).min(MAX_HEURISTIC))
}

fn date(value: &HeaderValue) -> Option<SystemTime> {
    let time = chrono::DateTime::parse_from_rfc2822(value.to_str().ok()?).ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).ok()?))
}

/// How old the response was when it came.
fn age(head: &ResponseHeader) -> Duration {
    let age = head.headers.get(AGE).and_then(|age| age.to_str().ok()?.trim().parse::<u32>().ok());
    Duration::from_secs(age.unwrap_or(0).into())
}

fn varies_by_user(head: &ResponseHeader) -> bool {
    vary_names(head.headers.get_all(VARY).iter())
        .any(|name| PERSONAL.iter().any(|personal| name.eq_ignore_ascii_case(personal)))
}

/// Whether a response allows one other site to read it without saying that it differs by site.
fn is_for_one_origin(head: &ResponseHeader) -> bool {
    let mut allowed = head.headers.get_all(ACCESS_CONTROL_ALLOW_ORIGIN).iter();
    allowed.any(|origin| origin.as_bytes().trim_ascii() != b"*")
        && !vary_names(head.headers.get_all(VARY).iter()).any(|name| name.eq_ignore_ascii_case(b"origin"))
}

/// The names in `Vary`.
pub(super) fn vary_names<'h>(lines: impl Iterator<Item = &'h HeaderValue>) -> impl Iterator<Item = &'h [u8]> {
    let names = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    names.map(<[u8]>::trim_ascii).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LASTS: Duration = Duration::from_secs(3600);

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_796_026_502)
    }

    fn head(status: u16, fields: &[(&'static str, &str)]) -> ResponseHeader {
        let mut head = ResponseHeader::build(status, None).unwrap();
        for (name, value) in fields {
            head.append_header(*name, *value).unwrap();
        }
        head
    }

    /// Seconds for which a response is fresh, and how long it may be used after that.
    fn kept(status: u16, fields: &[(&'static str, &str)]) -> Option<(u64, u32)> {
        let meta = meta(&head(status, fields), LASTS, now())?;
        let fresh = meta.fresh_until().duration_since(now()).map_or(0, |fresh| fresh.as_secs());
        Some((fresh, meta.stale_if_error_sec()))
    }

    const SCRIPT: (&str, &str) = ("Content-Type", "application/javascript");
    /// Ten days before [`now`].
    const MODIFIED: (&str, &str) = ("Last-Modified", "Fri, 20 Nov 2026 08:15:02 GMT");

    #[test]
    fn a_lifetime_of_the_server_counts() {
        assert_eq!(kept(200, &[("Cache-Control", "max-age=60")]), Some((60, 3600)));
        assert_eq!(kept(200, &[("Cache-Control", "max-age=60"), ("Age", "20")]), Some((40, 3600)));
        assert_eq!(kept(200, &[("Cache-Control", "public, max-age=60, s-maxage=30")]), Some((30, 0)));
        assert_eq!(kept(200, &[("Expires", "Mon, 30 Nov 2026 08:16:02 GMT")]), Some((60, 3600)));
        assert_eq!(kept(301, &[("Cache-Control", "max-age=60")]), Some((60, 3600)));
        assert_eq!(kept(404, &[("Cache-Control", "max-age=60")]), Some((60, 3600)));
        assert_eq!(kept(200, &[("Cache-Control", "max-age=60, stale-if-error=5")]), Some((60, 5)));
        for strict in ["max-age=60, must-revalidate", "max-age=60, proxy-revalidate"] {
            assert_eq!(kept(200, &[("Cache-Control", strict)]), Some((60, 0)), "{strict}");
        }
    }

    #[test]
    fn without_a_lifetime_a_tenth_of_the_time_since_the_last_change_counts() {
        assert_eq!(kept(200, &[SCRIPT, MODIFIED]), Some((24 * 3600, 3600)));
        let yesterday = ("Last-Modified", "Sun, 29 Nov 2026 08:15:02 GMT");
        assert_eq!(kept(200, &[SCRIPT, yesterday]), Some((8640, 3600)), "a day");
        assert_eq!(kept(200, &[SCRIPT]), None);
        assert_eq!(kept(200, &[MODIFIED]), None, "unknown type");
        assert_eq!(kept(200, &[("Content-Type", "text/html"), MODIFIED]), None, "may be a login form");
        assert_eq!(kept(404, &[SCRIPT, MODIFIED]), None);
        assert_eq!(kept(200, &[SCRIPT, ("Last-Modified", "Tue, 30 Nov 2027 08:15:02 GMT")]), None, "future");
    }

    #[test]
    fn what_is_stale_at_once_is_kept_only_if_a_server_can_confirm_it() {
        for field in [("Cache-Control", "no-cache"), ("Cache-Control", "max-age=0"), ("Expires", "0")] {
            assert_eq!(kept(200, &[SCRIPT, field]), None, "{field:?}");
            assert_eq!(kept(200, &[SCRIPT, field, ("ETag", "\"1\"")]).unwrap().0, 0, "{field:?}");
        }
        assert_eq!(kept(200, &[("Cache-Control", "no-cache"), ("ETag", "\"1\"")]), Some((0, 0)));
        assert_eq!(kept(200, &[SCRIPT, MODIFIED, ("Pragma", "no-cache")]), None);
    }

    #[test]
    fn what_is_for_one_user_is_never_kept() {
        let fresh = ("Cache-Control", "max-age=60");
        for field in [
            ("Set-Cookie", "a=b"),
            ("Vary", "Accept, *"),
            ("Vary", "cookie"),
            ("Vary", "Authorization"),
            ("Content-Range", "bytes 0-1/2"),
            ("Access-Control-Allow-Origin", "https://other.example"),
            ("Cache-Control", "private"),
            ("Cache-Control", "private=\"x-user\""),
            ("Cache-Control", "no-cache=\"set-cookie\""),
            ("Cache-Control", "No-Store"),
        ] {
            assert_eq!(kept(200, &[fresh, field]), None, "{field:?}");
        }
        for status in [201, 203, 206, 302, 401, 403, 500] {
            assert_eq!(kept(status, &[fresh]), None, "{status}");
        }
        assert!(kept(200, &[fresh, ("Vary", "Accept-Encoding, Accept-Language")]).is_some());
        let shared = ("Access-Control-Allow-Origin", "*");
        assert!(kept(200, &[fresh, shared]).is_some());
        let one = ("Access-Control-Allow-Origin", "https://other.example");
        assert!(kept(200, &[fresh, one, ("Vary", "Origin")]).is_some());
    }
}
