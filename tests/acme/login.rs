//! Session login and Basic authentication.
//!
//! With the setting `certificate_login` the certificate in `$WSCC` comes first. A DomAuthSessId is valid on the server that
//! issued it; an LtpaToken (`sso: true`) on all that have the same key and whose clock is not behind its time. With
//! `unique_cookie_names: true` the name DomAuthSessId is followed by 11 characters of the server name's hash.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use crate::answer::Answer;
use crate::cluster::{Cluster, LtpaToken, SimulatedServer};
use crate::http::Head;
use crate::pages::{Request, escape};
use crate::scenario::Name;
use crate::url;

/// The user of a request.
#[derive(Debug, PartialEq)]
pub enum Requester {
    User(String),
    Anonymous,
    /// The Basic credentials are invalid.
    Rejected,
}

/// How far a token may seem to come from the future.
const MAX_TOKEN_LEAD_MS: u64 = 10_000;

fn has_sso(cluster: &Cluster, server: &SimulatedServer) -> bool {
    server.settings().sso.unwrap_or(cluster.scenario.sso)
}

/// The user of a session or token, if this server accepts it.
fn user_of(cluster: &Cluster, server: &SimulatedServer, token: &str) -> Option<String> {
    if !has_sso(cluster, server) {
        return server.sessions.lock().unwrap().get(token).cloned();
    }
    let tokens = cluster.ltpa.lock().unwrap();
    let token = tokens.get(token)?;
    let is_valid =
        token.key == server.settings().sso_key && token.created_ms <= server.now_ms() + MAX_TOKEN_LEAD_MS;
    is_valid.then(|| token.user.clone())
}

/// The session cookie's name on this server.
pub fn cookie_name(cluster: &Cluster, server: &SimulatedServer) -> String {
    if has_sso(cluster, server) {
        return "LtpaToken".to_owned();
    }
    match cluster.scenario.unique_cookie_names {
        false => "DomAuthSessId".to_owned(),
        true => {
            let hash = URL_SAFE_NO_PAD.encode(Sha256::digest(server.name.canonical.as_bytes()));
            format!("DomAuthSessId{}", &hash[..11])
        }
    }
}

/// The value of the last cookie of that name.
pub fn cookie<'a>(head: &'a Head, name: &str) -> Option<&'a str> {
    head.headers
        .iter()
        .filter(|(n, _)| n.eq_ignore_ascii_case("cookie"))
        .flat_map(|(_, v)| v.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(n, _)| *n == name)
        .map(|(_, v)| v)
        .next_back()
}

fn authenticate(cluster: &Cluster, user: &str, password: &str) -> Option<String> {
    let wanted = Name::new(user);
    let known = |name: &str| {
        let name = Name::new(name);
        name.abbreviated.eq_ignore_ascii_case(&wanted.abbreviated)
            || name.common.eq_ignore_ascii_case(&wanted.abbreviated)
    };
    let (name, _) = cluster.scenario.users.iter().find(|(n, p)| known(n) && *p == password)?;
    Some(Name::new(name).canonical)
}

/// The common name in the certificate of `$WSCC`; `None` without one, or without TLS.
fn certificate_user(request: &Request) -> Option<Requester> {
    let certificate = request.head.header("$WSCC").filter(|_| request.scheme == "https")?;
    let der = STANDARD.decode(certificate).unwrap_or_default();
    let name = x509_parser::parse_x509_certificate(&der).ok().and_then(|(_, parsed)| {
        let common = parsed.subject().iter_common_name().next()?.as_str().ok()?;
        Some(common.to_owned())
    });
    Some(name.map_or(Requester::Rejected, Requester::User))
}

/// Identifies the user by certificate if the server reads them, else by session cookie or Basic credentials.
pub fn requester(cluster: &Cluster, server: &SimulatedServer, request: &Request) -> Requester {
    let head = &request.head;
    if server.settings().certificate_login
        && let Some(user) = certificate_user(request)
    {
        return user;
    }
    if let Some(token) = cookie(head, &cookie_name(cluster, server))
        && let Some(user) = user_of(cluster, server, token)
    {
        return Requester::User(user);
    }
    let Some(basic) = head.header("authorization").and_then(|v| v.strip_prefix("Basic ")) else {
        return Requester::Anonymous;
    };
    let decoded = STANDARD.decode(basic.trim()).unwrap_or_default();
    let decoded = String::from_utf8_lossy(&decoded);
    let (user, password) = decoded.split_once(':').unwrap_or((&decoded, ""));
    authenticate(cluster, user, password).map_or(Requester::Rejected, Requester::User)
}

/// The response to a request without access: 200 with the login form, or 401 if session login is off.
pub fn login_required(cluster: &Cluster, server: &SimulatedServer, user: &Requester, target: &str) -> Answer {
    let has_form = cluster.scenario.auth != "basic" && !server.settings().certificate_login;
    if *user == Requester::Rejected || !has_form {
        let page = "<html><head><title>Error</title></head><body><h1>Error 401</h1>HTTP Web Server: You are not \
                    authorized to perform that operation</body></html>\n";
        return Answer::html(401, page).with_header("WWW-Authenticate", "Basic realm=\"/\"");
    }
    form(target, "")
}

pub fn form(redirect_to: &str, message: &str) -> Answer {
    let redirect_to = escape(redirect_to);
    Answer::html(
        200,
        format!(
            "<!DOCTYPE html>\n<html>\n<head><title>Server Login</title></head>\n<body>\n{message}\
             <form method=\"post\" action=\"/names.nsf?Login\" name=\"_DominoForm\">\n\
             <input name=\"Username\" value=\"\"><input name=\"Password\" type=\"password\" value=\"\">\n\
             <input name=\"RedirectTo\" type=\"hidden\" value=\"{redirect_to}\">\n\
             <input type=\"submit\" value=\"Sign in\">\n</form>\n</body>\n</html>\n"
        ),
    )
    .with_header("Cache-Control", "no-cache")
}

/// `?Login` returns the form, or creates a session on POST. `?SAMLLogin` takes the same fields and `RelayState`.
pub fn login(cluster: &Cluster, server: &SimulatedServer, request: &Request) -> Answer {
    let fields = url::form(&String::from_utf8_lossy(&request.body.start));
    let field =
        |name: &str| fields.iter().find(|(k, _)| k.eq_ignore_ascii_case(name)).map(|(_, v)| v.clone());
    let redirect_to = field("RedirectTo")
        .or(field("RelayState"))
        .or(request.url.argument("RedirectTo").map(str::to_owned))
        .unwrap_or_else(|| "/".into());
    if cluster.scenario.auth == "basic" {
        return login_required(cluster, server, &Requester::Anonymous, &request.head.target);
    }
    if request.head.method != "POST" {
        return form(&redirect_to, "");
    }
    let (user, password) = (field("Username").unwrap_or_default(), field("Password").unwrap_or_default());
    let settings = server.settings();
    let refused =
        |user: &String| settings.refused_users.iter().any(|name| Name::new(name).canonical == *user);
    let Some(user) = authenticate(cluster, &user, &password).filter(|user| !refused(user)) else {
        return form(&redirect_to, "<p>You provided an invalid username or password.</p>\n");
    };
    let token = format!("{:016X}{:016X}", fastrand::u64(..), fastrand::u64(..));
    let name = cookie_name(cluster, server);
    let secure = if settings.secure_cookie { "; secure" } else { "" };
    let cookie = match has_sso(cluster, server) {
        true => {
            let made = LtpaToken { user, key: settings.sso_key.clone(), created_ms: server.now_ms() };
            cluster.ltpa.lock().unwrap().insert(token.clone(), made);
            let own = server.hostname.split_once('.').map_or("", |(_, domain)| domain);
            let domain = settings.sso_domain.as_deref().unwrap_or(own);
            format!("{name}={token}; path=/; domain=.{domain}{secure}")
        }
        false => {
            server.sessions.lock().unwrap().insert(token.clone(), user);
            format!("{name}={token}; path=/; HttpOnly{secure}")
        }
    };
    Answer::html(302, "").with_header("Location", redirect_to).with_header("Set-Cookie", cookie)
}

/// `?Logout` ends the session on this server, or everywhere with SSO.
pub fn logout(cluster: &Cluster, server: &SimulatedServer, request: &Request) -> Answer {
    let name = cookie_name(cluster, server);
    if let Some(token) = cookie(&request.head, &name) {
        server.sessions.lock().unwrap().remove(token);
        cluster.ltpa.lock().unwrap().remove(token);
    }
    let expired = format!("{name}=; path=/; expires=Thu, 01 Jan 1970 00:00:00 GMT");
    match request.url.argument("RedirectTo") {
        Some(to) => Answer::html(302, "").with_header("Location", to),
        None => Answer::html(200, "<html><body>Logged out.</body></html>\n"),
    }
    .with_header("Set-Cookie", expired)
}
