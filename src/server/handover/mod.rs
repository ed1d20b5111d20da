//! The hand-over of a running balancer to a new process: upgrades without a refused connection.
//!
//! In: USR2 in the old process ([`upgrade`]), which starts the new one with a socket as its standard input; in
//! the new process whatever comes through that ([`inheritance`]). Out: the same listening sockets in both, then
//! only in the new one. Until the new process has opened its listeners nothing about the old one changes, and
//! whatever goes wrong before that ends the new one.
//!
//! The talk, one JSON object a line ([`channel`]): the old one makes its [`HandoverOffer`], with the sockets; the new
//! one says [`ChildMessage::Hello`] at once, [`ChildMessage::Ready`] when it knows enough to serve; the old one answers
//! [`Proceed`]; the new one opens its listeners and says [`ChildMessage::Serving`]; the old one accepts nothing from then on.
//! Versions differ at the two ends: a field or a word is only ever added.

pub mod channel;
pub mod child;
pub mod parent;

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use child::HandoverChild;
pub use parent::HandoverParent;

use crate::state::restrictions_file::KeptRestriction;

/// The variable that tells a process who hands over to it: the pid of its parent.
pub const PARENT_PID_VARIABLE: &str = "ICM_UPGRADE_FROM";

/// From the start of the new program to its first word, which it says before it does anything else.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the new process tries to become ready.
pub const PROBING_TIMEOUT: Duration = Duration::from_secs(30);
/// From its first word to its being ready: reading its files, resolving names, hearing of the ICM that it follows,
/// and [`PROBING_TIMEOUT`].
pub const READY_TIMEOUT: Duration = Duration::from_secs(90);
/// For each step after that, which waits for nobody else.
pub const STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// What the old process hands over, behind its sockets.
#[derive(Debug, Serialize, Deserialize)]
pub struct HandoverOffer {
    /// The addresses of the sockets, in the order in which these come.
    pub sockets: Vec<SocketAddr>,
    /// The generated affinity key: sessions go on where no `state_dir` keeps it.
    pub affinity_key: Vec<u8>,
    /// The old process is ready; so the new one has to be, too.
    pub parent_is_ready: bool,
}

/// What the new process says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "lowercase")]
pub enum ChildMessage {
    /// It runs, and understands.
    Hello {
        /// Of the program.
        version: String,
    },
    /// It cannot take over, and ends.
    Failed {
        /// For the administrator.
        reason: String,
    },
    /// It knows enough to serve.
    Ready,
    /// Its listeners are open.
    Serving,
}

/// The old process lets go; what changed in the meantime comes along.
#[derive(Debug, Serialize, Deserialize)]
pub struct Proceed {
    /// What administrators have restricted.
    pub restrictions: Vec<KeptRestriction>,
    /// A HUP came after the new process was started: it reads its configuration again.
    pub reload: bool,
}
