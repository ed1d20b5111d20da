//! Finds the address of a server among those of its Notes ports.
//!
//! A Server document lists them for Notes, and HTTP is expected at the one that clients use.

use std::net::IpAddr;

use crate::config::settings::{Column, NamesColumns};
use crate::discovery::domino::view_entries::Row;
use crate::util::host::is_resolvable;

/// The name of the Notes port for TCP/IP on every server that was set up by Domino's own setup.
const TCPIP_PORT: &str = "TCPIP";

/// The address of the port `TCPIP`. `NetAddresses` lists one address for each Notes port of `Ports`, in the same order, and
/// a private port for cluster traffic may be the first. Code of HCL takes the entry of `TCPIP` too (`LookupProvider` in
/// <https://github.com/OpenNTF/XPagesExtensionLibrary>).
///
/// If the port cannot be told, it is the first IP address, else the first host name, with a warning if there are several.
pub(super) fn find_address(row: &Row, columns: &NamesColumns) -> (Option<String>, Option<String>) {
    let values = row.values(&columns.address).or_else(|| match &columns.address {
        // The name of the item, which views without our formula show.
        Column::Name(name) if name.eq_ignore_ascii_case("NetAddress") => {
            row.values(&Column::Name("NetAddresses".to_owned()))
        }
        _ => None,
    });
    let hosts: Vec<&str> =
        values.unwrap_or_default().iter().map(|value| without_port(value.trim())).collect();
    let listed = hosts.iter().filter(|host| !host.is_empty()).count();
    let is_usable = |host: &&&str| host.parse::<IpAddr>().is_ok() || is_resolvable(host);
    let ip = || hosts.iter().find(|host| host.parse::<IpAddr>().is_ok());
    let first = || ip().or_else(|| hosts.iter().find(is_usable)).map(|host| (*host).to_owned());
    match tcpip_position(row, &columns.ports, hosts.len()) {
        Ok(position) => {
            let host = hosts.get(position).filter(is_usable).map(|host| (*host).to_owned());
            let warning = host
                .is_none()
                .then(|| "the address of port TCPIP is not usable, so the host name is used".to_owned());
            (host, warning)
        }
        Err(reason) if listed > 1 => {
            let host = first();
            let used = host.as_deref().unwrap_or("none");
            let warning = format!("{listed} addresses are listed, but {reason}: {used} is used");
            (host, Some(warning))
        }
        Err(_) => (first(), None),
    }
}

/// The position of the port `TCPIP` in the list of ports, or why it cannot be told.
fn tcpip_position(row: &Row, column: &Column, addresses: usize) -> Result<usize, String> {
    let ports = row.values(column).ok_or("the view shows no ports")?;
    if ports.len() != addresses {
        return Err(format!("the number of ports is {}", ports.len()));
    }
    let is_tcpip = |port: &String| port.trim().eq_ignore_ascii_case(TCPIP_PORT);
    ports.iter().position(is_tcpip).ok_or_else(|| "no port is named TCPIP".to_owned())
}

/// Removes the port of `10.0.0.11:1352` and the brackets of `[::1]`.
fn without_port(text: &str) -> &str {
    if text.parse::<IpAddr>().is_ok() {
        return text;
    }
    if let Some((inner, _)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return inner;
    }
    match text.split_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => host,
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::discovery::domino::view_entries::ColumnValue;

    fn find(addresses: &[&str], ports: Option<&[&str]>) -> (Option<String>, Option<String>) {
        let column = |number, values: &[&str]| ColumnValue {
            number,
            name: String::new(),
            values: values.iter().map(|value| (*value).to_owned()).collect(),
        };
        let columns =
            [Some(column(2, addresses)), ports.map(|ports| column(3, ports))].into_iter().flatten().collect();
        let unused = || Column::Number(99);
        let layout = NamesColumns {
            name: unused(),
            hostname: unused(),
            address: Column::Number(2),
            ports: Column::Number(3),
            cluster: unused(),
            http_port: unused(),
            http_status: unused(),
            https_port: unused(),
            https_status: unused(),
            site: unused(),
        };
        find_address(&Row { columns, ..Row::default() }, &layout)
    }

    #[test]
    fn addresses_are_found_in_lists_with_and_without_ports() {
        let pick = |values: &[&str]| find(values, None).0;
        assert_eq!(pick(&["web1.acme.example", "10.0.0.11"]).as_deref(), Some("10.0.0.11"));
        assert_eq!(pick(&["", "web1/acme", "web1.acme.example:1352"]).as_deref(), Some("web1.acme.example"));
        assert_eq!(pick(&["10.0.0.11:1352"]).as_deref(), Some("10.0.0.11"));
        assert_eq!(pick(&["[::1]:1352"]).as_deref(), Some("::1"));
        assert_eq!(pick(&["::1"]).as_deref(), Some("::1"));
        assert_eq!(pick(&["Web 1", "/"]), None);
    }

    #[test]
    fn the_address_of_port_tcpip_is_taken_wherever_it_is_listed() {
        for (addresses, ports, expected) in [
            (&["192.168.9.1", "10.0.0.11"][..], &["CLUSTER", "TCPIP"][..], "10.0.0.11"),
            (&["10.0.0.11", "192.168.9.1"], &["tcpip", "Cluster"], "10.0.0.11"),
            (&["192.168.9.1", "web1.acme.example:1352"], &["CLUSTER", " TcpIp "], "web1.acme.example"),
            (&["", "192.168.9.1", "10.0.0.11"], &["LAN0", "CLUSTER", "TCPIP"], "10.0.0.11"),
            (&["10.0.0.11"], &["TCPIP"], "10.0.0.11"),
        ] {
            assert_eq!(find(addresses, Some(ports)), (Some(expected.to_owned()), None), "{ports:?}");
        }
    }

    #[test]
    fn several_addresses_are_a_warning_if_the_port_cannot_be_told() {
        let both = ["192.168.9.1", "10.0.0.11"];
        for (ports, reason) in [
            (None, "the view shows no ports"),
            (Some(&["TCPIP"][..]), "the number of ports is 1"),
            (Some(&["CLUSTER", "TCPIP", "LAN0"]), "the number of ports is 3"),
            (Some(&["CLUSTER", "TCPIP2"]), "no port is named TCPIP"),
        ] {
            let (address, warning) = find(&both, ports);
            assert_eq!(address.as_deref(), Some("192.168.9.1"), "{ports:?}");
            let warning = warning.unwrap();
            assert!(warning.contains(reason) && warning.contains("192.168.9.1 is used"), "{warning}");
        }
    }

    #[test]
    fn a_single_address_needs_no_port() {
        for ports in [None, Some(&["CLUSTER"][..]), Some(&["TCPIP", "CLUSTER"]), Some(&[])] {
            assert_eq!(find(&["10.0.0.11"], ports), (Some("10.0.0.11".to_owned()), None), "{ports:?}");
            assert_eq!(find(&["10.0.0.11", ""], ports).0.as_deref(), Some("10.0.0.11"), "{ports:?}");
        }
    }

    #[test]
    fn an_unusable_address_of_port_tcpip_is_not_replaced_by_that_of_another_port() {
        let (address, warning) = find(&["192.168.9.1", "Web 1"], Some(&["CLUSTER", "TCPIP"]));
        assert_eq!(address, None);
        assert!(warning.unwrap().contains("not usable"));
    }
}
