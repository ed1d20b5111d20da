//! The head of a request for a server: the path of that server, the forwarding headers, and no header of the client that
//! Domino would trust. Identity headers (`$WSRU` and the like) are never sent.

use std::net::IpAddr;

use http::Version;
use http::header::{self, HeaderName, HeaderValue};
use pingora::{ErrorType, OrErr, Result};
use pingora_http::RequestHeader;
use smallvec::SmallVec;

use super::attempt::Attempt;
use super::client_info::ClientInfo;
use super::routed::Routed;
use crate::domain::cluster::Port;
use crate::domain::directory::db_path;
use crate::util::ip_text::IpText;

/// As the CGI variable `HTTP_PROXY`, libraries take it for their own proxy (<https://httpoxy.org>).
const HTTPOXY: &str = "proxy";
const CONNECTOR_SECRET: &str = "X-ConnectorHeaders-Secret";

/// Replaces the forwarding headers, once for all attempts: the client's head has spare capacity, but an insertion into the
/// copy of an attempt would move all fields. True if the head has hop-by-hop fields, which Pingora removes from each
/// copy.
pub(super) fn of_client(request: &mut RequestHeader, routed: &Routed, client: ClientInfo) -> Result<bool> {
    let has_hop_by_hop = remove_untrusted(request);
    let scheme =
        if routed.tls { HeaderValue::from_static("https") } else { HeaderValue::from_static("http") };
    let port = public_port(routed, client);
    if let Some(client) = client.address.and_then(address) {
        // One value for both fields.
        request.insert_header("X-Real-IP", client.clone())?;
        request.insert_header("X-Forwarded-For", client)?;
    }
    request.insert_header("X-Forwarded-Proto", scheme)?;
    request.insert_header("X-Forwarded-Port", port)?;
    // HTTP/2 has the host in `:authority`.
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

/// The port that the client wrote, else the one from a trusted proxy, else the default of the scheme.
fn public_port(routed: &Routed, client: ClientInfo) -> HeaderValue {
    let host = crate::state::host_table::strip_port(&routed.authority);
    let written = routed.authority.get(host.len()..).and_then(|rest| rest.strip_prefix(':'));
    match written.and_then(|port| port.parse().ok()).or(client.port) {
        Some(port) => HeaderValue::from(port),
        None if client.tls => HeaderValue::from_static("443"),
        None => HeaderValue::from_static("80"),
    }
}

fn address(client: IpAddr) -> Option<HeaderValue> {
    HeaderValue::from_str(&IpText::new(client.to_canonical())).ok()
}

/// Adapts the copy for one attempt to its server, after [`of_client`].
pub(super) fn to_server(
    request: &mut RequestHeader,
    routed: &Routed,
    attempt: &Attempt,
    client: Option<IpAddr>,
) -> Result<()> {
    replace_path(request, routed, attempt)?;
    if routed.rewrites_cookies {
        super::request_cookies::to_server(request, routed, attempt)?;
    }
    let Some(entry) = routed.view.server(attempt.server) else { return Ok(()) };
    if routed.cluster.settings.headers.host_of_server {
        let port = entry.host_port(routed.port).map_or(80, |p| p.port);
        let default = if routed.port == Port::Https { 443 } else { 80 };
        if port == default {
            request.insert_header(header::HOST, entry.config.hostname.as_str())?;
        } else {
            request.insert_header(header::HOST, format!("{}:{port}", entry.config.hostname))?;
        }
    }
    if entry.config.connector_headers {
        connector_headers(request, routed, client.and_then(address).as_ref())?;
    }
    Ok(())
}

/// Removes every header that only the proxy may set: those about the client's address, host and scheme, and all `$WS*`,
/// which Domino with connector headers trusts (`$WSRU` logs a user in,
/// <https://frostillic.us/blog/posts/2023/1/25/overdue-psa--reverse-proxy-headers-in-domino-12.0.1fp1-and-newer>).
/// Also removes [`HTTPOXY`] and aliases of framing fields, see [`is_alias`]. True if hop-by-hop fields are left.
fn remove_untrusted(request: &mut RequestHeader) -> bool {
    let mut has_hop_by_hop = false;
    let mut untrusted: SmallVec<[HeaderName; 4]> = SmallVec::new();
    for key in request.headers.keys() {
        let name = key.as_str();
        if !may_be_untrusted(name) {
            continue;
        }
        if is_reserved(name) || is_alias(name) || is(name, HTTPOXY) {
            untrusted.push(key.clone());
        }
        has_hop_by_hop |= HOP_BY_HOP.contains(&name);
    }
    for name in &untrusted {
        request.remove_header(name);
    }
    has_hop_by_hop
}

/// Hop-by-hop fields except `Connection`, `Upgrade` and `HTTP2-Settings`, which Pingora always removes
/// (`strip_standard_hop_by_hop_headers` of `pingora-proxy`). Pingora would search for each of these in every request; one
/// look at every name costs less.
const HOP_BY_HOP: [&str; 7] = [
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
];

/// Rules out most names by their first letter.
fn may_be_untrusted(name: &str) -> bool {
    name.bytes().next().is_none_or(|first| !first.is_ascii_alphanumeric() || b"cfhkmptx".contains(&first))
}

/// Whether only the proxy may set a header. The name is in lower case, as header maps have it.
pub(super) fn is_reserved(name: &str) -> bool {
    starts_with(name, "$ws")
        || starts_with(name, "x-forwarded")
        || is(name, "x-real-ip")
        || name == "forwarded"
        || is(name, "x-connectorheaders-secret")
}

/// Whether a name is another spelling of a framing or hop-by-hop field, which gives the same CGI variable.
fn is_alias(name: &str) -> bool {
    const FIELDS: [&str; 9] = [
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
    FIELDS.iter().any(|field| name != *field && is(name, field))
}

/// Whether a name begins with another one. All characters except letters and digits are equal, because the CGI variables
/// that agents read have underscores for them.
fn starts_with(name: &str, with: &str) -> bool {
    let alike = |(a, b): (u8, u8)| a == b || !(a.is_ascii_alphanumeric() || b.is_ascii_alphanumeric());
    name.len() >= with.len() && name.bytes().zip(with.bytes()).all(alike)
}

fn is(name: &str, whole: &str) -> bool {
    name.len() == whole.len() && starts_with(name, whole)
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
    let host = crate::state::host_table::strip_port(&routed.authority);
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

/// Replaces the path of the database by that of the server. The rest of the URL stays unchanged.
fn replace_path(request: &mut RequestHeader, routed: &Routed, attempt: &Attempt) -> Result<()> {
    if !attempt.replace_path {
        return Ok(());
    }
    let holder = routed.replica_on(attempt.server);
    match holder.and_then(|holder| routed.target_for(&holder, request.raw_path())) {
        Some(path) => request.set_raw_path(&path),
        None => Ok(()),
    }
}

/// The database's path on the server, percent-encoded and without a leading slash.
pub(super) fn server_path(routed: &Routed, attempt: &Attempt) -> Option<String> {
    let holder = routed.replica_on(attempt.server)?;
    Some(db_path::percent_encode_path(holder.path()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_headers_are_found_in_every_spelling() {
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
            assert!(is_reserved(name) && may_be_untrusted(name), "{name}");
        }
        for name in
            ["ws", "xwsru", "forward", "forwarded-by-me", "x-forward-for", "x-real-ipx", "cookie", "host"]
        {
            assert!(!is_reserved(name), "{name}");
        }
    }

    #[test]
    fn hop_by_hop_fields_are_found() {
        let ends = |fields: &[&'static str]| {
            let mut head = RequestHeader::build("GET", b"/", None).unwrap();
            for name in fields {
                head.append_header(*name, "x").unwrap();
            }
            remove_untrusted(&mut head)
        };
        assert!(!ends(&["Host", "Accept", "Connection", "Upgrade", "X-Forwarded-For", "Keep_Alive", "Tea"]));
        for name in HOP_BY_HOP {
            assert!(ends(&["Host", name]) && may_be_untrusted(name), "{name}");
        }
    }

    #[test]
    fn aliases_of_framing_fields_go_and_the_fields_themselves_stay() {
        for alias in
            ["content_length", "transfer_encoding", "transfer.encoding", "keep_alive", "max_forwards"]
        {
            assert!(is_alias(alias) && may_be_untrusted(alias), "{alias}");
        }
        for other in ["content-length", "transfer-encoding", "content_lengths", "content_type", "my_field"] {
            assert!(!is_alias(other), "{other}");
        }
    }
}
