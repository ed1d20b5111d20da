//! Failover for HTTP/2 clients follows the same rules, and a response that is cut short resets its stream.

use crate::support::*;
use serde_json::json;

/// The cluster, `icm` with a second listener for HTTP/2, and the origin of that listener.
fn start_cluster_with_http2() -> (Acme, Icm, String) {
    // With HTTPS, as the listener uses a certificate of the cluster.
    let acme = Acme::start(&THREE_SERVERS.replace(", https: false", ""));
    let mut config = config(&acme);
    let address = add_tls(&mut config, &acme);
    for (key, value) in [
        ("probe", "{ interval: 100ms, timeout: 1s, unreachable_after: 1000, healthy_after: 1 }"),
        ("failover.passive_failures", "0"),
        ("failover.response_timeout", "1s"),
    ] {
        set(&mut config, &format!("clusters.0.{key}"), value);
    }
    let icm = Icm::start(config);
    wait_for(address);
    (acme, icm, format!("https://{address}"))
}

#[test]
fn http_2_requests_fail_over_or_end_with_502_504_or_a_reset_stream() {
    let (acme, icm, origin) = start_cluster_with_http2();
    let client = h2_client(&acme);
    let cookie = format!("ICM={}", icm.cookie_for("Web1", "/two.nsf?OpenDatabase"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let send = |method: reqwest::Method, target: &str, body: Vec<u8>| {
        let rid = unique_id();
        let mut request = client
            .request(method, format!("{origin}{target}"))
            .header("cookie", &cookie)
            .header("x-request-id", &rid);
        if !body.is_empty() {
            request = request.body(body);
        }
        let answer = runtime.block_on(request.send()).unwrap();
        assert_eq!(answer.version(), reqwest::Version::HTTP_2);
        let status = answer.status().as_u16();
        (status, runtime.block_on(answer.bytes()), acme.executed(&rid))
    };
    let (get, post) = (reqwest::Method::GET, reqwest::Method::POST);
    let (page, form) = ("/two.nsf?OpenDatabase", "/two.nsf/form?CreateDocument");

    for fault in [json!({ "kind": "reset", "at": "head" }), json!("refuse")] {
        acme.heal("Web1");
        icm.wait_for_good_probe("Web1");
        acme.fault("Web1", fault);
        let (status, body, executed) = send(get.clone(), page, Vec::new());
        assert_eq!((status, executed), (200, 1));
        assert!(String::from_utf8_lossy(&body.unwrap()).contains("Web2/Acme"));
    }
    for size in [1_000, 200_000] {
        acme.heal("Web1");
        icm.wait_for_good_probe("Web1");
        acme.fault("Web1", json!("refuse"));
        let (status, _, executed) = send(post.clone(), form, vec![b'x'; size]);
        assert_eq!((status, executed), (200, 1), "{size}");
        acme.fault("Web1", json!({ "kind": "reset", "at": "body" }));
        let (status, _, executed) = send(post.clone(), form, vec![b'x'; size]);
        assert_eq!((status, executed), (502, 1), "{size}");
        acme.fault("Web1", json!("hang"));
        let (status, _, executed) = send(post.clone(), form, vec![b'x'; size]);
        assert_eq!((status, executed), (504, 1), "{size}");
        acme.heal("Web1");
        let (status, _, executed) = send(post.clone(), form, vec![b'x'; size]);
        assert_eq!((status, executed), (200, 1), "{size}");
    }
    for chunked in [false, true] {
        acme.fault("Web1", json!({ "kind": "die_mid_body", "chunked": chunked }));
        let (status, body, executed) = send(get.clone(), page, Vec::new());
        assert_eq!((status, executed), (200, 1));
        assert!(body.is_err(), "half an answer looks like a whole one");
    }
    icm.wait_for_in_flight("Web1", 0);
    icm.wait_for_in_flight("Web2", 0);
}
