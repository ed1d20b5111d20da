//! Small helpers that every layer may use. They know nothing of Domino, the configuration or a request.

pub mod address;
pub mod clock;
pub mod crypto;
pub mod descriptor;
pub mod durable;
pub mod host;
pub(crate) mod percent;
pub mod token;
pub mod visible;
