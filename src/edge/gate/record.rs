//! Notes where the lines of a head are while the gate checks it, so that a plain request is not parsed a second time.
//!
//! Only heads of plain requests are noted. It is separate because the checks must not depend on it.

use smallvec::SmallVec;

use super::grammar::trim_ows;

/// Lines that need no memory of their own; browsers send 10 to 20.
const INLINE_LINES: usize = 24;

/// Where one field line of a head is: positions and lengths in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RawLine {
    name: u32,
    value: u32,
    value_len: u32,
    name_len: u16,
    /// The line is also an entry of the header map, because a hook reads, changes or drops such fields.
    pub kept: bool,
}

impl RawLine {
    #[must_use]
    pub fn name<'h>(&self, head: &'h [u8]) -> &'h [u8] {
        part(head, self.name, u32::from(self.name_len))
    }

    #[must_use]
    pub fn value<'h>(&self, head: &'h [u8]) -> &'h [u8] {
        part(head, self.value, self.value_len)
    }
}

fn part(head: &[u8], start: u32, length: u32) -> &[u8] {
    let at = |position: u32| usize::try_from(position).unwrap_or(usize::MAX);
    head.get(at(start)..at(start.saturating_add(length))).unwrap_or_default()
}

/// The positions in the head of a plain request: HTTP/1.1 with a path as its target, without a body, `Upgrade`, `Expect`,
/// `TE` and `Trailer`, with no option of `Connection` except `close` and `keep-alive`, and not OPTIONS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeadRecord {
    method_len: u32,
    target_len: u32,
    /// All field lines in the order of the head.
    pub lines: SmallVec<[RawLine; INLINE_LINES]>,
    /// The client closes the connection after this request.
    pub closes: bool,
}

impl HeadRecord {
    #[must_use]
    pub fn method<'h>(&self, head: &'h [u8]) -> &'h [u8] {
        part(head, 0, self.method_len)
    }

    #[must_use]
    pub fn target<'h>(&self, head: &'h [u8]) -> &'h [u8] {
        part(head, self.method_len.saturating_add(1), self.target_len)
    }
}

/// Records heads if it is switched on. `record` is `None` between heads and as soon as one is not plain.
#[derive(Clone, Debug, Default)]
pub(super) struct Recorder {
    pub is_on: bool,
    pub record: Option<Box<HeadRecord>>,
}

impl Recorder {
    /// Begins a head with its valid request line, line end included.
    pub fn begin(&mut self, line: &[u8]) {
        self.record = None;
        if !self.is_on {
            return;
        }
        if let Some((method, target)) = plain_parts(line)
            && let (Ok(method_len), Ok(target_len)) = (u32::try_from(method), u32::try_from(target))
        {
            let lines = SmallVec::new();
            self.record = Some(Box::new(HeadRecord { method_len, target_len, lines, closes: false }));
        }
    }

    /// Notes a line of a head that begins at `line`. `head` has at least this whole line.
    pub fn field(&mut self, head: &[u8], line: usize, name: &[u8], value: &[u8]) {
        let Some(record) = &mut self.record else { return };
        let after_colon = line.saturating_add(name.len()).saturating_add(1);
        let rest = head.get(after_colon..).unwrap_or_default();
        let blanks = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let positions = (
            u32::try_from(line),
            u16::try_from(name.len()),
            u32::try_from(after_colon + blanks),
            u32::try_from(value.len()),
        );
        if let (Ok(name_at), Ok(name_len), Ok(value_at), Ok(value_len)) = positions
            && is_plain(name, value, &mut record.closes)
        {
            let kept = false;
            record.lines.push(RawLine { name: name_at, name_len, value: value_at, value_len, kept });
        } else {
            self.record = None;
        }
    }
}

/// The lengths of the method and the target, if a request with this line can be plain.
fn plain_parts(line: &[u8]) -> Option<(usize, usize)> {
    let method = memchr::memchr(b' ', line)?;
    let target = line.get(method + 1..)?.strip_suffix(b" HTTP/1.1\r\n")?;
    let is_plain = target.first() == Some(&b'/') && !line.starts_with(b"OPTIONS ");
    is_plain.then_some((method, target.len()))
}

/// Whether a request with this field can be plain. The gate has checked the field.
fn is_plain(name: &[u8], value: &[u8], closes: &mut bool) -> bool {
    let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
    match name.len() {
        2 => !is(b"TE"),
        6 => !is(b"Expect"),
        7 => !is(b"Upgrade") && !is(b"Trailer"),
        10 if is(b"Connection") => value.split(|byte| *byte == b',').map(trim_ows).all(|option| {
            let close = option.eq_ignore_ascii_case(b"close");
            *closes |= close;
            close || option.is_empty() || option.eq_ignore_ascii_case(b"keep-alive")
        }),
        14 if is(b"Content-Length") => value == b"0",
        14 => !is(b"HTTP2-Settings"),
        17 => !is(b"Transfer-Encoding"),
        _ => true,
    }
}
