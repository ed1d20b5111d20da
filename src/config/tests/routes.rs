//! `routes` of a cluster: what they read as, and what is wrong with them.

use std::time::Duration;

use super::super::settings::*;
use super::super::{ConfigErrors, load_with};
use super::support::{FULL_FILES, cluster, load};
use crate::domain::directory::ReplicaId;

fn routes(yaml: &str) -> Vec<Route> {
    let text = cluster(&format!("    routes: [{yaml}]\n"));
    let loaded = load(&text).unwrap_or_else(|errors| panic!("{errors:?}\n{text}"));
    assert_eq!(loaded.warnings, [], "{text}");
    loaded.settings.clusters[0].routes.iter().map(|route| Route::clone(route)).collect()
}

fn action(yaml: &str) -> RouteAction {
    routes(&format!("{{ match: all, {yaml} }}"))[0].action.clone()
}

/// The route is wrong at `^`, which is not part of it.
#[track_caller]
fn wrong(route: &str, key: &str, parts: &[&str]) {
    let text = cluster(&format!("    routes: [{route}]\n"));
    let line = text.lines().nth(7).unwrap();
    let column = line.find('^').unwrap() + 1;
    let text = text.replace('^', "");
    let errors = load(&text).expect_err(&text);
    let shown = ConfigErrors(errors.clone()).to_string();
    assert_eq!(errors.len(), 1, "{shown}\n{text}");
    let at = (errors[0].line, errors[0].column, errors[0].key.as_str());
    assert_eq!(at, (8, column, format!("clusters[0].routes{key}").as_str()), "{shown}");
    for part in parts {
        assert!(shown.contains(part), "`{part}` is not in:\n{shown}");
    }
}

#[track_caller]
fn warns(routes: &str, part: &str) {
    let text = cluster(&format!("    routes: [{routes}]\n"));
    let warnings = load(&text).unwrap_or_else(|errors| panic!("{errors:?}\n{text}")).warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].to_string().contains(part), "{}", warnings[0]);
}

#[test]
fn a_route_has_a_name_one_action_and_settings_for_its_servers() {
    let all = routes(
        "{ match: { path_prefix: /shop }, database: \\web\\shop.nsf, servers: web1/acme, response_timeout: 30s, body_timeout: off }, \
         { name: open, match: { path: /open } }",
    );
    assert_eq!((&*all[0].name, &*all[1].name, all[1].number), ("routes[0]", "open", 1));
    assert_eq!(all[0].action, RouteAction::Database(RouteDatabase::Path("web/shop.nsf".into())));
    assert_eq!(all[0].servers.iter().map(ToString::to_string).collect::<Vec<_>>(), ["web1/acme"]);
    assert_eq!((all[0].response_timeout, all[0].body_timeout), (Some(Duration::from_secs(30)), Some(None)));
    assert_eq!(
        (&all[1].action, all[1].response_timeout, all[1].body_timeout),
        (&RouteAction::Directory, None, None)
    );
    for spelling in ["C1257A000041D2E0", "__C1257A000041D2E0.nsf", "'C1257A00:0041D2E0'"] {
        let id = RouteDatabase::ReplicaId(ReplicaId(0xC125_7A00_0041_D2E0));
        assert_eq!(action(&format!("database: {spelling}")), RouteAction::Database(id), "{spelling}");
    }
    assert_eq!(action("deny: true"), RouteAction::Deny);
}

#[test]
fn redirects_responses_and_folders_have_defaults() {
    let RouteAction::Redirect(redirect) = action("redirect: 'https://a.example{path}'") else { panic!() };
    assert_eq!(redirect.status, 302);
    let RouteAction::Redirect(redirect) = action("redirect: { to: /new, status: 308 }") else { panic!() };
    assert_eq!((redirect.status, redirect.to.expand(b"/old?x", "h")), (308, "/new".to_owned()));

    let RouteAction::Respond(text) = action(r#"respond: { text: "a\nb" }"#) else { panic!() };
    assert_eq!((text.status, &text.body[..], text.retry_after), (200, &b"a\nb"[..], None));
    assert_eq!(text.content_type, "text/plain; charset=utf-8");
    let page = "respond: { status: 503, page: /etc/icm/maintenance.html, headers: { X-A: b } }";
    let RouteAction::Respond(page) = action(page) else { panic!() };
    assert_eq!((page.status, page.retry_after), (503, Some(60)));
    assert_eq!(page.content_type, "text/html; charset=utf-8");
    assert_eq!((page.headers[0].0.as_str(), page.headers[0].1.as_bytes()), ("x-a", &b"b"[..]));
    assert_ne!(page.etag, text.etag);
    let RouteAction::Respond(late) = action("respond: { status: 429, retry_after: 5m }") else { panic!() };
    assert_eq!((late.retry_after, late.body.len()), (Some(300), 0));

    let RouteAction::Files(files) = action("files: /etc/icm/files") else { panic!() };
    assert_eq!((files.folder.to_str(), files.index.as_deref()), (Some("/etc/icm/files"), Some("index.html")));
    let files = "files: { folder: /etc/icm/files, index: off, content_types: { .LOG: text/plain } }";
    let RouteAction::Files(files) = action(files) else { panic!() };
    assert_eq!((&files.index, &*files.content_types[0].0), (&None, "log"));
}

#[test]
fn each_key_of_a_route_has_an_error_for_its_wrong_form() {
    wrong("^5", "[0]", &["is a number, a map with name, match,"]);
    wrong("{ match: all, ^denny: true }", "[0].denny", &["did you mean `deny`?"]);
    wrong("{ name: a, match: {path: /a} }, { name: ^a, match: {path: /b} }", "[1].name", &["routes[0]"]);
    wrong("{ match: all, deny: ^no }", "[0].deny", &["remove it"]);
    for (route, key, part) in [
        ("^deny: true, database: a.nsf", "deny", "a route has one action"),
        ("^deny: true, redirect: /a", "deny", "cannot stand beside `redirect`"),
        ("deny: true, ^servers: [Web1/Acme]", "servers", "needs no server"),
        ("redirect: /a, ^response_timeout: 5s", "response_timeout", "needs no server"),
        ("servers: [^Web9/Acme]", "servers[0]", "did you mean `Web1/Acme`?"),
        ("servers: ^[]", "servers", "the list is empty"),
        ("deny: true, headers: { ^to_server: { set: { X-A: b } } }", "headers.to_server", "needs no server"),
        ("headers: { ^host: client }", "headers.host", "known here: set, remove, to_server"),
        ("headers: { set: { ^Content-Length: 5 } }", "headers.set.Content-Length", "cannot be changed"),
        ("response_timeout: ^0s", "response_timeout", "must not be zero"),
        ("response_timeout: ^35", "response_timeout", "write `35s`"),
        ("body_timeout: ^never", "body_timeout", "is not a duration"),
        ("database: ^web/shop", "database", "such as `web/shop.nsf`"),
        ("database: ^'/web/shop.nsf?Open'", "database", "is not the path of a database"),
        ("database: ^web/../shop.nsf", "database", "is not the path of a database"),
        ("database: ^web/shop.nsf/view", "database", "is not the path of a database"),
    ] {
        wrong(&format!("{{ match: all, {route} }}"), &format!("[0].{key}"), &[part]);
    }
}

#[test]
fn each_key_of_an_action_has_an_error_for_its_wrong_form() {
    for (action, key, part) in [
        ("redirect: ^www.acme.example", "redirect", "write `https://...` or `/...`"),
        ("redirect: ^'https://a.example/{path}'", "redirect", "leave out the slash"),
        ("redirect: ^'https://{uri}'", "redirect", "`{host}`"),
        ("^redirect: { status: 301 }", "redirect.to", "is missing"),
        ("redirect: { to: /a, status: ^304 }", "redirect.status", "301 or 308"),
        ("redirect: { to: /a, ^code: 301 }", "redirect.code", "known here: to, status"),
        ("respond: ^503", "respond", "a map with status, text"),
        ("respond: { status: ^99 }", "respond.status", "write 200 to 599"),
        ("respond: { status: ^302 }", "respond.status", "write the action `redirect`"),
        ("respond: { status: ^304 }", "respond.status", "is not the status of a fixed response"),
        ("respond: { status: 204, ^text: a }", "respond.text", "has no content"),
        ("respond: { text: a, ^page: /etc/icm/maintenance.html }", "respond.page", "beside `text`"),
        ("respond: { page: ^/etc/icm/none.html }", "respond.page", "cannot read /etc/icm/none.html"),
        ("respond: { text: a, content_type: ^html }", "respond.content_type", "`text/html; charset=utf-8`"),
        ("respond: { status: 404, ^retry_after: 5s }", "respond.retry_after", "no meaning with status 404"),
        ("respond: { headers: { ^'a b': c } }", "respond.headers.a b", "is not the name of a header field"),
        ("respond: { headers: { ^Content-Length: 5 } }", "respond.headers.Content-Length", "gets its own"),
        ("respond: { headers: { ^Location: /a } }", "respond.headers.Location", "`redirect`"),
        ("files: ^/no/such/folder", "files", "there is no directory /no/such/folder"),
        ("files: { folder: /etc/icm/files, index: ^../a }", "files.index", "such as `index.html`"),
        (
            "files: { folder: /etc/icm/files, content_types: { x: ^y } }",
            "files.content_types.x",
            "media type",
        ),
        ("^files: { index: a }", "files.folder", "is missing"),
    ] {
        wrong(&format!("{{ match: all, {action} }}"), &format!("[0].{}", key), &[part]);
    }
}

#[test]
fn a_key_without_a_value_is_an_error_and_not_every_request() {
    wrong("{ ^match: , deny: true }", "[0].match", &["has no condition", "`all`"]);
    wrong("{ match: { ^path: }, deny: true }", "[0].match.path", &["has no value"]);
    wrong("{ match: { header: ^{} }, deny: true }", "[0].match.header", &["the map is empty"]);
    wrong("{ match: { host: ^[] }, deny: true }", "[0].match.host", &["the list is empty"]);
    for key in ["redirect", "database", "servers", "body_timeout"] {
        wrong(&format!("{{ match: all, ^{key}: }}"), &format!("[0].{key}"), &["has no value"]);
    }
}

#[test]
fn a_host_that_the_cluster_does_not_serve_has_a_warning() {
    let warnings = |host: &str| {
        let text = cluster(&format!("    routes: [{{ match: {{ host: {host} }}, deny: true }}]\n"));
        let names =
            "directory: { source: cldbdir }\n    hostnames: [www.acme.example, '*.apps.acme.example']";
        load(&text.replace("directory: { source: cldbdir }", names)).unwrap().warnings
    };
    let other = warnings("[www.acme.example, WWW.other.example]");
    assert!(other.len() == 1 && other[0].to_string().contains("`www.other.example` is not in `hostnames`"));
    for host in ["WWW.acme.example", "a.apps.acme.example", "'*.example'"] {
        assert_eq!(warnings(host), [], "{host}");
    }
}

#[test]
fn a_folder_with_a_file_that_must_stay_secret_is_refused() {
    let text = cluster("    routes: [{ match: all, files: /etc/icm/files }]\n");
    let admin = format!("admin: {{ token_file: /etc/icm/files/token }}\n{text}");
    let files = FULL_FILES.clone().with("/etc/icm/files/token", "0123456789abcdef\n", 0o600);
    let loaded = load_with(std::path::Path::new("icm.yaml"), &admin, &files);
    let shown = loaded.expect_err("the token would be public").to_string();
    assert!(shown.contains("own admin.token_file"), "{shown}");
    let text = format!("state_dir: /etc/icm/files/state\n{text}");
    let shown = ConfigErrors(load(&text).unwrap_err()).to_string();
    assert!(shown.contains("own state_dir"), "{shown}");
    let text = text.replace("/etc/icm/files/state", "/etc/icm");
    let shown = ConfigErrors(load(&text).unwrap_err()).to_string();
    assert!(shown.contains("is below `state_dir`"), "{shown}");
}

#[test]
fn a_route_that_cannot_act_as_meant_has_a_warning() {
    warns("{ name: a, match: all }, { match: { path: /b }, deny: true }", "the route `a` before it takes");
    warns("{ match: {path_prefix: /a} }, { match: {path: /a/b/*} }", "no request gets here");
    warns("{ match: all, response_timeout: 35m }", "grace_period_seconds (75)");
    let database = "{ path: a.nsf, replica_id: C1257A000041D2E0, replicas: [{ server: Web1/Acme }] }";
    let other = database.replace("D2E0", "D2E1");
    let text = |route: &str| {
        cluster(&format!("    routes: [{{ match: all, {route} }}]\n")).replace(
            "{ source: cldbdir }",
            &format!("{{ source: static, databases: [{database}, {other}] }}"),
        )
    };
    for (route, part) in [
        ("database: b.nsf", "does not have this database"),
        ("database: C1257A000041D2E2", "does not have this database"),
        ("database: A.nsf", "write the replica ID"),
    ] {
        let warnings = load(&text(route)).unwrap().warnings;
        assert!(warnings.len() == 1 && warnings[0].to_string().contains(part), "{route}: {warnings:?}");
    }
    assert_eq!(load(&text("database: C1257A000041D2E1")).unwrap().warnings, []);
}
