//! `access` and `limits.logins`: wrong values with their places, and defaults.

use std::time::Duration;

use super::super::ConfigErrors;
use super::super::settings::LoginLimits;
use super::support::{cluster, load, top};
use crate::domain::rules::{AccessEffect, AccessTest};

/// One line of a cluster, line 8 of the file, is wrong.
#[track_caller]
fn wrong(line: &str, column: usize, key: &str, part: &str) {
    let errors = load(&cluster(&format!("    {line}\n"))).err().unwrap_or_else(|| panic!("accepted: {line}"));
    let shown = ConfigErrors(errors.clone()).to_string();
    assert_eq!(errors.len(), 1, "{shown}");
    assert_eq!((errors[0].line, errors[0].column, errors[0].key.as_str()), (8, column, key), "{shown}");
    assert!(shown.contains(part), "`{part}` is not in:\n{shown}");
}

#[test]
fn a_wrong_rule_is_shown_with_its_place_and_what_to_write() {
    wrong("access: domino_base", 13, "clusters[0].access", "did you mean `domino_baseline`?");
    wrong("access: [off]", 14, "clusters[0].access[0]", "`off` is no rule");
    wrong("access: [{ name: x }]", 14, "clusters[0].access[0]", "write `allow:` or `deny:` with a condition");
    wrong("access: [{ allow: all, deny: all }]", 16, "clusters[0].access[0].allow", "write two rules");
    wrong("access: [{ deny: }]", 16, "clusters[0].access[0].deny", "write `all` for every request");
    wrong("access: [{ deny: {} }]", 22, "clusters[0].access[0].deny", "write `all`");
    wrong("access: [{ deny: all, status: 401 }]", 35, "clusters[0].access[0].status", "write 403 | 404");
    wrong(
        "access: [{ deny: { databases: names.nsf } }]",
        24,
        "clusters[0].access[0].deny.databases",
        "did you mean `database`?",
    );
    wrong(
        "access: [{ deny: { client: 10.0.0.0/33 } }]",
        32,
        "clusters[0].access[0].deny.client",
        "10.0.0.0/33",
    );
    wrong(
        "access: [{ deny: { database: [] } }]",
        34,
        "clusters[0].access[0].deny.database",
        "the list is empty",
    );
    let both = "access: [{ name: a, deny: { path: /b } }, { name: a, deny: { path: /c } }]";
    wrong(both, 55, "clusters[0].access[1].name", "`a` is also the name of clusters[0].access[0]");
    let twice = "access: [domino_baseline, domino_baseline]";
    wrong(twice, 31, "clusters[0].access[1]", "already clusters[0].access[0]");
    wrong("access: [{ denied: all }]", 16, "clusters[0].access[0].denied", "did you mean");
}

#[test]
fn a_condition_without_a_value_is_an_error_and_not_every_request() {
    wrong("access: [{ allow: { client: } }]", 25, "clusters[0].access[0].allow.client", "has no value");
    wrong(
        "access: [{ allow: { client: ~, path: /a } }]",
        25,
        "clusters[0].access[0].allow.client",
        "remove the key",
    );
    wrong(
        "access: [{ allow: { header: {} } }]",
        33,
        "clusters[0].access[0].allow.header",
        "the map is empty",
    );
    wrong("access: [{ deny: { query: {} } }]", 31, "clusters[0].access[0].deny.query", "the map is empty");
}

#[test]
fn a_rule_that_any_client_can_meet_has_a_warning() {
    let warnings = |rule: &str| load(&cluster(&format!("    access: [{rule}]\n"))).unwrap().warnings;
    let open = warnings("{ allow: { header: { X-Team: Sales } } }");
    assert!(open.len() == 1 && open[0].to_string().contains("keeps nobody out"), "{open:?}");
    for rule in [
        "{ allow: { header: { X-Team: Sales }, client: 10.0.0.0/8 } }",
        "{ deny: { header: { X-Bot: '*' } } }",
    ] {
        assert_eq!(warnings(rule), [], "{rule}");
    }
}

#[test]
fn rules_keep_their_order_and_get_names() {
    let text = "    access:\n      - { allow: { client: 10.0.0.0/8 }, name: office }\n      - domino_baseline\n      - { deny: all, status: 404 }\n      - { deny: all }\n";
    let loaded = load(&cluster(text)).unwrap();
    let access = &loaded.settings.clusters[0].access;
    let names: Vec<&str> = access.rules().iter().map(|rule| &*rule.name).collect();
    assert_eq!(names, ["office", "domino_baseline", "access[2]", "access[3]"]);
    assert_eq!(access.rules()[1].test, AccessTest::DominoBaseline);
    assert_eq!(access.rules()[2].effect, AccessEffect::Deny { status: 404 });
    assert!(access.needs_databases());
    assert!(loaded.warnings.iter().any(|w| w.text.contains("is never asked")), "{:?}", loaded.warnings);
    assert!(load(&cluster("")).unwrap().settings.clusters[0].access.is_empty());
    let one = load(&cluster("    access: domino_baseline\n")).unwrap();
    assert_eq!(one.settings.clusters[0].access.rules().len(), 1);
}

#[test]
fn login_limits_are_off_unless_they_are_written() {
    let of = |line: &str| load(&top(line)).map(|loaded| loaded.settings.limits.logins);
    assert_eq!(of("limits: {}").unwrap(), None);
    assert_eq!(of("limits: { logins: off }").unwrap(), None);
    let default = LoginLimits { per_address: 30, per_user: 10, window: Duration::from_secs(300) };
    assert_eq!(of("limits: { logins: {} }").unwrap(), Some(default));
    let some = of("limits: { logins: { per_user: 0, window: 1h } }").unwrap();
    assert_eq!(some, Some(LoginLimits { per_user: 0, window: Duration::from_secs(3_600), ..default }));
    for (line, column, key, part) in [
        ("limits: { logins: { window: 5s } }", 29, "limits.logins.window", "write 10s to 24h"),
        ("limits: { logins: { window: 2d } }", 29, "limits.logins.window", "write 10s to 24h"),
        ("limits: { logins: { per_user: -1 } }", 31, "limits.logins.per_user", "out of range"),
        (
            "limits: { logins: { per_adress: 3 } }",
            21,
            "limits.logins.per_adress",
            "did you mean `per_address`?",
        ),
        ("limits: { logins: 30 }", 19, "limits.logins", "a map with per_address, per_user, window"),
    ] {
        let errors = of(line).err().unwrap_or_else(|| panic!("accepted: {line}"));
        let shown = ConfigErrors(errors.clone()).to_string();
        assert_eq!((errors[0].line, errors[0].column, errors[0].key.as_str()), (1, column, key), "{shown}");
        assert!(shown.contains(part), "{shown}");
    }
}
