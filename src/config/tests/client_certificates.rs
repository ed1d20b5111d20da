//! `client_certificates` of a listener, and the servers that get a client's certificate.

use super::super::settings::*;
use super::super::{ConfigErrors, load_with};
use super::support::{FULL_FILES, cluster, load};

const TLS: &str = "certificates: [{ cert: /etc/icm/tls/icm.pem, key: /etc/icm/tls/icm.key }]";

/// A good file whose listener has TLS with this; the cluster begins in line 2.
fn listener(client_certificates: &str) -> String {
    let tls = format!("127.0.0.1:8080, tls: {{ {TLS}, {client_certificates} }} }}");
    cluster("").replace("127.0.0.1:8080 }", &tls)
}

/// A file with a listener that asks for certificates, and a server with these keys in a cluster with these.
fn server(keys: &str, cluster_keys: &str) -> String {
    let text = listener("client_certificates: { ca_file: /etc/icm/tls/clients.pem }");
    text.replace("http: 10.0.0.11:80", keys) + cluster_keys
}

#[track_caller]
fn error(text: &str, line: usize, key: &str, parts: &[&str]) {
    let errors = load_with(std::path::Path::new("icm.yaml"), text, &*FULL_FILES).map(|_| ()).unwrap_err().0;
    let shown = ConfigErrors(errors.clone()).to_string();
    assert_eq!(errors.len(), 1, "{shown}");
    assert_eq!((errors[0].line, &*errors[0].key), (line, key), "{shown}");
    assert!(errors[0].column > 1 && parts.iter().all(|part| shown.contains(part)), "{shown}");
}

fn warnings(text: &str) -> Vec<String> {
    load(text).unwrap().warnings.into_iter().map(|warning| warning.text).collect()
}

fn client_certificates(text: &str) -> Option<ClientCertificates> {
    load(text).unwrap().settings.listeners.remove(0).tls.unwrap().client_certificates
}

#[test]
fn a_certificate_is_required_unless_it_is_only_requested() {
    assert_eq!(client_certificates(&listener("h2: true")), None);
    for (mode, expected) in [
        ("", ClientCertificateMode::Require),
        (", mode: require", ClientCertificateMode::Require),
        (", mode: request", ClientCertificateMode::Request),
    ] {
        let text = listener(&format!("client_certificates: {{ ca_file: /etc/icm/tls/clients.pem{mode} }}"));
        let read = client_certificates(&text).unwrap();
        assert_eq!((read.mode, read.ca.len()), (expected, 1), "{mode}");
    }
}

#[test]
fn wrong_client_certificates_are_errors() {
    let key = |name: &str| format!("listeners[0].tls.{name}");
    for (wrong, at, parts) in [
        (
            "client_ca_file: /etc/icm/tls/clients.pem",
            "client_ca_file",
            &["renamed", "client_certificates: { ca_file"][..],
        ),
        ("client_certificates: { mode: request }", "client_certificates.ca_file", &["is missing"]),
        (
            "client_certificates: /etc/icm/tls/clients.pem",
            "client_certificates",
            &["a map with ca_file, mode"],
        ),
        (
            "client_certificates: { ca_file: /etc/icm/tls/clients.pem, mode: requested }",
            "client_certificates.mode",
            &["did you mean `request`?"],
        ),
        (
            "client_certificates: { ca_file: /etc/icm/tls/icm.key }",
            "client_certificates.ca_file",
            &["no certificate"],
        ),
        (
            "client_certificates: { ca_file: /etc/icm/tls/clients.pem, crl_file: /x }",
            "client_certificates.crl_file",
            &["unknown key"],
        ),
    ] {
        error(&listener(wrong), 1, &key(at), parts);
    }
    // Without `ca_file` nobody could be verified, so that the key is never taken as "off".
    assert!(load(&listener("client_certificates:")).is_err());
}

#[test]
fn a_server_gets_certificates_only_over_https() {
    let (both, http) = ("http: 10.0.0.11:80, https: 10.0.0.11:443", "http: 10.0.0.11:80");
    let with =
        |ports: &str, more: &str| server(&format!("{ports}, connector_headers: client_certificate"), more);
    let key = "clusters[0].servers.list[0].connector_headers";
    error(&with(both, ""), 6, key, &["needs HTTPS to the server", "write `upstream_scheme: https`"]);
    for scheme in ["https", "same"] {
        let more = format!("    upstream_scheme: {scheme}\n");
        error(&with(http, &more), 6, key, &["needs HTTPS to the server", "write `https: HOST:PORT`"]);
        let settings = load(&with(both, &more)).unwrap().settings;
        let Servers::Static(servers) = &settings.clusters[0].servers else { panic!("static servers") };
        assert_eq!(servers[0].connector_headers, ConnectorHeaders::ClientCertificate);
    }
    let text = server(&format!("{both}, connector_headers: client-certificate"), "");
    error(&text, 6, key, &["did you mean `client_certificate`?", "off | safe | client_certificate"]);
}

#[test]
fn who_else_could_send_a_certificate_and_what_has_no_effect_are_warnings() {
    let keys = "http: 10.0.0.11:80, https: 10.0.0.11:443, connector_headers: client_certificate";
    let https = "    upstream_scheme: https\n";
    let text = server(keys, https);
    let found = warnings(&text);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].contains("10.0.0.11:80, 10.0.0.11:443") && found[0].contains("only the ICMs"),
        "{found:?}"
    );
    // Without a listener that asks, nobody shows one.
    let silent = text.replace(", client_certificates: { ca_file: /etc/icm/tls/clients.pem }", "");
    let found = warnings(&silent);
    assert!(found.iter().any(|text| text.contains("no listener has `tls.client_certificates`")), "{found:?}");
    let redirect = warnings(&server(keys, "    mode: redirect\n"));
    assert_eq!(redirect.len(), 1, "{redirect:?}");
    assert!(redirect[0].contains("no effect with mode: redirect"), "{redirect:?}");
    assert!(warnings(&server("https: 10.0.0.11:443, connector_headers: safe", https)).is_empty());
}
