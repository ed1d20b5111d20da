//! Why a server could not be asked, in words an administrator can act on.
//!
//! In: errors of Pingora's connectors. Out: one [`FetchError`] that names the URL and the fault. It
//! never carries a password: those travel in headers and bodies, which are not shown.

use std::time::Duration;

use pingora::{Error, ErrorType};

/// A request that brought no usable answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{url}: {fault}")]
pub struct FetchError {
    /// Scheme, host and target.
    pub url: String,
    /// What went wrong.
    pub fault: Fault,
}

/// A probe fails for the same reasons as any other request.
pub type ProbeError = FetchError;

/// What went wrong between us and a server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Nobody listens on the port.
    #[error("connection refused")]
    Refused,
    /// No route, no such host, or another error of the network.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// TCP or TLS was not established in time.
    #[error("no connection within {0:?}")]
    ConnectTimedOut(Duration),
    /// Connected, but the whole answer was not there in time.
    #[error("no complete answer within {0:?}")]
    TimedOut(Duration),
    /// Unknown issuer, wrong name, expired.
    #[error("the certificate is not trusted: {0}")]
    CertificateNotTrusted(String),
    /// Only SSL 3, TLS 1.0 or 1.1, as Domino before 9.0.1 FP3 speaks them.
    #[error("the server offers no TLS 1.2 or newer")]
    UnsupportedTlsVersion,
    /// Something answers in clear text where TLS was expected.
    #[error("the port does not speak TLS")]
    NotTls,
    /// Any other failure of the handshake.
    #[error("TLS handshake failed: {0}")]
    Tls(String),
    /// The server closed or reset the connection.
    #[error("connection closed before the answer was complete")]
    Closed,
    /// An HTTP status that is no success.
    #[error("answered with status {0}")]
    Status(u16),
    /// More than this many bytes.
    #[error("the body is larger than {0} bytes")]
    BodyTooLarge(usize),
    /// Not HTTP, or broken framing.
    #[error("not a valid HTTP answer: {0}")]
    Malformed(String),
    /// A request that cannot be written, such as a target with a line end in it.
    #[error("the request cannot be sent: {0}")]
    BadRequest(String),
}

impl Fault {
    /// True when no connection came about, so that nothing was asked.
    #[must_use]
    pub fn is_connect(&self) -> bool {
        matches!(
            self,
            Self::Refused
                | Self::Unreachable(_)
                | Self::ConnectTimedOut(_)
                | Self::CertificateNotTrusted(_)
                | Self::UnsupportedTlsVersion
                | Self::NotTls
                | Self::Tls(_)
        )
    }

    /// Sorts an error of Pingora's connectors; `connect_timeout` is what the connection was given.
    #[must_use]
    pub fn from_pingora(error: &Error, connect_timeout: Duration) -> Self {
        match error.etype() {
            ErrorType::ConnectRefused => Self::Refused,
            ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => {
                Self::ConnectTimedOut(connect_timeout)
            }
            ErrorType::TLSHandshakeFailure | ErrorType::InvalidCert | ErrorType::HandshakeError => {
                Self::from_tls_message(&error.to_string())
            }
            ErrorType::ConnectNoRoute
            | ErrorType::ConnectError
            | ErrorType::SocketError
            | ErrorType::BindError
            | ErrorType::InternalError => Self::Unreachable(single_line(&error.to_string())),
            ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError => Self::Closed,
            _ => Self::Malformed(single_line(&error.to_string())),
        }
    }

    /// Pingora hands the words of rustls on as text only.
    fn from_tls_message(text: &str) -> Self {
        const CERTIFICATE_ERROR_PREFIX: &str = "invalid peer certificate: ";
        const UNSUPPORTED_VERSION_MESSAGES: [&str; 4] = [
            "ServerDoesNotSupportTls12Or13",
            "alert: ProtocolVersion",
            "TlsVersionIsDisabled",
            "Tls12NotOffered",
        ];
        if let Some((_, reason)) = text.split_once(CERTIFICATE_ERROR_PREFIX) {
            let reason = reason.split(", SNI: ").next().unwrap_or(reason);
            Self::CertificateNotTrusted(single_line(reason))
        } else if UNSUPPORTED_VERSION_MESSAGES.iter().any(|word| text.contains(word)) {
            Self::UnsupportedTlsVersion
        } else if text.contains("corrupt message of type InvalidContentType") {
            Self::NotTls
        } else {
            Self::Tls(single_line(text))
        }
    }
}

/// One line of at most 300 characters: what comes from outside may hold anything.
pub(crate) fn single_line(text: &str) -> String {
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}
