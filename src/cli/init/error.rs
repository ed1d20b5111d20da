//! Why `icm init` wrote nothing, as one sentence that says what to do, and the exit code of each.

use crate::cli::{EXIT_PROBLEM, EXIT_USAGE};
use crate::discovery::domino::Fault;

/// A failure that an administrator can act on.
#[derive(Debug, thiserror::Error)]
pub(super) enum InitError {
    /// An argument is missing or wrong.
    #[error("{0}")]
    Usage(String),
    #[error("{host}: the host name cannot be resolved: {reason}; use its IP address, or correct the name")]
    Resolve { host: String, reason: String },
    #[error(
        "{url}: {fault}; is the HTTP task loaded, and is this its port? Its Server document has it under Ports"
    )]
    Unreachable { url: String, fault: String },
    #[error("{url}: {reason}. {presented}{advice}")]
    Untrusted { url: String, reason: Fault, presented: String, advice: String },
    #[error("{url}: this is not a Domino server: {why}")]
    NotDomino { url: String, why: String },
    #[error("{url}: redirects to {location}; run `icm init --server` with the server that should be read")]
    RedirectsElsewhere { url: String, location: String },
    #[error("{url}: cldbdir.nsf cannot be read as Anonymous; name a user with Reader access: --user NAME")]
    NeedsAccount { url: String },
    #[error(
        "{url}: refuses the login of `{user}`: check the name and the Internet password in the Person document"
    )]
    LoginRefused { url: String, user: String },
    #[error(
        "{url}: `{user}` is logged in, but may not read cldbdir.nsf: give this user Reader access to cldbdir.nsf on every \
         server of the cluster (docs/directory.md)"
    )]
    NoReader { url: String, user: String },
    #[error("{0}")]
    Unreadable(String),
    #[error(
        "the servers are {members}, but neither names.nsf nor the Redirect command gives the address of any: create the \
         view `ICM Servers` (docs/directory.md, section 3), or write the file by hand (docs/first-cluster.md)"
    )]
    NoAddresses { members: String },
}

impl InitError {
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => EXIT_USAGE,
            Self::Resolve { .. } | Self::Unreachable { .. } => 1,
            _ => EXIT_PROBLEM,
        }
    }
}
