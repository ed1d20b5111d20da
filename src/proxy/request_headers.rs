//! What a request carries to a server: the right path, our word about the client, and nothing that
//! Domino would trust from a stranger.
//!
//! In: the client's head, the version it came in. Out: the same with every `$WS*` and every twin of a field that
//! frames removed, and the forwarding headers replaced.
//! Identity headers (`$WSRU` and its kin) are never sent.

use std::net::IpAddr;

use http::Version;
use http::header::{self, HeaderName, HeaderValue};
use pingora::{ErrorType, OrErr, Result};
use pingora_http::RequestHeader;
use smallvec::SmallVec;

use super::attempt::Attempt;
use super::client_info::ClientInfo;
use super::routed::Routed;
use crate::address::Address;
use crate::cluster::Port;
use crate::directory::db_path;

/// As a CGI variable it is `HTTP_PROXY`, which libraries take for the proxy to send requests by
/// (<https://httpoxy.org>).
const HTTPOXY: &str = "proxy";
const CONNECTOR_SECRET: &str = "X-ConnectorHeaders-Secret";

/// Says of the client what every server hears alike, once for all attempts: nothing that only we may say is left of
/// what it said itself.
///
/// In the client's own head there is room; what is put into the copy that each attempt makes of it moves all fields.
/// Out: whether it has fields that end at this hop, which Pingora removes from each copy.
///
/// # Errors
/// When Pingora refuses a header's value, which cannot come from the client unchecked.
pub fn of_client(request: &mut RequestHeader, routed: &Routed, client: ClientInfo) -> Result<bool> {
    let has_hop_by_hop = remove_what_is_ours_to_say(request);
    let scheme =
        if routed.tls { HeaderValue::from_static("https") } else { HeaderValue::from_static("http") };
    let port = public_port(routed, client);
    if let Some(client) = client.address.and_then(address) {
        // One value, shared by both.
        request.insert_header("X-Real-IP", client.clone())?;
        request.insert_header("X-Forwarded-For", client)?;
    }
    request.insert_header("X-Forwarded-Proto", scheme)?;
    request.insert_header("X-Forwarded-Port", port)?;
    // HTTP/2 names the host outside the headers.
    let host = request.headers.get(header::HOST).filter(|h| h.as_bytes() == routed.authority.as_bytes());
    let host = match host.cloned() {
        Some(host) => host,
        None => {
            let host = HeaderValue::from_str(&routed.authority);
            let host = host.or_err(ErrorType::InvalidHTTPHeader, "the host")?;
            request.insert_header(header::HOST, host.clone())?;
            host
        }
    };
    request.insert_header("X-Forwarded-Host", host)?;
    if let Some(pseudonym) = &routed.cluster.settings.headers.via {
        let received = match request.version {
            Version::HTTP_2 => "2.0",
            Version::HTTP_10 => "1.0",
            _ => "1.1",
        };
        request.append_header(header::VIA, format!("{received} {pseudonym}"))?;
    }
    Ok(has_hop_by_hop)
}

/// The port of the public name: as the client wrote it, else as a trusted proxy says it, else the scheme's own.
fn public_port(routed: &Routed, client: ClientInfo) -> HeaderValue {
    let host = crate::balancer::hosts::host_name(&routed.authority);
    let written = routed.authority.get(host.len()..).and_then(|rest| rest.strip_prefix(':'));
    match written.and_then(|port| port.parse().ok()).or(client.port) {
        Some(port) => HeaderValue::from(port),
        None if client.tls => HeaderValue::from_static("443"),
        None => HeaderValue::from_static("80"),
    }
}

fn address(client: IpAddr) -> Option<HeaderValue> {
    HeaderValue::from_str(&Address::of(client.to_canonical())).ok()
}

/// Makes the head that goes to this attempt's server out of the client's, of which [`of_client`] has spoken.
///
/// # Errors
/// When Pingora refuses a header's value, which cannot come from the client unchecked.
pub fn to_server(
    request: &mut RequestHeader,
    routed: &Routed,
    attempt: &Attempt,
    client: Option<IpAddr>,
) -> Result<()> {
    replace_path(request, routed, attempt)?;
    if routed.rewrites_cookies {
        super::request_cookies::to_server(request, routed, attempt)?;
    }
    let Some(entry) = routed.view.entry(attempt.member) else { return Ok(()) };
    if routed.cluster.settings.headers.host_of_server {
        let port = entry.host_port(routed.port).map_or(80, |p| p.port);
        let usual = if routed.port == Port::Https { 443 } else { 80 };
        if port == usual {
            request.insert_header(header::HOST, entry.server.hostname.as_str())?;
        } else {
            request.insert_header(header::HOST, format!("{}:{port}", entry.server.hostname))?;
        }
    }
    if entry.server.connector_headers {
        connector_headers(request, routed, client.and_then(address).as_ref())?;
    }
    Ok(())
}

/// Every header that only this balancer may say: all `$WS*`, as Domino with connector headers on believes
/// them, `$WSRU` being a whole login
/// (<https://frostillic.us/blog/posts/2023/1/25/overdue-psa--reverse-proxy-headers-in-domino-12.0.1fp1-and-newer>),
/// and whatever speaks of the client's address, host and scheme. Beside them go the twins of fields that frame, see
/// [`is_twin`], and [`HTTPOXY`]. Out: whether fields are left that end at this hop.
fn remove_what_is_ours_to_say(request: &mut RequestHeader) -> bool {
    let mut has_hop_by_hop = false;
    let mut hostile: SmallVec<[HeaderName; 4]> = SmallVec::new();
    for key in request.headers.keys() {
        let name = key.as_str();
        if !may_be_hostile(name) {
            continue;
        }
        if is_ours_to_say(name) || is_twin(name) || is(name, HTTPOXY) {
            hostile.push(key.clone());
        }
        has_hop_by_hop |= HOP_BY_HOP.contains(&name);
    }
    for name in &hostile {
        request.remove_header(name);
    }
    has_hop_by_hop
}

/// Fields that end at this hop, without `Connection`, `Upgrade` and `HTTP2-Settings`: these Pingora removes in any case
/// (`strip_standard_hop_by_hop_headers` of `pingora-proxy`). To look for each of them in every request costs more than
/// to see here that there are none.
const HOP_BY_HOP: [&str; 7] = [
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
];

/// What nearly every field's first letter says at once.
fn may_be_hostile(name: &str) -> bool {
    name.bytes().next().is_none_or(|first| !first.is_ascii_alphanumeric() || b"cfhkmptx".contains(&first))
}

/// For a name in lower case, as header maps have them: what only we may say, in any spelling.
pub(super) fn is_ours_to_say(name: &str) -> bool {
    begins(name, "$ws")
        || begins(name, "x-forwarded")
        || is(name, "x-real-ip")
        || name == "forwarded"
        || is(name, "x-connectorheaders-secret")
}

/// Another spelling of a field that frames a message or ends at a proxy: whoever reads the fields as CGI
/// variables takes it for the field itself.
fn is_twin(name: &str) -> bool {
    const TWINS: [&str; 9] = [
        "content-length",
        "transfer-encoding",
        "content-encoding",
        "http2-settings",
        "keep-alive",
        "max-forwards",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
    ];
    TWINS.iter().any(|twin| name != *twin && is(name, twin))
}

/// Whether a name begins so, where a dash (and the dollar) stands for every octet that is no letter and no
/// digit: in the CGI variables that agents read all of them are underscores.
fn begins(name: &str, with: &str) -> bool {
    let alike = |(a, b): (u8, u8)| a == b || !(a.is_ascii_alphanumeric() || b.is_ascii_alphanumeric());
    name.len() >= with.len() && name.bytes().zip(with.bytes()).all(alike)
}

fn is(name: &str, whole: &str) -> bool {
    name.len() == whole.len() && begins(name, whole)
}

fn connector_headers(
    request: &mut RequestHeader,
    routed: &Routed,
    client: Option<&HeaderValue>,
) -> Result<()> {
    if let Some(client) = client {
        request.insert_header("$WSRA", client.clone())?;
        request.insert_header("$WSRH", client.clone())?;
    }
    let host = crate::balancer::hosts::host_name(&routed.authority);
    let (scheme, secure) = if routed.tls { ("https", "True") } else { ("http", "False") };
    request.insert_header("$WSSN", host)?;
    if let Some(port) = request.headers.get("x-forwarded-port").cloned() {
        request.insert_header("$WSSP", port)?;
    }
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
    let range = &routed.database.range;
    Some([target.get(..range.start)?, path.as_bytes(), target.get(range.end..)?].concat())
}

/// The database's path on the chosen server, as it stands in a URL, without a leading slash.
#[must_use]
pub fn server_path(routed: &Routed, attempt: &Attempt) -> Option<String> {
    let holder = routed.holder(attempt.member)?;
    Some(db_path::encode_for_url(holder.path()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_we_may_say_is_known_in_every_spelling() {
        for name in [
            "$wsru",
            "$wsra",
            "$ws",
            "$ws_ru",
            "$wsanything",
            "_wsru",
            "x-forwarded-for",
            "x_forwarded_for",
            "x-forwarded_for",
            "x.forwarded.for",
            "x-forwarded",
            "x-forwarded-anything",
            "x-real-ip",
            "x_real-ip",
            "forwarded",
            "x_connectorheaders_secret",
        ] {
            assert!(is_ours_to_say(name) && may_be_hostile(name), "{name}");
        }
        for name in
            ["ws", "xwsru", "forward", "forwarded-by-me", "x-forward-for", "x-real-ipx", "cookie", "host"]
        {
            assert!(!is_ours_to_say(name), "{name}");
        }
    }

    #[test]
    fn a_head_without_fields_of_this_hop_needs_no_search_for_them() {
        let ends = |fields: &[&'static str]| {
            let mut head = RequestHeader::build("GET", b"/", None).unwrap();
            for name in fields {
                head.append_header(*name, "x").unwrap();
            }
            remove_what_is_ours_to_say(&mut head)
        };
        assert!(!ends(&["Host", "Accept", "Connection", "Upgrade", "X-Forwarded-For", "Keep_Alive", "Tea"]));
        for name in HOP_BY_HOP {
            assert!(ends(&["Host", name]) && may_be_hostile(name), "{name}");
        }
    }

    #[test]
    fn twins_of_framing_fields_go_and_the_fields_themselves_stay() {
        for twin in ["content_length", "transfer_encoding", "transfer.encoding", "keep_alive", "max_forwards"]
        {
            assert!(is_twin(twin) && may_be_hostile(twin), "{twin}");
        }
        for other in ["content-length", "transfer-encoding", "content_lengths", "content_type", "my_field"] {
            assert!(!is_twin(other), "{other}");
        }
    }
}
