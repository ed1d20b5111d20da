//! The Domino URL: which database a request names, where in it, and what is to be done.
//!
//! In: the origin-form request target (`/sales/leads.nsf/0/8FA?OpenDocument&Login`) as octets, and
//! the administrator's list of acting commands. Out: a [`Target`] that borrows from it, and its
//! [`Class`]. Nothing here allocates for the common case, panics on any octets, knows a host, a
//! server or a directory, or changes a single octet of what it reads.
//!
//! Grammar: `/Database/DominoObject?Action&Arguments`
//! (<https://help.hcltechsw.com/dom_designer/9.0.1/appdev/H_ABOUT_DOMINO_URL_COMMANDS_4332.html>).

mod absolute;
mod argument;
mod class;
mod command;
mod locator;
mod percent;
mod target;

pub use absolute::path_and_query_of_absolute;
pub use argument::argument;
pub use class::{Class, CommandTable, DEFAULT_ACTING_COMMANDS};
pub use command::{Command, ServerCommand};
pub use locator::{Locator, Object};
pub(crate) use percent::Decoded;
pub use target::{Database, Hazard, Target, parse};
