//! The servers of a cluster, read from a view over the Server documents.
//!
//! Each document of the cluster gives a server, or a warning if it cannot be used.

mod acceptance;
mod address;
pub(crate) mod survey;

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::config::settings::{BaseUrl, Column, ConnectorHeaders, NamesColumns, NamesView, Server};
use crate::discovery::domino::fault::single_line;
use crate::discovery::domino::view_entries::Row;
use crate::discovery::domino::view_entries::reader::{
    self, ReadError, ReadSummary, ReadTimeLimit, RowSink, ViewRequest, ViewSource,
};
use crate::discovery::domino::{DominoClient, LoginSessions};
use crate::domain::cluster::{HostPort, ServerName, SiteName};
use crate::util::host::is_resolvable;
pub use acceptance::ServersHold;
use address::find_address;

const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Addresses tried for one host name.
const MAX_ADDRESSES: usize = 4;
/// Far above the six servers that Domino allows in a cluster.
const MAX_SERVERS: usize = 1000;

/// The servers found in one reading of the view.
#[derive(Clone, Debug, PartialEq)]
pub struct ServersReading {
    /// At least one, in the order of the view, without duplicates.
    pub servers: Vec<Server>,
    /// Which of `from` answered: `10.0.0.11:80`.
    pub from: String,
    pub warnings: Vec<String>,
    /// Why the reading is incomplete, if none of `from` gave a complete one.
    pub truncated: Option<String>,
    /// Several of `from` gave different incomplete readings.
    pub disputed: bool,
}

/// Why a reading gave no servers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServersFailure {
    #[error("server documents cannot be read from any of `from`{}", .reasons.iter().map(|reason| format!("; {reason}")).collect::<String>())]
    Unread { reasons: Vec<String> },
    #[error("{from}: view `{view}` of {database} has no usable server of cluster `{cluster}`{}", .warnings.iter().map(|warning| format!("; {warning}")).collect::<String>())]
    NoServers { from: String, database: String, view: String, cluster: String, warnings: Vec<String> },
}

/// Reads the view from each of `from` in turn until a reading is complete; if none is, returns the first one.
///
/// # Errors
/// When the view cannot be read, or no row is a server of the cluster.
pub async fn read(
    client: &DominoClient,
    settings: &NamesView,
    cluster: &str,
    sessions: &LoginSessions,
) -> Result<ServersReading, ServersFailure> {
    let mut reasons = Vec::new();
    let mut incomplete: Option<ServersReading> = None;
    for url in &settings.from {
        let mut collector = Collector::new(&settings.columns, cluster);
        let summary = match read_rows(client, url, settings, &settings.view, sessions, &mut collector).await {
            Ok(summary) => summary,
            Err(reason) => {
                reasons.push(reason);
                continue;
            }
        };
        let truncated = match collector.too_many {
            true => Some(format!("only the first {MAX_SERVERS} servers are used")),
            false => summary.truncated,
        };
        let from = url.at.to_string();
        for reason in truncated.iter().chain(&summary.inconsistency) {
            reasons.push(format!("{from}: {} may be incomplete: {reason}", settings.database));
        }
        match (collector.reading(&from, settings, cluster, &reasons), truncated) {
            (result, None) => return result,
            (Err(failure), Some(_)) => reasons.push(failure.to_string()),
            (Ok(reading), Some(why)) => match &mut incomplete {
                Some(first) => first.disputed |= first.servers != reading.servers,
                None => incomplete = Some(ServersReading { truncated: Some(why), ..reading }),
            },
        }
    }
    match incomplete {
        Some(mut reading) => {
            reasons.retain(|reason| !reading.warnings.contains(reason));
            reading.warnings.extend(reasons);
            Ok(reading)
        }
        None => Err(ServersFailure::Unread { reasons }),
    }
}

/// Reads all rows of a view of the same database from one server.
///
/// # Errors
/// Why the view cannot be read, with the server. The rows in the sink are then useless.
pub(super) async fn read_rows(
    client: &DominoClient,
    url: &BaseUrl,
    settings: &NamesView,
    view: &str,
    sessions: &LoginSessions,
    sink: &mut impl RowSink,
) -> Result<ReadSummary, String> {
    let mut reason = format!("{}: no address", url.at);
    for address in resolve(&url.at).await?.into_iter().take(MAX_ADDRESSES) {
        let source = ViewSource {
            client,
            address,
            https: url.https,
            hostname: &url.at.host,
            base: &url.path,
            auth: &settings.auth,
            sessions,
            time_limit: ReadTimeLimit::for_refresh_interval(settings.refresh),
        };
        let request = ViewRequest {
            database: &settings.database,
            name: view.trim(),
            format: settings.format,
            expand: true,
        };
        match reader::read(&source, &request, sink).await {
            Ok(summary) => return Ok(summary),
            Err(error) => {
                reason = describe(&error, view, &settings.database);
                if !error.is_connect() {
                    break;
                }
            }
        }
    }
    Err(reason)
}

fn describe(error: &ReadError, view: &str, database: &str) -> String {
    if error.is_not_found() {
        format!("{error}: no view `{view}` in {database} on this server")
    } else {
        error.to_string()
    }
}

async fn resolve(at: &HostPort) -> Result<Vec<SocketAddr>, String> {
    if let Ok(ip) = at.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, at.port)]);
    }
    let lookup = tokio::net::lookup_host((at.host.as_str(), at.port));
    match tokio::time::timeout(RESOLVE_TIMEOUT, lookup).await {
        Ok(Ok(addresses)) => Ok(addresses.collect()),
        Ok(Err(error)) => Err(format!("{at}: host name cannot be resolved: {error}")),
        Err(_) => Err(format!("{at}: host name was not resolved within {RESOLVE_TIMEOUT:?}")),
    }
}

/// A server with the defaults for everything that a Server document does not contain.
#[must_use]
pub(crate) fn server_with_defaults(
    name: ServerName,
    hostname: String,
    http: Option<HostPort>,
    https: Option<HostPort>,
) -> Server {
    Server {
        name,
        hostname,
        http,
        https,
        weight: 1,
        threshold: None,
        restricted: false,
        max_users: 0,
        site: None,
        connector_headers: ConnectorHeaders::Off,
        availability: Vec::new(),
    }
}

struct Collector<'a> {
    columns: &'a NamesColumns,
    cluster: &'a str,
    servers: Vec<Server>,
    names: HashSet<ServerName>,
    warnings: Vec<String>,
    /// Some row has the cluster column.
    cluster_column: bool,
    /// The view has more than [`MAX_SERVERS`] servers of the cluster.
    too_many: bool,
}

impl<'a> Collector<'a> {
    fn new(columns: &'a NamesColumns, cluster: &'a str) -> Self {
        Self {
            columns,
            cluster,
            servers: Vec::new(),
            names: HashSet::new(),
            warnings: Vec::new(),
            cluster_column: false,
            too_many: false,
        }
    }

    fn reading(
        self,
        from: &str,
        settings: &NamesView,
        cluster: &str,
        earlier_warnings: &[String],
    ) -> Result<ServersReading, ServersFailure> {
        let mut warnings = earlier_warnings.to_vec();
        warnings.extend(self.warnings);
        let from = from.to_owned();
        if !self.servers.is_empty() {
            let servers = self.servers;
            return Ok(ServersReading { servers, from, warnings, truncated: None, disputed: false });
        }
        if !self.cluster_column {
            let column = match &self.columns.cluster {
                Column::Number(number) => number.to_string(),
                Column::Name(name) => format!("`{name}`"),
            };
            warnings.push(format!("no row has the column {column}"));
        }
        Err(ServersFailure::NoServers {
            from,
            database: settings.database.clone(),
            view: settings.view.clone(),
            cluster: cluster.to_owned(),
            warnings,
        })
    }

    fn warn(&mut self, text: String) {
        if self.warnings.len() < MAX_SERVERS {
            self.warnings.push(text);
        }
    }

    /// Returns `None` for a row of another cluster, or why the row cannot be used.
    fn server(&mut self, row: &Row) -> Result<Option<Server>, String> {
        self.cluster_column |= row.values(&self.columns.cluster).is_some();
        if row.text(&self.columns.cluster).to_lowercase() != self.cluster.trim().to_lowercase() {
            return Ok(None);
        }
        let name = ServerName::parse(row.text(&self.columns.name)).map_err(|error| error.to_string())?;
        if self.names.contains(&name) {
            return Err(format!("{name} appears twice, the first row is used"));
        }
        let hostname = row.text(&self.columns.hostname).trim_end_matches('.');
        if !(hostname.is_empty() || is_resolvable(hostname)) {
            return Err(format!("{name}: `{}` is not a host name", hostname.escape_default()));
        }
        let (address, warning) = find_address(row, self.columns);
        let address = address.unwrap_or_else(|| hostname.to_owned());
        if let Some(warning) = warning {
            self.warn(format!("{name}: {warning}"));
        }
        if address.is_empty() {
            return Err(format!("{name} has neither a usable address nor a host name"));
        }
        let hostname = if hostname.is_empty() { address.clone() } else { hostname.to_owned() };
        let columns = self.columns;
        let at = |port: Option<u16>| port.map(|port| HostPort { host: address.clone(), port });
        let mut http = port(row, &columns.http_port, &columns.http_status, 80)
            .map_err(|reason| format!("{name}: {reason}"))?;
        let https = port(row, &columns.https_port, &columns.https_status, 443)
            .map_err(|reason| format!("{name}: {reason}"))?;
        let all = [&columns.http_port, &columns.http_status, &columns.https_port, &columns.https_status];
        if all.iter().all(|column| row.values(column).is_none()) {
            self.warn(format!("{name}: the view shows no port and no status, HTTP on port 80 is assumed"));
            http = Some(80);
        }
        if http.is_none() && https.is_none() {
            return Err(format!("{name} has neither HTTP nor HTTPS enabled"));
        }
        let site = SiteName::new(row.text(&columns.site));
        Ok(Some(Server { site, ..server_with_defaults(name, hostname, at(http), at(https)) }))
    }
}

impl RowSink for Collector<'_> {
    fn reset(&mut self) {
        *self = Self::new(self.columns, self.cluster);
    }

    fn accept_row(&mut self, row: Row) {
        match self.server(&row) {
            Ok(Some(server)) if self.servers.len() < MAX_SERVERS => {
                self.names.insert(server.name.clone());
                self.servers.push(server);
            }
            Ok(Some(_)) => self.too_many = true,
            Ok(None) => {}
            Err(reason) => self.warn(format!("row {} skipped: {reason}", single_line(&row.position))),
        }
    }
}

/// The port if it is enabled, by status `1` or `Enabled`. Without a status, any port counts as enabled.
fn port(row: &Row, port: &Column, status: &Column, default: u16) -> Result<Option<u16>, String> {
    let number = match row.text(port) {
        "" => None,
        text => match text.parse::<u16>() {
            Ok(number) if number > 0 => Some(number),
            _ => return Err(format!("`{}` is not a port", single_line(text))),
        },
    };
    Ok(match row.text(status) {
        "" => number,
        "1" => Some(number.unwrap_or(default)),
        text if text.eq_ignore_ascii_case("enabled") => Some(number.unwrap_or(default)),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
