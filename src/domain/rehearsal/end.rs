//! Why a rehearsal ends, and which states of the servers allow one: the same conditions hold at its start and until its end.

use crate::domain::cluster::ServerState;

/// Why a rehearsal has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RehearsalEnd {
    /// It ran for the time that was asked for.
    Time,
    /// The moved users had more errors than those who stayed.
    Errors,
    /// An administrator stopped it.
    Stopped,
    /// The server is UNREACHABLE for everyone: this is an outage.
    ServerUnreachable,
    /// The server takes no new users, so that nothing could be compared.
    ServerNotServing,
    /// Another server of the cluster is UNREACHABLE.
    OtherServerUnreachable,
    /// No other server is AVAILABLE any more.
    NoTakeover,
    /// A reload removed the server or its cluster, or users cannot be told apart any more.
    Reload,
    /// The process ends, or a new one has taken over.
    Shutdown,
}

impl RehearsalEnd {
    /// All of them, in the order of the metric.
    pub const ALL: [Self; 9] = [
        Self::Time,
        Self::Errors,
        Self::Stopped,
        Self::ServerUnreachable,
        Self::ServerNotServing,
        Self::OtherServerUnreachable,
        Self::NoTakeover,
        Self::Reload,
        Self::Shutdown,
    ];

    /// The word in JSON and in the metric.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Errors => "errors",
            Self::Stopped => "stopped",
            Self::ServerUnreachable => "server_unreachable",
            Self::ServerNotServing => "server_not_serving",
            Self::OtherServerUnreachable => "other_server_unreachable",
            Self::NoTakeover => "no_takeover",
            Self::Reload => "reload",
            Self::Shutdown => "shutdown",
        }
    }
}

/// A server of the cluster other than the rehearsed one.
#[derive(Clone, Debug)]
pub struct OtherServer {
    /// The abbreviated name, such as `Web2/Acme`.
    pub name: String,
    /// The state at this moment.
    pub state: ServerState,
    /// Whether the site rules let it take users of the rehearsed server.
    pub may_take_over: bool,
}

/// A state of the servers in which nobody should rehearse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServersProblem {
    /// It ends a rehearsal with [`RehearsalEnd::ServerUnreachable`].
    #[error("{0} is UNREACHABLE: this is an outage, not a rehearsal")]
    ServerUnreachable(String),
    /// It ends a rehearsal with [`RehearsalEnd::ServerNotServing`].
    #[error("{0} is {1}: it takes no new users now")]
    ServerNotServing(String, ServerState),
    /// It ends a rehearsal with [`RehearsalEnd::OtherServerUnreachable`].
    #[error("{0} is UNREACHABLE: with two servers away the others may not be enough")]
    OtherServerUnreachable(String),
    /// It ends a rehearsal with [`RehearsalEnd::NoTakeover`].
    #[error("no other server can take over: {0}")]
    NoTakeover(String),
}

impl ServersProblem {
    /// How a rehearsal that runs ends.
    #[must_use]
    pub fn end(&self) -> RehearsalEnd {
        match self {
            Self::ServerUnreachable(_) => RehearsalEnd::ServerUnreachable,
            Self::ServerNotServing(..) => RehearsalEnd::ServerNotServing,
            Self::OtherServerUnreachable(_) => RehearsalEnd::OtherServerUnreachable,
            Self::NoTakeover(_) => RehearsalEnd::NoTakeover,
        }
    }
}

/// Checks that the server serves, that no other server is UNREACHABLE, and that at least one of them is AVAILABLE.
///
/// # Errors
/// The first condition that does not hold.
pub fn check_servers(server: &str, state: ServerState, others: &[OtherServer]) -> Result<(), ServersProblem> {
    match state {
        ServerState::Unreachable => return Err(ServersProblem::ServerUnreachable(server.to_owned())),
        ServerState::Restricted | ServerState::CatchingUp => {
            return Err(ServersProblem::ServerNotServing(server.to_owned(), state));
        }
        ServerState::Available | ServerState::Busy | ServerState::MaxUsers => {}
    }
    if let Some(away) = others.iter().find(|other| other.state == ServerState::Unreachable) {
        return Err(ServersProblem::OtherServerUnreachable(away.name.clone()));
    }
    if others.iter().any(|other| other.may_take_over && other.state == ServerState::Available) {
        return Ok(());
    }
    let list = |other: &OtherServer| match other.may_take_over {
        true => format!("{} is {}", other.name, other.state),
        false => format!("{} is of another site, and cross_sites is never", other.name),
    };
    let all: Vec<String> = others.iter().map(list).collect();
    let text = if all.is_empty() { "the cluster has one server".to_owned() } else { all.join(", ") };
    Err(ServersProblem::NoTakeover(text))
}
