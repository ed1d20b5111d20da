//! What the parser of request targets promises.

use super::super::{Locator, ServerCommand};
use super::*;
use proptest::prelude::*;

fn database(target: &str) -> Option<String> {
    parse(target.as_bytes()).database.map(|d| String::from_utf8_lossy(d.raw).into_owned())
}

fn replica(target: &str) -> Option<ReplicaId> {
    parse(target.as_bytes()).database.and_then(|d| d.replica)
}

fn pieces(target: &str) -> (String, Option<String>) {
    let target = parse(target.as_bytes());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(target.path), target.query.map(text))
}

#[test]
fn the_database_part_ends_with_the_first_segment_that_has_the_ending_of_a_database() {
    for (target, raw) in [
        ("/leads.nsf", "leads.nsf"),
        ("/sales/leads.nsf/view?OpenView", "sales/leads.nsf"),
        ("/Sales/Leads.NSF/other.nsf", "Sales/Leads.NSF"),
        ("//sales//leads.nsf/", "sales//leads.nsf"),
        ("/sales%5Cleads.nsf/v", "sales%5Cleads.nsf"),
        ("/sales%2Fleads.nsf%2Fv", "sales%2Fleads.nsf"),
        ("\\sales\\leads.nsf\\v", "sales\\leads.nsf"),
        ("%2f%5c/leads.nsf", "leads.nsf"),
        ("/leads%2Ensf/v", "leads%2Ensf"),
        ("/le%61ds.%6Esf", "le%61ds.%6Esf"),
        ("/mail.box", "mail.box"),
        ("/t.ntf?OpenDatabase", "t.ntf"),
        ("/a.ns2", "a.ns2"),
        ("/a.ns5/v", "a.ns5"),
        ("/a.NS9", "a.NS9"),
        ("/a.nsg", "a.nsg"),
        ("/a.nsh", "a.nsh"),
        ("/leads.nsf!OpenDatabase", "leads.nsf"),
        ("/leads.nsf%3FOpenDatabase", "leads.nsf"),
        ("/leads.nsf%21OpenDatabase", "leads.nsf"),
        ("/M%C3%BCller.nsf", "M%C3%BCller.nsf"),
        ("/wow!.nsf/v", "wow!.nsf"),
        ("leads.nsf", "leads.nsf"),
    ] {
        assert_eq!(database(target).as_deref(), Some(raw), "{target}");
    }
}

#[test]
fn a_path_without_such_a_segment_names_no_database() {
    for target in [
        "",
        "/",
        "/?OpenServer",
        "/icons/x.gif",
        "/domjava/a.jar",
        "/xsp/.ibmxspres/x.js",
        "/api/data",
        "/leads.nsfx/v",
        "/leadsnsf",
        "/a.ns1",
        "/a.nsf.gif",
        "/x?RedirectTo=/leads.nsf",
        "/x.gif?/leads.nsf",
        "*",
    ] {
        assert_eq!(database(target), None, "{target}");
        assert_eq!(parse(target.as_bytes()).locator, Locator::None, "{target}");
    }
}

#[test]
fn replacing_the_range_replaces_the_database_alone() {
    let target = b"//sales%5Cleads.nsf/0/8FA?OpenDocument";
    let range = parse(target).database.unwrap().range;
    let mut moved = target.to_vec();
    moved.splice(range, b"apps/leads.nsf".iter().copied());
    assert_eq!(moved, b"//apps/leads.nsf/0/8FA?OpenDocument");
}

#[test]
fn a_replica_id_is_read_in_every_documented_spelling() {
    let id = Some(ReplicaId(0xC125_7A00_0041_D2E0));
    for target in [
        "/__C1257A000041D2E0.nsf",
        "/__c1257a000041d2e0.NSF/v?OpenView",
        "/C1257A000041D2E0.nsf",
        "/C1257A00:0041D2E0.nsf",
        "/__C1257A00%3A0041D2E0.nsf",
        "/%5F%5FC1257A000041D2E0%2Ensf/",
        "//__C1257A000041D2E0.nsf!OpenDatabase",
        "/__C1257A000041D2E0",
        "/C1257A000041D2E0/0/8FA?OpenDocument",
        "\\__c1257a000041d2e0\\v?OpenView",
        "/__C1257A00:0041D2E0?OpenDatabase",
        "/%5F%5FC1257A000041D2E%30!OpenDatabase",
        "/__C1257A000041D2E0%3FOpenDatabase?Login",
    ] {
        assert_eq!(replica(target), id, "{target}");
    }
    for target in [
        "/apps/__C1257A000041D2E0.nsf",
        "/_C1257A000041D2E0.nsf",
        "/__C1257A000041D2E.nsf",
        "/__C1257A000041D2E",
        "/apps/__C1257A000041D2E0",
        "/__C1257A000041D2E00",
        "/__C1257A000041D2E0.ntf",
        "/leads.nsf",
        "/.nsf",
    ] {
        assert_eq!(replica(target), None, "{target}");
    }
}

#[test]
fn the_command_begins_at_the_first_question_mark_or_at_an_exclamation_mark_behind_the_database() {
    let some = |path: &str, query: &str| (path.to_owned(), Some(query.to_owned()));
    assert_eq!(pieces("/db.nsf/v?OpenView&a?b"), some("/db.nsf/v", "OpenView&a?b"));
    assert_eq!(pieces("/db.nsf/0/81bc!OpenDocument"), some("/db.nsf/0/81bc", "OpenDocument"));
    assert_eq!(pieces("/db.nsf!OpenDatabase&Login"), some("/db.nsf", "OpenDatabase&Login"));
    assert_eq!(pieces("/!OpenServer"), some("/", "OpenServer"));
    assert_eq!(pieces("/db.nsf/81bc!OpenDocument?x=y"), some("/db.nsf/81bc", "OpenDocument?x=y"));
    assert_eq!(pieces("/db.nsf?"), some("/db.nsf", ""));
}

#[test]
fn an_exclamation_mark_elsewhere_is_part_of_a_name() {
    let whole = |target: &str| assert_eq!(pieces(target), (target.to_owned(), None));
    whole("/wow!OpenView");
    whole("/wow!/db.nsf/v");
    whole("/wow!a.nsf/v");
    whole("/db.nsf/v!");
    whole("/db.nsf/v!1st");
    whole("/db.nsf/wow!really/8FA");
    assert_eq!(
        pieces("/db.nsf/Hot!News?OpenView"),
        ("/db.nsf/Hot!News".to_owned(), Some("OpenView".to_owned()))
    );
}

#[test]
fn command_and_arguments_are_found_behind_either_mark() {
    let target = parse(b"/names.nsf?Login&RedirectTo=%2Fsales%2Fleads.nsf&login");
    assert_eq!(target.command.server_command(), Some(ServerCommand::Login));
    assert_eq!(target.argument(b"redirectto").as_deref(), Some(&b"/sales/leads.nsf"[..]));
    assert_eq!(target.argument(b"Login").as_deref(), Some(&b""[..]));
    assert_eq!(parse(b"/names.nsf?Login").argument(b"Login"), None);
    assert_eq!(parse(b"/db.nsf!OpenDatabase&Login").argument(b"Login").as_deref(), Some(&b""[..]));
    assert_eq!(parse(b"/x.xsp?Name=a&Id=b").argument(b"name").as_deref(), Some(&b"a"[..]));
    let redirect = parse(b"/?Redirect&Name=Web1%2FAcme&Id=C1257A000041D2E0&To=v%3FOpenView");
    assert_eq!(redirect.command.server_command(), Some(ServerCommand::Redirect));
    assert_eq!(redirect.argument(b"Name").as_deref(), Some(&b"Web1/Acme"[..]));
    assert_eq!(redirect.argument(b"To").as_deref(), Some(&b"v?OpenView"[..]));
}

#[test]
fn only_names_nsf_itself_has_login_forms() {
    for target in [
        "/names.nsf?Login",
        "//NAMES.nsf!login&RedirectTo=/a.nsf",
        "/%6Eames.nsf/?SAMLLogin",
        "/names.nsf?oidclogin&code=1",
        "/names.nsf?Logout&RedirectTo=/",
        "/names.nsf?ChangePassword",
    ] {
        assert!(parse(target.as_bytes()).is_login_form(), "{target}");
    }
    for target in [
        "/",
        "/?Login",
        "/secret.nsf?Login",
        "/mail/names.nsf?Login",
        "/names.nsf/view?Login",
        "/names.nsf%3FOpenDatabase?Login",
        "/names.nsf?OpenServer",
        "/names.nsf?Redirect&Name=x",
        "/names.nsf?OpenDatabase&Login",
        "/__C1257A000041D2E0?Login",
    ] {
        assert!(!parse(target.as_bytes()).is_login_form(), "{target}");
    }
}

#[test]
fn the_locator_comes_from_the_path_behind_the_database() {
    assert_eq!(parse(b"/C125/leads.nsf/0/8FA!OpenDocument").locator, Locator::NoteId);
    assert_eq!(parse(b"/leads.nsf/All?OpenView").locator, Locator::Name);
    assert_eq!(parse(b"/leads.nsf").locator, Locator::None);
    assert_eq!(parse(b"/8FA").locator, Locator::None);
}

#[test]
fn dot_segments_and_control_bytes_are_hazards_in_any_spelling() {
    for target in [
        "/../leads.nsf",
        "/a/./leads.nsf",
        "/a/%2e%2E/leads.nsf",
        "/a%2F..%2Fleads.nsf",
        "/a\\..\\leads.nsf",
        "/a%5c.%2e%5Cleads.nsf",
        "/leads.nsf/..",
        "/leads.nsf/.%2e?OpenView",
        "..",
    ] {
        assert_eq!(parse(target.as_bytes()).hazard, Some(Hazard::DotSegment), "{target}");
    }
    for target in ["/leads.nsf%00.gif", "/a%0d%0a", "/%7F", "/a\tb", "/leads.nsf/v%00?OpenView"] {
        assert_eq!(parse(target.as_bytes()).hazard, Some(Hazard::ControlByte), "{target}");
    }
    for target in ["/a.b/leads.nsf", "/xsp/.ibmxspres/x", "/a/..b", "/a?../b", "/a?x=%00", "/a%20b"] {
        assert_eq!(parse(target.as_bytes()).hazard, None, "{target}");
    }
}

/// Targets made of pieces that parsers disagree on.
fn hostile_target() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        proptest::sample::select(vec![
            "/",
            "\\",
            "%2F",
            "%5c",
            "?",
            "!",
            "&",
            "=",
            "%",
            "%3f",
            "%21",
            ".nsf",
            ".NS5",
            "..",
            ".",
            "%2e",
            "$file",
            "8FA",
            "OpenDocument",
            "Login",
            "__C1257A000041D2E0.nsf",
            "%00",
            "+",
            "0"
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        proptest::collection::vec(any::<u8>(), 0..6),
    ];
    proptest::collection::vec(piece, 0..16).prop_map(|pieces| pieces.concat())
}

/// Paths that are mostly of the usual kind.
fn usual_path() -> impl Strategy<Value = String> {
    let piece = proptest::sample::select(vec![
        "/",
        "a",
        "Sales",
        "leads.nsf",
        ".NSF",
        ".",
        "+",
        "$file",
        "C1257A000041D2E0",
        "__",
        "0",
        "%2F",
        "!",
        ".box",
        "-",
        "~",
    ]);
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn the_quick_scan_finds_what_the_careful_one_finds(path in usual_path()) {
        let path = path.as_bytes();
        if let Some(database) = usual_path::scan(path) {
            for has_question in [false, true] {
                let careful = scan_path(path, has_question);
                prop_assert_eq!(&careful.database, &database);
                prop_assert_eq!((careful.bang, careful.hazard), (None, None));
            }
            prop_assert!(!lenient::may_open_other_database(path, database.as_ref()));
        }
    }

    #[test]
    fn any_path_is_scanned_alike(path in hostile_target()) {
        if let Some(database) = usual_path::scan(&path) {
            let careful = scan_path(&path, false);
            prop_assert_eq!((careful.database, careful.bang, careful.hazard), (database, None, None));
        }
    }

    #[test]
    fn the_pieces_make_up_the_target_byte_for_byte(target in hostile_target()) {
        let parsed = parse(&target);
        let mut rebuilt = parsed.path.to_vec();
        if let Some(query) = parsed.query {
            let mark = target[rebuilt.len()];
            prop_assert!(mark == b'?' || mark == b'!');
            rebuilt.push(mark);
            rebuilt.extend_from_slice(query);
        }
        prop_assert_eq!(&rebuilt, &target);
        if let Some(database) = parsed.database {
            prop_assert_eq!(&target[database.range.clone()], database.raw);
            prop_assert!(database.range.end <= parsed.path.len());
            let byte = PercentDecoder::new(database.raw).next().unwrap();
            prop_assert!(!byte.is_separator());
        } else {
            prop_assert_eq!(parsed.locator, Locator::None);
        }
        if let Some(query) = parsed.query {
            prop_assert!(query.starts_with(parsed.command.raw()));
        }
    }

    #[test]
    fn a_question_mark_always_ends_the_path(target in hostile_target()) {
        prop_assert!(!parse(&target).path.contains(&b'?'));
    }

    #[test]
    fn a_database_is_found_in_every_spelling(
        folders in proptest::collection::vec("[a-z][a-z0-9]{0,6}", 0..3),
        stem in "[a-z]{1,8}",
        ending in proptest::sample::select(vec![".nsf", ".NTF", ".ns2", ".Ns9", ".nsg", ".nsh", ".box"]),
        separator in proptest::sample::select(vec!["/", "\\", "%2f", "%5C"]),
        rest in proptest::sample::select(vec!["", "/", "/v?OpenView", "!OpenDatabase", "?OpenDatabase", "%2Fv"]),
    ) {
        let mut parts = folders;
        parts.push(format!("{stem}{ending}"));
        let raw = parts.join(separator);
        let target = format!("/{raw}{rest}");
        prop_assert_eq!(database(&target), Some(raw));
    }
}
