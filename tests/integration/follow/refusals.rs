//! What a follower refuses and what a leader refuses: tokens, certificates, files, broken and hostile responses.

use std::io::Read;
use std::time::Duration;

use crate::support::*;
use serde_yaml::Value;

/// A minimal configuration that follows this URL, with further keys.
fn following(url: &str, more: &str) -> Value {
    serde_yaml::from_str(&format!(
        "pingora: {{ threads: 1 }}
listeners: [{{ address: 127.0.0.1:{} }}]
admin: {{ address: 127.0.0.1:{} }}
get_configuration_from: {{ url: \"{url}\", refresh: 100ms{more} }}
",
        free_port(),
        free_port()
    ))
    .unwrap()
}

/// A cluster of one server that does not run, as YAML.
fn clusters(name: &str, more: &str) -> String {
    format!(
        "clusters:
- name: {name}
  servers: {{ list: [ {{ name: Web1/Acme, hostname: web1.acme.example, http: \"127.0.0.1:1\" }} ] }}
  directory: {{ source: static, databases: [] }}
{more}"
    )
}

fn answer(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nETag: \"one\"\r\n\r\n{body}", body.len())
}

/// Checks that `icm` ends with exit code 1, and returns its log.
fn fails_to_start(config: Value) -> String {
    let mut icm = Icm::spawn(config);
    let status = icm.wait_for_end(Duration::from_secs(90));
    assert_eq!(status.and_then(|s| s.code()), Some(1), "{}", icm.log());
    // Other threads read the log, so it may come later than the end.
    assert!(eventually(MAX_WAIT, || icm.log().contains("icm: ")), "{}", icm.log());
    icm.log()
}

fn trouble(icm: &Icm) -> String {
    icm.status()["configuration"]["follows"]["error"].as_str().unwrap().to_owned()
}

fn wait_for_trouble(icm: &Icm, text: &str) {
    let there = eventually(MAX_WAIT, || trouble(icm).contains(text));
    assert!(there, "no {text:?} in {:#}", icm.status()["configuration"]);
}

#[test]
fn the_configuration_is_served_only_with_token_host_and_origin_and_without_secrets() {
    let (acme, dir) = (Acme::built_in(), tempfile::tempdir().unwrap());
    let mut config = config(&acme);
    let token = secret_file(dir.path(), "token", "sesame-open-0123456789\n");
    let key = secret_file(dir.path(), "key", "a-key-that-nobody-may-ever-see-here\n");
    set(&mut config, "admin.token_file", &token);
    set(&mut config, "clusters.0.affinity", &format!("{{ secret_file: {key} }}"));
    let icm = Icm::start(config);
    let bearer = ("Authorization", "Bearer sesame-open-0123456789");
    let get = |method: &str, headers: &[(&str, &str)]| {
        Client::to(icm.admin).request(method, "/config", headers, b"").unwrap()
    };
    assert_eq!(get("GET", &[]).status, 401);
    assert_eq!(get("GET", &[("Authorization", "Bearer sesame")]).status, 401);
    assert_eq!(get("GET", &[bearer, ("Host", "evil.example")]).status, 421);
    assert_eq!(get("GET", &[bearer, ("Origin", "http://evil.example")]).status, 403);
    assert_eq!(get("POST", &[bearer]).status, 405);
    let whole = get("GET", &[bearer]);
    assert_eq!((whole.status, whole.header("content-type")), (200, Some("application/yaml")));
    let said: Value = serde_yaml::from_str(&whole.text()).unwrap();
    assert_eq!(said["clusters"][0]["name"], "AcmeWeb");
    assert_eq!(said["clusters"][0]["affinity"]["secret_file"], key.as_str());
    assert!(
        !whole.text().contains("nobody-may-ever") && !whole.text().contains("sesame"),
        "{}",
        whole.text()
    );
    assert_eq!(said["restrictions"], Value::Sequence(vec![]));

    let tag = whole.header("etag").unwrap().to_owned();
    assert!(tag.starts_with('"'), "weak: {tag}");
    let again = get("GET", &[bearer, ("If-None-Match", &format!("\"other\", {tag}"))]);
    assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, Some(tag.as_str())));
    assert_eq!(get("GET", &[("If-None-Match", &tag)]).status, 401);
    assert_eq!(get("HEAD", &[bearer]).header("etag"), Some(tag.as_str()));
    let output = icm_cli(&["restrict", "Web1", "-c", icm.file.to_str().unwrap()]);
    assert_eq!(output.code, 0, "{output:?}");
    let after = get("GET", &[bearer, ("If-None-Match", &tag)]);
    assert_eq!(after.status, 200);
    let said: Value = serde_yaml::from_str(&after.text()).unwrap();
    let one = &said["restrictions"][0];
    assert_eq!((one["cluster"].as_str(), one["server"].as_str()), (Some("AcmeWeb"), Some("Web1/Acme")));
    assert!(
        one["since"].as_u64().unwrap() > 1_000_000_000_000
            && one["by"].as_str().unwrap().contains("administrator")
    );
}

#[test]
fn without_a_copy_a_follower_fails_to_start_and_names_the_leader() {
    let url = format!("http://127.0.0.1:{}/config", free_port());
    let log = fails_to_start(following(&url, ""));
    assert!(log.contains(&url) && log.contains("connection refused") && log.contains("no `cache`"), "{log}");
    assert!(log.contains("trying again for 30s"), "{log}");
}

#[test]
fn with_a_wrong_token_or_path_a_follower_fails_to_start_at_once() {
    let (acme, dir) = (Acme::built_in(), tempfile::tempdir().unwrap());
    let mut config = config(&acme);
    set(&mut config, "admin.token_file", &secret_file(dir.path(), "token", "right\n"));
    let leader = Icm::start(config);
    let wrong = secret_file(dir.path(), "wrong", "wrong\n");
    let url = format!("http://{}/config", leader.admin);
    for more in [String::new(), format!(", token_file: {wrong}")] {
        let log = fails_to_start(following(&url, &more));
        assert!(log.contains("401") && log.contains("token_file") && log.contains(&url), "{log}");
    }
    let log = fails_to_start(following(&format!("http://{}/", leader.address), ""));
    assert!(log.contains("refused") || log.contains("answered with status"), "{log}");
    let more = format!(
        ", token_file: {}/token, allow_files_under: [{}]",
        dir.path().display(),
        acme.ca_file.parent().unwrap().display()
    );
    let follower = Icm::start(following(&url, &more));
    assert_eq!(follower.client().get("/homepage.nsf").status, 200);
}

#[test]
fn tls_is_verified_against_the_ca_file() {
    let (acme, other) = (Acme::built_in(), Acme::built_in());
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&acme);
    set(&mut config, "admin.token_file", &secret_file(dir.path(), "token", "right\n"));
    set(&mut config, "admin.tls", &acme.certificate());
    let leader = Icm::start(config);
    let url = format!("https://{}/config", leader.admin);
    let more = |ca: &Acme| {
        format!(
            ", ca_file: {}, token_file: {}/token, allow_files_under: [{}]",
            ca.ca_file.display(),
            dir.path().display(),
            acme.ca_file.parent().unwrap().display()
        )
    };
    let log = fails_to_start(following(&url, &more(&other)));
    assert!(log.contains("certificate is not trusted"), "{log}");
    let follower = Icm::start(following(&url, &more(&acme)));
    assert_eq!(follower.client().get("/homepage.nsf").status, 200);
}

#[test]
fn an_invalid_configuration_is_refused_and_the_old_one_stays_in_use() {
    let leader = FixedResponseServer::new(&answer(&clusters("One", "")));
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("deep/config.yaml");
    let url = format!("http://{}/config", leader.address);
    let icm = Icm::start(following(&url, &format!(", cache: {}", cache.display())));
    let name = || icm.status()["clusters"][0]["name"].as_str().unwrap().to_owned();
    assert_eq!(name(), "One");
    let asked_by_tag = || leader.heads().iter().any(|h| h.to_lowercase().contains("if-none-match: \"one\""));
    assert!(eventually(MAX_WAIT, asked_by_tag), "{:?}", leader.heads());

    leader.say(&answer(&clusters("Two", "  prob: { interval: 1s }\n")));
    wait_for_trouble(&icm, "did you mean");
    icm.wait_for_log("stays in force");
    let log = icm.log();
    assert!(log.contains(&format!("{url}:5:")), "{log}");
    assert_eq!(icm.metric("icm_config_follow_success"), Some(0.0));
    assert!(eventually(MAX_WAIT, || icm.metric("icm_config_reload_success") == Some(0.0)));
    assert_eq!(icm.status()["reload"]["success"], false);
    let events = icm.status()["events"].clone();
    let refused =
        |e: &&serde_json::Value| e["kind"] == "follow" && e["cause"].as_str().unwrap().contains("is refused");
    assert_eq!(events.as_array().unwrap().iter().filter(refused).count(), 1, "{events:#}");
    assert_eq!(name(), "One");
    // Only the valid configuration is cached.
    assert!(std::fs::read_to_string(&cache).unwrap().contains("name: One"));

    leader.say(&answer(&clusters("Two", "")));
    assert!(eventually(MAX_WAIT, || name() == "Two"), "{}", trouble(&icm));
    assert!(eventually(MAX_WAIT, || trouble(&icm).is_empty()), "{}", trouble(&icm));
    assert!(eventually(MAX_WAIT, || icm.metric("icm_config_reload_success") == Some(1.0)));
    assert!(eventually(MAX_WAIT, || std::fs::read_to_string(&cache).unwrap().contains("name: Two")));
    assert_eq!(std::fs::read_dir(cache.parent().unwrap()).unwrap().count(), 1, "no temporary file is left");

    for (broken, word) in [
        ("HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n".to_owned(), "status 500"),
        ("HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n".to_owned(), "status 302"),
        ("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n".to_owned(), "token_file"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\nclusters:".to_owned(), "larger than"),
        (format!("HTTP/1.1 200 OK\r\n\r\n{}", "# padding\n".repeat(500_000)), "larger than"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nclusters:".to_owned(),
            "before the response was complete",
        ),
        ("SSH-2.0-OpenSSH_9.9\r\n\r\n".to_owned(), "not a valid"),
        (answer("<html>Please log in</html>"), "not the configuration of an ICM"),
        (answer("a: &a [x, x]\nb: &b [*a, *a]\nclusters: *b\n"), "clusters"),
        (answer(&format!("restrictions: 7\n{}", clusters("X", ""))), "restrictions cannot be understood"),
        (answer(&clusters("X", "  upstream_tls: { ca_file: /etc/hostname }\n")), "may not be named"),
    ] {
        leader.say(&broken);
        wait_for_trouble(&icm, word);
        assert_eq!(name(), "Two");
    }
    leader.say(&answer(&clusters("Two", "")));
    assert!(eventually(MAX_WAIT, || trouble(&icm).is_empty()));
}

#[test]
fn a_leader_may_name_only_files_below_allow_files_under() {
    let dir = tempfile::tempdir().unwrap();
    let (inside, outside) = (dir.path().join("inside"), dir.path().join("outside"));
    for dir in [&inside, &outside] {
        std::fs::create_dir(dir).unwrap();
        std::fs::write(dir.join("db.csv"), "path,server,replica_id\na.nsf,Web1/Acme,C1257A000041D2E0\n")
            .unwrap();
    }
    std::os::unix::fs::symlink(outside.join("db.csv"), inside.join("link.csv")).unwrap();
    let naming = |file: &str| {
        let body = clusters("One", "")
            .replace("{ source: static, databases: [] }", &format!("{{ source: file, file: {file} }}"));
        FixedResponseServer::new(&answer(&body))
    };
    let (inside, outside) = (inside.display(), outside.display());
    for file in [
        format!("{outside}/db.csv"),
        format!("{inside}/../outside/db.csv"),
        format!("{inside}/link.csv"),
        "db.csv".to_owned(),
    ] {
        let leader = naming(&file);
        let url = format!("http://{}/config", leader.address);
        let log = fails_to_start(following(&url, &format!(", allow_files_under: [{inside}]")));
        assert!(log.contains("may not be named") && log.contains("allow_files_under"), "{file}: {log}");
    }
    let leader = naming(&format!("{inside}/db.csv"));
    let url = format!("http://{}/config", leader.address);
    assert!(fails_to_start(following(&url, "")).contains("no directory at all"));
    let icm = Icm::start(following(&url, &format!(", allow_files_under: [{inside}]")));
    assert_eq!(icm.status()["clusters"][0]["directory"]["databases"], 1);
}

#[test]
fn a_reload_to_a_leader_that_does_not_answer_is_refused() {
    let leader = FixedResponseServer::new(&answer(&clusters("One", "")));
    let mut config = following(&format!("http://{}/config", leader.address), "");
    let icm = Icm::start(config.clone());
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in silent.incoming().flatten() {
            // Reads everything and sends nothing.
            std::thread::spawn(move || while stream.read(&mut [0; 1024]).is_ok_and(|n| n > 0) {});
        }
    });
    set(&mut config, "get_configuration_from.url", &format!("http://{address}/config"));
    icm.reload(&config);
    icm.wait_for_log("serving");
    let refused = eventually(Duration::from_secs(60), || icm.status()["reload"]["success"] == false);
    assert!(refused, "{}", icm.log());
    assert!(icm.log().contains("no complete response within"), "{}", icm.log());
    // It continues to follow the same leader.
    let follows = icm.status()["configuration"]["follows"].clone();
    assert!(follows["url"].as_str().unwrap().contains(&leader.address.to_string()), "{follows:#}");
    assert!(
        eventually(MAX_WAIT, || icm.status()["configuration"]["follows"]["asked_at"] != follows["asked_at"])
    );
}

#[test]
fn check_probe_validates_the_leaders_configuration_and_offline_verbs_read_the_copy() {
    let leader = FixedResponseServer::new(&answer(&clusters("One", "")));
    let dir = tempfile::tempdir().unwrap();
    let more = format!(", cache: {}/config.yaml", dir.path().display());
    let config = following(&format!("http://{}/config", leader.address), &more);
    let (_dir, file) = write_config(&config);
    let file = file.to_str().unwrap();
    assert_eq!(icm_cli(&["check", "-c", file]).code, 0);
    let output = icm_cli(&["check", "--probe", "-c", file]);
    assert!(
        output.out.contains("1 clusters, 0 restrictions") && output.out.contains("Web1/Acme"),
        "{output:?}"
    );
    let output = icm_cli(&["explain", "/a.nsf", "--offline", "-c", file]);
    assert!(output.code == 1 && output.err.contains("there is no copy in"), "{output:?}");
    drop(Icm::start(config));
    for verb in [&["explain", "/a.nsf"][..], &["simulate", "--down", "Web1"], &["audit"]] {
        let output = icm_cli(&[verb, &["--offline", "-c", file]].concat());
        assert!(output.out.contains("One: ") || output.out.contains("Web1/Acme"), "{output:?}");
    }
    leader.say(&answer("clusters: []"));
    let output = icm_cli(&["check", "--probe", "-c", file]);
    assert!(output.code == 2 && output.out.contains("no cluster is given"), "{output:?}");
}
