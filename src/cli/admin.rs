//! Requests to the admin listener of a running balancer. Its address, token and certificate come from the configuration
//! file or from options.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use http::{HeaderValue, Method, header};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::signal::unix::{Signal, SignalKind, signal};
use x509_parser::extensions::GeneralName;

use super::{EXIT_PROBLEM, load};
use crate::config::settings::{Secret, UpstreamTls};
use crate::discovery::domino::{DominoClient, DominoRequest};
use crate::state::host_table::strip_port;

/// Large, because `audit --all` prints every database.
const MAX_BODY_BYTES: usize = 1 << 30;
/// Long enough to search a large directory.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// The options for the address and the token of the admin listener.
#[derive(Debug, clap::Args)]
pub struct AdminTarget {
    /// Path of the configuration file, which has the address and the token of the admin listener.
    #[arg(short, long = "conf", value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub conf: Option<PathBuf>,
    /// Admin listener, instead of the one in the configuration file [default: http://127.0.0.1:8098].
    #[arg(long, value_name = "URL")]
    pub admin: Option<String>,
    /// CA certificates for an https admin listener [default: its own certificate from the configuration file, else the
    /// system's CAs].
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub ca: Option<PathBuf>,
    /// File with the token of the admin listener, for use without a configuration file.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub token_file: Option<PathBuf>,
    /// Print JSON, for programs.
    #[arg(long)]
    pub json: bool,
}

/// A running balancer's admin listener.
pub struct AdminClient {
    runtime: tokio::runtime::Runtime,
    client: DominoClient,
    url: String,
    request: DominoRequest,
}

/// Ctrl-C and TERM since this was made, also those that come while a request is answered.
pub struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

/// How a pause ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitOutcome {
    Elapsed,
    Interrupted,
}

impl AdminTarget {
    /// Finds the admin listener. `None` if the configuration file has errors, which are printed.
    ///
    /// # Errors
    /// If an address, a file or a name is invalid.
    pub fn connect(&self) -> anyhow::Result<Option<AdminClient>> {
        let mut url = "http://127.0.0.1:8098".to_owned();
        let (mut token, mut ca_certificates, mut name) = (None, None, None);
        if let Some(conf) = &self.conf {
            let Ok(loaded) = load(conf, self.json) else { return Ok(None) };
            let admin = loaded.settings.admin;
            token = admin.token;
            let scheme = if admin.tls.is_some() { "https" } else { "http" };
            url = format!("{scheme}://{}", connectable_address(admin.address));
            if let Some(files) = &admin.tls {
                (ca_certificates, name) = own_certificate(&files.cert)?;
            }
        }
        if let Some(admin) = &self.admin {
            // This is not the listener of the file, so the certificate of the file does not apply.
            (url, ca_certificates, name) = (admin.clone(), None, None);
        }
        if let Some(file) = &self.ca {
            ca_certificates = Some(certificates(file)?);
        }
        if let Some(file) = &self.token_file {
            let text = std::fs::read(file).with_context(|| file.display().to_string())?;
            token = Some(Secret(text.trim_ascii().to_vec().into()));
        }
        let (https, rest) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => bail!("{url}: write the admin listener as http://HOST:PORT or https://HOST:PORT"),
        };
        let at = rest.trim_end_matches('/');
        let with_port = match strip_port(at).len() == at.len() {
            true => format!("{at}:{}", if https { 443 } else { 80 }),
            false => at.to_owned(),
        };
        let address = with_port
            .to_socket_addrs()
            .with_context(|| format!("{at} is not an address"))?
            .next()
            .ok_or_else(|| anyhow!("{at} does not resolve"))?;
        let host = strip_port(at).trim_matches(['[', ']']).to_owned();
        let mut request = DominoRequest::get(address, https, &host, "/");
        if let Some(name) = name {
            request.hostname = name;
        }
        request.timeout = REQUEST_TIMEOUT;
        request.max_body = MAX_BODY_BYTES;
        if let Some(token) = token {
            let value = HeaderValue::from_bytes(&[b"Bearer ", &*token.0].concat())?;
            request.headers.push((header::AUTHORIZATION, value));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let tls = UpstreamTls { ca_file: None, ca: ca_certificates.map(Arc::new), verify: true };
        // The client opens its sockets and reads the platform's CAs inside the runtime.
        let client = runtime.block_on(async { DominoClient::new(&tls, Duration::from_secs(5)) });
        Ok(Some(AdminClient { runtime, client, url, request }))
    }

    /// Finds the admin listeners of other ICMs, which have the same token. `None` if the configuration file has errors,
    /// which are printed.
    ///
    /// # Errors
    /// If an address, a file or a name is invalid.
    pub fn connect_others(&self, urls: &[String]) -> anyhow::Result<Option<Vec<AdminClient>>> {
        let mut all = Vec::new();
        for url in urls {
            let other = Self {
                conf: self.conf.clone(),
                admin: Some(url.clone()),
                ca: self.ca.clone(),
                token_file: self.token_file.clone(),
                json: self.json,
            };
            let Some(client) = other.connect()? else { return Ok(None) };
            all.push(client);
        }
        Ok(Some(all))
    }
}

impl AdminClient {
    /// Sends a request and returns the status and the JSON of the answer.
    ///
    /// # Errors
    /// If there is no answer, or it is not JSON.
    pub fn send(&self, method: Method, target: &str) -> anyhow::Result<(u16, Value)> {
        let request = DominoRequest { method, target: target.to_owned(), ..self.request.clone() };
        let url = &self.url;
        let answer = self
            .runtime
            .block_on(self.client.fetch(&request))
            .with_context(|| format!("is the balancer running, with its admin listener at {url}?"))?;
        match serde_json::from_slice(&answer.body) {
            _ if answer.status == 401 => bail!("{url}: a token is needed: use -c FILE or --token-file FILE"),
            Ok(value) => Ok((answer.status, value)),
            Err(_) => bail!("{url}: {} {}", answer.status, String::from_utf8_lossy(&answer.body).trim()),
        }
    }

    /// Sends a GET. The inner `Err` is the exit code for a server that no cluster has, which is printed.
    ///
    /// # Errors
    /// If there is no answer, or an unexpected one.
    pub fn get<T: DeserializeOwned>(&self, target: &str) -> anyhow::Result<Result<T, ExitCode>> {
        let (status, value) = self.send(Method::GET, target)?;
        match status {
            200 => Ok(Ok(serde_json::from_value(value).context("the admin listener's answer")?)),
            404 if value.get("error").is_some() => {
                eprintln!("icm: {}", value.get("message").and_then(Value::as_str).unwrap_or_default());
                Ok(Err(ExitCode::from(EXIT_PROBLEM)))
            }
            _ => bail!("{}: {status} {value}", self.url),
        }
    }

    /// Sleeps until the time is over or Ctrl-C is pressed.
    ///
    /// # Errors
    /// If no signal handler can be installed.
    pub fn sleep_or_interrupt(&self, duration: Duration) -> anyhow::Result<WaitOutcome> {
        self.runtime.block_on(async {
            tokio::select! {
                () = tokio::time::sleep(duration) => Ok(WaitOutcome::Elapsed),
                signal = tokio::signal::ctrl_c() => signal.map(|()| WaitOutcome::Interrupted).map_err(Into::into),
            }
        })
    }
}

impl AdminClient {
    /// From now on neither signal ends the process.
    ///
    /// # Errors
    /// If no signal handler can be installed.
    pub fn interrupts(&self) -> anyhow::Result<Interrupts> {
        let _guard = self.runtime.enter();
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(Interrupts { interrupt, terminate })
    }

    /// Sleeps until the time is over, or until a signal has come since the last call.
    pub fn pause(&self, duration: Duration, interrupts: &mut Interrupts) -> WaitOutcome {
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                _ = interrupts.interrupt.recv() => WaitOutcome::Interrupted,
                _ = interrupts.terminate.recv() => WaitOutcome::Interrupted,
                () = tokio::time::sleep(duration) => WaitOutcome::Elapsed,
            }
        })
    }
}

/// The loopback address for a listener on all addresses.
fn connectable_address(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            std::net::IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            std::net::IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

type OwnCertificate = (Option<Vec<Vec<u8>>>, Option<String>);

/// The certificates to trust for our own listener, and the name to expect. The name is the certificate's own, because few
/// certificates contain the address of the listener.
fn own_certificate(file: &Path) -> anyhow::Result<OwnCertificate> {
    let chain = certificates(file)?;
    let Some(leaf) = chain.first() else { return Ok((None, None)) };
    let (_, parsed) =
        x509_parser::parse_x509_certificate(leaf).map_err(|e| anyhow!("{}: {e}", file.display()))?;
    let names = parsed.subject_alternative_name().ok().flatten();
    let name = names.and_then(|names| {
        names.value.general_names.iter().find_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.replacen("*.", "icm.", 1)),
            _ => None,
        })
    });
    let is_self_signed = parsed.issuer() == parsed.subject();
    // If the file lacks the issuer, the platform must know it.
    let trusted = (chain.len() > 1 || is_self_signed).then(|| chain.clone());
    Ok((trusted, name))
}

fn certificates(file: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    let pem = std::fs::read(file).with_context(|| file.display().to_string())?;
    CertificateDer::pem_slice_iter(&pem)
        .map(|certificate| certificate.map(|c| c.to_vec()))
        .collect::<Result<_, _>>()
        .map_err(|error| anyhow!("{}: {error}", file.display()))
}

#[must_use]
pub fn percent_encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}
