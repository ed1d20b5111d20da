//! The TLS cryptography, toward clients and toward servers. The cargo feature `aws-lc` chooses AWS-LC, which signs with
//! RSA keys and agrees on keys in half the time that ring needs; without the feature it is ring, which is quick to build.
//!
//! In: nothing. Out: what rustls computes with. It has no settings: suites and versions are chosen where TLS is set up.

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;
#[cfg(feature = "aws-lc")]
use rustls::crypto::aws_lc_rs as library;
#[cfg(not(feature = "aws-lc"))]
use rustls::crypto::ring as library;

pub use library::Ticketer;

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(library::default_provider()));

/// What rustls computes with.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::clone(&PROVIDER)
}

/// Makes it the process's default, which Pingora's connections to servers use. Must be called before Pingora chooses
/// one itself.
pub fn install() {
    // A default that was set before stays.
    let _ = library::default_provider().install_default();
}
