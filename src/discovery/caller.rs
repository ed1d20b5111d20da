//! What the companion says about who asks it (`&whoami`): the user, and his mail file. It is separate from the document
//! about the server, because it is read with the cookies of that user, for one request.

use serde::Deserialize;
use serde_json::Value;

use super::domino::DominoResponse;
use super::domino::login::{is_html, is_login_page};

/// Who asked the companion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Nobody is logged in.
    Anonymous,
    /// A user, by his Domino name.
    User {
        name: String,
        /// Where his mail file is, if the companion knows it.
        mail: Option<MailFile>,
    },
}

/// The mail file of a Person document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailFile {
    /// From the data directory, with `/` between directories.
    pub path: String,
    /// The Domino name of the home server.
    pub server: Option<String>,
}

/// Why an answer says nothing about its caller.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CallerError {
    #[error("status {0}")]
    Status(u16),
    #[error("the answer is a page, not the companion's JSON: is the agent installed?")]
    Page,
    #[error("the answer is not the companion's JSON: {0}")]
    NotTheCompanion(String),
}

/// The items of the document; others are ignored.
#[derive(Deserialize)]
struct Document {
    icm_companion: Option<Value>,
    #[serde(default)]
    user: Option<Value>,
    #[serde(default)]
    mail_file: Option<Value>,
    #[serde(default)]
    mail_server: Option<Value>,
}

/// Reads an answer. A login form, and a redirect to one, mean that nobody is logged in.
///
/// # Errors
/// If the answer is not from the companion.
pub fn read(response: &DominoResponse) -> Result<Caller, CallerError> {
    match response.status {
        200..=299 => {}
        // Identity providers are reached by redirects, too, and the agent itself sends none.
        301 | 302 | 303 | 307 | 308 | 401 => return Ok(Caller::Anonymous),
        status => return Err(CallerError::Status(status)),
    }
    if is_login_page(&response.body) {
        return Ok(Caller::Anonymous);
    }
    if is_html(&response.body) {
        return Err(CallerError::Page);
    }
    let document: Document = serde_json::from_slice(&response.body)
        .map_err(|error| CallerError::NotTheCompanion(error.to_string()))?;
    if document.icm_companion.is_none() {
        return Err(CallerError::NotTheCompanion("it lacks `icm_companion`".to_owned()));
    }
    let text = |value: Option<Value>| {
        let text = value.as_ref().and_then(Value::as_str).map(str::trim).unwrap_or_default().to_owned();
        Some(text).filter(|text| !text.is_empty())
    };
    Ok(match text(document.user) {
        None => Caller::Anonymous,
        Some(name) if name.eq_ignore_ascii_case("anonymous") => Caller::Anonymous,
        Some(name) => {
            let server = text(document.mail_server);
            let path = text(document.mail_file).and_then(|path| database_path(&path));
            Caller::User { name, mail: path.map(|path| MailFile { path, server }) }
        }
    })
}

/// A Person document may have `mail\jdoe`, without the suffix. `None` for what is no path below the data directory.
fn database_path(text: &str) -> Option<String> {
    let path = text.replace('\\', "/");
    let path = path.trim_matches('/');
    let is_odd = |segment: &str| matches!(segment, "" | "." | "..") || segment.chars().any(char::is_control);
    if path.split('/').any(is_odd) {
        return None;
    }
    let has_suffix =
        path.len() > 4 && path.get(path.len() - 4..).is_some_and(|s| s.eq_ignore_ascii_case(".nsf"));
    Some(if has_suffix { path.to_owned() } else { format!("{path}.nsf") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;

    fn answer(status: u16, body: &str) -> Result<Caller, CallerError> {
        let body = bytes::Bytes::copy_from_slice(body.as_bytes());
        read(&DominoResponse { status, headers: HeaderMap::new(), body })
    }

    fn user(path: Option<&str>, server: Option<&str>) -> Result<Caller, CallerError> {
        let mail = path.map(|path| MailFile { path: path.to_owned(), server: server.map(str::to_owned) });
        Ok(Caller::User { name: "CN=Jane Doe/O=Acme".to_owned(), mail })
    }

    #[test]
    fn a_user_and_his_mail_file_are_read_and_what_is_no_path_is_unknown() {
        let with = |rest: &str| {
            answer(200, &format!("{{\n\"icm_companion\": 1\n, \"user\": \"CN=Jane Doe/O=Acme\"{rest}\n}}"))
        };
        let server = ", \"mail_server\": \"CN=Mail1/O=Acme\"";
        for path in ["mail/jdoe.nsf", "mail\\\\jdoe.nsf", "mail/jdoe", "/mail/jdoe.nsf", " mail/jdoe.nsf "] {
            let found = with(&format!(", \"mail_file\": \"{path}\"{server}"));
            assert_eq!(found, user(Some("mail/jdoe.nsf"), Some("CN=Mail1/O=Acme")), "{path}");
        }
        assert_eq!(with(", \"mail_file\": \"MAIL/JDOE.NSF\""), user(Some("MAIL/JDOE.NSF"), None));
        for nothing in ["", "null", "\"\"", "7", "\"../names.nsf\"", "\"mail//x\"", "\"a\\u0000b\"", "\"/\""]
        {
            let item = if nothing.is_empty() { String::new() } else { format!(", \"mail_file\": {nothing}") };
            assert_eq!(with(&item), user(None, None), "{nothing}");
        }
    }

    #[test]
    fn whoever_is_not_logged_in_is_anonymous_in_each_way_to_say_so() {
        let login = include_str!("../../tests/fixtures/not-authorised-login-page.html");
        for (status, body) in [
            (401, ""),
            (302, ""),
            (200, login),
            (200, "{ \"icm_companion\": 1 }"),
            (200, "{ \"icm_companion\": \"1\", \"user\": \"Anonymous\", \"mail_file\": \"mail/x.nsf\" }"),
            (200, "{ \"icm_companion\": 1, \"user\": null }"),
        ] {
            assert_eq!(answer(status, body), Ok(Caller::Anonymous), "{status} {body}");
        }
    }

    #[test]
    fn another_answer_is_an_error() {
        assert_eq!(answer(404, "{ \"icm_companion\": 1 }"), Err(CallerError::Status(404)));
        assert_eq!(answer(500, ""), Err(CallerError::Status(500)));
        assert_eq!(answer(200, "<html><body>Agent done</body></html>"), Err(CallerError::Page));
        for body in ["", "{", "[]", "{ \"user\": \"CN=Jane Doe/O=Acme\" }", "7"] {
            assert!(matches!(answer(200, body), Err(CallerError::NotTheCompanion(_))), "{body}");
        }
    }
}
