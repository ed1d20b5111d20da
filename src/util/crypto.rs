//! The cryptography of rustls, toward clients and toward servers. The cargo feature `aws-lc` selects AWS-LC, which
//! signs with RSA keys and agrees on keys in half the time that ring needs; without the feature it is ring, which
//! builds quickly.

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;
#[cfg(feature = "aws-lc")]
use rustls::crypto::aws_lc_rs as library;
#[cfg(not(feature = "aws-lc"))]
use rustls::crypto::ring as library;
use rustls::{CipherSuite, NamedGroup};

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(library::default_provider()));

/// The crypto provider of every TLS configuration.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::clone(&PROVIDER)
}

/// The provider with these cipher suites and groups only, in this order; an empty list stands for the library's own.
#[must_use]
pub fn restricted_provider(suites: &[CipherSuite], groups: &[NamedGroup]) -> Arc<CryptoProvider> {
    if suites.is_empty() && groups.is_empty() {
        return provider();
    }
    let mut provider = library::default_provider();
    if !suites.is_empty() {
        let all = library::ALL_CIPHER_SUITES;
        let find = |name| all.iter().find(|suite| suite.suite() == name);
        provider.cipher_suites = suites.iter().filter_map(|name| find(*name)).copied().collect();
    }
    if !groups.is_empty() {
        let find = |name| library::ALL_KX_GROUPS.iter().find(|group| group.name() == name);
        provider.kx_groups = groups.iter().filter_map(|name| find(*name)).copied().collect();
    }
    Arc::new(provider)
}

/// Whether the library of this build has the group.
#[must_use]
pub fn has_group(name: NamedGroup) -> bool {
    library::ALL_KX_GROUPS.iter().any(|group| group.name() == name)
}

/// Fills with random bytes; `None` if there are none.
#[must_use]
pub fn fill_random(bytes: &mut [u8]) -> Option<()> {
    PROVIDER.secure_random.fill(bytes).ok()
}

/// Makes the provider the default of the process, which Pingora's connections to servers use. Call it before Pingora
/// installs one itself.
pub fn install() {
    // This fails if a default is already installed, which then stays.
    let _ = library::default_provider().install_default();
}
