//! One table of what servers answered and what follows from it.

#![allow(clippy::unwrap_used)]

use super::*;

fn sso(domain: Option<&str>) -> SeenLogin {
    let domain = domain.map(str::to_owned);
    SeenLogin::Session(vec![SeenCookie { name: "LtpaToken".into(), is_sso: true, domain, secure: false }])
}

fn single() -> SeenLogin {
    let name = "DomAuthSessId".to_owned();
    SeenLogin::Session(vec![SeenCookie { name, is_sso: false, domain: None, secure: false }])
}

fn server(number: usize, login: SeenLogin) -> SeenServer {
    SeenServer {
        name: format!("Web{number}/Acme"),
        hostname: format!("web{number}.acme.example"),
        login,
        clock_ms: Some(0),
    }
}

/// Both servers hold the database; the answers are: Anonymous at both, then the session of each at the first and the
/// second one.
fn cluster(logins: [SeenLogin; 2], answers: [SeenAnswer; 6]) -> SeenCluster {
    let [first, second, a, b, c, d] = answers;
    let [one, two] = logins;
    SeenCluster {
        name: "AcmeWeb".into(),
        user: "Jane Doe/Acme".into(),
        servers: vec![server(1, one), server(2, two)],
        databases: vec![SeenDatabase {
            path: "mail/jdoe.nsf".into(),
            holders: vec![0, 1],
            anonymous: vec![first, second],
            answers: vec![vec![a, b], vec![c, d]],
        }],
        left_out: 0,
        single: 0,
        unknown: Vec::new(),
    }
}

use SeenAnswer::{Opens, OpensForAll, WantsLogin};

fn verdict(seen: &SeenCluster, public: &PublicSide) -> (LoginVerdict, String, bool) {
    let report = judge(seen, public);
    let database = report.databases.first().unwrap();
    (database.verdict, database.text.clone(), report.is_ok())
}

#[test]
fn a_session_that_every_server_accepts_is_kept() {
    let seen = cluster([sso(None), sso(None)], [WantsLogin, WantsLogin, Opens, Opens, Opens, Opens]);
    let (verdict, text, is_ok) = verdict(&seen, &PublicSide::default());
    assert_eq!((verdict, is_ok), (LoginVerdict::Kept, true), "{text}");
    let report = judge(&seen, &PublicSide::default());
    assert_eq!(report.databases.first().unwrap().failovers.len(), 2);
}

#[test]
fn every_reason_for_a_lost_login_is_named() {
    let refused_both_ways = [WantsLogin, WantsLogin, Opens, WantsLogin, WantsLogin, Opens];
    let mut apart = cluster([sso(None), sso(None)], refused_both_ways.clone());
    apart.servers.get_mut(1).unwrap().clock_ms = Some(-120_000);
    let cases = [
        (
            cluster([single(), single()], refused_both_ways.clone()),
            "every failover: the session (DomAuthSessId)",
        ),
        (
            cluster([sso(None), sso(None)], refused_both_ways.clone()),
            "another Web SSO Configuration document",
        ),
        (apart, "the clocks are 120 s apart"),
        (cluster([sso(None), single()], refused_both_ways.clone()), "sessions of its own (DomAuthSessId)"),
        (
            cluster(
                [sso(None), SeenLogin::Refused],
                [WantsLogin, WantsLogin, Opens, WantsLogin, Opens, Opens],
            ),
            "the server refuses the account",
        ),
        (
            cluster([sso(None), sso(None)], [WantsLogin, WantsLogin, Opens, WantsLogin, Opens, WantsLogin]),
            "its access list differs",
        ),
        (
            cluster([SeenLogin::Basic, single()], refused_both_ways.clone()),
            "does not take the password with the request",
        ),
        (cluster([sso(None), SeenLogin::Basic], refused_both_ways), "takes Basic authentication only"),
        (
            cluster([sso(None), sso(None)], [Opens, WantsLogin, Opens, Opens, Opens, Opens]),
            "Web2/Acme asks for a login, Web1/Acme does not",
        ),
    ];
    for (seen, expected) in cases {
        let (verdict, text, is_ok) = verdict(&seen, &PublicSide::default());
        assert_eq!((verdict, is_ok), (LoginVerdict::Lost, false), "{expected}: {text}");
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[test]
fn what_nothing_proves_is_unknown_and_no_success() {
    let down = || SeenAnswer::Unknown("Web2/Acme: connection refused".into());
    let no_login = || SeenLogin::Unknown("connection refused".into());
    let all = || [Opens, Opens, OpensForAll, OpensForAll, OpensForAll, OpensForAll];
    let cases = [
        (
            cluster([sso(None), no_login()], [WantsLogin, down(), Opens, down(), down(), down()]),
            "connection refused",
        ),
        (cluster([sso(None), sso(None)], all()), "Anonymous may open it there"),
        (
            cluster(
                [sso(None), sso(None)],
                [WantsLogin, WantsLogin, WantsLogin, WantsLogin, WantsLogin, WantsLogin],
            ),
            "cannot open it at any server",
        ),
    ];
    for (seen, expected) in cases {
        let (verdict, text, is_ok) = verdict(&seen, &PublicSide::default());
        assert_eq!((verdict, is_ok), (LoginVerdict::Unknown, false), "{expected}: {text}");
        assert!(text.contains(expected), "{expected}: {text}");
    }
    // Another database has shown that the servers accept each other's sessions.
    let mut seen = cluster([sso(None), sso(None)], all());
    let proved = cluster([sso(None), sso(None)], [WantsLogin, WantsLogin, Opens, Opens, Opens, Opens]);
    seen.databases.extend(proved.databases);
    assert_eq!(verdict(&seen, &PublicSide::default()).0, LoginVerdict::Kept);
}

#[test]
fn a_cookie_that_no_browser_keeps_is_a_lost_login() {
    let kept = [WantsLogin, WantsLogin, Opens, Opens, Opens, Opens];
    let seen = |domain| cluster([sso(Some(domain)), sso(Some(domain))], kept.clone());
    let public = |host: &str| PublicSide { hosts: vec![host.to_owned()], ..PublicSide::default() };
    // Of servers and public name; of the servers only, which icm takes away; of neither.
    assert!(judge(&seen("acme.example"), &public("www.acme.example")).is_ok());
    assert!(judge(&seen("acme.example"), &public("www.customer.example")).is_ok());
    let report = judge(&seen("other.example"), &public("www.acme.example"));
    assert!(!report.is_ok() && report.servers.first().unwrap().text.contains("browsers refuse it"));
    let mut secure = seen("acme.example");
    for server in &mut secure.servers {
        let SeenLogin::Session(cookies) = &mut server.login else { continue };
        cookies.iter_mut().for_each(|cookie| cookie.secure = true);
    }
    assert!(judge(&secure, &PublicSide::default()).is_ok());
    let plain = PublicSide { only_plain_http: true, ..PublicSide::default() };
    let report = judge(&secure, &plain);
    assert!(!report.is_ok() && report.servers.first().unwrap().text.contains("HTTPS only"));
}

#[test]
fn redirected_browsers_need_a_cookie_that_covers_every_server() {
    let kept = [WantsLogin, WantsLogin, Opens, Opens, Opens, Opens];
    let redirect = PublicSide { redirects: true, ..PublicSide::default() };
    let covered = cluster([sso(Some("acme.example")), sso(Some("acme.example"))], kept.clone());
    assert_eq!(verdict(&covered, &redirect).0, LoginVerdict::Kept);
    let (lost, text, _) = verdict(&cluster([sso(None), sso(None)], kept), &redirect);
    assert!(lost == LoginVerdict::Lost && text.contains("do not send the cookie there"), "{text}");
}

#[test]
fn failovers_with_one_reason_are_described_together() {
    let failover = |from: &str, to: &str, reason: Option<&str>| FailoverVerdict {
        from: from.into(),
        to: to.into(),
        verdict: if reason.is_some() { LoginVerdict::Lost } else { LoginVerdict::Kept },
        reason: reason.map(str::to_owned),
    };
    let all = [
        failover("A", "B", None),
        failover("A", "C", Some("x")),
        failover("B", "A", Some("y")),
        failover("B", "C", Some("x")),
        failover("C", "A", Some("z")),
        failover("C", "B", Some("z")),
    ];
    assert_eq!(grouped(&all), ["a failover to C: x", "B -> A: y", "a failover from C: z"]);
    let around_b = ["A->B", "A->C", "B->A", "B->C", "C->A", "C->B"].map(|pair| {
        let (from, to) = pair.split_once("->").unwrap();
        failover(from, to, pair.contains('B').then_some("x"))
    });
    assert_eq!(grouped(&around_b), ["every failover from or to B: x"]);
}

#[test]
fn a_domain_covers_itself_and_names_below_it() {
    assert!(covers("acme.example", "Web1.acme.example") && covers("acme.example", "acme.example"));
    assert!(!covers("acme.example", "xacme.example") && !covers("0.0.11", "10.0.0.11"));
}
