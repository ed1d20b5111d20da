//! Which document a request saves, as far as its URL says it.
//!
//! A UNID means the same document in every replica, so it can be asked for on all servers. A new document has no UNID that
//! anybody outside its server knows, and what an agent or a script does cannot be read from a URL.

use http::Method;

use super::Unid;
use crate::domain::url::Target;
use crate::util::percent::decode_into;

/// What is known about the document that a request saves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SavedDocument {
    /// This document is changed.
    Existing(Unid),
    /// A document is created; which one cannot be known.
    New,
    /// The request saves no document, or the URL does not name it.
    Unknown,
}

/// Reads the document from the method and the URL of a request.
#[must_use]
pub fn saved_document(method: &Method, target: &Target<'_>) -> SavedDocument {
    if !matches!(*method, Method::POST | Method::PUT | Method::PATCH) || target.database.is_none() {
        return SavedDocument::Unknown;
    }
    let rest = target.rest();
    match target.command.name() {
        "createdocument" | "openform" => SavedDocument::New,
        "savedocument" | "editdocument" | "opendocument" | "edit" | "open" => in_path(rest),
        // XPages and the Data Service have no command.
        "" if target.command.is_none() => without_command(method, target, rest),
        _ => SavedDocument::Unknown,
    }
}

fn without_command(method: &Method, target: &Target<'_>, rest: &[u8]) -> SavedDocument {
    if let Some(id) = target.argument(b"documentId") {
        // With `databaseName` it is a document of another database than that of the URL.
        return match Unid::parse(&id) {
            Some(unid) if target.argument(b"databaseName").is_none() => SavedDocument::Existing(unid),
            _ => SavedDocument::Unknown,
        };
    }
    // `POST /db.nsf/api/data/documents` creates; a document's own resource ends in `/unid/UNID`.
    let is_collection = rest.to_ascii_lowercase().starts_with(b"/api/data/documents");
    match in_path(rest) {
        SavedDocument::Unknown if is_collection && *method == Method::POST => SavedDocument::New,
        found => found,
    }
}

/// The last segment of the path, if it is a UNID.
fn in_path(rest: &[u8]) -> SavedDocument {
    let last = rest.rsplit(|byte| *byte == b'/').find(|segment| !segment.is_empty()).unwrap_or_default();
    let mut buffer = [0; 33];
    let unid = decode_into(last, &mut buffer).and_then(Unid::parse);
    unid.map_or(SavedDocument::Unknown, SavedDocument::Existing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::url;
    use proptest::prelude::*;

    const UNID: &str = "E86886A81087A25805258E4F00502001";

    fn saved(method: &Method, target: &str) -> SavedDocument {
        saved_document(method, &url::parse(target.replace("UNID", UNID).as_bytes()))
    }

    #[test]
    fn a_unid_is_found_in_each_form_of_url_that_saves_a_document() {
        let document = SavedDocument::Existing(Unid::parse(UNID.as_bytes()).unwrap());
        for target in [
            "/a.nsf/view/UNID?SaveDocument",
            "/a.nsf/view/UNID?EditDocument&Seq=1",
            "/a.nsf/0/UNID!SaveDocument&Seq=1",
            "/a.nsf/0/UNID?OpenDocument",
            "/a.nsf/0/UNID?Edit",
            "/a.nsf/UNID/?SaveDocument",
            "/__C1257A000041D2E0.nsf/0/UNID?SaveDocument",
            "/a.nsf/order.xsp?documentId=UNID&action=editDocument",
            "/a.nsf/$$OpenDocument?documentId=UNID&action=editDocument",
            "/a.nsf/api/data/documents/unid/UNID",
            "/a.nsf/api/data/documents/unid/UNID?computewithform=true",
        ] {
            assert_eq!(saved(&Method::POST, target), document, "{target}");
        }
        assert_eq!(saved(&Method::PUT, "/a.nsf/api/data/documents/unid/UNID"), document);
        assert_eq!(saved(&Method::PATCH, "/a.nsf/api/data/documents/unid/UNID/"), document);
    }

    #[test]
    fn a_new_document_has_no_unid_that_could_be_asked_for() {
        for target in [
            "/a.nsf/Order?CreateDocument",
            "/a.nsf/Order?OpenForm&Seq=1",
            "/a.nsf/Order?OpenForm&ParentUNID=UNID",
            "/a.nsf/UNID?CreateDocument",
            "/a.nsf/api/data/documents?form=Order",
        ] {
            assert_eq!(saved(&Method::POST, target), SavedDocument::New, "{target}");
        }
    }

    #[test]
    fn what_saves_nothing_or_something_else_is_unknown() {
        for target in [
            "/names.nsf?Login",
            "/a.nsf/agent?OpenAgent&documentId=UNID",
            "/a.nsf/UNID?DeleteDocument",
            "/a.nsf/0/8FA?SaveDocument",
            "/a.nsf/0/UNID/$file/a.pdf?OpenElement",
            "/a.nsf/order.xsp",
            "/a.nsf/order.xsp?documentId=8FA&action=editDocument",
            "/a.nsf/order.xsp?databaseName=Web2!!b.nsf&documentId=UNID",
            "/api/v1/document/UNID?dataSource=demo",
            "/UNID?SaveDocument",
        ] {
            assert_eq!(saved(&Method::POST, target), SavedDocument::Unknown, "{target}");
        }
        for method in [Method::GET, Method::HEAD, Method::DELETE, Method::OPTIONS] {
            assert_eq!(saved(&method, "/a.nsf/0/UNID?SaveDocument"), SavedDocument::Unknown, "{method}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(target in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = saved_document(&Method::POST, &url::parse(&target));
        }
    }
}
