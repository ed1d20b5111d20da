//! The strict HTTP/1.1 gate: decides, before any other parser sees them, which octets of a client's connection
//! may pass.
//!
//! In: the octets of one connection, in order and in pieces of any size. Out: a [`Verdict`] about the first of
//! them. A head passes only when it is complete, clean and within the limits, and reads the same way to every
//! parser; a body of known length is only counted; a chunked body is checked as it passes. What passes is
//! not changed, except for the target of a head that asks for it. It reads no socket and no clock, and writes no log: deadlines, buffers and answers are the
//! caller's.
//!
//! Rules: RFC 9112 (<https://www.rfc-editor.org/rfc/rfc9112.html>), and where that leaves a choice, the reading
//! that leaves the server no choice.

mod chunked;
mod fields;
mod head;
mod octets;
mod refusal;
mod request_line;
mod rewrite;
#[cfg(test)]
mod tests;

pub use refusal::Refusal;
pub use rewrite::rewritten;

use chunked::Chunked;
use head::{Found, Framing, Head};

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
    /// The first octets, so many, are a whole head that is clean but for its target: what [`rewritten`] makes of
    /// them passes in their place. What follows has not been looked at: ask again.
    Rewrite(usize),
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
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    /// In a head, or before the first octet of one.
    Head(Head),
    /// In a body with so many octets (1 or more) to come.
    Length(u64),
    Chunked(Chunked),
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
        Self { state: State::Head(Head::default()) }
    }

    /// Judges `octets`: what the last `More` held back, if anything, and what came since.
    ///
    /// An incomplete head is not scanned again from its beginning, so a head that trickles in costs no more
    /// than one that comes at once. Without octets the verdict is `More`, unless there was a refusal.
    pub fn look(&mut self, octets: &[u8], limits: &Limits) -> Verdict {
        let verdict = match &mut self.state {
            State::Refused(refusal) => return Verdict::Refuse(*refusal),
            _ if octets.is_empty() => return Verdict::More,
            State::Tunnel => Verdict::Pass(octets.len()),
            State::Length(left) => {
                let length = octets.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= length as u64;
                if *left == 0 {
                    self.state = State::next_head();
                }
                Verdict::Pass(length)
            }
            State::Chunked(body) => {
                let verdict = body.look(octets, limits);
                if let Chunked::Done = body {
                    self.state = State::next_head();
                }
                verdict
            }
            State::Head(head) => match head.look(octets, limits) {
                Ok(Found::Whole { length, framing, rewrite }) => {
                    self.state = match framing {
                        Framing::Length(0) => State::next_head(),
                        Framing::Length(length) => State::Length(length),
                        Framing::Chunked => State::Chunked(Chunked::Size),
                    };
                    if rewrite { Verdict::Rewrite(length) } else { Verdict::Pass(length) }
                }
                Ok(Found::EmptyLine(length)) => Verdict::Skip(length),
                Ok(Found::Open) => Verdict::More,
                Err(refusal) => Verdict::Refuse(refusal),
            },
        };
        if let Verdict::Refuse(refusal) = verdict {
            self.state = State::Refused(refusal);
        }
        verdict
    }

    /// Where the connection is.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match &self.state {
            State::Head(head) if head.seen == 0 => Stage::Idle,
            State::Head(_) => Stage::Head,
            State::Length(_) | State::Chunked(_) => Stage::Body,
            State::Tunnel => Stage::Tunnel,
            State::Refused(_) => Stage::Refused,
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
        Self::Head(Head::default())
    }
}
