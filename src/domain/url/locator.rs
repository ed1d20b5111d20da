//! What a Domino URL names inside its database. Failover depends on it: a UNID or a name means the same in every
//! replica, a NoteID does not
//! (<https://help.hcltechsw.com/domino/12.0.0/admin/conf_generatingurlsthatrefertotheinternetclustermanage_c.html>).
//!
//! A NoteID cannot be distinguished from a short name for certain. A NoteID mistaken for a name shows the user *another
//! document*; a name mistaken for a NoteID only costs the failover of that one request. So doubtful cases with a
//! decimal digit, such as the document key `2024` after a view, count as NoteIDs. Words like `face` or `feed` do not,
//! unless the command names a document: NoteIDs without a decimal digit are rare, such names are common. With a command
//! for design elements (`?OpenView`, `?OpenForm`) the object is a view or a form, and `2024` is its name.

use super::command::Command;
use crate::util::percent::{decode_into, decodes_to};

/// How the object behind the database is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Locator {
    /// The URL names the database alone, or no database.
    None,
    /// 32 hex digits: the same document in every replica.
    Unid,
    /// Up to eight hex digits, optionally after `NT`: a different document in each replica.
    NoteId,
    /// A design element, or a document by its key in a view.
    Name,
    /// One of Domino's special identifiers, such as `$icon`.
    Special,
}

/// Domino's special identifiers
/// (<http://www.ibm.com/developerworks/lotus/library/ls-Domino_URL_cheat_sheet/side1.html>). `$file` is one only
/// directly behind the database; elsewhere it belongs to the document before it.
const SPECIAL_IDS: [&[u8]; 8] =
    [b"$defaultview", b"$defaultform", b"$searchform", b"$file", b"$icon", b"$help", b"$about", b"$first"];

/// The locator of the path behind the database, and whether the path names an attachment: `$file` and a name.
pub(super) fn locate(rest: &[u8], command: &Command<'_>) -> (Locator, bool) {
    // The last three segments: an embedded element comes two segments after its document.
    let mut last: [&[u8]; 3] = [&[]; 3];
    let mut count = 0_usize;
    let mut segments = segments(rest);
    while let Some(segment) = segments.next() {
        if decodes_to(segment, b"$file") {
            let attachment = segments.next().is_some();
            return match count {
                0 => (Locator::Special, attachment),
                // Only the document matters. The usual command is `?OpenElement`, which applies to the attachment, so
                // the document counts as opened implicitly.
                _ => (locate_segment(last[2], count > 1, &Command::from_token(&[])), attachment),
            };
        }
        last = [last[1], last[2], segment];
        count += 1;
    }
    match count {
        0 => (Locator::None, false),
        // `/view/document/field/offset?OpenElement`
        3.. if command.is(b"openelement") => {
            (locate_segment(last[0], count > 3, &Command::from_token(&[])), false)
        }
        _ => (locate_segment(last[2], count > 1, command), false),
    }
}

/// The raw, non-empty segments. Split at slashes only, `/` or `%2F`: a backslash is part of the name of a cascading
/// view (`Sales%5CBy+Region`).
fn segments(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(path);
    std::iter::from_fn(move || {
        let from = rest?;
        let slash = memchr::memchr2_iter(b'/', b'%', from).find_map(|at| match from.get(at..at + 3) {
            _ if from.get(at) == Some(&b'/') => Some((at, at + 1)),
            Some(b"%2F" | b"%2f") => Some((at, at + 3)),
            _ => None,
        });
        rest = slash.and_then(|(_, next)| from.get(next..));
        from.get(..slash.map_or(from.len(), |(end, _)| end))
    })
    .filter(|segment| !segment.is_empty())
}

fn locate_segment(segment: &[u8], after_view: bool, command: &Command<'_>) -> Locator {
    // Fits 32 digits and every special identifier; longer text is a name.
    let mut buffer = [0; 40];
    let Some(text) = decode_into(segment, &mut buffer) else { return Locator::Name };
    if text.first() == Some(&b'$') {
        let special = SPECIAL_IDS.iter().any(|name| text.eq_ignore_ascii_case(name));
        return if special { Locator::Special } else { Locator::Name };
    }
    if text.len() == 32 && text.iter().all(u8::is_ascii_hexdigit) {
        return Locator::Unid;
    }
    if is_note_id(text, after_view, command) { Locator::NoteId } else { Locator::Name }
}

fn is_note_id(text: &[u8], after_view: bool, command: &Command<'_>) -> bool {
    let digits = match text.split_at_checked(2) {
        Some((prefix, digits)) if prefix.eq_ignore_ascii_case(b"nt") => digits,
        _ => text,
    };
    // `0` alone means "any view" in `/db.nsf/0/<document>`.
    let hex = (1..=8).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit) && text != b"0";
    let decimal = digits.iter().any(u8::is_ascii_digit);
    hex && if command.targets_document() {
        true
    } else if command.targets_design_element() {
        false
    } else {
        decimal && (after_view || command.is_implicit())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const UNID: &str = "E86886A81087A25805258E4F00502001";

    fn locator(rest: &str, command: &str) -> Locator {
        locate(rest.as_bytes(), &Command::from_token(command.as_bytes())).0
    }

    #[test]
    fn thirty_two_hex_digits_are_a_unid_with_every_command() {
        for command in ["", "OpenDocument", "OpenView", "Open", "MyThing"] {
            assert_eq!(locator(&format!("/0/{UNID}"), command), Locator::Unid);
            assert_eq!(locator(&format!("/{}/", UNID.to_lowercase()), command), Locator::Unid);
        }
        assert_eq!(locator(&format!("/0/{UNID}0"), ""), Locator::Name);
    }

    #[test]
    fn a_document_command_makes_any_short_hex_number_a_note_id() {
        for command in ["OpenDocument", "editdocument", "DELETEDOCUMENT", "SaveDocument"] {
            for note in ["8FA", "feed", "FACE", "NT000008FA", "ntfeed", "80000004", "%38FA"] {
                assert_eq!(locator(&format!("/0/{note}"), command), Locator::NoteId, "{note} {command}");
                assert_eq!(locator(&format!("/{note}"), command), Locator::NoteId, "{note} {command}");
            }
        }
    }

    #[test]
    fn without_a_document_command_a_note_id_needs_a_decimal_digit() {
        for command in ["", "open", "edit", "delete"] {
            assert_eq!(locator("/8FA", command), Locator::NoteId);
            assert_eq!(locator("/0/8FA", command), Locator::NoteId);
            assert_eq!(locator("/NT8FA", command), Locator::NoteId);
            for name in ["/feed", "/face", "/0/feed", "/ntfeed", "/8FAX", "/123456789", "/nt", "/0"] {
                assert_eq!(locator(name, command), Locator::Name, "{name}");
            }
        }
    }

    #[test]
    fn with_another_command_a_note_id_must_also_follow_a_view() {
        assert_eq!(locator("/8FA", "MyThing"), Locator::Name);
        assert_eq!(locator("/view/8FA", "MyThing"), Locator::NoteId);
        assert_eq!(locator("/0/8FA", "MyThing"), Locator::NoteId);
    }

    #[test]
    fn a_design_command_names_a_view_or_a_form_never_a_note() {
        assert_eq!(locator("/2024", "OpenView"), Locator::Name);
        assert_eq!(locator("/reports/2024", "ReadViewEntries"), Locator::Name);
    }

    #[test]
    fn what_follows_file_belongs_to_the_document_before_it() {
        assert_eq!(locator(&format!("/v/{UNID}/$FILE/2024"), "OpenElement"), Locator::Unid);
        assert_eq!(locator("/0/8FA/$file/a.pdf", "OpenElement"), Locator::NoteId);
        assert_eq!(locator("/8FA/%24FILE/a.pdf", ""), Locator::NoteId);
        assert_eq!(locator("/logo.gif/$FILE/logo.gif", ""), Locator::Name);
        assert_eq!(locator("/$file/a.pdf", ""), Locator::Special);
        let none = Command::from_token(b"");
        assert!(locate(b"/v/key/$FILE/a.pdf", &none).1);
        assert!(!locate(b"/v/key/$FILE/", &none).1);
        assert!(!locate(b"/v/key", &none).1);
    }

    #[test]
    fn an_embedded_element_belongs_to_the_document_two_segments_before_it() {
        assert_eq!(locator("/v/8FA/Body/0.84", "OpenElement"), Locator::NoteId);
        assert_eq!(locator(&format!("/{UNID}/Body/0.84"), "OpenElement"), Locator::Unid);
    }

    #[test]
    fn special_identifiers_are_recognized_in_any_case() {
        assert_eq!(locator("/$ICON", "OpenIcon"), Locator::Special);
        assert_eq!(locator("/view/$first", "OpenDocument"), Locator::Special);
        assert_eq!(locator("/%24defaultView", ""), Locator::Special);
        assert_eq!(locator("/$other", ""), Locator::Name);
    }

    #[test]
    fn a_database_alone_has_no_locator_and_backslashes_belong_to_names() {
        assert_eq!(locator("", ""), Locator::None);
        assert_eq!(locator("//", ""), Locator::None);
        assert_eq!(locator("/Sales%5C8FA", "OpenDocument"), Locator::Name);
        assert_eq!(locator("/0%2F8FA", "OpenDocument"), Locator::NoteId);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(rest in proptest::collection::vec(any::<u8>(), 0..80), command in "[a-zA-Z]{0,20}") {
            let _ = locate(&rest, &Command::from_token(command.as_bytes()));
        }
        #[test]
        fn every_note_id_is_recognized_with_a_document_command(note in 1_u32.., view in "[a-z]{1,8}") {
            prop_assert_eq!(locator(&format!("/{view}/{note:X}"), "OpenDocument"), Locator::NoteId);
            prop_assert_eq!(locator(&format!("/{view}/NT{note:08X}"), "OpenDocument"), Locator::NoteId);
        }
    }
}
