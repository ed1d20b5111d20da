//! Session cookies in both directions.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

const WEB1: u32 = 0x0f3a_9c21;
const WEB2: u32 = 0xdead_beef;

fn cookies() -> CookieClassifier {
    CookieClassifier::new("ICM", &["domauthsessid".to_owned(), "sessionid".to_owned()])
}

fn tagged(value: &str) -> Option<String> {
    let path = b"/mail/jane.nsf/inbox";
    cookies().tag_session_cookie(value.as_bytes(), WEB1, path).map(|v| String::from_utf8(v).unwrap())
}

fn sent(lines: &[&str], server: u32) -> String {
    let lines = lines.iter().map(|l| l.as_bytes());
    String::from_utf8(cookies().cookie_header_for_tags(lines, &[server], |s| s == b"AAAAAAAAAAA")).unwrap()
}

#[test]
fn a_session_cookie_carries_its_servers_tag_and_keeps_its_attributes() {
    for (set, expected) in [
        ("DomAuthSessId=abc; path=/; HttpOnly", Some("DomAuthSessId~0f3a9c21=abc; path=/; HttpOnly")),
        ("domauthsessID=a=b;Path=/;  Max-Age=0", Some("domauthsessID~0f3a9c21=a=b;Path=/;  Max-Age=0")),
        ("SessionID =x; Path=/mail/jane.nsf", Some("SessionID~0f3a9c21.14=x; Path=/mail/jane.nsf")),
        ("SessionID=x", Some("SessionID~0f3a9c21.14=x")),
        ("SessionID=x; Path=mail", Some("SessionID~0f3a9c21.14=x; Path=mail")),
        (
            "SessionID=x; Path=/; Domain=.acme.example",
            Some("SessionID~0f3a9c21.1.12=x; Path=/; Domain=.acme.example"),
        ),
        ("LtpaToken=x; path=/", None),
        ("LtpaToken2=x; path=/", None),
        ("DomAuthSessIdAAAAAAAAAAA=x; path=/", None),
        ("DomAuthSessId; path=/", None),
        ("Other=DomAuthSessId=1", None),
        ("", None),
    ] {
        assert_eq!(tagged(set).as_deref(), expected, "{set}");
    }
}

fn in_values() -> CookieClassifier {
    cookies().with_style(SessionCookieStyle::Value)
}

#[test]
fn in_style_value_a_session_cookie_keeps_its_name_and_a_deletion_is_unchanged() {
    for (set, expected) in [
        ("DomAuthSessId=abc; path=/; HttpOnly", Some("DomAuthSessId=0f3a9c21~abc; path=/; HttpOnly")),
        ("domauthsessID= a=b;Path=/", Some("domauthsessID=0f3a9c21~a=b;Path=/")),
        ("SessionID=x; Path=/mail/jane.nsf", Some("SessionID=0f3a9c21.14~x; Path=/mail/jane.nsf")),
        (
            "SessionID=\"x\"; Path=/; Domain=.acme.example",
            Some("SessionID=0f3a9c21.1.12~\"x\"; Path=/; Domain=.acme.example"),
        ),
        ("DomAuthSessId=; path=/; expires=Thu, 01 Jan 1970 00:00:00 GMT", None),
        ("DomAuthSessId= ; Max-Age=0", None),
        ("LtpaToken=x; path=/", None),
        ("DomAuthSessIdAAAAAAAAAAA=x; path=/", None),
    ] {
        let tagged = in_values().tag_session_cookie(set.as_bytes(), WEB1, b"/mail/jane.nsf/inbox");
        assert_eq!(tagged.map(|v| String::from_utf8(v).unwrap()).as_deref(), expected, "{set}");
    }
}

#[test]
fn in_style_value_only_the_server_of_the_tag_gets_the_untagged_session() {
    let sent = |line: &str, server| {
        String::from_utf8(in_values().cookie_header_for_tags(
            [line.as_bytes()].into_iter(),
            &[server],
            |_| false,
        ))
        .unwrap()
    };
    let line = "a=1; DomAuthSessId=0f3a9c21~one; SessionID=0f3a9c21.14~v; ICM=x; ICM-login=y; ICM-write=z";
    assert_eq!(sent(line, WEB1), "a=1; DomAuthSessId=one; SessionID=v");
    assert_eq!(sent(line, WEB2), "a=1");
    // Set before the balancer existed or by another program: forwarded unchanged.
    for plain in ["DomAuthSessId=0123456789ABCDEF", "DomAuthSessId=0f3a9c2~x", "DomAuthSessId=x~0f3a9c21"] {
        assert_eq!(sent(plain, WEB2), plain);
    }
    // Set in the other style: the current style wins.
    assert_eq!(sent("DomAuthSessId~0f3a9c21=old", WEB1), "DomAuthSessId=old");
    assert_eq!(sent("DomAuthSessId~0f3a9c21=old; DomAuthSessId=0f3a9c21~new", WEB1), "DomAuthSessId=new");
    assert_eq!(sent("DomAuthSessId=0f3a9c21~x", 7), "", "no server has this tag");
}

#[test]
fn a_session_under_an_older_tag_is_sent_if_the_server_has_no_newer_one() {
    let sent = |line: &str| {
        let lines = [line.as_bytes()].into_iter();
        String::from_utf8(cookies().cookie_header_for_tags(lines, &[WEB1, WEB2], |_| false)).unwrap()
    };
    assert_eq!(sent("DomAuthSessId~deadbeef=old; x=1"), "DomAuthSessId=old; x=1");
    assert_eq!(sent("DomAuthSessId~deadbeef=old; DomAuthSessId~0f3a9c21=new"), "DomAuthSessId=new");
}

#[test]
fn in_style_value_a_logout_deletes_the_cookie_where_it_was_set() {
    let line = b"DomAuthSessId=0f3a9c21~a; SessionID=deadbeef.14~b".as_slice();
    let all =
        in_values().expire_sessions([line].into_iter(), b"/mail/jane.nsf", "www.acme.example", false, &[]);
    let places: Vec<_> =
        all.iter().map(|v| std::str::from_utf8(v).unwrap().split_once("; Max-Age=0").unwrap().0).collect();
    assert_eq!(places, ["DomAuthSessId=; Path=/", "SessionID=; Path=/mail/jane.nsf"]);
}

#[test]
fn a_session_cookie_is_a_login_unless_it_is_a_deletion() {
    let nothing_configured = CookieClassifier::new("ICM", &[]);
    for set in ["DomAuthSessId=abc; path=/", "domauthsessIDAAAAAAAAAAA=x", "DomAuthSessId~0f3a9c21=abc"] {
        assert!(
            cookies().sets_session(set.as_bytes()) && nothing_configured.sets_session(set.as_bytes()),
            "{set}"
        );
    }
    assert!(cookies().sets_session(b"SessionID=x") && !nothing_configured.sets_session(b"SessionID=x"));
    for set in [
        "DomAuthSessId=; path=/",
        "DomAuthSessId=\"\"",
        "DomAuthSessId=0f3a9c21~",
        "DomAuthSessId=x; Max-Age=0",
        "DomAuthSessId=x; expires=Thu, 01-Jan-1970 00:00:00 GMT",
        "DomAuthSessId",
        "LtpaToken=abc",
        "ICM=abc",
        "ICM-login=abc",
        "ICM-write=abc",
        "Other=DomAuthSessId=1",
    ] {
        assert!(!cookies().sets_session(set.as_bytes()), "{set}");
    }
}

#[test]
fn a_server_gets_only_its_own_session_under_its_own_name() {
    let line =
        "a=1; DomAuthSessId~0f3a9c21=one; ICM=secret; DomAuthSessId~deadbeef=two; SessionID~0f3a9c21.14=v; b";
    assert_eq!(sent(&[line], WEB1), "a=1; DomAuthSessId=one; SessionID=v; b");
    assert_eq!(sent(&[line], WEB2), "a=1; DomAuthSessId=two; b");
    assert_eq!(sent(&[line], 7), "a=1; b");
    assert_eq!(sent(&["ICM=1"], 7), "");
}

#[test]
fn an_untagged_session_is_sent_if_the_server_has_no_other() {
    let line = "DomAuthSessId=old; DomAuthSessId~0f3a9c21=one; SessionID=kept";
    assert_eq!(sent(&[line], WEB1), "DomAuthSessId=one; SessionID=kept");
    assert_eq!(sent(&[line], WEB2), "DomAuthSessId=old; SessionID=kept");
}

#[test]
fn several_cookie_lines_become_one() {
    assert_eq!(sent(&["a=1", "b=2; ", ";; c=3;"], WEB1), "a=1; b=2; c=3");
}

#[test]
fn a_unique_cookie_goes_to_its_server_or_to_all_if_that_is_unknown() {
    let line = "DomAuthSessIdAAAAAAAAAAA=x; DomAuthSessIdBBBBBBBBBBB=y";
    assert_eq!(sent(&[line], WEB1), "DomAuthSessIdBBBBBBBBBBB=y");
}

#[test]
fn our_own_cookie_is_found_by_its_exact_name() {
    let found = |line: &'static [u8]| {
        let cookies = cookies();
        let is_ours = |(name, _): &(&[u8], &[u8])| cookies.classify_name(name) == CookieKind::Affinity;
        cookie_pairs(line).filter(is_ours).map(|(_, rest)| rest).collect::<Vec<_>>()
    };
    assert_eq!(found(b"a=1; ICM=abc; b=2"), [b"=abc"]);
    assert_eq!(found(b"XICM=1;ICM=1; ICM=2"), [b"=1", b"=2"]);
    assert!(found(b"icm=1; ICM2=3; ICM; =ICM").is_empty());
}

#[test]
fn only_our_own_spelling_is_a_tagged_name() {
    for name in [
        "DomAuthSessId~0F3A9C21",
        "DomAuthSessId~0f3a9c2",
        "DomAuthSessId~0f3a9c21.",
        "DomAuthSessId~0f3a9c21.0",
        "DomAuthSessId~0f3a9c21.1.2.3",
        "DomAuthSessId~0f3a9c21x",
        "DomAuthSessId~+f3a9c21",
    ] {
        assert_eq!(cookies().classify_name(name.as_bytes()), CookieKind::Foreign, "{name}");
    }
}

#[test]
fn a_logout_deletes_every_session_where_it_was_set() {
    let line = b"x=1; ICM=1; DomAuthSessId~0f3a9c21=a; SessionID~deadbeef.14=b; SessionID~deadbeef.1.12=c; DomAuthSessId=d; \
        DomAuthSessIdAAAAAAAAAAA=e; DomAuthSessId~00000001=f; DomAuthSessId~0f3a9c21=again; LtpaToken=z";
    let set: [&[u8]; 1] = [b"DomAuthSessId~00000001"];
    let lines = [line.as_slice()].into_iter();
    let all = cookies().expire_sessions(lines, b"/mail/jane.nsf", "www.acme.example", true, &set);
    let gone: Vec<_> =
        all.iter().map(|v| std::str::from_utf8(v).unwrap().split_once("; Max-Age=0").unwrap()).collect();
    assert!(
        gone.iter().all(|(_, rest)| *rest == "; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly; Secure")
    );
    let places: Vec<_> = gone.iter().map(|(place, _)| *place).collect();
    assert_eq!(
        places,
        [
            "DomAuthSessId~0f3a9c21=; Path=/",
            "SessionID~deadbeef.14=; Path=/mail/jane.nsf",
            "SessionID~deadbeef.1.12=; Path=/; Domain=acme.example",
            "DomAuthSessId=; Path=/",
            "DomAuthSessIdAAAAAAAAAAA=; Path=/",
        ]
    );
}

#[test]
fn without_configured_names_no_cookie_is_changed() {
    let none = CookieClassifier::new("ICM", &[]);
    let line = b"DomAuthSessId=1; DomAuthSessId~0f3a9c21=2; DomAuthSessIdAAAAAAAAAAA=3".as_slice();
    assert_eq!(none.cookie_header_for_tags([line].into_iter(), &[WEB2], |_| true), line);
    assert_eq!(none.tag_session_cookie(b"DomAuthSessId=1", WEB1, b"/"), None);
}

#[test]
fn the_suffixes_cover_the_plausible_spellings_of_the_name() {
    let name = ServerName::parse("web1/acme").unwrap();
    let of = |text: &str| URL_SAFE_NO_PAD.encode(Sha256::digest(text.as_bytes())).as_bytes()[..11].to_vec();
    let all = unique_suffixes(&name);
    for spelling in ["CN=web1/O=acme", "web1/acme", "cn=web1/o=acme", "CN=WEB1/O=ACME", "WEB1/ACME"] {
        assert!(all.iter().any(|s| s.as_slice() == of(spelling)), "{spelling}");
    }
}

proptest! {
    #[test]
    fn a_tagged_cookie_returns_only_to_its_server(
        name in "[dD]om[aA]uth[sS]ess[iI][dD]|[sS]ession[iI][dD]", value in "[a-zA-Z0-9=+/]{0,40}", tag in any::<u32>(), other in any::<u32>(),
        path in "(/[a-z.]{1,9}){0,3}/?", attribute in "(; ?[Pp]ath=(/[a-z.]{0,9}){1,3})?(; Domain=[.]?[a-z.]{1,20})?",
    ) {
        prop_assume!(tag != other);
        let cookies = cookies();
        let set = cookies.tag_session_cookie(format!("{name}={value}{attribute}").as_bytes(), tag, path.as_bytes()).unwrap();
        let pair = set.split(|b| *b == b';').next().unwrap();
        let sent = cookies.cookie_header_for_tags([pair].into_iter(), &[tag], |_| false);
        prop_assert_eq!(sent, format!("{name}={value}").into_bytes());
        prop_assert!(cookies.cookie_header_for_tags([pair].into_iter(), &[other], |_| false).is_empty());
    }

    #[test]
    fn no_bytes_make_it_panic(line in proptest::collection::vec(any::<u8>(), 0..300)) {
        let cookies = cookies();
        let _ = cookies.cookie_header_for_tags([line.as_slice()].into_iter(), &[WEB1], |_| false);
        let _ = cookies.tag_session_cookie(&line, WEB1, &line);
        let _ = cookies.expire_sessions([line.as_slice()].into_iter(), &line, "www.acme.example", false, &[]);
        let _ = cookies.sets_session(&line);
        let _ = in_values().tag_session_cookie(&line, WEB1, &line);
    }
}
