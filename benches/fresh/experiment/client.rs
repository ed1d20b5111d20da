//! A browser: one kept connection, a cookie jar, and how a request failed.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE, COOKIE, HOST, SET_COOKIE};

use serde_json::Value;

use super::SERVERS;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// A complete response that is no error of a server, or the page that says that this copy is older.
#[derive(Debug)]
pub struct Page {
    pub status: u16,
    /// Position in [`SERVERS`]; `None` if the load balancer made the page itself.
    pub server: Option<usize>,
    pub body: String,
    pub took: Duration,
}

impl Page {
    /// The link of the page with which a load balancer says that this copy is older.
    pub fn link_to_older_copy(&self) -> Option<String> {
        if self.server.is_some() || !is_warning(&self.body) {
            return None;
        }
        let links = self.body.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next());
        links.map(unescaped).find(|link| link.contains(".nsf"))
    }

    /// The table of a simulated server's page. Browsers read HTML, and for other types a load balancer may do less.
    pub fn fields(&self) -> Value {
        let mut fields = serde_json::Map::new();
        for row in self.body.split("<tr><th>").skip(1) {
            let Some((key, rest)) = row.split_once("</th><td>") else { continue };
            let text = rest.split("</td></tr>").next().unwrap_or_default();
            let parsed = |text: &str| {
                let text = unescaped(text);
                serde_json::from_str(&text).unwrap_or(Value::String(text))
            };
            let value = match key {
                "documents" => text.split("<br>").filter(|line| !line.is_empty()).map(parsed).collect(),
                _ => parsed(text),
            };
            fields.insert(key.to_owned(), value);
        }
        Value::Object(fields)
    }
}

fn is_warning(body: &str) -> bool {
    body.contains("This copy is older")
}

fn unescaped(text: &str) -> String {
    text.replace("&quot;", "\"").replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&")
}

/// Why there is no [`Page`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// A status of 500 or more.
    Status(u16),
    Connect,
    Timeout,
    Broken,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Status(status) => write!(f, "{status}"),
            Failure::Connect => f.write_str("refused"),
            Failure::Timeout => f.write_str("timeout"),
            Failure::Broken => f.write_str("connection closed"),
        }
    }
}

/// A client without TLS. `idle` is the number of connections that it keeps.
pub fn http(idle: usize) -> reqwest::Client {
    // reqwest wants a provider even for plain HTTP. An error means that there is one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .pool_max_idle_per_host(idle)
        .redirect(reqwest::redirect::Policy::none())
        .timeout(REQUEST_TIMEOUT)
        .build()
        .unwrap()
}

/// One browser, of which one request at a time is in progress.
pub struct Browser {
    client: reqwest::Client,
    address: SocketAddr,
    cookies: Vec<(String, String)>,
    refused_cookie: Option<&'static str>,
}

impl Browser {
    pub fn new(
        client: reqwest::Client,
        address: SocketAddr,
        refused_cookie: Option<&'static str>,
    ) -> Browser {
        Browser { client, address, cookies: Vec::new(), refused_cookie }
    }

    pub async fn get(&mut self, target: &str) -> Result<Page, Failure> {
        self.fetch(Method::GET, target, None).await
    }

    pub async fn post(&mut self, target: &str, form: String) -> Result<Page, Failure> {
        self.fetch(Method::POST, target, Some(form)).await
    }

    async fn fetch(&mut self, method: Method, target: &str, form: Option<String>) -> Result<Page, Failure> {
        let begin = Instant::now();
        let url = format!("http://{}{target}", self.address);
        let mut request = self.client.request(method, url).header(HOST, "www.acme.example");
        // A top-level navigation, which a load balancer may answer with a page of its own.
        request = request.header(ACCEPT, "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8");
        request = request.header("Sec-Fetch-Mode", "navigate");
        if !self.cookies.is_empty() {
            let pairs: Vec<String> = self.cookies.iter().map(|(n, v)| format!("{n}={v}")).collect();
            request = request.header(COOKIE, pairs.join("; "));
        }
        if let Some(form) = form {
            request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form);
        }
        let answer = request.send().await.map_err(failure)?;
        let status = answer.status().as_u16();
        for cookie in answer.headers().get_all(SET_COOKIE) {
            self.store(cookie.to_str().unwrap_or_default());
        }
        let server = answer.headers().get("x-acme-server").and_then(|value| {
            let name = value.to_str().ok()?.split('/').next()?;
            SERVERS.iter().position(|server| *server == name)
        });
        let body = answer.text().await.map_err(failure)?;
        if status >= 500 && !is_warning(&body) {
            return Err(Failure::Status(status));
        }
        Ok(Page { status, server, body, took: begin.elapsed() })
    }

    fn store(&mut self, cookie: &str) {
        let mut parts = cookie.split(';').map(str::trim);
        let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else { return };
        if self.refused_cookie.is_some_and(|ending| name.ends_with(ending)) {
            return;
        }
        self.cookies.retain(|(known, _)| known != name);
        if !parts.any(|attribute| attribute.eq_ignore_ascii_case("max-age=0")) {
            self.cookies.push((name.to_owned(), value.to_owned()));
        }
    }
}

fn failure(error: reqwest::Error) -> Failure {
    if error.is_connect() {
        Failure::Connect
    } else if error.is_timeout() {
        Failure::Timeout
    } else {
        Failure::Broken
    }
}
