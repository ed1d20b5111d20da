//! A minimal WebSocket server that sends a greeting and echoes frames. The greeting is in the same write as the 101,
//! because some proxies lose bytes that follow the head at once (https://github.com/cloudflare/pingora/issues/946).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::http::{AnyStream, Head};

/// Serves until either side closes.
pub async fn serve(stream: &mut AnyStream, mut buffer: BytesMut, head: &Head, server: &str) {
    let key = head.header("sec-websocket-key").unwrap_or("");
    let accept = STANDARD.encode(sha1(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes()));
    let mut out = format!(
        "HTTP/1.1 101 Switching Protocols\r\nServer: Lotus-Domino\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nX-Acme-Server: {server}\r\n\r\n"
    )
    .into_bytes();
    out.extend(frame(1, format!("hello from {server}").as_bytes()));
    if stream.write_all(&out).await.is_err() || stream.flush().await.is_err() {
        return;
    }
    loop {
        while let Some((opcode, payload)) = take_frame(&mut buffer) {
            let reply = match opcode {
                9 => frame(10, &payload),
                10 => continue,
                other => frame(other, &payload),
            };
            if stream.write_all(&reply).await.is_err() || stream.flush().await.is_err() || opcode == 8 {
                return;
            }
        }
        match stream.read_buf(&mut buffer).await {
            Ok(n) if n > 0 => {}
            _ => return,
        }
    }
}

/// An unmasked, final frame.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x80 | opcode];
    match payload.len() {
        n if n < 126 => out.push(n as u8),
        n if n < 65_536 => {
            out.push(126);
            out.extend((n as u16).to_be_bytes());
        }
        n => {
            out.push(127);
            out.extend((n as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
    out
}

/// Takes a whole frame from the buffer and unmasks it.
fn take_frame(buffer: &mut BytesMut) -> Option<(u8, Vec<u8>)> {
    let (first, second) = (*buffer.first()?, *buffer.get(1)?);
    let (length, mut at) = match second & 0x7F {
        126 => (u64::from(u16::from_be_bytes(buffer.get(2..4)?.try_into().ok()?)), 4),
        127 => (u64::from_be_bytes(buffer.get(2..10)?.try_into().ok()?), 10),
        n => (u64::from(n), 2),
    };
    let mask: Option<[u8; 4]> = match second & 0x80 {
        0 => None,
        _ => {
            at += 4;
            Some(buffer.get(at - 4..at)?.try_into().ok()?)
        }
    };
    let end = at + usize::try_from(length).ok()?;
    let mut payload = buffer.get(at..end)?.to_vec();
    if let Some(mask) = mask {
        payload.iter_mut().enumerate().for_each(|(i, b)| *b ^= mask[i % 4]);
    }
    buffer.advance(end);
    Some((first & 0x0F, payload))
}

/// SHA-1 (FIPS 180-4). Only the handshake of RFC 6455 needs it, so there is no dependency for it.
fn sha1(data: &[u8]) -> [u8; 20] {
    let mut h: [u32; 5] = [0x6745_2301, 0xEFCD_AB89, 0x98BA_DCFE, 0x1032_5476, 0xC3D2_E1F0];
    let mut padded = data.to_vec();
    padded.push(0x80);
    while padded.len() % 64 != 56 {
        padded.push(0);
    }
    padded.extend((data.len() as u64 * 8).to_be_bytes());
    for block in padded.chunks(64) {
        let mut w = [0_u32; 80];
        for (i, word) in block.chunks(4).enumerate() {
            w[i] = u32::from_be_bytes([word[0], word[1], word[2], word[3]]);
        }
        for i in 16..80 {
            w[i] = (w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16]).rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = h;
        for (i, word) in w.iter().enumerate() {
            let (f, k) = match i {
                0..20 => ((b & c) | (!b & d), 0x5A82_7999),
                20..40 => (b ^ c ^ d, 0x6ED9_EBA1),
                40..60 => ((b & c) | (b & d) | (c & d), 0x8F1B_BCDC),
                _ => (b ^ c ^ d, 0xCA62_C1D6),
            };
            let next = a.rotate_left(5).wrapping_add(f).wrapping_add(e).wrapping_add(k).wrapping_add(*word);
            (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
        }
        for (sum, part) in h.iter_mut().zip([a, b, c, d, e]) {
            *sum = sum.wrapping_add(part);
        }
    }
    let mut out = [0; 20];
    out.chunks_mut(4).zip(h).for_each(|(to, word)| to.copy_from_slice(&word.to_be_bytes()));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_key_is_that_of_the_rfc() {
        let accept = STANDARD.encode(sha1(b"dGhlIHNhbXBsZSBub25jZQ==258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
        assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_masked_frame_is_read_once_it_is_complete() {
        let mut buffer = BytesMut::from(&[0x81, 0x82, 1, 2, 3, 4, b'h' ^ 1][..]);
        assert_eq!(take_frame(&mut buffer), None);
        buffer.extend_from_slice(&[b'i' ^ 2]);
        assert_eq!(take_frame(&mut buffer), Some((1, b"hi".to_vec())));
    }
}
