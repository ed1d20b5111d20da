//! What Domino says about servers: names, ports, state, availability.
//!
//! [`ServerName`] is who, [`ServerState`] how, [`Facts`] what a source reports, [`ledger::Ledger`]
//! merges it all for one server, [`Member`] carries it and the live counters for the request path.

pub mod availability;
pub mod counters;
pub mod facts;
mod host_port;
mod indexes;
mod keep_alive;
pub mod ledger;
pub mod load;
pub mod member;
pub mod name;
pub mod state;
pub mod view;

pub use facts::{Administrative, Facts, Operational};
pub use host_port::HostPort;
pub use keep_alive::KeepAlive;
pub use ledger::{Ledger, Restriction, Standing};
pub use member::{InFlight, Member};
pub use name::{ServerName, ServerNameError};
pub use state::{Port, ServerState, Transition};
pub use view::View;
