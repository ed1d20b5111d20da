//! Reads the files of a log: plain, gzip or zstd, in the order of their first lines. A thread of its own decompresses, and
//! no more than a few pieces are in memory, because logs are larger than that.

use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use anyhow::Context;

use crate::insight::replay::time_of;

/// The lines of one piece are replayed while the next one is read.
const PIECE_BYTES: usize = 512 * 1024;
/// Pieces that wait for the replay.
const MAX_WAITING_PIECES: usize = 4;
/// `icm` limits what clients send, so its lines are far shorter. The rest of a longer one is skipped.
const MAX_LINE_BYTES: usize = 4 << 20;
/// In which the first line with a time must be, to sort files.
const MAX_PEEKED_BYTES: u64 = 1 << 20;

/// A file of the log.
pub struct LogFile {
    /// As the arguments name it; `-` is standard input.
    pub name: String,
    /// The time of its first line, in milliseconds since 1970.
    pub first_ms: Option<u64>,
}

/// Whole lines of one file.
pub struct Piece {
    /// Its position among the files.
    pub file: usize,
    pub text: Vec<u8>,
    /// The text is the beginning of a line that is too long.
    pub is_too_long: bool,
    /// Why the file could not be read to its end.
    pub error: Option<String>,
}

/// Opens each file once, and sorts them by their first lines. Standard input comes last.
///
/// # Errors
/// If a file cannot be opened.
pub fn sorted(names: &[String]) -> anyhow::Result<Vec<LogFile>> {
    let mut files = Vec::new();
    for name in names {
        let first_ms = if name == "-" { None } else { first_time(name)? };
        files.push(LogFile { name: name.clone(), first_ms });
    }
    files.sort_by_key(|file| (file.name == "-", file.first_ms));
    Ok(files)
}

fn first_time(name: &str) -> anyhow::Result<Option<u64>> {
    let mut text = Vec::new();
    // A damaged file is reported when it is replayed.
    let _ = open(name)?.take(MAX_PEEKED_BYTES).read_to_end(&mut text);
    Ok(text.split(|byte| *byte == b'\n').find_map(|line| time_of(line).ok()))
}

/// Opens a file and recognises its compression by its first bytes.
fn open(name: &str) -> anyhow::Result<Box<dyn Read + Send>> {
    let mut file: Box<dyn Read + Send> = match name {
        "-" => Box::new(std::io::stdin()),
        path => Box::new(File::open(Path::new(path)).with_context(|| format!("cannot open {path}"))?),
    };
    let mut start = Vec::new();
    file.by_ref().take(4).read_to_end(&mut start).with_context(|| format!("cannot read {name}"))?;
    let magic = start.clone();
    let whole = BufReader::with_capacity(PIECE_BYTES, Cursor::new(start).chain(file));
    Ok(match magic.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(whole)),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::stream::read::Decoder::with_buffer(whole)?),
        _ => Box::new(whole),
    })
}

/// Starts the thread that reads the files one after the other.
pub fn read_all(files: &[LogFile]) -> Receiver<Piece> {
    let (sender, receiver) = sync_channel(MAX_WAITING_PIECES);
    let names: Vec<String> = files.iter().map(|file| file.name.clone()).collect();
    std::thread::spawn(move || {
        for (file, name) in names.iter().enumerate() {
            let error = match open(name) {
                Ok(reader) => read_pieces(file, reader, &sender).map_err(|error| error.to_string()),
                Err(error) => Err(format!("{error:#}")),
            };
            let text = Vec::new();
            let end = Piece { file, text, is_too_long: false, error: error.err() };
            if end.error.is_some() && sender.send(end).is_err() {
                return;
            }
        }
    });
    receiver
}

fn read_pieces(file: usize, mut from: impl Read, to: &SyncSender<Piece>) -> std::io::Result<()> {
    let mut text: Vec<u8> = Vec::with_capacity(PIECE_BYTES * 2);
    let mut skips_line = false;
    let send = |text: Vec<u8>, is_too_long: bool| {
        // The replay has ended.
        to.send(Piece { file, text, is_too_long, error: None }).map_err(|_| std::io::Error::other("ended"))
    };
    loop {
        let read = from.by_ref().take(PIECE_BYTES as u64).read_to_end(&mut text);
        let is_end = matches!(read, Ok(0) | Err(_));
        if skips_line {
            let end = memchr::memchr(b'\n', &text);
            text.drain(..end.map_or(text.len(), |at| at + 1));
            skips_line = end.is_none();
        }
        // The rest is the beginning of the next piece.
        let whole = if is_end { text.len() } else { memchr::memrchr(b'\n', &text).map_or(0, |at| at + 1) };
        let rest = text.split_off(whole);
        let lines = std::mem::replace(&mut text, Vec::with_capacity(PIECE_BYTES * 2));
        text.extend_from_slice(&rest);
        if !lines.is_empty() {
            send(lines, false)?;
        }
        if text.len() > MAX_LINE_BYTES {
            send(std::mem::take(&mut text), true)?;
            skips_line = true;
        }
        read?;
        if is_end {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn line(n: u64) -> String {
        format!("{{\"time\":\"2026-11-24T10:{:02}:{:02}.000Z\",\"status\":200}}\n", n / 60 % 60, n % 60)
    }

    fn read(files: &[LogFile]) -> Vec<(usize, String)> {
        let pieces = read_all(files).into_iter();
        pieces.map(|piece| (piece.file, String::from_utf8(piece.text).unwrap())).collect()
    }

    #[test]
    fn plain_and_compressed_files_are_read_in_the_order_of_their_first_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        std::fs::write(path("b"), format!("damaged\n{}", line(200))).unwrap();
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(line(100).as_bytes()).unwrap();
        let first = gz.finish().unwrap();
        // Two members, as `cat a.gz b.gz` makes.
        std::fs::write(path("c"), [first.clone(), first].concat()).unwrap();
        std::fs::write(path("a"), zstd::encode_all(line(300).as_bytes(), 1).unwrap()).unwrap();
        std::fs::write(path("empty"), "").unwrap();
        let files = sorted(&[path("a"), path("b"), path("c"), path("empty")]).unwrap();
        let names: Vec<_> = files.iter().map(|file| file.name.rsplit('/').next().unwrap()).collect();
        assert_eq!(names, ["empty", "c", "b", "a"]);
        let expected = [(1, line(100).repeat(2)), (2, format!("damaged\n{}", line(200))), (3, line(300))];
        assert_eq!(read(&files), expected);
        assert!(sorted(&[path("none")]).is_err());
    }

    #[test]
    fn a_file_of_many_pieces_is_whole_and_a_line_without_end_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log").display().to_string();
        let text: String = (0..40_000).map(line).collect();
        let long = "x".repeat(MAX_LINE_BYTES * 3);
        std::fs::write(&path, format!("{text}{long}\n{}last", line(7))).unwrap();
        let pieces: Vec<Piece> = read_all(&sorted(&[path]).unwrap()).into_iter().collect();
        let whole = pieces.iter().filter(|piece| !piece.is_too_long);
        assert_eq!(
            whole.flat_map(|p| p.text.clone()).collect::<Vec<u8>>(),
            format!("{text}{}last", line(7)).as_bytes()
        );
        let cut: Vec<_> = pieces.iter().filter(|piece| piece.is_too_long).map(|p| p.text.len()).collect();
        assert!(cut.len() == 1 && cut[0] < MAX_LINE_BYTES + 2 * PIECE_BYTES, "{cut:?}");
    }

    #[test]
    fn a_damaged_archive_is_reported_after_the_lines_that_can_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.gz").display().to_string();
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
        (0..100).for_each(|n| gz.write_all(line(n).as_bytes()).unwrap());
        let mut bytes = gz.finish().unwrap();
        bytes.truncate(bytes.len() / 2);
        std::fs::write(&path, bytes).unwrap();
        let pieces: Vec<Piece> = read_all(&sorted(&[path]).unwrap()).into_iter().collect();
        assert!(pieces.iter().any(|piece| piece.text.starts_with(line(0).as_bytes())));
        assert!(pieces.last().unwrap().error.is_some());
    }
}
