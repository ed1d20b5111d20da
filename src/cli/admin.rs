//! One question to the admin listener of a running balancer.
//!
//! In: `--admin URL` or the configuration file, which says where it listens and with which token. Out: the
//! answer's JSON, or an error that says what to try.

use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use http::{HeaderValue, Method, header};

use super::load;
use crate::balancer::hosts::host_name;
use crate::config::settings::{Secret, UpstreamTls};
use crate::domino::{Client, Request};

/// Where the running balancer is.
#[derive(Debug, clap::Args)]
pub struct Where {
    /// The configuration file; says where the running balancer's admin listener is.
    #[arg(short, long = "conf", value_name = "FILE")]
    pub conf: Option<PathBuf>,
    /// The admin listener, `http://127.0.0.1:8098`, instead of the one in the file.
    #[arg(long, value_name = "URL")]
    pub admin: Option<String>,
    /// For machines.
    #[arg(long)]
    pub json: bool,
}

impl Where {
    /// Asks. `None` when the configuration file is wrong, which has been printed.
    ///
    /// # Errors
    /// When there is no answer, or one that is not JSON.
    pub fn ask(&self, method: Method, target: &str) -> anyhow::Result<Option<(u16, serde_json::Value)>> {
        let Some((url, token)) = self.place()? else { return Ok(None) };
        let (https, rest) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => bail!("{url}: write the admin listener as http://HOST:PORT or https://HOST:PORT"),
        };
        let at = rest.trim_end_matches('/');
        let address = at
            .to_socket_addrs()
            .with_context(|| format!("{at} is no address"))?
            .next()
            .ok_or_else(|| anyhow!("{at} does not resolve"))?;
        let host = host_name(at).trim_matches(['[', ']']).to_owned();
        let mut request = Request::get(address, https, &host, target);
        request.method = method;
        request.timeout = Duration::from_secs(10);
        if let Some(token) = token {
            let value = HeaderValue::from_bytes(&[b"Bearer ", &*token.0].concat())?;
            request.headers.push((header::AUTHORIZATION, value));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let tls = UpstreamTls { ca_file: None, ca: None, verify: true };
        // The client reads the platform's authorities: inside the runtime, as its sockets are.
        let answer = runtime
            .block_on(async { Client::new(&tls, Duration::from_secs(5)).fetch(&request).await })
            .with_context(|| format!("is the balancer running, with its admin listener at {url}?"))?;
        let text = String::from_utf8_lossy(&answer.body);
        match serde_json::from_slice(&answer.body) {
            Ok(value) => Ok(Some((answer.status, value))),
            Err(_) => bail!("{url}: {} {}", answer.status, text.trim()),
        }
    }

    fn place(&self) -> anyhow::Result<Option<(String, Option<Secret>)>> {
        let from_file = match &self.conf {
            Some(conf) => {
                let Ok(loaded) = load(conf, self.json) else { return Ok(None) };
                let admin = loaded.settings.admin;
                let scheme = if admin.tls.is_some() { "https" } else { "http" };
                let mut address = admin.address;
                if address.ip().is_unspecified() {
                    address.set_ip(match address.ip() {
                        std::net::IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                        std::net::IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
                    });
                }
                Some((format!("{scheme}://{address}"), admin.token))
            }
            None => None,
        };
        Ok(Some(match (&self.admin, from_file) {
            (Some(url), from_file) => (url.clone(), from_file.and_then(|(_, token)| token)),
            (None, Some(from_file)) => from_file,
            (None, None) => ("http://127.0.0.1:8098".to_owned(), None),
        }))
    }
}

/// Percent-encodes an argument or a path segment.
#[must_use]
pub fn encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}
