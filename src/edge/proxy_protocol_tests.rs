//! PROXY headers of both versions, whole, in pieces, and wrong ones.

use proptest::prelude::*;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::*;

const V4: &[u8] = b"PROXY TCP4 192.0.2.7 192.0.2.1 51234 443\r\n";

/// A header of version 2: version and command, family and protocol, addresses and more.
fn v2_header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = v2::PROTOCOL_PREFIX.to_vec();
    header.extend([command, family]);
    header.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
    header.extend(rest);
    header
}

const ADDRESSES_V4: [u8; 12] = [192, 0, 2, 7, 192, 0, 2, 1, 200, 34, 1, 187];

fn addresses_v6() -> Vec<u8> {
    let mut bytes = "2001:db8::7".parse::<std::net::Ipv6Addr>().unwrap().octets().to_vec();
    bytes.extend("2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
    bytes.extend([200, 34, 1, 187]);
    bytes
}

fn good_headers() -> Vec<(Vec<u8>, Option<&'static str>)> {
    let with_tlvs = [&ADDRESSES_V4[..], &[0x20, 0, 200], &[7; 200], &[3, 0, 4, 1, 2, 3, 4]].concat();
    vec![
        (V4.to_vec(), Some("192.0.2.7:51234")),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 51234 443\r\n".to_vec(), Some("[2001:db8::7]:51234")),
        (b"PROXY UNKNOWN\r\n".to_vec(), None),
        (b"PROXY UNKNOWN a b c d e f g h i\r\n".to_vec(), None),
        (v2_header(0x21, 0x11, &ADDRESSES_V4), Some("192.0.2.7:51234")),
        (v2_header(0x21, 0x11, &with_tlvs), Some("192.0.2.7:51234")),
        (v2_header(0x21, 0x21, &addresses_v6()), Some("[2001:db8::7]:51234")),
        // A health check of the proxy, whatever addresses it carries.
        (v2_header(0x20, 0x00, &[]), None),
        (v2_header(0x20, 0x11, &ADDRESSES_V4), None),
        // No address of TCP: unspecified, UDP, a Unix socket.
        (v2_header(0x21, 0x00, &[1, 2, 3]), None),
        (v2_header(0x21, 0x12, &ADDRESSES_V4), None),
        (v2_header(0x21, 0x31, &[b'x'; 216]), None),
    ]
}

#[test]
fn both_versions_name_the_client_or_nobody() {
    for (header, client) in good_headers() {
        let shown = String::from_utf8_lossy(&header).into_owned();
        assert_eq!(header_length(&header).unwrap(), Some(header.len()), "{shown}");
        let expected = client.map(|text| text.parse().unwrap());
        assert_eq!(client_address(&header).unwrap(), expected, "{shown}");
    }
}

#[test]
fn a_header_ends_where_it_ends_however_it_arrives() {
    for (header, _) in good_headers() {
        let stream = [&header[..], b"\x16\x03\x01 and what comes behind\r\n"].concat();
        for cut in 0..stream.len() {
            let length = header_length(&stream[..cut]).unwrap();
            assert!(length.is_none() || length == Some(header.len()), "{cut}: {length:?}");
            assert!(length.is_some() || cut < header.len(), "{cut}");
        }
    }
}

#[test]
fn what_is_no_header_is_refused_as_soon_as_that_is_certain() {
    let missing =
        [&b"GET / HTTP/1.1\r\n"[..], b"\x16\x03\x01\x02\x00", b"PROXYTCP4 ", b"proxy TCP4", b"\r\n\r\nGET"];
    for bytes in missing {
        assert!(matches!(header_length(bytes), Err(ProxyHeaderError::Missing)), "{bytes:?}");
    }
    let endless = [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 200]].concat();
    assert!(matches!(header_length(&endless[..106]), Ok(None)));
    assert!(matches!(header_length(&endless[..107]), Err(ProxyHeaderError::TooLong)));
    let long = v2_header(0x21, 0x11, &[0; MAX_V2_BYTES]);
    assert!(matches!(header_length(&long[..V2_FIXED_BYTES]), Err(ProxyHeaderError::TooLong)));
    let longest = v2_header(0x21, 0x11, &[0; MAX_V2_BYTES - V2_FIXED_BYTES]);
    assert_eq!(header_length(&longest).unwrap(), Some(MAX_V2_BYTES));
}

#[test]
fn malformed_headers_are_refused() {
    let v1 = [
        "PROXY TCP4 192.0.2.7 192.0.2.1 51234\r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1 51234 70000\r\n",
        "PROXY TCP4 192.0.2.300 192.0.2.1 51234 443\r\n",
        "PROXY TCP4 2001:db8::7 2001:db8::1 51234 443\r\n",
        "PROXY TCP4  192.0.2.7 192.0.2.1 51234 443\r\n",
        "PROXY UDP4 192.0.2.7 192.0.2.1 51234 443\r\n",
        "PROXY UNKNOWNX\r\n",
        "PROXY \r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1 51234 443 more\r\n",
    ];
    let v2 = [
        v2_header(0x11, 0x11, &ADDRESSES_V4),
        v2_header(0x22, 0x11, &ADDRESSES_V4),
        v2_header(0x21, 0x41, &ADDRESSES_V4),
        v2_header(0x21, 0x13, &ADDRESSES_V4),
        v2_header(0x21, 0x11, &ADDRESSES_V4[..11]),
        v2_header(0x21, 0x21, &ADDRESSES_V4),
    ];
    for header in v1.iter().map(|text| text.as_bytes().to_vec()).chain(v2) {
        assert_eq!(header_length(&header).unwrap(), Some(header.len()));
        let error = client_address(&header).unwrap_err();
        assert!(matches!(error, ProxyHeaderError::Malformed(_)), "{header:?}: {error}");
    }
}

#[tokio::test]
async fn reading_takes_the_header_off_the_socket_and_nothing_else() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    for (header, client) in good_headers() {
        for piece in [1, 7, 10_000] {
            let stream = [&header[..], b"behind"].concat();
            let sender = tokio::spawn(async move {
                let mut socket = TcpStream::connect(address).await.unwrap();
                socket.set_nodelay(true).unwrap();
                for bytes in stream.chunks(piece) {
                    socket.write_all(bytes).await.unwrap();
                    tokio::task::yield_now().await;
                }
            });
            let (mut socket, _) = listener.accept().await.unwrap();
            let read = read(&mut socket).await.unwrap();
            assert_eq!(read, client.map(|text| text.parse().unwrap()));
            let mut rest = Vec::new();
            socket.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, b"behind");
            sender.await.unwrap();
        }
    }
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(&V4[..20]).await.unwrap();
    socket.shutdown().await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    assert!(matches!(read(&mut server).await, Err(ProxyHeaderError::Closed)));
}

#[test]
fn the_digest_names_the_proxy_and_only_where_there_is_one() {
    let proxy = "192.0.2.1:5000".parse().unwrap();
    let digest = Digest { proxy_digest: digest_of(proxy), ..Digest::default() };
    assert_eq!(proxy_of(&digest), Some(proxy));
    assert_eq!(proxy_of(&Digest::default()), None);
}

proptest! {
    #[test]
    fn any_bytes_have_a_bounded_header_or_none(
        begins_as in 0..3_usize,
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let prefix = [&b""[..], V1_PREFIX, v2::PROTOCOL_PREFIX][begins_as];
        let bytes = [prefix, &bytes[..]].concat();
        if let Ok(Some(length)) = header_length(&bytes) {
            prop_assert!(length <= MAX_V2_BYTES);
            if let Some(header) = bytes.get(..length) {
                let _ = client_address(header);
            }
        }
    }
}
