//! The account for the companion: its own, else that of the directory. Known only after servers and directory were read,
//! because a password that was meant for them must not reach a cleartext port.

use super::auth::refuse_plaintext;
use super::directory;
use super::keys;
use super::reader::Map;
use super::settings::{Auth, Availability, AvailabilitySource, Directory, Server, Servers, UpstreamScheme};
use crate::util::host::is_loopback;

/// Gives the companions of a cluster the directory's account if they have none, and notes an error for each whose
/// password would be sent in clear text.
pub(super) fn finish(
    cluster: &Map<'_>,
    scheme: UpstreamScheme,
    availability: &mut [Availability],
    servers: &mut Servers,
    directory: &Directory,
) {
    let auth_item = cluster.get("directory").map_quietly(keys::DIRECTORY).get("auth");
    let inherited = directory.auth();
    let plaintext = *inherited != Auth::None
        && auth_item.map_quietly(keys::AUTH).get("allow_plaintext").boolean().unwrap_or(false);
    let account = (inherited, plaintext);
    let default_port = directory::plain_server(scheme, servers);
    let list: &mut [Server] = match servers {
        Servers::Static(list) => list,
        Servers::Names(_) => &mut [],
    };
    let mut refused = None;
    for server in list.iter_mut() {
        let own = [server.clone()];
        for one in &mut server.availability {
            let found = complete(one, account, default_port.as_deref(), |url| plain_url(url, &own));
            refused = refused.or(found);
        }
    }
    for one in availability {
        let found = complete(one, account, default_port.as_deref(), |url| plain_url(url, list));
        refused = refused.or(found);
    }
    if let Some((auth, to)) = refused {
        refuse_plaintext(&cluster.get("availability"), &auth, Some(to));
    }
}

/// The account and where its password would be sent in clear text, if it would.
fn complete(
    one: &mut Availability,
    (inherited, inherited_plaintext): (&Auth, bool),
    default_port: Option<&str>,
    plain: impl Fn(&str) -> Option<String>,
) -> Option<(Auth, String)> {
    let AvailabilitySource::Companion { url, auth, allow_plaintext } = &mut one.source else { return None };
    if auth.is_none() {
        *auth = Some(inherited.clone());
        *allow_plaintext |= inherited_plaintext;
    }
    let auth = auth.clone().filter(|auth| *auth != Auth::None && !*allow_plaintext)?;
    let to = match url {
        Some(url) => plain(url),
        None => default_port.map(str::to_owned),
    };
    to.map(|to| (auth, to))
}

/// Whether a URL, with the hosts of these servers in its placeholders, leads to a cleartext port off this machine. The
/// hosts of servers that are read from Domino are not known yet.
fn plain_url(url: &str, servers: &[Server]) -> Option<String> {
    if url.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("https://")) {
        return None;
    }
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?']).next().unwrap_or(rest);
    let host = match authority.strip_prefix('[') {
        Some(inner) => inner.split(']').next().unwrap_or(inner),
        None => authority.split(':').next().unwrap_or(authority),
    };
    let is_local = |server: &Server| {
        let mut ports = server.http.iter().chain(&server.https);
        // A companion at the server's own host name is read from its configured address.
        ports.all(|at| is_loopback(&at.host))
    };
    let local = match host.contains('{') {
        true => !servers.is_empty() && servers.iter().all(is_local),
        false => is_loopback(host),
    };
    (!local).then(|| url.to_owned())
}
