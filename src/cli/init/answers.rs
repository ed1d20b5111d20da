//! What `icm init` has to be told: from its flags, else from questions at the terminal. Without a terminal a missing flag is
//! an error, so that a script never waits for an answer.

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;

use super::InitArgs;
use super::error::InitError;
use crate::cli::password::{self, PasswordError};
use crate::config::settings::Secret;

/// The server to read, as the administrator wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WantedServer {
    /// `None`: HTTPS is tried first, then HTTP.
    pub(super) https: Option<bool>,
    /// Without the brackets of IPv6.
    pub(super) host: String,
    pub(super) port: Option<u16>,
}

/// The user with whom Domino is read.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) user: String,
    pub(super) password: Secret,
    /// The file that has the password already.
    pub(super) file: Option<PathBuf>,
}

impl WantedServer {
    /// Parses `https://web1.acme.example`, `web1.acme.example:8080` and `[2001:db8::1]`.
    pub(super) fn parse(text: &str) -> Result<Self, InitError> {
        let wrong = |why: &str| {
            InitError::Usage(format!(
                "`{text}` is not a server: {why}; write --server https://web1.acme.example"
            ))
        };
        if text.trim().parse::<std::net::Ipv6Addr>().is_ok() {
            return Err(wrong("an IPv6 address is written in brackets"));
        }
        let uri: http::Uri = text.trim().parse().map_err(|_| wrong("it is neither a URL nor a host name"))?;
        let https = match uri.scheme_str() {
            None => None,
            Some("https") => Some(true),
            Some("http") => Some(false),
            Some(_) => return Err(wrong("only http and https are possible")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("a user belongs into --user"));
        }
        if uri.query().is_some() || !matches!(uri.path(), "" | "/") {
            return Err(wrong("it has a path, but only the server is needed"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16();
        // The port of `localhost:99999` is none for the library.
        let has_port = authority.as_str().strip_prefix(authority.host()).is_some_and(|rest| !rest.is_empty());
        if port == Some(0) || (port.is_none() && has_port) {
            return Err(wrong("its port is not 1 to 65535"));
        }
        Ok(Self { https, host, port })
    }
}

/// Questions are asked at the terminal, unless `--yes` forbids it.
pub(super) fn may_ask(arguments: &InitArgs) -> bool {
    !arguments.yes && std::io::stdin().is_terminal()
}

/// A missing flag where nobody can be asked.
fn missing(flag: &str) -> InitError {
    InitError::Usage(format!(
        "{flag} is missing, and nobody can be asked: standard input is no terminal, or --yes is given"
    ))
}

pub(super) fn server(arguments: &InitArgs) -> Result<WantedServer, InitError> {
    match &arguments.server {
        Some(text) => WantedServer::parse(text),
        None if may_ask(arguments) => {
            WantedServer::parse(&ask("A Domino server of the cluster (URL or host name): ")?)
        }
        None => Err(missing("--server URL")),
    }
}

/// `None`: Domino is read as Anonymous.
pub(super) fn account(arguments: &InitArgs) -> Result<Option<Account>, InitError> {
    if arguments.anonymous {
        return Ok(None);
    }
    let user = match &arguments.user {
        Some(user) => user.trim().to_owned(),
        None if may_ask(arguments) => ask("User with Reader access to cldbdir.nsf (empty: Anonymous): ")?,
        None => return Err(missing("--user NAME (or --anonymous)")),
    };
    if user.is_empty() {
        return Ok(None);
    }
    let typed = |error: PasswordError| InitError::Usage(error.to_string());
    let (password, file) = match &arguments.password_file {
        Some(file) => (password::read(file).map_err(typed)?, Some(file.clone())),
        None if may_ask(arguments) => (password::ask(&user).map_err(typed)?, None),
        None => return Err(missing("--password-file FILE")),
    };
    Ok(Some(Account { user, password, file }))
}

/// Whether the password may be sent to this server in clear text.
pub(super) fn allows_plaintext(arguments: &InitArgs, url: &str) -> Result<bool, InitError> {
    if arguments.allow_plaintext {
        return Ok(true);
    }
    if !may_ask(arguments) {
        return Ok(false);
    }
    let question = format!("{url} is plain HTTP: everyone on the way can read the password. Send it? [y/N] ");
    Ok(ask(&question)?.to_ascii_lowercase().starts_with('y'))
}

/// Prints to standard error, so that standard output has the result only.
fn ask(question: &str) -> Result<String, InitError> {
    let failed = |error: std::io::Error| InitError::Usage(format!("no answer could be read: {error}"));
    let mut stderr = std::io::stderr();
    write!(stderr, "{question}").and_then(|()| stderr.flush()).map_err(failed)?;
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line).map_err(failed)?;
    if read == 0 {
        return Err(InitError::Usage("no answer was given".to_owned()));
    }
    Ok(line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_url_or_a_host_name() {
        let parsed = |text: &str| WantedServer::parse(text).map(|s| (s.https, s.host, s.port)).ok();
        let web1 = || "web1.acme.example".to_owned();
        assert_eq!(parsed("https://web1.acme.example"), Some((Some(true), web1(), None)));
        assert_eq!(parsed(" http://web1.acme.example:81/ "), Some((Some(false), web1(), Some(81))));
        assert_eq!(parsed("web1.acme.example"), Some((None, web1(), None)));
        assert_eq!(parsed("web1.acme.example:8080"), Some((None, web1(), Some(8080))));
        assert_eq!(parsed("https://[2001:db8::1]:444"), Some((Some(true), "2001:db8::1".into(), Some(444))));
        for wrong in [
            "",
            "/",
            "ftp://web1",
            "https://",
            "http://web1/names.nsf",
            "http://u:p@web1",
            "web1:0",
            "web1:99999",
            "https://web1:99999",
            "::1",
            "a b",
            "https://web1?x",
        ] {
            assert!(WantedServer::parse(wrong).is_err(), "{wrong}");
        }
    }
}
