//! Which page answers a request that no server could, and in which words a connect failed.
//!
//! In: the request's state and Pingora's error. Out: a problem, or none where the client is gone.

use std::time::Duration;

use pingora::{Error, ErrorSource, ErrorType};

use super::ctx::{Ctx, Failure, Routed};
use super::respond;
use crate::discovery::domino::fault::Fault;
use crate::domain::select::Outcome;
use crate::pages::Problem;

/// Why nobody could be chosen.
#[must_use]
pub fn problem_of(ctx: &Ctx, routed: &Routed, target: &[u8]) -> Problem {
    match ctx.outcome {
        Some(Outcome::Full) => Problem::Overloaded,
        Some(Outcome::OutOfService) => respond::out_of_service(routed, target),
        Some(Outcome::NoteIdServerGone) => respond::note_id_gone(routed, target),
        _ => Problem::NoServer,
    }
}

/// The page for an attempt that failed for good; `None` when the client is gone.
#[must_use]
pub fn last_failure(e: &Error, ctx: &Ctx, target: &[u8]) -> Option<Problem> {
    // The last candidates could not even be connected: what became of the request before that counts, and
    // if nothing was ever sent, nobody could take it.
    if ctx.attempt.is_none()
        && let Some(routed) = &ctx.routed
    {
        let sent = ctx.failures.iter().rev().map(|(_, f)| *f).find(|f| *f != Failure::Connect);
        return Some(match sent {
            Some(Failure::Timeout) => Problem::GatewayTimeout,
            Some(Failure::Broken) => Problem::BadGateway,
            _ => problem_of(ctx, routed, target),
        });
    }
    // It could have gone to another server, were it not for its NoteID.
    if ctx.outcome == Some(Outcome::NoteIdServerGone)
        && *e.esource() == ErrorSource::Upstream
        && let Some(routed) = &ctx.routed
    {
        return Some(respond::note_id_gone(routed, target));
    }
    match e.etype() {
        ErrorType::HTTPStatus(400) => Some(Problem::BadRequest("The request is not valid HTTP.")),
        ErrorType::HTTPStatus(408) => Some(Problem::RequestTimeout),
        ErrorType::HTTPStatus(413) => Some(Problem::BodyTooLarge),
        ErrorType::HTTPStatus(503) => Some(Problem::NoServer),
        _ if *e.esource() == ErrorSource::Upstream && is_timeout(e) => Some(Problem::GatewayTimeout),
        _ => match e.esource() {
            ErrorSource::Downstream => match e.etype() {
                ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed => None,
                ErrorType::ReadTimedout => Some(Problem::RequestTimeout),
                _ => Some(Problem::BadRequest("The request is not valid HTTP.")),
            },
            ErrorSource::Upstream => Some(match ctx.last_failure {
                Some(Failure::Timeout) => Problem::GatewayTimeout,
                Some(Failure::Malformed) => Problem::MalformedResponse,
                _ => Problem::BadGateway,
            }),
            _ => Some(Problem::Internal),
        },
    }
}

/// The server was silent for too long, or took no more of the body (the kernel's `ETIMEDOUT`).
#[must_use]
pub fn is_timeout(e: &Error) -> bool {
    matches!(e.etype(), ErrorType::ReadTimedout | ErrorType::WriteTimedout)
        || e.root_cause()
            .downcast_ref::<std::io::Error>()
            .is_some_and(|cause| cause.kind() == std::io::ErrorKind::TimedOut)
}

/// A connect failed for a reason that lies with the server, not with this machine (no free port or
/// descriptor): what is wrong here must not make every server UNREACHABLE.
#[must_use]
pub fn is_servers_fault(e: &Error) -> bool {
    let ours = matches!(e.etype(), ErrorType::InternalError | ErrorType::SocketError | ErrorType::BindError);
    let no_descriptor =
        e.root_cause().downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error).is_some_and(
            |number| number == nix::errno::Errno::EMFILE as i32 || number == nix::errno::Errno::ENFILE as i32,
        );
    !ours && !no_descriptor
}

/// A connect's failure in words for the administrator.
#[must_use]
pub fn connect_cause(e: &Error) -> String {
    let what = match e.etype() {
        ErrorType::ConnectTimedout => "connect timed out",
        ErrorType::ConnectRefused => "connection refused",
        ErrorType::ConnectNoRoute => "no route to the server",
        // Which certificate, which version: what to do depends on it.
        ErrorType::TLSHandshakeFailure | ErrorType::InvalidCert | ErrorType::HandshakeError => {
            return Fault::of(e, Duration::ZERO).to_string();
        }
        ErrorType::TLSHandshakeTimedout => "TLS handshake timed out",
        other => other.as_str(),
    };
    what.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;

    fn caused_by(kind: ErrorType, errno: Errno) -> Box<Error> {
        Error::because(kind, "in a test", std::io::Error::from_raw_os_error(errno as i32))
    }

    #[test]
    fn what_is_wrong_on_this_machine_is_not_the_servers_fault() {
        assert!(!is_servers_fault(&Error::new(ErrorType::BindError)));
        assert!(!is_servers_fault(&caused_by(ErrorType::ConnectError, Errno::EMFILE)));
        assert!(is_servers_fault(&Error::new(ErrorType::ConnectTimedout)));
        assert!(is_servers_fault(&caused_by(ErrorType::ConnectRefused, Errno::ECONNREFUSED)));
    }

    #[test]
    fn a_timeout_of_the_kernel_is_a_timeout_and_a_reset_is_none() {
        assert!(is_timeout(&Error::new(ErrorType::ReadTimedout)));
        assert!(is_timeout(&caused_by(ErrorType::WriteError, Errno::ETIMEDOUT)));
        assert!(!is_timeout(&caused_by(ErrorType::ReadError, Errno::ECONNRESET)));
    }
}
