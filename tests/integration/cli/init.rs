//! `icm init` against the simulated cluster: from nothing to a balancer that serves, each way to find the members, and each
//! reason to write nothing.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::*;
use serde_json::json;

/// A folder with the password of the reader.
struct Folder {
    dir: tempfile::TempDir,
    password: String,
}

impl Folder {
    fn new() -> Folder {
        let dir = tempfile::tempdir().unwrap();
        let password = secret_file(dir.path(), "reader-password", "reader\n");
        Folder { dir, password }
    }

    fn output(&self) -> PathBuf {
        self.dir.path().join("icm.yaml")
    }

    /// Runs `icm init` with this server, the reader's account and these arguments.
    fn init(&self, server: &str, more: &[&str]) -> CliOutput {
        let output = self.output().display().to_string();
        let mut all = vec!["init", "--server", server, "--output", &output];
        if !more.contains(&"--anonymous") {
            let account = ["--user", "ICM Reader/Acme", "--password-file", &self.password];
            all.extend(account.iter().filter(|_| !more.contains(&"--user")));
        }
        all.extend(more);
        icm_cli(&all)
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.output()).unwrap()
    }

    fn config(&self) -> serde_yaml::Value {
        serde_yaml::from_str(&self.text()).unwrap()
    }

    /// Nothing but the password is in the folder.
    fn assert_nothing_written(&self) {
        let names: Vec<_> =
            std::fs::read_dir(self.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["reader-password"]);
    }
}

fn http(acme: &Acme, server: &str) -> String {
    format!("http://{}", acme.http(server))
}

fn https(acme: &Acme, server: &str) -> String {
    format!("https://{}", acme.server(server).https.unwrap())
}

fn mode(file: &Path) -> u32 {
    std::fs::metadata(file).unwrap().permissions().mode() & 0o777
}

/// Starts a balancer with the file as it is, but for the address of its admin listener.
fn run(folder: &Folder) -> Icm {
    let mut config = folder.config();
    set(&mut config, "admin.address", &format!("127.0.0.1:{}", free_port()));
    Icm::start(config)
}

#[test]
fn init_and_run_are_enough_for_a_balancer_that_serves_a_cluster() {
    let acme = Acme::built_in();
    let folder = Folder::new();
    let listen = format!("127.0.0.1:{}", free_port());
    let state = folder.dir.path().join("state").display().to_string();
    std::fs::create_dir(&state).unwrap();
    let made = folder.init(&http(&acme, "Web1"), &["--listen", &listen, "--state-dir", &state]);
    assert_eq!(made.code, 0, "{made:?}");
    for words in [
        "Domino (Lotus-Domino)",
        "cldbdir.nsf: 64 replicas of 26 databases on 4 servers, view `($Pathname)`",
        "Web4/Acme at ",
        "configuration is valid",
        "icm run -c",
    ] {
        assert!(made.out.contains(words), "{words}:\n{}", made.out);
    }
    assert!(!made.out.contains("failed:"), "{}", made.out);
    assert_eq!(mode(&folder.output()), 0o640);
    let (text, config) = (folder.text(), folder.config());
    assert!(
        !text.contains("reader\n") && text.contains(&format!("password_file: {}", folder.password)),
        "{text}"
    );
    let cluster = &config["clusters"][0];
    assert_eq!(cluster["name"], "AcmeWeb");
    let servers = cluster["servers"]["list"].as_sequence().unwrap();
    assert_eq!(servers.len(), 4, "{text}");
    assert_eq!(servers[1]["http"].as_str().unwrap(), acme.http("Web2").to_string());
    // Every server has a port of its own here, so each has a URL of its own.
    assert_eq!(servers[1]["availability"]["source"], "console");
    for words in [
        "# ClusterName of the Server documents",
        "view `ICM Servers`; answers 200",
        "# - Login: the session cookie DomAuthSessId",
    ] {
        assert!(text.contains(words), "{words}:\n{text}");
    }
    let icm = run(&folder);
    let answer = icm.client().get("/sales/orders.nsf?OpenDatabase");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(!icm.log().contains("ERROR"), "{}", icm.log());
}

#[test]
fn an_existing_file_is_kept_unless_it_is_forced() {
    let acme = Acme::built_in();
    let folder = Folder::new();
    std::fs::write(folder.output(), "mine").unwrap();
    let refused = folder.init(&http(&acme, "Web1"), &[]);
    assert!(refused.code == 64 && refused.err.contains("exists already and is kept"), "{refused:?}");
    assert_eq!(folder.text(), "mine");
    let forced = folder.init(&http(&acme, "Web1"), &["--force"]);
    assert_eq!(forced.code, 0, "{forced:?}");
    assert!(folder.text().starts_with("# Written by `icm init`"));
}

#[test]
fn the_password_is_typed_at_a_terminal_without_being_shown() {
    let acme = Acme::built_in();
    let folder = Folder::new();
    let ca = acme.ca_file.display();
    let command =
        format!("{} init --ca-file {ca} -o {}", env!("CARGO_BIN_EXE_icm"), folder.output().display());
    let mut child = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("`script` of util-linux");
    let typed = format!("{}\nICM Reader/Acme\nreader\n", https(&acme, "Web2"));
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(typed.as_bytes()).unwrap();
    stdin.flush().unwrap();
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{shown}");
    assert!(shown.contains("Password of ICM Reader/Acme:"), "{shown}");
    let password = folder.dir.path().join("icm.password");
    assert_eq!((std::fs::read_to_string(&password).unwrap().as_str(), mode(&password)), ("reader\n", 0o600));
    let text = folder.text();
    assert!(
        text.contains("upstream_scheme: https") && text.contains("password_file: icm.password"),
        "{text}"
    );
    assert!(text.contains(&format!("ca_file: {ca}")), "{text}");
    assert_eq!(folder.config()["clusters"][0]["servers"]["list"][0]["hostname"], "web1.acme.example");
}

#[test]
fn each_reason_to_write_nothing_is_one_sentence_with_an_exit_code() {
    let acme = Acme::built_in();
    let folder = Folder::new();
    let wrong = secret_file(tempfile::tempdir().unwrap().keep().as_path(), "wrong", "wrong\n");
    let other =
        FixedResponseServer::new("HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Length: 5\r\n\r\nhello");
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let (plain, tls) = (http(&acme, "Web1"), https(&acme, "Web1"));
    let fails = |server: &str, more: &[&str], code: i32, words: &[&str]| {
        let failed = folder.init(server, more);
        assert_eq!(failed.code, code, "{server} {more:?}: {failed:?}");
        assert_eq!(failed.err.lines().count(), 1, "{failed:?}");
        for words in words {
            assert!(failed.err.contains(words), "{words}: {failed:?}");
        }
        folder.assert_nothing_written();
    };
    fails(&nobody, &[], 1, &["connection refused", "HTTP task"]);
    fails("http://no-such-host.invalid", &[], 1, &["no-such-host.invalid: the host name cannot be resolved"]);
    fails(&format!("http://{}", other.address), &[], 2, &["not a Domino server", "`nginx`"]);
    fails(&tls, &[], 2, &["certificate is not trusted", "SHA-256 fingerprint: ", "--ca-file ca.pem"]);
    fails(&plain.replace("http", "https"), &[], 1, &["does not speak TLS"]);
    let account = ["--user", "ICM Reader/Acme", "--password-file", &wrong];
    fails(&plain, &account, 2, &["refuses the login of `ICM Reader/Acme`"]);
    fails("https://web1.acme.example/names.nsf", &[], 64, &["it has a path"]);
    fails("localhost:99999", &[], 64, &["its port is not 1 to 65535"]);
    fails("::1", &[], 64, &["brackets"]);
    fails(&plain, &["--json"], 64, &["--json and --format are for --from"]);
    fails(&plain, &["--ca-file", "/no/such/file"], 64, &["--ca-file: /no/such/file"]);
    acme.set("all", json!({ "dir": { "unauthorised": true } }));
    fails(&plain, &[], 2, &["`ICM Reader/Acme` is logged in, but may not read cldbdir.nsf"]);
    fails(&plain, &["--anonymous"], 2, &["cannot be read as Anonymous", "--user NAME"]);
    acme.set("all", json!({ "dir": { "unauthorised": false, "empty": true } }));
    fails(&plain, &[], 2, &["shows this user no document"]);
    let output = folder.output().display().to_string();
    for (arguments, flag) in [
        (vec![], "--server URL is missing"),
        (vec!["--server", &plain], "--user NAME (or --anonymous) is missing"),
        (vec!["--server", &plain, "--user", "a"], "--password-file FILE is missing"),
    ] {
        let mut all = vec!["init", "--yes", "--output", &output];
        all.extend(arguments);
        let failed = icm_cli(&all);
        assert!(failed.code == 64 && failed.err.contains(flag), "{flag}: {failed:?}");
    }
    folder.assert_nothing_written();
}

#[test]
fn a_password_goes_to_another_machine_in_clear_text_only_if_that_is_allowed() {
    // Its Redirect command names servers that are not on this machine, and do not resolve.
    let acme = Acme::sample();
    let folder = Folder::new();
    let refused = folder.init(&http(&acme, "Web1"), &[]);
    assert!(refused.code == 64 && refused.err.contains("--allow-plaintext"), "{refused:?}");
    folder.assert_nothing_written();
    let allowed = folder.init(&http(&acme, "Web1"), &["--allow-plaintext"]);
    assert_eq!(allowed.code, 2, "written, but no server resolves: {allowed:?}");
    assert!(allowed.out.contains("The file is written, but the check found a problem"), "{allowed:?}");
    let text = folder.text();
    assert!(
        text.contains("allow_plaintext: true") && text.contains("DOES NOT ANSWER: web1.acme.example"),
        "{text}"
    );
}

#[test]
fn a_redirect_to_https_is_followed_and_said() {
    let acme = Acme::built_in();
    acme.set("all", json!({ "redirect_to_https": true }));
    let folder = Folder::new();
    let made = folder.init(&http(&acme, "Web3"), &["--ca-file", &acme.ca_file.display().to_string()]);
    assert_eq!(made.code, 0, "{made:?}");
    assert!(made.out.contains("redirects to https://127.0.0.1:"), "{}", made.out);
    assert!(folder.text().contains("upstream_scheme: https"));
}

#[test]
fn without_server_documents_the_redirect_command_gives_the_addresses() {
    let scenario = include_str!("../../acme/built-in.yaml");
    let mut scenario: serde_yaml::Value = serde_yaml::from_str(scenario).unwrap();
    for server in scenario["servers"].as_sequence_mut().unwrap() {
        for port in ["http", "https", "agent", "metrics"] {
            server[port] = 0.into();
        }
        server["hostname"] = "localhost".into();
    }
    let acme = Acme::start(&serde_yaml::to_string(&scenario).unwrap());
    acme.set("all", json!({ "dir": { "servers_404": true }, "console": false }));
    let folder = Folder::new();
    let made = folder.init(&format!("localhost:{}", acme.http("Web1").port()), &[]);
    assert_eq!(made.code, 0, "{made:?}");
    let (text, config) = (folder.text(), folder.config());
    let servers = config["clusters"][0]["servers"]["list"].as_sequence().unwrap();
    for (server, name) in servers.iter().zip(["Web1", "Web2", "Web3", "Web4"]) {
        let expected = format!("localhost:{}", acme.http(name).port());
        assert_eq!(server["http"].as_str(), Some(expected.as_str()), "{text}");
    }
    assert_eq!(config["clusters"][0]["name"], "Acme", "the organisation: {text}");
    for words in [
        "from the Redirect command of",
        "The Server documents were not read",
        "it is estimated from response times",
    ] {
        assert!(text.replace("\n# ", " ").contains(words), "{words}:\n{text}");
    }
}

#[test]
fn a_server_without_a_cluster_gets_every_request() {
    let acme = Acme::start(
        "servers: [ { name: Web1/Acme } ]
users: { ICM Reader/Acme: reader }
databases: [ { path: names.nsf, replica_id: C1256A2F00310001, replicas: all } ]",
    );
    let folder = Folder::new();
    let listen = format!("127.0.0.1:{}", free_port());
    let made = folder.init(&http(&acme, "Web1"), &["--listen", &listen]);
    assert_eq!(made.code, 0, "{made:?}");
    assert!(made.out.contains("this server is in no cluster"), "{}", made.out);
    let icm = run(&folder);
    assert_eq!(icm.client().get("/names.nsf?OpenDatabase").status, 200);
}
