//! What an error of Pingora means: which error page, whose fault, which cause in the log.

use std::time::Duration;

use pingora::{Error, ErrorSource, ErrorType};

use super::attempt::AttemptFailure;
use super::ctx::Ctx;
use super::routed::Routed;
use crate::discovery::domino::fault::Fault;
use crate::domain::select::SelectionOutcome;
use crate::pages::Problem;

/// The page for a request that has no server.
pub(super) fn problem_of(outcome: Option<SelectionOutcome>, routed: &Routed, target: &[u8]) -> Problem {
    match outcome {
        Some(SelectionOutcome::Full) => Problem::Overloaded,
        Some(SelectionOutcome::OutOfService) => {
            Problem::AllOutOfService { database: routed.public_path(target) }
        }
        Some(SelectionOutcome::NoteIdServerGone) => {
            Problem::NoteIdServerGone { link: routed.public_path(target) }
        }
        _ => Problem::NoServer,
    }
}

/// The page after the last attempt failed; `None` if the client is gone.
pub(super) fn problem_after_failure(e: &Error, ctx: &Ctx, target: &[u8]) -> Option<Problem> {
    // The last connects failed, so the page follows from what happened before them. A request that was never sent had
    // no server. Without a decision the client did not send its body.
    if ctx.attempt.is_none()
        && ctx.outcome.is_some()
        && let Some(routed) = &ctx.routed
    {
        let sent = ctx
            .failover
            .failures
            .iter()
            .rev()
            .map(|failed| failed.failure)
            .find(|f| *f != AttemptFailure::Connect);
        return Some(match sent {
            Some(AttemptFailure::Timeout) => Problem::GatewayTimeout,
            Some(AttemptFailure::Broken) => Problem::BadGateway,
            _ => problem_of(ctx.outcome, routed, target),
        });
    }
    // Other servers exist, but the NoteID means another document there.
    if ctx.outcome == Some(SelectionOutcome::NoteIdServerGone)
        && *e.esource() == ErrorSource::Upstream
        && let Some(routed) = &ctx.routed
    {
        return Some(problem_of(ctx.outcome, routed, target));
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
            ErrorSource::Upstream => Some(match ctx.failover.last_failure {
                Some(AttemptFailure::Timeout) => Problem::GatewayTimeout,
                Some(AttemptFailure::Malformed) => Problem::MalformedResponse,
                _ => Problem::BadGateway,
            }),
            _ => Some(Problem::Internal),
        },
    }
}

/// Whether the server sent nothing, or took no more of the body, for too long.
pub(super) fn is_timeout(e: &Error) -> bool {
    matches!(e.etype(), ErrorType::ReadTimedout | ErrorType::WriteTimedout)
        || e.root_cause()
            .downcast_ref::<std::io::Error>()
            .is_some_and(|cause| cause.kind() == std::io::ErrorKind::TimedOut)
}

/// Whether a connect failed because of the server. A fault of this machine (no free port or descriptor) must not make
/// every server UNREACHABLE.
pub(super) fn is_servers_fault(e: &Error) -> bool {
    let ours = matches!(e.etype(), ErrorType::InternalError | ErrorType::SocketError | ErrorType::BindError);
    let no_descriptor =
        e.root_cause().downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error).is_some_and(
            |number| number == nix::errno::Errno::EMFILE as i32 || number == nix::errno::Errno::ENFILE as i32,
        );
    !ours && !no_descriptor
}

/// The cause of a failed connect, for the log.
pub(super) fn connect_cause(e: &Error) -> String {
    let what = match e.etype() {
        ErrorType::ConnectTimedout => "connect timed out",
        ErrorType::ConnectRefused => "connection refused",
        ErrorType::ConnectNoRoute => "no route to the server",
        // The detail (which certificate, which version) decides what the administrator has to do.
        ErrorType::TLSHandshakeFailure | ErrorType::InvalidCert | ErrorType::HandshakeError => {
            return Fault::from_pingora(e, Duration::ZERO).to_string();
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
    fn a_fault_of_this_machine_is_not_the_servers_fault() {
        assert!(!is_servers_fault(&Error::new(ErrorType::BindError)));
        assert!(!is_servers_fault(&caused_by(ErrorType::ConnectError, Errno::EMFILE)));
        assert!(is_servers_fault(&Error::new(ErrorType::ConnectTimedout)));
        assert!(is_servers_fault(&caused_by(ErrorType::ConnectRefused, Errno::ECONNREFUSED)));
    }

    #[test]
    fn a_timeout_of_the_kernel_is_a_timeout_and_a_reset_is_not() {
        assert!(is_timeout(&Error::new(ErrorType::ReadTimedout)));
        assert!(is_timeout(&caused_by(ErrorType::WriteError, Errno::ETIMEDOUT)));
        assert!(!is_timeout(&caused_by(ErrorType::ReadError, Errno::ECONNRESET)));
    }
}
