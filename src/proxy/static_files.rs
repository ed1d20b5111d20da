//! Files of a route's folder as responses. Looking up and reading them may block, so both happen on the threads that tokio
//! has for it; a file is read piece by piece, as fast as its client takes it.

use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use bytes::BytesMut;
use chrono::{DateTime, Utc};
use http::{HeaderValue, Method, header};
use pingora::{Error, ErrorType, OrErr, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;
use tokio::io::AsyncReadExt;

use crate::config::settings::StaticFiles;
use crate::domain::directory::db_path::{self, FoldBuffer};
use crate::domain::rules::{RequestMatch, file_path};
use crate::edge::pending_responses;
use crate::edge::raw_request::field_values;
use crate::pages;
use crate::util::log_interval::LogInterval;
use crate::util::media_type;

/// A larger file is read in pieces of this size.
const PIECE_BYTES: usize = 64 * 1024;
/// One log line about files that cannot be read in this time, because clients could fill the log.
const UNREADABLE_LOG_INTERVAL_MS: u64 = 60_000;
/// Where a certificate authority looks for the answer to its challenge, folded.
const ACME_CHALLENGE: &[u8] = b".well-known/acme-challenge/";

/// A request for a file of a folder.
#[derive(Debug)]
pub struct FileRequest {
    files: Arc<StaticFiles>,
    /// Below the folder; `None` if the URL names no file that may be sent.
    path: Option<PathBuf>,
    /// Whether the URL ends with a slash, as that of a folder must.
    names_folder: bool,
    /// Whether it is the challenge of a certificate authority.
    pub(super) is_acme_challenge: bool,
}

/// What the folder has for a request.
pub(super) enum FoundFile {
    File(OpenFile),
    /// A folder, whose links need the slash at the end of its URL.
    FolderWithoutSlash,
    Nothing,
    /// It exists, but the system does not let it be read; a log line says why.
    Unreadable,
}

/// An opened file and what its head says.
pub(super) struct OpenFile {
    file: std::fs::File,
    length: u64,
    modified: Option<DateTime<Utc>>,
    etag: HeaderValue,
    content_type: HeaderValue,
}

impl FileRequest {
    /// The file that stands for the path of a URL, behind the longest prefix of the condition that covers it.
    pub(super) fn new(files: &Arc<StaticFiles>, path: &[u8], condition: &RequestMatch) -> Self {
        let mut folded = FoldBuffer::default();
        let folded = db_path::fold_url_path(path, &mut folded);
        Self {
            files: Arc::clone(files),
            path: file_path(path, condition.prefix_segments(folded)),
            names_folder: folded.is_empty() || folded.ends_with(b"/"),
            is_acme_challenge: folded.starts_with(ACME_CHALLENGE),
        }
    }

    /// What an explanation says about it. The file itself is not looked up.
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.path {
            Some(path) => format!("file: {}", self.files.folder.join(path).display()),
            None => "no file: the name is hidden, or leads out of the folder".to_owned(),
        }
    }

    /// Opens the file, if there is one that may be sent.
    pub(super) async fn open(&self) -> FoundFile {
        let Some(path) = self.path.clone() else { return FoundFile::Nothing };
        let (files, names_folder) = (Arc::clone(&self.files), self.names_folder);
        let found = tokio::task::spawn_blocking(move || find(&files, &path, names_folder)).await;
        let found = found.unwrap_or_else(|panicked| Err(std::io::Error::other(panicked)));
        found.unwrap_or_else(|error| {
            self.log_unreadable(&error);
            FoundFile::Unreadable
        })
    }

    fn log_unreadable(&self, error: &std::io::Error) {
        static INTERVAL: LogInterval = LogInterval::new(UNREADABLE_LOG_INTERVAL_MS);
        if INTERVAL.is_due() {
            let file = self.files.folder.join(self.path.as_deref().unwrap_or(Path::new("")));
            log::warn!(target: "icm::proxy", "cannot read {}: {error}; clients get status 500", file.display());
        }
    }
}

fn find(files: &StaticFiles, path: &Path, names_folder: bool) -> std::io::Result<FoundFile> {
    let nothing_if_absent = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidFilename => Ok(FoundFile::Nothing),
        // Links in a circle.
        _ if error.raw_os_error() == Some(nix::errno::Errno::ELOOP as i32) => Ok(FoundFile::Nothing),
        _ => Err(error),
    };
    let found = || -> std::io::Result<FoundFile> {
        let root = files.folder.canonicalize()?;
        let mut real = root.join(path).canonicalize()?;
        let mut metadata = std::fs::metadata(&real)?;
        if metadata.is_dir() {
            let Some(index) = &files.index else { return Ok(FoundFile::Nothing) };
            real = real.join(&**index).canonicalize()?;
            metadata = std::fs::metadata(&real)?;
            if !names_folder && metadata.is_file() && real.starts_with(&root) {
                return Ok(FoundFile::FolderWithoutSlash);
            }
        } else if names_folder {
            return Ok(FoundFile::Nothing);
        }
        // A link must not lead out of the folder. Only files are opened: a pipe would wait for a writer.
        if !real.starts_with(&root) || !metadata.is_file() {
            return Ok(FoundFile::Nothing);
        }
        open(files, &real).map(|file| file.map_or(FoundFile::Nothing, FoundFile::File))
    };
    found().or_else(nothing_if_absent)
}

/// Opens a path without links. `None` if something else took the place of the file meanwhile.
fn open(files: &StaticFiles, real: &Path) -> std::io::Result<Option<OpenFile>> {
    let flags = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK;
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags.bits()).open(real)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(None);
    }
    let content_type = content_type(files, real);
    let (length, modified) = (metadata.len(), modified(&metadata));
    Ok(Some(OpenFile { file, length, modified, etag: etag(&metadata), content_type }))
}

/// In whole seconds, as the field has them. A time in the future is left out (RFC 9110 section 8.8.2.1).
fn modified(metadata: &Metadata) -> Option<DateTime<Utc>> {
    let since = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    let at = DateTime::from_timestamp(i64::try_from(since.as_secs()).ok()?, 0)?;
    (at <= Utc::now()).then_some(at)
}

fn etag(metadata: &Metadata) -> HeaderValue {
    let (secs, nanos) = (metadata.mtime(), metadata.mtime_nsec());
    let text = format!("\"{secs:x}-{nanos:x}-{:x}-{:x}\"", metadata.ino(), metadata.len());
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

fn content_type(files: &StaticFiles, path: &Path) -> HeaderValue {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    let own = files.content_types.iter().find(|(of, _)| **of == *extension);
    own.map_or_else(|| HeaderValue::from_static(media_type::of_extension(&extension)), |(_, own)| own.clone())
}

impl OpenFile {
    /// The head of the response: 304 if the client has this file already.
    pub(super) fn head(&self, request: &RequestHeader) -> Result<ResponseHeader> {
        let status = if is_unchanged(request, &self.etag, self.modified) { 304 } else { 200 };
        let mut head = ResponseHeader::build(status, Some(8))?;
        head.insert_header(header::SERVER, pages::SERVER_NAME)?;
        head.insert_header(header::ETAG, self.etag.clone())?;
        if let Some(modified) = self.modified {
            let date = modified.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
            head.insert_header(header::LAST_MODIFIED, date)?;
        }
        if status == 200 {
            head.insert_header(header::CONTENT_TYPE, self.content_type.clone())?;
            head.insert_header(header::CONTENT_LENGTH, self.length)?;
            head.insert_header(header::ACCEPT_RANGES, HeaderValue::from_static("none"))?;
            head.insert_header(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))?;
        }
        Ok(head)
    }

    /// Sends the head and the content.
    ///
    /// # Errors
    /// The client left, or the file became shorter.
    pub(super) async fn send(self, session: &mut Session, head: ResponseHeader) -> Result<()> {
        let has_body = session.req_header().method == Method::GET && head.status == 200 && self.length > 0;
        session.write_response_header(Box::new(head), !has_body).await?;
        if !has_body {
            return Ok(());
        }
        let mut file = tokio::fs::File::from_std(self.file).take(self.length);
        let (mut left, mut waiting) = (self.length, None);
        while left > 0 {
            let mut piece =
                BytesMut::with_capacity(usize::try_from(left).map_or(PIECE_BYTES, |l| l.min(PIECE_BYTES)));
            let read =
                file.read_buf(&mut piece).await.or_err(ErrorType::FileReadError, "a file of a route")?;
            if read == 0 {
                return Error::e_explain(ErrorType::FileReadError, "a file became shorter while it was sent");
            }
            left = left.saturating_sub(read as u64);
            let piece = pending_responses::track_chunk(&mut waiting, piece.freeze());
            session.write_response_body(Some(piece), left == 0).await?;
        }
        Ok(())
    }
}

/// Whether a conditional request names what the client would get (RFC 9110 section 13.2.2).
pub(super) fn is_unchanged(
    request: &RequestHeader,
    etag: &HeaderValue,
    modified: Option<DateTime<Utc>>,
) -> bool {
    let mut tags = field_values(request, "if-none-match").peekable();
    if tags.peek().is_some() {
        let opaque = |tag: &'_ [u8]| tag.strip_prefix(b"W/").unwrap_or(tag).to_vec();
        let own = opaque(etag.as_bytes());
        let mut listed = tags.flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
        return listed.any(|tag| tag == b"*" || opaque(tag) == own);
    }
    let Some(modified) = modified else { return false };
    let since = field_values(request, "if-modified-since").next().and_then(|v| std::str::from_utf8(v).ok());
    let since = since.and_then(|text| DateTime::parse_from_rfc2822(text.trim()).ok());
    since.is_some_and(|since| modified <= since)
}
