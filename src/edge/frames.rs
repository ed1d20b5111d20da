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
pub const HEAD: usize = 9;

/// The longest frame that either side takes without having announced another size (RFC 9113 section 6.5.2).
pub const MAX_FRAME: usize = 16_384;

/// The head of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Octets behind it.
    pub length: usize,
    /// DATA, HEADERS, ...
    pub kind: u8,
    /// As they came.
    pub flags: u8,
    /// Of its stream; 0 is the connection.
    pub stream: u32,
}

impl Head {
    /// The head at the beginning of these bytes, if it is complete.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, stream @ ..] = bytes.first_chunk::<HEAD>()?;
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        let stream = u32::from_be_bytes(*stream) & 0x7fff_ffff;
        Some(Self { length, kind: *kind, flags: *flags, stream })
    }
}

/// What is next in the octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A head is complete.
    Head(Head),
    /// So many octets of the frame passed; with the last of them the frame's first four octets as a number.
    Payload(Head, usize, Option<u32>),
}

/// See the module's description.
#[derive(Debug, Default)]
pub struct Frames {
    head: [u8; HEAD],
    /// Octets of the head that were seen.
    seen: usize,
    current: Head,
    /// Octets of the current frame that are still to come.
    left: usize,
    word: u32,
}

impl Frames {
    /// Bytes that are still to come of what has begun: a head, or the payload behind one. 0 between frames.
    #[must_use]
    pub fn rest(&self) -> usize {
        if self.seen > 0 { HEAD - self.seen } else { self.left }
    }

    /// No frame has begun and not ended.
    #[must_use]
    pub fn is_between(&self) -> bool {
        self.seen == 0 && self.left == 0
    }

    /// Goes on by one step: how many of `octets` it took, and what it found, nothing when they all are the
    /// beginning of a head.
    pub fn next(&mut self, octets: &[u8]) -> (usize, Option<Step>) {
        if self.left > 0 {
            let taken = self.left.min(octets.len());
            let before = self.current.length - self.left;
            for octet in octets.iter().take(taken.min(4_usize.saturating_sub(before))) {
                self.word = self.word << 8 | u32::from(*octet);
            }
            self.left -= taken;
            let last = (self.left == 0).then_some(self.word);
            return (taken, Some(Step::Payload(self.current, taken, last)));
        }
        let taken = (HEAD - self.seen).min(octets.len());
        for (place, octet) in self.head.iter_mut().skip(self.seen).zip(octets) {
            *place = *octet;
        }
        self.seen += taken;
        if self.seen < HEAD {
            return (taken, None);
        }
        self.current = Head::of(&self.head).unwrap_or_default();
        (self.seen, self.left, self.word) = (0, self.current.length, 0);
        (taken, Some(Step::Head(self.current)))
    }
}
