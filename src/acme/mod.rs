//! Certificates by ACME (RFC 8555): `order` gets one, `storage` keeps it, `challenges` are what the ACME server may ask for
//! meanwhile, and `leader` asks a followed ICM for both. `server` decides when; the times are in `domain::renewal`.

pub mod certificate;
pub mod challenges;
mod https;
pub mod leader;
pub mod order;
pub mod record;
pub mod state;
pub mod storage;

pub use state::AcmeState;
