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

use super::reply::AdminReply;
use super::token_failures::{self, TokenFailures};
use super::{AdminRequest, login, request_host};
use crate::util::clock;
use crate::util::token;

/// What a route asks of those who use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing: for load balancers and supervisors.
    Public,
    /// A Host that is ours on loopback. What it shows is for everybody: the page asks for the token itself.
    Page,
    /// Off loopback the token; on loopback a Host that is ours.
    Read,
    /// The token wherever one is set, always a Host that is ours, never a foreign origin.
    Modify,
}

/// How a request has shown the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenStatus {
    /// No token is set.
    NotConfigured,
    /// Not, or a wrong one.
    Invalid,
    /// In `Authorization`.
    Bearer,
    /// By the cookie of a login.
    Cookie,
}

impl TokenStatus {
    /// By this request.
    #[must_use]
    pub fn of_request(request: &AdminRequest) -> Self {
        let Some(token) = &request.snapshot.settings.admin.token else { return Self::NotConfigured };
        if token::has_bearer_token(&request.header, &token.0) {
            Self::Bearer
        } else if login::is_logged_in(&request.header, &token.0, request.peer.map(|a| a.ip())) {
            Self::Cookie
        } else {
            Self::Invalid
        }
    }
}

/// Counts a wrong token against the client's address, and holds the answer to it back. The refusal for an address that has
/// shown too many: there not even the right token is looked at, else guessing would go on.
pub async fn throttle_wrong_tokens(
    request: &AdminRequest,
    is_open: bool,
    token_failures: &TokenFailures,
) -> Option<AdminReply> {
    let token = request.snapshot.settings.admin.token.as_ref()?;
    let client = request.peer?.ip();
    let token_matches = if login::is_login(request) {
        login::token_matches(request, &token.0)
    } else if token::bearer_token(&request.header).is_some() && !is_open {
        token::has_bearer_token(&request.header, &token.0)
    } else {
        return None;
    };
    if let Some(seconds) = token_failures.retry_after_secs(client, clock::now_ms()) {
        return Some(AdminReply::too_many_attempts(seconds));
    }
    if !token_matches {
        token_failures.record_failure(client, "admin", clock::now_ms());
        tokio::time::sleep(token_failures::FAILURE_DELAY).await;
    }
    None
}

/// Whether the request may do what needs this access.
///
/// # Errors
/// The answer that refuses it.
pub fn authorize(access: Access, request: &AdminRequest) -> Result<(), AdminReply> {
    let configured = request.snapshot.settings.admin.address.ip();
    let loopback = configured.is_loopback();
    match access {
        Access::Public => Ok(()),
        Access::Page if loopback => check_host(request, configured),
        Access::Page => Ok(()),
        Access::Read if loopback => check_host(request, configured),
        // Without a token nobody may: the configuration refuses this, and a reload might have taken it away.
        Access::Read
            if matches!(
                TokenStatus::of_request(request),
                TokenStatus::Invalid | TokenStatus::NotConfigured
            ) =>
        {
            Err(AdminReply::unauthorised())
        }
        Access::Read => Ok(()),
        Access::Modify => {
            check_host(request, configured)?;
            let token_status = TokenStatus::of_request(request);
            if is_cross_origin(&request.header.headers, token_status == TokenStatus::Cookie) {
                return Err(AdminReply::error(
                    StatusCode::FORBIDDEN,
                    "foreign_origin",
                    "this was sent by a page of another site, and nothing was done; use the status page or `icm`",
                ));
            }
            match token_status {
                TokenStatus::Bearer | TokenStatus::Cookie => Ok(()),
                TokenStatus::NotConfigured if loopback => Ok(()),
                TokenStatus::NotConfigured | TokenStatus::Invalid => Err(AdminReply::unauthorised()),
            }
        }
    }
}

fn check_host(request: &AdminRequest, configured: IpAddr) -> Result<(), AdminReply> {
    let host = request_host(&request.header);
    let is_own_host = match host.parse::<IpAddr>() {
        Ok(ip) => {
            let ip = ip.to_canonical();
            ip.is_loopback() || ip == configured || request.local.is_some_and(|l| l.ip().to_canonical() == ip)
        }
        Err(_) => {
            let name = host.strip_suffix('.').unwrap_or(host);
            name.eq_ignore_ascii_case("localhost")
                || is_local_host_name(name)
                || request.certificate.as_ref().is_some_and(|c| c.covers_name(name))
        }
    };
    if is_own_host {
        return Ok(());
    }
    Err(AdminReply::error(
        StatusCode::MISDIRECTED_REQUEST,
        "foreign_host",
        format!(
            "the Host `{}` is not ours; use the address {}, this machine's host name, or a name in the certificate \
             of admin.tls",
            host.chars().take(80).collect::<String>(),
            request.snapshot.settings.admin.address,
        ),
    ))
}

/// The name that the system has for itself.
fn is_local_host_name(name: &str) -> bool {
    let own = nix::unistd::gethostname().ok().and_then(|own| own.into_string().ok()).unwrap_or_default();
    !own.is_empty() && own.eq_ignore_ascii_case(name)
}

/// Sent by a page that is not ours. A browser names the origin of every POST; a program does not, and needs to
/// only where it could be a browser, that is with a cookie.
fn is_cross_origin(headers: &HeaderMap, origin_required: bool) -> bool {
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
        None => origin_required && site != Some(b"same-origin"),
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
        let foreign =
            |origin| is_cross_origin(&headers(&[("host", "127.0.0.1:8098"), ("origin", origin)]), false);
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
        assert!(!is_cross_origin(&headers(&[host]), false));
        assert!(is_cross_origin(&headers(&[host]), true));
        assert!(!is_cross_origin(&headers(&[host, ("origin", "https://icm1:8098")]), true));
        assert!(!is_cross_origin(&headers(&[host, ("sec-fetch-site", "same-origin")]), true));
        // A neighbour on another port of this machine is of the same site, and still a stranger.
        assert!(is_cross_origin(&headers(&[host, ("sec-fetch-site", "same-site")]), false));
        assert!(is_cross_origin(&headers(&[host, ("sec-fetch-site", "cross-site")]), false));
    }
}
