//! The states of a server and the transitions between them: the five that Domino administrators know, and CATCHING UP,
//! which only a balancer needs.

use std::fmt;

/// The state of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum ServerState {
    /// The server serves all users.
    Available = 0,
    /// Its index is at or under the threshold: it serves if no AVAILABLE server can.
    Busy = 1,
    /// Its user limit is reached: it serves if no AVAILABLE server can. In Domino the limit is for Notes clients only
    /// (<https://help.hcl-software.com/domino/10.0.1/conf_failoverandworkloadbalancing_c.html>).
    MaxUsers = 2,
    /// It serves only users that are already on it, for a limited time.
    Restricted = 3,
    /// None of the ports that requests use answers.
    Unreachable = 4,
    /// It returned after an outage, and nothing shows yet that its replicas have the changes made meanwhile. It serves
    /// if no other server can, after BUSY and MAXUSERS ones.
    CatchingUp = 5,
}

impl ServerState {
    /// All states in the order of their numbers.
    pub const ALL: [Self; 6] =
        [Self::Available, Self::Busy, Self::MaxUsers, Self::Restricted, Self::Unreachable, Self::CatchingUp];

    /// The name as Domino spells it, or would.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Available => "AVAILABLE",
            Self::Busy => "BUSY",
            Self::MaxUsers => "MAXUSERS",
            Self::Restricted => "RESTRICTED",
            Self::Unreachable => "UNREACHABLE",
            Self::CatchingUp => "CATCHING UP",
        }
    }
}

impl fmt::Display for ServerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A change of the state of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The state before the change.
    pub old: ServerState,
    /// The state after the change.
    pub new: ServerState,
    /// The reason, for the administrator.
    pub cause: String,
    /// Duration of the old state in milliseconds.
    pub held_ms: u64,
}

/// One of the two ports of a Domino web server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Port {
    /// The HTTP port of the Server document.
    Http,
    /// The HTTPS port of the Server document.
    Https,
}

impl Port {
    /// The URL scheme of the port.
    #[must_use]
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "HTTP",
            Self::Https => "HTTPS",
        })
    }
}
