//! What a listener offers in a TLS handshake. It is separate from the listener, because names are checked against the
//! cryptographic library.

use rustls::{CipherSuite, NamedGroup};

/// The oldest version that a listener accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246), which every browser of the last ten years has.
    #[default]
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

/// Versions, cipher suites and groups. The loader has checked that every version is left with some of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsProtocol {
    /// The oldest version that clients may use.
    pub min_version: TlsVersion,
    /// In the order of preference; empty: those of the library.
    pub suites: Vec<CipherSuite>,
    /// For the key exchange; empty: those of the library. The client's order decides.
    pub groups: Vec<NamedGroup>,
}
