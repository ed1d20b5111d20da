//! Failover within a request, rule by rule: what may be repeated, how often, and what the client gets when every attempt failed.

use crate::support::*;
use serde_json::json;

#[test]
fn when_every_candidate_refuses_the_client_gets_503_with_retry_after_in_html_or_json() {
    let (acme, icm) = start_cluster(&[]);
    acme.fault("all", json!("refuse"));
    let (html, _) = ask(&icm, "GET", "/all.nsf", &[("Accept", "text/html")], b"");
    assert_eq!((html.status, html.header("server")), (503, Some("domino-icm")));
    assert!(html.header("retry-after").unwrap().parse::<u32>().unwrap() > 0);
    assert_eq!(html.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(html.text().contains("<html"));
    let (data, _) = ask(&icm, "POST", "/all.nsf?CreateDocument", &[("Accept", "application/json")], b"a=1");
    assert_eq!(data.status, 503);
    assert!(data.header("content-type").unwrap().starts_with("application/json"));
    assert!(data.json().is_object());
    assert!(data.header("retry-after").is_some());
    let (large, _) = ask(&icm, "POST", "/all.nsf?CreateDocument", &[], &vec![b'x'; 300_000]);
    assert_eq!(large.status, 503);
    let (head, _) = ask(&icm, "HEAD", "/all.nsf", &[], b"");
    assert_eq!((head.status, head.body.len()), (503, 0));
    assert!(head.header("content-length").unwrap().parse::<usize>().unwrap() > 0);
    for text in [html.text(), data.text()] {
        assert!(!text.contains("Web1") && !text.contains("127.0.0.1"), "names internal hosts: {text}");
    }
    acme.heal("all");
    assert_eq!(ask(&icm, "GET", "/all.nsf", &[], b"").0.status, 200);
}

#[test]
fn pages_for_502_and_504_come_as_html_or_json_and_without_a_body_for_head() {
    let (acme, icm) = start_cluster(&[("failover.response_timeout", "300ms")]);
    for (fault, status) in [("reset", 502), ("hang", 504)] {
        acme.fault("all", json!(fault));
        let target = "/all.nsf/agent?OpenAgent";
        let (html, _) = ask(&icm, "GET", target, &[("Accept", "text/html,*/*;q=0.8")], b"");
        assert_eq!((html.status, html.header("server")), (status, Some("domino-icm")));
        assert!(html.text().contains("<html"), "{}", html.text());
        let (data, _) = ask(&icm, "GET", target, &[("Accept", "application/json")], b"");
        assert_eq!(data.status, status);
        assert!(data.json().is_object());
        let (head, _) = ask(&icm, "HEAD", target, &[], b"");
        assert_eq!((head.status, head.body.len()), (status, 0));
    }
}

#[test]
fn the_page_of_the_last_candidate_passes_when_all_answer_503() {
    let (acme, icm) = start_cluster(&[]);
    acme.fault("all", json!({ "kind": "status", "status": 503, "retry_after": 77 }));
    let (answer, rid) = ask(&icm, "GET", "/two.nsf?OpenDatabase", &[], b"");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("77")));
    assert!(answer.text().contains("HTTP Web Server: fault Status"), "{}", answer.text());
    assert_eq!((acme.executed_on(&rid, "Web1").1, acme.executed_on(&rid, "Web2").1), (1, 1));
}

#[test]
fn attempts_count_answers_and_broken_connections_but_no_failed_connects() {
    let (acme, icm) = start_cluster(&[("failover.attempts", "2")]);
    acme.fault("all", json!("reset"));
    let (answer, rid) = ask(&icm, "GET", "/all.nsf?OpenDatabase", &[], b"");
    assert_eq!((answer.status, acme.executed(&rid)), (502, 2));

    let (acme, icm) = start_cluster(&[("failover.attempts", "1")]);
    acme.fault("all", json!("reset"));
    let (answer, rid) = ask(&icm, "GET", "/all.nsf?OpenDatabase", &[], b"");
    assert_eq!((answer.status, acme.executed(&rid)), (502, 1));
    acme.fault("Web1", json!("refuse"));
    acme.fault("Web3", json!("refuse"));
    acme.heal("Web2");
    for _ in 0..6 {
        let (answer, rid) = ask(&icm, "POST", "/all.nsf?CreateDocument", &[], b"a=1");
        assert_eq!((answer.status, answer.server(), acme.executed(&rid)), (200, "Web2/Acme", 1));
    }
}

#[test]
fn after_the_deadline_there_is_no_further_attempt() {
    let (acme, icm) =
        start_cluster(&[("failover.deadline", "200ms"), ("failover.response_timeout", "600ms")]);
    acme.fault("all", json!("hang"));
    let (answer, rid) = ask(&icm, "GET", "/all.nsf?OpenDatabase", &[], b"");
    assert_eq!((answer.status, acme.executed(&rid)), (504, 1));
}

#[test]
fn a_timeout_is_retried_at_most_once_even_with_attempts_left() {
    let (acme, icm) = start_cluster(&[("failover.response_timeout", "400ms")]);
    acme.fault("all", json!("hang"));
    let (answer, rid) = ask(&icm, "GET", "/all.nsf?OpenDatabase", &[], b"");
    assert_eq!((answer.status, acme.executed(&rid)), (504, 2));
}

#[test]
fn without_retry_after_timeout_a_timeout_is_final_and_a_broken_connection_still_fails_over() {
    let (acme, icm) =
        start_cluster(&[("failover.response_timeout", "400ms"), ("failover.retry_after_timeout", "false")]);
    acme.fault("all", json!("hang"));
    let (answer, rid) = ask(&icm, "GET", "/all.nsf?OpenDatabase", &[], b"");
    assert_eq!((answer.status, acme.executed(&rid)), (504, 1));
    acme.heal("all");
    let cookie = format!("ICM={}", icm.cookie_for("Web1", "/all.nsf?OpenDatabase"));
    acme.fault("Web1", json!({ "kind": "reset", "at": "head" }));
    let (answer, rid) = ask(&icm, "GET", "/all.nsf?OpenDatabase", &[("Cookie", &cookie)], b"");
    assert_eq!((answer.status, acme.executed(&rid)), (200, 1));
}

#[test]
fn the_result_of_an_attempt_outranks_a_later_refused_connect() {
    let (acme, icm) = start_cluster(&[("failover.response_timeout", "400ms")]);
    let cookie = format!("ICM={}", icm.cookie_for("Web1", "/two.nsf?OpenDatabase"));
    acme.fault("Web2", json!("refuse"));
    for (fault, status) in [("hang", 504), ("reset", 502), ("status", 503)] {
        acme.fault("Web1", json!(fault));
        let (answer, _) = ask(&icm, "GET", "/two.nsf?OpenDatabase", &[("Cookie", &cookie)], b"");
        assert_eq!(answer.status, status, "{fault}");
    }
}

#[test]
fn with_a_spent_retry_budget_the_first_answer_passes() {
    let (acme, icm) = start_cluster(&[("failover.retry_budget", "0%")]);
    let cookie = format!("ICM={}", icm.cookie_for("Web1", "/two.nsf?OpenDatabase"));
    acme.fault("Web1", json!({ "kind": "status", "status": 503 }));
    let mut client = icm.client().with("Cookie", &cookie);
    // 100 retries in ten seconds are always allowed; on a slow machine some of them lapse.
    let spent = (0..5_000).position(|_| client.get("/two.nsf?OpenDatabase").status == 503);
    assert!(spent.is_some_and(|n| n >= 100), "spent after {spent:?}");
    // A failed connect does not use the budget.
    acme.fault("Web1", json!("refuse"));
    for _ in 0..20 {
        assert_eq!(client.get("/two.nsf?OpenDatabase").status, 200);
    }
}

#[test]
fn stale_pooled_connections_do_not_fail_requests_to_the_only_holder() {
    let (acme, icm) = start_cluster(&[("failover.attempts", "2")]);
    // Fill the pool: the connection that replaces a broken one must be new.
    let tally = load_get(
        icm.address,
        "/only.nsf?OpenDatabase&delay=30",
        "warm",
        6,
        std::time::Duration::from_millis(300),
    );
    assert_eq!(tally.other_than("200"), 0, "{tally:?}");
    acme.fault("Web1", json!("reset_on_reuse"));
    for _ in 0..6 {
        let (answer, rid) = ask(&icm, "GET", "/only.nsf?OpenDatabase", &[], b"");
        assert_eq!((answer.status, acme.executed(&rid)), (200, 1));
    }
    assert!(
        acme.requests("Web1").iter().any(|r| r["outcome"] == "fault ResetOnReuse"),
        "no connection was old"
    );
    acme.heal("Web1");
    let (warm, _) = ask(&icm, "GET", "/only.nsf?OpenDatabase", &[], b"");
    assert_eq!(warm.status, 200);
    acme.fault("Web1", json!({ "kind": "close", "at": "body" }));
    let (answer, rid) = ask(&icm, "POST", "/only.nsf?CreateDocument", &[], b"a=1");
    assert_eq!((answer.status, acme.executed(&rid)), (502, 1));
}

#[test]
fn one_retried_request_does_not_move_the_user_but_an_unreachable_server_does() {
    let (acme, icm) =
        start_cluster(&[("probe", "{ interval: 100ms, unreachable_after: 2, healthy_after: 1 }")]);
    let mut cookie = icm.cookie_for("Web1", "/all.nsf?OpenDatabase");
    let mut get = || {
        let (answer, _) =
            ask(&icm, "GET", "/all.nsf?OpenDatabase", &[("Cookie", &format!("ICM={cookie}"))], b"");
        if let Some(new) = answer.cookie("ICM") {
            cookie = new.to_owned();
        }
        (answer.status, answer.server().to_owned())
    };
    assert_eq!(get(), (200, "Web1/Acme".into()));
    acme.fault("Web1", json!({ "kind": "status", "count": 1 }));
    let (status, other) = get();
    assert_eq!(status, 200);
    assert_ne!(other, "Web1/Acme");
    assert_eq!(get(), (200, "Web1/Acme".into()), "one retried request moved the user");

    acme.fault("Web1", json!("refuse"));
    icm.wait_for_state("Web1", "UNREACHABLE");
    let (status, other) = get();
    assert_eq!(status, 200);
    assert_ne!(other, "Web1/Acme");
    acme.heal("Web1");
    icm.wait_for_state("Web1", "AVAILABLE");
    for _ in 0..5 {
        assert_eq!(get(), (200, other.clone()), "the user stays at the new server");
    }
}

#[test]
fn an_unreachable_only_holder_means_503_until_its_probe_succeeds() {
    let (acme, icm) =
        start_cluster(&[("probe", "{ interval: 100ms, unreachable_after: 1, healthy_after: 1 }")]);
    acme.fault("Web1", json!("refuse"));
    icm.wait_for_state("Web1", "UNREACHABLE");
    let (answer, _) = ask(&icm, "GET", "/only.nsf?OpenDatabase", &[], b"");
    assert_eq!((answer.status, answer.header("retry-after").is_some()), (503, true));
    acme.heal("Web1");
    icm.wait_for_state("Web1", "AVAILABLE");
    assert_eq!(ask(&icm, "GET", "/only.nsf?OpenDatabase", &[], b"").0.server(), "Web1/Acme");
}

#[test]
fn a_failed_tls_handshake_fails_over_for_any_method() {
    let (acme, icm) = start_scenario(
        &THREE_SERVERS.replace("https: false", "http: false"),
        &[("upstream_scheme", "https")],
    );
    acme.set("all", json!({ "max_requests": 1 }));
    let cookie = format!("ICM={}", icm.cookie_for("Web1", "/two.nsf?OpenDatabase"));
    for fault in ["tls_handshake", "tls_expired", "tls_wrong_name", "refuse"] {
        acme.fault("Web1", json!(fault));
        for (method, size) in [("GET", 0), ("POST", 10), ("POST", 200_000)] {
            let target = "/two.nsf/agent?OpenAgent";
            let (answer, rid) = ask(&icm, method, target, &[("Cookie", &cookie)], &vec![b'x'; size]);
            assert_eq!((answer.status, answer.server()), (200, "Web2/Acme"), "{fault} {method}");
            assert_eq!((acme.executed_on(&rid, "Web1").1, acme.executed(&rid)), (0, 1), "{fault} {method}");
        }
        assert_eq!(ask(&icm, "POST", "/only.nsf?CreateDocument", &[], b"a=1").0.status, 503, "{fault}");
    }
}

#[test]
fn a_repeatable_method_is_retried_only_with_a_complete_buffered_body() {
    let (acme, icm) = start_cluster(&[
        ("failover.retry_methods", "[GET, HEAD, OPTIONS, POST]"),
        ("failover.response_timeout", "500ms"),
    ]);
    // No connection is reused, so that every broken one counts as the server's failure.
    acme.set("all", json!({ "max_requests": 1 }));
    let cookie = format!("ICM={}", icm.cookie_for("Web1", "/two.nsf?OpenDatabase"));
    let post = |target: &str, size: usize| {
        let headers = [("Cookie", cookie.as_str()), ("Accept", "application/json")];
        let (answer, rid) = ask(&icm, "POST", target, &headers, &vec![b'x'; size]);
        let length = if answer.status == 200 { answer.json()["body_length"].as_u64() } else { None };
        (answer.status, length, acme.executed(&rid))
    };
    let (opens, acts) = ("/two.nsf/all?OpenView", "/two.nsf/form?CreateDocument");
    for fault in [json!({ "kind": "reset", "at": "body" }), json!("hang"), json!({ "kind": "status" })] {
        acme.fault("Web1", fault.clone());
        assert_eq!(post(opens, 1_000), (200, Some(1_000), 2), "{fault}");
        assert_eq!(post(opens, 60_000), (200, Some(60_000), 2), "{fault}");
        let (status, _, executed) = post(opens, 70_000);
        assert_eq!((status / 100, executed), (5, 1), "more than can be kept to be sent again: {fault}");
        let (status, _, executed) = post(acts, 1_000);
        assert_eq!((status / 100, executed), (5, 1), "the command acts: {fault}");
    }
    // The response timeout applies to the retry, too.
    acme.fault("all", json!("hang"));
    let (status, _, executed) = post(opens, 1_000);
    assert_eq!((status, executed), (504, 2));
}
