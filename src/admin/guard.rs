//! Who may ask what: the token, a Host that is ours, no foreign page.
//!
//! In: a request and what it wants. Out: leave, or the answer that refuses it.
//!
//! A browser can be made to send requests here by any page that its user looks at. It cannot be made to send
//! the token, nor to lie about the `Origin` of a page. But a page of `evil.example` whose name suddenly resolves to
//! 127.0.0.1 is of the same origin as this listener for the browser, and only the Host betrays it. So:
//!
//! - On loopback everybody on this machine may read, if the Host is ours.
//! - Off loopback reading needs the token, which such a page does not have; the Host is free, as scrapers and
//!   load balancers use names that we cannot know.
//! - What changes something needs the token wherever one is set, and always a Host that is ours.
//! - Ours are `localhost`, loopback addresses, the address of the configuration and that of this very connection, the
//!   name that this machine has for itself, and the names in the listener's own certificate. A name that only DNS
//!   connects with us is not ours: DNS is what the attack uses.
//! - A page of another origin changes nothing, not even with the login of the status page.

use std::net::IpAddr;

use http::header;
use http::{HeaderMap, StatusCode};

use super::attempts::{self, Attempts};
use super::reply::Reply;
use super::{Call, host_of, login};
use crate::util::clock;
use crate::util::token;

/// What a route asks of those who use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing: for load balancers and supervisors.
    Open,
    /// A Host that is ours on loopback. What it shows is for everybody: the page asks for the token itself.
    Page,
    /// Off loopback the token; on loopback a Host that is ours.
    Read,
    /// The token wherever one is set, always a Host that is ours, never a foreign origin.
    Act,
}

/// How a request has shown the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// No token is set.
    NoneSet,
    /// Not, or a wrong one.
    No,
    /// In `Authorization`.
    Bearer,
    /// By the cookie of a login.
    Cookie,
}

impl Shown {
    /// By this request.
    #[must_use]
    pub fn by(call: &Call) -> Self {
        let Some(token) = &call.snapshot.settings.admin.token else { return Self::NoneSet };
        if token::has_bearer_token(&call.head, &token.0) {
            Self::Bearer
        } else if login::is_logged_in(&call.head, &token.0, call.peer.map(|a| a.ip())) {
            Self::Cookie
        } else {
            Self::No
        }
    }
}

/// Counts a wrong token against the client's address, and holds the answer to it back. The refusal for an address that has
/// shown too many: there not even the right token is looked at, else guessing would go on.
pub async fn attempt(call: &Call, is_open: bool, attempts: &Attempts) -> Option<Reply> {
    let token = call.snapshot.settings.admin.token.as_ref()?;
    let client = call.peer?.ip();
    let is_right = if login::is_login(call) {
        login::is_right(call, &token.0)
    } else if token::bearer_token(&call.head).is_some() && !is_open {
        token::has_bearer_token(&call.head, &token.0)
    } else {
        return None;
    };
    if let Some(seconds) = attempts.must_wait(client, clock::now_ms()) {
        return Some(Reply::too_many_attempts(seconds));
    }
    if !is_right {
        attempts.failed(client, "admin", clock::now_ms());
        tokio::time::sleep(attempts::DELAY).await;
    }
    None
}

/// Whether the request may do what needs this access.
///
/// # Errors
/// The answer that refuses it.
pub fn check(access: Access, call: &Call) -> Result<(), Reply> {
    let configured = call.snapshot.settings.admin.address.ip();
    let loopback = configured.is_loopback();
    match access {
        Access::Open => Ok(()),
        Access::Page if loopback => own_host(call, configured),
        Access::Page => Ok(()),
        Access::Read if loopback => own_host(call, configured),
        // Without a token nobody may: the configuration refuses this, and a reload might have taken it away.
        Access::Read if matches!(Shown::by(call), Shown::No | Shown::NoneSet) => Err(Reply::unauthorised()),
        Access::Read => Ok(()),
        Access::Act => {
            own_host(call, configured)?;
            let shown = Shown::by(call);
            if is_foreign(&call.head.headers, shown == Shown::Cookie) {
                return Err(Reply::problem(
                    StatusCode::FORBIDDEN,
                    "foreign_origin",
                    "this was sent by a page of another site, and nothing was done; use the status page or `icm`",
                ));
            }
            match shown {
                Shown::Bearer | Shown::Cookie => Ok(()),
                Shown::NoneSet if loopback => Ok(()),
                Shown::NoneSet | Shown::No => Err(Reply::unauthorised()),
            }
        }
    }
}

fn own_host(call: &Call, configured: IpAddr) -> Result<(), Reply> {
    let host = host_of(&call.head);
    let ours = match host.parse::<IpAddr>() {
        Ok(ip) => {
            let ip = ip.to_canonical();
            ip.is_loopback() || ip == configured || call.local.is_some_and(|l| l.ip().to_canonical() == ip)
        }
        Err(_) => {
            let name = host.strip_suffix('.').unwrap_or(host);
            name.eq_ignore_ascii_case("localhost")
                || is_this_machine(name)
                || call.certificate.as_ref().is_some_and(|c| c.covers_name(name))
        }
    };
    if ours {
        return Ok(());
    }
    Err(Reply::problem(
        StatusCode::MISDIRECTED_REQUEST,
        "foreign_host",
        format!(
            "the Host `{}` is not ours; use the address {}, this machine's host name, or a name in the certificate \
             of admin.tls",
            host.chars().take(80).collect::<String>(),
            call.snapshot.settings.admin.address,
        ),
    ))
}

/// The name that the system has for itself.
fn is_this_machine(name: &str) -> bool {
    let own = nix::unistd::gethostname().ok().and_then(|own| own.into_string().ok()).unwrap_or_default();
    !own.is_empty() && own.eq_ignore_ascii_case(name)
}

/// Sent by a page that is not ours. A browser names the origin of every POST; a program does not, and needs to
/// only where it could be a browser, that is with a cookie.
fn is_foreign(headers: &HeaderMap, must_name_origin: bool) -> bool {
    let host = headers.get(header::HOST).map(|h| h.as_bytes()).unwrap_or_default();
    let site = headers.get("sec-fetch-site").map(|v| v.as_bytes());
    if site.is_some_and(|site| site != b"same-origin" && site != b"none") {
        return true;
    }
    match headers.get(header::ORIGIN) {
        Some(origin) => {
            let origin = origin.as_bytes();
            let at = origin.windows(3).position(|w| w == b"://").map_or(0, |p| p + 3);
            !origin.get(at..).is_some_and(|origin| origin.eq_ignore_ascii_case(host))
        }
        None => must_name_origin && site != Some(b"same-origin"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        list.iter().map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap())).collect()
    }

    #[test]
    fn only_a_page_of_this_very_origin_is_not_foreign() {
        let foreign = |origin| is_foreign(&headers(&[("host", "127.0.0.1:8098"), ("origin", origin)]), false);
        assert!(!foreign("http://127.0.0.1:8098") && !foreign("https://127.0.0.1:8098"));
        for origin in
            ["null", "http://127.0.0.1", "http://127.0.0.1:8099", "http://evil.example", "127.0.0.1", ""]
        {
            assert!(foreign(origin), "{origin}");
        }
    }

    #[test]
    fn a_cookie_counts_only_with_a_named_origin() {
        let host = ("host", "icm1:8098");
        assert!(!is_foreign(&headers(&[host]), false));
        assert!(is_foreign(&headers(&[host]), true));
        assert!(!is_foreign(&headers(&[host, ("origin", "https://icm1:8098")]), true));
        assert!(!is_foreign(&headers(&[host, ("sec-fetch-site", "same-origin")]), true));
        // A neighbour on another port of this machine is of the same site, and still a stranger.
        assert!(is_foreign(&headers(&[host, ("sec-fetch-site", "same-site")]), false));
        assert!(is_foreign(&headers(&[host, ("sec-fetch-site", "cross-site")]), false));
    }
}
