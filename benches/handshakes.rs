//! A load of TLS handshakes, each followed by one request, either all full or all resumed. wrk cannot do this, because it
//! resumes sessions whenever it can.
//!
//! Prints one line for `benches/wrk/run.sh` in the format of `report.lua`, with one more number: handshakes that were not
//! of the wanted kind. It uses TLS 1.3 and accepts every certificate, because it shares its processor with the origin.

#![allow(clippy::disallowed_methods, reason = "there is no runtime that these threads could block")]

use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, SignatureScheme, StreamOwned,
};

const IO_TIMEOUT: Duration = Duration::from_secs(5);

const USAGE: &str = "usage: handshakes ADDRESS full|resumed CONNECTIONS SECONDS TARGET [HEADER...]";

struct Plan {
    address: SocketAddr,
    resumed: bool,
    until: Instant,
    request: Vec<u8>,
}

#[derive(Default)]
struct Outcome {
    micros: Vec<u64>,
    refused: u64,
    broken: u64,
    /// Handshakes that were full instead of resumed, or resumed instead of full.
    wrong: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo bench` runs every bench with this argument; this one needs a script.
    if arguments.iter().any(|a| a == "--bench" || a == "--test") {
        return Ok(());
    }
    let [address, kind, connections, seconds, target, headers @ ..] = arguments.as_slice() else {
        return Err(USAGE.into());
    };
    let resumed = match kind.as_str() {
        "full" => false,
        "resumed" => true,
        _ => return Err(USAGE.into()),
    };
    let mut request = format!("GET {target} HTTP/1.1\r\nConnection: close\r\n");
    for header in headers {
        request.push_str(header);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    let begin = Instant::now();
    let until = begin + Duration::from_secs(seconds.parse()?);
    let plan = Arc::new(Plan { address: address.parse()?, resumed, until, request: request.into_bytes() });
    let mut clients = Vec::new();
    for _ in 0..connections.parse::<usize>()? {
        let (plan, config) = (Arc::clone(&plan), config(resumed)?);
        clients.push(std::thread::spawn(move || client(&plan, &config)));
    }
    let mut all = Outcome::default();
    for client in clients {
        let one = client.join().map_err(|_| "a client died")?;
        all.micros.extend(one.micros);
        all.refused += one.refused;
        all.broken += one.broken;
        all.wrong += one.wrong;
    }
    let spent = begin.elapsed().as_micros();
    all.micros.sort_unstable();
    let quantile = |q: f64| all.micros.get((all.micros.len() as f64 * q) as usize).copied().unwrap_or(0);
    let (answered, p50, p99) = (all.micros.len(), quantile(0.5), quantile(0.99));
    println!("RESULT {answered} {spent} {p50} {p99} {} {} {}", all.refused, all.broken, all.wrong);
    Ok(())
}

/// The configuration of one client. Each has its own session store, because a ticket can be used once.
fn config(resumed: bool) -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AcceptAnyCertificate(provider)))
        .with_no_client_auth();
    if !resumed {
        config.resumption = Resumption::disabled();
    }
    Ok(Arc::new(config))
}

/// Opens one connection after another until the time is over.
fn client(plan: &Plan, config: &Arc<ClientConfig>) -> Outcome {
    let mut outcome = Outcome::default();
    let mut first = true;
    while Instant::now() < plan.until {
        let begin = Instant::now();
        match connect_and_request(plan, config) {
            Ok((kind, status)) => {
                let wanted = if plan.resumed { HandshakeKind::Resumed } else { HandshakeKind::Full };
                // The first connection has no session to resume.
                outcome.wrong += u64::from(kind != Some(wanted) && !(first && plan.resumed));
                outcome.refused += u64::from(!status.starts_with("HTTP/1.1 200"));
                outcome.micros.push(u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX));
            }
            Err(_) => outcome.broken += 1,
        }
        first = false;
    }
    outcome
}

/// Connects and sends one request. Returns the kind of the handshake and the status line.
fn connect_and_request(
    plan: &Plan,
    config: &Arc<ClientConfig>,
) -> Result<(Option<HandshakeKind>, String), Box<dyn Error>> {
    let socket = TcpStream::connect_timeout(&plan.address, IO_TIMEOUT)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(IO_TIMEOUT))?;
    let name = ServerName::try_from("www.acme.example")?;
    let mut stream = StreamOwned::new(ClientConnection::new(Arc::clone(config), name)?, socket);
    stream.write_all(&plan.request)?;
    let mut answer = Vec::with_capacity(4096);
    // HAProxy and others close without close_notify; the length is checked below.
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() != ErrorKind::UnexpectedEof => return Err(error.into()),
        _ => {}
    }
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").ok_or("no head")?;
    let length = head.lines().filter_map(|line| line.split_once(": "));
    let mut length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    if let Some((_, length)) = length.next()
        && length.parse() != Ok(body.len())
    {
        return Err("cut short".into());
    }
    let status = head.lines().next().unwrap_or_default().to_owned();
    Ok((stream.conn.handshake_kind(), status))
}

#[derive(Debug)]
struct AcceptAnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
