//! Why the modification time of a replica is unknown, in the words of events, `check --probe` and the metrics.

use std::fmt;

/// Why a reading gave no modification time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnknownModified {
    /// The response has no `Last-Modified`, as pages with computed parts.
    NoLastModified,
    /// `Last-Modified` is the time of the response: it is computed, or the database was modified a moment ago.
    EqualsDate,
    /// The time is in the future of the server's own clock.
    LaterThanDate,
    /// The response has no `Date` (or the document no `time`), so that the time cannot be converted.
    NoDate,
    /// The account may not open the database.
    NotAuthorised,
    /// The server has no such database.
    NotFound,
    /// The database redirects, so that the header is not about it.
    Redirect,
    /// A login form came instead of the database.
    LoginPage,
    /// The server's clock moved against ours.
    ClockMoved,
    /// The response took so long that the time cannot be converted.
    Slow,
    /// The reading itself modifies the database (WebQueryOpen agents).
    MovedByReading,
    /// The server has several copies of the database.
    SeveralCopies,
    /// The response has another status.
    Status(u16),
}

impl UnknownModified {
    /// The value of the label `result` in the metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoLastModified => "no_last_modified",
            Self::EqualsDate => "equals_date",
            Self::LaterThanDate => "later_than_date",
            Self::NoDate => "no_date",
            Self::NotAuthorised => "not_authorised",
            Self::NotFound => "not_found",
            Self::Redirect => "redirect",
            Self::LoginPage => "login_page",
            Self::ClockMoved => "clock_moved",
            Self::Slow => "slow",
            Self::MovedByReading => "moved_by_reading",
            Self::SeveralCopies => "several_copies",
            Self::Status(_) => "status",
        }
    }
}

impl fmt::Display for UnknownModified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoLastModified => "no Last-Modified",
            Self::EqualsDate => "Last-Modified equals Date, so it may be computed",
            Self::LaterThanDate => "the time is later than the server's own clock",
            Self::NoDate => "no time of the server itself, so that its clock is unknown",
            Self::NotAuthorised => "not authorised",
            Self::NotFound => "no such database",
            Self::Redirect => "redirects",
            Self::LoginPage => "a login page",
            Self::ClockMoved => "the server's clock moved",
            Self::Slow => "answered too slowly to convert its time",
            Self::MovedByReading => "modified by being read",
            Self::SeveralCopies => "several copies on one server",
            Self::Status(status) => return write!(f, "answered with status {status}"),
        })
    }
}
