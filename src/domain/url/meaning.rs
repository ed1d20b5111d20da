//! What a server may take a URL for, beyond the command that it has: an implicit open, or a command behind an encoded
//! mark. Failover and routing need the command as written; rules that deny must not be passed by another spelling.

use smallvec::SmallVec;

use super::command::Command;
use super::locator::Locator;
use super::target::Target;
use crate::util::percent::{PercentDecoder, decodes_to};

/// What an open without a command may be, by the kind of object
/// (<http://www.ibm.com/developerworks/lotus/library/ls-Domino_URL_cheat_sheet/>).
const OPENS: [&[u8]; 10] = [
    b"openview",
    b"opendocument",
    b"openform",
    b"openpage",
    b"openframeset",
    b"opennavigator",
    b"openagent",
    b"openimageresource",
    b"openfileresource",
    b"openelement",
];
/// A longer word is no command of Domino.
const MAX_WORD_LEN: usize = 64;

type Word = SmallVec<[u8; MAX_WORD_LEN]>;

impl Target<'_> {
    /// Whether a server may take the URL for a command that passes `test`, which gets names in lower case: the command
    /// as written, what an implicit open may mean, and commands behind a mark that only some servers decode.
    pub fn may_be_command(&self, mut test: impl FnMut(&[u8]) -> bool) -> bool {
        let written = self.command.name_bytes();
        if test(if written.is_empty() { self.command.raw() } else { written }) {
            return true;
        }
        if self.command.is_implicit() && self.implicit_commands(&mut test) {
            return true;
        }
        self.has_hidden_command(FirstToken::MayBeCommand, &mut test)
    }

    /// Like [`Target::may_be_command`], for commands that need no object. `?redirect=/x` is none, though many
    /// applications have such an argument.
    pub fn may_be_server_command(&self, mut test: impl FnMut(&[u8]) -> bool) -> bool {
        test(self.command.name_bytes()) || self.has_hidden_command(FirstToken::AsWritten, &mut test)
    }

    /// The command that every server reads; empty if that depends on the object. `OpenDatabase` may be left out.
    #[must_use]
    pub fn certain_command(&self) -> &[u8] {
        if self.has_hidden_commands() {
            return b"";
        }
        let opens = self.command.is_none() || self.command.is(b"open");
        match self.locator {
            Locator::None if opens && self.database.is_some() => b"opendatabase",
            _ => self.command.name_bytes(),
        }
    }

    /// Whether a server could read a command where there is none for others: behind an encoded mark, or as an argument.
    #[must_use]
    pub fn has_hidden_commands(&self) -> bool {
        // Domino has arguments without a value, such as `&ExpandView`.
        self.has_hidden_command(FirstToken::AsWritten, &mut |word| Command::from_token(word).is_known())
    }

    /// Whether nothing follows the database in the path, or the URL has none.
    #[must_use]
    pub fn is_database_alone(&self) -> bool {
        self.rest().iter().all(|byte| matches!(byte, b'/' | b'\\'))
    }

    /// The raw path behind the database; empty without a database.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        self.database.as_ref().and_then(|database| self.path.get(database.range.end..)).unwrap_or_default()
    }

    fn implicit_commands(&self, test: &mut impl FnMut(&[u8]) -> bool) -> bool {
        if self.database.is_none() {
            return false;
        }
        if self.command.is(b"delete") {
            return test(b"deletedocument");
        }
        if self.command.is(b"edit") {
            return test(b"editdocument");
        }
        let last = self.rest().rsplit(|byte| *byte == b'/').find(|segment| !segment.is_empty());
        let last = last.unwrap_or_default();
        match self.locator {
            _ if self.attachment => test(b"openelement"),
            Locator::None => test(b"opendatabase"),
            // Behind a view it is a document; alone it may be a view's own ID.
            Locator::Unid if self.segments() > 1 => test(b"opendocument"),
            Locator::Special if decodes_to(last, b"$icon") => test(b"openicon"),
            Locator::Special if decodes_to(last, b"$help") => test(b"openhelp"),
            Locator::Special if decodes_to(last, b"$about") => test(b"openabout"),
            // An XPage is nothing else.
            Locator::Name if has_xpage_ending(last) => false,
            _ => OPENS.iter().any(|name| test(name)),
        }
    }

    fn segments(&self) -> usize {
        self.rest().split(|byte| *byte == b'/').filter(|segment| !segment.is_empty()).count()
    }

    /// Words behind a mark in the path, encoded or not, in the first token of the query, and arguments without a value.
    fn has_hidden_command(&self, first_token: FirstToken, test: &mut impl FnMut(&[u8]) -> bool) -> bool {
        let query = self.query.unwrap_or_default();
        let mut tokens = query.split(|byte| *byte == b'&');
        let first = tokens.next().unwrap_or_default();
        let is_argument = |token: &[u8]| memchr::memchr(b'=', token).is_some_and(|at| at + 1 < token.len());
        let reads_first = first_token == FirstToken::MayBeCommand || !is_argument(first);
        let mut written = Some(self.command.name_bytes()).filter(|name| !name.is_empty());
        any_word(self.path, false, test)
            // The command itself is no hidden one.
            || any_word(first, reads_first, &mut |word| written.take() != Some(word) && test(word))
            || tokens.filter(|token| !is_argument(token)).any(|token| any_word(token, true, test))
    }
}

/// What the text before the first `&` is if it has the form `name=value`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FirstToken {
    /// An argument, as Domino's documentation says.
    AsWritten,
    /// Perhaps a command all the same.
    MayBeCommand,
}

/// Whether a word that follows a mark passes. With `from_start` the first one needs no mark.
fn any_word(text: &[u8], from_start: bool, test: &mut impl FnMut(&[u8]) -> bool) -> bool {
    if !from_start && memchr::memchr3(b'?', b'!', b'%', text).is_none() {
        return false;
    }
    let mut word = from_start.then(Word::new);
    for byte in PercentDecoder::new(text) {
        if byte.value.is_ascii_alphanumeric() {
            if let Some(word) = &mut word
                && word.len() < MAX_WORD_LEN
            {
                word.push(byte.value.to_ascii_lowercase());
            }
            continue;
        }
        if word.take().is_some_and(|word| !word.is_empty() && test(&word)) {
            return true;
        }
        if matches!(byte.value, b'?' | b'!' | b'&') {
            word = Some(Word::new());
        }
    }
    word.is_some_and(|word| !word.is_empty() && test(&word))
}

fn has_xpage_ending(segment: &[u8]) -> bool {
    let mut last = [0; 4];
    for value in PercentDecoder::new(segment).values() {
        last.rotate_left(1);
        last[3] = value.to_ascii_lowercase();
    }
    last == *b".xsp"
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use proptest::prelude::*;

    const UNID: &str = "E86886A81087A25805258E4F00502001";

    fn may_be(target: &str, command: &str) -> bool {
        parse(target.as_bytes()).may_be_command(|name| name == command.as_bytes())
    }

    #[test]
    fn a_name_without_a_command_may_be_a_view_or_an_agent() {
        for target in
            ["/names.nsf/People", "/names.nsf/People?Open", "/names.nsf/$DefaultNav", "/a.nsf/x?k=v"]
        {
            assert!(may_be(target, "openview") && may_be(target, "openagent"), "{target}");
            assert!(!may_be(target, "readviewentries"), "{target}");
        }
        assert!(may_be(&format!("/a.nsf/{UNID}"), "openview"), "views have IDs too");
        assert!(!may_be(&format!("/a.nsf/0/{UNID}"), "openview"));
        assert!(may_be(&format!("/a.nsf/0/{UNID}"), "opendocument"));
        assert!(may_be("/a.nsf", "opendatabase") && !may_be("/a.nsf", "openview"));
        assert!(!may_be("/a.nsf/home.xsp?x=1", "openagent"));
        assert!(may_be("/a.nsf/0/8FA?Delete", "deletedocument"));
    }

    #[test]
    fn a_command_behind_an_encoded_mark_counts() {
        for target in [
            "/names.nsf/People%3FOpenView",
            "/names.nsf/People%21openview?Login",
            "/names.nsf/People?Login%26OpenView",
            "/names.nsf/People?Login?OpenView",
            "/names.nsf/People?Login&OpenView",
            "/names.nsf/People?OpenView%20",
            "/names.nsf/People?OpenView=1",
            "/names.nsf/People!OpenView",
            "/names.nsf/People?%4fpenview",
        ] {
            assert!(may_be(target, "openview"), "{target}");
        }
        assert!(!may_be("/a.nsf?Login&RedirectTo=/a.nsf/x", "openview"));
        let may_be_server =
            |target: &str| parse(target.as_bytes()).may_be_server_command(|name| name == b"redirect");
        for target in ["/?Redirect&Name=a", "/%3Fredirect", "/x?a=b&Redirect", "/?Redirect=", "/a!Redirect?b"]
        {
            assert!(may_be_server(target), "{target}");
        }
        assert!(!may_be_server("/login?redirect=/x") && !may_be_server("/login?a=b&redirect=/x"));
    }

    #[test]
    fn only_what_every_server_reads_is_certain() {
        let certain = |target: &str| {
            let parsed = parse(target.as_bytes());
            String::from_utf8(parsed.certain_command().to_vec()).unwrap()
        };
        assert_eq!(certain("/a.nsf"), "opendatabase");
        assert_eq!(certain("/a.nsf/?Open"), "opendatabase");
        assert_eq!(certain("/a.nsf/v?OpenView&Start=1&ExpandView"), "openview");
        assert_eq!(certain("/a.nsf/v%3FOpenAgent?OpenView"), "");
        assert_eq!(certain("/a.nsf/v"), "");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(target in proptest::collection::vec(any::<u8>(), 0..80)) {
            let parsed = parse(&target);
            let _ = (parsed.may_be_command(|_| false), parsed.certain_command().len());
        }
    }
}
