//! Session tickets, as `openssl` uses them: shared by several ICMs, over a change of keys, over an upgrade, and never past a
//! client certificate.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::resumption::{count, remember, resumes, s_client};
use crate::support::*;
use serde_json::Value as Json;
use serde_yaml::Value;

const VERSIONS: [&str; 2] = ["-tls1_2", "-tls1_3"];
const KEYS: [&str; 3] = [
    "1111111111111111111111111111111111111111111111111111111111111111\n",
    "2222222222222222222222222222222222222222222222222222222222222222\n",
    "3333333333333333333333333333333333333333333333333333333333333333\n",
];

/// Sends HUP with this configuration, and waits. What `/status` says of the reload.
pub(super) fn reload(icm: &Icm, config: &Value) -> Json {
    let at = || icm.admin("/status").json()["reload"]["at"].clone();
    let before = at();
    pause(5);
    icm.reload(config);
    assert!(eventually(MAX_WAIT, || at() != before), "HUP was not heard: {}", icm.log());
    icm.admin("/status").json()["reload"].clone()
}

/// An ICM whose TLS listener has this file of ticket keys.
fn start(acme: &Acme, keys: &str) -> (Icm, Value, SocketAddr) {
    let mut config = config(acme);
    let secure = add_tls(&mut config, acme);
    set(&mut config, "listeners.1.tls.ticket_key_file", keys);
    let icm = Icm::start(config.clone());
    wait_for(secure);
    (icm, config, secure)
}

/// A file for the session of each version.
fn sessions(dir: &Path, name: &str) -> [(&'static str, PathBuf); 2] {
    VERSIONS.map(|version| (version, dir.join(format!("{name}{version}"))))
}

#[test]
fn icms_with_one_key_file_resume_each_others_sessions_also_while_the_key_changes() {
    let acme = Acme::built_in();
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, keys: &[&str]| secret_file(dir.path(), name, &keys.concat());
    let files = [write("one", &KEYS[..1]), write("two", &KEYS[..1]), write("third", &KEYS[2..])];
    let icms = files.each_ref().map(|file| start(&acme, file));
    let [one, two, third] = icms.each_ref().map(|(_, _, address)| *address);
    for (version, session) in sessions(dir.path(), "shared") {
        remember(&acme, one, version, &session);
        assert!(resumes(&acme, two, version, &session), "{version}");
        assert!(resumes(&acme, one, version, &session), "{version}");
        assert!(!resumes(&acme, third, version, &session), "{version}: another key");
    }
    // The steps of the guide: the new key behind, in front, alone.
    let apply = |n: usize, keys: &[&str]| {
        write(["one", "two"][n], keys);
        assert_eq!(reload(&icms[n].0, &icms[n].1)["success"], true, "{}", icms[n].0.log());
    };
    let old = sessions(dir.path(), "old");
    old.iter().for_each(|(version, session)| remember(&acme, one, version, session));
    apply(0, &[KEYS[0], KEYS[1]]);
    apply(1, &[KEYS[0], KEYS[1]]);
    apply(1, &[KEYS[1], KEYS[0]]);
    let new = sessions(dir.path(), "new");
    for (version, session) in &new {
        remember(&acme, two, version, session);
        assert!(resumes(&acme, one, version, session), "{version}: a ticket of the new key");
    }
    for (version, session) in &old {
        assert!(resumes(&acme, two, version, session), "{version}: a ticket of the old key");
    }
    apply(1, &[KEYS[1]]);
    for ((version, old), (_, new)) in old.iter().zip(&new) {
        assert!(!resumes(&acme, two, version, old), "{version}: the old key is gone");
        assert!(resumes(&acme, two, version, new), "{version}");
    }
    // A file that everybody may read changes nothing.
    std::fs::set_permissions(&files[0], std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let refused = reload(&icms[0].0, &icms[0].1);
    assert_eq!(refused["success"], false);
    assert!(refused["error"].as_str().unwrap().contains("others may read"), "{refused}");
    assert!(resumes(&acme, one, "-tls1_3", &new[1].1));
}

#[test]
fn a_session_outlives_an_upgrade_with_generated_keys_and_with_a_file() {
    let acme = Acme::built_in();
    let dir = tempfile::tempdir().unwrap();
    let keys = secret_file(dir.path(), "tickets.key", KEYS[0]);
    let mut config = config(&acme);
    let [generated, shared, other] = [(); 3].map(|()| add_tls(&mut config, &acme));
    set(&mut config, "listeners.2.tls.ticket_key_file", &keys);
    let icm = Icm::start(config);
    let (of_generated, of_shared) = (sessions(dir.path(), "generated"), sessions(dir.path(), "shared"));
    for (address, files) in [(generated, &of_generated), (shared, &of_shared)] {
        wait_for(address);
        files.iter().for_each(|(version, session)| remember(&acme, address, version, session));
    }
    for round in 0..2 {
        let output = icm_cli(&["upgrade", "-c", icm.file.to_str().unwrap()]);
        assert_eq!(output.code, 0, "{output:?}");
        for (address, files) in [(generated, &of_generated), (shared, &of_shared)] {
            for (version, session) in files {
                assert!(resumes(&acme, address, version, session), "{version}, round {round}");
                assert!(!resumes(&acme, other, version, session), "{version}, round {round}");
            }
        }
    }
}

#[test]
fn a_ticket_never_opens_a_listener_that_requires_a_client_certificate() {
    let acme = Acme::built_in();
    let dir = tempfile::tempdir().unwrap();
    let keys = secret_file(dir.path(), "tickets.key", KEYS[0]);
    let clients = Authority::new("Clients", None);
    let ca = secret_file(dir.path(), "ca.pem", &clients.pem);
    let (certificate, key) = clients.leaf(&["jane"]);
    let own = [secret_file(dir.path(), "jane.pem", &certificate), secret_file(dir.path(), "jane.key", &key)];
    let own = ["-cert", &own[0], "-key", &own[1]];
    let mut config = config(&acme);
    let (open, closed) = (add_tls(&mut config, &acme), add_tls(&mut config, &acme));
    for n in [1, 2] {
        set(&mut config, &format!("listeners.{n}.tls.ticket_key_file"), &keys);
    }
    set(&mut config, "listeners.2.tls.client_certificates", &format!("{{ ca_file: {ca} }}"));
    let _icm = Icm::start(config);
    [open, closed].into_iter().for_each(|address| {
        wait_for(address);
    });
    for (version, session) in sessions(dir.path(), "open") {
        remember(&acme, open, version, &session);
        assert!(resumes(&acme, open, version, &session), "{version}");
        let session = session.to_str().unwrap();
        let said = s_client(&acme, closed, &[version, "-sess_in", session]);
        assert!(!said.contains("HTTP/1.1") && count(&said, "Reused, ") == 0, "{version}: {said}");
        // With a certificate a client enters by a full handshake, and resumes that session without one.
        let with_own = |more: &[&str]| s_client(&acme, closed, &[&[version], &own[..], more].concat());
        let said = with_own(&["-sess_in", session, "-sess_out", session]);
        assert!(said.contains("HTTP/1.1 200") && count(&said, "New, TLSv1.") == 1, "{version}: {said}");
        let said = s_client(&acme, closed, &[version, "-sess_in", session]);
        assert!(said.contains("HTTP/1.1 200") && count(&said, "Reused, ") == 1, "{version}: {said}");
        assert!(!resumes(&acme, open, version, Path::new(session)), "{version}");
    }
}
