//! The cryptography of TLS, toward clients and toward servers: AWS-LC, because it signs with RSA keys and agrees on keys
//! in half the time that ring takes.
//!
//! In: nothing. Out: what rustls computes with. It has no settings: suites and versions are chosen where TLS is set up.

use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));

/// What rustls computes with.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::clone(&PROVIDER)
}

/// Makes it the choice of whoever makes none, as Pingora's connections to servers do. To be called before Pingora
/// chooses for itself.
pub fn install() {
    // It was chosen before: then it stays.
    let _ = aws_lc_rs::default_provider().install_default();
}
