//! TLS sessions are resumed, as `openssl` sees it: by every kind of client, across reloads, never at another listener. Toward
//! servers connections are kept, so there is nothing to resume.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::*;

const REQUEST: &str = "GET /fast HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// What `openssl s_client` says. It sends a request, so that it reads on until the server closes: tickets of TLS 1.3
/// come behind the handshake.
pub(super) fn s_client(acme: &Acme, address: SocketAddr, arguments: &[&str]) -> String {
    let mut child = Command::new("openssl")
        .args(["s_client", "-connect", &address.to_string(), "-servername", "localhost"])
        .args(["-verify_return_error", "-ign_eof", "-CAfile"])
        .arg(&acme.ca_file)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl is needed (Debian: apt-get install openssl)");
    child.stdin.take().unwrap().write_all(REQUEST.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

pub(super) fn count(text: &str, word: &str) -> usize {
    text.lines().filter(|line| line.starts_with(word)).count()
}

/// The session that this client had before, in its file, was taken up again, and the request answered.
pub(super) fn resumes(acme: &Acme, address: SocketAddr, version: &str, file: &Path) -> bool {
    let file = file.to_str().unwrap();
    let said = s_client(acme, address, &[version, "-sess_in", file]);
    assert!(said.contains("HTTP/1.1 200"), "{said}");
    let (new, reused) = (count(&said, "New, TLSv1."), count(&said, "Reused, TLSv1."));
    assert_eq!(new + reused, 1, "{said}");
    reused == 1
}

pub(super) fn remember(acme: &Acme, address: SocketAddr, version: &str, file: &Path) {
    let said = s_client(acme, address, &[version, "-sess_out", file.to_str().unwrap()]);
    assert!(count(&said, "New, TLSv1.") == 1 && said.contains("HTTP/1.1 200"), "{said}");
}

#[test]
fn openssl_reconnect_takes_its_session_up_five_times_by_ticket_and_by_identifier() {
    let acme = Acme::built_in();
    let mut config = config(&acme);
    let secure = add_tls(&mut config, &acme);
    let _icm = Icm::start(config);
    wait_for(secure);
    for more in [&[][..], &["-no_ticket"]] {
        let said = s_client(&acme, secure, &[&["-tls1_2", "-reconnect"], more].concat());
        let counted = (count(&said, "New, TLSv1.2"), count(&said, "Reused, TLSv1.2"));
        assert_eq!(counted, (1, 5), "{more:?}: {said}");
    }
}

#[test]
fn a_session_outlives_a_reload_and_a_new_certificate() {
    let acme = Acme::built_in();
    let mut config = config(&acme);
    let secure = add_tls(&mut config, &acme);
    let (dir, of) = (tempfile::tempdir().unwrap(), acme.ca_file.parent().unwrap());
    let show = |server: &str| {
        for kind in ["pem", "key"] {
            let to = dir.path().join(format!("icm.{kind}"));
            std::fs::copy(of.join(format!("{server}.{kind}")), to).unwrap();
        }
    };
    show("web1");
    let dir_name = dir.path().display();
    let pair = format!("[ {{ cert: {dir_name}/icm.pem, key: {dir_name}/icm.key }} ]");
    set(&mut config, "listeners.1.tls.certificates", &pair);
    let icm = Icm::start(config.clone());
    wait_for(secure);
    let files = ["-tls1_2", "-tls1_3"].map(|version| (version, dir.path().join(version)));
    for (version, file) in &files {
        remember(&acme, secure, version, file);
        assert!(resumes(&acme, secure, version, file), "{version}");
    }
    for (timeout, certificate) in [("61s", "web1"), ("62s", "web2")] {
        show(certificate);
        set(&mut config, "limits", &format!("{{ idle_timeout: {timeout} }}"));
        let at = || icm.admin("/status").json()["reload"]["at"].clone();
        let before = at();
        pause(5);
        icm.reload(&config);
        assert!(eventually(MAX_WAIT, || at() != before), "HUP was not heard");
        assert_eq!(icm.admin("/status").json()["reload"]["success"], true, "{}", icm.log());
        for (version, file) in &files {
            assert!(resumes(&acme, secure, version, file), "{version} after a reload: {}", icm.log());
        }
    }
    let said = s_client(&acme, secure, &[]);
    assert!(count(&said, "New, TLSv1.3") == 1 && said.contains("CN = Web2"), "{said}");
}

#[test]
fn a_session_of_one_listener_is_none_at_another() {
    let acme = Acme::built_in();
    let mut config = config(&acme);
    let secure = [add_tls(&mut config, &acme), add_tls(&mut config, &acme)];
    let _icm = Icm::start(config);
    let dir = tempfile::tempdir().unwrap();
    for (n, version) in ["-tls1_2", "-tls1_3"].into_iter().enumerate() {
        let file = dir.path().join(n.to_string());
        secure.iter().for_each(|address| {
            wait_for(*address);
        });
        remember(&acme, secure[0], version, &file);
        assert!(!resumes(&acme, secure[1], version, &file), "{version}");
        assert!(resumes(&acme, secure[0], version, &file), "{version}");
    }
}

#[test]
fn requests_to_a_server_with_https_share_one_handshake() {
    let acme = Acme::built_in();
    let mut config = config(&acme);
    set(&mut config, "clusters.0.upstream_scheme", "https");
    set(&mut config, "clusters.0.probe", "{ interval: 1h, healthy_after: 1 }");
    set(&mut config, "clusters.0.directory.refresh", "1h");
    let icm = Icm::start(config);
    let mut client = icm.client();
    let target = "/sales/orders.nsf?OpenView";
    assert!(eventually(MAX_WAIT, || icm.client().get(target).status == 200), "{}", icm.log());
    let sum = |field: &str| {
        let all = acme.ask("GET", "/connections", None);
        all.as_object().unwrap().values().map(|c| c[field].as_u64().unwrap()).sum::<u64>()
    };
    let (connections, requests) = (sum("total"), sum("requests"));
    for _ in 0..40 {
        assert_eq!(client.get(target).status, 200);
    }
    assert!(sum("requests") >= requests + 40);
    // The first request to each of the four servers may have to open one.
    let opened = sum("total") - connections;
    assert!(opened <= 4, "{opened} handshakes for 40 requests");
}
