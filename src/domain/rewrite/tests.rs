//! Tables of values that Domino servers really send, and properties for arbitrary bytes.

#![allow(clippy::unwrap_used)]
use super::location::{rewrite_location, rewrite_refresh};
use super::*;
use crate::domain::cluster::HostPort;
use proptest::prelude::*;

fn at(host: &str, port: u16) -> HostPort {
    HostPort { host: host.into(), port }
}

fn servers() -> Vec<ServerNames> {
    vec![
        ServerNames::new("web1.acme.example", Some(&at("10.0.0.11", 80)), Some(&at("10.0.0.11", 443))),
        ServerNames::new("web2.acme.example", Some(&at("10.0.0.12", 8080)), Some(&at("10.0.0.12", 8443))),
        ServerNames::new("web3.acme.internal", Some(&at("2001:db8::13", 80)), None),
    ]
}

/// Web3 has its mail files below `m/`.
fn public_path(server: usize, path: &[u8]) -> Option<String> {
    let path = std::str::from_utf8(path).ok()?;
    (server == 2).then(|| path.strip_prefix("/m/").map(|rest| format!("/mail/{rest}")))?
}

/// Web1 serves a request to `scheme://authority` for sales/leads.nsf, which it has in apps/.
fn with<T>(scheme: &Scheme, authority: &str, f: impl FnOnce(&RewriteContext<'_>) -> T) -> T {
    let servers = servers();
    f(&RewriteContext {
        public_scheme: scheme,
        public_authority: authority,
        servers: &servers,
        serving: 0,
        database_paths: Some(("/apps/leads.nsf", "/sales/leads.nsf")),
        public_path: &public_path,
    })
}

fn rewritten(value: &str) -> Option<(String, Option<usize>, String)> {
    with(&Scheme::HTTPS, "www.acme.example", |context| {
        let rewritten = rewrite_location(value.as_bytes(), context)?;
        let target = String::from_utf8(rewritten.value[rewritten.target.clone()].to_vec()).unwrap();
        Some((String::from_utf8(rewritten.value).unwrap(), rewritten.server, target))
    })
}

#[test]
fn urls_that_name_a_server_become_public() {
    let public = "https://www.acme.example";
    for (given, rest, server) in [
        ("http://web1.acme.example/names.nsf?Login", "/names.nsf?Login", 0),
        ("http://web1.acme.example:80/x.nsf", "/x.nsf", 0),
        ("HTTP://WEB1.Acme.Example/X.nsf", "/X.nsf", 0),
        ("http://web1.acme.example./x.nsf", "/x.nsf", 0),
        ("https://web1.acme.example/x.nsf", "/x.nsf", 0),
        ("https://web1.acme.example:443/x.nsf", "/x.nsf", 0),
        ("http://10.0.0.11/x.nsf", "/x.nsf", 0),
        ("http://web1.acme.example", "", 0),
        ("http://web1.acme.example?OpenServer", "?OpenServer", 0),
        // iNotes sends the browser to the user's other mail server.
        (
            "http://web2.acme.example:8080/mail/jdoe.nsf/iNotes/Proxy/?OpenForm",
            "/mail/jdoe.nsf/iNotes/Proxy/?OpenForm",
            1,
        ),
        ("https://10.0.0.12:8443/mail/jdoe.nsf", "/mail/jdoe.nsf", 1),
        ("http://[2001:DB8:0:0::13]/m/jdoe.nsf?Open&x=%2Fm%2F", "/mail/jdoe.nsf?Open&x=%2Fm%2F", 2),
        ("http://web3.acme.internal:80/other.nsf", "/other.nsf", 2),
        // The host name alone names its server, whatever the port forwarding in between.
        ("http://web2.acme.example/mail/jdoe.nsf", "/mail/jdoe.nsf", 1),
        ("https://web3.acme.internal/other.nsf", "/other.nsf", 2),
        // XPages: an absolute URL, and a database with another path on this server.
        (
            "http://web1.acme.example/apps/leads.nsf/lead.xsp?documentId=8B1&action=openDocument",
            "/sales/leads.nsf/lead.xsp?documentId=8B1&action=openDocument",
            0,
        ),
        (
            "http://web1.acme.example/Apps%2fLEADS.nsf/0/81bc!OpenDocument",
            "/sales/leads.nsf/0/81bc!OpenDocument",
            0,
        ),
        ("http://web1.acme.example/apps/leads.nsfx/1", "/apps/leads.nsfx/1", 0),
        (
            "http://web1.acme.example/x?u=http://web1.acme.example/apps/leads.nsf",
            "/x?u=http://web1.acme.example/apps/leads.nsf",
            0,
        ),
    ] {
        let expected = (format!("{public}{rest}"), Some(server), rest.to_owned());
        assert_eq!(rewritten(given), Some(expected), "{given}");
    }
}

#[test]
fn a_url_without_a_scheme_stays_so() {
    let expected = ("//www.acme.example/sales/leads.nsf/v".into(), Some(0), "/sales/leads.nsf/v".into());
    assert_eq!(rewritten("//web1.acme.example/apps/leads.nsf/v"), Some(expected));
    assert_eq!(rewritten("//web2.acme.example:8443/a.nsf").unwrap().1, Some(1));
    assert_eq!(rewritten("//cdn.example/apps/leads.nsf"), None);
}

#[test]
fn a_path_in_the_servers_database_becomes_the_clients_path() {
    let expected = ("/sales/leads.nsf/All?OpenView#top".into(), None, "/sales/leads.nsf/All?OpenView".into());
    assert_eq!(rewritten("/apps/leads.nsf/All?OpenView#top"), Some(expected));
    assert_eq!(rewritten("/apps/leads.nsf").unwrap().0, "/sales/leads.nsf");
    assert_eq!(rewritten("/apps/leads.nsf?OpenDatabase").unwrap().0, "/sales/leads.nsf?OpenDatabase");
    assert_eq!(rewritten("/APPS\\leads.nsf!Open").unwrap().0, "/sales/leads.nsf!Open");
}

#[test]
fn relative_references_and_foreign_urls_are_unchanged() {
    for given in [
        "../x",
        "x.nsf",
        "?OpenDocument",
        "#part",
        "",
        "0/81bc?OpenDocument",
        "/names.nsf?Login",
        "/apps/leads2.nsf",
        "http://www.foreign.example/apps/leads.nsf",
        "http://web1.acme.example:8081/x",
        "http://web1.acme.example:x/",
        "http://10.0.0.12/x",
        "https://10.0.0.11:80/x",
        "http://user@web1.acme.example/x",
        "http://web1.acme.example.evil.example/",
        "notes://web1.acme.example/x",
        "mailto:web1@acme.example",
        "http:/apps/leads.nsf",
        "http:\\\\web1.acme.example/",
        "http://web9.acme.example/x",
        "javascript:alert(1)",
        "http://[::1/x",
        "http:///x",
    ] {
        assert_eq!(rewritten(given), None, "{given}");
    }
}

#[test]
fn a_url_with_the_public_name_gets_the_public_scheme_and_path() {
    for (given, expected) in [
        (
            "http://www.acme.example/apps/leads.nsf/v?OpenView",
            "https://www.acme.example/sales/leads.nsf/v?OpenView",
        ),
        ("https://WWW.acme.example/apps/leads.nsf", "https://www.acme.example/sales/leads.nsf"),
        ("http://www.acme.example/x.nsf", "https://www.acme.example/x.nsf"),
    ] {
        assert_eq!(
            rewritten(given).unwrap(),
            (expected.into(), None, expected.trim_start_matches("https://www.acme.example").into())
        );
    }
    assert_eq!(rewritten("https://www.acme.example/x.nsf"), None);
    assert_eq!(
        rewritten("http://www.acme.example:9000/apps/leads.nsf"),
        None,
        "another service on the same host"
    );
}

#[test]
fn a_public_port_is_kept_and_a_redirect_to_tls_is_not_undone() {
    with(&Scheme::HTTP, "www.acme.example:8080", |context| {
        let value = |given: &str| {
            rewrite_location(given.as_bytes(), context).map(|m| String::from_utf8(m.value).unwrap())
        };
        assert_eq!(value("http://web1.acme.example/x").as_deref(), Some("http://www.acme.example:8080/x"));
        assert_eq!(value("http://www.acme.example:8080/x"), None);
        assert_eq!(value("https://www.acme.example/x"), None);
        assert_eq!(value("http://www.acme.example/x").as_deref(), Some("http://www.acme.example:8080/x"));
        assert_eq!(value("https://www.acme.example:9443/apps/leads.nsf"), None);
        assert_eq!(
            value("https://www.acme.example/apps/leads.nsf").as_deref(),
            Some("https://www.acme.example/sales/leads.nsf")
        );
    });
    with(&Scheme::HTTPS, "[2001:db8::1]:8443", |context| {
        let rewritten = rewrite_location(b"http://10.0.0.11/x", context).unwrap();
        assert_eq!(rewritten.value, b"https://[2001:db8::1]:8443/x");
        assert_eq!(&rewritten.value[rewritten.target], b"/x");
    });
}

#[test]
fn a_url_of_another_server_is_reported_even_if_its_text_does_not_change() {
    // A server may share the public name.
    let mut all = servers();
    all.push(ServerNames::new("www.acme.example", Some(&at("10.0.0.14", 80)), Some(&at("10.0.0.14", 443))));
    let context = RewriteContext {
        public_scheme: &Scheme::HTTPS,
        public_authority: "www.acme.example",
        servers: &all,
        serving: 0,
        database_paths: None,
        public_path: &public_path,
    };
    let rewritten = rewrite_location(b"https://www.acme.example/x.nsf", &context).unwrap();
    assert_eq!(
        (rewritten.value.as_slice(), rewritten.server),
        (&b"https://www.acme.example/x.nsf"[..], Some(3))
    );
}

#[test]
fn servers_on_one_address_are_distinguished_by_port() {
    let all = [
        ServerNames::new("127.0.0.1", Some(&at("127.0.0.1", 9001)), None),
        ServerNames::new("127.0.0.1", Some(&at("127.0.0.1", 9002)), None),
    ];
    let context = RewriteContext {
        public_scheme: &Scheme::HTTP,
        public_authority: "127.0.0.1:8080",
        servers: &all,
        serving: 0,
        database_paths: None,
        public_path: &public_path,
    };
    let rewritten = rewrite_location(b"http://127.0.0.1:9002/x", &context).unwrap();
    assert_eq!((rewritten.value.as_slice(), rewritten.server), (&b"http://127.0.0.1:8080/x"[..], Some(1)));
    assert_eq!(
        rewrite_location(b"http://127.0.0.1/x", &context).map(|m| m.server),
        Some(None),
        "our own host, port 80"
    );
    assert_eq!(rewrite_location(b"http://127.0.0.1:9003/x", &context), None);
}

#[test]
fn every_url_of_a_link_field_is_rewritten_and_its_parameters_stay() {
    with(&Scheme::HTTPS, "www.acme.example", |context| {
        for (given, expected) in [
            (
                "<http://web1.acme.example/x.css>; rel=preload",
                Some("<https://www.acme.example/x.css>; rel=preload"),
            ),
            (
                "</apps/leads.nsf/a>; rel=\"next\", <http://cdn.example/y>, <//web2.acme.example/z>; title=\"<\"",
                Some(
                    "</sales/leads.nsf/a>; rel=\"next\", <http://cdn.example/y>, <//www.acme.example/z>; title=\"<\"",
                ),
            ),
            ("<http://cdn.example/y>; rel=icon", None),
            ("<../y>", None),
            ("<http://web1.acme.example/x", None),
            ("", None),
        ] {
            let value = rewrite_link(given.as_bytes(), context).map(|v| String::from_utf8(v).unwrap());
            assert_eq!(value.as_deref(), expected, "{given}");
        }
    });
}

#[test]
fn the_url_of_a_refresh_field_is_rewritten_and_the_text_around_it_stays() {
    with(&Scheme::HTTPS, "www.acme.example", |context| {
        for (given, expected) in [
            ("5; url=http://web1.acme.example/x.nsf", Some("5; url=https://www.acme.example/x.nsf")),
            (
                "0;URL='http://web1.acme.example/apps/leads.nsf?Open'",
                Some("0;URL='https://www.acme.example/sales/leads.nsf?Open'"),
            ),
            ("0, Url = \"/apps/leads.nsf\" ", Some("0, Url = \"/sales/leads.nsf\" ")),
            ("1; http://web1.acme.example/x", Some("1; https://www.acme.example/x")),
            ("5", None),
            ("5;", None),
            ("5; url=", None),
            ("5; url=../x", None),
            ("5; url=http://foreign.example/", None),
        ] {
            let value =
                rewrite_refresh(given.as_bytes(), context).map(|m| String::from_utf8(m.value).unwrap());
            assert_eq!(value.as_deref(), expected, "{given}");
        }
        let rewritten =
            rewrite_refresh(b"5; url=http://web2.acme.example:8080/a.nsf?Open#x", context).unwrap();
        assert_eq!((rewritten.server, &rewritten.value[rewritten.target]), (Some(1), &b"/a.nsf?Open"[..]));
    });
}

#[test]
fn only_headers_with_a_url_are_rewritten() {
    with(&Scheme::HTTPS, "www.acme.example", |context| {
        for name in ["location", "content-location", "x-xsplocation"] {
            let name = http::HeaderName::from_static(name);
            assert!(rewrite_header(&name, b"http://web1.acme.example/x", context).is_some(), "{name}");
        }
        let refresh = http::header::REFRESH;
        assert!(rewrite_header(&refresh, b"1; url=http://web1.acme.example/x", context).is_some());
        let link = http::header::LINK;
        assert!(rewrite_header(&link, b"http://web1.acme.example/x", context).is_none());
    });
}

#[test]
fn a_cookie_loses_an_internal_domain_and_a_path_that_differs() {
    with(&Scheme::HTTPS, "www.acme.example", |context| {
        for (given, expected) in [
            // Covers the public host, and single sign-on needs it.
            ("LtpaToken=AAECAz==; domain=.acme.example; path=/", None),
            ("LtpaToken2=x; Domain=acme.example; Secure", None),
            ("DomAuthSessId=0A1B; path=/", None),
            (
                "DomAuthSessId=0A1B; Domain=web1.acme.example; path=/; HttpOnly",
                Some("DomAuthSessId=0A1B; path=/; HttpOnly"),
            ),
            ("a=b;DOMAIN=.Acme.Internal;Secure", Some("a=b;Secure")),
            ("a=b; domain=10.0.0.11", Some("a=b")),
            ("a=b; domain=foreign.example", None),
            ("a=b; domain=", None),
            ("a=b; domain", None),
            ("SessionID=F00; Path=/apps/leads.nsf; HttpOnly", Some("SessionID=F00; Path=/; HttpOnly")),
            ("SessionID=F00; Path=/Apps/LEADS.nsf/", Some("SessionID=F00; Path=/")),
            ("a=b; path = /apps/leads.nsf/lead.xsp ;Secure", Some("a=b; path =/;Secure")),
            // The browser would not send it with a request for sales/leads.nsf.
            ("a=b; Path=/apps", Some("a=b; Path=/")),
            ("a=b; Path=/other.nsf", None),
            ("a=b; Path=/sales/leads.nsf", None),
            ("path=/apps/leads.nsf", None),
            ("domain=web1.acme.example; x", None),
            ("", None),
            (
                "a=\"x;y\"; expires=Thu, 01 Jan 2026 00:00:00 GMT; domain=web1.acme.example",
                Some("a=\"x;y\"; expires=Thu, 01 Jan 2026 00:00:00 GMT"),
            ),
        ] {
            let value =
                rewrite_set_cookie(given.as_bytes(), context, true).map(|v| String::from_utf8(v).unwrap());
            assert_eq!(value.as_deref(), expected, "{given}");
        }
        assert_eq!(
            rewrite_set_cookie(b"a=b; Path=/apps/leads.nsf", context, false),
            None,
            "not a request for a database"
        );
        let same_path = RewriteContext { database_paths: None, ..*context };
        assert_eq!(rewrite_set_cookie(b"a=b; Path=/apps/leads.nsf", &same_path, true), None);
    });
}

#[test]
fn a_redirect_has_the_port_and_path_of_the_server() {
    let redirect = |https, host, port, path, target: &str| {
        let scheme = if https { Scheme::HTTPS } else { Scheme::HTTP };
        redirect_location(&scheme, host, port, path, target.as_bytes())
    };
    let host = "web2.acme.example";
    assert_eq!(redirect(false, host, 80, None, "/x.nsf?Open"), "http://web2.acme.example/x.nsf?Open");
    assert_eq!(redirect(true, host, 443, None, "/"), "https://web2.acme.example/");
    assert_eq!(redirect(true, host, 80, None, "/"), "https://web2.acme.example:80/");
    assert_eq!(redirect(false, host, 8080, None, "/x"), "http://web2.acme.example:8080/x");
    assert_eq!(
        redirect(
            false,
            host,
            80,
            Some((0..16, "/apps/leads.nsf")),
            "/sales/leads.nsf/0/81bc!OpenDocument&a=%zz"
        ),
        "http://web2.acme.example/apps/leads.nsf/0/81bc!OpenDocument&a=%zz"
    );
    assert_eq!(redirect(false, "2001:db8::13", 80, None, "/x"), "http://[2001:db8::13]/x");
    assert_eq!(redirect(true, "[2001:db8::13]", 8443, None, "/x"), "https://[2001:db8::13]:8443/x");
    assert_eq!(redirect(false, "web1\r\nX: y/@", 80, None, "x y\r\nZ"), "http://web1Xy/x%20y%0D%0AZ");
    assert_eq!(redirect(false, host, 80, Some((3..99, "/a")), "/x"), "http://web2.acme.example/x");
}

proptest! {
    #[test]
    fn any_input_gives_a_single_header_value(
        value in proptest::collection::vec(any::<u8>(), 0..80),
        url in "(http|https|HTTP)?:?//(web1.acme.example|10.0.0.12|www.acme.example)(:[0-9]{1,5})?[/a-z?#%\\\\\r\n ]{0,30}",
    ) {
        with(&Scheme::HTTPS, "www.acme.example", |context| {
            for value in [value.as_slice(), url.as_bytes()] {
                for rewritten in [rewrite_location(value, context), rewrite_refresh(value, context)].into_iter().flatten() {
                    prop_assert!(!rewritten.value.iter().any(u8::is_ascii_control));
                    prop_assert!(rewritten.value.get(rewritten.target.clone()).is_some());
                }
                if let Some(cookie) = rewrite_set_cookie(value, context, true) {
                    let separators = |v: &[u8]| v.iter().filter(|b| **b == b'\r' || **b == b'\n').count();
                    prop_assert!(separators(&cookie) <= separators(value));
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn the_text_behind_the_database_stays_byte_for_byte(rest in "[/?!#][ -~]{0,60}") {
        let given = format!("http://web1.acme.example/apps/leads.nsf{}", rest.trim_end());
        let value = rewritten(&given).unwrap().0;
        prop_assert_eq!(value, format!("https://www.acme.example/sales/leads.nsf{}", rest.trim_end()));
    }

    #[test]
    fn rewriting_twice_changes_nothing_more(rest in "[/?#][!-~]{0,40}") {
        let once = rewritten(&format!("http://web1.acme.example{rest}")).unwrap().0;
        if let Some((twice, server, _)) = rewritten(&once) {
            prop_assert_eq!(server, None);
            // Unless the public path is also the path of another database on the server.
            prop_assert!(twice == once || once.to_ascii_lowercase().contains("leads"));
        }
    }

    #[test]
    fn a_redirect_never_leaves_its_host(host in ".{0,30}", target in proptest::collection::vec(any::<u8>(), 0..60), path in ".{0,20}", from in 0_usize..70, to in 0_usize..70) {
        let url = redirect_location(&Scheme::HTTP, &host, 8080, Some((from..to, &path)), &target);
        prop_assert!(url.bytes().all(|b| b.is_ascii_graphic()));
        let authority = url.strip_prefix("http://").unwrap().split('/').next().unwrap();
        prop_assert!(authority.ends_with(":8080"));
    }
}
