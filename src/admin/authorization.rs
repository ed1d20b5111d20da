//! Decides whether a request may use a route: by token, Host and Origin.
//!
//! Any web page can make the browser of its visitor send requests to this listener. It cannot add the token or forge the
//! `Origin`. But with DNS rebinding, when `evil.example` suddenly resolves to 127.0.0.1, the browser treats the page and
//! this listener as the same origin, and only the Host differs. Therefore:
//!
//! - On loopback every user of this machine may read, if the Host is one of ours.
//! - Off loopback reading needs the token, which such a page does not have. Any Host is accepted, because scrapers and load
//!   balancers use names that are not known here.
//! - An action needs the token wherever one is set, and always a Host that is one of ours.
//! - Ours are `localhost`, loopback addresses, the configured address, the local address of the connection, the host name of
//!   this machine, and the names in the certificate of the listener. A name that merely resolves to this machine is not
//!   ours, because DNS rebinding uses exactly that.
//! - Private keys need the token and TLS (or loopback), wherever the listener is.
//! - A page of another origin cannot act, not even with the login cookie of the status page.

use std::net::IpAddr;

use http::header;
use http::{HeaderMap, StatusCode};

use super::reply::AdminReply;
use super::token_failures::{self, TokenFailures};
use super::{AdminRequest, login, request_host};
use crate::util::clock;
use crate::util::token;

/// What a route requires of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing, for load balancers and supervisors.
    Public,
    /// On loopback one of our Hosts. The page contains no data, and asks for the token itself.
    Page,
    /// Off loopback the token, on loopback one of our Hosts.
    Read,
    /// The token wherever one is set, one of our Hosts, and no other origin.
    Modify,
    /// The bearer token over TLS or loopback, even where no token is set; never the cookie of a browser.
    PrivateKeys,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenStatus {
    NotConfigured,
    /// The token is missing or wrong.
    Invalid,
    Bearer,
    /// The cookie of a login.
    Cookie,
}

impl TokenStatus {
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

/// Counts a wrong token against the address of the client, and delays the answer. Returns 429 for an address with too many
/// wrong tokens, even if this one is right, because guessing could continue otherwise.
pub async fn throttle_wrong_tokens(
    request: &AdminRequest,
    is_public: bool,
    token_failures: &TokenFailures,
) -> Option<AdminReply> {
    let token = request.snapshot.settings.admin.token.as_ref()?;
    let client = request.peer?.ip();
    let token_matches = if login::is_login(request) {
        login::token_matches(request, &token.0)
    } else if token::bearer_token(&request.header).is_some() && !is_public {
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

/// # Errors
/// The reply to a request that lacks this access.
pub fn authorize(access: Access, request: &AdminRequest) -> Result<(), AdminReply> {
    let configured = request.snapshot.settings.admin.address.ip();
    let loopback = configured.is_loopback();
    match access {
        Access::Public => Ok(()),
        Access::Page | Access::Read if loopback => check_host(request, configured),
        Access::Page => Ok(()),
        // `NotConfigured` is refused as well: a reload may have removed the token.
        Access::Read => match TokenStatus::of_request(request) {
            TokenStatus::Bearer | TokenStatus::Cookie => Ok(()),
            TokenStatus::NotConfigured | TokenStatus::Invalid => Err(AdminReply::unauthorised()),
        },
        Access::PrivateKeys => authorize_private_keys(request, configured),
        Access::Modify => {
            check_host(request, configured)?;
            let token_status = TokenStatus::of_request(request);
            if is_cross_origin(&request.header.headers, token_status == TokenStatus::Cookie) {
                return Err(AdminReply::error(
                    StatusCode::FORBIDDEN,
                    "cross_origin",
                    "a page of another site sent this request, and it was not executed; use the status page or `icm`",
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

/// # Errors
/// The reply to a request that must not see private keys.
fn authorize_private_keys(request: &AdminRequest, configured: IpAddr) -> Result<(), AdminReply> {
    let forbidden = |message: &str| Err(AdminReply::error(StatusCode::FORBIDDEN, "private_keys", message));
    check_host(request, configured)?;
    match TokenStatus::of_request(request) {
        TokenStatus::Bearer => {}
        TokenStatus::NotConfigured => {
            return forbidden("private keys are given only for a token: set admin.token_file");
        }
        TokenStatus::Cookie | TokenStatus::Invalid => return Err(AdminReply::unauthorised()),
    }
    if request.tls || request.peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback()) {
        return Ok(());
    }
    forbidden("private keys are given only over TLS or to loopback: set admin.tls")
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
        "host_not_allowed",
        format!(
            "the Host `{}` is not allowed; use the address {}, the host name of this machine, or a name in the \
             certificate of admin.tls",
            host.chars().take(80).collect::<String>(),
            request.snapshot.settings.admin.address,
        ),
    ))
}

fn is_local_host_name(name: &str) -> bool {
    let own = nix::unistd::gethostname().ok().and_then(|own| own.into_string().ok()).unwrap_or_default();
    !own.is_empty() && own.eq_ignore_ascii_case(name)
}

/// True for a request of another site's page. Browsers send an origin with every POST, programs do not; a request with a
/// login cookie comes from a browser, so it must have one.
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
    fn only_a_page_of_the_same_origin_is_accepted() {
        let is_cross =
            |origin| is_cross_origin(&headers(&[("host", "127.0.0.1:8098"), ("origin", origin)]), false);
        assert!(!is_cross("http://127.0.0.1:8098") && !is_cross("https://127.0.0.1:8098"));
        for origin in
            ["null", "http://127.0.0.1", "http://127.0.0.1:8099", "http://evil.example", "127.0.0.1", ""]
        {
            assert!(is_cross(origin), "{origin}");
        }
    }

    #[test]
    fn a_cookie_is_accepted_only_with_an_origin() {
        let host = ("host", "icm1:8098");
        assert!(!is_cross_origin(&headers(&[host]), false));
        assert!(is_cross_origin(&headers(&[host]), true));
        assert!(!is_cross_origin(&headers(&[host, ("origin", "https://icm1:8098")]), true));
        assert!(!is_cross_origin(&headers(&[host, ("sec-fetch-site", "same-origin")]), true));
        // Another port of this machine is the same site, but another origin.
        assert!(is_cross_origin(&headers(&[host, ("sec-fetch-site", "same-site")]), false));
        assert!(is_cross_origin(&headers(&[host, ("sec-fetch-site", "cross-site")]), false));
    }
}
