//! Small helpers for every layer, without any knowledge of Domino, the configuration or a request.

pub(crate) mod atomic_file;
pub mod clock;
pub(crate) mod control_chars;
pub mod crypto;
pub mod header_names;
pub(crate) mod host;
pub(crate) mod ip_text;
pub(crate) mod log_interval;
pub(crate) mod media_type;
pub(crate) mod percent;
pub(crate) mod reused_buffer;
pub(crate) mod socket_fd;
pub(crate) mod token;
