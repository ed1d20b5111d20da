//! The head of a request for a server: the path of that server, the forwarding headers, and no header of the client that
//! Domino would trust. Of the headers that name a user only the client's certificate is ever sent, and never `$WSRU`.

use http::Version;
use http::header::{self, HeaderName, HeaderValue};
use pingora::{ErrorType, OrErr, Result};
use pingora_http::RequestHeader;
use smallvec::SmallVec;

use super::attempt::Attempt;
use super::client_info::ClientInfo;
use super::routed::Routed;
use super::{compression, request_cookies};
use crate::config::settings::ConnectorHeaders;
use crate::domain::cluster::Port;
use crate::domain::directory::db_path;
use crate::util::header_names::{is_alias, is_httpoxy, is_reserved};
use crate::util::ip_text::IpText;

const CONNECTOR_SECRET: &str = "X-ConnectorHeaders-Secret";

/// Prepares the client's head for Pingora's loop, once for all attempts: the client's head has spare capacity, but an
/// insertion into the copy of an attempt would move all fields. True if the head has hop-by-hop fields, which Pingora
/// removes from each copy.
pub(super) fn of_client(request: &mut RequestHeader, routed: &Routed, client: ClientInfo) -> Result<bool> {
    let has_hop_by_hop = remove_untrusted(request);
    forwarding_fields(routed, client, |name, value| request.insert_header(name, header_value(value)?))?;
    // HTTP/2 has the host in `:authority`.
    if request.headers.get(header::HOST).is_none_or(|host| host.as_bytes() != routed.authority.as_bytes()) {
        request.insert_header(header::HOST, header_value(routed.authority.as_bytes())?)?;
    }
    if let Some(via) = via(routed, request.version) {
        request.append_header(header::VIA, via)?;
    }
    Ok(has_hop_by_hop)
}

fn header_value(value: &[u8]) -> Result<HeaderValue> {
    HeaderValue::from_bytes(value).or_err(ErrorType::InvalidHTTPHeader, "a field for the server")
}

/// The fields that tell a server about the client, in place of those that the client sent.
pub(super) fn forwarding_fields(
    routed: &Routed,
    client: ClientInfo,
    mut set: impl FnMut(&'static str, &[u8]) -> Result<()>,
) -> Result<()> {
    if let Some(address) = client.address {
        let address = IpText::new(address.to_canonical());
        set("X-Real-IP", address.as_bytes())?;
        set("X-Forwarded-For", address.as_bytes())?;
    }
    set("X-Forwarded-Proto", if routed.tls { b"https" } else { b"http" })?;
    set("X-Forwarded-Port", itoa::Buffer::new().format(public_port(routed, client)).as_bytes())?;
    set("X-Forwarded-Host", routed.authority.as_bytes())
}

/// The value of the `Via` field that names this proxy.
pub(super) fn via(routed: &Routed, received: Version) -> Option<String> {
    let pseudonym = routed.cluster.settings.headers.via.as_ref()?;
    let received = match received {
        Version::HTTP_2 => "2.0",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    };
    Some(format!("{received} {pseudonym}"))
}

/// The port that the client wrote, else the one from a trusted proxy, else the default of the scheme.
fn public_port(routed: &Routed, client: ClientInfo) -> u16 {
    let host = crate::state::host_table::strip_port(&routed.authority);
    let written = routed.authority.get(host.len()..).and_then(|rest| rest.strip_prefix(':'));
    let default = if client.tls { 443 } else { 80 };
    written.and_then(|port| port.parse().ok()).or(client.port).unwrap_or(default)
}

/// Adapts the copy for one attempt to its server, after [`of_client`].
pub(super) fn to_server(
    request: &mut RequestHeader,
    routed: &Routed,
    attempt: &Attempt,
    client: ClientInfo,
) -> Result<()> {
    if let Some(target) = target_for_server(request, routed, attempt) {
        request.set_raw_path(&target)?;
    }
    if routed.rewrites_cookies {
        let line = request_cookies::line_for_server(request, routed, attempt);
        match HeaderValue::from_maybe_shared(bytes::Bytes::from(line)) {
            Ok(value) if !value.is_empty() => request.insert_header("Cookie", value)?,
            _ => _ = request.remove_header(&header::COOKIE),
        }
    }
    if let Some(host) = host_of_server(routed, attempt) {
        request.insert_header(header::HOST, host)?;
    }
    if routed.cluster.settings.compression.is_some() {
        compression::restore_tags(request)?;
    }
    connector_fields(routed, attempt, client, |name, value| request.insert_header(name, header_value(value)?))
}

/// The Host that the server gets in place of the client's, with `headers.host: server`.
pub(super) fn host_of_server(routed: &Routed, attempt: &Attempt) -> Option<String> {
    if !routed.cluster.settings.headers.host_of_server {
        return None;
    }
    let entry = routed.view.server(attempt.server)?;
    let port = entry.host_port(routed.port).map_or(80, |p| p.port);
    let default = if routed.port == Port::Https { 443 } else { 80 };
    let name = &entry.config.hostname;
    Some(if port == default { name.clone() } else { format!("{name}:{port}") })
}

/// Removes every header that only the proxy may set: those about the client's address, host and scheme, and all `$WS*`,
/// which Domino with connector headers trusts (`$WSRU` logs a user in,
/// <https://frostillic.us/blog/posts/2023/1/25/overdue-psa--reverse-proxy-headers-in-domino-12.0.1fp1-and-newer>).
/// Also removes `Proxy` and aliases of framing fields, see [`is_httpoxy`] and [`is_alias`]. True if hop-by-hop fields are left.
fn remove_untrusted(request: &mut RequestHeader) -> bool {
    let mut has_hop_by_hop = false;
    let mut untrusted: SmallVec<[HeaderName; 4]> = SmallVec::new();
    for key in request.headers.keys() {
        let name = key.as_str();
        if !may_be_untrusted(name) {
            continue;
        }
        if is_untrusted(name) {
            untrusted.push(key.clone());
        }
        has_hop_by_hop |= is_hop_by_hop(name);
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

/// Whether the fast path passes a field of the client on to a server. `Connection` names no other fields there.
pub(super) fn passes_to_server(name: &str) -> bool {
    !may_be_untrusted(name)
        || !(is_untrusted(name)
            || is_hop_by_hop(name)
            || ["connection", "upgrade", "http2-settings"]
                .iter()
                .any(|other| name.eq_ignore_ascii_case(other)))
}

/// Rules out most names by their first letter.
fn may_be_untrusted(name: &str) -> bool {
    let may_be_first =
        |first: u8| !first.is_ascii_alphanumeric() || b"cfhkmptux".contains(&first.to_ascii_lowercase());
    name.bytes().next().is_none_or(may_be_first)
}

fn is_untrusted(name: &str) -> bool {
    is_reserved(name) || is_alias(name) || is_httpoxy(name)
}

fn is_hop_by_hop(name: &str) -> bool {
    HOP_BY_HOP.iter().any(|other| name.eq_ignore_ascii_case(other))
}

/// The connector headers that Domino reads about the client, where the server has them switched on.
pub(super) fn connector_fields(
    routed: &Routed,
    attempt: &Attempt,
    client: ClientInfo,
    mut set: impl FnMut(&'static str, &[u8]) -> Result<()>,
) -> Result<()> {
    let wanted = routed.view.server(attempt.server).map(|entry| entry.config.connector_headers);
    let wanted = wanted.unwrap_or_default();
    if wanted == ConnectorHeaders::Off {
        return Ok(());
    }
    if let Some(address) = client.address {
        let address = IpText::new(address.to_canonical());
        set("$WSRA", address.as_bytes())?;
        set("$WSRH", address.as_bytes())?;
    }
    let (scheme, secure) = if routed.tls { ("https", "True") } else { ("http", "False") };
    set("$WSSN", crate::state::host_table::strip_port(&routed.authority).as_bytes())?;
    set("$WSSP", itoa::Buffer::new().format(public_port(routed, client)).as_bytes())?;
    set("$WSSC", scheme.as_bytes())?;
    set("$WSIS", secure.as_bytes())?;
    if wanted == ConnectorHeaders::ClientCertificate {
        identity_fields(routed, &mut set)?;
    }
    match &routed.cluster.settings.connector_secret {
        Some(secret) if HeaderValue::from_bytes(&secret.0).is_ok() => set(CONNECTOR_SECRET, &secret.0),
        _ => Ok(()),
    }
}

/// The certificate of the client, as WebSphere's plug-in sends it: base64 without PEM armour
/// (<https://portal2portal.blogspot.com/2011/01/websphere-application-server-exploring.html>). Nothing of it goes to a server
/// in clear text, where the network could put in another one.
fn identity_fields(routed: &Routed, set: &mut impl FnMut(&'static str, &[u8]) -> Result<()>) -> Result<()> {
    let Some(certificate) = routed.certificate.as_ref().filter(|_| routed.port == Port::Https) else {
        return Ok(());
    };
    set("$WSCC", certificate.base64.as_bytes())?;
    set("$WSCS", certificate.cipher.as_bytes())?;
    // The version in which the server gets the request, also from a client of HTTP/2: the plug-in knows no other.
    set("$WSPR", b"HTTP/1.1")
}

/// The target with the path that the database has on the server, if it is another one. The rest of the URL stays
/// unchanged.
pub(super) fn target_for_server(
    request: &RequestHeader,
    routed: &Routed,
    attempt: &Attempt,
) -> Option<Vec<u8>> {
    let holder = routed.replica_on(attempt.server).filter(|_| attempt.replace_path)?;
    routed.target_for(&holder, request.raw_path())
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
    fn no_untrusted_name_is_ruled_out_by_its_first_letter() {
        for name in [
            "$wsru",
            "_wsru",
            "x-forwarded-for",
            "x_real-ip",
            "forwarded",
            "content_length",
            "keep_alive",
            "max_forwards",
        ] {
            assert!(is_untrusted(name) && may_be_untrusted(name), "{name}");
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
}
