//! The request that an explanation is asked about.

use std::net::IpAddr;

use http::header;
use pingora_http::RequestHeader;

use crate::domain::cluster::Port;
use crate::state::Snapshot;

/// What is asked about: a URL, and of the request around it what may decide.
#[derive(Clone, Debug, Default)]
pub struct ExplainRequest {
    /// `http://www.acme.example/sales/leads.nsf?OpenDatabase`, or only a path.
    pub url: String,
    /// As if the client had come by this scheme; `None` = the URL's, else http.
    pub scheme: Option<Port>,
    /// Empty = GET.
    pub method: String,
    /// The Host header; empty = the URL's, else the first of the configuration.
    pub host: String,
    /// The Cookie header, or only the value of the affinity cookie; empty = a new user.
    pub cookie: String,
    /// The Referer header.
    pub referer: String,
    /// The client's address.
    pub client: Option<IpAddr>,
}

impl ExplainRequest {
    /// Only a URL.
    #[must_use]
    pub fn for_url(url: &str) -> Self {
        Self { url: url.to_owned(), ..Self::default() }
    }

    /// With what else stands in the query of `/explain`.
    ///
    /// # Errors
    /// When `client` is no address.
    pub fn from_query(
        url: String,
        scheme: Option<Port>,
        argument: &impl Fn(&[u8]) -> Option<String>,
    ) -> Result<Self, &'static str> {
        let client = match argument(b"client").filter(|text| !text.is_empty()) {
            Some(text) => Some(text.parse().map_err(|_| "`client` is an IP address: 192.0.2.7")?),
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
        })
    }

    /// The head that this request would have.
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
            if !self.referer.is_empty() {
                head.insert_header(header::REFERER, self.referer.as_str())?;
            }
            Ok(head)
        };
        build().map_err(|error| error.to_string())
    }

    /// What the client's address decides: no rule of selection looks at it.
    pub(super) fn add_client_notes(&self, snapshot: &Snapshot, notes: &mut Vec<String>) {
        let Some(client) = self.client else { return };
        let listeners = &snapshot.settings.listeners;
        let trusting_listeners =
            listeners.iter().filter(|l| l.trusted_proxies.iter().any(|net| net.contains(&client)));
        let trusting_listeners: Vec<String> = trusting_listeners.map(|l| l.address.to_string()).collect();
        if !trusting_listeners.is_empty() {
            notes.push(format!(
                "{client} is a trusted proxy at {}: its X-Forwarded-For and -Proto say who the client is",
                trusting_listeners.join(", ")
            ));
        }
        let rate = snapshot.settings.limits.per_client_requests;
        if rate > 0 {
            notes.push(format!("{client} may ask {rate} times a second, more gets 429"));
        }
        if trusting_listeners.is_empty() && rate == 0 {
            notes.push(format!("nothing depends on the client's address {client}"));
        }
    }
}
