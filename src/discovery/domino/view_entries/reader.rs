//! A whole view, page by page.
//!
//! In: a server, a view and where its rows go. Out: every row once, in the view's order, and a
//! [`ReadSummary`] that tells what was doubtful. Domino gives at most *Maximum lines per view page* rows
//! (default 1000) whatever `Count` says, so it asks until nothing more comes
//! (<http://browniesblog.com/A55CBC/blog.nsf/dx/06132011094107AMMBRVSA.htm>). It never holds more than one
//! page.
//!
//! `Start` is the position of a row, dotted below categories. A categorised view is therefore
//! continued from the position of the last row, which then comes once more and is dropped. Where a
//! server counts rows instead, that row does not come first, and rows are counted from there on.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::super::client::DominoClient;
use super::super::fault::{Fault, FetchError};
use super::super::login::{self, LoginError, LoginSessions};
use super::super::request::{DominoRequest, encode_database_path, encode_segment};
use super::{Categories, PageError, Row, parse};
use crate::config::settings::{Auth, ViewFormat};

/// Rows asked for at once: Domino's own default limit.
const ROWS_PER_REQUEST: usize = 1000;
/// How often a reading begins anew because the view changed meanwhile.
const MAX_RESTARTS: u32 = 3;
/// For one page: a cold view index of a large directory takes a while.
const PAGE_TIMEOUT: Duration = Duration::from_secs(30);
/// For one page.
const MAX_PAGE_BYTES: usize = 32 << 20;
/// A view that never ends is no view.
const MAX_PAGES: usize = 20_000;

/// How long all pages of a view may take together. A server that answers each page just in time would otherwise be
/// waited for during days, and no other member asked. The allowance grows with what has come, so that a directory of a
/// million entries is read from a server that takes a while for it.
#[derive(Clone, Copy, Debug)]
pub struct ReadTimeLimit {
    /// Before any row: logins, and a cold view index.
    pub start: Duration,
    /// For each row that has come.
    pub per_row: Duration,
    /// For all of them, however many.
    pub max: Duration,
}

impl ReadTimeLimit {
    /// Least and most time for the beginning: at least one page may take all of its own time.
    const START_RANGE: [Duration; 2] = [PAGE_TIMEOUT, Duration::from_secs(60)];
    /// A hundred rows a second are less than any Domino server gives that is well.
    const PER_ROW: Duration = Duration::from_millis(10);
    /// A directory older than this is of no use.
    const MAX: Duration = Duration::from_secs(3600);

    /// For what is to be read this often.
    #[must_use]
    pub fn for_refresh_interval(refresh: Duration) -> Self {
        let [least, max] = Self::START_RANGE;
        Self { start: refresh.clamp(least, max), per_row: Self::PER_ROW, max: Self::MAX }
    }

    fn for_rows(self, rows: usize) -> Duration {
        let rows = u32::try_from(rows).unwrap_or(u32::MAX);
        self.start.saturating_add(self.per_row.saturating_mul(rows)).min(self.max)
    }
}

/// A server and how to ask it.
#[derive(Clone, Copy, Debug)]
pub struct ViewSource<'a> {
    /// Connections.
    pub client: &'a DominoClient,
    /// Where to connect.
    pub address: SocketAddr,
    /// Speak TLS.
    pub https: bool,
    /// Host header, SNI; empty = the address.
    pub hostname: &'a str,
    /// Path before the database, as of a server behind another proxy; empty or `/` = none.
    pub base: &'a str,
    /// Credentials.
    pub auth: &'a Auth,
    /// Where session cookies are kept.
    pub sessions: &'a LoginSessions,
    /// For the whole reading.
    pub allowance: ReadTimeLimit,
}

/// Which view, and in which form.
#[derive(Clone, Copy, Debug)]
pub struct ViewRequest<'a> {
    /// `cldbdir.nsf`
    pub database: &'a str,
    /// `($Pathname)`
    pub name: &'a str,
    /// XML or JSON.
    pub format: ViewFormat,
    /// `&ExpandView`: show the documents below categories.
    pub expand: bool,
}

/// Takes the rows. Headings do not come; their values are carried down.
pub trait RowSink {
    /// Forget everything: the reading begins anew.
    fn reset(&mut self);
    /// One document.
    fn accept_row(&mut self, row: Row);
}

/// What a complete reading looked like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadSummary {
    /// Documents given to the sink.
    pub rows: usize,
    /// Rows are missing, as the view itself says: why.
    pub truncated: Option<String>,
    /// Rows may be there twice or not at all: why.
    pub inconsistency: Option<String>,
}

/// Why a view could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Login refused, or no access.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// An answer came, but no view entries.
    #[error("{url}: {reason}")]
    Page {
        /// What was asked for.
        url: String,
        /// What came.
        reason: PageError,
    },
    /// Pages come, but the whole would take too long.
    #[error("{url}: the view comes too slowly, given up after {} with {rows} rows", humantime::format_duration(*.after))]
    TooSlow {
        /// The page that was waited for.
        url: String,
        /// When, in whole seconds.
        after: Duration,
        /// Rows that had come by then.
        rows: usize,
    },
}

impl ReadError {
    /// True when the server knows no such database or view.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    /// True when no connection came about.
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

/// Reads all of a view.
///
/// # Errors
/// When any page cannot be read: half a view is no view. What was given to the sink is void then.
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

/// How far all passes together have come.
struct ReadProgress {
    began: Instant,
    rows: usize,
}

/// One pass; `None` when `toplevelentries` changed on the way and another try is left.
async fn read_once(
    source: &ViewSource<'_>,
    view: &ViewRequest<'_>,
    sink: &mut impl RowSink,
    progress: &mut ReadProgress,
    last_try: bool,
) -> Result<Option<ReadSummary>, ReadError> {
    let mut cursor = Cursor::default();
    let mut categories = Categories::new();
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
            // Categories that have gone or come meanwhile are no rows that the server keeps back.
            summary.truncated = if changed && cursor.categorised { None } else { cursor.missing_rows() };
            summary.inconsistency = changed.then(|| "it kept changing while it was read".to_owned());
            return Ok(Some(summary));
        }
    }
    summary.truncated = Some(format!("it has more than {MAX_PAGES} pages"));
    Ok(Some(summary))
}

/// How far a reading has come.
#[derive(Debug, Default)]
struct Cursor {
    top_level_entries: Option<u64>,
    received: usize,
    /// Rows at the first level.
    top_level: u64,
    /// Some row was a heading or lay below one.
    categorised: bool,
    /// `Start` counts rows on this server.
    counts_rows: bool,
    /// The page before, to notice a server that repeats itself.
    last: Option<Row>,
    first_of_page: Option<Row>,
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

    /// After a refusal: count rows from now on. False when that is what was done already.
    fn fall_back_to_row_counts(&mut self) -> bool {
        let positions = self.uses_positions();
        self.counts_rows |= positions;
        positions
    }

    /// Takes note of a page and removes what came before already. False: ask again, in the other way.
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

    /// A flat view is known to be complete; a categorised one ends with an empty page.
    fn is_complete(&self) -> bool {
        !self.categorised && self.top_level_entries.is_some_and(|all| self.received as u64 >= all)
    }

    fn missing_rows(&self) -> Option<String> {
        let all = self.top_level_entries?;
        let received = if self.categorised { self.top_level } else { self.received as u64 };
        let repeats = if self.repeated { ", then the server repeated itself" } else { "" };
        (received < all).then(|| format!("{received} of {all} top level entries came{repeats}"))
    }
}

/// One page, within its own time and what is left of the allowance.
async fn fetch_page(
    source: &ViewSource<'_>,
    view: &ViewRequest<'_>,
    start: &str,
    progress: &ReadProgress,
) -> Result<super::Page, ReadError> {
    let request = page_request(source, view, start);
    let until = progress.began + source.allowance.for_rows(progress.rows);
    let fetch = login::fetch_authenticated(source.client, &request, source.auth, source.sessions);
    let Ok(answer) = tokio::time::timeout_at(until, fetch).await else {
        let after = Duration::from_secs(progress.began.elapsed().as_secs());
        return Err(ReadError::TooSlow { url: request.url(), after, rows: progress.rows });
    };
    let answer = answer?.success(&request).map_err(LoginError::Fetch)?;
    parse(view.format, &answer.body).map_err(|reason| ReadError::Page { url: request.url(), reason })
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
