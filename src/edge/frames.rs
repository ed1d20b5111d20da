//! The frames of one direction of an HTTP/2 connection (<https://www.rfc-editor.org/rfc/rfc9113.html#section-4.1>).
//!
//! In: octets as they pass, in pieces of any size. Out: each frame's head when it is there, its octets as they come,
//! and its end. It keeps a frame's head and the first four octets behind it, and judges nothing.

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

/// Bytes of a head.
pub const FRAME_HEADER_LEN: usize = 9;

/// The longest frame that either side takes without having announced another size (RFC 9113 section 6.5.2).
pub const MAX_FRAME_SIZE: usize = 16_384;

/// The head of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameHeader {
    /// Octets behind it.
    pub length: usize,
    /// DATA, HEADERS, ...
    pub kind: u8,
    /// As they came.
    pub flags: u8,
    /// Of its stream; 0 is the connection.
    pub stream: u32,
}

impl FrameHeader {
    /// The head at the beginning of these bytes, if it is complete.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, stream @ ..] = bytes.first_chunk::<FRAME_HEADER_LEN>()?;
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        let stream = u32::from_be_bytes(*stream) & 0x7fff_ffff;
        Some(Self { length, kind: *kind, flags: *flags, stream })
    }
}

/// What is next in the octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameEvent {
    /// A head is complete.
    Header(FrameHeader),
    /// So many octets of the frame passed; with the last of them the frame's first four octets as a number.
    Payload(FrameHeader, usize, Option<u32>),
}

/// See the module's description.
#[derive(Debug, Default)]
pub struct FrameParser {
    head: [u8; FRAME_HEADER_LEN],
    /// Octets of the head that were seen.
    seen: usize,
    current: FrameHeader,
    /// Octets of the current frame that are still to come.
    left: usize,
    first_word: u32,
}

impl FrameParser {
    /// Bytes that are still to come of what has begun: a head, or the payload behind one. 0 between frames.
    #[must_use]
    pub fn remaining(&self) -> usize {
        if self.seen > 0 { FRAME_HEADER_LEN - self.seen } else { self.left }
    }

    /// No frame has begun and not ended.
    #[must_use]
    pub fn is_at_boundary(&self) -> bool {
        self.seen == 0 && self.left == 0
    }

    /// Goes on by one step: how many of `octets` it took, and what it found, nothing when they all are the
    /// beginning of a head.
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
        let taken = (FRAME_HEADER_LEN - self.seen).min(bytes.len());
        for (place, byte) in self.head.iter_mut().skip(self.seen).zip(bytes) {
            *place = *byte;
        }
        self.seen += taken;
        if self.seen < FRAME_HEADER_LEN {
            return (taken, None);
        }
        self.current = FrameHeader::parse(&self.head).unwrap_or_default();
        (self.seen, self.left, self.first_word) = (0, self.current.length, 0);
        (taken, Some(FrameEvent::Header(self.current)))
    }
}
