//! The client with well-behaved and faulty servers.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use super::testing::{TestReply, TestServer, certificate, client};
use super::{DominoClient, DominoRequest, Fault};
use crate::config::settings::UpstreamTls;

const SHORT: Duration = Duration::from_millis(200);

#[tokio::test]
async fn a_response_is_complete_and_the_connection_is_reused() {
    let server = TestServer::start(|asked| TestReply::ok(asked.target.clone())).await;
    let client = client();
    for target in ["/a.nsf?Open", "/b.nsf"] {
        let response = client.fetch(&server.get(target)).await.unwrap();
        assert_eq!((response.status, response.body.as_ref()), (200, target.as_bytes()));
    }
    assert_eq!(server.connections(), 1);
    let head = server.requests()[0].head.to_ascii_lowercase();
    let host = format!("host: web1.acme.example:{}\r\n", server.address.port());
    assert!(head.starts_with("get /a.nsf?open http/1.1\r\n") && head.contains(&host), "{head}");
}

#[tokio::test]
async fn a_stale_pooled_connection_is_replaced_without_an_error() {
    let server =
        TestServer::start(|asked| if asked.nth == 0 { TestReply::ok("a") } else { TestReply::Close }).await;
    let client = client();
    for _ in 0..3 {
        assert_eq!(client.fetch(&server.get("/")).await.unwrap().status, 200);
    }
    assert_eq!(server.connections(), 3);
}

#[tokio::test]
async fn a_request_on_a_new_connection_that_closes_fails_and_is_not_repeated() {
    let server = TestServer::start(|_| TestReply::Close).await;
    let error = client().fetch(&server.get("/x")).await.unwrap_err();
    assert_eq!(error.fault, Fault::Closed);
    assert_eq!(server.connections(), 1);
    assert!(error.to_string().starts_with("http://web1.acme.example:"), "{error}");
}

#[tokio::test]
async fn a_closed_port_is_reported_as_refused() {
    let address = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let request = DominoRequest::get(address, false, "", "/");
    let error = client().fetch(&request).await.unwrap_err();
    assert_eq!(error.fault, Fault::Refused);
    assert_eq!(error.to_string(), format!("http://{address}/: connection refused"));
    assert_eq!(client().probe(&request).await.unwrap_err().fault, Fault::Refused);
}

#[tokio::test]
async fn one_timeout_covers_a_slow_header_and_a_slow_body() {
    let head = TestServer::start(|_| TestReply::Hang).await;
    let mut request = head.get("/");
    request.timeout = SHORT;
    assert_eq!(client().fetch(&request).await.unwrap_err().fault, Fault::TimedOut(SHORT));
    assert_eq!(client().probe(&request).await.unwrap_err().fault, Fault::TimedOut(SHORT));

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let trickle = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n").await.unwrap();
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let mut request = DominoRequest::get(address, false, "", "/");
    request.timeout = SHORT;
    assert_eq!(client().fetch(&request).await.unwrap_err().fault, Fault::TimedOut(SHORT));
    trickle.abort();
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_with_and_without_content_length() {
    let server = TestServer::start(|asked| match asked.target.as_str() {
        "/length" => TestReply::ok(vec![b'x'; 1001]),
        "/chunked" => {
            let mut raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            raw.extend_from_slice(b"200\r\n");
            raw.extend_from_slice(&[b'x'; 512]);
            raw.extend_from_slice(b"\r\n200\r\n");
            raw.extend_from_slice(&[b'x'; 512]);
            raw.extend_from_slice(b"\r\n0\r\n\r\n");
            TestReply::Raw(raw)
        }
        _ => TestReply::ok(vec![b'x'; 1000]),
    })
    .await;
    let client = client();
    for target in ["/length", "/chunked"] {
        let mut request = server.get(target);
        request.max_body = 1000;
        assert_eq!(client.fetch(&request).await.unwrap_err().fault, Fault::BodyTooLarge(1000), "{target}");
    }
    let mut request = server.get("/fits");
    request.max_body = 1000;
    assert_eq!(client.fetch(&request).await.unwrap().body.len(), 1000);
}

#[tokio::test]
async fn a_truncated_body_is_an_error() {
    for raw in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n",
    ] {
        let server = TestServer::start(move |_| TestReply::Raw(raw.to_vec())).await;
        let error = client().fetch(&server.get("/")).await.unwrap_err();
        assert!(matches!(error.fault, Fault::Closed | Fault::Malformed(_)), "{error}");
    }
}

#[tokio::test]
async fn informational_responses_are_skipped_and_other_protocols_refused() {
    let server = TestServer::start(|asked| {
        TestReply::Raw(match asked.target.as_str() {
            "/early" => b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\nbody".to_vec(),
            "/switch" => b"HTTP/1.1 101 Switch\r\n\r\n".to_vec(),
            _ => b"220 mail.acme.example ESMTP\r\n\r\n".to_vec(),
        })
    })
    .await;
    let client = client();
    assert_eq!(client.fetch(&server.get("/early")).await.unwrap().body.as_ref(), b"body");
    assert_eq!(client.probe(&server.get("/early")).await.unwrap(), 200);
    for target in ["/switch", "/smtp"] {
        let fault = client.fetch(&server.get(target)).await.unwrap_err().fault;
        assert!(matches!(fault, Fault::Malformed(_)), "{fault}");
    }
}

#[tokio::test]
async fn a_probe_reads_only_the_header_on_a_new_connection() {
    let server =
        TestServer::start(|_| TestReply::Raw(b"HTTP/1.1 401 No\r\nContent-Length: 1000000\r\n\r\n".to_vec()))
            .await;
    let client = client();
    for _ in 0..3 {
        assert_eq!(client.probe(&server.get("/")).await.unwrap(), 401);
    }
    assert_eq!(server.connections(), 3);
    assert!(server.requests()[0].head.to_ascii_lowercase().contains("connection: close\r\n"));
}

#[tokio::test]
async fn an_invalid_request_is_never_sent() {
    let server = TestServer::start(|_| TestReply::ok("")).await;
    let error = client().fetch(&server.get("/a b\r\nX: y")).await.unwrap_err();
    assert!(matches!(error.fault, Fault::BadRequest(_) | Fault::Malformed(_)), "{error}");
    assert!(server.requests().is_empty());
    assert!(!error.to_string().contains('\r'), "{error}");
}

async fn over_tls(
    trust: &UpstreamTls,
    hostname: &str,
    config: pingora::tls::ServerConfig,
) -> Result<u16, Fault> {
    let server = TestServer::with(Some(config), |_| TestReply::ok("")).await;
    let client = DominoClient::new(trust, Duration::from_secs(5));
    let request = DominoRequest::get(server.address, true, hostname, "/");
    let fetched = client.fetch(&request).await.map(|response| response.status);
    let probed = client.probe(&request).await;
    assert_eq!(fetched.is_ok(), probed.is_ok());
    fetched.map_err(|error| error.fault)
}

#[tokio::test]
async fn a_certificate_of_a_trusted_authority_with_the_servers_name_is_trusted() {
    let (trust, config) = certificate(&["web1.acme.example"]);
    assert_eq!(over_tls(&trust, "web1.acme.example", config.clone()).await, Ok(200));
    assert_eq!(over_tls(&trust, "WEB1.acme.example.", config).await, Ok(200));
    let (trust, config) = certificate(&["127.0.0.1"]);
    assert_eq!(over_tls(&trust, "", config).await, Ok(200), "without a host name the address is checked");
}

#[tokio::test]
async fn a_certificate_with_another_name_is_not_trusted() {
    let (trust, config) = certificate(&["web2.acme.example"]);
    for hostname in ["web1.acme.example", ""] {
        let fault = over_tls(&trust, hostname, config.clone()).await.unwrap_err();
        assert!(matches!(fault, Fault::CertificateNotTrusted(_)), "{fault}");
        assert!(fault.is_connect());
    }
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_not_trusted() {
    let (_, config) = certificate(&["web1.acme.example"]);
    let (other, _) = certificate(&["web1.acme.example"]);
    let fault = over_tls(&other, "web1.acme.example", config.clone()).await.unwrap_err();
    assert!(matches!(fault, Fault::CertificateNotTrusted(_)), "{fault}");
    let platform = UpstreamTls { ca_file: None, ca: None, verify: true };
    let fault = over_tls(&platform, "web1.acme.example", config.clone()).await.unwrap_err();
    assert!(matches!(fault, Fault::CertificateNotTrusted(_)), "{fault}");
    let no_authority = UpstreamTls { ca_file: None, ca: Some(Arc::new(Vec::new())), verify: true };
    assert!(over_tls(&no_authority, "web1.acme.example", config).await.is_err());
}

#[tokio::test]
async fn without_verification_any_certificate_is_accepted() {
    let (mut trust, config) = certificate(&["web2.acme.example"]);
    trust.verify = false;
    assert_eq!(over_tls(&trust, "web1.acme.example", config.clone()).await, Ok(200));
    trust.ca = None;
    assert_eq!(over_tls(&trust, "", config).await, Ok(200));
}

#[tokio::test]
async fn an_old_tls_version_and_a_cleartext_port_are_distinguished() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    // The alert `protocol_version`, a ServerHello of TLS 1.0, and an HTTP response.
    let mut hello = vec![0x16, 3, 1, 0, 42, 2, 0, 0, 38, 3, 1];
    hello.extend_from_slice(&[7; 32]);
    hello.extend_from_slice(&[0, 0, 0x2f, 0]);
    let responses: [(Vec<u8>, Fault); 3] = [
        (vec![0x15, 3, 1, 0, 2, 2, 70], Fault::UnsupportedTlsVersion),
        (hello, Fault::UnsupportedTlsVersion),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), Fault::NotTls),
    ];
    for (response, expected) in responses {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(&response).await;
            let _ = stream.read(&mut [0; 4096]).await;
        });
        let request = DominoRequest::get(address, true, "web1.acme.example", "/");
        assert_eq!(client().fetch(&request).await.unwrap_err().fault, expected);
        server.await.unwrap();
    }
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_a_connect_timeout() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let trust = UpstreamTls { ca_file: None, ca: None, verify: true };
    let client = DominoClient::new(&trust, SHORT);
    let fault = client.fetch(&DominoRequest::get(address, true, "x.example", "/")).await.unwrap_err().fault;
    assert_eq!(fault, Fault::ConnectTimedOut(SHORT));
    drop(listener);
}
