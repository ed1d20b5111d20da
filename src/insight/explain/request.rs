//! The request of an explanation: builds the head that the proxy would see.

use std::net::IpAddr;

use http::header;
use pingora_http::RequestHeader;

use crate::domain::cluster::Port;
use crate::state::Snapshot;

/// A URL, and the parts of the request that can influence the decision.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct ExplainRequest {
    /// `http://www.acme.example/sales/leads.nsf?OpenDatabase`, or a path.
    pub url: String,
    /// The client's scheme; `None` = that of the URL, else http.
    pub scheme: Option<Port>,
    /// The request method; empty = GET.
    pub method: String,
    /// The Host header; empty = that of the URL, else the first one in the configuration.
    pub host: String,
    /// The Cookie header, or only the value of the affinity cookie; empty = a new user.
    pub cookie: String,
    pub referer: String,
    pub client: Option<IpAddr>,
    /// Further fields, one on each line: `X-Team: Sales`.
    pub headers: String,
}

impl ExplainRequest {
    /// A GET of a new user.
    #[must_use]
    pub fn for_url(url: &str) -> Self {
        Self { url: url.to_owned(), ..Self::default() }
    }

    /// Reads the other arguments of the query of `/explain`.
    ///
    /// # Errors
    /// If `client` is not an IP address.
    pub fn from_query(
        url: String,
        scheme: Option<Port>,
        argument: &impl Fn(&[u8]) -> Option<String>,
    ) -> Result<Self, &'static str> {
        let client = match argument(b"client").filter(|text| !text.is_empty()) {
            Some(text) => Some(text.parse().map_err(|_| "`client` must be an IP address: 192.0.2.7")?),
            None => None,
        };
        let text = |name: &[u8]| argument(name).unwrap_or_default();
        Ok(Self {
            url,
            scheme,
            method: text(b"method"),
            host: text(b"host"),
            cookie: text(b"cookie"),
            referer: text(b"referer"),
            client,
            headers: text(b"header"),
        })
    }

    pub(super) fn head(
        &self,
        snapshot: &Snapshot,
        authority: &str,
        target: &str,
    ) -> Result<RequestHeader, String> {
        let method = if self.method.is_empty() { "GET".to_owned() } else { self.method.to_ascii_uppercase() };
        let build = || -> pingora::Result<RequestHeader> {
            let mut head = RequestHeader::build(method.as_str(), target.as_bytes(), Some(4))?;
            head.insert_header(header::HOST, authority)?;
            if !self.cookie.is_empty() {
                let name = snapshot.clusters.first().map_or("ICM", |c| &c.settings.affinity.cookie);
                let value = match self.cookie.contains('=') {
                    true => self.cookie.clone(),
                    false => format!("{name}={}", self.cookie),
                };
                head.insert_header(header::COOKIE, value)?;
            }
            for line in self.headers.lines().filter(|line| !line.trim().is_empty()) {
                let (name, value) = line.split_once(':').unwrap_or((line, ""));
                head.append_header(name.trim().to_owned(), value.trim())?;
            }
            if !self.referer.is_empty() {
                head.insert_header(header::REFERER, self.referer.as_str())?;
            }
            Ok(head)
        };
        build().map_err(|error| error.to_string())
    }

    /// Notes what depends on the client's address. Only routes use it to find a server.
    pub(super) fn add_client_notes(&self, snapshot: &Snapshot, notes: &mut Vec<String>) {
        let Some(client) = self.client.map(|address| address.to_canonical()) else { return };
        let listeners = &snapshot.settings.listeners;
        let trusting_listeners =
            listeners.iter().filter(|l| l.trusted_proxies.iter().any(|net| net.contains(&client)));
        let trusting_listeners: Vec<String> = trusting_listeners.map(|l| l.address.to_string()).collect();
        if !trusting_listeners.is_empty() {
            notes.push(format!(
                "{client} is a trusted proxy at {}: the client is taken from its X-Forwarded-For and X-Forwarded-Proto",
                trusting_listeners.join(", ")
            ));
        }
        let with_header = listeners.iter().filter(|l| l.expects_proxy_header(client));
        let with_header: Vec<String> = with_header.map(|l| l.address.to_string()).collect();
        if !with_header.is_empty() {
            notes.push(format!(
                "{client} must begin with a PROXY header at {}: the client is the one that it names",
                with_header.join(", ")
            ));
        }
        let rate = snapshot.settings.limits.per_client_requests;
        if rate > 0 {
            notes.push(format!("{client} may send {rate} requests per second, more get 429"));
        }
        let may_route = snapshot.clusters.iter().any(|cluster| !cluster.settings.routes.is_empty());
        let has_rules = may_route || snapshot.clusters.iter().any(|c| !c.settings.access.is_empty());
        if trusting_listeners.is_empty() && with_header.is_empty() && rate == 0 && !has_rules {
            notes.push(format!("nothing depends on the client's address {client}"));
        }
    }
}
