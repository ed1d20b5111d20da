//! The command line for administrators and scripts: texts, JSON and exit codes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::*;
use serde_json::Value;

fn icm(arguments: &[&str]) -> Output {
    let conf = Path::new(env!("CARGO_MANIFEST_DIR"));
    Command::new(env!("CARGO_BIN_EXE_icm")).args(arguments).current_dir(conf).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", out(output)))
}

/// Writes a configuration file; the directory is removed with the value.
fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("icm.yaml");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

const GOOD: &str = "listeners:
  - address: 127.0.0.1:18080
clusters:
  - name: AcmeWeb
    hostnames: [www.acme.example]
    unknown_database: not_found
    servers:
      list:
        - { name: Web1/Acme, hostname: web1.acme.example, http: 127.0.0.1:18081 }
        - { name: Web2/Acme, hostname: web2.acme.example, http: 127.0.0.1:18082 }
    directory:
      source: static
      databases:
        - path: sales/leads.nsf
          replica_id: C1257A000041D2E0
          replicas: [{ server: Web1/Acme }, { server: Web2/Acme, path: apps/leads.nsf }]
        - path: old/closed.nsf
          replica_id: C1257A000041D2E9
          replicas: [{ server: Web1/Acme, mark: out_of_service }]
";

/// A configuration with two errors: an unknown key and an invalid value.
fn bad() -> String {
    GOOD.replace("unknown_database: not_found", "unknown_databse: not_found")
        .replace("address: 127.0.0.1:18080", "address: 127.0.0.1:99999")
}

#[test]
fn check_accepts_the_shipped_configurations() {
    for name in ["conf/minimal.yaml", "conf/acme.yaml"] {
        let output = icm(&["check", "-c", name]);
        assert_eq!(output.status.code(), Some(0), "{name}: {}{}", out(&output), err(&output));
        assert!(out(&output).contains(&format!("{name}: configuration is valid")), "{}", out(&output));
    }
}

#[test]
fn check_reports_every_error_with_line_column_and_hint() {
    let (_dir, path) = file(&bad());
    let name = path.display().to_string();
    for verb in ["check", "run"] {
        let output = icm(&[verb, "-c", &name]);
        assert_eq!(output.status.code(), Some(64), "{verb}");
        let text = err(&output);
        assert!(text.contains(&format!("{name}:2:14: listeners[0].address: ")), "{verb}: {text}");
        assert!(text.contains(&format!("{name}:6:5: clusters[0].unknown_databse: ")), "{verb}: {text}");
        assert!(text.contains("did you mean `unknown_database`"), "{verb}: {text}");
        assert!(!out(&output).contains("valid"), "{verb}");
    }
    let output = icm(&["check", "--json", "-c", &name]);
    assert_eq!(output.status.code(), Some(64));
    let output_json = json(&output);
    assert_eq!(output_json["ok"], false);
    let errors = output_json["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 2, "{output_json}");
    assert_eq!((&errors[1]["line"], &errors[1]["column"]), (&6.into(), &5.into()));
    assert_eq!(errors[1]["file"], name.as_str());
    assert!(errors[1]["hint"].as_str().unwrap().contains("unknown_database"), "{output_json}");
}

#[test]
fn a_reader_that_closes_the_pipe_is_no_error() {
    use std::io::Read;
    let (_dir, path) = file(GOOD);
    for verb in [&["audit", "--offline", "--json"][..], &["man"], &["completion", "bash"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_icm"));
        command.args(verb).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        if verb[0] == "audit" {
            command.arg("-c").arg(&path);
        }
        let mut child = command.spawn().unwrap();
        // Close the pipe at once, so that later output has no reader.
        drop(child.stdout.take());
        let mut output_json = String::new();
        child.stderr.take().unwrap().read_to_string(&mut output_json).unwrap();
        let status = child.wait().unwrap();
        assert!(!output_json.contains("panicked"), "{verb:?}: {output_json}");
        assert!(status.code().is_some_and(|code| code != 101), "{verb:?}: {status}");
    }
}

#[test]
fn check_succeeds_with_warnings() {
    let text = format!("pingora:\n  upgrade_sock: /run/icm.sock\n{GOOD}");
    let (_dir, path) = file(&text);
    let name = path.display().to_string();
    let output = icm(&["check", "-c", &name]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let text = out(&output);
    let expected = format!("warning: {name}:2:3: pingora.upgrade_sock: has no effect: `icm upgrade`");
    assert!(text.contains(&expected), "{text}");
    let output_json = json(&icm(&["check", "--json", "-c", &name]));
    assert_eq!((&output_json["ok"], &output_json["errors"]), (&true.into(), &Value::Array(vec![])));
    let warnings = output_json["warnings"].as_array().unwrap();
    let unused = warnings.iter().find(|w| w["text"].as_str().unwrap().contains("upgrade_sock")).unwrap();
    assert_eq!((&unused["line"], &unused["column"]), (&2.into(), &3.into()));
}

#[test]
fn check_of_a_file_that_follows_asks_the_other_icm_only_with_probe() {
    let (front, _) = GOOD.split_once("clusters:").unwrap();
    // No process listens on port 1.
    let (_dir, path) =
        file(&format!("{front}get_configuration_from: {{ url: \"http://127.0.0.1:1/config\" }}\n"));
    let name = path.display().to_string();
    let output_json = json(&icm(&["check", "--json", "-c", &name]));
    assert_eq!(output_json["ok"], true);
    assert!(output_json["findings"][0]["text"].as_str().unwrap().contains("--probe"), "{output_json}");
    let output = icm(&["check", "--probe", "--json", "-c", &name]);
    assert_eq!(output.status.code(), Some(2));
    let output_json = json(&output);
    assert_eq!(output_json["findings"][0]["what"], "get_configuration_from http://127.0.0.1:1/config");
    assert!(output_json["findings"][0]["text"].as_str().unwrap().contains("refused"), "{output_json}");
}

#[test]
fn a_short_token_off_loopback_is_an_error_and_an_open_statpub_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let short = secret_file(dir.path(), "short", "fifteen-bytes-x\n");
    let long = secret_file(dir.path(), "long", "sixteen-bytes-xx\n");
    let check = |more: &str| {
        let (_dir, path) = file(&format!("{more}\n{GOOD}"));
        let output = icm(&["check", "-c", path.to_str().unwrap()]);
        (output.status.code(), out(&output) + &err(&output))
    };
    for key in ["admin", "statpub"] {
        let with = |address: &str, more: &str| check(&format!("{key}: {{ address: \"{address}\"{more} }}"));
        for address in ["0.0.0.0:18098", "192.0.2.1:18098", "[::]:18098"] {
            let (code, text) = with(address, &format!(", token_file: {short}"));
            assert!(
                code == Some(64)
                    && text.contains("at least 16")
                    && text.contains(&format!("{key}.token_file")),
                "{text}"
            );
            assert_eq!(with(address, &format!(", token_file: {long}")).0, Some(0), "{address}");
        }
        for address in ["127.0.0.1:18098", "[::1]:18098"] {
            assert_eq!(with(address, &format!(", token_file: {short}")).0, Some(0), "{address}");
        }
    }
    for (more, warns) in
        [("", true), (", allow: [10.0.0.0/8]", false), (&format!(", token_file: {long}"), false)]
    {
        let (code, text) = check(&format!("statpub: {{ address: \"0.0.0.0:18098\"{more} }}"));
        assert_eq!((code, text.contains("neither `token_file` nor `allow`")), (Some(0), warns), "{text}");
    }
    assert!(!check("statpub: { address: 127.0.0.1:18098 }").1.contains("neither"));
}

#[test]
fn a_tls_key_that_others_may_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["www.acme.example".to_owned()]).unwrap();
    let pem = secret_file(dir.path(), "icm.pem", &certificate.self_signed(&key).unwrap().pem());
    let key = secret_file(dir.path(), "icm.key", &key.serialize_pem());
    let pair = format!("{{ cert: {pem}, key: {key} }}");
    let listener = GOOD.replace("18080\n", &format!("18080\n    tls: {{ certificates: [{pair}] }}\n"));
    for text in [listener, format!("admin: {{ tls: {pair} }}\n{GOOD}")] {
        let (_dir, path) = file(&text);
        for (mode, code) in [(0o600, 0), (0o660, 0), (0o644, 64), (0o602, 64)] {
            std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
            let output = icm(&["check", "-c", path.to_str().unwrap()]);
            assert_eq!(output.status.code(), Some(code), "{mode:o}: {}", err(&output));
            assert_eq!(err(&output).contains(&format!("chmod o-rwx {key}")), code == 64, "{}", err(&output));
        }
    }
}

#[test]
fn an_empty_secret_file_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let empty = secret_file(dir.path(), "affinity.key", "");
    let (_dir, path) = file(&format!("{GOOD}    affinity: {{ secret_file: {empty} }}\n"));
    let output = icm(&["check", "-c", path.to_str().unwrap()]);
    assert!(output.status.code() == Some(64) && err(&output).contains("holds no key"), "{}", err(&output));
}

#[test]
fn control_characters_from_a_server_are_escaped_on_the_terminal() {
    let acme = Acme::built_in();
    let hostile = "Leads\u{1b}[2J\u{9b}31m\u{7f}\u{202e}fdp.exe\nforged";
    for server in ["Web1", "Web2"] {
        let copy = serde_json::json!({
            "server": server, "path": "a/hostile.nsf", "replica_id": "C1257A00004190E0", "title": hostile
        });
        acme.ask("POST", "/databases", Some(&copy));
    }
    let mut config = config(&acme);
    set(&mut config, "clusters.0.directory.format", "json");
    let running = Icm::start(config);
    assert!(eventually(MAX_WAIT, || running.admin("/databases?q=hostile").text().contains("Leads")));
    let conf = running.file.to_str().unwrap();
    let is_hostile = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    for verb in
        [&["show", "databases", "hostile"][..], &["audit", "--limit", "0"], &["explain", "/a/hostile.nsf"]]
    {
        let text = out(&icm(&[verb, &["-c", conf]].concat()));
        assert!(!text.is_empty() && !text.contains(is_hostile), "{text:?}");
        assert_eq!(
            text.contains("Leads\\u001b[2J\\u009b31m\\u007f\\u202efdp.exe\\u000aforged"),
            verb[0] != "audit",
            "{text}"
        );
    }
    // JSON keeps the title unchanged.
    let output = icm(&["show", "databases", "hostile", "--json", "-c", conf]);
    assert!(!out(&output).contains(is_hostile));
    assert_eq!(json(&output)["databases"][0]["title"], hostile);
    assert!(!running.log().contains(is_hostile), "{:?}", running.log());
}

#[test]
fn control_characters_in_the_answer_of_another_icm_do_not_reach_the_log() {
    let answer = |body: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let good = "clusters: [{ name: A, servers: { list: [{ name: Web1/Acme, http: \"127.0.0.1:1\" }] }, directory: { databases: [] } }]";
    let leader = FixedResponseServer::new(&answer(good));
    let config = format!(
        "listeners: [{{ address: 127.0.0.1:{} }}]
admin: {{ address: 127.0.0.1:{} }}
get_configuration_from: {{ url: \"http://{}/config\", refresh: 100ms }}
",
        free_port(),
        free_port(),
        leader.address
    );
    let running = Icm::start(serde_yaml::from_str(&config).unwrap());
    leader.say(&answer("name: \u{1b}[2J\u{9b}\u{202e}\n"));
    running.wait_for_log("is not YAML");
    let (_dir, path) = file(&config);
    let output = icm(&["check", "--probe", "-c", path.to_str().unwrap()]);
    let events = icm(&["show", "events", "-c", running.file.to_str().unwrap()]);
    for text in [running.log(), out(&output) + &err(&output), out(&events)] {
        assert!(text.contains("is not YAML") && text.contains("\\u202e"), "{text:?}");
        assert!(!text.contains(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}'), "{text:?}");
    }
}

#[test]
fn a_file_that_is_missing_or_no_yaml_is_a_configuration_error() {
    let (_dir, path) = file("listeners: [");
    let broken = path.display().to_string();
    for (name, expected) in
        [("/nowhere/icm.yaml", "/nowhere/icm.yaml: cannot read the file"), (&broken, ":1:")]
    {
        for verb in ["check", "run"] {
            let output = icm(&[verb, "-c", name]);
            assert_eq!(output.status.code(), Some(64), "{verb} {name}");
            assert!(err(&output).contains(expected), "{verb}: {}", err(&output));
        }
    }
}

#[test]
fn wrong_arguments_exit_with_64_and_help_with_0() {
    for wrong in [&[][..], &["run"], &["serve"], &["run", "-c"], &["check", "--no-such"], &["explain"]] {
        let output = icm(wrong);
        assert_eq!(output.status.code(), Some(64), "{wrong:?}: {}", err(&output));
        assert!(!err(&output).is_empty(), "{wrong:?}");
    }
    let output = icm(&["explain", "--offline", "/sales/leads.nsf"]);
    assert_eq!(output.status.code(), Some(64), "--offline without a file");
    let output = icm(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let verbs = [
        "run",
        "check",
        "explain",
        "restrict",
        "release",
        "maintain",
        "show",
        "simulate",
        "audit",
        "upgrade",
        "completion",
        "man",
    ];
    for verb in verbs {
        assert!(out(&output).contains(verb), "{}", out(&output));
    }
    for verb in
        ["check", "explain", "restrict", "release", "maintain", "show", "simulate", "audit", "upgrade"]
    {
        let help = out(&icm(&[verb, "--help"]));
        for text in ["Exit codes:", "Example", "64", "icm "] {
            assert!(help.contains(text), "{verb} lacks {text}: {help}");
        }
    }
    assert!(out(&icm(&["--version"])).starts_with("icm "));
}

#[test]
fn completions_and_the_manual_page_list_the_verbs() {
    for shell in ["bash", "zsh", "fish"] {
        let output = icm(&["completion", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}: {}", err(&output));
        for word in ["simulate", "restrict", "if-safe", "offline", "drain-timeout"] {
            assert!(out(&output).contains(word), "{shell} lacks {word}");
        }
    }
    let page = out(&icm(&["man"]));
    assert!(page.contains(".TH icm 1") && page.contains("icm simulate"), "{page}");
}

#[test]
fn explain_offline_takes_method_host_and_client() {
    let (_dir, path) = file(GOOD);
    let name = path.display().to_string();
    let explain = |more: &[&str]| {
        let mut arguments = vec!["explain", "--offline", "--json", "-c", &name];
        arguments.extend(more);
        icm(&arguments)
    };
    assert_eq!(explain(&["--host", "other.example", "/sales/leads.nsf"]).status.code(), Some(2));
    let explained =
        json(&explain(&["--client", "10.1.2.3", "--method", "post", "/sales/leads.nsf?DeleteDocument"]));
    assert_eq!(
        (&explained["outcome"], &explained["class"]),
        (&"serve".into(), &"unsafe".into()),
        "{explained:#}"
    );
    assert!(explained["notes"].to_string().contains("10.1.2.3"), "{explained:#}");
    assert_eq!(explain(&["--client", "nobody", "/"]).status.code(), Some(64));
}

#[test]
fn explain_offline_names_the_server_and_the_reason() {
    let (_dir, path) = file(GOOD);
    let name = path.display().to_string();
    let explain = |url: &str| icm(&["explain", "--offline", "--json", "-c", &name, url]);
    let output = explain("http://www.acme.example/Sales/LEADS.nsf?OpenDatabase");
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let output_json = json(&output);
    assert_eq!(output_json["outcome"], "serve", "{output_json:#}");
    assert_eq!(output_json["database"]["replica_id"], "C1257A000041D2E0");
    let candidates = output_json["candidates"].as_array().unwrap();
    assert_eq!(candidates.len(), 2, "{output_json:#}");
    assert!(candidates.iter().all(|c| c["state"] == "AVAILABLE"), "{output_json:#}");
    assert_eq!(output_json["band"].as_array().unwrap().len(), 2, "both are equal: {output_json:#}");
    for (url, status) in [
        ("http://www.acme.example/no/such.nsf", 404),
        ("http://www.acme.example/old/closed.nsf", 503),
        ("http://other.example/sales/leads.nsf", 421),
    ] {
        let output = explain(url);
        assert_eq!(output.status.code(), Some(2), "{url}: {}", out(&output));
        assert_eq!(json(&output)["status"], status, "{url}: {}", out(&output));
    }
    let text = out(&icm(&["explain", "--offline", "-c", &name, "http://www.acme.example/sales/leads.nsf"]));
    assert!(text.contains("Web1/Acme") && text.contains("Web2/Acme"), "{text}");
    let (_dir, path) = file(&bad());
    let output = icm(&["explain", "--offline", "-c", &path.display().to_string(), "/sales/leads.nsf"]);
    assert_eq!(output.status.code(), Some(64));
}

#[test]
fn explain_asks_the_running_icm() {
    let acme = Acme::built_in();
    let running = Icm::start(config(&acme));
    let file = running.file.display().to_string();
    let output = icm(&["explain", "--json", "-c", &file, "/legacy/archive2009.nsf"]);
    assert_eq!(output.status.code(), Some(0), "{}{}", out(&output), err(&output));
    assert_eq!(json(&output)["server"], "Web4/Acme");
    let admin = format!("http://{}", running.admin);
    let output = icm(&["explain", "--admin", &admin, "/legacy/archive2009.nsf"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert!(out(&output).contains("Web4/Acme"), "{}", out(&output));
    drop(running);
    let output = icm(&["explain", "--admin", &admin, "/legacy/archive2009.nsf"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("--offline"), "{}", err(&output));
}

#[cfg(feature = "mimalloc")]
#[test]
fn mimalloc_replaces_the_allocator_of_the_c_library() {
    // mimalloc prints this from the first `malloc` of the process.
    let icm = env!("CARGO_BIN_EXE_icm");
    let output_json = Command::new(icm).arg("--version").env("MIMALLOC_VERBOSE", "1").output().unwrap();
    assert!(output_json.status.success());
    assert!(err(&output_json).contains("mimalloc: process init"), "{}", err(&output_json));
}
