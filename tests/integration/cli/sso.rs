//! `icm check --sso` against the simulated cluster: what servers do with each other's sessions, and what the check says about
//! it.

use crate::support::*;
use serde_json::{Value, json};

/// A cluster with single sign-on, a configuration for it, and the password of the test account.
struct Site {
    acme: Acme,
    config: serde_yaml::Value,
    dir: tempfile::TempDir,
    password: String,
}

impl Site {
    fn start() -> Site {
        let acme = Acme::built_in();
        acme.set("all", json!({ "sso": true }));
        let dir = tempfile::tempdir().unwrap();
        let password = secret_file(dir.path(), "password", "secret\n");
        Site { config: config(&acme), acme, dir, password }
    }

    fn check(&self, more: &[&str]) -> CliOutput {
        let file = self.dir.path().join("icm.yaml");
        std::fs::write(&file, serde_yaml::to_string(&self.config).unwrap()).unwrap();
        let file = file.display().to_string();
        let mut all = vec!["check", "--sso", "--user", "Jane Doe/Acme", "--password-file", &self.password];
        all.extend(["-c", &file]);
        all.extend(more);
        icm_cli(&all)
    }

    /// The exit code and the report of the cluster.
    fn report(&self, more: &[&str]) -> (i32, Value) {
        let mut all = vec!["--json"];
        all.extend(more);
        let output = self.check(&all);
        let document = output.json();
        assert_eq!(document["ok"], output.code == 0, "{output:?}");
        (output.code, document["sso"][0].clone())
    }

    /// The verdict about a database and the text.
    fn database(&self, path: &str) -> (i32, String, String) {
        let (code, report) = self.report(&["--database", path]);
        let database = &report["databases"][0];
        assert_eq!(database["database"], path, "{report:#}");
        let text = |key: &str| database[key].as_str().unwrap().to_owned();
        (code, text("verdict"), text("text"))
    }

    fn assert_lost(&self, path: &str, words: &str) {
        let (code, verdict, text) = self.database(path);
        assert!(code == 2 && verdict == "lost" && text.contains(words), "{words}: {code} {verdict}: {text}");
    }
}

#[test]
fn a_token_that_every_server_accepts_keeps_the_login_in_every_database() {
    let site = Site::start();
    let (code, report) = site.report(&[]);
    assert_eq!(code, 0, "{report:#}");
    let databases = report["databases"].as_array().unwrap();
    assert!(databases.len() > 10 && databases.iter().all(|d| d["verdict"] == "kept"), "{report:#}");
    let servers = report["servers"].as_array().unwrap();
    assert!(
        servers.iter().all(|s| s["login"] == "sso" && s["cookies"] == json!(["LtpaToken"])),
        "{report:#}"
    );
    // The mail file of Jane Doe has two replicas; each failover was tried.
    let mail = databases.iter().find(|d| d["database"] == "mail/jdoe.nsf").unwrap();
    assert_eq!(mail["failovers"].as_array().unwrap().len(), 2, "{mail:#}");
    let text = site.check(&["--limit", "3"]);
    assert!(text.code == 0 && text.out.contains("more databases were not opened: --limit"), "{text:?}");
    assert!(
        text.out.contains("login at Web1/Acme: single sign-on: LtpaToken for *.acme.example"),
        "{text:?}"
    );
    // No password and no token is printed.
    assert!(!text.out.contains("secret"), "{text:?}");
    assert!(site.check(&["--database", "no/such.nsf"]).out.contains("no/such.nsf is not in the directory"));
}

#[test]
fn what_loses_a_login_is_found_and_named() {
    let site = Site::start();
    let mail = "mail/jdoe.nsf";
    site.acme.set("Web2", json!({ "sso_key": "another" }));
    site.assert_lost(
        mail,
        "every failover: the server does not accept LtpaToken: it has another Web SSO Configuration",
    );
    // Without Web2 in it, a database keeps its login.
    assert_eq!(site.database("mail/asmith.nsf").1, "kept");
    site.acme.set("Web2", json!({ "sso_key": "acme", "clock_skew_ms": 300_000 }));
    site.assert_lost(
        mail,
        "a failover to Web1/Acme: the server does not accept LtpaToken, and the clocks are ",
    );
    site.acme.set("Web2", json!({ "clock_skew_ms": 0, "sso": false }));
    site.assert_lost(mail, "a failover to Web2/Acme: the server has sessions of its own (DomAuthSessId)");
    site.acme.set("all", json!({ "sso": false }));
    site.assert_lost(
        mail,
        "every failover: the session (DomAuthSessId) is valid only on the server that gave it",
    );
    site.acme.set("all", json!({ "sso": true }));
    site.acme.set("Web2", json!({ "refused_users": ["Jane Doe/Acme"] }));
    let (code, report) = site.report(&["--database", mail]);
    assert_eq!((code, &report["servers"][1]["login"]), (2, &json!("refused")), "{report:#}");
    site.acme.set("Web2", json!({ "refused_users": [] }));
    site.acme.ask("POST", "/databases", Some(&json!({ "server": "Web1", "path": mail, "login": false })));
    site.assert_lost(mail, "Web2/Acme asks for a login, Web1/Acme does not");
}

#[test]
fn a_cookie_that_browsers_drop_is_found_although_the_servers_accept_it() {
    let mut site = Site::start();
    site.acme.set("all", json!({ "secure_cookie": true }));
    let (code, report) = site.report(&["--database", "mail/jdoe.nsf"]);
    let text = report["servers"][0]["text"].as_str().unwrap();
    assert!(code == 2 && text.contains("for HTTPS only, and no listener has TLS"), "{report:#}");
    site.acme.set("all", json!({ "secure_cookie": false, "sso_domain": "other.example" }));
    set(&mut site.config, "clusters.0.hostnames", "[www.acme.example]");
    let (code, report) = site.report(&["--database", "mail/jdoe.nsf"]);
    let text = report["servers"][0]["text"].as_str().unwrap();
    assert!(
        code == 2 && text.contains("the public name is www.acme.example: browsers refuse it"),
        "{report:#}"
    );
}

#[test]
fn what_cannot_be_seen_is_unknown() {
    let site = Site::start();
    site.acme.fault("Web2", json!({ "kind": "refuse" }));
    let (code, verdict, text) = site.database("mail/jdoe.nsf");
    assert!(
        code == 2 && verdict == "unknown" && text.contains("connection refused"),
        "{code} {verdict}: {text}"
    );
    // The others were seen.
    assert_eq!(site.database("mail/asmith.nsf").1, "kept");
    site.acme.heal("Web2");
    let file = site.dir.path().join("icm.yaml").display().to_string();
    for (arguments, words) in [
        (vec!["check", "--sso", "-c", &file], "--sso needs --user NAME"),
        (vec!["check", "--sso", "--user", "a", "-c", &file], "--password-file FILE is missing"),
    ] {
        let failed = icm_cli(&arguments);
        assert!(failed.code == 64 && failed.err.contains(words), "{words}: {failed:?}");
    }
}

#[test]
fn basic_authentication_is_kept_because_browsers_send_it_everywhere() {
    let acme = Acme::start(&format!("{}\nauth: basic", SAMPLE));
    let mut config = config(&acme);
    set(&mut config, "clusters.0.directory.columns", "{ path: 0, server: 1, replica_id: 3 }");
    let dir = tempfile::tempdir().unwrap();
    let password = secret_file(dir.path(), "password", "reader");
    let (_kept, file) = write_config(&config);
    let file = file.display().to_string();
    let output =
        icm_cli(&["check", "--sso", "--user", "ICM Reader/Acme", "--password-file", &password, "-c", &file]);
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.out.contains("Basic authentication: browsers send the password"), "{output:?}");
}
