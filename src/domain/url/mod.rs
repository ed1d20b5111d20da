//! The Domino URL: which database a request names, which object in it, and what the request does.
//!
//! A request is routed by one reading of its path and forwarded byte for byte, so a path that a server could read as
//! another database is refused ([`Hazard`]). Either slash, plain or encoded once, repeated slashes and case make no
//! difference. What follows the database is left to Domino. Parsing a usual target does not allocate.
//!
//! Grammar: `/DatabasePart/DominoObject?Action&Arguments`
//! (<https://help.hcltechsw.com/dom_designer/9.0.1/appdev/H_ABOUT_DOMINO_URL_COMMANDS_4332.html>).

mod absolute;
mod argument;
mod command;
mod database_name;
mod lenient;
mod locator;
mod meaning;
mod safety;
mod target;
mod usual_path;

pub use absolute::split_absolute_url;
pub use argument::{any_argument, find_argument};
pub use command::{Command, ServerCommand};
pub use locator::Locator;
pub use safety::{DEFAULT_UNSAFE_COMMANDS, RequestSafety, UnsafeCommands};
pub use target::{DatabasePart, Hazard, Target, parse};
