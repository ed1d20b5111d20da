//! The command of a Domino URL: the text between `?` or `!` and the first `&`. Its decoded name is kept in a buffer of
//! its own, so reading a command never allocates. [`super::safety`] knows what a command does to data.

use super::argument::{first_token, is_command};
use crate::util::percent::PercentDecoder;
use std::fmt;

/// No command of Domino is longer. A longer one has no name here and is unknown.
const MAX_NAME_LEN: usize = 40;

/// The command of a URL, which may have none: `k=v` before the first `&` is an argument (Domino URL cheat sheet).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Command<'a> {
    raw: &'a [u8],
    name: [u8; MAX_NAME_LEN],
    length: u8,
    /// Looked up once: every request is asked several times what its command is.
    known: KnownCommand,
}

/// What Domino's documentation says about a command.
#[derive(Clone, Copy, PartialEq, Eq)]
struct KnownCommand {
    server: Option<ServerCommand>,
    is_implicit: bool,
    targets_document: bool,
    targets_design_element: bool,
    is_read_only: bool,
}

/// The commands that need no database
/// (<https://help.hcltechsw.com/dom_designer/9.0.1/appdev/H_ABOUT_URL_COMMANDS_FOR_OPENING_SERVERS_DATABASES_AND_VIEWS.html>).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServerCommand {
    /// Lists the databases of the server.
    OpenServer,
    /// Shows or takes the login form.
    Login,
    /// An identity provider sends the user back (SAML, OIDC).
    ProviderLogin,
    /// Shows or takes the form for a new password.
    ChangePassword,
    /// Ends the session of the user.
    Logout,
    /// Sends the browser to a server given by its Notes name.
    Redirect,
}

impl<'a> Command<'a> {
    /// Reads the command of a raw query; `None` for a URL without a query.
    pub(super) fn from_query(query: Option<&'a [u8]>) -> Self {
        let token = query.map(first_token).filter(|token| is_command(token)).unwrap_or_default();
        Self::from_token(token)
    }

    /// Reads a command from its raw text.
    pub(super) fn from_token(raw: &'a [u8]) -> Self {
        let mut command = Self { raw, name: [0; MAX_NAME_LEN], length: 0, known: KnownCommand::NONE };
        if raw.is_empty() {
            return command;
        }
        let mut length = 0_u8;
        for value in PercentDecoder::new(raw).values() {
            match command.name.get_mut(usize::from(length)) {
                Some(slot) if value.is_ascii_graphic() => *slot = value.to_ascii_lowercase(),
                // Not a command of Domino: it keeps its raw text and gets no name.
                _ => return command,
            }
            length += 1;
        }
        command.length = length;
        command.known = KnownCommand::of(command.name_bytes());
        command
    }

    /// Percent-decoded and in lower case. Empty if there is no command, or if it is longer than 40 bytes or not
    /// printable ASCII.
    #[must_use]
    pub fn name(&self) -> &str {
        std::str::from_utf8(self.name_bytes()).unwrap_or("")
    }

    /// As [`Command::name`], for comparisons: every request has several.
    #[must_use]
    pub fn name_bytes(&self) -> &[u8] {
        self.name.get(..usize::from(self.length)).unwrap_or_default()
    }

    /// As the client sent it; empty if there is no command.
    #[must_use]
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// True if the URL has no command.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.raw.is_empty()
    }

    /// True if this is the command `name`, which is in lower case.
    #[must_use]
    pub fn is(&self, name: &[u8]) -> bool {
        !self.is_none() && self.name_bytes() == name
    }

    /// The server command, whether or not the URL names a database.
    #[must_use]
    pub fn server_command(&self) -> Option<ServerCommand> {
        self.known.server
    }

    /// `?Open`, `?Edit`, `?Delete` or no command: the kind of the object decides what happens.
    pub(super) fn is_implicit(&self) -> bool {
        self.is_none() || self.known.is_implicit
    }

    /// The object is a document, whatever its name.
    pub(super) fn targets_document(&self) -> bool {
        self.known.targets_document
    }

    /// The object is a design element or the database, never a document.
    pub(super) fn targets_design_element(&self) -> bool {
        self.known.targets_design_element
    }

    /// Changes nothing, as far as is documented.
    pub(super) fn is_read_only(&self) -> bool {
        self.known.is_read_only
    }

    /// Domino itself defines this command.
    pub(super) fn is_known(&self) -> bool {
        !self.is_none() && self.known != KnownCommand::NONE
    }
}

impl KnownCommand {
    const NONE: Self = Self {
        server: None,
        is_implicit: false,
        targets_document: false,
        targets_design_element: false,
        is_read_only: false,
    };
    const IMPLICIT: Self = Self { is_implicit: true, ..Self::NONE };
    const READ: Self = Self { is_read_only: true, ..Self::NONE };
    const DOCUMENT: Self = Self { targets_document: true, ..Self::NONE };
    const READ_DOCUMENT: Self = Self { is_read_only: true, ..Self::DOCUMENT };
    const DESIGN: Self = Self { targets_design_element: true, ..Self::NONE };
    const READ_DESIGN: Self = Self { is_read_only: true, ..Self::DESIGN };

    const fn server(command: ServerCommand) -> Self {
        Self { server: Some(command), ..Self::NONE }
    }

    const fn read_server(command: ServerCommand) -> Self {
        Self { is_read_only: true, ..Self::server(command) }
    }

    /// Looks up a name in lower case.
    fn of(name: &[u8]) -> Self {
        let rows = match FIRST_BY_LENGTH.get(name.len()..) {
            Some([first, end, ..]) => KNOWN_COMMANDS.get(*first..*end).unwrap_or_default(),
            _ => &[],
        };
        rows.iter().find(|(known, _)| known.as_bytes() == name).map_or(Self::NONE, |(_, known)| *known)
    }
}

/// Domino's commands, by length. Those that read change nothing, according to the Domino URL cheat sheet
/// (<http://www.ibm.com/developerworks/lotus/library/ls-Domino_URL_cheat_sheet/>). Implicit commands are not among
/// them: `?Open` on the name of an agent runs it.
static KNOWN_COMMANDS: [(&str, KnownCommand); 37] = [
    ("edit", KnownCommand::IMPLICIT),
    ("open", KnownCommand::IMPLICIT),
    ("login", KnownCommand::read_server(ServerCommand::Login)),
    ("delete", KnownCommand::IMPLICIT),
    ("logout", KnownCommand::server(ServerCommand::Logout)),
    ("openform", KnownCommand::READ_DESIGN),
    ("openhelp", KnownCommand::READ_DESIGN),
    ("openicon", KnownCommand::READ_DESIGN),
    ("openpage", KnownCommand::READ_DESIGN),
    ("openview", KnownCommand::READ_DESIGN),
    ("readform", KnownCommand::READ_DESIGN),
    ("redirect", KnownCommand::read_server(ServerCommand::Redirect)),
    ("runagent", KnownCommand::DESIGN),
    ("oidclogin", KnownCommand::server(ServerCommand::ProviderLogin)),
    ("openabout", KnownCommand::READ_DESIGN),
    ("openagent", KnownCommand::DESIGN),
    ("samllogin", KnownCommand::server(ServerCommand::ProviderLogin)),
    ("openserver", KnownCommand::read_server(ServerCommand::OpenServer)),
    ("readdesign", KnownCommand::READ_DESIGN),
    ("searchsite", KnownCommand::READ_DESIGN),
    ("searchview", KnownCommand::READ_DESIGN),
    ("openelement", KnownCommand::READ),
    ("readentries", KnownCommand::READ_DESIGN),
    ("editdocument", KnownCommand::READ_DOCUMENT),
    ("opendatabase", KnownCommand::READ),
    ("opendocument", KnownCommand::READ_DOCUMENT),
    ("openframeset", KnownCommand::READ_DESIGN),
    ("savedocument", KnownCommand::DOCUMENT),
    ("searchdomain", KnownCommand::READ),
    ("opennavigator", KnownCommand::READ_DESIGN),
    ("changepassword", KnownCommand::server(ServerCommand::ChangePassword)),
    ("createdocument", KnownCommand::DESIGN),
    ("deletedocument", KnownCommand::DOCUMENT),
    ("openpreferences", KnownCommand::READ),
    ("readviewentries", KnownCommand::READ_DESIGN),
    ("openfileresource", KnownCommand::READ_DESIGN),
    ("openimageresource", KnownCommand::READ_DESIGN),
];

/// The position of the first command that is not shorter: a name is compared with those of its length only.
#[allow(clippy::indexing_slicing)] // only at compile time
static FIRST_BY_LENGTH: [usize; MAX_NAME_LEN + 2] = {
    let mut first = [0; MAX_NAME_LEN + 2];
    let mut length = 0;
    while length < first.len() {
        let mut row = 0;
        while row < KNOWN_COMMANDS.len() && KNOWN_COMMANDS[row].0.len() < length {
            row += 1;
        }
        first[length] = row;
        length += 1;
    }
    first
};

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
    fn a_leading_argument_is_not_a_command() {
        for query in [&b"documentId=1&action=openDocument"[..], b"", b"&OpenView", b"OpenView="] {
            assert!(Command::from_query(Some(query)).is_none(), "{}", query.escape_ascii());
        }
        assert!(Command::from_query(None).is_none());
        assert!(!Command::from_query(None).is(b""));
    }

    #[test]
    fn a_command_that_domino_cannot_have_gets_no_name() {
        for query in [&[b'a'; 41][..], b"Open%00View", b"Open%20View", "Öffne".as_bytes()] {
            let command = Command::from_query(Some(query));
            assert!(!command.is_none() && command.name().is_empty(), "{command:?}");
        }
        assert_eq!(name(&[b'a'; 40]).len(), 40);
    }

    #[test]
    fn server_commands_are_recognized() {
        let of = |query: &'static [u8]| Command::from_query(Some(query)).server_command();
        assert_eq!(of(b"OpenServer"), Some(ServerCommand::OpenServer));
        assert_eq!(of(b"LOGIN&RedirectTo=/x"), Some(ServerCommand::Login));
        assert_eq!(of(b"SAMLLogin"), Some(ServerCommand::ProviderLogin));
        assert_eq!(of(b"OIDClogin&code=x"), Some(ServerCommand::ProviderLogin));
        assert_eq!(of(b"logout"), Some(ServerCommand::Logout));
        assert_eq!(of(b"Redirect&Name=a"), Some(ServerCommand::Redirect));
        assert_eq!(of(b"OpenDatabase&Login"), None);
    }

    #[test]
    fn every_known_command_is_found_and_nothing_else() {
        for (name, known) in &KNOWN_COMMANDS {
            assert!(KnownCommand::of(name.as_bytes()) == *known, "{name}");
            assert!(KnownCommand::of(&name.as_bytes()[1..]) == KnownCommand::NONE, "{name}");
            assert!(KnownCommand::of(format!("{name}x").as_bytes()) == KnownCommand::NONE, "{name}");
        }
        assert!(KNOWN_COMMANDS.is_sorted_by_key(|(name, _)| name.len()));
        assert!(KnownCommand::of(b"") == KnownCommand::NONE);
        assert!(KnownCommand::of(&[b'a'; MAX_NAME_LEN]) == KnownCommand::NONE);
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
