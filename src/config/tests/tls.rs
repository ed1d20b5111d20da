//! TLS versions, ciphers, curves, ticket keys and the PROXY protocol of a listener: what is read, and what is refused.

use rustls::{CipherSuite, NamedGroup};

use super::super::settings::{Listener, TlsVersion};
use super::super::{ConfigErrors, Files};
use super::support::{FULL_FILES, cluster, load_from};

const TICKET_KEYS: &str = "\
00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF

  ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff\r
";

/// A file whose first line is a listener with TLS and these keys.
fn with_tls(keys: &str) -> String {
    listener(&format!(
        "tls: {{ certificates: {{ cert: /etc/icm/tls/icm.pem, key: /etc/icm/tls/icm.key }}, {keys} }}"
    ))
}

fn listener(keys: &str) -> String {
    let first = format!("listeners: [{{ address: 127.0.0.1:8443, {keys} }}]");
    cluster("").replace("listeners: [{ address: 127.0.0.1:8080 }]", &first)
}

fn read(text: &str, files: &dyn Files) -> (Listener, Vec<String>) {
    let loaded = load_from(text, files).unwrap_or_else(|e| panic!("{}\n{text}", ConfigErrors(e)));
    let warnings = loaded.warnings.iter().map(ToString::to_string).collect();
    (loaded.settings.listeners[0].clone(), warnings)
}

/// The one error of a file, which is in its first line, has this key and contains these texts.
#[track_caller]
fn wrong(text: &str, key: &str, parts: &[&str]) {
    let errors = load_from(text, &*FULL_FILES).expect_err(text);
    let shown = ConfigErrors(errors.clone()).to_string();
    assert_eq!(errors.len(), 1, "{shown}");
    assert_eq!(
        (errors[0].line, errors[0].key.as_str()),
        (1, format!("listeners[0].{key}").as_str()),
        "{shown}"
    );
    let value = text.lines().next().unwrap().get(errors[0].column - 1..).unwrap();
    assert!(!value.is_empty() && errors[0].column > 30, "{shown}");
    for part in parts {
        assert!(shown.contains(part), "`{part}` is not in:\n{shown}");
    }
}

#[test]
fn ciphers_have_the_names_of_iana_and_openssl_in_any_case_and_the_order_of_the_file() {
    let names = "[tls_chacha20_poly1305_sha256, ECDHE-RSA-AES256-GCM-SHA384, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, \
                 TLS_AES_128_GCM_SHA256, ecdhe-ecdsa-chacha20-poly1305]";
    let keys = format!("min_version: 1.2, ciphers: {names}, curves: [P-384, secp256r1, prime256v1, x25519]");
    let (listener, warnings) = read(&with_tls(&keys), &*FULL_FILES);
    let protocol = listener.tls.unwrap().protocol;
    assert_eq!(warnings, [] as [&str; 0]);
    assert_eq!(protocol.min_version, TlsVersion::Tls12);
    assert_eq!(
        protocol.suites,
        [
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
            CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            CipherSuite::TLS13_AES_128_GCM_SHA256,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        ]
    );
    assert_eq!(protocol.groups, [NamedGroup::secp384r1, NamedGroup::secp256r1, NamedGroup::X25519]);
    let keys =
        "min_version: '1.3', ciphers: [TLS_AES_256_GCM_SHA384, ECDHE-RSA-AES128-GCM-SHA256], curves: P-256";
    let (listener, warnings) = read(&with_tls(keys), &*FULL_FILES);
    let protocol = listener.tls.unwrap().protocol;
    assert_eq!((protocol.min_version, protocol.groups), (TlsVersion::Tls13, vec![NamedGroup::secp256r1]));
    assert!(warnings[0].contains("TLS 1.2 have no effect with min_version 1.3"), "{warnings:?}");
}

#[test]
fn every_cipher_and_curve_of_the_library_has_a_name_here() {
    let provider = crate::util::crypto::provider();
    for suite in &provider.cipher_suites {
        let name = suite.suite().as_str().unwrap().replace("TLS13_", "TLS_");
        let others = "TLS_AES_256_GCM_SHA384, ECDHE-RSA-AES256-GCM-SHA384";
        let (listener, _) = read(&with_tls(&format!("ciphers: [{name}, {others}]")), &*FULL_FILES);
        assert_eq!(listener.tls.unwrap().protocol.suites[0], suite.suite());
    }
    for group in &provider.kx_groups {
        let name = group.name().as_str().unwrap();
        let (listener, _) = read(&with_tls(&format!("curves: [{name}, X25519]")), &*FULL_FILES);
        assert_eq!(listener.tls.unwrap().protocol.groups[0], group.name());
    }
}

#[test]
fn versions_that_are_broken_or_unknown_are_refused() {
    for old in ["1.0", "1.1", "TLSv1.1", "TLS 1.0", "SSLv3", "TLSv1"] {
        wrong(
            &with_tls(&format!("min_version: '{old}'")),
            "tls.min_version",
            &["not offered", "RFC 8996", "\"1.3\""],
        );
    }
    wrong(&with_tls("min_version: TLSv1.3"), "tls.min_version", &["write `\"1.3\"`"]);
    wrong(&with_tls("min_version: 1.4"), "tls.min_version", &["not a version of TLS"]);
    wrong(&with_tls("min_version: [1.2]"), "tls.min_version", &["is a list"]);
    wrong(&with_tls("min_verson: 1.2"), "tls.min_verson", &["did you mean `min_version`"]);
}

#[test]
fn ciphers_that_the_library_does_not_offer_are_refused_with_the_reason() {
    let one = |name: &str, parts: &[&str]| {
        wrong(&with_tls(&format!("ciphers: [TLS_AES_256_GCM_SHA384, '{name}']")), "tls.ciphers[1]", parts);
    };
    one("ECDHE-RSA-AES256-GCM-SHA348", &["not a cipher", "did you mean `ECDHE-RSA-AES256-GCM-SHA384`"]);
    one("TLS_AES_256_GMC_SHA384", &["did you mean `TLS_AES_256_GCM_SHA384`"]);
    for cbc in ["ECDHE-RSA-AES256-SHA384", "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", "ECDHE-ECDSA-AES128-SHA"] {
        one(cbc, &["not offered", "CBC"]);
    }
    for broken in
        ["RC4-SHA", "DES-CBC3-SHA", "TLS_RSA_WITH_3DES_EDE_CBC_SHA", "NULL-MD5", "ECDHE-RSA-NULL-SHA"]
    {
        one(broken, &["not offered", "broken"]);
    }
    one("AES256-GCM-SHA384", &["no forward secrecy"]);
    one("TLS_RSA_WITH_AES_128_CBC_SHA", &["no forward secrecy"]);
    one("DHE-RSA-AES256-GCM-SHA384", &["only ECDHE"]);
    one("TLS_AES_128_CCM_SHA256", &["does not have it"]);
    one("HIGH:!aNULL", &["an expression of OpenSSL"]);
    one("DEFAULT", &["an expression of OpenSSL"]);
    let text = "TLS_AES_256_GCM_SHA384:ECDHE-RSA-AES256-GCM-SHA384";
    let list = "write a list: `[TLS_AES_256_GCM_SHA384, ECDHE-RSA-AES256-GCM-SHA384]`";
    wrong(&with_tls(&format!("ciphers: '{text}'")), "tls.ciphers", &["not one name", list]);
    wrong(&with_tls("ciphers: []"), "tls.ciphers", &["the list is empty"]);
}

#[test]
fn curves_that_are_unknown_or_not_offered_are_refused() {
    let one = |name: &str, parts: &[&str]| {
        wrong(&with_tls(&format!("curves: ['{name}']")), "tls.curves[0]", parts);
    };
    one("X25159", &["not a curve", "did you mean `X25519`", "known: X25519, P-256, P-384"]);
    for other in ["P-521", "secp521r1", "X448", "ffdhe2048", "brainpoolP256r1"] {
        one(other, &["not offered", "known: X25519"]);
    }
    one("X25519:P-256", &["write a list: `[X25519, P-256]`"]);
    if crate::util::crypto::has_group(NamedGroup::X25519MLKEM768) {
        let (listener, _) = read(&with_tls("curves: [X25519MLKEM768, X25519]"), &*FULL_FILES);
        assert_eq!(listener.tls.unwrap().protocol.groups[0], NamedGroup::X25519MLKEM768);
        let text = with_tls("curves: [X25519MLKEM768]");
        wrong(&text, "tls.curves", &["no curve for TLS 1.2", "add `X25519`"]);
        read(&with_tls("curves: [X25519MLKEM768], min_version: 1.3"), &*FULL_FILES);
    } else {
        one("X25519MLKEM768", &["not in this build", "aws-lc", "known: X25519, P-256, P-384"]);
    }
}

#[test]
fn a_list_that_leaves_a_version_without_ciphers_is_refused() {
    let text = with_tls("ciphers: [ECDHE-RSA-AES256-GCM-SHA384]");
    wrong(&text, "tls.ciphers", &["no cipher for TLS 1.3", "add `TLS_AES_256_GCM_SHA384`"]);
    let text = with_tls("ciphers: [TLS_AES_256_GCM_SHA384]");
    wrong(&text, "tls.ciphers", &["no cipher for TLS 1.2", "min_version: \"1.3\""]);
    read(&with_tls("ciphers: [TLS_AES_256_GCM_SHA384], min_version: 1.3"), &*FULL_FILES);
}

#[test]
fn ticket_keys_are_lines_of_hexadecimal_digits_that_nobody_else_may_read() {
    let file = |content: &str, mode| FULL_FILES.clone().with("/etc/icm/tickets.key", content, mode);
    let text = with_tls("ticket_key_file: /etc/icm/tickets.key");
    let (listener, _) = read(&text, &file(TICKET_KEYS, 0o640));
    let secrets = listener.tls.unwrap().ticket_secrets;
    assert_eq!(secrets.len(), 2);
    assert_eq!((secrets[0].0.len(), secrets[0].0[..3].to_vec()), (32, vec![0, 0x11, 0x22]));
    assert_eq!(secrets[1].0[..], [0xff; 32]);
    let refused = |content: &str, mode, part: &str| {
        let errors = load_from(&text, &file(content, mode)).unwrap_err();
        let shown = ConfigErrors(errors.clone()).to_string();
        assert_eq!(
            (errors.len(), errors[0].key.as_str()),
            (1, "listeners[0].tls.ticket_key_file"),
            "{shown}"
        );
        assert!(shown.contains(part) && !shown.contains("0011"), "{shown}");
    };
    refused(TICKET_KEYS, 0o644, "others may read");
    refused("", 0o600, "holds no key");
    refused("\n \n", 0o600, "openssl rand -hex 32");
    refused(&TICKET_KEYS.replace("ff0011", ""), 0o600, "line 1 of the file is not 64 hexadecimal digits");
    refused(&format!("{TICKET_KEYS}001122\n"), 0o600, "line 4 of the file");
    refused(&TICKET_KEYS.replace("ff\r", "fg\r"), 0o600, "line 3 of the file");
    let errors = load_from(&text, &*FULL_FILES).unwrap_err();
    assert!(ConfigErrors(errors).to_string().contains("cannot read /etc/icm/tickets.key"));
}

#[test]
fn proxies_with_a_header_are_networks() {
    let (listener, warnings) =
        read(&listener("proxy_protocol: { from: [10.0.0.0/8, '2001:db8::1'] }"), &*FULL_FILES);
    assert_eq!(warnings, [] as [&str; 0]);
    let expects = |ip: &str| listener.expects_proxy_header(ip.parse().unwrap());
    assert!(expects("10.1.2.3") && expects("2001:db8::1"));
    assert!(!expects("11.1.2.3") && !expects("2001:db8::2"));
}

#[test]
fn wrong_networks_of_proxies_are_refused() {
    wrong(&listener("proxy_protocol: { from: [10.0.0.0/33] }"), "proxy_protocol.from[0]", &["not a network"]);
    wrong(&listener("proxy_protocol: { from: [] }"), "proxy_protocol.from", &["no network is given"]);
    wrong(&listener("proxy_protocol: {}"), "proxy_protocol.from", &["is missing"]);
    wrong(
        &listener("proxy_protocol: on"),
        "proxy_protocol",
        &["a map with from is expected", "{ from: [10.0.0.0/8] }"],
    );
    wrong(&listener("proxy_protocol: { form: 10.0.0.1 }"), "proxy_protocol.form", &["did you mean `from`"]);
    wrong(
        &listener("proxy_protocl: { from: 10.0.0.1 }"),
        "proxy_protocl",
        &["did you mean `proxy_protocol`"],
    );
    let (_, warnings) = read(&listener("proxy_protocol: { from: 0.0.0.0/0 }"), &*FULL_FILES);
    assert!(warnings[0].contains("every peer must send a PROXY header"), "{warnings:?}");
}
