//! Where a port of a server is: a host and a port number.

/// Host (name or address literal) and port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// Without brackets.
    pub host: String,
    /// 1..=65535.
    pub port: u16,
}

impl HostPort {
    /// The address, where the host is a literal and needs no resolver.
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
