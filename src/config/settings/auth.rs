//! How readers log in to Domino.

use super::Secret;

/// How to log in to a Domino server. The loader has refused passwords in clear text unless they are allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Not at all: Domino knows us as Anonymous.
    None,
    /// By the header `Authorization: Basic`.
    Basic {
        /// The name of the Domino user.
        user: String,
        /// The content of the password file, without its line end.
        password: Secret,
    },
    /// By `names.nsf?Login`, and its session cookie afterwards.
    Session {
        /// The name of the Domino user.
        user: String,
        /// The content of the password file, without its line end.
        password: Secret,
    },
}
