//! Why a request to a server failed, as a message that an administrator can act on.
//!
//! The messages never contain headers or bodies, because these may hold passwords.

use std::time::Duration;

use pingora::{Error, ErrorType};

/// A request without a usable response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{url}: {fault}")]
pub struct FetchError {
    pub url: String,
    pub fault: Fault,
}

/// What went wrong between `icm` and a server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("connection refused")]
    Refused,
    /// No route to the host, or another network error.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// The TCP or TLS handshake did not finish in time.
    #[error("no connection within {0:?}")]
    ConnectTimedOut(Duration),
    /// The connection is there, but not the complete response.
    #[error("no complete response within {0:?}")]
    TimedOut(Duration),
    /// Unknown issuer, wrong name, or expired.
    #[error("the certificate is not trusted: {0}")]
    CertificateNotTrusted(String),
    /// SSL 3, TLS 1.0 or 1.1 only, as in Domino before 9.0.1 FP3.
    #[error("the server offers no TLS 1.2 or newer")]
    UnsupportedTlsVersion,
    /// A cleartext response where TLS was expected.
    #[error("the port does not speak TLS")]
    NotTls,
    #[error("TLS handshake failed: {0}")]
    Tls(String),
    /// The server closed or reset the connection too early.
    #[error("connection closed before the response was complete")]
    Closed,
    /// An HTTP status outside 200 to 299.
    #[error("answered with status {0}")]
    Status(u16),
    /// The body exceeds this many bytes.
    #[error("the body is larger than {0} bytes")]
    BodyTooLarge(usize),
    /// The response is not HTTP, or its framing is broken.
    #[error("not a valid HTTP response: {0}")]
    Malformed(String),
    /// The request is invalid, such as a target with a line end in it.
    #[error("the request cannot be sent: {0}")]
    BadRequest(String),
}

impl Fault {
    /// True if no connection was established, so that the server never saw the request.
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

    /// Classifies an error of Pingora's connectors; `connect_timeout` is used in the message.
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

    /// Pingora passes on errors of rustls as text only.
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
        } else if UNSUPPORTED_VERSION_MESSAGES.iter().any(|message| text.contains(message)) {
            Self::UnsupportedTlsVersion
        } else if text.contains("corrupt message of type InvalidContentType") {
            Self::NotTls
        } else {
            Self::Tls(single_line(text))
        }
    }
}

/// Makes text from outside safe for a log: one line of at most 300 characters.
pub(crate) fn single_line(text: &str) -> String {
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}
