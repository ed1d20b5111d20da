//! The strict HTTP/1.1 gate: decides which bytes of a client's connection may pass, before any other parser sees them.
//!
//! In: the bytes of one connection, in order and in pieces of any size. Out: a [`GateVerdict`] about the first of them. A
//! head passes only when it is complete, valid, within the limits, and unambiguous to every parser; a body of known length
//! is counted; a chunked body is checked as it passes. Never: sockets, clocks, logs or buffers, which are the caller's; nor
//! changes to what passes, except through [`GateVerdict::Rewrite`].
//!
//! It follows RFC 9112 (<https://www.rfc-editor.org/rfc/rfc9112.html>). Where that allows several readings, it accepts only
//! what a server cannot read in another way.

mod chunked;
mod fields;
mod grammar;
mod head;
mod record;
pub(crate) mod refusal;
mod request_line;
mod rewrite;
#[cfg(test)]
mod tests;

pub(crate) use record::{HeadRecord, RawLine};
pub use refusal::Refusal;
pub use rewrite::rewrite_head;

use chunked::ChunkedBody;
use head::{BodyFraming, HeadProgress, RequestHead};
use record::Recorder;

/// Limits of one head. It is refused as soon as it exceeds one, complete or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Field lines of a head, and separately of a trailer section.
    pub header_count: usize,
    /// Bytes of all field lines together, with their line ends.
    pub header_bytes: usize,
    /// Bytes of the request target.
    pub uri_bytes: usize,
}

/// What the caller may do with the inspected bytes. After all but `NeedMore` and `Refuse`, the bytes that follow are to be
/// inspected next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateVerdict {
    /// This many bytes (1 or more) may pass: a whole head or a piece of a body, never beyond the current message.
    Pass(usize),
    /// This many bytes are a whole head. The result of [`rewrite_head`] passes in its place.
    Rewrite(usize),
    /// This many bytes (1 or more) are an empty line before a request line, to be dropped (RFC 9112 section 2.2).
    Skip(usize),
    /// A head, a chunk's size line or a trailer section is incomplete: inspect these bytes again when more have come.
    NeedMore,
    /// None of these bytes may pass: respond with this and close. Every later verdict is the same.
    Refuse(Refusal),
}

/// Where in a message the connection is, which determines the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateStage {
    /// Between messages, before the first byte of the next head.
    Idle,
    /// Between the first and the last byte of a head.
    Head,
    /// Between the first and the last byte of a body.
    Body,
    /// After a 101, when bytes are no longer HTTP.
    Tunnel,
    /// After a refusal, which is final.
    Refused,
}

/// The state of one client connection.
#[derive(Clone, Debug)]
pub struct Gate {
    state: State,
    recorder: Recorder,
}

#[derive(Clone, Debug)]
enum State {
    /// In a head, or before its first byte.
    Head(RequestHead),
    /// In a body, with this many bytes (1 or more) to come.
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
    /// The state before the first byte of a connection.
    #[must_use]
    pub fn new() -> Self {
        Self { state: State::Head(RequestHead::default()), recorder: Recorder::default() }
    }

    /// Inspects `bytes`: those of the last `NeedMore`, if any, followed by new ones.
    ///
    /// An incomplete head is not scanned again from its beginning, so a head in many pieces costs no more than one in a
    /// single piece. Without bytes the verdict is `NeedMore`, except after a refusal.
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
            State::Head(head) => match head.inspect(bytes, limits, &mut self.recorder) {
                Ok(HeadProgress::Complete { length, framing, rewrite }) => {
                    self.state = match framing {
                        BodyFraming::Length(0) => State::next_head(),
                        BodyFraming::Length(length) => State::Length(length),
                        BodyFraming::Chunked => State::Chunked(ChunkedBody::Size),
                    };
                    if rewrite {
                        // Its positions are those of the old head.
                        self.recorder.record = None;
                        GateVerdict::Rewrite(length)
                    } else {
                        GateVerdict::Pass(length)
                    }
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

    /// Whether to record the heads of plain requests, from the next head on.
    pub(crate) fn record_heads(&mut self, is_on: bool) {
        self.recorder.is_on = is_on;
    }

    /// Takes the record of the head that has just passed; `None` if the request is not plain.
    pub(crate) fn take_record(&mut self) -> Option<Box<HeadRecord>> {
        self.recorder.record.take()
    }

    /// Where in a message the connection is.
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

    /// Lets everything pass, after a 101 was sent. Has no effect after a refusal.
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
