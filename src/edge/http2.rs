//! What an HTTP/2 connection owes by when: its preface and settings first, the end of each header block, and the
//! bodies of the requests that it has begun.
//!
//! In: the client's octets and ours, as they pass. Out: is it time to close. Everything else about HTTP/2, its floods
//! included, is the `h2` library's, and what it needs to be told is [`super::http2_input`]'s. It keeps no octet.

use std::io::{Error, ErrorKind, Result};
use std::task::{Context, Poll};

use tokio::time::Instant;

use super::Rules;
use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, Head, RST_STREAM, SETTINGS, Step,
    WINDOW_UPDATE,
};
use super::http2_input::Held;
use super::patience::{Timer, Turn};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Octets of one request's body that may be under way to us.
pub const WINDOW: u32 = 256 * 1024;
/// What a connection has before it is granted more (RFC 9113 section 6.9.2).
const FIRST_WINDOW: i64 = 65_535;
/// Bodies that are followed at a time; the library refuses streams long before.
const MOST_BODIES: usize = 1024;

/// See the module's description.
#[derive(Debug)]
pub struct Http2 {
    /// Octets of the preface that were seen.
    preface: usize,
    reading: Frames,
    writing: Frames,
    /// The first frame has begun.
    opened: bool,
    /// A header block has begun and not ended.
    in_block: bool,
    deadline: Option<Instant>,
    /// The last stream that the client opened.
    newest: u32,
    /// The last stream that we still take; of others nothing is waited for.
    last: u32,
    /// Requests whose bodies have not ended.
    bodies: Vec<Body>,
    /// Octets that the client may send on all streams together.
    window: i64,
    turn: Turn,
    pub(super) held: Held,
}

#[derive(Clone, Copy, Debug)]
struct Body {
    stream: u32,
    /// Octets that the client may send.
    window: i64,
}

impl Default for Http2 {
    fn default() -> Self {
        Self {
            preface: 0,
            reading: Frames::default(),
            writing: Frames::default(),
            opened: false,
            in_block: false,
            deadline: None,
            newest: 0,
            last: u32::MAX,
            bodies: Vec::new(),
            window: FIRST_WINDOW,
            turn: Turn::default(),
            held: Held::default(),
        }
    }
}

impl Http2 {
    /// Follows octets that were read. Out: how many may pass as they are. It stops before a frame's head that is not
    /// complete, and before the first frame of a trailer section.
    ///
    /// # Errors
    /// When the connection does not begin with the preface and a SETTINGS frame, or must end for what it says.
    pub(super) fn follow(&mut self, octets: &[u8], rules: &Rules) -> Result<usize> {
        let mut at = 0;
        for wanted in PREFACE.iter().skip(self.preface) {
            let Some(octet) = octets.get(at) else { return Ok(at) };
            if octet != wanted {
                return Err(Error::new(ErrorKind::InvalidData, "no HTTP/2 preface"));
            }
            (at, self.preface) = (at + 1, self.preface + 1);
        }
        while let Some(rest) = octets.get(at..).filter(|rest| !rest.is_empty()) {
            if self.reading.is_between_frames() && Head::of(rest).is_none_or(|head| self.is_trailers(&head)) {
                break;
            }
            at += self.step(rest, rules)?;
        }
        Ok(at)
    }

    /// Follows a whole frame, whatever it is.
    pub(super) fn follow_all(&mut self, frame: &[u8], rules: &Rules) -> Result<()> {
        let mut at = 0;
        while let Some(rest) = frame.get(at..).filter(|rest| !rest.is_empty()) {
            at += self.step(rest, rules)?;
        }
        Ok(())
    }

    fn step(&mut self, octets: &[u8], rules: &Rules) -> Result<usize> {
        let (taken, step) = self.reading.next(octets);
        match step {
            Some(Step::Head(head)) => self.head(head, rules)?,
            Some(Step::Payload(head, octets, last)) => self.payload(head, octets, last, rules),
            None => {}
        }
        Ok(taken)
    }

    /// Whether a frame begins another field section of a stream that has one.
    pub(super) fn is_trailers(&self, head: &Head) -> bool {
        head.kind == HEADERS && head.stream <= self.newest && self.preface == PREFACE.len()
    }

    /// A header block has begun.
    pub(super) fn owes_a_block(&mut self, rules: &Rules) {
        self.deadline.get_or_insert_with(|| Instant::now() + rules.header_timeout);
    }

    /// A frame of the client's begins.
    fn head(&mut self, head: Head, rules: &Rules) -> Result<()> {
        let Head { length, kind, flags, stream } = head;
        if !self.opened {
            if kind != SETTINGS {
                return Err(Error::new(ErrorKind::InvalidData, "the first HTTP/2 frame is not SETTINGS"));
            }
            self.opened = true;
            self.deadline = None;
        }
        if kind == HEADERS || kind == CONTINUATION {
            if !self.in_block {
                self.deadline = Some(Instant::now() + rules.header_timeout);
            }
            self.in_block = flags & END_HEADERS == 0;
        }
        let is_trailers = self.is_trailers(&head);
        if kind == HEADERS && !is_trailers {
            self.newest = stream;
            if flags & END_STREAM == 0 && stream <= self.last {
                if self.bodies.len() >= MOST_BODIES {
                    return Err(Error::new(ErrorKind::InvalidData, "too many HTTP/2 streams"));
                }
                self.bodies.push(Body { stream, window: i64::from(WINDOW) });
            }
        } else if is_trailers {
            self.end(stream);
        }
        if length == 0 {
            self.payload(head, 0, Some(0), rules);
        }
        Ok(())
    }

    fn payload(&mut self, head: Head, octets: usize, last: Option<u32>, rules: &Rules) {
        if head.kind == DATA && octets > 0 {
            self.turn.moved(octets, rules.min_rate.saturating_mul(self.bodies.len().max(1) as u64));
            let octets = i64::try_from(octets).unwrap_or(i64::MAX);
            self.window -= octets;
            if let Some(body) = self.bodies.iter_mut().find(|body| body.stream == head.stream) {
                body.window -= octets;
            }
        }
        if last.is_none() {
            return;
        }
        // A block ends with the last octet of its last frame.
        if !self.in_block {
            self.deadline = None;
        }
        if head.kind == RST_STREAM || head.kind == DATA && head.flags & END_STREAM != 0 {
            self.end(head.stream);
        }
    }

    /// Nothing more of this stream is waited for.
    fn end(&mut self, stream: u32) {
        self.bodies.retain(|body| body.stream != stream);
        if self.bodies.is_empty() {
            self.turn = Turn::default();
        }
    }

    /// Follows octets that were written: what the client may send, and what we no longer want.
    pub fn wrote(&mut self, mut octets: &[u8]) {
        while !octets.is_empty() {
            let (taken, step) = self.writing.next(octets);
            octets = octets.get(taken..).unwrap_or_default();
            match step {
                Some(Step::Head(Head { kind: HEADERS | DATA, flags, stream, .. }))
                    if flags & END_STREAM != 0 =>
                {
                    self.end(stream);
                }
                Some(Step::Payload(Head { kind, stream, .. }, _, Some(word))) => match kind {
                    WINDOW_UPDATE if stream == 0 => self.window += i64::from(word),
                    WINDOW_UPDATE => {
                        if let Some(body) = self.bodies.iter_mut().find(|body| body.stream == stream) {
                            body.window += i64::from(word);
                        }
                    }
                    RST_STREAM => self.end(stream),
                    GOAWAY => {
                        self.last = word;
                        self.bodies.retain(|body| body.stream <= word);
                    }
                    _ => {}
                },
                _ => {}
            }
        }
    }

    /// Whether it is the client's turn to send a body: one has begun, and it may go on.
    fn owes_a_body(&self) -> bool {
        self.window > 0 && self.bodies.iter().any(|body| body.window > 0)
    }

    /// Ready when the client owes something for too long. It owes the minimum rate for each body that it has
    /// begun, and may send it on whichever it likes.
    pub fn poll_patience(&mut self, cx: &mut Context<'_>, rules: &Rules, timer: &mut Timer) -> Poll<()> {
        if !self.opened && self.deadline.is_none() {
            self.deadline = Some(Instant::now() + rules.header_timeout);
        }
        let body = if rules.min_rate > 0 && self.owes_a_body() {
            Some(self.turn.wait())
        } else {
            self.turn.moved(0, rules.min_rate);
            None
        };
        match self.deadline.into_iter().chain(body).min() {
            Some(deadline) => timer.poll(cx, deadline),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn rules() -> Rules {
        Rules::from(&crate::config::settings::Limits { min_rate: 100, ..Default::default() })
    }

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        frame_of(1, kind, flags, &vec![0; payload])
    }

    pub fn frame_of(stream: u32, kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [length[1], length[2], length[3], kind, flags];
        [&head[..], &stream.to_be_bytes(), payload].concat()
    }

    /// Fed whole, and octet by octet: both must say the same. Out: is something owed.
    async fn owes(frames: &[Vec<u8>]) -> Result<bool> {
        let octets = [PREFACE.to_vec(), frames.concat()].concat();
        let (mut whole, mut single) = (Http2::default(), Http2::default());
        let mut held = Vec::new();
        let second = octets.iter().try_for_each(|o| {
            held.push(*o);
            single.follow(&held, &rules()).map(|passed| drop(held.drain(..passed)))
        });
        let first = whole.follow(&octets, &rules());
        assert_eq!(first.is_ok(), second.is_ok());
        first?;
        assert_eq!(whole.deadline.is_some(), single.deadline.is_some());
        Ok(whole.deadline.is_some())
    }

    #[tokio::test]
    async fn a_connection_owes_the_end_of_a_header_block_and_nothing_between_frames() {
        let settings = frame(SETTINGS, 0, 18);
        assert!(!owes(std::slice::from_ref(&settings)).await.unwrap());
        assert!(!owes(&[settings.clone(), frame(HEADERS, END_HEADERS, 40)]).await.unwrap());
        assert!(owes(&[settings.clone(), frame(HEADERS, 0, 40)]).await.unwrap());
        assert!(owes(&[settings.clone(), frame(HEADERS, 0, 40), frame(CONTINUATION, 0, 0)]).await.unwrap());
        let ended = frame(CONTINUATION, END_HEADERS, 5);
        assert!(!owes(&[settings.clone(), frame(HEADERS, 0, 40), ended]).await.unwrap());
        let mut partly = frame(HEADERS, END_HEADERS, 40);
        partly.pop();
        assert!(owes(&[settings.clone(), partly]).await.unwrap());
        // A body may take its time: its rate is another matter.
        assert!(!owes(&[settings, frame(HEADERS, END_HEADERS, 40), vec![0, 0, 9, 0, 0]]).await.unwrap());
    }

    #[tokio::test]
    async fn the_first_frame_must_be_settings_behind_the_preface() {
        assert!(owes(&[frame(HEADERS, END_HEADERS, 3)]).await.is_err());
        assert!(Http2::default().follow(b"GET / HTTP/1.1\r\n", &rules()).is_err());
    }

    /// A connection whose client has sent its settings and begun a body on each of these streams.
    pub fn begun(streams: &[u32]) -> Http2 {
        let mut http2 = Http2::default();
        let heads = streams.iter().map(|stream| frame_of(*stream, HEADERS, END_HEADERS, &[0x82]));
        let all = [PREFACE.to_vec(), frame_of(0, SETTINGS, 0, &[])].into_iter().chain(heads);
        http2.follow(&all.collect::<Vec<_>>().concat(), &rules()).unwrap();
        http2
    }

    /// How long nothing may happen; a day at most.
    async fn lasts(http2: &mut Http2) -> u64 {
        let (begin, mut timer) = (Instant::now(), Timer::default());
        let patience = std::future::poll_fn(|cx| http2.poll_patience(cx, &rules(), &mut timer));
        let _ = tokio::time::timeout(std::time::Duration::from_secs(86_400), patience).await;
        begin.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_was_begun_is_owed_until_it_ends_on_either_side() {
        assert!((29..32).contains(&lasts(&mut begun(&[1])).await));
        assert_eq!(lasts(&mut begun(&[])).await, 86_400, "a slow server costs nobody a connection");
        for (by_client, end) in [
            (true, frame_of(1, DATA, END_STREAM, b"x")),
            (true, frame_of(1, DATA, END_STREAM, b"")),
            (true, frame_of(1, RST_STREAM, 0, &[0, 0, 0, 8])),
            (false, frame_of(1, RST_STREAM, 0, &[0, 0, 0, 0])),
            (false, frame_of(1, HEADERS, END_STREAM | END_HEADERS, &[0x88])),
            (false, frame_of(1, DATA, END_STREAM, b"")),
            (false, frame_of(0, GOAWAY, 0, &[0; 8])),
        ] {
            let mut http2 = begun(&[1]);
            if by_client {
                http2.follow(&end, &rules()).unwrap();
            } else {
                http2.wrote(&end);
            }
            assert_eq!(lasts(&mut http2).await, 86_400, "{end:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_may_not_send_is_not_waited_for() {
        let mut http2 = begun(&[1]);
        http2.wrote(&frame_of(0, WINDOW_UPDATE, 0, &(1_u32 << 20).to_be_bytes()));
        for _ in 0..WINDOW / 16_384 {
            http2.follow(&frame_of(1, DATA, 0, &[0; 16_384]), &rules()).unwrap();
        }
        assert_eq!(lasts(&mut http2).await, 86_400);
        http2.wrote(&frame_of(1, WINDOW_UPDATE, 0, &[0, 0, 0, 1]));
        assert!((29..32).contains(&lasts(&mut http2).await));
        // Nor one that all streams together leave no room.
        let mut http2 = begun(&[1, 3]);
        for _ in 0..4 {
            http2.follow(&frame_of(1, DATA, 0, &[0; 16_384]), &rules()).unwrap();
        }
        assert_eq!(lasts(&mut http2).await, 86_400);
    }

    #[tokio::test(start_paused = true)]
    async fn each_body_that_was_begun_has_its_price_whichever_moves() {
        async fn trickle(streams: &[u32], octets: usize) -> bool {
            let mut http2 = begun(streams);
            for _ in 0..600 {
                let mut timer = Timer::default();
                let patience = std::future::poll_fn(|cx| http2.poll_patience(cx, &rules(), &mut timer));
                if tokio::time::timeout(std::time::Duration::from_secs(1), patience).await.is_ok() {
                    return false;
                }
                http2.wrote(&frame_of(0, WINDOW_UPDATE, 0, &[0, 0, 4, 0]));
                http2.wrote(&frame_of(1, WINDOW_UPDATE, 0, &[0, 0, 4, 0]));
                http2.follow(&frame_of(1, DATA, 0, &vec![0; octets]), &rules()).unwrap();
            }
            true
        }
        assert!(trickle(&[1], 110).await);
        assert!(!trickle(&[1], 50).await);
        assert!(trickle(&[1, 3], 220).await);
        assert!(!trickle(&[1, 3], 110).await, "the second costs as much as the first");
    }
}
