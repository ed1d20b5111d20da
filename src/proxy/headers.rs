//! What a request carries to a server: the right path, our word about the client, and nothing that
//! Domino would trust from a stranger.
//!
//! In: the client's head. Out: the same with every `$WS*` removed and the forwarding headers replaced.
//! Identity headers (`$WSRU` and its kin) are never sent.

use std::net::IpAddr;

use http::header::{self, HeaderName, HeaderValue};
use pingora::Result;
use pingora_http::RequestHeader;
use smallvec::SmallVec;

use super::ctx::{Attempt, Routed};
use crate::cluster::Port;
use crate::directory::db_path;

const CONNECTOR_SECRET: &str = "X-ConnectorHeaders-Secret";

/// Makes the head that goes to the server out of the client's.
///
/// # Errors
/// When Pingora refuses a header's value, which cannot come from the client unchecked.
pub fn to_server(
    request: &mut RequestHeader,
    routed: &Routed,
    attempt: &Attempt,
    client: Option<IpAddr>,
) -> Result<()> {
    remove_what_is_ours_to_say(request);
    replace_path(request, routed, attempt)?;
    if routed.rewrites_cookies {
        super::cookies::to_server(request, routed, attempt)?;
    }
    let scheme =
        if routed.tls { HeaderValue::from_static("https") } else { HeaderValue::from_static("http") };
    if let Some(client) = client.map(|ip| ip.to_canonical().to_string()) {
        request.insert_header("X-Real-IP", client.as_str())?;
        request.insert_header("X-Forwarded-For", client)?;
    }
    request.insert_header("X-Forwarded-Proto", scheme)?;
    request.insert_header("X-Forwarded-Host", &*routed.authority)?;
    let settings = &routed.cluster.settings;
    let Some(entry) = routed.view.entry(attempt.member) else { return Ok(()) };
    if settings.headers.host_of_server {
        let port = entry.host_port(routed.port).map_or(80, |p| p.port);
        let usual = if routed.port == Port::Https { 443 } else { 80 };
        if port == usual {
            request.insert_header(header::HOST, entry.server.hostname.as_str())?;
        } else {
            request.insert_header(header::HOST, format!("{}:{port}", entry.server.hostname))?;
        }
    } else if request.headers.get(header::HOST).is_none_or(|h| h.as_bytes() != routed.authority.as_bytes()) {
        // HTTP/2 names the host outside the headers.
        request.insert_header(header::HOST, &*routed.authority)?;
    }
    if let Some(pseudonym) = &settings.headers.via {
        request.append_header(header::VIA, format!("1.1 {pseudonym}"))?;
    }
    if entry.server.connector_headers {
        connector_headers(request, routed, client)?;
    }
    Ok(())
}

/// Every header that only this balancer may say: all `$WS*`, as Domino with connector headers on believes
/// them, `$WSRU` being a whole login
/// (<https://frostillic.us/blog/posts/2023/1/25/overdue-psa--reverse-proxy-headers-in-domino-12.0.1fp1-and-newer>),
/// and whatever speaks of the client's address, host and scheme.
fn remove_what_is_ours_to_say(request: &mut RequestHeader) {
    let hostile: SmallVec<[HeaderName; 4]> =
        request.headers.keys().filter(|name| is_ours_to_say(name.as_str())).cloned().collect();
    for name in &hostile {
        request.remove_header(name);
    }
}

/// For a name in lower case, as header maps have them. An underscore counts as a dash: in the CGI variables
/// that agents read the two are one.
fn is_ours_to_say(name: &str) -> bool {
    let begins = |with: &str| {
        let alike = |(a, b): (u8, u8)| a == b || (a == b'_' && b == b'-');
        name.len() >= with.len() && name.bytes().zip(with.bytes()).all(alike)
    };
    let is = |whole: &str| name.len() == whole.len() && begins(whole);
    begins("$ws")
        || begins("x-forwarded-")
        || is("x-real-ip")
        || is("forwarded")
        || is("x-connectorheaders-secret")
}

fn connector_headers(request: &mut RequestHeader, routed: &Routed, client: Option<IpAddr>) -> Result<()> {
    if let Some(client) = client.map(|ip| ip.to_canonical().to_string()) {
        request.insert_header("$WSRA", client.as_str())?;
        request.insert_header("$WSRH", client)?;
    }
    let host = crate::balancer::hosts::host_name(&routed.authority);
    let port = routed.authority.get(host.len()..).and_then(|rest| rest.strip_prefix(':'));
    let (scheme, secure, usual) = if routed.tls { ("https", "True", "443") } else { ("http", "False", "80") };
    request.insert_header("$WSSN", host)?;
    request.insert_header("$WSSP", port.unwrap_or(usual))?;
    request.insert_header("$WSSC", scheme)?;
    request.insert_header("$WSIS", secure)?;
    if let Some(secret) = &routed.cluster.settings.connector_secret
        && let Ok(value) = HeaderValue::from_bytes(&secret.0)
    {
        request.insert_header(CONNECTOR_SECRET, value)?;
    }
    Ok(())
}

/// The directory's path where the server has another one; the rest of the URL byte for byte.
fn replace_path(request: &mut RequestHeader, routed: &Routed, attempt: &Attempt) -> Result<()> {
    if !attempt.replace_path {
        return Ok(());
    }
    match replaced(routed, attempt, request.raw_path()) {
        Some(path) => request.set_raw_path(&path),
        None => Ok(()),
    }
}

fn replaced(routed: &Routed, attempt: &Attempt, target: &[u8]) -> Option<Vec<u8>> {
    let path = server_path(routed, attempt)?;
    let range = &routed.database_range;
    Some([target.get(..range.start)?, path.as_bytes(), target.get(range.end..)?].concat())
}

/// The database's path on the chosen server, as it stands in a URL, without a leading slash.
#[must_use]
pub fn server_path(routed: &Routed, attempt: &Attempt) -> Option<String> {
    let holder = routed.holder(attempt.member)?;
    Some(db_path::encode_for_url(holder.path).into_owned())
}
