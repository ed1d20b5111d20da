//! What a client of HTTP/2 sees of an exchange.

use std::net::SocketAddr;
use std::time::Duration;

use super::client::{End, Seen, normalised};
use super::exchange::Exchange;

/// Fields that belong to a connection of HTTP/1.
const OF_HTTP_1: [&str; 9] = [
    "host",
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "upgrade",
    "http2-settings",
    "x-hop",
    "expect",
];

/// A client with one connection.
pub struct H2Client {
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

impl H2Client {
    /// A client that trusts this authority, given as PEM, and finds `www.acme.example` at this address.
    pub fn new(address: SocketAddr, authority: &str) -> H2Client {
        // An error means that another test has installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .use_rustls_tls()
            .add_root_certificate(reqwest::Certificate::from_pem(authority.as_bytes()).unwrap())
            .resolve("www.acme.example", address)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(Duration::from_secs(20))
            .build()
            .unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        H2Client { client, runtime }
    }

    pub fn ask(&self, exchange: &Exchange) -> Seen {
        self.runtime.block_on(self.exchange(exchange))
    }

    async fn exchange(&self, exchange: &Exchange) -> Seen {
        let target = exchange.target.strip_prefix("http://www.acme.example").unwrap_or(&exchange.target);
        let url = format!("https://www.acme.example{target}");
        let method = reqwest::Method::from_bytes(exchange.method.as_bytes()).unwrap();
        let mut request = self.client.request(method, url);
        for (name, value) in &exchange.fields {
            if !OF_HTTP_1.iter().any(|other| name.eq_ignore_ascii_case(other)) {
                request = request.header(name.to_ascii_lowercase(), value.trim_ascii());
            }
        }
        let content = exchange.content();
        if !content.is_empty() {
            request = request.body(content);
        }
        let mut seen = Seen {
            informational: Vec::new(),
            line: String::new(),
            fields: Vec::new(),
            body: Vec::new(),
            end: End::NoHead,
        };
        if exchange.leaves {
            let _ = tokio::time::timeout(Duration::from_millis(300), request.send()).await;
            return seen;
        }
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) => {
                seen.end = if error.is_timeout() { End::Timeout } else { End::NoHead };
                return seen;
            }
        };
        seen.line = format!("{:?} {}", response.version(), response.status().as_u16());
        let text = |bytes: &[u8]| bytes.iter().map(|byte| char::from(*byte)).collect::<String>();
        let fields = response.headers().iter();
        seen.fields = normalised(fields.map(|(n, v)| (n.to_string(), text(v.as_bytes()))).collect());
        seen.end = loop {
            match response.chunk().await {
                Ok(Some(piece)) => seen.body.extend_from_slice(&piece),
                Ok(None) => break End::Complete,
                Err(error) => break if error.is_timeout() { End::Timeout } else { End::Cut },
            }
        };
        seen
    }
}
