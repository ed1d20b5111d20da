//! Certificates by ACME from a real ACME server, Caddy's, which asks for the challenges on ports 80 and 443 of names.
//!
//! Each test runs itself again in a network namespace of its own, where these ports are free and `/etc/hosts` is another file.
//! Skipped where namespaces are not permitted or Caddy is missing.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::*;
use serde_yaml::Value;

const HOSTS: &str = "127.0.0.1 localhost ca.acme.example www.acme.example mail.acme.example
127.0.0.2 second.acme.example third.acme.example
127.0.0.9 nowhere.acme.example
";
const DIRECTORY: &str = "https://ca.acme.example:14000/acme/local/directory";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// Runs another test of this file, which is ignored otherwise, in a network namespace.
fn in_namespace(test: &str) {
    let skip = |why: &str| eprintln!("skipped, {test}: {why}");
    if Command::new("caddy").arg("version").stdout(Stdio::null()).status().is_err() {
        return skip("caddy is missing");
    }
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--net", "--mount", "--fork", "--kill-child", "sh", "-ec"]);
        command
    };
    let dir = tempfile::tempdir().unwrap();
    let hosts = dir.path().join("hosts");
    std::fs::write(&hosts, HOSTS).unwrap();
    let prepare = "ip link set lo up; ip addr add 192.0.2.1/32 dev lo; mount --bind \"$0\" /etc/hosts";
    let possible = unshare().arg(prepare).arg(&hosts).stderr(Stdio::null()).status();
    if !possible.is_ok_and(|status| status.success()) {
        return skip("a network namespace is not permitted");
    }
    let (_, module) = module_path!().split_once("::").unwrap();
    let mut inner = unshare();
    inner.arg(format!("{prepare}; exec \"$@\"")).arg(&hosts).arg(std::env::current_exe().unwrap());
    inner.args(["--exact", &format!("{module}::{test}"), "--ignored", "--nocapture"]);
    let output = inner.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{out}\n{err}");
}

/// Caddy as an ACME server, with an authority of its own.
struct Caddy {
    child: Child,
    dir: tempfile::TempDir,
}

impl Caddy {
    fn start() -> Caddy {
        Caddy::start_in(tempfile::tempdir().unwrap())
    }

    fn start_in(dir: tempfile::TempDir) -> Caddy {
        let path = dir.path().display();
        let text = format!(
            "{{
    admin off
    skip_install_trust
    storage file_system {path}/store
    auto_https disable_redirects
}}
https://ca.acme.example:14000 {{
    bind 127.0.0.1
    tls internal
    acme_server
}}
"
        );
        std::fs::write(dir.path().join("Caddyfile"), text).unwrap();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let child = Command::new("caddy")
            .args(["run", "--adapter", "caddyfile", "--config"])
            .arg(dir.path().join("Caddyfile"))
            .env("HOME", dir.path())
            .env("XDG_DATA_HOME", dir.path())
            .env("XDG_CONFIG_HOME", dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let caddy = Caddy { child, dir };
        wait_for(([127, 0, 0, 1], 14000).into());
        let has_certificate = || {
            caddy.root().exists()
                && Client::tls(([127, 0, 0, 1], 14000).into(), "ca.acme.example", &caddy.root())
                    .request("GET", "/acme/local/directory", &[], b"")
                    .is_ok_and(|answer| answer.status == 200)
        };
        assert!(eventually(MAX_WAIT, has_certificate), "{}", caddy.log());
        caddy
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("store/pki/authorities/local/root.crt")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Caddy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of caddy ---\n{}", self.log());
        }
    }
}

/// `acme` with these hosts and further keys.
fn acme_section(root: &Path, hosts: &str, more: &str) -> String {
    format!(
        "{{ email: admin@acme.example, directory: \"{DIRECTORY}\", ca_file: {}, hosts: [{hosts}]{more} }}",
        root.display()
    )
}

/// A configuration with port 80, which redirects, and port 443 of this address with certificates from ACME.
fn site(cluster: &Acme, address: &str, acme: &str) -> Value {
    let mut config = config(cluster);
    let listeners = format!(
        "[{{ address: \"{address}:80\", redirect_to_https: true }}, {{ address: \"{address}:443\", tls: {{ acme: {acme} }} }}]"
    );
    set(&mut config, "listeners", &listeners);
    config
}

fn https(address: &str, name: &str, root: &Path) -> Result<u16, Failure> {
    let mut client = Client::tls(format!("{address}:443").parse().unwrap(), name, root);
    client.request("GET", "/fast", &[], b"").map(|answer| answer.status)
}

fn serves(icm: &Icm, address: &str, name: &str, root: &Path) {
    let served = eventually(MAX_WAIT, || matches!(https(address, name, root), Ok(200)));
    assert!(served, "{name}: {:?} {:#}", https(address, name, root), icm.status()["acme"]);
}

fn orders(icm: &Icm, result: &str) -> f64 {
    icm.metric(&format!("icm_acme_renewals_total{{result=\"{result}\"}}")).unwrap()
}

fn of_host(icm: &Icm, host: &str) -> serde_json::Value {
    let status = icm.status();
    let found = status["acme"].as_array().unwrap().iter().find(|one| one["host"] == host);
    found.unwrap_or_else(|| panic!("no {host} in {:#}", status["acme"])).clone()
}

#[test]
fn a_real_acme_server_is_answered_by_both_challenges() {
    in_namespace("both_challenges");
}

#[test]
#[ignore = "runs in a network namespace of its own"]
fn both_challenges() {
    let (cluster, caddy) = (Acme::built_in(), Caddy::start());
    let section = |hosts: &str, more: &str| acme_section(&caddy.root(), hosts, more);
    let mut config = site(&cluster, "127.0.0.1", &section("www.acme.example", ""));
    let lost = format!(
        "{{ address: \"127.0.0.1:8443\", tls: {{ acme: {} }} }}",
        section("nowhere.acme.example, ca.acme.example", ", challenges: [http-01, tls-alpn-01]")
    );
    config["listeners"].as_sequence_mut().unwrap().push(serde_yaml::from_str(&lost).unwrap());
    let icm = Icm::start(config.clone());
    serves(&icm, "127.0.0.1", "www.acme.example", &caddy.root());
    icm.wait_for_log("www.acme.example: new certificate from https://ca.acme.example:14000/acme/local/directory by tls-alpn-01");
    let folder = icm.dir.path().join("state/acme");
    for file in std::fs::read_dir(&folder).unwrap() {
        use std::os::unix::fs::PermissionsExt;
        let metadata = file.unwrap().metadata().unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    }

    // The name of nobody: an event, a metric, a pause, and handshakes that fail.
    assert!(eventually(MAX_WAIT, || orders(&icm, "failure") >= 1.0), "{}", icm.log());
    icm.wait_for_log("nowhere.acme.example: no new certificate");
    let lost = of_host(&icm, "nowhere.acme.example");
    assert!(lost["error"].as_str().unwrap().starts_with("http-01: "), "{lost:#}");
    assert!(lost["failures"] == 1 && lost["expires_at"].is_null(), "{lost:#}");
    let status = icm.status();
    assert!(lost["next_order_at"].as_u64() > status["now"].as_u64().map(|now| now + 20_000), "{lost:#}");
    let handshake = |name: &str| {
        let mut openssl = Command::new("openssl");
        openssl.args(["s_client", "-connect", "127.0.0.1:8443", "-servername", name]).stdin(Stdio::null());
        String::from_utf8_lossy(&openssl.output().unwrap().stdout).into_owned()
    };
    assert!(
        eventually(MAX_WAIT, || handshake("ca.acme.example").contains("BEGIN CERTIFICATE")),
        "{}",
        icm.log()
    );
    assert!(handshake("nowhere.acme.example").contains("no peer certificate"), "not that of another host");
    assert!(handshake("unknown.acme.example").contains("BEGIN CERTIFICATE"));
    let check = icm_cli(&["check", "-c", icm.file.to_str().unwrap()]);
    assert!(check.out.contains("fact: acme: www.acme.example: certificate valid until"), "{check:?}");
    assert!(check.out.contains("acme: nowhere.acme.example: the last order failed: http-01: "), "{check:?}");

    // Another host by the other challenge, beside the first, and without a restart.
    let more = section("www.acme.example, mail.acme.example", ", challenges: http-01");
    set(&mut config, "listeners.1.tls.acme", &more);
    icm.reload(&config);
    serves(&icm, "127.0.0.1", "mail.acme.example", &caddy.root());
    icm.wait_for_log("mail.acme.example: new certificate from https://ca.acme.example:14000/acme/local/directory by http-01");
    serves(&icm, "127.0.0.1", "www.acme.example", &caddy.root());
    let token = "/.well-known/acme-challenge/LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";
    let plain = icm.client().host("www.acme.example").get(token);
    assert_eq!(plain.status, 308, "an unknown token passes on");
    assert_eq!(icm.status()["acme"][1]["challenge"], "http-01");

    // An upgrade keeps everything and orders nothing.
    let saved = std::fs::read(folder.join("mail.acme.example.pem")).unwrap();
    let before = icm.current_pid();
    icm.signal("USR2");
    assert!(eventually(MAX_WAIT, || icm.current_pid() != before), "{}", icm.log());
    icm.wait_for_log("taken over from process");
    serves(&icm, "127.0.0.1", "mail.acme.example", &caddy.root());
    serves(&icm, "127.0.0.1", "www.acme.example", &caddy.root());
    assert_eq!(orders(&icm, "success"), 0.0, "of the new process");
    assert_eq!(of_host(&icm, "nowhere.acme.example")["failures"], 1);

    // A host that is removed goes; another key of `acme` is in force at once.
    set(&mut config, "listeners.1.tls.acme", &section("mail.acme.example", ""));
    icm.configure(&config);
    signal(icm.current_pid().unwrap(), "HUP");
    let is_gone = || https("127.0.0.1", "www.acme.example", &caddy.root()).is_err();
    assert!(eventually(MAX_WAIT, is_gone), "{}", icm.log());
    serves(&icm, "127.0.0.1", "mail.acme.example", &caddy.root());
    assert_eq!(std::fs::read(folder.join("mail.acme.example.pem")).unwrap(), saved);
}

#[test]
fn an_old_certificate_serves_until_the_acme_server_gives_a_new_one() {
    in_namespace("old_certificate");
}

#[test]
#[ignore = "runs in a network namespace of its own"]
fn old_certificate() {
    let cluster = Acme::built_in();
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    std::fs::create_dir_all(state.join("acme")).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["www.acme.example".to_owned()]).unwrap();
    let now = std::time::SystemTime::now();
    let days = |days: u64| std::time::Duration::from_secs(days * 86_400);
    (params.not_before, params.not_after) = ((now - days(85)).into(), (now + days(5)).into());
    let old = params.self_signed(&key).unwrap();
    let old_root = dir.path().join("old.pem");
    std::fs::write(&old_root, old.pem()).unwrap();
    secret_file(
        &state.join("acme"),
        "www.acme.example.pem",
        &format!("{}{}", key.serialize_pem(), old.pem()),
    );
    let caddy = Caddy::start();
    let root = caddy.root();
    let kept = dir.path().join("root.pem");
    std::fs::copy(&root, &kept).unwrap();

    // The ACME server is away: the certificate that is due serves on, and a restart does not order again.
    let mut config = site(&cluster, "127.0.0.1", &acme_section(&kept, "www.acme.example", ""));
    set(&mut config, "state_dir", &state.display().to_string());
    let storage = tempfile::tempdir().unwrap();
    copy(caddy.dir.path(), storage.path());
    drop(caddy);
    for start in 1..=2 {
        let icm = Icm::start(config.clone());
        serves(&icm, "127.0.0.1", "www.acme.example", &old_root);
        assert!(eventually(MAX_WAIT, || of_host(&icm, "www.acme.example")["failures"] == 1), "{}", icm.log());
        let failed = if start == 1 { 1.0 } else { 0.0 };
        assert!(eventually(MAX_WAIT, || orders(&icm, "failure") == failed), "start {start}: {}", icm.log());
        if start == 1 {
            icm.wait_for_log("the one in use is valid until");
            icm.wait_for_log("connection refused");
        }
    }

    let _caddy = Caddy::start_in(storage);
    std::fs::remove_file(state.join("acme/orders.json")).unwrap();
    let icm = Icm::start(config);
    serves(&icm, "127.0.0.1", "www.acme.example", &kept);
    assert_eq!((orders(&icm, "success"), orders(&icm, "failure")), (1.0, 0.0));
    let expiry = icm.metric("icm_tls_certificate_expiry_timestamp_seconds{").unwrap();
    assert_eq!(of_host(&icm, "www.acme.example")["expires_at"].as_f64(), Some(expiry * 1e3));
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from.join("store")).arg(to).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_follower_answers_challenges_of_its_leader_and_keeps_serving_without_it() {
    in_namespace("leader_and_follower");
}

#[test]
#[ignore = "runs in a network namespace of its own"]
fn leader_and_follower() {
    let (cluster, caddy, dir) = (Acme::built_in(), Caddy::start(), tempfile::tempdir().unwrap());
    let token = secret_file(dir.path(), "token", TOKEN);
    let section = |hosts: &str, more: &str| acme_section(&caddy.root(), hosts, more);
    // Both names lead to the second ICM.
    let mut config =
        site(&cluster, "127.0.0.1", &section("second.acme.example", ", challenges: tls-alpn-01"));
    set(&mut config, "admin.token_file", &token);
    let follow = format!(
        "{{ url: \"http://{}/config\", token_file: {token}, refresh: 200ms, cache: {}, allow_files_under: [{}] }}",
        config["admin"]["address"].as_str().unwrap(),
        dir.path().join("config.yaml").display(),
        cluster.ca_file.parent().unwrap().display()
    );
    let hosts = "second.acme.example, third.acme.example";
    let mut following = site(&cluster, "127.0.0.2", &section(hosts, ""));
    following.as_mapping_mut().unwrap().remove("clusters");
    set(&mut following, "get_configuration_from", &follow);
    set(&mut following, "admin.token_file", &token);
    set(&mut following, "state_dir", &dir.path().join("state").display().to_string());

    // The first order may come before the second ICM listens; then it is repeated.
    let mut before = config.clone();
    set(&mut before, "listeners.1.tls.acme", &section("www.acme.example", ""));
    let leader = Icm::start(before);
    let follower = Icm::start(following.clone());
    serves(&leader, "127.0.0.1", "www.acme.example", &caddy.root());
    leader.reload(&config);
    leader.wait_for_log("second.acme.example: new certificate from https://ca.acme.example:14000/acme/local/directory by tls-alpn-01");
    serves(&follower, "127.0.0.2", "second.acme.example", &caddy.root());
    set(&mut config, "listeners.1.tls.acme", &section(hosts, ", challenges: http-01"));
    leader.reload(&config);
    leader.wait_for_log("third.acme.example: new certificate from https://ca.acme.example:14000/acme/local/directory by http-01");
    serves(&follower, "127.0.0.2", "third.acme.example", &caddy.root());
    assert_eq!(orders(&leader, "failure"), 0.0, "{}", leader.log());
    assert!(of_host(&follower, "third.acme.example")["next_order_at"].is_null());

    // Keys are given for the token only.
    let ask = |headers: &[(&str, &str)]| {
        Client::to(leader.admin).request("GET", "/acme/certificates", headers, b"").unwrap()
    };
    assert_eq!(ask(&[]).status, 401);
    let bearer = format!("Bearer {TOKEN}");
    let shared = ask(&[("Authorization", &bearer)]);
    assert_eq!(shared.status, 200);
    let list = shared.json();
    assert_eq!(list["certificates"].as_array().unwrap().len(), 2);
    assert!(list["certificates"][0]["pem"].as_str().unwrap().contains("PRIVATE KEY"));
    assert!(!follower.log().contains("PRIVATE KEY") && !leader.log().contains("PRIVATE KEY"));

    // To other machines only over TLS. This ICM listens on all addresses.
    let mut open = config_of(&cluster.servers, &cluster.ca_file);
    let port = free_port();
    set(&mut open, "admin", &format!("{{ address: \"0.0.0.0:{port}\", token_file: {token} }}"));
    let open = Icm::start(open);
    for (address, status) in [("127.0.0.1", 200), ("192.0.2.1", 403)] {
        let mut client =
            Client::to(format!("{address}:{port}").parse().unwrap()).with("Authorization", &bearer);
        let answer = client.request("GET", "/acme/certificates", &[], b"").unwrap();
        assert_eq!(answer.status, status, "{address}: {}", answer.text());
    }
    drop(open);

    // Without the leader the certificates serve on, also after a restart.
    drop(leader);
    drop(follower);
    let follower = Icm::start(following);
    serves(&follower, "127.0.0.2", "second.acme.example", &caddy.root());
    serves(&follower, "127.0.0.2", "third.acme.example", &caddy.root());
    let knows = || of_host(&follower, "third.acme.example")["error"].as_str().unwrap().contains("refused");
    assert!(eventually(MAX_WAIT, knows), "{:#}", follower.status()["acme"]);
}
