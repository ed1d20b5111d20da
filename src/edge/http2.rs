//! What an HTTP/2 connection owes by when: its preface and settings first, and the end of each header block.
//!
//! In: the client's octets, as they pass. Out: is it time to close. It follows the frames' nine-octet heads and
//! skips what they carry (<https://www.rfc-editor.org/rfc/rfc9113.html#section-4.1>); everything else about
//! HTTP/2, its floods included, is the `h2` library's. It keeps no octet.

use std::io::{Error, ErrorKind, Result};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::patience::Timer;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD: usize = 9;
const HEADERS: u8 = 0x1;
const SETTINGS: u8 = 0x4;
const CONTINUATION: u8 = 0x9;
const END_HEADERS: u8 = 0x4;

/// See the module's description.
#[derive(Debug, Default)]
pub struct Http2 {
    /// Octets of the preface that were seen.
    preface: usize,
    head: [u8; HEAD],
    /// Octets of the current frame's head that were seen.
    head_seen: usize,
    /// Octets of the current frame that are still to come behind its head.
    payload: usize,
    /// The first frame has begun.
    opened: bool,
    /// A header block has begun and not ended.
    in_block: bool,
    deadline: Option<Instant>,
}

impl Http2 {
    /// Follows octets that were read.
    ///
    /// # Errors
    /// When the connection does not begin with the preface and a SETTINGS frame.
    pub fn read(&mut self, mut octets: &[u8], patience: Duration) -> Result<()> {
        while let Some(&first) = octets.first() {
            if let Some(wanted) = PREFACE.get(self.preface) {
                if first != *wanted {
                    return Err(Error::new(ErrorKind::InvalidData, "no HTTP/2 preface"));
                }
                self.preface += 1;
                octets = octets.get(1..).unwrap_or_default();
            } else if self.payload > 0 {
                let skipped = self.payload.min(octets.len());
                self.payload -= skipped;
                octets = octets.get(skipped..).unwrap_or_default();
                self.settle();
            } else {
                if let Some(place) = self.head.get_mut(self.head_seen) {
                    *place = first;
                }
                self.head_seen += 1;
                octets = octets.get(1..).unwrap_or_default();
                if self.head_seen == HEAD {
                    self.head_seen = 0;
                    self.frame(patience)?;
                }
            }
        }
        Ok(())
    }

    fn frame(&mut self, patience: Duration) -> Result<()> {
        let [a, b, c, kind, flags, ..] = self.head;
        self.payload = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        if !self.opened {
            if kind != SETTINGS {
                return Err(Error::new(ErrorKind::InvalidData, "the first HTTP/2 frame is not SETTINGS"));
            }
            self.opened = true;
            self.deadline = None;
        }
        if kind == HEADERS || kind == CONTINUATION {
            if !self.in_block {
                self.deadline = Some(Instant::now() + patience);
            }
            self.in_block = flags & END_HEADERS == 0;
        }
        self.settle();
        Ok(())
    }

    /// A block ends with the last octet of its last frame.
    fn settle(&mut self) {
        if self.payload == 0 && !self.in_block {
            self.deadline = None;
        }
    }

    /// Ready when the client owes something for too long.
    pub fn poll_patience(&mut self, cx: &mut Context<'_>, patience: Duration, timer: &mut Timer) -> Poll<()> {
        if !self.opened && self.deadline.is_none() {
            self.deadline = Some(Instant::now() + patience);
        }
        match self.deadline {
            Some(deadline) => timer.poll(cx, deadline),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let mut out = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        out.extend(std::iter::repeat_n(0, payload));
        out
    }

    /// Fed whole, and octet by octet: both must say the same. Out: is something owed.
    async fn owes(frames: &[Vec<u8>]) -> Result<bool> {
        let octets = [PREFACE.to_vec(), frames.concat()].concat();
        let (mut whole, mut single) = (Http2::default(), Http2::default());
        let first = whole.read(&octets, LONG);
        let second = octets.iter().try_for_each(|o| single.read(&[*o], LONG));
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
        assert!(Http2::default().read(b"GET / HTTP/1.1\r\n", LONG).is_err());
    }
}
