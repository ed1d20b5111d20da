//! `servers`: the list of servers or the view that has it, and how to log in to Domino. No host name is resolved here.

use std::collections::HashMap;
use std::time::Duration;

use super::auth::{auth, plain_url, refuse_plaintext};
use super::availability;
use super::file_access::Named;
use super::keys;
use super::reader::{Item, Map};
use super::settings::{
    Availability, BaseUrl, Column, ConnectorHeaders, Mode, NamesColumns, NamesView, Server, Servers,
    SiteRuleColumns, SiteRulesView, UpstreamScheme, ViewFormat,
};
use super::values::{self, ValueError};
use crate::domain::cluster::{HostPort, ServerName};

/// The settings of a cluster that its servers inherit or are checked against.
pub(super) struct ClusterDefaults<'a> {
    pub mode: Mode,
    pub scheme: UpstreamScheme,
    pub availability: &'a [Availability],
}

#[derive(Clone, Copy, PartialEq)]
enum Source {
    Static,
    Names,
}

/// The servers, and their names if the file lists them without an error.
pub(super) fn servers(item: &Item<'_>, defaults: &ClusterDefaults<'_>) -> (Servers, Option<Vec<ServerName>>) {
    let map = item.map(keys::SERVERS);
    let words = [("static", Source::Static), ("names", Source::Names)];
    let fallback = if map.has("from") && !map.has("list") { Source::Names } else { Source::Static };
    match map.get("source").choice(&words).unwrap_or(fallback) {
        Source::Static => {
            let view =
                ["from", "database", "view", "format", "columns", "auth", "refresh", "cache", "site_rules"];
            map.no_effect(&view, "source: static");
            static_servers(&map, defaults)
        }
        Source::Names => {
            map.no_effect(&["list"], "source: names");
            (Servers::Names(names_view(&map)), None)
        }
    }
}

fn static_servers(map: &Map<'_>, defaults: &ClusterDefaults<'_>) -> (Servers, Option<Vec<ServerName>>) {
    let list = map.required("list");
    let items = list.list();
    if items.is_empty() && (list.is_list() || (list.value.is_some() && !list.is_present())) {
        list.error_at_key(
            ValueError::new("no server is given").hint("write `- { name: Web1/Acme, http: HOST:PORT }`"),
        );
    }
    let mut seen: HashMap<ServerName, String> = HashMap::new();
    let mut servers = Vec::new();
    for item in &items {
        let Some(server) = server(item, defaults) else { continue };
        if let Some(first) = seen.get(&server.name) {
            item.map_quietly(keys::SERVER).get("name").error(
                ValueError::new(format!("`{}` is the same server as {first}", server.name))
                    .hint("case and the canonical form make no difference"),
            );
        } else {
            seen.insert(server.name.clone(), item.key());
        }
        servers.push(server);
    }
    let names = servers.iter().map(|s: &Server| s.name.clone()).collect();
    let complete = servers.len() == items.len();
    (Servers::Static(servers), complete.then_some(names))
}

fn server(item: &Item<'_>, defaults: &ClusterDefaults<'_>) -> Option<Server> {
    let map = item.map(keys::SERVER);
    let name_item = map.required("name");
    let name = name_item.parsed("a server name such as `Web1/Acme`", |text| {
        ServerName::parse(text).map_err(|e| ValueError::new(e.to_string()))
    });
    let address = |key: &str, port: u16| {
        map.get(key).parsed("an address such as `10.0.0.11:80`", |text| {
            let at = values::host_port(text, Some(port))?;
            if at.port == 0 {
                return Err(ValueError::new("nothing can be reached at port 0").hint("write 1 to 65535"));
            }
            Ok(at)
        })
    };
    let (http, https) = (address("http", 80), address("https", 443));
    if !map.has("http") && !map.has("https") && item.is_map() {
        item.error_at_key(
            ValueError::new("neither `http` nor `https` is given")
                .hint("write `http: HOST:PORT` for its HTTP port"),
        );
    }
    if let (Some(_), false, UpstreamScheme::Http) | (Some(_), false, UpstreamScheme::Https) = (
        &name,
        map.has(if defaults.scheme == UpstreamScheme::Http { "http" } else { "https" }),
        defaults.scheme,
    ) {
        name_item.warn("has no port for the cluster's upstream_scheme, so it will never be used");
    }
    let hostname = map.get("hostname").parsed("a host name", values::host_or_address);
    let hostname = hostname.unwrap_or_else(|| derived_hostname(&map, defaults, [&http, &https]));
    let threshold = map.get("server_availability_threshold").integer(0, 100);
    if threshold == Some(100) {
        map.get("server_availability_threshold").warn("100 means that the server is always BUSY");
    }
    let weight = map.get("weight");
    let weight = if weight.text_is("0") {
        weight.error(
            ValueError::new("0 is out of range")
                .hint("write 1 to 1000, or `server_restricted: 1` to keep new users away from the server"),
        );
        None
    } else {
        weight.integer(1, 1000)
    };
    let connector_headers = [
        ("off", ConnectorHeaders::Off),
        ("safe", ConnectorHeaders::Safe),
        ("client_certificate", ConnectorHeaders::ClientCertificate),
    ];
    let server = Server {
        name: name?,
        hostname,
        http,
        https,
        weight: weight.unwrap_or(1),
        threshold,
        restricted: map.get("server_restricted").integer::<u8>(0, 4).unwrap_or(0) > 0,
        max_users: map.get("server_max_users").integer(0, u64::from(u32::MAX)).unwrap_or(0),
        site: map.get("site").site(),
        connector_headers: map.get("connector_headers").choice(&connector_headers).unwrap_or_default(),
        availability: availability::of_server(&map.get("availability"), defaults.availability),
    };
    check_exposure(&map.get("connector_headers"), &server, defaults);
    Some(server)
}

/// An identity goes to a server only over TLS: in clear text anyone on the network could change it.
fn check_exposure(item: &Item<'_>, server: &Server, defaults: &ClusterDefaults<'_>) {
    let Some(exposure) = server.exposure() else { return };
    let problem = ValueError::new("`client_certificate` needs HTTPS to the server");
    if defaults.mode == Mode::Redirect {
        item.warn("client_certificate has no effect with mode: redirect");
    } else if defaults.scheme == UpstreamScheme::Http {
        item.error(problem.hint("write `upstream_scheme: https` in the cluster"));
    } else if server.https.is_none() {
        item.error(problem.hint("write `https: HOST:PORT` for the server"));
    } else {
        item.warn(exposure);
    }
}

/// The host name of a server without `hostname`: a name among its addresses, else an address.
fn derived_hostname(map: &Map<'_>, defaults: &ClusterDefaults<'_>, at: [&Option<HostPort>; 2]) -> String {
    let hosts = || at.iter().filter_map(|a| a.as_ref()).map(|a| a.host.as_str());
    let literal = |h: &&str| h.parse::<std::net::IpAddr>().is_ok();
    if let Some(name) = hosts().find(|h| !literal(h)) {
        return name.to_owned();
    }
    let Some(address) = hosts().next() else { return String::new() };
    if !map.has("hostname") && (defaults.mode == Mode::Redirect || defaults.scheme != UpstreamScheme::Http) {
        map.item.warn(format!(
            "has no `hostname`, so redirects, SNI and certificate checks use the address {address}"
        ));
    }
    address.to_owned()
}

fn names_view(map: &Map<'_>) -> NamesView {
    let from_item = map.required("from");
    let from: Vec<BaseUrl> =
        from_item.one_or_more().iter().filter_map(|i| i.parsed("a URL", values::url)).collect();
    if from_item.value.is_some() && from_item.one_or_more().is_empty() {
        from_item.error_at_key(ValueError::new("no server is given").hint("write `from: [http://HOST]`"));
    }
    let columns = map.get("columns").map(keys::NAMES_COLUMNS);
    let column = |key: &str, default| columns.get(key).parsed("a column", values::column).unwrap_or(default);
    let recipe = NamesColumns::default();
    let (auth, plaintext) = auth(&map.get("auth"));
    if !plaintext {
        refuse_plaintext(&map.get("auth"), &auth, plain_url(&from));
    }
    NamesView {
        database: database(map, "names.nsf"),
        view: map.get("view").text().unwrap_or_else(|| "ICM Servers".to_owned()),
        columns: NamesColumns {
            name: column("name", recipe.name),
            hostname: column("hostname", recipe.hostname),
            address: column("address", recipe.address),
            ports: column("ports", recipe.ports),
            cluster: column("cluster", recipe.cluster),
            http_port: column("http_port", recipe.http_port),
            http_status: column("http_status", recipe.http_status),
            https_port: column("https_port", recipe.https_port),
            https_status: column("https_status", recipe.https_status),
            site: column("site", recipe.site),
        },
        format: format(map),
        auth,
        refresh: refresh(map),
        cache: map.get("cache").path(Named::Written),
        site_rules: site_rules(&map.get("site_rules")),
        from,
    }
}

fn column(columns: &Map<'_>, key: &str, default: &str) -> Column {
    let written = columns.get(key).parsed("a column", values::column);
    written.unwrap_or_else(|| Column::Name(default.to_owned()))
}

/// `off`, `on`, or a map with what differs from the recipe of the view.
fn site_rules(item: &Item<'_>) -> Option<SiteRulesView> {
    let written = item.is_map().then(|| item.map(keys::SITE_RULES));
    if written.is_none() && !item.boolean()? {
        return None;
    }
    let columns = written.as_ref().map(|map| map.get("columns").map(keys::SITE_RULE_COLUMNS));
    let column = |key: &str, default: &str| match &columns {
        Some(columns) => column(columns, key, default),
        None => Column::Name(default.to_owned()),
    };
    let view = written.as_ref().and_then(|map| map.get("view").text());
    Some(SiteRulesView {
        view: view.unwrap_or_else(|| "ICM Web Rules".to_owned()),
        columns: SiteRuleColumns {
            kind: column("type", "RuleType"),
            incoming: column("incoming", "Incoming"),
            replacement: column("replacement", "Replacement"),
            host: column("host", "Hosts"),
        },
    })
}

/// `database` of a view, without a leading slash.
pub(super) fn database(map: &Map<'_>, default: &str) -> String {
    let text = map.get("database").text();
    text.map_or_else(|| default.to_owned(), |t| t.trim_start_matches('/').to_owned())
}

pub(super) fn format(map: &Map<'_>) -> ViewFormat {
    let words = [("xml", ViewFormat::Xml), ("json", ViewFormat::Json)];
    map.get("format").choice(&words).unwrap_or(ViewFormat::Xml)
}

pub(super) fn refresh(map: &Map<'_>) -> Duration {
    map.get("refresh").period().unwrap_or(Duration::from_secs(60))
}
