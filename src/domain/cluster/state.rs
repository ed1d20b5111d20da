//! The five states of a server in the administrator's words, and the transitions between them.

use std::fmt;

/// AVAILABLE, BUSY, MAXUSERS, RESTRICTED, UNREACHABLE: the words that administrators know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum ServerState {
    /// Serves all users.
    Available = 0,
    /// Index at or under its threshold: serves when no AVAILABLE server can.
    Busy = 1,
    /// Its user limit is reached: serves when no AVAILABLE server can. The limit governs Notes clients only
    /// (<https://help.hcl-software.com/domino/10.0.1/conf_failoverandworkloadbalancing_c.html>).
    MaxUsers = 2,
    /// Serves only users that are already on it, for a limited time.
    Restricted = 3,
    /// No port that requests use answers.
    Unreachable = 4,
}

impl ServerState {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 5] =
        [Self::Available, Self::Busy, Self::MaxUsers, Self::Restricted, Self::Unreachable];

    /// `AVAILABLE`, `BUSY`, `MAXUSERS`, `RESTRICTED`, `UNREACHABLE`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Available => "AVAILABLE",
            Self::Busy => "BUSY",
            Self::MaxUsers => "MAXUSERS",
            Self::Restricted => "RESTRICTED",
            Self::Unreachable => "UNREACHABLE",
        }
    }
}

impl fmt::Display for ServerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A server left one state for another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The state it left.
    pub old: ServerState,
    /// The state it is in.
    pub new: ServerState,
    /// Why, in words for the administrator.
    pub cause: String,
    /// How long the old state held, in milliseconds.
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
    /// `http` or `https`.
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
