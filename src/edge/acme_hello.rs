//! Looks into the ClientHello of a connection before its handshake: if an ACME server asks for a challenge that this ICM does not
//! know, the followed ICM may know it. rustls chooses certificates without waiting, so it is too late in the handshake.

use std::time::Duration;

use memchr::memmem;
use tokio::net::TcpStream;

use crate::acme::AcmeState;
use crate::acme::challenges::ACME_ALPN;
use crate::acme::leader::LeaderClient;

/// A ClientHello that is longer is none of an ACME server.
const MAX_HELLO_BYTES: usize = 4 * 1024;
/// The header of a TLS record: type, version, length.
const RECORD_HEADER_BYTES: usize = 5;
const HANDSHAKE_RECORD: u8 = 22;
/// While a ClientHello arrives in pieces, it is looked at this often, and no longer.
const PIECE_INTERVAL: Duration = Duration::from_millis(20);
const MAX_LOOKS: u32 = 50;

/// Asks the followed ICM for its pending challenges if this handshake is one for TLS-ALPN-01. Returns false if no ClientHello
/// comes in time.
pub async fn prepare(acme: &AcmeState, leader: &LeaderClient, socket: &TcpStream, timeout: Duration) -> bool {
    match tokio::time::timeout(timeout, is_challenge(socket)).await {
        Ok(true) => leader.update_challenges(&acme.challenges).await,
        Ok(false) => {}
        Err(_) => return false,
    }
    true
}

/// Leaves the bytes in the socket.
async fn is_challenge(socket: &TcpStream) -> bool {
    let mut hello = [0; MAX_HELLO_BYTES];
    for _ in 0..MAX_LOOKS {
        let Ok(length) = socket.peek(&mut hello).await else { return false };
        let Some(seen) = hello.get(..length) else { return false };
        match offers_acme(seen) {
            Some(found) => return found,
            None => tokio::time::sleep(PIECE_INTERVAL).await,
        }
    }
    false
}

/// Whether the record offers the protocol; `None` if more of it is to come. The bytes may stand elsewhere in the hello by
/// chance, which costs one question.
fn offers_acme(seen: &[u8]) -> Option<bool> {
    let length = match seen {
        [] => return Some(false),
        [HANDSHAKE_RECORD, _, _, high, low, ..] => usize::from(u16::from_be_bytes([*high, *low])),
        [HANDSHAKE_RECORD, ..] => return None,
        _ => return Some(false),
    };
    if memmem::find(seen, ACME_ALPN).is_some() {
        return Some(true);
    }
    let is_complete = seen.len() >= (RECORD_HEADER_BYTES + length).min(MAX_HELLO_BYTES);
    is_complete.then_some(false)
}

#[cfg(test)]
mod tests {
    use super::offers_acme;

    #[test]
    fn only_a_complete_hello_without_the_protocol_is_none_of_an_acme_server() {
        let record = |rest: &[u8]| [&[22, 3, 1, 0, 40], rest].concat();
        let filler = [7; 40];
        assert_eq!(offers_acme(&record(&filler)), Some(false));
        assert_eq!(offers_acme(&record(&filler[..39])), None);
        assert_eq!(offers_acme(&record(b"....\x0aacme-tls/1")), Some(true));
        assert_eq!(offers_acme(&[22, 3]), None);
        for other in [&b""[..], b"GET / HTTP/1.1", b"acme-tls/1", &[0; 9]] {
            assert_eq!(offers_acme(other), Some(false), "{other:?}");
        }
        assert_eq!(offers_acme(&[&[22, 3, 1, 255, 255][..], &[0; 4091]].concat()), Some(false));
    }
}
