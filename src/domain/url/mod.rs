//! The Domino URL: which database a request names, where in it, and what is to be done.
//!
//! In: the origin-form request target (`/sales/leads.nsf/0/8FA?OpenDocument&Login`) as octets, and
//! the administrator's list of acting commands. Out: a [`Target`] that borrows from it, and its
//! [`RequestSafety`]. Nothing here allocates for the common case, panics on any octets, knows a host, a
//! server or a directory, or changes a single octet of what it reads.
//!
//! A request is routed by one reading of its path and forwarded byte for byte, so a path that a server
//! could read as another database is refused: dot segments and control octets in any spelling, and path
//! parameters, double encoding, overlong UTF-8, dots and blanks at the end of a name where they change
//! which database is meant ([`Hazard`]). Slashes of either kind, plain or encoded once, repeated ones and
//! case make no difference. Behind the database the path is Domino's own affair.
//!
//! Grammar: `/DatabasePart/DominoObject?Action&Arguments`
//! (<https://help.hcltechsw.com/dom_designer/9.0.1/appdev/H_ABOUT_DOMINO_URL_COMMANDS_4332.html>).

mod absolute;
mod argument;
mod command;
mod database_name;
mod lenient;
mod locator;
mod safety;
mod target;

pub use absolute::split_absolute_url;
pub use argument::find_argument;
pub use command::{Command, ServerCommand};
pub use locator::{Locator, SpecialId};
pub use safety::{DEFAULT_UNSAFE_COMMANDS, RequestSafety, UnsafeCommands};
pub use target::{DatabasePart, Hazard, Target, parse};
