//! Finds the server that the administrator named: which scheme and port answer, whether it is Domino, and how it lets users
//! log in. Nothing secret is sent here.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::header;

use super::answers::WantedServer;
use super::error::InitError;
use crate::cli::certificates;
use crate::config::settings::{BaseUrl, LOOKUP_VIEW};
use crate::discovery::domino::login::is_login_page;
use crate::discovery::domino::request::encode_segment;
use crate::discovery::domino::{DominoClient, DominoRequest, DominoResponse, Fault, FetchError};
use crate::domain::cluster::HostPort;

const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// A page of Domino and one row of a view.
const MAX_BODY: usize = 1 << 20;

/// The server that is read.
#[derive(Clone, Debug)]
pub(super) struct InitTarget {
    pub(super) https: bool,
    pub(super) at: HostPort,
    pub(super) address: SocketAddr,
    /// The field `Server` of its answers; may be empty.
    pub(super) product: String,
    /// What Anonymous gets for the Cluster Database Directory.
    pub(super) directory: AnonymousAccess,
    /// How users log in, as far as it shows.
    pub(super) login: LoginKind,
    /// What an administrator should know about the way to it.
    pub(super) notes: Vec<String>,
}

/// What a reader without an account gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnonymousAccess {
    /// The rows of the view.
    Rows,
    /// A login form or a challenge.
    Login,
    /// Status 404: no such view.
    NotFound,
    /// Another status, or no view.
    Unknown(u16),
}

/// How a server wants users to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoginKind {
    /// A form, and a cookie afterwards.
    Session,
    /// A challenge for Basic authentication.
    Basic,
}

impl InitTarget {
    pub(super) fn url(&self) -> String {
        self.base().origin()
    }

    pub(super) fn base(&self) -> BaseUrl {
        BaseUrl { https: self.https, at: self.at.clone(), path: "/".to_owned() }
    }

    /// A GET of this path.
    pub(super) fn request(&self, target: &str) -> DominoRequest {
        let mut request = DominoRequest::get(self.address, self.https, &self.at.host, target);
        (request.timeout, request.max_body) = (FETCH_TIMEOUT, MAX_BODY);
        request
    }
}

/// # Errors
/// When no server answers there, or it is not Domino.
pub(super) async fn find(
    client: &DominoClient,
    wanted: &WantedServer,
    has_ca: bool,
) -> Result<InitTarget, InitError> {
    let candidates = match wanted.https {
        Some(https) => vec![https],
        None => vec![true, false],
    };
    let mut first_error = None;
    for https in candidates {
        let port = wanted.port.unwrap_or(if https { 443 } else { 80 });
        let at = HostPort { host: wanted.host.clone(), port };
        match visit(client, https, at, has_ca).await {
            Ok(target) => return Ok(target),
            // Without a scheme, HTTP is tried only if nothing there speaks TLS: a certificate is no reason to do without.
            Err(error @ InitError::Unreachable { .. }) if wanted.https.is_none() && https => {
                first_error = Some(error)
            }
            Err(error) => {
                return Err(match (first_error, error) {
                    (
                        Some(InitError::Unreachable { url: first, fault: why }),
                        InitError::Unreachable { url, fault },
                    ) => InitError::Unreachable {
                        url: format!("{first} and {url}"),
                        fault: if why == fault { why } else { format!("{why}; {fault}") },
                    },
                    (_, error) => error,
                });
            }
        }
    }
    Err(first_error.unwrap_or_else(|| InitError::Usage("no server is given".to_owned())))
}

/// Follows one redirect to HTTPS of the same host.
async fn visit(
    client: &DominoClient,
    https: bool,
    at: HostPort,
    has_ca: bool,
) -> Result<InitTarget, InitError> {
    let mut target = InitTarget {
        https,
        address: resolve(&at).await?,
        at,
        product: String::new(),
        directory: AnonymousAccess::Unknown(0),
        login: LoginKind::Session,
        notes: Vec::new(),
    };
    let view = format!("/cldbdir.nsf/{}?ReadViewEntries&Count=1", encode_segment(LOOKUP_VIEW));
    let mut response = fetch(client, &target, &view, has_ca).await?;
    if let Some((location, next)) = redirect_target(&response, &target) {
        let url = target.url();
        let next = next.filter(|next| !target.https && next.at.host.eq_ignore_ascii_case(&target.at.host));
        let Some(next) = next.filter(|next| next.https) else {
            return Err(InitError::RedirectsElsewhere { url, location });
        };
        target.notes.push(format!("{url} redirects to {}, which is used", next.origin()));
        target.https = true;
        target.address = resolve(&next.at).await?;
        target.at = next.at;
        response = fetch(client, &target, &view, has_ca).await?;
        if let Some((location, _)) = redirect_target(&response, &target) {
            return Err(InitError::RedirectsElsewhere { url: target.url(), location });
        }
    }
    recognise(client, target, &response, has_ca).await
}

/// Whether it is Domino: by the field `Server`, else by what it answers for databases that every server has.
async fn recognise(
    client: &DominoClient,
    mut target: InitTarget,
    response: &DominoResponse,
    has_ca: bool,
) -> Result<InitTarget, InitError> {
    target.product = response.header(header::SERVER).to_owned();
    target.directory = access(response);
    let form = fetch(client, &target, "/names.nsf?Login", has_ca).await?;
    let has_form = is_login_page(&form.body);
    let offers_basic = |response: &DominoResponse| {
        response.status == 401
            && response.header(header::WWW_AUTHENTICATE).to_ascii_lowercase().starts_with("basic")
    };
    if offers_basic(response) || (offers_basic(&form) && !has_form) {
        target.login = LoginKind::Basic;
    }
    let named = target.product.to_ascii_lowercase().contains("domino");
    let knows_views = target.directory == AnonymousAccess::Rows;
    let page = form.body.to_ascii_lowercase();
    let knows_login = has_form && memchr::memmem::find(&page, b".nsf?login").is_some();
    if named || knows_views || knows_login || offers_basic(response) {
        return Ok(target);
    }
    let product = match target.product.as_str() {
        "" => "it does not name itself".to_owned(),
        product => format!("it names itself `{}`", crate::discovery::domino::fault::single_line(product)),
    };
    let why = format!(
        "{product}, and answers {} for cldbdir.nsf and {} for names.nsf?Login",
        response.status, form.status
    );
    Err(InitError::NotDomino { url: target.url(), why })
}

fn access(response: &DominoResponse) -> AnonymousAccess {
    match response.status {
        401 | 403 => AnonymousAccess::Login,
        300..=399 => AnonymousAccess::Login,
        200..=299 if memchr::memmem::find(&response.body, b"<viewentries").is_some() => AnonymousAccess::Rows,
        200..=299 if is_login_page(&response.body) => AnonymousAccess::Login,
        404 => AnonymousAccess::NotFound,
        status => AnonymousAccess::Unknown(status),
    }
}

/// Where a redirect leads that is none to a login form, and the URL if it can be read.
fn redirect_target(response: &DominoResponse, from: &InitTarget) -> Option<(String, Option<BaseUrl>)> {
    if !(300..400).contains(&response.status) {
        return None;
    }
    let location = response.header(header::LOCATION);
    let next = absolute(location, from);
    let to_https = !from.https && next.as_ref().is_some_and(|next| next.https);
    if location.is_empty() || (location.to_ascii_lowercase().contains("login") && !to_https) {
        return None;
    }
    Some((crate::discovery::domino::fault::single_line(location), next))
}

fn absolute(location: &str, from: &InitTarget) -> Option<BaseUrl> {
    let uri: http::Uri = location.parse().ok()?;
    let Some(authority) = uri.authority() else { return Some(from.base()) };
    let https = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return None,
    };
    let port = authority.port_u16().unwrap_or(if https { 443 } else { 80 });
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    Some(BaseUrl { https, at: HostPort { host, port }, path: "/".to_owned() })
}

async fn fetch(
    client: &DominoClient,
    target: &InitTarget,
    path: &str,
    has_ca: bool,
) -> Result<DominoResponse, InitError> {
    match client.fetch(&target.request(path)).await {
        Ok(response) => Ok(response),
        Err(FetchError { fault: fault @ Fault::CertificateNotTrusted(_), .. }) => {
            Err(untrusted(target, fault, has_ca).await)
        }
        Err(FetchError { fault: Fault::Malformed(why), .. }) => {
            let why = format!("it does not answer in HTTP ({why})");
            Err(InitError::NotDomino { url: target.url(), why })
        }
        Err(FetchError { fault, .. }) => {
            Err(InitError::Unreachable { url: target.url(), fault: fault.to_string() })
        }
    }
}

/// The certificate that is not trusted, and how to trust it.
async fn untrusted(target: &InitTarget, reason: Fault, has_ca: bool) -> InitError {
    let (address, host) = (target.address, target.at.host.as_str());
    let described = certificates::describe_server_certificate(address, host, false, FETCH_TIMEOUT).await;
    let fingerprint = certificates::server_fingerprint(address, host, FETCH_TIMEOUT).await;
    let mut presented = described.map(|text| format!("It presents a {text}. ")).unwrap_or_default();
    if let Some(fingerprint) = fingerprint {
        presented.push_str(&format!("SHA-256 fingerprint: {fingerprint}. "));
    }
    let advice = if has_ca {
        "--ca-file does not have the authority of this certificate, or the certificate is for another host name: use the \
         name in --server that the certificate has"
            .to_owned()
    } else {
        format!(
            "If this is the certificate of your server, put the certificate of its authority (of a self-signed one, \
             itself) into a file and name it: --ca-file ca.pem. `openssl s_client -showcerts -connect {} </dev/null` \
             prints what the server sends; compare the fingerprint with the one on the server first",
            target.at
        )
    };
    InitError::Untrusted { url: target.url(), reason, presented, advice }
}

/// The address of a host. Many Domino servers have an IPv6 address in the DNS but no listener on it, so IPv4 comes first.
pub(super) async fn resolve(at: &HostPort) -> Result<SocketAddr, InitError> {
    if let Ok(ip) = at.host.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, at.port));
    }
    let failed = |reason: String| InitError::Resolve { host: at.host.clone(), reason };
    let lookup = tokio::net::lookup_host((at.host.as_str(), at.port));
    match tokio::time::timeout(RESOLVE_TIMEOUT, lookup).await {
        Ok(Ok(addresses)) => {
            addresses.min_by_key(SocketAddr::is_ipv6).ok_or_else(|| failed("it has no address".to_owned()))
        }
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed(format!("no answer within {RESOLVE_TIMEOUT:?}"))),
    }
}
