//! The replies of the admin listener. Every reply forbids caching and embedding in other sites; errors are JSON with a code
//! for programs and a message for people.

use std::borrow::Cow;

use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use serde::Serialize;
use serde_json::json;

pub const TEXT: &str = "text/plain; charset=utf-8";
pub const JSON: &str = "application/json; charset=utf-8";

#[derive(Clone, Debug)]
pub struct AdminReply {
    pub status: StatusCode,
    pub content_type: &'static str,
    pub body: Cow<'static, str>,
    /// In addition to the headers of every reply.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl AdminReply {
    #[must_use]
    pub fn text(content_type: &'static str, body: impl Into<Cow<'static, str>>) -> Self {
        Self { status: StatusCode::OK, content_type, body: body.into(), headers: Vec::new() }
    }

    /// 200 with a value as indented JSON.
    #[must_use]
    pub fn json(value: &impl Serialize) -> Self {
        let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
        text.push('\n');
        Self::text(JSON, text)
    }

    /// An error with a code for programs and a message that says what to do.
    #[must_use]
    pub fn error(status: StatusCode, code: &str, message: impl AsRef<str>) -> Self {
        Self { status, ..Self::json(&json!({ "error": code, "message": message.as_ref() })) }
    }

    /// 400: the query or the body is invalid.
    #[must_use]
    pub fn bad_query(message: impl AsRef<str>) -> Self {
        Self::error(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    /// 401: the token is missing or wrong.
    #[must_use]
    pub fn unauthorised() -> Self {
        Self::error(
            StatusCode::UNAUTHORIZED,
            "token_needed",
            "send `Authorization: Bearer TOKEN` with the token of admin.token_file, or log in on the status page",
        )
        .with(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    /// 429: too many wrong tokens came from this address.
    #[must_use]
    pub fn too_many_attempts(seconds: u64) -> Self {
        Self::error(
            StatusCode::TOO_MANY_REQUESTS,
            "too_many_attempts",
            format!("too many wrong tokens came from this address; try again in {seconds} seconds"),
        )
        .with(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// 404: no cluster has these servers.
    #[must_use]
    pub fn unknown_server(names: &str) -> Self {
        let message = format!("no cluster has a server {names}; /status lists them");
        Self::error(StatusCode::NOT_FOUND, "unknown_server", message)
    }

    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The response for Pingora; without the body for HEAD.
    #[must_use]
    pub fn response(self, head_only: bool) -> Response<Vec<u8>> {
        let length = self.body.len();
        let body = if head_only { Vec::new() } else { self.body.into_owned().into_bytes() };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::SERVER, HeaderValue::from_static(crate::pages::SERVER_NAME));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(
            HeaderName::from_static("cross-origin-resource-policy"),
            HeaderValue::from_static("same-origin"),
        );
        for (name, value) in self.headers {
            headers.insert(name, value);
        }
        response
    }
}
