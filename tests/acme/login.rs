//! Who asks: session login and Basic. In: requests. Out: login forms, cookies, names.
//!
//! DomAuthSessId is good on the server that gave it, LtpaToken (scenario `sso: true`) on all; with
//! `unique_cookie_names: true` the former has 11 characters of the server name's hash behind it.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use crate::answer::Answer;
use crate::cluster::{Cluster, SimulatedServer};
use crate::http::Head;
use crate::pages::{Request, escape};
use crate::scenario::Name;
use crate::url;

/// Who sent a request.
#[derive(Debug, PartialEq)]
pub enum Requester {
    User(String),
    Anonymous,
    /// Basic credentials that are not right.
    Wrong,
}

/// The session cookie's name on this server.
pub fn cookie_name(cluster: &Cluster, member: &SimulatedServer) -> String {
    if cluster.scenario.sso {
        return "LtpaToken".to_owned();
    }
    match cluster.scenario.unique_cookie_names {
        false => "DomAuthSessId".to_owned(),
        true => {
            let hash = URL_SAFE_NO_PAD.encode(Sha256::digest(member.name.canonical.as_bytes()));
            format!("DomAuthSessId{}", &hash[..11])
        }
    }
}

/// The value of a cookie of the request; the last one of that name, as servers differ here.
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

/// By session cookie, else by Basic.
pub fn requester(cluster: &Cluster, member: &SimulatedServer, head: &Head) -> Requester {
    if let Some(token) = cookie(head, &cookie_name(cluster, member)) {
        let sessions = if cluster.scenario.sso { &cluster.ltpa } else { &member.sessions };
        if let Some(user) = sessions.lock().unwrap().get(token) {
            return Requester::User(user.clone());
        }
    }
    let Some(basic) = head.header("authorization").and_then(|v| v.strip_prefix("Basic ")) else {
        return Requester::Anonymous;
    };
    let decoded = STANDARD.decode(basic.trim()).unwrap_or_default();
    let decoded = String::from_utf8_lossy(&decoded);
    let (user, password) = decoded.split_once(':').unwrap_or((&decoded, ""));
    authenticate(cluster, user, password).map_or(Requester::Wrong, Requester::User)
}

/// What somebody gets who may not read: 200 with the form, or 401 where sessions are off.
pub fn login_required(cluster: &Cluster, who: &Requester, target: &str) -> Answer {
    if *who == Requester::Wrong || cluster.scenario.auth == "basic" {
        let page = "<html><head><title>Error</title></head><body><h1>Error 401</h1>HTTP Web Server: You are not \
                    authorized to perform that operation</body></html>\n";
        return Answer::html(401, page).with_header("WWW-Authenticate", "Basic realm=\"/\"");
    }
    form(target, "")
}

/// The login form.
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

/// `?Login`: the form, or with a POST the session. `?SAMLLogin` takes the same fields, and `RelayState`.
pub fn login(cluster: &Cluster, member: &SimulatedServer, request: &Request) -> Answer {
    let fields = url::form(&String::from_utf8_lossy(&request.body.start));
    let field =
        |name: &str| fields.iter().find(|(k, _)| k.eq_ignore_ascii_case(name)).map(|(_, v)| v.clone());
    let redirect_to = field("RedirectTo")
        .or(field("RelayState"))
        .or(request.url.argument("RedirectTo").map(str::to_owned))
        .unwrap_or_else(|| "/".into());
    if request.head.method != "POST" {
        return form(&redirect_to, "");
    }
    let (user, password) = (field("Username").unwrap_or_default(), field("Password").unwrap_or_default());
    let Some(user) = authenticate(cluster, &user, &password) else {
        return form(&redirect_to, "<p>You provided an invalid username or password.</p>\n");
    };
    let token = format!("{:016X}{:016X}", fastrand::u64(..), fastrand::u64(..));
    let name = cookie_name(cluster, member);
    let cookie = match cluster.scenario.sso {
        true => {
            cluster.ltpa.lock().unwrap().insert(token.clone(), user);
            let domain = member.hostname.split_once('.').map_or("", |(_, domain)| domain);
            format!("{name}={token}; path=/; domain=.{domain}")
        }
        false => {
            member.sessions.lock().unwrap().insert(token.clone(), user);
            format!("{name}={token}; path=/; HttpOnly")
        }
    };
    Answer::html(302, "").with_header("Location", redirect_to).with_header("Set-Cookie", cookie)
}

/// `?Logout`: the session ends on this server (or everywhere with SSO).
pub fn logout(cluster: &Cluster, member: &SimulatedServer, request: &Request) -> Answer {
    let name = cookie_name(cluster, member);
    if let Some(token) = cookie(&request.head, &name) {
        member.sessions.lock().unwrap().remove(token);
        cluster.ltpa.lock().unwrap().remove(token);
    }
    let gone = format!("{name}=; path=/; expires=Thu, 01 Jan 1970 00:00:00 GMT");
    match request.url.argument("RedirectTo") {
        Some(to) => Answer::html(302, "").with_header("Location", to),
        None => Answer::html(200, "<html><body>Logged out.</body></html>\n"),
    }
    .with_header("Set-Cookie", gone)
}
