//! Reads a complete view page by page, with one page in memory at a time.
//!
//! Domino returns at most *Maximum lines per view page* rows (default 1000) whatever `Count` asks for, so the reader
//! goes on until a page is empty (<http://browniesblog.com/A55CBC/blog.nsf/dx/06132011094107AMMBRVSA.htm>).
//!
//! `Start` is the position of a row, dotted below categories. A categorised view is continued from the position of the
//! last row, which the server then repeats and the reader drops. If the page does not begin with that row, the server
//! counts rows instead, and the reader does so too.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::{Categories, Page, PageError, Row, parse};
use crate::config::settings::{Auth, ViewFormat};
use crate::discovery::domino::client::DominoClient;
use crate::discovery::domino::fault::{Fault, FetchError};
use crate::discovery::domino::login::{self, LoginError, LoginSessions};
use crate::discovery::domino::request::{DominoRequest, encode_database_path, encode_segment};

/// Domino's own default limit.
const ROWS_PER_REQUEST: usize = 1000;
/// How often a reading starts again because the view changed meanwhile.
const MAX_RESTARTS: u32 = 3;
/// Long, because Domino may have to build the index of a large view first.
const PAGE_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_PAGE_BYTES: usize = 32 << 20;
/// Ends the reading of a view that never ends.
const MAX_PAGES: usize = 20_000;

/// How long all pages of a view may take together. Without it, a server that sends each page just before its timeout
/// could keep the reader busy for days. The limit grows with the rows received, so that a slow server can still deliver
/// a directory of a million entries.
#[derive(Clone, Copy, Debug)]
pub struct ReadTimeLimit {
    /// For logins and the first page.
    pub start: Duration,
    /// Added for each row received.
    pub per_row: Duration,
    /// Upper limit, however many rows there are.
    pub max: Duration,
}

impl ReadTimeLimit {
    /// Bounds of `start`: the first page may use its full timeout.
    const START_RANGE: [Duration; 2] = [PAGE_TIMEOUT, Duration::from_secs(60)];
    /// Any healthy Domino server delivers more than a hundred rows a second.
    const PER_ROW: Duration = Duration::from_millis(10);
    /// A directory older than this is useless.
    const MAX: Duration = Duration::from_secs(3600);

    #[must_use]
    pub fn for_refresh_interval(refresh: Duration) -> Self {
        let [min, max] = Self::START_RANGE;
        Self { start: refresh.clamp(min, max), per_row: Self::PER_ROW, max: Self::MAX }
    }

    fn for_rows(self, rows: usize) -> Duration {
        let rows = u32::try_from(rows).unwrap_or(u32::MAX);
        self.start.saturating_add(self.per_row.saturating_mul(rows)).min(self.max)
    }
}

/// The server to read from.
#[derive(Clone, Copy, Debug)]
pub struct ViewSource<'a> {
    pub client: &'a DominoClient,
    pub address: SocketAddr,
    pub https: bool,
    /// For the Host header and SNI; empty = the address.
    pub hostname: &'a str,
    /// Path before the database, for a server behind another proxy; empty or `/` = none.
    pub base: &'a str,
    pub auth: &'a Auth,
    pub sessions: &'a LoginSessions,
    pub time_limit: ReadTimeLimit,
}

/// The view to read.
#[derive(Clone, Copy, Debug)]
pub struct ViewRequest<'a> {
    pub database: &'a str,
    pub name: &'a str,
    pub format: ViewFormat,
    /// Sends `&ExpandView`, which shows the documents below categories.
    pub expand: bool,
}

/// Receives the documents, with the values of their categories filled in.
pub trait RowSink {
    /// Drops all rows, because the reading starts again.
    fn reset(&mut self);
    fn accept_row(&mut self, row: Row);
}

/// How complete a reading is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadSummary {
    /// Documents passed to the sink.
    pub rows: usize,
    /// Why rows are missing, if the view announces more than it returns.
    pub truncated: Option<String>,
    /// Why rows may be duplicated or missing, if the view kept changing.
    pub inconsistency: Option<String>,
}

/// Why a view could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// A page could not be fetched, or access was refused.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// The response is not a page of view entries.
    #[error("{url}: {reason}")]
    Page { url: String, reason: PageError },
    /// The reading exceeds its [`ReadTimeLimit`].
    #[error("{url}: the view is too slow, stopped after {} with {rows} rows", humantime::format_duration(*.after))]
    TooSlow { url: String, after: Duration, rows: usize },
}

impl ReadError {
    /// True if the server has no such database or view.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    /// True if no connection was established.
    #[must_use]
    pub fn is_connect(&self) -> bool {
        matches!(self, Self::Login(LoginError::Fetch(error)) if error.fault.is_connect())
    }

    fn status(&self) -> Option<u16> {
        match self {
            Self::Login(LoginError::Fetch(FetchError { fault: Fault::Status(status), .. })) => Some(*status),
            _ => None,
        }
    }
}

/// Reads a complete view.
///
/// # Errors
/// When any page cannot be read. The rows in the sink are then useless.
pub async fn read(
    source: &ViewSource<'_>,
    view: &ViewRequest<'_>,
    sink: &mut impl RowSink,
) -> Result<ReadSummary, ReadError> {
    let mut restarts = 0;
    let mut progress = ReadProgress { began: Instant::now(), rows: 0 };
    loop {
        sink.reset();
        let last_try = restarts == MAX_RESTARTS;
        if let Some(summary) = read_once(source, view, sink, &mut progress, last_try).await? {
            return Ok(summary);
        }
        restarts += 1;
    }
}

/// Time and rows of all passes together.
struct ReadProgress {
    began: Instant,
    rows: usize,
}

/// Reads the view once; `None` if `toplevelentries` changed meanwhile and another try is left.
async fn read_once(
    source: &ViewSource<'_>,
    view: &ViewRequest<'_>,
    sink: &mut impl RowSink,
    progress: &mut ReadProgress,
    last_try: bool,
) -> Result<Option<ReadSummary>, ReadError> {
    let mut cursor = Cursor::default();
    let mut categories = Categories::default();
    let mut summary = ReadSummary::default();
    let mut changed = false;
    for _ in 0..MAX_PAGES {
        let mut page = match fetch_page(source, view, &cursor.start(), progress).await {
            Ok(page) => page,
            // A server that counts rows may refuse a dotted position.
            Err(error) if error.status().is_some() && cursor.fall_back_to_row_counts() => continue,
            Err(error) => return Err(error),
        };
        if let (Some(was), Some(is)) = (cursor.top_level_entries, page.top_level_entries)
            && was != is
        {
            if !last_try {
                return Ok(None);
            }
            changed = true;
        }
        cursor.top_level_entries = page.top_level_entries.or(cursor.top_level_entries);
        progress.rows = progress.rows.saturating_add(page.rows.len());
        if !cursor.accept_page(&mut page.rows) {
            continue;
        }
        let end = page.rows.is_empty();
        for row in page.rows {
            if let Some(row) = categories.take(row) {
                summary.rows += 1;
                sink.accept_row(row);
            }
        }
        if end || cursor.is_complete() {
            // If categories came or went meanwhile, the counts differ although no row is missing.
            summary.truncated = if changed && cursor.categorised { None } else { cursor.missing_rows() };
            summary.inconsistency = changed.then(|| "the view kept changing while it was read".to_owned());
            return Ok(Some(summary));
        }
    }
    summary.truncated = Some(format!("it has more than {MAX_PAGES} pages"));
    Ok(Some(summary))
}

/// The position of a pass within the view.
#[derive(Debug, Default)]
struct Cursor {
    top_level_entries: Option<u64>,
    received: usize,
    /// Rows received at the first level.
    top_level: u64,
    /// Some row was a category or below one.
    categorised: bool,
    /// `Start` counts rows on this server.
    counts_rows: bool,
    /// First and last row of the previous page, to detect a server that repeats itself.
    first_of_page: Option<Row>,
    last: Option<Row>,
    repeated: bool,
}

impl Cursor {
    fn uses_positions(&self) -> bool {
        self.categorised
            && !self.counts_rows
            && self.last.as_ref().is_some_and(|row| !row.position.is_empty())
    }

    fn start(&self) -> String {
        match &self.last {
            Some(last) if self.uses_positions() => last.position.clone(),
            _ => (self.received + 1).to_string(),
        }
    }

    /// Counts rows from now on, after an error response. False if the cursor did so before.
    fn fall_back_to_row_counts(&mut self) -> bool {
        let positions = self.uses_positions();
        self.counts_rows |= positions;
        positions
    }

    /// Records a page and removes the row that is repeated. False = ask for the page again, now counting rows.
    fn accept_page(&mut self, rows: &mut Vec<Row>) -> bool {
        if self.uses_positions() {
            match (rows.first(), &self.last) {
                (Some(first), Some(last)) if first.position == last.position => {
                    rows.remove(0);
                }
                _ => {
                    self.counts_rows = true;
                    return false;
                }
            }
        }
        if rows.is_empty() {
            return true;
        }
        if rows.first() == self.first_of_page.as_ref() && rows.last() == self.last.as_ref() {
            self.repeated = true;
            rows.clear();
            return true;
        }
        self.received += rows.len();
        for row in rows.iter() {
            let depth = row.depth();
            self.categorised |= row.is_category || depth > 1;
            self.top_level += u64::from(depth == 1);
        }
        self.first_of_page = rows.first().cloned();
        self.last = rows.last().cloned();
        true
    }

    /// A flat view is complete when all its rows were received; a categorised one ends with an empty page.
    fn is_complete(&self) -> bool {
        !self.categorised && self.top_level_entries.is_some_and(|all| self.received as u64 >= all)
    }

    fn missing_rows(&self) -> Option<String> {
        let all = self.top_level_entries?;
        let received = if self.categorised { self.top_level } else { self.received as u64 };
        let repeats = if self.repeated { ", then the server repeated a page" } else { "" };
        (received < all).then(|| format!("only {received} of {all} top-level entries were received{repeats}"))
    }
}

/// Fetches a page within its own timeout and what is left of the time limit.
async fn fetch_page(
    source: &ViewSource<'_>,
    view: &ViewRequest<'_>,
    start: &str,
    progress: &ReadProgress,
) -> Result<Page, ReadError> {
    let request = page_request(source, view, start);
    let deadline = progress.began + source.time_limit.for_rows(progress.rows);
    let fetch = login::fetch_authenticated(source.client, &request, source.auth, source.sessions);
    let Ok(response) = tokio::time::timeout_at(deadline, fetch).await else {
        let after = Duration::from_secs(progress.began.elapsed().as_secs());
        return Err(ReadError::TooSlow { url: request.url(), after, rows: progress.rows });
    };
    let response = response?.success(&request).map_err(LoginError::Fetch)?;
    parse(view.format, &response.body).map_err(|reason| ReadError::Page { url: request.url(), reason })
}

fn page_request(source: &ViewSource<'_>, view: &ViewRequest<'_>, start: &str) -> DominoRequest {
    let base = source.base.split('?').next().unwrap_or_default();
    let mut target = base.trim_end_matches('/').to_owned();
    target.push_str(&encode_database_path(view.database));
    target.push('/');
    target.push_str(&encode_segment(view.name));
    target.push_str("?ReadViewEntries");
    if view.format == ViewFormat::Json {
        target.push_str("&OutputFormat=JSON");
    }
    target.push_str(&format!("&Start={start}&Count={ROWS_PER_REQUEST}"));
    if view.expand {
        target.push_str("&ExpandView");
    }
    let mut request = DominoRequest::get(source.address, source.https, source.hostname, target);
    request.timeout = PAGE_TIMEOUT;
    request.max_body = MAX_PAGE_BYTES;
    request
}
