//! Addresses of servers and listeners as both configurations write them.

/// A host with this port, if it has none.
pub(crate) fn with_port(address: &str, port: u16) -> String {
    let has_port = match address.strip_prefix('[') {
        Some(rest) => rest.split_once(']').is_some_and(|(_, behind)| behind.starts_with(':')),
        None => address.contains(':'),
    };
    if has_port { address.to_owned() } else { format!("{address}:{port}") }
}

/// The host of an address; an IPv6 address without brackets.
pub(crate) fn host_of(address: &str) -> &str {
    match address.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => address.rsplit_once(':').map_or(address, |(host, _)| host),
    }
}

/// The address of `listen`, or of `bind`; `None` for sockets in the file system and ranges of ports.
pub(crate) fn listen_address(text: &str) -> Option<String> {
    if text.starts_with("unix") || text.contains('$') || text.is_empty() {
        return None;
    }
    if text.parse::<u16>().is_ok() {
        return Some(format!("0.0.0.0:{text}"));
    }
    let with_port = with_port(text, 80);
    let (host, port) = with_port.rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    Some(match host {
        "*" | "" => format!("0.0.0.0:{port}"),
        "::" => format!("[::]:{port}"),
        host => format!("{host}:{port}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_to_listen_on_has_a_host_and_a_port() {
        let cases = [
            ("80", Some("0.0.0.0:80")),
            ("*:8080", Some("0.0.0.0:8080")),
            (":443", Some("0.0.0.0:443")),
            ("[::]:443", Some("[::]:443")),
            (":::443", Some("[::]:443")),
            ("10.0.0.1", Some("10.0.0.1:80")),
            ("unix:/run/x", None),
            ("10.0.0.1:8000-8010", None),
        ];
        for (text, address) in cases {
            assert_eq!(listen_address(text).as_deref(), address, "{text}");
        }
        assert_eq!((host_of("[2001:db8::1]:80"), host_of("web1:80")), ("2001:db8::1", "web1"));
        assert_eq!(with_port("[::1]", 80), "[::1]:80");
    }
}
