//! The cryptography of rustls, toward clients and toward servers. The cargo feature `aws-lc` selects AWS-LC, which
//! signs with RSA keys and agrees on keys in half the time that ring needs; without the feature it is ring, which
//! builds quickly.

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;
#[cfg(feature = "aws-lc")]
use rustls::crypto::aws_lc_rs as library;
#[cfg(not(feature = "aws-lc"))]
use rustls::crypto::ring as library;

pub use library::Ticketer;

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(library::default_provider()));

/// The crypto provider of every TLS configuration.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::clone(&PROVIDER)
}

/// Makes the provider the default of the process, which Pingora's connections to servers use. Call it before Pingora
/// installs one itself.
pub fn install() {
    // This fails if a default is already installed, which then stays.
    let _ = library::default_provider().install_default();
}
