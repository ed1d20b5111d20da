//! The sections of the file outside `clusters`: listeners, limits, admin, statpub, access log, the other ICM.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::acme;
use super::file_access::{FileAccess, Named};
use super::keys;
use super::reader::{Item, Map};
use super::routes;
use super::settings::{
    AccessLogSettings, AdminConfig, Availability, AvailabilitySource, CertificateFiles, Follow, Limits,
    Listener, ListenerTls, LogFormat, LogTarget, LoginLimits, Secret, Server, Servers, Settings, Statpub,
    UpstreamScheme,
};
use super::values::{self, ValueError};
use super::{tls, tls_protocol};
use crate::domain::affinity::SameSite;
use crate::util::host::is_loopback;

const ADMIN_PORT: u16 = 8098;
/// The shortest token of a listener that other machines can reach, in bytes.
const MIN_TOKEN: usize = 16;

/// An address to listen on. A host name is resolved here.
fn listen_address(item: &Item<'_>) -> Option<SocketAddr> {
    let files = item.doc.load.files;
    item.parsed("an address such as `0.0.0.0:80`", |text| {
        let at = values::host_port(&text.replace("*:", "0.0.0.0:"), None)?;
        if let Ok(ip) = at.host.parse::<IpAddr>() {
            return Ok(SocketAddr::new(ip, at.port));
        }
        let found = files.resolve(&at.host, at.port);
        found.ok().and_then(|list| list.first().copied()).ok_or_else(|| {
            ValueError::new(format!("the host name `{}` cannot be resolved", at.host))
                .hint("write an address of this machine, such as `0.0.0.0:80`")
        })
    })
}

/// `listeners`: at least one.
pub(super) fn listeners(item: &Item<'_>) -> Vec<Listener> {
    let items = item.list();
    if items.is_empty() && (item.value.is_none() || item.is_list() || !item.is_present()) {
        item.error_at_key(
            ValueError::new("no listener is given").hint("write `listeners: [ { address: 0.0.0.0:80 } ]`"),
        );
    }
    items.iter().filter_map(listener).collect()
}

fn listener(item: &Item<'_>) -> Option<Listener> {
    let map = item.map(keys::LISTENER);
    let address = listen_address(&map.required("address"));
    let redirect = map.get("redirect_to_https");
    let redirect_to_https = redirect.boolean().unwrap_or(false);
    let trusted = map.get("trusted_proxies").one_or_more();
    let trusted_proxies = trusted.iter().filter_map(|n| n.parsed("a network", values::network)).collect();
    let proxy_protocol_from = proxy_protocol(&map.get("proxy_protocol"));
    let tls = map.has("tls").then(|| listener_tls(&map.get("tls")));
    if redirect_to_https && tls.is_some() {
        redirect.warn("has no effect on a listener with TLS");
    }
    Some(Listener { address: address?, redirect_to_https, trusted_proxies, proxy_protocol_from, tls })
}

/// `proxy_protocol`: the networks of the proxies.
fn proxy_protocol(item: &Item<'_>) -> Vec<IpNet> {
    if !item.is_present() {
        return Vec::new();
    }
    if !item.is_map() {
        item.error(
            ValueError::new("a map with from is expected")
                .hint("name the proxies: `proxy_protocol: { from: [10.0.0.0/8] }`"),
        );
        return Vec::new();
    }
    let from = item.map(keys::PROXY_PROTOCOL).required("from");
    let networks = from.one_or_more();
    if networks.is_empty() && from.is_list() {
        from.error(ValueError::new("no network is given").hint("write `from: [10.0.0.0/8]`"));
    }
    let parsed = networks.iter().filter_map(|network| {
        let parsed = network.parsed("a network", values::network)?;
        if parsed.prefix_len() == 0 {
            network.warn("every peer must send a PROXY header, and so chooses its own address");
        }
        Some(parsed)
    });
    parsed.collect()
}

fn listener_tls(item: &Item<'_>) -> ListenerTls {
    let map = item.map(keys::LISTENER_TLS);
    // An empty list is an error even beside `acme`, so that a forgotten entry is noticed.
    let list = if map.has("acme") { map.get("certificates") } else { map.required("certificates") };
    let pairs = list.one_or_more();
    if pairs.is_empty() && list.value.is_some() {
        list.error_at_key(
            ValueError::new("no certificate is given").hint("write `- { cert: FILE, key: FILE }`"),
        );
    }
    let certificates: Vec<CertificateFiles> =
        pairs.iter().filter_map(|p| tls::certificate(&p.map(keys::CERTIFICATE))).collect();
    ListenerTls {
        certificates,
        acme: acme::acme(&map.get("acme")),
        h2: map.get("h2").boolean().unwrap_or(true),
        client_certificates: tls::client_certificates(&map.get("client_certificates")),
        protocol: tls_protocol::protocol(&map),
        ticket_secrets: map.get("ticket_key_file").ticket_secrets(),
    }
}

/// Refuses two listeners with one address.
pub(super) fn check_addresses(
    top: &Map<'_>,
    listeners: &[Listener],
    admin: &AdminConfig,
    statpub: Option<&Statpub>,
) {
    let mut taken: Vec<(SocketAddr, String)> = Vec::new();
    let items = top.get("listeners").list();
    let addresses: Vec<Item<'_>> =
        items.iter().map(|i| i.map_quietly(keys::LISTENER).get("address")).collect();
    let mut claim = |address: SocketAddr, item: &Item<'_>| {
        if address.port() == 0 {
            item.warn("port 0 means another port at each start");
        } else if let Some((_, other)) = taken.iter().find(|(a, _)| *a == address) {
            item.error(ValueError::new(format!("{address} is already taken by {other}")));
        } else {
            taken.push((address, item.key()));
        }
    };
    // The lists differ in length if a listener is wrong, which is an error already.
    if addresses.len() == listeners.len() {
        for (listener, item) in listeners.iter().zip(&addresses) {
            claim(listener.address, item);
        }
    }
    claim(admin.address, &top.get("admin").map_quietly(keys::ADMIN).get("address"));
    if let Some(statpub) = statpub {
        claim(statpub.address, &top.get("statpub").map_quietly(keys::STATPUB).get("address"));
    }
    let tls = listeners.iter().any(|l| l.tls.is_some());
    for (listener, item) in listeners.iter().zip(&items) {
        if listener.redirect_to_https && !tls {
            item.warn("redirect_to_https: no listener of this file has TLS");
        }
    }
}

/// `proxy.fast_path`: whether plain requests take the fast path.
pub(super) fn fast_path(item: &Item<'_>) -> bool {
    item.map(keys::PROXY).get("fast_path").choice(&[("on", true), ("off", false)]).unwrap_or(true)
}

pub(super) fn limits(item: &Item<'_>) -> Limits {
    let map = item.map(keys::LIMITS);
    let client = map.get("per_client").map(keys::PER_CLIENT);
    let most = u64::from(u32::MAX);
    let default = Limits::default();
    let streams = map.get("http2_streams").integer(1, 1000);
    let exempt = client.get("exempt").one_or_more();
    Limits {
        header_count: map.get("header_count").integer(1, 10_000).unwrap_or(default.header_count),
        header_bytes: map.get("header_bytes").size(1).unwrap_or(default.header_bytes),
        uri_bytes: map.get("uri_bytes").size(1).unwrap_or(default.uri_bytes),
        header_timeout: map.get("header_timeout").period().unwrap_or(default.header_timeout),
        idle_timeout: map.get("idle_timeout").period().unwrap_or(default.idle_timeout),
        handshake_timeout: map.get("handshake_timeout").period().unwrap_or(default.handshake_timeout),
        min_rate: map.get("min_rate").size(0).unwrap_or(default.min_rate),
        websocket_idle: map.get("websocket_idle").period().unwrap_or(default.websocket_idle),
        connections: map.get("connections").integer(0, most).unwrap_or(default.connections),
        per_client_connections: client.get("connections").integer(0, most).unwrap_or(0),
        per_client_requests: client.get("requests_per_second").integer(0, most).unwrap_or(0),
        per_client_in_flight: client
            .get("requests_in_flight")
            .integer(0, most)
            .unwrap_or(default.per_client_in_flight),
        per_client_exempt: exempt.iter().filter_map(|n| n.parsed("a network", values::network)).collect(),
        http2_streams: streams.unwrap_or(default.http2_streams),
        logins: login_limits(&map.get("logins")),
    }
}

/// `limits.logins`; `None` without it, and with `off`.
fn login_limits(item: &Item<'_>) -> Option<LoginLimits> {
    if item.value.is_none() || item.is_off() {
        return None;
    }
    let map = item.map(keys::LOGIN_LIMITS);
    let default = LoginLimits::default();
    // A longer window would not be remembered over a restart, a shorter one stops nobody.
    let window = map.get("window");
    let length = window.parsed("a duration such as `5m`", |text| match values::duration(text)? {
        time if (10..=86_400).contains(&time.as_secs()) => Ok(time),
        _ => Err(ValueError::new(format!("`{text}` is out of range")).hint("write 10s to 24h")),
    });
    let attempts = |key: &str| map.get(key).integer(0, 1_000_000);
    let limits = LoginLimits {
        per_address: attempts("per_address").unwrap_or(default.per_address),
        per_user: attempts("per_user").unwrap_or(default.per_user),
        window: length.unwrap_or(default.window),
    };
    if limits.per_address == 0 && limits.per_user == 0 {
        item.warn("limits nothing: both numbers are 0");
    }
    Some(limits)
}

/// `admin`. Without it, the listener has its default address, which is loopback.
pub(super) fn admin(item: &Item<'_>) -> AdminConfig {
    let map = item.map(keys::ADMIN);
    let address_item = map.get("address");
    let default = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), ADMIN_PORT);
    let address = listen_address(&address_item).unwrap_or(default);
    let token_item = map.get("token_file");
    let token = token_item.token();
    let tls = map.has("tls").then(|| tls::certificate(&map.get("tls").map(keys::ADMIN_TLS))).flatten();
    refuse_short_token(address, &token_item, token.as_ref());
    if !address.ip().is_loopback() {
        if !token_item.is_present() {
            address_item.error(
                ValueError::new(format!("{address} is not loopback, and no token is set"))
                    .hint("write `token_file: FILE` beside it, or listen on 127.0.0.1"),
            );
        }
        if !map.has("tls") {
            address_item.warn("the token is sent in clear text, set `tls: { cert: FILE, key: FILE }`");
        }
    }
    AdminConfig { address, token, tls, history_interval: history_interval(&map.get("history_interval")) }
}

/// `admin.history_interval`. The status page keeps 360 samples.
fn history_interval(item: &Item<'_>) -> Duration {
    let allowed = Duration::from_millis(100)..=Duration::from_secs(60);
    let interval = item.parsed("a duration such as `10s`", |text| match values::duration(text)? {
        interval if allowed.contains(&interval) => Ok(interval),
        _ => Err(ValueError::new("the interval must be between 100ms and 1m")),
    });
    interval.unwrap_or(Duration::from_secs(10))
}

/// `statpub`. `None` without it.
pub(super) fn statpub(item: &Item<'_>) -> Option<Statpub> {
    item.value?;
    let map = item.map(keys::STATPUB);
    let address_item = map.required("address");
    let address = listen_address(&address_item)?;
    let token_item = map.get("token_file");
    let token = token_item.token();
    refuse_short_token(address, &token_item, token.as_ref());
    let networks = map.get("allow").one_or_more();
    let allow = networks.iter().filter_map(|n| n.parsed("a network", values::network)).collect();
    if !address.ip().is_loopback() && !token_item.is_present() && networks.is_empty() {
        address_item.warn(format!(
            "{address} is not loopback, and neither `token_file` nor `allow` is set: anything that can send from a \
             server's address can report for that server"
        ));
    }
    Some(Statpub { address, token, allow })
}

/// On an address other than loopback, the whole network can guess tokens.
fn refuse_short_token(address: SocketAddr, item: &Item<'_>, token: Option<&Secret>) {
    if let Some(token) = token.filter(|token| token.0.len() < MIN_TOKEN)
        && !address.ip().is_loopback()
    {
        item.error(
            ValueError::new(format!(
                "the token has {} bytes, it needs at least {MIN_TOKEN} unless the address is loopback",
                token.0.len()
            ))
            .hint("generate one with `openssl rand -hex 32`"),
        );
    }
}

pub(super) fn access_log(item: &Item<'_>) -> AccessLogSettings {
    let map = item.map(keys::ACCESS_LOG);
    let path = map.get("path");
    let target = match path.text().as_deref() {
        None | Some("stdout") => LogTarget::Stdout,
        Some("stderr") => LogTarget::Stderr,
        Some(_) => path.path(Named::Written).map_or(LogTarget::Stdout, LogTarget::File),
    };
    let formats = [("combined", LogFormat::Combined), ("json", LogFormat::Json), ("off", LogFormat::Off)];
    AccessLogSettings { target, format: map.get("format").choice(&formats).unwrap_or(LogFormat::Combined) }
}

/// `get_configuration_from`: the other ICM. `None` without it.
pub(super) fn follow(item: &Item<'_>, state_dir: Option<PathBuf>) -> Option<Follow> {
    if !item.is_present() {
        return None;
    }
    let map = item.map(keys::FOLLOW);
    let url_item = map.required("url");
    let url = url_item.parsed("a URL", values::url);
    let token = map.get("token_file").token();
    if let Some(url) = &url
        && !url.https
        && !is_loopback(&url.at.host)
    {
        // An attacker on the network could send all users to his own server.
        url_item.error(
            ValueError::new(format!("the configuration would come from {} in clear text", url.at))
                .hint("write an `https://` URL, `http://` is for loopback only"),
        );
    }
    let roots = |key: &str| {
        let list = map.has(key).then(|| map.get(key).one_or_more())?;
        Some(list.iter().filter_map(|root| root.path(Named::Root)).collect::<Vec<_>>())
    };
    let authorities = tls::authorities(&map.get("ca_file"));
    if !map.has("cache") {
        item.warn("has no `cache`: this ICM cannot start while the other ICM does not answer");
    }
    let follow = Follow {
        ca_file: authorities.as_ref().map(|(path, _)| path.clone()),
        ca: authorities.map(|(_, list)| list),
        token,
        refresh: map.get("refresh").period().unwrap_or(Duration::from_secs(30)),
        cache: map.get("cache").path(Named::Written),
        files: FileAccess {
            read_under: roots("allow_files_under").unwrap_or_default(),
            write_under: roots("allow_caches_under").unwrap_or_else(|| state_dir.into_iter().collect()),
            own: Vec::new(),
        },
        url: url?,
    };
    Some(follow)
}

fn asks_for_certificates(listener: &Listener) -> bool {
    listener.tls.as_ref().is_some_and(|tls| tls.client_certificates.is_some())
}

/// Checks that need several sections.
pub(super) fn cross_check(top: &Map<'_>, settings: &Settings) {
    let grace = settings.pingora.grace_period_seconds;
    let plain = settings.listeners.iter().any(|l| l.tls.is_none() && !l.redirect_to_https);
    let pushes = |list: &[Availability]| list.iter().any(|a| a.source == AvailabilitySource::Statpub);
    let items = top.get("clusters").list();
    for (cluster, item) in settings.clusters.iter().zip(&items) {
        let map = item.map_quietly(keys::CLUSTER);
        let response = cluster.failover.response_timeout;
        if let Some(grace) = grace.filter(|grace| Duration::from_secs(*grace) <= response) {
            map.get("failover").map_quietly(keys::FAILOVER).get("response_timeout").warn(format!(
                "{}s is not below pingora.grace_period_seconds ({grace}): a restart may cut off slow responses",
                response.as_secs()
            ));
        }
        routes::cross_check(&map, &cluster.routes, settings);
        let sees_tls = |l: &Listener| l.tls.is_some() || !l.trusted_proxies.is_empty();
        if cluster.affinity.same_site == SameSite::None && !settings.listeners.iter().any(sees_tls) {
            map.get("affinity")
                .map_quietly(keys::AFFINITY)
                .get("same_site")
                .error(ValueError::new("`none` needs TLS: without it, browsers refuse the cookie").hint(
                "give a listener `tls`, name the proxy that terminates TLS in `trusted_proxies`, or write `lax`",
            ));
        }
        if plain && cluster.upstream_scheme == UpstreamScheme::Same {
            map.get("upstream_scheme")
                .warn("same: requests to a listener without TLS go to the servers without TLS");
        }
        let server_pushes = match &cluster.servers {
            Servers::Static(servers) => servers.iter().any(|s| pushes(&s.availability)),
            Servers::Names(_) => false,
        };
        let gets_certificates = |server: &Server| cluster.exposure_of(server).is_some();
        if let Servers::Static(servers) = &cluster.servers
            && servers.iter().any(gets_certificates)
            && !settings.listeners.iter().any(asks_for_certificates)
        {
            map.get("servers").warn(
                "connector_headers: client_certificate has no effect: no listener has `tls.client_certificates`",
            );
        }
        if settings.statpub.is_none() && (pushes(&cluster.availability) || server_pushes) {
            map.get("availability").warn("there is no listener for it: the file has no `statpub`");
        }
    }
}
