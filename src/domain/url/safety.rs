//! Whether a request may be sent twice, judged by its URL; the caller looks at the method.
//!
//! HTTP calls GET safe, but in Domino `?DeleteDocument` is a GET. So everything that could change data counts as
//! unsafe, and only what Domino documents as reading counts as safe.

use super::argument::{argument_pairs, first_token};
use super::locator::Locator;
use super::target::Target;
use crate::util::percent::{PercentDecoder, decodes_to};

/// What a request does to data, as far as its URL shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestSafety {
    /// Reads and changes nothing.
    Safe,
    /// Could change data and is sent only once.
    Unsafe,
    /// An implicit open by a name, which may be an agent's; a custom command; an XPage.
    Unknown,
}

/// The default of `failover.unsafe_commands`.
pub const DEFAULT_UNSAFE_COMMANDS: [&str; 6] =
    ["DeleteDocument", "OpenAgent", "RunAgent", "Logout", "SaveDocument", "CreateDocument"];

/// The commands that change data, ready for comparison.
#[derive(Clone, Debug)]
pub struct UnsafeCommands {
    /// In lower case, without a leading `?` or `!`, none empty.
    names: Box<[Box<[u8]>]>,
}

impl Default for UnsafeCommands {
    fn default() -> Self {
        Self::from_names(DEFAULT_UNSAFE_COMMANDS)
    }
}

impl UnsafeCommands {
    /// From names in any case, with or without the `?`. The implicit `?Delete` is always among them.
    #[must_use]
    pub fn new(names: &[String]) -> Self {
        Self::from_names(names.iter().map(String::as_str))
    }

    fn from_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut names: Vec<Box<[u8]>> = names
            .into_iter()
            .chain(["Delete"])
            .map(|name| name.trim().trim_start_matches(['?', '!']).trim())
            .filter(|name| !name.is_empty())
            .map(|name| name.to_ascii_lowercase().into_bytes().into_boxed_slice())
            .collect();
        names.sort_unstable();
        names.dedup();
        Self { names: names.into() }
    }

    /// What the request with this target may do to data.
    #[must_use]
    pub fn classify(&self, target: &Target<'_>) -> RequestSafety {
        let command = &target.command;
        if self.has_unsafe_command(target) {
            RequestSafety::Unsafe
        } else if command.is_read_only() {
            RequestSafety::Safe
        } else if !command.is_implicit() {
            RequestSafety::Unknown
        } else if is_safe_implicit_open(target) {
            RequestSafety::Safe
        } else {
            RequestSafety::Unknown
        }
    }

    /// True if an unsafe command is anywhere that a server might read one: as the command, as the name of an argument,
    /// or behind a `?` or `!` in the path or the command, encoded or not.
    fn has_unsafe_command(&self, target: &Target<'_>) -> bool {
        let query = target.query.unwrap_or_default();
        let token = first_token(query).split(|b| *b == b'=').next().unwrap_or_default();
        let begins_unsafe = match target.command.name_bytes() {
            [] => self.is_prefix_of(PercentDecoder::new(token).values()),
            // The same token, decoded already.
            name => self.is_prefix_of(name.iter().copied()),
        };
        begins_unsafe
            || self.occurs_in(token)
            || self.occurs_in(target.path)
            || argument_pairs(target.arguments())
                .any(|(argument, _)| self.names.iter().any(|name| decodes_to(argument, name)))
    }

    fn occurs_in(&self, text: &[u8]) -> bool {
        // Fast path: nearly every URL has none of them.
        if memchr::memchr3(b'%', b'!', b'?', text).is_none() {
            return false;
        }
        let mut bytes = PercentDecoder::new(text).values();
        while let Some(value) = bytes.next() {
            if matches!(value, b'?' | b'!' | b'&') && self.is_prefix_of(bytes.clone()) {
                return true;
            }
        }
        false
    }

    /// True if the text begins with a whole unsafe command.
    fn is_prefix_of(&self, text: impl Iterator<Item = u8> + Clone) -> bool {
        self.names.iter().any(|name| {
            let mut text = text.clone();
            name.iter().all(|letter| text.next().is_some_and(|b| b.to_ascii_lowercase() == *letter))
                && !text.next().is_some_and(|b| b.is_ascii_alphanumeric())
        })
    }
}

/// For URLs without a command, or with `?Open` or `?Edit`.
fn is_safe_implicit_open(target: &Target<'_>) -> bool {
    // Without a database the target is a file, and so is an attachment.
    target.database.is_none()
        || target.attachment
        || match target.locator {
            // A database opens its launch object. A UNID is a document in practice.
            Locator::None | Locator::Unid | Locator::Special => true,
            // A name, or a short number that may be one, could be an agent's: opening it runs it.
            Locator::Name | Locator::NoteId => false,
        }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;
    use proptest::prelude::*;

    const UNID: &str = "E86886A81087A25805258E4F00502001";

    fn class(target: &str) -> RequestSafety {
        UnsafeCommands::default().classify(&parse(target.as_bytes()))
    }

    #[test]
    fn commands_that_change_data_are_unsafe_in_every_spelling() {
        for target in [
            "/db.nsf/0/8FA?DeleteDocument",
            "/db.nsf/0/8FA!DeleteDocument&x=1",
            "/db.nsf/agent?openagent",
            "/db.nsf/agent?%4fpen%41gent&a=b",
            "/db.nsf/0/8FA?Delete",
            "/db.nsf/form?CreateDocument",
            "/db.nsf/agent?RunAgent",
            "/names.nsf?Logout&RedirectTo=/",
            "/?Logout",
            "/db.nsf/0/8FA?SaveDocument",
            "/servlet/x?OpenAgent",
        ] {
            assert_eq!(class(target), RequestSafety::Unsafe, "{target}");
        }
    }

    #[test]
    fn an_unsafe_command_behind_an_encoded_mark_is_found() {
        for target in [
            "/db.nsf/agent%3FOpenAgent",
            "/db.nsf/agent%3fopenagent&x?OpenView",
            "/db.nsf/agent%21OpenAgent?OpenView",
            "/db.nsf%3FDelete",
            "/db.nsf/view?OpenView%26OpenAgent",
            "/db.nsf/view?OpenView?OpenAgent",
            "/db.nsf/view?OpenView&OpenAgent",
            "/db.nsf/view?OpenAgent=1",
            "/db.nsf/view?k=v&%4FpenAgent",
            "/db.nsf/x?OpenAgent%00",
            "/db.nsf/x!OpenAgent?OpenView",
        ] {
            assert_eq!(class(target), RequestSafety::Unsafe, "{target}");
        }
    }

    #[test]
    fn what_merely_resembles_an_unsafe_command_is_not_unsafe() {
        assert_eq!(class("/db.nsf/DeletedItems?OpenView"), RequestSafety::Safe);
        assert_eq!(class("/db.nsf/view?DeletedOnly"), RequestSafety::Unknown);
        assert_eq!(class("/names.nsf?Login&RedirectTo=/db.nsf/a?OpenAgent"), RequestSafety::Safe);
        assert_eq!(class("/names.nsf?Login&RedirectTo=%2Fdb.nsf%2Fa%3FOpenAgent"), RequestSafety::Safe);
    }

    #[test]
    fn reading_commands_are_safe() {
        for target in [
            "/db.nsf?OpenDatabase",
            "/db.nsf/view?OpenView&Start=1",
            "/db.nsf/view?ReadViewEntries&OutputFormat=JSON",
            "/db.nsf/0/8FA?OpenDocument",
            "/db.nsf/0/8FA!OpenDocument",
            "/db.nsf/0/8FA?EditDocument&Seq=2",
            "/db.nsf/view?SearchView&Query=x",
            "/?OpenServer",
            "/?Redirect&Name=Web1&Id=C1257A000041D2E0",
            "/db.nsf/0/8FA/Body/0.84?OpenElement&FieldElemFormat=gif",
        ] {
            assert_eq!(class(target), RequestSafety::Safe, "{target}");
        }
    }

    #[test]
    fn opening_without_a_command_is_safe_where_no_agent_can_be_meant() {
        let document = format!("/db.nsf/view/{UNID}");
        for target in [
            "/db.nsf".to_owned(),
            "/db.nsf/".to_owned(),
            "/db.nsf?Open".to_owned(),
            document.clone(),
            format!("{document}?Open"),
            format!("{document}?Edit"),
            format!("{document}/$FILE/a.pdf"),
            "/db.nsf/view/key/$FILE/a.pdf".to_owned(),
            "/db.nsf/$icon".to_owned(),
            "/db.nsf/$defaultView?Open".to_owned(),
            "/db.nsf/view/$first".to_owned(),
            "/".to_owned(),
            "/icons/x.gif".to_owned(),
            "/api/v1?count=3".to_owned(),
        ] {
            assert_eq!(class(&target), RequestSafety::Safe, "{target}");
        }
    }

    #[test]
    fn implicit_opens_by_name_custom_commands_and_xpages_are_unknown() {
        for target in [
            "/db.nsf/name",
            "/db.nsf/name?Open",
            "/db.nsf/8FA",
            "/db.nsf/name?k=v",
            "/db.nsf/view?MyThing",
            "/db.nsf/page.xsp",
            "/db.nsf/page.xsp?documentId=1&action=editDocument",
            "/servlet/x?DoThing",
        ] {
            assert_eq!(class(target), RequestSafety::Unknown, "{target}");
        }
    }

    #[test]
    fn the_configured_list_replaces_the_default_but_delete_is_always_unsafe() {
        let table = UnsafeCommands::new(&["?Approve".to_owned(), " openview ".to_owned(), String::new()]);
        let class = |target: &str| table.classify(&parse(target.as_bytes()));
        assert_eq!(class("/db.nsf/0/8FA?APPROVE"), RequestSafety::Unsafe);
        assert_eq!(class("/db.nsf/v?OpenView"), RequestSafety::Unsafe);
        assert_eq!(class("/db.nsf/a?OpenAgent"), RequestSafety::Unknown);
        assert_eq!(class("/db.nsf/0/8FA?Delete"), RequestSafety::Unsafe);
        assert_eq!(class("/db.nsf/v?OpenForm"), RequestSafety::Safe);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(target in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = UnsafeCommands::default().classify(&parse(&target));
        }
        #[test]
        fn an_unsafe_command_is_found_however_it_is_encoded(
            word in proptest::sample::select(&DEFAULT_UNSAFE_COMMANDS[..]),
            mark in proptest::sample::select(&["?", "!", "%3F", "%3f", "%21"][..]),
            how in proptest::collection::vec(0_u8..4, 20),
            rest in proptest::sample::select(&["", "&a=b", "&Login", "?OpenView"][..]),
        ) {
            let spelled: String = word.chars().zip(how).map(|(letter, how)| match how {
                0 => letter.to_ascii_lowercase().to_string(),
                1 => letter.to_ascii_uppercase().to_string(),
                2 => format!("%{:02x}", u32::from(letter)),
                _ => letter.to_string(),
            }).collect();
            let target = format!("/sales/leads.nsf/thing{mark}{spelled}{rest}");
            prop_assert_eq!(class(&target), RequestSafety::Unsafe, "{}", target);
        }
    }
}
