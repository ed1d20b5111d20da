//! The login of the status page: exchanges the token for a cookie with an expiry time and a MAC keyed with the token.
//!
//! The server stores no sessions, and a new token ends all logins. Browsers send cookies to every port of a host, so another
//! service on this host may see the cookie: it does not contain the token, and is valid only from the client's address.

use std::net::IpAddr;

use hmac::{Hmac, Mac};
use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use pingora_http::RequestHeader;
use serde_json::json;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::AdminRequest;
use super::reply::AdminReply;
use crate::util::clock;

#[must_use]
pub fn is_login(request: &AdminRequest) -> bool {
    request.path == "/login" && request.header.method == Method::POST
}

const COOKIE: &str = "icm_admin";
/// Twelve hours, so that a login lasts for a night shift.
const LIFETIME_SECS: u64 = 12 * 3600;

/// Answers `POST /login` with the form field `token`.
#[must_use]
pub fn login(request: &AdminRequest) -> AdminReply {
    let Some(token) = &request.snapshot.settings.admin.token else {
        return AdminReply::error(
            StatusCode::CONFLICT,
            "no_token",
            "no token is configured, so no login is needed",
        );
    };
    let peer = request.peer.map(|a| a.ip());
    if !token_matches(request, &token.0) {
        let from = peer.map_or_else(String::new, |ip| format!(" from {ip}"));
        log::warn!(target: "icm::admin", "login{from} with a wrong token");
        return AdminReply::error(
            StatusCode::UNAUTHORIZED,
            "wrong_token",
            "this is not the token; the token is the content of the file in admin.token_file",
        );
    }
    let expires_secs = clock::unix_secs() + LIFETIME_SECS;
    let value = format!("{expires_secs}.{}", hex(&mac(&token.0, expires_secs, peer)));
    AdminReply::json(&json!({ "until": expires_secs * 1_000 }))
        .with(header::SET_COOKIE, cookie(&value, LIFETIME_SECS, request.tls))
}

/// True if the form contains this token.
#[must_use]
pub fn token_matches(request: &AdminRequest, token: &[u8]) -> bool {
    let presented = crate::domain::url::find_argument(&request.body, b"token").unwrap_or_default();
    !token.is_empty() && bool::from(presented.trim_ascii().ct_eq(token))
}

/// Answers `POST /logout`, which deletes the cookie.
#[must_use]
pub fn logout(request: &AdminRequest) -> AdminReply {
    AdminReply::json(&json!({ "until": 0 })).with(header::SET_COOKIE, cookie("", 0, request.tls))
}

/// True if a cookie of the request is valid for this token, this address and this time.
#[must_use]
pub fn is_logged_in(header: &RequestHeader, token: &[u8], peer: Option<IpAddr>) -> bool {
    cookie_values(&header.headers).any(|value| is_valid(value, token, peer, clock::unix_secs()))
}

fn is_valid(value: &str, token: &[u8], peer: Option<IpAddr>, now: u64) -> bool {
    let Some((expires_secs, presented)) = value.split_once('.') else { return false };
    let Ok(expires_secs) = expires_secs.parse::<u64>() else { return false };
    let expected = hex(&mac(token, expires_secs, peer));
    !token.is_empty() && expires_secs > now && bool::from(presented.as_bytes().ct_eq(expected.as_bytes()))
}

fn cookie_values(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(name, _)| *name == COOKIE).map(|(_, value)| value)
}

fn mac(token: &[u8], expires_secs: u64, peer: Option<IpAddr>) -> Vec<u8> {
    let peer = peer.map_or_else(String::new, |ip| ip.to_canonical().to_string());
    let Ok(keyed) = Hmac::<Sha256>::new_from_slice(token) else { return Vec::new() };
    keyed.chain_update(format!("icm admin login\n{expires_secs}\n{peer}")).finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn cookie(value: &str, lifetime: u64, tls: bool) -> HeaderValue {
    let secure = if tls { "; Secure" } else { "" };
    let text = format!("{COOKIE}={value}; Path=/; Max-Age={lifetime}; HttpOnly; SameSite=Strict{secure}");
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_valid_for_its_token_its_address_and_its_lifetime() {
        let peer = Some(IpAddr::from([192, 0, 2, 7]));
        let value = format!("1000.{}", hex(&mac(b"secret", 1_000, peer)));
        assert!(is_valid(&value, b"secret", peer, 999));
        assert!(!is_valid(&value, b"secret", peer, 1_000), "expired");
        assert!(!is_valid(&value, b"another", peer, 999), "another token");
        assert!(!is_valid(&value, b"secret", Some(IpAddr::from([192, 0, 2, 8])), 999), "another address");
        assert!(!is_valid(&value.replacen("1000", "9000", 1), b"secret", peer, 999), "a changed expiry");
        for forged in ["", ".", "9000.", "9000", "x.y", "secret"] {
            assert!(!is_valid(forged, b"secret", peer, 1) && !is_valid(forged, b"", peer, 1), "{forged}");
        }
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, "a=b; icm_admin=1.x".parse().unwrap());
        headers.append(header::COOKIE, "icm_admin=2.y;c".parse().unwrap());
        assert_eq!(cookie_values(&headers).collect::<Vec<_>>(), ["1.x", "2.y"]);
    }

    #[test]
    fn the_cookie_is_hidden_from_scripts_and_other_sites() {
        let text = cookie("v", 60, true);
        assert_eq!(text, "icm_admin=v; Path=/; Max-Age=60; HttpOnly; SameSite=Strict; Secure");
    }
}
