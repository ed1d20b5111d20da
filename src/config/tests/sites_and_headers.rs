//! `site`, `cross_sites`, and the edits of header fields.

use super::super::ConfigErrors;
use super::super::settings::Servers;
use super::support::{cluster, load, top};
use crate::domain::select::CrossSites;

/// A file with two servers, each with what is added to its map, and settings of the cluster.
fn two_servers(front: &str, first: &str, second: &str, rest: &str) -> String {
    let server = |n: u8, more: &str| {
        format!("{{ name: Web{n}/Acme, hostname: w{n}.example, http: \"10.0.0.1{n}:80\"{more} }}")
    };
    let text = cluster(rest).replace(
        "{ name: Web1/Acme, hostname: w1.example, http: 10.0.0.11:80 }",
        &format!("{}\n        - {}", server(1, first), server(2, second)),
    );
    format!("{front}{text}")
}

#[track_caller]
fn warnings(text: &str) -> Vec<String> {
    load(text).unwrap().warnings.iter().map(|w| format!("{}: {}", w.location.line, w.text)).collect()
}

#[track_caller]
fn refused(text: &str, line: usize, column: usize, key: &str, part: &str) {
    let Err(errors) = load(text) else { panic!("accepted:\n{text}") };
    let shown = ConfigErrors(errors.clone()).to_string();
    assert_eq!(errors.len(), 1, "{shown}");
    assert_eq!((errors[0].line, errors[0].column, errors[0].key.as_str()), (line, column, key), "{shown}");
    assert!(shown.contains(part), "`{part}` is not in:\n{shown}");
}

#[test]
fn sites_are_read_and_compared_without_case() {
    let text = two_servers("site: Vienna\n", ", site: VIENNA", "", "    cross_sites: when_busy\n");
    let loaded = load(&text).unwrap();
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.settings.site.as_ref().unwrap().as_str(), "Vienna");
    let cluster = &loaded.settings.clusters[0];
    let Servers::Static(servers) = &cluster.servers else { panic!("static servers") };
    assert_eq!((&servers[0].site, &servers[1].site), (&loaded.settings.site, &None));
    assert_eq!(cluster.cross_sites, CrossSites::WhenBusy);
    assert!(!loaded.settings.clusters_yaml.unwrap().contains("Vienna"), "other ICMs do not get it");
}

#[test]
fn sites_that_lead_to_nothing_are_warned_of() {
    let warned = |front: &str, first: &str, second: &str, rest: &str, line: &str, part: &str| {
        let all = warnings(&two_servers(front, first, second, rest));
        let is_there = all.iter().any(|w| w.starts_with(&format!("{line}: ")) && w.contains(part));
        assert!(is_there, "{line} {part}: {all:?}");
    };
    let vienna = "site: Vienna\n";
    warned("site: Viena\n", ", site: Vienna", ", site: Graz", "", "1", "did you mean `Vienna`?");
    warned(vienna, "", "", "", "1", "no server is of this site");
    warned("", "", ", site: Graz", "", "7", "this ICM itself has no `site`");
    warned(vienna, "", "", "    cross_sites: never\n", "10", "no server has a `site`");
    let never = "    cross_sites: never\n";
    warned(vienna, ", site: Vienna", ", site: Graz", never, "10", "new users get an error");
    warned(vienna, ", site: Graz", ", site: Graz", never, "10", "no new user is served");
    warned(vienna, ", site: Graz", ", site: Graz", "", "5", "every request leaves it");
    let fine = two_servers(vienna, ", site: Vienna", ", site: Graz", "    cross_sites: when_unavailable\n");
    assert_eq!(warnings(&fine), Vec::<String>::new());
}

#[test]
fn wrong_sites_are_refused() {
    refused(&top("site: [Vienna]"), 1, 7, "site", "a text is expected");
    refused(&top("site: ''"), 1, 7, "site", "is empty");
    refused(&top("sites: Vienna"), 1, 1, "sites", "did you mean `site`?");
    refused(
        &cluster("    cross_sites: when_unavailible\n"),
        8,
        18,
        "clusters[0].cross_sites",
        "did you mean `when_unavailable`?",
    );
    refused(&cluster("    site: Vienna\n"), 8, 5, "clusters[0].site", "it belongs in `the top level`");
}

/// A cluster whose `headers` is this map.
fn headers(map: &str) -> String {
    cluster(&format!("    headers: {{ {map} }}\n"))
}

#[test]
fn edits_are_prepared_with_the_spelling_of_the_file() {
    let text = headers(
        "set: { X-Frame-Options: SAMEORIGIN, X-Number: 7 }, remove: X-Powered-By, to_server: { set: { X-A: b }, remove: [Accept-Encoding] }, request_id: X-Request-ID",
    );
    let loaded = load(&text).unwrap();
    assert_eq!(loaded.warnings, []);
    let headers = &loaded.settings.clusters[0].headers;
    let set: Vec<_> = headers
        .rules
        .to_client
        .set
        .iter()
        .map(|(field, value)| (&field.spelling[..], value.as_bytes()))
        .collect();
    assert_eq!(set, [(&b"X-Frame-Options"[..], &b"SAMEORIGIN"[..]), (b"X-Number", b"7")]);
    assert_eq!(headers.rules.to_client.remove, ["x-powered-by"]);
    assert_eq!(headers.rules.to_server.set[0].0.name, "x-a");
    assert_eq!(headers.rules.to_server.remove, ["accept-encoding"]);
    assert_eq!(headers.request_id.as_ref().unwrap().name, "x-request-id");
    for off in ["off", "false", "no"] {
        let loaded = load(&self::headers(&format!("request_id: {off}"))).unwrap();
        assert_eq!(loaded.settings.clusters[0].headers.request_id, None);
    }
}

#[test]
fn fields_that_icm_owns_or_that_frame_messages_are_refused_in_every_spelling() {
    for (name, part) in [
        ("Host", "use `headers.host`"),
        ("via", "use `headers.via`"),
        ("Strict-Transport-Security", "use `headers.hsts`"),
        ("Server", "use `headers.expose_server`"),
        ("Connection", "frames the message"),
        ("Content-Length", "frames the message"),
        ("content_length", "frames the message"),
        ("Transfer-Encoding", "frames the message"),
        ("Transfer_Encoding", "frames the message"),
        ("Upgrade", "frames the message"),
        ("TE", "frames the message"),
        ("Trailer", "frames the message"),
        ("Keep-Alive", "frames the message"),
        ("Content-Encoding", "frames the message"),
        ("Date", "frames the message"),
        ("X-Forwarded-For", "servers trust it"),
        ("X_Forwarded_Host", "servers trust it"),
        ("X-Real-IP", "servers trust it"),
        ("Forwarded", "servers trust it"),
        ("$WSRU", "servers trust it"),
        ("$wsanything", "servers trust it"),
        ("X-ConnectorHeaders-Secret", "servers trust it"),
        ("Proxy", "servers trust it"),
        ("Cookie", "logins and affinity"),
        ("Set-Cookie", "logins and affinity"),
        ("X Y", "is not the name of a header field"),
        ("'X:Y'", "is not the name of a header field"),
    ] {
        let shown = name.trim_matches('\'');
        let key = format!("clusters[0].headers.set.{shown}");
        let Err(errors) = load(&headers(&format!("set: {{ {name}: x }}"))) else {
            panic!("{name} is accepted")
        };
        let text = ConfigErrors(errors.clone()).to_string();
        assert!(errors.len() == 1 && text.contains(part), "{name}: {text}");
        assert!(shown.contains(':') || errors[0].key == key, "{text}");
        for (list, column) in [("remove: [", 25), ("to_server: { remove: [", 38)] {
            let end = if list.contains('{') { "] }" } else { "]" };
            let Err(errors) = load(&headers(&format!("{list}{name}{end}"))) else {
                panic!("{name} is accepted")
            };
            let text = ConfigErrors(errors.clone()).to_string();
            assert!(errors.len() == 1 && text.contains(part), "{name}: {text}");
            assert_eq!((errors[0].line, errors[0].column), (8, column), "{text}");
        }
        let Err(errors) = load(&headers(&format!("request_id: {name}"))) else {
            panic!("{name} is accepted")
        };
        assert!(ConfigErrors(errors).to_string().contains(part), "{name}");
    }
}

#[test]
fn wrong_edits_are_refused() {
    let at = |map: &str, column: usize, key: &str, part: &str| {
        refused(&headers(map), 8, column, &format!("clusters[0].headers.{key}"), part);
    };
    at("set: { X-A: '' }", 28, "set.X-A", "is empty, write the name in `remove`");
    at("set: { X-A: ü }", 28, "set.X-A", "outside ASCII");
    at("set: { X-A: \"a\\r\\nb\" }", 28, "set.X-A", "control character");
    at("set: { X-A: [a] }", 28, "set.X-A", "a text is expected");
    at("set: { X-A: }", 23, "set.X-A", "has no value");
    at("set: [X-A]", 21, "set", "a map is expected");
    at("set: { X-A: a, x-a: b }", 31, "set.x-a", "is the same field as `X-A`");
    at("set: { X-A: a }, remove: [x-a]", 42, "remove[0]", "`x-a` is also in `set`");
    at("set: { X-ID: a }, request_id: x-id", 46, "request_id", "`x-id` is also in set or remove");
    at("to_server: { remove: [X-ID] }, request_id: X-ID", 59, "request_id", "is also in set or remove");
    at("request_id: on", 28, "request_id", "write `request_id: X-Request-ID`");
    at("to_server: { removes: [X-A] }", 29, "to_server.removes", "did you mean `remove`?");
    let long = format!("set: {{ X-A: {} }}", "x".repeat(5000));
    at(&long, 28, "set.X-A", "longer than 4096 bytes");
    let twice = load(&headers("remove: [X-A, x-a]")).unwrap();
    assert!(twice.warnings.iter().any(|w| w.text.contains("twice")), "{:?}", twice.warnings);
}
