//! A hostile leader: the configuration that an ICM follows can neither read nor replace its files.

use std::path::{Path, PathBuf};

use crate::support::*;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A follower with a secret of every kind, and a leader whose answer the test sets.
struct Follower {
    leader: FixedResponseServer,
    icm: Icm,
    dir: tempfile::TempDir,
    cache: PathBuf,
}

/// An answer with one cluster of a server that does not run.
fn clusters(name: &str, directory: &str, more: &str) -> String {
    let body = format!(
        "clusters:
- name: {name}
  servers: {{ list: [ {{ name: Web1/Acme, hostname: web1.acme.example, http: \"127.0.0.1:1\" }} ] }}
  directory: {{ source: cldbdir{directory} }}
{more}"
    );
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

impl Follower {
    fn new() -> Follower {
        let leader = FixedResponseServer::new(&clusters("Good", "", ""));
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::create_dir(path("state")).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(path("icm.pem"), certificate.self_signed(&key).unwrap().pem()).unwrap();
        secret_file(dir.path(), "icm.key", &key.serialize_pem());
        for name in ["token", "statpub-token", "leader-token"] {
            secret_file(dir.path(), name, TOKEN);
        }
        let cache = path("copy.yaml");
        let (at, ports) = (dir.path().display(), [free_port(), free_port(), free_port(), free_port()]);
        // Both permitted directories contain all files, so a refusal means that the file is the follower's own.
        let all = std::env::temp_dir().canonicalize().unwrap();
        let text = format!(
            "pingora: {{ threads: 1 }}
listeners:
- address: 127.0.0.1:{}
- {{ address: 127.0.0.1:{}, tls: {{ certificates: [{{ cert: {at}/icm.pem, key: {at}/icm.key }}] }} }}
admin: {{ address: 127.0.0.1:{}, token_file: {at}/token }}
statpub: {{ address: 127.0.0.1:{}, token_file: {at}/statpub-token }}
access_log: {{ path: {at}/access.log }}
state_dir: {at}/state
get_configuration_from:
  url: http://{}/config
  token_file: {at}/leader-token
  refresh: 100ms
  cache: {}
  allow_files_under: [{}]
  allow_caches_under: [{}]
",
            ports[0],
            ports[1],
            ports[2],
            ports[3],
            leader.address,
            cache.display(),
            all.display(),
            all.display(),
        );
        let icm = Icm::start(serde_yaml::from_str(&text).unwrap());
        Follower { leader, icm, dir, cache }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(name)
    }

    fn status(&self) -> serde_json::Value {
        let bearer = format!("Bearer {TOKEN}");
        Client::to(self.icm.admin).get_with("/status", &[("Authorization", &bearer)]).json()
    }

    /// Checks that this answer of the leader is refused with an error that contains `words`, and that the old one stays in use.
    fn refuses(&self, answer: &str, words: &[&str]) {
        self.leader.say(answer);
        let trouble = || {
            let status = self.status();
            assert_eq!(status["clusters"][0]["name"], "Good", "{answer}");
            status["configuration"]["follows"]["error"].as_str().unwrap().to_owned()
        };
        let there = eventually(MAX_WAIT, || words.iter().all(|word| trouble().contains(word)));
        assert!(there, "{words:?} is not in {}\n{answer}", trouble());
        self.leader.say(&clusters("Good", "", ""));
        assert!(eventually(MAX_WAIT, || trouble().is_empty()), "{}", trouble());
    }

    /// All names of a file: its own, a symbolic link, a path through a linked directory, and a hard link.
    fn names_of(&self, file: &Path) -> Vec<PathBuf> {
        let other = tempfile::Builder::new().tempdir_in(self.dir.path()).unwrap().keep();
        let other = other.canonicalize().unwrap();
        let names = ["link", "hard"].map(|name| other.join(name));
        std::os::unix::fs::symlink(file, &names[0]).unwrap();
        if file.exists() {
            std::fs::hard_link(file, &names[1]).unwrap();
        }
        std::os::unix::fs::symlink(file.parent().unwrap(), other.join("dir")).unwrap();
        let through = other.join("dir").join(file.file_name().unwrap());
        let names = [file.to_owned(), names[0].clone(), through, names[1].clone()];
        names.into_iter().filter(|name| name.exists() || name == file).collect()
    }
}

#[test]
fn a_leader_cannot_make_a_follower_send_its_own_secrets() {
    let follower = Follower::new();
    let key = "clusters[0].connector_secret_file";
    for (file, what) in [
        ("token", "admin.token_file"),
        ("statpub-token", "statpub.token_file"),
        ("leader-token", "get_configuration_from.token_file"),
        ("icm.key", "listeners[1].tls.certificates[0].key"),
        ("state/affinity.key", "file in `state_dir`"),
        ("state/restrictions.json", "file in `state_dir`"),
        ("copy.yaml", "get_configuration_from.cache"),
        ("access.log", "access_log.path"),
    ] {
        for name in follower.names_of(&follower.path(file)) {
            let answer = clusters("Bad", "", &format!("  connector_secret_file: {}\n", name.display()));
            follower.refuses(&answer, &[key, "may not be named by another ICM's configuration", what]);
        }
    }
    // A password is sent to servers, a signing key is not; both are refused.
    let token = follower.path("token");
    let auth = format!(
        ", auth: {{ allow_plaintext: true, basic: {{ user: x, password_file: {} }} }}",
        token.display()
    );
    follower
        .refuses(&clusters("Bad", &auth, ""), &["directory.auth.basic.password_file", "admin.token_file"]);
    let affinity = format!("  affinity: {{ secret_file: {} }}\n", token.display());
    follower.refuses(&clusters("Bad", "", &affinity), &["affinity.secret_file", "admin.token_file"]);
    let configuration =
        format!("  connector_secret_file: {}\n", follower.icm.file.canonicalize().unwrap().display());
    follower.refuses(&clusters("Bad", "", &configuration), &[key, "configuration file"]);
}

#[test]
fn a_leader_cannot_make_a_cache_replace_the_followers_own_files() {
    let follower = Follower::new();
    assert!(eventually(MAX_WAIT, || follower.cache.exists()));
    for (file, what) in [
        ("token", "admin.token_file"),
        ("icm.key", "certificates[0].key"),
        ("icm.pem", "certificates[0].cert"),
        ("state/affinity.key", "file in `state_dir`"),
        ("state/restrictions.json", "file in `state_dir`"),
        ("copy.yaml", "get_configuration_from.cache"),
    ] {
        for name in follower.names_of(&follower.path(file)) {
            let answer = clusters("Bad", &format!(", cache: {}", name.display()), "");
            follower.refuses(&answer, &["clusters[0].directory.cache", "may not be named", what]);
        }
    }
    let configuration = follower.icm.file.canonicalize().unwrap();
    let answer = clusters("Bad", &format!(", cache: {}", configuration.display()), "");
    follower.refuses(&answer, &["clusters[0].directory.cache", "configuration file"]);
    assert!(std::fs::read_to_string(configuration).unwrap().contains("get_configuration_from"));
    assert_eq!(std::fs::read(follower.path("state/affinity.key")).unwrap().len(), 32);
}

#[test]
fn caches_of_followed_clusters_stay_below_state_dir() {
    let acme = Acme::built_in();
    let (leaders, followers) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let state = followers.path().canonicalize().unwrap();
    let mut leading = config(&acme);
    set(&mut leading, "state_dir", &leaders.path().display().to_string());
    set(&mut leading, "clusters.0.directory.cache", &state.join("acmeweb.cache").display().to_string());
    let leader = Icm::start(leading.clone());
    let mut following = config(&acme);
    following.as_mapping_mut().unwrap().remove("clusters");
    set(&mut following, "state_dir", &state.display().to_string());
    let read = acme.ca_file.parent().unwrap().display();
    let url =
        format!("{{ url: \"http://{}/config\", refresh: 100ms, allow_files_under: [{read}] }}", leader.admin);
    set(&mut following, "get_configuration_from", &url);
    let icm = Icm::start(following);
    assert_eq!(icm.client().get("/homepage.nsf").status, 200);
    // Permission to read a directory is no permission to write to it.
    let elsewhere = acme.ca_file.parent().unwrap().join("acmeweb.cache");
    set(&mut leading, "clusters.0.directory.cache", &elsewhere.display().to_string());
    leader.reload(&leading);
    let error = || icm.status()["configuration"]["follows"]["error"].as_str().unwrap().to_owned();
    assert!(eventually(MAX_WAIT, || error().contains("allow_caches_under")), "{}", error());
    assert!(
        error().contains("clusters[0].directory.cache") && error().contains("may be written"),
        "{}",
        error()
    );
    assert_eq!(icm.client().get("/homepage.nsf").status, 200);
}

#[test]
fn a_file_that_is_no_cache_is_never_replaced() {
    let acme = Acme::built_in();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("databases.csv");
    std::fs::write(&file, "path,server,replica_id\n").unwrap();
    let mut config = config(&acme);
    set(&mut config, "clusters.0.directory.cache", &file.display().to_string());
    let icm = Icm::start(config);
    icm.wait_for_log("was not written by icm as a cache");
    assert!(icm.log().contains("databases.csv"), "{}", icm.log());
    assert_eq!(icm.client().get("/homepage.nsf").status, 200);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "path,server,replica_id\n");
    // A crash may leave an empty file, which is replaced.
    std::fs::write(&file, "").unwrap();
    acme.ask("DELETE", "/databases?path=homepage.nsf&server=Web4", None);
    assert!(eventually(MAX_WAIT, || std::fs::metadata(&file).unwrap().len() > 0), "{}", icm.log());
}
