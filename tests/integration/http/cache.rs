//! What every page drags along is answered from memory, by the rules of HTTP, and nothing that is for one user.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::support::*;

/// A server whose resources say in their URL with which fields they come: `/icons/x?Cache-Control=max-age=60&ETag="1"`.
/// `body=N` is the length of the body, `status=N` the status.
struct Origin {
    server: ScriptedServer,
    heads: Arc<Mutex<Vec<String>>>,
    /// Part of every body, and of every tag: a change of the resources.
    version: Arc<AtomicU64>,
    /// Answers 503.
    fails: Arc<AtomicBool>,
    /// Milliseconds before an answer.
    delay: Arc<AtomicU64>,
}

impl Origin {
    fn new() -> Origin {
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (version, fails, delay) =
            (Arc::new(AtomicU64::new(1)), Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let seen = (heads.clone(), version.clone(), fails.clone(), delay.clone());
        let server = ScriptedServer::new(move |connection| {
            let (heads, version, fails, delay) = &seen;
            while let Some(head) = connection.request() {
                heads.lock().unwrap().push(head.clone());
                pause(delay.load(Ordering::SeqCst));
                let text = match fails.load(Ordering::SeqCst) {
                    true => "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".to_owned(),
                    false => answer(&head, version.load(Ordering::SeqCst)),
                };
                if !connection.say(&text) {
                    return;
                }
            }
        });
        Origin { server, heads, version, fails, delay }
    }

    /// How often a target that begins so was asked for.
    fn asked(&self, target: &str) -> usize {
        let heads = self.heads.lock().unwrap();
        heads.iter().filter(|head| head.split(' ').nth(1).is_some_and(|t| t.starts_with(target))).count()
    }

    fn last(&self, target: &str) -> String {
        let heads = self.heads.lock().unwrap();
        heads.iter().rfind(|head| head.contains(target)).cloned().unwrap()
    }
}

fn answer(head: &str, version: u64) -> String {
    let target = head.split(' ').nth(1).unwrap();
    let field = |name: &str| {
        let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")));
        line.map_or("", |line| line[name.len() + 1..].trim())
    };
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let (mut status, mut length, mut fields) = ("200".to_owned(), None, String::new());
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        let value = value.replace("%22", "\"").replace("%20", " ");
        match name {
            "status" => status = value,
            "body" => length = value.parse::<usize>().ok(),
            "n" => {}
            "ETag" => {
                let tag = format!("\"{value}{version}\"");
                if field("if-none-match") == tag {
                    return format!(
                        "HTTP/1.1 304 Not Modified\r\nETag: {tag}\r\nCache-Control: max-age=60\r\n\r\n"
                    );
                }
                fields.push_str(&format!("ETag: {tag}\r\n"));
            }
            _ => fields.push_str(&format!("{name}: {value}\r\n")),
        }
    }
    if let Some(range) = field("range").strip_prefix("bytes=0-") {
        let end: usize = range.parse().unwrap();
        let body = "0".repeat(end + 1);
        return format!(
            "HTTP/1.1 206 P\r\nContent-Range: bytes 0-{end}/900\r\nContent-Length: {}\r\n\r\n{body}",
            end + 1
        );
    }
    let language = field("accept-language");
    let mut body = format!("version {version} {language} for {}\n", field("cookie"));
    if let Some(length) = length {
        body = body.repeat(length / body.len() + 1);
        body.truncate(length);
    }
    if !fields.contains("Content-Type") {
        fields.push_str("Content-Type: application/javascript\r\n");
    }
    format!("HTTP/1.1 {status} x\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
}

fn config(origin: &Origin, cache: &str) -> serde_yaml::Value {
    let mut config = origin.server.config();
    set(&mut config, "cache", cache);
    set(&mut config, "access_log", "{ path: stdout, format: json }");
    set(&mut config, "clusters.0.probe", "{ interval: 1h, unreachable_after: 1000 }");
    set(&mut config, "clusters.0.failover.passive_failures", "0");
    config
}

fn results(icm: &Icm) -> HashMap<&'static str, f64> {
    let metrics = exposition::read(&icm.admin("/metrics").text()).unwrap();
    let of = |result| exposition::value(&metrics, "icm_cache_requests_total", &[("result", result)]);
    ["hit", "miss", "stale", "revalidated", "bypass"].map(|result| (result, of(result))).into()
}

#[track_caller]
fn expect(answer: &Answer, result: &str, text: &str) {
    assert_eq!((answer.status, answer.header("x-cache")), (200, Some(result)), "{}", answer.head);
    assert!(answer.text().starts_with(text), "{result}: {:.60}", answer.text());
}

#[test]
fn a_listed_path_is_answered_from_memory_and_all_others_are_not() {
    let origin = Origin::new();
    let icm = Icm::start(config(&origin, "{ paths: [/web/*.css] }"));
    let mut client = icm.client();
    for path in [
        "/domjava/a.jar",
        "/icons/a.gif",
        "/.ibmxspres/a.js",
        "/xsp/.ibmxspres/a.js",
        "/sales/leads.nsf/xsp/.ibmxspres/dojo/a.js",
        "/web/main.css",
    ] {
        let target = format!("{path}?Cache-Control=max-age=600");
        expect(&client.get(&target), "MISS", "version 1");
        let first = client.get_with(&target, &[("Cookie", "DomAuthSessId=1; ICM=x")]);
        expect(&first, "HIT", "version 1");
        assert_eq!((first.all("set-cookie"), first.all("age").len()), (vec![], 1), "{}", first.head);
        let head = client.request("HEAD", &target, &[], b"").unwrap();
        assert_eq!(
            (head.header("x-cache"), head.header("content-length")),
            (Some("HIT"), first.header("content-length"))
        );
        assert_eq!(origin.asked(&target), 1);
        // Another host, another query: another response.
        let other = icm.client().host("other.acme.example").get(&target);
        expect(&other, "MISS", "version 1");
        expect(&client.get(&format!("{target}&n=1")), "MISS", "version 1");
    }
    for target in [
        "/sales/leads.nsf?Cache-Control=max-age=600",
        "/?Cache-Control=max-age=600",
        "/web/a.js?Cache-Control=max-age=9",
    ] {
        for _ in 0..2 {
            assert_eq!(client.get(target).header("x-cache"), None, "{target}");
        }
        assert_eq!(origin.asked(target), 2, "{target}");
    }
    let part = client.get_with("/icons/a.gif?Cache-Control=max-age=600", &[("Range", "bytes=3-6")]);
    assert_eq!((part.status, part.text().as_str(), part.header("x-cache")), (206, "sion", Some("HIT")));
    let counted = results(&icm);
    assert_eq!((counted["miss"], counted["hit"]), (18.0, 13.0), "{counted:?}");
    icm.wait_for_log("\"why\":\"cache\"");
    let log = icm.log();
    let line = log.lines().find(|line| line.contains("\"why\":\"cache\"")).unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!((&line["server"], &line["status"]), (&Value::Null, &200.into()), "{line}");
    let explained = icm.admin("/explain?url=/icons/a.gif").json();
    assert_eq!(explained["cached_path"], "/icons/*");
}

#[test]
fn what_is_for_one_user_or_one_request_is_never_kept() {
    let origin = Origin::new();
    let icm = Icm::start(config(&origin, "{ max_object: 20KiB }"));
    let mut client = icm.client();
    for fields in [
        "Cache-Control=private,max-age=60",
        "Cache-Control=no-store",
        "Cache-Control=max-age=60&Set-Cookie=DomAuthSessId=1",
        "Cache-Control=max-age=60&Vary=Cookie",
        "Cache-Control=max-age=60&Vary=*",
        "Cache-Control=max-age=60&status=500",
        "Cache-Control=max-age=60&body=20481",
        "Pragma=no-cache",
        "Content-Type=text/html&Last-Modified=Fri,%2020%20Nov%202020%2008:15:02%20GMT",
        "n=1",
    ] {
        let target = format!("/icons/a?{fields}");
        for _ in 0..3 {
            assert_eq!(client.get(&target).header("x-cache"), Some("MISS"), "{target}");
        }
        assert_eq!(origin.asked(&target), 3, "{target}");
    }
    // The server's own cookies still come, and ours with them.
    let login = client.get("/icons/a?Cache-Control=max-age=60&Set-Cookie=DomAuthSessId=1");
    assert!(
        login.all("set-cookie").iter().any(|cookie| cookie.starts_with("DomAuthSessId~")),
        "{}",
        login.head
    );

    let target = "/icons/b?Cache-Control=public,max-age=600";
    for fields in [("Authorization", "Basic eDp5"), ("Cache-Control", "no-store")] {
        for _ in 0..2 {
            assert_eq!(client.get_with(target, &[fields]).header("x-cache"), None);
        }
    }
    assert_eq!(client.request("POST", target, &[], b"x").unwrap().header("x-cache"), None);
    let part = client.get_with(target, &[("Range", "bytes=0-9")]);
    assert_eq!((part.status, part.header("x-cache")), (206, Some("MISS")));
    expect(&client.get(target), "MISS", "version 1");
    expect(&client.get(target), "HIT", "version 1");
    assert_eq!(client.get_with(target, &[("Authorization", "Basic eDp5")]).header("x-cache"), None);
    // A browser that reloads at once is content with what is a few seconds old.
    expect(&client.get_with(target, &[("Cache-Control", "no-cache")]), "HIT", "version 1");
    assert_eq!(results(&icm)["bypass"], 5.0);
    let log = icm.log();
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn a_response_that_varies_is_kept_once_for_each_value() {
    let origin = Origin::new();
    let icm = Icm::start(config(&origin, "{}"));
    let mut client = icm.client();
    let target = "/icons/a?Cache-Control=max-age=600&Vary=Accept-Language,%20Accept-Encoding";
    for (result, asked) in [("MISS", 2), ("HIT", 2)] {
        for language in ["de", "en"] {
            let answer =
                client.get_with(target, &[("Accept-Language", language), ("Accept-Encoding", "gzip, br")]);
            expect(&answer, result, &format!("version 1 {language} "));
        }
        assert_eq!(origin.asked(target), asked);
    }
    let answer = client.get_with(target, &[("Accept-Language", "de"), ("Accept-Encoding", "GZIP,br")]);
    expect(&answer, "HIT", "version 1 de ");
}

#[test]
fn a_stale_response_is_confirmed_and_serves_while_no_server_can() {
    let origin = Origin::new();
    let mut config = config(&origin, "{ stale: 1h }");
    set(&mut config, "clusters.0.failover.retry_statuses", "[502]");
    let icm = Icm::start(config);
    let mut client = icm.client();
    let tagged = "/icons/a?Cache-Control=no-cache&ETag=v";
    expect(&client.get(tagged), "MISS", "version 1");
    // The 304 of the server has a lifetime of its own.
    expect(&client.get(tagged), "REVALIDATED", "version 1");
    assert!(origin.last(tagged).to_ascii_lowercase().contains("if-none-match: \"v1\""));
    expect(&client.get(tagged), "HIT", "version 1");
    assert_eq!(client.get_with(tagged, &[("If-None-Match", "\"v1\"")]).status, 304);

    let changing = "/icons/b?Cache-Control=no-cache&ETag=w";
    expect(&client.get(changing), "MISS", "version 1");
    origin.version.store(2, Ordering::SeqCst);
    expect(&client.get(changing), "MISS", "version 2");

    // With a lifetime of a second.
    let short = "/icons/c?Cache-Control=max-age=1";
    let strict = "/icons/d?Cache-Control=max-age=1,must-revalidate";
    let fresh = "/icons/e?Cache-Control=max-age=3600";
    for target in [short, strict, fresh] {
        expect(&client.get(target), "MISS", "version 2");
    }
    let asked = origin.asked(short);
    assert!(eventually(MAX_WAIT, || {
        pause(300);
        client.get(short);
        origin.asked(short) > asked
    }));
    let error_or_stale = |icm: &Icm| {
        pause(2_100);
        let mut client = icm.client();
        expect(&client.get(fresh), "HIT", "version 2");
        expect(&client.get(short), "STALE", "version 2");
        assert!(client.get(strict).status >= 500, "the server forbids it");
        assert!(client.get("/icons/f?Cache-Control=max-age=60").status >= 500, "not in the cache");
    };
    origin.fails.store(true, Ordering::SeqCst);
    error_or_stale(&icm);
    // No server at all: the directory of the cluster stays, its only server is gone.
    drop(origin);
    error_or_stale(&icm);
    assert!(results(&icm)["stale"] >= 2.0);
}

#[test]
fn many_requests_at_once_ask_the_server_once() {
    let origin = Origin::new();
    origin.delay.store(500, Ordering::SeqCst);
    let icm = Icm::start(config(&origin, "{}"));
    let target = "/domjava/big.jar?Cache-Control=max-age=600&body=300000";
    let clients: Vec<_> = (0..20)
        .map(|_| {
            let mut client = icm.client();
            std::thread::spawn(move || client.get(target).body.len())
        })
        .collect();
    assert!(clients.into_iter().all(|client| client.join().unwrap() == 300_000));
    assert_eq!(origin.asked(target), 1);
}

#[test]
fn the_cache_is_bounded_survives_a_reload_and_is_purged_by_a_verb() {
    let origin = Origin::new();
    let mut config = config(&origin, "{ size: 1MiB }");
    let icm = Icm::start(config.clone());
    let mut client = icm.client();
    let target = |n: usize| format!("/icons/{n}.gif?Cache-Control=max-age=3600&body=100000");
    for n in 0..30 {
        expect(&client.get(&target(n)), "MISS", "version 1");
    }
    let gauge = |icm: &Icm, name: &str| {
        exposition::value(&exposition::read(&icm.admin("/metrics").text()).unwrap(), name, &[])
    };
    assert!(gauge(&icm, "icm_cache_bytes") <= 1_048_576.0);
    assert_eq!(gauge(&icm, "icm_cache_objects"), 10.0);
    assert_eq!(gauge(&icm, "icm_cache_evictions_total"), 20.0);

    // A reload with other settings of the cluster keeps what is there, unless they change responses.
    let keeps = |icm: &Icm, n| icm.client().get(&target(n)).header("x-cache") == Some("HIT");
    // The newest first: each miss evicts another one.
    let kept: Vec<usize> = (0..30).rev().filter(|n| keeps(&icm, *n)).take(2).collect();
    let [first, second] = kept[..] else { panic!("{kept:?}") };
    set(&mut config, "cache.size", "2MiB");
    icm.reload(&config);
    assert!(eventually(MAX_WAIT, || gauge(&icm, "icm_cache_max_bytes") == 2_097_152.0));
    assert!(keeps(&icm, first) && keeps(&icm, second));

    let admin = format!("http://{}", icm.admin);
    let purge = |arguments: &[&str]| icm_cli(&[&["cache", "purge", "--admin", &admin], arguments].concat());
    let purged = purge(&[&format!("http://{}{}", icm.address, target(first))]);
    assert_eq!((purged.code, purged.out.as_str()), (0, "1 responses removed\n"), "{}", purged.err);
    assert!(!keeps(&icm, first) && keeps(&icm, second));
    assert_eq!(purge(&["/icons/*.jpg*", "--json"]).json()["purged"], 0);
    let unclear = purge(&["icons"]);
    assert!(unclear.code == 2 && unclear.err.contains("`icons` is neither a path"), "{}", unclear.err);
    assert_eq!(purge(&[]).code, 64);
    assert!(purge(&["--all"]).out.contains("responses removed"));
    assert!(!keeps(&icm, second));
    assert_eq!(Client::to(icm.admin).request("POST", "/cache/purge", &[], b"").unwrap().status, 400);
    assert_eq!(icm.admin("/cache/purge?all=1").status, 405);

    set(&mut config, "clusters.0.headers", "{ expose_server: true }");
    icm.reload(&config);
    assert!(eventually(MAX_WAIT, || {
        let asked = origin.asked(&target(second));
        icm.client().get(&target(second));
        origin.asked(&target(second)) > asked
    }));
    set(&mut config, "cache", "off");
    icm.reload(&config);
    assert!(eventually(MAX_WAIT, || icm.client().get(&target(second)).header("x-cache").is_none()));
    assert_eq!(gauge(&icm, "icm_cache_objects"), 0.0);
    let off = purge(&["--all"]);
    assert_eq!((off.code, off.err.contains("no `cache`")), (2, true), "{}", off.err);
}

#[test]
fn cached_responses_are_compressed_and_the_limits_of_clients_apply_to_them() {
    let origin = Origin::new();
    let mut config = config(&origin, "{}");
    set(&mut config, "clusters.0.compression", "on");
    set(&mut config, "limits.per_client.requests_per_second", "10000");
    set(&mut config, "clusters.0.headers", "{ set: { X-Frame-Options: DENY }, request_id: X-Request-ID }");
    let icm = Icm::start(config.clone());
    let target = "/xsp/.ibmxspres/a.js?Cache-Control=max-age=600&body=200000&ETag=v";
    let mut client = icm.client();
    let plain = client.get(target).body;
    for result in ["HIT", "HIT"] {
        let answer = client.get_with(target, &[("Accept-Encoding", "gzip")]);
        let mut text = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&answer.body[..]), &mut text).unwrap();
        assert_eq!((answer.header("x-cache"), text == plain), (Some(result), true), "{}", answer.head);
        assert!(answer.body.len() * 10 < plain.len());
        assert_eq!(answer.all("etag"), ["W/\"v1-icm\""]);
    }
    let answer = client.get_with(target, &[("If-None-Match", "W/\"v1-icm\""), ("Accept-Encoding", "gzip")]);
    assert_eq!((answer.status, answer.all("etag")), (304, vec!["W/\"v1-icm\""]), "{}", answer.head);
    expect(&client.get(target), "HIT", "version 1");
    assert_eq!(origin.asked(target), 1);
    // The fields of the cluster belong to the answer, not to what is stored.
    for id in ["one", "two"] {
        let answer = client.get_with(target, &[("X-Request-ID", id)]);
        assert_eq!(
            (answer.all("x-request-id"), answer.all("x-frame-options")),
            (vec![id], vec!["DENY"]),
            "{}",
            answer.head
        );
    }
    set(&mut config, "limits.per_client.requests_per_second", "1");
    icm.reload(&config);
    assert!(eventually(MAX_WAIT, || (0..5).any(|_| icm.client().get(target).status == 429)));
}
