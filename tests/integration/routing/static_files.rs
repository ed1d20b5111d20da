//! `files` of a route: what a folder shows, and what it must not show.

use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::support::*;

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("www");
    for sub in ["docs/.git", ".well-known/acme-challenge", "empty"] {
        std::fs::create_dir_all(root.join(sub)).unwrap();
    }
    for (file, text) in [
        ("index.html", "<h1>Home</h1>"),
        ("docs/index.html", "<h1>Docs</h1>"),
        ("docs/a b.CSS", "body {}"),
        ("docs/data.abc", "abc"),
        ("docs/.git/config", "secret"),
        (".htpasswd", "secret"),
        (".well-known/acme-challenge/token-_1", "token.thumbprint"),
    ] {
        std::fs::write(root.join(file), text).unwrap();
    }
    std::fs::write(dir.path().join("secret.txt"), "secret").unwrap();
    std::fs::write(root.join("big.bin"), big()).unwrap();
    symlink("docs/index.html", root.join("inside.html")).unwrap();
    symlink(dir.path().join("secret.txt"), root.join("outside.txt")).unwrap();
    symlink("..", root.join("up")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    nix::unistd::mkfifo(&root.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    dir
}

fn big() -> Vec<u8> {
    (0..3_000_000_u32).map(|n| (n % 251) as u8).collect()
}

fn start(root: &Path) -> (Acme, Icm, SocketAddr) {
    let acme = Acme::sample();
    let mut config = config(&acme);
    let root = root.display();
    let routes = format!(
        "[{{ match: {{ path_prefix: /.well-known/acme-challenge }}, files: {root}/.well-known/acme-challenge }},
          {{ match: {{ path: /whole/* }}, files: {root} }},
          {{ match: {{ path_prefix: /site }}, files: {{ folder: {root}, content_types: {{ abc: text/x-abc }} }} }}]"
    );
    set(&mut config, "clusters.0.routes", &routes);
    let tls = add_tls(&mut config, &acme);
    let redirecting = format!("127.0.0.1:{}", free_port());
    let listener = format!("{{ address: \"{redirecting}\", redirect_to_https: true }}");
    config["listeners"].as_sequence_mut().unwrap().push(serde_yaml::from_str(&listener).unwrap());
    let icm = Icm::start(config);
    assert!(eventually(MAX_WAIT, || std::net::TcpStream::connect(tls).is_ok()));
    let redirecting = redirecting.parse().unwrap();
    let challenge = Client::to(redirecting).get("/.well-known/acme-challenge/token-_1");
    assert_eq!((challenge.status, challenge.text().as_str()), (200, "token.thumbprint"), "before TLS");
    assert_eq!(Client::to(redirecting).get("/site/").status, 308, "everything else goes to TLS first");
    let secure = Client::tls(tls, "localhost", &acme.ca_file).get("/site/");
    assert_eq!((secure.status, secure.text().as_str()), (200, "<h1>Home</h1>"));
    assert!(secure.header("strict-transport-security").is_some(), "{}", secure.head);
    (acme, icm, tls)
}

#[test]
fn files_below_the_folder_are_sent_and_nothing_else_is() {
    let dir = folder();
    let (_acme, icm, _) = start(&dir.path().join("www"));
    let mut client = icm.client();
    for (target, content_type, text) in [
        ("/site/index.html", "text/html; charset=utf-8", "<h1>Home</h1>"),
        ("/SITE//docs/", "text/html; charset=utf-8", "<h1>Docs</h1>"),
        ("/site/docs/a%20b.CSS?v=1", "text/css; charset=utf-8", "body {}"),
        ("/site/docs/data.abc", "text/x-abc", "abc"),
        ("/site/inside.html", "text/html; charset=utf-8", "<h1>Docs</h1>"),
        ("/.well-known/acme-challenge/token-_1", "application/octet-stream", "token.thumbprint"),
    ] {
        let answer = client.get(target);
        assert_eq!((answer.status, answer.text().as_str()), (200, text), "{target}: {}", answer.head);
        assert_eq!(answer.header("content-type"), Some(content_type), "{target}");
        let length = text.len().to_string();
        assert_eq!(answer.header("content-length"), Some(length.as_str()));
        assert_eq!(answer.header("accept-ranges"), Some("none"));
        let head = client.request("HEAD", target, &[], b"").unwrap();
        assert_eq!(
            (head.status, head.body.len(), head.header("content-length")),
            (200, 0, Some(length.as_str()))
        );
    }
    let folder = client.get("/site/docs?x=1");
    assert_eq!((folder.status, folder.header("location")), (302, Some("/site/docs/?x=1")));
    for target in [
        "/site/.htpasswd",
        "/site/docs/.git/config",
        "/site/docs/%2Egit/config",
        "/site/outside.txt",
        "/site/up/secret.txt",
        "/site/up/secret.txt/",
        "/site/loop",
        "/site/pipe",
        "/site/empty/",
        "/site/index.html/",
        "/site/index.html/x",
        "/site/none.txt",
        "/site/DOCS/",
        "/site/%FF",
        &format!("/site/{}", "a".repeat(400)),
        "/whole/index.html",
    ] {
        let answer = client.get(target);
        assert_eq!(answer.status, 404, "{target}: {}\n{}", answer.head, answer.text());
        assert!(!answer.text().contains("secret"), "{target}");
    }
    for target in ["/site/../secret.txt", "/site/%2e%2e/secret.txt", "/site/..%5csecret.txt", "/site/a%00b"] {
        assert_eq!(icm.client().get(target).status, 400, "{target}");
    }
    let post = icm.client().request("POST", "/site/index.html", &[], b"a").unwrap();
    assert_eq!((post.status, post.header("allow")), (405, Some("GET, HEAD")));
}

#[test]
fn a_file_is_sent_once_as_long_as_it_stays_the_same_and_however_large_it_is() {
    let dir = folder();
    let root = dir.path().join("www");
    let (acme, icm, tls) = start(&root);
    let first = icm.client().get("/site/docs/data.abc");
    let (etag, modified) = (first.header("etag").unwrap(), first.header("last-modified").unwrap());
    let earlier = "Sun, 06 Nov 1994 08:49:37 GMT";
    for (fields, status) in [
        (vec![("If-None-Match", etag)], 304),
        (vec![("If-Modified-Since", modified)], 304),
        (vec![("If-Modified-Since", earlier)], 200),
        (vec![("If-None-Match", "\"other\""), ("If-Modified-Since", modified)], 200),
        (vec![("If-Modified-Since", "yesterday")], 200),
    ] {
        let answer = icm.client().get_with("/site/docs/data.abc", &fields);
        assert_eq!((answer.status, answer.header("etag")), (status, Some(etag)), "{fields:?}");
        assert_eq!(answer.body.is_empty(), status == 304);
    }
    std::fs::write(root.join("docs/data.abc"), "changed").unwrap();
    assert_eq!(icm.client().get_with("/site/docs/data.abc", &[("If-None-Match", etag)]).text(), "changed");
    let whole = icm.client().get("/site/big.bin");
    assert!(whole.complete && whole.body == big());
    // A client that reads slowly, or leaves, takes no memory with it.
    for _ in 0..20 {
        let mut slow = icm.client();
        slow.send(b"GET /site/big.bin HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
        drop(slow);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let url = format!("https://localhost:{}/site/big.bin", tls.port());
    let received = runtime.block_on(async {
        let answer = h2_client(&acme).get(url).send().await.unwrap();
        assert_eq!((answer.version(), answer.status().as_u16()), (reqwest::Version::HTTP_2, 200));
        answer.bytes().await.unwrap()
    });
    assert!(received == big(), "over HTTP/2");
    assert_eq!(icm.client().get("/site/index.html").status, 200);
}
