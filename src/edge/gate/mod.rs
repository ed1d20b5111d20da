//! The strict HTTP/1.1 gate: decides, before any other parser sees them, which octets of a client's connection
//! may pass.
//!
//! In: the octets of one connection, in order and in pieces of any size. Out: a [`GateVerdict`] about the first of
//! them. A head passes only when it is complete, clean and within the limits, and reads the same way to every
//! parser; a body of known length is only counted; a chunked body is checked as it passes. What passes is
//! not changed, except for the target of a head that asks for it. It reads no socket and no clock, and writes no log: deadlines, buffers and answers are the
//! caller's.
//!
//! Rules: RFC 9112 (<https://www.rfc-editor.org/rfc/rfc9112.html>), and where that leaves a choice, the reading
//! that leaves the server no choice.

mod chunked;
mod fields;
mod grammar;
mod head;
mod refusal;
mod request_line;
mod rewrite;
#[cfg(test)]
mod tests;

pub use refusal::Refusal;
pub use rewrite::rewrite_head;

use chunked::ChunkedBody;
use head::{BodyFraming, HeadProgress, RequestHead};

/// What one head may be. More than that is refused as soon as it is seen, complete or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Field lines of a head, and again of a trailer section.
    pub header_count: usize,
    /// Octets of all field lines together, with their line ends.
    pub header_bytes: usize,
    /// Octets of the request target.
    pub uri_bytes: usize,
}

/// What may be done with the octets that were looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateVerdict {
    /// The first octets, so many (1 or more), are clean and belong to the current message: a whole head or a
    /// piece of its body. What follows them has not been looked at: ask again. Never beyond the end of the
    /// current message, so that a pipelined request is judged on its own.
    Pass(usize),
    /// The first octets, so many, are a whole head that is clean but for its target: what [`rewrite_head`] makes of
    /// them passes in their place. What follows has not been looked at: ask again.
    Rewrite(usize),
    /// The first octets, so many (1 or more), are an empty line before a request line, to be dropped
    /// (RFC 9112 section 2.2). What follows has not been looked at: ask again.
    Skip(usize),
    /// A head, a chunk's size line or a trailer section is not complete: hold these octets, and ask again with
    /// the same ones and more behind them.
    NeedMore,
    /// None of these octets may pass: answer with this and close. Every later question gets the same answer.
    Refuse(Refusal),
}

/// Where in the conversation the connection is: what deadline applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateStage {
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
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    /// In a head, or before the first octet of one.
    Head(RequestHead),
    /// In a body with so many octets (1 or more) to come.
    Length(u64),
    Chunked(ChunkedBody),
    Tunnel,
    Refused(Refusal),
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
        Self { state: State::Head(RequestHead::default()) }
    }

    /// Judges `octets`: what the last `More` held back, if anything, and what came since.
    ///
    /// An incomplete head is not scanned again from its beginning, so a head that trickles in costs no more
    /// than one that comes at once. Without octets the verdict is `More`, unless there was a refusal.
    pub fn inspect(&mut self, bytes: &[u8], limits: &HeadLimits) -> GateVerdict {
        let verdict = match &mut self.state {
            State::Refused(refusal) => return GateVerdict::Refuse(*refusal),
            _ if bytes.is_empty() => return GateVerdict::NeedMore,
            State::Tunnel => GateVerdict::Pass(bytes.len()),
            State::Length(left) => {
                let length = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= length as u64;
                if *left == 0 {
                    self.state = State::next_head();
                }
                GateVerdict::Pass(length)
            }
            State::Chunked(body) => {
                let verdict = body.inspect(bytes, limits);
                if let ChunkedBody::Done = body {
                    self.state = State::next_head();
                }
                verdict
            }
            State::Head(head) => match head.inspect(bytes, limits) {
                Ok(HeadProgress::Complete { length, framing, rewrite }) => {
                    self.state = match framing {
                        BodyFraming::Length(0) => State::next_head(),
                        BodyFraming::Length(length) => State::Length(length),
                        BodyFraming::Chunked => State::Chunked(ChunkedBody::Size),
                    };
                    if rewrite { GateVerdict::Rewrite(length) } else { GateVerdict::Pass(length) }
                }
                Ok(HeadProgress::EmptyLine(length)) => GateVerdict::Skip(length),
                Ok(HeadProgress::Incomplete) => GateVerdict::NeedMore,
                Err(refusal) => GateVerdict::Refuse(refusal),
            },
        };
        if let GateVerdict::Refuse(refusal) = verdict {
            self.state = State::Refused(refusal);
        }
        verdict
    }

    /// Where the connection is.
    #[must_use]
    pub fn stage(&self) -> GateStage {
        match &self.state {
            State::Head(head) if head.seen == 0 => GateStage::Idle,
            State::Head(_) => GateStage::Head,
            State::Length(_) | State::Chunked(_) => GateStage::Body,
            State::Tunnel => GateStage::Tunnel,
            State::Refused(_) => GateStage::Refused,
        }
    }

    /// After a 101 was sent: everything passes from now on. Not after a refusal.
    pub fn tunnel(&mut self) {
        if !matches!(self.state, State::Refused(_)) {
            self.state = State::Tunnel;
        }
    }
}

impl State {
    fn next_head() -> Self {
        Self::Head(RequestHead::default())
    }
}
