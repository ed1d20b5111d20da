//! NTLM and Negotiate log in a connection (RFC 4559 section 6): it is never shared with another user.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A challenge as a server sends it: signature, type 2, an empty target, flags (Unicode, NTLM, target info), eight
/// random bytes.
fn challenge(number: usize) -> String {
    let mut message = b"NTLMSSP\0".to_vec();
    message.extend(2_u32.to_le_bytes());
    message.extend([0, 0, 0, 0, 48, 0, 0, 0]);
    message.extend(0x0000_8201_u32.to_le_bytes());
    message.extend((number as u64).to_le_bytes());
    message.extend([0; 8]);
    message.extend([0, 0, 0, 0, 48, 0, 0, 0]);
    STANDARD.encode(message)
}

/// The user of a type 3 message.
fn user_of(message: &[u8]) -> String {
    let number = |at: usize| usize::from(u16::from_le_bytes([message[at], message[at + 1]]));
    let (length, at) = (number(36), number(40));
    message[at..at + length].iter().filter(|b| **b != 0).map(|b| *b as char).collect()
}

/// A server that logs connections in by NTLM as Domino and IIS do: three messages on one connection, which then speaks
/// for its user. `/free.nsf` says who the connection belongs to without asking for a login.
fn ntlm_server() -> ScriptedServer {
    ScriptedServer::new(|connection| {
        let (mut user, mut challenged) = (None::<String>, false);
        while let Some(head) = connection.request() {
            let token = head.lines().find_map(|l| l.strip_prefix("Authorization: NTLM "));
            let message = token.map(|t| STANDARD.decode(t.trim()).unwrap());
            let refuse = |with: &str| {
                format!(
                    "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: {with}\r\nContent-Length: 2\r\n\r\nno"
                )
            };
            let answer = match (message, &user) {
                (Some(message), _) if message[8] == 1 => {
                    challenged = true;
                    refuse(&format!("NTLM {}", challenge(connection.number)))
                }
                (Some(message), _) if message[8] == 3 && challenged => {
                    let name = user_of(&message);
                    let page = format!("user={name}");
                    user = Some(name);
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{page}", page.len())
                }
                (None, None) if !head.contains("/free.nsf") => refuse("NTLM"),
                (Some(_), _) => refuse("NTLM"),
                (None, user) => {
                    let page = format!("user={}", user.as_deref().unwrap_or("Anonymous"));
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{page}", page.len())
                }
            };
            if !connection.say(&answer) {
                return;
            }
        }
    })
}

fn two_servers() -> ([ScriptedServer; 2], Icm) {
    let servers = [ntlm_server(), ntlm_server()];
    let icm = Icm::start(ScriptedServer::config_of(&servers));
    (servers, icm)
}

/// What curl is given for two pages on one connection.
fn curl(icm: &Icm, user: &str) -> String {
    let url = |path: &str| format!("http://{}{path}", icm.address);
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "60", "--ntlm", "-u", &format!("{user}:secret")])
        .args(["-w", ";%{http_code};", &url("/mail.nsf?OpenDatabase"), &url("/free.nsf?OpenDatabase")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_user_who_logs_in_by_ntlm_shares_the_connection_with_nobody() {
    let (_servers, icm) = two_servers();
    // Connections that are in the pool before.
    for _ in 0..4 {
        assert_eq!(icm.client().get("/free.nsf").text(), "user=Anonymous");
    }
    for user in ["jane", "max"] {
        assert_eq!(curl(&icm, user), format!("user={user};200;user={user};200;"));
        for _ in 0..8 {
            assert_eq!(icm.client().get("/free.nsf").text(), "user=Anonymous");
            assert_eq!(icm.client().get("/mail.nsf").status, 401);
        }
    }
}

/// A message as a client sends it: type 1 without a user, type 3 with one.
fn message(kind: u8, user: &str) -> String {
    let mut message = b"NTLMSSP\0".to_vec();
    message.extend([kind, 0, 0, 0]);
    message.resize(36, 0);
    message.extend(u16::try_from(user.len()).unwrap().to_le_bytes());
    message.extend([0, 0, 48, 0, 0, 0, 0, 0, 0, 0]);
    message.extend(user.as_bytes());
    format!("NTLM {}", STANDARD.encode(message))
}

#[test]
fn two_proxies_that_name_the_same_address_and_port_do_not_share_a_login() {
    let servers = [ntlm_server(), ntlm_server()];
    let mut config = ScriptedServer::config_of(&servers);
    set(&mut config, "listeners.0.proxy_protocol", "{ from: [127.0.0.1] }");
    let icm = Icm::start(config);
    // As from two networks with the same private addresses.
    let client = || icm.client().begin_with(b"PROXY TCP4 10.0.0.7 10.0.0.1 51234 80\r\n");
    let (mut jane, mut other) = (client(), client());
    assert_eq!(other.get("/free.nsf").text(), "user=Anonymous");
    for (kind, status) in [(1, 401), (3, 200)] {
        let answer = jane.get_with("/mail.nsf", &[("Authorization", &message(kind, "jane"))]);
        assert_eq!(answer.status, status, "{}", answer.head);
    }
    for _ in 0..4 {
        assert_eq!(other.get("/free.nsf").text(), "user=Anonymous");
        assert_eq!(client().get("/free.nsf").text(), "user=Anonymous");
        assert_eq!(jane.get("/free.nsf").text(), "user=jane");
    }
}

#[test]
fn many_users_at_once_log_in_by_ntlm_beside_others_who_do_not() {
    let (_servers, icm) = two_servers();
    std::thread::scope(|scope| {
        for n in 0..24 {
            let icm = &icm;
            scope.spawn(move || {
                let user = format!("user{n}");
                assert_eq!(curl(icm, &user), format!("user={user};200;user={user};200;"));
            });
        }
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    assert_eq!(icm.client().get("/free.nsf").text(), "user=Anonymous");
                }
            });
        }
    });
}

#[test]
fn a_connection_on_which_a_login_was_offered_serves_nobody_else() {
    let numbers = Arc::new(AtomicUsize::new(0));
    let offered = numbers.clone();
    let server = ScriptedServer::new(move |connection| {
        while let Some(head) = connection.request() {
            let with_body = head.contains("body");
            let (length, body) = if with_body { (2, "no") } else { (0, "") };
            if head.contains("/login.nsf") {
                offered.store(connection.number, Ordering::Relaxed);
                let challenges = "WWW-Authenticate: Negotiate\r\nWWW-Authenticate: Basic realm=\"Acme\"\r\n";
                connection
                    .say(&format!("HTTP/1.1 401 No\r\n{challenges}Content-Length: {length}\r\n\r\n{body}"));
            } else {
                let number = connection.number.to_string();
                connection
                    .say(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{number}", number.len()));
            }
        }
    });
    let mut config = server.config();
    set(&mut config, "clusters.0.probe", "{ interval: 1h, timeout: 1s }");
    let icm = Icm::start(config);
    for target in ["/login.nsf?empty", "/login.nsf?body"] {
        let mut client = icm.client();
        assert_eq!(client.get(target).status, 401);
        let number = numbers.load(Ordering::Relaxed).to_string();
        for _ in 0..3 {
            assert_ne!(icm.client().get("/page.nsf").text(), number);
        }
        // Its own client has a connection of its own from now on, and keeps it.
        let own = client.get("/page.nsf").text();
        assert_ne!(own, number);
        assert_eq!(client.get("/page.nsf").text(), own);
        assert_ne!(icm.client().get("/page.nsf").text(), own);
        let before = server.connections();
        client.close();
        // Nobody gets it afterwards either.
        for _ in 0..3 {
            assert_ne!(icm.client().get("/page.nsf").text(), own);
        }
        assert!(server.connections() <= before + 1);
    }
}
