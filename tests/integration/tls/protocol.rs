//! Versions, ciphers and curves of a listener, as `openssl` sees them.

use std::net::SocketAddr;

use super::resumption::{count, s_client};
use super::tickets::reload;
use crate::support::*;

/// The version and cipher of a handshake, and the curve; `None` if it fails.
fn negotiates(acme: &Acme, address: SocketAddr, arguments: &[&str]) -> Option<(String, String)> {
    let said = s_client(acme, address, arguments);
    let chosen = said.lines().find_map(|line| line.strip_prefix("New, "))?.to_owned();
    if chosen.contains("(NONE)") {
        assert!(!said.contains("HTTP/1.1"), "{said}");
        return None;
    }
    assert!(said.contains("HTTP/1.1 200") && count(&said, "New, TLSv1.") == 1, "{said}");
    let curve = said.lines().find_map(|line| line.strip_prefix("Server Temp Key: ")).unwrap_or_default();
    Some((chosen.replace("Cipher is ", ""), curve.to_owned()))
}

#[test]
fn a_listener_offers_the_versions_ciphers_and_curves_of_its_configuration_and_a_reload_changes_them() {
    let acme = Acme::built_in();
    let mut config = config(&acme);
    let (secure, other) = (add_tls(&mut config, &acme), add_tls(&mut config, &acme));
    // The certificates of the simulated servers have ECDSA keys.
    let ciphers =
        "[TLS_CHACHA20_POLY1305_SHA256, TLS_AES_256_GCM_SHA384, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]";
    set(&mut config, "listeners.1.tls.ciphers", ciphers);
    set(&mut config, "listeners.1.tls.curves", "[P-384]");
    let icm = Icm::start(config.clone());
    wait_for(secure);
    let get = |arguments: &[&str]| negotiates(&acme, secure, arguments);
    let both = ["-ciphersuites", "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"];
    let (chosen, curve) = get(&both).unwrap();
    assert_eq!(chosen, "TLSv1.3, TLS_CHACHA20_POLY1305_SHA256", "the order of the listener counts");
    assert!(curve.contains("secp384r1"), "{curve}");
    assert_eq!(get(&["-tls1_2"]).unwrap().0, "TLSv1.2, ECDHE-ECDSA-AES128-GCM-SHA256");
    assert_eq!(get(&["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384"]), None);
    assert_eq!(get(&["-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256"]), None);
    assert_eq!(get(&["-groups", "X25519:P-256"]), None);
    let cbc = "ECDHE-ECDSA-AES256-SHA384:ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0";
    assert_eq!(get(&["-tls1_2", "-cipher", cbc]), None);

    set(&mut config, "listeners.1.tls.min_version", "\"1.3\"");
    set(&mut config, "listeners.1.tls.ciphers", "TLS_AES_128_GCM_SHA256");
    set(&mut config, "listeners.1.tls.curves", "[X25519]");
    assert_eq!(reload(&icm, &config)["restart_required"], serde_json::json!([]));
    let (chosen, curve) = get(&both[..0]).unwrap();
    assert_eq!(chosen, "TLSv1.3, TLS_AES_128_GCM_SHA256");
    assert!(curve.contains("X25519"), "{curve}");
    assert_eq!(get(&["-tls1_2"]), None);
    assert!(negotiates(&acme, other, &["-tls1_2"]).is_some(), "another listener keeps its own");

    set(&mut config, "listeners.1.tls.ciphers", "[ECDHE-ECDSA-AES128-SHA]");
    let refused = reload(&icm, &config);
    assert_eq!(refused["success"], false);
    let error = refused["error"].as_str().unwrap();
    assert!(error.contains("listeners[1].tls.ciphers[0]") && error.contains("CBC"), "{error}");
    assert_eq!(get(&[]).unwrap().0, "TLSv1.3, TLS_AES_128_GCM_SHA256");
}
