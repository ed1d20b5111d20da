//! Logs in to a Domino server, with Basic or session authentication, and recognises login pages.
//!
//! A password goes into the request and nowhere else.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::SocketAddr;

use base64::Engine;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};

use super::client::{DominoClient, DominoResponse};
use super::fault::{Fault, FetchError};
use super::login_cookie::{LoginCookie, cookie_header};
use super::request::{DominoRequest, encode_form};
use crate::config::settings::Auth;

/// The login command of every Domino server
/// (<https://help.hcltechsw.com/dom_designer/9.0.1/appdev/H_ABOUT_URL_COMMANDS_FOR_OPENING_SERVERS_DATABASES_AND_VIEWS.html>).
const LOGIN_TARGET: &str = "/names.nsf?Login";

/// Cookies of session logins by server and user, shared by all readings of a cluster.
#[derive(Debug, Default)]
pub struct LoginSessions {
    cookies: Mutex<HashMap<SessionKey, String>>,
}

type SessionKey = (SocketAddr, String, String);

/// Why a server refused access.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// A request failed: the login, or the one that needs it.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The user or the password is wrong, or session login is off.
    #[error("{url}: login of `{user}` refused, check user, password and that session login is enabled")]
    Refused { url: String, user: String },
    /// The response is a login page, 401 or 403 instead of data.
    #[error("{url}: not authorised as `{user}`: needs Reader access to the database")]
    NotAuthorised { url: String, user: String },
}

/// Fetches with the credentials of `auth`. If the server no longer accepts the session, it logs in again once.
///
/// # Errors
/// When a request fails, the server refuses the login, or it still responds with a login page.
pub async fn fetch_authenticated(
    client: &DominoClient,
    request: &DominoRequest,
    auth: &Auth,
    sessions: &LoginSessions,
) -> Result<DominoResponse, LoginError> {
    let not_authorised =
        || LoginError::NotAuthorised { url: request.url(), user: user_name(auth).to_owned() };
    let Auth::Session { user, password } = auth else {
        let mut request = request.clone();
        if let Auth::Basic { user, password } = auth {
            request.headers.push(basic_authorization(user, &password.0));
        }
        let response = client.fetch(&request).await?;
        return if wants_login(&response) { Err(not_authorised()) } else { Ok(response) };
    };
    let key = (request.address, request.hostname.clone(), user.clone());
    let stored_cookie = sessions.cookies.lock().get(&key).cloned();
    if let Some(cookie) = stored_cookie {
        let response = client.fetch(&with_cookie(request, &cookie)).await?;
        if !wants_login(&response) {
            return Ok(response);
        }
        sessions.cookies.lock().remove(&key);
    }
    let cookie = cookie_header(&log_in(client, request, user, &password.0).await?.cookies);
    // Stored first: the session is good even if this request fails.
    sessions.cookies.lock().insert(key.clone(), cookie.clone());
    let response = client.fetch(&with_cookie(request, &cookie)).await?;
    if wants_login(&response) {
        sessions.cookies.lock().remove(&key);
        return Err(not_authorised());
    }
    Ok(response)
}

/// A login that was granted.
#[derive(Clone, Debug)]
pub struct GrantedLogin {
    /// At least one, as the server set them.
    pub cookies: Vec<LoginCookie>,
    /// The answer to the login, with the clock of the server in its `Date`.
    pub response: DominoResponse,
}

/// Logs in to the server of this request.
///
/// # Errors
/// When the request fails, or the server refuses the login.
pub async fn log_in(
    client: &DominoClient,
    request: &DominoRequest,
    user: &str,
    password: &[u8],
) -> Result<GrantedLogin, LoginError> {
    let form = format!("Username={}&Password={}", encode_form(user.as_bytes()), encode_form(password));
    let login = request.post_form(LOGIN_TARGET, Bytes::from(form));
    let response = client.fetch(&login).await?;
    if response.status >= 500 {
        return Err(FetchError { url: login.url(), fault: Fault::Status(response.status) }.into());
    }
    let cookies = LoginCookie::all_of(&response);
    // Domino answers a refused login with 200 and the form again, a granted one with a redirect or another page.
    if cookies.is_empty() || wants_login(&response) {
        return Err(LoginError::Refused { url: login.url(), user: user.to_owned() });
    }
    Ok(GrantedLogin { cookies, response })
}

/// The request with these cookies.
#[must_use]
pub fn with_cookies(request: &DominoRequest, cookies: &[LoginCookie]) -> DominoRequest {
    with_cookie(request, &cookie_header(cookies))
}

fn with_cookie(request: &DominoRequest, cookie: &str) -> DominoRequest {
    let mut request = request.clone();
    if let Ok(value) = HeaderValue::from_str(cookie) {
        request.headers.push((header::COOKIE, value));
    }
    request
}

fn basic_authorization(user: &str, password: &[u8]) -> (HeaderName, HeaderValue) {
    let mut pair = user.as_bytes().to_vec();
    pair.push(b':');
    pair.extend_from_slice(password);
    let text = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
    let mut value = HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("Basic"));
    value.set_sensitive(true);
    (header::AUTHORIZATION, value)
}

/// True for 401, 403, a redirect to the login, and the login form that Domino sends with status 200 instead of data.
#[must_use]
pub fn wants_login(response: &DominoResponse) -> bool {
    match response.status {
        401 | 403 => true,
        300..=399 => {
            let location = response.header(header::LOCATION).to_ascii_lowercase();
            location.contains("?login") || location.contains("&login")
        }
        200..=299 => is_login_page(&response.body),
        _ => false,
    }
}

/// True for an HTML page that contains a password field or Domino's login command.
#[must_use]
pub fn is_login_page(body: &[u8]) -> bool {
    if !is_html(body) {
        return false;
    }
    let page = body.get(..body.len().min(64 << 10)).unwrap_or(body).to_ascii_lowercase();
    [&b"?login"[..], b"name=\"password\"", b"type=\"password\"", b"type=password"]
        .iter()
        .any(|mark| memchr::memmem::find(&page, mark).is_some())
}

/// True if a body begins like an HTML page.
#[must_use]
pub fn is_html(body: &[u8]) -> bool {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii_start();
    let start = body.get(..body.len().min(14)).unwrap_or(body).to_ascii_lowercase();
    [&b"<!doctype html"[..], b"<html", b"<head", b"<body"].iter().any(|mark| start.starts_with(mark))
}

fn user_name(auth: &Auth) -> &str {
    match auth {
        Auth::None => "Anonymous",
        Auth::Basic { user, .. } | Auth::Session { user, .. } => user,
    }
}
