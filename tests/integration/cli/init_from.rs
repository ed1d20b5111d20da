//! `icm init --from`: the configurations of two Domino shops are taken over, load, and serve, redirect and deny as the other
//! proxy did. Where nginx is installed, the same requests are sent to both.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::*;
use serde_json::Value;

fn fixture(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/import");
    std::fs::read_to_string(root.join(name)).unwrap()
}

/// Replaces texts, each of which must be there.
fn replaced(mut text: String, pairs: &[(&str, String)]) -> String {
    for (from, to) in pairs {
        assert!(text.contains(from), "{from} is not in the fixture");
        text = text.replace(from, to);
    }
    text
}

/// The fixture of nginx with the addresses of this test, in a folder of its own.
fn nginx_folder(acme: &Acme, dir: &Path, ports: (u16, u16)) -> PathBuf {
    let folder = dir.join(format!("nginx-{}", ports.0));
    std::fs::create_dir_all(folder.join("conf.d")).unwrap();
    std::fs::create_dir_all(folder.join("tls")).unwrap();
    std::fs::create_dir_all(folder.join("www/.well-known/acme-challenge")).unwrap();
    std::fs::write(folder.join("www/.well-known/acme-challenge/token"), "proof").unwrap();
    let made = acme.ca_file.parent().unwrap();
    for (from, to) in [("web1.pem", "www.pem"), ("web1.key", "www.key")] {
        secret_file(&folder.join("tls"), to, &std::fs::read_to_string(made.join(from)).unwrap());
    }
    let at = folder.display();
    let main = replaced(
        fixture("nginx.conf"),
        &[
            ("user www-data;", "user root;".to_owned()),
            ("/run/nginx.pid", format!("{at}/pid")),
            ("/var/log/nginx", at.to_string()),
            ("/var/cache/nginx", format!("{at}/cache")),
        ],
    );
    std::fs::write(folder.join("nginx.conf"), main).unwrap();
    std::fs::write(folder.join("mime.types"), fixture("mime.types")).unwrap();
    let site = replaced(
        fixture("conf.d/www.conf"),
        &[
            ("    listen [::]:80 default_server;\n", String::new()),
            ("    listen [::]:443 ssl http2;\n", String::new()),
            ("listen 80 ", format!("listen 127.0.0.1:{} ", ports.0)),
            ("listen 443 ssl", format!("listen 127.0.0.1:{} ssl", ports.1)),
            ("web1.acme.example:8880", acme.http("Web3").to_string()),
            ("    server web2.acme.example:8880;\n", String::new()),
            ("web1.acme.example:80", acme.http("Web1").to_string()),
            ("web2.acme.example:80", acme.http("Web2").to_string()),
            ("/var/www/acme", format!("{at}/www")),
        ],
    );
    std::fs::write(folder.join("conf.d/www.conf"), site).unwrap();
    folder
}

/// Takes over a configuration; the file must load.
fn take_over(from: &Path, output: &Path) -> (Value, serde_yaml::Value) {
    let (from, to) = (from.display().to_string(), output.display().to_string());
    let ran = icm_cli(&["init", "--from", &from, "--output", &to, "--json"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let checked = icm_cli(&["check", "-c", &to]);
    assert_eq!(checked.code, 0, "{checked:?}");
    let yaml = std::fs::read_to_string(output).unwrap();
    (ran.json(), serde_yaml::from_str(&yaml).unwrap())
}

fn with_admin(mut config: serde_yaml::Value) -> serde_yaml::Value {
    set(&mut config, "admin", &format!("{{ address: \"127.0.0.1:{}\" }}", free_port()));
    config
}

fn directives(list: &Value, outcome: &str) -> Vec<String> {
    let items = list["items"].as_array().unwrap().iter().filter(|item| item["outcome"] == outcome);
    items.map(|item| item["directive"].as_str().unwrap().to_owned()).collect()
}

struct Nginx(Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

/// nginx with the same configuration, if it is installed.
fn start_nginx(folder: &Path, address: SocketAddr) -> Option<Nginx> {
    let main = folder.join("nginx.conf");
    // Without the file that is missing on purpose: nginx refuses to start then, `icm` lists it.
    let text = std::fs::read_to_string(&main).unwrap().replace("include /etc/shared/security.conf;", "");
    std::fs::write(&main, text).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-p").arg(folder).arg("-c").arg(&main).args(["-g", "daemon off;"]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let Ok(child) = child else {
        println!("nginx is not installed: not compared");
        return None;
    };
    let nginx = Nginx(child);
    wait_for(address);
    Some(nginx)
}

/// What a client sees of an answer: the status, and where it leads without scheme and port.
fn seen(answer: &Answer) -> (u16, String) {
    let location = answer.header("location").unwrap_or_default();
    let path =
        location.split_once("://").map_or(location, |(_, rest)| rest.find('/').map_or("/", |at| &rest[at..]));
    // nginx answers 301 where a client should repeat its method, `icm` 308.
    let status = if answer.status == 308 { 301 } else { answer.status };
    (status, path.to_owned())
}

#[test]
fn a_configuration_of_nginx_serves_redirects_and_denies_as_before() {
    let acme = Acme::sample();
    let dir = tempfile::tempdir().unwrap();
    let (plain, secure) = (free_port(), free_port());
    let folder = nginx_folder(&acme, dir.path(), (plain, secure));
    let (list, config) = take_over(&folder.join("nginx.conf"), &dir.path().join("icm.yaml"));
    let cannot = directives(&list, "cannot");
    for part in [
        "map $http_upgrade",
        "auth_basic Acme",
        "proxy_pass http://domino/web/shop.nsf/",
        "include /etc/shared",
    ] {
        assert!(cannot.iter().any(|directive| directive.starts_with(part)), "{part}: {cannot:#?}");
    }
    assert!(directives(&list, "not_needed").contains(&"sendfile on".to_owned()));

    let icm = Icm::start(with_admin(config));
    let tls: SocketAddr = format!("127.0.0.1:{secure}").parse().unwrap();
    wait_for(tls);
    let ports = (free_port(), free_port());
    let nginx_tls: SocketAddr = format!("127.0.0.1:{}", ports.1).parse().unwrap();
    let _nginx = start_nginx(&nginx_folder(&acme, dir.path(), ports), nginx_tls);
    let other_plain: SocketAddr = format!("127.0.0.1:{}", ports.0).parse().unwrap();

    let cases: [(bool, &str, &str, u16); 11] = [
        (false, "www.acme.example", "/mail/jdoe.nsf?OpenDatabase", 301),
        (false, "www.acme.example", "/.well-known/acme-challenge/token", 200),
        (true, "acme.example", "/a/b?c=d", 301),
        (true, "www.acme.example", "/", 302),
        (true, "mail.acme.example", "/old.html", 301),
        (true, "www.acme.example", "/names.nsf/People?OpenView", 403),
        (true, "www.acme.example", "/LOG.nsf", 403),
        (true, "www.acme.example", "/webadmin.nsf?OpenDatabase", 403),
        (true, "www.acme.example", "/maintenance", 503),
        (true, "www.acme.example", "/cldbdir.nsf?OpenDatabase", 200),
        (true, "www.acme.example", "/none.nsf", 404),
    ];
    for (over_tls, host, target, status) in cases {
        let ask = |plain: SocketAddr, tls: SocketAddr| {
            let client =
                if over_tls { Client::tls(tls, "localhost", &acme.ca_file) } else { Client::to(plain) };
            client.host(host).get(target)
        };
        let answer = ask(icm.address, tls);
        assert_eq!(seen(&answer).0, status, "{host}{target}: {}\n{}", answer.text(), icm.log());
        if _nginx.is_some() {
            assert_eq!(seen(&answer), seen(&ask(other_plain, nginx_tls)), "{host}{target}");
        }
    }
    let mut client = Client::tls(tls, "localhost", &acme.ca_file).host("www.acme.example");
    let answer = client.get("/mail/jdoe.nsf?OpenDatabase");
    assert_eq!(answer.header("strict-transport-security"), Some("max-age=63072000; includeSubDomains"));
    assert_eq!(answer.header("x-frame-options"), Some("SAMEORIGIN"));
    assert!(answer.served_by().starts_with("Web1") || answer.served_by().starts_with("Web2"), "{answer:?}");
    assert!(client.get("/api/v1").served_by().starts_with("Web3"), "the pool");
    assert!(
        client.get("/Microsoft-Server-ActiveSync?Cmd=Ping").served_by().starts_with("Web2"),
        "one server"
    );
}

#[test]
fn a_configuration_of_haproxy_serves_redirects_and_denies_as_before() {
    let acme = Acme::sample();
    let dir = tempfile::tempdir().unwrap();
    let (plain, secure) = (free_port(), free_port());
    let made = acme.ca_file.parent().unwrap();
    let read = |name: &str| std::fs::read_to_string(made.join(name)).unwrap();
    secret_file(dir.path(), "www.pem", &format!("{}{}", read("web1.pem"), read("web1.key")));
    secret_file(dir.path(), "domino-ca.pem", &read("ca.pem"));
    let https = |name: &str| acme.server(name).https.unwrap().to_string();
    let agent = acme.server("Web1").agent.unwrap().port();
    let text = replaced(
        fixture("haproxy.cfg"),
        &[
            ("bind *:80\n", format!("bind 127.0.0.1:{plain}\n")),
            ("bind *:443 ", format!("bind 127.0.0.1:{secure} ")),
            ("/etc/haproxy/certs", dir.path().display().to_string()),
            ("/etc/haproxy/ca", dir.path().display().to_string()),
            ("10.0.0.11:8880", acme.http("Web3").to_string()),
            ("    server web2 10.0.0.12:8880 check\n", String::new()),
            ("10.0.0.11:80", acme.http("Web1").to_string()),
            ("10.0.0.12:80", acme.http("Web2").to_string()),
            ("10.0.0.21:443", https("Web1")),
            ("10.0.0.22:443", https("Web2")),
            ("agent-port 5666", format!("agent-port {agent}")),
            ("    http-check expect status 200\n", String::new()),
        ],
    );
    let file = dir.path().join("haproxy.cfg");
    std::fs::write(&file, text).unwrap();
    let (list, config) = take_over(&file, &dir.path().join("icm.yaml"));
    let cannot = directives(&list, "cannot");
    for part in ["frontend nrpc {}", "userlist operators {}", "http-request replace-path"] {
        assert!(cannot.iter().any(|directive| directive.starts_with(part)), "{part}: {cannot:#?}");
    }
    assert!(directives(&list, "not_needed").contains(&"listen stats {}".to_owned()));
    let availability = &config["clusters"][0]["servers"]["list"][0]["availability"];
    assert_eq!(availability["source"], "agent_check");

    let icm = Icm::start(with_admin(config));
    let tls: SocketAddr = format!("127.0.0.1:{secure}").parse().unwrap();
    wait_for(tls);
    let answer = icm.client().host("www.acme.example").get("/mail/jdoe.nsf");
    assert_eq!((answer.status, seen(&answer).1), (308, "/mail/jdoe.nsf".to_owned()));
    let mut client = Client::tls(tls, "localhost", &acme.ca_file).host("www.acme.example");
    let answer = client.get("/mail/jdoe.nsf?OpenDatabase");
    assert_eq!(answer.header("strict-transport-security"), Some("max-age=63072000"));
    assert!(answer.cookie("ICM").is_some() || answer.status == 401, "{answer:?}");
    assert_eq!(seen(&client.get("/")), (302, "/homepage.nsf".to_owned()));
    assert_eq!(seen(&client.get("/moved/a?b")), (301, "/moved/a?b".to_owned()));
    assert_eq!(client.get("/webadmin.nsf").status, 403);
    assert_eq!(client.post("/names.nsf?Login", &[], "a=b").status, 403);
    assert_ne!(client.get("/names.nsf?Login").status, 403);
    assert!(client.get("/api/v1").served_by().starts_with("Web3"), "the pool");
}

#[test]
fn a_file_is_kept_unless_forced_and_errors_have_their_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (from, output) = (path("haproxy.cfg"), path("icm.yaml"));
    let text = "frontend x\n mode http\n bind 127.0.0.1:8080\n default_backend y\nbackend y\n mode http\n server web1 10.0.0.11:80\n frobnicate\n";
    std::fs::write(&from, text).unwrap();
    let run = |more: &[&str]| {
        let mut all = vec!["init", "--from", &from];
        all.extend(more);
        icm_cli(&all)
    };
    let first = run(&["--output", &output]);
    assert_eq!(first.code, 0, "{first:?}");
    assert!(first.out.contains("haproxy.cfg:8: frobnicate"), "{first:?}");
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&output).unwrap().permissions().mode() & 0o777, 0o640);
    let second = run(&["--output", &output]);
    assert!(second.code == 64 && second.err.contains("exists"), "{second:?}");
    assert_eq!(run(&["--output", &output, "--force"]).code, 0);
    let printed = run(&["--output", "-"]);
    assert_eq!((printed.code, printed.out), (0, std::fs::read_to_string(&output).unwrap()));
    let wrong = run(&["--output", &path("other.yaml"), "--format", "nginx"]);
    assert_eq!((wrong.code, wrong.err.contains("haproxy.cfg:1: ")), (64, true), "{wrong:?}");
    std::fs::write(&from, "nothing that is known\n").unwrap();
    let unknown = run(&["--output", &path("other.yaml")]);
    assert!(unknown.code == 64 && unknown.err.contains("--format"), "{unknown:?}");
    assert!(!Path::new(&path("other.yaml")).exists());
}

#[test]
fn the_guide_shows_what_is_printed_and_written() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("small.conf"), fixture("small.conf")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_icm"));
    let ran = command.args(["init", "--from", "small.conf"]).current_dir(dir.path()).output().unwrap();
    let printed = String::from_utf8(ran.stdout).unwrap();
    let written = std::fs::read_to_string(dir.path().join("icm.yaml")).unwrap();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/from-nginx-haproxy.md");
    let page = std::fs::read_to_string(page).unwrap();
    let blocks: Vec<&str> =
        page.split("```text\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(blocks[0], printed);
    assert!(written.contains(blocks[1]), "{}\nis not in\n{written}", blocks[1]);
}
