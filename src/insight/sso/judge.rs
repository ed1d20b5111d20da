//! What the answers mean: whether a failover from one server to another keeps the login, and why not. Pure, and only from
//! what was seen: where nothing proves it, the verdict is unknown.

use serde::Serialize;

use super::observe::{SeenAnswer, SeenCluster, SeenCookie, SeenDatabase, SeenLogin, SeenServer};

/// Clocks further apart may be the reason that a token is not accepted; a token says from when to when it is valid.
const MAX_CLOCK_DIFFERENCE_MS: u64 = 30_000;

/// How browsers reach the cluster.
#[derive(Clone, Debug, Default)]
pub struct PublicSide {
    /// The public names; empty: not configured.
    pub hosts: Vec<String>,
    /// Browsers are redirected to the servers, so that these need the cookie under their own names.
    pub redirects: bool,
    /// No listener has TLS, and no proxy in front of it is configured.
    pub only_plain_http: bool,
}

/// The result for one cluster.
#[derive(Clone, Debug, Serialize)]
pub struct SsoReport {
    pub cluster: String,
    pub user: String,
    pub servers: Vec<LoginFinding>,
    pub databases: Vec<DatabaseVerdict>,
    /// What limits the result.
    pub notes: Vec<String>,
}

/// The login at one server.
#[derive(Clone, Debug, Serialize)]
pub struct LoginFinding {
    pub server: String,
    pub verdict: LoginVerdict,
    /// `sso`, `single_server`, `basic`, `refused` or `unknown`.
    pub login: &'static str,
    pub cookies: Vec<String>,
    /// The clock of the server minus the one here, in milliseconds.
    pub clock_ms: Option<i64>,
    pub text: String,
}

/// Whether a failover keeps the login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LoginVerdict {
    Kept,
    Lost,
    Unknown,
}

/// The verdict about one database.
#[derive(Clone, Debug, Serialize)]
pub struct DatabaseVerdict {
    pub database: String,
    pub verdict: LoginVerdict,
    pub servers: Vec<String>,
    pub failovers: Vec<FailoverVerdict>,
    pub text: String,
}

/// One direction of a failover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailoverVerdict {
    pub from: String,
    pub to: String,
    pub verdict: LoginVerdict,
    pub reason: Option<String>,
}

impl LoginVerdict {
    /// The word before a line for people.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Kept => "ok",
            Self::Lost => "failed",
            Self::Unknown => "unknown",
        }
    }
}

impl SsoReport {
    /// Whether every failover that was tried keeps the login, and at least one was.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        let lost = self.servers.iter().map(|server| server.verdict);
        let lost = lost.chain(self.databases.iter().map(|database| database.verdict));
        let kept = self.databases.iter().any(|database| database.verdict == LoginVerdict::Kept);
        !lost.into_iter().any(|verdict| verdict == LoginVerdict::Lost) && (kept || self.servers.len() < 2)
    }
}

pub(super) fn judge(seen: &SeenCluster, public: &PublicSide) -> SsoReport {
    let mut notes = Vec::new();
    if seen.servers.len() < 2 {
        notes.push("there is only one server, so no failover can happen".to_owned());
    } else if seen.databases.is_empty() && seen.unknown.is_empty() {
        notes.push("no database of the directory has a second replica in this cluster".to_owned());
    }
    if !seen.servers.is_empty() && seen.servers.iter().all(|server| server.login == SeenLogin::Refused) {
        notes.push("every server refuses the account: is the password right?".to_owned());
    }
    if seen.left_out > 0 {
        notes.push(format!("{} more databases were not opened: --limit", seen.left_out));
    }
    if seen.single > 0 {
        notes.push(format!("{} databases have one replica, so no failover can keep them", seen.single));
    }
    notes.extend(seen.unknown.iter().map(|path| format!("{path} is not in the directory")));
    SsoReport {
        cluster: seen.name.clone(),
        user: seen.user.clone(),
        servers: seen.servers.iter().map(|server| login_finding(server, seen, public)).collect(),
        databases: seen.databases.iter().map(|database| database_verdict(database, seen, public)).collect(),
        notes,
    }
}

fn login_finding(server: &SeenServer, seen: &SeenCluster, public: &PublicSide) -> LoginFinding {
    let (mut verdict, login, cookies, mut text) = match &server.login {
        SeenLogin::Session(cookies) => {
            let sso = cookies.iter().any(|cookie| cookie.is_sso);
            let kind = if sso { "sso" } else { "single_server" };
            let described: Vec<String> = cookies.iter().map(describe_cookie).collect();
            let what = if sso { "single sign-on" } else { "a session of this server only" };
            (LoginVerdict::Kept, kind, cookies.as_slice(), format!("{what}: {}", described.join(", ")))
        }
        SeenLogin::Basic => {
            let text = "Basic authentication: browsers send the password with every request".to_owned();
            (LoginVerdict::Kept, "basic", &[][..], text)
        }
        SeenLogin::Refused => {
            (LoginVerdict::Lost, "refused", &[][..], format!("refuses the login of `{}`", seen.user))
        }
        SeenLogin::Unknown(why) => (LoginVerdict::Unknown, "unknown", &[][..], why.clone()),
    };
    for problem in cookies.iter().filter_map(|cookie| cookie_problem(cookie, seen, public)) {
        verdict = LoginVerdict::Lost;
        text.push_str("; ");
        text.push_str(&problem);
    }
    if let Some(ms) = server.clock_ms.filter(|ms| ms.unsigned_abs() > MAX_CLOCK_DIFFERENCE_MS) {
        let side = if ms > 0 { "ahead of" } else { "behind" };
        text.push_str(&format!("; its clock is {} s {side} the one here", ms.unsigned_abs() / 1_000));
    }
    LoginFinding {
        server: server.name.clone(),
        verdict,
        login,
        cookies: cookies.iter().map(|cookie| cookie.name.clone()).collect(),
        clock_ms: server.clock_ms,
        text,
    }
}

fn describe_cookie(cookie: &SeenCookie) -> String {
    let domain = cookie.domain.as_ref().map(|domain| format!(" for *.{domain}")).unwrap_or_default();
    let secure = if cookie.secure { " over HTTPS only" } else { "" };
    format!("{}{domain}{secure}", cookie.name)
}

/// Why a browser does not keep the cookie at all.
fn cookie_problem(cookie: &SeenCookie, seen: &SeenCluster, public: &PublicSide) -> Option<String> {
    if cookie.secure && public.only_plain_http {
        return Some(format!("{} is for HTTPS only, and no listener has TLS: browsers drop it", cookie.name));
    }
    let domain = cookie.domain.as_deref()?;
    // A domain that covers a server is taken away on the way to the browser if it does not cover the public name.
    let is_rewritten =
        !public.redirects && seen.servers.iter().any(|server| covers(domain, &server.hostname));
    let host = public.hosts.iter().find(|host| !covers(domain, host)).filter(|_| !is_rewritten)?;
    (!public.redirects).then(|| {
        format!("{} is for *.{domain}, but the public name is {host}: browsers refuse it", cookie.name)
    })
}

/// RFC 6265, 5.1.3; both without a leading dot.
fn covers(domain: &str, host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    host == domain
        || (host.parse::<std::net::IpAddr>().is_err()
            && host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')))
}

fn database_verdict(database: &SeenDatabase, seen: &SeenCluster, public: &PublicSide) -> DatabaseVerdict {
    let name = |holder: usize| {
        let position = database.holders.get(holder).copied().unwrap_or_default();
        seen.servers.get(position).map(|server| server.name.clone()).unwrap_or_default()
    };
    let holders = 0..database.holders.len();
    let mut failovers = Vec::new();
    for from in holders.clone() {
        for to in holders.clone().filter(|to| *to != from) {
            let Some((verdict, reason)) = failover(database, seen, public, from, to) else { continue };
            failovers.push(FailoverVerdict { from: name(from), to: name(to), verdict, reason });
        }
    }
    let mut texts = grouped(&failovers);
    let asks: Vec<String> = holders
        .clone()
        .filter(|at| database.anonymous.get(*at) == Some(&SeenAnswer::WantsLogin))
        .map(name)
        .collect();
    let open: Vec<String> =
        holders.filter(|at| database.anonymous.get(*at).is_some_and(SeenAnswer::is_open)).map(name).collect();
    let differs = !asks.is_empty() && !open.is_empty();
    if differs {
        texts.push(format!(
            "{} asks for a login, {} does not: a user who is not logged in meets the login form after a failover (compare \
             Anonymous in the access lists)",
            asks.join(", "),
            open.join(", ")
        ));
    }
    let any = |verdict| failovers.iter().any(|failover| failover.verdict == verdict);
    let verdict = if differs || any(LoginVerdict::Lost) {
        LoginVerdict::Lost
    } else if any(LoginVerdict::Unknown) || failovers.is_empty() {
        LoginVerdict::Unknown
    } else {
        LoginVerdict::Kept
    };
    if failovers.is_empty() {
        texts.push(format!("`{}` cannot open it at any server that answers, so nothing was seen", seen.user));
    }
    let servers: Vec<String> = (0..database.holders.len()).map(name).collect();
    if texts.is_empty() {
        texts.push(format!("a failover between {} keeps the login", servers.join(", ")));
    }
    DatabaseVerdict { database: database.path.clone(), verdict, servers, failovers, text: texts.join("; ") }
}

/// `None`: nobody can be logged in at `from`, so there is nothing to keep.
fn failover(
    database: &SeenDatabase,
    seen: &SeenCluster,
    public: &PublicSide,
    from: usize,
    to: usize,
) -> Option<(LoginVerdict, Option<String>)> {
    let server = |holder: usize| seen.servers.get(*database.holders.get(holder)?);
    let answer = |row: usize, column: usize| database.answers.get(row)?.get(column);
    let (a, b) = (server(from)?, server(to)?);
    let unknown = |why: String| Some((LoginVerdict::Unknown, Some(why)));
    match &a.login {
        SeenLogin::Refused => return None,
        SeenLogin::Unknown(_) => return unknown("no login was seen there".to_owned()),
        SeenLogin::Session(_) | SeenLogin::Basic => {}
    }
    if answer(from, from) == Some(&SeenAnswer::WantsLogin) {
        return None;
    }
    match answer(from, to)? {
        SeenAnswer::Opens => Some(match unsent(a, b, public) {
            Some(reason) => (LoginVerdict::Lost, Some(reason)),
            None => (LoginVerdict::Kept, None),
        }),
        SeenAnswer::OpensForAll => match accepted_elsewhere(seen, database, from, to) {
            true => Some((LoginVerdict::Kept, None)),
            false => unknown(
                "Anonymous may open it there even with ?Login, so nothing shows whether the session is accepted"
                    .to_owned(),
            ),
        },
        SeenAnswer::Unknown(why) => unknown(why.clone()),
        SeenAnswer::WantsLogin => Some((LoginVerdict::Lost, Some(refusal(a, b, answer(to, to))))),
    }
}

/// Whether the same server has accepted the session of the other one for another database.
fn accepted_elsewhere(seen: &SeenCluster, database: &SeenDatabase, from: usize, to: usize) -> bool {
    let position = |holder: usize| database.holders.get(holder).copied();
    let (Some(a), Some(b)) = (position(from), position(to)) else { return false };
    seen.databases.iter().any(|other| {
        let holder = |server: usize| other.holders.iter().position(|holder| *holder == server);
        let (Some(row), Some(column)) = (holder(a), holder(b)) else { return false };
        other.answers.get(row).and_then(|row| row.get(column)) == Some(&SeenAnswer::Opens)
    })
}

/// With `mode: redirect` the browser itself goes to the other server, with the cookies that cover its name.
fn unsent(from: &SeenServer, to: &SeenServer, public: &PublicSide) -> Option<String> {
    let SeenLogin::Session(cookies) = &from.login else { return None };
    let is_sent = |cookie: &SeenCookie| match &cookie.domain {
        Some(domain) => covers(domain, &to.hostname),
        None => from.hostname.eq_ignore_ascii_case(&to.hostname),
    };
    (public.redirects && !cookies.iter().any(is_sent))
        .then(|| "redirected browsers do not send the cookie there, because its domain does not cover that host name".to_owned())
}

/// Why a server that was shown a session wants a login.
fn refusal(from: &SeenServer, to: &SeenServer, own: Option<&SeenAnswer>) -> String {
    if to.login == SeenLogin::Refused {
        return "the server refuses the account".to_owned();
    }
    if own == Some(&SeenAnswer::WantsLogin) {
        return "the server lets the account log in, but not open this database: its access list differs"
            .to_owned();
    }
    let names = |login: &SeenLogin, sso: bool| match login {
        SeenLogin::Session(cookies) => {
            let names =
                cookies.iter().filter(|cookie| cookie.is_sso == sso).map(|cookie| cookie.name.as_str());
            names.collect::<Vec<_>>().join(", ")
        }
        _ => String::new(),
    };
    let token = names(&from.login, true);
    if from.login == SeenLogin::Basic {
        return "the server does not take the password with the request, but wants its login form".to_owned();
    }
    if token.is_empty() {
        let session = names(&from.login, false);
        return format!(
            "the session ({session}) is valid only on the server that gave it: use multi-server session authentication"
        );
    }
    let other = names(&to.login, false);
    if !other.is_empty() && names(&to.login, true).is_empty() {
        return format!(
            "the server has sessions of its own ({other}): multi-server session authentication is off there"
        );
    }
    if to.login == SeenLogin::Basic {
        return format!("the server takes Basic authentication only, so {token} means nothing to it");
    }
    let apart = from.clock_ms.zip(to.clock_ms).map(|(a, b)| a.abs_diff(b));
    match apart.filter(|apart| *apart > MAX_CLOCK_DIFFERENCE_MS) {
        Some(apart) => format!(
            "the server does not accept {token}, and the clocks are {} s apart: set the clocks, then try again",
            apart / 1_000
        ),
        None => format!(
            "the server does not accept {token}: it has another Web SSO Configuration document, or another key of it"
        ),
    }
}

/// One text for each reason, with the failovers that have it.
fn grouped(failovers: &[FailoverVerdict]) -> Vec<String> {
    let mut reasons: Vec<&str> = Vec::new();
    for reason in failovers.iter().filter_map(|failover| failover.reason.as_deref()) {
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    let pairs = |with: &dyn Fn(&FailoverVerdict) -> bool| -> Vec<(&str, &str)> {
        failovers.iter().filter(|f| with(f)).map(|f| (f.from.as_str(), f.to.as_str())).collect()
    };
    let describe = |reason: &str| {
        let these = pairs(&|f| f.reason.as_deref() == Some(reason));
        let (first_from, first_to) = these.first().copied().unwrap_or_default();
        if these.len() == failovers.len() {
            "every failover".to_owned()
        } else if these == pairs(&|f| f.to == first_to) {
            format!("a failover to {first_to}")
        } else if these == pairs(&|f| f.from == first_from) {
            format!("a failover from {first_from}")
        } else if let Some(one) =
            [first_from, first_to].into_iter().find(|one| these == pairs(&|f| f.from == *one || f.to == *one))
        {
            format!("every failover from or to {one}")
        } else {
            let shown: Vec<String> = these.iter().map(|(from, to)| format!("{from} -> {to}")).collect();
            shown.join(", ")
        }
    };
    reasons.into_iter().map(|reason| format!("{}: {reason}", describe(reason))).collect()
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
