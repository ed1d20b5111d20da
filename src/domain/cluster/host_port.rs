//! The host and number of a server's port.

/// A host, which is a name or an address literal, and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// The host without brackets.
    pub host: String,
    /// The port number, never 0.
    pub port: u16,
}

impl HostPort {
    /// The address, if the host is a literal.
    #[must_use]
    pub fn literal_address(&self) -> Option<std::net::SocketAddr> {
        self.host.parse().ok().map(|ip| std::net::SocketAddr::new(ip, self.port))
    }
}

impl std::fmt::Display for HostPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}
