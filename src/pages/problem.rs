//! The texts of the error pages, with a stable code for programs. No text names a server, because the readers are outside
//! the cluster.

use std::borrow::Cow;

use super::format;

/// Why a request gets an error page instead of a server's response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// 503: no server can take the request, or no candidate accepted a connection.
    NoServer,
    /// 503: every replica of the database is out of service or pending delete.
    AllOutOfService {
        /// The path as the client addressed it.
        database: String,
    },
    /// 503: the URL contains a NoteID and the user's server is gone. Another replica has another document with this NoteID,
    /// so the request is not sent there
    /// (<https://help.hcltechsw.com/domino/12.0.0/admin/conf_generatingurlsthatrefertotheinternetclustermanage_c.html>).
    NoteIdServerGone {
        /// The database's own link, beginning with `/`.
        link: String,
    },
    /// 503: no server that can answer has the user's own last write to the database. The link goes on to the older
    /// replica.
    OlderThanOwnWrite {
        /// The title of the database, else its path.
        database: String,
        /// When the user wrote.
        unix_secs: u64,
        /// Whether the server with the write answers, but takes no request of this user.
        server_answers: bool,
        /// The URL of the request, beginning with `/`.
        link: String,
    },
    /// 503: every eligible server is at its in-flight limit.
    Overloaded,
    /// 503: this process is about to stop.
    Draining,
    /// 404: the directory does not know the database, and `unknown_database` or `ambiguous_path` is `not_found`.
    UnknownDatabase,
    /// 404: `home_mail` found no mail file of the user.
    NoHomeMail,
    /// 409: several databases have this path, and the method is neither GET nor HEAD.
    AmbiguousConflict,
    /// 403: a route or an access rule denies the request.
    AccessDenied,
    /// 404: there is no such file in the folder of a route, or an access rule says so.
    NotFound,
    /// 429: too many attempts to log in, from this address or for this user.
    TooManyLogins {
        /// Seconds until the next attempt may pass.
        wait_secs: u32,
    },
    /// 421: no cluster serves this Host.
    Misdirected,
    /// 502: the server failed after the request was sent to it.
    BadGateway,
    /// 502: the response is not valid HTTP.
    MalformedResponse,
    /// 504: the server did not answer in time.
    GatewayTimeout,
    /// One of the three before this, for a request that saves a document.
    FailedSave {
        /// Which of the three.
        failure: Box<Problem>,
        advice: SaveAdvice,
    },
    /// 404: the link that asks whether a save happened is too old, or not of this site.
    SaveLinkInvalid,
    /// 400, with the reason as a whole sentence.
    BadRequest(&'static str),
    MethodNotAllowed,
    RequestTimeout,
    BodyTooLarge,
    UriTooLong,
    /// 417: the request expects something other than `100-continue`.
    ExpectationFailed,
    TooManyRequests,
    HeadersTooLarge,
    NotImplemented,
    /// 500: a fault of the proxy.
    Internal,
}

/// What the user of a failed save can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SaveAdvice {
    /// Ask the servers whether the document was changed.
    Ask {
        /// The link that asks, beginning with `/`.
        link: String,
    },
    /// Look for the document: a new one cannot be asked for.
    LookForNew,
}

/// The text of an error page.
pub(super) struct ProblemText {
    pub status: u16,
    /// A stable code for programs.
    pub error: &'static str,
    pub title: &'static str,
    pub message: Cow<'static, str>,
    pub retry_after: Option<u32>,
}

/// The problems without a variable part.
pub(super) const FIXED_ERRORS: [Problem; 22] = [
    Problem::NoServer,
    Problem::Overloaded,
    Problem::Draining,
    Problem::UnknownDatabase,
    Problem::NoHomeMail,
    Problem::AmbiguousConflict,
    Problem::AccessDenied,
    Problem::NotFound,
    Problem::Misdirected,
    Problem::BadGateway,
    Problem::MalformedResponse,
    Problem::GatewayTimeout,
    Problem::SaveLinkInvalid,
    Problem::MethodNotAllowed,
    Problem::RequestTimeout,
    Problem::BodyTooLarge,
    Problem::UriTooLong,
    Problem::ExpectationFailed,
    Problem::TooManyRequests,
    Problem::HeadersTooLarge,
    Problem::NotImplemented,
    Problem::Internal,
];

impl Problem {
    /// The status of the response.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.text().status
    }

    /// The stable code for programs: `no_server`, `bad_gateway`.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        self.text().error
    }

    /// One table of all texts.
    pub(super) fn text(&self) -> ProblemText {
        let (status, error, title, message, retry_after) = match self {
            Self::NoServer => (
                503,
                "no_server",
                "No server is available",
                "None of the servers that could answer this request is available at the moment. \
                 Please try again shortly.",
                // A server is back after two successful probes, five seconds apart.
                Some(10),
            ),
            Self::AllOutOfService { database } => {
                let message = format!(
                    "Every replica of {database} was taken out of service by an administrator. \
                     It can be opened again when one of them is back in service."
                );
                return ProblemText {
                    status: 503,
                    error: "out_of_service",
                    title: "This database is out of service",
                    message: Cow::Owned(message),
                    retry_after: Some(300),
                };
            }
            Self::NoteIdServerGone { .. } => (
                503,
                "note_id_server_gone",
                "The server you were working with is not available",
                "This address contains a NoteID, which means another document in another replica of the database. \
                 The request was therefore not sent to another server. Open the database to continue.",
                Some(30),
            ),
            Self::OlderThanOwnWrite { database, unix_secs, server_answers, .. } => {
                let server = if *server_answers { "is not available" } else { "does not answer" };
                let time = format::utc_time(*unix_secs);
                let message = format!(
                    "A request of {time} UTC that may have changed {database} went to a server that {server}. \
                     This copy is older."
                );
                return ProblemText {
                    status: 503,
                    error: "older_than_own_write",
                    title: "Your last change may not be here yet",
                    message: Cow::Owned(message),
                    // The change arrives when the server is back.
                    retry_after: Some(30),
                };
            }
            Self::Overloaded => (
                503,
                "overloaded",
                "The servers are busy",
                "All servers that could answer this request are at their limit. Please try again shortly.",
                Some(2),
            ),
            Self::Draining => (
                503,
                "draining",
                "This site is being restarted",
                "The service is stopping. Please try again shortly.",
                Some(5),
            ),
            Self::UnknownDatabase => (
                404,
                "unknown_database",
                "There is no such database",
                "There is no database at this address. Please check the spelling.",
                None,
            ),
            Self::NoHomeMail => (
                404,
                "no_home_mail",
                "No mail file is known for you",
                "Your entry in the directory names no mail file. Please ask your administrator.",
                None,
            ),
            Self::AmbiguousConflict => (
                409,
                "ambiguous_path",
                "More than one database has this address",
                "Several databases have the same path, and this request does not say which one it is for. \
                 Open the address in a browser and choose one, or use the replica ID.",
                None,
            ),
            Self::Misdirected => (
                421,
                "misdirected",
                "This site is not served here",
                "The host name of this request does not belong to a site that is served here.",
                None,
            ),
            Self::AccessDenied => (
                403,
                "access_denied",
                "This page is not available here",
                "Requests for this address are not allowed from here.",
                None,
            ),
            Self::NotFound => (
                404,
                "not_found",
                "There is no such page",
                "There is nothing at this address. Please check that it is spelled correctly.",
                None,
            ),
            Self::TooManyLogins { wait_secs } => (
                429,
                "too_many_logins",
                "Too many attempts to sign in",
                "There were too many attempts to sign in from your address or with this user name. \
                 Please wait some minutes and try again.",
                Some(*wait_secs),
            ),
            Self::BadGateway => (
                502,
                "bad_gateway",
                "The server failed while responding",
                "The connection to the server broke after the request was sent. The request was not repeated, \
                 because it may have been carried out. Please check before you repeat it.",
                None,
            ),
            Self::MalformedResponse => (
                502,
                "malformed_response",
                "The server's response could not be understood",
                "The server's response is not valid HTTP. The request was not repeated, because it may have been \
                 carried out. Please check before you repeat it.",
                None,
            ),
            Self::GatewayTimeout => (
                504,
                "gateway_timeout",
                "The server did not respond in time",
                "The request was sent, but no response came in time. The request was not repeated, because it may \
                 have been carried out. Please check before you repeat it.",
                None,
            ),
            Self::FailedSave { failure, advice } => {
                let text = failure.text();
                let more = match advice {
                    SaveAdvice::Ask { .. } => "",
                    SaveAdvice::LookForNew => {
                        " If it creates a document, look for that in a view: from here it cannot be found out \
                         whether there is one."
                    }
                };
                return ProblemText { message: Cow::Owned(format!("{}{more}", text.message)), ..text };
            }
            Self::SaveLinkInvalid => (
                404,
                "save_link_invalid",
                "This link is not valid any more",
                "Whether a save happened can be asked for half an hour after it. Open the document to see whether it \
                 has your change.",
                None,
            ),
            Self::BadRequest(reason) => {
                (400, "bad_request", "This request cannot be understood", *reason, None)
            }
            Self::MethodNotAllowed => (
                405,
                "method_not_allowed",
                "This method is not allowed",
                "The method of this request is not served here.",
                None,
            ),
            Self::RequestTimeout => (
                408,
                "request_timeout",
                "The request took too long",
                "The request did not arrive in time. Please try again.",
                None,
            ),
            Self::BodyTooLarge => (
                413,
                "body_too_large",
                "The request is too large",
                "The content of this request is larger than this site accepts.",
                None,
            ),
            Self::UriTooLong => (
                414,
                "uri_too_long",
                "The address is too long",
                "The address of this request is longer than this site accepts.",
                None,
            ),
            Self::ExpectationFailed => (
                417,
                "expectation_failed",
                "This expectation cannot be met",
                "The request expects something that is not supported here.",
                None,
            ),
            Self::TooManyRequests => (
                429,
                "too_many_requests",
                "Too many requests",
                "Too many requests came from your address. Please wait a moment and try again.",
                Some(1),
            ),
            Self::HeadersTooLarge => (
                431,
                "headers_too_large",
                "The request's header is too large",
                "The header of this request is larger than this site accepts. Deleting this site's cookies \
                 may help.",
                None,
            ),
            Self::NotImplemented => (
                501,
                "not_implemented",
                "This is not supported",
                "This request uses something that is not supported here.",
                None,
            ),
            Self::Internal => (
                500,
                "internal",
                "Something went wrong here",
                "The request failed because of an error in this service. Please try again.",
                None,
            ),
        };
        ProblemText { status, error, title, message: Cow::Borrowed(message), retry_after }
    }
}
