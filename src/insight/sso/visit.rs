//! Sends the requests of the check: one login at each server, and then each session to all holders of each database.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use http::header;

use super::observe::{SeenAnswer, SeenCluster, SeenCookie, SeenDatabase, SeenLogin, SeenServer};
use super::{DatabaseChoice, TestAccount};
use crate::config::settings::Auth;
use crate::discovery::domino::login::{self, LoginError};
use crate::discovery::domino::login_cookie::LoginCookie;
use crate::discovery::domino::request::encode_database_path;
use crate::discovery::domino::{DominoClient, DominoRequest, DominoResponse, Fault, FetchError};
use crate::discovery::freshness::head::http_date;
use crate::discovery::probe::probe_host;
use crate::state::cluster_view::ClusterView;
use crate::state::{Cluster, readable};
use crate::util::clock;

const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// Far above any login form; what is larger is a page of the database.
const MAX_BODY: usize = 2 << 20;
/// More holders of one database are not asked: requests grow with the square.
const MAX_HOLDERS: usize = 8;

/// A server with what its login gave.
struct VisitedServer {
    name: String,
    address: SocketAddr,
    https: bool,
    hostname: String,
    host_header: String,
    session: TestSession,
}

/// With which a request is sent.
enum TestSession {
    Cookies(Vec<LoginCookie>),
    Basic(Auth),
    None,
}

/// Logs in everywhere, and opens the chosen databases.
pub(super) async fn visit(cluster: &Cluster, account: &TestAccount, choice: &DatabaseChoice) -> SeenCluster {
    let view = cluster.view.load_full();
    let mut servers = Vec::new();
    let mut visited = Vec::new();
    for entry in &view.entries {
        let name = entry.config.name.abbreviated().to_owned();
        let hostname = entry.config.hostname.clone();
        let Some((_, at)) = readable::reading_port(cluster, entry) else {
            let login = SeenLogin::Unknown("it has no address".to_owned());
            servers.push(SeenServer { name, hostname, login, clock_ms: None });
            visited.push(None);
            continue;
        };
        let host_header = probe_host(&cluster.settings, &hostname, at.address, at.https);
        let mut server = VisitedServer {
            name: name.clone(),
            address: at.address,
            https: at.https,
            hostname: hostname.clone(),
            host_header,
            session: TestSession::None,
        };
        let (login, clock_ms) = log_in(&cluster.client, &mut server, account).await;
        servers.push(SeenServer { name, hostname, login, clock_ms });
        visited.push(Some(server));
    }
    let chosen = choose(&view, choice);
    let mut databases = Vec::new();
    for (path, holders) in chosen.databases {
        databases.push(open(&cluster.client, &visited, path, holders).await);
    }
    SeenCluster {
        name: cluster.settings.name.clone(),
        user: account.user.clone(),
        servers,
        databases,
        left_out: chosen.left_out,
        single: chosen.single,
        unknown: chosen.unknown,
    }
}

/// The login at one server, and its clock.
async fn log_in(
    client: &DominoClient,
    server: &mut VisitedServer,
    account: &TestAccount,
) -> (SeenLogin, Option<i64>) {
    let request = server.request("/");
    let sent = clock::unix_ms();
    match login::log_in(client, &request, &account.user, &account.password.0).await {
        Ok(granted) => {
            let clock_ms = clock_offset(&granted.response, sent);
            let seen = granted.cookies.iter().map(|cookie| SeenCookie {
                name: cookie.name.clone(),
                is_sso: cookie.is_sso(),
                domain: cookie.domain.clone(),
                secure: cookie.secure,
            });
            let seen = SeenLogin::Session(seen.collect());
            server.session = TestSession::Cookies(granted.cookies);
            (seen, clock_ms)
        }
        Err(LoginError::Fetch(error)) => (SeenLogin::Unknown(error.fault.to_string()), None),
        // No session login, or a wrong password: Basic tells them apart.
        Err(_) => log_in_with_basic(client, server, account).await,
    }
}

async fn log_in_with_basic(
    client: &DominoClient,
    server: &mut VisitedServer,
    account: &TestAccount,
) -> (SeenLogin, Option<i64>) {
    let sent = clock::unix_ms();
    // This asks for credentials whatever Anonymous may do.
    let challenge = server.request("/names.nsf?Login");
    let answer = match client.fetch(&challenge).await {
        Ok(answer) => answer,
        Err(error) => return (SeenLogin::Unknown(error.fault.to_string()), None),
    };
    let clock_ms = clock_offset(&answer, sent);
    let is_basic = answer.status == 401
        && answer.header(header::WWW_AUTHENTICATE).to_ascii_lowercase().starts_with("basic");
    if !is_basic {
        return (SeenLogin::Refused, clock_ms);
    }
    let auth = Auth::Basic { user: account.user.clone(), password: account.password.clone() };
    let sessions = login::LoginSessions::default();
    match login::fetch_authenticated(client, &server.request("/"), &auth, &sessions).await {
        Ok(_) => {
            server.session = TestSession::Basic(auth);
            (SeenLogin::Basic, clock_ms)
        }
        Err(LoginError::Fetch(error)) => (SeenLogin::Unknown(error.fault.to_string()), clock_ms),
        Err(_) => (SeenLogin::Refused, clock_ms),
    }
}

/// The server's clock minus ours. `Date` has whole seconds, so half a second is added.
fn clock_offset(response: &DominoResponse, sent: u64) -> Option<i64> {
    let theirs = i64::try_from(http_date(response.header(header::DATE))?).ok()?;
    let ours = i64::try_from(sent.midpoint(clock::unix_ms())).ok()?;
    Some(theirs.saturating_add(500).saturating_sub(ours))
}

/// The databases to open.
struct ChosenDatabases {
    /// The path, and each holder with the path there.
    databases: Vec<(String, Vec<(usize, String)>)>,
    left_out: usize,
    single: usize,
    unknown: Vec<String>,
}

/// One database of each set of holders first, because the answer depends on the servers most of all.
fn choose(view: &ClusterView, choice: &DatabaseChoice) -> ChosenDatabases {
    let index = &view.directory.index;
    let positions: Vec<Option<usize>> = index
        .servers()
        .iter()
        .map(|name| view.entries.iter().position(|entry| entry.config.name == *name))
        .collect();
    let (mut first, mut more, mut seen_sets, mut single) = (Vec::new(), Vec::new(), HashSet::new(), 0);
    let mut missing: Vec<String> = choice.paths.clone();
    for database in index.databases() {
        let mut holders: Vec<(usize, String)> = Vec::new();
        for replica in database.replicas() {
            let position = positions.get(replica.server.as_usize()).copied().flatten();
            let known = |position: usize| holders.iter().any(|(at, _)| *at == position);
            if let Some(position) = position.filter(|position| !known(*position)) {
                holders.push((position, replica.path.to_owned()));
            }
        }
        let path = database.path().to_owned();
        if !choice.paths.is_empty() {
            let wanted = |wanted: &String| {
                let wanted = wanted.trim_start_matches('/').replace('\\', "/");
                holders.iter().any(|(_, path)| path.eq_ignore_ascii_case(&wanted))
            };
            if !choice.paths.iter().any(wanted) {
                continue;
            }
            missing.retain(|path| !wanted(path));
        }
        if holders.len() < 2 {
            single += 1;
            continue;
        }
        holders.truncate(MAX_HOLDERS);
        let set: Vec<usize> = holders.iter().map(|(at, _)| *at).collect();
        if seen_sets.insert(set) { &mut first } else { &mut more }.push((path, holders));
    }
    first.extend(more);
    let left_out = first.len().saturating_sub(choice.limit);
    first.truncate(choice.limit);
    ChosenDatabases { databases: first, left_out, single, unknown: missing }
}

/// Opens a database at its holders: as Anonymous, and with each session.
async fn open(
    client: &DominoClient,
    visited: &[Option<VisitedServer>],
    path: String,
    holders: Vec<(usize, String)>,
) -> SeenDatabase {
    let server = |position: usize| visited.get(position).and_then(Option::as_ref);
    let mut seen = SeenDatabase {
        path,
        holders: holders.iter().map(|(position, _)| *position).collect(),
        anonymous: Vec::new(),
        answers: vec![Vec::new(); holders.len()],
    };
    for (position, path) in &holders {
        let Some(at) = server(*position) else {
            let unknown = SeenAnswer::Unknown("it has no address".to_owned());
            seen.anonymous.push(unknown.clone());
            seen.answers.iter_mut().for_each(|row| row.push(unknown.clone()));
            continue;
        };
        let plain = format!("{}?OpenDatabase", encode_database_path(path));
        let anonymous = at.ask(client, &plain, &TestSession::None).await;
        // Where Anonymous gets it, `Login` asks for a login nevertheless; if that does not, nothing is proved.
        let forced = format!("{plain}&Login");
        let (target, proves) = match &anonymous {
            SeenAnswer::WantsLogin => (&plain, true),
            _ => (&forced, at.ask(client, &forced, &TestSession::None).await == SeenAnswer::WantsLogin),
        };
        for (row, (from, _)) in seen.answers.iter_mut().zip(&holders) {
            row.push(match server(*from).map(|from| &from.session) {
                None | Some(TestSession::None) => {
                    SeenAnswer::Unknown("there is no session to show".to_owned())
                }
                Some(session) => match at.ask(client, target, session).await {
                    SeenAnswer::Opens if !proves => SeenAnswer::OpensForAll,
                    answer => answer,
                },
            });
        }
        seen.anonymous.push(anonymous);
    }
    seen
}

impl VisitedServer {
    fn request(&self, target: &str) -> DominoRequest {
        let mut request = DominoRequest::get(self.address, self.https, &self.hostname, target);
        request.host_header.clone_from(&self.host_header);
        (request.timeout, request.max_body) = (FETCH_TIMEOUT, MAX_BODY);
        request
    }

    async fn ask(&self, client: &DominoClient, target: &str, session: &TestSession) -> SeenAnswer {
        let request = self.request(target);
        let answer = match session {
            TestSession::None => client.fetch(&request).await.map_err(LoginError::from),
            TestSession::Cookies(cookies) => {
                client.fetch(&login::with_cookies(&request, cookies)).await.map_err(LoginError::from)
            }
            TestSession::Basic(auth) => {
                login::fetch_authenticated(client, &request, auth, &login::LoginSessions::default()).await
            }
        };
        match answer {
            Ok(answer) if login::wants_login(&answer) => SeenAnswer::WantsLogin,
            Ok(answer) if answer.status < 400 => SeenAnswer::Opens,
            Ok(answer) => SeenAnswer::Unknown(format!("{} answers {}", self.name, answer.status)),
            Err(LoginError::Fetch(FetchError { fault: Fault::BodyTooLarge(_), .. })) => SeenAnswer::Opens,
            Err(LoginError::Fetch(error)) => SeenAnswer::Unknown(format!("{}: {}", self.name, error.fault)),
            Err(_) => SeenAnswer::WantsLogin,
        }
    }
}
