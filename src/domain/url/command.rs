//! The command of a Domino URL: what stands between `?` or `!` and the first `&`.
//!
//! In: the raw query. Out: the command's name, decoded and in lower case, in a buffer of its own; so
//! reading one never allocates. What a command does to data is said in [`super::safety`], not here.

use super::argument::{first_token, is_command};
use crate::util::percent::PercentDecoder;
use std::fmt;

/// Longer than any command of Domino; what is longer has no name here and is unknown.
const MAX_NAME_LEN: usize = 40;

/// A command, or none.
///
/// `k=v` before the first `&` is an argument, so there is no command
/// (arguments follow `&` even after the first, says the Domino URL cheat sheet).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Command<'a> {
    raw: &'a [u8],
    name: [u8; MAX_NAME_LEN],
    length: u8,
}

/// The commands that need no database
/// (<https://help.hcltechsw.com/dom_designer/9.0.1/appdev/H_ABOUT_URL_COMMANDS_FOR_OPENING_SERVERS_DATABASES_AND_VIEWS.html>).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServerCommand {
    /// Lists the databases.
    OpenServer,
    /// Shows or takes the login form.
    Login,
    /// An identity provider sends the user back (SAML, OIDC).
    ProviderLogin,
    /// Shows or takes the form for another password.
    ChangePassword,
    /// Ends the session.
    Logout,
    /// Sends the browser to a server given by its Notes name.
    Redirect,
}

impl<'a> Command<'a> {
    /// Reads the command of a raw query; `None` is a URL without one.
    pub(super) fn from_query(query: Option<&'a [u8]>) -> Self {
        let token = query.map(first_token).filter(|token| is_command(token)).unwrap_or_default();
        Self::from_token(token)
    }

    /// Reads a command from its raw spelling alone.
    pub(super) fn from_token(raw: &'a [u8]) -> Self {
        let mut command = Self { raw, name: [0; MAX_NAME_LEN], length: 0 };
        let mut length = 0_u8;
        for value in PercentDecoder::new(raw).values() {
            match command.name.get_mut(usize::from(length)) {
                Some(slot) if value.is_ascii_graphic() => *slot = value.to_ascii_lowercase(),
                // No command of Domino looks like that: it keeps its raw spelling and has no name.
                _ => return command,
            }
            length += 1;
        }
        command.length = length;
        command
    }

    /// In lower case, percent-decoded; empty when there is no command, or when it has over 40 octets
    /// or others than printable ASCII.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.get(..usize::from(self.length)).and_then(|n| std::str::from_utf8(n).ok()).unwrap_or("")
    }

    /// As the client spelled it; empty when there is no command.
    #[must_use]
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// True for a URL without a command.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.raw.is_empty()
    }

    /// True when this is the command `name`, given in lower case.
    #[must_use]
    pub fn is(&self, name: &[u8]) -> bool {
        !self.is_none() && self.name().as_bytes() == name
    }

    /// The server command that this is, with or without a database before it.
    #[must_use]
    pub fn server_command(&self) -> Option<ServerCommand> {
        match self.name() {
            "openserver" => Some(ServerCommand::OpenServer),
            "login" => Some(ServerCommand::Login),
            "samllogin" | "oidclogin" => Some(ServerCommand::ProviderLogin),
            "changepassword" => Some(ServerCommand::ChangePassword),
            "logout" => Some(ServerCommand::Logout),
            "redirect" => Some(ServerCommand::Redirect),
            _ => None,
        }
    }

    /// `?Open`, `?Edit`, `?Delete` or no command at all: what is opened depends on the object's kind.
    pub(super) fn is_implicit(&self) -> bool {
        self.is_none() || matches!(self.name(), "open" | "edit" | "delete")
    }

    /// The object is a document, whatever its name looks like.
    pub(super) fn targets_document(&self) -> bool {
        matches!(self.name(), "opendocument" | "editdocument" | "deletedocument" | "savedocument")
    }

    /// The object is a design element (or the database), never a document.
    pub(super) fn targets_design_element(&self) -> bool {
        matches!(
            self.name(),
            "createdocument"
                | "openabout"
                | "openagent"
                | "openfileresource"
                | "openform"
                | "openframeset"
                | "openhelp"
                | "openicon"
                | "openimageresource"
                | "opennavigator"
                | "openpage"
                | "openview"
                | "readdesign"
                | "readentries"
                | "readform"
                | "readviewentries"
                | "runagent"
                | "searchsite"
                | "searchview"
        )
    }

    /// Reads and changes nothing, according to the Domino URL cheat sheet
    /// (<http://www.ibm.com/developerworks/lotus/library/ls-Domino_URL_cheat_sheet/>). Implicit ones
    /// are not among them: `?Open` on an agent's name runs it.
    pub(super) fn is_read_only(&self) -> bool {
        matches!(
            self.name(),
            "editdocument"
                | "login"
                | "openabout"
                | "opendatabase"
                | "opendocument"
                | "openelement"
                | "openfileresource"
                | "openform"
                | "openframeset"
                | "openhelp"
                | "openicon"
                | "openimageresource"
                | "opennavigator"
                | "openpage"
                | "openpreferences"
                | "openserver"
                | "openview"
                | "readdesign"
                | "readentries"
                | "readform"
                | "readviewentries"
                | "redirect"
                | "searchdomain"
                | "searchsite"
                | "searchview"
        )
    }

    /// A command of Domino's own, of whatever kind.
    pub(super) fn is_known(&self) -> bool {
        !self.is_none()
            && (self.is_implicit()
                || self.targets_document()
                || self.targets_design_element()
                || self.is_read_only()
                || self.server_command().is_some())
    }
}

impl fmt::Debug for Command<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.is_none(), self.name()) {
            (true, _) => f.write_str("Command(none)"),
            (false, "") => write!(f, "Command(raw `{}`)", self.raw.escape_ascii()),
            (false, name) => write!(f, "Command({name})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(query: &[u8]) -> String {
        Command::from_query(Some(query)).name().to_owned()
    }

    #[test]
    fn the_name_is_decoded_and_in_lower_case_and_ends_at_the_first_ampersand() {
        assert_eq!(name(b"OpenView"), "openview");
        assert_eq!(name(b"%4Fpen%56iew&Start=1"), "openview");
        assert!(Command::from_query(Some(b"OPENVIEW&x")).is(b"openview"));
    }

    #[test]
    fn an_argument_in_the_first_place_is_no_command() {
        for query in [&b"documentId=1&action=openDocument"[..], b"", b"&OpenView", b"OpenView="] {
            assert!(Command::from_query(Some(query)).is_none(), "{}", query.escape_ascii());
        }
        assert!(Command::from_query(None).is_none());
        assert!(!Command::from_query(None).is(b""));
    }

    #[test]
    fn what_cannot_be_a_command_of_domino_is_one_without_a_name() {
        for query in [&[b'a'; 41][..], b"Open%00View", b"Open%20View", "Öffne".as_bytes()] {
            let command = Command::from_query(Some(query));
            assert!(!command.is_none() && command.name().is_empty(), "{command:?}");
        }
        assert_eq!(name(&[b'a'; 40]).len(), 40);
    }

    #[test]
    fn server_commands_are_told_apart() {
        let of = |query: &'static [u8]| Command::from_query(Some(query)).server_command();
        assert_eq!(of(b"OpenServer"), Some(ServerCommand::OpenServer));
        assert_eq!(of(b"LOGIN&RedirectTo=/x"), Some(ServerCommand::Login));
        assert_eq!(of(b"SAMLLogin"), Some(ServerCommand::ProviderLogin));
        assert_eq!(of(b"OIDClogin&code=x"), Some(ServerCommand::ProviderLogin));
        assert_eq!(of(b"logout"), Some(ServerCommand::Logout));
        assert_eq!(of(b"Redirect&Name=a"), Some(ServerCommand::Redirect));
        assert_eq!(of(b"OpenDatabase&Login"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(query in proptest::collection::vec(any::<u8>(), 0..80)) {
            let command = Command::from_query(Some(&query));
            prop_assert!(command.name().len() <= MAX_NAME_LEN);
            let _ = format!("{command:?}");
        }
    }
}
