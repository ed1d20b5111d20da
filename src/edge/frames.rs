//! Splits one direction of an HTTP/2 connection into frames (RFC 9113 section 4.1).
//!
//! It works on pieces of any size and buffers only a frame's header and the first four bytes of its payload.

pub const DATA: u8 = 0x0;
pub const HEADERS: u8 = 0x1;
pub const RST_STREAM: u8 = 0x3;
pub const SETTINGS: u8 = 0x4;
pub const GOAWAY: u8 = 0x7;
pub const WINDOW_UPDATE: u8 = 0x8;
pub const CONTINUATION: u8 = 0x9;
pub const END_STREAM: u8 = 0x1;
pub const ACK: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;

pub const FRAME_HEADER_LEN: usize = 9;

/// The initial SETTINGS_MAX_FRAME_SIZE (RFC 9113 section 6.5.2).
pub const MAX_FRAME_SIZE: usize = 16_384;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameHeader {
    pub length: usize,
    pub kind: u8,
    pub flags: u8,
    /// 0 is the connection.
    pub stream: u32,
}

impl FrameHeader {
    /// `None` if the bytes do not begin with a complete header.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, stream @ ..] = bytes.first_chunk::<FRAME_HEADER_LEN>()?;
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        let stream = u32::from_be_bytes(*stream) & 0x7fff_ffff;
        Some(Self { length, kind: *kind, flags: *flags, stream })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameEvent {
    Header(FrameHeader),
    /// This many bytes of the payload. With the last of them, the first four bytes of the payload as a number.
    Payload(FrameHeader, usize, Option<u32>),
}

#[derive(Debug, Default)]
pub struct FrameParser {
    header: [u8; FRAME_HEADER_LEN],
    /// How many bytes of the header were read.
    header_len: usize,
    current: FrameHeader,
    /// Bytes of the current payload that are still to come.
    left: usize,
    first_word: u32,
}

impl FrameParser {
    /// Bytes that complete the current header or payload; 0 between frames.
    #[must_use]
    pub fn remaining(&self) -> usize {
        if self.header_len > 0 { FRAME_HEADER_LEN - self.header_len } else { self.left }
    }

    #[must_use]
    pub fn is_at_boundary(&self) -> bool {
        self.header_len == 0 && self.left == 0
    }

    /// Reads one header or the available part of one payload. Returns how many bytes that took, and no event if the
    /// header is still incomplete.
    pub fn advance(&mut self, bytes: &[u8]) -> (usize, Option<FrameEvent>) {
        if self.left > 0 {
            let taken = self.left.min(bytes.len());
            let before = self.current.length - self.left;
            for byte in bytes.iter().take(taken.min(4_usize.saturating_sub(before))) {
                self.first_word = self.first_word << 8 | u32::from(*byte);
            }
            self.left -= taken;
            let last = (self.left == 0).then_some(self.first_word);
            return (taken, Some(FrameEvent::Payload(self.current, taken, last)));
        }
        let taken = (FRAME_HEADER_LEN - self.header_len).min(bytes.len());
        for (slot, byte) in self.header.iter_mut().skip(self.header_len).zip(bytes) {
            *slot = *byte;
        }
        self.header_len += taken;
        if self.header_len < FRAME_HEADER_LEN {
            return (taken, None);
        }
        self.current = FrameHeader::parse(&self.header).unwrap_or_default();
        (self.header_len, self.left, self.first_word) = (0, self.current.length, 0);
        (taken, Some(FrameEvent::Header(self.current)))
    }
}
