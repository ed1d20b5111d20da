//! TLS toward the servers: the name that is verified, errors for bad certificates and old versions, and what `check` finds
//! beforehand.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::*;
use serde_yaml::Value;

fn https(acme: &Acme) -> Value {
    let mut config = config(acme);
    set(&mut config, "clusters.0.upstream_scheme", "https");
    config
}

fn ask_orders(icm: &Icm) -> (u16, String) {
    let answer = icm.client().get_with("/sales/orders.nsf?Open", &[("Accept", "application/json")]);
    (answer.status, if answer.status == 200 { answer.json()["scheme"].to_string() } else { answer.text() })
}

#[test]
fn a_server_without_a_host_name_is_verified_by_its_address() {
    let acme = Acme::built_in();
    let mut config = https(&acme);
    for n in 0..4 {
        let server = config["clusters"][0]["servers"]["list"][n].as_mapping_mut().unwrap();
        server.remove("hostname");
    }
    let icm = Icm::start(config);
    for name in ["Web1", "Web2"] {
        icm.wait_for_state(name, "AVAILABLE");
    }
    assert_eq!(ask_orders(&icm), (200, "\"https\"".to_owned()));
    acme.fault("all", "tls_wrong_name".into());
    for name in ["Web1", "Web2", "Web3", "Web4"] {
        icm.wait_for_state(name, "UNREACHABLE");
    }
    assert_eq!(ask_orders(&icm).0, 503, "never unverified");
}

#[test]
fn without_a_store_of_the_platform_it_starts_says_so_and_trusts_what_the_configuration_names() {
    let acme = Acme::built_in();
    let nowhere = [("SSL_CERT_FILE", "/nonexistent/ca.crt"), ("SSL_CERT_DIR", "/nonexistent/certs")];
    let icm = Icm::spawn_with(https(&acme), &nowhere).listening();
    assert!(icm.log().contains("/nonexistent/ca.crt"), "{}", icm.log());
    for name in ["Web1", "Web2"] {
        icm.wait_for_state(name, "AVAILABLE");
    }
    assert_eq!(ask_orders(&icm), (200, "\"https\"".to_owned()));
}

#[test]
fn the_authorities_of_pingora_count_for_probes_and_readers_too_and_those_of_the_cluster_come_first() {
    let acme = Acme::built_in();
    let mut config = https(&acme);
    config["clusters"][0].as_mapping_mut().unwrap().remove("upstream_tls");
    set(&mut config, "pingora.ca_file", &acme.ca_file.display().to_string());
    let icm = Icm::start(config.clone());
    for name in ["Web1", "Web2"] {
        icm.wait_for_state(name, "AVAILABLE");
    }
    icm.wait_for_status("read over TLS", |s| s["clusters"][0]["directory"]["databases"].as_u64() > Some(0));
    assert_eq!(ask_orders(&icm), (200, "\"https\"".to_owned()));
    let (_, text) = check(&config, &["--probe"]);
    assert!(!text.contains("not trusted"), "{text}");
    // What only Pingora could read anew stays as it is: probes trust whom requests trust.
    let other = Authority::new("Other", None);
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("other.pem");
    std::fs::write(&ca, &other.pem).unwrap();
    set(&mut config, "pingora.ca_file", &ca.display().to_string());
    icm.reload(&config);
    icm.wait_for_log("restart required: pingora");
    pause(600);
    assert_eq!(icm.state_of("Web1"), "AVAILABLE");
    drop(icm);
    set(&mut config, "clusters.0.upstream_tls.ca_file", &acme.ca_file.display().to_string());
    let icm = Icm::start(config.clone());
    icm.wait_for_state("Web1", "AVAILABLE");
    assert_eq!(ask_orders(&icm), (200, "\"https\"".to_owned()));
    drop(icm);
    set(&mut config, "pingora.ca_file", &acme.ca_file.display().to_string());
    set(&mut config, "clusters.0.upstream_tls.ca_file", &ca.display().to_string());
    let icm = Icm::start(config);
    let reported = || icm.status_of("Web1")["cause"].to_string().contains("the certificate is not trusted");
    assert!(eventually(MAX_WAIT, reported), "{}", icm.status_of("Web1"));
}

#[test]
fn the_scheme_of_the_client_can_be_that_toward_the_server() {
    let acme = Acme::built_in();
    let mut config = config(&acme);
    set(&mut config, "clusters.0.upstream_scheme", "same");
    let secure = add_tls(&mut config, &acme);
    let icm = Icm::start(config);
    wait_for(secure);
    assert_eq!(ask_orders(&icm), (200, "\"http\"".to_owned()));
    let mut client = Client::tls(secure, "localhost", &acme.ca_file);
    let answer = client.get_with("/sales/orders.nsf?Open", &[("Accept", "application/json")]);
    assert_eq!(answer.json()["scheme"], "https");
}

#[test]
fn what_is_wrong_with_a_certificate_is_said_where_the_server_is_shown() {
    let acme = Acme::built_in();
    let icm = Icm::start(https(&acme));
    for (fault, said) in [("tls_expired", "xpired"), ("tls_wrong_name", "web1.acme.example")] {
        acme.fault("Web1", fault.into());
        let cause = || icm.status_of("Web1")["cause"].to_string();
        let reported = || cause().contains("the certificate is not trusted") && cause().contains(said);
        assert!(eventually(MAX_WAIT, reported), "{fault}: {}", icm.status_of("Web1"));
        assert_eq!(icm.state_of("Web1"), "UNREACHABLE");
        acme.heal("Web1");
        icm.wait_for_state("Web1", "AVAILABLE");
    }
}

/// Answers every handshake as a server does that knows nothing newer than TLS 1.1: with the version it can.
fn old_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.read(&mut [0; 4096]);
            // ServerHello of TLS 1.1: version, random, no session, TLS_RSA_WITH_AES_128_CBC_SHA, no compression.
            let mut hello = vec![2, 0, 0, 38, 3, 2];
            hello.extend_from_slice(&[7; 32]);
            hello.extend_from_slice(&[0, 0, 0x2f, 0]);
            let mut record = vec![0x16, 3, 2, 0, hello.len() as u8];
            record.extend_from_slice(&hello);
            let _ = stream.write_all(&record);
            let _ = stream.read(&mut [0; 64]);
        }
    });
    address
}

#[test]
fn a_server_without_tls_1_2_is_called_so_in_state_log_and_check() {
    let acme = Acme::built_in();
    let mut config = https(&acme);
    set(&mut config, "clusters.0.servers.list.0.https", &format!("\"{}\"", old_server()));
    let words = "the server offers no TLS 1.2 or newer";
    let icm = Icm::start(config.clone());
    let reported = || icm.status_of("Web1")["cause"].to_string().contains(words);
    assert!(eventually(MAX_WAIT, reported), "{}", icm.status_of("Web1"));
    icm.wait_for_log(words);
    let (_, text) = check(&config, &["--probe"]);
    assert!(text.lines().any(|l| l.contains("Web1") && l.contains(words)), "{text}");
}

/// `icm check` of a configuration: exit code and what it printed.
fn check(config: &Value, arguments: &[&str]) -> (i32, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("icm.yaml");
    std::fs::write(&file, serde_yaml::to_string(config).unwrap()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_icm"));
    let out = command.arg("check").args(arguments).arg("-c").arg(&file).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    (out.status.code().unwrap(), text)
}

#[test]
fn check_with_probe_says_what_each_server_shows_and_what_is_wrong_with_it() {
    let acme = Acme::built_in();
    acme.fault("Web2", "tls_expired".into());
    acme.fault("Web3", "tls_wrong_name".into());
    let mut config = https(&acme);
    let (code, text) = check(&config, &["--probe"]);
    assert_eq!(code, 2, "{text}");
    let line = |server: &str| {
        let is = |l: &&str| l.contains(server) && l.contains("HTTPS port");
        text.lines().find(is).unwrap_or_else(|| panic!("{server}: {text}")).to_owned()
    };
    let good = line("Web1/Acme");
    assert!(good.starts_with("ok") && good.contains("certificate for web1.acme.example"), "{good}");
    assert!(good.contains("Acme Test CA") && good.contains("valid until"), "{good}");
    let expired = line("Web2/Acme");
    assert!(expired.starts_with("failed") && expired.contains("expired on"), "{expired}");
    let misnamed = line("Web3/Acme");
    assert!(misnamed.starts_with("failed") && misnamed.contains("for somewhere.else.example"), "{misnamed}");
    assert!(!text.contains("any server may pose"), "{text}");
    set(&mut config, "clusters.0.upstream_tls", "{ verify: false }");
    let (_, text) = check(&config, &[]);
    assert!(text.contains("any server may pose as a member"), "{text}");
}

#[test]
fn check_looks_at_the_chain_the_names_and_the_keys_of_the_listeners_certificates() {
    let acme = Acme::built_in();
    let root = Authority::new("Root", None);
    let middle = Authority::new("Middle", Some(&root));
    let (pem, key) = middle.leaf(&["www.acme.example", "*.mail.acme.example"]);
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| PathBuf::from(secret_file(dir.path(), name, text));
    let key = write("icm.key", &key);
    let with = |cert: &Path, hostnames: &str| {
        let mut config = config(&acme);
        let pair = format!("[ {{ cert: {}, key: {} }} ]", cert.display(), key.display());
        set(&mut config, "listeners.0.tls.certificates", &pair);
        set(&mut config, "clusters.0.hostnames", hostnames);
        let (code, text) = check(&config, &[]);
        assert_eq!(code, 0, "{text}");
        text
    };
    let good = write("good.pem", &[&*pem, &middle.pem, &root.pem].concat());
    let text = with(&good, "[www.acme.example, '*.mail.acme.example']");
    assert!(!text.contains("did not issue") && !text.contains("no certificate of the listener"), "{text}");
    let text = with(&good, "[shop.acme.example, '*.acme.example', www.acme.example]");
    for missing in ["is for shop.acme.example", "is for *.acme.example"] {
        assert!(text.contains(missing), "{missing}: {text}");
    }
    assert!(!text.contains("is for www.acme.example"), "{text}");
    let mut config = config(&acme);
    let pair = format!("[ {{ cert: {}, key: {} }} ]", good.display(), key.display());
    set(&mut config, "listeners.0.tls.certificates", &pair);
    for (cipher, is_lost) in [("ECDHE-RSA-AES256-GCM-SHA384", true), ("ECDHE-ECDSA-AES256-GCM-SHA384", false)]
    {
        set(&mut config, "listeners.0.tls.ciphers", &format!("[TLS_AES_256_GCM_SHA384, {cipher}]"));
        let text = check(&config, &[]).1;
        assert_eq!(text.contains("has no cipher for a key of the kind ECDSA"), is_lost, "{text}");
    }
    for (name, chain) in [("gap", vec![&*pem, &root.pem]), ("order", vec![&*pem, &root.pem, &middle.pem])] {
        let text = with(&write(name, &chain.concat()), "[www.acme.example]");
        assert!(text.contains("certificate 2 of the file did not issue certificate 1"), "{name}: {text}");
    }
}

#[test]
fn who_a_client_certificate_is_for_is_told_to_no_server_unless_it_is_wanted() {
    let acme = Acme::built_in();
    let clients = Authority::new("Clients", None);
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("clients.pem");
    std::fs::write(&ca, &clients.pem).unwrap();
    let mut config = config(&acme);
    let secure = add_tls(&mut config, &acme);
    set(&mut config, "listeners.1.tls.client_certificates.ca_file", &ca.display().to_string());
    let _icm = Icm::start(config);
    wait_for(secure);
    let (pem, key) = clients.leaf(&["jane-doe.clients.example"]);
    let pair = dir.path().join("jane.pem");
    std::fs::write(&pair, pem + &key).unwrap();
    let out = Command::new("curl")
        .args(["-sS", "--max-time", "30", "--cacert"])
        .arg(&acme.ca_file)
        .arg("--cert")
        .arg(&pair)
        .args(["-H", "Accept: application/json"])
        .arg(format!("https://localhost:{}/sales/orders.nsf?Open", secure.port()))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    let echo: serde_json::Value = serde_json::from_str(&text)
        .unwrap_or_else(|e| panic!("{e}: {text}{}", String::from_utf8_lossy(&out.stderr)));
    let headers = echo["headers"].to_string().to_lowercase();
    for word in ["jane", "client-cert", "ssl", "$ws"] {
        assert!(!headers.contains(word), "{word}: {headers}");
    }
}
