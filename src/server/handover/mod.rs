//! The handover of a running balancer to a new process: an upgrade without a refused connection. Until the new process
//! has opened its listeners the old one does not change, and every failure before that ends the new process.
//!
//! USR2 makes the old process ([`parent`]) start the new one ([`child`]) with a Unix socket as its standard input. They
//! exchange one JSON object per line ([`channel`]). The old process sends the listening sockets and a [`HandoverOffer`].
//! The new one answers [`ChildMessage::Hello`] at once and [`ChildMessage::Ready`] when it can serve. The old one sends
//! [`Proceed`]; the new one opens its listeners and sends [`ChildMessage::Serving`]; the old one stops accepting. The two
//! may have different versions, so fields and messages are only ever added.

pub mod channel;
pub mod child;
pub mod parent;

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use child::HandoverChild;
pub use parent::HandoverParent;

use crate::edge::session_tickets::InheritedTicketKeys;
use crate::state::catch_up::kept::KeptCatchUp;
use crate::state::restrictions_file::KeptRestriction;

/// The environment variable with the pid of the process that hands over.
pub const PARENT_PID_VARIABLE: &str = "ICM_UPGRADE_FROM";

/// From the start of the new process to its first message, which it sends before it does anything else.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Limits how long the new process reads directories and probes servers.
pub const PROBING_TIMEOUT: Duration = Duration::from_secs(30);
/// From Hello to Ready: reading files, resolving names, asking the followed ICM, and [`PROBING_TIMEOUT`].
pub const READY_TIMEOUT: Duration = Duration::from_secs(90);
/// For each later step, which depends on no other machine.
pub const STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// What the old process hands over, sent after its sockets.
#[derive(Debug, Serialize, Deserialize)]
pub struct HandoverOffer {
    /// The addresses of the sockets, in the order of the sockets.
    pub sockets: Vec<SocketAddr>,
    /// The generated affinity key, so that sessions survive even without a `state_dir`.
    pub affinity_key: Vec<u8>,
    /// The generated keys of session tickets; an older process sends none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket_keys: Option<InheritedTicketKeys>,
    /// If the old process is ready, the new one must become ready before it takes over.
    #[serde(rename = "ready")]
    pub parent_is_ready: bool,
}

/// The messages of the new process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "lowercase")]
pub enum ChildMessage {
    Hello {
        version: String,
    },
    /// The new process cannot take over, and ends.
    Failed {
        reason: String,
    },
    Ready,
    /// The listeners of the new process are open.
    Serving,
}

/// The old process allows the new one to serve, and sends what has changed since the offer.
#[derive(Debug, Serialize, Deserialize)]
pub struct Proceed {
    pub restrictions: Vec<KeptRestriction>,
    /// Outages and gates; an older process sends none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub catching_up: Vec<KeptCatchUp>,
    /// A HUP came after the start of the new process, which must read its configuration again.
    pub reload: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_the_names_that_processes_of_other_versions_read() {
        let text = r#"{"sockets":["127.0.0.1:80"],"affinity_key":[1],"ready":true}"#;
        let offer: HandoverOffer = serde_json::from_str(text).unwrap();
        assert!(offer.parent_is_ready);
        assert_eq!(serde_json::to_string(&offer).unwrap(), text);
        let hello = ChildMessage::Hello { version: "1".to_owned() };
        assert_eq!(serde_json::to_string(&hello).unwrap(), r#"{"say":"hello","version":"1"}"#);
        let failed = ChildMessage::Failed { reason: "x".to_owned() };
        assert_eq!(serde_json::to_string(&failed).unwrap(), r#"{"say":"failed","reason":"x"}"#);
        assert_eq!(serde_json::to_string(&ChildMessage::Ready).unwrap(), r#"{"say":"ready"}"#);
        assert_eq!(serde_json::to_string(&ChildMessage::Serving).unwrap(), r#"{"say":"serving"}"#);
        let proceed = Proceed { restrictions: Vec::new(), catching_up: Vec::new(), reload: true };
        assert_eq!(serde_json::to_string(&proceed).unwrap(), r#"{"restrictions":[],"reload":true}"#);
    }
}
