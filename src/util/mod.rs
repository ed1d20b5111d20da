//! Small helpers that every layer may use. They know nothing of Domino, the configuration or a request.

pub mod atomic_file;
pub mod clock;
pub mod control_chars;
pub mod crypto;
pub mod host;
pub mod ip_text;
pub(crate) mod percent;
pub mod socket_fd;
pub mod token;
