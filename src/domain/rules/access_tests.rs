//! Tests of access rules: the order, and that no spelling of a denied URL passes.

use proptest::prelude::*;

use super::*;
use crate::domain::directory::db_path::{FoldBuffer, fold_url_path};
use crate::domain::rules::{RequestFields, is_odd_replica_id};
use crate::domain::url;

struct NoFields;

impl RequestFields for NoFields {
    fn any_value(&self, _: &str, _: &dyn Fn(&[u8]) -> bool) -> bool {
        false
    }
}

fn rule(name: &str, test: AccessTest, effect: AccessEffect) -> AccessRule {
    AccessRule { name: name.into(), test, effect }
}

fn condition(add: impl FnOnce(&mut RequestMatch)) -> AccessTest {
    let mut condition = RequestMatch::default();
    add(&mut condition);
    AccessTest::Condition(Box::new(condition))
}

const DENY: AccessEffect = AccessEffect::Deny { status: 403 };

/// The decision without a directory: the path of the URL is the only name of its database.
fn decide(rules: &AccessRules, target: &str) -> String {
    let parsed = url::parse(target.as_bytes());
    if parsed.hazard.is_some() {
        return "hazard".to_owned();
    }
    let mut opened = OpenedDatabases::default();
    if let Some(database) = &parsed.database {
        let mut buffer = FoldBuffer::default();
        let folded = fold_url_path(database.raw, &mut buffer);
        opened.candidates.push([Cow::Owned(folded.to_vec())].into_iter().collect());
        opened.is_unknown_replica = database.replica.is_some() || is_odd_replica_id(folded);
    }
    let mut buffer = FoldBuffer::default();
    rules
        .decide(
            &RequestFacts {
                method: "GET",
                host: "www.acme.example",
                target: &parsed,
                path: fold_url_path(parsed.path, &mut buffer),
                fields: &NoFields,
                client: Some([192, 0, 2, 1].into()),
                databases: &[],
                is_unknown_replica: false,
                reading: UrlReading::Written,
            },
            &opened,
        )
        .to_string()
}

fn baseline() -> AccessRules {
    AccessRules::new(vec![rule("domino_baseline", AccessTest::DominoBaseline, DENY)])
}

fn is_denied(target: &str) -> bool {
    let decision = decide(&baseline(), target);
    decision == "hazard" || decision.starts_with("denied by `domino_baseline`")
}

/// Requests that the preset must deny, with `?` where a command begins.
const CLOSED: [&str; 24] = [
    "/names.nsf",
    "/names.nsf/People?OpenView",
    "/names.nsf/People",
    "/names.nsf/$DefaultNav",
    "/names.nsf/$DefaultView?OpenView",
    "/names.nsf/($Users)?ReadViewEntries&Count=1",
    "/names.nsf/($Users)?ReadEntries",
    "/names.nsf/People?SearchView&Query=a",
    "/names.nsf?SearchSite",
    "/names.nsf/0/E86886A81087A25805258E4F00502001?OpenDocument",
    "/names.nsf/0/8FA/$FILE/UserID",
    "/names.nsf/x?OpenElement",
    "/names.nsf/People?Login",
    "/names.nsf/api/data/collections",
    "/cldbdir.nsf/($Pathname)?ReadViewEntries",
    "/catalog.nsf",
    "/log.nsf?Login",
    "/admin4.nsf/x.gif?OpenImageResource",
    "/webadmin.ntf",
    "/mail1.box",
    "/domcfg.nsf/SignIn?OpenForm",
    "/domcfg.nsf/Mappings",
    "/?OpenServer",
    "/__85255E01001356A8.nsf?OpenDatabase",
];

#[test]
fn the_preset_closes_system_databases_and_leaves_logins_and_applications_open() {
    for target in CLOSED {
        assert!(is_denied(target), "{target}: {}", decide(&baseline(), target));
    }
    for target in [
        "/85255E01001356A8/People",
        "/x/__85255E01001356A8.nsf",
        "/__85255E01001356A8.ntf",
        "/log.ntf++++.nsf",
        "/names.nsf%3FLogin/People",
        "/?Redirect&Name=Web1",
        "/any.nsf?Redirect&Name=Web1",
        "/api/data/",
        "/ibm_id_vault/acme.nsf",
        "/names.nsf?Login%26OpenView",
        "/names.nsf?Login?OpenView",
        "/names.nsf!OpenView?Login",
        "/domcfg.nsf/Mappings%3FOpenView/x.gif",
        "/log.nsf!",
        "/log.nsf!/x",
        "/log.nsf!%4cogin",
        "/names.nsf!1?Login",
    ] {
        assert!(is_denied(target), "{target}: {}", decide(&baseline(), target));
    }
    for target in [
        "/",
        "/?Open",
        "/names.nsf?Login",
        "/names.nsf?Login&RedirectTo=/names.nsf/People?OpenView",
        "/NAMES.nsf/?logout&RedirectTo=/",
        "/names.nsf?ChangePassword",
        "/names.nsf?SAMLLogin",
        "/names.nsf?OIDCLogin&code=1",
        "/domcfg.nsf/logo.gif?OpenImageResource",
        "/domcfg.nsf/logo.gif",
        "/domcfg.nsf/v/E86886A81087A25805258E4F00502001/$FILE/logo.gif",
        "/homepage.nsf",
        "/sales/log.nsf/By+Date?OpenView",
        "/mail/jdoe.nsf/iNotes/Proxy/?OpenDocument&Form=s_ReadViewEntries",
        "/mail/jdoe.nsf?Login",
        "/iNotes/Forms9.nsf/x.js?OpenFileResource",
        "/api/data/x",
        "/verse",
        "/Microsoft-Server-ActiveSync?Cmd=Sync",
        "/app.nsf/home.xsp?redirect=1",
    ] {
        assert_eq!(decide(&baseline(), target), "allowed: no rule matches", "{target}");
    }
}

#[test]
fn the_first_rule_that_matches_decides() {
    let office = condition(|c| c.add_client("192.0.2.0/24".parse().unwrap()));
    let rules = AccessRules::new(vec![
        rule("shop", condition(|c| c.add_database("shop.nsf")), AccessEffect::Allow),
        rule("views", condition(|c| c.add_command("OpenView")), AccessEffect::Deny { status: 404 }),
        rule("office", office, AccessEffect::Allow),
        rule("rest", AccessTest::Condition(Box::default()), DENY),
    ]);
    for (target, decision) in [
        ("/shop.nsf/v?OpenView", "allowed by `shop`"),
        ("/other.nsf/v?OpenView", "denied by `views`"),
        ("/other.nsf/v", "denied by `views`"),
        ("/other.nsf/v.xsp", "allowed by `office`"),
        ("/__85255E01001356A8.nsf/x.xsp", "allowed by `office`"),
    ] {
        assert_eq!(decide(&rules, target), decision, "{target}");
    }
    assert_eq!(decide(&AccessRules::default(), "/names.nsf"), "allowed: no rule matches");
}

#[test]
fn a_rule_that_denies_a_database_also_holds_for_a_replica_id_that_is_not_known() {
    let by_database =
        |effect| AccessRules::new(vec![rule("r", condition(|c| c.add_database("x.nsf")), effect)]);
    assert_eq!(decide(&by_database(DENY), "/__85255E01001356A8.nsf"), "denied by `r`");
    assert_eq!(
        decide(&by_database(AccessEffect::Allow), "/__85255E01001356A8.nsf"),
        "allowed: no rule matches"
    );
}

/// Another spelling of the same URL.
fn respell(target: &str, how: &[u8]) -> String {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let mut how = how.iter().cycle().copied();
    let mut next = || how.next().unwrap_or_default();
    let mut out = String::new();
    for letter in path.chars() {
        match (letter, next() % 6) {
            ('/', 0) if !out.is_empty() => out.push('\\'),
            ('/', 1) => out.push_str("//"),
            ('/', 2) if !out.is_empty() => out.push_str("%2f"),
            ('/', 3) if !out.is_empty() => out.push_str("%5C"),
            (_, 4) if letter != '/' => out.push_str(&format!("%{:02X}", u32::from(letter))),
            (_, 5) => out.push(letter.to_ascii_uppercase()),
            _ => out.push(letter),
        }
    }
    if let Some(query) = query {
        out.push(if next() % 3 == 0 { '!' } else { '?' });
        if next() % 8 == 0 {
            out.push_str("%3F");
        }
        let end = query.find('&').unwrap_or(query.len());
        for (at, letter) in query.char_indices() {
            match next() % 3 {
                0 if at < end => out.push_str(&format!("%{:02x}", u32::from(letter))),
                1 => out.push(letter.to_ascii_lowercase()),
                _ => out.push(letter),
            }
        }
    }
    out
}

proptest! {
    #[test]
    fn no_spelling_of_a_denied_url_passes(
        target in proptest::sample::select(&CLOSED[..]),
        how in proptest::collection::vec(any::<u8>(), 64),
    ) {
        let other = respell(target, &how);
        prop_assert!(is_denied(&other), "{} as {}: {}", target, other, decide(&baseline(), &other));
    }

    #[test]
    fn no_spelling_passes_a_condition_that_denies(how in proptest::collection::vec(any::<u8>(), 64)) {
        let views = AccessRules::new(vec![rule("views", condition(|c| {
            c.add_database("sales/leads.nsf");
            c.add_command("OpenView");
        }), DENY)]);
        let other = respell("/sales/leads.nsf/By Region?OpenView&Start=1", &how);
        let decision = decide(&views, &other);
        prop_assert!(decision != "allowed: no rule matches", "{}: {}", other, decision);
    }
}
